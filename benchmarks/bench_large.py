"""Large dictionaries: training steps at 16,384 and 65,536 atoms, and bfloat16's error.

Rows are sums of 16 random unit atoms of 768 features, some atoms far more frequent than
others (Zipf's law) and values exponential, with noise of a twentieth of their energy. A
step is each side's own trainer's; every side gets the same rows. SAELens's matching
pursuit takes a minute a step: it sits out rounds once its time is used up.
"""

import itertools
import resource
import time
from functools import partial

import harness
import numpy as np
from harness import Bar

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.coding.pursuit import cheapest_path
from sklearn_mpsae.learning.sizes import batch_size_for

D, K = 768, 32
OURS = {
    "ours MP": partial(MPSparseAutoencoder, precision="full"),
    "ours MP bfloat16": partial(MPSparseAutoencoder, precision="bfloat16"),
    "ours TopK": TopKSAE,
}
OPTIONS = {"tol": 0.0, "threshold": 0.0, "positive": True}


def main():
    options = harness.parser(__doc__.splitlines()[0])
    options.add_argument("--batches", type=int, nargs="+", default=[1024, 4096, 8192])
    options.add_argument("--rival-batches", type=int, nargs="*", default=[4096])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--budget", type=float, default=60.0, help="seconds of a side")
    options.add_argument(
        "--parts",
        nargs="+",
        default=["steps", "65536", "error"],
        help="also quality, by itself",
    )
    options.add_argument("--rows", type=int, default=524_288, help="of the part quality")
    options.add_argument(
        "--learn", type=int, nargs="+", default=[2048, 1024, 4096], help="of that part: batches"
    )
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    rows, record, bars = {}, {}, []
    # The largest dictionary comes first: peak memory is the process's.
    if "65536" in args.parts:
        rows |= largest(args)
    if "error" in args.parts:
        rows |= errors(args)
    if args.parts == ["quality"]:  # minutes of each of its fits: by itself
        rows = quality(args)
        harness.report("bench_large_quality", rows, args, bars=quality_bars(rows))
        return
    if "steps" in args.parts:
        steps, record = harness.sides("STEPS", ["SAELens"])
        for n in args.batches:
            rivals = steps if n in args.rival_batches else {}
            rows |= training(n, rivals, args)
        bars = step_bars(rows)
    harness.report("bench_large", rows, args, bars=bars, **record)


