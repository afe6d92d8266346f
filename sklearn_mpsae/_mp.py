"""The sparse autoencoder whose encoder is matching pursuit."""

from __future__ import annotations

import os
from math import ceil
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ._base import BaseSparseAutoencoder
from ._compat import Interval, StrOptions
from ._docs import shared_docs
from .coding.codes import Codes
from .coding.pursuit import cheapest_path, check_orthogonal, pursue
from .coding.rules import Pursuit
from .learning.control import control, settle_threshold, start
from .learning.dictionary import unit_rows
from .learning.trainer import Step

# What to do where an orthogonal pursuit has no room.
_INSTEAD = "set transform_algorithm='mp'"

# With sparsity="average": how fast the threshold's logarithm follows the error of log L0,
# and how many times more than the average a row may take.
_GAIN = 0.05
_MOST = 4


@shared_docs
class MPSparseAutoencoder(BaseSparseAutoencoder):
    """Sparse autoencoder with matching pursuit as its encoder (MP-SAE).

    Codes are found one atom at a time: each step takes the atom that correlates best with
    what the earlier ones left of the row, and subtracts its part [1]_, [2]_. The dictionary
    is trained by gradient descent through all these steps. Unlike a shallow encoder, which
    sees the row only once, a pursuit can tell correlated atoms apart, and each atom lowers
    the error.

    Parameters
    ----------
    {n_components}
    n_nonzero_coefs : int or float, default=None
        The largest number of non-zero codes of a row, or with ``sparsity="average"`` their
        average number, which need not be whole. None for a tenth of the features, at least
        1. More than there are atoms is used as that many, with a warning.
    sparsity : {{"row", "average"}}, default="row"
        How rows share the codes. "row": each takes up to `n_nonzero_coefs`. "average": each
        takes as many as it needs, namely stops before an atom whose code would be at most
        `threshold_`, and training sets that so that rows have `n_nonzero_coefs` codes on
        average. Rows that were not learnt from may have others, on small data about 10 to
        20% more; `transform` and `score` warn where the average is surely off by more than a
        tenth. Where the data have true atoms and their number differs between rows, this
        finds them best (docs/study/superposition.md). After `fit`, "average" may be set to
        "row"; "row" has no threshold to be set to "average" with.
    tol : float, default=0.0
        A row takes no further atom once its squared residual is at most `tol` times its
        squared norm (after centring); so it does not depend on the data's scale.
    atol : float, default=0.0
        A row takes no further atom once its squared residual is at most `atol`, in squared
        units of the data (after centring): what scikit-learn's OMP calls `tol`, and the
        square of SAELens's ``residual_threshold``. As there, it is looked at after each
        atom: a row that is smaller than that has one code. SPAMS looks at its `eps` before
        each: there such a row has none.
    stop_on_repeat : bool, default=False
        Whether a row ends with an atom that it has already: the code of that atom is
        updated, and is the last. For matching pursuit; an orthogonal one takes no atom
        twice.
    transform_algorithm : {{"mp", "omp"}}, default="mp"
        The pursuit of `transform`. "mp": matching pursuit, the encoder that is trained; its
        codes are nested, and an atom may be taken again. "omp": orthogonal matching
        pursuit, which refits all codes with each atom (by non-negative least squares under
        `positive_code`). `fit` then also refines the dictionary on such codes, during the
        last part of the training.
    transform_n_nonzero_coefs : int, default=None
        The sparsity of `transform`, where it is to differ from the one trained with: the
        largest number of codes of a row, whatever `sparsity` is. It can be set after `fit`.
    positive_code : bool, default=True
        Whether codes must not be negative, as in the papers.
    precision : {{"full", "bfloat16"}}, default="full"
        How `fit` chooses atoms by matching pursuit. "full": by products in X's dtype.
        "bfloat16": by products in bfloat16, whose values are then computed in X's dtype;
        faster from some thousand atoms up, where the processor or GPU multiplies bfloat16
        (benchmarks/bench_large.py has by how much, and what it changes). `transform`
        always chooses in full.
    {training}
    dead_atoms : {{"revive", "keep"}}, default="revive"
        What to do with atoms that no row uses any more. "revive": point them at what the
        others leave of a badly reconstructed row: with ``sparsity="row"`` without its least
        code, which for one code a row is the row itself. "keep": nothing.
    dead_after : int, default=100
        The number of steps without use after which an atom is dead. A fit of fewer steps
        replaces none.
    {infrastructure}

    Attributes
    ----------
    {attributes}
    threshold_ : float
        What the code of a further atom must exceed, in units of the data; 0 unless
        ``sparsity="average"``.

    See Also
    --------
    TopKSAE : The same with a shallow encoder.
    sklearn.decomposition.DictionaryLearning : Dictionary learning with an L1 penalty.
    sklearn.linear_model.OrthogonalMatchingPursuit : Pursuit for a single target.

    Notes
    -----
    A batch is multiplied with the dictionary once, as by a shallow encoder; each atom then
    updates the correlations from the dictionary's Gram matrix, row by row, in cache. Where
    that would cost more than working on residuals (few rows), or not fit (many atoms), a
    cost model takes those, or multiplies rows of the Gram matrix as atoms are chosen.
    The gradient is the exact derivative of the unrolled pursuit; nothing of the unrolling
    is stored, so a batch takes memory for its rows and codes only.

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
        "n_nonzero_coefs": [Interval(Real, 0, None, closed="neither"), None],
        "sparsity": [StrOptions({"row", "average"})],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "atol": [Interval(Real, 0, None, closed="left")],
        "stop_on_repeat": ["boolean"],
        "transform_algorithm": [StrOptions({"mp", "omp"})],
        "precision": [StrOptions({"full", "bfloat16"})],
    }

    _free_norms = True
    _running_start = start("threshold")
    _level = "settled"

    def __init__(
        self,
        n_components: int | None = None,
        *,
        n_nonzero_coefs: float | None = None,
        sparsity: Literal["row", "average"] = "row",
        tol: float = 0.0,
        atol: float = 0.0,
        stop_on_repeat: bool = False,
        transform_algorithm: Literal["mp", "omp"] = "mp",
        transform_n_nonzero_coefs: int | None = None,
        positive_code: bool = True,
        precision: Literal["full", "bfloat16"] = "full",
        center: bool = True,
        max_iter: int | None = None,
        batch_size: int = 512,
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
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
        self.sparsity = sparsity
        self.tol = tol
        self.atol = atol
        self.stop_on_repeat = stop_on_repeat
        self.transform_algorithm = transform_algorithm
        self.transform_n_nonzero_coefs = transform_n_nonzero_coefs
        self.positive_code = positive_code
        self.precision = precision
        self.center = center
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.dict_init = dict_init
        self.dead_atoms = dead_atoms
        self.dead_after = dead_after
        self.sparse_output = sparse_output
        self.device = device
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.distributed = distributed
        self.verbose = verbose
        self.random_state = random_state

    def _initial_parameters(self, atoms):
        return {"components": atoms}

    def _fitted_parameters(self, scale):
        return {"components": self.components_}

    @property
    def _steers(self):
        return self.sparsity == "average"

    def _attributes(self, parameters, running, scale):
        threshold = running["settled"] * float(scale)
        return {"components_": parameters["components"], "threshold_": threshold}

    def _backward(self, kernels, parameters, X, now):
        W = parameters["components"]
        # Orthogonal codes want atoms of unit norm, and minimise the error themselves: its
        # derivative by them is zero, so the gradient is that of the decoder alone.
        plan, running = now.plan, now.running
        if self.transform_algorithm == "omp":
            check_orthogonal(kernels, W, _INSTEAD)  # now, not at the step that comes to need it
        orthogonal = plan.refine and self.transform_algorithm == "omp"
        k, threshold = ceil(plan.n_nonzero_coefs), 0.0
        average, coarse = self.sparsity == "average", self.precision == "bfloat16"
        if average:
            if running["threshold"] == 0:
                running["threshold"] = self._first_threshold(kernels, X, W, now)
            k, threshold = _most(k, len(W)), running["threshold"]
        indices, values = self._pursue(
            kernels, X, W, k, threshold, orthogonal, coarse, scale=now.scale
        )
        if average:
            self._steer(kernels, W, indices, values, now)
        if orthogonal:
            residual = X - kernels.decode(indices, values, W)
            gradient = -kernels.scatter_outer(indices, values, residual, len(W))
        else:
            residual, gradient = kernels.pursuit_gradient(X, W, indices, values)
        return Step(indices, values, residual, {"components": gradient})

    def _pursue(
        self, kernels, X, W, k, threshold, orthogonal, coarse=False, gram=None, scale=1.0
    ):
        """Codes of X, whose unit is `scale` of the data's."""
        return pursue(
            kernels,
            X,
            W,
            k,
            tol=float(self.tol),
            atol=float(self.atol) / scale / scale,
            stop_on_repeat=self.stop_on_repeat,
            threshold=threshold,
            positive=self.positive_code,
            orthogonal=orthogonal,
            coarse=coarse,
            gram=gram,
        )

    @staticmethod
    def _steer(kernels, W, indices, values, now):
        """Steer the threshold by the codes of a batch."""

        def compared(values):
            # A row ends at a code that is too small: a larger one after it does not count.
            return np.minimum.accumulate(np.abs(values), axis=1)

        values = kernels.to_numpy(values)
        sizes = compared(values)
        n_rows = control(now, "threshold", _GAIN, sizes)
        if not now.plan.sphere:
            # Atoms of unit norm, as `transform` has them, would have about these codes.
            norms = np.sqrt(kernels.energies(W))
            norms = np.where(norms > 0, norms, 1)
            sizes = compared(values / norms[kernels.to_numpy(indices)])
        settle_threshold(now, "threshold", sizes, n_rows)

    def _count(self, kernels, parameters, X, level, now):
        W = kernels.asarray(unit_rows(kernels.to_numpy(parameters["components"])))
        most, orthogonal = _most(now.plan.asked, len(W)), self.transform_algorithm == "omp"
        codes = self._pursue(kernels, X, W, most, level, orthogonal, scale=now.scale)
        # An atom that a row takes twice is one code.
        return Codes(*map(kernels.to_numpy, codes), len(W)).l0().sum()

    def _first_threshold(self, kernels, X, W, now):
        """What the codes of a batch must exceed to be as many as planned on average."""
        k = ceil(now.plan.n_nonzero_coefs)
        most = _most(k, len(W))
        _, values = self._pursue(kernels, X, W, most, 0.0, False, scale=now.scale)
        parts = now.ranks.gather(np.abs(kernels.to_numpy(values)).ravel())
        sizes = np.sort(np.concatenate(parts))[::-1]
        n_codes = round(k * now.totals(len(X))[0])
        return float(sizes[min(n_codes, len(sizes) - 1)])

    def _encoder(self, kernels, n_samples, k, dtype):
        k, threshold = k if isinstance(k, tuple) else (k, 0.0)
        W = kernels.asarray(self.components_.astype(dtype, copy=False))
        orthogonal = self.transform_algorithm == "omp"
        gram = None
        if orthogonal:
            check_orthogonal(kernels, W, _INSTEAD)
        if orthogonal or cheapest_path(n_samples, *W.shape, k, dtype.itemsize) == "gram":
            gram = kernels.gram(W)
        return lambda X: [self._pursue(kernels, X, W, k, threshold, orthogonal, gram=gram)]

    def _rule(self):
        if self.transform_algorithm == "omp":
            raise ValueError(
                "Orthogonal matching pursuit refits its codes with each atom, which has no "
                "counterpart there: set transform_algorithm='mp'."
            )
        k = self._transform_k()
        k, threshold = k if isinstance(k, tuple) else (k, 0.0)
        # No row has more energy than the dtype of the atoms has numbers for.
        largest = float(np.finfo(self.components_.dtype).max)
        return Pursuit(
            self.components_,
            self.intercept_,
            k,
            tol=float(self.tol),
            atol=min(float(self.atol), largest),
            once=self.stop_on_repeat,
            threshold=threshold,
            positive=self.positive_code,
        )

    def _fitted_k(self):
        """A number of steps, or a largest number and the threshold to stop by."""
        if self.sparsity == "row":
            return super()._fitted_k()
        if not self.threshold_ > 0:
            raise ValueError(
                "sparsity='average' needs the threshold that fit learns with it, and this "
                f"{type(self).__name__} was fitted with sparsity='row': fit again, or set "
                "sparsity='row' or transform_n_nonzero_coefs."
            )
        return _most(self._n_trained(), len(self.components_)), self.threshold_

    @property
    def _nested(self):
        return self.transform_algorithm != "omp"

    def _n_active(self, k, n_atoms, *, warn=False, name="n_nonzero_coefs"):
        if self.sparsity == "row" and k is not None and k != int(k):
            raise ValueError(
                f"n_nonzero_coefs={k} is not a whole number: pass one, or "
                "sparsity='average' for rows that have so many codes on average."
            )
        return super()._n_active(k, n_atoms, warn=warn, name=name)


def _most(k, n_atoms):
    """The most atoms that a row may take where k is the average."""
    return min(_MOST * ceil(k), n_atoms)
