"""Saving and sharing fitted estimators: files without pickle, SAELens, torch, ONNX, hub.

Optional packages are imported by the functions that need them: torch by `to_torch_module`
only.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from ._files import load, save
    from ._hub import load_from_hub, push_to_hub
    from ._onnx import to_onnx
    from ._saelens import export_saelens
    from ._saelens_import import import_saelens
    from ._torch import to_torch_module

_MODULE_OF = {
    "export_saelens": "._saelens",
    "import_saelens": "._saelens_import",
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

__getattr__, __dir__ = lazy(__name__, _MODULE_OF)
