"""Metrics of recovery: atoms and codes against the features that made the data."""

from itertools import permutations

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.metrics import precision_recall_fscore_support
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_mpsae import TopKSAE, metrics
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.coding.unit import unit_rows
from sklearn_mpsae.metrics import Matching

EYE = np.eye(4)


@pytest.fixture
def truth(rng):
    return unit_rows(rng.standard_normal((5, 4)))


@pytest.fixture
def learned(rng, truth):
    """Seven atoms: noisy features in another order, and two of their own."""
    own = rng.standard_normal((2, 4))
    return unit_rows(np.vstack([own, truth[::-1] + 0.1 * rng.standard_normal((5, 4))]))


@pytest.fixture
def firings(rng):
    """Activations of five features, and codes of seven atoms that follow some of them."""
    activations = rng.random((60, 5)) * (rng.random((60, 5)) < 0.3)
    codes = rng.random((60, 7)) * (rng.random((60, 7)) < 0.1)
    codes[:, 2:] += 3 * activations[:, ::-1] * (rng.random((60, 5)) < 0.8)
    return codes, activations


# --------------------------------------------------------------------------- matchings
@pytest.mark.parametrize("absolute", [False, True])
def test_atoms_are_paired_as_well_as_can_be(absolute, rng, truth):
    W = unit_rows(rng.standard_normal((4, 4)))
    cosines = W @ truth.T
    cosines = np.abs(cosines) if absolute else cosines
    best = max(cosines[range(4), list(order)].sum() for order in permutations(range(5), 4))
    matching = metrics.match_atoms(W, truth, absolute=absolute)
    assert matching.scores.sum() == pytest.approx(best)
    np.testing.assert_allclose(matching.scores, cosines[matching.atoms, matching.features])
    assert (np.diff(matching.features) > 0).all()
    assert sorted(matching.atoms) == [0, 1, 2, 3]
    assert metrics.matched_cosine(W, truth, absolute=absolute) == pytest.approx(best / 4)


def test_matching_finds_a_permutation(truth, learned):
    matching = metrics.match_atoms(learned, truth)
    np.testing.assert_array_equal(matching.atoms, [6, 5, 4, 3, 2])
    # The other way round the pairs are the same: neither has to be the larger.
    inverse = metrics.match_atoms(truth, learned)
    np.testing.assert_array_equal(inverse.features, [2, 3, 4, 5, 6])
    np.testing.assert_array_equal(inverse.atoms, [4, 3, 2, 1, 0])


def test_a_sign_is_only_forgiven_where_asked(truth):
    flipped = truth * np.array([1, -1, 1, 1, 1])[:, None]
    assert metrics.matched_cosine(flipped, truth) < 0.9
    assert metrics.matched_cosine(flipped, truth, absolute=True) == pytest.approx(1)
    assert metrics.stability([flipped, truth]) < 0.9
    assert metrics.stability([flipped, truth], absolute=True) == pytest.approx(1)


def test_matched_cosine_takes_a_matching(truth, learned):
    pairs = np.array([0, 1]), np.array([3, 2])
    expected = (learned[0] @ truth[3] + learned[1] @ truth[2]) / 2
    assert metrics.matched_cosine(learned, truth, pairs) == pytest.approx(expected)
    one = metrics.matched_cosine(learned, truth, Matching(*pairs, np.zeros(2)), absolute=True)
    expected = (abs(learned[0] @ truth[3]) + abs(learned[1] @ truth[2])) / 2
    assert one == pytest.approx(expected)


def test_codes_are_paired_by_their_activity(firings):
    codes, activations = firings
    matching = metrics.match_codes(codes, activations)
    np.testing.assert_array_equal(matching.features, range(5))
    np.testing.assert_array_equal(matching.atoms, [6, 5, 4, 3, 2])
    product = (codes / codes.max(axis=0)).T @ activations
    np.testing.assert_allclose(matching.scores, product[matching.atoms, matching.features])


def test_the_scale_of_an_atom_does_not_matter_for_its_pairing(firings):
    codes, activations = firings
    scaled = metrics.match_codes(codes * [1e3, 1e3, 1, 1, 1, 1, 1e-3], activations)
    np.testing.assert_allclose(scaled.scores, metrics.match_codes(codes, activations).scores)


def test_negative_codes_are_scaled_by_their_magnitude(firings):
    codes, activations = firings
    codes[10:20] *= -9
    product = (codes / np.abs(codes).max(axis=0)).T @ activations
    matching = metrics.match_codes(codes, activations)
    np.testing.assert_allclose(matching.scores, product[matching.atoms, matching.features])


