"""A module is run over batches, and gives the activations of some of its layers."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch

from ..coding.inputs import plain
from ..rows.batches import opened
from ._layers import (
    as_mask,
    called,
    called_twice,
    check_at,
    features_last,
    find_layer,
    first_not_finite,
    hooks_honoured,
    located,
    never_called,
    on_call,
    own_precision,
    taken,
)

# One module runs at a time: two threads would undo each other's modes and see each other's
# activations.
_RUNNING = threading.RLock()

_MASK_OF_TRANSFORMERS = "attention_mask"
# The end of the keys of torch's own masks, which mark what to leave out.
_PADDING = "key_padding_mask"


class Reader:
    """Runs a module over batches, and gives the activations of some layers."""

    def __init__(self, module, layers, batches, at, mask, feature_axis, call, stop_early):
        check_at(at)
        _check_batches(batches)
        _check_mask(mask)
        if not layers:
            raise ValueError("layers names none: give at least one.")
        self.module, self.layers = module, [find_layer(module, layer) for layer in layers]
        if len({id(layer) for _, layer in self.layers}) < len(self.layers):
            raise ValueError("layers names a layer twice.")
        self.batches, self.at, self.mask = batches, at, mask
        self.feature_axis, self.call, self.stop_early = feature_axis, call, stop_early

    def read(self, n_samples=None):
        """Yield, for each batch, a part for each layer.

        The module is as it was whenever this is not at work: it may be left at any batch.

        Parameters
        ----------
        n_samples : int, default=None
            How many rows of each layer to give. None: all.

        Yields
        ------
        parts : list of Part
        """
        items, _ = opened(self.batches)
        # Accelerate brings weights in before a submodule runs, and takes them away after it.
        spread = any(hasattr(each, "_hf_hook") for each in self.module.modules())
        first = None
        left = [math.inf if n_samples is None else n_samples] * len(self.layers)
        for number, batch in enumerate(items):
            whole = number == 0 or spread or not self.stop_early
            with naming_batch(number):
                parts = self._of(batch, number, whole)
                kinds = [(part.kept.shape[1], len(part.shape)) for part in parts]
                first = first or kinds
                self._check_alike(first, kinds)
            parts = [part.first(n) for n, part in zip(left, parts, strict=True)]
            left = [n - part.n for n, part in zip(left, parts, strict=True)]
            yield parts
            if not any(left):
                return

    def _of(self, batch, number, whole):
        with as_evaluated(self.module), torch.no_grad():
            caught = self._caught(batch, number, whole)
            return [
                self._part(batch, number, *layer, x)
                for layer, x in zip(self.layers, caught, strict=True)
            ]

    def _caught(self, batch, number, whole):
        """The tensor of each layer, while the module runs on a batch."""
        found, device = {}, device_of(self.module)
        batch = moved(batch, device)
        if number == 0 and self.call is None:
            _check_takes(self.module, batch)

        def catch(name):
            def hook(value):
                if name in found:
                    raise called_twice(name)
                # A copy: what follows may work in its place.
                found[name] = taken(value, located(value, name, self.at)).detach().clone()
                if not whole and len(found) == len(self.layers):
                    raise _EnoughError

            return hook

        with ExitStack() as hooks:
            for name, layer in self.layers:
                hooks.callback(on_call(layer, self.at, catch(name)).remove)
            try:
                with own_precision(device):
                    run(self.module, batch, self.call)
            except _EnoughError:
                pass
        for name, _ in self.layers:
            if name not in found:
                raise never_called(name)
        return [found[name] for name, _ in self.layers]

    def _part(self, batch, number, name, layer, x):
        x, _ = features_last(x, layer, name, self.feature_axis)
        if not x.shape[-1]:
            raise ValueError(f"{called(name, self.at)} has no features.")
        mask = self.mask_of(batch)
        if mask is not None:
            mask = as_mask(mask, x.shape[:-1], "mask", name).to(x.device)
        rows = (x.reshape(-1, x.shape[-1]) if mask is None else x[mask]).cpu()
        part = Part(number, x.shape[:-1], mask, rows, len(rows))
        bad = first_not_finite(rows)
        if bad is not None:
            position = tuple(part.positions()[bad[0], 1:].tolist())
            raise ValueError(
                f"{called(name, self.at)} has NaN or infinity in batch {number} at position "
                f"{position} (the first such): correct the batch, or exclude such positions by "
                "`mask`."
            )
        return part

    def _check_alike(self, first, kinds):
        """Refuse activations of another width, or with other axes, than those of before."""
        for (name, _), one, other in zip(self.layers, first, kinds, strict=True):
            if one != other:
                raise ValueError(
                    f"{called(name, self.at)} has {other[0]} features and {other[1]} axes of "
                    f"positions, and had {one[0]} and {one[1]} in the first batch: say which "
                    "feature_axis, or give batches of one kind."
                )

    def mask_of(self, batch):
        mask = self.mask
        if mask is None:
            return None
        if callable(mask):
            return mask(batch)
        if mask == "auto":
            return _own_mask(batch)
        try:
            return batch[mask]
        except (KeyError, IndexError, TypeError):
            has = f" with the keys {list(batch)}" if isinstance(batch, Mapping) else ""
            raise ValueError(
                f"mask={mask!r} is no part of the batch, a {type(batch).__name__}{has}: name "
                "one, or give a function of the batch."
            ) from None


class Part(NamedTuple):
    """What a layer gave for one batch.

    Parameters
    ----------
    batch : int
        The number of the batch.
    shape : torch.Size
        The shape of the positions.
    mask : tensor of shape ``shape``, bool, or None
        Which positions are kept. None: all.
    kept : tensor of shape (n_kept, n_features)
        The activations at these, on the CPU.
    n : int
        How many of the rows are asked for: the first.
    """

    batch: int
    shape: torch.Size
    mask: Any
    kept: torch.Tensor
    n: int

    def first(self, n):
        return self._replace(n=min(n, self.n))

    def rows(self):
        """An array of shape (n, n_features)."""
        return plain(self.kept)[: self.n]

    def positions(self):
        """Batch and position of each row: an array of shape (n, 1 + n_axes)."""
        if self.mask is None:
            where = np.indices(self.shape).reshape(len(self.shape), -1).T
        else:
            where = self.mask.nonzero().cpu().numpy()
        batch = np.full(len(where), self.batch)
        return np.column_stack([batch, where]).astype(np.int64)[: self.n]


class _EnoughError(BaseException):
    """All layers were called: the rest of the module need not run.

    No Exception, so that no module takes it for one of its own.
    """


@contextmanager
def naming_batch(number):
    """What is raised gets a note that names the batch."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This was batch {number} of the module's batches.")
        raise


