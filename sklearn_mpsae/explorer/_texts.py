"""Tokens in their contexts, and words that name atoms."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from ..metrics._inputs import batches

# So many tokens are shown before and after a sample's own.
BEFORE, AFTER = 16, 8

# An atom's label has so many words at most, each from so many of its samples at least, and
# so many times as frequent in them as in all samples.
_N_WORDS, _LEAST_SAMPLES, _LEAST_LIFT = 3, 2, 2

# How blank tokens are written as words.
_BLANKS = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "⏎"})


class Tokens:
    """The tokens of documents, one after the other, and which of them the rows are.

    Parameters
    ----------
    documents : list of list of str
    positions : ndarray of shape (n_rows, 2), or None
        Of each row its document and its place there; None where the rows are all tokens.
    """

    def __init__(self, documents, positions):
        self.all = [token for document in documents for token in document]
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        self._ends = np.cumsum(lengths)
        starts = self._ends - lengths
        # The document of each token, and the token of each row.
        self.document = np.repeat(np.arange(len(documents)), lengths)
        if positions is None:
            self._place = np.arange(len(self.all))
        else:
            self._place = starts[positions[:, 0]] + positions[:, 1]
        self._row = np.full(len(self.all), -1)
        self._row[self._place] = np.arange(len(self._place))

    def windows(self, rows: np.ndarray) -> np.ndarray:
        """The tokens around each row's own, of shape (*rows.shape, BEFORE + 1 + AFTER).

        -1 beyond the ends of its document, and for a row of -1.
        """
        own = self._place[rows.clip(min=0)][..., None]
        near = own + np.arange(-BEFORE, AFTER + 1)
        inside = (near >= 0) & (near < len(self.all)) & (rows >= 0)[..., None]
        near = np.where(inside, near, 0)
        inside &= self.document[near] == self.document[own]
        return np.where(inside, near, -1)

    def rows(self, tokens: np.ndarray) -> np.ndarray:
        """The row of each token, -1 where there is none."""
        return np.where(tokens >= 0, self._row[tokens], -1)

    def contexts(self, rows, length) -> list:
        """For each row, the tokens around it, each cut, and which of them is its own."""
        found = []
        for window in self.windows(np.asarray(rows)):
            tokens = [self.all[token] for token in window[window >= 0]]
            own = int((window[:BEFORE] >= 0).sum())
            found.append([own, [_cut(token, length) for token in tokens]])
        return found

    def marked(self, rows) -> list[str]:
        """The contexts of rows as text, with each row's own token within << and >>."""
        return [
            "".join([*tokens[:own], "<<", tokens[own], ">>", *tokens[own + 1 :]])
            for own, tokens in self.contexts(rows, None)
        ]


def _cut(text, length):
    return text if length is None or len(text) <= length else text[: length - 1] + "…"


def context_codes(uses, tokens: Tokens, shown: np.ndarray, n_rows: int) -> np.ndarray:
    """Each atom's codes in the contexts of the samples that are shown of it.

    As int8 of shape (n_components, n_shown, n_tokens), where 127 is the largest magnitude
    of all of the atom's.
    """
    keys = uses.atoms.astype(np.int64) * n_rows + uses.rows
    order = np.argsort(keys)
    keys, values = keys[order], uses.values[order]
    shape = (*shown.shape, BEFORE + 1 + AFTER)
    codes = np.zeros(shape, dtype=np.int8)
    for block in batches(len(shown), shape[1] * shape[2]) if len(keys) else ():
        rows = tokens.rows(tokens.windows(shown[block]))
        atoms = np.arange(block.start, block.stop)[:, None, None]
        wanted = np.where(rows >= 0, atoms * n_rows + rows, -1)
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        there = np.where(keys[at] == wanted, values[at], 0)
        largest = np.abs(there).max(axis=(1, 2), keepdims=True)
        codes[block] = np.rint(there / np.where(largest > 0, largest, 1) * 127)
    return codes


