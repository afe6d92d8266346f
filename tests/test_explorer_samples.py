"""The explorer's weak samples, the signs of cosines and weights, and what its search covers."""

import numpy as np
import pytest
from explored import FAST, rows_to_explore  # noqa: F401 - a fixture
from pages import column, opened, shown

from sklearn_mpsae import MPSparseAutoencoder, explore
from sklearn_mpsae.explorer._facts import Uses, examples_of


@pytest.fixture(scope="module")
def model(X):
    return MPSparseAutoencoder(40, positive_code=False, **FAST).fit(X)


@pytest.fixture(scope="module")
def opposites(X):
    """Atoms 0 and 1 are opposite, 2 and 3 nearly the same; the others as they come."""
    atoms = np.random.default_rng(0).standard_normal((12, 64))
    atoms[1] = -atoms[0]
    atoms[3] = atoms[2] + 0.01 * atoms[3]
    options = {"learning_rate": 1e-9, "dead_atoms": "keep", "whitening": 0}
    return MPSparseAutoencoder(12, dict_init=atoms, **FAST, **options).fit(X)


def uses_of_one_atom(codes):
    n = len(codes)
    return Uses(np.arange(n), np.zeros(n, int), np.array(codes, float), np.ones(n), np.ones(n))


def groups_of(codes, n_examples=6):
    """The codes shown of an atom with these codes, by group."""
    found = examples_of(uses_of_one_atom(codes), np.array([len(codes)]), n_examples)
    ends = np.cumsum(found.groups)
    parts = np.split(np.arange(ends[-1]), ends[:-1])
    return [found.codes[0, part][found.rows[0, part] >= 0].tolist() for part in parts]


def test_middling_and_weak_samples_are_near_the_median_and_the_lowest_tenth(rng):
    magnitudes = np.arange(1, 101.0)
    codes = rng.permutation(magnitudes * np.where(magnitudes % 2, 1, -1))
    strongest, middling, weak = groups_of(codes)
    assert np.abs(strongest).tolist() == [100, 99, 98, 97, 96, 95]
    assert np.abs(middling).tolist() == [51, 50]
    assert np.abs(weak).tolist() == [11, 10]
    assert set(strongest + middling + weak) <= set(codes.tolist())  # signs are kept


