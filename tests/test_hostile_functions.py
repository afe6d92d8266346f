"""The tables of test_hostile.py for everything else that takes arrays.

The answer to the plain array, or an error. What takes rows, codes or atoms checks them at one
door of each kind: one place of each has all cases, the others have some, which show that they
go through that door.
"""

import numpy as np
import pytest
import torch
from hostile import REFUSED, ROUNDED, SAME, quietly
from scipy import sparse

from sklearn_mpsae import metrics, plotting

N_FEATURES = 10
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((60, N_FEATURES)) + 3
CODES = RNG.random((60, N_FEATURES)) * (RNG.random((60, N_FEATURES)) < 0.4)
ATOMS = RNG.standard_normal((60, N_FEATURES))
ATOMS /= np.linalg.norm(ATOMS, axis=1, keepdims=True)
BASIS = np.linalg.qr(RNG.standard_normal((N_FEATURES, N_FEATURES)))[0]
MATCHING = metrics.match_atoms(ATOMS, BASIS)
LEVELS = np.arange(N_FEATURES) // 2
PARENTS = np.array([-1, -1, 0, 0, 0, 0, 1, 1, 1, 1])


def both(result):
    return np.concatenate([np.ravel(part) for part in result])


# Where an odd array can come in: a plain one, and what makes numbers of it.
TAKE_ROWS = {
    "explained_variance, X": lambda X: metrics.explained_variance(X, ROWS + CODES),
    "explained_variance, reconstruction": lambda X: metrics.explained_variance(ROWS + CODES, X),
    "fraction_of_variance_unexplained": lambda X: metrics.fraction_of_variance_unexplained(
        X, ROWS + CODES
    ),
    "ExplainedVariance": lambda X: metrics.ExplainedVariance().update(X, 2 * ROWS).compute(),
    "residual_path, X": lambda X: metrics.residual_path(X, CODES, BASIS),
}
TAKE_CODES = {
    "atom_usage": metrics.atom_usage,
    "l0": metrics.l0,
    "dead_fraction": metrics.dead_fraction,
    "effective_rank": metrics.effective_rank,
    "AtomUsage": lambda Z: metrics.AtomUsage().update(Z).compute(),
    "SecondMoment": lambda Z: metrics.SecondMoment().update(Z).compute(),
    "match_codes, codes": lambda Z: both(metrics.match_codes(Z, CODES)),
    "match_codes, activations": lambda Z: both(metrics.match_codes(CODES, Z)),
    "coselected_babel": lambda Z: metrics.coselected_babel(Z, BASIS),
    "conditional_orthogonality": lambda Z: both(metrics.conditional_orthogonality(Z, BASIS)),
    "residual_path, codes": lambda Z: metrics.residual_path(ROWS, Z, BASIS),
}
TAKE_ATOMS = {
    "mutual_coherence": metrics.mutual_coherence,
    "babel_function": metrics.babel_function,
    "match_atoms, dictionary": lambda W: both(metrics.match_atoms(W, BASIS)),
    "match_atoms, truth": lambda W: both(metrics.match_atoms(ATOMS, W)),
    "matched_cosine": lambda W: metrics.matched_cosine(W, BASIS),
    "feature_absorption": lambda W: metrics.feature_absorption(W, BASIS, PARENTS),
    "similarity_error": lambda W: both(metrics.similarity_error(W, BASIS, LEVELS)),
    "stability": lambda W: metrics.stability([ATOMS[::-1], W]),
    "AtomsDisplay": lambda W: (
        plotting.AtomsDisplay.from_dictionary(W, image_shape=(2, 5)).images
    ),
    "AtomWeightsDisplay": lambda W: plotting.AtomWeightsDisplay.from_dictionary(W).weights,
    "GramDisplay": lambda W: plotting.GramDisplay.from_dictionary(W).cosines,
    "BabelDisplay": lambda W: plotting.BabelDisplay.from_dictionary(W).babel,
}
PLACES = {
    **{name: (ROWS, place) for name, place in TAKE_ROWS.items()},
    **{name: (CODES, place) for name, place in TAKE_CODES.items()},
    **{name: (ATOMS, place) for name, place in TAKE_ATOMS.items()},
}


# A place of each door, for all cases; and the cases that all places have.
DOORS = ("explained_variance, X", "match_codes, codes", "match_atoms, dictionary")
EVERYWHERE = {
    *("list of lists", "CSR matrix", "tensor with gradient", "float16"),
    *("NaN", "one cell beyond squares", "complex", "ragged", "no rows"),
}


def tried(table, places):
    return pytest.mark.parametrize(
        ("case", "place"),
        [(c, p) for p in places for c in table if p in DOORS or c in EVERYWHERE],
    )


SPARSE = [case for case in SAME if "CS" in case or case in ("COO", "pandas sparse")]


@tried(SAME, PLACES)
def test_the_same_numbers_have_the_same_answer(case, place):
    plain, call = PLACES[place]
    if place in TAKE_ATOMS and case in SPARSE:
        with pytest.raises(TypeError, match=r"toarray"):
            quietly(call, SAME[case](plain))
        return
    np.testing.assert_array_equal(quietly(call, SAME[case](plain.copy())), call(plain))


@tried(ROUNDED, [*TAKE_ROWS, *TAKE_CODES])
def test_other_dtypes_are_computed_in_float64(case, place):
    plain, call = PLACES[place]
    odd = ROUNDED[case][0](100 * plain)
    exact = odd.toarray() if sparse.issparse(odd) else odd
    exact = exact.float().numpy() if isinstance(exact, torch.Tensor) else exact
    np.testing.assert_array_equal(call(odd), call(exact.astype(np.float64)))


# What numbers are called does not matter here, and a matrix is an array.
@tried([c for c in REFUSED if "names" not in c and "matrix" not in c], PLACES)
def test_what_estimators_refuse_is_refused(case, place):
    plain, call = PLACES[place]
    message = rf"{REFUSED[case][1]}|must have shape|toarray|float\(\)"
    with pytest.raises((ValueError, TypeError, OverflowError), match=message):
        quietly(call, quietly(REFUSED[case][0], plain.copy()))


@pytest.mark.parametrize("exponent", [-450, 450])
def test_units_do_not_matter(exponent):
    scale = 2.0**exponent
    X, X_hat = ROWS, ROWS + CODES
    assert metrics.explained_variance(scale * X, scale * X_hat) == metrics.explained_variance(
        X, X_hat
    )
    np.testing.assert_array_equal(
        metrics.residual_path(scale * X, scale * CODES, BASIS),
        metrics.residual_path(X, CODES, BASIS),
    )


def test_variance_that_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match="too small"):
        metrics.explained_variance(ROWS * 1e-300, ROWS * 1e-300)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_rows_all_the_same_have_no_variance_to_explain(value):
    assert np.isnan(metrics.explained_variance(np.full((61, 3), value), np.zeros((61, 3))))
