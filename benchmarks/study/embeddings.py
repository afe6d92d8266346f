"""Sentence embeddings with classes, and how well single atoms keep to one class.

A file of its own, as finished fits are kept under the names of what is measured here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

# WordNet's lexicographer files of nouns, from number 3 on.
# fmt: off
CLASSES = (
    "tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication",
    "event", "feeling", "food", "group", "location", "motive", "object", "person",
    "phenomenon", "plant", "possession", "process", "quantity", "relation", "shape", "state",
    "substance", "time",
)
# fmt: on

# So many rows are kept of each atom, and an atom's purity is that of the first of them.
_KEPT = 100
PURE = 20


class Embeddings(NamedTuple):
    """Rows in random order: the first `n_train` are to learn from."""

    X: np.ndarray
    y: np.ndarray
    words: np.ndarray
    n_train: int


@lru_cache(maxsize=1)
def load(path: str, n_train: int, n_test: int) -> Embeddings:
    """The embeddings of this file, split at random but always in the same way."""
    if not Path(path).is_file():
        raise SystemExit(
            f"{path} is missing: 30,000 noun glosses of WordNet as embeddings, an .npz with X "
            "of shape (30000, 384), y (lexicographer file numbers, 3 to 28) and word. Point "
            "--data or $SKLEARN_MPSAE_DATA to its folder. To make it, encode the glosses with "
            "sentence-transformers' all-MiniLM-L6-v2."
        )
    with np.load(path) as arrays:
        rows = np.random.default_rng(0).permutation(len(arrays["X"]))[: n_train + n_test]
        X = arrays["X"][rows].astype(np.float32)
        return Embeddings(X, arrays["y"][rows] - 3, arrays["word"][rows], n_train)


class TopRows:
    """A measure for `compare`: which rows use each atom most, of all rows of a file."""

    def __init__(self, *source) -> None:
        self.source = source

    def __call__(self, estimator, X_test) -> np.ndarray:
        return top_rows(estimator.encode(load(*self.source).X).csr())


def top_rows(codes) -> np.ndarray:
    """The rows with the largest codes of each atom, in order; -1 where there are too few."""
    codes = codes.tocsc()
    top = np.full((codes.shape[1], _KEPT), -1, dtype=np.int32)
    for atom, (start, stop) in enumerate(zip(codes.indptr, codes.indptr[1:], strict=False)):
        order = np.argsort(-codes.data[start:stop], kind="stable")[:_KEPT]
        top[atom, : len(order)] = codes.indices[start:stop][order]
    return top


def top_projections(X: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The rows that point most along each direction, in order."""
    return np.argsort(-(X @ directions.T), axis=0, kind="stable")[:_KEPT].T


def purity(top: np.ndarray, y: np.ndarray, n_rows: int = PURE) -> np.ndarray:
    """The share of the commonest class among the top rows of each atom; NaN if too few."""
    labels = y[top[:, :n_rows]]
    counts = np.stack([(labels == c).sum(axis=1) for c in range(len(CLASSES))], axis=1)
    return np.where(top[:, n_rows - 1] >= 0, counts.max(axis=1) / n_rows, np.nan)


def commonest(rows: np.ndarray, y: np.ndarray) -> int:
    """The commonest class of these rows."""
    return int(np.bincount(y[rows], minlength=len(CLASSES)).argmax())
