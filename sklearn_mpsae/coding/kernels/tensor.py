"""The kernels on torch tensors, for every device but the CPU.

Written without autograd: every gradient is explicit, and grad mode, default dtype and
random generators of torch are left alone. Results do not depend on timing, on CUDA either.

On CUDA, matching pursuit on correlations, the values of a coarse pursuit, the gradient and
`scatter_outer` are kernels of Triton (`fused.py`), in float32 and in float64. All else, and
these where there is no Triton, which a warning says, are the operations of torch below.
"""

from __future__ import annotations

import numpy as np
import torch

from ..._warn import warn
from .budget import GRAM_BYTES, even_parts
from .stopping import Stop, matching_stop
from .tensor_orthogonal import orthogonal_codes
from .tensor_rows import (
    empty_codes,
    ended,
    energies_of,
    eps_of,
    in_chunks,
    least_of,
    pick,
    stops_of,
)


class TensorKernels:
    """The verbs of the engine on tensors of one device; see `verbs.Kernels`."""

    def __init__(self, device: str, dtype: np.dtype) -> None:
        try:
            self.device = torch.device(device)
            torch.zeros(1, device=self.device, dtype=_torch_dtype(dtype))
        except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
            first_line = str(error).splitlines()[0]
            raise ValueError(
                f"device={device!r} cannot compute in {np.dtype(dtype).name} here "
                f"({first_line}). Use device='cpu' or device='auto'."
            ) from error
        self._fused = _fused_kernels(self.device)

    def __enter__(self) -> TensorKernels:
        return self

    def __exit__(self, *exc_info) -> None:
        pass

    def has_bfloat16(self):
        return False  # not measured on a GPU yet

    # ----------------------------------------------------------------- arrays
    def asarray(self, x):
        if not isinstance(x, torch.Tensor):
            # A copy: torch warns about read-only memory, and would share writable memory.
            x = torch.from_numpy(np.array(x, order="C"))
        return x.to(self.device)

    def to_numpy(self, x):
        return x.cpu().numpy()

    def exp(self, x):
        return torch.exp(x)

    def product(self, X, W):
        return _product(X, W)

    def energies(self, X):
        return self.to_numpy(energies_of(X)).astype(np.float64)

    def count(self, indices, values, n_components):
        return self.to_numpy(torch.bincount(indices[values != 0], minlength=n_components))

    # --------------------------------------------------------- choosing atoms
    def gram(self, W):
        return W @ W.T

    def matching_pursuit(self, X, W, G, k, *, tol, threshold, positive, atol=0.0, once=False):
        stop = matching_stop(tol, threshold, atol, k, eps_of(X))
        codes = in_chunks(self._pursue, len(W), X, W, G, k, stop, positive, once)
        return ended(X, W, *codes, atol)

    def blocked_pursuit(self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False):
        G = _GramRows(W, _product)
        stop = matching_stop(tol, threshold, atol, k, eps_of(X))
        codes = in_chunks(self._pursue, len(W), X, W, G, k, stop, positive, once)
        return ended(X, W, *codes, atol)

    def coarse_pursuit(self, X, W, k, *, tol, threshold, positive, atol=0.0, once=False):
        if 4 * len(W) ** 2 <= GRAM_BYTES:
            G = _coarse_product(W, W).bfloat16()  # half the bytes to read at every step
        else:
            G = _GramRows(W, _coarse_product)
        # Coarse correlations do not tell when a row comes within atol; `_ended` does.
        stop = Stop(tol, threshold)
        indices, values = in_chunks(
            self._pursue, len(W), X, W, G, k, stop, positive, once, _coarse_product
        )
        codes = self._value(X, W, indices, values != 0, threshold, positive)
        return ended(X, W, *codes, atol)

    def orthogonal_pursuit(
        self, X, W, G, k, *, tol, threshold, positive, atol=0.0, by_refit=False
    ):
        stop = Stop(tol, threshold, atol)
        return orthogonal_codes(X, W, G, k, stop, positive, by_refit)

    def _pursue(self, X, W, G, k, stop, positive, once, product=None):
        """Matching pursuit on correlations, or on residuals where there is no G."""
        C = (product or _product)(X, W)
        weights = energies_of(W)
        energy = energies_of(X)
        enough, least = stops_of(energy, stop, X)
        if self._fused and isinstance(G, torch.Tensor):
            stops = torch.stack([energy, enough, least], dim=1)
            arrays = C.contiguous(), G.contiguous(), stops, weights
            return self._fused.pursue(*arrays, k, positive=positive, once=once)
        indices, values = empty_codes(len(X), k, C)
        remaining = energy.clone()
        running = torch.ones_like(energy, dtype=torch.bool)
        R = X.clone() if G is None else None
        for t in range(k):
            i, v, running = pick(C, remaining, enough, least, positive, running)
            if once:
                running = running & ~(indices[:, :t] == i[:, None]).any(1)
            indices[:, t], values[:, t] = i, v
            remaining -= v.to(remaining.dtype) ** 2 * (2 - weights[i])
            if t + 1 == k:
                break
            if G is None:
                R -= v[:, None] * W[i]
                C = R @ W.T
            else:
                C -= v[:, None] * G[i]
        return indices, values

    def top_k(self, X, W, bias, k, *, positive):
        C = torch.addmm(bias, X, W.T)
        _, indices = torch.topk(C if positive else C.abs(), min(k, len(W)), dim=1)
        values = C.gather(1, indices)
        if positive:
            values = values.clamp(min=0)
        indices = torch.where(values != 0, indices, 0)
        missing = (0, k - indices.shape[1])
        return (
            torch.nn.functional.pad(indices, missing),
            torch.nn.functional.pad(values, missing),
        )

    def above(self, X, W, bias, floor):
        return _slots(torch.addmm(bias, X, W.T), floor)

    def above_in_parts(self, X, W, bias, floor):
        C = torch.addmm(bias, X, W.T)
        counts = (torch.as_tensor(floor).clamp(min=0) < C).sum(1)
        for rows in even_parts(counts.cpu().numpy()):
            yield _slots(C[rows], floor)

    def batch_top_k(self, X, W, bias, n_codes, level=0.0):
        C = torch.addmm(bias, X, W.T)
        largest = torch.topk(C.ravel(), min(n_codes, C.numel())).values
        smallest = largest[-1].clamp(min=0)
        next_one = torch.where(smallest > C, C, 0).max().clamp(min=0)
        floor = torch.nextafter(smallest, torch.full_like(smallest, -1))
        numbers = float(smallest), float(next_one), int((level < C).sum())
        return *_slots(C, floor), *numbers

    def by_value(self, indices, values):
        values, order = torch.sort(values, dim=1, descending=True, stable=True)
        return indices.gather(1, order), values

    # ---------------------------------------------------------- valuing atoms
    def _value(self, X, W, indices, chosen, threshold, positive):
        """Values of matching pursuit along atoms that are already chosen.

        A slot whose atom a pursuit would not take, for want of a large enough correlation,
        becomes unused; the ones after it go on from what is left without it.
        """
        least = least_of(energies_of(X), threshold, X)
        if self._fused:
            X, W = X.contiguous(), W.contiguous()
            return self._fused.value(X, W, indices, chosen, least, positive=positive)
        values = X.new_zeros(indices.shape)
        R = X.clone()
        for t in range(indices.shape[1]):
            w = W[indices[:, t]]
            v = (R * w).sum(1)
            used = chosen[:, t] & (v.to(least.dtype) ** 2 > least)
            if positive:
                used = used & (v > 0)
            values[:, t] = torch.where(used, v, 0)
            R -= values[:, t, None] * w
        return torch.where(values != 0, indices, 0), values

    def decode(self, indices, values, W):
        out = W.new_zeros((len(indices), W.shape[1]))
        for t in range(indices.shape[1]):
            out += values[:, t, None] * W[indices[:, t]]
        return out

    def gather_dot(self, R, W, indices):
        slots = range(indices.shape[1])
        return torch.stack([(R * W[indices[:, t]]).sum(1) for t in slots], dim=1)

    def scatter_outer(self, indices, values, R, n_components):
        if self._fused:
            return self._fused.scatter_outer(indices, values, R.contiguous(), n_components)
        out = R.new_zeros((n_components, R.shape[1]))
        for t in range(indices.shape[1]):
            _add_at(out, indices[:, t], values[:, t, None] * R)
        return out

    def pursuit_gradient(self, X, W, indices, values, path_weight=0.0):
        used = values != 0
        each = path_weight / used.sum(1, keepdim=True).clamp(min=1).to(X.dtype)
        last = 1 - path_weight + each
        # What the residual before each slot weighs: that before the first one is the row.
        shares = torch.where(used & (used.cumsum(1) > 1), each, 0)
        if self._fused:
            arrays = (x.contiguous() for x in (X, W, indices, values, shares, last))
            return self._fused.pursuit_gradient(*arrays)
        R = X - self.decode(indices, values, W)
        gradient = torch.zeros_like(W)
        r, lam = R.clone(), last * R
        for t in reversed(range(indices.shape[1])):
            i, v = indices[:, t], values[:, t, None]
            w = W[i]
            a = (lam * w).sum(1, keepdim=True) * used[:, t, None]
            r += v * w
            _add_at(gradient, i, -(a * r + v * lam))
            lam += shares[:, t, None] * r - a * w
        return R, gradient, lam.sum(0)

    # --------------------------------------------------------------- stepping
    def adam_step(self, W, gradient, mean, square, rates, *, sphere, max_norm=np.inf):
        step, beta1, beta2, correct1, correct2 = rates
        if sphere:
            gradient = gradient - (gradient * W).sum(1, keepdim=True) * W
        mean.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).add_((gradient**2).sum(1), alpha=1 - beta2)
        tiny = torch.finfo(W.dtype).tiny
        rate = step * correct1 / ((square * correct2).sqrt() + tiny)
        W.sub_(rate[:, None] * mean)
        norm = torch.linalg.vector_norm(W, dim=1, keepdim=True)
        W.div_(norm if sphere else (norm / max_norm).clamp(min=1))


