"""The fits: run in processes, cached, and measured."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import joblib
import sklearn
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_memory

from .._version import __version__
from ._coders import coder_of, configured
from ._measures import measure_of
from ._resources import measured


class Fit(NamedTuple):
    """One fit, and the numbers of non-zero codes to measure it at."""

    name: str
    estimator: Any
    levels: list[float]
    seed: int
    measures: dict


class _UnfinishedError(Exception):
    """Carries rows with errors past joblib's cache, so that the next call tries again."""


def run(fits, data, n_jobs, memory, verbose):
    """Yield a dict for each row of the table, as fits finish."""
    from tqdm import tqdm

    memory = check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)
    # Hashed once, not for each fit; and results of another version are others.
    key = joblib.hash((__version__, sklearn.__version__, data), coerce_mmap=True)
    cached = memory.cache(_fit_and_measure, ignore=["data"])
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    tasks = (delayed(_rows_of)(cached, fit, key, data) for fit in fits)
    for rows in tqdm(parallel(tasks), "compare", len(fits), unit="fit", disable=not verbose):
        yield from rows


def _rows_of(cached, fit, key, data):
    try:
        return cached(fit, key, data)
    except _UnfinishedError as error:
        return error.args[0]


def _fit_and_measure(fit, key, data):
    """The rows of a fit; raises _UnfinishedError with them if there was an error."""
    name, estimator, levels, seed, measures = fit
    common = {"estimator": name, "seed": seed, "error": ""}
    rows = [common | {"n_nonzero_coefs": level} for level in levels]
    try:
        fitted = configured(estimator, name, levels[0], seed)
        with measured(rows):
            fitted.fit(data.X)
    except Exception as error:
        for row in rows:
            row["error"] = _reason(error)
        raise _UnfinishedError(rows) from error
    coder = coder_of(estimator, name)
    for row in rows:
        try:
            fitted.set_params(**coder.sparsity(row["n_nonzero_coefs"]))
            measure_of(row, coder, fitted, data)
            row.update({key: measure(fitted, data.X_test) for key, measure in measures.items()})
        except Exception as error:
            row["error"] = _reason(error)
    if any(row["error"] for row in rows):
        raise _UnfinishedError(rows)
    return rows


def _reason(error):
    return f"{type(error).__name__}: {error}"
