"""From a network's activations to features, and back into the network.

`ModuleActivations` gives the rows of a layer of any torch module to the estimators, and
`spliced` puts an estimator's reconstruction in the place of a layer's output. torch,
which all of them need, is imported when one of these names is first used.
"""

from typing import TYPE_CHECKING

from .._lazy import lazy
from .._optional import torch_for

if TYPE_CHECKING:
    from ._collect import Activations, ModuleActivations
    from ._disk import load_activations, save_activations
    from ._splice import ablate, clamp, scale, spliced

_MODULE_OF = {
    "Activations": "._collect",
    "ModuleActivations": "._collect",
    "ablate": "._splice",
    "clamp": "._splice",
    "load_activations": "._disk",
    "save_activations": "._disk",
    "scale": "._splice",
    "spliced": "._splice",
}

__all__ = [
    "Activations",
    "ModuleActivations",
    "ablate",
    "clamp",
    "load_activations",
    "save_activations",
    "scale",
    "spliced",
]

__getattr__, __dir__ = lazy(__name__, _MODULE_OF, torch_for)
