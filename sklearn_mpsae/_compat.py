"""scikit-learn's private, recent or experimental names, in one place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, wraps
from typing import Any, TypeVar

import numpy as np
import sklearn
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.utils import _safe_indexing as rows_at
from sklearn.utils._array_api import _convert_to_numpy as convert_to_numpy
from sklearn.utils._array_api import get_namespace_and_device
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils._param_validation import Interval as _Interval
from sklearn.utils._param_validation import (
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils.validation import _get_feature_names as feature_names

from ._warn import warn

try:  # scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class _NoCallbacks:
        """A callback context for a scikit-learn that has none."""

        def subcontext(self, **kwargs):
            return self

        def call_on_fit_task_begin(self, **kwargs):
            return self

        def call_on_fit_task_end(self, **kwargs):
            return False

        def propagate_callback_context(self, sub_estimator):
            return nullcontext()

    class CallbackSupportMixin:
        """scikit-learn before 1.9: no callbacks to call."""

        def set_callbacks(self, *callbacks):
            warn(
                "Callbacks need scikit-learn 1.9 or later, here is "
                f"{sklearn.__version__}: fit will not call them.",
                UserWarning,
            )
            return self

        def _init_callback_context(self, **kwargs):
            return _NoCallbacks()


try:  # scikit-learn 1.9: sparse arrays or matrices, as the user configured
    from sklearn.utils._sparse import _align_api_if_sparse as align_sparse
except ImportError:
    from scipy.sparse import csr_matrix as align_sparse

# What an estimator holds while callbacks are at work, and scikit-learn needs to end that.
UNDER_CALLBACKS = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}

__all__ = [
    "UNDER_CALLBACKS",
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "align_sparse",
    "array_namespace",
    "check_params",
    "convert_to_numpy",
    "feature_names",
    "fit_context",
    "get_namespace_and_device",
    "n_threads",
    "reconstructed",
    "rows_at",
    "validate_parameter_constraints",
    "validate_params",
]


class Interval(_Interval):
    """scikit-learn's constraint, but True and False are no numbers."""

    def is_satisfied_by(self, val: Any) -> bool:
        if isinstance(val, bool | np.bool_):
            return False
        try:
            return super().is_satisfied_by(val)
        except TypeError:  # numbers that NumPy does not know, such as fractions
            return False


Method = TypeVar("Method", bound=Callable[..., Any])


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """scikit-learn's decorator of `fit`, for a type checker: it leaves the type alone.

    Parameters are checked before every `partial_fit`, not before the first one only.
    """
    in_context = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)

    def decorate(method):
        learn = in_context(method)
        if method.__name__ != "partial_fit":
            return learn

        @wraps(method)
        def checked(estimator, *args, **kwargs):
            check_params(estimator)
            return learn(estimator, *args, **kwargs)

        return checked

    return decorate


def check_params(estimator: Any) -> None:
    """What scikit-learn asks of parameters before `fit`, at a fifth of its time."""
    if get_config()["skip_parameter_validation"]:
        return
    for name, constraints in _constraints(type(estimator)).items():
        value = getattr(estimator, name, None)
        if not any(constraint.is_satisfied_by(value) for constraint in constraints):
            estimator._validate_params()  # which raises, with scikit-learn's message


@cache
def _constraints(cls):
    return {
        name: [make_constraint(each) for each in constraints]
        for name, constraints in cls._parameter_constraints.items()
        if constraints != "no_validation"
    }


def n_threads() -> int:
    """The threads scikit-learn's own loops would use here.

    Follows OMP_NUM_THREADS (which joblib sets in its workers), threadpoolctl's limits
    and the processors this process may run on.
    """
    return _openmp_effective_n_threads()


def array_namespace(array):
    """The array API functions for the library of an array."""
    try:  # scikit-learn 1.7
        from sklearn.externals import array_api_compat
    except ImportError:
        import array_api_compat
    return array_api_compat.array_namespace(array)


def reconstructed(estimator, codes):
    """Rows from codes; scikit-learn's dictionaries have inverse_transform since 1.7."""
    if hasattr(estimator, "inverse_transform"):
        return estimator.inverse_transform(codes)
    return codes @ estimator.components_
