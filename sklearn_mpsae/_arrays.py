"""Arrays of other libraries at the scikit-learn door: torch and all of the array API.

Estimators compute on NumPy and keep NumPy, whatever they were given: so a fitted one pickles
and travels without torch. Under ``sklearn.set_config(array_api_dispatch=True)`` an array
comes out where X came from, its *home*: its library and its device. scikit-learn 1.9 wants
fitted attributes there too: `FittedArray` shows them so, and a copy of the estimator,
pickled or not, shows NumPy again. (Whether attributes should follow X is under discussion
there, #34604: if they are not to, `FittedArray` is what to remove.)
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import Any, Self, cast, overload

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils import check_array

from ._compat import Method, array_namespace, convert_to_numpy, get_namespace_and_device
from .coding.checks import check_magnitude
from .coding.inputs import float_dtypes, in_words, plain, tabled

# A library and a device of it, both by name; None for NumPy, and for X of no library.
Home = tuple[str, str] | None

# Whether a method is computing, to whom fitted attributes are what is kept.
_computing = ContextVar("computing", default=False)


class NoArray:
    """Rows that are read as they are needed: what asks for an array of them is told so."""

    # What to do, for where an array is needed.
    _instead: str

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        name = type(self).__name__
        raise ValueError(
            f"{name} is no array: fit, partial_fit, transform, encode, score and the others of "
            f"this package's estimators take it. Where an array is needed, as for folds of "
            f"cross-validation, for another transformer before in a Pipeline, for compare or "
            f"metrics, pass rows that fit in memory: {self._instead}."
        )


def as_numpy(X: Any) -> Any:
    """X as NumPy array if it is a tensor, else X itself; half floats as float32.

    Arrays of other libraries than torch are converted under ``array_api_dispatch``.
    """
    X = plain(X)
    if home_of(X) is not None:
        X = plain(convert_to_numpy(X, get_namespace_and_device(X)[0]))
    return X


def as_rows(X: Any, name: str = "X", dtype: Any = None) -> np.ndarray:
    """X as array of rows whose squares are finite; a ValueError or TypeError else."""
    with in_words(name):
        X = tabled(as_numpy(X))
        dtype = float_dtypes(X) if dtype is None else dtype
        X = check_array(X, dtype=dtype, order="C", input_name=name)
    check_magnitude(X, name)
    return X


def home_of(X: Any) -> Home:
    """The library and device of X, where it is an array that is to be followed."""
    if not _dispatching() or not hasattr(X, "__dlpack__"):
        return None
    xp, _, device = get_namespace_and_device(X)
    library = xp.__name__.rpartition(".")[2]
    return None if library == "numpy" else (library, str(device))


def at_home(home: Home, x: Any) -> Any:
    """X in its home, where it is a NumPy array that has one; else x itself."""
    if home is None or not isinstance(x, np.ndarray):
        return x
    library, device = home
    xp = array_namespace(import_module(library).empty(0))
    if library == "torch":
        # torch knows devices by name, and warns of read-only memory, which it would share.
        return xp.asarray(x if x.flags.writeable else x.copy(), device=device)
    devices = {str(each): each for each in xp.__array_namespace_info__().devices()}
    return xp.asarray(x, device=devices[device])


def follows_input(method: Method) -> Method:
    """Let a method of a fitted estimator take arrays of any home, and answer there."""

    @wraps(method)
    def at_home_of_input(self, X, *args, **kwargs):
        home, following = home_of(X), _dispatching()
        if following:
            _check_home(self, X, home, method.__name__)
        X = as_numpy(X)
        with _numpy_only():
            answer = method(self, X, *args, **kwargs)
        return at_home(home or self._home, answer) if following else answer

    return cast(Method, at_home_of_input)


def learns_from_input(method: Method) -> Method:
    """Let `fit` take arrays of any home, and remember it for what is fitted."""

    @wraps(method)
    def remembering_home(self, X, *args, **kwargs):
        home = home_of(X)
        if method.__name__ == "partial_fit" and _dispatching():
            _check_home(self, X, home, method.__name__)
        X = as_numpy(X)
        with _numpy_only():
            method(self, X, *args, **kwargs)
        if home != self._home:
            self._home = home
        return self

    return cast(Method, remembering_home)


def on_numpy(function: Method) -> Method:
    """Let a function that takes fitted estimators and arrays of any home compute on NumPy."""

    def moved(x):
        return copy.copy(x) if getattr(x, "_home", None) else as_numpy(x)

    @wraps(function)
    def with_all_on_numpy(*args, **kwargs):
        args = [moved(arg) for arg in args]
        kwargs = {name: moved(arg) for name, arg in kwargs.items()}
        with _numpy_only():
            return function(*args, **kwargs)

    return cast(Method, with_all_on_numpy)


class FittedArray:
    """A fitted attribute: kept as NumPy, shown in the home of the X it was learnt from.

    That is NumPy unless `fit` was called under ``array_api_dispatch``; else it is a copy,
    unless its library can share memory with NumPy.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, estimator: None, owner: type) -> Self: ...
    @overload
    def __get__(self, estimator: object, owner: type) -> np.ndarray: ...

    def __get__(self, estimator: Any, owner: type) -> Any:
        if estimator is None:
            return self
        try:
            kept = vars(estimator)[self._name]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self._name!r}",
                name=self._name,
                obj=estimator,
            ) from None
        return kept if _computing.get() else at_home(estimator._home, kept)

    def __set__(self, estimator: object, value: Any) -> None:
        vars(estimator)[self._name] = as_numpy(value)

    def __delete__(self, estimator: object) -> None:
        del vars(estimator)[self._name]


def _dispatching() -> bool:
    return bool(get_config()["array_api_dispatch"])


@contextmanager
def _numpy_only():
    """Nothing to dispatch inside, and fitted attributes as they are kept."""
    before = _computing.set(True)
    try:
        with config_context(array_api_dispatch=False):
            yield
    finally:
        _computing.reset(before)


def _check_home(estimator, X, home, method):
    """Refuse dense X of another home than what was fitted.

    What was fitted on NumPy takes any; sparse matrices, files and streams go with any.
    """
    fitted = estimator._home
    if fitted is None or home == fitted:
        return
    if home is None and (isinstance(X, NoArray) or not hasattr(X, "__array__")):
        return
    raise ValueError(
        f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace "
        f"and the same device as those passed to fit(): {' on '.join(fitted)}, got "
        f"{'NumPy' if home is None else ' on '.join(home)}. Convert X, or call {method}() "
        "with array_api_dispatch=False, which takes any X and gives NumPy."
    )
