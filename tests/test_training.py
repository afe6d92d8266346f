"""What the training recipe promises."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding.unit import unit_rows
from sklearn_mpsae.datasets import make_hierarchical_features
from sklearn_mpsae.learning.recipe import fit_plan, stream_plan
from sklearn_mpsae.metrics import matched_cosine


@pytest.mark.parametrize("rho", [0.0, 0.1])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_the_default_recipe_recovers_the_tree(rho, seed):
    features = make_hierarchical_features(100_000, rho=rho, dtype=np.float32, random_state=seed)
    est = MPSparseAutoencoder(
        20,
        n_nonzero_coefs=2,
        tol=1e-3,
        batch_size=200,
        max_iter=15,
        intercept="zero",
        random_state=seed,
    ).fit(features.data)
    assert matched_cosine(est.components_, features.dictionary) >= 0.99


@pytest.mark.parametrize("scale", [2.0**-13, 2.0**13], ids=["2^-13", "2^13"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_scale_of_the_data_changes_nothing(Estimator, scale, dtype, digits):
    """Powers of two, which scale without rounding: the same fit, bit for bit."""
    X = digits[:500].astype(dtype)
    est = Estimator(80, n_nonzero_coefs=6, max_iter=20, random_state=0).fit(X)
    scaled = Estimator(80, n_nonzero_coefs=6, max_iter=20, random_state=0).fit(X * dtype(scale))
    np.testing.assert_array_equal(scaled.components_, est.components_)
    np.testing.assert_array_equal(scaled.transform(X * dtype(scale)) / scale, est.transform(X))
    assert scaled.score(X * dtype(scale)) == pytest.approx(est.score(X), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_scales_that_round_keep_support_and_score(Estimator, scale, digits):
    """Short of the chaos by which a long training grows any rounding error."""
    X = digits[:500]
    est = Estimator(80, n_nonzero_coefs=6, max_iter=20, random_state=0).fit(X)
    scaled = Estimator(80, n_nonzero_coefs=6, max_iter=20, random_state=0).fit(X * scale)
    np.testing.assert_array_equal(scaled.transform(X * scale) != 0, est.transform(X) != 0)
    assert scaled.score(X * scale) == pytest.approx(est.score(X), abs=1e-9)


@pytest.mark.parametrize("scale", [pytest.param(1e-4, marks=pytest.mark.slow), 1e4])
def test_a_full_fit_to_scaled_data_is_as_good(OneOfEachBase, scale, digits):
    X = digits[:500].astype(np.float32)
    est = OneOfEachBase(80, n_nonzero_coefs=6, random_state=0)
    scaled = clone(est).fit(X * np.float32(scale))
    est.fit(X)
    assert scaled.score(X * np.float32(scale)) == pytest.approx(est.score(X), abs=0.005)


def test_rotating_the_data_rotates_the_atoms(rng):
    """One step size for all coordinates of an atom: no feature axis is special."""
    X = rng.standard_normal((300, 12))
    Q = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    first = unit_rows(rng.standard_normal((20, 12)))
    options = {"n_nonzero_coefs": 3, "max_iter": 30, "random_state": 0}
    est = MPSparseAutoencoder(20, dict_init=first, **options).fit(X)
    rotated = MPSparseAutoencoder(20, dict_init=first @ Q, **options).fit(X @ Q)
    np.testing.assert_allclose(rotated.components_, est.components_ @ Q, atol=1e-8)


def half_dead_start(digits, noise=0.0):
    """Rows, and atoms of which half point at the corner pixel, which is always blank."""
    X = digits / 16
    assert not np.ptp(X[:, 0])
    atoms = np.random.default_rng(0).standard_normal((60, 64))
    atoms[30:] *= noise
    atoms[30:, 0] = 1.0
    return X, atoms


def test_dead_atoms_are_revived(Estimator, digits):
    """At a rate at which atoms hardly move, nothing else could bring them back."""
    X, atoms = half_dead_start(digits)
    options = {"n_nonzero_coefs": 4, "learning_rate": 1e-6, "max_iter": 30, "random_state": 0}
    kept = Estimator(60, dict_init=atoms, dead_atoms="keep", **options).fit(X)
    cured = Estimator(60, dict_init=atoms, dead_atoms="revive", dead_after=10, **options).fit(X)
    assert (kept.atom_usage_[30:] == 0).mean() > 0.9
    assert (cured.atom_usage_ == 0).mean() < 0.05


@pytest.mark.parametrize("n_components", [12, 20])
@pytest.mark.parametrize("seed", [1, 2])
def test_with_one_code_a_row_each_row_has_an_atom_where_there_are_enough(n_components, seed):
    """An atom that points at a residual loses against the atom that left it."""
    X = np.random.RandomState(seed).standard_normal((10, 8))
    sae = MPSparseAutoencoder(
        n_components,
        n_nonzero_coefs=1,
        positive_code=False,
        dead_after=30,
        max_iter=200,
        random_state=seed,
    )
    assert sae.fit(X).score(X) == pytest.approx(1)


def test_the_auxiliary_loss_brings_dead_latents_back(digits):
    X, atoms = half_dead_start(digits, noise=1e-6)
    options = {"n_nonzero_coefs": 4, "max_iter": 150, "random_state": 0, "dict_init": atoms}
    # About the mean, dead latents have outputs above zero for half of the rows.
    options["intercept"] = "mean"
    kept = TopKSAE(60, dead_atoms="keep", **options).fit(X)
    cured = TopKSAE(60, dead_atoms="auxiliary", **options).fit(X)
    assert (cured.atom_usage_ == 0).sum() <= (kept.atom_usage_ == 0).sum() / 2
    assert cured.score(X) > kept.score(X)


def test_no_atom_is_dead_after_a_default_fit(OneOfEachBase, digits):
    est = OneOfEachBase(128, n_nonzero_coefs=6, random_state=0).fit(digits)
    assert (est.atom_usage_ == 0).mean() < 0.01


def test_defaults_are_good_on_tabular_data():
    """As good as PCA with as many numbers per row, from an eighth as many again."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    est = MPSparseAutoencoder(120, n_nonzero_coefs=5, random_state=0).fit(X)
    top = TopKSAE(120, n_nonzero_coefs=5, random_state=0).fit(X)
    assert est.score(X) > 0.87
    assert top.score(X) > 0.8


