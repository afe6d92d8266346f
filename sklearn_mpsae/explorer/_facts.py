"""What there is to know of each atom, from one pass over the rows. NumPy only.

All of it comes from the *uses*: one entry for each row and each atom that it uses. What
compares all atoms with each other is computed a block of atoms at a time, and only the
largest entries are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..coding import Codes
from ..coding.unit import unit_rows
from ..metrics._inputs import batches
from ..models.coded import CodedRows, coded
from ..rows.moments import Moments

# The bars of an atom's histogram.
N_BINS = 24

# Beside an atom's strongest samples, for each three of them one of the middling ones is shown
# and one of the weak ones: an atom can be clear for the strongest only.
_STRONGEST_FOR_ONE = 3

# Places of a row beyond these count as one in what is expected by chance, so that a row with
# very many codes costs no memory for each atom.
_MOST_PLACES = 256


class Uses(NamedTuple):
    """Which rows use which atoms, by row and, within a row, by step. Arrays of one length."""

    rows: np.ndarray
    atoms: np.ndarray
    values: np.ndarray
    """The code: the sum of its values, where a pursuit took the atom more than once."""
    steps: np.ndarray
    """The slot in which the atom was first taken, from 1 on."""
    rises: np.ndarray
    """By how much the row's squared error would rise without this code."""


class Similar(NamedTuple):
    """For each atom, those of the largest |cosine|. Arrays (n_components, n_related)."""

    atoms: np.ndarray
    cosines: np.ndarray


class Examples(NamedTuple):
    """For each atom, rows that use it. Arrays (n_components, n_shown).

    The columns are of groups: the strongest, then the middling, then the weak, each by the
    magnitude of its codes, the largest first.
    """

    rows: np.ndarray
    """-1 where there are too few."""
    codes: np.ndarray
    groups: tuple[int, int, int]
    """How many columns each group has."""


class Related(NamedTuple):
    """For each atom, those that come with it. Arrays (n_components, n_related)."""

    atoms: np.ndarray
    """-1 where there are too few."""
    rows: np.ndarray
    """In how many rows they do."""
    chance: np.ndarray
    """In how many they would by chance."""


@dataclass(frozen=True)
class Facts:
    """Arrays with one row for each atom; NaN where no row uses it."""

    n_samples: int
    ordered: bool
    """Whether slots are the steps of a pursuit; else codes are by size."""
    r2: float
    l0: float
    value_range: tuple[float, float]
    """The smallest and the largest value of X."""
    usage: np.ndarray
    """The number of rows that use the atom."""
    mean_code: np.ndarray
    """The mean magnitude of its code, over these rows."""
    mean_step: np.ndarray
    """The mean slot in which they take it first."""
    energy: np.ndarray
    """Its share of the sum of squares of all codes."""
    removal: np.ndarray
    """The rise of these rows' squared error without the atom, as a share of that error."""
    r2_loss: np.ndarray
    """The fall of R² without it."""
    coherence: np.ndarray
    """The largest |cosine| with another atom."""
    examples: Examples
    code_range: np.ndarray
    """The ends of the histogram, (n_components, 2)."""
    histogram: np.ndarray
    """Counts of rows by code, (n_components, N_BINS)."""
    neighbors: Similar
    relations: dict[str, Related]
    """Atoms that rows take "before" and "after" the atom, or "with" it: see `related_by`."""
    uses: Uses

    @property
    def top_rows(self) -> np.ndarray:
        """The rows with the largest codes, (n_components, n_examples), -1 where too few."""
        return self.examples.rows[:, : self.examples.groups[0]]

    @property
    def top_codes(self) -> np.ndarray:
        """Their codes."""
        return self.examples.codes[:, : self.examples.groups[0]]


def facts_of(estimator, source, *, ordered: bool, n_examples: int, n_related: int) -> Facts:
    """The facts of a fitted estimator, for the rows of a source."""
    coder = estimator._coder()
    W = coder.components
    n_atoms = len(W)
    rows, variance = _Pass(W), Moments.of(source.chunks()).energy
    with estimator._watching() as watch:
        parts = [rows.take(part) for part in coded(coder, source, estimator.device, watch)]
    uses = Uses(*map(np.concatenate, zip(*parts, strict=True)))
    usage = np.bincount(uses.atoms, minlength=n_atoms)

    def total(values):
        return np.bincount(uses.atoms, weights=values, minlength=n_atoms)

    energy = total(uses.values**2)
    rise, error = total(uses.rises), total(rows.errors[uses.rows])
    code_range, histogram = histograms(uses, n_atoms)
    neighbors = most_coherent(W, n_related)
    return Facts(
        n_samples=rows.n,
        ordered=ordered,
        r2=1 - _ratio(rows.errors.sum(), variance),
        l0=len(uses.rows) / rows.n,
        value_range=(rows.lowest, rows.highest),
        usage=usage,
        mean_code=_ratio(total(np.abs(uses.values)), usage),
        mean_step=_ratio(total(uses.steps), usage),
        energy=_ratio(energy, energy.sum()),
        removal=_ratio(rise, error),
        r2_loss=_ratio(rise, variance),
        coherence=np.abs(neighbors.cosines[:, 0]) if n_atoms > 1 else np.array([np.nan]),
        examples=examples_of(uses, usage, n_examples),
        code_range=code_range,
        histogram=histogram,
        neighbors=neighbors,
        relations=related_by(uses, usage, rows.n, n_related, ordered=ordered),
        uses=uses,
    )


