"""Least squares on the chosen atoms of many rows at once, in torch.

Each row has k slots for atoms, of which `active`, (n, k), tells the ones in use. `selected`,
(n, k, k), is the Gram matrix of the atoms in a row's slots, `target`, (n, k), their
products with the row.
"""

from __future__ import annotations

import torch


def dependent(X):
    """An atom with less than this share of its energy outside a span lies in the span."""
    return 32 * torch.finfo(X.dtype).eps


def _masked(selected, active):
    """The Gram matrix of the active slots, the identity elsewhere."""
    both = active[:, :, None] & active[:, None, :]
    eye = torch.eye(selected.shape[1], dtype=selected.dtype, device=selected.device)
    return torch.where(both, selected, eye)


def independent(selected, active, slot):
    """Whether the atom in `slot` is independent of the row's other active atoms."""
    rows = torch.arange(len(slot), device=slot.device)
    others = active.clone()
    others[rows, slot] = False
    cross = torch.where(others, selected[rows, slot], 0)
    inside = (cross * torch.linalg.solve(_masked(selected, others), cross)).sum(1)
    own = selected[rows, slot, slot]
    return own - inside > dependent(selected) * own


def outside(selected, active, cross, own):
    """The part of each atom's energy that lies outside the span of a row's active ones.

    cross : (n, k, p) products of the atoms in the slots with all atoms
    own : (p,) squared norms of all atoms
    """
    factor = torch.linalg.cholesky_ex(_masked(selected, active))[0]
    cross = torch.where(active[:, :, None], cross, 0)
    along = torch.linalg.solve_triangular(factor, cross, upper=False)
    return own - (along**2).sum(1)


def noise_of(X, energy, sizes):
    """What makes a row's norm 1, and then the rounding errors of its correlations: (n, 1).

    sizes : (n,) sums of the magnitudes of the values
    """
    scale = torch.where(energy > 0, energy, 1).rsqrt().to(X.dtype)[:, None]
    return scale, 4 * torch.finfo(X.dtype).eps * (1 + scale * sizes[:, None])


def gains(C, room, energy, sizes, positive, inside=None):
    """The share of its row's energy that each atom surely takes, as in `loops/orthogonal.py`.

    room : (n, p), see there
    sizes : as for `noise_of`
    inside : (n, 1), `room` up to which an atom counts as in the span; None for the usual
    """
    scale, noise = noise_of(C, energy, sizes)
    least = ((C if positive else C.abs()) * scale - noise).clamp(min=0)
    inside = torch.finfo(C.dtype).eps ** 0.5 if inside is None else inside
    return torch.where(room > inside, least**2 / (room + inside), 0)


def passed_over(C, gain, energy, sizes, least):
    """Rows of which no atom gains, though some correlate beyond rounding."""
    scale, noise = noise_of(C, energy, sizes)
    largest = C.abs().amax(1)
    beyond = (largest * scale[:, 0] > noise[:, 0]) & (largest.to(least.dtype) ** 2 > least)
    return beyond & (gain.amax(1) <= 0)


def nonnegative_refit(selected, target, values, active):
    """Least squares on the active slots, dropping those that would turn negative."""
    while True:
        b = torch.where(active, target, 0)
        z = torch.where(active, torch.linalg.solve(_masked(selected, active), b), 0)
        negative = active & (z <= 0)
        if not negative.any():
            return z, active
        ratio = torch.where(negative, values / (values - z).clamp(min=1e-30), 1)
        step, blocking = ratio.min(1)
        values = values + step[:, None] * (z - values)
        blocked = negative.any(1)
        values[blocked, blocking[blocked]] = 0
        active = active & ((values > 0) | ~blocked[:, None])
        values = torch.where(active, values, 0)
