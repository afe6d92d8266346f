"""Estimators side by side, at equal sparsity: one table."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import numpy as np
import sklearn
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.utils import check_consistent_length, gen_batches
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_memory

from . import metrics
from ._array_api import as_rows
from ._coders import coder_of, configured
from ._version import __version__
from .coding import Codes
from .coding.checks import as_whole
from .coding.unit import unit_rows
from .metrics._inputs import checked_codes, checked_dictionary, n_rows
from .metrics._recovery import checked_parents

if TYPE_CHECKING:
    import pandas as pd

# The training rows are coded and reconstructed so many at a time.
_ROWS = 8192

# Enough for a probe to tell codes apart; the last digit would cost many times more.
_PROBE_STEPS = 200

_CELL = ["estimator", "n_nonzero_coefs", "seed"]
_MEASURES = [
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
_PROBE = ["probe_accuracy"]
_RECOVERY = ["matched_cosine", "precision", "recall", "f1", "absorption"]


def compare(
    estimators: Mapping[str, Any],
    X: ArrayLike,
    *,
    X_test: ArrayLike | None = None,
    y: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    n_nonzero_coefs: float | Sequence[float] = (5, 10, 20),
    random_states: Sequence[int] = (0,),
    truth: Mapping[str, Any] | None = None,
    measures: Mapping[str, Callable[..., Any]] | None = None,
    n_jobs: int | None = None,
    memory: Any = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Fit estimators at the same sparsities, and measure them on the same rows.

    Each estimator is cloned for each number of non-zero codes and each seed, fitted to X and
    measured on X_test. Needs pandas.

    Parameters
    ----------
    estimators : dict of str to estimator
        Unfitted estimators, by the name they have in the table:

        - of this package: ``n_nonzero_coefs`` is set (so `MPSparseAutoencoderCV`, which
          chooses it, is refused);
        - scikit-learn's `DictionaryLearning` and `MiniBatchDictionaryLearning`, whose
          dictionary is learned once for each seed, and coded by orthogonal matching pursuit
          with so many codes; `SparseCoder`, which learns nothing, in the same way;
        - `PCA` and `NMF` with ``n_components`` set: as all of their codes are non-zero, it
          is their number that is the sparsity.

        Where there is a ``random_state``, it is set to the seed.
    X : array-like of shape (n_samples, n_features)
        Rows to learn from.
    X_test : array-like of shape (n_test, n_features), default=None
        Rows to measure on. None for X.
    y, y_test : array-like of shape (n_samples,) and (n_test,), default=None
        Classes, for a linear probe of the codes.
    n_nonzero_coefs : number or sequence of numbers, default=(5, 10, 20)
        The sparsities. Estimators whose rows have so many codes on average take fractions
        too.
    random_states : sequence of int, default=(0,)
        The seeds.
    truth : dict or Bunch, default=None
        The features that made the test rows, as :mod:`sklearn_mpsae.datasets` makes them:
        their ``dictionary``, of shape (n_true, n_features); their ``codes``, those of the
        rows of X_test; and, if they form a tree, the ``parents`` of each.
    measures : dict of str to callable, default=None
        Further columns, by name: each is called with the fitted estimator and X_test, and
        may return anything that pickles, an array too. With `n_jobs` or `memory` they must
        be functions of a module.
    n_jobs : int, default=None
        How many fits run at a time, as of joblib. Fits at the same time slow each other
        down: compare seconds with ``n_jobs=None``.
    memory : str, path or joblib.Memory, default=None
        Where to keep what is finished: called again with the same arguments, after an
        interruption as well, only the fits that are missing run. The seconds kept are those
        of the first time.
    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    table : pandas.DataFrame
        A row for each estimator, number of non-zero codes and seed, with the columns

        estimator, n_nonzero_coefs, seed
            What was asked for.
        l0
            The mean number of non-zero codes of a test row.
        r2, r2_train
            The explained variance of the reconstruction, of test rows and of training rows.
        dead_fraction
            The share of atoms that no test row uses.
        coherence, babel, coselected_babel
            The mutual coherence of the atoms; their Babel function at one less than so many
            atoms, and that of the atoms that test rows select together. NaN for less than
            two atoms.
        effective_rank
            That of the codes of the test rows.
        fit_seconds, transform_seconds
            For the fit, and for coding the test rows. What shares a fit shares the seconds.
        fit_memory
            By how many bytes the resident memory of the process grew during the fit, at its
            peak: with what is loaded by the first fit of its kind. NaN on systems other than
            Linux.
        probe_accuracy
            With y: the accuracy on test rows of a logistic regression on the codes, each
            scaled to a maximum of 1.
        matched_cosine, precision, recall, f1, absorption
            With `truth`: the mean cosine of features with their atoms, as matched by
            `match_atoms`; the means over features of how they fire; and `feature_absorption`
            where there are parents. Up to sign, if the codes have either sign.
        the names of `measures`
            What they returned.
        error
            Why the fit or a measure failed, empty if none did. What was not measured is NaN.

    Raises
    ------
    ImportError
        If there is no pandas.
    TypeError
        For estimators that are not known.
    ValueError
        For arguments that are empty, out of range, twice the same or do not fit each other,
        and for rows that are files or streams; all before the first fit.

    Notes
    -----
    Geometry is that of directions: atoms are scaled to unit norm, and atoms that are zero
    are left out.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn_mpsae import MPSparseAutoencoder, compare
    >>> X = load_digits().data
    >>> table = compare(
    ...     {"MP": MPSparseAutoencoder(64, max_iter=5), "PCA": PCA()},
    ...     X[:500],
    ...     X_test=X[500:1000],
    ...     n_nonzero_coefs=[2, 4],
    ... )
    >>> table[["estimator", "n_nonzero_coefs", "seed"]]
      estimator  n_nonzero_coefs  seed
    0        MP                2     0
    1        MP                4     0
    2       PCA                2     0
    3       PCA                4     0
    >>> bool((table.r2 > 0).all())
    True
    """
    pd = _pandas()
    levels = _checked_numbers(n_nonzero_coefs, "n_nonzero_coefs", Real, least=1)
    seeds = _checked_numbers(random_states, "random_states", Integral, least=0)
    _check_estimators(estimators, levels, seeds)
    data = _checked_data(X, X_test, y, y_test, truth)
    measures = _checked_measures(measures, data)
    fits = [
        _Fit(name, estimator, group, seed, measures)
        for name, estimator in estimators.items()
        for group in _groups(coder_of(estimator, name), levels)
        for seed in seeds
    ]
    rows = {
        tuple(row[name] for name in _CELL): row
        for row in _run(fits, data, n_jobs, memory, verbose)
    }
    order = product(estimators, levels, seeds)
    columns = [*_CELL, *_MEASURES, *data.extra_columns(), *measures, "error"]
    return pd.DataFrame([rows[cell] for cell in order], columns=columns)