def mixtures(n, p, seed):
    """Rows, and the atoms that made them."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((p, D), dtype=np.float32)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    frequency = 1 / np.arange(1, p + 1)
    frequency /= frequency.sum()
    X = np.zeros((n, D), np.float32)
    for _ in range(16):
        values = rng.exponential(size=(n, 1)).astype(np.float32)
        X += values * W[rng.choice(p, n, p=frequency)]
    noise = rng.standard_normal(X.shape, dtype=np.float32)
    noise *= np.sqrt(0.05 * np.square(X).mean())
    return X + noise, W


def training(n, rivals, args):
    """Rows per second of training steps with batches of n rows, 16,384 atoms.

    Ours are those of whole fits, whose steps are one epoch each: k falls on the way.
    """
    p = 16_384
    X, _ = mixtures(2 * n, p, args.seed)
    seconds = {name: [] for name in OURS}
    for _, (name, build) in itertools.product(range(args.rounds), OURS.items()):
        steps = Steps()
        model = build(p, n_nonzero_coefs=K, max_iter=5, device="cpu", random_state=0)
        model.set_params(batch_size=n).set_callbacks(steps).fit(X[:n])
        seconds[name] += steps.seconds[1:]  # the first one finds no memory to use again
    calls = {name: on(X, n, build(D, p, K)) for name, build in rivals.items()}
    seconds |= harness.interleave(calls, args.rounds, budget=args.budget)
    timing = harness.timing_rows(seconds, "ours TopK")
    return {
        f"{name}, {n} rows": {
            "rows/s": n / row["median s"],
            "of TopK's": 1 / row["ratio"],
            "median s": row["median s"],
            "fastest s": row["fastest s"],
            "calls": row["calls"],
        }
        for name, row in timing.items()
    }


class Steps:
    """A callback that takes the time of each epoch."""

    def __init__(self):
        self.seconds = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self._began = time.perf_counter()

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.seconds.append(time.perf_counter() - self._began)


def on(X, n, step):
    """The step, fed with one batch after the other."""
    stream = itertools.cycle([X[:n], X[n:]])
    return lambda: step(next(stream))


def step_bars(rows):
    """What the package has to reach with the batches that it takes by default."""
    n = batch_size_for(16_384)

    def rate(side):
        rates = [x["rows/s"] for name, x in rows.items() if name.startswith(f"{side}, ")]
        own = rows.get(f"{side}, {n} rows", {}).get("rows/s")
        return own or (rates[0] if rates else None)

    def over(side, other):
        return rate(side) / rate(other) if rate(side) and rate(other) else None

    default, full = "ours MP bfloat16", "ours MP"
    name = f"rows/s with batches of {n} rows,"
    return [
        Bar(f"{name} by default over TopK", over(default, "ours TopK"), at_least=0.75),
        Bar(f"{name} in full over TopK", over(full, "ours TopK"), at_least=0.45),
        Bar(f"{name} by default over SAELens MP", over(default, "SAELens MP"), at_least=20),
    ]


def quality(args, p=16_384):
    """R2 on held-out rows once every side has learnt from the same rows, each of them once."""
    X, _ = mixtures(args.rows + 4096, p, args.seed)
    train, test = X[:-4096], X[-4096:]
    rows = {}
    for name, size in (("ours MP bfloat16", "auto"), *itertools.product(OURS, args.learn)):
        if name == "ours MP" and size != args.learn[0]:
            continue  # an hour, and the same to some digits
        model = OURS[name](
            p, n_nonzero_coefs=K, batch_size=size, max_iter=1, device="cpu", random_state=0
        ).fit(train)
        rows[f"{name}, batch_size={size}"] = row = {
            "rows of a step": model.batch_size_,
            "steps": model.n_steps_,
            "R2": model.score(test),
            "unused atoms": int((model.atom_usage_ == 0).sum()),
        }
        print(name, size, row, flush=True)
    return rows


def quality_bars(rows):
    """That the batches taken by default learn as much from the same rows as any others."""
    r2 = {name: row["R2"] for name, row in rows.items()}
    best = max(value for name, value in r2.items() if "TopK" not in name)
    default = r2["ours MP bfloat16, batch_size=auto"]
    return [Bar("R2 by default, less the best of MP", default - best, at_least=-0.002)]


def largest(args, p=65_536, n=1024):
    """Training steps at 65,536 atoms, and the most memory that the process ever took."""
    X, _ = mixtures(3 * n, p, args.seed)
    rows = {}
    for name, build in OURS.items():
        model = build(p, n_nonzero_coefs=16, batch_size=n, device="cpu", random_state=0)
        times = [
            harness.stopwatch(model.partial_fit, batch)[0] for batch in np.array_split(X, 3)
        ]
        rows[f"{name}, {n} rows, 65,536 atoms"] = {
            "rows/s": n / min(times[1:]),
            "fastest s": min(times[1:]),
            "calls": 2,
            "peak GiB so far": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "path": cheapest_path(n, p, D, 16, 4) if name == "ours MP" else None,
        }
    return rows


def errors(args):
    """What choosing in bfloat16 changes, on one dictionary: picks, and R2."""
    X, W = mixtures(2048, 16_384, args.seed)
    problems = {"mixtures": (X, W, K)}
    try:
        train, test = harness.mnist(args.data_home)
    except Exception as error:
        print(f"skipped: MNIST ({error})")
    else:
        model = MPSparseAutoencoder(
            1024, n_nonzero_coefs=K, max_iter=2, device="cpu", random_state=args.seed
        ).fit(train)
        problems["MNIST"] = (test - model.intercept_, model.components_, K)
    return {f"bfloat16 on {name}": compared(*problem) for name, problem in problems.items()}


def compared(X, W, k):
    """Picks that differ, rows whose atoms differ, and R2 by both choices."""
    with open_kernels("cpu", X.dtype) as kernels:
        full = kernels.matching_pursuit(X, W, kernels.gram(W), k, **OPTIONS)
        coarse = kernels.coarse_pursuit(X, W, k, **OPTIONS)
        fits = [kernels.decode(*codes, W) for codes in (full, coarse)]
    sets = [np.sort(codes[0], axis=1) for codes in (full, coarse)]
    return {
        "other picks": float((full[0] != coarse[0]).mean()),
        "other rows": float((sets[0] != sets[1]).any(axis=1).mean()),
        "R2 full": harness.r2(X, fits[0]),
        "R2 bfloat16": harness.r2(X, fits[1]),
    }


if __name__ == "__main__":
    main()
