"""Metrics of reconstructions, codes and dictionaries, against closed forms and brute force."""

import pickle
import tracemalloc
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mpsae import MPSparseAutoencoder, metrics
from sklearn_mpsae.coding import Codes, matching_pursuit
from sklearn_mpsae.coding.unit import unit_rows
from sklearn_mpsae.metrics import _inputs

FAST = {"n_nonzero_coefs": 4, "max_iter": 3, "batch_size": 20, "random_state": 0}

# Three atoms at 120 degrees in the plane; all cosines are -1/2.
MERCEDES = unit_rows(np.array([[0.0, 1], [-np.sqrt(3) / 2, -0.5], [np.sqrt(3) / 2, -0.5]]))


def simplex(n):
    """One more than n atoms, all cosines -1/n."""
    return unit_rows(np.eye(n + 1) - 1 / (n + 1))


@pytest.fixture
def problem(rng):
    """Rows, a dictionary of 9 atoms in 5 dimensions, and 4 pursuit codes of each row."""
    X, W = rng.standard_normal((40, 5)), unit_rows(rng.standard_normal((9, 5)))
    return X, W, matching_pursuit(X, W, 4, positive=False)


@pytest.fixture
def tiny_parts(monkeypatch):
    """Make every metric work on a few rows at a time."""
    monkeypatch.setattr(_inputs, "_ROWS", 7)


def forms(codes, folder):
    """The same codes in every form that metrics take; those of Codes' order aside."""
    dense = codes.dense()
    on_disk = np.memmap(folder / "codes", dtype=dense.dtype, mode="w+", shape=dense.shape)
    on_disk[:] = dense
    return {
        "dense": dense,
        "list": dense.tolist(),
        "memmap": on_disk,
        "csr": codes.csr(),
        "csr_matrix": sparse.csr_matrix(dense),
        "csc": sparse.csc_array(dense),
        "CSR as it may be": untidy(dense),
    }


def untidy(dense):
    """CSR with each entry stored as two halves, zeros too, from the last to the first."""
    n, p = dense.shape
    columns = np.tile(np.r_[np.arange(p)[::-1], np.arange(p)], n)
    halves = np.hstack([dense[:, ::-1], dense]).ravel() / 2
    return sparse.csr_array((halves, columns, 2 * p * np.arange(n + 1)), shape=(n, p))


# What takes codes and a dictionary; those of `codes` alone ignore it.
ON_CODES = {
    "l0": lambda codes, W: metrics.l0(codes),
    "atom_usage": lambda codes, W: metrics.atom_usage(codes),
    "dead_fraction": lambda codes, W: metrics.dead_fraction(codes),
    "effective_rank": lambda codes, W: metrics.effective_rank(codes),
    "coselected_babel": metrics.coselected_babel,
    "conditional_orthogonality": metrics.conditional_orthogonality,
    "residual_path": lambda codes, W: metrics.residual_path(
        np.random.default_rng(1).standard_normal((40, 5)), codes, W
    ),
    "match_codes": lambda codes, W: metrics.match_codes(codes, codes),
    "firing_scores": lambda codes, W: metrics.firing_scores(
        codes, np.roll(np.eye(40, 9), 1, axis=0), (np.arange(9), np.arange(9))
    )[0],
}
ORDERED = ("conditional_orthogonality", "residual_path")


@pytest.mark.parametrize("name", ON_CODES)
def test_every_form_of_codes_gives_the_same(name, problem, tmp_path):
    _, W, codes = problem
    expected = ON_CODES[name](codes.dense(), W)
    given = forms(codes, tmp_path)
    if name not in ORDERED:
        given["Codes"] = codes
    for form, same in given.items():
        np.testing.assert_allclose(
            ON_CODES[name](same, W), expected, rtol=1e-12, atol=1e-15, err_msg=form
        )


@pytest.mark.parametrize("name", ORDERED)
def test_slots_by_decreasing_magnitude_are_the_dense_codes(name, problem):
    _, W, codes = problem
    dense = codes.dense()
    k = np.count_nonzero(dense, axis=1).max()
    order = np.argsort(-np.abs(dense), axis=1)[:, :k]
    by_size = Codes(order, np.take_along_axis(dense, order, axis=1), 9)
    expected = ON_CODES[name](dense, W)
    np.testing.assert_allclose(ON_CODES[name](by_size, W), expected, atol=1e-12)


