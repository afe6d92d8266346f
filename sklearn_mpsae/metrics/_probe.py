"""How well a few atoms tell classes apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from .._array_api import as_numpy
from .._optional import needed
from ..coding.checks import checked_counts
from ._inputs import CodesLike, checked_codes, checked_rows, csr_parts, finite

if TYPE_CHECKING:
    import pandas as pd

# Enough for a probe to tell classes apart; the last digit would cost many times more.
_STEPS = 200

# Up to so many inputs a Newton step costs less than the many of a gradient method.
_FEW = 256


def sparse_probe(
    codes: CodesLike | Any,
    y: ArrayLike,
    X: ArrayLike | None = None,
    *,
    n_atoms: int | Sequence[int] = (1, 2, 5),
    test: ArrayLike | None = None,
    test_size: float = 0.25,
    random_state: int = 0,
) -> pd.DataFrame:
    """How well logistic probes on the best few atoms of each class predict it.

    For each class against all others, as in [1]_ and [2]_: the atoms are ranked by the
    difference of their mean codes, ``|mean(class) - mean(others)|``, over the training rows;
    a logistic regression is fitted to the codes of the best ones, and scored on the test
    rows. A probe on all atoms, and the same probes on the features of the raw rows, stand
    beside them. Needs pandas
    (``pip install 'sklearn_mpsae[compare]'``).

    Parameters
    ----------
    codes : array-like, sparse of shape (n_samples, n_components), Codes, or fitted estimator
        The codes; of an estimator (or pipeline), those that it gives X.
    y : array-like of shape (n_samples,)
        The class of each row, of two classes or more.
    X : array-like or CSR of shape (n_samples, n_features), default=None
        The raw rows to probe beside the codes. None for codes only.
    n_atoms : int or sequence of int, default=(1, 2, 5)
        How many atoms, and features of X, the probes see. More than there are is all.
    test : array-like of shape (n_samples,), bool, or of indices, default=None
        Which rows are test rows. None to draw them, stratified by class.
    test_size : float, default=0.25
        The share of rows to draw; not used with `test`.
    random_state : int, default=0
        Draws the test rows.

    Returns
    -------
    table : pandas.DataFrame
        A row for each kind of input, number of inputs and class, with the columns

        inputs
            "codes", or "rows" for the raw rows.
        n_inputs
            How many of their columns the probe sees; the last number is all.
        class
            The class that is told from all others.
        atoms
            The columns that the probe sees, the best first.
        accuracy, balanced_accuracy, f1, auc
            On the test rows. The accuracy of [1]_, on as many rows of the class as of
            others, is the balanced one; [2]_ reports the area under the ROC curve.

    Raises
    ------
    ImportError
        If there is no pandas.
    NotFittedError
        If `codes` is an estimator that is not fitted.
    TypeError
        If X stands where y is to be, and y where X is.
    ValueError
        If there are more or fewer labels or rows of X than codes, a single class, missing
        labels, a class without training or test rows, or values that are not finite; or if
        a parameter is out of range.

    See Also
    --------
    sklearn_mpsae.compare : Its probe sees all codes, of all classes at once.

    Notes
    -----
    Probes have an L2 penalty with ``C=1`` on inputs of unit variance, so that they do not
    depend on the scale of an atom's codes; classes have the same weight.

    References
    ----------
    .. [1] A. Karvonen et al., "SAEBench: A Comprehensive Benchmark for Sparse Autoencoders
       in Language Model Interpretability", arXiv:2503.09532, 2025.
    .. [2] S. Kantamneni et al., "Are Sparse Autoencoders Useful? A Case Study in Sparse
       Probing", arXiv:2502.16681, 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.metrics import sparse_probe
    >>> X, y = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(64, n_nonzero_coefs=8, max_iter=2, random_state=0).fit(X)
    >>> table = sparse_probe(sae, y, X, n_atoms=[1, 5])
    >>> table.groupby(["inputs", "n_inputs"]).balanced_accuracy.mean().index.tolist()
    [('codes', 1), ('codes', 5), ('codes', 64), ('rows', 1), ('rows', 5), ('rows', 64)]
    >>> bool((table.auc > 0.5).all())
    True
    """
    pd = needed("pandas", "compare", "sparse_probe")
    if np.ndim(y) == 2 and np.ndim(X) == 1:
        raise TypeError(
            "y has two axes and X has one: codes (or an estimator) come first, then labels, "
            "then rows, sparse_probe(codes, y, X)."
        )
    sizes = np.ravel(checked_counts(n_atoms, "n_atoms")).tolist()
    inputs = {"codes": _codes_of(codes, X)}
    if X is not None:
        inputs["rows"] = finite(checked_rows(X), "X")
    n = inputs["codes"].shape[0]
    if X is not None and len(inputs["rows"]) != n:
        raise ValueError(f"X has {len(inputs['rows'])} rows, but there are codes of {n}.")
    y = _checked_labels(y, n, pd)
    is_test = _split(y, test, test_size, random_state)
    classes = np.unique(y)
    # Threads of the BLAS cost more than they give on matrices as small as a probe's.
    with threadpool_limits(1):
        rows = [
            row
            for name, Z in inputs.items()
            # In units in which squares neither overflow nor vanish.
            for Z in [Z / (abs(Z).max() or 1)]
            for label in classes
            for row in _probes(name, Z, label, y == label, is_test, sizes)
        ]
    # Stable: classes stay in their order.
    return pd.DataFrame(rows).sort_values(
        ["inputs", "n_inputs"], kind="stable", ignore_index=True
    )


# ------------------------------------------------------------------------- the probes
def _probes(name, Z, label, is_class, is_test, sizes):
    """Yield the table's rows of one class against all others."""
    train, test = ~is_test, is_test
    ranking = _ranked(Z[train], is_class[train])
    for size in sorted({*(min(size, len(ranking)) for size in sizes), len(ranking)}):
        best = ranking[:size]
        scores = _scores(Z[train][:, best], is_class[train], Z[test][:, best], is_class[test])
        yield {"inputs": name, "n_inputs": size, "class": label, "atoms": best, **scores}


