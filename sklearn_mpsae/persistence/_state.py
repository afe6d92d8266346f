"""A fitted estimator as plain values and arrays, and back. Knows no files.

What a file may hold is written down here, class by class; anything else is refused.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..learning.frame import Basis, Frame, Metric
from ..learning.settings import INTERCEPTS
from ..learning.state import (
    Learnt,
    Training,
    pack,
    pack_random_state,
    unpack,
    unpack_random_state,
)
from ._disk import DTYPES
from ._names import NAMES, class_of, name_of


class Kind(NamedTuple):
    """What a fit of a class leaves. Shapes are words, as those of `models.base.Model`.

    Besides its letters: i epochs; any other letter stands for any length.
    """

    fitted: dict[str, str]
    """Fitted arrays, and numbers as "", besides those of all classes."""
    learnt: dict[str, str]
    """What is trained: the optimizer has moments of it."""

    @classmethod
    def of(cls, name: str) -> Kind:
        estimator = class_of(name)()
        model = estimator._model()
        return cls({**model.fitted, **estimator._own_fitted}, dict(model.layout))

    def named(self, *, arrays: bool) -> dict[str, str]:
        """The fitted arrays, or the numbers."""
        return {key: word for key, word in self.fitted.items() if bool(word) == arrays}


# Arrays of all classes.
_ARRAYS = {"components_": "pd", "intercept_": "d", "atom_usage_": "p"}

# The dtypes of the arrays that differ from components_; None for any.
_OTHERS = {
    "atom_usage_": "int64",
    "loss_curve_": "float64",
    "candidates_": None,
    "cv_scores_": "float64",
}
# Arrays that a fit may leave or not, in groups of those that go together: with their shapes,
# and dtypes, where "real" is that of components_.
_METRIC = {
    "metric_": ("dd", "real"),
    "_metric_components": ("pd", "real"),
    "_metric_norms": ("p", "real"),
}
_OF_TRAINING = (
    {
        "training/intercept mean": ("1d", "real"),
        "training/intercept square": ("1", "real"),
    },
    {"training/outer": ("dd", "float64")},
)
_COUNTS = ("n_features_in_", "n_steps_", "n_samples_seen_")
# The number that a fit has chosen, where it was asked to.
_CHOSEN = "n_nonzero_coefs_"
# What only a training leaves, and the words that may be among it.
_OF_FIT = ("n_iter_", "batch_size_", "precision_", _CHOSEN)
_WORDS = {"precision_": {"full", "bfloat16"}}

# The checkpoint of a fit is a file of the machine it ran on: no part of the model, and
# nothing that a file from elsewhere should choose. Callbacks are objects of the program.
_LEFT_OUT = {"checkpoint", "_skl_callbacks", "_training"}

_OUTPUTS = ("default", "pandas", "polars")

_TRAINING, _PARAMETER = "training/", "parameters/"


# ------------------------------------------------------------------------------ packing
def packed(estimator) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts (plain values) and tensors of a fitted estimator.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If it has what cannot be saved.
    """
    name = name_of(estimator)
    estimator._check_fitted()
    others, learnt = vars(estimator).copy(), estimator._learnt
    parameters, tensors = {}, dict[str, np.ndarray]()
    for key, value in estimator.get_params(deep=False).items():
        others.pop(key)
        if key not in _LEFT_OUT:
            parameters[key] = _packed_parameter(key, value, tensors)
    facts = {"estimator": name, "parameters": parameters, "training": None}
    if learnt.training is not None:
        training = learnt.training
        own, arrays = pack(training.state, training.random_state)
        facts["training"] = own | {
            "scale": training.frame.scale,
            "basis": training.basis.facts(),
        }
        arrays["mean"] = training.frame.center
        if training.basis.outer is not None:
            arrays["outer"] = training.basis.outer
        tensors |= {_TRAINING + key: array for key, array in arrays.items()}
    fitted = {key: _plain_number(value) for key, value in learnt.attributes.items()}
    tensors |= {key: value for key, value in fitted.items() if isinstance(value, np.ndarray)}
    facts["fitted"] = {key: value for key, value in fitted.items() if key not in tensors}
    facts["fitted"]["n_features_in_"] = others.pop("n_features_in_")
    others = {key: value for key, value in others.items() if key not in learnt.attributes}
    names = others.pop("feature_names_in_", None)
    facts["feature_names"] = None if names is None else list(map(str, names))
    facts["output"] = others.pop("_sklearn_output_config", {})
    unknown = sorted(set(others) - _LEFT_OUT)
    if unknown:
        raise ValueError(
            f"This {name} has attributes that a file has no place for: {', '.join(unknown)}. "
            "Delete them first, or use joblib or skops."
        )
    return facts, tensors


