"""How much memory a pursuit may take beyond its rows and codes, and codes beyond theirs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .memory import memory_limit

# No more than a share of what the process may have.
_LIMIT = memory_limit() or 1 << 40

# A Gram matrix beyond this is not formed, whatever it would save.
GRAM_BYTES = min(2 << 30, _LIMIT // 4)

# That of an orthogonal pursuit may be larger: without it, there are products with the whole
# dictionary at each step, and no way between.
ORTHOGONAL_BYTES = min(8 << 30, _LIMIT // 2)

# What a thread of an orthogonal pursuit without one has for its rows.
SPAN_BYTES = 1 << 26

# Rows of a Gram matrix that are multiplied on demand, and the correlations of the rows of
# X that wait for them.
DEMAND_BYTES = min(1 << 30, _LIMIT // 8)
WAITING_BYTES = 1 << 28

# What rows on a device need at a time: large enough to fill it.
CHUNK_BYTES = 1 << 28

# The outputs of an encoder for a batch of the default size, which some encoders keep.
OUTPUT_BYTES = min(1 << 30, _LIMIT // 16)

# So many slots of codes may be empty whatever the number of codes.
_FREE_SLOTS = 1 << 16


def even_parts(counts: np.ndarray) -> Iterator[slice]:
    """Slices of rows with so many codes, whose arrays are at most about half empty.

    All rows of a part get as many slots as the one with the most codes.
    """
    if len(counts) * int(counts.max(initial=0)) <= 2 * int(counts.sum()) + _FREE_SLOTS:
        yield slice(0, len(counts))
        return
    start, widest, total = 0, 0, 0
    for row, count in enumerate(counts.tolist()):
        widest, total = max(widest, count), total + count
        if (row + 1 - start) * widest > 2 * total + _FREE_SLOTS and row > start:
            yield slice(start, row)
            start, widest, total = row, count, count
    yield slice(start, len(counts))
