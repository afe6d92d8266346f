"""How much memory a process may have, as its control groups say."""

import os

import pytest

from sklearn_mpsae.coding.kernels import memory
from sklearn_mpsae.coding.kernels.memory import memory_limit

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Control groups of a machine: what the process is in, and files with their limits."""

    def made(process, **limits):
        (tmp_path / "process").write_text(process)
        for name, limit in limits.items():
            file = tmp_path / "groups" / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(limit)
        monkeypatch.watch(memory, "_PROCESS", tmp_path / "process")
        monkeypatch.watch(memory, "_GROUPS", tmp_path / "groups")

    return made


def test_without_limits_it_is_the_machines(groups):
    groups("0::/\n", memory_dot_max="max\n")
    assert memory_limit() == MACHINE


def test_the_least_limit_of_the_groups_around_it_counts(groups):
    limits = {"user__job__memory_dot_max": "300000000\n", "user__memory_dot_max": "200000000\n"}
    groups("0::/user/job\n", memory_dot_max="max", **limits)
    assert memory_limit() == 200_000_000


def test_a_container_sees_its_group_as_the_root(groups):
    groups("0::/../../host/path\n", memory_dot_max="100000000\n")
    assert memory_limit() == 100_000_000


def test_groups_of_the_first_version(groups):
    limit = {"memory__job__memory_dot_limit_in_bytes": "123456789\n"}
    groups("5:cpu,cpuacct:/other\n4:memory:/job\n", **limit)
    assert memory_limit() == 123_456_789


def test_a_system_that_does_not_tell(groups, monkeypatch):
    groups("0::/\n")
    monkeypatch.setattr(memory.os, "sysconf", lambda name: 4096 if "SIZE" in name else -1)
    assert memory_limit() is None
