"""The estimators: signature, docstring, and the model of their parameters."""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from ._mp import MPSparseAutoencoder
    from ._mp_cv import MPSparseAutoencoderCV
    from ._threshold import JumpReLUSAE, ReLUSAE
    from ._topk import BatchTopKSAE, MatryoshkaSAE, TopKSAE

# Imported on first use (PEP 562). These are public, and can be saved and exported.
_MODULE_OF = {
    "BatchTopKSAE": "._topk",
    "JumpReLUSAE": "._threshold",
    "MPSparseAutoencoder": "._mp",
    "MPSparseAutoencoderCV": "._mp_cv",
    "MatryoshkaSAE": "._topk",
    "ReLUSAE": "._threshold",
    "TopKSAE": "._topk",
}

__all__ = [
    "BatchTopKSAE",
    "JumpReLUSAE",
    "MPSparseAutoencoder",
    "MPSparseAutoencoderCV",
    "MatryoshkaSAE",
    "ReLUSAE",
    "TopKSAE",
]

__getattr__, __dir__ = lazy(__name__, _MODULE_OF)
