"""Sparse dictionary learning with matching pursuit, behind scikit-learn's doors."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:
    from . import (
        activations,
        callbacks,
        coding,
        datasets,
        metrics,
        persistence,
        plotting,
        sources,
    )
    from ._compare import compare
    from .estimators._mp import MPSparseAutoencoder
    from .estimators._mp_cv import MPSparseAutoencoderCV
    from .estimators._threshold import JumpReLUSAE, ReLUSAE
    from .estimators._topk import BatchTopKSAE, MatryoshkaSAE, TopKSAE
    from .explorer import explore

try:
    __version__ = version("sklearn_mpsae")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

# Imported on first use (PEP 562), so that importing the package stays cheap.
_HOMES = {
    "BatchTopKSAE": ".estimators._topk",
    "JumpReLUSAE": ".estimators._threshold",
    "MPSparseAutoencoder": ".estimators._mp",
    "MPSparseAutoencoderCV": ".estimators._mp_cv",
    "MatryoshkaSAE": ".estimators._topk",
    "ReLUSAE": ".estimators._threshold",
    "TopKSAE": ".estimators._topk",
    "activations": ".activations",
    "callbacks": ".callbacks",
    "coding": ".coding",
    "compare": "._compare",
    "datasets": ".datasets",
    "explore": ".explorer",
    "metrics": ".metrics",
    "persistence": ".persistence",
    "plotting": ".plotting",
    "sources": ".sources",
}

__all__ = [
    "BatchTopKSAE",
    "JumpReLUSAE",
    "MPSparseAutoencoder",
    "MPSparseAutoencoderCV",
    "MatryoshkaSAE",
    "ReLUSAE",
    "TopKSAE",
    "activations",
    "callbacks",
    "coding",
    "compare",
    "datasets",
    "explore",
    "metrics",
    "persistence",
    "plotting",
    "sources",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
