"""Metrics as the `scoring` of scikit-learn's model selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def codes_scorer(
    metric: Callable[[Any], float], *, greater_is_better: bool = True
) -> Callable[..., float]:
    """Make a scorer from a metric of codes.

    Parameters
    ----------
    metric : callable
        ``metric(codes) -> float``, as `l0` or `effective_rank`. For the scorer to be
        pickled, as it is with ``n_jobs``, a function of a module, or a
        `functools.partial` of one.
    greater_is_better : bool, default=True
        If not, the score is the negative of the metric.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` gives the metric of ``estimator.transform(X)``. It
        raises NotFittedError for an estimator that is not fitted, and ValueError for a
        metric that gives anything but one number.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.metrics import codes_scorer, l0
    >>> X = load_digits().data[:200]
    >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> codes_scorer(l0, greater_is_better=False)(sae, X) < -2
    True
    """
    return _Scorer(metric, 1 if greater_is_better else -1, _codes_of)


def dictionary_scorer(
    metric: Callable[[np.ndarray], float], *, greater_is_better: bool = True
) -> Callable[..., float]:
    """Make a scorer from a metric of dictionaries.

    Parameters
    ----------
    metric : callable
        ``metric(dictionary) -> float``, as `mutual_coherence`; to be pickled as for
        `codes_scorer`.
    greater_is_better : bool, default=True
        If not, the score is the negative of the metric.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)`` gives the metric of ``estimator.components_``, of
        the last step if it is a pipeline; errors as of `codes_scorer`.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.metrics import dictionary_scorer, mutual_coherence
    >>> X = load_digits().data[:200]
    >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> 0 < dictionary_scorer(mutual_coherence)(sae, X) < 1
    True
    """
    return _Scorer(metric, 1 if greater_is_better else -1, _dictionary_of)


@dataclass(frozen=True)
class _Scorer:
    """sign * metric(of(estimator, X)); a class, so that it pickles."""

    metric: Callable
    sign: int
    of: Callable

    def __call__(self, estimator, X, y=None) -> float:
        check_is_fitted(estimator)
        value = np.asarray(self.metric(self.of(estimator, X)))
        if value.shape != ():
            raise ValueError(
                f"A score is one number, but {self.metric!r} gave an array of shape "
                f"{value.shape}: wrap it in a function that picks one."
            )
        return self.sign * float(value)


def _codes_of(estimator, X):
    return estimator.transform(X)


def _dictionary_of(estimator, X):
    return (estimator[-1] if isinstance(estimator, Pipeline) else estimator).components_