def test_the_plan_of_a_fit():
    plans = [fit_plan(p, 5, 100, free_norms=True) for p in np.linspace(0, 1, 101)]
    assert [plans[i].n_nonzero_coefs for i in (0, 35, 70, 100)] == [15, 10, 5, 5]
    assert [p.sphere for p in plans] == [False] * 70 + [True] * 31
    assert plans[0].rate == 1
    assert plans[100].rate == pytest.approx(0)
    assert (np.diff([p.rate for p in plans]) < 0).all()
    assert plans[0].max_norm < 2**0.5
    assert plans[89].revive
    assert not plans[95].revive
    # Never more codes than atoms.
    assert fit_plan(0.0, 5, 7, free_norms=True).n_nonzero_coefs == 7


def test_the_plan_of_a_stream():
    plans = [stream_plan(n, 5, 100) for n in (0, 100, 200, 10_000)]
    assert [p.n_nonzero_coefs for p in plans] == [15, 10, 5, 5]
    assert all(p.sphere and p.revive for p in plans)
    assert [p.refine for p in plans] == [False, False, True, True]
    assert plans[3].rate == pytest.approx(201**-0.5)


def test_the_first_phase_frees_norms_and_the_last_keeps_the_sphere(digits, monkeypatch):
    from sklearn_mpsae.learning import run

    norms = []

    class Watching(run.Trainer):
        def step(self, X, plan):
            loss = super().step(X, plan)
            norms.append(np.linalg.norm(self.parameters["components"], axis=1))
            return loss

    monkeypatch.setattr(run, "Trainer", Watching)
    MPSparseAutoencoder(64, n_nonzero_coefs=6, max_iter=50, random_state=0).fit(digits)
    early, late = np.array(norms[:100]), np.array(norms[150:])
    assert np.ptp(early) > 0.1
    assert early.max() <= 1.2 + 1e-9
    np.testing.assert_allclose(late, 1, atol=1e-12)


# --------------------------------------------------------------------------- real data
@pytest.mark.slow
def test_mnist(mnist):
    """The bars of quality; their speed is shown by benchmarks/bench_mnist.py."""
    train, test = mnist
    options = {"n_components": 1024, "n_nonzero_coefs": 10, "batch_size": 1024}
    scores = []
    for seed in range(3):
        est = MPSparseAutoencoder(**options, max_iter=12, random_state=seed).fit(train)
        scores.append(est.score(test))
        assert (est.atom_usage_ == 0).mean() < 0.01
    assert min(scores) >= 0.857
    assert max(scores) - min(scores) <= 0.002
