"""An estimator's reconstruction in the place of a layer's output, its codes edited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from ..persistence import to_torch_module
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
    put,
    taken,
)

Edit = Callable[[torch.Tensor], torch.Tensor]


# --------------------------------------------------------------------------- #
# Edits
# --------------------------------------------------------------------------- #
class _OfAtoms:
    """A change of the codes of some atoms, the same at all positions."""

    def __init__(self, name, atoms, change, value=None):
        self.name, self.change = name, change
        self.atoms, self.value = _as_atoms(atoms), _as_value(value, len(np.atleast_1d(atoms)))

    def __repr__(self):
        value = "" if self.value is None else f", {self.value.tolist()}"
        return f"{self.name}({self.atoms.tolist()}{value})"

    def __call__(self, codes):
        index = torch.from_numpy(self.atoms).to(codes.device)
        value = None if self.value is None else self.value.to(codes)
        new = self.change(codes.index_select(-1, index), value)
        return codes.index_copy(-1, index, new)


def _as_atoms(atoms):
    atoms = np.atleast_1d(np.asarray(atoms))
    if atoms.ndim != 1 or atoms.dtype.kind not in "iu" or not len(atoms):
        hint = " (Of a mask: np.flatnonzero(mask).)" if atoms.dtype.kind == "b" else ""
        raise ValueError(
            "atoms must be the number of an atom, or several; got an array of "
            f"{atoms.dtype} and shape {atoms.shape}.{hint}"
        )
    if atoms.min() < 0:
        raise ValueError(
            f"atoms must not be negative, got {atoms.min()}: they are counted from 0."
        )
    if len(np.unique(atoms)) < len(atoms):
        raise ValueError(f"atoms names an atom twice: {atoms.tolist()}.")
    return atoms.astype(np.int64)


def _as_value(value, n_atoms):
    if value is None:
        return None
    value = torch.as_tensor(value)
    if value.shape not in ((), (n_atoms,)):
        raise ValueError(
            f"There are {n_atoms} atoms, and values of shape {tuple(value.shape)}: give one "
            "number, or one for each atom."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError("Codes must be finite: got NaN or infinity for them.")
    return value


def ablate(atoms: int | ArrayLike) -> Edit:
    """An edit that sets the codes of some atoms to 0.

    Parameters
    ----------
    atoms : int or array-like of int
        Their numbers.

    Returns
    -------
    edit : callable
        For the `edit` of `spliced`: from codes to codes.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mpsae.activations import ablate
    >>> ablate(1)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 0., 3.]])
    """
    return _OfAtoms("ablate", atoms, lambda codes, _: torch.zeros_like(codes))


def scale(atoms: int | ArrayLike, factor: float | ArrayLike) -> Edit:
    """An edit that multiplies the codes of some atoms.

    Parameters
    ----------
    atoms : int or array-like of int
        Their numbers.
    factor : float or array-like of float
        One for all of them, or one for each.

    Returns
    -------
    edit : callable
        For the `edit` of `spliced`: from codes to codes.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mpsae.activations import scale
    >>> scale([0, 2], 10)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[10.,  2., 30.]])
    """
    return _OfAtoms("scale", atoms, lambda codes, factor: codes * factor, factor)


def clamp(atoms: int | ArrayLike, value: float | ArrayLike) -> Edit:
    """An edit that sets the codes of some atoms to a value, wherever they are edited.

    Parameters
    ----------
    atoms : int or array-like of int
        Their numbers.
    value : float or array-like of float
        One for all of them, or one for each.

    Returns
    -------
    edit : callable
        For the `edit` of `spliced`: from codes to codes.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mpsae.activations import clamp
    >>> clamp([0, 1], 5)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[5., 5., 3.]])
    """
    return _OfAtoms("clamp", atoms, lambda codes, value: value.expand_as(codes), value)


# --------------------------------------------------------------------------- #
# The splice
# --------------------------------------------------------------------------- #
@contextmanager
def spliced(
    module: nn.Module,
    layer: str | nn.Module,
    estimator: Any,
    *,
    keep_error: bool = False,
    edit: Edit | Sequence[Edit] | None = None,
    positions: Any = None,
    at: str = "output",
    feature_axis: int | None = None,
) -> Iterator[nn.Module]:
    """A context in which a layer's output is the estimator's reconstruction of it.

    Parameters
    ----------
    module : torch.nn.Module
        Run it within the context as you would without, in the mode you want: neither its
        training mode nor the grad mode is touched.
    layer : str or torch.nn.Module
        The layer, as its dotted name or itself.
    estimator : estimator of this package, or torch.nn.Module
        Fitted on that layer's activations. Or what `persistence.to_torch_module` made of one,
        on the layer's device: to splice many times without a copy each time, or to train it.
    keep_error : bool, default=False
        Whether to add what the estimator does not explain. Then only what `edit` changes
        is changed, and the output is as before without one.
    edit : callable or list of callables, default=None
        From codes to codes, tensors of shape (..., n_components); a list is applied in its
        order. `ablate`, `scale` and `clamp` make some.
    positions : bool mask, slice, int or list of int, default=None
        Where to splice; elsewhere the output stays as it is. A mask of the shape of the
        positions (batch and tokens, batch and height and width), or of their first axes;
        or positions of the last of these axes, as tokens, from the end where negative.
        None: everywhere.
    at : {'output', 'input'}, default='output'
        Which of the two to replace.
    feature_axis : int, default=None
        The axis of the features. None: the channels of torch's own layers for images and
        series, as Conv2d; of others the last, and there must be no more than three.

    Yields
    ------
    encoder : torch.nn.Module
        The estimator's, on the device and in the dtype of the layer once that has run. Its
        parameters ask for no gradients until ``encoder.requires_grad_()``; through the codes
        to what comes before the layer they flow where gradients are on.

    Raises
    ------
    ValueError
        Where there is no such layer, with close names; while the module runs, where the
        layer is called twice, gives no tensor, one of another width than the estimator or
        with NaN, or has no such positions; on leaving, where it was never called.

    Notes
    -----
    Of a tuple, a dict or a dataclass the first tensor of floats is replaced (of a mapping
    `last_hidden_state`), and the rest stays. Half floats are encoded in float32, and the
    result is half again. torch's fused transformer layers are off within the context. Those
    write zeros at padding, in eval mode with a `src_key_padding_mask`; without them the output
    has other values there. Leave padding out where you pool or take a loss.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import ModuleActivations, ablate, spliced
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> X = torch.randn(200, 4)
    >>> rows = ModuleActivations(net, "1", [X])
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=5, random_state=0).fit(rows)
    >>> with torch.no_grad(), spliced(net, "1", sae, keep_error=True):
    ...     bool(torch.allclose(net(X), net[2](net[1](net[0](X)))))
    True
    >>> with torch.no_grad(), spliced(net, "1", sae, keep_error=True, edit=ablate([0, 1])):
    ...     without = net(X)
    >>> without.shape
    torch.Size([200, 3])
    """
    check_at(at)
    name, target = find_layer(module, layer)
    splice = _Splice(name, target, estimator, keep_error, edit, positions, at, feature_axis)
    handles = []
    with hooks_honoured():
        try:
            # The module's own calls are told apart, so that a second one of the layer is seen.
            handles += [
                module.register_forward_pre_hook(splice.begin, prepend=True),
                module.register_forward_hook(splice.end, always_call=True),
                on_call(target, at, splice),
            ]
            yield splice.encoder
        finally:
            for handle in handles:
                handle.remove()
    if not splice.done:
        raise never_called(name)


class _Splice:
    """What takes the place of a layer's tensor."""

    def __init__(self, name, layer, estimator, keep_error, edit, positions, at, feature_axis):
        self.name, self.layer, self.at = name, layer, at
        self.keep_error, self.feature_axis = keep_error, feature_axis
        self.positions = _as_positions(positions)
        self.own = not isinstance(estimator, nn.Module)
        self.encoder = (
            to_torch_module(estimator).requires_grad_(False) if self.own else estimator
        )
        self.edits = _as_edits(edit, len(self.encoder.components))
        self.done, self.calls = False, None

    def begin(self, *_):
        self.calls = 0

    def end(self, *_):
        self.calls = None

    def __call__(self, value):
        self.done = True
        if self.calls is not None:
            self.calls += 1
            if self.calls > 1:
                raise called_twice(self.name)
        path = located(value, self.name, self.at)
        return put(value, path, self._replaced(taken(value, path)))

    def _replaced(self, x):
        moved, axis = features_last(x, self.layer, self.name, self.feature_axis)
        width = self.encoder.components.shape[1]
        if moved.shape[-1] != width:
            raise ValueError(
                f"{called(self.name, self.at)} has {moved.shape[-1]} features, the shape being "
                f"{tuple(x.shape)}, and the estimator was fitted on {width}: splice the layer "
                "it was fitted on, or say which feature_axis."
            )
        where = self._where(moved.shape[:-1], x.device)
        if where is None:
            new = self._reconstructed(moved, None)
        else:
            new = moved.index_put((where,), self._reconstructed(moved[where], where))
        return new.movedim(-1, axis).contiguous()

    def _where(self, shape, device):
        """The positions to splice, as a mask; None for all."""
        chosen = self.positions
        if chosen is None:
            return None
        if isinstance(chosen, torch.Tensor):
            return as_mask(chosen, shape, "positions", self.name).to(device)
        n = shape[-1] if shape else 1
        _check_in_range(chosen, n, self.name)
        line = torch.zeros(n, dtype=torch.bool, device=device)
        line[chosen] = True
        return line.expand(shape) if shape else line[0]

    def _reconstructed(self, x, where):
        wide = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        with own_precision(x.device):
            rows = x.to(wide)
            self._check_finite(rows, where)
            if self.own:
                self.encoder.to(rows)
            codes = edited = self.encoder.encode(rows)
            for edit in self.edits:
                edited = edit(edited)
                _check_edited(edited, codes)
            if self.keep_error:
                # What was explained is not taken away and added again, which would round.
                new = rows + (edited - codes) @ self.encoder.components
            else:
                new = self.encoder.decode(edited)
        return new.to(x.dtype)

    def _check_finite(self, rows, where):
        at = first_not_finite(rows.detach())
        if at is not None:
            if where is not None:
                at = tuple(where.nonzero()[at[0]].tolist())
            raise ValueError(
                f"{called(self.name, self.at)} has NaN or infinity at position {at} (the first "
                "such): correct the input, or exclude such positions by `positions`."
            )


