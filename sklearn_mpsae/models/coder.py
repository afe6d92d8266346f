"""What `transform` does with a row, as data: all that an export or another program needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from ..coding.pursuit import cheapest_path, pursue

# Pairs (indices, values), for some rows after the others: rows with many codes need not
# make the arrays of all rows wide. Mostly there is one pair, for all rows.
Encode = Callable[[Any], Iterable[tuple[Any, Any]]]


@dataclass(frozen=True, eq=False)
class Coder:
    """A rule that gives rows their codes, with its arrays.

    Attributes
    ----------
    components : ndarray of shape (p, d)
        The dictionary that codes are decoded with.
    intercept : ndarray of shape (d,)
        It is subtracted from a row before encoding, and added to its reconstruction.
    k : int or None
        The most codes of a row; None for any number.
    nested : bool
        Whether the codes for fewer atoms are the first ones of the codes for more.
    ordered : bool
        Whether codes come in the order in which atoms were chosen; else they fall in value.
    """

    components: np.ndarray
    intercept: np.ndarray
    k: int | None

    nested = True
    ordered = False

    def open(self, kernels, n_rows: int) -> Encode:
        """Prepare to encode about `n_rows` rows on these kernels.

        Returns
        -------
        encode : callable
            Takes centred rows (n, d), as arrays of the kernels' kind and of the dtype of
            `components`; gives the codes.
        """
        raise NotImplementedError

    def limited(self, k: int) -> Self:
        """The same rule with at most k codes for each row."""
        return replace(self, k=k)

    def astype(self, dtype) -> Self:
        """The same rule with all arrays in this dtype."""
        arrays = {
            field.name: value.astype(dtype, copy=False)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return replace(self, **arrays)


@dataclass(frozen=True, eq=False)
class PursuitCoder(Coder):
    """Matching pursuit, or an orthogonal pursuit, of a centred row.

    Each step takes the atom with the largest correlation (in magnitude, unless `positive`)
    and subtracts it. "omp" refits all values with each atom; so does "ols", which takes the
    atom whose refit leaves least. The row stops before a correlation of at most
    `threshold`, or of rounding noise; at a squared residual of at most `atol`, or `tol` times
    the row's energy; with `stop_on_repeat` after an atom that it had already.

    With a metric, rows and atoms are multiplied by it first, and all of that holds there.

    Attributes
    ----------
    metric : ndarray of shape (d, d), or None
    metric_components, metric_norms : ndarray of shape (p, d) and (p,), or None
        ``components @ metric``, divided by their norms, and the norms.
    """

    k: int
    tol: float = 0.0
    atol: float = 0.0
    stop_on_repeat: bool = False
    threshold: float = 0.0
    positive: bool = True
    algorithm: str = "mp"
    metric: np.ndarray | None = None
    metric_components: np.ndarray | None = None
    metric_norms: np.ndarray | None = None

    ordered = True

    @property
    def orthogonal(self) -> bool:
        return self.algorithm != "mp"

    @property
    def nested(self) -> bool:
        # An orthogonal pursuit computes all values anew with each atom.
        return not self.orthogonal

    def open(self, kernels, n_rows):
        W, gram = kernels.asarray(self.atoms), None
        if self._shares_gram(n_rows):
            gram = kernels.gram(W)
        if self.metric is None:
            return lambda X: [self.codes(kernels, X, W, gram=gram)]
        metric, norms = map(kernels.asarray, (self.metric, self.metric_norms))

        def encode(X):
            indices, values = self.codes(kernels, kernels.product(X, metric), W, gram=gram)
            return [(indices, values / norms[indices])]

        return encode

    @property
    def atoms(self) -> np.ndarray:
        """The atoms of unit norm that rows are compared with, in the metric if there is one."""
        return self.components if self.metric is None else self.metric_components

    def _shares_gram(self, n_rows):
        shape, itemsize = self.components.shape, self.components.itemsize
        return cheapest_path(n_rows, *shape, self.k, itemsize, self.algorithm) == "gram"

    def codes(self, kernels, X, W, *, coarse=False, gram=None):
        """Codes of X with the atoms W, both of the kernels' kind; `gram` as for `pursue`."""
        return pursue(
            kernels,
            X,
            W,
            self.k,
            tol=self.tol,
            atol=self.atol,
            stop_on_repeat=self.stop_on_repeat,
            threshold=self.threshold,
            positive=self.positive,
            algorithm=self.algorithm,
            coarse=coarse,
            gram=gram,
        )


@dataclass(frozen=True, eq=False)
class ShallowCoder(Coder):
    """The outputs of a linear encoder of a centred row that are above `floor`, or all.

    With k, the k largest of these (in magnitude unless `positive`; with `positive` none
    that is not above zero).

    Attributes
    ----------
    encoder : ndarray of shape (p, d)
    bias : ndarray of shape (p,)
        The outputs of a row x are ``encoder @ (x - intercept) + bias``.
    floor : ndarray of shape (p,), or None
        What an output must exceed to be a code, at least 0. None for the k largest.
    """

    encoder: np.ndarray
    bias: np.ndarray
    floor: np.ndarray | None = None
    positive: bool = True

    def open(self, kernels, n_rows):
        weights = kernels.asarray(self.encoder), kernels.asarray(self.bias)
        if self.floor is None:
            return lambda X: [kernels.top_k(X, *weights, self.k, positive=self.positive)]
        floor = kernels.asarray(self.floor)

        def encode(X):
            for codes in kernels.above_in_parts(X, *weights, floor):
                indices, values = kernels.by_value(*codes)
                yield indices[:, : self.k], values[:, : self.k]

        return encode
