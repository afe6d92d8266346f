"""bfloat16: the upper half of a float32, stored as uint16."""

from __future__ import annotations

import numba
import numpy as np
from numba.extending import overload, register_jitable

from ..compiled import jit


def real(x):
    """The number that an entry stands for: a uint16 is a bfloat16."""
    return _expanded(x) if isinstance(x, np.uint16) else x


@register_jitable(inline="always")
def _expanded(x):
    return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)


@overload(real, inline="always")
def _overload_real(x):
    return _expanded if isinstance(x, numba.types.Integer) else lambda x: x


@jit
def round_rows(A, out):
    """Round A to bfloat16, to nearest, ties to even.

    A : (n, d) float32 or float64
    out : (n, d) uint16, written
    """
    for r in range(A.shape[0]):
        for j in range(A.shape[1]):
            bits = np.float32(A[r, j]).view(np.uint32)
            half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            out[r, j] = np.uint16((bits + half) >> np.uint32(16))


@jit
def expand_rows(A, out):
    """Write bfloat16 numbers as float32.

    A : (n, d) uint16
    out : (n, d) float32, written
    """
    for r in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[r, j] = real(A[r, j])
