"""Sparse dictionary learning with matching pursuit, behind scikit-learn's interface."""

from typing import TYPE_CHECKING

from . import estimators
from ._lazy import lazy
from ._version import __version__ as __version__

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
    from .estimators import *  # noqa: F403
    from .explorer import explore

# Imported on first use (PEP 562), so that importing the package stays cheap.
_MODULE_OF = {
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
} | dict.fromkeys(estimators.__all__, ".estimators")

__all__ = [
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
__all__ += estimators.__all__

__getattr__, __dir__ = lazy(__name__, _MODULE_OF)