@pytest.mark.parametrize("name", ON_CODES)
@pytest.mark.parametrize("form", ["Codes", "csr", "dense"])
def test_codes_in_parts_give_the_same(name, form, problem, tmp_path, monkeypatch):
    _, W, codes = problem
    same = codes if form == "Codes" else forms(codes, tmp_path)[form]
    at_once = ON_CODES[name](same, W)
    monkeypatch.setattr(_inputs, "_ROWS", 7)
    # Parts of dense codes may have fewer slots than others.
    np.testing.assert_allclose(ON_CODES[name](same, W), at_once, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["l0", "dead_fraction", "effective_rank"])
def test_accumulators_take_chunks(name, problem):
    *_, codes = problem
    accumulator = metrics.SecondMoment if name == "effective_rank" else metrics.AtomUsage
    chunked = accumulator()
    for rows in (slice(0, 3), slice(3, 30), slice(30, 40)):
        assert chunked.update(codes.csr()[rows]) is chunked
    assert getattr(chunked, name)() == pytest.approx(getattr(metrics, name)(codes), rel=1e-12)


def test_accumulators_hand_out_copies(problem):
    *_, codes = problem
    for accumulator in (metrics.AtomUsage(), metrics.SecondMoment()):
        accumulator.update(codes).compute()[:] = 0
        assert accumulator.compute().any()


def test_codes_are_left_as_they_are(problem):
    _, W, codes = problem
    given = untidy(codes.dense())
    before = given.data.copy(), given.indices.copy()
    metrics.coselected_babel(given, W)
    np.testing.assert_array_equal(given.data, before[0])
    np.testing.assert_array_equal(given.indices, before[1])


def test_wide_rows_come_in_smaller_parts():
    assert [rows.stop for rows in _inputs.batches(10_000, 10)] == [8192, 10_000]
    assert next(_inputs.batches(10_000, 1 << 20)).stop == 4
    assert next(_inputs.batches(10_000, 1 << 30)).stop == 1


# -------------------------------------------------------------------- reconstruction
def test_explained_variance_is_scikit_learns(rng, tiny_parts):
    X = rng.standard_normal((40, 5)) * [1, 2, 3, 4, 5] + 1
    X_hat = X + 0.3 * rng.standard_normal(X.shape)
    expected = r2_score(X, X_hat, multioutput="variance_weighted")
    assert metrics.explained_variance(X, X_hat) == pytest.approx(expected, abs=1e-14)
    unexplained = metrics.fraction_of_variance_unexplained(X, X_hat)
    assert unexplained == pytest.approx(1 - expected, abs=1e-14)
    halves = metrics.ExplainedVariance().update(X[:3], X_hat[:3]).update(X[3:], X_hat[3:])
    assert halves.compute() == pytest.approx(expected, abs=1e-14)


def test_explained_variance_survives_a_large_mean(rng, tiny_parts):
    """Where the sum of squares less the squared sum would have no digit left."""
    X, noise = rng.standard_normal((2, 50, 3))
    expected = metrics.explained_variance(X, X + 0.1 * noise)
    far = metrics.explained_variance(X + 1e9, X + 1e9 + 0.1 * noise)
    assert far == pytest.approx(expected, abs=1e-6)


