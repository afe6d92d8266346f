"""Arrays of other libraries in scikit-learn's interface: torch and all of the array API.

Estimators compute on NumPy arrays and store NumPy arrays, whatever they were given: so a
fitted one can be unpickled without torch. Under
``sklearn.set_config(array_api_dispatch=True)`` results have the library and the device of X,
its *origin*. scikit-learn 1.9 wants fitted attributes there too: `Fitted` shows them so. A
copy of the estimator, pickled or not, shows NumPy arrays again. (scikit-learn discusses
whether attributes should follow X, #34604: if not, `Fitted` needs no origin.)
"""

from __future__ import annotations

import copy
from functools import wraps
from importlib import import_module
from typing import Any, Generic, Self, TypeVar, cast, overload

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils import check_array

from ._compat import Method, array_namespace, convert_to_numpy, get_namespace_and_device
from .coding.checks import check_magnitude
from .coding.inputs import float_dtypes, in_words, plain, tabled
from .rows.protocol import NoArray

# A library and a device of it, both by name; None for NumPy, and for X of no library.
Origin = tuple[str, str] | None

T = TypeVar("T")


def as_numpy(X: Any) -> Any:
    """X as NumPy array if it is a tensor, else X itself; half floats as float32.

    Arrays of other libraries than torch are converted under ``array_api_dispatch``.
    """
    X = plain(X)
    if origin_of(X) is not None:
        X = plain(convert_to_numpy(X, get_namespace_and_device(X)[0]))
    return X


def as_rows(X: Any, name: str = "X", dtype: Any = None) -> np.ndarray:
    """X as array of rows whose squares are finite; a ValueError or TypeError else."""
    with in_words(name):
        X = tabled(as_numpy(X), name)
        dtype = float_dtypes(X) if dtype is None else dtype
        X = check_array(X, dtype=dtype, order="C", input_name=name)
    check_magnitude(X, name)
    return X


def origin_of(X: Any) -> Origin:
    """The library and device of X, where results are to have the same."""
    if not _dispatching() or not hasattr(X, "__dlpack__"):
        return None
    xp, _, device = get_namespace_and_device(X)
    library = xp.__name__.rpartition(".")[2]
    return None if library == "numpy" else (library, str(device))


def brought_to(origin: Origin, x: Any) -> Any:
    """A NumPy array as array of this library, on this device; anything else as it is."""
    if origin is None or not isinstance(x, np.ndarray):
        return x
    library, device = origin
    xp = array_namespace(import_module(library).empty(0))
    if library == "torch":
        # torch knows devices by name, and warns of read-only memory, which it would share.
        return xp.asarray(x if x.flags.writeable else x.copy(), device=device)
    devices = {str(each): each for each in xp.__array_namespace_info__().devices()}
    return xp.asarray(x, device=devices[device])


def follows_input(method: Method) -> Method:
    """Let a method of an estimator take arrays of any library, and compute on NumPy.

    Its answer has the origin of X. An answer that is the estimator itself remembers it.
    """

    @wraps(method)
    def on_numpy_rows(self, X, *args, **kwargs):
        if not _dispatching():
            origin, answer = None, method(self, as_numpy(X), *args, **kwargs)
        else:
            origin = origin_of(X)
            if method.__name__ != "fit":
                _check_origin(self, X, origin, method.__name__)
            X = as_numpy(X)
            with config_context(array_api_dispatch=False):
                answer = method(self, X, *args, **kwargs)
            answer = brought_to(origin or self._origin, answer)
        if answer is self and origin != self._origin:
            self._origin = origin
        return answer

    return cast(Method, on_numpy_rows)


def on_numpy(function: Method) -> Method:
    """Let a function of fitted estimators and arrays of any library compute on NumPy."""

    def moved(x):
        return copy.copy(x) if getattr(x, "_origin", None) else as_numpy(x)

    @wraps(function)
    def with_all_on_numpy(*args, **kwargs):
        args = [moved(arg) for arg in args]
        kwargs = {name: moved(arg) for name, arg in kwargs.items()}
        with config_context(array_api_dispatch=False):
            return function(*args, **kwargs)

    return cast(Method, with_all_on_numpy)


class Fitted(Generic[T]):
    """A fitted attribute, which only `fit` and its like set: see `Record._learnt`.

    It cannot be assigned. An array is stored as NumPy array, and shown as one of the library
    of the X that it was learnt from, where that was under ``array_api_dispatch``. What is
    written into a NumPy array in place is written into the model, as in scikit-learn.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, estimator: None, owner: type) -> Self: ...
    @overload
    def __get__(self, estimator: object, owner: type) -> T: ...

    def __get__(self, estimator: Any, owner: type) -> Any:
        if estimator is None:
            return self
        try:
            value = vars(estimator)[self._name]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self._name!r}",
                name=self._name,
                obj=estimator,
            ) from None
        return brought_to(estimator._origin, value)

    def __set__(self, estimator: object, value: Any) -> None:
        raise AttributeError(
            f"{self._name} of {type(estimator).__name__} is read-only: fit sets it. To start "
            "from other atoms, pass them as dict_init."
        )


def _dispatching() -> bool:
    return bool(get_config()["array_api_dispatch"])


def _check_origin(estimator, X, origin, method):
    """Refuse dense X of another origin than what was fitted.

    What was fitted on NumPy takes any; sparse matrices, files and streams go with any.
    """
    fitted = estimator._origin
    if fitted is None or origin == fitted:
        return
    if origin is None and (isinstance(X, NoArray) or not hasattr(X, "__array__")):
        return
    raise ValueError(
        f"Inputs passed to {type(estimator).__name__}.{method}() must use the same namespace "
        f"and the same device as those passed to fit(): {' on '.join(fitted)}, got "
        f"{'NumPy' if origin is None else ' on '.join(origin)}. Convert X, or call {method}() "
        "with array_api_dispatch=False, which takes any X and gives NumPy."
    )
