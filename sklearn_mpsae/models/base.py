"""What a training asks of an encoder, and what it tells it at each step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .coder import Coder

# Arrays by name: NumPy's outside of a training step, the kernels' kind within one.
Parameters = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What one training step does; learning/recipe.py makes it."""

    rate: float
    """Share of the learning rate."""
    n_nonzero_coefs: float
    """Steps of the pursuit, or active latents, in this training step."""
    asked: float
    """The number of non-zero codes that the training is to end with."""
    sphere: bool
    """Whether atoms stay on the unit sphere; else their norm is at most `max_norm`."""
    max_norm: float
    refine: bool
    """Whether codes are those that `transform` will use."""
    revive: bool
    """Whether dead atoms are replaced."""


class StepContext(NamedTuple):
    """What a model is told of a training step."""

    plan: Plan
    dead: np.ndarray
    """Indices of the dead atoms."""
    numbers: dict[str, float]
    """The model's numbers between steps (see `Model.first_numbers`), to be updated."""
    ranks: Any
    """learning.distributed.Alone or Ranks: each rank has some rows of the batch."""
    scale: float = 1.0
    """What the data were divided by."""
    learning_rate: float = 1.0

    def totals(self, *numbers) -> np.ndarray:
        """Sums over ranks."""
        return self.ranks.sum(np.array([float(number) for number in numbers]))


class BatchResult(NamedTuple):
    """What a model makes of one batch of n rows. Arrays of the kernels' kind."""

    indices: Any
    """(n, k) atoms of each row."""
    values: Any
    """(n, k) their codes."""
    residual: Any
    """(n, d) the batch minus its reconstruction."""
    gradients: Parameters
    """Of half the residual's energy, for each parameter, in the parameter's shape; and as
    "intercept", (1, d), by a shift that all rows of the batch have lost before: minus the sum
    of the derivatives by the rows."""


