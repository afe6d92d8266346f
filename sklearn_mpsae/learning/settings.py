"""How to train: plain values, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

INTERCEPTS = {"learn", "mean", "zero"}


@dataclass(frozen=True, eq=False)
class Settings:
    """What a training is asked for, besides its model; names as of the estimators."""

    n_components: int
    n_nonzero_coefs: float
    """The number of codes of a row, at most or on average."""
    chosen: bool = False
    """Whether that number was chosen for these rows, and is a part of what is learnt."""
    learning_rate: float = 0.3
    max_iter: int | None = None
    batch_size: int | None = 512
    """None for what suits the size of the dictionary and the number of rows."""
    intercept: str = "learn"
    """What is subtracted from rows, one of INTERCEPTS; "learn" starts at the mean."""
    whitening: float = 0.0
    """How far the metric of the training whitens rows, from 0 to 1."""
    dict_init: np.ndarray | None = None
    dead_after: int | None = None
    """Steps without use after which an atom is dead; None for never."""
    revive: bool = False
    """Whether a dead atom is replaced; else the model is only told of it."""
    device: str = "auto"
    checkpoint: Any = None
    checkpoint_every: float = 60.0
    random_state: Any = None
    identity: dict = field(default_factory=dict)
    """What has to agree with a checkpoint, and between ranks: plain values."""
    feature_names: list[str] | None = None
