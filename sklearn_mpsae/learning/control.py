"""Running numbers of a training: thresholds and penalties that keep L0 where it is to be."""

from __future__ import annotations

from math import exp, log

# A running mean forgets as fast as this.
_FORGET = 0.1

# The gain of a control at its first step; it falls with their number.
_FIRST_GAIN = 0.5

# What keeps L0 down must find its way back from where it was not needed.
_LEAST = 1e-6


def follow(running: dict, name: str, value: float) -> None:
    """Let a running mean follow a value: the plain mean of the first few."""
    n = running["n_batches"] = running["n_batches"] + 1
    running[name] += max(_FORGET, 1 / n) * (float(value) - running[name])


def control(running: dict, name: str, gain: float, values, target: float) -> None:
    """Raise what keeps L0 down where a batch has more codes than the target, or lower it.

    Its logarithm moves by `gain` times that of the ratio of the two, by more at first.
    """
    n = running["n_batches"] = running["n_batches"] + 1
    gain = max(gain, _FIRST_GAIN / n)
    l0 = float((values != 0).sum()) / len(values)
    error = log(max(l0 / target, 1e-3))
    running[name] = max(_LEAST, running[name] * exp(gain * max(-1.0, min(1.0, error))))
