"""Token activations of all-MiniLM-L6-v2 on WordNet's glosses, and what is measured of them.

A sentence transformer predicts no token: what a reconstruction costs it is how far the
sentence's embedding turns.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import language_measures as lm
import numpy as np
import torch
from common import code_digest
from language_model import FILE, Text, part_of_speech
from language_rows import Loaded, Rows
from torch.nn import functional

from sklearn_mpsae.activations import ModuleActivations
from sklearn_mpsae.metrics import downstream_loss

BLOCK = 3  # of six
LAYER = f"encoder.layer.{BLOCK - 1}"
KEY = code_digest([Path(__file__), Path(lm.__file__)])
LONGEST = 64  # tokens of a gloss; what is longer is cut


class Source(NamedTuple):
    """Where rows come from, and how many glosses are read."""

    weights: str  # the folder that has model.safetensors, config.json and tokenizer.json
    folder: str  # of the text
    n_train: int
    n_test: int
    n_loss: int


@lru_cache(maxsize=1)
def load(source: Source) -> Loaded:
    """Rows of tokens after a middle block, and batches to measure the embedding on."""
    # A dependency of this part alone.
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.weights, local_files_only=True)
    model = AutoModel.from_pretrained(source.weights, local_files_only=True).eval()
    content = gzip.decompress((Path(source.folder) / FILE).read_bytes()).decode()
    lines = [line.split("\t") for line in content.splitlines()]
    order = np.random.default_rng(0).permutation(len(lines))
    lines = [lines[i] for i in order[: source.n_train + source.n_test]]
    encoded = tokenizer([gloss for _, _, gloss in lines], truncation=True, max_length=LONGEST)
    text = Text(
        [np.array(tokens) for tokens in encoded["input_ids"]],
        np.array([part_of_speech(int(file)) for file, _, _ in lines]),
        np.array(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))),
        source.n_train,
        "",
    )
    test = range(source.n_train, len(lines))
    return Loaded(
        text,
        model.requires_grad_(False),
        {},
        _rows(text, model, range(source.n_train)),
        _rows(text, model, test),
        [_batch(text, group) for group in text.groups(test[: source.n_loss], 2_048)],
    )


def _batch(text: Text, group: list[int]) -> dict[str, torch.Tensor]:
    tokens = text.batch(group)
    return {"input_ids": tokens, "attention_mask": (tokens != 0).long()}


def is_inner(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which places have a token of the text: neither the first, the last nor padding."""
    inner = batch["attention_mask"].clone().bool()
    inner[:, 0] = False
    last = batch["attention_mask"].sum(dim=1) - 1
    inner[torch.arange(len(inner)), last] = False
    return inner


def _rows(text: Text, model, glosses: range) -> Rows:
    groups = text.groups(glosses, 4_096)
    batches = [_batch(text, group) for group in groups]
    X, positions = ModuleActivations(model, LAYER, batches, mask=is_inner).collect()
    order = np.random.default_rng(0).permutation(len(X))
    batch, line, place = positions[order].T
    gloss = np.array([groups[b][i] for b, i in zip(batch, line, strict=True)])
    before, own, after = (
        np.array([text.glosses[g][p + shift] for g, p in zip(gloss, place, strict=True)])
        for shift in (-1, 0, 1)
    )
    return Rows(X[order], before, own, after, gloss)


def embeddings(output, batch) -> torch.Tensor:
    """The mean of the last layer over the tokens of each gloss, of unit norm."""
    weights = batch["attention_mask"][..., None].float()
    mean = (output.last_hidden_state * weights).sum(dim=1) / weights.sum(dim=1)
    return functional.normalize(mean, dim=1)


class Turned:
    """The loss: one less the cosine of a gloss's embedding with what it is without splices."""

    def __init__(self, model, batches) -> None:
        with torch.no_grad():
            self._clean = {_key(batch): embeddings(model(**batch), batch) for batch in batches}

    def __call__(self, output, batch) -> tuple[torch.Tensor, int]:
        cosines = (embeddings(output, batch) * self._clean[_key(batch)]).sum(dim=1)
        return (1 - cosines).sum(), len(cosines)


def _key(batch) -> bytes:
    return batch["input_ids"].numpy().tobytes()


def measured(estimator, source: Source, key: str = KEY) -> dict:
    """All measures of a fitted estimator, by name; `key` is for the cache."""
    data = load(source)
    codes = estimator.encode(data.test.X).csr()
    train = data.train.first(lm.LABELLED)
    turned = Turned(data.model, data.loss_batches)
    found = downstream_loss(
        data.model, LAYER, estimator, data.loss_batches, turned, mask=is_inner
    )
    labels = lm.labels(train, estimator.encode(train.X).csr(), data.test, codes)
    return {
        "recovered": found.recovered_from_mean,
        "losses": found,
        **lm.probes(codes, data),
        "labels": labels,
    }
