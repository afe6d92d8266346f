"""Layers of torch modules: found by name, their tensors taken and put back."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
from collections.abc import Mapping
from contextlib import contextmanager

import torch
from torch import nn

AT = ("output", "input")


# --------------------------------------------------------------------------- #
# Finding one
# --------------------------------------------------------------------------- #
def find_layer(module, layer) -> tuple[str, nn.Module]:
    """The dotted name and the submodule of a layer, which is given as either."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
    named = dict(module.named_modules(remove_duplicate=False))
    if isinstance(layer, nn.Module):
        for name, each in named.items():
            if each is layer:
                return name, layer
        raise ValueError(
            f"layer is a {type(layer).__name__} that is no part of module: pass one of "
            "module.modules(), or its dotted name."
        )
    if not isinstance(layer, str):
        raise ValueError(
            f"layer must be a dotted name or a submodule, got {type(layer).__name__}."
        )
    if layer not in named:
        raise ValueError(f"module has no layer {layer!r}: {_close_names(layer, named)}.")
    return layer, named[layer]


def _close_names(layer, named):
    names = [name for name in named if name]
    close = difflib.get_close_matches(layer, names, n=5, cutoff=0.4)
    # A last part alone is what is often remembered.
    close += [name for name in names if name.endswith(f".{layer}")][:5]
    if close:
        return f"close names are {', '.join(map(repr, dict.fromkeys(close)))}"
    shown = ", ".join(map(repr, names[:10]))
    more = f", and {len(names) - 10} more" if len(names) > 10 else ""
    return f"its layers are {shown}{more}" if names else "it has none; '' is module itself"


def check_at(at):
    if at not in AT:
        raise ValueError(f"at must be 'output' or 'input', got {at!r}.")


def called(name, at="output"):
    """How messages name what is read of a layer."""
    return f"The {at} of layer {name!r}" if name else f"The {at} of the module"


def never_called(name):
    return ValueError(
        f"Layer {name!r} was never called when the module ran: name a layer that is. (One "
        "whose weights are used by another layer is not called itself; and hooks of a module "
        "made by torch.compile may not run: pass the module it was made from.)"
    )


def called_twice(name):
    return ValueError(
        f"Layer {name!r} was called twice when the module ran once, so that its output is not "
        "one thing: name a layer that is called once, such as one around it or after it."
    )


# --------------------------------------------------------------------------- #
# The tensor of what goes in or comes out
# --------------------------------------------------------------------------- #
def on_call(layer, at, function):
    """Have `function` see, and replace unless it returns None, what a layer is given or gives.

    Of what goes in it gets the pair of positional and named arguments.

    Returns
    -------
    handle : torch.utils.hooks.RemovableHandle
    """
    if at == "output":
        return layer.register_forward_hook(lambda _, args, output: function(output))
    return layer.register_forward_pre_hook(
        lambda _, args, kwargs: function((args, kwargs)), with_kwargs=True
    )


def located(value, name, at) -> tuple:
    """The path of the first tensor of floats in tuples, lists, mappings and dataclasses."""
    path = _path(value)
    if path is None:
        if at == "input":
            value = value[0] or value[1]
        raise ValueError(
            f"{called(name, at)} is a {type(value).__name__} without a tensor of floats: name "
            "a layer that has one."
        )
    return path


def _path(value):
    if isinstance(value, torch.Tensor):
        # A number is no activation: some outputs begin with the loss.
        return () if value.is_floating_point() and value.ndim else None
    for key, part in _parts(value):
        path = _path(part)
        if path is not None:
            return key, *path
    return None


def _parts(value):
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: item[0] != "last_hidden_state")
    if isinstance(value, tuple | list):
        return enumerate(value)
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return ()


def taken(value, path):
    """What is at a path."""
    for key in path:
        value = value[key] if isinstance(value, Mapping | tuple | list) else getattr(value, key)
    return value


def put(value, path, new):
    """A copy of `value` with `new` at a path, which has all its other parts."""
    if not path:
        return new
    key, *rest = path
    new = put(taken(value, [key]), rest, new)
    if isinstance(value, tuple):
        items = [new if i == key else item for i, item in enumerate(value)]
        return value._make(items) if hasattr(value, "_make") else tuple(items)
    other = copy.copy(value)
    if isinstance(value, Mapping | list):
        other[key] = new
    else:
        object.__setattr__(other, key, new)  # it may be frozen
    return other


# --------------------------------------------------------------------------- #
# Features and positions
# --------------------------------------------------------------------------- #
def features_last(x, layer, name, feature_axis):
    """Activations with their features on the last axis, and the axis where those were."""
    axis = _feature_axis(x, layer, name) if feature_axis is None else feature_axis
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"feature_axis={axis} is out of range for layer {name!r}, whose activations have "
            f"the shape {tuple(x.shape)}."
        )
    return x.movedim(axis, -1), axis


def _feature_axis(x, layer, name):
    """Where a layer has its features: as torch's own layers for images and series, or last."""
    for cls in type(layer).__mro__:
        found = re.search(r"(\d)d$", cls.__name__)
        if found and cls.__module__.startswith("torch.nn."):
            return (
                1 if isinstance(layer, nn.modules.batchnorm._NormBase) else -1 - int(found[1])
            )
    if x.ndim > 3:
        raise ValueError(
            f"The activations of layer {name!r} have the shape {tuple(x.shape)}: say which "
            "axis has the features, feature_axis=1 for channels first, -1 for last."
        )
    return -1


def as_mask(mask, shape, what, name):
    """A mask as booleans, of the shape of the positions; it holds for all on further axes."""
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool:
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(
                f"{what} must be of booleans, or of 0 and 1, where True and 1 are kept; it has "
                "other numbers."
            )
        mask = mask.bool()
    if not mask.ndim or mask.shape != shape[: mask.ndim]:
        raise ValueError(
            f"{what} has the shape {tuple(mask.shape)}, but the positions of layer {name!r} "
            f"have {tuple(shape)}: give one of that shape or of its first axes, or None for "
            "all positions."
        )
    return mask.view(*mask.shape, *[1] * (len(shape) - mask.ndim)).expand(shape)


def first_not_finite(rows):
    """The index of the first row with NaN or infinity; None where there is none."""
    if torch.isfinite(rows.sum()):
        return None
    bad = (~torch.isfinite(rows)).any(-1).nonzero()
    return tuple(bad[0].tolist()) if len(bad) else None


# --------------------------------------------------------------------------- #
# Ways to run
# --------------------------------------------------------------------------- #
@contextmanager
def hooks_honoured():
    """The fused transformer layers of torch off: they pass nested tensors, or call no layer."""
    mha = torch.backends.mha
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


def own_precision(device):
    """No autocast, which is a thread's own: rows are also read by another thread."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type if known else "cpu", enabled=False)
