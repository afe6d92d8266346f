"""Rows from files and streams: learnt from as the same rows in memory are."""

import itertools
import os
import pickle
import threading
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV
from sklearn_mpsae.coding import load_codes, matching_pursuit, save_codes
from sklearn_mpsae.estimators import _encoder
from sklearn_mpsae.learning import batches
from sklearn_mpsae.learning.batches import Batches, ahead
from sklearn_mpsae.rows import npy, sizes
from sklearn_mpsae.rows.array import ArrayRows
from sklearn_mpsae.rows.moments import Moments
from sklearn_mpsae.rows.stream import StreamRows
from sklearn_mpsae.sources import BatchStream, NpyFiles

OPTIONS = {"n_nonzero_coefs": 3, "max_iter": 2, "batch_size": 64, "random_state": 0}


@pytest.fixture(name="X")
def some_rows(rng):
    return (rng.random((700, 12)) * (rng.random((700, 12)) < 0.4)).astype(np.float32)


@pytest.fixture
def small_pools(monkeypatch):
    """Pools of about 200 rows, in blocks of 10."""
    monkeypatch.setattr(sizes, "_POOL_BYTES", 200 * 12 * 4)
    monkeypatch.setattr(sizes, "_BLOCK_BYTES", 10 * 12 * 4)


