"""What of a training a checkpoint has: which file it is, and what was learnt by it."""

from __future__ import annotations

import joblib
import numpy as np

from ..coding.unit import unit_rows
from ..models.base import Model
from .checkpoint import Checkpoint, check_same, read
from .frame import Basis, Frame, Metric
from .state import Learnt, Training, learnt_of, unpack


def checkpoint_of(model, source, settings, ranks, before) -> Checkpoint | None:
    """The checkpoint of a fit, if it is to have one; `before` is what it starts from."""
    if settings.checkpoint is None:
        return None
    start = None
    if before:
        fitted = before.attributes
        start = [model.parameters(fitted, 1.0), dict(before.numbers(model))]
        start.append(fitted["intercept_"])
    data = {"dtype": source.dtype.name, "n_features": source.n_features}
    own = {"processes": ranks.size, "start": None if start is None else joblib.hash(start)}
    path, every = settings.checkpoint, settings.checkpoint_every
    return Checkpoint(path, every, settings.identity | data | own, settings.feature_names)


def from_checkpoint(
    model: Model, identity: dict, learning_rate: float, path
) -> tuple[Learnt, list[str] | None]:
    """What a fit had learnt when it wrote its checkpoint, and the names of its features.

    Raises
    ------
    ValueError, OSError
        As `checkpoint.read`; where the file is of another estimator.
    """
    facts, arrays = read(path)
    advice = "Give this estimator the parameters that it has, or name another file."
    check_same(path, facts["identity"], identity, advice)
    parameters, state, random_state = unpack(facts, arrays)
    parameters["components"] = unit_rows(parameters["components"])
    losses = np.array(facts["losses"])
    learnt = learnt_of(
        model,
        learning_rate,
        parameters,
        Training(state, saved_frame(facts, arrays), Basis(**facts["basis"]), random_state),
        arrays["usage"],
        facts["n_rows"],
        n_iter_=len(losses),
        loss_curve_=losses,
        **facts["chosen"],
    )
    return learnt, facts["feature_names"]


def saved_frame(facts: dict, arrays: dict[str, np.ndarray]) -> Frame:
    """The coordinates of the training that wrote a checkpoint."""
    metric = arrays.get("metric")
    return Frame(arrays["center"], facts["scale"], None if metric is None else Metric(metric))
