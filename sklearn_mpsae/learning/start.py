"""Where a training starts: its coordinates, and the parameters of its first step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..models.base import check_start
from ..models.pursuit import in_metric
from .dictionary import checked_atoms, random_atoms
from .frame import Basis, Frame, whitening_metric
from .state import INTERCEPT

# The number of rows that vary from which the scale of a stream is taken.
_SCALE_ROWS = 512

# How far a metric whitens that is made from fewer rows than it will be.
_MOST_UNSETTLED = 0.9


# ------------------------------------------------------------------------- coordinates
def frame_of_fit(moments, source, settings, ranks) -> Frame:
    """The coordinates of a fit to rows with these moments."""
    center = np.zeros(source.n_features)
    if settings.intercept != "zero":
        # Rows and what is subtracted from them are rounded alike.
        center = moments.mean.astype(source.dtype).astype(np.float64)
    scale = _scale(moments.energy_around(center), moments.n_rows)
    metric = None
    if settings.whitening:
        outer = moments.outer_around(center)
        metric = ranks.share(whitening_metric(outer, settings.whitening, source.dtype))
    return Frame(center, scale, metric)


def frame_of_stream(moments, n_rows, source, settings, ranks, before):
    """The coordinates of the next rows of a stream.

    Rows that come before the first ones that vary are all the same: they count as one.

    Parameters
    ----------
    moments : Moments
        Of these rows.
    n_rows : int
        Their number.
    before : Learnt or None
        What was learnt from earlier ones.

    Returns
    -------
    frame : Frame
    basis : Basis
        What the frame is made from.
    vary : bool
        Whether these rows vary by more than rounding.
    """
    old, basis, begun = None, Basis.of(settings), False
    if before is not None:
        training = before.training
        old, basis, begun = training.frame, training.basis, training.state.n_steps > 0
    if not begun:
        basis = replace(basis, n_rows=min(basis.n_rows, 1))
    center = np.zeros_like(moments.mean)
    if settings.intercept != "zero":
        # Rows that are all the same have exactly the mean that they had.
        center = old.center if old else moments.mean
        center = center + n_rows / (n_rows + basis.n_rows) * (moments.mean - center)
    energy = _energy_beyond_rounding(moments, center, source.dtype)
    n_before = basis.n_rows
    scale = _scale_of_stream(energy, moments.n_rows, old if begun else None, n_before)
    basis = basis.extended(moments, n_rows, old, center)
    metric = ranks.share(_metric_of_stream(settings, basis, n_before, old, source))
    if metric is not None and basis.n_rows >= _rows_of_metric(source):
        basis = replace(basis, outer=None)
    return Frame(np.array(center, np.float64), scale, metric), basis, energy > 0


def check_stream(settings, before):
    """Refuse a stream that goes on with other atoms, another kind of intercept or metric."""
    basis = before.training.basis
    was = {
        "n_components": len(before.attributes["components_"]),
        "intercept": basis.intercept,
        "whitening": basis.whitening,
    }
    for name, old in was.items():
        now = getattr(settings, name)
        if now != old:
            # A warm start goes on from the same atoms, too.
            fit = "afresh" if name == "n_components" else "afresh or with warm_start=True"
            raise ValueError(
                f"{name} cannot change within a stream: it was {old!r}, and is {now!r}. Set "
                f"it as it was, or call fit, {fit}."
            )


def needs_products(settings, before) -> bool:
    """Whether the metric of a stream is still to be made from its next rows."""
    settled = before is not None and before.training.state.n_steps > 0
    settled = settled and before.training.basis.outer is None
    return settings.whitening > 0 and not settled


def _scale_of_stream(energy, n_rows, old, n_before):
    """The scale of the data: that of the first rows of a stream, with these.

    energy : sum of the squared distances of these rows from the centre
    old : the frame to go on with; None before the first step
    """
    if old is None:
        return _scale(energy, n_rows)
    if n_before >= _SCALE_ROWS or not energy:
        return old.scale
    return _scale(n_before * old.scale**2 + energy, n_before + n_rows)


def _rows_of_metric(source):
    """The number of rows that vary from which the metric of a stream is taken."""
    return max(_SCALE_ROWS, 2 * source.n_features)


def _metric_of_stream(settings, basis, n_before, old, source):
    """The metric of a stream, which is settled by its first rows.

    Until then it is computed anew each time that their number has doubled, as it takes d^3
    steps, and does not whiten in full what some rows may not tell.
    """
    if not settings.whitening:
        return None
    if basis.outer is None:
        # None after a fit to rows that were all the same.
        return old.metric and old.metric.owned()
    settled = basis.n_rows >= _rows_of_metric(source)
    doubled = basis.n_rows.bit_length() > n_before.bit_length()
    if old is not None and old.metric is not None and not (settled or doubled):
        return old.metric.owned()
    whitening = settings.whitening if settled else min(settings.whitening, _MOST_UNSETTLED)
    return whitening_metric(basis.outer, whitening, source.dtype)


def _scale(energy, n_samples):
    """The root mean squared norm of rows, 1 where all are zero."""
    if not np.isfinite(energy):
        raise ValueError(
            "X is too large: its variance is more than float64 holds. Divide it by its "
            "largest value, say."
        )
    return float(np.sqrt(energy / n_samples)) or 1.0


def _energy_beyond_rounding(moments, center, dtype):
    """The energy of rows around a running mean; 0 where it is only that of rounding."""
    energy = moments.energy_around(center)
    rounding = np.finfo(dtype).eps / 2 * np.linalg.norm(center)
    return energy if energy > moments.n_rows * rounding**2 else 0.0


# -------------------------------------------------------------------------- parameters
def first_parameters(model, source, settings, frame, random_state):
    """The parameters of a training from the beginning, in the coordinates of a frame."""
    shape = settings.n_components, source.n_features
    if settings.dict_init is not None:
        atoms = frame.of_atoms(checked_atoms(settings.dict_init, shape, source.dtype))
    else:
        atoms = random_atoms(*shape, random_state, source.dtype)
    parameters = model.start(atoms)
    check_start(model, parameters, model.first_numbers, frame.scale)
    if settings.intercept == "learn":
        parameters = {**parameters, INTERCEPT: np.zeros((1, shape[1]), source.dtype)}
    return parameters


def warm_parameters(model, source, settings, frame, before):
    """The parameters of a fit that starts from an earlier one."""
    parameters = parameters_of(model, settings, before, frame, frame.center)
    own = {name: array for name, array in parameters.items() if name != INTERCEPT}
    check_start(model, own, before.numbers(model), frame.scale)
    return {name: array.astype(source.dtype) for name, array in parameters.items()}


def parameters_of(model, settings, before, frame, center):
    """The parameters that were learnt, in the coordinates of a frame.

    center : what the intercept is taken relative to
    """
    fitted = before.attributes
    parameters = dict(model.parameters(fitted, frame.scale))
    metric, there, _ = in_metric(fitted)
    if frame.metric is not None and np.array_equal(metric, frame.metric.matrix):
        parameters["components"] = there  # to the last bit
    else:
        parameters["components"] = frame.of_atoms(parameters["components"])
    if settings.intercept == "learn":
        shift = frame.of_intercept(fitted["intercept_"] - center)
        parameters[INTERCEPT] = shift[None].astype(fitted["intercept_"].dtype)
    return parameters


def check_warm(settings, source, before):
    """Refuse a fit that cannot start from the atoms of the earlier one."""
    atoms, shape = before.attributes["components_"], (settings.n_components, source.n_features)
    if atoms.shape != shape:
        raise ValueError(
            f"warm_start needs data and n_components as in the last fit: components_ "
            f"has shape {atoms.shape}, this fit needs {shape}. Set warm_start=False to start "
            "afresh."
        )
    zero = np.flatnonzero(~atoms.any(axis=1))
    if len(zero):
        raise ValueError(
            f"components_ has atoms of zeros (first: atom {zero[0]}), which point "
            "nowhere, and warm_start cannot learn on from them: set warm_start=False, "
            "and pass the others, with new ones in their place, as dict_init."
        )
