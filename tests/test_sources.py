"""Rows from files and streams: learnt from as the same rows in memory are."""

import threading

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from some_rows import (  # noqa: F401 - fixtures
    fitted,
    loader,
    nested_tensor,
    order_of,
    path_of_rows,
    pools_of_200_rows,
    shards,
    some_rows,
)

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV
from sklearn_mpsae.coding import matching_pursuit
from sklearn_mpsae.learning import batches
from sklearn_mpsae.learning.batches import Batches, ahead
from sklearn_mpsae.learning.frame import Frame
from sklearn_mpsae.rows.array import ArrayRows
from sklearn_mpsae.rows.moments import Moments
from sklearn_mpsae.sources import BatchStream, NpyFiles


def sliced_memmap(X, path):
    """Rows 5 on of a raw file with a header, as a slice of a memmap of it."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"x" * 13 + np.zeros((5, 12), X.dtype).tobytes() + X.tobytes())
    return np.memmap(raw, X.dtype, "r", 13, (len(X) + 5, 12))[5:]


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
    batches = Batches(NpyFiles(path), Frame(np.zeros(12), 1.0), [700], 64)

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


NO_NUMBERS = {
    "a column of arrays": (pd.Series(list(np.ones((3, 4)))), "np.stack"),
    "a frame of lists": (pl.DataFrame({"a": [[1.0, 2.0]] * 3}), "np.stack"),
    "ragged lists": ([[1.0, 2.0], [1.0]], "differ in length"),
    "a frame that is not computed": (pl.LazyFrame({"a": [1.0]}), r"pass its collect\(\)"),
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


# ----------------------------------------------------------------------- no rows
DOORS = {
    "fit": lambda est, X, _: est.fit(X),
    "partial_fit": lambda est, X, _: est.partial_fit(X),
    "transform": lambda est, X, _: est.transform(X),
    "encode": lambda est, X, _: est.encode(X),
    "transform_to": lambda est, X, folder: est.transform_to(X, folder / "codes"),
    "score": lambda est, X, _: est.score(X),
    "score_samples": lambda est, X, _: est.score_samples(X),
    "reconstruction_path": lambda est, X, _: est.reconstruction_path(X),
}


NOTHING = {
    "a file": (lambda X, path: NpyFiles(path), "no rows"),
    "files": (lambda X, path: NpyFiles([path, path]), "no rows"),
    "a memmap": (lambda X, path: np.load(path, mmap_mode="r"), r"0 sample\(s\)"),
    "a stream": (lambda X, path: BatchStream([X[:0], []]), "no rows"),
    "a stream to have rows": (lambda X, path: BatchStream([X[:0]], n_samples=5), "no rows"),
    "no batches": (lambda X, path: BatchStream([]), "no rows"),
    "a function": (lambda X, path: lambda: iter([X]), r"BatchStream\(X\).*call it: X\(\)"),
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
