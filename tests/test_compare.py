"""The table of compare: complete, right, and not lost when something fails."""

import sys
from itertools import product

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import (
    NMF,
    PCA,
    DictionaryLearning,
    MiniBatchDictionaryLearning,
    SparseCoder,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from sklearn_mpsae import MPSparseAutoencoder, metrics
from sklearn_mpsae._compare import compare
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.coding.unit import unit_rows
from sklearn_mpsae.datasets import make_correlated_features, make_hierarchical_features

FAST = {"max_iter": 3, "batch_size": 20}
TIMES = ["fit_seconds", "transform_seconds", "fit_memory"]


class CountingPCA(PCA):
    """Notes every fit; some are interrupted, some fail."""

    fits = []
    fault = {}

    def fit(self, X, y=None):
        self.fits.append((self.n_components, self.random_state))
        if self.n_components in self.fault:
            raise self.fault[self.n_components]
        return super().fit(X)


class CountingDictionaryLearning(DictionaryLearning):
    fits = []

    def fit_transform(self, X, y=None):
        self.fits.append(self.random_state)
        return super().fit_transform(X)


@pytest.fixture(autouse=True)
def no_fits_yet(monkeypatch):
    monkeypatch.setattr(CountingPCA, "fits", [])
    monkeypatch.setattr(CountingPCA, "fault", {})
    monkeypatch.setattr(CountingDictionaryLearning, "fits", [])


def every_kind(rng):
    return {
        "MP": MPSparseAutoencoder(16, **FAST),
        "DL": DictionaryLearning(12, max_iter=3),
        "MBDL": MiniBatchDictionaryLearning(12, max_iter=3, batch_size=20),
        "coder": SparseCoder(unit_rows(rng.standard_normal((12, 10)))),
        "PCA": PCA(),
        "NMF": NMF(tol=1e-2, max_iter=500),
    }


def test_a_row_for_each_estimator_sparsity_and_seed(small, rng):
    estimators = every_kind(rng)
    table = compare(estimators, np.abs(small), n_nonzero_coefs=[2, 4], random_states=[3, 1])
    assert (table.error == "").all(), table.error.tolist()
    cells = list(product(estimators, [2, 4], [3, 1]))
    found = table[["estimator", "n_nonzero_coefs", "seed"]].itertuples(index=False, name=None)
    assert list(found) == cells
    assert not table.drop(columns=TIMES).isna().any(axis=None)
    assert (table.fit_seconds > 0).all()
    assert (table.transform_seconds > 0).all()
    assert table.l0.between(0, table.n_nonzero_coefs).all()
    more = table.pivot_table(index="estimator", columns="n_nonzero_coefs", values="r2")
    assert (more[4] > more[2]).all()


def test_measures_are_those_of_the_estimator(Estimator, small):
    train, test = small[:40], small[40:]
    table = compare(
        {"est": Estimator(16, **FAST)}, train, X_test=test, n_nonzero_coefs=3, random_states=[5]
    )
    est = Estimator(16, n_nonzero_coefs=3, random_state=5, **FAST).fit(train)
    codes, row = est.transform(test), table.iloc[0]
    assert row.error == ""
    assert row.r2 == pytest.approx(est.score(test))
    assert row.r2_train == pytest.approx(est.score(train))
    assert row.l0 == metrics.l0(codes)
    assert row.dead_fraction == metrics.dead_fraction(codes)
    assert row.effective_rank == pytest.approx(metrics.effective_rank(codes))
    assert row.coherence == pytest.approx(metrics.mutual_coherence(est.components_))
    assert row.babel == pytest.approx(metrics.babel_function(est.components_)[1])
    selected = metrics.coselected_babel(codes, est.components_, 2)[1]
    assert row.coselected_babel == pytest.approx(selected, nan_ok=True)


def test_classical_coders_are_scikit_learns(small, rng):
    X = np.abs(small)
    estimators = every_kind(rng)
    table = compare(estimators, X, n_nonzero_coefs=3, random_states=[0])
    r2 = dict(zip(table.estimator, table.r2, strict=True))
    assert r2["PCA"] == pytest.approx(PCA(3).fit(X).explained_variance_ratio_.sum())
    nmf = clone(estimators["NMF"]).set_params(n_components=3, random_state=0).fit(X)
    expected = metrics.explained_variance(X, nmf.inverse_transform(nmf.transform(X)))
    assert r2["NMF"] == pytest.approx(expected)
    l0 = dict(zip(table.estimator, table.l0, strict=True))
    assert l0["PCA"] == 3
    for name in ("DL", "MBDL", "coder"):
        est = clone(estimators[name]).set_params(transform_n_nonzero_coefs=3)
        if name != "coder":
            est.set_params(random_state=0)
        codes = est.fit(X).transform(X)
        atoms = est.dictionary if name == "coder" else est.components_
        assert r2[name] == pytest.approx(metrics.explained_variance(X, codes @ atoms))
        assert l0[name] == metrics.l0(codes)


def test_estimators_are_left_as_they_are(small):
    est = MPSparseAutoencoder(8, transform_n_nonzero_coefs=7, random_state=1, **FAST)
    before = est.get_params()
    # What would overrule the sparsity asked for is set aside, in the clone.
    table = compare({"MP": est}, small, n_nonzero_coefs=1)
    assert table.l0[0] <= 1
    assert est.get_params() == before
    assert not hasattr(est, "components_")


def test_a_dictionary_is_learned_once_for_all_sparsities(small):
    est = CountingDictionaryLearning(8, max_iter=2)
    table = compare({"DL": est}, small, n_nonzero_coefs=[1, 2, 3], random_states=[0, 4])
    assert CountingDictionaryLearning.fits == [0, 4]
    assert (np.diff(table.r2[table.seed == 4]) > 0).all()
    assert table.fit_seconds[table.seed == 4].nunique() == 1


def test_split_signs_and_data_frames_do_not_get_in_the_way(small):
    est = DictionaryLearning(8, max_iter=2, split_sign=True).set_output(transform="pandas")
    plain = DictionaryLearning(8, max_iter=2)
    truth = {"dictionary": np.eye(10), "codes": small}
    table = compare({"split": est, "plain": plain}, small, n_nonzero_coefs=2, truth=truth)
    split, plain = table.drop(columns=["estimator", "absorption", *TIMES]).itertuples(
        index=False
    )
    assert split == plain


def test_atoms_of_zeros_have_no_direction(small, rng):
    W = unit_rows(rng.standard_normal((12, 10)))
    padded = np.insert(W, 4, 0, axis=0)
    truth = {"dictionary": W, "codes": rng.standard_normal((60, 12))}
    estimators = {"plain": SparseCoder(W), "padded": SparseCoder(padded)}
    table = compare(estimators, small, n_nonzero_coefs=3, truth=truth)
    assert (table.error == "").all()
    for column in ("coherence", "babel", "coselected_babel", "r2", "f1", "matched_cosine"):
        assert table[column][1] == pytest.approx(table[column][0])
    assert table.dead_fraction[1] == pytest.approx((12 * table.dead_fraction[0] + 1) / 13)


def test_a_single_atom_has_no_geometry(small):
    table = compare({"PCA": PCA()}, small, n_nonzero_coefs=[1, 2])
    geometry = table[["coherence", "babel", "coselected_babel"]]
    np.testing.assert_array_equal(geometry.isna().all(axis=1), [True, False])
    assert (table.error == "").all()


# ------------------------------------------------------------------------------ extras
def test_recovery_of_the_true_dictionary():
    train, test = (
        make_hierarchical_features(300, noise=0.01, random_state=seed) for seed in (0, 1)
    )
    # Atoms of the opposite sign are as good to codes of either sign.
    estimators = {"true": SparseCoder(-test.dictionary[::-1]), "PCA": PCA()}
    table = compare(
        estimators, train.data, X_test=test.data, truth=test, n_nonzero_coefs=2
    ).set_index("estimator")
    true = table.loc["true"]
    assert true.matched_cosine == pytest.approx(1)
    assert true.absorption == pytest.approx(0, abs=1e-12)
    assert true.recall == 1
    assert true.r2 > 0.99 > true.r2_train
    assert (table.loc["PCA", ["matched_cosine", "precision", "recall", "f1"]] < 0.9).all()


def test_recovery_counts_signs_where_codes_are_not_negative():
    features = make_hierarchical_features(200, random_state=0)
    est = MPSparseAutoencoder(20, **FAST)
    row = compare({"MP": est}, features.data, truth=features, n_nonzero_coefs=2).iloc[0]
    est.set_params(n_nonzero_coefs=2, random_state=0).fit(features.data)
    atoms, codes = est.components_, est.transform(features.data)
    matching = metrics.match_atoms(atoms, features.dictionary)
    assert row.matched_cosine == pytest.approx(matching.scores.mean())
    scores = metrics.firing_scores(codes, features.codes, matching).macro
    assert row[["precision", "recall", "f1"]].tolist() == pytest.approx(list(scores))
    absorbed = metrics.feature_absorption(atoms, features.dictionary, features.parents)
    assert row.absorption == pytest.approx(absorbed)


def test_features_without_parents_have_no_absorption():
    features = make_correlated_features(50, 8, 8, rho=0.3, random_state=0)
    table = compare({"PCA": PCA()}, features.data, truth=features, n_nonzero_coefs=2)
    assert table.error[0] == ""
    assert np.isnan(table.absorption[0])
    assert not np.isnan(table.f1[0])


def test_probe(rng):
    y = np.repeat([0, 1], 30)
    X = rng.standard_normal((60, 4)) + 3 * y[:, None]
    order = rng.permutation(60)
    train, test = order[:40], order[40:]
    table = compare(
        {"PCA": PCA()}, X[train], X_test=X[test], y=y[train], y_test=y[test], n_nonzero_coefs=2
    )
    pca = PCA(2, random_state=0).fit(X[train])
    probe = make_pipeline(MaxAbsScaler(), LogisticRegression())
    probe.fit(pca.transform(X[train]), y[train])
    assert table.probe_accuracy[0] == probe.score(pca.transform(X[test]), y[test]) > 0.9
    assert "probe_accuracy" not in compare({"PCA": PCA()}, X, n_nonzero_coefs=2)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is known on Linux only")
def test_memory_is_the_peak_during_the_fit(small):
    kept = []

    class Hungry(PCA):
        def fit(self, X, y=None):
            # Below one that stays, the allocator keeps small ones for the next fit.
            kept.append([np.ones(1000) for _ in range(10_000)][-1])
            return super().fit(X)

    table = compare({"hungry": Hungry(), "PCA": PCA()}, small, n_nonzero_coefs=[2, 3])
    assert table.fit_memory[:2].between(75e6, 120e6).all()
    # The peak of another fit is not its own.
    assert (table.fit_memory[2:] < 40e6).all()


def test_progress_bar(small, capfd):
    compare({"PCA": PCA()}, small, n_nonzero_coefs=[1, 2], verbose=1)
    assert "2/2" in capfd.readouterr().err
    compare({"PCA": PCA()}, small, n_nonzero_coefs=[1, 2])
    assert capfd.readouterr().err == ""


def test_jobs_give_the_same_table(small, rng):
    estimators = {k: v for k, v in every_kind(rng).items() if k in ("MP", "DL", "PCA")}
    options = {"n_nonzero_coefs": [2, 3], "random_states": [0, 1]}
    one = compare(estimators, small, **options)
    two = compare(estimators, small, n_jobs=2, **options)
    one, two = one.drop(columns=TIMES), two.drop(columns=TIMES)
    ours = one.estimator == "MP"
    assert one[ours].equals(two[ours])
    # scikit-learn's decompositions round otherwise with another number of BLAS threads.
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-9)


