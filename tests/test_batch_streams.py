"""Rows that come in batches, whatever these are."""

import itertools
import threading
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from some_rows import (  # noqa: F401 - fixtures
    batches_of,
    fitted,
    loader,
    nested_tensor,
    order_of,
    pools_of_200_rows,
    some_rows,
)

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.rows.stream import StreamRows
from sklearn_mpsae.sources import BatchStream

STREAMS = {
    "a list": lambda X: batches_of(X),
    "a function": lambda X: lambda: iter(batches_of(X)),
    "single rows": lambda X: list(X),
    "sparse batches": lambda X: [sparse.csr_array(part) for part in batches_of(X)],
    "a DataLoader": lambda X: torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(X)), batch_size=130
    ),
    "a Dataset": lambda X: torch.utils.data.TensorDataset(torch.from_numpy(X)),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_learnt_from_whatever_its_batches_are(kind, X):
    """Its mean and scale are those of the rows, their order its own."""
    expected = fitted(BatchStream(batches_of(X, 350)), intercept="mean")
    est = fitted(BatchStream(STREAMS[kind](X)), intercept="mean")
    np.testing.assert_array_equal(est.components_, expected.components_)
    np.testing.assert_allclose(est.intercept_, X.mean(axis=0), rtol=1e-6)
    assert est.n_samples_seen_ == 700
    codes = est.transform(BatchStream(STREAMS[kind](X)))
    np.testing.assert_array_equal(codes, est.transform(X))
    assert est.score(BatchStream(STREAMS[kind](X))) == est.score(X)


def test_an_iterator_is_gone_through_once(X):
    read = []

    def rows():
        for part in batches_of(X):
            read.append(len(part))
            yield part

    fitted(BatchStream(rows(), n_samples=700), max_iter=1)
    assert sum(read) == 700
    with pytest.raises(ValueError, match="max_iter=1"):
        fitted(BatchStream(iter(batches_of(X)), n_samples=700))
    with pytest.raises(ValueError, match="n_samples"):
        fitted(BatchStream(iter(batches_of(X))), max_iter=1)


def test_a_stream_that_never_ends_is_left_after_n_samples(X):
    endless = BatchStream(lambda: itertools.cycle(batches_of(X)), n_samples=700)
    np.testing.assert_array_equal(
        fitted(endless).components_,
        fitted(BatchStream(batches_of(X), n_samples=700)).components_,
    )


@pytest.mark.parametrize(
    ("make", "warned"),
    [
        (lambda batches: BatchStream(lambda: iter(batches)), True),
        (lambda batches: BatchStream(batches), False),
        (lambda batches: BatchStream(lambda: iter(batches), n_samples=700), False),
    ],
    ids=["a function", "a list", "n_samples"],
)
def test_a_stream_that_may_never_end_says_so(make, warned, X, monkeypatch):
    """Once: the next time is after ten times as many rows."""
    if warned:
        monkeypatch.setattr("sklearn_mpsae.rows.stream._TOLD_FROM", 300)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(make(batches_of(X, 100)), max_iter=1)
    told = [str(w.message) for w in caught if "where it ends" in str(w.message)]
    assert len(told) == warned
    assert all("300 rows" in each and "pass n_samples" in each for each in told)


def test_a_loader_of_rows_without_a_length_may_never_end(X):
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(X)

    data = torch.utils.data
    assert not BatchStream(data.DataLoader(Endless()))._ends
    assert BatchStream(data.DataLoader(data.TensorDataset(torch.from_numpy(X))))._ends


def test_a_stream_that_ends_early_says_where(X):
    with pytest.raises(ValueError, match="ended after 700 rows of the n_samples=800"):
        fitted(BatchStream(batches_of(X), n_samples=800))


def test_without_shuffle_rows_come_in_their_order(X, monkeypatch):
    stream = StreamRows(BatchStream(batches_of(X), n_samples=700, shuffle=False))
    np.testing.assert_array_equal(order_of(stream), X[:, 0])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "gives no rows"),
        ([np.zeros((3, 4)), np.zeros((3, 5))], "5 features, the first one had 4"),
        ([np.zeros((3, 4, 5))], "rows of shape"),
        ([np.array([["a", "b"]])], "it must give numbers"),
        ([np.ones((3, 4)), np.full((3, 4), np.nan)], "Row 3 of X contains NaN"),
    ],
)
def test_bad_streams(batches, message):
    with pytest.raises(ValueError, match=message):
        fitted(BatchStream(batches))


class Pair(NamedTuple):
    x: np.ndarray
    label: str


