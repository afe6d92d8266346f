"""A stream of partial_fit goes on after a cut as if there had been none, to the last bit."""

import copy
import pickle
from dataclasses import asdict

import joblib
import numpy as np
import pytest


def through_pickle(est, folder):
    return pickle.loads(pickle.dumps(est))


def through_joblib(est, folder):
    joblib.dump(est, folder / "est.joblib", compress=3)
    return joblib.load(folder / "est.joblib")


def through_a_read_only_map(est, folder):
    """Its arrays stay on disk, where nothing may be written to them."""
    # Each time a new file: the last one may still be mapped (loss_curve_ is).
    path = folder / f"{len(list(folder.iterdir()))}.joblib"
    joblib.dump(est, path)
    est = joblib.load(path, mmap_mode="r")
    assert isinstance(est.components_, np.memmap)
    assert not est.components_.flags.writeable
    return est


def through_deepcopy(est, folder):
    return copy.deepcopy(est)


CUTS = [through_pickle, through_joblib, through_a_read_only_map, through_deepcopy]


def everything(est):
    """All that an estimator holds, in a form that assert_equal compares bit for bit."""
    state = vars(est).copy()
    training = vars(state.pop("_training")).copy()
    training["state"] = asdict(training["state"])
    training["frame"], training["basis"] = map(asdict, (training["frame"], training["basis"]))
    if training["frame"]["metric"] is not None:
        training["frame"]["metric"] = training["frame"]["metric"].matrix
    state |= {f"training {name}": x for name, x in training.items()}
    return {
        name: x.get_state() if isinstance(x, np.random.RandomState) else x
        for name, x in state.items()
    }


def assert_same(est, other, X):
    np.testing.assert_equal(everything(est), everything(other))
    for array in ("components_", "atom_usage_", "intercept_"):
        assert getattr(est, array).dtype == getattr(other, array).dtype
    np.testing.assert_array_equal(est.transform(X), other.transform(X))


def stream(est, chunks, cut=None, folder=None):
    """Learn from the chunks, with a cut after each but the last."""
    for chunk in chunks[:-1]:
        est.partial_fit(chunk)
        if cut is not None:
            est = cut(est, folder)
    return est.partial_fit(chunks[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_stream_equals_the_uncut_one(Estimator, cut, dtype, small, tmp_path):
    chunks = np.array_split(small.astype(dtype), 3)
    # More atoms than the data need, that die soon: their revival is part of the stream.
    params = {"n_components": 40, "batch_size": 4, "dead_after": 2, "random_state": 0}
    uncut = stream(Estimator(**params), chunks)
    mended = stream(Estimator(**params), chunks, cut, tmp_path)
    assert uncut.components_.dtype == dtype
    assert_same(mended, uncut, small.astype(dtype))


@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_with_a_generator_of_its_own_can_be_cut(Estimator, cut, small, tmp_path):
    chunks = np.array_split(small, 3)
    make = lambda: Estimator(20, batch_size=8, random_state=np.random.RandomState(3))  # noqa: E731
    assert_same(stream(make(), chunks, cut, tmp_path), stream(make(), chunks), small)


@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_that_goes_on_from_a_fit_can_be_cut(Estimator, cut, small, tmp_path):
    chunks = np.array_split(small, 2)
    fit = lambda: Estimator(20, batch_size=8, max_iter=5, random_state=0).fit(small)  # noqa: E731
    mended = stream(cut(fit(), tmp_path), chunks, cut, tmp_path)
    assert_same(mended, stream(fit(), chunks), small)


@pytest.mark.parametrize("cut", CUTS)
def test_a_warm_start_after_a_cut_equals_one_without(Estimator, cut, small, tmp_path):
    make = lambda: Estimator(20, max_iter=5, warm_start=True, random_state=0).fit(small)  # noqa: E731
    mended = cut(make(), tmp_path).fit(small)
    assert_same(mended, make().fit(small), small)


@pytest.mark.parametrize("cut", [through_pickle, through_joblib, through_deepcopy])
def test_the_two_ends_of_a_cut_share_nothing(Estimator, cut, small, tmp_path):
    """What goes on from a checkpoint leaves the original as it was."""
    est = Estimator(20, batch_size=8, random_state=0).partial_fit(small)
    before = copy.deepcopy(everything(est))
    cut(est, tmp_path).partial_fit(small + 1)
    np.testing.assert_equal(everything(est), before)
