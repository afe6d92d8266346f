"""Callbacks: scikit-learn's on our estimators, and ours."""

import copy
import importlib
import pickle
import sys
import threading

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV, TopKSAE
from sklearn_mpsae.callbacks import EarlyStopping, LogMetrics
from sklearn_mpsae.learning.trainer import Trainer

sklearn_callback = pytest.importorskip(
    "sklearn.callback", reason="callbacks came with scikit-learn 1.9"
)
FAST = {"max_iter": 3, "batch_size": 20, "random_state": 0}


def negative_l0(est, X):
    """A score; of a module, so that it pickles."""
    return -np.count_nonzero(est.transform(X))


def r2(est, X, y):
    return est.score(X)


def epoch_scores(monitor):
    return [row["score"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]


@pytest.fixture
def monitor():
    return sklearn_callback.ScoringMonitor(scoring={"score": r2})


@pytest.fixture
def interrupted(tmp_path, monkeypatch, small):
    """A function that gives an estimator whose fit was stopped after 7 of 9 steps."""

    def interrupted(cls):
        path = tmp_path / "fit.ckpt"
        est = cls(16, **FAST, checkpoint=path, checkpoint_every=0)
        step, left = Trainer.step, [7]

        def counted(self, *args):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return step(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", counted)
            with pytest.raises(KeyboardInterrupt):
                est.fit(small)
        return est

    return interrupted


# ------------------------------------------------------------------- scikit-learn's own
def test_scoring_monitor_scores_each_epoch(Estimator, small, monitor):
    est = Estimator(16, **FAST).set_callbacks(monitor).fit(small)
    scores = epoch_scores(monitor)
    assert len(scores) == 3
    assert scores[-1] == est.score(small)
    assert len(set(scores)) == 3


def test_scoring_monitor_in_a_pipeline_sees_what_the_step_sees(Estimator, small, monitor):
    pipe = make_pipeline(StandardScaler(), Estimator(16, **FAST).set_callbacks(monitor))
    pipe.fit(small)
    assert epoch_scores(monitor)[-1] == pipe.score(small)


def test_scoring_monitor_in_the_processes_of_a_search(small, monitor):
    est = MPSparseAutoencoder(16, **FAST).set_callbacks(monitor)
    search = GridSearchCV(est, {"n_nonzero_coefs": [1, 2]}, cv=2, n_jobs=2).fit(small)
    scores = epoch_scores(monitor)
    assert len(scores) == 3 * (2 * 2 + 1)
    assert search.best_estimator_.score(small) in scores


def test_scoring_monitor_counts_on_after_a_checkpoint(Estimator, interrupted, small, monitor):
    interrupted(Estimator).set_callbacks(monitor).fit(small)
    ids = [row["task_id"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert ids == [2]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bar_of_a_search_over_a_pipeline(n_jobs, small, capsys):
    pipe = make_pipeline(StandardScaler(), MPSparseAutoencoder(16, **FAST))
    grid = {"mpsparseautoencoder__n_nonzero_coefs": [1, 2]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs)
    bar = sklearn_callback.ProgressBar(max_propagation_depth=None)
    search.set_callbacks(bar).fit(small)
    shown = capsys.readouterr().out
    assert "MPSparseAutoencoder - fit" in shown
    assert "100%" in shown


def test_progress_bar_after_a_checkpoint(Estimator, interrupted, small, capsys):
    est = interrupted(Estimator).set_callbacks(sklearn_callback.ProgressBar())
    est.fit(small)
    shown = capsys.readouterr().out
    assert f"{Estimator.__name__} - fit" in shown
    assert "100%" in shown


def test_callbacks_end_with_a_fit_that_fails(small, monkeypatch):
    """A progress bar that went on would keep the process from ending."""
    est = MPSparseAutoencoder(16, **FAST).set_callbacks(sklearn_callback.ProgressBar())
    monkeypatch.setattr(Trainer, "step", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        est.fit(small)
    assert not hasattr(est, "_callback_fit_ctx")
    running = {type(thread).__name__ for thread in threading.enumerate()}
    assert "RichProgressMonitor" not in running


# ------------------------------------------------------------------------ early stopping
class ScoreOf:
    """A score that only depends on the epoch."""

    def __init__(self, *scores):
        self.scores = scores

    def __call__(self, est, X):
        return self.scores[est.n_iter_ - 1]


class Keep:
    """Keeps copies of what was fitted after each epoch."""

    def __init__(self):
        self.seen = {}

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.seen.setdefault(fitted_estimator.n_iter_, copy.deepcopy(vars(fitted_estimator)))


def test_early_stopping_goes_back_to_the_best_epoch(Estimator, small):
    """Whole, so that a stream goes on from there."""
    keep, stopping = (
        Keep(),
        EarlyStopping(small, scoring=ScoreOf(1, 2, 3, 2, 2.5, 9), patience=2),
    )
    est = Estimator(16, n_nonzero_coefs=3, batch_size=20, max_iter=10, random_state=0)
    est.set_callbacks(keep, stopping).fit(small)
    assert stopping.scores_ == [1, 2, 3, 2, 2.5]
    assert est.n_iter_ == len(est.loss_curve_) == 3
    best, last = keep.seen[3], keep.seen[5]
    for name in ("components_", "atom_usage_", "loss_curve_", "n_steps_"):
        np.testing.assert_array_equal(getattr(est, name), best[name])
    for ours, its in zip(
        est._training.state.moments["components"],
        best["_training"].state.moments["components"],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, its)
    assert not np.array_equal(est.components_, last["components_"])


def test_early_stopping_without_going_back(small):
    stopping = EarlyStopping(small, scoring=ScoreOf(3, 2, 1), patience=2, restore_best=False)
    est = MPSparseAutoencoder(16, max_iter=10, random_state=0).set_callbacks(stopping)
    assert est.fit(small).n_iter_ == 3


def test_the_best_is_restored_where_nothing_stopped(small):
    stopping = EarlyStopping(small, scoring=ScoreOf(1, 3, 2), patience=9)
    assert MPSparseAutoencoder(16, **FAST).set_callbacks(stopping).fit(small).n_iter_ == 2


def test_patience_is_a_number_or_a_share_of_the_epochs(small):
    for patience, expected in [(4, 5), (0.2, 3), (0.01, 2)]:
        stopping = EarlyStopping(
            small, scoring=lambda est, X: -est.n_iter_, patience=patience, restore_best=False
        )
        est = MPSparseAutoencoder(16, max_iter=10, random_state=0).set_callbacks(stopping)
        assert est.fit(small).n_iter_ == expected


def test_min_delta_is_what_counts_as_better(small):
    scores = ScoreOf(1, 1.4, 1.8, 1.9, 1.95, 1.96)
    stopping = EarlyStopping(small, scoring=scores, patience=2, min_delta=0.5)
    est = MPSparseAutoencoder(16, max_iter=6, random_state=0).set_callbacks(stopping).fit(small)
    assert (est.n_iter_, len(stopping.scores_)) == (3, 5)


def test_default_score_is_that_of_the_estimator(Estimator, digits):
    train, held_out = digits[:1000], digits[1000:]
    stopping = EarlyStopping(held_out)
    est = Estimator(64, n_nonzero_coefs=4, max_iter=10, random_state=0)
    est.set_callbacks(stopping).fit(train)
    assert est.score(held_out) == max(stopping.scores_)


def test_early_stopping_in_a_search_keeps_fits_apart(small):
    """In threads clones share the callback at the same time; in processes they have copies."""
    for backend in ("threading", "loky"):
        stopping = EarlyStopping(small, scoring=negative_l0, patience=1)
        est = TopKSAE(16, batch_size=20, max_iter=10, random_state=0).set_callbacks(stopping)
        search = GridSearchCV(est, {"n_nonzero_coefs": [1, 2, 3]}, cv=2, n_jobs=2)
        with joblib.parallel_backend(backend):
            search.fit(small)
        alone = clone(search.best_estimator_).fit(small)
        np.testing.assert_array_equal(search.best_estimator_.components_, alone.components_)
        assert stopping._runs == {}


def test_a_copy_knows_nothing_of_fits(small):
    """Else a pipeline with memory would take it for another callback after each."""
    stopping = EarlyStopping(small, scoring=negative_l0)
    before = joblib.hash(stopping)
    MPSparseAutoencoder(16, **FAST).set_callbacks(stopping).fit(small)
    assert joblib.hash(stopping) == before
    assert not hasattr(pickle.loads(pickle.dumps(stopping)), "scores_")


def test_a_fitted_estimator_pickles_with_its_callbacks(small):
    stopping = EarlyStopping(small)
    est = MPSparseAutoencoder(16, **FAST).set_callbacks(stopping).fit(small)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.transform(small), est.transform(small))


@pytest.mark.parametrize("name", ["checkpoint", "distributed"])
def test_the_best_epoch_cannot_be_restored_for_files_and_other_processes(name, small, tmp_path):
    value = tmp_path / "fit.ckpt" if name == "checkpoint" else True
    est = MPSparseAutoencoder(16, **FAST).set_callbacks(EarlyStopping(small))
    with pytest.raises(ValueError, match=f"best epoch with {name}=.*restore_best=False"):
        EarlyStopping(small).setup(est.set_params(**{name: value}), None)


def test_a_checkpoint_takes_early_stopping_that_does_not_go_back(small, tmp_path):
    stopping = EarlyStopping(small, scoring=ScoreOf(3, 2, 1), patience=1, restore_best=False)
    est = MPSparseAutoencoder(16, **FAST, checkpoint=tmp_path / "fit.ckpt")
    est.set_callbacks(stopping).fit(small)
    again = clone(est).set_callbacks().fit(small)
    assert again.n_iter_ == est.n_iter_ == 2
    np.testing.assert_array_equal(again.components_, est.components_)


def test_a_score_that_is_nan_is_refused(small):
    est = MPSparseAutoencoder(16, **FAST).set_callbacks(EarlyStopping(small[:1]))
    with pytest.raises(ValueError, match="X_val must have several rows"):
        est.fit(small)


@pytest.mark.parametrize("patience", [0, -1, 1.5, True, "long", None])
def test_bad_patience(patience):
    with pytest.raises(ValueError, match="patience must be"):
        EarlyStopping([[0.0]], patience=patience)


def test_other_bad_parameters():
    with pytest.raises(ValueError, match="min_delta must not"):
        EarlyStopping([[0.0]], min_delta=-1)
    with pytest.raises(TypeError, match="scoring must be"):
        EarlyStopping([[0.0]], scoring="r2")
    with pytest.raises(TypeError, match="write must be"):
        LogMetrics("a file")


@pytest.mark.parametrize(
    "callback", [EarlyStopping([[0.0]]), LogMetrics(print)], ids=lambda c: type(c).__name__
)
def test_our_callbacks_are_set_on_the_autoencoder(callback, small):
    pipe = make_pipeline(StandardScaler(), MPSparseAutoencoder(16, **FAST))
    with pytest.raises(TypeError, match="Pipeline has none: set it on the autoencoder"):
        pipe.set_callbacks(callback).fit(small)


# ------------------------------------------------------------------------------- logging
def test_log_metrics_hands_over_the_numbers_of_each_epoch(Estimator, small):
    seen = {}
    log = LogMetrics(seen.__setitem__, X_val=small)
    est = Estimator(16, n_nonzero_coefs=2, **FAST).set_callbacks(log).fit(small)
    assert list(seen) == [1, 2, 3]
    assert [seen[epoch]["loss"] for epoch in seen] == est.loss_curve_.tolist()
    assert seen[3] == {
        "loss": est.loss_curve_[-1],
        "l0": est.atom_usage_.sum() / 60,
        "dead_fraction": (est.atom_usage_ == 0).mean(),
        "n_steps": 9,
        "r2": est.score(small),
    }
    assert all(isinstance(x, float) for numbers in seen.values() for x in numbers.values())


def test_log_metrics_counts_on_after_a_checkpoint(interrupted, small):
    seen = []
    log = LogMetrics(lambda epoch, numbers: seen.append((epoch, *numbers)))
    interrupted(TopKSAE).set_callbacks(log).fit(small)
    assert seen == [(3, "loss", "l0", "dead_fraction", "n_steps")]


# ------------------------------------------------------------- before scikit-learn 1.9
def test_without_callbacks_in_scikit_learn_fits_go_on_and_say_so(small, monkeypatch):
    from sklearn_mpsae import _compat

    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    try:
        mixin = importlib.reload(_compat).CallbackSupportMixin
        assert mixin.__module__ == "sklearn_mpsae._compat"

        class Old(mixin, MPSparseAutoencoder):
            __init__ = MPSparseAutoencoder.__init__

        class OldCV(mixin, MPSparseAutoencoderCV):
            __init__ = MPSparseAutoencoderCV.__init__

        for est in (
            Old(16, **FAST),
            OldCV(16, **FAST, n_nonzero_coefs=2, cv=2, target_score=0.1),
        ):
            with pytest.warns(UserWarning, match=r"Callbacks need scikit-learn 1\.9"):
                assert est.set_callbacks(EarlyStopping(small), LogMetrics(print)) is est
            assert est.fit(small).n_iter_ == 3
    finally:
        monkeypatch.undo()
        importlib.reload(_compat)


def test_a_search_calls_them_in_each_of_its_fits(small):
    """It has no `checkpoint` and no `distributed` of its own."""
    seen = []
    log = LogMetrics(lambda epoch, numbers: seen.append(epoch), X_val=small[:20])
    stopping = EarlyStopping(small, scoring=ScoreOf(1, 3, 2, 2), patience=2)
    search = MPSparseAutoencoderCV(
        8, n_nonzero_coefs=2, target_score=None, scoring=lambda est, X: 1.0, cv=2, max_iter=10
    )
    search.set_callbacks(log, stopping).fit(small)
    assert seen == [1, 2, 3, 4] * 3
    assert stopping.scores_ == [1, 3, 2, 2]
    assert search.n_iter_ == 2
