"""Callbacks for the estimators of this package: early stopping, and numbers for any logger.

They follow scikit-learn's callback protocol, and are set as its own are, with
``set_callbacks``. scikit-learn's ``ProgressBar`` and ``ScoringMonitor`` work on all
estimators of the package too. The latter is told where it stands by a dict of scorers, as in
``ScoringMonitor(scoring={"r2": lambda est, X, y: est.score(X)})``; an autoencoder's `y` is
its `X`, where `fit` was given none. (With ``scoring=None``, version 1.9.1 fails on every
estimator, scikit-learn's own included.)

The protocol came with scikit-learn 1.9: with an earlier one ``set_callbacks`` warns, and
fits go on without callbacks.

A callback here is set on the sparse autoencoder itself, also where that is a step of a
pipeline or what a search is over. scikit-learn's ``clone`` does not copy callbacks: all
clones share one, and each process that a search starts gets a copy of it. So whatever a
callback here learns of a fit, it keeps by fit, and clones do not disturb one another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .coding.checks import is_integer
from .estimators._encoder import BaseEncoder

__all__ = ["EarlyStopping", "LogMetrics"]


@dataclass
class _Run:
    """What `EarlyStopping` knows of one fit."""

    patience: int
    scores: list[float] = field(default_factory=list)
    best_score: float = -np.inf
    best: Any = None
    n_waited: int = 0
    """Epochs that were compared since the best one."""


class EarlyStopping:
    """Stop a fit whose score on validation rows no longer improves, and go back to the best.

    Parameters
    ----------
    X_val : array-like or CSR of shape (n_samples, n_features)
        Validation rows, as the estimator sees them: where it is a step of a pipeline, after
        the steps before it. They are not taken from the rows of `fit`, which a callback
        cannot change; leave them out of those, and of the rows of a search.
    scoring : callable, default=None
        ``scoring(estimator, X_val) -> float``, larger is better. None for ``estimator.score``,
        the explained variance R². For a search with processes it must pickle.
    patience : int or float, default=0.1
        How many epochs without improvement to wait for: a number, or a share (below 1) of
        the epochs of the fit.
    min_delta : float, default=0.0
        A score counts as an improvement where it is larger than the best by more than this.
    restore_best : bool, default=True
        Whether the estimator ends as it was after its best epoch, all of its fitted
        attributes included, so that ``n_iter_`` is that epoch. Otherwise as it was when the
        fit stopped.

    Attributes
    ----------
    scores_ : list of float
        The score after each epoch of the last fit that ended in this process. A search that
        refits ends with that fit.

    Raises
    ------
    ValueError
        In a fit: where a score is NaN, and with ``restore_best=True`` for an estimator with
        `checkpoint` or `distributed`, since the best epoch is known neither to the file nor
        to the other processes.

    Notes
    -----
    Epochs are compared at the sparsity that was asked for. Early in a fit the training steps
    have more codes per row; what an epoch is scored with has the threshold, or for
    `ReLUSAE` the bias, that gives `n_nonzero_coefs` codes on average. An epoch that misses
    that number by more than a tenth is scored, but is neither taken for the best nor counted
    by `patience`.

    `fit` follows a schedule over its epochs (`max_iter`): the rate falls to zero, and the
    last 30% refine what the others explored. So the score rises slowly and unevenly nearly
    to the end, and a fit that is cut early has skipped what it was to end with. On digits
    (1,000 rows, 500 epochs of two steps each; see :doc:`/benchmarks`) a patience of 5
    epochs costs 0.03 to 0.11 of R². The default of a tenth of the epochs costs at most
    0.002, and saves up to 40% of them. What `restore_best` gains over the last epoch is 0.001
    for `MPSparseAutoencoder`, and up to 0.012 for `TopKSAE` with many atoms for few rows,
    which does overfit. On 20,000 rows of MNIST the last of 25 epochs is the best, or within
    0.0001 of it, and there is nothing to save. To save time, lower `max_iter` first: then
    the whole schedule is gone through.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import TopKSAE
    >>> from sklearn_mpsae.callbacks import EarlyStopping
    >>> X = load_digits().data
    >>> stopping = EarlyStopping(X[1500:])
    >>> sae = TopKSAE(256, n_nonzero_coefs=10, random_state=0).set_callbacks(stopping)
    >>> sae = sae.fit(X[:1500])
    >>> sae.score(X[1500:]) == max(stopping.scores_)
    True
    """

    def __init__(
        self,
        X_val: ArrayLike,
        *,
        scoring: Callable[[Any, Any], float] | None = None,
        patience: float = 0.1,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        whole = is_integer(patience) and patience >= 1
        if not whole and not (isinstance(patience, Real) and 0 < patience < 1):
            raise ValueError(
                "patience must be a whole number of epochs or a share below 1, got "
                f"{patience!r}."
            )
        if not min_delta >= 0:
            raise ValueError(f"min_delta must not be negative, got {min_delta!r}.")
        if scoring is not None and not callable(scoring):
            raise TypeError(
                f"scoring must be a function of an estimator and X, or None, got {scoring!r}."
            )
        self.X_val = X_val
        self.scoring = scoring
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self._runs: dict[int, _Run] = {}

    def __getstate__(self) -> dict:
        # Not what it knows of fits: a copy is for other fits, and a pipeline with `memory`
        # must not take it for another callback after each.
        return {k: v for k, v in vars(self).items() if k != "scores_"} | {"_runs": {}}

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin to follow a fit."""
        _check_estimator(self, estimator)
        # A search has neither: its fits are its own.
        names = ("checkpoint", "distributed")
        kept = [name for name in names if getattr(estimator, name, None)]
        if self.restore_best and kept:
            raise ValueError(
                f"EarlyStopping cannot go back to the best epoch with {kept[0]}="
                f"{getattr(estimator, kept[0])!r}, which would go on from the last one: set "
                "restore_best=False."
            )
        whole = isinstance(self.patience, Integral)
        patience = self.patience if whole else ceil(self.patience * context.max_subtasks)
        self._runs[id(estimator)] = _Run(int(patience))

    def teardown(self, estimator: Any, context: Any) -> None:
        """Forget the fit, but for its scores."""
        run = self._runs.pop(id(estimator), None)
        if run is not None and run.scores:
            self.scores_ = run.scores

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to do."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Score an epoch, and say whether to stop; at the end of the fit, restore the best."""
        run = self._runs[id(estimator)]
        if context.task_name == "epoch":
            return self._ends_with(run, fitted_estimator)
        if run.best is not None:
            estimator._learnt = run.best._learnt
        return False

    def _ends_with(self, run, fitted):
        score = _score(fitted, self.X_val, self.scoring)
        if np.isnan(score):
            raise ValueError(
                "The validation score is NaN: X_val must have several rows that differ."
            )
        run.scores.append(float(score))
        if fitted._missed_l0() is not None:
            # More codes explain more: such an epoch cannot be compared with others.
            return False
        run.n_waited += 1
        if score > run.best_score + self.min_delta:
            run.best_score, run.n_waited = score, 0
            run.best = fitted if self.restore_best else None
        return run.n_waited >= run.patience


