"""How many codes rows have of themselves, where their average number is not given.

A pursuit that has all the features of a row goes on with what is left: noise, and what no atom
describes. Where features stand out from that, the code of a row's last feature and the next
code are far apart, and the threshold between them divides the rows' codes into two kinds. Two
signs tell where it is: there the first refused code is smallest beside the last taken one, and
the fewest codes are close to the threshold (benchmarks/bench_auto_k.py). A dictionary that was
learnt with another number of codes points towards the right one, so a few fits get there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from math import ceil, log

import numpy as np
from numpy.typing import ArrayLike

from ..coding.codes import Codes
from ..coding.kernels import open_kernels
from ..models.pursuit import MatchingPursuit
from ..rows.array import ArrayRows
from .distributed import Alone
from .progress import Progress
from .run import open_run
from .settings import Settings
from .state import Learnt

# The signs are looked for between these multiples of the number of codes of the fit.
_LOWEST, _HIGHEST, _N_CUTS = 0.4, 2.5, 60
# Numbers of codes within this factor are the same: for the signs, and from fit to fit.
_SAME_SIGN, _SAME_FIT = 1.25, 1.08
# A code within this factor of the threshold is close to it; where more than this share of the
# codes is, there are no two kinds. Of rows that are sums of features at most 0.19 are, at the
# number that both signs point to (benchmarks/bench_auto_k.py).
_CLOSE, _MOST_CLOSE = 1.25, 0.25
# Codes below this share of the rows' first ones are rounding errors of rows without noise.
_ROUNDING = 0.01
# How many rows the signs are taken from: more tell no more.
_N_ROWS = 5000
# Codes of fewer rows than this are fitted too well: a fifth is held out for the signs.
_FEW_ROWS = 10 * _N_ROWS
_FEWEST_ROWS = 100
_MOST_FITS = 7


def own_sparsity(
    model: MatchingPursuit,
    source,
    settings: Settings,
    progress: Callable[[str], Progress],
) -> float:
    """The average number of codes that rows have of themselves.

    Parameters
    ----------
    model : MatchingPursuit
        With `average`.
    source : Rows
        More than one pass is made over them.
    settings : Settings
        `n_nonzero_coefs` is where the search starts.
    progress : callable
        Makes what is told of the progress of a fit, from its name.

    Returns
    -------
    k : float

    Raises
    ------
    ValueError
        If the signs do not agree on a number, or there are too few rows for it.
    """
    k, apart, tried = float(settings.n_nonzero_coefs), 0, []
    source, rows = _divided(source)
    for _ in range(_MOST_FITS):
        asked = replace(settings, n_nonzero_coefs=k)
        learnt = _trained(model, source, asked, progress(f"n_nonzero_coefs={k:.3g}"))
        values = path_values(model, learnt, rows, k, settings.device)
        ratio, close, share = signs(values, k)
        tried.append((k, ratio, close, share))
        agree = _same(ratio, close, _SAME_SIGN) and share <= _MOST_CLOSE
        if agree and _same(ratio, k, _SAME_FIT):
            return ratio
        # At the end of what was looked at, the sign is beyond it.
        apart += not agree and ratio > k * _LOWEST * _SAME_FIT
        if apart == 2 or ratio < 1:
            break
        k = min(ratio, float(settings.n_components))
    told = "; ".join(
        f"with {k:.3g} codes a row to {ratio:.3g} and {close:.3g} ({share:.0%} close)"
        for k, ratio, close, share in tried
    )
    raise ValueError(
        "n_nonzero_coefs='auto' found no number of codes that these rows have of themselves. "
        "It looks for a threshold between large codes, of features, and small ones, of what is "
        "left, by two signs: where the first code below it is smallest beside the last one "
        "above it, and where the fewest codes are close to it. In its fits they pointed, "
        f"{told}; they would have to agree on the number of the fit, with at most "
        f"{_MOST_CLOSE:.0%} of the codes close. If the rows are sums of features, "
        "n_components must not be much smaller than their number, and positive_code must suit "
        "their signs. Otherwise pass a number, or let MPSparseAutoencoderCV take the smallest "
        "that explains enough."
    )


def _same(a, b, factor):
    return abs(log(a / b)) < log(factor)


def _divided(source):
    """The rows for the fits, and some for the signs, in random order."""
    order, take = next(source.pools(np.random.RandomState(0)))
    if len(order) > _FEW_ROWS:
        return source, take(order[:_N_ROWS])
    if len(order) < _FEWEST_ROWS:
        raise ValueError(
            f"n_nonzero_coefs='auto' needs {_FEWEST_ROWS} rows or more to tell a number, and "
            f"there are {len(order)}: pass a number."
        )
    n = len(order) // 5
    return ArrayRows(take(order[n:])), take(order[:n])


def _trained(model, source, settings, progress) -> Learnt:
    """A whole training, without callbacks, whose random numbers are drawn from a copy."""
    settings = replace(settings, random_state=copy.deepcopy(settings.random_state))
    with progress, open_run(model, source, settings, Alone(), None, progress) as run:
        while not run.finished:
            run.epoch()
        return run.result()


def path_values(
    model: MatchingPursuit, learnt: Learnt, rows: np.ndarray, k: float, device: str
) -> np.ndarray:
    """The codes of matching pursuits that are longer than k, in the metric, in their order.

    rows : (n, d); returns (n, s), not negative
    """
    attributes = learnt.attributes
    steps = min(ceil(3 * k) + 6, len(attributes["components_"]))
    model = replace(model, algorithm="mp", tol=0.0, atol=0.0, stop_on_repeat=False)
    coder = model.coder(attributes, steps, k).astype(rows.dtype)
    with open_kernels(device, rows.dtype) as kernels:
        encode = coder.open(kernels, len(rows))
        parts = encode(kernels.asarray(rows - coder.intercept))
        codes = Codes.stack(
            [Codes(*map(kernels.to_numpy, part), len(coder.components)) for part in parts]
        )
    values = codes.values
    if coder.metric_norms is not None:
        values = values * coder.metric_norms[codes.indices]
    return np.abs(values)


def signs(values: np.ndarray, k: float) -> tuple[float, float, float]:
    """The average numbers of codes at which the two signs are least.

    Parameters
    ----------
    values : ndarray of shape (n, s)
        The codes of pursuits in their order, not negative, longer than k.
    k : float
        Thresholds that leave 0.4 to 2.5 times as many codes a row are looked at.

    Returns
    -------
    ratio : float
        Where the mean of the first refused over the last taken code is least.
    close : float
        Where the fewest codes are within a factor of 1.25 of the threshold, as a share of
        those taken.
    share : float
        That share.
    """
    n_codes, ratio, close = signs_at(values, thresholds(values, k)).T
    fewest = close.argmin()
    return float(n_codes[ratio.argmin()]), float(n_codes[fewest]), float(close[fewest])


def thresholds(values: np.ndarray, k: float) -> np.ndarray:
    """The thresholds that `signs` looks at, for the same arguments."""
    _, falling, _ = _without_rounding(values)
    sizes = np.sort(falling, axis=None)[::-1]
    ends = (np.array([_LOWEST, _HIGHEST]) * k * len(values)).astype(int)
    # By size, so that some lie in the gap between two kinds, if there is one.
    return np.geomspace(*sizes[np.minimum(ends, sizes.size - 1)], _N_CUTS)


def signs_at(values: np.ndarray, cuts: ArrayLike) -> np.ndarray:
    """The average number of codes by each of these thresholds, and the two signs there.

    Parameters
    ----------
    values : ndarray of shape (n, s)
        As for `signs`.
    cuts : array-like of shape (t,)
        Thresholds.

    Returns
    -------
    found : ndarray of shape (t, 3)
        Numbers of codes; the mean of the first refused over the last taken code; codes
        within a factor of 1.25 of the threshold, as a share of those taken. The signs are 1,
        the worst, where no row ends.
    """
    values, falling, least = _without_rounding(values)
    return np.array([_at(values, falling, cut, least) for cut in cuts])


def _without_rounding(values):
    """The codes, the least of those before each in its row, and what rounding errors became."""
    first = np.sqrt(np.mean(np.square(values[:, 0], dtype=np.float64)))
    least = max(_ROUNDING * first, np.finfo(values.dtype).tiny)
    values = np.maximum(values, least)
    # A row ends at a code that is too small: a larger one after it does not count.
    return values, np.minimum.accumulate(values, axis=1), least


def _at(values, falling, threshold, least):
    """The average number of codes by a threshold, and the two signs there.

    Codes of `least` stand for rounding errors, which are close to nothing.
    """
    steps = values.shape[1]
    kept = (falling > threshold).sum(axis=1)
    n_codes = max(kept.mean(), 1 / len(values))
    ends = np.flatnonzero((kept > 0) & (kept < steps))
    if not len(ends):
        # No row ends here, as below all rounding errors: this divides nothing.
        return n_codes, 1.0, 1.0
    refused, last = values[ends, kept[ends]], values[ends, kept[ends] - 1]
    close = (np.abs(np.log(values / threshold)) < log(_CLOSE)) & (values > least)
    close &= np.arange(steps) <= kept[:, None]
    return n_codes, np.mean(refused / last), close.sum() / kept.sum()
