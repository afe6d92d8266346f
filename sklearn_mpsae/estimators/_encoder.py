"""What a fitted estimator does: it codes rows, and reconstructs them."""

from __future__ import annotations

import os
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, sparray, spmatrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from .._array_api import as_numpy, follows_input
from .._compat import CallbackSupportMixin, StrOptions, align_sparse, check_params
from .._warn import warn
from ..coding import Codes, save_codes
from ..coding.checks import as_whole, check_count
from ..coding.codes import stack_csr, stack_dense
from ..coding.inputs import float_dtypes, tabled
from ..models.base import Model
from ..models.coded import Watch, coded, row_errors, unexplained, unexplained_path
from ..models.coder import Coder
from ..models.steering import RowCounts
from ..rows.open import RowsLike, open_rows
from ._record import Record
from ._serving import ServingCoder
from ._sparsity import at_most_all

# The n_nonzero_coefs of a fit that chooses the number of codes.
AUTO = "auto"


class BaseEncoder(
    Record,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """An estimator that codes rows by what it has learnt. A child learns it in `fit`."""

    device: str
    dict_init: ArrayLike | None
    n_components: int | None
    n_nonzero_coefs: Any
    sparse_output: bool
    transform_n_nonzero_coefs: int | None

    # What classes that do not take `AUTO` take in its place.
    _not_auto = "a number"

    @abstractmethod
    def _model(self) -> Model:
        """The model of these parameters."""

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
        codes = self._encoded(X)
        return align_sparse(stack_csr(codes)) if self.sparse_output else stack_dense(codes)

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
            codes needs (one at least): where one needs far more than the others, `transform`
            with ``sparse_output=True`` and `transform_to` take less memory.

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
        return Codes.stack(self._encoded(X))

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
        coder, source = self._coder(), self._rows(X)
        per_row = len(coder.components) if coder.k is None else coder.k
        most = source.n_rows and source.n_rows * per_row
        with self._watching() as watch:
            parts = coded(coder, source, self.device, watch)
            return save_codes(folder, (part.codes().csr() for part in parts), most)

    def coder(self) -> ServingCoder:
        """An open encoder for many small calls, as a context manager.

        `transform` prepares for each call: it checks parameters, starts threads, and for a
        pursuit may form the Gram matrix of the dictionary. An open encoder does this once.

        Returns
        -------
        coder : context manager
            Within ``with sae.coder() as encode``, ``encode(rows)`` gives the
            `sklearn_mpsae.coding.Codes` of an array or tensor of shape
            (n_samples, n_features). They are the codes of `transform`, to rounding errors.
            What is set or fitted after `coder` was called does not change them. Threads may
            share it: calls wait for one another. A forked process needs one of its own. On
            the CPU, BLAS has one thread in the whole process while it is open.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> with sae.coder() as encode:
        ...     shapes = [encode(row[None]).values.shape for row in X[:3]]
        >>> shapes
        [(1, 4), (1, 4), (1, 4)]
        """
        names = getattr(self, "feature_names_in_", None)
        return ServingCoder(self._coder(), self.device, None if names is None else list(names))

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
        X = tabled(X)
        codes = check_array(X, accept_sparse="csr", dtype=float_dtypes(X))
        components, intercept = (
            vars(self)[name].astype(codes.dtype, copy=False)
            for name in ("components_", "intercept_")
        )
        if codes.shape[1] != len(components):
            raise ValueError(
                f"X has {codes.shape[1]} columns, but {type(self).__name__} has "
                f"{len(components)} components: pass codes as transform gives them."
            )
        return safe_sparse_dot(codes, components) + intercept

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
        coder, source = self._coder(), self._rows(X)
        with self._watching() as watch:
            return float(1 - unexplained(coder, source, self.device, watch))

    @follows_input
    def score_samples(self, X: RowsLike) -> np.ndarray:
        """Negative squared error of each row's reconstruction: outliers have the lowest.

        Parameters
        ----------
        X : array-like, CSR or source of shape (n_samples, n_features)
            Rows to reconstruct.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            ``-((X - X_hat) ** 2).sum(axis=1)``, in squared units of X. Higher is better
            explained, as for scikit-learn's outlier detectors.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn_mpsae import MPSparseAutoencoder
        >>> X = load_digits().data
        >>> sae = MPSparseAutoencoder(32, n_nonzero_coefs=4, max_iter=2).fit(X)
        >>> scores = sae.score_samples(X)
        >>> scores.shape, bool(scores.max() < 0)
        ((1797,), True)
        """
        coder, source = self._coder(), self._rows(X)
        with self._watching() as watch:
            return -np.concatenate(list(row_errors(coder, source, self.device, watch)))

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
        if n_nonzero_coefs is None:
            coder, source = self._coder(), self._rows(X)
            with self._watching() as watch:
                return unexplained_path(coder, source, self.device, watch)
        check_is_fitted(self)
        check_count(as_whole(n_nonzero_coefs), "n_nonzero_coefs")
        k = at_most_all(n_nonzero_coefs, self._n_features_out)
        path = unexplained_path(self._coder(k), self._rows(X), self.device)
        # Where no row has k codes, the path ends with its last value.
        return np.pad(path, (0, k - len(path)), "edge")

    # ------------------------------------------------------------------- from within
    def _rows(self, X):
        """The rows of X, to be coded."""
        return open_rows(self, X, reset=False)

    def _validate_params(self):
        constraints = self._parameter_constraints["n_nonzero_coefs"]
        known = any(isinstance(each, StrOptions) for each in constraints)
        if isinstance(self.n_nonzero_coefs, str) and self.n_nonzero_coefs == AUTO and not known:
            raise ValueError(
                f"n_nonzero_coefs='auto' is not for {type(self).__name__}: pass "
                f"{self._not_auto}, or None for a default. Only MPSparseAutoencoder("
                "sparsity='average', n_nonzero_coefs='auto') takes 'auto'."
            )
        super()._validate_params()

    def _check_fitted(self):
        """Refuse what is not fitted, and parameters set after `fit` that it would refuse."""
        check_is_fitted(self)
        check_params(self)

    def _coder(self, k: int | None = None) -> Coder:
        """What `transform` does; with k for at most so many codes of each row.

        Raises
        ------
        NotFittedError
        ValueError
            As `_check_fitted`.
        """
        self._check_fitted()
        limit = self.transform_n_nonzero_coefs
        if k is None and limit is not None:
            k = at_most_all(limit, self._n_features_out, "transform_n_nonzero_coefs")
        coder = self._model().coder(self._learnt.attributes, k, self._n_trained())
        if not isinstance(coder, Coder):
            model = type(self._model()).__name__
            raise TypeError(
                f"{model}.coder must give a Coder (models/coder.py), not {coder!r}."
            )
        return coder

    def _encoded(self, X) -> list[Codes]:
        """The codes of X, of some rows after the others."""
        coder, source = self._coder(), self._rows(X)
        with self._watching() as watch:
            return [part.codes() for part in coded(coder, source, self.device, watch)]

    @contextmanager
    def _watching(self) -> Iterator[Watch]:
        """Warn where coded rows have another average number of codes than those of the fit.

        Only of the codes that training led to: not of imported ones, nor of limited ones.
        """
        limited = self._training is None or self.transform_n_nonzero_coefs is not None
        if limited or not self._model().steers:
            yield None
            return
        counts, k = RowCounts(), self._n_trained()
        yield counts.add
        if counts.differs(k):
            warn(
                f"These rows have {counts.mean:.3g} codes on average, not "
                f"n_nonzero_coefs={k:g}, as the rows of fit have. Compare scores at this "
                "number, or set transform_n_nonzero_coefs to limit each row's.",
                UserWarning,
            )

    def _n_trained(self) -> float:
        """The number of codes that rows were to have in `fit`, at most or on average."""
        raise NotImplementedError

    def _n_atoms(self, n_features: int) -> int:
        """The number of atoms asked for."""
        if self.n_components is not None:
            return int(self.n_components)
        # That this has the shape of a dictionary is checked with the rows.
        shape = np.shape(as_numpy(self.dict_init))
        return max(1, shape[0]) if shape else n_features

    # ---------------------------------------------------------------- scikit-learn
    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
