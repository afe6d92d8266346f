"""The share of the loss that lies on fewer codes than there are."""

import numpy as np
import pytest

from sklearn_mpsae import MPSparseAutoencoder

OPTIONS = {"n_components": 64, "max_iter": 60, "random_state": 0}


@pytest.mark.parametrize("sparsity", ["row", "average"])
def test_one_fit_serves_smaller_numbers_of_codes(sparsity, digits):
    options = OPTIONS | {"n_nonzero_coefs": 12, "sparsity": sparsity}
    paths = {
        weight: MPSparseAutoencoder(**options, path_weight=weight)
        .fit(digits[:1400])
        .reconstruction_path(digits[1400:], 12)
        for weight in (0.0, 0.5, 1.0)
    }
    for some, more in ((0.0, 0.5), (0.5, 1.0)):
        assert (paths[more][:3] < paths[some][:3]).all()
    assert (paths[0.5][:2] < 0.95 * paths[0.0][:2]).all()


def test_one_code_is_its_own_path(digits):
    """Where rows have one code each, all of the loss is that of the last one."""
    options = OPTIONS | {"n_nonzero_coefs": 1, "max_iter": 3}
    atoms = [
        MPSparseAutoencoder(**options, path_weight=weight)
        .fit(digits)
        .partial_fit(digits)
        .components_
        for weight in (0.0, 1.0)
    ]
    # While it explores rows have more.
    assert not np.allclose(*atoms)
    later = [
        MPSparseAutoencoder(**options | {"warm_start": True}, path_weight=weight)
        for weight in (0.0, 1.0)
    ]
    for est in later:
        est._learnt = MPSparseAutoencoder(**options).fit(digits)._learnt
        est.fit(digits)
    np.testing.assert_allclose(later[0].components_, later[1].components_, atol=1e-12)


@pytest.mark.parametrize("algorithm", ["omp", "ols"])
def test_codes_that_are_refitted_have_no_prefixes(algorithm, digits):
    est = MPSparseAutoencoder(**OPTIONS, path_weight=0.1, transform_algorithm=algorithm)
    for learn in (est.fit, est.partial_fit):
        with pytest.raises(
            ValueError, match=r"path_weight=0\.1 needs transform_algorithm='mp'"
        ):
            learn(digits)
    est.set_params(transform_algorithm="mp").fit(digits)
    before = est.score(digits)
    assert est.set_params(transform_algorithm=algorithm).score(digits) > before


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan, "half", None])
def test_numbers_out_of_range(weight, digits):
    with pytest.raises(ValueError, match="'path_weight' parameter"):
        MPSparseAutoencoder(**OPTIONS, path_weight=weight).fit(digits)