class DatasetOf(torch.utils.data.Dataset):
    """Knows its length, but gives a row for any number."""

    def __init__(self, X, row):
        self.X, self.row = X, row

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.row(self.X[i % len(self.X)])


# What makes batches of float32 rows, by name. All have the same rows.
BATCHES = {
    "lists of arrays": lambda X: [list(X)],
    "lists of tensors": lambda X: [list(torch.from_numpy(X))],
    "lists of tensors that require a gradient": lambda X: [
        [torch.from_numpy(x).requires_grad_() for x in X]
    ],
    "lists of one-row arrays": lambda X: [list(X[:, None])],
    "lists of one-row frames": lambda X: [[pd.DataFrame(x[None]) for x in X]],
    "lists of series": lambda X: [[pd.Series(x) for x in X]],
    "lists of (row,)": lambda X: [[(x,) for x in X]],
    "lists of (row, label)": lambda X: [[(x, "label") for x in X]],
    "frames": lambda X: [pd.DataFrame(X)],
    "frames of nullable floats": lambda X: [pd.DataFrame(X).astype("Float32")],
    "polars frames": lambda X: [pl.DataFrame(X)],
    "polars series": lambda X: map_again(pl.Series, X),
    "COO": lambda X: [sparse.coo_array(X)],
    "rows of CSR": lambda X: sparse.csr_array(X),
    "(X, y)": lambda X: [(X, np.zeros(len(X)))],
    "(X,)": lambda X: [(X,)],
    "((X, mask), y)": lambda X: [((X, X > 0), 1)],
    "(list of rows, labels)": lambda X: [(list(X), ["label"] * len(X))],
    "named (row, label)": lambda X: [Pair(x, "label") for x in X],
    "[X, y]": lambda X: [[X, np.zeros(len(X))]],
    "a DataLoader of X": loader,
    "a DataLoader of X and X": lambda X: loader(X, X),
    "a DataLoader of X and X, one by one": lambda X: loader(X, X, batch_size=1),
    "a DataLoader that makes lists": lambda X: loader(X, collate_fn=list),
    "a DataLoader that makes no batches": lambda X: loader(X, batch_size=None),
    "a DataLoader in a generator": lambda X: lambda: (b for b in loader(X, X[:, 0])),
    "a Dataset that does not know its end": lambda X: DatasetOf(X, lambda x: x),
    "empty batches between": lambda X: [X[:0], [], np.empty(0), X[:9], (), X[:0], X[9:], []],
}


# The same of plain numbers, which are computed in float64.
NUMBERS = {
    "lists of lists": lambda X: [X.tolist()],
    "lists of tuples": lambda X: [list(map(tuple, X.tolist()))],
    "single lists": lambda X: X.tolist(),
    "single tuples": lambda X: list(map(tuple, X.tolist())),
    "objects": lambda X: [X.astype(object)],
    "integers that may be missing": lambda X: [pd.DataFrame(X).astype("Int16")],
}


def map_again(function, X):
    return lambda: map(function, X)


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_is_whatever_rows_are_in(kind, X):
    stream = StreamRows(BatchStream(BATCHES[kind](X[:20])))
    assert stream.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(list(stream.chunks())), X[:20])


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_batch_may_be_of_plain_numbers(kind, X):
    rows = np.round(9 * X[:20])
    stream = StreamRows(BatchStream(NUMBERS[kind](rows)))
    assert stream.dtype == np.float64
    np.testing.assert_array_equal(np.concatenate(list(stream.chunks())), rows)


def test_half_floats_of_a_stream_are_computed_in_float32(X):
    for batch in (X.astype(np.float16), list(torch.from_numpy(X).bfloat16())):
        assert StreamRows(BatchStream([batch])).dtype == np.float32


def test_the_dictionary_does_not_depend_on_the_batches(X):
    """To the last bit, also where the mean is far from what float64 holds exactly."""
    X = X.astype(np.float64) + 0.1
    expected = fitted(X, intercept="mean")
    for given in (list(X), [X], batches_of(X, 50), [X.tolist()]):
        for n_samples in (None, 700):
            est = fitted(BatchStream(given, n_samples, shuffle=False), intercept="mean")
            np.testing.assert_array_equal(est.intercept_, expected.intercept_)
            assert est._learnt.training.frame.scale == expected._learnt.training.frame.scale


REUSED = {
    "array": lambda X: (np.empty_like(X), lambda x: x),
    "tensor": lambda X: (np.empty_like(X), torch.from_numpy),
    "frame": lambda X: (np.empty_like(X), lambda x: pd.DataFrame(x, copy=False)),
    "rows of a list": lambda X: (np.empty_like(X), list),
    "transposed": lambda X: (np.empty_like(X), lambda x: np.asfortranarray(x)),
}


