"""The scikit-learn door: what every estimator of the package does. No arithmetic."""

from __future__ import annotations

import copy
import os
from abc import ABCMeta, abstractmethod
from collections.abc import Set
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse, sparray, spmatrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from ._arrays import FittedArray, Home, as_numpy, follows_input, home_of
from ._batches import OF_LISTS
from ._compat import CallbackSupportMixin, Interval, StrOptions, align_sparse, check_params
from ._learner import LearnerMixin
from ._warn import warn as warn_of
from .coding import Codes, save_codes
from .coding.checks import as_whole, check_count, check_magnitude
from .coding.codes import stack_csr, stack_dense
from .coding.inputs import float_dtypes, in_words, tabled
from .coding.kernels import open_kernels
from .learning.batches import Moments
from .learning.control import RowCounts
from .sources import (
    ArrayRows,
    BatchStream,
    NpyFiles,
    RowsLike,
    SparseRows,
    StreamRows,
    check_no_stream,
    file_rows,
)

# What a stream that does not tell its number of rows is taken to have.
_MANY_ROWS = 10_000_000


class BaseSparseAutoencoder(
    LearnerMixin,
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

    components_ = FittedArray()
    intercept_ = FittedArray()
    _mean = FittedArray()
    atom_usage_ = FittedArray()
    loss_curve_ = FittedArray()

    # Where the X of the last fit lived; set by `fit` where that is not NumPy.
    _home: Home = None

    # Whether norms of atoms may be free early in a fit.
    _free_norms = False

    # The parameters that point where their atom does; the others are numbers, as biases.
    _directions: Set[str] = frozenset({"components"})

    # Whether the codes for fewer atoms are the first ones of those for more.
    _nested = True

    # The share of the learning rate that each parameter takes, 1 where not named.
    _rate_shares: dict = {}

    # What a training keeps account of besides its parameters: numbers, by name.
    _running_start: dict = {}

    # Whether rows share their codes, and these numbers keep the average where it is to be.
    _steers = False

    # The one of them that an output has to exceed to be a code of `transform`.
    _level: str | None = None

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

    def _count(self, kernels, parameters, X, level, now):
        """How many codes a batch has by this level; asked of one that steers."""
        raise NotImplementedError

    @abstractmethod
    def _encoder(self, kernels, n_samples, k, dtype):
        """A function from centred rows on the device to their codes: (indices, values) pairs.

        An iterable of pairs, for some rows after the others, so that rows with many codes
        need not make the arrays of all rows wide. Mostly there is one, for all rows.

        k : how many codes a row may have, or what `_transform_k` gives. There may be more
            or fewer slots than that.
        """

    # -------------------------------------------------------------------- using it
    @follows_input
    def transform(self, X: RowsLike) -> Any:
        """Sparse codes of X.

        Parameters
        ----------
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : ndarray or CSR of shape (n_samples, n_components)
            The codes, in X's dtype (float32 or float64); CSR with ``sparse_output=True``,
            an array or a matrix as scikit-learn's ``sparse_interface`` setting says. For a
            torch tensor a NumPy array too, but under
            ``sklearn.set_config(array_api_dispatch=True)`` a tensor on its device, and so
            for all libraries of the array API; CSR stays SciPy's.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> codes = sae.transform(X)
        >>> codes.shape, int((codes != 0).sum(axis=1).max())
        ((1797, 32), 4)
        """
        parts = self._encoded(X)
        return align_sparse(stack_csr(parts)) if self.sparse_output else stack_dense(parts)

    @follows_input
    def encode(self, X: RowsLike) -> Codes:
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
            from the largest code down. All rows have as many slots as the row with the most
            codes needs: where one needs far more than the others, `transform` with
            ``sparse_output=True`` and `transform_to` take less memory.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> codes = sae.encode(X)
        >>> codes.indices.shape, codes.values.shape
        ((1797, 4), (1797, 4))
        """
        return Codes.stack(list(self._encoded(X)))

    @follows_input
    def transform_to(self, X: RowsLike, folder: str | os.PathLike[str]) -> csr_array:
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

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> import os, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> sae.transform_to(X, os.path.join(folder.name, "codes")).shape
        (1797, 32)
        >>> folder.cleanup()
        """
        source = self._source_to_code(X)
        k = self._transform_k()
        per_row = k[0] if isinstance(k, tuple) else k
        per_row = len(self.components_) if per_row is None else per_row
        most = source.n_rows and source.n_rows * per_row
        return save_codes(folder, (part.csr() for _, part in self._codes(source, k)), most)

    @follows_input
    def inverse_transform(self, X: ArrayLike | sparray | spmatrix) -> np.ndarray:
        """Reconstruct rows from codes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_components)
            Codes, as `transform` gives them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            The reconstruction, ``X @ components_ + intercept_``.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> sae.inverse_transform(sae.transform(X)).shape
        (1797, 64)
        """
        check_is_fitted(self)
        X = tabled(as_numpy(X))
        codes = check_array(X, accept_sparse="csr", dtype=float_dtypes(X))
        if codes.shape[1] != len(self.components_):
            raise ValueError(
                f"X has {codes.shape[1]} columns, but {type(self).__name__} has "
                f"{len(self.components_)} components: pass codes as transform gives them."
            )
        components = self.components_.astype(codes.dtype, copy=False)
        return safe_sparse_dot(codes, components) + self.intercept_.astype(codes.dtype)

    @follows_input
    def score(self, X: RowsLike, y: Any = None) -> float:
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

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> 0 < sae.score(X) < 1
        True
        """
        source = self._source_to_code(X)
        return float(1 - self._unexplained(source, self._transform_k())[-1])

    @follows_input
    def reconstruction_path(
        self, X: RowsLike, n_nonzero_coefs: int | None = None
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
            How far to go; more than there are atoms is used as that many, with a warning.
            None for as far as `transform` does.

        Returns
        -------
        path : ndarray of shape (n_nonzero_coefs,)
            ``sum((X - X_hat) ** 2) / sum((X - X.mean(axis=0)) ** 2)`` for each number of
            atoms.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> path = sae.reconstruction_path(X, 8)
        >>> len(path), bool((path[1:] <= path[:-1]).all())
        (8, True)
        """
        source = self._source_to_code(X)
        if n_nonzero_coefs is None:
            return self._unexplained(source, self._transform_k(), path=True)
        check_count(as_whole(n_nonzero_coefs), "n_nonzero_coefs")
        k = self._n_active(n_nonzero_coefs, len(self.components_), warn=True)
        path = self._unexplained(source, k, path=True)
        # Where no row has so many, it stays where the last one left it.
        return np.pad(path, (0, k - len(path)), "edge")

    def _encoded(self, X):
        """The Codes of X as `transform` finds them, some rows after the others."""
        source = self._source_to_code(X)
        return (part for _, part in self._codes(source, self._transform_k()))

    def _codes(self, source, k):
        """Yield rows and their Codes, at most some thousand rows at a time."""
        center = self.intercept_.astype(source.dtype)
        # Not of what was imported, nor of other codes than those that were trained.
        averages = self._steers and hasattr(self, "_scale") and not isinstance(k, Integral)
        l0 = RowCounts() if averages and k == self._fitted_k() else None
        with open_kernels(self.device, source.dtype) as kernels:
            encode = self._encoder(kernels, source.n_rows or _MANY_ROWS, k, source.dtype)
            for rows in source.chunks():
                check_magnitude(rows)
                for codes in encode(kernels.asarray(rows - center)):
                    part = Codes(*map(kernels.to_numpy, codes), len(self.components_))
                    yield rows[: len(part)], part
                    rows = rows[len(part) :]
                    if l0 is not None:
                        l0.add(part.l0())
        if l0 is not None:
            self._warn_if_other_rows(l0)

    def _warn_if_other_rows(self, l0):
        """Say so where rows have another average number of codes than those of the fit."""
        k = self._n_trained()
        if l0.differs(k):
            warn_of(
                f"These rows have {l0.mean:.3g} codes on average, not n_nonzero_coefs={k:g}: "
                "that is the average of rows like those of fit. Compare scores at this "
                "number, or set transform_n_nonzero_coefs to limit each row's.",
                UserWarning,
            )

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
        if path and not self._nested:
            # The codes of fewer atoms are not the first ones of more.
            return self._squared_errors_anew(source, k)
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

    def _squared_errors_anew(self, source, k):
        """Squared errors with 1, 2, ... k codes, each from an encode of its own."""
        k, threshold = k if isinstance(k, tuple) else (k, None)
        k = len(self.components_) if k is None else k
        levels = [t if threshold is None else (t, threshold) for t in range(1, k + 1)]
        return np.concatenate([self._squared_errors(source, t, False) for t in levels])

    # ------------------------------------------------------------------- validation
    def _source(self, X, reset, dtype=None):
        """The rows of X; to be computed in `dtype`, where that is given."""
        mapped = isinstance(X, np.memmap) and X.filename is not None and X.ndim == 2
        if isinstance(X, BatchStream):
            source = StreamRows(X)
        elif isinstance(X, NpyFiles) or (mapped and X.size):
            source = file_rows(X)
        else:
            X = self._validated(X, reset, dtype)
            return SparseRows(X) if issparse(X) else ArrayRows(X)
        # Only the features can be told without reading all of it.
        columns = getattr(source, "named", None)
        if columns is None:
            columns = np.empty((1, source.n_features))
        try:
            validate_data(self, columns, reset=reset, skip_check_array=True)
        except ValueError as error:
            if isinstance(source, StreamRows) and source.of_lists:
                raise ValueError(f"{error}{OF_LISTS}") from None
            raise
        return source if dtype is None else source.computed_in(dtype)

    def _validated(self, X, reset, dtype=None):
        """X in memory, as array or CSR; in the dtype to compute in, where none is given."""
        check_no_stream(X)
        with in_words():
            X = tabled(X)
            dtypes = float_dtypes(X) if dtype is None else dtype
            return validate_data(
                self, X, reset=reset, accept_sparse="csr", dtype=dtypes, order="C"
            )

    def _source_to_code(self, X):
        self._check_to_code()
        return self._source(X, reset=False)

    def _check_to_code(self):
        """Refuse parameters set after `fit` that `fit` would refuse."""
        check_is_fitted(self)
        check_params(self)

    def _n_atoms(self, source):
        return source.n_features if self.n_components is None else int(self.n_components)

    def _n_active(self, k, n_atoms, *, warn=False, name="n_nonzero_coefs"):
        """How many non-zero codes: k or a tenth of the features, at most all atoms.

        An int where it is whole, whatever k is.
        """
        if k is None:
            return min(max(1, self.n_features_in_ // 10), n_atoms)
        if k > n_atoms:
            if warn:
                warn_of(
                    f"{name}={k} is more than the {n_atoms} components there are: {n_atoms} "
                    "is used.",
                    UserWarning,
                )
            return n_atoms
        return int(k) if k == int(k) else float(k)

    def _transform_k(self):
        """The k for `_encoder` that `transform` uses."""
        k, n_atoms = self.transform_n_nonzero_coefs, len(self.components_)
        if k is None:
            return self._fitted_k()
        return self._n_active(k, n_atoms, warn=True, name="transform_n_nonzero_coefs")

    def _fitted_k(self):
        """The k for `_encoder` where `transform` is to do as `fit` did."""
        return self._n_trained()

    def _n_trained(self):
        """How many codes rows were to have in `fit`, at most or on average."""
        return self._n_active(self.n_nonzero_coefs, len(self.components_))

    # ---------------------------------------------------------------- scikit-learn
    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def __getstate__(self):
        # A copy is at home on NumPy, so that it can be read where the library is not.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_home"}

    def __sklearn_array_api_convert__(self, converter):
        """A copy at home where `converter` brings arrays: scikit-learn moves estimators so."""
        moved = copy.copy(self)
        moved._home = home_of(converter(self.components_))
        return moved

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
