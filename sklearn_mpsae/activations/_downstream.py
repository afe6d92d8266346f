"""What a reconstruction costs the module, and what its atoms do there; named in `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

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


class DownstreamLoss(NamedTuple):
    """A module's loss as it is, and with other activations of one of its layers.

    Parameters
    ----------
    clean : float
        As it is.
    spliced : float
        With the estimator's reconstruction.
    mean_ablated : float
        With the mean of the activations at all positions.
    zero_ablated : float
        With zeros.
    recovered_from_mean : float
        ``(mean_ablated - spliced) / (mean_ablated - clean)``: 1 if the reconstruction costs
        nothing, 0 if the mean would serve as well. NaN where the ablation costs nothing.
    recovered_from_zero : float
        The same of `zero_ablated`.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import DownstreamLoss
    >>> DownstreamLoss(1.0, 1.25, 2.0, 3.0, 0.75, 0.875).recovered_from_mean
    0.75
    """

    clean: float
    spliced: float
    mean_ablated: float
    zero_ablated: float
    recovered_from_mean: float
    recovered_from_zero: float


def downstream_loss(
    module: nn.Module,
    layer: str | nn.Module,
    estimator: Any,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    loss: Callable[[Any, Any], torch.Tensor],
    *,
    at: str = "output",
    mask: str | int | Callable[[Any], Any] | None = "auto",
    feature_axis: int | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
) -> DownstreamLoss:
    """What a module loses with an estimator's reconstruction in the place of a layer's output.

    The module runs in eval mode and without gradients, and is afterwards as it was. It runs
    four times on each batch.

    Parameters
    ----------
    module : torch.nn.Module
        It stays on its device; batches are moved there.
    layer : str or torch.nn.Module
        The layer, as its dotted name or itself.
    estimator : estimator of this package, or torch.nn.Module
        As for `activations.spliced`.
    batches : iterable, or function that returns one
        As for `activations.ModuleActivations`. It is gone through twice.
    loss : callable
        ``loss(output, batch)``, of the module's output and the batch on its device. A
        number is the mean of the batch, which counts as much as the batch has positions that
        are kept. Or a tensor of the shape of the mask, of the loss at each position (without
        a mask, of any shape): its mean over the positions that are kept is taken. Or a tuple
        of the sum of losses and their number, as of the tokens that have a next one.
    at : {'output', 'input'}, default='output'
        Which of the two to replace.
    mask : str, int, callable or None, default='auto'
        Which positions to keep, as for `activations.ModuleActivations`. The activations at
        the others stay as they are, and they are counted nowhere.
    feature_axis : int, default=None
        As for `activations.spliced`.
    call : callable, default=None
        ``call(module, batch)`` returns the output, for batches of another kind.

    Returns
    -------
    losses : DownstreamLoss
        ``clean, spliced, mean_ablated, zero_ablated, recovered_from_mean,
        recovered_from_zero``.

    Raises
    ------
    ValueError
        As of `activations.spliced` and `activations.ModuleActivations`; if `batches` can be
        gone through only once or keeps no positions; if the loss is not finite, or of
        another shape.

    See Also
    --------
    sklearn_mpsae.activations.spliced : The module with the reconstruction, to run yourself.

    Notes
    -----
    What is published of language models is mostly ``recovered_from_zero``. Zeros are far
    from all activations of most layers, so that it is close to 1 for poor reconstructions
    too; the mean is the harder comparison.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import ModuleActivations
    >>> from sklearn_mpsae.metrics import downstream_loss
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> batches = [(X, net(X).argmax(1)) for X in torch.randn(200, 4).split(50)]
    >>> def run(module, batch):
    ...     return module(batch[0])
    >>> def loss(output, batch):
    ...     return nn.functional.cross_entropy(output, batch[1])
    >>> rows = ModuleActivations(net, "1", batches, call=run)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=20, random_state=0).fit(rows)
    >>> losses = downstream_loss(net, "1", sae, batches, loss, call=run)
    >>> losses.clean < losses.spliced < losses.mean_ablated
    True
    """
    encoder = _encoder_of(estimator)
    runs = _Runs(module, layer, batches, loss, at, mask, feature_axis, call)
    if hasattr(batches, "__next__"):
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
    losses = {name: each.value() for name, each in means.items()}
    return DownstreamLoss(
        clean,
        **losses,
        recovered_from_mean=_recovered(losses["mean_ablated"], losses["spliced"], clean),
        recovered_from_zero=_recovered(losses["zero_ablated"], losses["spliced"], clean),
    )


def attribution(
    module: nn.Module,
    layer: str | nn.Module,
    estimator: Any,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    scalar: Callable[[Any, Any], torch.Tensor],
    *,
    at: str = "output",
    mask: str | int | Callable[[Any], Any] | None = "auto",
    feature_axis: int | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
) -> np.ndarray:
    """What each atom adds to a number that a module's output gives, to first order.

    The sum over positions of the atom's code times the gradient of the number by that code,
    while the layer's output is the reconstruction and its error. It is about by how much the
    number would fall without the atom (`activations.ablate`), all others staying as they are;
    but one backward pass gives it for all atoms.

    Parameters
    ----------
    module : torch.nn.Module
        As for `downstream_loss`.
    layer : str or torch.nn.Module
        The layer, as its dotted name or itself.
    estimator : estimator of this package, or torch.nn.Module
        As for `activations.spliced`.
    batches : iterable, or function that returns one
        What the module is run on; it is gone through once.
    scalar : callable
        ``scalar(output, batch)`` gives the number, such as a loss or a difference of logits,
        as a tensor with its gradient.
    at : {'output', 'input'}, default='output'
        Which of the two the estimator was fitted on.
    mask : str, int, callable or None, default='auto'
        Which positions to keep, as for `downstream_loss`; the others add nothing.
    feature_axis : int, default=None
        As for `activations.spliced`.
    call : callable, default=None
        ``call(module, batch)`` returns the output, for batches of another kind.

    Returns
    -------
    attributions : ndarray of shape (n_components,)
        The mean over batches, each of which counts as much as it has positions that are
        kept.

    Raises
    ------
    ValueError
        As of `downstream_loss`; if the scalar is no number, or does not depend on the layer.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import ModuleActivations
    >>> from sklearn_mpsae.metrics import attribution
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> batches = torch.randn(200, 4).split(50)
    >>> rows = ModuleActivations(net, "1", batches)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(rows)
    >>> attribution(net, "1", sae, batches, lambda out, batch: out[:, 0].mean()).shape
    (16,)
    """
    runs = _Runs(module, layer, batches, scalar, at, mask, feature_axis, call)
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
            gradient = _gradient(scalar(output, batch), codes)
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


def _recovered(ablated, spliced, clean):
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")


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
        self.device, self.loss, self.call = device_of(module), loss, call
        # How many positions were kept of the activations that were seen last.
        self._n = 0

    def each(self):
        """Yield the number of each batch that keeps some position, the batch and its mask."""
        items, _ = opened(self._reader.batches)
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
        found, n = self.loss(output, batch), self._n
        if isinstance(found, tuple):
            total, n = found[0], int(found[1])
            if n == 0:
                return
            found = total / n
        value = torch.as_tensor(found)
        if mask is not None and value.shape == mask.shape:
            value = value[mask.to(value.device)]
            n = value.numel()
        elif mask is not None and value.numel() != 1:
            raise ValueError(
                f"loss gave a tensor of shape {tuple(value.shape)}, and the mask has "
                f"{tuple(mask.shape)}: give the loss at each position, or the mean of those "
                "that are kept."
            )
        elif value.numel() != 1:
            n = value.numel()
        value = float(value.detach().to(_widest(value)).mean())
        if not np.isfinite(value):
            raise ValueError(f"loss gave {value} ({name.replace('_', '-')}).")
        mean.add(value, n)
