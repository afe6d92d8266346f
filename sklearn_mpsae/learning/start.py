"""Where a training starts: its coordinates, and the parameters of its first step."""

from __future__ import annotations

import numpy as np

from ..models.base import check_start
from .dictionary import checked_atoms, random_atoms
from .frame import Frame, whitening_metric
from .state import INTERCEPT

# The number of rows that vary from which the scale of a stream is taken.
_SCALE_ROWS = 512


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
    outer : ndarray of shape (d, d), or None
        What the metric is made from, until it is settled; see `Training.outer`.
    vary : bool
        Whether these rows vary by more than rounding.
    """
    training = before and before.training
    n_before = before.attributes["n_samples_seen_"] if before else 0
    if training is not None:
        _check_stream(settings, training)
    center = _center_of_stream(settings, training, moments.mean, n_rows, n_before)
    energy = _energy_beyond_rounding(moments, center, source.dtype)
    # Before the first step nothing has told a scale.
    begun = training if training is not None and training.state.n_steps else None
    scale = _scale_of_stream(energy, moments.n_rows, begun, n_before)
    outer, metric = _metric_of_stream(settings, training, moments, center, n_before, source)
    # Copies, as the arrays that there were may lie in a file that is to be written again.
    metric = ranks.share(None if metric is None else np.array(metric))
    frame = Frame(np.array(center, np.float64), scale, metric)
    return frame, outer, energy > 0


def _center_of_stream(settings, training, mean, n_rows, n_before):
    """The mean of all rows, or of the first ones where the intercept is learnt from there."""
    if settings.intercept == "zero":
        return np.zeros_like(mean)
    if not n_before:
        return mean
    center = training.frame.center
    if settings.intercept == "learn" and n_before >= _SCALE_ROWS:
        return center
    # Rows that are all the same have exactly the mean that they had.
    return center + n_rows / (n_rows + n_before) * (mean - center)


def _scale_of_stream(energy, n_rows, training, n_before):
    """The scale of the data: that of the first rows of a stream, with these.

    energy : sum of the squared distances of these rows from the centre
    training : the one to go on with; None before the first step
    """
    if training is None:
        return _scale(energy, n_rows)
    if n_before >= _SCALE_ROWS or not energy:
        return training.frame.scale
    return _scale(n_before * training.frame.scale**2 + energy, n_before + n_rows)


def _metric_of_stream(settings, training, moments, center, n_before, source):
    """What the metric of a stream is made from, until it is settled, and the metric.

    It is computed anew each time that the number of rows has doubled, as it takes d^3 steps.
    """
    if not settings.whitening:
        return None, None
    n, settled = n_before + moments.n_rows, max(_SCALE_ROWS, 2 * source.n_features)
    if training is not None and training.outer is None:
        return None, training.frame.metric
    outer = moments.outer_around(center)
    metric = None
    if training is not None:
        moved = training.frame.center - center
        outer += training.outer + n_before * np.outer(moved, moved)
        metric = training.frame.metric
    if metric is None or n.bit_length() > n_before.bit_length() or n >= settled:
        metric = whitening_metric(outer, settings.whitening, source.dtype)
    return (outer if n < settled or metric is None else None), metric


def _check_stream(settings, training):
    """Refuse a stream that goes on with another kind of intercept or of metric."""
    if settings.intercept != training.intercept:
        raise ValueError(
            f"intercept={settings.intercept!r} cannot begin within a stream, which had "
            f"{training.intercept!r}: set it as it was, or fit afresh."
        )
    settled = training.outer is None
    if settled and bool(settings.whitening) != (training.frame.metric is not None):
        raise ValueError(
            f"whitening={settings.whitening} cannot begin or end within a stream: set it as "
            "it was, or fit afresh."
        )


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
    shape = settings.n_components, source.n_features
    _check_warm(before.attributes["components_"], shape)
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
    parameters["components"] = frame.of_atoms(parameters["components"])
    if settings.intercept == "learn":
        shift = frame.of_intercept(fitted["intercept_"] - center)
        parameters[INTERCEPT] = shift[None].astype(fitted["intercept_"].dtype)
    return parameters


def _check_warm(atoms, shape):
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
