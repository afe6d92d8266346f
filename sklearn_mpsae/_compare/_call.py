"""The call: from arguments to the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from .._optional import needed
from ._checks import (
    check_estimators,
    checked_data,
    checked_measures,
    checked_numbers,
)
from ._coders import coder_of
from ._measures import CELL, MEASURES
from ._run import Fit, run

if TYPE_CHECKING:
    import pandas as pd


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
    pd = needed("pandas", "compare", "compare")
    levels = checked_numbers(n_nonzero_coefs, "n_nonzero_coefs", Real, least=1)
    seeds = checked_numbers(random_states, "random_states", Integral, least=0)
    check_estimators(estimators, levels, seeds)
    data = checked_data(X, X_test, y, y_test, truth)
    measures = checked_measures(measures, data)
    fits = [
        Fit(name, estimator, group, seed, measures)
        for name, estimator in estimators.items()
        for group in _groups(coder_of(estimator, name), levels)
        for seed in seeds
    ]
    rows = {
        tuple(row[name] for name in CELL): row
        for row in run(fits, data, n_jobs, memory, verbose)
    }
    order = product(estimators, levels, seeds)
    columns = [*CELL, *MEASURES, *data.extra_columns(), *measures, "error"]
    return pd.DataFrame([rows[cell] for cell in order], columns=columns)


def _groups(coder, levels):
    """The numbers of non-zero codes that share a fit."""
    return [levels] if coder.one_fit else [[level] for level in levels]
