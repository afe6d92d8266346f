"""A fitted estimator as plain values and arrays, and back. Knows no files.

What a file may hold is written down here, class by class; anything else is refused.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

import sklearn_mpsae

from ..learning.checkpoint import pack_random_state, unpack_random_state
from ..learning.fit import pack, unpack
from ..learning.trainer import TrainingState
from ._disk import DTYPES


class Kind(NamedTuple):
    """What a fit of a class leaves. Shapes are words, of a letter for each length.

    p: atoms, d: features, i: epochs, 1; any other letter stands for any length.
    """

    arrays: dict[str, str]
    """Fitted arrays besides those of all classes."""
    numbers: tuple[str, ...]
    """Fitted numbers besides those of all classes."""
    learnt: dict[str, str]
    """What is trained: the optimizer has moments of it."""


_ENCODER = {"encoder_components_": "pd", "encoder_intercept_": "p"}
_SHALLOW = {"components": "pd", "encoder": "pd", "bias": "p1"}
_JUMP = {"threshold_": "p", "_log_threshold": "p1"}

_OF_FOLDS = {"candidates_": "c", "cv_scores_": "fc"}
_CHOSEN = ("threshold_", "n_nonzero_coefs_", "best_score_")

# The classes that can be saved: a name that is not here is never looked up.
KINDS = {
    "MPSparseAutoencoder": Kind({}, ("threshold_",), {"components": "pd"}),
    "MPSparseAutoencoderCV": Kind(_OF_FOLDS, _CHOSEN, {"components": "pd"}),
    "TopKSAE": Kind(_ENCODER, (), _SHALLOW),
    "BatchTopKSAE": Kind(_ENCODER, ("threshold_",), _SHALLOW),
    "MatryoshkaSAE": Kind(_ENCODER, ("threshold_",), _SHALLOW),
    "ReLUSAE": Kind(_ENCODER | {"_trained_intercept": "p"}, ("penalty_",), _SHALLOW),
    "JumpReLUSAE": Kind(_ENCODER | _JUMP, (), _SHALLOW | {"log_threshold": "p1"}),
}

_ARRAYS = {"components_": "pd", "intercept_": "d", "atom_usage_": "p"}

# The dtypes of those that have not that of components_.
_OTHERS = {
    "atom_usage_": "int64",
    "loss_curve_": "float64",
    "candidates_": None,
    "cv_scores_": "float64",
}
_COUNTS = ("n_features_in_", "n_steps_", "n_samples_seen_")

# The checkpoint of a fit is a file of the machine it ran on: no part of the model, and
# nothing that a file from elsewhere should choose. Callbacks are objects of the program.
_LEFT_OUT = {"checkpoint", "_skl_callbacks"}

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
    estimator._check_to_code()
    kind, attributes = KINDS[name], vars(estimator).copy()
    parameters, tensors = {}, dict[str, np.ndarray]()
    for key, value in estimator.get_params(deep=False).items():
        attributes.pop(key)
        if key not in _LEFT_OUT:
            parameters[key] = _packed_parameter(key, value, tensors)
    facts = {"estimator": name, "parameters": parameters}
    state, scale = attributes.pop("_training_state", None), attributes.pop("_scale", None)
    random_state, mean = attributes.pop("_random_state", None), attributes.pop("_mean", None)
    if random_state is None:
        facts["training"] = None
    else:
        own, arrays = pack(state, random_state)
        arrays["mean"] = mean
        facts["training"] = own | {"scale": scale}
        tensors |= {_TRAINING + key: array for key, array in arrays.items()}
    arrays = [key for key in ("loss_curve_", *_ARRAYS, *kind.arrays) if key in attributes]
    tensors |= {key: attributes.pop(key) for key in arrays}
    numbers = [key for key in ("n_iter_", *_COUNTS, *kind.numbers) if key in attributes]
    facts["fitted"] = {key: _plain_number(attributes.pop(key)) for key in numbers}
    names = attributes.pop("feature_names_in_", None)
    facts["feature_names"] = None if names is None else list(map(str, names))
    facts["output"] = attributes.pop("_sklearn_output_config", {})
    unknown = sorted(set(attributes) - _LEFT_OUT)
    if unknown:
        raise ValueError(
            f"This {name} has attributes that a file has no place for: {', '.join(unknown)}. "
            "Delete them first, or use joblib or skops."
        )
    return facts, tensors


def name_of(estimator):
    """The name of its class.

    Raises
    ------
    ValueError
        If that is not in the table.
    """
    name = type(estimator).__name__
    if name not in KINDS or type(estimator) is not getattr(sklearn_mpsae, name):
        raise ValueError(
            f"{type(estimator).__module__}.{name} is none of the estimators that can be saved "
            f"or exported: {', '.join(KINDS)}. Use joblib or skops for it, or pass the last "
            "step of a pipeline by itself."
        )
    return name


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
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(
            f"it is of the class {name!r}, and this version knows {', '.join(KINDS)}"
        )
    counts = {*_COUNTS, "n_iter_"}
    _check_keys("fitted values", fitted, {*_COUNTS, *KINDS[name].numbers}, {"n_iter_"})
    for key, value in fitted.items():
        ok = is_number(value, key in counts) and (key not in counts or value >= 0)
        _check(ok, f"{key} is {value!r}")
    d, p = fitted["n_features_in_"], parameters.get("n_components")
    sizes = {"d": d, "p": d if p is None else p, "1": 1, "r": 624, "i": fitted.get("n_iter_")}
    wanted = _layouts(KINDS[name], facts)
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
    words = _ARRAYS | kind.arrays
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


def unpacked(facts: dict, tensors: dict[str, np.ndarray]):
    """The estimator of these facts and tensors, which have passed `check_layout`.

    Raises
    ------
    ValueError
        If the facts are not of the form that `packed` gives, or parameters are invalid.
    """
    cls = getattr(sklearn_mpsae, facts["estimator"])
    parameters = facts["parameters"]
    _check_keys("parameters", parameters, set(), set(cls().get_params()) - _LEFT_OUT)
    estimator = cls(
        **{key: _unpacked_parameter(key, value, tensors) for key, value in parameters.items()}
    )
    estimator._validate_params()
    fitted = {key: array for key, array in tensors.items() if "/" not in key}
    vars(estimator).update(facts["fitted"], **fitted)
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
    if facts["training"] is None:
        return without_training(estimator)
    return _with_training(estimator, facts["training"], tensors)


def without_training(estimator):
    """A fitted estimator with nothing to go on from but what it has learnt.

    It can be fitted with ``warm_start=True``, which finds the data's scale anew.
    """
    parameters = estimator._fitted_parameters(1.0)
    estimator._training_state = TrainingState.new(parameters, estimator._running_start)
    return estimator


def _with_training(estimator, facts, tensors):
    _check_keys("training", facts, {"n_steps", "running", "random_state", "scale"}, set())
    running, scale = facts["running"], facts["scale"]
    _check_keys("running numbers", running, set(estimator._running_start), set())
    numbers = [scale, *running.values()]
    ok = all(map(is_number, numbers)) and scale > 0 and is_number(facts["n_steps"], whole=True)
    _check(ok, "its training's numbers are none")
    _check_random_state(facts["random_state"])
    arrays = {
        key.removeprefix(_TRAINING): array
        for key, array in tensors.items()
        if key.startswith(_TRAINING)
    }
    estimator._mean = arrays.pop("mean")
    _, estimator._training_state, estimator._random_state = unpack(facts, arrays)
    estimator._scale = scale
    return estimator


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
