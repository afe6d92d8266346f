"""Checkpoints that are damaged, of another fit or of other data."""

import itertools
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from checkpoints import (  # noqa: F401 - fixtures
    OPTIONS,
    path_of_checkpoint,
    some_rows,
    unit_rows_of_signs,
)
from scipy import sparse

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.learning import checkpoint as files
from sklearn_mpsae.sources import BatchStream, NpyFiles


@pytest.mark.parametrize("digit", ["0", "f"])
def test_another_checksum_is_refused(digit, tmp_path, monkeypatch):
    """Be it smaller or larger than the right one."""
    path = tmp_path / "checkpoint"
    with monkeypatch.context() as patched:
        patched.setattr(files, "_sha256", lambda *args: digit * 64)
        files.write(path, {"n": 1}, {})
    with pytest.raises(ValueError, match="damaged one: its checksum does not match"):
        files.read(path)


def changed_facts(change):
    def edit(path):
        facts, arrays = files.read(path)
        change(facts["identity"])
        files.write(path, facts, arrays)

    return edit


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def saved_by(save, **content):
    def replace(path):
        with path.open("wb") as file:
            save(file, **content)

    return replace


def newer_format(path):
    facts, arrays = files.read(path)
    text = json.dumps({"format": "sklearn_mpsae checkpoint 99"} | facts).encode()
    saved_by(np.savez, facts=np.frombuffer(text, np.uint8), **arrays)(path)


def edited(path):
    """Another number in an array, in an archive whose own checksums are right."""
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["components value"][0, 0] += 1
    saved_by(np.savez, **arrays)(path)


def compressed(path):
    """Small in the file, of any size in memory."""
    with np.load(path) as archive:
        arrays = dict(archive)
    saved_by(np.savez_compressed, **arrays)(path)


