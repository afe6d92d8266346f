"""scikit-learn's interface: what every estimator of the package does. No arithmetic."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._array_api import as_numpy, follows_input
from .._compat import Interval, StrOptions, fit_context
from .._version import __version__
from .._warn import warn
from ..learning.distributed import open_ranks
from ..learning.identity import identity_of
from ..learning.progress import Progress
from ..learning.run import Run, open_run, stream
from ..learning.saved import from_checkpoint
from ..learning.settings import INTERCEPTS, Settings
from ..models.base import Model, check_model
from ..models.steering import l0_if_missed
from ..rows.open import RowsLike, open_rows
from ._encoder import BaseEncoder
from ._sparsity import at_most_all, default_sparsity

# A call of `partial_fit` that takes fewer seconds shows no bar: there may be many of them.
_DELAY = 1.0


class BaseSparseAutoencoder(BaseEncoder):
    """Learns a dictionary of unit atoms, and codes rows sparsely with it.

    A child has a signature, a docstring, and `_model`, which makes its model (see
    `sklearn_mpsae.models`).
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "transform_n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "intercept": [StrOptions(INTERCEPTS)],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
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

    n_nonzero_coefs: float | None
    intercept: str
    max_iter: int | None
    batch_size: int | Literal["auto"]
    learning_rate: float
    dead_atoms: str
    dead_after: int
    warm_start: bool
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: float
    distributed: bool
    verbose: int
    random_state: int | np.random.RandomState | None

    @follows_input
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
        ImportError
            If a parameter needs torch, and torch is not installed.
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
            rows = open_rows(self, X, reset=True)
            settings = self._settings(rows.n_features)
            before = self._learnt if self.warm_start else None
            progress = self._progress(ranks)
            model = self._model_to_train()
            settings = self._with_sparsity(settings, model, rows, ranks)
            with progress, open_run(model, rows, settings, ranks, before, progress) as run:
                self._train(run, X, y)
            progress.end(self._learnt)
            # A callback may have gone back to an earlier epoch.
            self._warn_if_missed()
        return self

    def _train(self, run: Run, X, y):
        """Train for the epochs, with callbacks, and set what is learnt."""
        ranks = run.trainer.ranks

        def learnt():
            return {"_learnt": run.result()}

        # An autoencoder's target is its input; ScoringMonitor scores only where there is one.
        data = {"estimator": self, "X": X, "y": X if y is None else y}
        context = self._init_callback_context(max_subtasks=run.n_iter)
        context.call_on_fit_task_begin(**data)
        for _ in run.losses:  # the numbers of epochs before a checkpoint are taken
            context.subcontext(task_name="epoch")
        while not run.finished:
            epoch = context.subcontext(task_name="epoch")
            epoch.call_on_fit_task_begin(**data)
            run.epoch()
            stop = epoch.call_on_fit_task_end(**data, reconstruction_attributes=learnt)
            if ranks.sum(np.array([float(bool(stop))]))[0]:
                break
        run.finish()
        self._learnt = run.result()
        context.call_on_fit_task_end(**data, reconstruction_attributes={})

    @follows_input
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: RowsLike, y: Any = None) -> Self:
        """Learn from one more chunk of data, in steps of `batch_size` rows.

        The first call fixes `n_components`, `intercept` and, where there is one, `whitening`:
        others raise an error later. Only the first call uses `dict_init` and `random_state`.
        The first 512 rows that vary give the scale of the data. `intercept_` follows the mean
        of all rows since then; what is learnt with ``intercept="learn"`` is the distance from
        it. Atoms stay on the unit sphere throughout, and the rate falls with the root of the
        number of steps. The first 200 steps explore with more codes per row than asked for;
        `transform` has the number asked for from the first call on. After `fit`, it goes on
        from there.

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
            before = self._learnt
            if before is not None and before.training is None:
                raise ValueError(
                    f"This {type(self).__name__} was imported, and has no stream to go on "
                    "with: set warm_start=True and call fit once; partial_fit goes on from "
                    "there. A low learning_rate keeps the atoms close to the imported ones."
                )
            # One stream, one dtype: that of its state.
            dtype = None if before is None else before.attributes["components_"].dtype
            rows = open_rows(self, X, reset=before is None, dtype=dtype)
            settings = self._settings(rows.n_features, before)
            settings = self._with_sparsity_of(before, settings)
            model = self._model_to_train()
            with self._progress(ranks, delay=_DELAY) as progress:
                self._learnt = stream(model, rows, settings, ranks, before, progress)
            if self.n_steps_:
                self._warn_if_missed()
            else:
                warn(
                    f"The {self.n_samples_seen_} rows so far do not vary by more than "
                    f"{rows.dtype} rounds, and nothing was learnt from them. Learning begins "
                    "with the first chunk whose rows do; of a small variance around a large "
                    "mean, pass float64, or subtract the mean before.",
                    ConvergenceWarning,
                )
        return self

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
            model, identity, rate = (
                self._model_to_train(),
                self._identity(),
                float(self.learning_rate),
            )
            learnt, names = from_checkpoint(model, identity, rate, path)
            for name in ("feature_names_in_", "_origin"):
                vars(self).pop(name, None)
            self.n_features_in_ = learnt.attributes["components_"].shape[1]
            if names is not None:
                self.feature_names_in_ = np.array(names, dtype=object)
            self._learnt = learnt
        return self

    # ------------------------------------------------------------------- from within
    def _model_to_train(self) -> Model:
        """The model of these parameters, found to be complete."""
        model = self._model()
        check_model(model)
        self._check_declared(model.fitted)
        return model

    def _settings(self, n_features: int, before=None) -> Settings:
        """How to train; `before` is what a stream goes on from."""
        goes_on = before is not None and self.n_components is None
        n_atoms = self._n_features_out if goes_on else self._n_atoms(n_features)
        names = getattr(self, "feature_names_in_", None)
        # The identity costs as much as some training steps.
        compared = self.checkpoint is not None or self.distributed
        return Settings(
            n_components=n_atoms,
            n_nonzero_coefs=self._n_asked(n_features, n_atoms, warned=before is not None),
            learning_rate=float(self.learning_rate),
            # Numbers of NumPy's small types would overflow.
            max_iter=None if self.max_iter is None else int(self.max_iter),
            batch_size=None if self.batch_size == "auto" else int(self.batch_size),
            intercept=self.intercept,
            whitening=self._whitening(n_features),
            dict_init=None if self.dict_init is None else as_numpy(self.dict_init),
            dead_after=None if self.dead_atoms == "keep" else int(self.dead_after),
            revive=self.dead_atoms == "revive",
            device=self.device,
            checkpoint=self.checkpoint,
            checkpoint_every=self.checkpoint_every,
            random_state=self.random_state,
            identity=self._identity() if compared else {},
            feature_names=None if names is None else list(map(str, names)),
        )

    def _with_sparsity(self, settings: Settings, model: Model, rows, ranks) -> Settings:
        """The settings of a fit with the number of codes that these rows are to have."""
        return settings

    def _with_sparsity_of(self, before, settings: Settings) -> Settings:
        """The settings of a stream with the number of codes that it goes on with."""
        return settings

    def _progress(self, ranks, delay=0.0, note=""):
        """What shows how far a training has come; of several processes, in one."""
        shown = bool(self.verbose) and ranks.rank == 0
        return Progress(type(self).__name__ + note, shown=shown, delay=delay)

    def _whitening(self, n_features: int) -> float:
        """How far the metric of the training whitens; children without one have none."""
        return 0.0

    def _n_asked(self, n_features: int, n_atoms: int, *, warned: bool = True) -> float:
        """The number of codes asked for."""
        if self.n_nonzero_coefs is None:
            return min(default_sparsity(n_features), n_atoms)
        return at_most_all(self.n_nonzero_coefs, n_atoms, warned=warned)

    def _n_trained(self):
        return self._n_asked(self.n_features_in_, self._n_features_out)

    def _identity(self):
        """What has to agree with a checkpoint, and between ranks."""
        params = {name: as_numpy(x) for name, x in self.get_params(deep=False).items()}
        return identity_of(type(self).__name__, params, __version__)

    def _missed_l0(self) -> float | None:
        """The average number of codes of the last training rows, if it is not as asked for.

        None where it is, within a tenth.
        """
        if not self._model().steers:
            return None
        return l0_if_missed(self._learnt.training.state.numbers, self._n_trained())

    def _warn_if_missed(self):
        """Warn where rows have another number of codes on average than asked for."""
        k, unused = self._n_trained(), np.mean(self._learnt.attributes["atom_usage_"] == 0)
        l0 = 0.0 if unused == 1 else self._missed_l0()
        if l0 is None:
            return
        if unused == 1 and self._model().may_stop_at_once:
            reason = "the squared norms of all rows are at most atol. Lower it."
        elif l0 < k and unused:
            reason = (
                f"no row uses {unused:.0%} of the atoms. Lower learning_rate or "
                "n_nonzero_coefs, or set dead_atoms='revive', or intercept='learn'."
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
