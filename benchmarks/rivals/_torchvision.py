"""Let a torchvision be imported whose compiled part does not match torch.

SAELens (through transformers) and overcomplete (through timm) import torchvision and use
nothing of it here. Beside a torch of another build (CPU and CUDA, say) that import fails,
for want of the two compiled operators that torchvision describes while it is imported.
"""

import importlib.util

import torch

if importlib.util.find_spec("torchvision"):
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        operators = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
