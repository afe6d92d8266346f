"""Least squares on the atoms that a row has chosen, from the factor of their Gram matrix."""

from __future__ import annotations

from ..compiled import jit


@jit
def solve_upper(L, b, t, z):
    """Solve L[:t, :t].T @ z = b[:t] for z[:t].

    L, b, z : (k, k), (k,), (k,)
    """
    for row in range(t - 1, -1, -1):
        total = b[row]
        for s in range(row + 1, t):
            total -= L[s, row] * z[s]
        z[row] = total / L[row, row]


@jit
def step_towards(z, size, support, code):
    """Go from the codes towards z, and no further than to where the first is zero.

    The atoms at zero then leave, and the others keep their order (Lawson and Hanson 1974).
    Returns how many are left: `size` once z is reached.

    z, support, code : (k,), `size` of them in use; the last two are changed
    """
    step = code.dtype.type(1)
    blocking = -1
    for s in range(size):
        if z[s] <= 0:
            ratio = code[s] / (code[s] - z[s]) if code[s] > 0 else code.dtype.type(0)
            if blocking < 0 or ratio < step:
                step = ratio
                blocking = s
    for s in range(size):
        code[s] += step * (z[s] - code[s])
    if blocking < 0:
        return size
    code[blocking] = 0
    kept = 0
    for s in range(size):
        if code[s] > 0:
            support[kept] = support[s]
            code[kept] = code[s]
            kept += 1
    return kept