@pytest.mark.parametrize("n", range(14))
def test_few_samples_are_shown_once_each(n):
    groups = groups_of(np.arange(1.0, n + 1))
    together = [code for group in groups for code in group]
    assert together == sorted(set(together), reverse=True)
    assert len(together) == min(n, 6 + 2 + 2)
    assert [len(group) for group in groups] == [
        min(n, 6),
        min(2, max(0, (n - 6) // 2)),
        min(2, max(0, (n - 5) // 2)),
    ]


def test_the_page_holds_them_with_their_codes(model, X, tmp_path):
    texts = [f"sample {i}" for i in range(len(X))]
    page = opened(explore(model, X, tmp_path / "page.html", texts=texts, n_examples=5))
    arrays, dense = page["arrays"], model.transform(X)
    assert page["groups"] == [5, 2, 2]
    for atom, examples in enumerate(arrays["examples"]):
        there = examples >= 0
        codes = dense[arrays["samples"][examples[there]], atom]
        np.testing.assert_allclose(arrays["example_codes"][atom][there], codes, rtol=1e-6)
        assert len(set(examples[there])) == there.sum() == min(9, arrays["usage"][atom])


def test_labels_name_the_strongest_samples_only(model, X, tmp_path):
    """Words of weak samples would make the label of another atom."""
    dense = np.abs(model.transform(X))
    atom = int(np.argmax((dense > 0).sum(axis=0)))
    strongest = np.argsort(-dense[:, atom], kind="stable")[:12]
    texts = ["strong" if row in strongest else f"weak {row % 3}" for row in range(len(X))]
    page = opened(explore(model, X, tmp_path / "page.html", texts=texts))
    assert page["atom_labels"][atom] == "strong"
    tokens = [[text] for text in texts]
    page = opened(explore(model, X, tmp_path / "page.html", tokens=tokens))
    assert page["atom_labels"][atom] == "strong"


def test_the_strongest_samples_keep_their_pictures(model, X, tmp_path):
    """The order of samples is that in which pictures are left out, from the end."""
    arrays = opened(explore(model, X, tmp_path / "page.html", image_shape=(8, 8)))["arrays"]
    strongest = set(arrays["examples"][:, :12].ravel()) - {-1}
    assert strongest == set(range(len(strongest)))


# -------------------------------------------------------------------------- the browser
def test_an_atom_shows_weak_samples_beside_the_strongest(visit, model, X, tmp_path):
    texts = [f"sample {i}." for i in range(len(X))]
    path = explore(model, X, tmp_path / "page.html", texts=texts)
    page, arrays = visit(path), opened(path)["arrays"]
    atom = int(np.argmax(arrays["usage"]))
    page.evaluate(f"location.hash = '{atom}'")
    shown(page, atom)
    headings = page.locator("#atom h3").all_inner_texts()
    assert headings[:3] == ["Strongest samples", "Middling samples", "Weak samples"]
    rows = [texts[i] for i in arrays["samples"][arrays["examples"][atom]]]
    assert page.locator("#atom .texts .text").all_inner_texts() == rows


def test_opposite_atoms_are_told_from_equal_ones(visit, opposites, X, tmp_path):
    path = explore(opposites, X, tmp_path / "page.html")
    page, arrays = visit(path), opened(path)["arrays"]
    assert arrays["cosines"][0, 0] == pytest.approx(-1, abs=1e-3)
    coherence = dict(zip(column(page, 0), column(page, 3), strict=True))
    assert [coherence[atom] for atom in ("0", "1")] == ["−1.00"] * 2
    assert [coherence[atom] for atom in ("2", "3")] == ["1.00"] * 2
    for atom, relation in (
        (0, "opposite of atom 1"),
        (1, "opposite of atom 0"),
        (2, "with atom 3"),
    ):
        page.evaluate(f"location.hash = '{atom}'")
        shown(page, atom)
        assert relation in page.inner_text("#atom dl")
    page.evaluate("location.hash = '0'")
    shown(page, 0)
    similar = page.locator("section", has=page.get_by_text("Most similar atoms"))
    first = similar.get_by_role("button").first
    assert "opposite −1.00" in first.inner_text().replace("\n", " ")
    assert first.get_attribute("aria-label").startswith("Atom 1. Opposite. Cosine")
    assert "Grey bars are below zero" in similar.inner_text()


def test_the_table_sorts_by_the_size_of_the_cosine(visit, opposites, X, tmp_path):
    page = visit(explore(opposites, X, tmp_path / "page.html"))
    page.get_by_role("columnheader").get_by_text("Coherence", exact=True).click()
    sizes = [abs(float(text.replace("−", "-"))) for text in column(page, 3)]
    assert sizes == sorted(sizes, reverse=True)
    assert any(text.startswith("−") for text in column(page, 3))


def test_a_named_weight_has_its_sign(visit, opposites, X, tmp_path):
    names = [f"pixel {i}" for i in range(64)]
    page = visit(explore(opposites, X, tmp_path / "page.html", feature_names=names))
    W = opposites.components_
    for number, hint in zip(column(page, 0), column(page, 0), strict=True):
        atom, _, hint = hint.partition("\n")
        assert number.startswith(atom)
        largest = int(np.argmax(np.abs(W[int(atom)])))
        sign = "−" if W[int(atom), largest] < 0 else "+"
        assert hint.strip() == f"{sign}pixel {largest}"


@pytest.mark.parametrize(
    ("options", "covered"),
    [
        ({}, "Search covers the atoms’ numbers."),
        (
            {"labels": range(400)},
            "Search covers the labels of {n} of 400 samples: those that the page shows; "
            "the atoms’ numbers.",
        ),
        (
            {"texts": ["a text"] * 400, "labels": range(400), "atom_labels": None},
            "Search covers the texts and labels of {n} of 400 samples: those that the page "
            "shows; the atoms’ numbers.",
        ),
        (
            {"tokens": [["a"] * 400]},
            "Search covers the contexts of {n} of 400 samples: those that the page shows; "
            "the atoms’ labels; the atoms’ numbers.",
        ),
        (
            {"feature_names": ["a name"] * 64},
            "Search covers the names of each atom’s 16 largest weights; the atoms’ numbers.",
        ),
        (  # an atom is a picture: no weights are named
            {"feature_names": ["a name"] * 64, "image_shape": (8, 8)},
            "Search covers the atoms’ numbers.",
        ),
    ],
)
def test_the_search_box_says_what_it_covers(visit, model, X, tmp_path, options, covered):
    path = explore(model, X, tmp_path / "page.html", **options)
    page, n = visit(path), len(opened(path)["arrays"]["samples"])
    assert n < 400
    assert page.inner_text("#covers") == covered.format(n=n)
    assert page.get_attribute("#search", "aria-describedby") == "covers"
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator("#covers").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_texts_that_are_left_out_are_not_said_to_be_searched(
    visit, model, X, tmp_path, monkeypatch
):
    monkeypatch.setattr("sklearn_mpsae.explorer._explore._ALL_TEXT", 600)
    page = visit(explore(model, X, tmp_path / "page.html", texts=["six..."] * len(X)))
    assert "the texts (of 100) of " in page.inner_text("#covers")


def test_search_finds_weak_samples(visit, model, X, tmp_path):
    labels = [f"number {i}." for i in range(len(X))]
    path = explore(model, X, tmp_path / "page.html", labels=labels)
    arrays = opened(path)["arrays"]
    atom = int(np.argmax(arrays["usage"]))
    weak = arrays["samples"][arrays["examples"][atom, -1]]
    page = visit(path)
    page.fill("#search", labels[weak])
    assert str(atom) in column(page, 0)
    page.evaluate(f"location.hash = '{atom}'")
    shown(page, atom)
    assert labels[weak] in page.locator("#atom mark").all_inner_texts()
