"""Sums over the entries of a matrix, and its mirror."""

from __future__ import annotations

import numpy as np

from ..compiled import jit


@jit
def dot(a, b):
    """The product of two vectors."""
    total = a.dtype.type(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@jit
def energy_rows(X, out):
    """Squared norms, in float64: the square of a small float32 underflows.

    X : (n, d)
    out : (n,) float64, written
    """
    for r in range(X.shape[0]):
        total = 0.0
        for x in X[r]:
            total += np.float64(x) * np.float64(x)
        out[r] = total


@jit
def add_moments(X, center, total):
    """Add the rows of X - center to `total`; returns the sum of their squares.

    X : (n, d)
    center, total : (d,) float64; `total` is updated
    """
    energy = 0.0
    for r in range(X.shape[0]):
        for j in range(X.shape[1]):
            x = np.float64(X[r, j]) - center[j]
            total[j] += x
            energy += x * x
    return energy


@jit
def checksum_rows(words, weights, first):
    """A sum of the words of rows, which depends on where each of them stands.

    Of integers that wrap around: in whatever order and parts it is taken, it is the same.

    words : (n, d) uint32
    weights : (d,) uint64, odd
    first : the number of the first row
    """
    total = np.uint64(0)
    for r in range(words.shape[0]):
        row = np.uint64(0)
        for j in range(words.shape[1]):
            row += np.uint64(words[r, j]) * weights[j]
        # The row's number, mixed as by splitmix64, and made odd.
        z = np.uint64(first + r + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        total += row * (z | np.uint64(1))
    return total


@jit
def mirror_lower(G, start, stop):
    """Copy the lower triangle's rows start to stop to the upper triangle's columns.

    In tiles of 8: a column of a power-of-two matrix maps to one set of the L1 cache,
    which holds no more than that many lines of each triangle at once.

    G : (p, p), updated
    """
    tile = 8
    for top in range(start, stop, tile):
        for left in range(0, top + 1, tile):
            for i in range(top, min(top + tile, stop)):
                for j in range(left, min(left + tile, i)):
                    G[j, i] = G[i, j]
