"""Labels of where atoms are used most, and how often each atom is used.

A pursuit ends with small corrections: are its atoms clearer where their codes are large?
"""

from __future__ import annotations

from pathlib import Path

import language_measures as lm
import numpy as np
from common import code_digest
from language_rows import Source
from scipy import sparse

KEY = code_digest([Path(__file__), Path(lm.__file__)])
SHARE = 0.25  # of each atom's uses on training rows


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