# ---------------------------------------------------------------------------- the labels
class Strongest(NamedTuple):
    """What a function that names atoms is given of each."""

    atom: int
    rows: np.ndarray
    """Its strongest samples, the strongest first."""
    codes: np.ndarray
    texts: list[str] | None
    """Their texts; a token's context, with the token within << and >>."""


def named_by(name: Callable, facts, texts_of: Callable | None) -> list[str]:
    """The labels that a function gives the atoms in use; those of the others are empty."""
    labels = []
    for atom, (rows, codes) in enumerate(zip(facts.top_rows, facts.top_codes, strict=True)):
        rows = rows[rows >= 0]
        if len(rows) == 0:
            labels.append("")
            continue
        texts = None if texts_of is None else texts_of(rows)
        label = name(Strongest(atom, rows, codes[: len(rows)], texts))
        if label is not None and not isinstance(label, str):
            raise TypeError(
                f"atom_labels gave {label!r} for atom {atom}: it must return text, or None."
            )
        labels.append(label or "")
    return labels


def words_of_texts(texts: list[str], top_rows: np.ndarray) -> list[str]:
    """The words that are most distinctive of each atom's strongest texts."""
    vectorizer = CountVectorizer()
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # there are no words
        return [""] * len(top_rows)
    atoms, places = np.nonzero(top_rows >= 0)
    chosen = sparse.csr_array(
        (np.ones(len(atoms)), (atoms, top_rows[atoms, places])),
        shape=(len(top_rows), len(texts)),
    )
    counts = sparse.csr_array(counts)
    totals = np.asarray(counts.sum(axis=0), dtype=float)
    return _most_distinctive(
        chosen @ counts, chosen @ (counts > 0), totals, vectorizer.get_feature_names_out()
    )


def words_of_tokens(tokens: Tokens, codes: np.ndarray, top_rows: np.ndarray) -> list[str]:
    """The same of tokens, each of which counts as much as its code."""
    words = [token.strip().lower() or token.translate(_BLANKS) or "∅" for token in tokens.all]
    words, term = np.unique(np.array(words, dtype=object), return_inverse=True)
    atoms, places, near = np.nonzero(codes)
    found = tokens.windows(top_rows)[atoms, places, near]
    document, found = tokens.document[found], term[found]
    shape = (len(codes), len(words))
    weights = sparse.csr_array(
        (np.abs(codes[atoms, places, near] / 127), (atoms, found)), shape
    )
    # In how many documents of an atom each word is: neighbours show the same words.
    pairs = np.unique(np.stack([atoms, document, found]), axis=1)
    n_samples = sparse.csr_array((np.ones(pairs.shape[1]), (pairs[0], pairs[2])), shape)
    totals = np.bincount(term, minlength=len(words)).astype(float)
    return _most_distinctive(weights, n_samples, totals, words)


def _most_distinctive(weights, n_samples, totals, words):
    """Class-based TF-IDF: the largest tf * log(1 + mean total of an atom / total).

    weights : how much of each word there is in the samples of each atom; n_samples : in how
    many of them, or of their documents, it is; totals : how much of it there is in all samples
    """
    share = totals / totals.sum()
    rarity = np.log1p(1 / weights.shape[0] / share)
    # Both have the same entries: once each, which older SciPy leaves to the caller, and in
    # one order.
    weights.sum_duplicates()
    n_samples.sum_duplicates()
    labels = []
    for atom in range(weights.shape[0]):
        part = slice(*weights.indptr[atom : atom + 2])
        terms = weights.indices[part]
        frequency = weights.data[part] / weights.data[part].sum()
        scores = frequency * rarity[terms]
        # One sample has words of its own, which say nothing of the atom; nor do words that
        # are everywhere.
        common = n_samples.data[part] >= _LEAST_SAMPLES
        common &= frequency > _LEAST_LIFT * share[terms]
        best = [i for i in np.lexsort((terms, -scores)) if common[i]][:_N_WORDS]
        labels.append(", ".join(str(words[terms[i]]) for i in best))
    return labels
