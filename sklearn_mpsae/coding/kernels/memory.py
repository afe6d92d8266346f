"""How much memory this process may have: the machine's, or less where a cgroup limits it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROCESS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory_limit() -> int | None:
    """In bytes; None where the system does not tell it."""
    known = [*_of_groups()]
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((n for n in known if n > 0), default=None)


def _of_groups():
    """The limits of the control groups of this process, and of those that contain them."""
    with suppress(OSError):
        for line in _PROCESS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                root, file = _GROUPS, "memory.max"
            elif "memory" in controllers.split(","):
                root, file = _GROUPS / "memory", "memory.limit_in_bytes"
            else:
                continue
            inner = root / path.lstrip("/")
            # In a container the path may be that of the host: its own group is the root.
            for group in (inner, *inner.parents):
                if group.is_relative_to(root):
                    # The word "max" stands for none.
                    with suppress(OSError, ValueError):
                        yield int((group / file).read_text())
