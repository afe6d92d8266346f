"""When rows of a pursuit stop."""

from __future__ import annotations

from typing import NamedTuple


class Stop(NamedTuple):
    """What `Kernels.matching_pursuit` says of `tol`, `threshold` and `atol`."""

    tol: float
    threshold: float
    atol: float = 0.0

    # By how much of a row's energy its residual's may have been misjudged.
    slack: float = 0.0


def matching_stop(tol, threshold, atol, k, eps):
    """Of a pursuit with k steps that computes a row's energy step by step, with rounding.

    It may miss `atol` by that rounding, never stop too early for it. The row's last codes
    are then given up by the energy of the residual itself.
    """
    return Stop(tol, threshold, atol, 4 * k * float(eps))
