"""Atoms to look at: one HTML file that needs no server and no network."""

from ._explore import explore

__all__ = ["explore"]
