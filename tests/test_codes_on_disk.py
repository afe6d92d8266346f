"""Codes that transform_to writes, and load_codes reads."""

import numpy as np
import pytest
from some_rows import (  # noqa: F401 - fixtures
    OPTIONS,
    batches_of,
    fitted,
    path_of_rows,
    some_rows,
)

import sklearn_mpsae
from sklearn_mpsae.coding import load_codes, save_codes
from sklearn_mpsae.estimators import _encoder
from sklearn_mpsae.rows import sizes
from sklearn_mpsae.sources import BatchStream, NpyFiles


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