def _parts(n, size):
    """Slices of n things for work that takes `size` numbers for each of them."""
    return batches(n, size) if n else ()


def _ratio(a, b):
    """The quotient, NaN where b is zero."""
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)[()]


# ------------------------------------------------------------------------- the pass
class _Pass:
    """One pass over the rows: their errors, and the range of their values."""

    def __init__(self, dictionary):
        self._W = dictionary
        self._norms = np.square(dictionary, dtype=float).sum(axis=1)
        self._errors = []
        self.n, self.lowest, self.highest = 0, np.inf, -np.inf

    def take(self, part: CodedRows) -> Uses:
        """The uses of some more rows."""
        X, codes = part.rows, part.codes()
        W = self._W.astype(X.dtype, copy=False)
        residual = part.kernels.to_numpy(part.residual())
        self._errors.append(np.square(residual, dtype=float).sum(axis=1))
        self.lowest = min(self.lowest, float(X.min()))
        self.highest = max(self.highest, float(X.max()))

        rows, atoms, values, steps = uses_of(codes)
        dots = np.empty(len(rows))
        for part in _parts(len(rows), W.shape[1]):
            dots[part] = np.einsum("nd,nd->n", residual[rows[part]], W[atoms[part]])
        # |r + v w|² - |r|²
        rises = values**2 * self._norms[atoms] + 2 * values * dots
        first, self.n = self.n, self.n + len(X)
        return Uses(rows + first, atoms, values, steps, rises)

    @property
    def errors(self):
        """The squared error of each row."""
        return np.concatenate(self._errors)


def uses_of(codes: Codes) -> tuple[np.ndarray, ...]:
    """Rows, atoms, values and steps of the uses in these codes."""
    n_slots = max(1, codes.values.shape[1])
    slots = np.flatnonzero(codes.values)
    rows, steps = np.divmod(slots, n_slots)
    atoms = codes.indices.ravel()[slots].astype(np.int64)
    # Slots come by row and step, so the first one of a row and atom is where it was picked.
    _, first, which = np.unique(
        rows * codes.n_components + atoms, return_index=True, return_inverse=True
    )
    values = np.bincount(which, weights=codes.values.ravel()[slots], minlength=len(first))
    # Codes of an atom that is taken twice may cancel.
    order = np.argsort(first)
    order = order[values[order] != 0]
    first = first[order]
    return rows[first], atoms[first], values[order], steps[first] + 1