def test_dead_atoms_are_paired_last_and_score_nothing():
    codes = np.array([[0, 1.0], [0, 1]])
    matching = metrics.match_codes(codes, [[0, 1.0], [0, 1]])
    np.testing.assert_array_equal(matching.atoms, [0, 1])
    np.testing.assert_array_equal(matching.scores, [0, 2])


# ----------------------------------------------------------------------------- firings
def test_firing_scores_are_scikit_learns(firings):
    codes, activations = firings
    atoms = np.array([6, 5, 4, 3, 2])
    scores = metrics.firing_scores(codes, activations, (atoms, np.arange(5)))
    for average, ours in zip((None, "macro", "micro"), scores, strict=True):
        *theirs, _ = precision_recall_fscore_support(
            activations != 0, codes[:, atoms] != 0, average=average
        )
        np.testing.assert_allclose(ours, theirs)


def test_firing_scores_do_not_depend_on_the_form(firings):
    codes, activations = firings
    matching = metrics.match_codes(codes, activations)
    expected = metrics.firing_scores(codes, activations, matching)
    order = np.argsort(-codes, axis=1)
    slots = Codes(order, np.take_along_axis(codes, order, axis=1), 7)
    given = metrics.firing_scores(slots, sparse.csr_matrix(activations), matching)
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_features_without_an_atom_are_missed_and_silent_ones_unknown():
    # Feature 0 is found, 1 has no atom, the atom of 2 is dead, 3 is never active.
    activations = np.array([[1.0, 1, 0, 0], [1, 0, 1, 0]])
    codes = np.array([[2.0, 0, 1, 5], [2, 0, 0, 5]])
    scores = metrics.firing_scores(codes, activations, ([0, 1, 2], [0, 2, 3]))
    for score in scores.per_feature:
        np.testing.assert_array_equal(score, [1, 0, 0, np.nan])
    assert scores.macro == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    # 3 firings of paired atoms, 4 activities, 2 of them met; atom 3 has no feature.
    assert scores.micro == pytest.approx((2 / 3, 2 / 4, 4 / 7))


# --------------------------------------------------------------------------- hierarchy
def test_absorption_is_the_share_of_the_parent_in_its_child():
    angle = 0.3
    W = EYE.copy()
    W[1] = np.cos(angle) * EYE[1] + np.sin(angle) * EYE[0]
    W[2] = np.cos(angle) * EYE[2] - np.sin(angle) * EYE[0]
    order = [2, 0, 3, 1]
    parents = [-1, 0, -1, -1]
    assert metrics.feature_absorption(EYE, EYE, parents) == 0
    absorbed = metrics.feature_absorption(W[order], EYE, parents)
    assert absorbed == pytest.approx(np.sin(angle))
    # A second child that is turned away as far: only magnitudes show it.
    parents = [-1, 0, 0, -1]
    assert metrics.feature_absorption(W, EYE, parents) == pytest.approx(0)
    both = metrics.feature_absorption(W, EYE, parents, absolute=True)
    assert both == pytest.approx(np.sin(angle))


def test_children_without_an_atom_are_not_absorbed():
    parents = [-1, 0, 0, -1]
    W = unit_rows(EYE[[0, 1]] + [[0, 0, 0, 0], [0.5, 0, 0, 0]])
    found = metrics.feature_absorption(W, EYE, parents)
    assert found == pytest.approx(0.5 / np.sqrt(1.25))
    assert np.isnan(metrics.feature_absorption(W, EYE, parents, ([0], [0])))


def test_similarity_error_is_of_pairs_within_and_across_levels(truth, learned, rng):
    levels = np.array([0, 0, 1, 1, 1])
    matching = metrics.match_atoms(learned, truth)
    W = learned[matching.atoms]
    errors = {True: [], False: []}
    for i in range(5):
        for j in set(range(5)) - {i}:
            error = (W[i] @ W[j] - truth[i] @ truth[j]) ** 2
            errors[bool(levels[i] == levels[j])].append(error)
    within, across = metrics.similarity_error(learned, truth, levels)
    assert within == pytest.approx(np.mean(errors[True]))
    assert across == pytest.approx(np.mean(errors[False]))
    # A rotation moves atoms away from their features, and leaves the geometry.
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    turned = metrics.similarity_error(truth @ Q, truth, levels, (range(5), range(5)))
    assert turned == pytest.approx((0, 0), abs=1e-28)
    assert np.isnan(metrics.similarity_error(learned, truth, np.zeros(5)).across)


