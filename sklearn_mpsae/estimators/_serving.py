"""An open encoder, for many small calls."""

from __future__ import annotations

import copy
import os
import threading
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from .._compat import feature_names
from ..coding import Codes
from ..coding.checks import check_magnitude
from ..coding.codes import found_codes
from ..coding.inputs import computed_dtype, in_words, tabled
from ..coding.kernels import open_kernels
from ..models.coded import MANY_ROWS
from ..models.coder import Coder
from ..rows.sizes import check_finite


class ServingCoder:
    """What `coder` of an estimator gives: kernels and a coder that stay open between calls.

    Parameters
    ----------
    coder : Coder
    device : str
    names : list of str or None
        The names of the features, where `fit` had some.
    """

    def __init__(self, coder: Coder, device: str, names: list[str] | None = None) -> None:
        self._device, self._names = device, names
        # What is written into the estimator's arrays meanwhile would mix with the Gram matrix.
        self._coder = copy.deepcopy(coder)
        self._lock, self._stack = threading.Lock(), ExitStack()
        self._open: dict[np.dtype, Any] | None = None

    def __enter__(self) -> Self:
        if self._open is not None:
            raise RuntimeError("It is open already: call `estimator.coder()` for another one.")
        self._open, self._process = {}, os.getpid()
        self._opened(self._coder.components.dtype)
        return self

    def __exit__(self, *exc_info) -> None:
        with self._lock:  # calls of other threads come to their end
            self._open = None
            self._stack.close()

    def __call__(self, rows: Any) -> Codes:
        """The codes of rows, an array or tensor of shape (n_samples, n_features).

        Raises
        ------
        ValueError
            For rows of another shape, that are not finite, or with other names of features.
        RuntimeError
            Outside of the ``with`` block, and in a process forked within it.
        """
        X = self._checked(rows)
        p = len(self._coder.components)
        if self._open is not None and self._process != os.getpid():
            # Threads do not survive a fork, and a lock may be held for ever.
            raise RuntimeError(
                "This encoder was opened before the process was forked: open one in each "
                "process."
            )
        with self._lock:
            if self._open is None:
                raise RuntimeError("Use it within `with estimator.coder() as encode:`.")
            kernels, intercept, encode = self._opened(X.dtype)
            codes = [
                found_codes(*map(kernels.to_numpy, part), p)
                for part in encode(kernels.asarray(X - intercept))
            ]
        return codes[0] if len(codes) == 1 else Codes.stack(codes)

    def _checked(self, rows):
        """The rows as finite array, in the dtype to compute in."""
        names = feature_names(rows)
        known = names is not None and self._names is not None
        if known and list(names) != self._names:
            raise ValueError(
                "The names of the features differ from those of fit, or come in another "
                "order: give the same columns in the same order."
            )
        d = self._coder.components.shape[1]
        with in_words("rows"):
            X = np.asarray(tabled(rows, "rows"))
        if X.ndim != 2 or X.shape[1] != d or not len(X):
            raise ValueError(
                f"Rows must have shape (n_samples, {d}), got {X.shape} of a "
                f"{type(rows).__name__}: pass an array or a tensor."
            )
        X = np.ascontiguousarray(X, computed_dtype(X.dtype))
        check_finite(X, 0)
        check_magnitude(X)
        return X

    def _opened(self, dtype):
        """Kernels, intercept and encoder for rows of this dtype; opened at its first rows."""
        if dtype not in self._open:
            coder = self._coder.astype(dtype)
            kernels = self._stack.enter_context(open_kernels(self._device, dtype))
            # All calls together have many rows: a Gram matrix pays.
            self._open[dtype] = kernels, coder.intercept, coder.open(kernels, MANY_ROWS)
        return self._open[dtype]
