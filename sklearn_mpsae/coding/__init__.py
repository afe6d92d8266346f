"""The inner problem: codes for a given dictionary. Arrays in, codes out."""

from .codes import Codes
from .pursuit import matching_pursuit, orthogonal_matching_pursuit

__all__ = ["Codes", "matching_pursuit", "orthogonal_matching_pursuit"]
