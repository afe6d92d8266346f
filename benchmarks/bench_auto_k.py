"""Which sign tells the right number of codes where the truth is not known?

For ``n_nonzero_coefs="auto"``: MP with `sparsity="average"` is fitted at several L0,
twice each, on four kinds of rows whose features are known. Beside F1 against the truth stand
signs that do not need it. A sign is reliable if the L0 it picks costs at most 0.03 of F1 on
all four.

    python benchmarks/bench_auto_k.py > benchmarks/results/bench_auto_k.md   # needs SAELens
    python benchmarks/bench_auto_k.py --one-fit >> benchmarks/results/bench_auto_k.md
    python benchmarks/bench_auto_k.py --auto >> benchmarks/results/bench_auto_k.md

The second asks of one fit with some L0, right or not, where its own pursuit would stop best: at
which threshold the two signs at the threshold are least, its dictionary as it is. The third
fits with ``n_nonzero_coefs="auto"``, beside the best of a grid of numbers.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import machine
import numpy as np
import pandas as pd
from scipy import sparse, stats
from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.datasets import make_hierarchical_features, make_superposition
from sklearn_mpsae.learning.sparsity import path_values, signs_at, thresholds
from sklearn_mpsae.metrics import firing_scores, match_atoms, stability

sys.path.insert(0, str(Path(__file__).with_name("study")))
import synth

SEED = 1
ALLOWED = 0.03


class Problem(NamedTuple):
    """Rows whose features are known, and the numbers of codes to try."""

    train: np.ndarray
    test: np.ndarray
    dictionary: np.ndarray
    truth: sparse.csr_array
    true_l0: float
    epochs: int
    grid: tuple


def from_synth():
    data = synth.Data(part=8, n_train=400_000)
    rows = synth.generated(data, SEED, "")
    l0 = rows.truth.nnz / len(rows.test)
    grid = (2, 2.5, 3, 3.5, 4, 5, 6, 8, 12)
    return Problem(rows.train, rows.test, rows.dictionary, rows.truth, l0, 2, grid), 512


def from_superposition(hierarchy, exponent=0.5):
    state = np.random.RandomState(SEED)
    law = {"n_features": 96, "n_components": 512, "l0": 8, "exponent": exponent}
    law |= {"hierarchy": hierarchy, "dtype": np.float32, "random_state": state}
    train = make_superposition(60_000, **law)
    fresh = make_superposition(10_000, dictionary=train.dictionary, **law)
    grid = (3, 4, 5, 6, 7, 8, 9, 10, 12, 16)
    return Problem(train.data, fresh.data, fresh.dictionary, fresh.codes, 8, 15, grid), 512


def from_tree():
    state = np.random.RandomState(SEED)
    law = {"rho": 0.3, "dtype": np.float32, "random_state": state}
    train = make_hierarchical_features(300_000, **law)
    fresh = make_hierarchical_features(20_000, dictionary=train.dictionary, **law)
    grid = (1, 1.15, 1.36, 1.6, 2, 2.5, 3, 4)
    return Problem(train.data, fresh.data, fresh.dictionary, fresh.codes, 1.36, 5, grid), 20


def from_digits():
    """Nobody knows their features: is the sign silent where there may be no right number?"""
    X = np.random.default_rng(0).permutation(load_digits().data).astype(np.float32)
    none = sparse.csr_array((0, 0))
    return Problem(X[:1400], X[1400:], X[:0], none, 0.0, 100, ()), 128


PROBLEMS = {
    "SynthSAEBench, an eighth": from_synth,
    "superposition": lambda: from_superposition(0.0),
    "superposition, 60% children": lambda: from_superposition(0.6),
    "tree, rho 0.3": from_tree,
}


# --------------------------------------------------------------------------- the measures
def f1_of(codes, dictionary, truth, other) -> float:
    matching = match_atoms(dictionary, other)
    return float(np.nanmean(firing_scores(codes, truth, matching).per_feature.f1[matching[1]]))


def measured(problem, fits, l0) -> dict:
    """F1 and all signs, of two fits that differ by their seed."""
    estimator, second = fits
    codes, others = (fit.encode(problem.test) for fit in fits)
    D = estimator.components_
    of_atoms = sparse.csc_array(codes.csr())
    n_uses = np.diff(of_atoms.indptr)
    means = of_atoms.sum(axis=0) / np.maximum(n_uses, 1)
    atom = np.repeat(np.arange(len(D)), n_uses)
    squares = np.bincount(atom, of_atoms.data**2, len(D)) / np.maximum(n_uses, 1)
    deviation = np.sqrt(np.maximum(squares - means**2, 0)) / np.maximum(means, 1e-12)
    rows = problem.test - estimator.intercept_
    residual = rows - codes.decode(D)
    unexplained = (residual**2).sum() / (len(rows) * problem.test.var(axis=0).sum())
    return {
        "L0": l0,
        "F1": f1_of(codes, D, problem.truth, problem.dictionary),
        "EV": 1 - unexplained,
        "small codes": float((of_atoms.data < 0.5 * means[atom]).mean()),
        "spread of codes": float(np.average(deviation, weights=n_uses)),
        "stability": stability([D, second.components_]),
        "F1 of two seeds": f1_of(codes, D, others.csr(), second.components_),
        **of_decoder(D, rows),
        **of_threshold(estimator, problem.test, l0),
        "kurtosis": float(stats.kurtosis(residual @ D.T, axis=None)),
        "bits": description_length(of_atoms, n_uses, residual),
    }


def of_decoder(D, rows) -> dict:
    """arXiv:2508.16560: mean |cosine| of atoms, and of rows' projections the n-th largest."""
    cosines = np.abs(D @ D.T)
    np.fill_diagonal(cosines, 0)
    projections = (rows[:2000] @ D.T).ravel()
    projections /= np.sqrt((rows[:2000] ** 2).sum(axis=1).mean())
    p = len(D)
    found = {"c_dec": float(cosines.sum() / (p * (p - 1)))}
    for share in (4, 2):
        n = len(projections) // share
        found[f"s_dec 1/{share}"] = float(-np.partition(-projections, n)[n])
    return found


