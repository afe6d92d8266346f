"""What the benchmarks share: finding the rivals, timing them in turn, reporting."""

from __future__ import annotations

import os

# A thread pool takes its size when its library is loaded, so before anything else.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]

import argparse
import importlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import machine
import numpy as np
from scipy import sparse

HERE = Path(__file__).parent
THREADS = int(os.environ["OMP_NUM_THREADS"])

BATCH = 1024  # rows of a training step, for every network

# An OpenMP or BLAS pool spins for a while after its last job, on the cores of whoever
# comes next; each side therefore starts after a pause longer than that.
PAUSE = 0.25


class Learned(NamedTuple):
    """A learned dictionary, with the codes its own method gives to new rows."""

    components: np.ndarray  # (n_components, n_features), unit rows
    encode: Callable  # X -> codes
    intercept: np.ndarray | float = 0.0  # what to take off X before coding it


class Bar(NamedTuple):
    """A claim that the package has to meet: a number and its limit."""

    claim: str
    value: float | None  # None where a side it speaks of did not run
    at_most: float = np.inf
    at_least: float = -np.inf

    @property
    def verdict(self) -> str:
        """met, MISSED or unknown."""
        if self.value is None:
            return "unknown"
        return "met" if self.at_least <= self.value <= self.at_most else "MISSED"

    def __str__(self) -> str:
        limits = {"at most": self.at_most, "at least": self.at_least}
        limit = ", ".join(f"{word} {x:.4g}" for word, x in limits.items() if np.isfinite(x))
        return f"{self.verdict:>7}  {self.claim}: {cell(self.value)} ({limit})"


def parser(description: str, *, rivals=True) -> argparse.ArgumentParser:
    """Options that the benchmarks share; those of rivals on MNIST among them."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--results", type=Path, default=HERE / "results", help="kept here")
    if rivals:
        options.add_argument("--data-home", help="folder of MNIST, if not the package's own")
        options.add_argument("--only", nargs="*", default=[], help="sides with such a name")
    return options


def settings(args: argparse.Namespace) -> dict:
    """The options that figures depend on."""
    return {key: x for key, x in vars(args).items() if key not in ("results", "data_home")}


def modules() -> tuple[list, dict[str, str]]:
    """The rivals that import here, and why the others do not."""
    found, skipped = [], {}
    for path in sorted(HERE.glob("rivals/[!_]*.py")):
        try:
            found.append(importlib.import_module(f"rivals.{path.stem}"))
        except Exception as error:  # a rival may fail in any way; it must not do so silently
            skipped[path.stem] = f"{type(error).__name__}: {error}".splitlines()[0]
    for name, reason in skipped.items():
        print(f"skipped: {name} ({reason})")
    return found, skipped


def sides(verb: str, only=()) -> tuple[dict[str, Callable], dict]:
    """Every rival's entries under `verb`, by name, and a record of who they are."""
    found, skipped = modules()
    entries = {
        f"{module.NAME} {label}".strip(): function
        for module in found
        for label, function in getattr(module, verb, {}).items()
    }
    if only:
        entries = {
            name: function
            for name, function in entries.items()
            if any(text.lower() in name.lower() for text in only)
        }
    packages = {module.PACKAGE for module in found}
    return entries, {"versions": machine.versions(packages), "skipped": skipped}


def mnist(data_home=None) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training and test rows in [0, 1], less the mean training row; float32."""
    from sklearn_mpsae.datasets import fetch_mnist

    X = np.asarray(fetch_mnist(data_home=data_home).data, dtype=np.float32) / 255
    X -= X[:60_000].mean(axis=0)
    return X[:60_000], X[60_000:]


def random_atoms(X: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Random rows of X at unit norm."""
    rows = np.random.default_rng(seed).choice(len(X), n, replace=False)
    return X[rows] / np.linalg.norm(X[rows], axis=1, keepdims=True)