# ------------------------------------------------------------------------------ the fits
class _Fit(NamedTuple):
    """One fit, and the numbers of non-zero codes to measure it at."""

    name: str
    estimator: Any
    levels: list[float]
    seed: int
    measures: dict


class _Data(NamedTuple):
    """What all fits share."""

    X: np.ndarray
    X_test: np.ndarray
    y: np.ndarray | None
    y_test: np.ndarray | None
    truth: dict | None

    def extra_columns(self):
        return _PROBE * (self.y is not None) + _RECOVERY * (self.truth is not None)


class _UnfinishedError(Exception):
    """Carries rows with errors past joblib's cache, so that the next call tries again."""


def _groups(coder, levels):
    """The numbers of non-zero codes that share a fit."""
    return [levels] if coder.one_fit else [[level] for level in levels]


def _run(fits, data, n_jobs, memory, verbose):
    """Yield a dict for each row of the table, as fits finish."""
    from tqdm import tqdm

    memory = check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)
    # Hashed once, not for each fit; and results of another version are others.
    key = joblib.hash((__version__, sklearn.__version__, data), coerce_mmap=True)
    measured = memory.cache(_fit_and_measure, ignore=["data"])
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    tasks = (delayed(_rows_of)(measured, fit, key, data) for fit in fits)
    for rows in tqdm(parallel(tasks), "compare", len(fits), unit="fit", disable=not verbose):
        yield from rows


def _rows_of(measured, fit, key, data):
    try:
        return measured(fit, key, data)
    except _UnfinishedError as error:
        return error.args[0]


def _fit_and_measure(fit, key, data):
    """The rows of a fit; raises _UnfinishedError with them if there was an error."""
    name, estimator, levels, seed, measures = fit
    common = {"estimator": name, "seed": seed, "error": ""}
    rows = [common | {"n_nonzero_coefs": level} for level in levels]
    try:
        fitted = configured(estimator, name, levels[0], seed)
        with _measured(rows):
            fitted.fit(data.X)
    except Exception as error:
        for row in rows:
            row["error"] = _reason(error)
        raise _UnfinishedError(rows) from error
    coder = coder_of(estimator, name)
    for row in rows:
        try:
            fitted.set_params(**coder.sparsity(row["n_nonzero_coefs"]))
            _measure(row, coder, fitted, data)
            row.update({key: measure(fitted, data.X_test) for key, measure in measures.items()})
        except Exception as error:
            row["error"] = _reason(error)
    if any(row["error"] for row in rows):
        raise _UnfinishedError(rows)
    return rows


@contextmanager
def _measured(rows):
    """Write the seconds and the memory of a fit into its rows."""
    _give_back_memory()
    before, start = _resident("VmRSS", reset=True), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    for row in rows:
        row["fit_seconds"] = seconds
        row["fit_memory"] = _resident("VmHWM") - before


def _give_back_memory():
    """Return free memory to the system; else a fit that reuses it would seem to take none."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # a system without glibc
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field, *, reset=False):
    """Resident memory of this process in bytes, now (VmRSS) or at its peak (VmHWM)."""
    try:
        if reset:
            # Makes the present the peak (man 5 proc).
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith(field))
    except (OSError, StopIteration):
        return math.nan
    return 1024 * int(kilobytes)


# -------------------------------------------------------------------------- the measures
def _measure(row, coder, fitted, data):
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
def _pandas():
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "compare returns a pandas.DataFrame, and pandas is not installed: "
            "pip install pandas."
        ) from error
    return pd


def _checked_numbers(values, name, kind, *, least):
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


def _checked_measures(measures, data):
    measures = dict(measures or {})
    taken = {*_CELL, *_MEASURES, *data.extra_columns(), "error"}
    for name, measure in measures.items():
        if name in taken:
            raise ValueError(f"measures has {name!r}, a column there is already: rename it.")
        if not callable(measure):
            raise ValueError(f"measures[{name!r}] must be callable, got {measure!r}.")
    return measures


def _check_estimators(estimators, levels, seeds):
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


def _checked_data(X, X_test, y, y_test, truth):
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
    return _Data(X, X_test, y, y_test, truth)


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


def _reason(error):
    return f"{type(error).__name__}: {error}"
