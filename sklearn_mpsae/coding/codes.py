"""Sparse codes: what an encoder gives and everything downstream asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True, repr=False)
class Codes:
    """The atoms each sample uses, in the order in which they were chosen.

    Parameters
    ----------
    indices : ndarray of shape (n_samples, n_slots), int
        The atom of each slot.
    values : ndarray of shape (n_samples, n_slots), float
        Its value. A slot that is not used holds index 0 and value 0. A pursuit may choose
        an atom again: its values add up.
    n_components : int
        The number of atoms of the dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.coding import matching_pursuit
    >>> codes = matching_pursuit([[1.0, 3.0, 0.0], [0.0, 2.0, 0.0]], np.eye(3), 2)
    >>> codes
    <Codes: 2 rows, 3 components, 1.5 codes per row, float64>
    >>> codes.values  # as they were found; the second row needed one
    array([[3., 1.],
           [2., 0.]])
    >>> codes.l0()
    array([2, 1])
    >>> codes.dense()
    array([[1., 3., 0.],
           [0., 2., 0.]])
    >>> codes.csr().nnz
    3
    >>> codes.decode(np.eye(3))
    array([[1., 3., 0.],
           [0., 2., 0.]])
    >>> len(type(codes).stack([codes, codes]))
    4
    """

    indices: np.ndarray
    values: np.ndarray
    n_components: int

    @classmethod
    def stack(cls, parts: list[Codes]) -> Codes:
        """The rows of all parts, one after the other.

        Parameters
        ----------
        parts : list of Codes
            Of one dictionary; they may have different numbers of slots.

        Returns
        -------
        codes : Codes
            Those of all rows.
        """
        shape = sum(map(len, parts)), max(part.indices.shape[1] for part in parts)
        indices = np.zeros(shape, np.result_type(*(part.indices for part in parts)))
        values = np.zeros(shape, np.result_type(*(part.values for part in parts)))
        for rows, part in _placed(parts):
            indices[rows, : part.indices.shape[1]] = part.indices
            values[rows, : part.values.shape[1]] = part.values
        return cls(indices, values, parts[0].n_components)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        per_row = self.csr().nnz / max(1, len(self))
        return (
            f"<Codes: {len(self)} rows, {self.n_components} components, "
            f"{per_row:.3g} codes per row, {self.values.dtype}>"
        )

    def csr(self) -> sparse.csr_array:
        """The codes as a sparse array.

        Returns
        -------
        codes : csr_array of shape (n_samples, n_components)
            Codes that are not zero, each atom once in a row.
        """
        used = self.values != 0
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
        shape = (len(self), self.n_components)
        codes = sparse.csr_array((self.values[used], self.indices[used], starts), shape=shape)
        codes.sum_duplicates()
        codes.eliminate_zeros()
        return codes

    def dense(self) -> np.ndarray:
        """The codes as an array.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components)
            Zero for atoms that a row does not use.
        """
        return stack_dense([self])

    def decode(self, dictionary: np.ndarray) -> np.ndarray:
        """The sums of atoms that the codes stand for.

        Parameters
        ----------
        dictionary : ndarray of shape (n_components, n_features)
            Atoms, one per row.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            The reconstruction; without the mean that an estimator adds.
        """
        return self.csr() @ dictionary

    def l0(self) -> np.ndarray:
        """The number of atoms that each sample uses.

        Returns
        -------
        l0 : ndarray of shape (n_samples,), int
            An atom that was taken twice counts once.
        """
        return np.diff(self.csr().indptr)


def found_codes(indices: np.ndarray, values: np.ndarray, n_components: int) -> Codes:
    """The codes that kernels found, without the last slots if no row uses them.

    One slot stays. The arrays are copied if there is something to leave out, so that it takes
    no memory.
    """
    used = np.flatnonzero(values.any(axis=0))
    slots = slice(used[-1] + 1 if len(used) else 1)
    cut = (np.ascontiguousarray(array[:, slots]) for array in (indices, values))
    return Codes(*cut, n_components)


def stack_dense(parts: Iterable[Codes]) -> np.ndarray:
    """The rows of all parts as one array, which is allocated once."""
    parts = list(parts)
    shape = sum(map(len, parts)), parts[0].n_components
    out = np.zeros(shape, np.result_type(*(part.values for part in parts)))
    for rows, part in _placed(parts):
        numbers = np.arange(rows.start, rows.stop)
        for indices, values in zip(part.indices.T, part.values.T, strict=True):
            out[numbers, indices] += values
    return out


def stack_csr(parts: Iterable[Codes]) -> sparse.csr_array:
    """The rows of all parts as one sparse array; no part is padded for another."""
    return sparse.vstack([part.csr() for part in parts], format="csr")


def _placed(parts):
    """The slice that each part's rows have among those of all, and the part."""
    start = 0
    for part in parts:
        yield slice(start, start + len(part)), part
        start += len(part)