def _ranked(Z, is_class):
    """Columns by how far apart their two means are, the farthest first."""
    difference = Z[is_class].mean(axis=0) - Z[~is_class].mean(axis=0)
    return np.argsort(-np.abs(difference), kind="stable")


def _scores(Z, is_class, Z_test, is_class_test):
    few = Z.shape[1] <= _FEW
    if sparse.issparse(Z) and few:
        Z, Z_test = Z.toarray(), Z_test.toarray()
    # Many codes stay sparse. Rows are centred since their means may be large, which changes
    # no optimum, only how soon it is found.
    scaler = StandardScaler(with_mean=not sparse.issparse(Z)).set_output(transform="default")
    probe = LogisticRegression(
        solver="newton-cholesky" if few else "lbfgs", class_weight="balanced", max_iter=_STEPS
    )
    with warnings.catch_warnings():
        # The steps are few on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(scaler.fit_transform(Z), is_class)
    decision = probe.decision_function(scaler.transform(Z_test))
    found = decision > 0
    return {
        "accuracy": accuracy_score(is_class_test, found),
        "balanced_accuracy": balanced_accuracy_score(is_class_test, found),
        "f1": f1_score(is_class_test, found, zero_division=0),
        "auc": roc_auc_score(is_class_test, decision),
    }


# ---------------------------------------------------------------------- the arguments
def _codes_of(codes, X):
    """Codes as CSR, of an estimator those of X."""
    if hasattr(codes, "transform") and hasattr(codes, "fit"):  # a frame has the former too
        if X is None:
            raise ValueError("codes is an estimator: pass X, the rows that it is to encode.")
        check_is_fitted(codes)
        # Codes of `encode` are sparse, whatever sparse_output is.
        codes = codes.encode(X) if hasattr(codes, "encode") else codes.transform(X)
    return sparse.vstack(list(csr_parts(checked_codes(codes))), format="csr")


def _checked_labels(y, n, pd):
    if np.ma.is_masked(y):
        raise ValueError("y has masked values: leave out rows without a label.")
    y = column_or_1d(as_numpy(y), warn=False)
    if len(y) != n:
        raise ValueError(f"There are {len(y)} labels in y for {n} rows: pass one for each.")
    missing = np.flatnonzero(pd.isna(y))
    if len(missing):
        raise ValueError(f"y[{missing[0]}] is missing: leave out rows without a label.")
    if len(np.unique(y)) < 2:
        raise ValueError("y has a single class: probes need two or more.")
    return y


def _split(y, test, test_size, random_state):
    """The test rows as a mask, with all classes on both sides."""
    n = len(y)
    is_test = np.zeros(n, dtype=bool)
    if test is None:
        labels, counts = np.unique(y, return_counts=True)
        if counts.min() < 2:
            raise ValueError(
                f"Class {labels[counts.argmin()]} has a single row: a class needs one to "
                "train on and one to test on."
            )
        is_test[
            train_test_split(
                np.arange(n), test_size=test_size, stratify=y, random_state=random_state
            )[1]
        ] = True
    else:
        test = np.asarray(as_numpy(test))
        if test.ndim != 1 or test.dtype.kind not in "biu":
            raise ValueError(
                "test must be a mask of bool, one for each row, or the indices of the test "
                f"rows; got {test.dtype} of shape {test.shape}."
            )
        if test.dtype.kind == "b" and len(test) != n:
            raise ValueError(f"test has {len(test)} entries for {n} rows: pass one for each.")
        if test.dtype.kind != "b" and len(test) and not 0 <= test.min() <= test.max() < n:
            raise ValueError(
                f"test has indices from {test.min()} to {test.max()} for {n} rows."
            )
        is_test[test] = True
    for side, rows in {"training": ~is_test, "test": is_test}.items():
        lacking = np.setdiff1d(y, y[rows])
        if len(lacking):
            raise ValueError(
                f"Class {lacking[0]} has no {side} rows: pass more rows of it, or another test."
            )
    return is_test
