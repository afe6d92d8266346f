"""batch_size="auto" and precision="auto": what fits take for them, and where it stands."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from checkpoints import killed_after_steps, path_of_checkpoint  # noqa: F401 - fixtures
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding.kernels import native
from sklearn_mpsae.coding.pursuit import bfloat16_pays
from sklearn_mpsae.learning import sizes
from sklearn_mpsae.learning.distributed import Alone
from sklearn_mpsae.learning.settings import Settings
from sklearn_mpsae.learning.sizes import batch_size_for, sized
from sklearn_mpsae.models import pursuit as model
from sklearn_mpsae.models.pursuit import MatchingPursuit
from sklearn_mpsae.persistence import load, save

OPTIONS = {"n_nonzero_coefs": 2, "random_state": 0}


@pytest.mark.parametrize(
    ("n_components", "n_rows", "max_iter", "expected"),
    [
        (64, 10**7, None, 512),
        (1024, 10**7, None, 512),
        (4096, 10**7, None, 2048),
        (16_384, 10**7, None, 8192),
        # No larger, however many atoms; and smaller where outputs would take 1 GiB.
        (32_768, 10**7, None, 8192),
        (65_536, 10**7, None, 4096),
        # 64 steps an epoch, or 250 of the epochs asked for; but never fewer rows than 512.
        (16_384, 262_144, None, 4096),
        (16_384, 262_144, 5, 5242),
        (16_384, 1000, None, 512),
        # A stream has no end to count steps to.
        (16_384, None, 1, 8192),
    ],
)
def test_the_rows_of_a_step_grow_with_the_atoms(
    monkeypatch, n_components, n_rows, max_iter, expected
):
    monkeypatch.watch(sizes, "OUTPUT_BYTES", 1 << 30)
    assert batch_size_for(n_components, n_rows, max_iter) == expected


def test_with_little_memory_steps_are_smaller(monkeypatch):
    monkeypatch.watch(sizes, "OUTPUT_BYTES", 1 << 26)
    assert batch_size_for(16_384) == 1024


def test_the_table_of_the_docs_is_true(monkeypatch):
    monkeypatch.watch(sizes, "OUTPUT_BYTES", 1 << 30)
    page = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
    table = page.partition("| atoms | rows | `max_iter` |")[2].partition("\n\n")[0]
    lines = [re.findall(r"[^|]+", line) for line in table.splitlines()[2:]]
    assert len(lines) == 7
    for atoms, rows, epochs, size, steps in lines:
        atoms, size = (int(x.split()[0].replace(",", "")) for x in (atoms, size))
        rows = 10**7 if "any" in rows else int(rows.replace(",", ""))
        max_iter = None if "None" in epochs else int(epochs)
        assert batch_size_for(atoms, rows, max_iter) == size
        if max_iter:
            assert int(steps.split(":")[0]) == math.ceil(rows / size)


@pytest.fixture
def small_sizes(monkeypatch):
    """The rules of thousands of atoms, for tens of them."""
    monkeypatch.watch(sizes, "_LEAST", 4)
    monkeypatch.watch(sizes, "_STEPS", 5)
    monkeypatch.watch(sizes, "_STEPS_OF_EPOCH", 4)


def test_auto_is_the_size_that_it_says(Estimator, small, small_sizes):
    auto = Estimator(24, max_iter=3, **OPTIONS).fit(small)
    assert auto.batch_size_ == 12
    assert auto.n_steps_ == 3 * 60 / 12
    told = clone(auto).set_params(batch_size=12).fit(small)
    np.testing.assert_array_equal(auto.components_, told.components_)
    # Fewer epochs: fewer rows to a step; a stream is not cut by its calls.
    assert Estimator(24, max_iter=1, **OPTIONS).fit(small[:30]).batch_size_ == 6
    assert Estimator(24, **OPTIONS).partial_fit(small[:30]).batch_size_ == 12


def test_an_explicit_size_is_told_too(Estimator, small):
    est = Estimator(24, max_iter=1, batch_size=7, **OPTIONS).fit(small)
    assert (est.batch_size_, est.n_steps_) == (7, 9)
    assert est.set_params(batch_size=20).partial_fit(small).batch_size_ == 20


def test_by_default_a_small_dictionary_learns_in_batches_of_512(small):
    sae = TopKSAE(8, max_iter=1, **OPTIONS).fit(np.tile(small, (10, 1)))
    assert (sae.batch_size_, sae.n_steps_) == (512, 2)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1024, 784), False), ((2048, 768), False), ((8192, 64), False), ((4096, 768), True)],
)
def test_bfloat16_pays_for_many_atoms(shape, expected):
    assert bfloat16_pays(*shape) == expected


@pytest.fixture
def pays(monkeypatch):
    """bfloat16 would pay, if the machine multiplies it: a list with whether it does."""
    machine = [True]
    monkeypatch.watch(model, "bfloat16_pays", lambda *sizes: True)
    monkeypatch.setattr(native.NativeKernels, "has_bfloat16", lambda self: machine[0])
    return machine


@pytest.mark.parametrize(("has", "taken"), [(True, "bfloat16"), (False, "full")])
@pytest.mark.usefixtures("on_cpu")
def test_auto_is_the_precision_that_it_says(has, taken, pays, small):
    pays[0] = has
    auto = MPSparseAutoencoder(24, max_iter=3, **OPTIONS)
    told = clone(auto).set_params(precision=taken).fit(small)
    assert auto.fit(small).precision_ == told.precision_ == taken
    np.testing.assert_array_equal(auto.components_, told.components_)
    assert auto.partial_fit(small).precision_ == taken
    np.testing.assert_array_equal(auto.components_, told.partial_fit(small).components_)


@pytest.mark.usefixtures("on_cpu")
def test_a_machine_is_not_asked_where_it_would_not_pay(monkeypatch, small):
    # torch would be imported.
    monkeypatch.setattr(native, "has_torch", None)
    assert MPSparseAutoencoder(24, max_iter=1, **OPTIONS).fit(small).precision_ == "full"
    monkeypatch.setattr(native, "has_torch", lambda: False)
    monkeypatch.watch(model, "bfloat16_pays", lambda *sizes: True)
    assert MPSparseAutoencoder(24, max_iter=1, **OPTIONS).fit(small).precision_ == "full"


@pytest.mark.usefixtures("on_cpu", "pays")
def test_searches_and_files_keep_what_was_taken(small, small_sizes, tmp_path):
    grid = {"n_nonzero_coefs": [1, 2]}
    search = GridSearchCV(MPSparseAutoencoder(24, max_iter=3), grid, cv=2).fit(small)
    best = search.best_estimator_
    assert (best.batch_size_, best.precision_) == (12, "bfloat16")
    save(best, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert (loaded.batch_size_, loaded.precision_) == (12, "bfloat16")
    assert (loaded.batch_size, loaded.precision) == ("auto", "auto")


@pytest.mark.usefixtures("on_cpu")
def test_a_resumed_fit_keeps_what_was_taken(
    pays, small, small_sizes, killed_after, path, monkeypatch
):
    """Though the machine, or this version, would now take another."""
    options = {"n_components": 24, "max_iter": 3, "checkpoint_every": 0, **OPTIONS}
    whole = MPSparseAutoencoder(**options).fit(small)
    killed_after(4, MPSparseAutoencoder(**options, checkpoint=path), small)
    pays[0] = False
    monkeypatch.watch(sizes, "_STEPS", 50)
    loaded = MPSparseAutoencoder(**options).load_checkpoint(path)
    assert (loaded.batch_size_, loaded.precision_) == (12, "bfloat16")
    resumed = MPSparseAutoencoder(**options, checkpoint=path).fit(small)
    assert (resumed.batch_size_, resumed.precision_) == (12, "bfloat16")
    np.testing.assert_array_equal(resumed.components_, whole.components_)


class OneOfTwo(Alone):
    """A rank whose other one answers as told."""

    def __init__(self, other):
        self.other = other

    def gather(self, x):
        return [x, self.other]


@pytest.mark.parametrize(("other", "taken"), [(True, "bfloat16"), (False, "full")])
def test_ranks_take_bfloat16_where_all_have_it(pays, other, taken):
    class Rows:
        n_features = 8

    settings = Settings(24, 2, batch_size=None)
    auto = MatchingPursuit(precision="auto")
    asked = native.NativeKernels(), OneOfTwo(other), 60, {}
    assert sized(auto, Rows, settings, *asked)[0].precision == taken


@pytest.mark.usefixtures("on_cpu", "pays")
def test_verbose_says_what_is_taken(small, small_sizes, capsys):
    MPSparseAutoencoder(24, max_iter=3, verbose=1, **OPTIONS).fit(small)
    assert "15 steps with up to 12 rows, atoms chosen in bfloat16." in capsys.readouterr().err
    TopKSAE(24, max_iter=3, verbose=1, **OPTIONS).fit(small)
    assert "15 steps with up to 12 rows." in capsys.readouterr().err
