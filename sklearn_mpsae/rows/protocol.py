"""What is asked of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np


class Rows(Protocol):
    """Rows of one call of an estimator. Each pass over them gives the same ones.

    The order of calls: `computed_in`, if at all, comes first. Then `survey` or `chunks` is
    gone through to its end. After that `n_rows` is known, and `pools` may be called.
    """

    n_features: int
    dtype: np.dtype
    """float32 or float64: that of all arrays of rows."""
    n_rows: int | None
    """None for a stream that has not been gone through yet, and does not tell its length."""
    in_memory: bool
    """Whether reading takes no time, so that nothing is gained by reading ahead."""
    one_pass: bool
    """Whether rows can be gone through once only; `survey` does not count."""
    on_read: Callable[[int], None] | None
    """If set, called with the number of rows each time that some were read, of a stream or of
    files in `survey` and `chunks`; by any thread."""
    order: str
    """How rows are shuffled, in words; another order needs other words: checkpoints compare."""

    def computed_in(self, dtype: Any) -> Rows:
        """The same rows in another dtype. Use the result, and no longer this object."""

    def survey(self) -> Iterator[np.ndarray]:
        """The rows that the data's mean and scale are taken from, as `chunks` gives them.

        All of them; of a stream of known length, the first ones.
        """

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows in order, at most some thousand at a time: arrays (n, d), finite, new."""

    def pools(
        self, random_state: np.random.RandomState, skip: int = 0
    ) -> Iterator[tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]]:
        """All rows in a random order, but for the first `skip` of that order.

        Yields pairs: the order of the rows of a pool, (n,) int; and a function that takes a
        part of that order and gives a new array of these rows.
        """


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
