"""Matching pursuit and its gradient on CUDA, in kernels of Triton: tensors in and out.

What torch would do as hundreds of passes over device memory. A program owns one row and
keeps it in registers through all steps: its correlations while atoms are chosen, its
residual while they are valued and while the gradient goes back. Sums over rows are taken by
one program per atom, in the order of the rows, so that no result depends on timing.

`tensor.py` says where these run. Importing this module needs Triton; under
``TRITON_INTERPRET=1`` they run on the CPU, which is how CI tests them.
"""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl

from .budget import CHUNK_BYTES

# Correlations that one program keeps in registers: a quarter of a multiprocessor's, as much
# again being taken by the row of the Gram matrix that is on its way. Twice as many would
# spill; these do not, compiled for the A100 and the H100 (tests/test_fused.py).
_ON_CHIP_BYTES = 1 << 16

# Longer rows pass through in tiles of so many correlations.
_TILE = 4096

# A program of `_sum_rows` adds so many rows of so many columns at a time.
_ENTRIES, _COLUMNS = 16, 128


def pursue(C, G, stops, weights, k, *, positive, once=False):
    """Matching pursuit on correlations C (n, p), which may be overwritten.

    Parameters
    ----------
    G : (p, p) Gram matrix, of any float dtype
    stops : float64 (n, 3)
        Energies of the rows; what is left of them when they stop; what the square of a
        correlation must exceed.
    weights : float64 (p,), energies of the atoms
    once : a row ends with an atom that it has already

    Returns
    -------
    indices, values : (n, k)
        To the last bit those of the loop in `tensor.py` on the same C and G.
    """
    (n, p), like = C.shape, C
    indices = torch.zeros((n, k), dtype=torch.int64, device=like.device)
    values = like.new_zeros((n, k))
    width = triton.next_power_of_2(p)
    on_chip = width * C.element_size() <= _ON_CHIP_BYTES
    width = width if on_chip else _TILE
    kernel = _pursue_on_chip if on_chip else _pursue_in_tiles
    slots = triton.next_power_of_2(k) if once else 0
    options = p, k, positive, slots
    _launch(kernel, (n,), width, C, G, stops, weights, indices, values, *options)
    return indices, values


def value(X, W, indices, chosen, least, *, positive):
    """Values of matching pursuit along atoms that are already chosen.

    Parameters
    ----------
    indices, chosen : (n, k) atoms; which slots hold one
    least : float64 (n,), what the square of a value must exceed

    Returns
    -------
    indices, values : (n, k)
    """
    values = X.new_zeros(indices.shape)
    width = triton.next_power_of_2(X.shape[1])
    shape = X.shape[1], indices.shape[1]
    _launch(_value, (len(X),), width, X, W, indices, chosen, least, values, *shape, positive)
    return torch.where(values != 0, indices, 0), values


