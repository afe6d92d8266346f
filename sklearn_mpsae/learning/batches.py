"""From a source of rows to batches in a training's coordinates, on a device."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np


class Batches:
    """Shuffled batches of rows, in the coordinates of a frame.

    Parameters
    ----------
    source : rows.protocol.Rows
        This rank's rows.
    frame : learning.frame.Frame
    rows_of_ranks : list of int
    batch_size : int
        The largest batch of all ranks together. An epoch is cut in batches of even size,
        as many on each rank, whatever its number of rows.
    """

    def __init__(self, source, frame, rows_of_ranks, batch_size):
        self.source = source
        self.frame = frame
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
        coordinates = self.frame.opened(kernels, self.source.dtype)
        for batch in self._cut(pools, sizes[skip:]):
            yield coordinates(batch)

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
