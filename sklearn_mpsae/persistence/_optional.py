"""Packages of an extra of this package."""

from __future__ import annotations

from .._optional import imported


def needed(module: str, extra: str):
    """The module, or an ImportError that names the extra of this package that has it."""
    return imported(
        module,
        f"This needs {module.partition('.')[0]}, which cannot be imported. Install it with "
        f'`pip install "sklearn_mpsae[{extra}]"`.',
    )
