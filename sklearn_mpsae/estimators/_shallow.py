"""What the estimators with a linear encoder share."""

from __future__ import annotations

import os
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import Fitted
from .._compat import Interval, StrOptions
from ._base import BaseSparseAutoencoder


class BaseShallowSAE(BaseSparseAutoencoder):
    """A linear encoder of its own, not tied to the dictionary, and a rule that chooses."""

    _parameter_constraints: dict = {
        **BaseSparseAutoencoder._parameter_constraints,
        "dead_atoms": [StrOptions({"auxiliary", "revive", "keep"})],
    }

    encoder_components_ = Fitted[np.ndarray]()
    encoder_intercept_ = Fitted[np.ndarray]()


class BaseAverageSAE(BaseShallowSAE):
    """A shallow autoencoder whose rows have `n_nonzero_coefs` codes on average."""

    _parameter_constraints: dict = {
        **BaseShallowSAE._parameter_constraints,
        "n_nonzero_coefs": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: float | None = None,
        transform_n_nonzero_coefs: int | None = None,
        intercept: Literal["learn", "mean", "zero"] = "learn",
        max_iter: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.3,
        dict_init: ArrayLike | None = None,
        dead_atoms: Literal["auxiliary", "revive", "keep"] = "auxiliary",
        dead_after: int = 30,
        sparse_output: bool = False,
        device: str = "auto",
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        distributed: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._store(locals())