def pursuit_gradient(X, W, indices, values, shares, last):
    """Residuals and the gradients of the unrolled pursuit: see `Kernels`.

    shares : (n, k) what the residual before each slot weighs in the loss
    last : (n, 1) what the last residual weighs
    """
    (n, d), k = X.shape, indices.shape[1]
    residual, gradient, by_row = torch.empty_like(X), torch.zeros_like(W), torch.empty_like(X)
    width = triton.next_power_of_2(d)
    # What all slots of a chunk of rows add to the gradient is (slots, d).
    rows = min(n, max(1, CHUNK_BYTES // (k * d * X.element_size())))
    parts = X.new_empty((rows * k, d))
    ones = X.new_ones(rows * k)
    for a in range(0, n, rows):
        i, v = indices[a : a + rows], values[a : a + rows]
        weights, out = (shares[a:], last[a:]), (residual[a:], by_row[a:], parts)
        _launch(_unroll, (len(i),), width, X[a:], W, i, v, *weights, *out, d, k)
        order, starts = _by_atom(i, v, len(W))
        _add_rows(parts, order, ones, starts, gradient)
    return residual, gradient, by_row.sum(0)


def scatter_outer(indices, values, R, n_components):
    """Sum over rows r and slots t of values[r, t] * R[r] in row indices[r, t]."""
    out = R.new_zeros((n_components, R.shape[1]))
    order, starts = _by_atom(indices, values, n_components)
    sources = order // indices.shape[1]
    _add_rows(R, sources, values.ravel()[order], starts, out)
    return out


def _by_atom(indices, values, n_components):
    """The slots in use, those of an atom side by side, and where each atom's start.

    A stable sort: an atom's slots stay in the order of the rows. Slots without a value
    come last, where no atom looks.
    """
    atoms = torch.where(values != 0, indices, n_components).ravel()
    atoms, order = torch.sort(atoms, stable=True)
    return order, torch.searchsorted(atoms, torch.arange(n_components + 1, device=atoms.device))


def _add_rows(rows, sources, weights, starts, out):
    """out[i] += sum of weights[e] * rows[sources[e]] over starts[i] <= e < starts[i + 1]."""
    p, d = out.shape
    grid = p, triton.cdiv(d, _COLUMNS)
    with _device(out):
        _sum_rows[grid](rows, sources, weights, starts, out, d, _ENTRIES, _COLUMNS)


def _launch(kernel, grid, width, *args):
    """Run a kernel whose programs hold rows of `width` entries."""
    with _device(args[0]):
        kernel[grid](
            *args,
            width,
            num_warps=_warps(width),
            # Products are rounded before they are added, as torch rounds them.
            enable_fp_fusion=False,
        )


def _warps(width):
    """16 entries to a thread; more where a program would else take over 512 threads."""
    return min(16, max(1, width // 512))


def _device(like):
    """Triton launches on the current device, whatever its arguments are on."""
    return torch.cuda.device(like.device) if like.is_cuda else contextlib.nullcontext()


# --------------------------------------------------------------------------- #
# Choosing atoms
#
# A pick of value 0 stands for none: no stop rule lets it pass. So padding of zeros
# is never picked, nor is a NaN. With SLOTS, of which a row fills k at most, it ends with an
# atom that it has already.
# --------------------------------------------------------------------------- #
@triton.jit
def _pursue_on_chip(
    C,
    G,
    stops,
    weights,
    indices,
    values,
    p,
    k,
    positive: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    atoms = tl.arange(0, WIDTH)
    c = tl.load(C + row * p + atoms, mask=atoms < p, other=0)
    remaining = tl.load(stops + 3 * row)
    enough = tl.load(stops + 3 * row + 1)
    least = tl.load(stops + 3 * row + 2)
    i, v = _best(c, atoms, positive)
    square = v.to(tl.float64) * v
    t = tl.zeros((), tl.int32)
    if SLOTS > 0:
        slots = tl.arange(0, SLOTS)
        taken = tl.full((SLOTS,), -1, tl.int32)
    while (t < k) & (remaining > enough) & (square > least):
        tl.store(indices + row * k + t, i.to(tl.int64))
        tl.store(values + row * k + t, v)
        remaining -= square * (2 - tl.load(weights + i))
        if SLOTS > 0:
            again = tl.max((taken == i).to(tl.int32), axis=0)
            taken = tl.where(slots == t, i, taken)
            t = tl.where(again > 0, k, t + 1)
        else:
            t += 1
        ahead = tl.where(t < k, p, 0)  # the last step needs no update
        g = tl.load(G + i.to(tl.int64) * p + atoms, mask=atoms < ahead, other=0)
        c -= v * g.to(c.dtype)
        i, v = _best(c, atoms, positive)
        square = v.to(tl.float64) * v


@triton.jit
def _best(c, atoms, positive: tl.constexpr):
    """The best entry of c, the first among equals, and its value."""
    if positive:
        top, i = tl.max(c, axis=0, return_indices=True)
        v = tl.maximum(top, 0.0)
    else:
        top, i = tl.max(tl.abs(c), axis=0, return_indices=True)
        v = tl.sum(tl.where(atoms == i, c, 0.0), axis=0)
    return i, v


@triton.jit
def _pursue_in_tiles(
    C,
    G,
    stops,
    weights,
    indices,
    values,
    p,
    k,
    positive: tl.constexpr,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    remaining = tl.load(stops + 3 * row)
    enough = tl.load(stops + 3 * row + 1)
    least = tl.load(stops + 3 * row + 2)
    c = C + row * p
    i, v = _sweep(c, G, tl.load(c) * 0, p, positive, WIDTH)
    square = v.to(tl.float64) * v
    t = tl.zeros((), tl.int32)
    if SLOTS > 0:
        slots = tl.arange(0, SLOTS)
        taken = tl.full((SLOTS,), -1, tl.int32)
    while (t < k) & (remaining > enough) & (square > least):
        tl.store(indices + row * k + t, i.to(tl.int64))
        tl.store(values + row * k + t, v)
        remaining -= square * (2 - tl.load(weights + i))
        if SLOTS > 0:
            again = tl.max((taken == i).to(tl.int32), axis=0)
            taken = tl.where(slots == t, i, taken)
            t = tl.where(again > 0, k, t + 1)
        else:
            t += 1
        i, v = _sweep(c, G + i.to(tl.int64) * p, v, p, positive, WIDTH)
        square = v.to(tl.float64) * v


@triton.jit
def _sweep(c, g, v, p, positive: tl.constexpr, WIDTH: tl.constexpr):
    """Subtract v * g from c, in memory, and in the same pass find the best entry.

    Entries WIDTH apart share a running best, as in `loops/pursuit.py`.
    """
    lanes = tl.arange(0, WIDTH)
    best = tl.zeros((WIDTH,), v.dtype)
    value = tl.zeros((WIDTH,), v.dtype)
    where = lanes
    for start in range(0, p, WIDTH):
        atoms = start + lanes
        x = tl.load(c + atoms, mask=atoms < p, other=0)
        x -= v * tl.load(g + atoms, mask=atoms < p, other=0).to(v.dtype)
        tl.store(c + atoms, x, mask=atoms < p)
        score = x if positive else tl.abs(x)
        better = score > best
        best = tl.where(better, score, best)
        value = tl.where(better, x, value)
        where = tl.where(better, atoms, where)
    equal = best == tl.max(best, axis=0)
    i = tl.min(tl.where(equal, where, p), axis=0)
    return i, tl.sum(tl.where(equal & (where == i), value, 0.0), axis=0)


# --------------------------------------------------------------------------- #
# Valuing atoms
# --------------------------------------------------------------------------- #
@triton.jit
def _value(
    X,
    W,
    indices,
    chosen,
    leasts,
    values,
    d,
    k,
    positive: tl.constexpr,
    WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    r = tl.load(X + row * d + columns, mask=columns < d, other=0)
    least = tl.load(leasts + row)
    for t in range(k):
        slot = row * k + t
        w = tl.load(W + tl.load(indices + slot) * d + columns, mask=columns < d, other=0)
        v = tl.sum(r * w, axis=0)
        used = tl.load(chosen + slot) & (v.to(tl.float64) * v > least)
        if positive:
            used = used & (v > 0)
        v = tl.where(used, v, 0.0)
        tl.store(values + slot, v)
        r -= v * w


@triton.jit
def _unroll(X, W, indices, values, shares, last, R, by_row, parts, d, k, WIDTH: tl.constexpr):
    """The recursion of `Kernels.pursuit_gradient`, one row to a program.

    Each slot's part of the gradient goes to its own row of `parts`; zeros for a slot
    without a value. `shares` has what the residual before each slot weighs in the loss,
    `last` what the last one does.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    inside = columns < d
    r = tl.load(X + row * d + columns, mask=inside, other=0)
    for t in range(k):
        v = tl.load(values + row * k + t)
        w = tl.load(W + tl.load(indices + row * k + t) * d + columns, mask=inside, other=0)
        r -= v * w
    tl.store(R + row * d + columns, r, mask=inside)
    lam = r * tl.load(last + row)
    for back in range(k):
        slot = row * k + k - 1 - back
        v = tl.load(values + slot)
        w = tl.load(W + tl.load(indices + slot) * d + columns, mask=inside, other=0)
        a = tl.where(v != 0, tl.sum(lam * w, axis=0), 0.0)
        r += v * w
        tl.store(parts + slot * d + columns, -(a * r + v * lam), mask=inside)
        lam += tl.load(shares + slot) * r - a * w
    tl.store(by_row + row * d + columns, lam, mask=inside)


@triton.jit
def _sum_rows(
    rows, sources, weights, starts, out, d, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr
):
    atom = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.load(starts + atom)
    last = tl.load(starts + atom + 1)
    target = out + atom * d + columns
    inside = columns < tl.where(first < last, d, 0)
    total = tl.load(target, mask=inside, other=0)
    for start in range(first, last, ENTRIES):
        entries = start + tl.arange(0, ENTRIES)
        source = tl.load(sources + entries, mask=entries < last, other=0)
        weight = tl.load(weights + entries, mask=entries < last, other=0)
        taken = (entries < last)[:, None] & inside[None, :]
        block = tl.load(rows + source[:, None] * d + columns[None, :], mask=taken, other=0)
        total += tl.sum(weight[:, None] * block, axis=0)
    tl.store(target, total, mask=inside)
