"""The definitions, one sample at a time: slow, short and differentiable.

Everything fast is tested against these, on values and, through autograd, on gradients.
Each takes x (d,) and atoms W (p, d) as torch tensors, and returns the indices of the
chosen atoms in their order (a list) and their values (a list of scalars).
"""

from __future__ import annotations

import torch

# Correlations below this share of the norm of x are rounding errors of a residual.
_ROUNDING = 1e-12


def matching_pursuit(x, W, k, *, tol=0.0, threshold=0.0, positive=True, atol=0.0, once=False):
    """Mallat and Zhang 1993: take the best atom, subtract its part, repeat.

    With `once`, a row ends with an atom that it has already.
    """
    threshold = max(threshold, _ROUNDING * float(x.detach().norm()))
    residual, indices, values = x, [], []
    for _ in range(k):
        correlations = W @ residual
        scores = correlations if positive else correlations.abs()
        i = int(scores.argmax())
        if residual @ residual <= max(tol * (x @ x), atol) or scores[i] <= threshold:
            break
        again = i in indices
        indices.append(i)
        values.append(correlations[i])
        residual = residual - correlations[i] * W[i]
        if once and again:
            break
    return indices, values


def orthogonal_matching_pursuit(
    x, W, k, *, tol=0.0, threshold=0.0, positive=False, atol=0.0, by_refit=False
):
    """Pati et al. 1993: as matching pursuit, but refit all values at every step.

    With `positive` the refit is a non-negative one, and atoms it sets to zero leave.
    With `by_refit` every atom is tried: that of the best (unsigned) refit is taken.
    """
    threshold = max(threshold, _ROUNDING * float(x.detach().norm()))
    residual, indices, values = x, [], []
    for _ in range(2 * k):
        correlations = W @ residual
        scores = correlations if positive else correlations.abs()
        i = int(scores.argmax())
        spent = len(indices) == k or residual @ residual <= max(tol * (x @ x), atol)
        if by_refit and not spent and scores[i] > threshold:
            i = _best_refit(x, W, indices, scores)
        if spent or scores[i] <= threshold:
            break
        indices = [*indices, i]
        if positive:
            indices, values = _nonnegative_refit(x, W, indices, [*values, 0.0])
        else:
            values = _least_squares(x, W, indices)
        residual = x - torch.stack(values) @ W[indices]
    return indices, values


def top_k(x, W, bias, k, *, positive):
    """The k largest entries of W x + bias, from the largest down."""
    correlations = W @ x + bias
    scores = correlations if positive else correlations.abs()
    indices = [i for i in scores.argsort(descending=True)[:k].tolist() if scores[i] > 0]
    return indices, [correlations[i] for i in indices]


def decode(indices, values, W):
    """The reconstruction, shape (d,)."""
    if not indices:
        return torch.zeros_like(W[0])
    return torch.stack(values) @ W[indices]


def _best_refit(x, W, indices, scores):
    """The atom that, of those with a score, leaves least after a refit."""
    tried = (scores > 0).nonzero()[:, 0]
    chosen = torch.cat([torch.tensor(indices).repeat(len(tried), 1), tried[:, None]], 1).long()
    atoms = W[chosen].mT
    fits = torch.linalg.lstsq(atoms, x.expand(len(tried), -1)[..., None]).solution
    return int(tried[(x - (atoms @ fits)[..., 0]).norm(dim=1).argmin()])


def _least_squares(x, W, indices):
    return list(torch.linalg.lstsq(W[indices].T, x[:, None]).solution[:, 0])


def _nonnegative_refit(x, W, indices, values):
    """Lawson and Hanson 1974: go towards the least squares until an atom gets to zero.

    It leaves, and the others go on to theirs.
    """
    while True:
        fit = _least_squares(x, W, indices)
        steps = [v / (v - z) if z <= 0 else 1.0 for v, z in zip(values, fit, strict=True)]
        step = min(steps)
        if step == 1:
            return indices, fit
        first = steps.index(step)
        values = [v + step * (z - v) for v, z in zip(values, fit, strict=True)]
        del indices[first], values[first]
