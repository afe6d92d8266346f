"""A torch module run over batches, with other activations of one of its layers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ..persistence import to_torch_module
from ..rows.batches import opened
from ._layers import (
    as_mask,
    called_twice,
    features_last,
    hooks_honoured,
    located,
    never_called,
    on_call,
    put,
    taken,
)
from ._reader import Reader, as_evaluated, device_of, moved, naming_batch, run
from ._splice import spliced

# How far rounding may take the sum of two losses from the loss of both, as a share of it.
_ROUNDING = 1e-4
# The same where a mean is told from a sum, which is far from it: losses may be of bfloat16.
_NEAR = 1e-2


def losses_of(estimator, *where):
    """The losses of a `DownstreamLoss`, by name.

    where : the arguments of `_Runs`
    """
    encoder = _encoder_of(estimator)
    runs = _Runs(*where)
    if hasattr(runs.batches, "__next__"):
        raise ValueError(
            "batches is an iterator, which can be gone through only once: pass a list, a "
            "DataLoader, or a function that returns an iterator."
        )
    clean, mean, dtype = runs.clean()
    if encoder is not estimator:
        encoder.to(runs.device, dtype if dtype == torch.float64 else torch.float32)
    # The splice comes last: the others count the positions.
    ways = {
        "mean_ablated": lambda mask: runs.replaced(mask, mean),
        "zero_ablated": lambda mask: runs.replaced(mask, torch.zeros_like(mean)),
        "spliced": lambda mask: runs.spliced(encoder, positions=mask),
    }
    means = {name: _Mean() for name in ways}
    for number, batch, kept in runs.each():
        for name, way in ways.items():
            with torch.no_grad(), runs.working(number):
                with way(kept):
                    output = runs.output(batch)
                runs.add(means[name], output, batch, kept, name)
    return {"clean": clean} | {name: each.value() for name, each in means.items()}


def attribution_of(estimator, *where):
    """What each atom adds to the number that a module's output gives, to first order.

    where : the arguments of `_Runs`, the number in the place of a loss
    """
    runs = _Runs(*where)
    encoder, codes, mean = estimator, None, _Mean()

    def leaf(found):
        nonlocal codes
        codes = found.detach().requires_grad_()
        return codes

    for number, batch, kept in runs.each():
        with torch.enable_grad(), runs.working(number):
            # What the first splice has made of the estimator serves all.
            with runs.spliced(encoder, positions=kept, keep_error=True, edit=leaf) as encoder:
                output = runs.output(batch)
            gradient = _gradient(runs.loss(output, batch), codes)
            parts = (gradient * codes.detach()).reshape(-1, gradient.shape[-1])
            mean.add(parts.sum(dim=0, dtype=_widest(parts)).cpu().numpy(), len(parts))
    return mean.value()


def _gradient(value, codes):
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"scalar must give a tensor of one number, got {got}.")
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.reshape(()), codes, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "scalar does not depend on the layer: take it from the module's output, without "
            "detach() or item()."
        )
    if not bool(torch.isfinite(gradient).all()):
        raise ValueError("The gradient of scalar has NaN or infinity.")
    return gradient


def _widest(x):
    # Apple's GPUs have no float64.
    return x.dtype if x.device.type == "mps" else torch.float64


def _encoder_of(estimator):
    if isinstance(estimator, nn.Module):
        return estimator
    return to_torch_module(estimator).requires_grad_(False)


# --------------------------------------------------------------------------- #
# Running the module
# --------------------------------------------------------------------------- #
class _Mean:
    """A mean of losses, of batches that weigh as much as they have positions."""

    def __init__(self):
        self.total, self.n = 0.0, 0

    def add(self, mean, n):
        self.total, self.n = self.total + n * mean, self.n + n

    def value(self):
        if not self.n:
            raise ValueError("batches keeps no positions: it is empty, or all of it is masked.")
        return self.total / self.n


class _Runs:
    """Runs a module over batches, with other activations of a layer."""

    def __init__(self, module, layer, batches, loss, at, mask, feature_axis, call):
        self._reader = Reader(module, [layer], batches, at, mask, feature_axis, call, False)
        ((self.name, self.layer),) = self._reader.layers
        self.module, self.at, self.feature_axis = module, at, feature_axis
        self.batches = batches
        self.device, self.loss, self.call = device_of(module), loss, call
        # How many positions were kept of the activations that were seen last.
        self._n = 0
        # Whether it is not known yet that a loss is a mean, or a tuple has a sum.
        self._untold = True

    def each(self):
        """Yield the number of each batch that keeps some position, the batch and its mask."""
        items, _ = opened(self.batches)
        for number, batch in enumerate(items):
            batch = moved(batch, self.device)
            mask = self._reader.mask_of(batch)
            if mask is not None:
                mask = as_mask(mask, torch.as_tensor(mask).shape, "mask", self.name)
            if mask is None or bool(mask.any()):
                yield number, batch, mask

    @contextmanager
    def working(self, number):
        """The module in eval mode, and what it raises with the number of the batch."""
        with naming_batch(number), as_evaluated(self.module):
            yield

    def output(self, batch):
        return run(self.module, batch, self.call)

    def spliced(self, estimator, **options):
        where = {"at": self.at, "feature_axis": self.feature_axis}
        return spliced(self.module, self.layer, estimator, **where, **options)

    @contextmanager
    def on_activations(self, mask, function):
        """Have a function see the activations (..., n_features), and which of them are kept.

        Unless it gives None, what it gives takes their place.
        """
        seen = []

        def hook(value):
            if seen:
                raise called_twice(self.name)
            seen.append(True)
            path = located(value, self.name, self.at)
            x, axis = features_last(
                taken(value, path), self.layer, self.name, self.feature_axis
            )
            kept = x.new_ones(x.shape[:-1], dtype=torch.bool)
            if mask is not None:
                kept = as_mask(mask, x.shape[:-1], "mask", self.name).to(x.device)
            self._n = int(kept.sum())
            new = function(x, kept)
            return None if new is None else put(value, path, new.movedim(-1, axis).contiguous())

        with hooks_honoured():
            handle = on_call(self.layer, self.at, hook)
            try:
                yield
            finally:
                handle.remove()
        if not seen:
            raise never_called(self.name)

    def replaced(self, mask, row):
        """The activations that are kept replaced by a row."""
        return self.on_activations(
            mask, lambda x, kept: torch.where(kept[..., None], row.to(x), x)
        )

    def clean(self):
        """The loss as it is, the mean of the activations, and their dtype."""
        loss, rows, dtype = _Mean(), _Mean(), None

        def see(x, kept):
            nonlocal dtype
            dtype = x.dtype
            rows.add(x[kept].to(_widest(x)).mean(dim=0), self._n)

        for number, batch, mask in self.each():
            with torch.no_grad(), self.working(number):
                with self.on_activations(mask, see):
                    output = self.output(batch)
                self.add(loss, output, batch, mask, "clean")
        return loss.value(), rows.value(), dtype

    def add(self, mean, output, batch, mask, name):
        """Count a batch's loss."""
        found = self.loss(output, batch)
        if isinstance(found, tuple):
            total, n = _sum_and_number(found)
            if n == 0:
                return
            value = total / n
        else:
            value, n = self._mean_of(found, mask)
        if not np.isfinite(value):
            raise ValueError(f"loss gave {value} ({name.replace('_', '-')}).")
        if self._untold:
            self._check_form(found, output, batch)
        mean.add(value, n)

    def _mean_of(self, found, mask):
        """The mean of a loss, and how many losses it counts as."""
        if found is None:
            raise TypeError("loss returned None: have it return the loss.")
        value, n = torch.as_tensor(found), self._n
        if mask is not None and value.shape == mask.shape:
            value = value[mask.to(value.device)]
            n = value.numel()
        elif value.numel() != 1:
            if mask is not None:
                raise ValueError(
                    f"loss gave a tensor of shape {tuple(value.shape)}, and the mask has "
                    f"{tuple(mask.shape)}: give the loss at each position, the mean of those "
                    "that are kept, or the tuple (sum, number of losses in it)."
                )
            n = value.numel()
        return float(value.detach().to(_widest(value)).mean()), n

    def _check_form(self, found, output, batch):
        """Refuse a sum in the place of a mean, and a mean in that of a sum.

        The losses of the two halves of the batch tell which it is.
        """
        try:
            whole, halves = _numbers(found), _halves(output, batch)
            if halves is None:
                return
            self._untold = False
            halves = [_numbers(self.loss(*half)) for half in halves]
        except Exception:  # of a loss at each position, or one that takes no half of a batch
            return
        check = _check_sum if isinstance(found, tuple) else _check_mean
        check(whole, *halves)


