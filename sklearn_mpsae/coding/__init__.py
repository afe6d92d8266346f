"""The inner problem: codes for a given dictionary. Arrays in, codes out."""

from .codes import Codes
from .disk import load_codes, save_codes
from .pursuit import matching_pursuit, orthogonal_least_squares, orthogonal_matching_pursuit

__all__ = [
    "Codes",
    "load_codes",
    "matching_pursuit",
    "orthogonal_least_squares",
    "orthogonal_matching_pursuit",
    "save_codes",
]
