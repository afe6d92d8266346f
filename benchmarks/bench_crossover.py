"""Matching pursuit on the Gram matrix, on its rows on demand, and on residuals.

Which one `sklearn_mpsae.coding.pursuit.cheapest_path` takes, and which one is fastest:
where the cost model is wrong, "loss" shows what that costs.
"""

import statistics

import harness
import numpy as np

from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.coding.kernels.budget import GRAM_BYTES
from sklearn_mpsae.coding.pursuit import cheapest_path

PATHS = ("gram", "blocked", "residual")
SHAPES = {
    "one row": (1, 1024, 784, 32),
    "a hundred rows": (100, 1024, 784, 32),
    "a batch of pixels": (1024, 1024, 784, 16),
    "a small batch, many atoms": (256, 4096, 784, 5),
    "a batch of activations": (1024, 8192, 768, 32),
    "digits": (512, 128, 64, 8),
    "tabular": (512, 64, 12, 3),
    **{
        f"p={p} n={n} k={k}": (n, p, 768, k)
        for p, n, k in [
            (16_384, 64, 32),
            (16_384, 512, 8),
            (16_384, 512, 32),
            (16_384, 4096, 32),
            (24_576, 1024, 8),
            (24_576, 1024, 32),
            (65_536, 256, 8),
            (65_536, 256, 32),
        ]
    },
}


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--shapes", nargs="*", default=[], help="those with such a name")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    rows = {}
    for name, shape in SHAPES.items():
        if not args.shapes or any(text in name for text in args.shapes):
            rows[name] = measured(shape, args)
    harness.report("bench_crossover", rows, args)


def measured(shape, args):
    """Seconds of each path to code random rows over random atoms, with its preparation."""
    n, p, d, k = shape
    rng = np.random.default_rng(args.seed)
    X, W = (rng.standard_normal(size, dtype=np.float32) for size in ((n, d), (p, d)))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    options = {"tol": 0.0, "threshold": 0.0, "positive": True}
    with open_kernels("cpu", np.dtype(np.float32)) as kernels:

        def gram():
            return kernels.matching_pursuit(X, W, kernels.gram(W), k, **options)

        def blocked():
            return kernels.blocked_pursuit(X, W, k, **options)

        def residual():
            return kernels.matching_pursuit(X, W, None, k, **options)

        calls = {"gram": gram, "blocked": blocked, "residual": residual}
        if p * p * W.itemsize > GRAM_BYTES:
            del calls["gram"]
        seconds = harness.interleave(calls, args.rounds, budget=15.0)
    return row(shape, {name: statistics.median(times) for name, times in seconds.items()})


def row(shape, seconds):
    """Seconds, what the model takes, and how much longer that is than the fastest."""
    taken = cheapest_path(*shape, itemsize=4)
    return {
        **dict(zip("npdk", shape, strict=True)),
        **{f"{name} s": seconds.get(name) for name in PATHS},
        "fastest": min(seconds, key=seconds.get),
        "model": taken,
        "loss": seconds[taken] / min(seconds.values()) - 1,
    }


if __name__ == "__main__":
    main()
