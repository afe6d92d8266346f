"""torch is an extra: what needs none runs without, and all else names the line to type."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchless

from sklearn_mpsae import (
    MPSparseAutoencoder,
    MPSparseAutoencoderCV,
    TopKSAE,
    activations,
    metrics,
    persistence,
)
from sklearn_mpsae.coding import kernels, matching_pursuit
from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.sources import BatchStream

FAST = {"n_nonzero_coefs": 2, "max_iter": 2, "random_state": 0}

# For a process that is to have no torch; sys.modules["torch"] = None would confuse SciPy.
HIDDEN = """
import runpy, sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: (
    None if name.split(".")[0] in ("torch", "triton") else find(name, *args)
)
"""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_cpu_needs_no_torch_and_gives_the_same_without(on_cpu):
    """All estimators, files, streams, searches, `compare`, `explore`."""
    run = f"runpy.run_path({torchless.__file__!r}, run_name='__main__')"
    result = subprocess.run(
        [sys.executable, "-c", HIDDEN + run],
        env=os.environ | {"PYTHONPATH": str(Path(torchless.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == torchless.sums()


@pytest.fixture
def no_torch(monkeypatch, on_cpu):
    """As where torch is not installed."""

    def missing(module, message):
        assert module == "torch"
        raise ImportError(message)

    monkeypatch.setattr("sklearn_mpsae._optional.imported", missing)


def fit(**options):
    return lambda X: MPSparseAutoencoder(8, **FAST, **options).fit(X)


CALLS = {
    "device='cuda'": fit(device="cuda"),
    "device='mps'": lambda X: TopKSAE(8, device="mps", **FAST).fit(X),
    "device='cpu:0'": lambda X: matching_pursuit(X, np.eye(10), 2, device="cpu:0"),
    "precision='bfloat16'": fit(precision="bfloat16"),
    "distributed=True": fit(distributed=True),
    "to_torch_module": lambda X: persistence.to_torch_module(fit()(X)),
    "downstream_loss": lambda X: metrics.downstream_loss(None, "", None, [], None),
    "attribution": lambda X: metrics.attribution(None, "", None, [], None),
    "sklearn_mpsae.activations.spliced": lambda X: activations.spliced,
    "sklearn_mpsae.activations.ModuleActivations": lambda X: activations.ModuleActivations,
}


@pytest.mark.parametrize("user", CALLS)
def test_what_needs_torch_says_what_to_type(user, small, no_torch):
    with pytest.raises(ImportError) as caught:
        CALLS[user](small)
    message = str(caught.value)
    assert message.startswith(f"{user} needs torch, which cannot be imported. Install it with ")
    assert "`pip install 'sklearn_mpsae[torch]'`." in message
    instead = {"device": "Or use device='cpu'", "precision": "Or set precision='full'."}
    assert instead.get(user.split("=")[0], "") in message


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bfloat16_is_refused_before_rows_are_read(method, small, no_torch):
    """But for the first batch, which has the number of features."""

    def batches():
        yield small
        pytest.fail("all rows were read")

    sae = MPSparseAutoencoder(8, precision="bfloat16", **FAST)
    rows = BatchStream(batches, n_samples=100)
    with pytest.raises(ImportError, match="precision='bfloat16' needs torch"):
        getattr(sae, method)(rows)
    assert not hasattr(sae, "components_")


def test_kernels_of_bfloat16_do_not_fall_back(small, no_torch):
    X, W = small.astype(np.float32), np.eye(10, dtype=np.float32)
    with open_kernels("cpu", X.dtype) as cpu:
        with pytest.raises(ImportError, match="precision='bfloat16' needs torch"):
            cpu.coarse_pursuit(X, W, 2, tol=0, threshold=0, positive=True)
        assert cpu.matching_pursuit(X, W, None, 2, tol=0, threshold=0, positive=True)


def test_a_search_in_bfloat16_says_so(small, no_torch):
    search = MPSparseAutoencoderCV(8, precision="bfloat16", cv=2, max_iter=2)
    with pytest.raises(ImportError, match="precision='bfloat16' needs torch"):
        search.fit(small)


def test_what_was_fitted_in_bfloat16_transforms_without_torch(small, monkeypatch, on_cpu):
    sae = MPSparseAutoencoder(8, precision="bfloat16", **FAST).fit(small)
    expected = sae.transform(small)
    monkeypatch.watch("sklearn_mpsae._optional", "imported", None)
    np.testing.assert_array_equal(sae.transform(small), expected)


@pytest.mark.parametrize("installed", [True, False])
def test_auto_asks_for_a_gpu_where_torch_is_installed(installed, own_choice, monkeypatch):
    """Without torch it is the CPU, whatever the machine has."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(kernels, "_may_have_accelerator", lambda: True)
    monkeypatch.setattr(kernels, "has_torch", lambda: installed)
    asked = []
    monkeypatch.watch(torch.cuda, "is_available", lambda: asked.append(1))
    with open_kernels("auto", np.dtype(np.float64)) as found:
        assert found.device == "cpu"
    assert bool(asked) == installed