class _GramRows:
    """Rows of the Gram matrix, computed when asked for and not kept.

    There are never more of them than rows of correlations, whose memory is bounded.
    """

    def __init__(self, W, product):
        self.W, self.product = W, product

    def __getitem__(self, i):
        atoms, which = torch.unique(i, return_inverse=True)
        return self.product(self.W[atoms], self.W)[which]


def _fused_kernels(device):
    """The one place that chooses: the kernels of Triton on CUDA, else None."""
    if device.type != "cuda":
        return None
    try:
        from . import fused
    except ImportError as error:
        warn(
            f"Triton cannot be imported ({error}): matching pursuit runs on {device} as "
            "single operations of torch, which is several times slower. Install "
            "sklearn_mpsae[gpu].",
            RuntimeWarning,
        )
        return None
    return fused


def _torch_dtype(dtype):
    return {"float32": torch.float32, "float64": torch.float64}[np.dtype(dtype).name]


def _product(X, W):
    return X @ W.T


def _coarse_product(X, W):
    """X @ W.T of entries rounded to bfloat16, their products summed in float32."""
    X, W = X.bfloat16(), W.bfloat16()
    if X.is_cuda:  # torch 2.8 has it
        return torch.mm(X, W.T, out_dtype=torch.float32)
    # Elsewhere bfloat16 in is bfloat16 out: the same sums by way of float32.
    return X.float() @ W.float().T


def _add_at(out, indices, rows):
    """out[indices[r]] += rows[r], for every r, in their order."""
    if out.is_cuda:
        # index_add_ adds with atomics, in any order; index_put_ sorts first.
        out.index_put_((indices,), rows, accumulate=True)
    else:
        out.index_add_(0, indices, rows)


def _slots(C, floor):
    """The entries of each row of C above `floor` and 0, in as many slots as a row needs."""
    C = torch.where(torch.as_tensor(floor).clamp(min=0) < C, C, 0)
    n_slots = max(1, int((C > 0).sum(1).max()))
    values, indices = torch.topk(C, n_slots, dim=1)
    return torch.where(values > 0, indices, 0), values
