"""Rows that come in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import numpy as np

from .._compat import feature_names
from .._warn import warn
from ..coding.checks import check_count
from ..coding.inputs import computed_dtype
from .batches import OF_LISTS, has_length, opened, rows_of
from .protocol import NoArray
from .sizes import check_finite, chunk_rows, least_rows, pool_rows

# After so many rows of a stream that may never end, and ten times as many again, a warning
# says that it has not ended yet.
_TOLD_FROM = 1_000_000


class BatchStream(NoArray):
    """Rows that come in batches: from a DataLoader, a generator, a network.

    An estimator's `fit`, `partial_fit`, `transform`, `encode` and `score` take it in the
    place of X. How the rows are batched does not matter to the training, which makes
    batches of its own `batch_size`.

    Parameters
    ----------
    batches : iterable, or function that returns one
        Gives batches, as below. Each pass over the data goes through it anew, so a
        `torch.utils.data.DataLoader` or `Dataset` will do, and a list, and a function that
        makes a generator.
    n_samples : int, default=None
        The number of rows of one pass; a stream that has more, or never ends, is left
        there, and the rest of its batch is dropped. The mean and the scale of the data are
        then taken from the first rows (256 MB of them), and a `fit` with ``max_iter=1``
        reads the stream once. None: the rows are counted, and their mean and scale taken,
        in a pass before the training. An iterable without a length, or a function, may never
        end: then a warning says so after 1,000,000 rows, and each time they are ten times as
        many.
    shuffle : bool, default=True
        Whether to shuffle rows within buffers of 256 MB.

    Notes
    -----
    A batch is one of these, of any number of rows:

    - an array, a data frame, a sparse matrix or a tensor of shape (n, n_features), or a
      single row of shape (n_features,);
    - a list of rows, each of shape (n_features,) or (1, n_features);
    - a list or tuple of numbers, which is one row;
    - a tuple (X, y, ...) of which X, one of the above, is taken. So is the X of the lists
      [X, y, ...] into which a `DataLoader` turns tuples: where X has two dimensions, and
      nothing else in the list has its number of features.

    What cannot be told from something else is refused. A list of columns looks like a list of
    rows, and is taken for one; that of a `DataLoader` whose `Dataset` has lists for its rows
    is refused.

    Names of columns are those of the first batch, where it is a data frame; frames with other
    columns, or in another order, are refused.

    Batches without rows are left out. Rows are copied before the next batch is asked for: it
    may come in the same memory. The first batch with rows says whether the stream is computed
    in float32 or float64, as an array of its dtype would be.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.sources import BatchStream
    >>> def activations():
    ...     rng = np.random.default_rng(0)
    ...     while True:
    ...         yield rng.random((100, 8), dtype=np.float32)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=1, random_state=0)
    >>> sae.fit(BatchStream(activations, n_samples=1000)).n_samples_seen_
    1000
    """

    _instead = "np.concatenate(list(itertools.islice(batches, 10))), say"

    def __init__(
        self,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        n_samples: int | None = None,
        *,
        shuffle: bool = True,
    ) -> None:
        if n_samples is not None:
            check_count(n_samples, "n_samples")
        self.batches = batches
        self.n_samples = n_samples
        self.shuffle = shuffle

    @property
    def _one_pass(self) -> bool:
        """Whether the batches can be gone through only once."""
        return hasattr(self.batches, "__next__")

    @property
    def _ends(self) -> bool:
        """Whether the batches have a length, so that they end."""
        return has_length(self.batches)

    def _buffer_of(self, most, least, n_rows):
        """How many rows to shuffle together, at most and at least; of all, None if unknown."""
        return most


class StreamRows:
    """The rows of a `BatchStream`, for one call of an estimator."""

    in_memory = False
    on_read: Callable[[int], None] | None = None

    def __init__(self, stream: BatchStream) -> None:
        self.batches, self.shuffle = stream.batches, stream.shuffle
        self.n_samples = self.n_rows = stream.n_samples
        self.one_pass, self._buffer_of = stream._one_pass, stream._buffer_of
        self._ends = stream._ends
        if self.one_pass and self.n_rows is None:
            raise ValueError(
                "batches is an iterator, which can be gone through only once: pass its "
                "n_samples, or something that starts anew (a list, a DataLoader, a function "
                "that returns an iterator)."
            )
        self.n_features = self.dtype = None
        # An empty frame with the names of the columns, where batches have them.
        self.named = None
        self.of_lists = False
        self._rest = self._batches()
        first = next(self._rest, None)
        if first is None:
            raise _no_rows()
        # What has been read ahead: it comes first when the rows are gone through.
        self._ahead = [first.copy()]

    def computed_in(self, dtype):
        """Itself, computed in another dtype."""
        self.dtype = np.dtype(dtype)
        self._ahead = [self._converted(first, 0) for first in self._ahead]
        return self

    def survey(self):
        if self.n_rows is None:
            # Gathered, so that the sums are the same to the last bit for batches of any size.
            return self.chunks()
        least = least_rows(self)
        wanted = min(self.n_rows, pool_rows(self), max(self._buffer(), least))
        self._ahead = list(self._gathered(self._until(wanted), chunk_rows(self)))
        return self._cut(self._ahead, wanted)

    def _until(self, n_rows):
        """Batches from the start of the stream until there are so many rows."""
        n = 0
        for batch in chain(self._ahead, self._rest):
            n += len(batch)
            yield batch
            if n >= n_rows:
                return

    def chunks(self):
        """The rows in order, some thousand at a time.

        Yields
        ------
        rows : ndarray of shape (n, n_features)
            New arrays, found to be finite.
        """
        return self._gathered(self._pass(), chunk_rows(self))

    def pools(self, random_state, skip=0):
        seed = random_state.randint(2**31 - 1)
        for i, rows in enumerate(self._gathered(self._pass(), self._buffer())):
            if skip < len(rows):
                order = np.arange(len(rows))
                if self.shuffle:
                    order = np.random.RandomState([seed, i]).permutation(len(rows))
                yield order[skip:], rows.__getitem__
            skip = max(0, skip - len(rows))

    @property
    def order(self):
        """In which order rows are learnt from, in words."""
        shuffled = f", shuffled in buffers of {self._buffer()} rows" if self.shuffle else ""
        return "as they come" + shuffled

    def _buffer(self):
        """How many rows are shuffled together."""
        return self._buffer_of(pool_rows(self), least_rows(self), self.n_rows)

    def _pass(self):
        """All batches, those first that have been read already."""
        ahead, rest = self._ahead, self._rest
        self._ahead, self._rest = [], None
        return self._cut(chain(ahead, rest or self._batches()), self.n_rows)

    def _cut(self, batches, n_rows):
        """The first `n_rows` rows, and no fewer; all there are for None, and at least one."""
        at, batches, told = 0, iter(batches), _TOLD_FROM
        for batch in batches:
            counted = n_rows is not None and self.n_samples is None
            if counted and at + len(batch) >= n_rows:
                # A copy, as what is asked for next may be in the same memory.
                batch = batch.copy()
                if at + len(batch) > n_rows or next(batches, None) is not None:
                    raise ValueError(
                        f"The stream has more than the {n_rows} rows of the pass before: let "
                        "batches give the same rows at each pass, or pass n_samples."
                    )
            batch = batch[: None if n_rows is None else n_rows - at]
            yield batch
            at += len(batch)
            if at == n_rows:
                return
            if n_rows is None and at >= told and not self._ends:
                told *= 10
                warn(
                    f"{at} rows of the stream have been read, and nothing says where it ends. "
                    "If it never does, interrupt this call, and pass n_samples.",
                    UserWarning,
                )
        if self.n_samples is not None:
            raise ValueError(
                f"The stream ended after {at} rows of the n_samples={self.n_samples} it was "
                "to have: pass the number it has, or let batches start anew at each pass."
            )
        if not at:
            raise _no_rows()
        if n_rows is None:
            self.n_rows = at  # which later passes are held to
        else:
            raise ValueError(
                f"The stream ended after {at} rows, and had {n_rows} in the pass before: let "
                "batches start anew at each pass."
            )

    def _batches(self):
        """Batches of finite rows from the start of the stream, none of them empty.

        They may share memory with what the stream gives next.
        """
        at = 0
        items, collated = opened(self.batches)
        for item in items:
            rows = rows_of(item, at, collated)
            if not len(rows):
                continue
            self._check_names(item, at)
            if self.n_features is None:
                self.n_features, self.dtype = rows.shape[1], computed_dtype(rows.dtype)
                self.of_lists = isinstance(item, list)
            if rows.shape[1] != self.n_features:
                hint = OF_LISTS if isinstance(item, list) else ""
                raise ValueError(
                    f"The batch at row {at} of the stream has {rows.shape[1]} features, the "
                    f"first one had {self.n_features}.{hint}"
                )
            yield self._converted(rows, at)
            at += len(rows)

    def _check_names(self, item, at):
        """Note the names of a frame's columns, or compare them with the first one's."""
        while isinstance(item, list | tuple) and len(item):
            item = item[0]
        names = feature_names(item)
        if names is None:
            return
        if self.named is None:
            self.named = item[:0]
        elif list(names) != (first := list(feature_names(self.named))):
            raise ValueError(
                f"The frame at row {at} of the stream has the columns {list(names)}, the first "
                f"one had {first}: give each the same columns in the same order."
            )

    def _converted(self, rows, at):
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, self.dtype)
        check_finite(rows, at)
        return rows

    def _gathered(self, batches, n_rows):
        """Copies of the rows, `n_rows` at a time; those before an error come before it."""
        n_rows = min(n_rows, self.n_rows or n_rows)
        out, n, error = None, 0, None
        try:
            for batch in batches:
                if self.on_read is not None:
                    self.on_read(len(batch))
                while len(batch):
                    if out is None:
                        out = np.empty((n_rows, self.n_features), self.dtype)
                    part = batch[: n_rows - n]
                    out[n : n + len(part)] = part
                    batch, n = batch[len(part) :], n + len(part)
                    if n == n_rows:
                        yield out
                        out, n = None, 0
        except Exception as caught:
            error = caught
        if n:
            yield out[:n]
        if error is not None:
            raise error


def _no_rows():
    return ValueError(
        "batches gives no rows: it is empty, has empty batches only, or was gone through "
        "before (a function must make a new iterator each time)."
    )
