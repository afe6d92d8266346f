"""Sparse probes: the best atoms by hand, on rows that the probe has not seen."""

import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.metrics import sparse_probe

pd = pytest.importorskip("pandas")
SCORES = ["accuracy", "balanced_accuracy", "f1", "auc"]


@pytest.fixture
def labelled(rng):
    """Codes in which atom 2 says "a" and atom 5 "b"; 0 and 7 are large and say nothing."""
    y = np.array(["a", "b", "c"])[rng.integers(0, 3, 90)]
    codes = rng.random((90, 8)) * (rng.random((90, 8)) < 0.3)
    codes[:, 2] = 3 * (y == "a") + 0.01 * rng.random(90)
    codes[:, 5] = 3 * (y == "b") + 0.01 * rng.random(90)
    codes[:, [0, 7]] = 50.0
    return codes, y


def test_the_best_atom_of_a_class_is_found_and_predicts_it(labelled):
    table = sparse_probe(*labelled, n_atoms=1)
    best = table[(table["n_inputs"] == 1)].set_index("class")
    assert best.atoms.map(list).to_dict() == {"a": [2], "b": [5], "c": best.atoms["c"].tolist()}
    assert best.loc[["a", "b"], SCORES].to_numpy().tolist() == [[1.0] * 4] * 2
    assert best.balanced_accuracy["c"] < 1
    everything = table[table["n_inputs"] == 8].set_index("class")
    assert everything.balanced_accuracy["c"] == 1
    assert table[["inputs", "n_inputs", "class"]].to_numpy().tolist() == [
        ["codes", size, label] for size in (1, 8) for label in "abc"
    ]


def test_atoms_are_ranked_on_training_rows_by_the_difference_of_means(labelled, rng):
    codes, y = labelled
    test = rng.random(90) < 0.4
    table = sparse_probe(codes, y, n_atoms=[3], test=test)
    for label, atoms in zip(table["class"], table.atoms, strict=True):
        of, others = (codes[~test & mask].mean(axis=0) for mask in (y == label, y != label))
        assert (
            atoms.tolist()
            == np.argsort(-abs(of - others), kind="stable")[: len(atoms)].tolist()
        )
    # What test rows hold changes no choice, and their labels are not learnt.
    other = codes.copy()
    other[test] = rng.random((test.sum(), 8))
    assert (
        sparse_probe(other, y, n_atoms=[3], test=np.flatnonzero(test)).atoms.map(list).tolist()
        == table.atoms.map(list).tolist()
    )


def test_every_form_of_codes_gives_the_same_table(labelled):
    codes, y = labelled
    slots = Codes(np.tile(np.arange(8), (90, 1)), codes, 8)
    expected = sparse_probe(codes, y, n_atoms=2)
    for form in (sparse.csr_array(codes), slots, codes.tolist(), pd.DataFrame(codes)):
        table = sparse_probe(form, y.tolist(), n_atoms=2)
        assert table[SCORES].equals(expected[SCORES])
    # Nor does the scale of an atom's codes matter to a probe.
    for unit in (2.0**-20, 2.0**-700):
        scaled = sparse_probe(codes * unit, y, n_atoms=2)
        np.testing.assert_allclose(scaled[SCORES], expected[SCORES])


@pytest.mark.parametrize("sparse_output", [False, True])
def test_an_estimator_is_probed_beside_its_rows(small, sparse_output):
    y = np.arange(60) % 2
    sae = TopKSAE(
        12, n_nonzero_coefs=3, max_iter=1, random_state=0, sparse_output=sparse_output
    )
    table = sparse_probe(sae.fit(small), y, small, n_atoms=[1, 100])
    assert table[["inputs", "n_inputs"]].drop_duplicates().to_numpy().tolist() == [
        *(["codes", 1], ["codes", 12], ["rows", 1], ["rows", 10])
    ]
    codes = sparse_probe(sae.transform(small), y, n_atoms=[1, 100])
    assert codes[SCORES].equals(table.loc[table.inputs == "codes", SCORES])
    pipeline = make_pipeline(StandardScaler(), sae).fit(small)
    assert set(sparse_probe(pipeline, y, small, n_atoms=1).n_inputs) == {1, 10, 12}


def test_the_split_has_all_classes_and_is_seeded(labelled):
    codes, y = labelled
    tables = [sparse_probe(codes, y, n_atoms=1, random_state=seed) for seed in (0, 0, 1)]
    assert tables[0][SCORES].equals(tables[1][SCORES])
    assert not tables[0][SCORES].equals(tables[2][SCORES])


EYE = np.eye(6)
TWO = [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((EYE, TWO[:5]), {}, "5 labels in y for 6 rows"),
        ((EYE, [1] * 6), {}, "single class"),
        ((EYE, [0, 0, 0, 1, 1, np.nan]), {}, r"y\[5\] is missing"),
        ((EYE, ["a", "a", None, "b", "b", "b"]), {}, r"y\[2\] is missing"),
        ((EYE, np.ma.array(TWO, mask=TWO)), {}, "y has masked values"),
        ((EYE, np.eye(6)), {}, "1d array"),
        ((np.where(EYE, np.nan, 1), TWO), {}, "codes contains NaN"),
        ((EYE, TWO, np.where(EYE, np.nan, 1)), {}, "X contains NaN"),
        ((EYE, TWO, EYE[:5]), {}, "X has 5 rows, but there are codes of 6"),
        ((EYE, [0, 0, 0, 0, 0, 1]), {}, "Class 1 has a single row"),
        ((EYE, TWO), {"n_atoms": 0}, "n_atoms"),
        ((EYE, TWO), {"n_atoms": []}, "n_atoms"),
        ((EYE, TWO), {"test": [0, 6]}, "indices from 0 to 6 for 6 rows"),
        ((EYE, TWO), {"test": [True] * 5}, "5 entries for 6 rows"),
        ((EYE, TWO), {"test": [0.5]}, "mask of bool"),
        ((EYE, TWO), {"test": [0, 1]}, "Class 1 has no test rows"),
        ((EYE, TWO), {"test": [0, 3, 4, 5]}, "Class 1 has no training rows"),
        ((MPSparseAutoencoder(), TWO), {}, "pass X"),
    ],
)
def test_bad_input_is_refused(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        sparse_probe(*arguments, **options)


def test_rows_in_the_place_of_labels_are_told():
    for X in (EYE, pd.DataFrame(EYE), sparse.csr_array(EYE)):
        with pytest.raises(TypeError, match=r"sparse_probe\(codes, y, X\)"):
            sparse_probe(MPSparseAutoencoder(), X, TWO)


def test_without_pandas_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"sparse_probe needs pandas, .*_mpsae\[compare"):
        sparse_probe(EYE, TWO)


def test_an_estimator_must_be_fitted():
    with pytest.raises(NotFittedError):
        sparse_probe(MPSparseAutoencoder(), TWO, EYE)