def _plain_number(value):
    return value.item() if isinstance(value, np.generic) else value


def _packed_parameter(name, value, tensors):
    """A parameter as JSON has it; an object stands for what is among the tensors.

    tensors : where arrays go; None within a list, where they have no name
    """
    found = f"a {type(value).__name__}"
    # A float of another precision computes otherwise: it stays what it is.
    plain = np.integer | np.bool_ | np.float64 | np.str_
    value = value.item() if isinstance(value, plain) else value
    value = np.asarray(value) if isinstance(value, np.generic) else value
    if isinstance(value, np.random.RandomState) and tensors is not None:
        state, tensors[_PARAMETER + name] = pack_random_state(value)
        return {"random_state": state}
    array = isinstance(value, np.ndarray) and tensors is not None
    if array and value.dtype.name in DTYPES.values():
        tensors[_PARAMETER + name] = value
        return {"tensor": True}
    if isinstance(value, list | tuple):
        return [_packed_parameter(name, each, None) for each in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    if (value is None or isinstance(value, bool | int | float | str)) and finite:
        return value
    if isinstance(value, float):
        found = value
    elif array:
        found += f" of dtype {value.dtype}"
    raise ValueError(
        f"The parameter {name} is or holds {found}, which cannot be saved: files have numbers, "
        f"strings, None, lists of these, and NumPy arrays. Set {name} to one of these."
    )


# ---------------------------------------------------------------------------- unpacking
def check_layout(facts: dict, layouts: dict[str, dict]) -> None:
    """That tensors are those that the facts call for, by name, shape and dtype.

    layouts : for each tensor, its "shape" and "dtype"

    Raises
    ------
    ValueError
        If they are not, or the facts are not of the form that `packed` gives.
    """
    name, fitted, parameters = facts["estimator"], facts["fitted"], facts["parameters"]
    if not isinstance(name, str) or name not in NAMES:
        raise ValueError(
            f"it is of the class {name!r}, and this version knows {', '.join(NAMES)}"
        )
    kind = Kind.of(name)
    counts = {*_COUNTS, "n_iter_", "batch_size_"}
    required = {*_COUNTS, *kind.named(arrays=False)}
    required |= {_CHOSEN} if parameters.get("n_nonzero_coefs") == "auto" else set()
    optional = {key for key in _OF_FIT if hasattr(class_of(name), key)}
    _check_keys("fitted values", fitted, required, optional)
    for key, value in fitted.items():
        if key in _WORDS:
            ok = isinstance(value, str) and value in _WORDS[key]
        else:
            ok = is_number(value, key in counts) and (key not in counts or value >= 0)
        _check(ok and (key != _CHOSEN or value > 0), f"{key} is {value!r}")
    d, p = fitted["n_features_in_"], parameters.get("n_components")
    sizes = {"d": d, "1": 1, "r": 624, "i": fitted.get("n_iter_")}
    if p is not None or parameters.get("dict_init") is None:  # else p is free
        sizes["p"] = d if p is None else p
    wanted = _layouts(kind, facts) | _optional(facts, layouts)
    _check_keys("tensors", layouts, set(wanted), set())
    real = layouts["components_"]["dtype"]
    _check(real in ("float32", "float64"), f"components_ has dtype {real}")
    for key, (word, dtype) in wanted.items():
        shape = layouts[key]["shape"]
        if word is not None:
            asked = [
                sizes.setdefault(letter, n) for letter, n in zip(word, shape, strict=False)
            ]
            ok = len(shape) == len(word) and shape == asked
            _check(
                ok,
                f"{key} has shape {shape}, which its parameters do not ask for "
                f"(n_components={p!r}, n_features_in_={d!r})",
            )
        found = layouts[key]["dtype"]
        ok = dtype is None or found == (real if dtype == "real" else dtype)
        _check(ok, f"{key} has dtype {found}, which it must not have")


def _layouts(kind, facts):
    """The shape and dtype of every tensor that such facts go with; None where it is free."""
    words = _ARRAYS | kind.named(arrays=True)
    if "n_iter_" in facts["fitted"]:
        words["loss_curve_"] = "i"
    arrays = {key: (word, _OTHERS.get(key, "real")) for key, word in words.items()}
    for key, value in facts["parameters"].items():
        if isinstance(value, dict):
            state = "random_state" in value
            arrays[_PARAMETER + key] = ("r", "uint32") if state else (None, None)
    if facts["training"] is not None:
        arrays[_TRAINING + "mean"] = "d", "float64"
        arrays[_TRAINING + "last_used"] = "p", "int64"
        arrays[_TRAINING + "random_state"] = "r", "uint32"
        for key, word in kind.learnt.items():
            arrays[f"{_TRAINING}{key} mean"] = word, "real"
            arrays[f"{_TRAINING}{key} square"] = "p", "real"
    return arrays


def _optional(facts, layouts):
    """Those of the optional groups of arrays that there are."""
    groups = [_METRIC] if hasattr(class_of(facts["estimator"]), "metric_") else []
    groups += _OF_TRAINING if facts["training"] is not None else []
    present = [group for group in groups if group.keys() & layouts.keys()]
    return {key: value for group in present for key, value in group.items()}


def unpacked(facts: dict, tensors: dict[str, np.ndarray]):
    """The estimator of these facts and tensors, which have passed `check_layout`.

    Raises
    ------
    ValueError
        If the facts are not of the form that `packed` gives, or parameters are invalid.
    """
    cls = class_of(facts["estimator"])
    parameters = facts["parameters"]
    _check_keys("parameters", parameters, set(), set(cls().get_params()) - _LEFT_OUT)
    estimator = cls(
        **{key: _unpacked_parameter(key, value, tensors) for key, value in parameters.items()}
    )
    estimator._validate_params()
    fitted = dict(facts["fitted"])
    estimator.n_features_in_ = fitted.pop("n_features_in_")
    fitted |= {key: array for key, array in tensors.items() if "/" not in key}
    names = facts["feature_names"]
    if names is not None:
        _check(
            isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and len(names) == estimator.n_features_in_,
            "its feature names are not one text for each feature",
        )
        estimator.feature_names_in_ = np.array(names, dtype=object)
    _check_keys("output", facts["output"], set(), {"transform"})
    if facts["output"]:
        kind = facts["output"]["transform"]
        _check(kind in _OUTPUTS, f"its output is {kind!r}, which is not known here")
        estimator.set_output(**facts["output"])
    training = facts["training"]
    if training is not None:
        training = _unpacked_training(estimator._model(), training, tensors)
    estimator._learnt = Learnt(fitted, training)
    return estimator


def _unpacked_training(model, facts, tensors):
    wanted = {"n_steps", "numbers", "random_state", "scale", "basis"}
    _check_keys("training", facts, wanted, set())
    basis = facts["basis"]
    _check_keys("basis", basis, {"intercept", "whitening", "n_rows"}, set())
    ok = basis["intercept"] in INTERCEPTS and is_number(basis["whitening"])
    _check(ok and is_number(basis["n_rows"], whole=True), "its training's basis is none")
    numbers, scale = facts["numbers"], facts["scale"]
    _check_keys("training's numbers", numbers, set(model.first_numbers), set())
    values = [scale, *numbers.values()]
    ok = all(map(is_number, values)) and scale > 0 and is_number(facts["n_steps"], whole=True)
    _check(ok, "its training's numbers are none")
    _check_random_state(facts["random_state"])
    arrays = {
        key.removeprefix(_TRAINING): array
        for key, array in tensors.items()
        if key.startswith(_TRAINING)
    }
    mean = arrays.pop("mean")
    outer = arrays.pop("outer", None)
    _, state, random_state = unpack(facts, arrays)
    metric = tensors.get("metric_")
    frame = Frame(mean, scale, None if metric is None else Metric(metric))
    return Training(state, frame, Basis(**basis, outer=outer), random_state)


def _unpacked_parameter(name, value, tensors):
    if not isinstance(value, dict):
        return value
    if value == {"tensor": True}:
        return tensors[_PARAMETER + name][()]
    _check_keys(f"the parameter {name}", value, {"random_state"}, set())
    _check_random_state(value["random_state"])
    return unpack_random_state(value["random_state"], tensors[_PARAMETER + name])


def _check_random_state(values):
    ok = isinstance(values, list) and len(values) == 4 and values[0] == "MT19937"
    ok = ok and all(is_number(value, whole=True) for value in values[1:3])
    ok = ok and is_number(values[3]) and 0 <= values[1] <= 624
    _check(ok, "its random state is none")


def is_number(value, whole=False):
    """Whether a value of JSON is a number, which its true and false are not."""
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def _check_keys(what, facts, required, optional):
    _check(isinstance(facts, dict), f"its {what} are no JSON object")
    missing, unknown = required - set(facts), set(facts) - required - optional
    _check(not missing, f"its {what} lack {', '.join(sorted(missing))}")
    _check(not unknown, f"its {what} have {', '.join(sorted(unknown))}, not known here")


def _check(holds, otherwise):
    if not holds:
        raise ValueError(otherwise)
