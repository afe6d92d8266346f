"""What scikit-learn asks of an estimator, with no expected failure."""

import numpy as np
import pytest
from conftest import ESTIMATORS, SEARCHING
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mpsae.estimators._shallow import BaseAverageSAE

# Short fits. Those that search make many, and any of them reaches their target.
CHECKED = [cls(max_iter=5) for cls in ESTIMATORS] + [
    cls(cv=2, max_iter=2, target_score=-1000.0) for cls in SEARCHING
]


@parametrize_with_checks(CHECKED)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([cls() for cls in ESTIMATORS])
def test_check_estimator_as_it_comes(estimator, check):
    """What the README says: all checks, with no parameter set."""
    check(estimator)


# Checks that scikit-learn runs on its own classes only.
UNLISTED = [
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_dataframe_column_names_consistency",
    "check_inplace_ensure_writeable",
    "check_get_feature_names_out_error",
]


# Some fit a data frame and transform its array, or the reverse, to see the output.
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")
@pytest.mark.parametrize("check", UNLISTED)
@pytest.mark.parametrize("estimator", CHECKED, ids=lambda estimator: type(estimator).__name__)
def test_unlisted_check(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
def test_codes_depend_on_the_row_alone(Estimator, dtype, tol, algorithm, rng):
    """Alone, in any order, in any batch: at eight times as many atoms as features."""
    X = rng.standard_normal((200, 32)).astype(dtype)
    est = Estimator(256, n_nonzero_coefs=8, max_iter=2, random_state=0).fit(X)
    if "transform_algorithm" in est.get_params():
        est.set_params(transform_algorithm=algorithm)
    codes = est.transform(X)
    order = rng.permutation(len(X))
    np.testing.assert_allclose(est.transform(X[order]), codes[order], atol=tol)
    np.testing.assert_allclose(np.vstack([est.transform(x[None]) for x in X]), codes, atol=tol)
    parts = np.array_split(X, 7)
    np.testing.assert_allclose(np.vstack([est.transform(x) for x in parts]), codes, atol=tol)
    repeated = est.transform(np.repeat(X[:3], 50, axis=0))
    np.testing.assert_allclose(repeated, np.repeat(codes[:3], 50, axis=0), atol=tol)
    if not issubclass(Estimator, BaseAverageSAE):
        assert (codes != 0).sum(axis=1).max() == 8