def path_of(estimator, rows, l0) -> np.ndarray:
    """The values of a pursuit that is longer than the estimator's, in its metric."""
    return path_values(estimator._model(), estimator._learnt, rows, l0, "cpu")


def of_threshold(estimator, rows, l0) -> dict:
    """How well codes that are taken are apart from those that are not."""
    values = path_of(estimator, rows, l0)
    [(_, ratio, near)] = signs_at(values, [estimator.threshold_])
    return {"refused / last": float(ratio), "near threshold": float(near)}


def description_length(of_atoms, n_uses, residual) -> float:
    """Bits of a row: which atoms, their codes, and what is left, each as if Gaussian."""
    n, d = residual.shape
    p = np.clip(n_uses / n, 1e-9, 1 - 1e-9)
    which = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum()
    noise = (residual**2).mean()
    values = 0.5 * np.log2(1 + of_atoms.data.var() / noise) * of_atoms.nnz / n
    return float(which + values + 0.5 * d * np.log2(noise))


# --------------------------------------------------------------------- where each points to
def knee(table) -> int:
    """Where log unexplained variance lies farthest below its chord, over log L0."""
    x, y = np.log(table["L0"]), np.log(np.maximum(1 - table["EV"], 1e-9))
    x, y = (x - x.iloc[0]) / (x.iloc[-1] - x.iloc[0]), y - y.iloc[0]
    return int((x * y.iloc[-1] - y).to_numpy().argmax())


def largest(column):
    return lambda table: int(table[column].to_numpy().argmax())


def smallest(column):
    return lambda table: int(table[column].abs().to_numpy().argmin())


def last_below(column, bound):
    """The largest L0 where the column is at most the bound."""

    def pick(table):
        return max(np.flatnonzero(table[column].to_numpy() <= bound), default=0)

    return pick


SIGNS = {
    "at most 1% small codes": last_below("small codes", 0.01),
    "at most 3% small codes": last_below("small codes", 0.03),
    "least spread of an atom's codes": smallest("spread of codes"),
    "highest stability": largest("stability"),
    "highest F1 of two seeds": largest("F1 of two seeds"),
    "least c_dec": smallest("c_dec"),
    "least s_dec, 1/4": smallest("s_dec 1/4"),
    "s_dec, 1/2, nearest 0": smallest("s_dec 1/2"),
    "knee of log unexplained": knee,
    "least refused / last": smallest("refused / last"),
    "fewest near the threshold": smallest("near threshold"),
    "kurtosis of what is left nearest 0": smallest("kurtosis"),
    "fewest bits": lambda table: int(table["bits"].to_numpy().argmin()),
}


def markdown(table) -> str:
    header = "| " + " | ".join(table.columns) + " |\n|" + " --- |" * len(table.columns)
    return "\n".join([header, *("| " + " | ".join(row) + " |" for row in table.to_numpy())])


def fitted(problem, n_atoms, l0, seed):
    return MPSparseAutoencoder(
        n_atoms,
        n_nonzero_coefs=l0,
        sparsity="average",
        max_iter=problem.epochs,
        random_state=seed,
    ).fit(problem.train)


ONE_FIT = {
    "tree, rho 0.3": (1, 2, 3),
    "superposition": (4, 6, 10, 16),
    "superposition, 60% children": (4, 6, 10, 16),
    "SynthSAEBench, an eighth": (2, 4, 6, 10),
    "digits": (2, 4, 8, 16),
}