@pytest.fixture
def path(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


def fitted(X, **options):
    return MPSparseAutoencoder(20, **OPTIONS | options).fit(X)


def sliced_memmap(X, path):
    """Rows 5 on of a raw file with a header, as a slice of a memmap of it."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"x" * 13 + np.zeros((5, 12), X.dtype).tobytes() + X.tobytes())
    return np.memmap(raw, X.dtype, "r", 13, (len(X) + 5, 12))[5:]


def shards(X, path):
    """Three files, the last one empty but for a row."""
    paths = [path.with_name(f"shard{i}.npy") for i in range(3)]
    for each, part in zip(paths, np.split(X, [300, 699]), strict=True):
        np.save(each, part)
    return NpyFiles(paths)


SOURCES = {
    "npy": lambda X, path: NpyFiles(path),
    "shards": shards,
    "memmap": lambda X, path: np.load(path, mmap_mode="r"),
    "a slice of a memmap": sliced_memmap,
    "a memmap of every other row": lambda X, path: np.load(path, mmap_mode="r")[::2],
    "a private memmap": lambda X, path: np.load(path, mmap_mode="c"),
    "csr": lambda X, path: sparse.csr_array(X),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("pools", ["one pool", "many pools"])
def test_rows_are_learnt_from_as_in_memory(kind, pools, X, path, request):
    if pools == "many pools":
        request.getfixturevalue("small_pools")
    source = SOURCES[kind](X, path)
    X = X[::2] if "every other" in kind else X
    est, other = fitted(X), fitted(source)
    np.testing.assert_array_equal(other.components_, est.components_)
    np.testing.assert_array_equal(other.intercept_, est.intercept_)
    np.testing.assert_array_equal(other.transform(source), est.transform(X))
    assert other.score(source) == est.score(X)
    np.testing.assert_array_equal(
        other.partial_fit(source).components_, est.partial_fit(X).components_
    )


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64", "int16"])
def test_files_of_other_dtypes_are_computed_in_what_holds_their_values(dtype, X, tmp_path):
    rows = (100 * X).astype(dtype)
    np.save(tmp_path / "rows.npy", rows)
    est = fitted(NpyFiles(tmp_path / "rows.npy"))
    computed = "float32" if dtype in ("float16", ">f4") else "float64"
    assert est.components_.dtype == computed
    np.testing.assert_array_equal(est.components_, fitted(rows.astype(computed)).components_)


# What makes of float32 rows those of another library or dtype, and what they are computed in.
DTYPES = {
    "half floats": (lambda X: X.astype(np.float16), np.float32),
    "big-endian": (lambda X: X.astype(">f4"), np.float32),
    "tensor": (torch.from_numpy, np.float32),
    "bfloat16": (lambda X: torch.from_numpy(X).bfloat16(), np.float32),
    "list of arrays": (list, np.float32),
    "list of bfloat16": (lambda X: list(torch.from_numpy(X).bfloat16()), np.float32),
    "list of numbers": (lambda X: X.tolist(), np.float64),
    "CSR": (sparse.csr_array, np.float32),
    "frame of half floats": (lambda X: pd.DataFrame(X).astype(np.float16), np.float32),
    "frame of floats": (pd.DataFrame, np.float32),
    "nullable floats": (lambda X: pd.DataFrame(X).astype("Float32"), np.float32),
    "nullable doubles": (lambda X: pd.DataFrame(X).astype("Float64"), np.float64),
    "nullable integers": (lambda X: pd.DataFrame(X.round()).astype("Int32"), np.float64),
    "floats of two dtypes": (
        lambda X: pd.DataFrame(X).astype({0: "float16", 1: "Float32"}),
        np.float32,
    ),
    "a double among floats": (lambda X: pd.DataFrame(X).astype({0: float}), np.float64),
    "sparse frame": (
        lambda X: pd.DataFrame(X).astype(pd.SparseDtype(np.float32, 0)),
        np.float32,
    ),
    "polars floats": (pl.DataFrame, np.float32),
    "polars doubles": (lambda X: pl.DataFrame(X).cast(pl.Float64), np.float64),
    "integers": (lambda X: (9 * X).astype(np.int8), np.float64),
}


@pytest.mark.parametrize("kind", DTYPES)
def test_one_rule_says_what_rows_are_computed_in(kind, X):
    """In an array, a frame, a tensor, a list, a stream: at every door."""
    make, dtype = DTYPES[kind]
    rows = make(X[:40])
    est = fitted(rows, max_iter=1)
    codes = est.transform(rows)
    assert est.components_.dtype == codes.dtype == est.inverse_transform(codes).dtype == dtype
    assert MPSparseAutoencoder(8).partial_fit(rows).components_.dtype == dtype
    assert fitted(BatchStream([rows]), max_iter=1).components_.dtype == dtype
    assert matching_pursuit(rows, np.eye(12), 2).values.dtype == dtype
    search = MPSparseAutoencoderCV(8, n_nonzero_coefs=1, target_score=0, cv=2, max_iter=1)
    assert search.fit(rows).components_.dtype == dtype


def test_frames_of_half_floats_keep_their_names(X):
    frame = pd.DataFrame(X).add_prefix("x").astype(np.float16)
    est = fitted(frame, max_iter=1).set_output(transform="pandas")
    assert list(est.feature_names_in_) == list(frame.columns)
    assert (est.transform(frame[5:]).index == frame.index[5:]).all()


def order_of(source, seed=0, skip=0):
    pools = source.pools(np.random.RandomState(seed), skip)
    return np.concatenate([take(order)[:, 0] for order, take in pools])


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(small_pools, path):
    np.save(path, np.arange(700 * 12, dtype=np.float32).reshape(700, 12))
    source = NpyFiles(path)
    rng = np.random.RandomState(0)
    first, second = (
        np.concatenate([take(order)[:, 0] for order, take in source.pools(rng)]) for _ in "12"
    )
    assert sorted(first) == sorted(second) == list(np.arange(700) * 12)
    assert (first != second).any()


def test_rows_that_lie_side_by_side_are_mixed_with_far_ones(small_pools, path):
    """A batch of rows sorted by class would else hold one class."""
    np.save(path, np.repeat(np.arange(7), 100 * 12).reshape(700, 12).astype(np.float32))
    order = order_of(NpyFiles(path))
    for batch in np.split(order, 14):
        assert len(np.unique(batch)) >= 4


@pytest.mark.parametrize("skip", [0, 1, 199, 200, 450, 699])
def test_rows_can_be_skipped_without_changing_the_rest(skip, small_pools, X, path):
    for source in (NpyFiles(path), ArrayRows(X)):
        np.testing.assert_array_equal(order_of(source, skip=skip), order_of(source)[skip:])


def test_skipped_pools_are_not_read(small_pools, path):
    source = NpyFiles(path)
    read = []
    source._read_into = lambda out, start: read.append(len(out))
    list(source.pools(np.random.RandomState(0), 450))
    assert sum(read) == 300


def test_batches_cross_pools_and_are_of_even_size(small_pools, path):
    batches = Batches(NpyFiles(path), np.zeros(12), 1.0, [700], 64)

    class Kernels:
        asarray = staticmethod(lambda x: x)

    sizes = [len(b) for b in batches.epoch(np.random.RandomState(0), Kernels)]
    assert sizes == [64] * 7 + [63] * 4


def test_moments_keep_their_digits_far_from_zero(rng):
    X = 1e8 + rng.standard_normal((1000, 5))
    moments = Moments.of(np.split(X, 10))
    centred = X - 1e8
    np.testing.assert_array_equal(moments.mean - 1e8, (1e8 + centred.mean(axis=0)) - 1e8)
    assert moments.energy == pytest.approx(((centred - centred.mean(0)) ** 2).sum(), rel=1e-9)
    assert Moments.of([np.full((50, 3), 0.1)]).energy == 0
    merged = Moments.merged([Moments.of([X[:10]]), Moments.of([X[10:]])])
    assert merged.energy == pytest.approx(moments.energy, rel=1e-9)


# ------------------------------------------------------------------------- streams
def batches_of(X, size=130):
    return np.array_split(X, len(X) // size)


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
    expected = fitted(BatchStream(batches_of(X, 350)))
    est = fitted(BatchStream(STREAMS[kind](X)))
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


def loader(X, *others, **options):
    tensors = [torch.from_numpy(each) for each in (X, *others)]
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*tensors), **{"batch_size": 7} | options
    )


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
    expected = fitted(X)
    for given in (list(X), [X], batches_of(X, 50), [X.tolist()]):
        for n_samples in (None, 700):
            est = fitted(BatchStream(given, n_samples, shuffle=False))
            np.testing.assert_array_equal(est.intercept_, expected.intercept_)
            assert est._learnt.training.scale == expected._learnt.training.scale


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


def nested_tensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype
        return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])


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
    "masked": ([np.ma.masked_equal([[1, 2]], 1)], "masked values"),
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


NO_NUMBERS = {
    "a column of arrays": (pd.Series(list(np.ones((3, 4)))), "np.stack"),
    "a frame of lists": (pl.DataFrame({"a": [[1.0, 2.0]] * 3}), "np.stack"),
    "ragged lists": ([[1.0, 2.0], [1.0]], "differ in length"),
    "a structured array": (np.zeros(3, [("a", float)]), "structured_to_unstructured"),
    "a nested tensor": (nested_tensor(), "torch.cat"),
    "a file's name": ("rows.npy", "NpyFiles"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_holds_no_numbers_is_refused_with_what_to_do(kind):
    rows, message = NO_NUMBERS[kind]
    est = MPSparseAutoencoder(4, max_iter=1)
    for door in (est.fit, est.partial_fit):
        with pytest.raises(ValueError, match=message):
            door(rows)


def test_dictionaries_of_keys_are_sparse_matrices(X):
    X = np.nan_to_num(X)
    for rows in (sparse.dok_array(X), BatchStream([sparse.dok_array(X)])):
        np.testing.assert_array_equal(fitted(X).transform(rows), fitted(X).transform(X))


@pytest.mark.parametrize("array", [np.ones((3, 4)) * 1j, np.full((3, 4), "a")])
def test_files_of_no_numbers_are_named(array, path):
    np.save(path, array)
    with pytest.raises(ValueError, match=r"\.npy must hold real numbers"):
        NpyFiles(path)
    with pytest.raises(ValueError, match="paths must be"):
        NpyFiles(None)


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


# ----------------------------------------------------------------------- no rows
DOORS = {
    "fit": lambda est, X, _: est.fit(X),
    "partial_fit": lambda est, X, _: est.partial_fit(X),
    "transform": lambda est, X, _: est.transform(X),
    "encode": lambda est, X, _: est.encode(X),
    "transform_to": lambda est, X, folder: est.transform_to(X, folder / "codes"),
    "score": lambda est, X, _: est.score(X),
    "reconstruction_path": lambda est, X, _: est.reconstruction_path(X),
}
NOTHING = {
    "a file": (lambda X, path: NpyFiles(path), "no rows"),
    "files": (lambda X, path: NpyFiles([path, path]), "no rows"),
    "a memmap": (lambda X, path: np.load(path, mmap_mode="r"), r"0 sample\(s\)"),
    "a stream": (lambda X, path: BatchStream([X[:0], []]), "no rows"),
    "a stream to have rows": (lambda X, path: BatchStream([X[:0]], n_samples=5), "no rows"),
    "no batches": (lambda X, path: BatchStream([]), "no rows"),
    "a function": (lambda X, path: lambda: iter([X]), r"BatchStream\(X\)"),
    "a generator": (lambda X, path: iter([X]), r"BatchStream\(X\)"),
    "a DataLoader": (lambda X, path: loader(X), r"BatchStream\(X\)"),
    "a Dataset": (lambda X, path: loader(X).dataset, r"BatchStream\(X\)"),
    "a dict": (lambda X, path: {"x": X}, r"a dict with the keys \['x'\]"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", NOTHING)
def test_no_rows_are_refused_at_every_door(kind, door, X, path):
    np.save(path, X[:0])
    make, message = NOTHING[kind]
    est = fitted(X[:50], max_iter=1)
    with pytest.raises(ValueError, match=message):
        DOORS[door](est, make(X, path), path.parent)
    assert est.n_samples_seen_ == 50


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_shard_without_rows_adds_nothing(empty, X, path):
    parts = [X[:300], X[300:]]
    # Nor does it say what is computed in.
    parts.insert(empty, np.empty((0, 12)))
    paths = [path.with_name(f"{i}.npy") for i in range(3)]
    for each, part in zip(paths, parts, strict=True):
        np.save(each, part)
    files = NpyFiles(paths)
    assert files.shape == X.shape
    assert files.dtype == np.float32
    np.testing.assert_array_equal(fitted(files).components_, fitted(X).components_)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 5), (690, 10_000), (-5, 700), (800, 900), (5, 3), (3, 3)]
)
def test_files_are_read_as_slices_are(start, stop, X, path):
    np.testing.assert_array_equal(shards(X, path).read(start, stop), X[start:stop])


# ------------------------------------------------------------- files that change
def test_new_rows_in_a_file_are_seen(X, path):
    files = NpyFiles(path)
    before, pickled = fitted(files), len(pickle.dumps(files))
    assert len(pickle.dumps(files)) == pickled < 1000
    np.save(path, 1 - X)  # of the same size, within the same moment
    np.testing.assert_array_equal(fitted(files).components_, fitted(1 - X).components_)
    np.testing.assert_array_equal(before.transform(files), before.transform(1 - X))


def test_what_is_computed_in_another_dtype_is_read_anew(X, path):
    files, double = NpyFiles(path), X.astype(np.float64)
    est, other = (MPSparseAutoencoder(8, random_state=0).partial_fit(double) for _ in "12")
    fitted(files)
    np.testing.assert_array_equal(
        est.partial_fit(files).components_, other.partial_fit(double).components_
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X[:, :5],
        lambda X: X[:100],
        lambda X: np.vstack([X, X]),
        lambda X: X.astype(">f4"),
    ],
    ids=["width", "shorter", "longer", "dtype"],
)
def test_a_file_of_another_shape_or_dtype_is_to_be_opened_again(change, X, path):
    files, est = NpyFiles(path), fitted(X)
    np.save(path, change(X))
    for call in (est.fit, est.transform, est.score, lambda files: files.read(0, 5)):
        with pytest.raises(ValueError, match=r"changed since it was opened.*new NpyFiles"):
            call(files)


def test_a_file_that_is_written_to_while_it_is_read_is_refused(X, path, monkeypatch):
    files, survey, time = NpyFiles(path), npy.FileRows.survey, itertools.count()

    def written_after_survey(self):
        yield from survey(self)
        np.save(path, X)
        os.utime(path, ns=(0, next(time)))

    monkeypatch.setattr(npy.FileRows, "survey", written_after_survey)
    fitted(files)  # it fits in memory, and was read already
    monkeypatch.setattr(sizes, "_POOL_BYTES", 200 * 12 * 4)
    with pytest.raises(ValueError, match="has changed while it was read"):
        fitted(files)


def test_a_small_file_is_read_once_in_a_fit(X, path, monkeypatch):
    rows, read = [], npy._read_part

    def counted(part, start, out, begin):
        rows.append(len(out))
        read(part, start, out, begin)

    monkeypatch.setattr(npy, "_read_part", counted)
    fitted(NpyFiles(path))
    assert rows == [700]


def test_a_memmap_whose_file_was_replaced_is_refused(X, path):
    mapped = np.load(path, mmap_mode="r")
    np.save(path.with_name("new.npy"), 1 - X)
    os.replace(path.with_name("new.npy"), path)
    with pytest.raises(ValueError, match="was replaced after X was mapped"):
        fitted(mapped)
    path.unlink()  # what is mapped stays
    np.testing.assert_array_equal(fitted(mapped).components_, fitted(X).components_)


def test_half_floats_of_a_memmap_stay_in_their_file(X, tmp_path, monkeypatch):
    np.save(tmp_path / "half.npy", X.astype(np.float16))
    mapped = np.load(tmp_path / "half.npy", mmap_mode="r")
    expected = fitted(X.astype(np.float16))
    monkeypatch.setattr(npy, "ArrayRows", None)  # nothing is held
    monkeypatch.setattr(sizes, "_POOL_BYTES", 1)
    assert expected.transform(mapped).dtype == np.float32
    np.testing.assert_array_equal(
        expected.transform(mapped), expected.transform(X.astype(np.float16))
    )


# --------------------------------------------------------- where an array is needed
@pytest.mark.parametrize("kind", ["files", "stream"])
@pytest.mark.parametrize(
    "use",
    [
        lambda est, rows: cross_val_score(est, rows),
        lambda est, rows: GridSearchCV(est, {"n_nonzero_coefs": [1]}).fit(rows),
        lambda est, rows: make_pipeline(StandardScaler(), est).fit(rows),
        lambda est, rows: sklearn_mpsae.compare({"a": est}, rows),
        lambda est, rows: sklearn_mpsae.metrics.explained_variance(rows, rows),
        lambda est, rows: matching_pursuit(rows, np.eye(12), 2),
        lambda est, rows: np.asarray(rows),
    ],
    ids=["scores", "search", "pipeline", "compare", "metric", "pursuit", "NumPy"],
)
def test_where_an_array_is_needed_sources_say_what_to_do(use, kind, X, path):
    rows = NpyFiles(path) if kind == "files" else BatchStream([X])
    message = "is no array.*pass rows that fit in memory: " + (
        "NpyFiles.read" if kind == "files" else "np.concatenate"
    )
    with pytest.raises(ValueError, match=message):
        use(MPSparseAutoencoder(8, max_iter=1), rows)


def test_the_first_step_of_a_pipeline_takes_a_source(X, path):
    pipeline = make_pipeline(MPSparseAutoencoder(8, max_iter=1, random_state=0))
    np.testing.assert_array_equal(
        pipeline.fit(NpyFiles(path)).transform(NpyFiles(path)), pipeline.fit(X).transform(X)
    )


# ------------------------------------------------------------------- codes to disk
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_codes_on_disk_are_those_in_memory(Estimator, index, X, path, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "_CHUNK_ROWS", 300)
    est = Estimator(20, **OPTIONS).fit(X)
    folder = tmp_path / "codes"
    if index == "int64":  # as many rows and atoms as need them
        save = sklearn_mpsae.coding.save_codes
        monkeypatch.setattr(_encoder, "save_codes", lambda to, parts, _: save(to, parts, 2**31))
    codes = est.transform_to(NpyFiles(path), folder)
    assert codes.data.base is not None
    assert np.load(folder / "indices.npy", mmap_mode="r").dtype == index
    expected = est.set_params(sparse_output=True).transform(X)
    for found in (codes, load_codes(folder)):
        assert found.shape == (700, 20)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.toarray(), expected.toarray())
    np.testing.assert_array_equal(est.inverse_transform(codes), est.inverse_transform(expected))


def test_codes_of_nobody_knows_how_many_rows_have_room_for_any_number(X, tmp_path):
    codes = fitted(X).transform_to(BatchStream(batches_of(X)), tmp_path / "codes")
    assert codes.indptr.dtype == codes.indices.dtype == np.int64
    np.testing.assert_array_equal(codes.toarray(), fitted(X).transform(X))


def test_more_codes_than_there_may_be_are_refused(X, tmp_path):
    """Their number might not fit in four bytes."""
    part = fitted(X).encode(X).csr()
    with pytest.raises(ValueError, match=f"more codes than most={part.nnz} allows"):
        save_codes(tmp_path / "codes", [part, part[:1]], part.nnz)
    assert not list(tmp_path.glob("codes*"))


def test_codes_do_not_replace_anything(X, path, tmp_path):
    est = fitted(X)
    with pytest.raises(FileExistsError, match="name a new folder"):
        est.transform_to(X, tmp_path)
    assert path.exists()


def test_codes_of_rows_that_cannot_be_read_leave_no_folder(X, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "_CHUNK_ROWS", 300)
    est = fitted(X)
    X[650] = np.inf
    np.save(tmp_path / "bad.npy", X)
    with pytest.raises(ValueError, match="Row 650 of X"):
        est.transform_to(NpyFiles(tmp_path / "bad.npy"), tmp_path / "codes")
    assert [each.name for each in tmp_path.iterdir()] == ["bad.npy"]


@pytest.mark.parametrize("name", ["data", "indices", "indptr", "shape"])
def test_damaged_codes_are_refused(name, X, tmp_path):
    fitted(X).transform_to(X, tmp_path / "codes")
    file = tmp_path / "codes" / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="holds no codes, or damaged ones"):
        load_codes(tmp_path / "codes")


def test_codes_of_atoms_that_are_not_there_are_refused(X, tmp_path):
    """SciPy would read beyond its arrays for them."""
    fitted(X).transform_to(X, tmp_path / "codes")
    file = tmp_path / "codes" / "indices.npy"
    indices = np.load(file)
    indices[0] = 10**6
    np.save(file, indices)
    with pytest.raises(ValueError, match="holds no codes, or damaged ones"):
        load_codes(tmp_path / "codes")


# ----------------------------------------------------------------------- bad files
@pytest.mark.parametrize("pools", ["one pool", "many pools"])
def test_the_first_bad_row_of_a_file_is_named(pools, X, path, request):
    if pools == "many pools":
        request.getfixturevalue("small_pools")
    X[612, 3], X[650, 1] = np.nan, np.inf
    np.save(path, X)
    with pytest.raises(ValueError, match="Row 612 of X contains NaN or infinity"):
        fitted(NpyFiles(path))
    est = fitted(np.nan_to_num(X, posinf=0.0))
    with pytest.raises(ValueError, match="Row 612 of X contains NaN or infinity"):
        est.transform(NpyFiles(path))


def test_a_file_that_has_become_shorter_is_an_error_not_a_crash(X, path):
    mapped, files = np.load(path, mmap_mode="r"), NpyFiles(path)
    with open(path, "r+b") as file:
        file.truncate(128 + 500 * 12 * 4 + 7)
    for source in (mapped, files):
        with pytest.raises(ValueError, match=r"shorter .* row 500 of X is missing or cut"):
            fitted(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros(5), r"shape \(n_samples, n_features\)"),
        (np.asfortranarray(np.zeros((5, 4))), "C order"),
        (np.array([[1j]]), "real numbers"),
        (np.zeros((5, 0)), "5 rows of no features"),
        (b"", "no array that can be read"),
        (b"not an array", "no array that can be read"),
        # What NumPy's parser answers with a TokenError (found by tools/fuzz.py).
        (
            b"\x93NUMPY\x01\x00\x1d\x00{'descr': '<f8', 'shape': (36",
            "no array that can be read",
        ),
    ],
)
def test_files_that_hold_no_rows(content, message, tmp_path):
    path = tmp_path / "bad.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(ValueError, match=message):
        NpyFiles(path)


def test_files_with_other_features(X, path, tmp_path):
    np.save(tmp_path / "other.npy", X[:, :5])
    with pytest.raises(ValueError, match=r"numbers of features: \[5, 12\]"):
        NpyFiles([path, tmp_path / "other.npy"])
    with pytest.raises(ValueError, match="5 features, but MPSparseAutoencoder is expecting 12"):
        fitted(X).transform(NpyFiles(tmp_path / "other.npy"))


def test_what_comes_next_is_read_while_the_last_is_in_use():
    at_work = threading.Event()

    def items():
        yield 1
        at_work.set()
        yield 2

    for _ in ahead(items()):
        assert at_work.wait(10)


@pytest.mark.parametrize("on_disk", [True, False])
def test_only_what_is_not_in_memory_is_read_ahead(X, path, on_disk, monkeypatch):
    asked = []
    monkeypatch.watch(batches, "ahead", lambda items: asked.append(True) or items)
    MPSparseAutoencoder(8, max_iter=1).fit(NpyFiles(path) if on_disk else X)
    assert bool(asked) == on_disk


def test_errors_of_what_is_read_ahead_arrive():
    def items():
        yield 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(ahead(items()))


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