@pytest.mark.parametrize("n_samples", [None, 100])
@pytest.mark.parametrize("size", [1, 50])
@pytest.mark.parametrize("kind", [*REUSED, "CSR"])
def test_the_memory_of_a_batch_may_be_used_for_the_next(kind, size, n_samples, X):
    X = X[:100]

    def reader():
        if kind == "CSR":
            csr = sparse.csr_array(np.ones((size, 12), np.float32))
        else:
            buffer, wrapped = REUSED[kind](X[:size])
        for start in range(0, len(X), size):
            if kind == "CSR":
                csr.data[:] = X[start : start + size].ravel()
                yield csr
            else:
                buffer[:] = X[start : start + size]
                yield wrapped(buffer)

    reused, kept = BatchStream(reader, n_samples), BatchStream([X], n_samples)
    est = fitted(reused)
    np.testing.assert_array_equal(est.components_, fitted(kept).components_)
    np.testing.assert_array_equal(est.transform(reused), est.transform(X))


def test_single_rows_take_a_list_of_thousands_not_of_one(X):
    """Else what is read ahead is counted row by row, for each row."""
    stream = StreamRows(BatchStream(list(X), n_samples=700))
    assert sum(map(len, stream.survey())) == 700
    assert len(stream._ahead) == 1


def test_no_more_than_a_pool_is_read_ahead(small_pools, X):
    read = []

    def rows():
        for x in X:
            read.append(x)
            yield x

    stream = StreamRows(BatchStream(rows, n_samples=700))
    assert sum(map(len, stream.survey())) == len(read) == 200
    np.testing.assert_array_equal(np.concatenate(list(stream.chunks())), X)
    assert len(read) == 700


def test_the_first_batch_says_what_is_computed_in(X):
    def stream():
        return BatchStream([X[:5], X[5:].astype(np.float64)])

    assert fitted(stream()).components_.dtype == np.float32
    with pytest.raises(ValueError, match="Row 5 of X contains NaN or infinity in float32"):
        fitted(BatchStream([X[:5], np.full((1, 12), 1e300)]))
    est = MPSparseAutoencoder(8, random_state=0).partial_fit(X.astype(np.float64))
    assert est.partial_fit(stream()).components_.dtype == np.float64


NO_BATCHES = {
    "a dict": ([{"x": np.ones((3, 4))}], r"a dict with the keys \['x'\]"),
    "None": ([np.ones((3, 4)), None], "at row 3, no batch: it is None"),
    "text": (["abc"], "it is 'abc'"),
    "a number": ([1.0], "shape ()"),
    "three dimensions": ([np.ones((1, 3, 4))], "rows of shape"),
    "no features": ([np.ones((3, 0))], r"shape \(3, 0\)"),
    "a ragged list": ([[[1, 2], [1]]], r"first has shape \(2,\), and row 1 has \(1,\)"),
    "a list of rows and text": ([[np.ones(3), "abc"]], "it is 'abc'"),
    "batches in a list": ([[np.ones((3, 4))] * 2], "a list of 2 batches"),
    "batches in a list of other lengths": (
        [[np.ones((3, 4)), np.ones((2, 4))]],
        "a list of 2 batches",
    ),
    "rows in a tuple": ([tuple(np.ones((3, 4)))], "a tuple of 3 rows"),
    "masked": ([np.ma.masked_equal([[1, 2]], 1)], "masked values.*Missing pixels"),
    "a sparse tensor": ([torch.eye(3).to_sparse()], "to_dense"),
    "complex": ([np.ones((3, 4)) * 1j], "complex"),
    "a generator": ([(x for x in "ab")], "it is a generator, not numbers"),
    "numbered batches": (lambda: enumerate([np.ones((3, 4))]), "begins with a number"),
    "numbered rows": (lambda: pd.DataFrame(np.ones((3, 4))).iterrows(), "begins with a number"),
    "a column of lists": ([pd.Series([[1.0, 2.0]] * 3)], r"it has lists .*np\.stack"),
    "a structured array": ([np.zeros(3, [("a", float)])], "structured_to_unstructured"),
    "a nested tensor": ([nested_tensor()], "nested tensor"),
    "columns of a Dataset of lists": (
        torch.utils.data.DataLoader(DatasetOf(np.eye(4), lambda x: x.tolist()), batch_size=4),
        "made columns of the rows",
    ),
    "columns of a Dataset of numbers": (
        torch.utils.data.DataLoader(DatasetOf(np.eye(4), lambda x: x[0]), batch_size=4),
        "made columns of the rows",
    ),
    "dicts of a DataLoader": (
        torch.utils.data.DataLoader(DatasetOf(np.eye(4), lambda x: {"x": x}), batch_size=4),
        "a dict with the keys",
    ),
    "columns of other lengths": ([list(np.ones((3, 4))), list(np.ones((3, 5)))], "np.stack"),
    "a frame": (pd.DataFrame(np.ones((3, 4))), "in the place of X"),
    "a single dict": ({"x": np.ones((3, 4))}, "in the place of X"),
    "no iterable": (5, "must be an iterable of batches"),
    "a function that returns nothing": (lambda: None, "must be an iterable of batches"),
}


