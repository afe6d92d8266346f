"""Labels of where atoms are used most or first, and how often each atom is used.

A pursuit ends with small corrections: are its atoms clearer where their codes are large, or
where they are among the first of their row?
"""

from __future__ import annotations

from pathlib import Path

import language_measures as lm
import measures
import numpy as np
from common import code_digest
from language_rows import Source
from scipy import sparse

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding import Codes

KEY = code_digest([Path(__file__), Path(lm.__file__)])
SHARE = 0.25  # of each atom's uses on training rows
STEPS = (1, 2, 4, 8)


def measured(estimator, source: Source, key: str = KEY) -> dict:
    """The labels of the strongest uses, and quantiles over atoms of the share of rows."""
    data = lm.load(source)
    train = data.train.first(lm.LABELLED)
    codes, test = (estimator.encode(rows.X).csr() for rows in (train, data.test))
    least = thresholds(codes)
    found = lm.labels(train, above(codes, least), data.test, above(test, least))
    used = codes.astype(bool).sum(axis=0) / len(train.X)
    return {"labels": found, "used": np.quantile(used, (0.1, 0.5, 0.9))}


def thresholds(codes: sparse.csr_array) -> np.ndarray:
    """The code of each atom that a share SHARE of its uses reach; infinite without any."""
    columns = codes.tocsc()
    parts = np.split(columns.data, columns.indptr[1:-1])
    return np.array([np.quantile(part, 1 - SHARE) if len(part) else np.inf for part in parts])


def above(codes: sparse.csr_array, least: np.ndarray) -> sparse.csr_array:
    """The codes that reach their atom's threshold."""
    codes = codes.copy()
    codes.data[codes.data < least[codes.indices]] = 0
    codes.eliminate_zeros()
    return codes


def by_step(estimator, source: Source, key: str = KEY) -> dict[int, lm.Labels]:
    """The labels of the first 1, 2, ... codes of each row."""
    data = lm.load(source)
    train = data.train.first(lm.LABELLED)
    codes, test = (in_order(estimator, rows.X) for rows in (train, data.test))
    return {
        k: lm.labels(
            train, measures.first(codes, k).csr(), data.test, measures.first(test, k).csr()
        )
        for k in STEPS
    }


def in_order(estimator, X) -> Codes:
    """Codes as a pursuit has found them; those of other encoders with the largest first."""
    codes = estimator.encode(X)
    if isinstance(estimator, MPSparseAutoencoder):
        return codes
    order = np.argsort(-codes.values, axis=1, kind="stable")
    indices, values = (
        np.take_along_axis(part, order, axis=1) for part in (codes.indices, codes.values)
    )
    return Codes(indices, values, codes.n_components)
