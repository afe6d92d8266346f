"""A fit that is killed goes on from its checkpoint, to the same result bit for bit."""

import copy
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from checkpoints import (  # noqa: F401 - fixtures
    OPTIONS,
    assert_same_fit,
    killed_after_steps,
    path_of_checkpoint,
    some_rows,
)
from patches import CheckedPatch
from toys import model_of

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.learning import checkpoint as files
from sklearn_mpsae.learning.trainer import Trainer
from sklearn_mpsae.sources import BatchStream, NpyFiles


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

    options = OPTIONS | {"max_iter": 1, "intercept": "zero", "random_state": 0}
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


def test_a_fit_to_an_array_goes_on_from_a_file_of_it(X, path, tmp_path, killed_after):
    whole = MPSparseAutoencoder(**OPTIONS, random_state=0).fit(X)
    est = MPSparseAutoencoder(**OPTIONS, random_state=0, checkpoint=path, checkpoint_every=0)
    killed_after(13, est, np.asfortranarray(X))
    np.save(tmp_path / "X.npy", X)
    resumed = est.fit(NpyFiles(tmp_path / "X.npy"))
    np.testing.assert_array_equal(resumed.components_, whole.components_)


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
    with pytest.raises(ValueError, match=r"load_checkpoint .* another checkpoint"):
        longer.set_params(warm_start=True).fit(X)
    est = TopKSAE(**OPTIONS, checkpoint=path).load_checkpoint(path)
    with pytest.raises(ValueError, match=r"load_checkpoint .* another checkpoint"):
        est.set_params(warm_start=True, max_iter=2).fit(X)
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
