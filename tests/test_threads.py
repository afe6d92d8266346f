"""Threads follow the limits of whoever runs the fit: joblib, threadpoolctl."""

import importlib
import itertools
import os
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import threadpoolctl
import torch
from numba.core.dispatcher import Dispatcher
from sklearn.model_selection import GridSearchCV
from toys import model_of

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae._compat import n_threads
from sklearn_mpsae.coding.kernels import gram_rows, loops, team
from sklearn_mpsae.coding.kernels.native import NativeKernels

N_CPUS = joblib.cpu_count()
# A share of processor time: the odd jobs of other threads, such as the queues of a worker.
FEW = 0.1


@pytest.fixture
def rows(rng):
    """Enough work that all threads allowed would be busy."""
    return rng.standard_normal((2000, 64))


@pytest.fixture
def workers():
    """The worker processes of joblib end with the test."""
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)


@pytest.fixture
def shared(monkeypatch):
    """All work is shared among threads, however little it is."""
    monkeypatch.setattr(team, "_GRAIN", 1)


# NumPy's kernels, and torch's on the same processor.
DEVICES = pytest.mark.parametrize("device", ["cpu", "cpu:0"])


class ShareOfOthers:
    """How much of the processor time inside went to threads other than the one that asks.

    Threads of any kind, Python's, OpenMP's, the BLAS's, and also those that have ended.
    """

    def __enter__(self):
        time.sleep(0.2)  # threads of the BLAS spin for a while after their last work
        self._process, self._thread = time.process_time(), time.thread_time()
        return self

    def __exit__(self, *exc_info):
        here = time.thread_time() - self._thread
        self.share = 1 - here / (time.process_time() - self._process)


class Watched(MPSparseAutoencoder):
    """Keeps what it saw of threads during its fit."""

    def fit(self, X, y=None):
        with ShareOfOthers() as others:
            super().fit(X)
        self.share_of_others_ = others.share
        return self


def threads_of(est, X, y=None):
    """What a worker has to say, as a scorer of GridSearchCV."""
    with team.Team() as here:
        size = here.size
    counts = [lib["num_threads"] for lib in threadpoolctl.threadpool_info()]
    return {
        "others": est.share_of_others_,
        "allowed": n_threads(),
        "team": size,
        "blas": max(counts),
        "torch": torch.get_num_threads(),
        "process": os.getpid(),
    }


def test_workers_of_a_grid_search_take_one_thread_each(rows, workers):
    """n_jobs=-1 has a worker per processor, so each may keep one busy."""
    est = Watched(256, n_nonzero_coefs=8, max_iter=4, random_state=0)
    grid = {"n_nonzero_coefs": [4, 8]}
    with joblib.parallel_config(backend="loky"):
        search = GridSearchCV(est, grid, cv=2, n_jobs=-1, scoring=threads_of, refit=False)
        results = search.fit(rows).cv_results_
    seen = lambda name: np.ravel([results[f"split{i}_test_{name}"] for i in range(2)])  # noqa: E731
    for name in ("allowed", "team", "blas", "torch"):
        assert set(seen(name)) == {1}, name
    assert seen("others").max() < FEW
    if N_CPUS > 1:
        assert os.getpid() not in seen("process")


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (None, max(N_CPUS // 2, 1)),
        pytest.param(1, 1, marks=pytest.mark.slow),
        (N_CPUS, N_CPUS),
    ],
)
def test_a_worker_may_use_the_threads_that_joblib_gives_it(inner, expected, workers):
    with joblib.parallel_config(backend="loky", inner_max_num_threads=inner):
        seen = joblib.Parallel(n_jobs=2)(joblib.delayed(n_threads)() for _ in range(2))
    assert set(seen) == {expected}


@DEVICES
def test_a_fit_uses_the_threads_that_threadpoolctl_allows(rows, device):
    est = MPSparseAutoencoder(256, n_nonzero_coefs=8, max_iter=4, device=device, random_state=0)
    est.fit(rows[:100])  # compiles
    with threadpoolctl.threadpool_limits(1), ShareOfOthers() as limited:
        est.fit(rows).score(rows)
    assert limited.share < FEW
    if N_CPUS > 1:
        # The proof, too, that others are seen where there are any.
        with ShareOfOthers() as free:
            est.fit(rows).score(rows)
        assert free.share > 2 * FEW


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_bit_depends_on_the_limits_of_threadpoolctl(Estimator, digits, dtype):
    X = digits.astype(dtype)

    def everything():
        est = Estimator(128, max_iter=2, random_state=0).fit(X)
        stream = Estimator(128, random_state=0).partial_fit(X).partial_fit(X[::2])
        fitted = [est.components_, est.intercept_, est.loss_curve_, stream.components_]
        # Not inverse_transform: a product of the BLAS, rounded by its number of threads.
        return [*fitted, est.transform(X), est.reconstruction_path(X, 4), est.score(X)]

    with threadpoolctl.threadpool_limits(1):
        alone = everything()
    with threadpoolctl.threadpool_limits(2):
        together = everything()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@DEVICES
