"""Packages that only some of the functions here need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def imported(module: str, message: str) -> ModuleType:
    """The module, or an ImportError with this message, which says what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(message) from error


def pandas_for(caller: str) -> ModuleType:
    """pandas, for a function of this name."""
    return imported(
        "pandas",
        f"{caller} returns a pandas.DataFrame, and pandas is not installed: pip install "
        "pandas.",
    )
