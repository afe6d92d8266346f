"""Saving and sharing fitted estimators: files without pickle, SAELens, torch, ONNX, hub.

Optional packages are imported by the functions that need them; loading needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._files import load, save
    from ._hub import load_from_hub, push_to_hub
    from ._onnx import to_onnx
    from ._saelens import export_saelens, import_saelens
    from ._torch import to_torch_module

_HOMES = {
    "export_saelens": "._saelens",
    "import_saelens": "._saelens",
    "load": "._files",
    "load_from_hub": "._hub",
    "push_to_hub": "._hub",
    "save": "._files",
    "to_onnx": "._onnx",
    "to_torch_module": "._torch",
}

__all__ = [
    "export_saelens",
    "import_saelens",
    "load",
    "load_from_hub",
    "push_to_hub",
    "save",
    "to_onnx",
    "to_torch_module",
]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
