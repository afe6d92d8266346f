"""The torch modules that code as the coders of fitted estimators do."""

from __future__ import annotations

import torch
from torch import nn

from ..models.coder import PursuitCoder


def module_of(coder) -> nn.Module:
    """The module of a coder."""
    return (_Pursuit if isinstance(coder, PursuitCoder) else _Shallow)(coder)


class _Encoder(nn.Module):
    """What both kinds share: parameters, checks, decoding."""

    def __init__(self, coder):
        super().__init__()
        self.components = _parameter(coder.components)
        self.intercept = _parameter(coder.intercept)
        self.k, self.positive = coder.k, coder.positive

    def forward(self, x):
        return self.encode(x)

    def encode(self, x):
        """Codes of shape (..., n_components) of rows of shape (..., n_features)."""
        d, dtype = self.components.shape[1], self.components.dtype
        if x.shape[-1] != d or x.dtype != dtype:
            raise ValueError(
                f"Rows must have {d} features of {dtype}, got {x.shape[-1]} of {x.dtype}: "
                "convert them, or the module by module.to(x.dtype)."
            )
        return self._codes(x - self.intercept)

    def decode(self, codes):
        """The reconstruction, shape (..., n_features)."""
        return codes @ self.components + self.intercept


class _Pursuit(_Encoder):
    """Matching pursuit, unrolled."""

    def __init__(self, coder):
        super().__init__(coder)
        self.tol, self.atol, self.once = coder.tol, coder.atol, coder.stop_on_repeat
        self.threshold = coder.threshold
        metric = None if coder.metric is None else torch.from_numpy(coder.metric.copy())
        self.register_buffer("metric", metric)

    def _codes(self, residual):
        W, norms = self.components, None
        if self.metric is not None:
            W, residual = W @ self.metric, residual @ self.metric
            norms = torch.linalg.vector_norm(W, dim=1)
            norms = torch.where(norms > 0, norms, 1)
            W = W / norms[:, None]
        codes = residual.new_zeros(*residual.shape[:-1], len(W))
        # What a correlation must exceed: rounding noise, the threshold.
        energy = _energy(residual)
        noise = 4 * torch.finfo(residual.dtype).eps
        least = (noise * energy.sqrt()).clamp(min=self.threshold)
        enough = (self.tol * energy).clamp(min=self.atol)
        within = self.tol or self.atol
        going = energy > enough if within else torch.ones_like(energy, dtype=torch.bool)
        for _ in range(self.k):
            # Choosing has no gradient, so nothing of this product is kept for it.
            correlations = residual.detach() @ W.detach().T
            scores = correlations if self.positive else correlations.abs()
            best, i = scores.max(-1, keepdim=True)
            atom = W[i.squeeze(-1)]
            value = (residual * atom).sum(-1, keepdim=True)
            going = going & (best > least)
            value = torch.where(going, value, 0)
            new = codes.detach().gather(-1, i) == 0
            codes = codes.scatter_add(-1, i, value)
            residual = residual - value * atom
            if within:
                going = going & (_energy(residual) > enough)
            if self.once:
                going = going & new
        return codes if norms is None else codes / norms


class _Shallow(_Encoder):
    """A linear encoder, and a rule that chooses among its outputs."""

    def __init__(self, coder):
        super().__init__(coder)
        self.encoder = _parameter(coder.encoder)
        self.bias = _parameter(coder.bias)
        floor = None if coder.floor is None else torch.from_numpy(coder.floor.copy())
        self.register_buffer("floor", floor)

    def _codes(self, x):
        outputs = x @ self.encoder.T + self.bias
        if self.floor is not None:
            outputs = torch.where(outputs > self.floor, outputs, 0)
        if self.k is None:
            return outputs
        scores = outputs if self.positive else outputs.abs()
        i = scores.topk(self.k).indices
        values = outputs.gather(-1, i)
        if self.positive:
            values = values.relu()
        return torch.zeros_like(outputs).scatter(-1, i, values)


def _parameter(array):
    return nn.Parameter(torch.from_numpy(array.copy()))


def _energy(rows):
    return rows.detach().square().sum(-1, keepdim=True)
