"""From a source of rows to centred and scaled batches on a device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..coding.checks import check_energy
from ..coding.kernels.loops import add_moments


@dataclass(frozen=True)
class Moments:
    """Number, mean and energy of rows."""

    n_rows: int
    mean: np.ndarray
    energy: float
    """Sum of squared distances from the mean."""

    @classmethod
    def of(cls, chunks) -> Moments:
        """In one pass over arrays of rows, in float64.

        Rows are taken relative to the first one: sums of squares then keep their digits
        when the mean is large, and constant data have no energy at all.
        """
        n, first, energy = 0, None, 0.0
        for X in chunks:
            if first is None:
                first, total = X[0].astype(np.float64), np.zeros(X.shape[1])
            energy += add_moments(X, first, total)
            n += len(X)
        if energy or total.any():
            check_energy(energy)
        offset = total / n
        return cls(n, first + offset, max(0.0, energy - n * float(offset @ offset)))

    @classmethod
    def merged(cls, parts: list[Moments]) -> Moments:
        """Of all rows together."""
        if len(parts) == 1:
            return parts[0]
        n = sum(part.n_rows for part in parts)
        mean = sum(part.n_rows * part.mean for part in parts) / n
        return cls(n, mean, sum(part.energy_around(mean) for part in parts))

    def energy_around(self, center: np.ndarray) -> float:
        """Sum of squared distances from `center`."""
        offset = self.mean - center
        return self.energy + self.n_rows * float(offset @ offset)


class Batches:
    """Shuffled batches of (X - center) / scale.

    Parameters
    ----------
    source : see sklearn_mpsae.sources
        This rank's rows.
    center : ndarray of shape (n_features,)
    scale : float
    rows_of_ranks : list of int
    batch_size : int
        The largest batch of all ranks together. An epoch is cut in batches of even size,
        as many on each rank, whatever its number of rows.
    """

    def __init__(self, source, center, scale, rows_of_ranks, batch_size):
        self.source = source
        self.center = np.asarray(center, dtype=source.dtype)
        self.scale = source.dtype.type(scale)
        self.n_rows = sum(rows_of_ranks)
        self.per_epoch = -(-self.n_rows // batch_size)
        fewest = min(rows_of_ranks)
        if fewest < self.per_epoch:
            raise ValueError(
                f"Rank {rows_of_ranks.index(fewest)} has {fewest} rows, fewer than the "
                f"{self.per_epoch} steps of an epoch: give it more rows, or raise batch_size."
            )

    def epoch(self, random_state, kernels, skip=0):
        """One pass over the rows in a new order, but for the first `skip` batches."""
        few, more = divmod(self.source.n_rows, self.per_epoch)
        sizes = [few + (i < more) for i in range(self.per_epoch)]
        pools = self.source.pools(random_state, sum(sizes[:skip]))
        if not self.source.in_memory:
            pools = ahead(pools)
        for batch in self._cut(pools, sizes[skip:]):
            batch -= self.center
            batch /= self.scale
            yield kernels.asarray(batch)

    def _cut(self, pools, sizes):
        """Batches of these sizes from the rows of one pool after the other."""
        pools, order, take = iter(pools), (), None
        for size in sizes:
            parts = [np.empty((0, self.source.n_features), self.source.dtype)]
            while size:
                if not len(order):
                    order, take = next(pools)
                parts.append(take(order[:size]))
                size -= len(parts[-1])
                order = order[len(parts[-1]) :]
            yield parts[1] if len(parts) == 2 else np.concatenate(parts)


def ahead(items):
    """The items, each made in a thread of its own while the one before is in use."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item
