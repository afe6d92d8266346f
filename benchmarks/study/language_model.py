"""A small causal transformer that has learnt WordNet's glosses, word by word.

A file of its own: the trained model is kept under a hash of this code, the settings and the
text, so that a change of what is measured on it does not train it again.
"""

from __future__ import annotations

import gzip
import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import torch
from common import code_digest
from torch import nn
from torch.nn import functional

FILE = "wordnet_glosses.tsv.gz"
PAD, ENDS, UNKNOWN = range(3)
SPECIAL = ("<pad>", "<s>", "<unk>")
_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[^\sa-z\d]")

# The parts of speech, by the first of WordNet's lexicographer files that has each.
_FIRST_FILES = {0: "adjective", 2: "adverb", 3: "noun", 29: "verb", 44: "adjective"}


class Settings(NamedTuple):
    """What a trained model depends on, beside its code and its text."""

    n_words: int = 5_000
    context: int = 64
    width: int = 128
    n_heads: int = 4
    n_layers: int = 4
    n_epochs: int = 3
    batch_tokens: int = 2_048
    learning_rate: float = 2e-3
    seed: int = 0


class Text(NamedTuple):
    """Glosses as numbers of words, in random order: the last tenth are held out."""

    glosses: list[np.ndarray]  # each begins and ends with ENDS
    speech: np.ndarray  # the part of speech of each
    words: np.ndarray  # the word of each number
    n_train: int
    digest: str

    def groups(self, chosen: Iterable[int], n_tokens: int) -> list[list[int]]:
        """These glosses in groups of about the same length, of so many tokens at most."""
        chosen = sorted(chosen, key=lambda gloss: -len(self.glosses[gloss]))
        groups, start = [], 0
        while start < len(chosen):
            size = max(1, n_tokens // len(self.glosses[chosen[start]]))
            groups.append(chosen[start : start + size])
            start += size
        return groups

    def batch(self, group: list[int]) -> torch.Tensor:
        """Glosses as one tensor of (gloss, place); shorter ones end in PAD."""
        glosses = [torch.from_numpy(self.glosses[i]) for i in group]
        return nn.utils.rnn.pad_sequence(glosses, batch_first=True, padding_value=PAD)

    def batches(self, chosen: Iterable[int], n_tokens: int) -> list[torch.Tensor]:
        """These glosses as batches, the longest first."""
        return [self.batch(group) for group in self.groups(chosen, n_tokens)]


@lru_cache(maxsize=1)
def read_text(folder: str, n_words: int, longest: int, most_glosses: int | None) -> Text:
    """The glosses of the file in this folder, without those of more than `longest` tokens."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise SystemExit(
            f"{path} is missing: the glosses of WordNet 3.0, a line each, as lexicographer "
            "file number, word and gloss, with tabs between. Point --data or "
            "$SKLEARN_MPSAE_DATA to its folder."
        )
    content = gzip.decompress(path.read_bytes())
    lines = [line.split("\t") for line in content.decode().splitlines()]
    order = np.random.default_rng(0).permutation(len(lines))[:most_glosses]
    # Some synsets have the same gloss, which is not to be on both sides.
    files: dict[tuple, int] = {}
    for i in order:
        files.setdefault(tuple(_WORDS.findall(lines[i][2].lower())), int(lines[i][0]))
    split = [gloss for gloss in files if 0 < len(gloss) <= longest - len((ENDS, ENDS))]
    n_train = len(split) - len(split) // 10
    counts = Counter(word for gloss in split[:n_train] for word in gloss)
    kept = sorted(counts, key=lambda word: (-counts[word], word))[: n_words - len(SPECIAL)]
    words = [*SPECIAL, *kept]
    number = {word: i for i, word in enumerate(words)}
    glosses = [
        np.array([ENDS, *(number.get(word, UNKNOWN) for word in gloss), ENDS])
        for gloss in split
    ]
    speech = np.array([part_of_speech(files[gloss]) for gloss in split])
    digest = joblib.hash([np.concatenate(glosses), words])
    return Text(glosses, speech, np.array(words), n_train, digest)


def part_of_speech(file: int) -> str:
    """Of the words in this lexicographer file of WordNet's."""
    return _FIRST_FILES[max(first for first in _FIRST_FILES if first <= file)]


class Transformer(nn.Module):
    """A causal transformer with normalisation before each part; its output is logits."""

    def __init__(self, settings: Settings, n_words: int) -> None:
        super().__init__()
        width = settings.width
        self.words = nn.Embedding(n_words, width)
        self.places = nn.Embedding(settings.context, width)
        self.blocks = nn.ModuleList(
            _Block(width, settings.n_heads) for _ in range(settings.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        for embedding in (self.words, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        # The embedding of words reads them out too.
        return self.norm(x) @ self.words.weight.T


class _Block(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        parts = self.queries_keys_values(x).view(n, length, 3, self.n_heads, -1)
        # To (query, key or value; gloss; head; place; feature).
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        # PAD comes last in its gloss, so that no word attends to it.
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(mixed.transpose(1, 2).reshape(n, length, width))


def is_word(tokens: torch.Tensor) -> torch.Tensor:
    """Which places have a word, known or not: each of them has a next token."""
    return tokens > ENDS


def losses(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of the next token at each place, in nats; 0 where there is none."""
    following = functional.pad(tokens[:, 1:], (0, 1), value=PAD)
    # Logits in rows: their transpose, which this takes too, is several times as slow.
    found = functional.cross_entropy(
        logits.flatten(0, 1), following.flatten(), ignore_index=PAD, reduction="none"
    )
    return found.view_as(tokens)


def mean_loss(model: nn.Module, batches: list[torch.Tensor]) -> float:
    """The mean cross-entropy of the token after each word, in nats."""
    total = n = 0
    with torch.no_grad():
        for tokens in batches:
            kept = is_word(tokens)
            total += float(losses(model(tokens), tokens)[kept].sum())
            n += int(kept.sum())
    return total / n


def trained(settings: Settings, text: Text, cache: Path) -> tuple[Transformer, dict]:
    """The model in eval mode, trained or from the cache, and what its training has found."""
    key = joblib.hash((settings, text.digest, code_digest([Path(__file__)])))
    path = cache / "language_model" / f"{key}.pt"
    if not path.is_file():
        model, found = _train(settings, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save({"model": model.state_dict(), "found": found}, part)
        part.replace(path)
    kept = torch.load(path, weights_only=True)
    model = Transformer(settings, len(text.words)).eval()
    model.load_state_dict(kept["model"])
    return model.requires_grad_(False), kept["found"]


def _train(settings: Settings, text: Text) -> tuple[Transformer, dict]:
    start = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Transformer(settings, len(text.words))
    batches = text.batches(range(text.n_train), settings.batch_tokens)
    held_out = text.batches(range(text.n_train, len(text.glosses)), settings.batch_tokens)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, fused=True)
    n_steps = settings.n_epochs * len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps))
    draw = np.random.default_rng(settings.seed)
    by_epoch = []
    for epoch in range(settings.n_epochs):
        model.train()
        for i in draw.permutation(len(batches)):
            _step(model, batches[i], optimizer)
            schedule.step()
        by_epoch.append(mean_loss(model.eval(), held_out))
        minutes = (time.monotonic() - start) / 60
        print(f"epoch {epoch + 1}: loss {by_epoch[-1]:.3f}, {minutes:.1f} min", flush=True)
    found = {
        "losses": by_epoch,
        "unigram": _unigram_loss(text, batches, held_out),
        "minutes": (time.monotonic() - start) / 60,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "n_tokens": sum(int((batch != PAD).sum()) for batch in batches),
        "n_held_out": sum(int(is_word(batch).sum()) for batch in held_out),
    }
    return model, found


def _rate(step: int, n_steps: int) -> float:
    """The share of the learning rate: it rises over a twentieth, and falls as a cosine."""
    warm = max(1, n_steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))


def _step(model, tokens, optimizer) -> None:
    optimizer.zero_grad()
    # The first token predicts the first word: that counts in training.
    losses(model(tokens), tokens)[tokens != PAD].mean().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _unigram_loss(text: Text, batches, held_out) -> float:
    """The loss of a model that knows only how often each token follows a word."""
    counts = np.ones(len(text.words))
    for tokens in batches:
        counts += np.bincount(_following(tokens), minlength=len(counts))
    following = np.concatenate([_following(tokens) for tokens in held_out])
    return float(-np.log(counts / counts.sum())[following].mean())


def _following(tokens: torch.Tensor) -> np.ndarray:
    return tokens[:, 1:][is_word(tokens[:, :-1])].numpy()
