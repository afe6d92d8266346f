"""Warnings that point to the line of the user's program, however deep the call."""

from __future__ import annotations

import sys
import warnings

# Between the user's line and a warning may stand this package, the decorators and loops of
# scikit-learn, and what they are made of.
_BETWEEN = {__package__, "sklearn", "joblib", "functools", "contextlib"}
# Below these, in a worker, are no lines of the user's.
_BETWEEN |= {"multiprocessing", "concurrent", "threading", "runpy"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn of the line that called the package, directly or through scikit-learn.

    Where no other frame is there, as in a process of joblib, the line is the caller's.
    """
    # Python 3.12 has skip_file_prefixes for this.
    frame, level = sys._getframe(1), 2
    while frame is not None and _library(frame) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=2 if frame is None else level)


def _library(frame):
    # A worker of joblib is run as __main__; its spec has its name.
    spec = frame.f_globals.get("__spec__")
    name = spec.name if spec else frame.f_globals.get("__name__", "")
    return name.partition(".")[0]