def _as_edits(edit, n_atoms):
    many = isinstance(edit, list | tuple)
    edits = edit if many else [] if edit is None else [edit]
    for each in edits:
        if not callable(each):
            raise ValueError(
                f"edit must be a function from codes to codes, or a list of such, as "
                f"ablate(3) gives; got {each!r:.80}."
            )
        if isinstance(each, _OfAtoms) and each.atoms.max() >= n_atoms:
            raise ValueError(
                f"edit names the atom {each.atoms.max()}, but the estimator has {n_atoms}, "
                "from 0 on."
            )
    return edits


def _check_edited(edited, codes):
    if not isinstance(edited, torch.Tensor) or edited.shape != codes.shape:
        got = type(edited).__name__
        if isinstance(edited, torch.Tensor):
            got = f"one of shape {tuple(edited.shape)}"
        raise ValueError(
            f"edit must give codes of the shape {tuple(codes.shape)} it was given, a torch "
            f"tensor, got {got}."
        )


def _as_positions(positions):
    """None, a slice, a list of numbers, or a tensor that is a mask."""
    if positions is None or isinstance(positions, slice):
        return positions
    given = torch.as_tensor(positions)
    if given.dtype == torch.bool and given.ndim:
        return given
    if (
        given.ndim < 2
        and given.numel()
        and not given.is_floating_point()
        and (given.dtype != torch.bool)
    ):
        return given.reshape(-1).tolist()
    raise ValueError(
        "positions must be a mask of booleans, a slice, or numbers of positions; got "
        f"{given.dtype} of shape {tuple(given.shape)}. (Of an attention mask: mask.bool().)"
    )


def _check_in_range(chosen, n, name):
    if isinstance(chosen, slice):
        ends = [end for end in (chosen.start, chosen.stop) if end is not None]
        bad = [end for end in ends if not -n <= end <= n] or (
            [] if range(n)[chosen] else [chosen]
        )
    else:
        bad = [i for i in chosen if not -n <= i < n]
    if bad:
        raise ValueError(
            f"positions has {bad[0]}, but layer {name!r} has {n} positions: name some of these."
        )
