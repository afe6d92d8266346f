"""n_nonzero_coefs="auto": the number of codes that rows have of themselves, or a refusal."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_mpsae import BatchTopKSAE, JumpReLUSAE, MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.datasets import make_hierarchical_features, make_superposition
from sklearn_mpsae.learning import sparsity
from sklearn_mpsae.learning.sparsity import signs, signs_at, thresholds
from sklearn_mpsae.persistence import load, save
from sklearn_mpsae.sources import BatchStream

AUTO = {"n_nonzero_coefs": "auto", "sparsity": "average"}


@pytest.fixture(scope="module")
def tree():
    """Rows that are sums of 1.36 features on average."""
    return make_hierarchical_features(6000, rho=0.0, dtype=np.float32, random_state=0).data


@pytest.fixture(scope="module")
def fitted(tree):
    return MPSparseAutoencoder(20, **AUTO, batch_size=200, random_state=0).fit(tree)


def test_it_is_that_of_the_features_of_a_row(fitted, tree):
    assert fitted.n_nonzero_coefs_ == pytest.approx(1.36, rel=0.05)
    assert (fitted.transform(tree) != 0).sum(axis=1).mean() == pytest.approx(1.36, rel=0.05)


def test_it_is_found_where_features_are_more_than_dimensions():
    rows = make_superposition(20_000, 32, 64, l0=3, dtype=np.float32, random_state=0)
    sae = MPSparseAutoencoder(64, **AUTO, max_iter=12, random_state=0).fit(rows.data)
    assert sae.n_nonzero_coefs_ == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("kind", ["noise", "digits", "constant", "repeated"])
def test_rows_without_such_a_number_are_refused(kind, digits, rng):
    noise = rng.standard_normal((2000, 16))
    kinds = {"constant": np.ones((300, 4)), "repeated": noise[:3].repeat(100, axis=0)}
    X = {"noise": noise, "digits": digits, **kinds}[kind]
    sae = MPSparseAutoencoder(64, **AUTO, max_iter=60, random_state=0)
    with pytest.raises(ValueError, match=r"found no number of codes .* MPSparseAutoencoderCV"):
        sae.fit(X)
    assert not hasattr(sae, "components_")


def test_few_rows_are_refused(tree):
    with pytest.raises(ValueError, match=r"needs 100 rows or more .* there are 99"):
        MPSparseAutoencoder(20, **AUTO).fit(tree[:99])


def test_the_fit_is_that_with_the_number(fitted, tree):
    """Also of a generator: what the search draws is not missing in the fit."""
    number = {**AUTO, "n_nonzero_coefs": fitted.n_nonzero_coefs_}
    options = {"n_components": 20, "batch_size": 200}
    for seed in (0, np.random.RandomState(0)):
        told = MPSparseAutoencoder(**options, **number, random_state=0).fit(tree)
        sae = MPSparseAutoencoder(**options, **AUTO, random_state=seed).fit(tree)
        np.testing.assert_array_equal(sae.components_, told.components_)
        assert sae.n_nonzero_coefs_ == told.n_nonzero_coefs


def test_a_stream_goes_on_with_the_number(fitted, tree):
    sae = MPSparseAutoencoder(20, **AUTO, batch_size=200, random_state=0)
    with pytest.raises(ValueError, match="partial_fit needs a number"):
        sae.partial_fit(tree)
    sae = clone(sae).fit(tree).partial_fit(tree)
    assert sae.n_nonzero_coefs_ == fitted.n_nonzero_coefs_
    assert (sae.transform(tree) != 0).sum(axis=1).mean() == pytest.approx(1.36, rel=0.1)


def test_it_is_saved_with_the_estimator(fitted, tree, tmp_path):
    save(fitted, tmp_path / "sae")
    loaded = load(tmp_path / "sae")
    assert loaded.n_nonzero_coefs_ == fitted.n_nonzero_coefs_
    np.testing.assert_array_equal(loaded.transform(tree), fitted.transform(tree))


def test_set_after_a_fit_with_a_number_it_says_so(tree):
    options = {"sparsity": "average", "max_iter": 2, "random_state": 0}
    sae = MPSparseAutoencoder(20, n_nonzero_coefs=1.36, **options).fit(tree)
    assert not hasattr(sae, "n_nonzero_coefs_")
    sae.set_params(n_nonzero_coefs="auto")
    with pytest.raises(ValueError, match="was set after a fit with a number"):
        sae.transform(tree)


def test_a_number_set_after_it_is_taken(fitted, tree):
    sae = clone(fitted).fit(tree).set_params(n_nonzero_coefs=2)
    assert sae.transform(tree).shape == (6000, 20)


def test_it_goes_into_a_grid(tree):
    sae = MPSparseAutoencoder(20, sparsity="average", batch_size=200, random_state=0)
    search = GridSearchCV(sae, {"n_nonzero_coefs": [1, "auto"]}, cv=2, error_score="raise")
    assert search.fit(tree).best_params_ == {"n_nonzero_coefs": "auto"}
    assert search.best_estimator_.n_nonzero_coefs_ == pytest.approx(1.36, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": "row"}, "set sparsity='average'"),
        ({"checkpoint": "run.ckpt"}, "does not go with a checkpoint"),
    ],
)
def test_what_it_does_not_go_with_is_refused_before_any_work(options, message, tree, tmp_path):
    if "checkpoint" in options:
        options = {"checkpoint": tmp_path / options["checkpoint"]}
    sae = MPSparseAutoencoder(20, **AUTO | options)
    with pytest.raises(ValueError, match=message):
        sae.fit(tree)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cls", [TopKSAE, BatchTopKSAE, JumpReLUSAE])
def test_it_is_refused_by_name_where_it_is_not_known(cls, small):
    message = rf"is not for {cls.__name__}: pass a number, .*Only MPSparse.*\(sparsity="
    for learn in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(cls(n_nonzero_coefs="auto"), learn)(small)


def test_rows_that_can_be_read_once_are_refused(tree):
    sae = MPSparseAutoencoder(20, **AUTO, max_iter=1)
    with pytest.raises(ValueError, match="does not go with an iterator"):
        sae.fit(BatchStream(iter([tree[:3000], tree[3000:]]), n_samples=6000))


def test_many_rows_are_not_held_out(tree, monkeypatch, fitted):
    monkeypatch.setattr(sparsity, "_FEW_ROWS", 100)
    sae = clone(fitted).fit(tree)
    assert sae.n_nonzero_coefs_ == pytest.approx(1.36, rel=0.05)


# ---------------------------------------------------------------------------------- signs
def two_kinds(rng, counts, n_steps):
    """Pursuits whose codes are about 1 as often as told, and then about 0.1."""
    values = rng.uniform(0.09, 0.11, (len(counts), n_steps))
    large = np.arange(n_steps) < counts[:, None]
    return np.where(large, rng.uniform(0.9, 1.1, values.shape), values)


@pytest.mark.parametrize("k", [2.0, 3.0, 5.0])
def test_both_signs_tell_the_end_of_the_large_codes(k, rng):
    counts = rng.integers(1, 6, 3000)
    ratio, close, share = signs(two_kinds(rng, counts, 20), k)
    assert ratio == pytest.approx(counts.mean(), rel=0.05)
    assert close == pytest.approx(counts.mean(), rel=0.05)
    assert share < 0.05


def test_signs_are_told_at_any_threshold(rng):
    counts = rng.integers(1, 6, 3000)
    values = two_kinds(rng, counts, 20)
    (n_codes, ratio, close), (_, _, within) = signs_at(values, [0.5, 1.0])
    assert n_codes == pytest.approx(counts.mean())
    assert ratio == pytest.approx(0.1, rel=0.05)
    assert close == 0
    assert within > 0.9


def test_a_threshold_at_which_no_row_ends_has_no_sign(rng):
    """Below rounding errors, or above all codes, no code is close to it either."""
    values = two_kinds(rng, np.full(1000, 3), 20)
    assert signs_at(values, [1e-4])[0].tolist() == [20, 1, 1]
    assert signs_at(values, [10.0])[0].tolist() == [1 / 1000, 1, 1]


def test_the_signs_are_least_at_one_of_the_thresholds(rng):
    values = two_kinds(rng, rng.integers(1, 6, 3000), 20)
    n_codes, ratio, close = signs_at(values, thresholds(values, 2.0)).T
    assert signs(values, 2.0) == (n_codes[ratio.argmin()], n_codes[close.argmin()], close.min())


def test_rounding_errors_are_no_codes(rng):
    """Far below the others, whatever lies between them is no end of a row."""
    values = two_kinds(rng, np.full(1000, 3), 20)
    values[:, 8:] *= 1e-4
    for dtype in (np.float32, np.float64):
        assert signs(values.astype(dtype), 3.0)[:2] == pytest.approx((3, 3), rel=0.05)


def test_where_there_is_one_kind_of_code_the_signs_part(rng):
    values = np.sort(rng.exponential(size=(3000, 30)), axis=1)[:, ::-1]
    ratio, close, share = signs(values, 6.0)
    assert close > 1.5 * ratio or share > 0.25
