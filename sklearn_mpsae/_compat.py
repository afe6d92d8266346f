"""scikit-learn's private, recent or experimental names, in one place."""

from __future__ import annotations

import sys

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

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

    class CallbackSupportMixin:
        """scikit-learn before 1.9: no callbacks to call."""

        def _init_callback_context(self, **kwargs):
            return _NoCallbacks()


try:  # scikit-learn 1.9: sparse arrays or matrices, as the user configured
    from sklearn.utils._sparse import _align_api_if_sparse as align_sparse
except ImportError:
    from scipy.sparse import csr_matrix as align_sparse

__all__ = [
    "CallbackSupportMixin",
    "align_sparse",
    "as_numpy",
    "fit_context",
    "n_threads",
]


def n_threads() -> int:
    """The threads scikit-learn's own loops would use here.

    Follows OMP_NUM_THREADS (which joblib sets in its workers), threadpoolctl's limits
    and the processors this process may run on.
    """
    return _openmp_effective_n_threads()


def as_numpy(X):
    """X as NumPy array if it is a torch tensor, else X itself; half floats as float32.

    scikit-learn would turn a float32 tensor into float64, and refuse bfloat16 and
    tensors that require a gradient.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(X, torch.Tensor):
        half = isinstance(X, np.ndarray) and X.dtype == np.float16
        return X.astype(np.float32) if half else X
    X = X.detach().cpu()
    if X.dtype in (torch.bfloat16, torch.float16):
        X = X.float()
    return np.asarray(X.numpy())
