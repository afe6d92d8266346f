"""A monkeypatch that fails the test where nothing has used what it put in.

Code moves; a patch of the name that it has left behind replaces nothing, and a test that
relies on it goes on to pass. So what is put in must be used:

- a function or a class is called, at least once before it is taken out again; with `watch`
  instead of `setattr` it need not be;
- what need not be called, and what is no function, must be read: as a global by some function
  of its module, or as an attribute by some function of the package (methods that need not be
  called are left to whoever calls them, scikit-learn for one);
- while a function is replaced in one module, no other module of the package may call the same
  one by its own name for it.
"""

import dis
import functools
import importlib
import inspect
import sys
import types
from pathlib import Path

import pytest

PACKAGE = "sklearn_mpsae"
TESTS = Path(__file__).parent


class CheckedPatch(pytest.MonkeyPatch):
    def __init__(self):
        super().__init__()
        self._faults = []

    def setattr(self, target, name, *value, **options):
        self._put(target, name, *value, must_be_called=True, **options)

    def watch(self, target, name, value):
        """As `setattr`, for a function that may never be called: that it is not is the test."""
        self._put(target, name, value, must_be_called=False)

    def _put(self, target, name, *value, must_be_called, **options):
        if not value:  # "module.name", value
            path, value = target, (name,)
            target, _, name = path.rpartition(".")
        (value,) = value
        if isinstance(target, str):
            target = importlib.import_module(target)
        if not _is_a_test_s(target):
            value = self._checked(target, name, value, must_be_called)
        super().setattr(target, name, value, **options)

    def undo(self):
        """Take all out again; if no error is on its way, tell what was not used."""
        super().undo()
        faults = [fault for fault, is_one in self._faults if is_one()]
        self._faults.clear()
        if faults and sys.exc_info()[0] is None:
            pytest.fail("\n".join(faults))

    def _checked(self, target, name, value, must_be_called):
        """What to put in, so that it is known whether it was used."""
        place = f"{target.__name__}.{name} is patched, but"
        if callable(value):
            if inspect.isroutine(getattr(target, name)):
                self._watch_others(target, name, place)
            value, calls = _counting(value)
            if must_be_called:
                self._faults.append((f"{place} was not called", lambda: not calls))
            if must_be_called or inspect.isclass(target):
                return value
        self._faults.append((f"{place} nothing reads it", lambda: not _is_read(target, name)))
        return value

    def _watch_others(self, target, name, place):
        """See who calls the same function by another module's name for it."""
        original = getattr(target, name)
        for module in _modules():
            if module is not target and vars(module).get(name) is original:
                counting, calls = _counting(original)
                super().setattr(module, name, counting)
                fault = f"{place} {module.__name__} calls its own"
                self._faults.append((fault, lambda calls=calls: calls))


def _is_a_test_s(target):
    module = target if isinstance(target, types.ModuleType) else sys.modules[target.__module__]
    return Path(getattr(module, "__file__", None) or "/").is_relative_to(TESTS)


def _counting(value):
    """The same function or class, and a list that grows with each call."""
    calls = []
    if inspect.isclass(value):

        class Counting(value):
            def __init__(self, *args, **kwargs):
                calls.append(None)
                super().__init__(*args, **kwargs)

        return Counting, calls

    @functools.wraps(value)
    def counting(*args, **kwargs):
        calls.append(None)
        return value(*args, **kwargs)

    return counting, calls


def _modules():
    return [module for name, module in [*sys.modules.items()] if name.startswith(PACKAGE)]


def _is_read(target, name):
    """Whether a function reads the name: a global of its module, or else any attribute."""
    if isinstance(target, types.ModuleType) and target.__name__.startswith(PACKAGE):
        return ("LOAD_GLOBAL", name) in _reads(target)
    reads = set().union(*map(_reads, _modules()))
    return ("LOAD_ATTR", name) in reads or ("LOAD_METHOD", name) in reads


@functools.cache
def _reads(module):
    """What the functions of a module do with names: (operation, name)."""
    try:
        waiting = [compile(inspect.getsource(module), "", "exec")]
    except (OSError, TypeError):
        return set()
    found = set()
    while waiting:
        code = waiting.pop()
        found |= {(each.opname, each.argval) for each in dis.get_instructions(code)}
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return found