# ---------------------------------------------------------------------------- failures
def test_a_failure_is_reported_in_its_row(small):
    CountingPCA.fault = {2: RuntimeError("out of luck")}
    estimators = {"faulty": CountingPCA(), "PCA": PCA()}
    table = compare(estimators, small, n_nonzero_coefs=[1, 2, 50])
    errors = table.error.tolist()
    assert errors[1] == "RuntimeError: out of luck"
    assert errors[2].startswith("ValueError: n_components=50 must be between")
    assert errors[5].startswith("ValueError: n_components=50 must be between")
    assert [errors[i] for i in (0, 3, 4)] == ["", "", ""]
    np.testing.assert_array_equal(table.r2.isna(), [error != "" for error in errors])


def test_a_failed_measure_keeps_the_others(small):
    coder = DictionaryLearning(8, max_iter=2)
    table = compare({"DL": coder}, small, n_nonzero_coefs=[2, 11])
    assert table.error[0] == ""
    assert table.error[1].startswith("ValueError: The number of atoms cannot be more")
    assert table.fit_seconds[0] == table.fit_seconds[1]
    np.testing.assert_array_equal(table.r2.isna(), [False, True])


def test_an_interrupted_comparison_goes_on_where_it_was(small, tmp_path):
    options = {"n_nonzero_coefs": [1, 2, 3], "random_states": [0, 1], "memory": tmp_path}
    CountingPCA.fault = {2: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        compare({"PCA": CountingPCA()}, small, **options)
    CountingPCA.fault = {}
    table = compare({"PCA": CountingPCA()}, small, **options)
    # (2, 0) was interrupted; what came before it is not fitted again.
    assert CountingPCA.fits == [(1, 0), (1, 1), (2, 0), (2, 0), (2, 1), (3, 0), (3, 1)]
    again = compare({"PCA": CountingPCA()}, small, **options)
    assert len(CountingPCA.fits) == 7
    assert again.equals(table)


def test_other_data_or_parameters_are_not_taken_from_memory(small, tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    options = {"n_nonzero_coefs": 2, "memory": memory}
    one = compare({"PCA": CountingPCA()}, small, **options)
    other = compare({"PCA": CountingPCA()}, small + np.arange(10) ** 2 * small, **options)
    compare({"PCA": CountingPCA(whiten=True)}, small, **options)
    compare({"PCA": CountingPCA()}, small, X_test=small[:30], **options)
    assert len(CountingPCA.fits) == 4
    assert one.r2[0] != other.r2[0]


def test_failures_are_tried_again(small, tmp_path):
    CountingPCA.fault = {2: RuntimeError("out of luck")}
    options = {"n_nonzero_coefs": [1, 2], "memory": str(tmp_path)}
    assert compare({"PCA": CountingPCA()}, small, **options).error[1] != ""
    CountingPCA.fault = {}
    assert compare({"PCA": CountingPCA()}, small, **options).error[1] == ""
    assert [k for k, _ in CountingPCA.fits] == [1, 2, 2]


# --------------------------------------------------------------------------- bad input
X = np.random.default_rng(0).standard_normal((20, 4))
TRUTH = {"dictionary": np.eye(4), "codes": X, "parents": [-1, 0, 0, 0]}
BAD = {
    "no estimators": ({"estimators": {}}, ValueError, "at least one"),
    "a list of estimators": ({"estimators": [PCA()]}, ValueError, "dict of names"),
    "an unknown estimator": (
        {"estimators": {"mine": StandardScaler()}},
        TypeError,
        r"estimators\['mine'\] is StandardScaler\(\)",
    ),
    "a class": ({"estimators": {"PCA": PCA}}, TypeError, "unfitted instances"),
    "a pipeline": (
        {"estimators": {"pipe": make_pipeline(StandardScaler(), PCA())}},
        TypeError,
        "For a pipeline",
    ),
    "a checkpoint": (
        {"estimators": {"MP": MPSparseAutoencoder(checkpoint="run.ckpt")}},
        ValueError,
        r"estimators\['MP'\] has a checkpoint.*pass memory",
    ),
    "zero codes": ({"n_nonzero_coefs": [2, 0]}, ValueError, "n_nonzero_coefs must hold"),
    "half a code": ({"n_nonzero_coefs": 0.5}, ValueError, "n_nonzero_coefs must hold"),
    "no sparsity": ({"n_nonzero_coefs": []}, ValueError, "n_nonzero_coefs must hold"),
    "a sparsity twice": ({"n_nonzero_coefs": [2, 2]}, ValueError, "holds a value twice"),
    "no seed": ({"random_states": []}, ValueError, "random_states must hold"),
    "a seed that is None": ({"random_states": [None]}, ValueError, "random_states must hold"),
    "a seed twice": ({"random_states": [1, 0, 1]}, ValueError, "holds a value twice"),
    "NaN": ({"X": X * np.nan}, ValueError, "X contains NaN"),
    "NaN to test": ({"X_test": X * np.nan}, ValueError, "X_test contains NaN"),
    "another width": ({"X_test": X[:, :3]}, ValueError, "X_test has 3 features, but X has 4"),
    "classes of the test rows only": (
        {"X_test": X, "y_test": np.arange(20)},
        ValueError,
        "pass y and y_test",
    ),
    "classes of the training rows only": (
        {"X_test": X, "y": np.arange(20)},
        ValueError,
        "pass y and y_test",
    ),
    "classes of no rows": ({"y_test": np.arange(20)}, ValueError, "pass X_test with it"),
    "too few classes": ({"y": np.arange(19)}, ValueError, "inconsistent numbers of samples"),
    "one class": ({"y": np.zeros(20)}, ValueError, "single class"),
    "truth without codes": (
        {"truth": {"dictionary": np.eye(4)}},
        ValueError,
        "must have a dictionary and codes",
    ),
    "truth that is an array": ({"truth": X}, ValueError, "must have a dictionary and codes"),
    "truth of other rows": (
        {"truth": TRUTH, "X_test": X[:5]},
        ValueError,
        "truth has codes of 20 rows",
    ),
    "truth of another dictionary": (
        {"truth": TRUTH | {"dictionary": np.eye(4)[:3]}},
        ValueError,
        "truth's codes has 4 components, but 3 are expected",
    ),
    "truth of another space": (
        {"truth": TRUTH | {"dictionary": np.eye(4, 5)}},
        ValueError,
        "dictionary of 5 features",
    ),
    "true atoms without unit norm": (
        {"truth": TRUTH | {"dictionary": 2 * np.eye(4)}},
        ValueError,
        "truth's dictionary must have unit norm",
    ),
    "parents of another tree": (
        {"truth": TRUTH | {"parents": [-1, 0]}},
        ValueError,
        "parents must be 4 integers",
    ),
    "memory that is none": ({"memory": 3}, ValueError, "'memory' should be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_the_first_fit(case):
    options, error, match = BAD[case]
    defaults = {"estimators": {"PCA": CountingPCA()}, "X": X, "n_nonzero_coefs": 2}
    with pytest.raises(error, match=match):
        compare(**defaults | options)
    assert CountingPCA.fits == []


def test_pandas_is_asked_for_before_the_first_fit(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install .*\[compare\]"):
        compare({"PCA": CountingPCA()}, X, n_nonzero_coefs=2)
    assert CountingPCA.fits == []


def test_truth_may_be_codes():
    codes = Codes(np.zeros((20, 1), int), np.ones((20, 1)), 4)
    table = compare({"PCA": PCA()}, X, n_nonzero_coefs=2, truth=TRUTH | {"codes": codes})
    assert table.error[0] == ""
    assert table.recall[0] == 1


def path_to_six(estimator, X):
    return estimator.reconstruction_path(X, 6)


def test_further_measures_are_columns_of_their_own(small, tmp_path):
    def table():
        return compare(
            {"MP": MPSparseAutoencoder(8, **FAST)},
            small,
            n_nonzero_coefs=[2, 3],
            measures={"path": path_to_six},
            memory=tmp_path,
        )

    first, again = table(), table()
    fitted = MPSparseAutoencoder(8, n_nonzero_coefs=3, random_state=0, **FAST).fit(small)
    np.testing.assert_array_equal(first.path[1], fitted.reconstruction_path(small, 6))
    np.testing.assert_array_equal(again.path[1], first.path[1])


@pytest.mark.parametrize(
    ("measures", "match"),
    [
        ({"r2": path_to_six}, "measures has 'r2', a column there is already"),
        ({"path": 3}, r"measures\['path'\] must be callable, got 3"),
    ],
)
def test_bad_measures(measures, match, small):
    with pytest.raises(ValueError, match=match):
        compare({"PCA": PCA()}, small, n_nonzero_coefs=2, measures=measures)


def test_a_broken_number_is_for_averages_only(small):
    table = compare(
        {
            "row": MPSparseAutoencoder(8, **FAST),
            "average": MPSparseAutoencoder(8, sparsity="average", **FAST),
        },
        small,
        n_nonzero_coefs=[1.5, 2],
    )
    assert "1.5 is not a whole number" in table.error[0]
    assert (table.error[1:] == "").all()
