"""How estimators learn: fits and streams, their checkpoints, and several processes."""

from __future__ import annotations

import copy
import os
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ._arrays import as_numpy, learns_from_input
from ._compat import UNDER_CALLBACKS, fit_context
from ._warn import warn
from .coding.kernels import open_kernels
from .learning.batches import Batches, Moments
from .learning.checkpoint import Checkpoint, Checksum, check_same, read
from .learning.control import missed, rescaled
from .learning.dictionary import checked_atoms, random_atoms, unit_rows
from .learning.distributed import open_ranks
from .learning.fit import Fit, unpack
from .learning.recipe import EXPLORE, fit_plan, stream_plan
from .learning.trainer import ENOUGH_ROWS, Trainer, TrainingState, check_finite
from .sources import RowsLike

# Parameters that change nothing of what `fit` learns.
_NOT_TRAINED_WITH = {
    *("checkpoint", "checkpoint_every", "verbose", "device"),
    *("sparse_output", "transform_n_nonzero_coefs"),
}

# A stream's scale is learnt from so many rows.
_SCALE_ROWS = 512

# Once it has explored, a stream brings its threshold up to date after so many steps.
_SETTLE_EVERY = 16

# Without max_iter, a fit takes as many epochs as make about so many steps.
_DEFAULT_STEPS = 1000


