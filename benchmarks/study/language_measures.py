"""What the codes of words tell: of the next word, of classes, and of the words themselves.

A file of its own, as what was measured is kept under a hash of this code.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import code_digest
from language_model import is_word, losses
from language_rows import Loaded, Rows, Source, load
from scipy import sparse

from sklearn_mpsae import metrics

PROBED = (1, 5)
NEXT = 8  # classes of the next token, beside that of all others
ANOTHER = "another"

# A label has so many words at most, each of them on so many training rows of its atom.
MOST_WORDS, LEAST_ROWS = 20, 5
# Atoms that fewer held-out rows use are not judged: their scores would be of chance.
LEAST_JUDGED = 20
LABELLED = 50_000  # training rows that labels are made of

KEY = code_digest([Path(__file__).with_name(f"language_{x}.py") for x in ("rows", "measures")])


def itself(estimator, X):
    """A measure for `compare`: the fitted estimator, to measure it later."""
    return estimator


def measured(estimator, source: Source, key: str = KEY) -> dict:
    """All measures of a fitted estimator, by name; `key` is for the cache."""
    data = load(source)
    codes = estimator.encode(data.test.X).csr()
    train = data.train.first(LABELLED)
    found = metrics.downstream_loss(
        data.model, source.layer, estimator, data.loss_batches, losses, mask=is_word
    )
    return {
        "recovered": found.recovered_from_mean,
        "losses": found,
        **probes(codes, data),
        "labels": labels(train, estimator.encode(train.X).csr(), data.test, codes),
    }


def measured_rows(source: Source, key: str = KEY) -> dict[str, float]:
    """The same probes on the rows themselves."""
    data = load(source)
    return probes(data.test.X, data)


# ---------------------------------------------------------------------------- the probes
def probes(inputs, data: Loaded) -> dict[str, float]:
    """The mean balanced accuracy over classes, by task and number of inputs."""
    # Rows of one gloss, which are alike, are on one side.
    test = data.test.gloss % 2 == 1
    found = {}
    for task, y in classes(data).items():
        table = metrics.sparse_probe(inputs, y, n_atoms=PROBED, test=test)
        means = table.groupby("n_inputs").balanced_accuracy.mean()
        found |= {f"{task} {n}": means[n] for n in PROBED}
        found[f"{task} all"] = means[max(means.index)]
    return found


def classes(data: Loaded) -> dict[str, np.ndarray]:
    """Of each held-out row: the part of speech that its gloss defines, and the next token."""
    common = np.bincount(data.train.after).argsort()[::-1][:NEXT]
    after = data.test.after
    following = np.where(np.isin(after, common), data.text.words[after], ANOTHER)
    return {"speech": data.text.speech[data.test.gloss], "next": following}


# ---------------------------------------------------------------------------- the labels
class Labels(NamedTuple):
    """Words for each atom, and how well they tell which held-out rows use it."""

    place: np.ndarray  # of shape (n_atoms,): where the words stand, "own" or "before"
    words: list[np.ndarray]
    f1: np.ndarray  # NaN for atoms that too few held-out rows use
    balanced_accuracy: np.ndarray


def labels(train: Rows, train_codes, test: Rows, test_codes) -> Labels:
    """A rule for each atom, from training rows: it is used where one of these words is.

    The words stand at the row's own place or at the one before, whichever has the higher F1 on
    training rows.
    """
    n_words = 1 + max(int(part.max()) for rows in (train, test) for part in rows[1:3])
    rules = {
        place: _Rule(_Counts(getattr(train, place), train_codes, n_words))
        for place in ("own", "before")
    }
    scores = {
        place: rule.scores(_Counts(getattr(test, place), test_codes, n_words))
        for place, rule in rules.items()
    }
    first = rules["own"].f1 >= rules["before"].f1
    words = [
        rules["own" if f else "before"].words(atom) for atom, f in enumerate(first.tolist())
    ]
    f1, accuracy = (
        np.where(first, own, before)
        for own, before in zip(scores["own"], scores["before"], strict=True)
    )
    return Labels(np.where(first, "own", "before"), words, f1, accuracy)


class _Counts:
    """How many rows have each word, and use each atom, and both."""

    def __init__(self, words: np.ndarray, codes, n_words: int) -> None:
        self.n = len(words)
        ones = np.ones(self.n)
        has = sparse.csr_array((ones, (words, np.arange(self.n))), (n_words, self.n))
        uses = sparse.csr_array(codes).astype(bool).astype(float)
        self.both = (has @ uses).toarray()
        self.of_word = has.sum(axis=1)
        self.of_atom = np.asarray(uses.sum(axis=0)).ravel()


class _Rule:
    """The words of each atom, chosen on training rows."""

    def __init__(self, counts: _Counts) -> None:
        both, of_word, of_atom = counts.both, counts.of_word, counts.of_atom
        with np.errstate(divide="ignore", invalid="ignore"):
            lift = both * counts.n / (of_word[:, None] * of_atom)
            # Words count by how many rows they are on, and how far beyond chance.
            weight = np.where(both >= LEAST_ROWS, both * np.log(lift), -np.inf)
        self._order = np.argsort(-weight, axis=0, kind="stable")[:MOST_WORDS]
        # As many of them as tell best which training rows use the atom.
        tp, predicted = self._sums(counts)
        f1 = _f1(tp, predicted, of_atom)
        f1[np.take_along_axis(weight, self._order, axis=0) <= 0] = -1
        self._size = f1.argmax(axis=0)
        self.f1 = f1.max(axis=0)

    def words(self, atom: int) -> np.ndarray:
        """The words' numbers, the weightiest first; none where no word is beyond chance."""
        return self._order[: self._size[atom] + 1 if self.f1[atom] > 0 else 0, atom]

    def scores(self, counts: _Counts) -> tuple[np.ndarray, np.ndarray]:
        """F1 and balanced accuracy on other rows."""
        at = self._size, np.arange(len(self._size))
        tp, predicted = (np.where(self.f1 > 0, sums[at], 0) for sums in self._sums(counts))
        of_atom, n = counts.of_atom, counts.n
        judged = of_atom >= LEAST_JUDGED
        with np.errstate(divide="ignore", invalid="ignore"):
            sensitivity = tp / of_atom
            specificity = 1 - (predicted - tp) / (n - of_atom)
        return (
            np.where(judged, _f1(tp, predicted, of_atom), np.nan),
            np.where(judged & (of_atom < n), (sensitivity + specificity) / 2, np.nan),
        )

    def _sums(self, counts: _Counts) -> tuple[np.ndarray, np.ndarray]:
        """Rows that the first words are on, with the atom and at all: (number, atom)."""
        both = np.take_along_axis(counts.both, self._order, axis=0)
        return both.cumsum(axis=0), counts.of_word[self._order].cumsum(axis=0)


def _f1(tp, predicted, actual):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(2 * tp / (predicted + actual))