def _sum_and_number(found):
    """A loss that is a sum, and the number of losses in it."""
    try:
        total, n = map(float, found)
    except (TypeError, ValueError, RuntimeError):  # as torch has it of more than one number
        total, n = None, -1
    if not n >= 0 or n % 1:
        raise ValueError(
            "loss gave a tuple that is not (sum, number of losses in it), of which the second "
            "is a whole number that is not negative."
        )
    return total, int(n)


def _numbers(found):
    """The numbers of a loss: one, or a sum and a number of losses."""
    return _sum_and_number(found) if isinstance(found, tuple) else float(found)


def _check_mean(whole, first, second):
    """Refuse a sum: the losses of the two halves of the batch add up to its own.

    A mean lies between them. So it is no sum of theirs, where both have one sign.
    """
    if first * second > 0 and abs(first + second - whole) <= _ROUNDING * abs(whole):
        raise ValueError(
            f"loss gave a sum, not a mean: {whole:.6g} for this batch, {first:.6g} and "
            f"{second:.6g} for its halves. Give the mean, or the tuple (sum, number of "
            "losses in it)."
        )


def _check_sum(whole, first, second):
    """Refuse a tuple with a mean, or with a number that does not add up over the halves."""
    (total, n), (one, n_one), (other, n_other) = whole, first, second
    no_sum = abs(one + other - total) > _NEAR * abs(total)
    between = one * other > 0 and abs(total) <= (1 + _NEAR) * max(abs(one), abs(other))
    if n_one + n_other != n or (no_sum and between):
        raise ValueError(
            f"loss gave the tuple {_shown(whole)} for this batch, and {_shown(first)} and "
            f"{_shown(second)} for its halves, which do not add up to it: give (sum, number "
            "of losses in it), as of reduction='sum', or the mean alone."
        )


def _shown(pair):
    return f"({pair[0]:.6g}, {pair[1]})"


def _halves(output, batch):
    """Output and batch of the first rows and of the others; None where that cannot be told."""
    lengths = set()
    _by_rows((output, batch), lambda x: lengths.add(len(x)))
    if len(lengths) != 1 or max(lengths) < 2:
        return None
    half = lengths.pop() // 2
    rows = slice(half), slice(half, None)
    return [_by_rows((output, batch), lambda x, of=each: x[of]) for each in rows]


def _by_rows(x, function):
    """Tensors, and tuples and dicts of them, by a function of each tensor with an axis."""
    if isinstance(x, torch.Tensor):
        return function(x) if x.ndim else x
    if isinstance(x, tuple | list):
        return tuple(_by_rows(each, function) for each in x)
    if isinstance(x, Mapping):
        # A copy is of the same class: what models return has its parts as attributes, too.
        x = copy.copy(x)
        for name in x:
            x[name] = _by_rows(x[name], function)
    return x
