"""numba's compiler, with a cache on disk that never fails its caller."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import FunctionCache


def jit(function):
    """Compile a function of arrays and numbers on its first call, or load it compiled.

    "ninf" is left out of the fast mathematics: nothing here may assume that no value is
    infinite. "nnan" is what lets maxima vectorise; inputs are validated as finite before
    they come here.
    """
    compiled = numba.njit(
        nogil=True,
        error_model="numpy",
        fastmath={"nnan", "nsz", "reassoc", "contract", "arcp"},
    )(function)
    # What ``cache=True`` does. It fails where there is no folder to write to: then every
    # process compiles anew.
    with suppress(RuntimeError):
        compiled._cache = _Cache(function)
    return compiled


class _Cache(FunctionCache):
    """numba's cache. A damaged file is as good as none, and a full disk no reason to stop."""

    def __init__(self, function):
        super().__init__(function)
        # numba looks at a function's own file only, but the compiled code contains the
        # functions that it calls, also those of other files.
        index = self._cache_file
        index._source_stamp = index._source_stamp, _stamp_of_loops()

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # what is damaged decides what it raises
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig, data):
        with suppress(OSError):
            super().save_overload(sig, data)


@cache
def _stamp_of_loops():
    """Changes with every file of compiled loops."""
    files = sorted(Path(__file__).with_name("loops").glob("*.py"))
    return [(file.name, (stat := file.stat()).st_mtime, stat.st_size) for file in files]
