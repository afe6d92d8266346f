"""Orthogonal pursuits of tensors; see `loops/orthogonal.py` and `loops/spans.py`."""

from __future__ import annotations

import torch

from .least_squares import (
    dependent,
    gains,
    independent,
    noise_of,
    nonnegative_refit,
    outside,
    passed_over,
)
from .tensor_rows import empty_codes, energies_of, in_chunks, pick, stops_of


def orthogonal_codes(X, W, G, k, stop, positive, by_refit):
    """What `Kernels.orthogonal_pursuit` says."""
    p, d = W.shape
    slots = min(k, d)
    if positive:
        return in_chunks(_positive, p, X, W, G, k, stop, by_refit)
    width = p + slots * (d + slots)
    if G is None:
        return in_chunks(_on_residuals, width, X, W, k, stop, by_refit)
    unsure = []
    indices, values = in_chunks(_on_gram, p, X, W, G, k, stop, by_refit, unsure)
    rows = torch.cat(unsure).nonzero()[:, 0]
    if len(rows):
        codes = in_chunks(_on_residuals, width, X[rows], W, k, stop, by_refit)
        indices[rows], values[rows] = codes
    return indices, values


def _on_gram(X, W, G, k, stop, by_refit, unsure):
    """Gram-Schmidt in the Gram domain.

    unsure : list; a (n,) bool is appended, True for rows of which G does not tell the codes
    """
    n = len(X)
    indices, _ = empty_codes(n, k, X)
    energy = energies_of(X)
    enough, least = stops_of(energy, stop, X)
    remaining = energy.clone()
    running = torch.ones_like(energy, dtype=torch.bool)
    unclear = torch.zeros_like(running)
    C = X @ W.T
    Q = X.new_zeros((k, n, len(W)))
    L = torch.eye(k, dtype=X.dtype, device=X.device).repeat(n, 1, 1)
    b = X.new_zeros((n, k))
    rows = torch.arange(n, device=X.device)
    room = G.diagonal().repeat(n, 1) if by_refit else None
    sizes = torch.zeros_like(b[:, 0])
    near = torch.finfo(X.dtype).eps ** 0.5
    for t in range(k):
        gain = gains(C, room, energy, sizes, False) if by_refit else None
        if by_refit:
            over = passed_over(C, gain, energy, sizes, least)
            unclear |= running & (remaining > enough) & over
        i, v, running = pick(C, remaining, enough, least, False, running, gain)
        g = G[i]
        along = Q[:t, rows, i]
        own = g[rows, i]
        # What `room` has outside of the span is outside of it here too.
        square = room[rows, i] if by_refit else own - (along**2).sum(0)
        scale, noise = noise_of(X, energy, sizes)
        drowned = (v.abs() * scale[:, 0] <= noise[:, 0]) & (square <= dependent(X) * own)
        unclear |= running & (square <= near * own) & ~drowned
        running = running & (square > near * own)
        pivot = torch.where(running, square, 1).sqrt()
        L[:, t, :t] = along.T
        L[:, t, t] = pivot
        b[:, t] = torch.where(running, v, 0) / pivot
        q = (g - torch.einsum("tn,tnp->np", along, Q[:t])) / pivot[:, None]
        Q[t] = torch.where(running[:, None], q, 0)
        C -= b[:, t, None] * Q[t]
        if by_refit:
            room -= Q[t] ** 2
            room[rows[running], i[running]] = 0
        sizes += (b[:, t] / pivot).abs()
        remaining -= b[:, t].to(remaining.dtype) ** 2
        indices[:, t] = torch.where(running, i, 0)
    unsure.append(unclear)
    return indices, _solved(L, b)


