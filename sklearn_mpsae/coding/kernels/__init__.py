"""The fast paths of the engine; this is the one place that chooses among them.

native
    NumPy arrays on the CPU, loops compiled by numba. Loads no torch.
tensor
    torch tensors on any device torch knows.
reference
    The definition: short, slow, differentiable. The other two are tested against it, on
    values and on gradients.

`native` and `tensor` are the same set of verbs; `verbs.Kernels` is their contract.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from ..._optional import has_torch, torch_for

if TYPE_CHECKING:
    from .verbs import Kernels


def open_kernels(device: str, dtype: np.dtype) -> Kernels:
    """The kernels for a device, as a context manager.

    Parameters
    ----------
    device : str
        "cpu", "auto" (a CUDA device or Apple GPU that can compute in `dtype`, if torch is
        installed, else the CPU) or any device string of torch.
    dtype : numpy dtype
        float32 or float64.

    Raises
    ------
    ValueError
        Where the device is unknown, absent, or cannot compute in `dtype`.
    ImportError
        Where it is neither "cpu" nor "auto", and torch is not installed.
    """
    if device == "auto":
        device = _best_device(dtype)
    if device == "cpu":
        from .native import NativeKernels

        return NativeKernels()
    torch_for(f"device={device!r}", "Or use device='cpu' or device='auto'.")
    from .tensor import TensorKernels

    return TensorKernels(device, dtype)


def _best_device(dtype) -> str:
    if not _may_have_accelerator() or not has_torch():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available() and dtype == np.float32:
        return "mps"
    return "cpu"


def _may_have_accelerator() -> bool:
    """Whether it is worth a second's import of torch to ask it for a GPU."""
    if sys.platform == "linux":
        return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
    return True
