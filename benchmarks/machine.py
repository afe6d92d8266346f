"""Where a benchmark ran, on what, and whether it had the machine to itself."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

FOUNDATIONS = ("sklearn-mpsae", "numpy", "scipy", "scikit-learn", "numba", "torch", "joblib")


def versions(packages=()) -> dict[str, str]:
    """Installed versions of what is measured and of what it stands on."""
    return {name: _version(name) for name in sorted({*FOUNDATIONS, *packages})}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def facts() -> dict:
    """Where and when a benchmark ran."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "taken by others": taken_by_others(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def foreign_seconds() -> float:
    """Processor seconds that went to other processes since the machine started."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    usages = (getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - own


def taken_by_others() -> float:
    """Part of the machine that other processes took during the benchmark.

    Not near zero: run it again alone. Two threads that wait for each other on a busy core
    may take ten times as long, and not all sides do.
    """
    seconds = (time.monotonic() - START) * os.cpu_count()
    return (foreign_seconds() - FOREIGN_START) / seconds


def cpu_model() -> str:
    """The processor's name, as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


START, FOREIGN_START = time.monotonic(), foreign_seconds()