def _on_residuals(X, W, k, stop, by_refit):
    """Gram-Schmidt in the space of features, done twice; no Gram matrix."""
    (n, d), slots = X.shape, min(k, X.shape[1])
    indices, values = empty_codes(n, k, X)
    energy = energies_of(X)
    enough, least = stops_of(energy, stop, X)
    remaining = energy.clone()
    running = torch.ones_like(energy, dtype=torch.bool)
    R, C = X.clone(), X @ W.T
    U = X.new_zeros((n, slots, d))
    L = torch.eye(slots, dtype=X.dtype, device=X.device).repeat(n, 1, 1)
    b = X.new_zeros((n, slots))
    rows = torch.arange(n, device=X.device)
    own = (W * W).sum(1)
    room = own.repeat(n, 1) if by_refit else None
    sizes = torch.zeros_like(b[:, 0])
    inside = torch.full_like(b[:, :1], torch.finfo(X.dtype).eps ** 0.5)
    for t in range(slots):
        gain = gains(C, room, energy, sizes, False, inside) if by_refit else None
        if by_refit:
            over = passed_over(C, gain, energy, sizes, least)
            if over.any():
                C = torch.where(over[:, None], R @ W.T, C)
                sizes = torch.where(over, 0, sizes)
                inside = torch.where(over[:, None], 2 * dependent(X), inside)
                gain = gains(C, room, energy, sizes, False, inside)
        i, _, running = pick(C, remaining, enough, least, False, running, gain)
        u = W[i]
        L[:, t, :t] = 0
        for _ in range(2):
            along = (U[:, :t] @ u[:, :, None])[:, :, 0]
            u = u - (along[:, None] @ U[:, :t])[:, 0]
            L[:, t, :t] += along
        square = (u * u).sum(1)
        running = running & (square > dependent(X) * own[i])
        pivot = torch.where(running, square, 1).sqrt()
        L[:, t, t] = pivot
        U[:, t] = torch.where(running[:, None], u / pivot[:, None], 0)
        b[:, t] = (R * U[:, t]).sum(1)
        R -= b[:, t, None] * U[:, t]
        if by_refit:
            q = U[:, t] @ W.T
            C -= b[:, t, None] * q
            room -= q**2
            room[rows[running], i[running]] = 0
            usual = inside[:, 0] > 2 * dependent(X)
            sizes += (b[:, t] / torch.where(usual, pivot, 1)).abs()
        else:
            C = R @ W.T
        remaining = energies_of(R)
        indices[:, t] = torch.where(running, i, 0)
    values[:, :slots] = _solved(L, b)
    return indices, values


def _solved(L, b):
    """The solution z of L.T @ z = b, of each row."""
    return torch.linalg.solve_triangular(L.mT, b[..., None], upper=True)[..., 0]


def _products_among(W, G, indices):
    """The products (n, k, k) of each row's atoms."""
    if G is not None:
        return G[indices[:, :, None], indices[:, None, :]]
    return W[indices] @ W[indices].mT


def _positive(X, W, G, k, stop, by_refit):
    """Lawson and Hanson's active set stopped at k atoms: see `loops/orthogonal.py`."""
    n = len(X)
    indices, values = empty_codes(n, k, X)
    active = torch.zeros_like(values, dtype=torch.bool)
    energy = energies_of(X)
    enough, least = stops_of(energy, stop, X)
    remaining = energy.clone()
    running = torch.ones_like(energy, dtype=torch.bool)
    start = X @ W.T
    C = start
    own = (W * W).sum(1)
    room = own.repeat(n, 1) if by_refit else None
    for _ in range(2 * k):
        running = running & ~active.all(1)
        gain = gains(C, room, energy, values.sum(1), True) if by_refit else None
        i, _, running = pick(C, remaining, enough, least, True, running, gain)
        if not running.any():
            break
        rows = running.nonzero()[:, 0]
        slot = (~active[rows]).to(torch.uint8).argmax(1)
        indices[rows, slot] = i[rows]
        active[rows, slot] = True
        selected = _products_among(W, G, indices[rows])
        target = start[rows[:, None], indices[rows]]
        fine = independent(selected, active[rows], slot)
        if by_refit:
            fine[:] = True  # by `room`
        active[rows[~fine], slot[~fine]] = False
        running[rows[~fine]] = False
        rows, selected, target = rows[fine], selected[fine], target[fine]
        values[rows], active[rows] = nonnegative_refit(
            selected, target, values[rows], active[rows]
        )
        if G is None:
            R = X[rows] - (values[rows, :, None] * W[indices[rows]]).sum(1)
            fit = start[rows] - R @ W.T
        else:
            fit = torch.einsum("nk,nkp->np", values[rows], G[indices[rows]])
        if by_refit:
            atoms = W[indices[rows]] @ W.T if G is None else G[indices[rows]]
            room[rows] = outside(selected, active[rows], atoms, own)
        C = C.clone()
        C[rows] = start[rows] - fit
        explained = fit.gather(1, indices[rows])
        remaining[rows] = energy[rows] - (values[rows] * (2 * target - explained)).sum(1).to(
            energy.dtype
        )
    # Kept slots first, in the order in which they were taken.
    order = active.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    values = torch.where(active, values, 0).gather(1, order)
    indices = torch.where(active, indices, 0).gather(1, order)
    return indices, values
