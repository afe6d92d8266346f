"""The scikit-learn door: what every estimator of the package does. No arithmetic."""

from __future__ import annotations

import copy
import os
import warnings
from abc import ABCMeta, abstractmethod
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Self

import joblib
import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from ._compat import CallbackSupportMixin, align_sparse, as_numpy, fit_context
from .coding import Codes, save_codes
from .coding.kernels import open_kernels
from .learning.batches import Batches, Moments
from .learning.checkpoint import Checkpoint, check_same, read
from .learning.control import missed
from .learning.dictionary import checked_atoms, random_atoms, unit_rows
from .learning.distributed import open_ranks
from .learning.fit import Fit, unpack
from .learning.recipe import EXPLORE, fit_plan, stream_plan
from .learning.trainer import Trainer, TrainingState
from .sources import ArrayRows, BatchStream, NpyFiles, SparseRows, StreamRows, file_rows

# Without max_iter, a fit takes as many epochs as make about so many steps.
_DEFAULT_STEPS = 1000

# What a stream that does not tell its number of rows is taken to have.
_MANY_ROWS = 10_000_000


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
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_every": [Interval(Real, 0, None, closed="left")],
        "distributed": ["boolean"],
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
    def _backward(self, kernels, parameters, X, now):
        """Codes, residuals and gradients of a batch, as a learning.trainer.Step.

        now : learning.trainer.Now
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
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to learn from: an array, a data frame or a sparse matrix, or rows that are
            read as they are needed, namely a `numpy.memmap` or one of
            `sklearn_mpsae.sources` (files, streams of batches). float32 and float16 are
            computed in float32, all else in float64.
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
        with self._unchanged_on_error(), open_ranks(self.distributed) as ranks:
            source = self._source(X, reset=True)
            k = self._n_active(self.n_nonzero_coefs, self._n_atoms(source), warn=True)
            with open_kernels(self.device, source.dtype) as kernels:
                fit = self._begin(source, k, kernels, ranks)
                self._fit_epochs(X, fit)
            self._warn_if_missed(fit.trainer.running, k)
            self._random_state = fit.trainer.random_state
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

    def _begin(self, source, k, kernels, ranks):
        """The fit at its first step, or where it was interrupted."""
        self._check_agreement(source, ranks)
        moments = Moments.merged(ranks.gather(Moments.of(source.survey())))
        center = moments.mean if self.center else np.zeros(source.n_features)
        scale = _scale(moments.energy_around(center), moments.n_rows)
        batches = Batches(source, center, scale, ranks.gather(source.n_rows), self.batch_size)
        n_iter = self.max_iter or -(-_DEFAULT_STEPS // batches.per_epoch)
        if n_iter > 1 and source.one_pass:
            raise ValueError(
                f"max_iter={n_iter} passes over an iterator that can be gone through once: "
                "set max_iter=1, or let batches start anew (a list, a DataLoader, a function "
                "that returns an iterator)."
            )
        n_atoms = self._n_atoms(source)
        warm = self.warm_start and hasattr(self, "components_")
        checkpoint = self._checkpoint(source, ranks)
        saved = ranks.share(checkpoint.load() if checkpoint and ranks.rank == 0 else None)
        if saved:
            parameters, state, random_state = unpack(*saved)
        else:
            random_state = ranks.share(check_random_state(self.random_state))
            parameters = self._start(source, scale, random_state, warm=warm)
            running = self._training_state.running if warm else self._running_start
            state = TrainingState.new(parameters, running)
        # A warm start has explored already.
        progress = np.linspace(
            EXPLORE if warm else 0, 1, n_iter * batches.per_epoch, endpoint=False
        )
        fit = Fit(
            self._trainer(kernels, parameters, state, random_state, ranks),
            batches,
            lambda step: fit_plan(progress[step], k, n_atoms, free_norms=self._free_norms),
            n_iter,
            checkpoint,
        )
        if saved:
            fit.resume(*saved)
        return fit

    def _fit_epochs(self, X, fit):
        """Train for the epochs, with callbacks and a progress bar, and set what is fitted."""
        ranks, verbose = fit.trainer.ranks, self.verbose and fit.trainer.ranks.rank == 0

        def fitted():
            parameters, state = fit.trainer.finish()
            batches = fit.batches
            return self._fitted(
                parameters,
                state,
                fit.trainer.usage,
                batches.center,
                batches.scale,
                batches.n_rows,
            ) | {"n_iter_": len(fit.losses), "loss_curve_": np.array(fit.losses)}

        context = self._init_callback_context(max_subtasks=fit.n_iter)
        context.call_on_fit_task_begin(estimator=self, X=X)
        with _progress_bar(verbose, type(self).__name__, fit.n_iter, len(fit.losses)) as bar:
            while not fit.finished:
                epoch = context.subcontext(task_name="epoch")
                epoch.call_on_fit_task_begin(estimator=self, X=X)
                fit.epoch()
                bar.update()
                bar.set_postfix(loss=f"{fit.losses[-1]:.4f}")
                stop = epoch.call_on_fit_task_end(
                    estimator=self, X=X, reconstruction_attributes=fitted
                )
                if ranks.sum(np.array([float(bool(stop))]))[0]:
                    break
        fit.finish()
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
        X : array-like, CSR or source of shape (n_samples, n_features)
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
        with self._unchanged_on_error(), open_ranks(self.distributed) as ranks:
            first = not hasattr(self, "components_")
            # One stream, one dtype: that of its state.
            source = self._source(X, first, None if first else self.components_.dtype)
            self._check_agreement(source, ranks)
            n_atoms = self._n_atoms(source) if first else len(self.components_)
            k = self._n_active(self.n_nonzero_coefs, n_atoms, warn=first)
            moments = Moments.merged(ranks.gather(Moments.of(source.survey())))
            rows_of_ranks = ranks.gather(source.n_rows)
            n_rows = sum(rows_of_ranks)
            n_before = 0 if first else self.n_samples_seen_
            center = self._running_mean(moments.mean, n_rows, n_before)
            if first:
                random_state = ranks.share(check_random_state(self.random_state))
                scale = _scale(moments.energy_around(center), moments.n_rows)
                parameters = self._start(source, scale, random_state)
                state = TrainingState.new(parameters, self._running_start)
            else:
                # A copy, so that a call that fails draws nothing from the stream's.
                random_state = copy.deepcopy(self._random_state)
                scale, state = self._scale, self._training_state
                parameters = self._fitted_parameters(scale)
            batches = Batches(source, center, scale, rows_of_ranks, self.batch_size)
            with open_kernels(self.device, source.dtype) as kernels:
                trainer = self._trainer(kernels, parameters, state, random_state, ranks)
                for batch in batches.epoch(ranks.order(random_state), kernels):
                    trainer.step(batch, stream_plan(trainer.n_steps, k, n_atoms))
                fitted = *trainer.finish(), trainer.usage
            vars(self).update(self._fitted(*fitted, center, scale, n_before + n_rows))
            self._random_state = random_state
        return self

    def load_checkpoint(self, path: str | os.PathLike) -> Self:
        """Take what a fit had learnt when it wrote its checkpoint, and learn no more.

        Parameters
        ----------
        path : path-like
            A file that a `fit` with `checkpoint` wrote, of an estimator with the same
            parameters.

        Returns
        -------
        self : object
            The estimator, fitted as far as that.

        Raises
        ------
        ValueError
            Where the file is damaged, or of another estimator.
        """
        with self._unchanged_on_error():
            facts, arrays = read(path)
            check_same(path, facts["identity"], self._identity())
            parameters, state, self._random_state = unpack(facts, arrays)
            parameters["components"] = unit_rows(parameters["components"])
            self.n_features_in_ = parameters["components"].shape[1]
            fitted = self._fitted(
                parameters,
                state,
                arrays["usage"],
                arrays["center"],
                facts["scale"],
                facts["n_rows"],
            )
            losses = np.array(facts["losses"])
            vars(self).update(fitted, n_iter_=len(losses), loss_curve_=losses)
        return self

    def _start(self, source, scale, random_state, *, warm=False):
        """The parameters before the first step."""
        shape = (self._n_atoms(source), source.n_features)
        if warm:
            if self.components_.shape != shape:
                raise ValueError(
                    f"warm_start needs data and n_components as in the last fit: components_ "
                    f"has shape {self.components_.shape}, this fit needs {shape}. Set "
                    "warm_start=False to start afresh."
                )
            parameters = self._fitted_parameters(scale)
            return {name: array.astype(source.dtype) for name, array in parameters.items()}
        if self.dict_init is not None:
            atoms = checked_atoms(self.dict_init, shape, source.dtype)
        else:
            atoms = random_atoms(*shape, random_state, source.dtype)
        return self._initial_parameters(atoms)

    def _trainer(self, kernels, parameters, state, random_state, ranks):
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
            ranks=ranks,
        )

    def _fitted(self, parameters, state, usage, center, scale, n_samples_seen):
        """The fitted attributes of what a trainer has learnt."""
        return self._attributes(parameters, state.running, scale) | {
            "intercept_": np.asarray(center, dtype=parameters["components"].dtype),
            "atom_usage_": usage.copy(),
            "n_steps_": state.n_steps,
            "n_samples_seen_": n_samples_seen,
            "_scale": float(scale),
            "_training_state": state,
        }

    def _running_mean(self, mean, n_rows, n_before):
        """The mean of all rows seen by `partial_fit`, these included."""
        if not self.center:
            return np.zeros_like(mean)
        if not n_before:
            return mean
        share = n_rows / (n_rows + n_before)
        return (1 - share) * self.intercept_ + share * mean

    # ------------------------------------------------- who learns, and what goes on
    def _identity(self):
        """What a fit has to agree on with its checkpoint, and with the other ranks."""
        no_matter = {"checkpoint", "checkpoint_every", "verbose", "device", "sparse_output"}
        params = self.get_params(deep=False)
        # A generator changes as it is used; the checkpoint has its state.
        if not isinstance(self.random_state, Integral):
            no_matter.add("random_state")
        plain = {name: _plain(params[name]) for name in sorted(set(params) - no_matter)}
        return {"estimator": type(self).__name__, "version": _version()} | plain

    def _checkpoint(self, source, ranks):
        if self.checkpoint is None:
            return None
        data = {"dtype": source.dtype.name, "n_features": source.n_features}
        identity = self._identity() | data | {"processes": ranks.size}
        return Checkpoint(self.checkpoint, self.checkpoint_every, identity)

    def _check_agreement(self, source, ranks):
        """All ranks must be about to do the same."""
        data = {"dtype": source.dtype.name, "n_features": source.n_features}
        of_ranks = ranks.gather(self._identity() | data)
        for rank, other in enumerate(of_ranks):
            differing = [name for name in of_ranks[0] if of_ranks[0][name] != other[name]]
            if differing:
                raise ValueError(
                    f"Rank {rank} differs from rank 0 in "
                    + ", ".join(f"{n} ({other[n]!r}, {of_ranks[0][n]!r})" for n in differing)
                    + ": all ranks need the same parameters, features and dtype."
                )

    # -------------------------------------------------------------------- using it
    def transform(self, X: ArrayLike) -> Any:
        """Sparse codes of X.

        Parameters
        ----------
        X : array-like, CSR or source of shape (n_samples, n_features)
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
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : sklearn_mpsae.coding.Codes
            Slots are in the order in which a pursuit took the atoms; for shallow encoders
            from the largest code down.
        """
        source = self._source_to_code(X)
        return Codes.stack([part for _, part in self._codes(source, self._transform_k())])

    def transform_to(self, X: ArrayLike, folder: str | os.PathLike) -> csr_array:
        """Sparse codes of X, written to disk as they are found.

        Parameters
        ----------
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to encode, some thousand at a time.
        folder : path-like
            A folder that does not exist yet. It gets the three arrays of a CSR matrix as
            .npy files; `sklearn_mpsae.coding.load_codes` opens it again.

        Returns
        -------
        codes : csr_array of shape (n_samples, n_components)
            What `transform` with ``sparse_output=True`` gives, mapped from the files: it
            takes no memory but for what is used of it.

        Raises
        ------
        FileExistsError
            Where there is such a folder.
        """
        source = self._source_to_code(X)
        k = self._transform_k()
        per_row = k[0] if isinstance(k, tuple) else k or len(self.components_)
        most = (source.n_rows or _MANY_ROWS) * per_row
        return save_codes(folder, (part.csr() for _, part in self._codes(source, k)), most)

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
        codes = check_array(as_numpy(X), accept_sparse="csr", dtype=[np.float64, np.float32])
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
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to reconstruct.
        y : None
            Ignored.

        Returns
        -------
        r2 : float
            NaN where X has no variance, as for a single row.
        """
        source = self._source_to_code(X)
        return float(1 - self._unexplained(source, self._transform_k())[-1])

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
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to reconstruct.
        n_nonzero_coefs : int, default=None
            How far to go; None for as far as `transform` does.

        Returns
        -------
        path : ndarray of shape (n_nonzero_coefs,)
            ``sum((X - X_hat) ** 2) / sum((X - X.mean(axis=0)) ** 2)`` for each number of
            atoms.
        """
        source = self._source_to_code(X)
        if n_nonzero_coefs is not None and n_nonzero_coefs < 1:
            raise ValueError(f"n_nonzero_coefs must be at least 1, got {n_nonzero_coefs}.")
        if n_nonzero_coefs is None:
            return self._unexplained(source, self._transform_k(), path=True)
        k = self._n_active(n_nonzero_coefs, len(self.components_))
        path = self._unexplained(source, k, path=True)
        # Where no row has so many, it stays where the last one left it.
        return np.pad(path, (0, k - len(path)), "edge")

    def _codes(self, source, k):
        """Yield rows and their Codes, some thousand rows at a time."""
        center = self.intercept_.astype(source.dtype)
        with open_kernels(self.device, source.dtype) as kernels:
            encode = self._encoder(kernels, source.n_rows or _MANY_ROWS, k, source.dtype)
            for rows in source.chunks():
                codes = encode(kernels.asarray(rows - center))
                yield rows, Codes(*map(kernels.to_numpy, codes), len(self.components_))

    def _unexplained(self, source, k, *, path=False):
        """Unexplained share of the variance: of all codes, or of the first 1, 2, ... ones."""
        if source.one_pass:
            raise ValueError(
                "The score needs two passes over the data, and this iterator can be gone "
                "through once: pass something that starts anew."
            )
        variance = Moments.of(source.chunks()).energy
        errors = self._squared_errors(source, k, path)
        return errors / variance if variance > 0 else np.full_like(errors, np.nan)

    def _squared_errors(self, source, k, path):
        center = self.intercept_.astype(source.dtype)
        dictionary = self.components_.astype(source.dtype, copy=False)
        errors = []
        with open_kernels(self.device, source.dtype) as kernels:
            W = kernels.asarray(dictionary)
            for rows, codes in self._codes(source, k):
                indices, values = kernels.asarray(codes.indices), kernels.asarray(codes.values)
                R = kernels.asarray(rows - center)
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
    def _source(self, X, reset, dtype=None):
        """The rows of X; to be computed in `dtype`, where that is given."""
        if isinstance(X, BatchStream):
            source = StreamRows(X)
        elif isinstance(X, NpyFiles):
            source = X
        elif isinstance(X, np.memmap) and X.filename is not None and X.ndim == 2 and len(X):
            source = file_rows(X)
        else:
            X = validate_data(
                self,
                as_numpy(X),
                reset=reset,
                accept_sparse="csr",
                dtype=[np.float64, np.float32] if dtype is None else dtype,
                order="C",
            )
            return SparseRows(X) if issparse(X) else ArrayRows(X)
        # Only the number of features can be told without reading all of it.
        validate_data(
            self, np.empty((1, source.n_features)), reset=reset, skip_check_array=True
        )
        return source if dtype is None else source.computed_in(dtype)

    def _source_to_code(self, X):
        check_is_fitted(self)
        return self._source(X, reset=False)

    def _n_atoms(self, source):
        return source.n_features if self.n_components is None else self.n_components

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
        tags.input_tags.sparse = True
        return tags


def _scale(energy, n_samples):
    """The root mean squared norm of rows, 1 where all are zero."""
    return float(np.sqrt(energy / n_samples)) or 1.0


def _progress_bar(verbose, title, n_iter, done):
    from tqdm import tqdm

    return tqdm(total=n_iter, initial=done, desc=title, unit="epoch", disable=not verbose)


def _plain(value):
    """A parameter as a value that JSON has, and that equal parameters share."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | Real):
        return value
    return joblib.hash(np.asarray(value))


def _version():
    from . import __version__

    return __version__