def batches(X: np.ndarray, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Every row once an epoch, in a new order each time."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), size):
            yield X[order[start : start + size]]


def interleave(calls: dict[str, Callable], rounds: int, *, repeats=1, budget=30.0) -> dict:
    """Seconds of each call, all sides in turn, round after round.

    A machine that slows down half way then slows every side alike. One untimed call
    first; `repeats` calls in a row per round; a side that has used up its `budget` of
    seconds sits out the rounds that are left.
    """
    for call in calls.values():
        call()
    seconds = {name: [] for name in calls}
    for _, (name, call) in itertools.product(range(rounds), calls.items()):
        if sum(seconds[name]) < budget:
            time.sleep(PAUSE)
            seconds[name] += [stopwatch(call)[0] for _ in range(repeats)]
    return seconds


def stopwatch(call: Callable, *args, **kwargs) -> tuple[float, object]:
    """Seconds that a call took, and what it returned."""
    start = time.perf_counter()
    result = call(*args, **kwargs)
    return time.perf_counter() - start, result


def timing_rows(seconds: dict[str, list[float]], reference: str) -> dict[str, dict]:
    """A table row per side: median, fastest, how often, ratio to the reference side."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    base = medians.get(reference, next(iter(medians.values())))
    return {
        name: {
            "median s": medians[name],
            "fastest s": min(times),
            "calls": len(times),
            "ratio": medians[name] / base,
        }
        for name, times in seconds.items()
    }


def ratio(rows: dict[str, dict], side: str, others, column="median s") -> float | None:
    """A side's figure over the best of the others that ran; None where there is neither."""
    known = [rows[name][column] for name in others if name in rows]
    return rows[side][column] / min(known) if known and side in rows else None


def as_csr(codes, n_components: int) -> sparse.csr_array:
    """Codes as the rivals return them: (indices, values), or a matrix of any kind."""
    if isinstance(codes, tuple):
        indices, values = map(np.asarray, codes)
        n, k = indices.shape
        starts = np.arange(0, n * k + 1, k)
        codes = values.ravel(), indices.ravel(), starts
        csr = sparse.csr_array(codes, shape=(n, n_components))
        csr.sum_duplicates()  # matching pursuit may choose an atom twice
    else:
        csr = sparse.csr_array(codes)
    csr.eliminate_zeros()  # such as pad a row that stopped early
    return csr


def r2(X: np.ndarray, reconstruction: np.ndarray) -> float:
    """Part of the variance of X that a reconstruction explains."""
    residual, spread = X - reconstruction, X - X.mean(axis=0)
    return float(1 - np.sum(residual**2, dtype=float) / np.sum(spread**2, dtype=float))


def report(name: str, rows: dict[str, dict], args, *, bars=(), **record) -> None:
    """Print a table and the bars; keep both, with how they came about."""
    record = {
        "machine": machine.facts(),
        "versions": machine.versions(),
        "settings": settings(args),
        **record,
    }
    text = "\n".join([table(rows), "", *map(str, bars)])
    print(f"\n{text}\n\nothers took {record['machine']['taken by others']:.0%} of the machine")
    verdicts = [{**bar._asdict(), "verdict": bar.verdict} for bar in bars]
    kept = {**record, "rows": rows, "bars": verdicts}
    facts = "\n".join(f"- {key}: {rounded(value)}" for key, value in record.items())
    args.results.mkdir(exist_ok=True)
    (args.results / f"{name}.json").write_text(json.dumps(rounded(kept), indent=1) + "\n")
    (args.results / f"{name}.md").write_text(f"# {name}\n\n```\n{text}\n```\n\n{facts}\n")


def table(rows: dict[str, dict]) -> str:
    """Rows as aligned text, under the columns that any of them has."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *columns]]
    lines += [[name, *(cell(row.get(key)) for key in columns)] for name, row in rows.items()]
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([name.ljust(first), *map(str.rjust, cells, widths)]) for name, *cells in lines
    )


def cell(value) -> str:
    """A table cell: four digits are more than these figures hold."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rounded(value):
    """The same record with its floats at six digits, and JSON's null for no limit."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
