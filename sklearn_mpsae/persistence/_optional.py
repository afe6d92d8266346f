"""Packages that only some of the functions here need."""

from __future__ import annotations

from importlib import import_module


def needed(module: str, extra: str):
    """The module, or an ImportError that names the extra of this package that has it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module.partition('.')[0]}, which cannot be imported. Install it with "
            f'`pip install "sklearn_mpsae[{extra}]"`.'
        ) from error
