"""Seconds of transform for few rows: python benchmarks/bench_small.py

A pursuit of k steps reads the dictionary k times for a row, TopK once. An open encoder
(``with sae.coder() as encode``) keeps the Gram matrix of the dictionary, and reads it once.
"""

import statistics
import time

import harness
import numpy as np
from harness import Bar

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rows", type=int, nargs="+", default=[1, 10, 100])
    options.add_argument("--features", type=int, default=784)
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--sparsity", type=int, default=10)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    rng = np.random.default_rng(args.seed)
    X = rng.random((max(512, *args.rows), args.features), dtype=np.float32)
    parameters = {"n_nonzero_coefs": args.sparsity, "max_iter": 1, "device": "cpu"}
    mp, top_k = (
        estimator(args.components, **parameters, random_state=args.seed).fit(X)
        for estimator in (MPSparseAutoencoder, TopKSAE)
    )
    with mp.coder() as encode:
        calls = {"TopK": top_k.transform, "MP": mp.transform, "MP, open encoder": encode}
        rows = medians(calls, X, args)
    for name in rows:
        for n in args.rows:
            rows[name][f"/ TopK, {n}"] = rows[name][f"ms, {n}"] / rows["TopK"][f"ms, {n}"]
    harness.report("bench_small", rows, args, bars=bars(rows, args.rows))


def medians(calls, X, args):
    """For each call, its milliseconds by the number of rows; the calls take turns."""
    rows = {name: {} for name in calls}
    for n in args.rows:
        seconds = {name: [] for name in calls}
        for _ in range(args.rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call(X[:n])
                seconds[name].append(time.perf_counter() - start)
        for name, values in seconds.items():
            rows[name][f"ms, {n}"] = 1000 * statistics.median(values)
    return rows


def bars(rows, numbers):
    """What the package has to reach."""
    limits = {("MP", 1): 2, ("MP", 100): 3}
    limits |= {("MP, open encoder", 1): 1, ("MP, open encoder", 100): 1.5}
    return [
        Bar(f"{name} over TopK, {n} rows", rows[name][f"/ TopK, {n}"], at_most=limit)
        for (name, n), limit in limits.items()
        if n in numbers
    ]


if __name__ == "__main__":
    main()
