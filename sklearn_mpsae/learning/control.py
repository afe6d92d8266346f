"""Running numbers of a training: thresholds and penalties that keep L0 where it is to be."""

from __future__ import annotations

from math import exp, log

# A running mean forgets as fast as this.
_FORGET = 0.1

# The mean of a controlled number forgets as fast as this.
_SETTLE = 0.06

# The gain of a control at its first step; it falls with their number.
_FIRST_GAIN = 0.5

# What keeps L0 down must find its way back from where it was not needed.
_LEAST = 1e-6


def follow(running: dict, name: str, value: float) -> None:
    """Let a running mean follow a value: the plain mean of the first few."""
    n = running["n_batches"] = running["n_batches"] + 1
    running[name] += max(_FORGET, 1 / n) * (float(value) - running[name])


def start(name: str, value: float = 0.0) -> dict:
    """The running numbers of a training in which `control` steers the one of this name."""
    return {name: value, "settled": 0.0, "n_batches": 0, "l0": 0.0}


def control(now, name: str, gain: float, values) -> None:
    """Raise what keeps L0 down where a batch has more codes than planned, or lower it.

    Its logarithm moves by `gain` times that of the ratio of the two, by more at first.
    """
    running, target = now.running, now.plan.n_nonzero_coefs
    n_codes, n_rows = now.totals((values != 0).sum(), len(values))
    l0 = n_codes / n_rows
    follow(running, "l0", l0)
    gain = max(gain, _FIRST_GAIN / running["n_batches"])
    error = log(max(l0 / target, 1e-3))
    running[name] = max(_LEAST, running[name] * exp(gain * max(-1.0, min(1.0, error))))
    # Batches are small: the fit keeps the mean of the last steps, not the last one's.
    share = max(_SETTLE, min(1.0, 3 / running["n_batches"]))
    running["settled"] += share * (running[name] - running["settled"])


def missed(running: dict, name: str, target: float) -> float | None:
    """The L0 of the last batches, where that is not the target, within 10%; else None.

    Too few codes with nothing to keep them down are all there are.
    """
    l0 = running["l0"]
    too_few = l0 < 0.9 * target and running[name] > 2 * _LEAST
    return l0 if too_few or l0 > 1.1 * target else None
