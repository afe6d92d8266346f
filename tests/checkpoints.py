"""Fits that are killed, and that are compared, for tests of checkpoints."""

import numpy as np
import pytest

from sklearn_mpsae.learning.frame import Basis, Frame, Metric
from sklearn_mpsae.learning.state import Learnt, Training, TrainingState
from sklearn_mpsae.learning.trainer import Trainer

OPTIONS = {"n_components": 24, "n_nonzero_coefs": 3, "max_iter": 4, "batch_size": 64}


class Killed(BaseException):
    """What nothing catches."""


@pytest.fixture(name="X")
def some_rows(rng):
    return (rng.random((500, 12)) * (rng.random((500, 12)) < 0.4)).astype(np.float32)


@pytest.fixture(name="path")
def path_of_checkpoint(tmp_path):
    return tmp_path / "fit.ckpt"


@pytest.fixture(name="killed_after")
def killed_after_steps(monkeypatch):
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
    if isinstance(x, Metric):
        x = x.matrix
    if isinstance(x, Learnt | Training | TrainingState | Frame | Basis):
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


def unit_rows_of_signs(X):
    """Rows that have the same norm, values that have the same size."""
    return (np.where(X > 0.1, 1, -1) / np.sqrt(X.shape[1])).astype(X.dtype)