def one_fit() -> None:
    """Which L0 the threshold signs are least at, on the path of a fit with another L0."""
    print("\n## L0 at which one fit's own pursuit would stop best\n")
    lines = []
    for name, sizes in ONE_FIT.items():
        problem, n_atoms = {**PROBLEMS, "digits": from_digits}[name]()
        for l0 in sizes:
            estimator = fitted(problem, n_atoms, l0, 0)
            values = path_of(estimator, problem.test, l0)
            found = signs_at(values, thresholds(values, l0))
            least = found[found[:, 1:].argmin(axis=0)]
            lines.append(
                {
                    "data": name,
                    "fitted with": str(l0),
                    "least refused / last at": f"{least[0, 0]:.2f} ({least[0, 1]:.3f})",
                    "fewest near the threshold at": f"{least[1, 0]:.2f} ({least[1, 2]:.3f})",
                }
            )
            print(name, l0, file=sys.stderr, flush=True)
    print(markdown(pd.DataFrame(lines)))


# Numbers around the best ones, for fits beside "auto".
NEAR_BEST = {
    "SynthSAEBench, an eighth": (2.5, 3, 3.5, 4),
    "superposition": (6, 7, 8, 9, 10),
    "superposition, Zipf": (5, 6, 7, 8),
    "superposition, 60% children": (6, 7, 8, 9),
    "tree, rho 0.3": (1, 1.15, 1.36, 1.6),
    "digits": (),
    "noise": (),
}


def from_noise():
    X = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    return Problem(X[:16_000], X[16_000:], X[:0], sparse.csr_array((0, 0)), 0.0, 15, ()), 128


def auto() -> None:
    """What "auto" chooses, and what it costs against the best number of a grid."""
    print('\n## n_nonzero_coefs="auto"\n')
    makers = {**PROBLEMS, "digits": from_digits, "noise": from_noise}
    makers["superposition, Zipf"] = lambda: from_superposition(0.0, exponent=1.0)
    lines = []
    for name, grid in NEAR_BEST.items():
        problem, n_atoms = makers[name]()

        def f1(l0, problem=problem, n_atoms=n_atoms):
            fit = fitted(problem, n_atoms, l0, 0)
            found = fit.encode(problem.test), fit.components_
            return f1_of(*found, problem.truth, problem.dictionary), fit

        best, best_l0 = max(((f1(l0)[0], l0) for l0 in grid), default=(np.nan, np.nan))
        line = {"data": name, "best of the grid": f"{best:.3f} ({best_l0:g})"}
        try:
            found, fit = f1("auto")
            line |= {"auto": f"{found:.3f} ({fit.n_nonzero_coefs_:.2f})"}
            lines.append(line | {"costs": f"{best - found:.3f}"})
        except ValueError as error:
            print(f"{name}: {error}\n", flush=True)
            lines.append(line | {"auto": "refused", "costs": ""})
        print(lines[-1], file=sys.stderr, flush=True)
    print("F1 (and number of codes):\n")
    print(markdown(pd.DataFrame(lines).replace("nan (nan)", "unknown")))


def main() -> None:
    versions = ", ".join(f"{k} {v}" for k, v in machine.versions(["sae-lens"]).items())
    print(f"# bench_auto_k\n\n`python benchmarks/bench_auto_k.py`, data seed {SEED}, fits from")
    print(f"seeds 0 and 1, on {machine.cpu_model()}, {os.cpu_count()} cores, one used;")
    print(f"{versions}.\n")
    cost, picks = {}, {}
    for name, make in PROBLEMS.items():
        problem, n_atoms = make()
        rows = []
        for l0 in problem.grid:
            fits = [fitted(problem, n_atoms, l0, seed) for seed in (0, 1)]
            rows.append(measured(problem, fits, l0))
            print(name, l0, f"{rows[-1]['F1']:.3f}", file=sys.stderr, flush=True)
        table = pd.DataFrame(rows)
        best = table.F1.max()
        for sign, pick in SIGNS.items():
            i = pick(table)
            picks[sign, name] = table["L0"][i]
            cost[sign, name] = best - table["F1"][i]
        print(f"## {name} (true L0 {problem.true_l0:.2f})\n")
        shown = table.map("{:.3f}".format)
        shown["L0"], shown["bits"] = table["L0"].map(str), table["bits"].map("{:.1f}".format)
        print(markdown(shown) + "\n", flush=True)
    print(f"## L0 that each sign points to, and the F1 this costs (allowed: {ALLOWED})\n")
    lines = []
    for sign in SIGNS:
        at = {n: f"{picks[sign, n]:g} ({cost[sign, n]:.3f})" for n in PROBLEMS}
        worst = max(cost[sign, n] for n in PROBLEMS)
        verdict = "**yes**" if worst <= ALLOWED else f"no ({worst:.3f})"
        lines.append({"sign": sign, **at, "reliable": verdict})
    print(markdown(pd.DataFrame(lines)))


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    parts = {"--one-fit": one_fit, "--auto": auto}
    next((part for option, part in parts.items() if option in sys.argv), main)()
