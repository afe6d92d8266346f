"""The seconds and the memory of a fit."""

from __future__ import annotations

import ctypes
import gc
import math
import time
from contextlib import contextmanager, suppress


@contextmanager
def measured(rows):
    """Write the seconds and the memory of a fit into its rows."""
    _give_back_memory()
    before, start = _resident("VmRSS", reset=True), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    for row in rows:
        row["fit_seconds"] = seconds
        row["fit_memory"] = _resident("VmHWM") - before


def _give_back_memory():
    """Return free memory to the system; else a fit that reuses it would seem to take none."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # a system without glibc
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field, *, reset=False):
    """Resident memory of this process in bytes, now (VmRSS) or at its peak (VmHWM)."""
    try:
        if reset:
            # Makes the present the peak (man 5 proc).
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith(field))
    except (OSError, StopIteration):
        return math.nan
    return 1024 * int(kilobytes)
