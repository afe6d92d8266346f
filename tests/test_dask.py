"""Out of core and over machines, on a real cluster of two processes."""

import os
import runpy
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.model_selection import GridSearchCV

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae._compat import n_threads

MISSING = "needs pip install 'sklearn_mpsae[dask]'"
da = pytest.importorskip("dask.array", reason=MISSING)
dask_ml = pytest.importorskip("dask_ml.wrappers", reason=MISSING)
distributed = pytest.importorskip("distributed", reason=MISSING)

# A block of an array is computed here, not on the cluster; older dask warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler")

ROOT = Path(__file__).parents[1]
SECONDS = 120  # after which a test has failed; they take a few


@contextmanager
def time_limit():
    """A cluster that does not answer fails the test, instead of keeping it for ever."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(*_):
        raise TimeoutError(f"no end after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def limited():
    with time_limit():
        yield


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with ExitStack() as stack:
        with time_limit():
            cluster = stack.enter_context(distributed.LocalCluster(**options))
            client = stack.enter_context(distributed.Client(cluster))
        yield client
        with time_limit():
            stack.close()


@pytest.fixture
def rows(digits):
    return digits[:600]


@pytest.fixture
def blocks(rows, client):
    """The same rows as a dask array, in blocks that are not all as long."""
    return da.from_array(rows, chunks=((200, 150, 250), (64,)))


def in_memory(blocks):
    return [block.compute(scheduler="synchronous") for block in blocks.blocks]


def in_order(est, blocks):
    for block in in_memory(blocks):
        est.partial_fit(block)
    return est


def test_incremental_is_partial_fit_on_block_after_block(Estimator, rows, blocks):
    params = {"n_components": 80, "batch_size": 64, "random_state": 0}
    expected = in_order(Estimator(**params), blocks)
    learnt = dask_ml.Incremental(Estimator(**params), shuffle_blocks=False).fit(blocks)
    assert learnt.n_steps_ == expected.n_steps_ == 4 + 3 + 4
    for name in ("components_", "intercept_", "atom_usage_"):
        np.testing.assert_array_equal(
            getattr(learnt.estimator_, name), getattr(expected, name), strict=True
        )
    # A second pass, which takes the stream up where the first one left it.
    learnt.partial_fit(blocks)
    in_order(expected, blocks)
    np.testing.assert_array_equal(learnt.estimator_.components_, expected.components_)
    np.testing.assert_array_equal(
        learnt.estimator_.transform(rows), expected.transform(rows), strict=True
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parallel_post_fit_is_transform_of_every_block(Estimator, rows, blocks, dtype):
    """Of every block, since the BLAS may round a row otherwise among other rows."""
    X = blocks.astype(dtype)
    est = Estimator(80, max_iter=3, random_state=0).fit(rows.astype(dtype))
    codes = dask_ml.ParallelPostFit(est).transform(X)
    assert codes.dtype == dtype
    expected = np.concatenate([est.transform(block) for block in in_memory(X)])
    np.testing.assert_array_equal(codes.compute(), expected, strict=True)


def test_parallel_post_fit_keeps_codes_sparse(rows, blocks):
    est = MPSparseAutoencoder(80, max_iter=3, sparse_output=True, random_state=0).fit(rows)
    codes = dask_ml.ParallelPostFit(est).transform(blocks).compute()
    assert sparse.issparse(codes)
    np.testing.assert_allclose(codes.toarray(), est.transform(rows).toarray(), atol=1e-9)


def where(est, X, y=None):
    """A scorer that also says in which process it ran, and with how many threads."""
    return {"r2": est.score(X), "process": os.getpid(), "threads": n_threads()}


def test_a_grid_search_over_dask_equals_the_plain_one(Estimator, rows, client):
    est = Estimator(80, max_iter=3, random_state=0)
    grid = {"n_nonzero_coefs": [2, 6]}
    search = GridSearchCV(est, grid, cv=2, scoring=where, refit="r2")
    plain = search.fit(rows)
    with joblib.parallel_config(backend="dask"):
        over_dask = GridSearchCV(est, grid, cv=2, scoring=where, refit="r2").fit(rows)
    for split in ("split0_test_", "split1_test_"):
        np.testing.assert_array_equal(
            over_dask.cv_results_[split + "r2"], plain.cv_results_[split + "r2"]
        )
        assert os.getpid() not in over_dask.cv_results_[split + "process"]
        # dask gives each worker one thread, and so does the fit.
        assert set(over_dask.cv_results_[split + "threads"]) == {1}
    assert over_dask.best_params_ == plain.best_params_
    np.testing.assert_array_equal(
        over_dask.best_estimator_.components_, plain.best_estimator_.components_
    )


@pytest.mark.parametrize("example", ["dask_out_of_core", "dask_grid_search"])
def test_the_names_that_an_example_asks_for_are_there(example):
    """All that it imports; it runs in full below."""
    assert callable(runpy.run_path(str(ROOT / "examples" / f"{example}.py"))["main"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "options", "said"),
    [
        ("dask_out_of_core", ["--rows=4000", "--block-rows=1000"], "4,000 x 128"),
        ("dask_grid_search", ["--max-iter=1", "--sparsities", "2", "8"], "6 fits on 2 workers"),
    ],
)
def test_the_examples_run(example, options, said):
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{example}.py")]
    result = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert result.returncode == 0, result.stderr
    assert said in result.stdout
