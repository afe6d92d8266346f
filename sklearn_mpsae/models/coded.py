"""Rows coded on the kernels, and the errors of their reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..coding import Codes
from ..coding.checks import check_magnitude
from ..coding.codes import found_codes
from ..coding.kernels import open_kernels
from ..rows.moments import Moments
from .coder import Coder

# The number of rows that a stream of unknown length is taken to have.
MANY_ROWS = 10_000_000

Watch = Callable[[np.ndarray], None] | None


@dataclass(frozen=True, eq=False)
class CodedRows:
    """Some rows with their codes; valid until the next ones are asked for."""

    rows: np.ndarray
    """(n, d), as they came."""
    centred: Any
    """The same minus the intercept, of the kernels' kind, as all below."""
    indices: Any
    values: Any
    """(n, s) codes."""
    dictionary: Callable[[], Any]
    """Gives (p, d), which is brought to the device when it is first asked for."""
    n_components: int
    kernels: Any

    def codes(self) -> Codes:
        """The codes in NumPy arrays."""
        arrays = map(self.kernels.to_numpy, (self.indices, self.values))
        return found_codes(*arrays, self.n_components)

    def residual(self) -> Any:
        """The rows minus their reconstruction, (n, d)."""
        return self._without(self.centred, slice(None))

    def path(self) -> Iterator[Any]:
        """The residual after the first slot of codes, the second one, ..."""
        residual = self.centred
        for t in range(self.indices.shape[1]):
            residual = self._without(residual, slice(t, t + 1))
            yield residual

    def _without(self, X, slots):
        indices, values = self.indices[:, slots], self.values[:, slots]
        return X - self.kernels.decode(indices, values, self.dictionary())


def coded(coder: Coder, source, device: str, watch: Watch = None) -> Iterator[CodedRows]:
    """Code the rows of a source, at most some thousand at a time.

    watch : is called with the number of codes of each of these rows, if given
    """
    coder = coder.astype(source.dtype)
    with open_kernels(device, source.dtype) as kernels:
        encode = coder.open(kernels, source.n_rows or MANY_ROWS)
        dictionary = cache(lambda: kernels.asarray(coder.components))
        context = dictionary, len(coder.components), kernels
        for rows in source.chunks():
            check_magnitude(rows)
            centred = kernels.asarray(rows - coder.intercept)
            at = 0
            for indices, values in encode(centred):
                cut = slice(at, at + len(indices))
                part = CodedRows(rows[cut], centred[cut], indices, values, *context)
                yield part
                if watch is not None:
                    watch(part.codes().l0())
                at = cut.stop


def row_errors(coder: Coder, source, device: str, watch: Watch = None) -> Iterator[np.ndarray]:
    """The squared errors of reconstructions, float64, of some rows after the others."""
    for part in coded(coder, source, device, watch):
        yield part.kernels.energies(part.residual())


def unexplained(coder: Coder, source, device: str, watch: Watch = None) -> float:
    """The share of the variance that reconstructions leave; NaN without variance."""
    variance = _variance(source)
    return _share(_error(coder, source, device, watch), variance)


def unexplained_path(coder: Coder, source, device: str, watch: Watch = None) -> np.ndarray:
    """The shares that codes for 1, 2, ... atoms leave, up to the most that a row has."""
    variance = _variance(source)
    if not coder.nested:
        # The codes for fewer atoms are not the first ones of those for more.
        k = len(coder.components) if coder.k is None else coder.k
        limited = map(coder.limited, range(1, k + 1))
        return _share(np.array([_error(each, source, device) for each in limited]), variance)
    errors = [
        [part.kernels.energies(residual).sum() for residual in part.path()]
        for part in coded(coder, source, device, watch)
    ]
    # Rows with fewer slots than others keep the error of their last one.
    longest = max(map(len, errors))
    padded = (np.pad(part, (0, longest - len(part)), "edge") for part in errors)
    return _share(sum(padded), variance)


def _error(coder, source, device, watch=None):
    """The squared error of the reconstructions of all rows."""
    return sum(errors.sum() for errors in row_errors(coder, source, device, watch))


def _variance(source):
    if source.one_pass:
        raise ValueError(
            "The score needs two passes over the data, and this iterator can be gone "
            "through once: pass something that starts anew."
        )
    return Moments.of(source.chunks()).energy


def _share(errors, variance):
    return errors / variance if variance > 0 else np.full_like(errors, np.nan)