def test_explained_variance_of_the_mean_is_zero_and_of_one_row_nan(rng):
    X = rng.standard_normal((20, 3))
    mean = np.broadcast_to(X.mean(axis=0), X.shape)
    assert metrics.explained_variance(X, mean) == pytest.approx(0, abs=1e-14)
    assert np.isnan(metrics.explained_variance(X[:1], X[:1]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_estimators_agree(Estimator, dtype, small):
    X = small.astype(dtype)
    est = Estimator(16, **FAST).fit(X)
    codes = est.encode(X)
    close = {"abs": 1e-12 if dtype == np.float64 else 1e-5}
    score = metrics.explained_variance(X, est.inverse_transform(est.transform(X)))
    assert score == pytest.approx(est.score(X), **close)
    path = metrics.residual_path(X, codes, est.components_, est.intercept_)
    assert path == pytest.approx(est.reconstruction_path(X), **close)
    assert metrics.l0(codes) == metrics.l0(est.transform(X))


# ------------------------------------------------------------------------------ codes
def test_an_atom_taken_twice_counts_once_and_one_taken_back_not_at_all():
    codes = Codes(np.array([[1, 1], [2, 2]]), np.array([[1.0, 2.0], [1.0, -1.0]]), 4)
    np.testing.assert_array_equal(metrics.atom_usage(codes), [0, 1, 0, 0])
    assert metrics.l0(codes) == 0.5
    assert metrics.dead_fraction(codes) == 0.75


def test_effective_rank_of_known_spectra(rng):
    for m in (1, 3, 6):
        assert metrics.effective_rank(np.eye(6)[:m]) == pytest.approx(m)
    # Eigenvalues of Z'Z in the ratio 1 : 4, uncentred.
    p = np.array([0.2, 0.8])
    expected = np.exp(-(p * np.log(p)).sum())
    assert metrics.effective_rank(np.diag([1.0, 2.0])) == pytest.approx(expected)
    # A constant column is a direction of its own: nothing is centred.
    assert metrics.effective_rank(np.ones((5, 3))) == pytest.approx(1)
    assert np.isnan(metrics.effective_rank(np.zeros((3, 2))))


def test_effective_rank_is_invariant_to_rotation_and_scale(problem, rng):
    Z = problem[2].dense()
    Q = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    expected = metrics.effective_rank(Z)
    for same in (Z @ Q, 1e8 * Z, Z[::-1, ::-1]):
        assert metrics.effective_rank(same) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("density", [0.05, 1])
def test_dense_and_sparse_products_are_the_same(density, rng):
    A, B = (
        sparse.csr_array(rng.random((30, n)) * (rng.random((30, n)) < density)) for n in (8, 6)
    )
    total = np.ones((8, 6))
    _inputs.add_product(total, A, B)
    np.testing.assert_allclose(total, 1 + A.toarray().T @ B.toarray())


def test_tall_codes_take_little_memory():
    """A hundred thousand rows, whose dense form would take 400 MB."""
    n, p = 100_000, 500
    codes = sparse.csr_array((np.ones(n), np.arange(n) % p, np.arange(n + 1)), shape=(n, p))
    W = np.eye(p)
    tracemalloc.start()
    try:
        assert metrics.effective_rank(codes) == pytest.approx(p)
        assert metrics.l0(codes) == 1
        assert metrics.coselected_babel(codes, W, 1).shape == (1,)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6


# ------------------------------------------------------------------------- dictionary
def babel_by_all_subsets(W, r):
    cosines = np.abs(W @ W.T)
    return max(
        cosines[i, list(S)].sum()
        for S in combinations(range(len(W)), r)
        for i in set(range(len(W))) - set(S)
    )


def test_babel_function_is_the_maximum_over_all_subsets(rng, tiny_parts, monkeypatch):
    W = unit_rows(rng.standard_normal((8, 4)))
    expected = [babel_by_all_subsets(W, r) for r in range(1, 8)]
    np.testing.assert_allclose(metrics.babel_function(W), expected)
    np.testing.assert_allclose(metrics.babel_function(W, 3), expected[:3])
    monkeypatch.setattr(_inputs, "_ROWS", 3)
    np.testing.assert_allclose(metrics.babel_function(W), expected)
    assert metrics.mutual_coherence(W) == pytest.approx(expected[0])


@pytest.mark.parametrize(
    ("W", "cosine"),
    [(np.eye(4), 0), (MERCEDES, 1 / 2), (simplex(5), 1 / 5), (np.ones((4, 1)), 1)],
    ids=["orthonormal", "Mercedes-Benz", "simplex", "one atom four times"],
)
def test_coherence_of_equiangular_atoms(W, cosine):
    steps = np.arange(1, len(W))
    assert metrics.mutual_coherence(W) == pytest.approx(cosine, abs=1e-15)
    np.testing.assert_allclose(metrics.babel_function(W), cosine * steps, atol=1e-14)
    every_atom = np.ones((3, len(W)))
    together = metrics.coselected_babel(every_atom, W)
    np.testing.assert_allclose(together, cosine * steps, atol=1e-14)


def test_coherence_is_invariant_to_rotation_order_and_sign(problem, rng):
    _, W, codes = problem
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    order, signs = rng.permutation(9), rng.choice([-1, 1], 9)[:, None]
    expected = metrics.babel_function(W)
    np.testing.assert_allclose(metrics.babel_function((signs * W @ Q)[order]), expected)
    dense = codes.dense()
    for metric in (metrics.coselected_babel, metrics.conditional_orthogonality):
        np.testing.assert_allclose(
            metric(dense[:, order], (signs * W @ Q)[order]), metric(dense, W), atol=1e-12
        )


def test_coselected_babel_averages_over_rows_with_enough_atoms(problem):
    _, W, codes = problem
    dense = codes.dense()
    dense[:30, 5:] = 0  # so that rows differ in their number of atoms
    mu = metrics.coselected_babel(dense, W, 6)
    for r in range(1, 7):
        supports = [np.flatnonzero(row) for row in dense]
        each = [babel_by_all_subsets(W[s], r) for s in supports if len(s) > r]
        assert mu[r - 1] == pytest.approx(np.mean(each) if each else np.nan, nan_ok=True)
    assert np.isnan(mu[-1])
    assert not np.isnan(mu[0])


def test_single_atoms_have_nothing_to_compare():
    one_each = np.eye(4)
    assert metrics.coselected_babel(one_each, np.eye(4)).shape == (0,)
    np.testing.assert_array_equal(metrics.coselected_babel(one_each, np.eye(4), 2), np.nan)
    assert metrics.conditional_orthogonality(one_each, np.eye(4)).span.shape == (0,)
    assert metrics.conditional_orthogonality(np.zeros((2, 4)), np.eye(4)).span.shape == (0,)


def test_conditional_orthogonality_is_the_projection_on_the_span(problem):
    _, W, codes = problem
    previous, span = metrics.conditional_orthogonality(codes, W)
    for step in range(1, 4):
        one, other = codes.indices[:, step], codes.indices[:, step - 1]
        cosines = np.abs((W[one] * W[other]).sum(axis=1))
        assert previous[step - 1] == pytest.approx(cosines.mean())
        projections = []
        for row, atom in enumerate(W[one]):
            earlier = W[codes.indices[row, :step]].T
            projections.append(np.linalg.norm(earlier @ np.linalg.lstsq(earlier, atom)[0]))
        assert span[step - 1] == pytest.approx(np.mean(projections))


def test_conditional_orthogonality_follows_the_order_chosen_and_its_gaps():
    W = np.array([[1.0, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])
    values = np.array([[1.0, 0, 3, 2], [5, 4, 0, 0]])
    codes = Codes(np.array([[2, 0, 0, 1], [1, 0, 0, 0]]), values, 3)
    previous, span = metrics.conditional_orthogonality(codes, W)
    # Row 0 takes atoms 2, 0, 1 and row 1 takes atoms 1, 0: no row has a fourth step.
    np.testing.assert_allclose(previous, [0.3, 0, np.nan], atol=1e-15)
    np.testing.assert_allclose(span, [0.3, 0, np.nan], atol=1e-15)


def test_atoms_chosen_again_are_in_the_span():
    W = unit_rows(np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]]))
    codes = Codes(np.array([[0, 1, 0, 2]]), np.ones((1, 4)), 3)
    _, span = metrics.conditional_orthogonality(codes, W)
    np.testing.assert_allclose(span, [np.sqrt(0.5), 1, 0], atol=1e-12)


