"""The file of a checkpoint: several fits write it, it moves, the disk is full."""

import os
import warnings

import numpy as np
import pytest
from checkpoints import (  # noqa: F401 - fixtures
    OPTIONS,
    killed_after_steps,
    path_of_checkpoint,
    some_rows,
    unit_rows_of_signs,
)
from joblib import parallel_config
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.learning import checkpoint as files
from sklearn_mpsae.learning.run import Run
from sklearn_mpsae.learning.trainer import Trainer


def test_folds_do_not_share_a_checkpoint(X, path):
    """The first one has it, and the others say what to do."""
    X = unit_rows_of_signs(X)
    options = OPTIONS | {"max_iter": 1, "intercept": "zero", "random_state": 0}
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
