"""Where rows of tensors stop, and their energies."""

from __future__ import annotations

import torch


def energies_of(X):
    """Squared row norms, in float64 where the device has it (Apple's has not)."""
    dtype = X.dtype if X.device.type == "mps" else torch.float64
    return torch.linalg.vector_norm(X, dim=1, dtype=dtype) ** 2


def eps_of(X):
    return torch.finfo(X.dtype).eps


def stops_of(energy, stop, X):
    """Where rows stop: see `native.py`."""
    enough = stop.tol * energy if stop.tol else torch.full_like(energy, -torch.inf)
    if stop.atol:
        below = (1 - eps_of(energy)) * energy
        within = torch.minimum(stop.atol - stop.slack * energy, below)
        enough = torch.maximum(enough, within)
    return enough, least_of(energy, stop.threshold, X)


def least_of(energy, threshold, X):
    """The squared correlation that an atom must have more of."""
    noise = (4 * eps_of(X)) ** 2
    return (noise * energy).clamp(min=threshold**2)


def ended(X, W, indices, values, atol):
    """Codes of a matching pursuit up to the one that comes within atol, by residuals."""
    if not atol:
        return indices, values
    left, going = X, torch.ones_like(X[:, 0], dtype=torch.bool)
    for t in range(indices.shape[1]):
        values[:, t] = torch.where(going, values[:, t], 0)
        left = left - values[:, t, None] * W[indices[:, t]]
        going = going & (energies_of(left) > atol)
    return torch.where(values != 0, indices, 0), values