# ---------------------------------------------------------------------------- scorers
def test_scorers_serve_model_selection(Estimator, small):
    scoring = {
        "l0": metrics.codes_scorer(metrics.l0, greater_is_better=False),
        "coherence": metrics.dictionary_scorer(metrics.mutual_coherence),
    }
    est = Estimator(16, **FAST)
    found = cross_validate(est, small, cv=2, scoring=scoring, return_estimator=True)
    halves = small[30:], small[:30]  # trained on; the other one is scored
    for fold, fitted in enumerate(found["estimator"]):
        expected = metrics.mutual_coherence(fitted.components_)
        assert found["test_coherence"][fold] == expected
        assert found["test_l0"][fold] == -metrics.l0(fitted.transform(halves[1 - fold]))


def test_scorers_serve_grid_search(small):
    scorer = metrics.codes_scorer(metrics.l0, greater_is_better=False)
    est = MPSparseAutoencoder(16, **FAST)
    search = GridSearchCV(est, {"n_nonzero_coefs": [1, 3]}, scoring=scorer, cv=2).fit(small)
    assert search.best_params_ == {"n_nonzero_coefs": 1}


def test_scorers_pickle_and_look_into_pipelines(small):
    scorer = metrics.dictionary_scorer(partial(metrics.mutual_coherence))
    scorer = pickle.loads(pickle.dumps(scorer))
    pipe = make_pipeline(StandardScaler(), MPSparseAutoencoder(8, **FAST)).fit(small)
    assert scorer(pipe, small) == metrics.mutual_coherence(pipe[-1].components_)


