"""An open encoder, for many small calls."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any, Self

import numpy as np

from ..coding import Codes
from ..coding.checks import check_magnitude
from ..coding.inputs import computed_dtype, plain
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
    """

    def __init__(self, coder: Coder, device: str) -> None:
        self._coder, self._device = coder, device
        self._lock, self._stack = threading.Lock(), ExitStack()
        self._open: dict[np.dtype, Any] | None = None

    def __enter__(self) -> Self:
        self._open = {}
        self._opened(self._coder.components.dtype)
        return self

    def __exit__(self, *exc_info) -> None:
        self._open = None
        self._stack.close()

    def __call__(self, rows: Any) -> Codes:
        """The codes of rows, an array or tensor of shape (n_samples, n_features).

        Raises
        ------
        ValueError
            For rows of another shape, or that are not finite.
        RuntimeError
            Outside of the ``with`` block.
        """
        X = np.asarray(plain(rows))
        p, d = self._coder.components.shape
        if X.ndim != 2 or X.shape[1] != d or not len(X):
            raise ValueError(f"Rows must have shape (n_samples, {d}), got {X.shape}.")
        X = np.ascontiguousarray(X, computed_dtype(X.dtype))
        check_finite(X, 0)
        check_magnitude(X)
        with self._lock:
            if self._open is None:
                raise RuntimeError("Use it within `with estimator.coder() as encode:`.")
            kernels, intercept, encode = self._opened(X.dtype)
            codes = [
                Codes(*map(kernels.to_numpy, part), p)
                for part in encode(kernels.asarray(X - intercept))
            ]
        return codes[0] if len(codes) == 1 else Codes.stack(codes)

    def _opened(self, dtype):
        """Kernels, intercept and encoder for rows of this dtype; opened at its first rows."""
        if dtype not in self._open:
            coder = self._coder.astype(dtype)
            kernels = self._stack.enter_context(open_kernels(self._device, dtype))
            # All calls together have many rows: a Gram matrix pays.
            self._open[dtype] = kernels, coder.intercept, coder.open(kernels, MANY_ROWS)
        return self._open[dtype]
