"""Numbers that a training steers: thresholds and penalties that keep L0 where it is to be.

A training explores with more codes than it was asked for (see recipe.py). So "settled" is
kept beside the number that training steps use: what gives rows as many codes as were asked
for, at any time. Fitted attributes, also those that callbacks see, have this one.
"""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np

# A running mean forgets as fast as this.
_FORGET = 0.1

# How fast the mean of a settled number forgets: where its values are steady, and where the
# number of codes shows that the mean lags behind them.
_SETTLE, _ADAPT = 0.06, 0.5

# The gain of a control at its first step; it falls with their number.
_FIRST_GAIN = 0.5

# The least value of a steered number: it moves by factors, and has to be able to rise again.
_LEAST = 1e-6

# Rates of forgetting hold for batches of so many rows or more; smaller ones tell less of the
# mean, and move it less.
_FULL_BATCH = 100

# A threshold that gives another number of codes is sought in so many trials.
_TRIALS = 30

# By what share of the number asked for the average number of codes may be off.
TOLERANCE = 0.1

# Fewer rows do not tell their average.
_FEWEST_ROWS = 10

# The running numbers that do not scale with the data.
_WITHOUT_UNIT = {"n_batches", "l0", "trained_l0"}


def start(name: str = "threshold", value: float = 0.0) -> dict:
    """The running numbers of a training in which the one of this name is steered."""
    return {name: value, "settled": 0.0, "n_batches": 0, "l0": 0.0, "trained_l0": 0.0}


def rescaled(running: dict, factor: float) -> dict:
    """The running numbers for data that are `factor` times as large."""
    return {k: v if k in _WITHOUT_UNIT else v * factor for k, v in running.items()}


def follow(running: dict, name: str, value: float, forget: float = _FORGET) -> None:
    """Let a running mean follow the value of a batch: the plain mean of the first few."""
    share = max(forget, 1 / running["n_batches"])
    running[name] += share * (float(value) - running[name])


def control(now, name: str, gain: float, sizes: np.ndarray, most: float = inf) -> float:
    """Raise what keeps L0 down where a batch has more codes than planned, or lower it.

    Its logarithm moves by `gain` times that of the ratio of the two, by more at first.

    Parameters
    ----------
    now : learning.trainer.Now
    name : str
        The running number to steer.
    gain : float
    sizes : ndarray of shape (n, s)
        What a threshold is compared with, for each code of the batch; 0 where there is none.
    most : float
        The largest value of the steered number.

    Returns
    -------
    n_rows : float
        The number of the batch's rows, those of all ranks.
    """
    running = now.running
    n_codes, n_rows = now.totals(np.count_nonzero(sizes), len(sizes))
    l0 = n_codes / n_rows
    running["n_batches"] += 1
    follow(running, "trained_l0", l0, _FORGET * _weight(n_rows))
    gain = max(gain * _weight(n_rows), _FIRST_GAIN / running["n_batches"])
    error = log(max(l0 / now.plan.n_nonzero_coefs, 1e-3))
    steered = running[name] * exp(gain * max(-1.0, min(1.0, error)))
    running[name] = min(most, max(_LEAST, steered))
    return float(n_rows)


def settle_threshold(now, name: str, sizes: np.ndarray, n_rows: float) -> None:
    """Let "settled" follow the threshold that gives rows as many codes as were asked for.

    now, name, sizes, n_rows : of `control`, which comes first
    """
    threshold = divide(now, sizes, n_rows) if too_many(now) else 0.0
    settle(now, "settled", threshold or now.running[name], n_rows)
    # A mean of thresholds that were trained with gives what these have given.
    level = now.running["settled"] if threshold else 0.0
    count(now, np.count_nonzero(sizes > level), n_rows)


def too_many(now) -> bool:
    """Whether training steps have clearly more codes than were asked for.

    They do while they explore, and where parameters follow what is steered too slowly.
    """
    trained_l0 = now.running.get("trained_l0", now.plan.n_nonzero_coefs)
    return trained_l0 > (1 + TOLERANCE) * now.plan.asked


def settle(now, name: str, value: float, n_rows: float) -> None:
    """Let a running number follow its value in a batch.

    A batch is small, so the fit keeps the mean of the last steps, not the last one's. While
    the number of codes shows that the mean lags behind, it follows faster.
    """
    running, asked = now.running, now.plan.asked
    lags = too_many(now) or abs(running["l0"] - asked) > TOLERANCE / 2 * asked
    forget = (_ADAPT if lags else _SETTLE) * _weight(n_rows)
    share = max(forget, min(1.0, 3 / running["n_batches"]))
    running[name] += share * (float(value) - running[name])


def count(now, n_codes: float, n_rows: float) -> None:
    """Let "l0" follow the number of codes that a batch has by the settled number.

    n_codes : of this rank
    """
    l0 = now.totals(n_codes)[0] / n_rows
    follow(now.running, "l0", l0, _FORGET * _weight(n_rows))


def divide(now, sizes: np.ndarray, n_rows: float) -> float:
    """The threshold that leaves a batch as many codes as were asked for.

    It lies midway between the smallest of these and the largest of the others, so that
    rounding does not decide on rows that are repeated. 0 where the batch has no others.
    """
    sizes = np.concatenate(now.ranks.gather(sizes[sizes > 0]))
    n_codes = max(1, round(now.plan.asked * n_rows))
    if n_codes >= len(sizes):
        return 0.0
    rank = len(sizes) - n_codes
    least = np.partition(sizes, rank)[rank]
    return float(least + sizes[sizes < least].max(initial=0.0)) / 2


def tuned(l0_at, level: float, asked: float) -> tuple[float, float]:
    """A threshold that gives rows as many codes as were asked for, and the L0 it gives.

    That is `level` where it has about as many; else the best of those tried by bisection.

    l0_at : a function that falls with its threshold
    """
    best, low, high = (level, l0_at(level)), 0.0, inf
    l0 = best[1]
    for _ in range(_TRIALS):
        if abs(best[1] - asked) <= TOLERANCE / 2 * asked:
            break
        if l0 > asked:
            low, level = level, max(_LEAST, 2 * level if high == inf else sqrt(level * high))
        else:
            high, level = level, sqrt(low * level) if low else level / 2
        l0 = l0_at(level)
        best = min(best, (level, l0), key=lambda pair: abs(pair[1] - asked))
    return best


def missed(running: dict, asked: float) -> float | None:
    """The L0 of the last batches, where that is not what was asked for, within 10%."""
    l0 = running["l0"]
    return None if (1 - TOLERANCE) * asked <= l0 <= (1 + TOLERANCE) * asked else l0


class RowCounts:
    """How many codes rows have: their mean, and whether it is surely another one."""

    def __init__(self):
        self._n = self._sum = self._squares = 0

    def add(self, counts: np.ndarray) -> None:
        """Some more rows."""
        self._n += len(counts)
        self._sum += int(counts.sum())
        self._squares += int(np.square(counts, dtype=np.int64).sum())

    @property
    def mean(self) -> float:
        """The average number of codes."""
        return self._sum / self._n

    def differs(self, asked: float) -> bool:
        """Whether the mean is off by more than a tenth, and than three standard errors."""
        if self._n < _FEWEST_ROWS:
            return False
        variance = (self._squares - self._n * self.mean**2) / (self._n - 1)
        error = (max(variance, 0.0) / self._n) ** 0.5
        return abs(self.mean - asked) > max(TOLERANCE * asked, 3 * error)


def _weight(n_rows: float) -> float:
    """How much of a full batch's influence a batch has."""
    return min(1.0, n_rows / _FULL_BATCH)
