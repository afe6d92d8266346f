"""Tokens in their contexts, words and labels on the pages of `explore`."""

import re

import numpy as np
import pytest
from explored import (  # noqa: F401 - fixtures
    either_to_explore,
    pursuit_to_explore,
    rows_to_explore,
    sentences,
    shallow_to_explore,
)
from pages import opened

from sklearn_mpsae import explore
from sklearn_mpsae.explorer._texts import BEFORE, Tokens, words_of_texts, words_of_tokens


def test_tokens_are_shown_in_their_contexts_with_their_codes(fitted, X, tmp_path):
    documents = sentences(len(X))
    page = opened(explore(fitted, X, tmp_path / "page.html", tokens=documents))
    arrays = page["arrays"]
    dense = fitted.transform(X)
    before, shape = page["tokens_before"], arrays["context_codes"].shape
    for sample, (own, tokens) in zip(arrays["samples"], page["contexts"], strict=True):
        document, place = divmod(sample, 10)
        assert tokens == documents[document][max(0, place - before) : place + 9]
        assert tokens[own] == documents[document][place]
        assert own == min(place, before)
    for atom in range(len(dense.T)):
        windows = np.zeros(shape[1:])
        for rank, example in enumerate(arrays["examples"][atom]):
            if example < 0:
                continue
            row = arrays["samples"][example]
            for j in range(shape[2]):
                near = row + j - before
                if near // 10 == row // 10:
                    windows[rank, j] = dense[near, atom]
        largest = np.abs(windows).max() or 1
        np.testing.assert_allclose(
            arrays["context_codes"][atom] / 127, windows / largest, atol=0.5 / 127 + 1e-6
        )


def test_positions_say_which_tokens_the_samples_are(top_k, X, tmp_path):
    """Those that are left out, as padding, are in the contexts too."""
    documents = [["<pad>", *document] for document in sentences(len(X))]
    positions = np.array([(i // 10, i % 10 + 1) for i in range(len(X))])
    order = np.random.default_rng(0).permutation(len(X))
    page = opened(
        explore(
            top_k, X[order], tmp_path / "a.html", tokens=documents, positions=positions[order]
        )
    )
    for sample, (own, tokens) in zip(page["arrays"]["samples"], page["contexts"], strict=True):
        document, place = positions[order][sample]
        assert tokens[0] == "<pad>"
        assert tokens[own] == documents[document][place]
    batches = [documents[:15], documents[15:]]
    places = [(d // 15, d % 15, p) if d < 15 else (1, d - 15, p) for d, p in positions[order]]
    explore(top_k, X[order], tmp_path / "b.html", tokens=batches, positions=places)
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_words_of_atoms_are_those_of_their_samples_more_than_of_all():
    texts = [
        "the cat sat",
        "the cat ran",
        "the dog sat",
        "the dog zebra",
        "a plain the text",
    ] * 4
    top_rows = np.array([[0, 1, 5, -1], [2, 3, 7, 8], [0, 2, 4, 9], [3, -1, -1, -1]])
    labels = words_of_texts(texts, top_rows)
    assert labels[0].split(", ")[0] == "cat"
    assert labels[1].split(", ")[0] == "dog"
    assert not any("the" in label.split(", ") for label in labels)  # it is everywhere
    assert labels[3] == ""  # a single sample
    assert words_of_texts(["!", "?"], np.array([[0, 1]])) == [""]


def test_words_of_tokens_count_as_much_as_their_codes():
    tokens = Tokens([["I", " saw", " A", " cat"], ["The", " Cat", " saw"], [" ", " a"]], None)
    top_rows = np.array([[3, 5, -1], [1, 6, 3], [7, 7, 7]])
    codes = np.zeros((3, 3, 25), dtype=np.int8)
    codes[0, :2, BEFORE] = 127
    codes[1, :2, BEFORE] = 10
    codes[1, 2, BEFORE - 2] = 127  # the saw of the first document, seen from the cat
    codes[2, 0, BEFORE] = 127
    assert words_of_tokens(tokens, codes, top_rows) == ["cat", "saw", ""]


def test_atoms_have_the_labels_that_are_given_or_made(mp, X, tmp_path):
    path = tmp_path / "page.html"
    texts = [f"text {i}" for i in range(len(X))]
    given = opened(explore(mp, X, path, atom_labels=[f"atom number {i}" for i in range(40)]))
    assert (given["atom_labels"][7], given["label_words"]) == ("atom number 7", False)
    seen = []

    def name(strongest):
        seen.append(strongest)
        return None if strongest.atom == seen[0].atom else f"{strongest.texts[0]}!"

    page = opened(explore(mp, X, path, texts=texts, atom_labels=name))
    arrays = page["arrays"]
    used = np.flatnonzero(arrays["usage"])
    assert [each.atom for each in seen] == used.tolist()
    for each in seen:
        shown = arrays["examples"][each.atom][:12]
        assert each.rows.tolist() == arrays["samples"][shown[shown >= 0]].tolist()
        assert each.texts == [texts[row] for row in each.rows]
        assert each.codes == pytest.approx(
            arrays["example_codes"][each.atom][: len(each.codes)]
        )
    assert page["atom_labels"][used[0]] == ""
    assert page["atom_labels"][used[1]] == f"{seen[1].texts[0]}!"
    explore(mp, X, path, tokens=sentences(len(X)), atom_labels=lambda s: seen.append(s))
    assert re.fullmatch(r"( word\d)*<< word\d>>( word\d)*", seen[-1].texts[0])
    for options in ({"texts": texts, "atom_labels": None}, {"labels": texts}):
        assert opened(explore(mp, X, path, **options))["atom_labels"] is None


def test_a_label_that_is_no_text_is_refused_and_nothing_written(mp, X, tmp_path):
    with pytest.raises(TypeError, match=r"atom_labels gave 3 for atom \d+"):
        explore(mp, X, tmp_path / "page.html", atom_labels=lambda strongest: 3)
    assert list(tmp_path.iterdir()) == []
