"""How good a dictionary and its codes are. Arrays in, numbers out; knows no estimator.

What asks a torch module is named here and lives in `activations`, which is imported when one
of these names is first used.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy
from ._codes import AtomUsage, SecondMoment, atom_usage, dead_fraction, effective_rank, l0
from ._coherence import (
    ConditionalOrthogonality,
    babel_function,
    conditional_orthogonality,
    coselected_babel,
    mutual_coherence,
)
from ._matching import Matching, match_atoms, match_codes, matched_cosine
from ._probe import sparse_probe
from ._reconstruction import (
    ExplainedVariance,
    explained_variance,
    fraction_of_variance_unexplained,
    residual_path,
)
from ._recovery import (
    FiringScores,
    Scores,
    SimilarityError,
    feature_absorption,
    firing_scores,
    similarity_error,
    stability,
)
from ._scorers import codes_scorer, dictionary_scorer

if TYPE_CHECKING:
    from ..activations._downstream import DownstreamLoss, attribution, downstream_loss

_MODULE_OF = dict.fromkeys(
    ("DownstreamLoss", "attribution", "downstream_loss"), "..activations._downstream"
)

__all__ = [
    "AtomUsage",
    "ConditionalOrthogonality",
    "DownstreamLoss",
    "ExplainedVariance",
    "FiringScores",
    "Matching",
    "Scores",
    "SecondMoment",
    "SimilarityError",
    "atom_usage",
    "attribution",
    "babel_function",
    "codes_scorer",
    "conditional_orthogonality",
    "coselected_babel",
    "dead_fraction",
    "dictionary_scorer",
    "downstream_loss",
    "effective_rank",
    "explained_variance",
    "feature_absorption",
    "firing_scores",
    "fraction_of_variance_unexplained",
    "l0",
    "match_atoms",
    "match_codes",
    "matched_cosine",
    "mutual_coherence",
    "residual_path",
    "similarity_error",
    "sparse_probe",
    "stability",
]

__getattr__, __dir__ = lazy(__name__, _MODULE_OF)
