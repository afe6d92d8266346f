"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy(
    package: str, homes: dict[str, str], need: Callable[[str], Any] | None = None
) -> tuple[Callable[[str], Any], Callable]:
    """The `__getattr__` and `__dir__` of a package.

    Parameters
    ----------
    package : str
        Its name.
    homes : dict of str to str
        The module that each public name is of, as for a relative import. A module of the
        public name itself is what is public.
    need : callable, default=None
        Is called with the full name of each public name that is asked for, before its module
        is imported: it raises where a package that all of them need is missing.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if need is not None:
            need(f"{package}.{name}")
        module = import_module(homes[name], package)
        return module if homes[name] == f".{name}" else getattr(module, name)

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return getattr_, dir_