# --------------------------------------------------------------- from the uses, per atom
def examples_of(uses: Uses, usage: np.ndarray, n_examples: int) -> Examples:
    """The rows whose codes are largest, near the median, and near the lowest tenth.

    By magnitude, and each row once: where few rows use an atom, those that are not among the
    strongest are the middling and the weak ones.
    """
    n = -(-n_examples // _STRONGEST_FOR_ONE)
    rest = np.maximum(usage - n_examples, 0)
    n_weak = np.minimum(n, -(-rest // 2))
    n_middling = np.minimum(n, rest - n_weak)
    # The ranks at which the groups start; the strongest code has rank 0.
    weak = np.minimum(9 * usage // 10 - n // 2, usage - n_weak)
    weak = np.maximum(weak, n_examples + n_middling)
    middling = np.maximum(usage // 2 - n // 2, n_examples)
    middling = np.minimum(middling, weak - n_middling)
    groups = [
        (np.zeros_like(usage), np.minimum(usage, n_examples), n_examples),
        (middling, n_middling, n),
        (weak, n_weak, n),
    ]
    order = np.lexsort((uses.rows, -np.abs(uses.values), uses.atoms))
    first = np.cumsum(usage) - usage
    rows = np.full((len(usage), n_examples + 2 * n), -1)
    codes = np.zeros(rows.shape)
    column = 0
    for start, length, width in groups:
        atoms, places = np.nonzero(np.arange(width) < length[:, None])
        found = order[(first + start)[atoms] + places]
        rows[atoms, column + places] = uses.rows[found]
        codes[atoms, column + places] = uses.values[found]
        column += width
    return Examples(rows, codes, (n_examples, n, n))


def _best(atoms, scores, ties, n):
    """Which entries have the n largest scores of each atom, and where: (atom, rank)."""
    order = np.lexsort((ties, -scores, atoms))
    atoms = atoms[order]
    rank = np.arange(len(order)) - np.searchsorted(atoms, atoms)
    kept = rank < n
    return order[kept], (atoms[kept], rank[kept])


def histograms(uses: Uses, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """The ends of each atom's histogram, of which zero is one or within, and its counts."""
    ends = np.zeros((n_atoms, 2))
    np.minimum.at(ends[:, 0], uses.atoms, uses.values)
    np.maximum.at(ends[:, 1], uses.atoms, uses.values)
    low, high = ends[uses.atoms].T
    bins = (N_BINS * (uses.values - low) / (high - low)).astype(int).clip(max=N_BINS - 1)
    counts = np.bincount(N_BINS * uses.atoms + bins, minlength=N_BINS * n_atoms)
    return ends, counts.reshape(n_atoms, N_BINS)


# ------------------------------------------------------------------ atoms among each other
def most_coherent(W: np.ndarray, n_related: int) -> Similar:
    """The atoms with the largest |cosine|, and the cosines."""
    W = unit_rows(W)
    atoms = np.empty((len(W), n_related), dtype=np.intp)
    found = np.empty((len(W), n_related))
    for block in _parts(n_related and len(W), len(W)):
        cosines = (W[block] @ W.T).clip(-1, 1)
        size = -np.abs(cosines)
        size[np.arange(len(size)), np.arange(block.start, block.stop)] = 1
        best = np.sort(np.argpartition(size, n_related - 1, axis=1)[:, :n_related], axis=1)
        order = np.argsort(np.take_along_axis(size, best, 1), axis=1, kind="stable")
        atoms[block] = np.take_along_axis(best, order, 1)
        found[block] = np.take_along_axis(cosines, atoms[block], 1)
    return Similar(atoms, found)


def related_by(uses, usage, n_rows, n_related, *, ordered) -> dict[str, Related]:
    """Atoms that the same rows take before and after each atom, or with it, in any order.

    Those come first that do in most rows beyond chance; if none is, there are none. Chance
    is what there would be if each atom were taken as often at each place, but regardless of
    the others. Ordered by rows alone, all lists would name the commonest atoms.
    """
    n_atoms = len(usage)
    n_uses = np.bincount(uses.rows, minlength=n_rows)
    first = np.cumsum(n_uses) - n_uses
    place = np.arange(len(uses.rows)) - first[uses.rows]
    n_places = min(int(place.max(initial=0)) + 1, _MOST_PLACES)
    # In how many rows an atom is at a place, before it, and after it.
    counted = uses.atoms * n_places + place.clip(max=n_places - 1)
    at = np.bincount(counted, minlength=n_atoms * n_places)
    at = at.reshape(n_atoms, n_places)
    earlier = at.cumsum(axis=1) - at
    later = usage[:, None] - at - earlier
    # The uses of an atom in a run.
    by_atom = np.argsort(uses.atoms, kind="stable")
    starts = np.concatenate([[0], np.cumsum(usage)])

    if ordered:
        chosen = {"before": np.less, "after": np.greater}
        by_chance = {"before": earlier / n_rows, "after": later / n_rows}
    else:
        chosen = {"with": np.not_equal}
        by_chance = {"with": np.broadcast_to(usage[:, None] / n_rows, at.shape)}
    related = {name: _none_related(n_atoms, n_related) for name in chosen}
    for block in _parts(n_atoms, n_atoms):
        taken = by_atom[starts[block.start] : starts[block.stop]]
        for name, is_chosen in chosen.items():
            counts = np.zeros((block.stop - block.start) * n_atoms, dtype=np.int64)
            for part in _parts(len(taken), int(n_uses.max())):
                use = taken[part]
                # All uses in the rows that these uses are in; those of a row are neighbours.
                n_others = n_uses[uses.rows[use]]
                ends = np.cumsum(n_others)
                shift = first[uses.rows[use]] - (ends - n_others)
                others = np.arange(ends[-1]) + np.repeat(shift, n_others)
                there = is_chosen(place[others], np.repeat(place[use], n_others))
                atoms = np.repeat(uses.atoms[use] - block.start, n_others)[there]
                cells = atoms * n_atoms + uses.atoms[others[there]]
                counts += np.bincount(cells, minlength=len(counts))
            _keep_best(related[name], counts, block.start, at, by_chance[name])
    return related


def _none_related(n_atoms, n_related):
    shape = (n_atoms, n_related)
    return Related(np.full(shape, -1), np.zeros(shape, dtype=int), np.zeros(shape))


def _keep_best(related, counts, start, at, by_chance):
    """Keep the pairs of atoms, from the block that starts there, that are most beyond chance.

    counts : for each atom of the block and each other one, the rows that they share.
    """
    n_atoms, n_related = len(at), related.atoms.shape[1]
    cells = np.flatnonzero(counts)
    atoms, others = np.divmod(cells, n_atoms)
    atoms, rows = atoms + start, counts[cells]
    chance = np.empty(len(cells))
    for part in _parts(len(cells), at.shape[1]):
        chance[part] = np.einsum("nk,nk->n", at[atoms[part]], by_chance[others[part]])
    beyond = np.flatnonzero(rows > chance)
    best, place = _best(atoms[beyond], (rows - chance)[beyond], others[beyond], n_related)
    best = beyond[best]
    related.atoms[place] = others[best]
    related.rows[place] = rows[best]
    related.chance[place] = chance[best]
