"""How many rows are read, and shuffled, together; and whether they are finite."""

from __future__ import annotations

import numpy as np

# Rows are shuffled within so many bytes of them. One pool is in use, the next being read.
_POOL_BYTES = 256 << 20

# A stream that is shuffled within less gives its mean and scale from so many bytes still.
_LEAST_BYTES = 16 << 20

# The rows of a pool lie side by side for so many bytes: long enough to read at full speed.
_BLOCK_BYTES = 1 << 20

# Rows are gone through so many at a time.
_CHUNK_ROWS = 8192


def rows_in(n_bytes: int, rows) -> int:
    """How many rows take so many bytes; at least one."""
    return max(1, n_bytes // (rows.n_features * rows.dtype.itemsize))


def pool_rows(rows) -> int:
    """How many rows are shuffled together."""
    return rows_in(_POOL_BYTES, rows)


def least_rows(rows) -> int:
    """How many rows of a stream tell its mean and scale."""
    return rows_in(_LEAST_BYTES, rows)


def block_rows(rows) -> int:
    """How many rows of a pool are neighbours."""
    return rows_in(_BLOCK_BYTES, rows)


def chunk_rows(rows) -> int:
    """How many rows are gone through at a time."""
    return min(_CHUNK_ROWS, pool_rows(rows))


def check_finite(X: np.ndarray, first_row: int) -> None:
    """Raise a ValueError that names the first row with NaN or infinity, if there is one."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Row {first_row + bad[0]} of X contains NaN or infinity in {X.dtype} (the first "
            "such row): remove or correct it."
        )