# -------------------------------------------------------------------------- bad input
EYE = np.eye(3)
NAN = np.array([[1.0, np.nan, 0.0]])
BAD = {
    "unnormalised": (lambda: metrics.babel_function(2 * EYE), "divide it by"),
    "float32's slack is small": (
        lambda: metrics.mutual_coherence(1.001 * EYE.astype(np.float32)),
        "unit norm",
    ),
    "zero atom": (lambda: metrics.mutual_coherence(np.diag([1.0, 0, 1])), r"first: row 1"),
    "one atom": (lambda: metrics.mutual_coherence(EYE[:1]), "single atom"),
    "no atoms": (lambda: metrics.babel_function(EYE[:0]), "0 sample"),
    "NaN in a dictionary": (lambda: metrics.babel_function(NAN), "dictionary contains NaN"),
    "r too large": (lambda: metrics.babel_function(EYE, 3), "at most 2, got 3"),
    "r of zero": (lambda: metrics.coselected_babel(EYE, EYE, 0), "at least 1, got 0"),
    "r no integer": (lambda: metrics.babel_function(EYE, 1.5), "must be an integer"),
    "no codes": (lambda: metrics.l0(np.zeros((0, 3))), "neither of them 0"),
    "1-D codes": (lambda: metrics.l0([1.0, 2.0]), r"got \(2,\)"),
    "3-D codes": (lambda: metrics.atom_usage(np.ones((2, 2, 2))), r"got \(2, 2, 2\)"),
    "1-D sparse codes": (lambda: metrics.l0(sparse.coo_array([1.0, 2.0])), r"got \(2,\)"),
    "NaN in codes": (lambda: metrics.l0(NAN), "codes contains NaN"),
    "NaN in CSR": (lambda: metrics.effective_rank(sparse.csr_array(NAN)), "codes contains NaN"),
    "NaN in Codes": (
        lambda: metrics.residual_path(EYE[:1], Codes(np.zeros((1, 3), int), NAN, 3), EYE),
        "codes contains NaN",
    ),
    "narrow codes": (lambda: metrics.coselected_babel(EYE[:, :2], EYE), "has 2 components"),
    "Codes of another dictionary": (
        lambda: metrics.conditional_orthogonality(
            Codes(np.zeros((2, 1), int), np.ones((2, 1)), 5), EYE
        ),
        "has 5 components, but 3 are expected",
    ),
    "Codes with too few components": (
        lambda: metrics.l0(Codes(np.array([[0, 4]]), np.ones((1, 2)), 3)),
        "indices from 0 to 4, but its n_components is 3",
    ),
    "Codes of two shapes": (
        lambda: metrics.l0(Codes(np.zeros((2, 1), int), np.ones((2, 2)), 3)),
        "of one shape",
    ),
    "chunks of two widths": (
        lambda: metrics.AtomUsage().update(EYE).update(EYE[:, :2]),
        "2 components, but 3 are expected",
    ),
    "chunks of two numbers of features": (
        lambda: metrics.ExplainedVariance().update(EYE, EYE).update(EYE[:, :2], EYE[:, :2]),
        "2 features, the ones before had 3",
    ),
    "nothing yet": (lambda: metrics.SecondMoment().compute(), "call update first"),
    "nothing to count yet": (lambda: metrics.AtomUsage().l0(), "call update first"),
    "nothing to explain yet": (
        lambda: metrics.ExplainedVariance().compute(),
        "call update first",
    ),
    "another reconstruction": (
        lambda: metrics.explained_variance(EYE, EYE[:2]),
        r"shape \(3, 3\) and X_reconstructed \(2, 3\)",
    ),
    "NaN in a reconstruction": (
        lambda: metrics.explained_variance(EYE[:1], NAN),
        "X_reconstructed contains NaN",
    ),
    "1-D rows": (lambda: metrics.explained_variance(EYE[0], EYE[0]), r"got \(3,\)"),
    "codes of other rows": (
        lambda: metrics.residual_path(EYE, EYE[:2], EYE),
        "needs codes of 3 rows",
    ),
    "intercept of another length": (
        lambda: metrics.residual_path(EYE, EYE, EYE, [0.0]),
        "intercept must be 3 finite numbers",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("make", [metrics.codes_scorer, metrics.dictionary_scorer])
def test_scorers_want_a_fitted_estimator_and_one_number(make, small):
    est = MPSparseAutoencoder(8, **FAST)
    with pytest.raises(NotFittedError):
        make(metrics.mutual_coherence)(est, small)
    with pytest.raises(ValueError, match="wrap it in a function"):
        make(np.asarray)(est.fit(small), small)
