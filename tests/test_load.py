"""One estimator in the hands of many, and for long."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

# All threads encode the same rows, over and over; 1 where all codes are those expected.
USER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import joblib, numpy as np
sae, X, codes = joblib.load(sys.argv[1])
with ThreadPoolExecutor(16) as threads:
    same = threads.map(lambda _: np.array_equal(sae.transform(X), codes), range(48))
    print(int(all(same)))
"""


@pytest.mark.parametrize(
    ("algorithm", "n_processes"),
    [
        ("mp", 2),
        pytest.param("mp", 4, marks=pytest.mark.slow),
        pytest.param("omp", 4, marks=pytest.mark.slow),
    ],
)
def test_many_threads_of_many_processes_get_the_codes_of_one(
    algorithm, n_processes, digits, tmp_path
):
    X = digits[:300]
    sae = MPSparseAutoencoder(
        128, n_nonzero_coefs=6, max_iter=2, transform_algorithm=algorithm, random_state=0
    ).fit(X)
    joblib.dump((sae, X, sae.transform(X)), tmp_path / "shared")
    command = [sys.executable, "-c", USER, tmp_path / "shared"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n_processes)
    ]
    try:
        answers = [process.communicate(timeout=300)[0].strip() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert answers == ["1"] * n_processes


@pytest.mark.slow
def test_ten_minutes_of_use_take_no_memory(digits):
    """`SOAK_SECONDS` for another time. Memory is compared with that after a tenth of it."""
    seconds = float(os.environ.get("SOAK_SECONDS", 600))
    start, after_warm_up, n_rounds = time.monotonic(), None, 0
    stream = TopKSAE(128, n_nonzero_coefs=6, random_state=0)
    while time.monotonic() - start < seconds:
        for options in ({}, {"transform_algorithm": "omp"}, {"sparsity": "average"}):
            sae = MPSparseAutoencoder(128, n_nonzero_coefs=6, max_iter=30, **options)
            sae.fit(digits).score(digits)
            sae.inverse_transform(sae.transform(digits))
        stream.partial_fit(digits)
        n_rounds += 1
        if after_warm_up is None and time.monotonic() - start > seconds / 10:
            after_warm_up = resident()
    growth = resident() - after_warm_up
    print(f"{n_rounds} rounds, {growth / 1e6:.1f} MB more")
    assert growth < 10e6


def resident():
    """Bytes of this process in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
