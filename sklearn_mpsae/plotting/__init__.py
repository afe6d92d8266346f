"""Pictures of dictionaries and their codes, in the manner of scikit-learn's displays.

``from_...`` computes and draws, `plot` draws again what was computed. matplotlib is imported
when something is drawn, not before.
"""

from ._atoms import AtomsDisplay
from ._babel import BabelDisplay
from ._frontier import SparsityFrontierDisplay
from ._gram import GramDisplay
from ._path import ReconstructionPathDisplay
from ._progressive import ProgressiveReconstructionDisplay
from ._usage import AtomUsageDisplay
from ._weights import AtomWeightsDisplay

__all__ = [
    "AtomUsageDisplay",
    "AtomWeightsDisplay",
    "AtomsDisplay",
    "BabelDisplay",
    "GramDisplay",
    "ProgressiveReconstructionDisplay",
    "ReconstructionPathDisplay",
    "SparsityFrontierDisplay",
]
