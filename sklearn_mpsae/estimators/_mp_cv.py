"""Matching pursuit autoencoder that chooses its sparsity by cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state

from .._array_api import Fitted, follows_input
from .._compat import Interval, fit_context, rows_at
from .._docs import shared_docs
from .._warn import warn
from ..coding.checks import checked_counts
from ..rows.npy import NpyFiles
from ..rows.open import RowsLike, in_memory
from ..rows.stream import BatchStream
from ._encoder import BaseEncoder
from ._mp import FittedPursuit, MPSparseAutoencoder, check_path_weight, pursuit_model
from ._sparsity import default_sparsity

# Parameters of `MPSparseAutoencoder` that belong to a single fit, and are not offered.
_FIXED = {"sparsity", "warm_start", "checkpoint", "checkpoint_every", "distributed"}

# The least path_weight of a fit that is judged at each number of codes: at small ones it is
# then about as good as a fit for those (benchmarks/bench_defaults.py).
_PATH_WEIGHT = 0.5


class _NotOffered:
    """A method that `MPSparseAutoencoder` has and this class has not."""

    def __get__(self, estimator, owner):
        raise AttributeError(
            f"{owner.__name__} learns by fit only: give its n_nonzero_coefs_ to an "
            "MPSparseAutoencoder for streams and checkpoints."
        )


@shared_docs
class MPSparseAutoencoderCV(FittedPursuit, BaseEncoder):
    """Matching pursuit autoencoder that chooses its sparsity by cross-validation.

    Codes of a matching pursuit are nested: the code with fewer atoms is the beginning of the
    code with more. So each fold learns one dictionary, for the largest number of codes, and
    encodes its held-out rows once, which gives their error at every sparsity. Then the
    dictionary is learnt again from all rows, with the chosen number of codes.

    The reconstruction of held-out rows improves with every further atom, so the best score
    is that of the largest number. Therefore the smallest number that explains enough is
    chosen, as with ``PCA(n_components=0.9)``.

    Parameters
    ----------
    {n_components}
    n_nonzero_coefs : int or array-like of int, default=None
        The numbers of non-zero codes to choose from: an array, or for an int all up to it.
        None for a tenth of the features, from 10 to 64. Numbers larger than that of the atoms
        are reduced to it, with a warning.
    target_score : float, default=0.9
        Choose the smallest number whose mean score on held-out rows is at least this. If no
        number reaches it, the largest is chosen, with a warning. None for the number with the
        best mean score, which needs a `scoring` that does not rise with each code.
    scoring : callable, default=None
        ``scoring(estimator, X) -> float`` of held-out rows, larger is better, called for each
        number of codes. None for the explained variance R², which takes one encode for all.
    cv : int, cross-validation generator or iterable, default=None
        How rows are split, as in scikit-learn; None for 5 folds. Folds of an int or None are
        not shuffled: for rows in an order, such as by class, pass
        ``KFold(5, shuffle=True, random_state=0)``.
    n_jobs : int, default=None
        How many folds are fitted at a time, each in a process. None for 1, -1 for all
        processors.
    tol, atol, stop_on_repeat, transform_algorithm : object
        As for `MPSparseAutoencoder`, in all fits. With ``transform_algorithm="omp"`` or
        "ols" codes are not nested, and held-out rows are encoded for each number of codes.
    transform_n_nonzero_coefs : int, default=None
        The largest number of codes of a row in `transform`. It can be set after `fit`. None
        for `n_nonzero_coefs_`.
    positive_code, precision, path_weight, whitening, intercept : object
        As for `MPSparseAutoencoder`, in all fits.
    max_iter, batch_size, learning_rate, dict_init, dead_atoms : object
        As for `MPSparseAutoencoder`, in all fits.
    dead_after, sparse_output, device, verbose : object
        As for `MPSparseAutoencoder`, in all fits.
    random_state : int, RandomState instance or None, default=None
        As for `MPSparseAutoencoder`; all fits have the same seed.

    Attributes
    ----------
    n_nonzero_coefs_ : int
        The number that was chosen.
    candidates_ : ndarray of shape (n_candidates,), int
        The numbers to choose from, in ascending order.
    cv_scores_ : ndarray of shape (n_folds, n_candidates)
        The score of each fold's held-out rows at each of them.
    best_score_ : float
        The mean of `cv_scores_` over folds at `n_nonzero_coefs_`.
    {attributes}
    threshold_ : float
        0, as for `MPSparseAutoencoder` with ``sparsity="row"``.

    Raises
    ------
    ValueError
        In `fit`: for files and streams, whose rows cannot be split.

    See Also
    --------
    MPSparseAutoencoder : The same for a given sparsity, from streams and files too.
    sklearn.linear_model.OrthogonalMatchingPursuitCV : The same for a single target.

    Notes
    -----
    A share of explained variance, usually 0.7 to 0.9, is the simplest rule for the number of
    principal components [1]_. Rules that need no target did worse here (see
    :doc:`/benchmarks`). The smallest number within one standard error of the best was always
    the largest candidate, because folds hardly differ. The choice of the extended Bayesian
    information criterion depended on the largest candidate: of orthogonal codes of digits with
    256 atoms it took 7 of 12, and 24 of 24.

    The dictionaries of the folds are trained for all numbers up to the largest: by matching
    pursuit, with a `path_weight` of at least 0.5, or of 1 if held-out rows have orthogonal
    codes. At small numbers they are a little worse than dictionaries trained for those
    numbers: by at most 0.02 in R² on digits and wine from 3 codes on, but with one code by
    0.06 to 0.13. So the chosen number may be too large where `target_score` is low.

    References
    ----------
    .. [1] I. T. Jolliffe, "Principal Component Analysis", section 6.1.1, Springer, 2002.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoderCV
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoderCV(128, n_nonzero_coefs=16, cv=3, max_iter=30).fit(X)
    >>> 1 < sae.n_nonzero_coefs_ < 16
    True
    >>> sae.cv_scores_.shape, bool(sae.best_score_ >= 0.9)
    ((3, 16), True)
    >>> sae.transform(X).shape
    (1797, 128)
    """

    _parameter_constraints: dict = {
        **{
            name: constraint
            for name, constraint in MPSparseAutoencoder._parameter_constraints.items()
            if name not in _FIXED
        },
        "n_nonzero_coefs": ["array-like", Interval(Real, 1, None, closed="left"), None],
        "target_score": [Interval(Real, None, 1, closed="right"), None],
        "scoring": [callable, None],
        "cv": ["cv_object"],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
    }

    candidates_ = Fitted[np.ndarray]()
    cv_scores_ = Fitted[np.ndarray]()
    n_nonzero_coefs_ = Fitted[int]()
    best_score_ = Fitted[float]()

    _not_auto = "a list to choose from, e.g. [2, 4, 8]"

    partial_fit = load_checkpoint = _NotOffered()

    _own_fitted = {
        "candidates_": "c",
        "cv_scores_": "fc",
        "n_nonzero_coefs_": "",
        "best_score_": "",
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: ArrayLike | None = None,
        target_score: float | None = 0.9,
        scoring: Callable[[Any, Any], float] | None = None,
        cv: Any = None,
        n_jobs: int | None = None,
        tol: float = 0.0,
        atol: float = 0.0,
        stop_on_repeat: bool = False,
        transform_algorithm: Literal["mp", "omp", "ols"] = "mp",
        transform_n_nonzero_coefs: int | None = None,
        positive_code: bool = True,
        precision: Literal["auto", "full", "bfloat16"] = "auto",
        path_weight: float = 0.0,
        whitening: float | None = None,
        intercept: Literal["learn", "mean", "zero"] = "learn",
        max_iter: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.3,
        dict_init: ArrayLike | None = None,
        dead_atoms: Literal["revive", "keep"] = "revive",
        dead_after: int = 100,
        sparse_output: bool = False,
        device: str = "auto",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._store(locals())

    @follows_input
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: RowsLike, y: Any = None) -> Self:
        """Choose the number of codes, and learn a dictionary for it from X.

        Parameters
        ----------
        X : array-like or CSR of shape (n_samples, n_features)
            Rows to learn from.
        y : array-like, default=None
            Used to split rows, where `cv` needs it; else ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, FloatingPointError
            As for `MPSparseAutoencoder.fit`; for rows that cannot be split, and folds
            without any variance.

        Warns
        -----
        ConvergenceWarning
            If no number of codes reaches `target_score`.
        """
        if isinstance(X, BatchStream | NpyFiles):
            raise ValueError(
                f"{type(X).__name__} cannot be split into folds: choose the sparsity on an "
                "array of some of its rows, and fit MPSparseAutoencoder to all."
            )
        if self.target_score is None and self.scoring is None:
            raise ValueError(
                "The explained variance is best with the largest number of codes: set "
                "target_score, or a scoring that has a best number."
            )
        check_path_weight(self)
        with self._unchanged_on_error():
            rows = in_memory(self, X, reset=True)
            candidates = self._candidates(rows.shape[1])
            folds = self._folds(rows, y)
            if hasattr(self, "feature_names_in_"):
                rows = X  # so that callbacks and scorers may be given names too
            root = self._init_callback_context(
                max_subtasks=len(folds) + 1, sequential_subtasks=False
            )
            root.call_on_fit_task_begin(estimator=self, X=X, y=y)
            *of_folds, refit = (
                root.subcontext(task_name=name, task_id=i)
                for i, name in enumerate(["fold"] * len(folds) + ["refit"])
            )
            seed = self.random_state
            if not isinstance(seed, Integral):
                seed = check_random_state(seed).randint(2**31 - 1)
            held_out = delayed(_held_out)
            scores = np.array(
                Parallel(n_jobs=self.n_jobs)(
                    held_out(
                        self,
                        self._for_all(candidates, seed),
                        candidates,
                        rows_at(rows, train),
                        rows_at(rows, test),
                        context,
                    )
                    for (train, test), context in zip(folds, of_folds, strict=True)
                )
            )
            chosen = self._chosen(scores.mean(axis=0))
            k = int(candidates[chosen])
            best = _fit_one(self, self._single(k, seed), rows, refit)
            own = {
                "candidates_": candidates,
                "cv_scores_": scores,
                "n_nonzero_coefs_": k,
                "best_score_": float(scores[:, chosen].mean()),
            }
            learnt = best._learnt
            self._learnt = replace(learnt, attributes={**learnt.attributes, **own})
            root.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
        return self

    def _model(self):
        return pursuit_model(self)

    def _n_trained(self):
        return self._learnt.attributes["n_nonzero_coefs_"]

    def _folds(self, rows, y):
        try:
            splits = check_cv(self.cv).split(rows, y)
            return [tuple(map(np.asarray, split)) for split in splits]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"cv={self.cv!r} cannot split these rows ({error}). If it needs classes, pass "
                "them as y; if it needs groups, pass cv=list(splitter.split(X, y, groups))."
            ) from error

    def _candidates(self, n_features):
        """The numbers of codes to choose from, rising."""
        k = self.n_nonzero_coefs
        n_atoms = self._n_atoms(n_features)
        if k is None:
            k = min(max(10, default_sparsity(n_features)), n_features, n_atoms)
        ks = np.unique(checked_counts(k, "n_nonzero_coefs"))
        if ks[-1] > n_atoms:
            warn(
                f"n_nonzero_coefs={ks[-1]} is more than the {n_atoms} components there are: "
                f"{n_atoms} is used.",
                UserWarning,
            )
        ks = np.unique(np.minimum(ks, n_atoms))
        return np.arange(1, ks[0] + 1) if np.ndim(k) == 0 else ks

    def _single(self, k, seed):
        """An estimator for one fit, to k codes."""
        names = MPSparseAutoencoder().get_params()
        params = {name: x for name, x in self.get_params(deep=False).items() if name in names}
        own = {"n_nonzero_coefs": int(k), "transform_n_nonzero_coefs": None}
        return MPSparseAutoencoder(**params | own | {"random_state": seed})

    def _for_all(self, candidates, seed):
        """An estimator for one fit whose codes are cut to each of these numbers."""
        sae = self._single(candidates[-1], seed)
        if len(candidates) == 1:
            return sae
        if self.transform_algorithm == "mp":
            return sae.set_params(path_weight=max(_PATH_WEIGHT, self.path_weight))
        # Orthogonal codes have no prefixes to train for, and their refinement for the largest
        # number is far too bad at small ones: all is trained for prefixes of matching pursuit.
        return sae.set_params(transform_algorithm="mp", path_weight=1.0)

    def _chosen(self, means):
        """Which of the candidates to take, by their mean scores."""
        if np.isnan(means).any():
            raise ValueError(
                "The score of held-out rows is NaN: each fold needs several rows, which "
                "differ. Choose another cv."
            )
        if self.target_score is None:
            return np.argmax(means)
        if means.max() < self.target_score:
            warn(
                f"No number of codes reaches target_score={self.target_score}: the best mean "
                f"score is {means.max():.3g}. The largest number is taken; raise "
                "n_nonzero_coefs or n_components, or lower target_score. If the rows are in "
                "an order, such as by class, shuffle the folds: cv=KFold(5, shuffle=True).",
                ConvergenceWarning,
            )
            return len(means) - 1
        return np.argmax(means >= self.target_score)


def _fit_one(search, sae, rows, context):
    """Fit an estimator of a search, followed by the callbacks of the search."""
    callbacks = getattr(search, "_skl_callbacks", [])
    # The others are handed down by the context.
    own = [each for each in callbacks if not hasattr(each, "max_propagation_depth")]
    if own:
        sae.set_callbacks(*own)
    with context.propagate_callback_context(sae):
        context.call_on_fit_task_begin(estimator=search, X=rows)
        sae.fit(rows)
        context.call_on_fit_task_end(estimator=search, X=rows)
    return sae


def _held_out(search, sae, ks, train, test, context):
    """The scores of held-out rows at each number of codes, from a dictionary for the most."""
    _fit_one(search, sae, train, context)
    sae.set_params(transform_algorithm=search.transform_algorithm)
    if search.scoring is not None:
        return [
            search.scoring(sae.set_params(transform_n_nonzero_coefs=int(k)), test) for k in ks
        ]
    return 1 - sae.reconstruction_path(test, int(ks[-1]))[ks - 1]
