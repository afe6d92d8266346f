"""A fit that is killed goes on from its checkpoint, to the same result bit for bit."""

import copy
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from joblib import parallel_config
from patches import CheckedPatch
from scipy import sparse
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from toys import model_of

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.learning import checkpoint as files
from sklearn_mpsae.learning.run import Run
from sklearn_mpsae.learning.state import Learnt, Training, TrainingState
from sklearn_mpsae.learning.trainer import Trainer
from sklearn_mpsae.sources import BatchStream, NpyFiles

OPTIONS = {"n_components": 24, "n_nonzero_coefs": 3, "max_iter": 4, "batch_size": 64}


class Killed(BaseException):
    """What nothing catches."""


@pytest.fixture(name="X")
def some_rows(rng):
    return (rng.random((500, 12)) * (rng.random((500, 12)) < 0.4)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.ckpt"


@pytest.fixture
def killed_after(monkeypatch):
    """A function that lets a fit take so many steps, and no more."""

    def killed_after(n_steps, est, X):
        step, left = Trainer.step, [n_steps]

        def counted(self, *args):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return step(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", counted)
            with pytest.raises(Killed):
                est.fit(X)

    return killed_after


def values_in(x):
    """All numbers in nested fitted state, with where they are."""
    if isinstance(x, np.random.RandomState):
        x = x.get_state()
    if isinstance(x, Learnt | Training | TrainingState):
        x = vars(x)
    if isinstance(x, dict):
        return {(k, *inner): v for k in x for inner, v in values_in(x[k]).items()}
    if isinstance(x, list | tuple):
        return values_in(dict(enumerate(x)))
    return {(): x}


def assert_same_fit(est, other):
    """The same fitted attributes, those private ones too that a later fit starts from."""
    theirs, ours = (values_in(vars(each)) for each in (other, est))
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        if name != ("checkpoint",):
            np.testing.assert_array_equal(ours[name], value, err_msg=str(name))


@pytest.mark.parametrize("n_steps", [1, 8, 19, 31])
def test_a_killed_fit_goes_on_bit_for_bit(
    Estimator, n_steps, X, path, killed_after, monkeypatch
):
    whole = Estimator(**OPTIONS, dead_after=4, random_state=0).fit(X)
    assert whole.n_steps_ == 32
    options = OPTIONS | {"checkpoint": path, "checkpoint_every": 0}
    killed_after(n_steps, Estimator(**options, dead_after=4, random_state=0), X)
    resumed = Estimator(**options, dead_after=4, random_state=0)
    calls, model = [], model_of(Estimator)
    gradients = model.gradients
    monkeypatch.setattr(model, "gradients", lambda *args: calls.append(1) or gradients(*args))
    resumed.fit(X)
    # At the end a steered threshold is brought up to date with one more.
    assert len(calls) == 32 - n_steps + resumed._model().steers
    resumed.set_params(checkpoint=None, checkpoint_every=60.0)
    assert_same_fit(resumed, whole)
    # And it goes on alike from there.
    np.testing.assert_array_equal(
        resumed.partial_fit(X).components_, whole.partial_fit(X).components_
    )


def test_a_fit_from_files_in_many_pools_goes_on(X, path, tmp_path, monkeypatch, killed_after):
    monkeypatch.setattr("sklearn_mpsae.rows.sizes._POOL_BYTES", 200 * 12 * 4)
    monkeypatch.setattr("sklearn_mpsae.rows.sizes._BLOCK_BYTES", 10 * 12 * 4)
    np.save(tmp_path / "X.npy", X)
    rows = NpyFiles(tmp_path / "X.npy")
    whole = MPSparseAutoencoder(**OPTIONS, random_state=0).fit(rows)
    est = MPSparseAutoencoder(**OPTIONS, random_state=0, checkpoint=path, checkpoint_every=0)
    killed_after(13, est, rows)
    np.testing.assert_array_equal(est.fit(rows).components_, whole.components_)


def test_without_a_seed_it_goes_on_with_the_generator_it_had(X, path, killed_after):
    rng = np.random.RandomState(5)
    whole = MPSparseAutoencoder(**OPTIONS, random_state=np.random.RandomState(5)).fit(X)
    est = MPSparseAutoencoder(**OPTIONS, random_state=rng, checkpoint=path, checkpoint_every=0)
    killed_after(13, est, X)
    rng.random_sample(100)
    np.testing.assert_array_equal(est.fit(X).components_, whole.components_)


def test_a_finished_fit_is_not_repeated(X, path, monkeypatch):
    est = TopKSAE(**OPTIONS, random_state=0, checkpoint=path).fit(X)
    monkeypatch.setattr(Trainer, "step", None)
    again = TopKSAE(**OPTIONS, random_state=0, checkpoint=path).fit(X)
    assert_same_fit(again, est)


@pytest.mark.parametrize("digit", ["0", "f"])
def test_another_checksum_is_refused(digit, tmp_path, monkeypatch):
    """Be it smaller or larger than the right one."""
    path = tmp_path / "checkpoint"
    with monkeypatch.context() as patched:
        patched.setattr(files, "_sha256", lambda *args: digit * 64)
        files.write(path, {"n": 1}, {})
    with pytest.raises(ValueError, match="damaged one: its checksum does not match"):
        files.read(path)


def test_a_fit_of_many_epochs_is_finished_at_the_last(X, path):
    TopKSAE(**OPTIONS | {"max_iter": 300}, random_state=0, checkpoint=path).fit(X[:40])
    assert files.read(path)[0]["finished"]


def test_one_process_does_not_go_on_for_two(X, path):
    est = TopKSAE(**OPTIONS, random_state=0, checkpoint=path).fit(X)
    facts, arrays = files.read(path)
    assert facts["identity"]["processes"] == 1
    facts["identity"]["processes"] = 2
    files.write(path, facts, arrays)
    with pytest.raises(ValueError, match=r"differs in processes \(2, now 1\)"):
        est.fit(X)


def test_every_so_many_seconds(X, path):
    """A fit that takes less writes it once, at its end."""
    written = []
    save = files.write
    files.write = lambda *args: written.append(1) or save(*args)
    try:
        MPSparseAutoencoder(**OPTIONS, checkpoint=path).fit(X)
        assert len(written) == 1
        path.unlink()
        MPSparseAutoencoder(**OPTIONS, checkpoint=path, checkpoint_every=0).fit(X)
        assert len(written) == 1 + 32 + 1
    finally:
        files.write = save


# ------------------------------------------------------------- what was learnt is kept
def test_what_was_learnt_before_bad_rows_can_be_kept(X, path):
    broken = X.copy()
    broken[430] = np.nan

    def stream(rows):
        return BatchStream(np.split(rows, 10), n_samples=500, shuffle=False)

    options = OPTIONS | {"max_iter": 1, "center": False, "random_state": 0}
    options |= {"checkpoint": path, "batch_size": 50}
    # The scale is taken from the first rows only, as of a stream that is long.
    with CheckedPatch.context() as patch:
        patch.setattr("sklearn_mpsae.rows.sizes._POOL_BYTES", 100 * 12 * 4)
        est = MPSparseAutoencoder(**options)
        with pytest.raises(ValueError, match="Row 430 of X contains NaN"):
            est.fit(stream(broken))
        assert not hasattr(est, "components_")
        est.load_checkpoint(path)
        assert est.n_steps_ == 8
        assert est.transform(X).shape == (500, 24)
        np.testing.assert_allclose(np.linalg.norm(est.components_, axis=1), 1, rtol=1e-5)
        # Mended, it goes on.
        mended = MPSparseAutoencoder(**options).fit(stream(X))
        whole = MPSparseAutoencoder(**options | {"checkpoint": None}).fit(stream(X))
    np.testing.assert_array_equal(mended.components_, whole.components_)


def test_a_loaded_checkpoint_is_what_was_fitted(Estimator, X, path):
    est = Estimator(**OPTIONS, random_state=0, checkpoint=path).fit(X)
    loaded = Estimator(**OPTIONS, random_state=0, checkpoint=path).load_checkpoint(path)
    np.testing.assert_array_equal(loaded.transform(X), est.transform(X))
    assert_same_fit(loaded, est)


@pytest.mark.parametrize("named", [True, False])
def test_nothing_of_the_fit_before_survives_a_loaded_checkpoint(named, Estimator, X, path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X[:, :10]).add_prefix("own ")
    options = OPTIONS | {"max_iter": 1, "random_state": 0}
    est = Estimator(**options, checkpoint=path).fit(frame if named else frame.to_numpy())
    loaded = Estimator(**options, checkpoint=path).set_params(n_components=9)
    loaded._origin = "torch", "cpu"
    loaded.set_params(checkpoint=None).fit(pd.DataFrame(X).add_prefix("other "))
    loaded.set_params(n_components=OPTIONS["n_components"], checkpoint=path)
    loaded.load_checkpoint(path)
    assert_same_fit(loaded, est)
    assert hasattr(loaded, "feature_names_in_") == named
    np.testing.assert_array_equal(
        loaded.transform(frame.iloc[:5] if named else frame.to_numpy()[:5]),
        est.transform(frame[:5] if named else frame.to_numpy()[:5]),
    )


# ----------------------------------------------------------------- bad checkpoints
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


# ------------------------------------------------------------------ of which data
def unit_rows_of_signs(X):
    """Rows that have the same norm, values that have the same size."""
    return (np.where(X > 0.1, 1, -1) / np.sqrt(X.shape[1])).astype(X.dtype)


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
@pytest.mark.parametrize("center", [True, False])
def test_a_checkpoint_of_other_data_is_refused(center, prepared, dtype, X, path):
    options = OPTIONS | {"max_iter": 1, "center": center, "random_state": 0}
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


def test_a_fit_to_an_array_goes_on_from_a_file_of_it(X, path, tmp_path, killed_after):
    whole = MPSparseAutoencoder(**OPTIONS, random_state=0).fit(X)
    est = MPSparseAutoencoder(**OPTIONS, random_state=0, checkpoint=path, checkpoint_every=0)
    killed_after(13, est, np.asfortranarray(X))
    np.save(tmp_path / "X.npy", X)
    resumed = est.fit(NpyFiles(tmp_path / "X.npy"))
    np.testing.assert_array_equal(resumed.components_, whole.components_)


# ------------------------------------------------------------- one file, several fits
def test_folds_do_not_share_a_checkpoint(X, path):
    """The first one has it, and the others say what to do."""
    X = unit_rows_of_signs(X)
    options = OPTIONS | {"max_iter": 1, "center": False, "random_state": 0}
    right = cross_val_score(MPSparseAutoencoder(**options), X, cv=3)
    with pytest.warns(
        FitFailedWarning, match="in a search or cross-validation|checkpoint=None"
    ):
        scores = cross_val_score(MPSparseAutoencoder(**options, checkpoint=path), X, cv=3)
    np.testing.assert_array_equal(scores, [right[0], np.nan, np.nan])


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
@pytest.mark.filterwarnings("ignore:The checkpoint .* another fit has written it meanwhile")
def test_a_search_with_a_checkpoint_never_gives_another_fits_result(n_jobs, X, path):
    """One after the other, or at once."""
    options = OPTIONS | {"max_iter": 2, "random_state": 0}
    how = {"param_grid": {"n_nonzero_coefs": [1, 3]}, "cv": 2, "refit": False}
    right = GridSearchCV(MPSparseAutoencoder(**options), **how).fit(X)
    est = MPSparseAutoencoder(**options, checkpoint=path)
    with parallel_config("threading"):
        search = GridSearchCV(est, **how, n_jobs=n_jobs).fit(X)
    for fold in ("split0_test_score", "split1_test_score"):
        scores = search.cv_results_[fold]
        assert (np.isnan(scores) | (scores == right.cv_results_[fold])).all()
    assert files.read(path)[0]["finished"]
    # And a refit is an error, which names what to do.
    with pytest.raises(ValueError, match="checkpoint=None"):
        GridSearchCV(est, **how | {"refit": True}).fit(X)


def test_a_file_that_another_fit_has_written_meanwhile_is_left_alone(X, path, monkeypatch):
    options = OPTIONS | {"checkpoint": path, "checkpoint_every": 0, "random_state": 0}
    whole = TopKSAE(**OPTIONS, random_state=0).fit(X)
    step, n_steps = Trainer.step, []

    def disturbed(self, *args):
        n_steps.append(1)
        if len(n_steps) == 5:
            with monkeypatch.context() as patch:
                patch.setattr(Trainer, "step", step)
                path.unlink()
                TopKSAE(**options).fit(X + 1)
        return step(self, *args)

    monkeypatch.setattr(Trainer, "step", disturbed)
    with pytest.warns(RuntimeWarning, match="another fit has written it meanwhile") as caught:
        est = TopKSAE(**options).fit(X)
    assert len(caught) == 1
    np.testing.assert_array_equal(est.components_, whole.components_)
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "step", None)
    TopKSAE(**options).fit(X + 1)
    assert os.listdir(path.parent) == [path.name]


def test_any_file_that_appears_meanwhile_is_left_alone(X, path, monkeypatch):
    begin = Run.epoch
    monkeypatch.setattr(Run, "epoch", lambda fit: path.write_bytes(b"mine") and begin(fit))
    with pytest.warns(RuntimeWarning, match="another fit has written it meanwhile"):
        TopKSAE(**OPTIONS | {"max_iter": 1}, checkpoint=path).fit(X)
    assert path.read_bytes() == b"mine"


def test_the_file_stays_where_it_is_when_the_process_moves(X, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    begin = Run.epoch
    monkeypatch.setattr(
        Run, "epoch", lambda fit: begin(fit) or os.chdir(tmp_path / "elsewhere")
    )
    TopKSAE(**OPTIONS, checkpoint="fit.ckpt").fit(X)
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "fit.ckpt"]


def test_what_killed_writers_of_this_fit_left_is_removed(X, path, killed_after):
    est = TopKSAE(**OPTIONS, random_state=0, checkpoint=path, checkpoint_every=0)
    killed_after(9, est, X)
    training = files.read(path)[0]["training"]
    own = path.with_name(f".fit.ckpt.{training}0123456789abcdef.new")
    other = path.with_name(".fit.ckpt.00112233445566770123456789abcdef.new")
    for file in (own, other):
        file.write_bytes(b"half of it")
    est.fit(X)
    assert sorted(os.listdir(path.parent)) == [other.name, path.name]


def test_a_warm_start_is_another_fit(X, path):
    est = TopKSAE(**OPTIONS, random_state=0, warm_start=True, checkpoint=path).fit(X)
    with pytest.raises(ValueError, match=r"differs in start \(None, now .*name another"):
        est.fit(X)
    with pytest.raises(ValueError, match="differs in start"):
        est.set_params(checkpoint=path.with_name("second")).fit(X).fit(X)


def test_an_interrupted_warm_start_goes_on(X, path, killed_after):
    first = TopKSAE(**OPTIONS, random_state=0, warm_start=True).fit(X)
    whole, killed, resumed = (copy.deepcopy(first) for _ in range(3))
    whole.fit(X)
    killed_after(13, killed.set_params(checkpoint=path, checkpoint_every=0), X)
    resumed.set_params(checkpoint=path).fit(X)
    np.testing.assert_array_equal(resumed.components_, whole.components_)


def test_partial_fit_says_that_it_writes_no_checkpoint(X, path):
    with pytest.warns(UserWarning, match="partial_fit writes no checkpoint") as caught:
        TopKSAE(**OPTIONS, checkpoint=path).partial_fit(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not path.exists()


def test_parameters_of_another_fit_are_told_before_the_data_are_read(X, path):
    TopKSAE(**OPTIONS, checkpoint=path).fit(X)
    passes = []

    def batches():
        passes.append(1)
        return iter([X])

    with pytest.raises(ValueError, match="differs in learning_rate"):
        TopKSAE(**OPTIONS, learning_rate=0.1, checkpoint=path).fit(BatchStream(batches))
    assert len(passes) == 1  # for the number of features


def test_more_epochs_are_refused_with_a_way_to_have_them(X, path, tmp_path):
    TopKSAE(**OPTIONS, checkpoint=path).fit(X)
    longer = TopKSAE(**OPTIONS | {"max_iter": 6}, checkpoint=path)
    with pytest.raises(ValueError, match=r"load_checkpoint .* warm_start=True, max_iter"):
        longer.fit(X)
    est = TopKSAE(**OPTIONS).load_checkpoint(path)
    est.set_params(warm_start=True, max_iter=2, checkpoint=tmp_path / "more").fit(X)
    assert est.n_iter_ == 2


def test_what_does_not_change_the_result_may_differ(X, path):
    est = MPSparseAutoencoder(**OPTIONS, checkpoint=path, random_state=0).fit(X)
    other = MPSparseAutoencoder(
        **OPTIONS,
        checkpoint=path,
        checkpoint_every=3,
        random_state=0,
        sparse_output=True,
        transform_n_nonzero_coefs=2,
        device="cpu",
    )
    np.testing.assert_array_equal(other.fit(X).components_, est.components_)


def test_a_full_disk_is_a_warning_and_leaves_the_older_checkpoint(X, path, monkeypatch):
    options = OPTIONS | {"random_state": 0, "checkpoint": path, "checkpoint_every": 0}
    whole = MPSparseAutoencoder(**OPTIONS, random_state=0).fit(X)
    savez, n_calls = np.savez, []

    def full_after_five(file, **arrays):
        n_calls.append(1)
        if len(n_calls) > 5:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full_after_five)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est = MPSparseAutoencoder(**options).fit(X)
    assert len(caught) == 32 + 1 - 5
    assert "could not be written" in str(caught[0].message)
    assert "No space left" in str(caught[0].message)
    np.testing.assert_array_equal(est.components_, whole.components_)
    assert sorted(os.listdir(path.parent)) == ["fit.ckpt"]
    assert files.read(path)[0]["n_steps"] == 5
    monkeypatch.undo()
    np.testing.assert_array_equal(
        MPSparseAutoencoder(**options).fit(X).components_, whole.components_
    )


# ------------------------------------------------------------------ killed for real
FIT = """
    import sys
    import time
    import numpy as np
    from sklearn_mpsae import MPSparseAutoencoder

    X = np.random.default_rng(0).random((400, 12), dtype=np.float32)
    est = MPSparseAutoencoder(
        24, n_nonzero_coefs=3, max_iter=150, batch_size=50, random_state=0,
        checkpoint=sys.argv[1], checkpoint_every=0,
    )
    print("begins", flush=True)
    begin = time.perf_counter()
    est.fit(X)
    print(time.perf_counter() - begin, est.components_.tobytes().hex())
"""


def test_a_process_that_is_killed_is_taken_up(tmp_path):
    """SIGKILL as soon as there is a checkpoint, which the next one then replaces."""
    path = tmp_path / "killed"
    command = [sys.executable, "-c", textwrap.dedent(FIT), path]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE)
    killed.stdout.readline()
    while not path.exists():
        assert killed.poll() is None
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert not killed.communicate()[0]
    assert 0 < files.read(path)[0]["n_steps"] < 1200

    def fit_with(path):
        names = {}
        exec(textwrap.dedent(FIT).replace("sys.argv[1]", repr(str(path))), names)
        return names["est"].components_

    np.testing.assert_array_equal(fit_with(path), fit_with(tmp_path / "whole"))


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_gets_there(tmp_path, rng):
    """SIGKILL at random moments, of which many fall into the writing of a checkpoint.

    Early ones at first, then later: whatever the load of the machine, one comes in time, and
    the fit gets to its end.
    """
    command = [sys.executable, "-c", textwrap.dedent(FIT)]
    whole = subprocess.run([*command, tmp_path / "whole"], capture_output=True, check=True)
    *_, seconds, components = whole.stdout.split()
    n_kills, path = 0, tmp_path / "killed"
    for n_runs in range(30):
        process = subprocess.Popen([*command, path], stdout=subprocess.PIPE)
        process.stdout.readline()
        try:
            share = rng.uniform(0, 0.4 * (1 + n_runs))
            out, _ = process.communicate(timeout=share * float(seconds))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            n_kills += 1
    else:
        pytest.fail("30 runs were not enough: it does not go on from where it was")
    assert process.returncode == 0
    assert n_kills >= 1
    assert out.split()[-1] == components