class LearnerMixin:
    """`fit`, `partial_fit` and `load_checkpoint` of `BaseSparseAutoencoder`."""

    @learns_from_input
    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: RowsLike, y: Any = None) -> Self:
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
            For data that are not finite and two-dimensional, or parameters that do not fit
            them; for files and streams that change or end while they are read, and for a
            checkpoint of another fit.
        OSError
            Where `checkpoint` cannot be read or written, before the training.
        RuntimeError
            With ``distributed=True``, where another process is lost.
        FloatingPointError
            If the loss stops being finite. After any error the estimator is as it was.

        Warns
        -----
        ConvergenceWarning
            If rows were to have `n_nonzero_coefs` codes on average, and the last training
            rows have another number, by more than a tenth; or if no row has any code.
        RuntimeWarning
            Where `checkpoint` can no longer be written: the disk is full, say, or another
            fit has written the file meanwhile. The fit goes on.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> sae.components_.shape, sae.n_iter_
        ((32, 64), 2)
        """
        with self._unchanged_on_error(), open_ranks(self.distributed) as ranks:
            source = self._source(X, reset=True)
            k = self._n_active(self.n_nonzero_coefs, self._n_atoms(source), warn=True)
            with open_kernels(self.device, source.dtype) as kernels:
                fit = self._begin(source, k, kernels, ranks)
                self._fit_epochs(X, y, fit)
            self._random_state = fit.trainer.random_state
            # A callback may have gone back to an earlier epoch.
            self._warn_if_missed()
        return self

    def _missed_l0(self):
        """The average number of codes of the last training rows, where it is not as asked.

        None where it is, within a tenth.
        """
        return missed(self._training_state.running, self._n_trained()) if self._steers else None

    def _warn_if_missed(self):
        """Say so where rows have another number of codes on average than asked for."""
        k, unused = self._n_trained(), np.mean(self.atom_usage_ == 0)
        l0 = 0.0 if unused == 1 else self._missed_l0()
        if l0 is None:
            return
        if l0 < k and unused:
            reason = (
                f"no row uses {unused:.0%} of the atoms. Lower learning_rate or "
                "n_nonzero_coefs, or set center=True or dead_atoms='revive'."
            )
        else:
            reason = (
                f"{self.n_steps_} training steps were too few to get there, or too large. "
                "Learn from more rows (a higher max_iter, or more calls of partial_fit), or "
                "lower learning_rate."
            )
        warn(
            f"Rows have {l0:.3g} codes on average, not the n_nonzero_coefs={k:g} asked for: "
            + reason,
            ConvergenceWarning,
        )

    def _begin(self, source, k, kernels, ranks):
        """The fit at its first step, or where it was interrupted."""
        self._check_agreement(source, ranks)
        checkpoint = self._checkpoint(source, ranks)
        saved = ranks.share(checkpoint.load() if checkpoint and ranks.rank == 0 else None)
        rows, checksum = source.survey(), Checksum()
        if ranks.share(checkpoint is not None):
            rows = checksum.over(rows)
        moments = Moments.merged(ranks.gather(Moments.of(rows)))
        checksums, orders = ranks.gather(checksum.value), ranks.gather(source.order)
        if checkpoint and ranks.rank == 0:
            data = {"n_rows": moments.n_rows, "checksums": checksums, "orders": orders}
            checkpoint.check_data(saved, data)
        center = moments.mean if self.center else np.zeros(source.n_features)
        scale = _scale(moments.energy_around(center), moments.n_rows)
        rows_of_ranks = ranks.gather(source.n_rows)
        # Numbers of NumPy's small types would overflow.
        batches = Batches(source, center, scale, rows_of_ranks, int(self.batch_size))
        n_iter = int(self.max_iter or 0) or -(-_DEFAULT_STEPS // batches.per_epoch)
        if n_iter > 1 and source.one_pass:
            raise ValueError(
                f"max_iter={n_iter} passes over an iterator that can be gone through once: "
                "set max_iter=1, or let batches start anew (a list, a DataLoader, a function "
                "that returns an iterator)."
            )
        n_atoms = self._n_atoms(source)
        warm = self._goes_on()
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
            self._trainer(kernels, parameters, state, random_state, ranks, scale),
            batches,
            lambda step: fit_plan(progress[step], k, n_atoms, free_norms=self._free_norms),
            n_iter,
            checkpoint,
        )
        if saved:
            fit.resume(*saved)
        return fit

    def _fit_epochs(self, X, y, fit):
        """Train for the epochs, with callbacks and a progress bar, and set what is fitted."""
        ranks, verbose = fit.trainer.ranks, self.verbose and fit.trainer.ranks.rank == 0

        def fitted():
            parameters, state = fit.result()
            batches = fit.batches
            return self._fitted(
                parameters,
                state,
                fit.trainer.usage,
                batches.center,
                batches.scale,
                batches.n_rows,
            ) | {"n_iter_": len(fit.losses), "loss_curve_": np.array(fit.losses)}

        # An autoencoder's target is its input; ScoringMonitor scores only where there is one.
        data = {"estimator": self, "X": X, "y": X if y is None else y}
        context = self._init_callback_context(max_subtasks=fit.n_iter)
        context.call_on_fit_task_begin(**data)
        for _ in fit.losses:  # the numbers of epochs before a checkpoint are taken
            context.subcontext(task_name="epoch")
        with _progress_bar(verbose, type(self).__name__, fit.n_iter, len(fit.losses)) as bar:
            while not fit.finished:
                epoch = context.subcontext(task_name="epoch")
                epoch.call_on_fit_task_begin(**data)
                fit.epoch()
                bar.update()
                bar.set_postfix(loss=f"{fit.losses[-1]:.4f}")
                stop = epoch.call_on_fit_task_end(**data, reconstruction_attributes=fitted)
                if ranks.sum(np.array([float(bool(stop))]))[0]:
                    break
        fit.finish()
        vars(self).update(fitted())
        context.call_on_fit_task_end(**data, reconstruction_attributes={})

    @learns_from_input
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """Learn from one more chunk of data, in steps of `batch_size` rows.

        The first call fixes the number of atoms, and the first 512 rows that vary give the
        scale of the data. `intercept_` follows the mean of all rows seen. Atoms stay on the
        unit sphere throughout, and the rate falls with the root of the number of steps. The
        first 200 steps explore with more codes per row than asked for; `transform` has the
        number asked for from the first call on. After `fit`, it goes on from there.

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

        Warns
        -----
        ConvergenceWarning
            As for `fit`; and where no rows so far vary, so that nothing was learnt.
        UserWarning
            Where `checkpoint` is set: only `fit` writes one.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4)
        >>> for chunk in (X[:600], X[600:1200], X[1200:]):
        ...     sae = sae.partial_fit(chunk)
        >>> sae.n_samples_seen_
        1797
        """
        if self.checkpoint is not None:
            warn(
                "partial_fit writes no checkpoint: save the estimator between calls, with "
                "sklearn_mpsae.persistence.save or joblib.dump, and set checkpoint=None.",
                UserWarning,
            )
        with self._unchanged_on_error(), open_ranks(self.distributed) as ranks:
            first = not hasattr(self, "components_")
            if not first and not hasattr(self, "_scale"):
                raise ValueError(
                    f"This {type(self).__name__} was imported, and has no stream to go on "
                    "with: set warm_start=True and call fit, which learns on from its atoms."
                )
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
            energy = _energy_beyond_rounding(moments, center, source.dtype)
            # Before the first step nothing has told a scale.
            begun = not first and self.n_steps_ > 0
            if begun:
                scale = self._scale_of_stream(energy, moments.n_rows)
            else:
                scale = _scale(energy, moments.n_rows)
            if first:
                random_state = ranks.share(check_random_state(self.random_state))
                parameters = self._start(source, scale, random_state)
                state, usage = TrainingState.new(parameters, self._running_start), 0
            else:
                # A copy, so that a call that fails draws nothing from the stream's.
                random_state = copy.deepcopy(self._random_state)
                state, usage = self._training_state, self.atom_usage_
                if begun:
                    running = rescaled(state.running, self._scale / scale)
                    state = replace(state, running=running)
                parameters = self._fitted_parameters(scale)
            batches = Batches(source, center, scale, rows_of_ranks, int(self.batch_size))
            explored = hasattr(self, "n_iter_")
            with open_kernels(self.device, source.dtype) as kernels:
                trainer = self._trainer(kernels, parameters, state, random_state, ranks, scale)
                n_settled = trainer.n_steps // _SETTLE_EVERY
                # Rows that do not vary tell neither a scale nor a direction: they are
                # counted, and learning begins with those that do.
                if energy > 0 or begun:
                    for batch in batches.epoch(ranks.order(random_state), kernels):
                        plan = stream_plan(trainer.n_steps, k, n_atoms, explored=explored)
                        trainer.step(batch, plan)
                    # Later a call of one step would take twice as long by it.
                    if not plan.refine or trainer.n_steps // _SETTLE_EVERY > n_settled:
                        trainer.settle(plan, least=ENOUGH_ROWS // 2)
                fitted = *trainer.finish(), trainer.usage + usage
            vars(self).update(self._fitted(*fitted, center, scale, n_before + n_rows))
            self._random_state = random_state
            if self.n_steps_:
                self._warn_if_missed()
            else:
                warn(
                    f"The {self.n_samples_seen_} rows so far do not vary by more than "
                    f"{source.dtype} rounds, and nothing was learnt from them. Learning begins "
                    "with the first chunk whose rows do; of a small variance around a large "
                    "mean, pass float64, or subtract the mean before.",
                    ConvergenceWarning,
                )
        return self

    def _scale_of_stream(self, energy, n_rows):
        """The scale of the data: that of the first rows of a stream, with these.

        energy : sum of the squared distances of these rows from the mean
        """
        n_before = self.n_samples_seen_
        if n_before >= _SCALE_ROWS or not energy:
            return self._scale
        return _scale(n_before * self._scale**2 + energy, n_before + n_rows)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> Self:
        """Take what a fit had learnt when it wrote its checkpoint, and learn no more.

        Names of features are taken too; nothing is left of what was fitted before.

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
        OSError
            Where it cannot be read.

        Examples
        --------
        >>> import os, tempfile
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = os.path.join(folder.name, "run.ckpt")
        >>> options = {"n_components": 32, "max_iter": 2, "random_state": 0}
        >>> sae = MPSparseAutoencoder(**options, checkpoint=path).fit(load_digits().data)
        >>> MPSparseAutoencoder(**options).load_checkpoint(path).n_iter_
        2
        >>> folder.cleanup()
        """
        with self._unchanged_on_error():
            facts, arrays = read(path)
            advice = "Give this estimator the parameters that it has, or name another file."
            check_same(path, facts["identity"], self._identity(), advice)
            parameters, state, random_state = unpack(facts, arrays)
            parameters["components"] = unit_rows(parameters["components"])
            self._forget()
            self._random_state = random_state
            self.n_features_in_ = parameters["components"].shape[1]
            if facts["feature_names"] is not None:
                self.feature_names_in_ = np.array(facts["feature_names"], dtype=object)
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

    def _forget(self):
        """Nothing is fitted any more."""
        fitted = {name for name in vars(self) if name.endswith("_") and name[:2] != "__"}
        for name in fitted | {"_home"}:
            vars(self).pop(name, None)

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
            zero = np.flatnonzero(~self.components_.any(axis=1))
            if len(zero):
                raise ValueError(
                    f"components_ has atoms of zeros (first: atom {zero[0]}), which point "
                    "nowhere, and warm_start cannot learn on from them: set warm_start=False, "
                    "and pass the others, with new ones in their place, as dict_init."
                )
            parameters = self._fitted_parameters(scale)
            return {name: array.astype(source.dtype) for name, array in parameters.items()}
        if self.dict_init is not None:
            atoms = checked_atoms(as_numpy(self.dict_init), shape, source.dtype)
        else:
            atoms = random_atoms(*shape, random_state, source.dtype)
        return self._initial_parameters(atoms)

    def _trainer(self, kernels, parameters, state, random_state, ranks, scale):
        return Trainer(
            kernels,
            self._backward,
            parameters,
            state,
            learning_rate=float(self.learning_rate),
            shares=self._rate_shares,
            directions=self._directions,
            dead_after=None if self.dead_atoms == "keep" else int(self.dead_after),
            revive=self.dead_atoms == "revive",
            level=self._level,
            count=self._count,
            steers=self._steers,
            random_state=random_state,
            ranks=ranks,
            scale=scale,
        )

    def _fitted(self, parameters, state, usage, center, scale, n_samples_seen):
        """The fitted attributes of what a trainer has learnt."""
        attributes = self._attributes(parameters, state.running, scale)
        # A parameter that is finite may have an exponential that is not.
        check_finite(attributes.values(), state.n_steps, self.learning_rate)
        return attributes | {
            "intercept_": np.asarray(center, dtype=parameters["components"].dtype),
            "atom_usage_": usage.copy(),
            "n_steps_": state.n_steps,
            "n_samples_seen_": n_samples_seen,
            # intercept_ in float32 would lose what each of many chunks adds to it.
            "_mean": np.asarray(center, dtype=np.float64),
            "_scale": float(scale),
            "_training_state": state,
        }

    def _running_mean(self, mean, n_rows, n_before):
        """The mean of all rows seen by `partial_fit`, these included."""
        if not self.center:
            return np.zeros_like(mean)
        if not n_before:
            return mean
        # Rows that are all the same have exactly the mean that they had.
        return self._mean + n_rows / (n_rows + n_before) * (mean - self._mean)

    # ------------------------------------------------- who learns, and what goes on
    def _goes_on(self):
        """Whether `fit` starts from what was learnt before."""
        return self.warm_start and hasattr(self, "components_")

    def _identity(self):
        """What a fit has to agree on with its checkpoint, and with the other ranks."""
        params = self.get_params(deep=False)
        names = set(params) - _NOT_TRAINED_WITH
        # A generator changes as it is used; the checkpoint has its state.
        if not isinstance(self.random_state, Integral):
            names.remove("random_state")
        plain = {name: _plain(params[name]) for name in sorted(names)}
        return {"estimator": type(self).__name__, "version": _version()} | plain

    def _checkpoint(self, source, ranks):
        if self.checkpoint is None:
            return None
        start = None
        if self._goes_on():
            start = joblib.hash([self._fitted_parameters(1.0), self._training_state.running])
        data = {"dtype": source.dtype.name, "n_features": source.n_features}
        identity = self._identity() | data | {"processes": ranks.size, "start": start}
        names = getattr(self, "feature_names_in_", None)
        names = None if names is None else list(map(str, names))
        return Checkpoint(self.checkpoint, self.checkpoint_every, identity, names)

    def _check_agreement(self, source, ranks):
        """All ranks must be about to do the same."""
        if ranks.size == 1:
            return
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

    @contextmanager
    def _unchanged_on_error(self):
        """Whatever goes wrong, leave the estimator as it was."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            callbacks = {name: vars(self)[name] for name in UNDER_CALLBACKS & set(vars(self))}
            vars(self).clear()
            vars(self).update(before | callbacks)
            raise


def _scale(energy, n_samples):
    """The root mean squared norm of rows, 1 where all are zero."""
    if not np.isfinite(energy):
        raise ValueError(
            "X is too large: its variance is more than float64 holds. Divide it by its "
            "largest value, say."
        )
    return float(np.sqrt(energy / n_samples)) or 1.0


def _energy_beyond_rounding(moments, center, dtype):
    """The energy of rows around a running mean; 0 where it is of the rows' rounding only."""
    energy = moments.energy_around(center)
    rounding = np.finfo(dtype).eps / 2 * np.linalg.norm(center)
    return energy if energy > moments.n_rows * rounding**2 else 0.0


def _progress_bar(verbose, title, n_iter, done):
    from tqdm import tqdm

    return tqdm(total=n_iter, initial=done, desc=title, unit="epoch", disable=not verbose)


def _plain(value):
    """A parameter as a value that JSON has, and that equal parameters share."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Real):
        return float(value)
    return joblib.hash(np.ascontiguousarray(as_numpy(value)))


def _version():
    from . import __version__

    return __version__
