"""`with sae.coder() as encode`: what transform does, for many small calls."""

import os
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.models.coder import ShallowCoder

FAST = {"n_nonzero_coefs": 3, "max_iter": 3, "batch_size": 20, "random_state": 0}
VARIANTS = {
    "omp": {"transform_algorithm": "omp"},
    "ols": {"transform_algorithm": "ols"},
    "average": {"sparsity": "average"},
    "stops": {"tol": 0.1, "atol": 0.5, "stop_on_repeat": True},
    "signed": {"positive_code": False},
    "other k": {"transform_n_nonzero_coefs": 5},
}


def fitted(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(X)


def assert_codes(codes, expected):
    np.testing.assert_array_equal(codes.dense() != 0, expected != 0)
    rtol = 1e-4 if expected.dtype == np.float32 else 1e-10
    np.testing.assert_allclose(codes.dense(), expected, rtol=rtol, atol=rtol)
    assert codes.values.dtype == expected.dtype


@pytest.mark.filterwarnings("ignore:These rows have:UserWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_codes_as_transform_does(Estimator, dtype, small):
    X = small.astype(dtype)
    sae = fitted(Estimator(16, **FAST), X)
    with sae.coder() as encode:
        for n in (1, 7, 60):
            assert_codes(encode(X[:n]), sae.transform(X[:n]))


@pytest.mark.filterwarnings("ignore:These rows have:UserWarning")
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_it_codes_as_each_kind_of_pursuit_does(variant, device, small):
    sae = fitted(MPSparseAutoencoder(16, **FAST, device=device, **VARIANTS[variant]), small)
    with sae.coder() as encode:
        assert_codes(encode(small), sae.transform(small))


def test_it_prepares_once(digits, monkeypatch, on_cpu):
    sae = MPSparseAutoencoder(16, **FAST).fit(digits[:60])
    opened, grams = [], []
    enter, gram = NativeKernels.__enter__, NativeKernels.gram
    monkeypatch.setattr(NativeKernels, "__enter__", lambda k: opened.append(1) or enter(k))
    monkeypatch.setattr(NativeKernels, "gram", lambda *args: grams.append(1) or gram(*args))
    with sae.coder() as encode:
        for row in digits[:60]:
            encode(row[None])
    assert (len(opened), len(grams)) == (1, 1)


def test_rows_of_another_dtype_are_computed_in_it(small):
    """As `transform` does: a tensor and half floats in float32, integers in float64."""
    sae = MPSparseAutoencoder(16, **FAST).fit(small)
    whole = small.round()
    with sae.coder() as encode:
        for rows in (small.astype("f4"), torch.tensor(small).float(), small.astype("f2")):
            assert_codes(encode(rows), sae.transform(rows))
        for rows in (small, whole.astype(int), whole.tolist()):
            assert_codes(encode(rows), sae.transform(rows))


def test_what_is_set_or_fitted_meanwhile_changes_nothing(small):
    sae = MPSparseAutoencoder(16, **FAST).fit(small)
    with sae.coder() as encode:
        before = encode(small).dense()
        sae.components_[:] = np.roll(sae.components_, 1, axis=0)
        np.testing.assert_array_equal(encode(small).dense(), before)
        sae.set_params(transform_n_nonzero_coefs=1).fit(small[::-1] * 3)
        np.testing.assert_array_equal(encode(small).dense(), before)
        assert pickle.loads(pickle.dumps(sae)).n_steps_ == sae.n_steps_


def test_threads_share_it(small):
    sae = MPSparseAutoencoder(16, **FAST).fit(small)
    with sae.coder() as encode, ThreadPoolExecutor(8) as threads:
        expected = [encode(row[None]).dense() for row in small]
        found = threads.map(lambda row: encode(row[None]).dense(), small)
        np.testing.assert_array_equal(list(found), expected)


class OneAtATime(ShallowCoder):
    """Kernels have buffers that a second call would overwrite."""

    def open(self, kernels, n_rows):
        encode, busy = super().open(kernels, n_rows), []

        def alone(X):
            assert not busy
            busy.append(X)
            time.sleep(0.001)
            return [encode(X)[0] for _ in [busy.pop()]]

        return alone


class Guarded(TopKSAE):
    def _coder(self, k=None):
        return OneAtATime(**vars(super()._coder(k)))


def test_calls_wait_for_one_another(small):
    sae = Guarded(16, **FAST).fit(small)
    with sae.coder() as encode, ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(lambda row: encode(row[None]), small))) == 60


