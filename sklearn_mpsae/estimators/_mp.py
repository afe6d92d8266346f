"""The sparse autoencoder whose encoder is matching pursuit."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import Fitted
from .._compat import Interval, StrOptions
from .._docs import shared_docs
from .._optional import torch_for
from ..learning.frame import default_whitening
from ..learning.sparsity import own_sparsity
from ..models.pursuit import MatchingPursuit
from ._base import BaseSparseAutoencoder
from ._encoder import AUTO
from ._sparsity import default_sparsity


class FittedPursuit:
    """The fitted attributes of a matching pursuit."""

    threshold_ = Fitted[float]()
    precision_ = Fitted[str]()
    metric_ = Fitted[np.ndarray]()
    # What follows from the metric, to the bits that the training had.
    _metric_components = Fitted[np.ndarray]()
    _metric_norms = Fitted[np.ndarray]()


@shared_docs
class MPSparseAutoencoder(FittedPursuit, BaseSparseAutoencoder):
    """Sparse autoencoder with matching pursuit as its encoder (MP-SAE).

    The encoder selects one atom at a time: each step takes the atom that correlates best
    with the current residual, and subtracts its contribution [1]_, [2]_. The dictionary is
    trained by gradient descent through all these steps. A shallow encoder correlates all
    atoms with the row only once. A pursuit can distinguish correlated atoms, and each
    selected atom lowers the error.

    Parameters
    ----------
    {n_components}
    n_nonzero_coefs : int, float or "auto", default=None
        The largest number of non-zero codes of a row, or with ``sparsity="average"`` their
        average number, which need not be whole. None for a tenth of the features, but at
        least 1 and at most 64: longer codes are hard to read, and take more time. A number
        larger than that of the atoms is reduced to it, with a warning. "auto", with
        ``sparsity="average"``: the number that the rows have of themselves, where they are
        sums of features that stand out from what is left; see the Notes. `fit` then takes
        three to eight times as long, and sets `n_nonzero_coefs_`.
    sparsity : {{"row", "average"}}, default="row"
        What limits the codes of a row. "row": each row has up to `n_nonzero_coefs`.
        "average": each row stops before an atom that correlates too little with its residual
        (see `threshold_`); training sets this threshold so that rows have `n_nonzero_coefs`
        codes on average. Held-out rows may have another average, on small data 10 to 20% more;
        `transform` and `score` warn where it is surely off by more than a tenth. If the data
        have true atoms, and their number differs between rows, "average" recovers them best
        (see :doc:`/study/superposition`). After `fit`, "average" may be changed to "row". The
        reverse raises an error, because there is no threshold.
    tol : float, default=0.0
        A row takes no further atom once its squared residual is at most `tol` times its
        squared norm, both without the intercept and in the metric of `whitening`; so it does
        not depend on the data's scale.
    atol : float, default=0.0
        A row takes no further atom once its squared residual is at most `atol`, in squared
        units of the data (without the intercept, in the metric of `whitening`): with
        ``whitening=0`` SPAMS's `eps`, what scikit-learn's OMP calls `tol`, and the square of
        SAELens's ``residual_threshold``. A row whose own squared norm is at most `atol` has
        no codes, as in SPAMS; in the other two it has one. `n_nonzero_coefs` limits the codes
        too: set it to the number of features for no other limit on an orthogonal pursuit.
    stop_on_repeat : bool, default=False
        Whether a row stops when the same atom is selected again: its code is updated, and no
        further atom is selected. For matching pursuit; an orthogonal pursuit selects no atom
        twice.
    transform_algorithm : {{"mp", "omp", "ols"}}, default="mp"
        The pursuit of `transform`. "mp": matching pursuit, the encoder that is trained; its
        codes are nested, and an atom may be selected again. "omp": orthogonal matching
        pursuit, which refits all codes with each atom (by non-negative least squares under
        `positive_code`). "ols": orthogonal least squares, which also selects the atom that
        gives the least error after the refit; a little slower, and often a little better.
        With "omp" and "ols" `fit` also refines the dictionary on such codes, during the
        last part of the training.
    transform_n_nonzero_coefs : int, default=None
        The largest number of codes of a row in `transform`, with either `sparsity`. It can be
        set after `fit`. None for that of the training.
    positive_code : bool, default=True
        Whether codes must not be negative, as in the papers.
    precision : {{"auto", "full", "bfloat16"}}, default="auto"
        How `fit` chooses atoms by matching pursuit. "full": by products in X's dtype.
        "bfloat16": by products in bfloat16, whose values are then computed in X's dtype;
        faster from some thousand atoms up, where the processor or GPU multiplies bfloat16
        (see :doc:`/scaling` for by how much, and what it changes). Needs torch on the CPU
        too. "auto": "bfloat16" from 2,097,152 entries of the dictionary, as 4,096 atoms of
        512 features, on a CPU that multiplies bfloat16, with torch installed; else "full".
        What was taken is `precision_`; set it yourself where fits on different machines have
        to agree. `transform` always chooses in full.
    path_weight : float, default=0.0
        The weight, from 0 to 1, of the prefixes of each row's codes in the training loss:
        with k codes their term is the mean squared error after 1, 2, ... k codes. The error
        of all codes together has the rest of the weight. With 0.5, one fit can be used with
        every smaller number of codes too (`transform_n_nonzero_coefs`).
    whitening : float, default=None
        How strongly rows are whitened for selecting and training atoms, from 0 (not) to 1:
        rows and atoms are multiplied by `metric_`, and atoms scaled to norm 1 there. It is
        proportional to ``(w C / m + (1 - w) I) ** (-1/2)`` for the covariance C of the rows
        (their second moment with ``intercept="zero"``) and the mean m of its eigenvalues.
        Directions of small variance then have more weight. `components_`, codes and scores
        are in the data's own space at any setting; `tol`, `atol` and `threshold_` hold in the
        metric.
        None for 0.1, or for 0 with more than 2,048 features, where the metric takes long to
        compute; more than 8,192 features raise an error. Exports to SAELens's format need 0.
        `partial_fit` computes the metric from the first rows that vary: 512, or twice as many
        as there are features.
    {training}
    dead_atoms : {{"revive", "keep"}}, default="revive"
        What to do with atoms that no row uses any more. "revive": replace each by the
        residual of a badly reconstructed row; with ``sparsity="row"`` the row's smallest code
        is left out of this residual, so with one code per row it is the row itself. "keep":
        nothing.
    dead_after : int, default=100
        The number of steps without use after which an atom is dead. A fit of fewer steps
        replaces none.
    {infrastructure}

    Attributes
    ----------
    {attributes}
    threshold_ : float
        A row stops before an atom whose correlation with its residual is no larger than this
        (in magnitude, unless `positive_code`), both in the metric, and the atom scaled to norm
        1 there. In matching pursuit this correlation is the code that the step gives, times
        the atom's norm in the metric: ``np.linalg.norm(components_ @ metric_, axis=1)``, or 1
        with ``whitening=0``. "omp" and "ols" refit all codes after the comparison, so that
        codes may be smaller; "ols" compares only the atom that it would take. In units of the
        data; 0 unless ``sparsity="average"``.
    precision_ : {{"full", "bfloat16"}}
        What was taken for `precision`.
    n_nonzero_coefs_ : float
        The average number of codes that was chosen. Only after ``n_nonzero_coefs="auto"``.
    metric_ : ndarray of shape (n_features, n_features)
        The matrix of `whitening`, scaled such that rows keep their energy. Only if
        `whitening` is not 0.

    See Also
    --------
    TopKSAE : The same with a shallow encoder.
    sklearn.decomposition.DictionaryLearning : Dictionary learning with an L1 penalty.
    sklearn.linear_model.OrthogonalMatchingPursuit : Pursuit for a single target.

    Notes
    -----
    A batch is multiplied with the dictionary once, as by a shallow encoder; each atom then
    updates the correlations from the dictionary's Gram matrix, row by row, in cache. If the
    residuals would take less time (few rows), or if the Gram matrix does not fit in memory
    (many atoms), a cost model selects the residuals, or computes rows of the Gram matrix for
    the selected atoms only. The gradient is the exact derivative of the unrolled pursuit.
    The intermediate steps are not stored, so a batch takes memory for its rows and codes only.

    ``n_nonzero_coefs="auto"`` looks for the threshold that divides the codes of a row into
    two kinds: at the right one, the first refused code is smallest beside the last taken
    one, and the fewest codes are close to the threshold. A fit with another number of
    codes points towards the right one, so fits follow each other, at most seven, until one
    points to itself. Where the two signs do not agree `fit` raises a ValueError: images, for
    one, have no such number, as each further code describes a smaller detail. With it, F1 was
    within 0.03 of that of the best number, on five kinds of rows whose features are known
    (see :doc:`/benchmarks`, bench_auto_k).

    References
    ----------
    .. [1] "Evaluating Sparse Autoencoders: From Shallow Design to Matching Pursuit",
       arXiv:2506.05239, 2025.
    .. [2] "From Flat to Hierarchical: Extracting Sparse Representations with Matching
       Pursuit", arXiv:2506.03093, 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(n_components=128, n_nonzero_coefs=8, random_state=0)
    >>> codes = sae.fit_transform(X)
    >>> codes.shape
    (1797, 128)
    >>> bool(sae.score(X) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseSparseAutoencoder._parameter_constraints,
        "n_nonzero_coefs": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({AUTO}),
            None,
        ],
        "sparsity": [StrOptions({"row", "average"})],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "atol": [Interval(Real, 0, None, closed="left")],
        "stop_on_repeat": ["boolean"],
        "transform_algorithm": [StrOptions({"mp", "omp", "ols"})],
        "positive_code": ["boolean"],
        "precision": [StrOptions({"auto", "full", "bfloat16"})],
        "path_weight": [Interval(Real, 0, 1, closed="both")],
        "whitening": [Interval(Real, 0, 1, closed="both"), None],
    }

    sparsity: str
    tol: float
    atol: float
    stop_on_repeat: bool
    transform_algorithm: str
    positive_code: bool
    precision: str
    path_weight: float
    whitening: float | None

    n_nonzero_coefs_ = Fitted[float]()

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: float | Literal["auto"] | None = None,
        sparsity: Literal["row", "average"] = "row",
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
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        distributed: bool = False,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self._store(locals())

    def _model(self):
        k, average = self.n_nonzero_coefs, self.sparsity == "average"
        if k == AUTO and not average:
            raise ValueError(
                "n_nonzero_coefs='auto' is an average number: set sparsity='average', or pass "
                "a number."
            )
        if k not in (None, AUTO) and k != int(k) and not average:
            raise ValueError(
                f"n_nonzero_coefs={k} is not a whole number: pass one, or "
                "sparsity='average' for rows that have so many codes on average."
            )
        return pursuit_model(self, average=average)

    def _whitening(self, n_features):
        if self.whitening is None:
            return default_whitening(n_features)
        return float(self.whitening)

    def _settings(self, n_features, before=None):
        if self.precision == "bfloat16":
            # Now, before rows are read for the first step.
            torch_for("precision='bfloat16'", "Or set precision='full'.")
        return super()._settings(n_features, before)

    def _model_to_train(self):
        check_path_weight(self)
        return super()._model_to_train()

    def _n_asked(self, n_features, n_atoms, *, warned=True):
        if self.n_nonzero_coefs == AUTO:  # where the search starts
            return min(default_sparsity(n_features), n_atoms)
        return super()._n_asked(n_features, n_atoms, warned=warned)

    def _n_trained(self):
        if self.n_nonzero_coefs == AUTO:
            return self._learnt.attributes["n_nonzero_coefs_"]
        return super()._n_trained()

    def _check_fitted(self):
        super()._check_fitted()
        if self.n_nonzero_coefs == AUTO and not hasattr(self, "n_nonzero_coefs_"):
            raise ValueError(
                "n_nonzero_coefs='auto' was set after a fit with a number: fit again, or set a "
                "number."
            )

    def _with_sparsity(self, settings, model, rows, ranks):
        if self.n_nonzero_coefs != AUTO:
            return settings
        self._check_repeatable(rows, ranks)

        def progress(note):
            return self._progress(ranks, note=f", {note}")

        k = own_sparsity(model, rows, settings, progress)
        return replace(settings, n_nonzero_coefs=k, chosen=True)

    def _check_repeatable(self, rows, ranks):
        """Refuse what a search over several fits cannot have."""
        reasons = {
            "an iterator, which can be gone through once": rows.one_pass,
            "a checkpoint, which keeps one of them": self.checkpoint is not None,
            "distributed=True": ranks.size > 1,
        }
        for reason, holds in reasons.items():
            if holds:
                raise ValueError(
                    f"n_nonzero_coefs='auto' takes several fits, and does not go with {reason}"
                    ". Fit to some of the rows first, in memory, and pass its n_nonzero_coefs_ "
                    "as n_nonzero_coefs here."
                )

    def _with_sparsity_of(self, before, settings):
        if self.n_nonzero_coefs != AUTO:
            return settings
        if before is None or "n_nonzero_coefs_" not in before.attributes:
            raise ValueError(
                "n_nonzero_coefs='auto' is chosen by fit, from whole passes over the rows. "
                "partial_fit needs a number, or a fit before it."
            )
        return replace(settings, n_nonzero_coefs=before.attributes["n_nonzero_coefs_"])


def pursuit_model(estimator, *, average: bool = False) -> MatchingPursuit:
    """The model of an estimator with the parameters of a matching pursuit."""
    return MatchingPursuit(
        average=average,
        # Compiled loops do not know every kind of number.
        tol=float(estimator.tol),
        atol=float(estimator.atol),
        stop_on_repeat=bool(estimator.stop_on_repeat),
        algorithm=str(estimator.transform_algorithm),
        positive=bool(estimator.positive_code),
        precision=str(estimator.precision),
        path_weight=float(estimator.path_weight),
    )


def check_path_weight(estimator) -> None:
    """Refuse a share of the loss on the prefixes of codes that have none.

    Raises
    ------
    ValueError
    """
    if estimator.path_weight and estimator.transform_algorithm != "mp":
        raise ValueError(
            f"path_weight={estimator.path_weight} needs transform_algorithm='mp' in training: "
            f"codes of {estimator.transform_algorithm!r} are refitted with each atom, and have "
            "no prefixes. Set path_weight=0, or transform_algorithm after the fit."
        )
