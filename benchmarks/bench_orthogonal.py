"""Orthogonal pursuits beside scikit-learn's: few rows, nearly equal atoms, 65,536 atoms.

Rows and atoms are random, of unit norm, in float32, and each side gets all its input in each
call. "paths" shows the two ways of the package, with and without a Gram matrix, and which one
its cost model takes.
"""

import itertools
import resource
import statistics
import time
import warnings
from pathlib import Path

import harness
import numpy as np
from harness import Bar
from sklearn.linear_model import orthogonal_mp, orthogonal_mp_gram

from sklearn_mpsae.coding import orthogonal_least_squares, orthogonal_matching_pursuit
from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.coding.pursuit import cheapest_path

OURS = {"OMP": orthogonal_matching_pursuit, "OLS": orthogonal_least_squares}
PATHS = [
    (1, 1024, 784, 32),
    (16, 1024, 784, 32),
    (100, 1024, 784, 32),
    (1000, 1024, 784, 32),
    (1000, 4096, 64, 8),
    (1000, 4096, 64, 32),
    (1000, 128, 16, 6),
    (100, 8192, 768, 32),
    (400, 8192, 768, 16),
]


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--parts", nargs="+", default=["large", "few", "near", "paths"])
    options.add_argument("--atoms", type=int, nargs="+", default=[4096, 16_384])
    options.add_argument("--rows", type=int, nargs="+", default=[1, 10])
    options.add_argument("--sparsity", type=int, nargs="+", default=[6, 16, 32])
    options.add_argument("--large-rows", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    rows = {}
    # The largest comes first: peak memory is the process's.
    parts = {"large": large, "few": few, "near": near, "paths": paths}
    for name, part in parts.items():
        if name in args.parts:
            rows |= part(args)
    harness.report("bench_orthogonal", rows, args, bars=bars(rows))


def problem(n, p, d, seed):
    """Random rows and atoms."""
    rng = np.random.default_rng(seed)
    X, W = (rng.standard_normal(shape, dtype=np.float32) for shape in ((n, d), (p, d)))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    return X, W


def ours(name, X, W, k):
    """A call of ours on the CPU."""
    return lambda: OURS[name](X, W, k, device="cpu")


def large(args, p=65_536, d=768, k=16):
    """Seconds of OMP, and the most memory beyond what the process had before it."""
    X, W = problem(args.large_rows, p, d, args.seed)
    ours("OMP", X[:2], W, k)()  # compiles
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    seconds, codes = harness.stopwatch(ours("OMP", X, W, k))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    left = float(np.square(X[:100] - codes.decode(W)[:100]).sum() / np.square(X[:100]).sum())
    return {
        f"OMP, {p} atoms, {len(X)} rows": {
            "seconds": seconds,
            "GiB beyond the input": (peak - before) / 2**30,
            "left": left,
        }
    }


def few(args, d=64):
    """Milliseconds for few rows, all sides in turn."""
    rows = {}
    for p, n, k in itertools.product(args.atoms, args.rows, args.sparsity):
        X, W = problem(n, p, d, args.seed)
        calls = {"scikit-learn": lambda X=X, W=W, k=k: theirs(X, W, k)}
        calls |= {name: ours(name, X, W, k) for name in OURS}
        seconds = in_turn(calls, args.rounds)
        rows[f"{p} atoms, k={k}, {n} rows"] = {
            **{f"ms {name}": 1000 * value for name, value in seconds.items()},
            **{f"{name} / its": seconds[name] / seconds["scikit-learn"] for name in OURS},
        }
    return rows


def theirs(X, W, k):
    """scikit-learn's function, which takes samples and atoms as columns."""
    return orthogonal_mp(W.T, X.T, n_nonzero_coefs=k)


def in_turn(calls, rounds):
    """Median seconds of each call; the first ones, which compile, do not count."""
    seconds = {name: [] for name in calls}
    for _, (name, call) in itertools.product(range(rounds + 1), calls.items()):
        start = time.perf_counter()
        call()
        seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def near(args, p=200, d=40, n=100):
    """The share of the rows' energy that is left where atoms are nearly equal."""
    X, W = problem(n, p, d, args.seed)
    common = problem(1, 1, d, args.seed + 1)[1]
    rows = {}
    for share, k in itertools.product((30, 100), (20, 40)):
        atoms = share * common + W
        atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
        codes = {name: OURS[name](X, atoms, k, device="cpu").dense() for name in OURS}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it finds atoms dependent
            codes["scikit-learn"] = theirs(X, atoms, k).T
            products = atoms @ atoms.T, atoms @ X.T
            codes["scikit-learn Gram"] = orthogonal_mp_gram(*products, n_nonzero_coefs=k).T
        rows[f"{share} times the own part, k={k} of d={d}"] = {
            f"{name} leaves": left(X, atoms, code) for name, code in codes.items()
        }
    return rows


def left(X, W, codes):
    """The share of the rows' energy that codes leave, in float64."""
    X, W, codes = (a.astype(np.float64) for a in (X, W, codes))
    return float(np.square(X - codes @ W).sum() / np.square(X).sum())


def paths(args):
    """Milliseconds with a Gram matrix, its forming included, and without."""
    options = {"tol": 0.0, "threshold": 0.0, "positive": False}
    rows = {}
    for shape, by_refit in itertools.product(PATHS, (False, True)):
        n, p, d, k = shape
        X, W = problem(n, p, d, args.seed)
        with open_kernels("cpu", X.dtype) as kernels:

            def code(gram, X=X, W=W, k=k, kernels=kernels, by_refit=by_refit):
                G = kernels.gram(W) if gram else None
                return kernels.orthogonal_pursuit(X, W, G, k, **options, by_refit=by_refit)

            calls = {"gram": lambda code=code: code(True)}
            calls["residual"] = lambda code=code: code(False)
            seconds = in_turn(calls, min(5, args.rounds))
        model = cheapest_path(*shape, 4, "ols" if by_refit else "omp")
        name = "OLS" if by_refit else "OMP"
        rows[f"{name} n={n} p={p} d={d} k={k}"] = {
            **{f"ms {way}": 1000 * value for way, value in seconds.items()},
            "model": model,
            "loss": seconds[model] / min(seconds.values()) - 1,
        }
    return rows


def bars(rows):
    """What the package has to reach."""
    found = [
        Bar(f"OMP over scikit-learn's, {name}", row["OMP / its"], at_most=1)
        for name, row in rows.items()
        if "OMP / its" in row and name.endswith(" 1 rows")
    ]
    found += [
        Bar(f"GiB beyond the input, {name}", row["GiB beyond the input"], at_most=2)
        for name, row in rows.items()
        if "GiB beyond the input" in row
    ]
    return found


if __name__ == "__main__":
    main()
