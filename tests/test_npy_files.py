"""Rows in files: read as slices are, also where files change or are bad."""

import itertools
import os
import pickle

import numpy as np
import pytest
from some_rows import (  # noqa: F401 - fixtures
    fitted,
    path_of_rows,
    pools_of_200_rows,
    shards,
    some_rows,
)

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.rows import npy, sizes
from sklearn_mpsae.sources import NpyFiles


@pytest.mark.parametrize("array", [np.ones((3, 4)) * 1j, np.full((3, 4), "a")])
def test_files_of_no_numbers_are_named(array, path):
    np.save(path, array)
    with pytest.raises(ValueError, match=r"\.npy must hold real numbers"):
        NpyFiles(path)
    with pytest.raises(ValueError, match="paths must be"):
        NpyFiles(None)


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


def test_verbose_counts_the_rows_of_large_files_that_are_read_before_the_training(
    tmp_path, capsys, monkeypatch
):
    """Larger than a pool; others are read at once."""
    monkeypatch.setattr(sizes, "_POOL_BYTES", 20 * 4 * 8)
    X = np.random.default_rng(0).random((60, 4))
    np.save(tmp_path / "X.npy", X)
    sae = MPSparseAutoencoder(4, max_iter=1, verbose=1)
    sae.fit(X)
    assert "reading rows" not in capsys.readouterr().err
    sae.fit(NpyFiles(tmp_path / "X.npy"))
    assert "MPSparseAutoencoder, reading rows: 60.0 rows" in capsys.readouterr().err