@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_limits_are_what_they_were_after_an_error_in_the_middle(
    Estimator, device, error, small, monkeypatch
):
    """In the third step, while the threads of the fit live and the BLAS is limited."""
    steps = []
    model = model_of(Estimator)
    gradients = model.gradients

    def fails(self, *args):
        steps.append(None)
        if len(steps) == 3:
            raise error
        return gradients(self, *args)

    monkeypatch.setattr(model, "gradients", fails)
    counts = lambda: [  # noqa: E731
        (lib["filepath"], lib["num_threads"]) for lib in threadpoolctl.threadpool_info()
    ]
    with threadpoolctl.threadpool_limits(2):
        before = counts(), torch.get_num_threads(), set(threading.enumerate())
        for learn in ("fit", "partial_fit"):
            steps.clear()
            est = Estimator(20, batch_size=8, device=device, random_state=0)
            with pytest.raises(error):
                getattr(est, learn)(small)
            assert (counts(), torch.get_num_threads(), set(threading.enumerate())) == before


def test_compiled_loops_let_go_of_pythons_lock():
    files = [each.stem for each in Path(loops.__file__).parent.glob("[!_]*.py")]
    modules = [importlib.import_module(f"{loops.__name__}.{name}") for name in files]
    found = [vars(module).values() for module in modules]
    compiled = {each for each in itertools.chain(*found) if isinstance(each, Dispatcher)}
    assert compiled > {getattr(loops, name) for name in loops.__all__}
    assert all(each.targetoptions["nogil"] for each in compiled)


# ---------------------------------------------------------------- what is worth a thread
class CountingPool:
    def __init__(self, pool):
        self.pool, self.n_used = pool, 0

    def map(self, *arguments):
        self.n_used += 1
        return self.pool.map(*arguments)

    def shutdown(self):
        self.pool.shutdown()


STOPS = {"tol": 0.0, "threshold": 0.0, "positive": True}
RATES = (0.1, 0.5, 0.9, 2.0, 10.0)
WORK = {
    "gram": lambda do, X, W, k, codes: do.gram(W),
    "product": lambda do, X, W, k, codes: do.product(X, W),
    "pursuit": lambda do, X, W, k, codes: do.matching_pursuit(X, W, W @ W.T, k, **STOPS),
    "residual": lambda do, X, W, k, codes: do.matching_pursuit(X, W, None, k, **STOPS),
    "orthogonal": lambda do, X, W, k, codes: do.orthogonal_pursuit(X, W, W @ W.T, k, **STOPS),
    "spans": lambda do, X, W, k, codes: do.orthogonal_pursuit(X, W, None, k, **STOPS),
    "top_k": lambda do, X, W, k, codes: do.top_k(X, W, W[:, 0], k, positive=True),
    "above": lambda do, X, W, k, codes: do.above(X, W, W[:, 0], np.ones(len(W))),
    "batch_top_k": lambda do, X, W, k, codes: do.batch_top_k(X, W, W[:, 0], k),
    "decode": lambda do, X, W, k, codes: do.decode(*codes, W),
    "gather_dot": lambda do, X, W, k, codes: do.gather_dot(X, W, codes[0]),
    "scatter_outer": lambda do, X, W, k, codes: do.scatter_outer(*codes, X, len(W)),
    "pursuit_gradient": lambda do, X, W, k, codes: do.pursuit_gradient(X, W, *codes),
    "adam_step": lambda do, X, W, k, codes: do.adam_step(
        W, W.copy(), 0 * W, W[:, 0].copy(), RATES, sphere=True
    ),
    "tiles": lambda do, X, W, k, codes: gram_rows.GramRows(do._team, W, W).correlate(
        X, np.empty((len(X), len(W)))
    ),
    "bfloat16": lambda do, X, W, k, codes: gram_rows.CoarseGramRows(
        do._team, W, np.empty((len(W), len(W)), np.uint16)
    ).fetch_all(),
}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize(
    ("n", "p", "d", "k", "pays"), [(6, 8, 5, 2, False), (300, 2100, 256, 16, True)], ids=str
)
def test_threads_are_woken_where_the_work_pays(monkeypatch, rng, work, n, p, d, k, pays):
    """All parts of a large problem are shared, no part of a small one."""
    monkeypatch.setattr(team, "n_threads", lambda: 2)
    X, W = rng.standard_normal((n, d)), rng.standard_normal((p, d))
    codes = rng.integers(p, size=(n, k)).astype(np.int32), rng.random((n, k))
    shared = []
    run = team.Team.run
    monkeypatch.setattr(
        team.Team, "run", lambda *args, **kw: shared.append(args) or run(*args, **kw)
    )
    with NativeKernels() as kernels:
        pool = kernels._team._pool = CountingPool(kernels._team._pool)
        WORK[work](kernels, X, W, k, codes)
    assert pool.n_used == (len(shared) if pays else 0)
    assert shared
    assert not any(thread.is_alive() for thread in pool.pool._threads)


def test_blas_is_looked_for_once():
    assert team._blas() is team._blas()
