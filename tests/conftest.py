import gc
import os

# Before any of them is imported: threads of OpenMP and of the BLAS that wait for work sleep.
# Else they keep busy the processors that the other workers of pytest-xdist want.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
# Before SciPy is imported: scikit-learn skips its array API check without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
# Pictures are drawn, never shown.
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
from pages import browser, visit  # noqa: F401 - fixtures
from patches import CheckedPatch
from sklearn.base import BaseEstimator

import sklearn_mpsae
from sklearn_mpsae.coding import kernels
from sklearn_mpsae.coding.unit import unit_rows

# What device="auto", the default, is in the process of the tests; unset: what a user has.
DEVICE = os.environ.get("SKLEARN_MPSAE_DEVICE")

# Found, not listed: a new estimator takes every test that asks for `Estimator`, which has
# one dictionary to learn; those that search for one have tests of their own.
_PUBLIC = [
    public
    for public in (getattr(sklearn_mpsae, name) for name in sklearn_mpsae.__all__)
    if isinstance(public, type) and issubclass(public, BaseEstimator)
]
ESTIMATORS = [public for public in _PUBLIC if hasattr(public, "partial_fit")]
SEARCHING = [public for public in _PUBLIC if public not in ESTIMATORS]


@pytest.fixture(params=ESTIMATORS, ids=lambda cls: cls.__name__)
def Estimator(request):  # noqa: N802 - it stands for a class
    return request.param


_best_device = kernels._best_device


def _named_device(dtype):
    """The device of the environment variable, whether it is there or not: no silent CPU."""
    return DEVICE if kernels.has_torch() else "cpu"


@pytest.fixture
def own_choice(monkeypatch):
    """For tests of how device="auto" chooses."""
    monkeypatch.watch(kernels, "_best_device", _best_device)


@pytest.fixture
def on_cpu(monkeypatch):
    """For tests of the NumPy kernels, also where there is a GPU."""
    monkeypatch.watch(kernels, "_best_device", lambda dtype: "cpu")


def pytest_report_header():
    return f"device='auto' is {DEVICE!r}" if DEVICE else None


def pytest_collection_finish():
    """Collections of garbage pass over what is there before the first test, for good."""
    gc.freeze()
    if DEVICE:
        kernels._best_device = _named_device


def pytest_unconfigure():
    gc.unfreeze()
    kernels._best_device = _best_device


def _one_of_each_base():
    """All estimators, those slow whose private base class another of them has as well."""
    bases = set()
    for cls in ESTIMATORS:
        base = next(base for base in cls.__mro__[1:] if base not in ESTIMATORS)
        yield pytest.param(cls, marks=pytest.mark.slow if base in bases else ())
        bases.add(base)


@pytest.fixture(params=[*_one_of_each_base()], ids=lambda cls: cls.__name__)
def OneOfEachBase(request):  # noqa: N802
    """For tests that train to the end: what a base does, they see in one of its classes."""
    return request.param


@pytest.fixture
def monkeypatch():
    """pytest's, that also fails where what it put in was not used."""
    with CheckedPatch.context() as patch:
        yield patch


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small(rng):
    """60 rows of sums of a few of 16 atoms in 10 dimensions."""
    atoms = unit_rows(rng.standard_normal((16, 10)))
    codes = rng.random((60, 16)) * (rng.random((60, 16)) < 0.2)
    return codes @ atoms + 0.01 * rng.standard_normal((60, 10)) + 3.0


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    return load_digits().data


@pytest.fixture(scope="session")
def mnist():
    """(train, test) rows of MNIST in [0, 1], float32."""
    from sklearn_mpsae.datasets import fetch_mnist

    home = os.environ.get("SKLEARN_MPSAE_DATA")
    if home is None:
        pytest.skip("set SKLEARN_MPSAE_DATA to a folder that holds mnist.npz")
    data = fetch_mnist(home).data.astype(np.float32) / 255
    return data[:60_000], data[60_000:]
