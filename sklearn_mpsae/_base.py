"""The scikit-learn door: what every estimator of the package does. No arithmetic."""

from __future__ import annotations

import copy
import warnings
from abc import ABCMeta, abstractmethod
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from ._compat import CallbackSupportMixin, align_sparse, fit_context, without_torch
from .coding import Codes
from .coding.kernels import open_kernels
from .learning.batches import Batches, energy_of_rows, mean_of_rows
from .learning.control import missed
from .learning.dictionary import checked_atoms, random_atoms
from .learning.recipe import EXPLORE, fit_plan, stream_plan
from .learning.trainer import Trainer, TrainingState

# Without max_iter, a fit takes as many epochs as make about so many steps.
_DEFAULT_STEPS = 1000

# transform, score and reconstruction_path work on so many rows at a time.
_ROWS = 8192


class BaseSparseAutoencoder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Learns a dictionary of unit atoms, and codes rows sparsely with it.

    A child says how it encodes (`_encoder`), what it learns besides the dictionary
    (`_initial_parameters`, `_fitted_parameters`, `_attributes`), and the gradients of a
    batch (`_backward`).
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "transform_n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "positive_code": ["boolean"],
        "center": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "dict_init": ["array-like", None],
        "dead_atoms": [StrOptions({"revive", "keep"})],
        "dead_after": [Interval(Integral, 1, None, closed="left")],
        "sparse_output": ["boolean"],
        "device": [str],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    # Whether norms of atoms may be free early in a fit.
    _free_norms = False

    # The share of the learning rate that each parameter takes, 1 where not named.
    _rate_shares: dict = {}

    # What a training keeps account of besides its parameters: numbers, by name.
    _running_start: dict = {}

    # The one of these that keeps the average number of codes where it is to be, if any.
    _controlled: str | None = None

    # ------------------------------------------------------------ a child's part
    @abstractmethod
    def _initial_parameters(self, atoms):
        """What there is to learn, for these first atoms: a dict of arrays, a row per atom."""

    @abstractmethod
    def _fitted_parameters(self, scale):
        """The parameters to go on from, for data divided by `scale`."""

    @abstractmethod
    def _attributes(self, parameters, running, scale):
        """The fitted attributes of what was learnt: the inverse of `_fitted_parameters`."""

    @abstractmethod
    def _backward(self, kernels, parameters, X, plan, dead, running):
        """Codes, residuals and gradients of a batch, as a learning.trainer.Step.

        dead : indices of the atoms that have gone without use for long
        running : the numbers of `_running_start` as they are now, to be updated
        """

    @abstractmethod
    def _encoder(self, kernels, n_samples, k, dtype):
        """A function from centred rows on the device to their (indices, values).

        k : how many codes a row may have, or what `_transform_k` gives. There may be more
            or fewer slots than that.
        """

    # ------------------------------------------------------------------ learning
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn a dictionary from X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to learn from. float32 is computed in float32, all else in float64.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite, dense and two-dimensional, or parameters that do
            not fit them.
        FloatingPointError
            If the loss stops being finite. After any error the estimator is as it was.

        Warns
        -----
        ConvergenceWarning
            If rows were to have `n_nonzero_coefs` codes on average, and do not.
        """
        with self._unchanged_on_error():
            X = self._validate(X, reset=True)
            k = self._n_active(self.n_nonzero_coefs, self._n_atoms(X), warn=True)
            random_state = check_random_state(self.random_state)
            center = mean_of_rows(X) if self.center else np.zeros(X.shape[1])
            scale = _scale(energy_of_rows(X, center), len(X))
            warm = self.warm_start and hasattr(self, "components_")
            parameters = self._start(X, scale, random_state, warm=warm)
            batches = Batches(X, center, scale, self.batch_size)
            n_iter = self.max_iter or -(-_DEFAULT_STEPS // batches.per_epoch)
            n_steps = n_iter * batches.per_epoch
            # A warm start has explored already.
            progress = np.linspace(EXPLORE if warm else 0, 1, n_steps, endpoint=False)
            plans = (
                fit_plan(p, k, len(parameters["components"]), free_norms=self._free_norms)
                for p in progress
            )
            running = self._training_state.running if warm else self._running_start
            with open_kernels(self.device, X.dtype) as kernels:
                state = TrainingState.new(parameters, running)
                trainer = self._trainer(kernels, parameters, state, random_state)
                self._fit_epochs(X, trainer, batches, plans, n_iter)
            self._warn_if_missed(trainer.running, k)
            self._random_state = random_state
        return self

    def _warn_if_missed(self, running, k):
        """Say so where rows have another number of codes on average than asked for."""
        if self._controlled is None:
            return
        l0 = missed(running, self._controlled, k)
        if l0 is not None:
            warnings.warn(
                f"Rows have {l0:.3g} codes on average, not the n_nonzero_coefs={k:g} asked "
                f"for: {self.n_steps_} training steps were too few to get there, or too "
                "large. Raise max_iter or lower learning_rate.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _fit_epochs(self, X, trainer, batches, plans, n_iter):
        """Train for the epochs, with callbacks and a progress bar, and set what is fitted."""
        losses = []

        def fitted():
            attributes = self._fitted(trainer, batches.center, batches.scale, len(X))
            return attributes | {"n_iter_": len(losses), "loss_curve_": np.array(losses)}

        context = self._init_callback_context(max_subtasks=n_iter)
        context.call_on_fit_task_begin(estimator=self, X=X)
        with _progress_bar(self.verbose, type(self).__name__, n_iter) as bar:
            for _ in range(n_iter):
                epoch = context.subcontext(task_name="epoch")
                epoch.call_on_fit_task_begin(estimator=self, X=X)
                trainer.usage[:] = 0
                rows = batches.epoch(trainer.random_state, trainer.kernels)
                loss = sum(trainer.step(batch, next(plans)) for batch in rows)
                # The data were scaled to a mean energy of 1.
                losses.append(loss / len(X))
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.4f}")
                if epoch.call_on_fit_task_end(
                    estimator=self, X=X, reconstruction_attributes=fitted
                ):
                    break
        vars(self).update(fitted())
        context.call_on_fit_task_end(estimator=self, X=X, reconstruction_attributes=fitted)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn from one more chunk of data, in steps of `batch_size` rows.

        The first call fixes the number of atoms and the scale of the data, and `intercept_`
        follows the mean of all rows seen. Atoms stay on the unit sphere throughout, and the
        rate falls with the root of the number of steps. After `fit`, it goes on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to learn from.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError, FloatingPointError
            As for `fit`.
        """
        with self._unchanged_on_error():
            first = not hasattr(self, "components_")
            X = self._validate(X, reset=first)
            if not first:
                # One stream, one dtype: that of its state.
                X = X.astype(self.components_.dtype, copy=False)
            n_atoms = self._n_atoms(X) if first else len(self.components_)
            k = self._n_active(self.n_nonzero_coefs, n_atoms, warn=first)
            center = self._running_mean(X, first)
            if first:
                random_state = check_random_state(self.random_state)
                scale = _scale(energy_of_rows(X, center), len(X))
                parameters = self._start(X, scale, random_state)
                state = TrainingState.new(parameters, self._running_start)
            else:
                # A copy, so that a call that fails draws nothing from the stream's.
                random_state = copy.deepcopy(self._random_state)
                scale, state = self._scale, self._training_state
                parameters = self._fitted_parameters(scale)
            batches = Batches(X, center, scale, self.batch_size)
            with open_kernels(self.device, X.dtype) as kernels:
                trainer = self._trainer(kernels, parameters, state, random_state)
                for batch in batches.epoch(random_state, kernels):
                    plan = stream_plan(trainer.n_steps, k, n_atoms)
                    trainer.step(batch, plan)
            n_seen = len(X) + (0 if first else self.n_samples_seen_)
            vars(self).update(self._fitted(trainer, center, scale, n_seen))
            self._random_state = random_state
        return self

    def _start(self, X, scale, random_state, *, warm=False):
        """The parameters before the first step."""
        shape = (self._n_atoms(X), X.shape[1])
        if warm:
            if self.components_.shape != shape:
                raise ValueError(
                    f"warm_start needs data and n_components as in the last fit: components_ "
                    f"has shape {self.components_.shape}, this fit needs {shape}. Set "
                    "warm_start=False to start afresh."
                )
            parameters = self._fitted_parameters(scale)
            return {name: array.astype(X.dtype) for name, array in parameters.items()}
        if self.dict_init is not None:
            atoms = checked_atoms(self.dict_init, shape, X.dtype)
        else:
            atoms = random_atoms(*shape, random_state, X.dtype)
        return self._initial_parameters(atoms)

    def _trainer(self, kernels, parameters, state, random_state):
        return Trainer(
            kernels,
            self._backward,
            parameters,
            state,
            learning_rate=self.learning_rate,
            shares=self._rate_shares,
            dead_after=None if self.dead_atoms == "keep" else self.dead_after,
            revive=self.dead_atoms == "revive",
            random_state=random_state,
        )

    def _fitted(self, trainer, center, scale, n_samples_seen):
        """The fitted attributes at this point of the training."""
        parameters, state = trainer.finish()
        return self._attributes(parameters, state.running, scale) | {
            "intercept_": np.asarray(center, dtype=parameters["components"].dtype),
            "atom_usage_": trainer.usage.copy(),
            "n_steps_": state.n_steps,
            "n_samples_seen_": n_samples_seen,
            "_scale": float(scale),
            "_training_state": state,
        }

    def _running_mean(self, X, first):
        """The mean of all rows seen by `partial_fit`, these included."""
        if not self.center:
            return np.zeros(X.shape[1])
        if first:
            return mean_of_rows(X)
        share = len(X) / (len(X) + self.n_samples_seen_)
        return (1 - share) * self.intercept_ + share * mean_of_rows(X)

    # -------------------------------------------------------------------- using it
    def transform(self, X: ArrayLike) -> Any:
        """Sparse codes of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : ndarray or CSR of shape (n_samples, n_components)
            The codes, in X's dtype (float32 or float64); CSR with ``sparse_output=True``,
            an array or a matrix as scikit-learn's ``sparse_interface`` setting says.
        """
        codes = self.encode(X)
        return align_sparse(codes.csr()) if self.sparse_output else codes.dense()

    def encode(self, X: ArrayLike) -> Codes:
        """Sparse codes of X as they were found: which atoms, in which order, which values.

        What `transform` gives, before it is laid out as a matrix.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : sklearn_mpsae.coding.Codes
            Slots are in the order in which a pursuit took the atoms; for shallow encoders
            from the largest code down.
        """
        X = self._validate_fitted(X)
        return Codes.stack([part for _, part in self._codes(X, self._transform_k())])

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """Reconstruct rows from codes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_components)
            Codes, as `transform` gives them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            The reconstruction, ``X @ components_ + intercept_``.
        """
        check_is_fitted(self)
        codes = check_array(
            without_torch(X), accept_sparse="csr", dtype=[np.float64, np.float32]
        )
        if codes.shape[1] != len(self.components_):
            raise ValueError(
                f"X has {codes.shape[1]} columns, but {type(self).__name__} has "
                f"{len(self.components_)} components: pass codes as transform gives them."
            )
        components = self.components_.astype(codes.dtype, copy=False)
        return safe_sparse_dot(codes, components) + self.intercept_.astype(codes.dtype)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Explained variance R² of the reconstruction, so that grid search can use it.

        ``1 - sum((X - X_hat) ** 2) / sum((X - X.mean(axis=0)) ** 2)``: 1 is perfect, 0 no
        better than the mean of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        y : None
            Ignored.

        Returns
        -------
        r2 : float
            NaN where X has no variance, as for a single row.
        """
        X = self._validate_fitted(X)
        return float(1 - self._unexplained(X, self._transform_k())[-1])

    def reconstruction_path(
        self, X: ArrayLike, n_nonzero_coefs: int | None = None
    ) -> np.ndarray:
        """Share of X's variance that is unexplained after 1, 2, ... k atoms.

        Codes of a matching pursuit (and of TopK) are nested: those for fewer atoms are the
        first ones of those for more. So one encode gives the whole path, and
        ``1 - reconstruction_path(X)[k - 1]`` is the score with k atoms. Orthogonal matching
        pursuit refits its codes with each atom: there the path takes k encodes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        n_nonzero_coefs : int, default=None
            How far to go; None for as far as `transform` does.

        Returns
        -------
        path : ndarray of shape (n_nonzero_coefs,)
            ``sum((X - X_hat) ** 2) / sum((X - X.mean(axis=0)) ** 2)`` for each number of
            atoms.
        """
        X = self._validate_fitted(X)
        if n_nonzero_coefs is not None and n_nonzero_coefs < 1:
            raise ValueError(f"n_nonzero_coefs must be at least 1, got {n_nonzero_coefs}.")
        if n_nonzero_coefs is None:
            return self._unexplained(X, self._transform_k(), path=True)
        k = self._n_active(n_nonzero_coefs, len(self.components_))
        path = self._unexplained(X, k, path=True)
        # Where no row has so many, it stays where the last one left it.
        return np.pad(path, (0, k - len(path)), "edge")

    def _codes(self, X, k):
        """Yield rows (a slice) and their Codes, some thousand rows at a time."""
        center = self.intercept_.astype(X.dtype)
        with open_kernels(self.device, X.dtype) as kernels:
            encode = self._encoder(kernels, len(X), k, X.dtype)
            for rows in gen_batches(len(X), _ROWS):
                codes = encode(kernels.asarray(X[rows] - center))
                yield rows, Codes(*map(kernels.to_numpy, codes), len(self.components_))

    def _unexplained(self, X, k, *, path=False):
        """Unexplained share of the variance: of all codes, or of the first 1, 2, ... ones."""
        variance = energy_of_rows(X, mean_of_rows(X))
        errors = self._squared_errors(X, k, path)
        return errors / variance if variance > 0 else np.full_like(errors, np.nan)

    def _squared_errors(self, X, k, path):
        center = self.intercept_.astype(X.dtype)
        dictionary = self.components_.astype(X.dtype, copy=False)
        errors = []
        with open_kernels(self.device, X.dtype) as kernels:
            W = kernels.asarray(dictionary)
            for rows, codes in self._codes(X, k):
                indices, values = kernels.asarray(codes.indices), kernels.asarray(codes.values)
                R = kernels.asarray(X[rows] - center)
                n_slots = codes.indices.shape[1]
                cuts = [slice(t, t + 1) for t in range(n_slots)] if path else [slice(None)]
                part = []
                for cut in cuts:
                    R = R - kernels.decode(indices[:, cut], values[:, cut], W)
                    part.append(kernels.energies(R).sum())
                errors.append(part)
        # A part with fewer slots than others stays where its last one left it.
        longest = max(map(len, errors))
        return sum(np.pad(part, (0, longest - len(part)), "edge") for part in errors)

    # ------------------------------------------------------------------- validation
    def _validate(self, X, *, reset):
        return validate_data(
            self, without_torch(X), reset=reset, dtype=[np.float64, np.float32], order="C"
        )

    def _validate_fitted(self, X):
        check_is_fitted(self)
        return self._validate(X, reset=False)

    def _n_atoms(self, X):
        return X.shape[1] if self.n_components is None else self.n_components

    def _n_active(self, k, n_atoms, *, warn=False):
        """How many non-zero codes: k or a tenth of the features, at most all atoms."""
        if k is None:
            return min(max(1, self.n_features_in_ // 10), n_atoms)
        if k > n_atoms and warn:
            warnings.warn(
                f"n_nonzero_coefs={k} is more than the {n_atoms} components there are: "
                f"{n_atoms} is used.",
                UserWarning,
                stacklevel=4,
            )
        return min(k, n_atoms)

    def _transform_k(self):
        """The k for `_encoder` that `transform` uses."""
        k = self.transform_n_nonzero_coefs or self.n_nonzero_coefs
        return self._n_active(k, len(self.components_))

    @contextmanager
    def _unchanged_on_error(self):
        """Whatever goes wrong, leave the estimator as it was."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    # ---------------------------------------------------------------- scikit-learn
    @property
    def _n_features_out(self):
        return len(self.components_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _scale(energy, n_samples):
    """The root mean squared norm of rows, 1 where all are zero."""
    return float(np.sqrt(energy / n_samples)) or 1.0


def _progress_bar(verbose, title, n_iter):
    from tqdm import tqdm

    return tqdm(total=n_iter, desc=title, unit="epoch", disable=not verbose)
