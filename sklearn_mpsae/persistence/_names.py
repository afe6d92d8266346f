"""Which estimators can be saved and exported, by name, and what `transform` of one does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import estimators
from ..estimators._encoder import BaseEncoder
from ..models.coder import Coder, PursuitCoder, ShallowCoder

# A name that is not here is never looked up.
NAMES = tuple(estimators.__all__)


def class_of(name: str) -> type[BaseEncoder]:
    """The class of one of these names."""
    return getattr(estimators, name)


def name_of(estimator) -> str:
    """The name of an estimator's class.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    name = type(estimator).__name__
    if name not in NAMES or type(estimator) is not class_of(name):
        raise ValueError(
            f"{type(estimator).__module__}.{name} is none of the estimators that can be saved "
            f"or exported: {', '.join(NAMES)}. Use joblib or skops for it, or pass the last "
            "step of a pipeline by itself."
        )
    return name


def coder_of(estimator) -> Coder:
    """What `transform` of a fitted estimator does, in the dtype of its dictionary.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If it is no such estimator, or codes by a rule that no export knows.
    """
    if not isinstance(estimator, BaseEncoder):
        name_of(estimator)
    for method in ("transform", "encode", "inverse_transform", "_rows", "_encoded"):
        if getattr(type(estimator), method) is not getattr(BaseEncoder, method):
            raise ValueError(
                f"{type(estimator).__name__} has a {method} of its own, which exports do not "
                "know: say what it does as a coder, by _model (docs/add_an_encoder.md)."
            )
    coder = estimator._coder()
    if type(coder) not in (PursuitCoder, ShallowCoder):
        raise ValueError(
            f"{type(estimator).__name__} codes by a {type(coder).__name__}, which exports do "
            "not know. They know PursuitCoder and ShallowCoder (sklearn_mpsae.models.coder)."
        )
    if isinstance(coder, PursuitCoder) and coder.orthogonal:
        raise ValueError(
            "An orthogonal pursuit refits its codes with each atom, which has no "
            "counterpart there: set transform_algorithm='mp'."
        )
    coder = coder.astype(coder.components.dtype)
    if isinstance(coder, PursuitCoder):
        # No row has more energy than the dtype has numbers for.
        largest = float(np.finfo(coder.components.dtype).max)
        return replace(coder, atol=min(coder.atol, largest))
    if coder.k is not None and coder.floor is not None and not coder.floor.any():
        # The k largest outputs above zero need no floor.
        return replace(coder, floor=None)
    return coder
