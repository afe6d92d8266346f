"""What `transform` of a fitted estimator does with a row, as its class declares it."""

from __future__ import annotations

from .._base import BaseSparseAutoencoder
from ..coding.rules import Pursuit, Shallow
from ._state import name_of

# What codes depend on that a rule does not ask the estimator for: how rows are taken in, and
# how they are encoded.
_CODING = {
    *("_source_to_code", "_source", "_validated"),
    *("_encoded", "_codes", "_encoder", "_pursue", "_weights"),
    *("encode", "transform", "inverse_transform"),
}


def rule_of(estimator) -> Pursuit | Shallow:
    """The rule of a fitted estimator.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If its class declares none, or codes otherwise than the class that does; or if it
        codes by orthogonal matching pursuit.
    """
    if not isinstance(estimator, BaseSparseAutoencoder):
        name_of(estimator)
    coding = next(
        cls for cls in type(estimator).__mro__ if not vars(cls).keys().isdisjoint(_CODING)
    )
    declaring = next((cls for cls in type(estimator).__mro__ if "_rule" in vars(cls)), None)
    if declaring is None or not issubclass(declaring, coding):
        raise ValueError(
            f"{type(estimator).__name__} encodes by a rule of its own: {coding.__name__} says "
            "how, and nothing says it as numbers. It cannot be exported before it declares "
            "them: by a method _rule, beside its _encoder (see sklearn_mpsae.coding.rules)."
        )
    estimator._check_to_code()
    return estimator._rule()
