"""Sparse dictionary learning with matching pursuit, behind scikit-learn's doors."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import coding, datasets, metrics, plotting, sources
    from ._compare import compare
    from ._mp import MPSparseAutoencoder
    from ._threshold import JumpReLUSAE, ReLUSAE
    from ._topk import BatchTopKSAE, MatryoshkaSAE, TopKSAE

try:
    __version__ = version("sklearn_mpsae")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

# Imported on first use (PEP 562), so that importing the package stays cheap.
_HOMES = {
    "BatchTopKSAE": "._topk",
    "JumpReLUSAE": "._threshold",
    "MPSparseAutoencoder": "._mp",
    "MatryoshkaSAE": "._topk",
    "ReLUSAE": "._threshold",
    "TopKSAE": "._topk",
    "coding": ".coding",
    "compare": "._compare",
    "datasets": ".datasets",
    "metrics": ".metrics",
    "plotting": ".plotting",
    "sources": ".sources",
}

__all__ = [
    "BatchTopKSAE",
    "JumpReLUSAE",
    "MPSparseAutoencoder",
    "MatryoshkaSAE",
    "ReLUSAE",
    "TopKSAE",
    "coding",
    "compare",
    "datasets",
    "metrics",
    "plotting",
    "sources",
]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_HOMES[name], __name__)
    return module if _HOMES[name] == f".{name}" else getattr(module, name)


def __dir__():
    return sorted([*globals(), *__all__])
