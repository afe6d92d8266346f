"""Packages that only some of the functions here need, and what is said where one is missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def imported(module: str, message: str) -> ModuleType:
    """The module, or an ImportError with this message, which says what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(message) from error


def needed(module: str, extra: str, user: str = "This", instead: str = "") -> ModuleType:
    """The module, or an ImportError that names the extra of this package that has it.

    user : what needs the module, as the message begins; instead : as for `torch_for`
    """
    message = (
        f"{user} needs {module.partition('.')[0]}, which cannot be imported. Install it with "
        f"`pip install 'sklearn_mpsae[{extra}]'`."
    )
    return imported(module, f"{message} {instead}".rstrip())


def torch_for(user: str, instead: str = "") -> ModuleType:
    """torch, or an ImportError that says what needs it and how it is installed.

    instead : what to do without torch, as a sentence, where there is something
    """
    return needed("torch", "torch", user, instead)


def has_torch() -> bool:
    """Whether torch is installed. It is not imported, which takes a second."""
    return find_spec("torch") is not None
