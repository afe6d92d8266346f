"""Checks of the arguments, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from sklearn.utils import check_consistent_length

from .._array_api import as_rows
from ..coding.checks import as_whole
from ..metrics._inputs import checked_codes, checked_dictionary, n_rows
from ..metrics._recovery import checked_parents
from ._coders import configured
from ._measures import CELL, MEASURES, Data


def checked_numbers(values, name, kind, *, least):
    # As objects, since an array of numbers has 1 for True.
    values = [as_whole(value) for value in np.ravel(np.asarray(values, dtype=object))]
    fit = (
        isinstance(v, kind) and not isinstance(v, bool) and least <= v < np.inf for v in values
    )
    if not values or not all(fit):
        of = "integers" if kind is Integral else "numbers"
        raise ValueError(f"{name} must hold {of} of at least {least}, got {values}.")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} holds a value twice: {values}. Each is a row of the table.")
    return [int(value) if isinstance(value, Integral) else float(value) for value in values]


def checked_measures(measures, data):
    measures = dict(measures or {})
    taken = {*CELL, *MEASURES, *data.extra_columns(), "error"}
    for name, measure in measures.items():
        if name in taken:
            raise ValueError(f"measures has {name!r}, a column there is already: rename it.")
        if not callable(measure):
            raise ValueError(f"measures[{name!r}] must be callable, got {measure!r}.")
    return measures


def check_estimators(estimators, levels, seeds):
    if not isinstance(estimators, Mapping) or not estimators:
        raise ValueError(
            "estimators must be a dict of names to estimators, with at least one; got "
            f"{estimators!r}."
        )
    for name, estimator in estimators.items():
        configured(estimator, name, levels[0], seeds[0])
        if getattr(estimator, "checkpoint", None) is not None:
            raise ValueError(
                f"estimators[{name!r}] has a checkpoint, which its fits would share, and a fit "
                "that is finished already takes no seconds: set checkpoint=None, and pass "
                "memory to go on after an interruption."
            )


def checked_data(X, X_test, y, y_test, truth):
    if X_test is None and y_test is not None:
        raise ValueError("y_test has the classes of X_test: pass X_test with it.")
    X = as_rows(X)
    if X_test is None:
        X_test, y_test = X, y
    else:
        X_test = as_rows(X_test, "X_test")
    if X_test.shape[1] != X.shape[1]:
        raise ValueError(f"X_test has {X_test.shape[1]} features, but X has {X.shape[1]}.")
    if (y is None) != (y_test is None):
        raise ValueError("The probe needs the classes of X and of X_test: pass y and y_test.")
    if y is not None:
        y, y_test = np.asarray(y), np.asarray(y_test)
        check_consistent_length(X, y)
        check_consistent_length(X_test, y_test)
        if len(np.unique(y)) < 2:
            raise ValueError("y has a single class: the probe needs two or more.")
    truth = None if truth is None else _checked_truth(truth, X_test)
    return Data(X, X_test, y, y_test, truth)


def _checked_truth(truth, X_test):
    try:
        dictionary, codes = truth["dictionary"], truth["codes"]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            "truth must have a dictionary and codes, as what make_hierarchical_features and "
            "its like return."
        ) from error
    dictionary = checked_dictionary(dictionary, "truth's dictionary")
    codes = checked_codes(codes, len(dictionary), "truth's codes")
    if n_rows(codes) != len(X_test) or dictionary.shape[1] != X_test.shape[1]:
        raise ValueError(
            f"truth has codes of {n_rows(codes)} rows and a dictionary of "
            f"{dictionary.shape[1]} features, but the rows to measure on have shape "
            f"{X_test.shape}: pass the truth of these rows."
        )
    parents = truth.get("parents")
    # Generators without a tree give every feature the parent -1.
    if parents is not None and np.any(np.asarray(parents) != -1):
        parents = checked_parents(parents, len(dictionary))
    else:
        parents = None
    return {"dictionary": dictionary, "codes": codes, "parents": parents}
