"""What each method learns from MNIST, and in how many seconds.

Bars 5 and 6. All learn from the same centred rows, seed after seed with the sides in
turn, and are judged on the test rows three times: by the codes that the method itself
gives (its own encoder), by plain matching pursuit over its atoms and by scikit-learn's
orthogonal matching pursuit over its atoms, either with k atoms a row of either sign. L0
and dead atoms (no training row uses them) are those of the method's own codes.
"""

import itertools
import statistics

import harness
import numpy as np
from harness import Bar, ratio
from rivals import plain_mp, sklearn_

REFERENCE = "SPAMS trainDL"


def main():
    options = harness.parser(__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=60_000)
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--sparsity", type=int, default=10)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = options.parse_args()

    train, test = harness.mnist(args.data_home)
    train = train[: args.rows]
    learners, record = harness.sides("LEARNERS", args.only)
    fits = {name: [] for name in learners}
    for seed, (name, learn) in itertools.product(args.seeds, learners.items()):
        if seed == args.seeds[0]:
            learn(train[:2048], 64, args.sparsity, seed)  # kernels compiled, pools started
        seconds, learned = harness.stopwatch(learn, train, args.components, args.sparsity, seed)
        fits[name].append({"fit s": seconds, **quality(learned, train, test, args.sparsity)})
        print(f"seed {seed}:", harness.table({name: fits[name][-1]}), sep="\n")
    rows = {name: summary(results) for name, results in fits.items()}
    for name in rows:
        rows[name]["ratio"] = ratio(rows, name, [REFERENCE], "fit s")
    harness.report("bench_mnist", rows, args, bars=bars(rows), **record)


def quality(learned, train, test, k):
    """How well a dictionary, and its method's own codes, describe the test rows."""
    W = np.ascontiguousarray(learned.components, dtype=np.float32)
    centred = test - learned.intercept

    def explained(codes):
        return harness.r2(centred, harness.as_csr(codes, len(W)) @ W)

    own = learned.encode(test)
    return {
        "R2 own": explained(own),
        "R2 MP": explained(plain_mp.encode(centred, W, k, positive=False)()),
        "R2 OMP": explained(sklearn_.encode(centred, W, k)()),
        "L0": harness.as_csr(own, len(W)).nnz / len(test),
        "dead": 1 - np.mean(used(learned, train)),
    }


def used(learned, X, chunk=10_000):
    """Which atoms some row of X uses."""
    n_components = len(learned.components)
    counts = np.zeros(n_components)
    for start in range(0, len(X), chunk):
        codes = harness.as_csr(learned.encode(X[start : start + chunk]), n_components)
        counts += np.bincount(codes.indices, minlength=n_components)
    return counts > 0


def summary(results):
    """Medians over the seeds, and the largest gap between two of them in R2."""
    medians = {key: statistics.median(fit[key] for fit in results) for key in results[0]}
    gaps = (np.ptp([fit[key] for fit in results]) for key in ("R2 own", "R2 OMP"))
    return {**medians, "R2 gap": float(max(gaps)) if len(results) > 1 else None}


def bars(rows):
    """What the package has to reach, each coder with the dictionary trained for it."""
    names = ("MP", "MP, omp", "MP, ols, either sign", "TopK")
    mp, omp, ols, topk = (rows.get(f"ours {name}", {}) for name in names)
    theirs = [row for name, row in rows.items() if "TopK" in name and name != "ours TopK"]
    gain = topk["R2 own"] - max(row["R2 own"] for row in theirs) if topk and theirs else None
    found = [
        Bar("MP, R2 of its own codes", mp.get("R2 own"), at_least=0.857),
        Bar("MP, omp: R2 of OMP codes", omp.get("R2 OMP"), at_least=0.882),
        Bar("MP, ols, either sign: R2 of its own codes", ols.get("R2 own"), at_least=0.882),
        Bar("TopK, R2 beyond the best of theirs", gain, at_least=0),
    ]
    for name, row in zip(names[:3], (mp, omp, ols), strict=True):
        seconds = ratio(rows, f"ours {name}", [REFERENCE], "fit s")
        found += [
            Bar(f"{name}: seconds over SPAMS trainDL's", seconds, at_most=1 / 3),
            Bar(f"{name}: dead atoms", row.get("dead"), at_most=0.01),
            Bar(f"{name}: R2 between seeds", row.get("R2 gap"), at_most=0.002),
        ]
    return found


if __name__ == "__main__":
    main()