def test_stability_of_estimators_and_without_a_list(small):
    a, b = (TopKSAE(8, max_iter=1, random_state=seed).fit(small) for seed in (0, 1))
    expected = metrics.stability([a.components_, b.components_])
    assert 0 < expected < 1
    assert metrics.stability(a.components_, b.components_) == expected
    assert metrics.stability([a, b]) == metrics.stability(a, b) == expected
    pipe = make_pipeline(FunctionTransformer(), a)
    assert metrics.stability([pipe, b.components_]) == expected
    with pytest.raises(NotFittedError):
        metrics.stability(a, TopKSAE(8))


def test_stability_is_the_mean_over_pairs(truth, learned):
    assert metrics.stability([truth, truth[::-1], truth[[1, 0, 2, 4, 3]]]) == pytest.approx(1)
    pair = metrics.matched_cosine(learned, truth)
    mean = metrics.stability([truth, learned, truth])
    assert mean == pytest.approx((2 * pair + 1) / 3)


def test_recovery_is_invariant_to_order_and_rotation(truth, learned, rng):
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    shuffled = learned[rng.permutation(7)] @ Q
    parents, levels = [-1, 0, 0, -1, 3], [0, 1, 1, 0, 1]
    for metric in (
        metrics.matched_cosine,
        lambda W, D: metrics.feature_absorption(W, D, parents),
        lambda W, D: metrics.similarity_error(W, D, levels),
    ):
        assert metric(shuffled, truth @ Q) == pytest.approx(metric(learned, truth))


# --------------------------------------------------------------------------- bad input
NO_PAIRS = np.array([], int), np.array([], int)
BAD = {
    "unnormalised truth": (lambda: metrics.match_atoms(EYE, 2 * EYE), "atoms of truth must"),
    "zero atom": (lambda: metrics.match_atoms(0 * EYE, EYE), "dictionary has rows of zeros"),
    "another space": (
        lambda: metrics.matched_cosine(EYE, np.eye(3)),
        "dictionary has 4 columns and truth 3",
    ),
    "an atom twice": (
        lambda: metrics.matched_cosine(EYE, EYE, ([0, 0], [0, 1])),
        "matching does not fit 4 atoms and 4 features",
    ),
    "an atom too many": (
        lambda: metrics.firing_scores(EYE, EYE, ([0, 4], [0, 1])),
        "matching does not fit",
    ),
    "a negative feature": (
        lambda: metrics.matched_cosine(EYE, EYE, ([0], [-1])),
        "matching does not fit",
    ),
    "a matching of floats": (
        lambda: metrics.matched_cosine(EYE, EYE, ([0.0], [0.0])),
        "matching does not fit",
    ),
    "a matching that is a matrix": (
        lambda: metrics.matched_cosine(EYE, EYE, ([[0]], [[0]])),
        "matching does not fit",
    ),
    "uneven matching": (
        lambda: metrics.similarity_error(EYE, EYE, [0] * 4, ([0, 1], [0])),
        "got 2 of the one and 1 of the other",
    ),
    "empty matching": (
        lambda: metrics.firing_scores(EYE, EYE, NO_PAIRS),
        "at least one",
    ),
    "other samples": (
        lambda: metrics.match_codes(EYE, EYE[:3]),
        "codes has 4 rows and activations 3",
    ),
    "NaN in activations": (
        lambda: metrics.match_codes(EYE, np.nan * EYE),
        "activations contains NaN",
    ),
    "parents of another tree": (
        lambda: metrics.feature_absorption(EYE, EYE, [-1, 0]),
        "parents must be 4 integers",
    ),
    "parents that are floats": (
        lambda: metrics.feature_absorption(EYE, EYE, [-1.0, 0, 0, 0]),
        "parents must be 4 integers",
    ),
    "an unknown parent": (
        lambda: metrics.feature_absorption(EYE, EYE, [-1, 4, 0, 0]),
        r"parents\[1\] is 4",
    ),
    "its own parent": (
        lambda: metrics.feature_absorption(EYE, EYE, [0, 0, 0, 0]),
        r"parents\[0\] is 0",
    ),
    "no parents": (
        lambda: metrics.feature_absorption(EYE, EYE, [-1] * 4),
        "nothing to absorb",
    ),
    "levels of another tree": (
        lambda: metrics.similarity_error(EYE, EYE, [0, 1]),
        "one entry for each of the 4 features",
    ),
    "one dictionary": (lambda: metrics.stability([EYE]), "at least two"),
    "one dictionary, without a list": (lambda: metrics.stability(EYE), r"stability\(\[a, b"),
    "one estimator": (lambda: metrics.stability(TopKSAE()), r"stability\(\[a, b"),
    "no dictionary": (lambda: metrics.stability([]), "was given 0"),
    "dictionaries of two spaces": (
        lambda: metrics.stability([EYE, np.eye(3)]),
        "dictionary has 4 columns and truth 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        call()
