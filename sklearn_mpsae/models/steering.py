"""Thresholds and penalties that keep the average number of codes, L0, at its target.

A training explores with more codes than it was asked for (learning/recipe.py). So a model
keeps two numbers: the one that training steps use, and "settled", the one that gives rows as
many codes as were asked for at any time. Fitted attributes, also those that callbacks see,
have the second one.

Constants were chosen on the benchmarks in tests/test_sparsity.py and docs/study.
"""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np

# The share of a new value in the running mean of L0.
_FORGET = 0.1

# The share of a new value in the mean of a settled number: where values are steady, and
# where the number of codes shows that the mean lags behind them.
_SETTLE, _ADAPT = 0.06, 0.5

# The gain of a control at its first step; it falls with their number.
_FIRST_GAIN = 0.5

# The lower bound of a steered number. The number moves by factors: from zero it could not
# rise again.
_LOWER_BOUND = 1e-6

# The shares above hold for batches of this many rows or more. Smaller batches estimate the
# mean less well, and have proportionally smaller shares.
_FULL_BATCH = 100

# The largest number of thresholds that `tuned` tries.
_TRIALS = 30

# How far L0 may be off its target, as a share of the target.
TOLERANCE = 0.1

# The smallest number of rows whose average number of codes is judged.
_FEWEST_ROWS = 10

# The numbers that do not scale with the data.
_WITHOUT_UNIT = {"n_batches", "l0", "trained_l0"}


def numbers_to_steer(name: str = "threshold", value: float = 0.0) -> dict:
    """The first numbers of a model that steers the number of this name."""
    return {name: value, "settled": 0.0, "n_batches": 0, "l0": 0.0, "trained_l0": 0.0}


def rescaled(numbers: dict, factor: float) -> dict:
    """The numbers for data that are `factor` times as large."""
    return {k: v if k in _WITHOUT_UNIT else v * factor for k, v in numbers.items()}


def update_mean(numbers: dict, name: str, value: float, forget: float = _FORGET) -> None:
    """Let a running mean follow the value of a batch; the plain mean of the first few."""
    share = max(forget, 1 / numbers["n_batches"])
    numbers[name] += share * (float(value) - numbers[name])


def steer_l0(step, name: str, gain: float, sizes: np.ndarray, most: float = inf) -> float:
    """Raise a threshold or penalty where a batch has more codes than planned; else lower it.

    Its logarithm moves by `gain` times the logarithm of (L0 / planned L0), by more in the
    first steps.

    Parameters
    ----------
    step : models.base.StepContext
    name : str
        The number to steer.
    gain : float
    sizes : ndarray of shape (n, s)
        For each code of the batch, the value that a threshold is compared with; 0 in unused
        slots.
    most : float
        The largest value of the steered number.

    Returns
    -------
    n_rows : float
        The number of the batch's rows, those of all ranks.
    """
    numbers = step.numbers
    n_codes, n_rows = step.totals(np.count_nonzero(sizes), len(sizes))
    l0 = n_codes / n_rows
    numbers["n_batches"] += 1
    update_mean(numbers, "trained_l0", l0, _FORGET * _weight(n_rows))
    gain = max(gain * _weight(n_rows), _FIRST_GAIN / numbers["n_batches"])
    error = log(max(l0 / step.plan.n_nonzero_coefs, 1e-3))
    steered = numbers[name] * exp(gain * max(-1.0, min(1.0, error)))
    numbers[name] = min(most, max(_LOWER_BOUND, steered))
    return float(n_rows)


def settle_threshold(step, name: str, sizes: np.ndarray, n_rows: float) -> None:
    """Let "settled" follow the threshold that gives the number of codes asked for.

    step, name, sizes, n_rows : of `steer_l0`, which comes first
    """
    threshold = divide(step, sizes, n_rows) if too_many(step) else 0.0
    settle(step, "settled", threshold or step.numbers[name], n_rows)
    # Else "settled" is a mean of the thresholds that gave these codes: it gives as many.
    level = step.numbers["settled"] if threshold else 0.0
    count(step, np.count_nonzero(sizes > level), n_rows)


def too_many(step) -> bool:
    """Whether training steps have clearly more codes than were asked for.

    They have while they explore, and where parameters follow the steered number too slowly.
    """
    trained_l0 = step.numbers.get("trained_l0", step.plan.n_nonzero_coefs)
    return trained_l0 > (1 + TOLERANCE) * step.plan.asked


def settle(step, name: str, value: float, n_rows: float) -> None:
    """Let a number follow its value in a batch.

    A batch is small, so the fit keeps the mean of the last steps, not the last one's. While
    the number of codes shows that the mean lags behind, it follows faster.
    """
    numbers, asked = step.numbers, step.plan.asked
    lags = too_many(step) or abs(numbers["l0"] - asked) > TOLERANCE / 2 * asked
    forget = (_ADAPT if lags else _SETTLE) * _weight(n_rows)
    share = max(forget, min(1.0, 3 / numbers["n_batches"]))
    numbers[name] += share * (float(value) - numbers[name])


def count(step, n_codes: float, n_rows: float) -> None:
    """Let "l0" follow the number of codes that a batch has by the settled number.

    n_codes : of this rank
    """
    l0 = step.totals(n_codes)[0] / n_rows
    update_mean(step.numbers, "l0", l0, _FORGET * _weight(n_rows))


def divide(step, sizes: np.ndarray, n_rows: float) -> float:
    """The threshold that leaves a batch as many codes as were asked for.

    It lies midway between the smallest of these and the largest of the others, so that
    rounding does not decide on rows that are repeated. 0 where the batch has no others.
    """
    sizes = np.concatenate(step.ranks.gather(sizes[sizes > 0]))
    n_codes = max(1, round(step.plan.asked * n_rows))
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
            low, level = (
                level,
                max(_LOWER_BOUND, 2 * level if high == inf else sqrt(level * high)),
            )
        else:
            high, level = level, sqrt(low * level) if low else level / 2
        l0 = l0_at(level)
        best = min(best, (level, l0), key=lambda pair: abs(pair[1] - asked))
    return best


def l0_if_missed(numbers: dict, asked: float) -> float | None:
    """The L0 of the last batches, where that is not what was asked for, within 10%."""
    l0 = numbers["l0"]
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
