"""What a training has learnt, and what it goes on with: NumPy arrays and plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..models.base import Model, Parameters
from .frame import Basis, Frame

# The parameter that every training may have besides its model's: what rows are shifted by.
INTERCEPT = "intercept"


@dataclass
class TrainingState:
    """What a training carries from step to step."""

    n_steps: int
    moments: dict[str, tuple[np.ndarray, np.ndarray]]
    """Adam's two, for each parameter: in its shape, and a number for each of its rows."""
    last_used: np.ndarray
    """(p,) the step at which each atom was used last."""
    numbers: dict[str, float]
    """The model's numbers between steps: a threshold, the weight of a penalty."""

    @classmethod
    def new(cls, parameters: Parameters, numbers: Mapping[str, float]) -> TrainingState:
        last_used = np.zeros(len(parameters["components"]), np.int64)
        return cls(0, _no_moments(parameters), last_used, dict(numbers))

    def suited(self, parameters: Parameters) -> TrainingState:
        """The same with moments of these parameters: zero for those that are new."""
        moments = _no_moments(parameters)
        kept = {name: self.moments[name] for name in moments if name in self.moments}
        return replace(self, moments=moments | kept)


def _no_moments(parameters):
    return {
        name: (np.zeros_like(array), np.zeros(len(array), array.dtype))
        for name, array in parameters.items()
    }


@dataclass(frozen=True, eq=False)
class Training:
    """What `partial_fit` and a warm start go on with, besides the fitted attributes."""

    state: TrainingState
    frame: Frame
    """Of the last rows; its centre is the mean of all, unless the intercept is zero."""
    basis: Basis
    """What the frame is made from."""
    random_state: np.random.RandomState


@dataclass(frozen=True, eq=False)
class Learnt:
    """All that a fit leaves."""

    attributes: Mapping[str, Any]
    """The fitted attributes by name, in units of the data: NumPy arrays and numbers."""
    training: Training | None = None
    """None for what was imported."""

    def numbers(self, model: Model) -> Mapping[str, float]:
        """The model's numbers to go on with."""
        return self.training.state.numbers if self.training else model.first_numbers


def learnt_of(
    model, learning_rate, parameters, training, usage, n_samples_seen, **more
) -> Learnt:
    """What is learnt, from trained parameters.

    Raises
    ------
    FloatingPointError
        Where an attribute is not finite.
    """
    state, frame = training.state, training.frame
    fitted = model.attributes(parameters, state.numbers, frame.scale)
    intercept = parameters.get(INTERCEPT)
    fitted = frame.fitted(fitted, None if intercept is None else intercept[0])
    # A parameter that is finite may have an exponential that is not.
    check_finite(fitted.values(), state.n_steps, learning_rate)
    return Learnt(
        fitted
        | {
            "atom_usage_": usage.copy(),
            "n_steps_": state.n_steps,
            "n_samples_seen_": n_samples_seen,
        }
        | more,
        training,
    )


def check_finite(learnt, n_steps: int, learning_rate: float) -> None:
    """Raise a FloatingPointError where not all of these arrays and numbers are finite."""
    if not all(np.isfinite(each).all() for each in learnt):
        raise FloatingPointError(
            f"The training has diverged by step {n_steps}: not all it has learnt is finite. "
            f"Lower learning_rate (now {learning_rate}), or pass X as float64."
        )


def pack(state: TrainingState, random_state: np.random.RandomState):
    """A state and a generator as plain values, and arrays."""
    own, keys = pack_random_state(random_state)
    facts = {
        "n_steps": state.n_steps,
        "numbers": {name: float(x) for name, x in state.numbers.items()},
        "random_state": own,
    }
    arrays = {"last_used": state.last_used, "random_state": keys}
    for name, (mean, square) in state.moments.items():
        arrays |= {f"{name} mean": mean, f"{name} square": square}
    return facts, arrays


def unpack(facts: dict, arrays: dict[str, np.ndarray]):
    """The inverse of `pack`: the parameters saved with it, TrainingState, random state."""

    def of(kind):
        ending = f" {kind}"
        return {k.removesuffix(ending): a for k, a in arrays.items() if k.endswith(ending)}

    means, squares = of("mean"), of("square")
    moments = {name: (means[name], squares[name]) for name in means}
    state = TrainingState(
        facts["n_steps"], moments, arrays["last_used"], dict(facts["numbers"])
    )
    random_state = unpack_random_state(facts["random_state"], arrays["random_state"])
    return of("value"), state, random_state


def pack_random_state(random_state: np.random.RandomState) -> tuple[list, np.ndarray]:
    """The state of a generator: plain values, and an array."""
    name, keys, *rest = random_state.get_state()
    return [name, *rest], keys


def unpack_random_state(values: list, keys: np.ndarray) -> np.random.RandomState:
    """A generator in that state."""
    random_state = np.random.RandomState()
    random_state.set_state((values[0], keys, *values[1:]))
    return random_state
