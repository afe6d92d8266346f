"""Decoding, gradients, and the step that follows them."""

from __future__ import annotations

import numpy as np

from ..compiled import jit
from .matrices import dot


@jit
def decode_rows(indices, values, W, out):
    """Add the sums of atoms that codes stand for.

    indices, values : (n, k) codes
    W : (p, d) atoms
    out : (n, d), zeros; updated
    """
    for r in range(indices.shape[0]):
        row = out[r]
        for t in range(indices.shape[1]):
            v = values[r, t]
            if v != 0:
                w = W[indices[r, t]]
                for j in range(len(row)):
                    row[j] += v * w[j]


@jit
def dot_rows(R, W, indices, out):
    """The product of each row with the atom in each of its slots.

    R : (n, d) rows
    W : (p, d) atoms
    indices : (n, k)
    out : (n, k), written
    """
    for r in range(indices.shape[0]):
        row = R[r]
        for t in range(indices.shape[1]):
            out[r, t] = dot(row, W[indices[r, t]])


@jit
def scatter_columns(indices, values, R, out, start, stop):
    """Add values[r, t] * R[r] to row indices[r, t], in the columns from start to stop.

    indices, values : (n, k) codes
    R : (n, d) rows
    out : (p, d), updated
    """
    for r in range(indices.shape[0]):
        row = R[r, start:stop]
        for t in range(indices.shape[1]):
            v = values[r, t]
            if v != 0:
                target = out[indices[r, t], start:stop]
                for j in range(len(row)):
                    target[j] += v * row[j]


@jit
def _shares(values, path_weight):
    """What a row's last residual and each earlier one weigh in the loss, and their number.

    values : (k,) codes of the row
    """
    n_steps = 0
    for t in range(len(values)):
        if values[t] != 0:
            n_steps += 1
    each = values.dtype.type(path_weight / max(1, n_steps))
    return values.dtype.type(1) - values.dtype.type(path_weight) + each, each, n_steps


@jit
def adjoint_rows(X, W, indices, values, path_weight, R, adjoint):
    """Residuals of rows, and the factors `a` of `Kernels.pursuit_gradient` for each slot.

    X, W : (n, d) rows and (p, d) atoms
    indices, values : (n, k) codes
    path_weight : float
    R : (n, d) residuals, written
    adjoint : (n, k), written in slots whose value is not zero
    """
    n, d = X.shape
    lam = np.empty(d, X.dtype)
    res = np.empty(d, X.dtype)
    for r in range(n):
        row = R[r]
        for j in range(d):
            row[j] = X[r, j]
        for t in range(indices.shape[1]):
            v = values[r, t]
            if v != 0:
                w = W[indices[r, t]]
                for j in range(d):
                    row[j] -= v * w[j]
        last, each, left = _shares(values[r], path_weight)
        for j in range(d):
            lam[j] = last * row[j]
        if path_weight:
            for j in range(d):
                res[j] = row[j]
        for t in range(indices.shape[1] - 1, -1, -1):
            v = values[r, t]
            if v != 0:
                w = W[indices[r, t]]
                a = lam.dtype.type(0)
                for j in range(d):
                    a += lam[j] * w[j]
                adjoint[r, t] = a
                for j in range(d):
                    lam[j] -= a * w[j]
                left -= 1
                if path_weight and left:
                    for j in range(d):
                        res[j] += v * w[j]
                        lam[j] += each * res[j]


@jit
def gradient_columns(
    R, W, indices, values, path_weight, adjoint, gradient, by_rows, start, stop
):
    """The columns start to stop of the gradients, from residuals and `adjoint_rows`' factors.

    R, W : (n, d) residuals and (p, d) atoms
    indices, values, adjoint : (n, k)
    path_weight : float
    gradient : (p, d), zeros; updated
    by_rows : (d,), zeros; updated: the sum of the derivatives by the rows
    """
    width = stop - start
    res = np.empty(width, R.dtype)
    lam = np.empty(width, R.dtype)
    for r in range(indices.shape[0]):
        last, each, left = _shares(values[r], path_weight)
        for j in range(width):
            res[j] = R[r, start + j]
            lam[j] = last * res[j]
        for t in range(indices.shape[1] - 1, -1, -1):
            v = values[r, t]
            if v != 0:
                a = adjoint[r, t]
                w = W[indices[r, t], start:stop]
                target = gradient[indices[r, t], start:stop]
                for j in range(width):
                    before = res[j] + v * w[j]
                    target[j] -= a * before + v * lam[j]
                    lam[j] -= a * w[j]
                    res[j] = before
                left -= 1
                if path_weight and left:
                    for j in range(width):
                        lam[j] += each * res[j]
        for j in range(width):
            by_rows[start + j] += lam[j]


@jit
def adam_rows(W, gradient, mean, square, rates, sphere, max_norm):
    """`Kernels.adam_step` for some rows; all arrays have W's dtype.

    W, gradient, mean : (p, d); W and mean are updated
    square : (p,), updated
    rates : (5,), see `Kernels.adam_step`
    max_norm : number of W's dtype
    """
    step, beta1, beta2, correct1, correct2 = rates
    p, d = W.shape
    one = W.dtype.type(1)
    tiny = np.finfo(W.dtype).tiny
    for i in range(p):
        w = W[i]
        g = gradient[i]
        m = mean[i]
        along = w.dtype.type(0)
        if sphere:
            for j in range(d):
                along += g[j] * w[j]
        energy = w.dtype.type(0)
        for j in range(d):
            gj = g[j] - along * w[j]
            energy += gj * gj
            m[j] = beta1 * m[j] + (one - beta1) * gj
        square[i] = beta2 * square[i] + (one - beta2) * energy
        rate = step * correct1 / (np.sqrt(square[i] * correct2) + tiny)
        norm = w.dtype.type(0)
        for j in range(d):
            w[j] -= rate * m[j]
            norm += w[j] * w[j]
        norm = np.sqrt(norm)
        if sphere or norm > max_norm:
            shrink = (one if sphere else max_norm) / norm
            for j in range(d):
                w[j] *= shrink
