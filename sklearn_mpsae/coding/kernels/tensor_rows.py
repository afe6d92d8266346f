"""Rows of tensors: how many at a time, what they take, and where they stop."""

from __future__ import annotations

import torch

from .budget import CHUNK_BYTES


def in_chunks(pursue, width, X, W, *args):
    """The codes of some rows after the others, for each of which `width` numbers are kept."""
    rows = max(1, CHUNK_BYTES // (width * X.element_size()))
    parts = [pursue(X[a : a + rows], W, *args) for a in range(0, len(X), rows)]
    indices, values = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(values)


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
        enough = torch.maximum(enough, stop.atol - stop.slack * energy)
    return enough, least_of(energy, stop.threshold, X)


def least_of(energy, threshold, X):
    """The squared correlation that an atom must have more of."""
    noise = (4 * eps_of(X)) ** 2
    return (noise * energy).clamp(min=threshold**2)


def ended(X, W, indices, values, atol):
    """Codes of a matching pursuit as long as the residual is not within atol."""
    if not atol:
        return indices, values
    left, going = X, energies_of(X) > atol
    for t in range(indices.shape[1]):
        values[:, t] = torch.where(going, values[:, t], 0)
        left = left - values[:, t, None] * W[indices[:, t]]
        going = going & (energies_of(left) > atol)
    return torch.where(values != 0, indices, 0), values


def empty_codes(n, k, like):
    indices = torch.zeros((n, k), dtype=torch.int64, device=like.device)
    return indices, like.new_zeros((n, k))


def pick(C, remaining, enough, least, positive, running, gain=None):
    """The best atom of each running row, its correlation, and which rows still run.

    gain : what the best atom has most of, and must have any of; else its correlation
    """
    scores = gain if gain is not None else C if positive else C.abs()
    i = scores.argmax(1)
    v = C.gather(1, i[:, None])[:, 0]
    running = running & (remaining > enough) & (v.to(enough.dtype) ** 2 > least)
    if gain is not None:
        running = running & (gain.gather(1, i[:, None])[:, 0] > 0)
    if positive:
        running = running & (v > 0)
    return torch.where(running, i, 0), torch.where(running, v, 0), running