@pytest.mark.parametrize("kind", NO_BATCHES)
def test_what_is_no_batch_is_refused(kind):
    batches, message = NO_BATCHES[kind]
    est = MPSparseAutoencoder(4, max_iter=1)
    with pytest.raises(ValueError, match=message):
        est.fit(BatchStream(batches))
    assert not hasattr(est, "n_features_in_")


FRAMES = {"pandas": pd.DataFrame, "polars": lambda X, columns: pl.DataFrame(X, list(columns))}


@pytest.mark.parametrize("library", FRAMES)
def test_columns_of_a_streams_frames_are_told_apart(library, X):
    """A stream of frames is checked as a frame is."""

    def frame(X, names="abcdefghijkl"):
        return FRAMES[library](X, columns=list(names))

    others = [frame(X, "bacdefghijkl"), frame(X, "zbcdefghijkl")]
    est = fitted(BatchStream([(frame(X[:300]), 0), X[300:305].tolist(), frame(X[305:])]))
    assert list(est.feature_names_in_) == list("abcdefghijkl")
    for other in others:
        with pytest.raises(ValueError, match=r"row 700 of the stream has the columns \["):
            fitted(BatchStream([frame(X), other]))
        for door in ("transform", "score", "partial_fit"):
            with pytest.raises(ValueError, match="feature names should match"):
                getattr(est, door)(BatchStream([other]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = est.transform(BatchStream([frame(X)]))
    np.testing.assert_array_equal(codes, est.transform(frame(X)))


def test_columns_in_the_place_of_rows_are_hinted_at(X):
    with pytest.raises(ValueError, match=r"expecting 12 features as input\. A list is"):
        fitted(X).transform(BatchStream([list(X[:5].T)]))


def test_a_stream_that_was_gone_through_says_so(X):
    stream = BatchStream(iter([X]), n_samples=700)
    est = fitted(stream, max_iter=1)
    with pytest.raises(ValueError, match="gone through before"):
        est.transform(stream)
    once = iter([X])
    with pytest.raises(ValueError, match="gone through before"):
        fitted(BatchStream(lambda: once))
    fewer = iter([[X], [X[:300]]])
    with pytest.raises(ValueError, match="after 300 rows, and had 700 in the pass before"):
        fitted(BatchStream(lambda: next(fewer)))


def test_errors_of_a_users_generator_pass_and_leave_all_as_it_was(X):
    def broken():
        yield X[:300]
        raise OSError("the network")

    est = fitted(X)
    before, threads = vars(est).copy(), threading.active_count()
    for call in (est.fit, est.partial_fit, est.transform, est.score):
        for n_samples in (None, 500):
            with pytest.raises(OSError, match="the network"):
                call(BatchStream(broken, n_samples))
    assert vars(est) == before
    assert threading.active_count() == threads


@pytest.mark.parametrize("more", [1, 20])
@pytest.mark.parametrize("doors", [("fit", 3), ("score", 1)], ids=lambda door: door[0])
def test_a_stream_that_grows_between_passes_is_refused(X, more, doors):
    """Whole batches more, or more rows in the last one."""
    verb, n_passes = doors
    given = []

    def growing():
        given.append(1)
        yield X[:20]
        yield X[20:30] if len(given) < 2 else X[20 : 30 + more]

    sae = MPSparseAutoencoder(8, max_iter=n_passes, random_state=0)
    if verb == "score":
        sae.fit(X)
    with pytest.raises(ValueError, match="more than the 30 rows of the pass before"):
        getattr(sae, verb)(BatchStream(growing))


def test_a_stream_with_a_batch_more_in_a_later_pass_is_refused(X):
    given = []

    def growing():
        given.append(1)
        yield from (X[:20], X[20:30], X[30:40])[: 2 + (len(given) > 1)]

    with pytest.raises(ValueError, match="more than the 30 rows of the pass before"):
        MPSparseAutoencoder(8, max_iter=2, random_state=0).fit(BatchStream(growing))