def no_rows():
    return ValueError("batches gives no rows: it is empty, or all of it is masked.")


@contextmanager
def as_evaluated(module):
    """Eval mode of all submodules, each as it was afterwards.

    The modes alone are set: a submodule's own `train` may do more than can be undone.
    """
    with _RUNNING, hooks_honoured():
        training = [each for each in module.modules() if each.training]
        try:
            for each in training:
                each.training = False
            yield
        finally:
            for each in training:
                each.training = True


def _check_batches(batches):
    if isinstance(batches, Mapping | torch.Tensor | np.ndarray | str | bytes):
        raise ValueError(
            f"batches is a {type(batches).__name__}, which is one batch: pass [batch], or "
            "batch.split(64) of a tensor."
        )


def _check_mask(mask):
    if mask is not None and not isinstance(mask, str | Integral) and not callable(mask):
        shape = f" of shape {tuple(mask.shape)}" if hasattr(mask, "shape") else ""
        raise ValueError(
            "mask must be a key of the batch, the index of a part of it, or a function of it, "
            f"as each batch has a mask of its own; got a {type(mask).__name__}{shape}."
        )
    if isinstance(mask, str) and mask.endswith(_PADDING):
        raise ValueError(f"mask={mask!r} would keep the padding: {_reversed(mask)}.")


def _own_mask(batch):
    """The mask that a batch is known by its key to have; None where it has none."""
    if not isinstance(batch, Mapping):
        return None
    if _MASK_OF_TRANSFORMERS in batch:
        return batch[_MASK_OF_TRANSFORMERS]
    for key, value in batch.items():
        if isinstance(key, str) and key.endswith(_PADDING) and value is not None:
            raise ValueError(
                f"mask='auto' would keep the padding that {key!r} of the batch marks: "
                f"{_reversed(key)}, or mask=None for all positions."
            )
    return None


def _reversed(key):
    return (
        "a key_padding_mask of torch is True at padding, and a mask here is True at what to "
        f'keep. Give mask=lambda batch: ~batch["{key}"]'
    )


def device_of(module):
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def moved(batch, device):
    """A batch on a device: tensors, and tuples and dicts of them."""
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "biuf":
        batch = torch.from_numpy(np.ascontiguousarray(batch))
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: moved(part, device) for key, part in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(moved(part, device) for part in batch)
    return batch


def _arguments(batch):
    if isinstance(batch, Mapping):
        return (), batch
    return (batch if isinstance(batch, tuple) else (batch,)), {}


def run(module, batch, call=None):
    """What a module gives for a batch; `call` says how it is called, where it is not None."""
    if call is not None:
        return call(module, batch)
    args, kwargs = _arguments(batch)
    return module(*args, **kwargs)


def _check_takes(module, batch):
    """Refuse a batch that the module's forward cannot be called with."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return
    args, kwargs = _arguments(batch)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        parts = list(kwargs) if kwargs else f"{len(args)} parts"
        raise ValueError(
            f"The module does not take batches with {parts}, of which each is an argument: "
            f"{error}. Give such as it takes, or say how to call it, as "
            "call=lambda module, batch: module(batch[0])."
        ) from error
