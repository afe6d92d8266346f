"""How the time of a fit grows: with rows, atoms, codes per row and features.

Bar 2 of scale. Rows: one epoch from a file of up to 4,000,000 rows (that of
bench_files.py), time per row. The others: training steps at a size of reference with one
of p, k and d varied, the slope of the logarithm of their time, and the slope that the
cost model predicts at the same sizes. Settings are timed in turn.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import bench_files
import harness
import numpy as np
from harness import Bar

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding import pursuit

BATCH = 1000
SIZES = {"p": 2048, "k": 16, "d": 512}
VARIED = {
    "p": [512, 1024, 2048, 4096, 8192],
    "k": [4, 8, 16, 32, 64],
    "d": [128, 256, 512, 1024, 2048],
}


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument(
        "--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6, 4 * 10**6]
    )
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--sparsity", type=int, default=10)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--folder", type=Path, help="where the file is, or is to be kept")
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = bench_files.made(args.folder or Path(scratch), max(args.rows))
        rows = by_rows(path, args)
    bars = [
        Bar("dearest over cheapest row", spread(rows, "us per row"), at_most=1.1),
        Bar("the same, of processor time", spread(rows, "CPU us per row"), at_most=1.1),
    ]
    for name, sizes in VARIED.items():
        rows |= by_size(name, sizes, args.rounds)
    del args.folder
    harness.report("bench_scaling", rows, args, bars=bars)


def by_rows(path, args):
    """Microseconds per row, for one epoch of the first n rows of the file.

    Fits of each size come in between those of the others, many of a small one, and their
    mean is taken: what else the machine does slows a long fit by its average.
    """
    X = np.load(path, mmap_mode="r")
    seconds = {n: [] for n in args.rows}
    fit_seconds(X[: min(args.rows)], args)  # loads what is loaded once
    for n in args.rows:
        for smaller in [m for m in args.rows if m <= n]:
            for _ in range(max(1, args.rounds * 10**5 // smaller)):
                seconds[smaller].append(fit_seconds(X[:smaller], args))
    table = {}
    for n, times in seconds.items():
        wall, cpu = 1e6 * np.mean(times, axis=0) / n
        table[f"{n:,} rows"] = {"us per row": wall, "CPU us per row": cpu, "fits": len(times)}
    return table


def spread(rows, column):
    """The largest over the smallest."""
    values = [row[column] for row in rows.values()]
    return max(values) / min(values)


def fit_seconds(X, args):
    """Of a fit to these rows: on the clock, and of all processors."""
    model = MPSparseAutoencoder(
        args.components,
        n_nonzero_coefs=args.sparsity,
        max_iter=1,
        batch_size=BATCH,
        random_state=0,
    )
    busy = time.process_time()
    wall, _ = harness.stopwatch(model.fit, X)
    return wall, time.process_time() - busy


def by_size(name, sizes, rounds):
    """Milliseconds of a training step as one size grows, and the slopes."""
    calls = {size: step(SIZES | {name: size}) for size in sizes}
    seconds = {s: median(t) for s, t in harness.interleave(calls, rounds).items()}
    predicted = {size: cost(SIZES | {name: size}) for size in sizes}
    table = {f"{name}={size}": {"ms per step": 1e3 * seconds[size]} for size in sizes}
    table[f"exponent of {name}"] = {
        "measured": slope(seconds),
        "predicted": slope(predicted),
        "at the end, measured": slope(dict(list(seconds.items())[-2:])),
        "at the end, predicted": slope(dict(list(predicted.items())[-2:])),
    }
    return table


def step(sizes):
    """Three training steps at these sizes."""
    X = np.random.default_rng(0).standard_normal((3 * BATCH, sizes["d"]), dtype=np.float32)
    model = MPSparseAutoencoder(
        sizes["p"], n_nonzero_coefs=sizes["k"], max_iter=1, batch_size=BATCH, random_state=0
    )
    return lambda: model.fit(X)


def cost(sizes):
    """Multiply-adds of a step: the pursuit's, its gradient's, the optimizer's."""
    n, p, k, d = BATCH, sizes["p"], sizes["k"], sizes["d"]
    k += min(2 * k, 10) / 2  # a fit explores with more codes: on average by so many
    product, sweeps = n * p * d, pursuit._SWEEP_COST * n * k * p
    return product + p * p * d / 2 + sweeps + 6 * n * k * d + 4 * p * d


def slope(times):
    """The exponent of the power law through these points, by least squares."""
    return float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])


if __name__ == "__main__":
    main()