BAD = {
    "a row": (lambda X: X[0], "must have shape"),
    "other features": (lambda X: X[:, :4], r"must have shape \(n_samples, 10\), got \(60, 4\)"),
    "no rows": (lambda X: X[:0], "must have shape"),
    "NaN": (lambda X: np.where(np.arange(60)[:, None] == 3, np.nan, X), "Row 3 of X contains"),
    "too large": (lambda X: X * 1e200, "squares overflow"),
    "text": (lambda X: X.astype(str), "real numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_refused_and_others_go_on(kind, small):
    make, match = BAD[kind]
    sae = MPSparseAutoencoder(16, **FAST).fit(small)
    with sae.coder() as encode:
        with pytest.raises(ValueError, match=match):
            encode(make(small))
        assert_codes(encode(small), sae.transform(small))


def test_it_works_within_its_block_only(small):
    sae = TopKSAE(16, **FAST).fit(small)
    threads = set(threading.enumerate())
    coder = sae.coder()
    with pytest.raises(RuntimeError, match="Use it within `with estimator"):
        coder(small)
    with coder as encode:
        first = encode(small).dense()
    with pytest.raises(RuntimeError, match="Use it within `with estimator"):
        encode(small)
    with coder as encode:  # and again
        np.testing.assert_array_equal(encode(small).dense(), first)
    assert set(threading.enumerate()) == threads


def test_it_is_entered_once_at_a_time(small):
    sae = TopKSAE(16, **FAST).fit(small)
    coder = sae.coder()
    with coder as encode:
        with pytest.raises(RuntimeError, match="open already"):
            coder.__enter__()
        with sae.coder() as other:
            np.testing.assert_array_equal(other(small).dense(), encode(small).dense())
        assert len(encode(small)) == 60


def test_the_end_of_its_block_waits_for_calls(small):
    sae = Guarded(16, **FAST).fit(small)
    with ThreadPoolExecutor(4) as threads:
        with sae.coder() as encode:
            calls = [threads.submit(encode, small) for _ in range(20)]
            calls[0].result()
        for call in calls:
            error = call.exception()
            assert error is None or "Use it within" in str(error)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_open_one_of_its_own(digits):
    sae = MPSparseAutoencoder(64, **FAST).fit(digits)
    many = np.tile(digits, (4, 1))
    with sae.coder() as encode:
        encode(many)  # by threads
        child = os.fork()
        if not child:
            signal.alarm(30)  # in the place of hanging
            try:
                encode(many)
            except RuntimeError as error:
                os._exit(0 if "open one in each process" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(encode(many)) == len(many)


def test_names_of_features_are_compared(small):
    frame = pd.DataFrame(small).add_prefix("x")
    sae = TopKSAE(16, **FAST).fit(frame)
    with sae.coder() as encode:
        assert_codes(encode(frame), sae.transform(frame))
        assert_codes(encode(small), sae.transform(frame))
        with pytest.raises(ValueError, match="names of the features differ from those of fit"):
            encode(frame[frame.columns[::-1]])


def test_lists_of_tensors_are_taken_as_transform_takes_them(small):
    sae = TopKSAE(16, **FAST).fit(small)
    rows = [torch.tensor(row, dtype=torch.bfloat16, requires_grad=True) for row in small]
    with sae.coder() as encode:
        assert_codes(encode(rows), sae.transform(rows))


def test_an_estimator_has_to_be_fitted():
    with pytest.raises(NotFittedError):
        TopKSAE().coder()