class LogMetrics:
    """Hand the numbers of each epoch to a function: of a logger, TensorBoard, or your own.

    Parameters
    ----------
    write : callable
        ``write(epoch, numbers)``. The first epoch is 1; a fit that goes on from a checkpoint
        counts on. `numbers` is a dict of str to float:

        "loss"
            The share of the rows' energy that the steps of the epoch left unexplained. It
            rises while "l0" falls: compare it between epochs of the same "l0" only.
        "l0"
            How many codes the rows had on average in these steps. A fit starts with more
            than it is asked for, and comes down to that.
        "dead_fraction"
            The share of atoms that no row used.
        "n_steps"
            The training steps until then.
        "r2"
            The score on `X_val`, where given; at all epochs with the number of codes that
            was asked for.

        For a search with processes it must pickle; it is then called in those, and all fits
        call the same function. With ``distributed=True`` set the callback in one process.
    X_val : array-like or CSR of shape (n_samples, n_features), default=None
        Rows to score after each epoch, as the estimator sees them.

    Examples
    --------
    Collect them:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.callbacks import LogMetrics
    >>> X = load_digits().data
    >>> seen = []
    >>> sae = MPSparseAutoencoder(64, n_nonzero_coefs=4, max_iter=2, random_state=0)
    >>> log = LogMetrics(lambda epoch, numbers: seen.append((epoch, numbers)), X_val=X[1500:])
    >>> sae = sae.set_callbacks(log).fit(X[:1500])
    >>> [epoch for epoch, _ in seen]
    [1, 2]
    >>> sorted(seen[0][1])
    ['dead_fraction', 'l0', 'loss', 'n_steps', 'r2']

    With :mod:`logging`:

    >>> import logging
    >>> log = LogMetrics(lambda epoch, numbers: logging.info("epoch %d: %s", epoch, numbers))

    With TensorBoard::

        writer = torch.utils.tensorboard.SummaryWriter()
        def write(epoch, numbers):
            for name, number in numbers.items():
                writer.add_scalar(name, number, epoch)
        log = LogMetrics(write)
    """

    def __init__(
        self,
        write: Callable[[int, dict[str, float]], Any],
        X_val: ArrayLike | None = None,
    ) -> None:
        if not callable(write):
            raise TypeError(f"write must be a function of epoch and numbers, got {write!r}.")
        self.write = write
        self.X_val = X_val

    def setup(self, estimator: Any, context: Any) -> None:
        """Refuse an estimator that has no such numbers."""
        _check_estimator(self, estimator)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to do."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing to do."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Hand over the numbers of an epoch."""
        if context.task_name != "epoch":
            return
        numbers = {
            "loss": float(fitted_estimator.loss_curve_[-1]),
            "l0": fitted_estimator.atom_usage_.sum() / fitted_estimator.n_samples_seen_,
            "dead_fraction": float(np.mean(fitted_estimator.atom_usage_ == 0)),
            "n_steps": float(fitted_estimator.n_steps_),
        }
        if self.X_val is not None:
            numbers["r2"] = _score(fitted_estimator, self.X_val)
        self.write(fitted_estimator.n_iter_, numbers)


def _score(estimator, X, scoring=None):
    """The score of an epoch, without a warning at each that X has other codes on average."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "These rows have", UserWarning)
        return estimator.score(X) if scoring is None else scoring(estimator, X)


def _check_estimator(callback, estimator):
    if not isinstance(estimator, BaseEncoder):
        raise TypeError(
            f"{type(callback).__name__} follows the epochs of a sparse autoencoder, and "
            f"{type(estimator).__name__} has none: set it on the autoencoder inside."
        )
