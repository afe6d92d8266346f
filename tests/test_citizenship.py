"""What the package does to the process it is a guest in: nothing that stays."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl
import torch
from sklearn.model_selection import GridSearchCV

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding.kernels import team


def run_python(code):
    """Run code in a fresh interpreter, warnings as errors; its output."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_and_its_names_loads_no_heavy_library():
    run_python(
        "import sys, sklearn_mpsae\n"
        "heavy = {'torch', 'matplotlib', 'numba', 'tqdm'}\n"
        "assert not heavy & set(sys.modules)\n"
        "from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, datasets, metrics\n"
        "assert not heavy - {'numba'} & set(sys.modules)\n"
    )


@pytest.mark.skipif(
    any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
    or sys.platform != "linux",
    reason="there may be a GPU, so that device='auto' has to ask torch",
)
def test_a_fit_on_the_cpu_loads_no_torch():
    run_python(
        "import sys, numpy as np, sklearn_mpsae\n"
        "X = np.random.default_rng(0).standard_normal((50, 5))\n"
        "est = sklearn_mpsae.MPSparseAutoencoder(8, max_iter=2).fit(X)\n"
        "est.score(X), est.transform(X)\n"
        "assert 'torch' not in sys.modules\n"
    )


def global_state():
    return {
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global one
        "torch": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "errors": np.geterr(),
        "blas": [
            (lib["filepath"], lib["num_threads"]) for lib in threadpoolctl.threadpool_info()
        ],
        "environment": dict(os.environ),
    }


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_no_global_state_is_touched(Estimator, device, small):
    """Neither by NumPy's kernels nor by torch's on the same processor."""
    est = Estimator(200, batch_size=30, max_iter=3, device=device, random_state=0)
    X = np.repeat(small, 30, axis=0)
    before = global_state()
    est.fit(X).partial_fit(X).transform(X)
    est.score(X)
    with pytest.raises(ValueError, match="NaN"):
        est.fit(X * np.nan)
    assert global_state() == before


def test_the_blas_limit_outlives_the_first_of_two_fits_and_is_then_lifted():
    """Two users at once: the limit goes with the last, to what it was before the first."""
    blas = team._blas()
    with blas.limit(limits=2):
        limit = team._BlasLimit()
        counts = lambda: {lib["num_threads"] for lib in blas.info()}  # noqa: E731
        limit.acquire()
        limit.acquire()
        limit.release()
        assert counts() == {1}
        limit.release()
        assert counts() == {2}


def test_threads_follow_the_limits_of_threadpoolctl():
    with threadpoolctl.threadpool_limits(1, user_api="openmp"), team.Team() as alone:
        assert alone.size == 1


@pytest.mark.usefixtures("on_cpu")
def test_codes_and_fits_do_not_depend_on_the_number_of_threads(Estimator, digits, monkeypatch):
    fits = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(team, "n_threads", lambda threads=threads: threads)
        fits.append(Estimator(128, max_iter=3, random_state=0).fit(digits))
    for other in fits[1:]:
        np.testing.assert_array_equal(other.components_, fits[0].components_)
        np.testing.assert_array_equal(other.transform(digits), fits[0].transform(digits))


def test_fits_in_other_processes_have_the_same_bits(Estimator, digits):
    sae, grid = Estimator(32, max_iter=2, random_state=0), {"n_nonzero_coefs": [2, 3]}
    found = [
        GridSearchCV(sae, grid, cv=2, n_jobs=n_jobs).fit(digits[:300]) for n_jobs in (1, 2)
    ]
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(*(search.cv_results_[name] for search in found))
    np.testing.assert_array_equal(*(search.best_estimator_.components_ for search in found))


def test_one_estimator_in_many_threads_gives_the_single_threaded_codes(Estimator, digits):
    est = Estimator(128, n_nonzero_coefs=6, max_iter=3, random_state=0).fit(digits)
    expected = est.transform(digits)
    with ThreadPoolExecutor(16) as pool:
        for codes in pool.map(lambda _: est.transform(digits), range(32)):
            np.testing.assert_array_equal(codes, expected)


def test_a_fork_after_a_fit_can_fit(digits):
    """No thread pool is left behind that a forked child would wait for in vain."""
    if not hasattr(os, "fork"):
        pytest.skip("this platform has no fork")
    run_python(
        "import os, numpy as np\n"
        "from sklearn_mpsae import MPSparseAutoencoder\n"
        "X = np.random.default_rng(0).standard_normal((3000, 64))\n"
        "est = MPSparseAutoencoder(128, max_iter=1, random_state=0)\n"
        "here = est.fit(X).components_\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0 if np.array_equal(est.fit(X).components_, here) else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )


def test_memory_of_a_fit_does_not_grow_with_the_rows():
    """Beyond the data themselves; their growth in full is in benchmarks/bench_memory.py."""
    import tracemalloc

    peaks = []
    for n in (20_000, 60_000):
        X = np.random.default_rng(0).standard_normal((n, 100), dtype=np.float32)
        est = MPSparseAutoencoder(64, n_nonzero_coefs=3, batch_size=512, max_iter=1)
        tracemalloc.start()
        est.fit(X)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The order of rows is one int64 each; a copy of the data would be 16 MB more.
    assert peaks[1] - peaks[0] < 2 * 40_000 * 8 + 100_000
