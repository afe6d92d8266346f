"""Rows of a layer of the language model, and the words that they come from."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from language_model import PAD, Settings, Text, Transformer, is_word, read_text, trained

from sklearn_mpsae.activations import ModuleActivations


class Source(NamedTuple):
    """Where rows come from, and how many there are."""

    folder: str  # of the text
    cache: Path  # of the trained model
    settings: Settings
    most_glosses: int | None  # None for all of the text
    block: int  # the rows are the output of this block, counted from 1
    n_train: int
    n_test: int
    n_loss: int  # words that the cross-entropy is measured on, or a few more

    @property
    def layer(self) -> str:
        return f"blocks.{self.block - 1}"


class Rows(NamedTuple):
    """Activations of words in random order, and for each the words around it."""

    X: np.ndarray
    before: np.ndarray  # the number of the word before, or that of <s>
    own: np.ndarray
    after: np.ndarray
    gloss: np.ndarray

    def first(self, n: int) -> Rows:
        return Rows(*(part[:n] for part in self))


class Loaded(NamedTuple):
    """All that estimators are fitted and measured on."""

    text: Text
    model: Transformer
    found: dict  # what the training of the model has found
    train: Rows
    test: Rows
    loss_batches: list[torch.Tensor]


@lru_cache(maxsize=1)
def load(source: Source) -> Loaded:
    """Rows to learn from, of glosses that the model was trained on, and held-out ones."""
    text, model, found = language_model(source)
    held_out = range(text.n_train, len(text.glosses))
    return Loaded(
        text,
        model,
        found,
        _rows(source, text, model, range(text.n_train), source.n_train),
        _rows(source, text, model, held_out, source.n_test),
        text.batches(_first_with(text, held_out, source.n_loss), 2_048),
    )


def language_model(source: Source) -> tuple[Text, Transformer, dict]:
    """The text, the trained model and what its training has found."""
    settings = source.settings
    text = read_text(source.folder, settings.n_words, settings.context, source.most_glosses)
    return text, *trained(settings, text, source.cache)


def _rows(source: Source, text: Text, model, glosses: range, n: int) -> Rows:
    groups = text.groups(_first_with(text, glosses, n), 8_192)
    batches = [text.batch(group) for group in groups]
    X, positions = ModuleActivations(model, source.layer, batches, mask=is_word).collect()
    batch, gloss, place = positions.T
    # All glosses of all batches, one after the other, in one table.
    table = np.full((sum(map(len, groups)), source.settings.context), PAD)
    for tokens, start in zip(batches, starts := _starts(groups), strict=True):
        table[start : start + len(tokens), : tokens.shape[1]] = tokens
    # Neighbours in a batch have glosses of one length: in random order they are mixed.
    order = np.random.default_rng(0).permutation(len(X))[:n]
    line, place = (np.array(starts)[batch] + gloss)[order], place[order]
    around = (table[line, place + shift] for shift in (-1, 0, 1))
    return Rows(X[order], *around, np.concatenate(groups)[line])


def _starts(groups: list[list[int]]) -> list[int]:
    return list(accumulate(map(len, groups[:-1]), initial=0))


def _first_with(text: Text, glosses: range, n_words: int) -> range:
    """The first of these glosses that have so many words together, or all of them."""
    # Without both ends.
    totals = accumulate(len(text.glosses[i]) - 2 for i in glosses)
    n = next((i + 1 for i, total in enumerate(totals) if total >= n_words), len(glosses))
    return glosses[:n]
