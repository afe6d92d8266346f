"""Several processes that learn one dictionary: torch.distributed, and no-ops when alone.

Every rank has rows of its own and takes part in every step; what depends on a whole batch
(gradients, losses, counts, thresholds, which rows revive dead atoms) is put together here,
so that all ranks go through the same states. All other work is deterministic, and the same on
each rank.
"""

from __future__ import annotations

import atexit
import os
import time
from contextlib import contextmanager
from datetime import timedelta

import numpy as np

from .._optional import torch_for

# How long a rank waits for one that is alive but silent. One that has died is noticed at
# once: its connections close.
_PATIENCE = timedelta(minutes=10)


class Alone:
    """One process that has all the rows."""

    rank, size = 0, 1

    def sum(self, x):
        """Sum over ranks of an array of the kernels' kind; it may be overwritten."""
        return x

    def gather(self, x):
        """What each rank has, in their order: any object that pickles."""
        return [x]

    def share(self, x):
        """What rank 0 has."""
        return x

    def order(self, random_state):
        """The generator of the order of this rank's rows."""
        return random_state


class Ranks:
    """The processes of torch's default process group."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        self._torch, self._dist = torch, dist
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._on_cpu = "nccl" not in dist.get_backend() or "cpu" in dist.get_backend()

    def sum(self, x):
        tensor = self._torch.as_tensor(x)
        moved = tensor if self._on_cpu or tensor.is_cuda else tensor.cuda()
        with _together():
            self._dist.all_reduce(moved)
        return moved if x is tensor else moved.cpu().numpy()

    def gather(self, x):
        parts = [None] * self.size
        with _together():
            self._dist.all_gather_object(parts, x)
        return parts

    def share(self, x):
        box = [x]
        with _together():
            self._dist.broadcast_object_list(box, src=0)
        return box[0]

    def order(self, random_state):
        # Drawn by all, so that their common generator stays in step.
        return np.random.RandomState([random_state.randint(2**31 - 1), self.rank])


def check_agreement(ranks: Alone | Ranks, facts: dict) -> None:
    """Refuse ranks that are about to do different things.

    Raises
    ------
    ValueError
    """
    if ranks.size == 1:
        return
    of_ranks = ranks.gather(facts)
    for rank, other in enumerate(of_ranks):
        differing = [name for name in of_ranks[0] if of_ranks[0][name] != other[name]]
        if differing:
            raise ValueError(
                f"Rank {rank} differs from rank 0 in "
                + ", ".join(f"{n} ({other[n]!r}, {of_ranks[0][n]!r})" for n in differing)
                + ": all ranks need the same parameters, features and dtype."
            )


@contextmanager
def open_ranks(distributed: bool):
    """The ranks that learn together, as a context manager.

    Where one of them fails, it closes its connections, so that the others fail too.

    Raises
    ------
    RuntimeError
        Where this process was not launched as one of several, or another one is lost.
    ImportError
        Where torch is not installed.
    """
    if not distributed:
        yield Alone()
        return
    _join()
    try:
        yield Ranks()
    except BaseException:
        _leave()
        raise


@contextmanager
def _together():
    """What all ranks have to take part in."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "Another rank was lost: it failed, was killed, or did not answer. Look for its "
            "own error first, then start all ranks again; with checkpoint=... they go on "
            f"from where they were. ({str(error).splitlines()[0]})"
        ) from error


def _join():
    """Take part in the default process group, made from the environment if there is none."""
    torch_for("distributed=True")
    import torch.distributed as dist

    if not dist.is_available():
        raise RuntimeError("distributed=True needs a build of torch with torch.distributed.")
    if dist.is_initialized():
        return
    missing = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} - set(os.environ)
    if missing:
        raise RuntimeError(
            "distributed=True needs several processes that know of each other: start them "
            "with torchrun (or SLURM, Ray, accelerate ...), or call "
            "torch.distributed.init_process_group. Not set in the environment: "
            f"{', '.join(sorted(missing))}."
        )
    dist.init_process_group(timeout=_PATIENCE)
    atexit.register(_leave)


def _leave():
    """Close the connections to the other ranks."""
    import torch.distributed as dist

    if dist.is_initialized():
        # A thread of gloo may still have to let go of a tensor, for which it needs Python's
        # lock, and destroying the group waits for that thread with the lock held (torch 2.6).
        time.sleep(0.1)
        dist.destroy_process_group()