class Model(ABC):
    """An encoder that can be trained. Children are frozen dataclasses of plain values.

    Rows are centred and divided by the data's scale, except where a method takes a `scale`.

    Shapes are words with a letter for each axis: "p" atoms, "d" features, "1" one. A
    parameter of shape "pd" is a direction: a revived atom points it at a row. Other
    parameters, as biases, then start at zero, or where `revived_at_mean` names them.
    """

    layout: ClassVar[Mapping[str, str]]
    """The shape of each trained parameter. "components", the dictionary, is one of them."""

    fitted: ClassVar[Mapping[str, str]]
    """The shape of each fitted attribute that `attributes` gives; "" for a number."""

    rate_factors: ClassVar[Mapping[str, float]] = {}
    """Factors of the learning rate, for parameters that need another than 1."""

    revived_at_mean: ClassVar[frozenset[str]] = frozenset()
    """The parameters, no directions, that start at the mean of the living atoms' in an atom
    that is revived; the others start at zero."""

    first_numbers: ClassVar[Mapping[str, float]] = {}
    """The numbers that the model keeps between steps, and their first values."""

    level: ClassVar[str | None] = None
    """Which of these numbers an output must exceed to be a code; for models that steer."""

    free_norms: ClassVar[bool] = False
    """Whether norms of atoms may differ from 1 early in a fit."""

    whitens: ClassVar[bool] = False
    """Whether its coder knows the metric that a training may have (`whitening`)."""

    steers: bool = False
    """Whether rows share their codes, so that only the average number is fixed."""

    may_stop_at_once: bool = False
    """Whether a row that is small enough by itself has no codes."""

    def sized(self, shape, has_bfloat16, saved) -> Model:
        """The model with what it leaves to the size of a training.

        Parameters
        ----------
        shape : (p, d)
        has_bfloat16 : callable
            Whether every process multiplies in bfloat16 at speed; takes a second.
        saved : mapping
            What `chosen` was in the training that this one goes on with; empty for none.
        """
        return self

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The fitted attributes that say what `sized` has taken: plain values."""
        return {}

    @abstractmethod
    def start(self, atoms: np.ndarray) -> Parameters:
        """The parameters before the first step, for these unit atoms (p, d)."""

    @abstractmethod
    def gradients(self, kernels, parameters: Parameters, X, step: StepContext) -> BatchResult:
        """Encode a batch X (n, d), and differentiate its error by all parameters."""

    def count(self, kernels, parameters: Parameters, X, level: float, step: StepContext) -> int:
        """The number of codes that `transform` would find in X, with this level."""
        raise NotImplementedError

    @abstractmethod
    def attributes(self, parameters: Parameters, numbers: dict, scale: float) -> dict:
        """The fitted attributes, in units of the data: those that `fitted` names."""

    @abstractmethod
    def parameters(self, fitted: Mapping[str, Any], scale: float) -> Parameters:
        """The parameters to train on from: the inverse of `attributes`."""

    @abstractmethod
    def coder(self, fitted: Mapping[str, Any], k: int | None, trained: float) -> Coder:
        """What `transform` does.

        Parameters
        ----------
        fitted : mapping
            The fitted attributes, "intercept_" included.
        k : int or None
            The most codes that a row may have; None for what training led to.
        trained : int or float
            The number of codes of the training, per row or on average.
        """


def check_model(model: Model) -> None:
    """Refuse a model that lacks something, by name, before it is trained.

    Raises
    ------
    TypeError
    """
    name = type(model).__name__
    if not isinstance(model, Model):
        raise TypeError(f"{name} is no model: derive it from models.base.Model.")
    for declared in ("layout", "fitted"):
        if not hasattr(model, declared):
            raise TypeError(
                f"The model {name} declares no {declared!r}; see models.base.Model."
            )
    if "components" not in model.layout or "components_" not in model.fitted:
        raise TypeError(f"The model {name} must lay out 'components' and fit 'components_'.")
    if "intercept" in model.layout:
        raise TypeError(f"The model {name} lays out 'intercept', which the training has.")
    for of_parameters in ("rate_factors", "revived_at_mean"):
        if unknown := set(getattr(model, of_parameters)) - set(model.layout):
            raise TypeError(
                f"The model {name} has {of_parameters} of {unknown}, which are not laid out."
            )
    if model.steers and type(model).count is Model.count:
        raise TypeError(f"The model {name} steers its number of codes, and has no `count`.")
    if model.steers and model.level not in model.first_numbers:
        raise TypeError(
            f"The model {name} steers its number of codes: `level` must name one of its "
            f"first_numbers, not {model.level!r}."
        )
    if model.steers and "l0" not in model.first_numbers:
        raise TypeError(
            f"The model {name} steers its number of codes: its first_numbers need 'l0', the "
            "average number of codes of the last batches."
        )


def check_start(model: Model, parameters: Parameters, numbers: dict, scale: float) -> None:
    """Refuse parameters and fitted attributes of other names or shapes than are declared.

    Raises
    ------
    TypeError
    """
    name, expected = type(model).__name__, dict(model.layout)
    if _shapes(parameters) is None or set(parameters) != set(expected):
        raise TypeError(
            f"The model {name} must start with {expected}, not {_told(parameters)}."
        )
    p, d = np.shape(parameters["components"])
    sizes = {"p": p, "d": d, "1": 1}
    _check_shapes(f"The model {name} starts with", parameters, model.layout, sizes)
    fitted = model.attributes(parameters, dict(numbers), scale)
    if not isinstance(fitted, Mapping) or set(fitted) != set(model.fitted):
        raise TypeError(
            f"The model {name} declares the fitted attributes {sorted(model.fitted)}, and "
            f"gives {_told(fitted)}."
        )
    _check_shapes(f"The model {name} gives the attributes", fitted, model.fitted, sizes)


def check_result(model: Model, parameters: Parameters, X, result: BatchResult) -> None:
    """Refuse what a model makes of a batch X where names or shapes do not match.

    Raises
    ------
    TypeError
    """
    name = type(model).__name__
    if not isinstance(result, BatchResult):
        raise TypeError(f"{name}.gradients must give a BatchResult, not {result!r:.80}.")
    shapes, found = _shapes(parameters), _shapes(result.gradients)
    if found != {**shapes, "intercept": (1, X.shape[1])}:
        raise TypeError(
            f"The model {name} lays out {dict(model.layout)}, starts with {shapes}, and has "
            f"gradients {found}: names and shapes must agree, but for 'intercept', whose "
            f"gradient has shape {(1, X.shape[1])}."
        )
    codes = tuple(result.indices.shape), tuple(result.values.shape)
    if len(codes[0]) != 2 or codes[0][0] != len(X) or codes[0] != codes[1]:
        raise TypeError(
            f"{name}.gradients gives indices and values of shapes {codes}: both must be "
            f"({len(X)}, n_slots), with a row for each row of the batch."
        )
    if tuple(result.residual.shape) != tuple(X.shape):
        raise TypeError(
            f"{name}.gradients gives a residual of shape {tuple(result.residual.shape)}, the "
            f"batch has {tuple(X.shape)}."
        )


def _check_shapes(what, arrays, words, sizes):
    """Refuse arrays whose shapes are not those that the words say; "" is a number."""
    for name, word in words.items():
        if unknown := set(word) - set(sizes):
            raise TypeError(f"{what} {name} of shape {word!r}: no axis is called {unknown}.")
        wanted = tuple(sizes[letter] for letter in word)
        if tuple(np.shape(arrays[name])) != wanted:
            raise TypeError(
                f"{what} {name} of shape {tuple(np.shape(arrays[name]))}; declared is "
                f"{word!r}, here {wanted}."
            )


def _shapes(arrays):
    """The shapes of named arrays; None where they are none."""
    if not isinstance(arrays, Mapping):
        return None
    return {name: tuple(np.shape(array)) for name, array in arrays.items()}


def _told(value):
    return sorted(value) if isinstance(value, Mapping) else repr(value)