def without_the_end_of_a_header(path):
    """What NumPy's parser answers with a TokenError (found by tools/fuzz.py)."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (36, 4 "
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("facts.npy", content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (edited, "damaged"),
        (compressed, "damaged"),
        (without_the_end_of_a_header, "damaged"),
        (cut, "damaged"),
        (flipped, "damaged"),
        (
            newer_format,
            "another version of sklearn_mpsae: .* checkpoint 99",
        ),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b"not a checkpoint"), "damaged"),
        (saved_by(np.save, arr=np.ones(3)), "damaged"),
        (saved_by(np.savez, a=np.ones(3)), "damaged"),
        (saved_by(np.savez, facts=np.array([{}])), "damaged"),
        (changed_facts(lambda x: x.update(estimator="TopKSAE")), "differs in estimator"),
        (changed_facts(lambda x: x.update(version="9.9")), "differs in version .'9.9'"),
        (changed_facts(lambda x: x.update(dtype="float64")), "differs in dtype"),
        (changed_facts(lambda x: x.update(n_features=5)), "differs in n_features"),
        (changed_facts(lambda x: x.update(max_iter=5)), "differs in max_iter .5, now 4"),
        (changed_facts(lambda x: x.pop("batch_size")), "differs in batch_size"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_refused(spoil, message, X, path):
    est = MPSparseAutoencoder(**OPTIONS, checkpoint=path, random_state=0).fit(X)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as refused:
        MPSparseAutoencoder(**OPTIONS, checkpoint=path, random_state=0).fit(X)
    assert ("damaged" in message) == (refused.value.__cause__ is not None)
    assert path.read_bytes() == before
    if "n_features" not in message and "dtype" not in message:
        with pytest.raises(ValueError, match=message) as refused:
            est.load_checkpoint(path)
        if "differs" in message:
            assert "Give this estimator the parameters" in str(refused.value)


def one_value_next_to_it(X):
    X = X.copy()
    X[137, 5] = np.nextafter(X[137, 5], X.dtype.type(2))
    return X


def signs_of_two_values(X):
    X = X.copy()
    X[137, 5:7] *= -1
    return X


OTHER_DATA = {
    "a row less": lambda X: X[:-1],
    "others": lambda X: X[:, ::-1] if X.shape[1] > 1 else 1 - X,
    "moved": lambda X: X + 1,
    "scaled": lambda X: 2 * X,
    "negative": lambda X: -X,
    "two rows swapped": lambda X: X[np.r_[1, 0, 2 : len(X)]],
    "in another order": lambda X: X[::-1],
    "one value": one_value_next_to_it,
    "two signs": signs_of_two_values,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("prepared", [lambda X: X, unit_rows_of_signs], ids=["any", "signs"])
@pytest.mark.parametrize("intercept", ["learn", "mean", "zero"])
def test_a_checkpoint_of_other_data_is_refused(intercept, prepared, dtype, X, path):
    options = OPTIONS | {"max_iter": 1, "intercept": intercept, "random_state": 0}
    X = prepared(X + X.dtype.type(0.01)).astype(dtype)
    MPSparseAutoencoder(**options, checkpoint=path).fit(X)
    for change in OTHER_DATA.values():
        est = MPSparseAutoencoder(**options, checkpoint=path)
        with pytest.raises(
            ValueError, match=r"The data are not those that .*fit\.ckpt was made"
        ):
            est.fit(change(X))
        assert "components_" not in vars(est)


def stored(X, folder):
    """The same rows in all ways to hold them."""
    np.save(folder / "all.npy", X)
    for name, part in {"a": X[:137], "b": X[137:]}.items():
        np.save(folder / f"{name}.npy", part)
    yield X
    yield np.asfortranarray(X)
    yield np.repeat(X, 2, axis=0)[::2]
    yield X.astype(X.dtype.newbyteorder())
    yield sparse.csr_array(X)
    yield np.load(folder / "all.npy", mmap_mode="r")
    yield NpyFiles([folder / "a.npy", folder / "b.npy"])


def in_batches(X, n, **options):
    return BatchStream([X[i : i + n] for i in range(0, len(X), n)], **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_data_are_known_however_they_are_stored(dtype, X, path, tmp_path):
    X = X.astype(dtype)
    X[3, :4] = -0.0  # which CSR does not tell from 0
    options = OPTIONS | {"random_state": 0, "checkpoint": path}
    est = MPSparseAutoencoder(**options).fit(X)
    for rows in stored(X, tmp_path):
        again = MPSparseAutoencoder(**options).fit(rows)
        np.testing.assert_array_equal(again.components_, est.components_)
    path.unlink()
    est = MPSparseAutoencoder(**options).fit(in_batches(X, 500))
    for n in (1, 7):
        again = MPSparseAutoencoder(**options).fit(in_batches(X, n))
        np.testing.assert_array_equal(again.components_, est.components_)


def test_the_same_data_shuffled_otherwise_are_refused(X, path):
    """What was learnt from is skipped: in another order that would be other rows."""
    options = OPTIONS | {"random_state": 0, "max_iter": 1}
    orders = [X, in_batches(X, 50), in_batches(X, 50, shuffle=False)]
    fits = [MPSparseAutoencoder(**options).fit(rows).components_ for rows in orders]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(fits, 2))
    for first in orders:
        path.unlink(missing_ok=True)
        MPSparseAutoencoder(**options, checkpoint=path).fit(first)
        for other in orders:
            if other is not first:
                with pytest.raises(ValueError, match="the way they are shuffled"):
                    MPSparseAutoencoder(**options, checkpoint=path).fit(other)


@pytest.mark.parametrize("read", [files.read, NpyFiles])
def test_no_reader_advises_to_load_pickles(read, tmp_path):
    """As NumPy does of any file that it does not know."""
    (tmp_path / "notes.txt").write_text("my notes")
    with pytest.raises(ValueError, match=r"notes\.txt .*it is no \.np") as caught:
        read(tmp_path / "notes.txt")
    assert "pickle" not in str(caught.value)


def test_a_checksum_is_the_sum_that_checkpoints_have():
    """Computed with Python's integers; another sum would need another format."""
    X = np.arange(12.0).reshape(3, 4) / 7
    checksum, expected = files.Checksum(), 0
    list(checksum.over([X]))
    weights = np.random.RandomState(0).randint(0, 2**64, 8, np.uint64) | np.uint64(1)
    for number, words in enumerate(X.view(np.uint32).tolist(), start=1):
        z = number * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        expected += sum(map(int.__mul__, words, weights.tolist())) * (z | 1)
    assert checksum.value == f"{expected % 2**64:016x}"


def test_a_checksum_takes_little_memory():
    """Of a stream whose batches are large; and is that of all rows in parts."""
    X = np.random.default_rng(0).random((20_000, 50))
    checksum = files.Checksum()
    tracemalloc.start()
    (chunk,) = checksum.over([X])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert chunk is X
    assert peak < X.nbytes / 4
    other = files.Checksum()
    assert len(list(other.over([X[:5], X[5:5], X[5:]]))) == 3
    assert other.value == checksum.value
