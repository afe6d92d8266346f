"""The columns of the table."""

from __future__ import annotations

import math
import time
import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils import gen_batches

from .. import metrics
from ..coding import Codes
from ..coding.unit import unit_rows

# The training rows are coded and reconstructed so many at a time.
_ROWS = 8192

# Enough for a probe to tell codes apart; the last digit would cost many times more.
_PROBE_STEPS = 200

CELL = ["estimator", "n_nonzero_coefs", "seed"]
MEASURES = [
    "l0",
    "r2",
    "r2_train",
    "dead_fraction",
    "coherence",
    "babel",
    "coselected_babel",
    "effective_rank",
    "fit_seconds",
    "transform_seconds",
    "fit_memory",
]
PROBE = ["probe_accuracy"]
RECOVERY = ["matched_cosine", "precision", "recall", "f1", "absorption"]


class Data(NamedTuple):
    """What all fits share."""

    X: np.ndarray
    X_test: np.ndarray
    y: np.ndarray | None
    y_test: np.ndarray | None
    truth: dict | None

    def extra_columns(self):
        return PROBE * (self.y is not None) + RECOVERY * (self.truth is not None)


def measure_of(row, coder, fitted, data):
    """Write all measures of a fitted estimator into its row."""
    start = time.perf_counter()
    codes = coder.encode(fitted, data.X_test)
    row["transform_seconds"] = time.perf_counter() - start
    row["r2"] = metrics.explained_variance(data.X_test, coder.decode(fitted, codes))
    row["r2_train"] = _r2_in_parts(coder, fitted, data.X)
    if data.y is not None:
        row["probe_accuracy"] = _probe(coder, fitted, codes, data)
    usage = metrics.AtomUsage().update(codes)
    row["l0"], row["dead_fraction"] = usage.l0(), usage.dead_fraction()
    row["effective_rank"] = metrics.effective_rank(codes)
    atoms, codes = _directions(coder.dictionary(fitted), codes)
    row.update(_geometry(atoms, codes, row["n_nonzero_coefs"]))
    if data.truth is not None:
        row.update(_recovery(atoms, codes, data.truth))


def _r2_in_parts(coder, fitted, X):
    r2 = metrics.ExplainedVariance()
    for rows in gen_batches(len(X), _ROWS):
        r2.update(X[rows], coder.decode(fitted, coder.encode(fitted, X[rows])))
    return r2.compute()


def _directions(dictionary, codes):
    """Atoms of unit norm and their codes, without the atoms that are zero."""
    atoms = unit_rows(np.asarray(dictionary, dtype=np.float64))
    alive = atoms.any(axis=1)
    if alive.all():
        return atoms, codes
    return atoms[alive], _plain(codes)[:, alive]


def _geometry(atoms, codes, level):
    if len(atoms) < 2:
        return {}
    measures = {"coherence": metrics.mutual_coherence(atoms)}
    r = min(math.ceil(level), len(atoms)) - 1
    if r > 0:
        measures["babel"] = metrics.babel_function(atoms, r)[-1]
        measures["coselected_babel"] = metrics.coselected_babel(codes, atoms, r)[-1]
    return measures


def _probe(coder, fitted, codes, data):
    train, test = _plain(coder.encode(fitted, data.X)), _plain(codes)
    # Codes may be sparse, of which no frame is made, whatever the user has set.
    scaler = MaxAbsScaler().set_output(transform="default")
    probe = make_pipeline(scaler, LogisticRegression(max_iter=_PROBE_STEPS))
    with warnings.catch_warnings():
        # The steps are few on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(train, data.y).score(test, data.y_test)


def _plain(codes):
    return codes.csr() if isinstance(codes, Codes) else codes


def _recovery(atoms, codes, truth):
    codes = _plain(codes)
    # An atom and its negative are the same to codes of either sign only.
    absolute = bool((codes < 0).sum())
    features = truth["dictionary"]
    matching = metrics.match_atoms(atoms, features, absolute=absolute)
    firing = metrics.firing_scores(codes, truth["codes"], matching).macro
    measures = {"matched_cosine": float(matching.scores.mean()), **firing._asdict()}
    if truth["parents"] is not None:
        measures["absorption"] = metrics.feature_absorption(
            atoms, features, truth["parents"], matching, absolute=absolute
        )
    return measures


# ------------------------------------------------------------------------ the arguments
