"""Rows that do not fit in memory: files that are read as needed, and streams of batches.

The methods of estimators that take rows take these in the place of X.
"""

from .rows.npy import NpyFiles
from .rows.stream import BatchStream

__all__ = ["BatchStream", "NpyFiles"]

# Where users import them from.
BatchStream.__module__ = NpyFiles.__module__ = __name__
