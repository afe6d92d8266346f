"""Rows from files and streams: learnt from as the same rows in memory are."""

import itertools
import threading

import numpy as np
import pytest
import torch
from scipy import sparse

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, sources
from sklearn_mpsae import _base as base
from sklearn_mpsae.coding import load_codes, save_codes
from sklearn_mpsae.learning import batches
from sklearn_mpsae.learning.batches import Batches, Moments, ahead
from sklearn_mpsae.sources import BatchStream, NpyFiles

OPTIONS = {"n_nonzero_coefs": 3, "max_iter": 2, "batch_size": 64, "random_state": 0}


@pytest.fixture(name="X")
def some_rows(rng):
    return (rng.random((700, 12)) * (rng.random((700, 12)) < 0.4)).astype(np.float32)


@pytest.fixture
def small_pools(monkeypatch):
    """Pools of about 200 rows, in blocks of 10."""
    monkeypatch.setattr(sources, "_POOL_BYTES", 200 * 12 * 4)
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 10 * 12 * 4)


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


def test_half_floats_in_memory_are_computed_in_float32(X):
    assert fitted(X.astype(np.float16)).components_.dtype == np.float32


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
    for source in (NpyFiles(path), sources.ArrayRows(X)):
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
    stream = sources.StreamRows(BatchStream(batches_of(X), n_samples=700, shuffle=False))
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


# ------------------------------------------------------------------- codes to disk
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_codes_on_disk_are_those_in_memory(Estimator, index, X, path, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_CHUNK_ROWS", 300)
    est = Estimator(20, **OPTIONS).fit(X)
    folder = tmp_path / "codes"
    if index == "int64":  # as many rows and atoms as need them
        save = sklearn_mpsae.coding.save_codes
        monkeypatch.setattr(base, "save_codes", lambda to, parts, _: save(to, parts, 2**31))
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
    monkeypatch.setattr(sources, "_CHUNK_ROWS", 300)
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
