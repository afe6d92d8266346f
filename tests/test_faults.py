"""What becomes of a fit when the machine fails it: docs/trust.md has the outcomes.

Kills: tests/test_checkpoint.py. Full disks while checkpoints are written:
tests/test_checkpoint_shared.py. Dead ranks: tests/test_distributed.py. Files that are
damaged: tools/fuzz.py and the tests of each.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.model_selection import GridSearchCV

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

FIT = """
import numpy as np
from sklearn_mpsae import MPSparseAutoencoder
X = np.random.default_rng(0).standard_normal((50, 8))
print(MPSparseAutoencoder(16, max_iter=2, random_state=0).fit(X).components_.tobytes().hex())
"""


def run(code, **environment):
    """What the code prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def undisturbed():
    return run(FIT)


def test_a_damaged_numba_cache_is_compiled_anew(undisturbed, tmp_path):
    """Of every other function the index, of the others the code."""
    run(FIT, NUMBA_CACHE_DIR=str(tmp_path))
    indices = sorted(tmp_path.rglob("*.nbi"))
    codes = [file for index in indices[::2] for file in tmp_path.rglob(f"{index.stem}*.nbc")]
    for damaged, content in [(indices[1::2], b"garbage"), (codes, b"")]:
        assert damaged
        for file in damaged:
            file.write_bytes(content)
    assert run(FIT, NUMBA_CACHE_DIR=str(tmp_path)) == undisturbed
    for damaged, content in [(indices[1::2], b"garbage"), (codes, b"")]:
        used = [file for file in damaged if file.read_bytes() != content]
        assert len(used) > len(damaged) / 2


def test_a_changed_file_of_loops_makes_the_numba_cache_stale(tmp_path):
    """That of loops in the other files, too: their code has the changed functions in it."""
    package = Path(sklearn_mpsae.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, tmp_path / package.name, ignore=ignored)
    copied = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    hits = """
from sklearn_mpsae.coding.kernels.loops import pick_rows
print(sum(pick_rows.stats.cache_hits.values()))
"""

    def n_hits():
        return int(run(copied + FIT + hits, NUMBA_CACHE_DIR=str(tmp_path)).split()[-1])

    assert [n_hits(), n_hits()] == [0, 1]
    (changed,) = tmp_path.rglob("loops/bfloat16.py")
    changed.write_text(changed.read_text() + "# Another version.\n")
    assert n_hits() == 0


def test_no_folder_for_the_numba_cache(undisturbed):
    """As where neither the package's folder nor the home can be written to."""
    no_folder = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
"""
    assert run(no_folder + FIT) == undisturbed


def test_a_full_disk_for_the_numba_cache(undisturbed, tmp_path):
    full = """
from numba.core import caching
def no_space(*args):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile._save_data = no_space
"""
    assert run(full + FIT, NUMBA_CACHE_DIR=str(tmp_path)) == undisturbed


def test_without_a_compiler_tools_and_optional_packages_fits_work(undisturbed):
    missing = ["rich", "pandas", "polars", "matplotlib", "dask", "triton", "safetensors"]
    hidden = f"""
import sys
class Hidden:
    def find_spec(name, *args):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden)
"""
    assert run(hidden + FIT, PATH="", LOKY_MAX_CPU_COUNT="1") == undisturbed


@pytest.mark.parametrize("Sae", [MPSparseAutoencoder, TopKSAE])
def test_memory_that_is_not_there(Sae, small):
    sae = Sae(16, max_iter=1, random_state=0).fit(small)
    before = joblib.hash(vars(sae))
    with pytest.raises(MemoryError):
        sae.set_params(n_components=10**13).fit(small)
    assert joblib.hash(vars(sae.set_params(n_components=16))) == before


def test_ctrl_c_ends_a_fit_at_once_and_its_checkpoint_goes_on(small, tmp_path):
    np.save(tmp_path / "X.npy", small)
    code = f"""
import numpy as np
from sklearn_mpsae import MPSparseAutoencoder
sae = MPSparseAutoencoder(
    16, max_iter=10**6, random_state=0, checkpoint="{tmp_path}/c", checkpoint_every=0
)
try:
    sae.fit(np.load("{tmp_path}/X.npy"))
except KeyboardInterrupt:
    print("interrupted", vars(sae).keys() & {{"components_", "n_steps_"}})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(6000):
            if (tmp_path / "c").exists() or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out.strip() == "interrupted set()", err
    sae = MPSparseAutoencoder(16, max_iter=10**6, random_state=0)
    assert sae.load_checkpoint(tmp_path / "c").n_steps_ > 0


def killing_scorer(estimator, X, y=None):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_ends_a_grid_search_with_an_error(small):
    search = GridSearchCV(
        MPSparseAutoencoder(16, max_iter=1, random_state=0),
        {"n_nonzero_coefs": [1, 2, 3]},
        scoring=killing_scorer,
        n_jobs=2,
        cv=2,
    )
    with pytest.raises(TerminatedWorkerError):
        search.fit(small)
    # And the next one finds a new pool.
    assert search.set_params(scoring=None).fit(small).best_score_ <= 1


@pytest.mark.parametrize("folder", ["/proc/no-such-folder", "/dev/null/no-folder"])
def test_a_folder_that_cannot_be_written_to(folder, small):
    sae = MPSparseAutoencoder(16, max_iter=1, random_state=0).fit(small)
    with pytest.raises(OSError, match="no-"):
        sae.transform_to(small, f"{folder}/codes")
    with pytest.raises(OSError, match="no-"):
        sae.set_params(checkpoint=f"{folder}/checkpoint").fit(small)
