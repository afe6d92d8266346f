"""The compiled loops of the CPU path, each over a range of rows, columns or atoms.

They hold no lock, so that plain Python threads share the work (`team.py`), and they
allocate nothing that grows with the number of rows. All arrays are C-contiguous or slices
of rows, and those without a dtype in their description have the dtype of the data, float32
or float64. n is the number of rows, p of atoms, d of features, k of slots for codes.
"""

from .bfloat16 import expand_rows, round_rows
from .gradients import (
    adam_rows,
    adjoint_rows,
    decode_rows,
    dot_rows,
    gradient_columns,
    scatter_columns,
)
from .matrices import add_moments, checksum_rows, energy_rows, mirror_lower
from .orthogonal import orthogonal_rows, orthogonal_rows_positive, start_units
from .pursuit import advance_rows, end_rows, pick_rows, pursue_rows, top_rows
from .spans import refit_rows, span_rows

__all__ = [
    "adam_rows",
    "add_moments",
    "adjoint_rows",
    "advance_rows",
    "checksum_rows",
    "decode_rows",
    "dot_rows",
    "end_rows",
    "energy_rows",
    "expand_rows",
    "gradient_columns",
    "mirror_lower",
    "orthogonal_rows",
    "orthogonal_rows_positive",
    "pick_rows",
    "pursue_rows",
    "refit_rows",
    "round_rows",
    "scatter_columns",
    "span_rows",
    "start_units",
    "top_rows",
]
