"""Matching pursuit on correlations against matching pursuit on residuals.

Which one `sklearn_mpsae.coding.pursuit.prefers_gram` takes, and which one is faster: where
the cost model is wrong, the table shows what that costs.
"""

import harness
import numpy as np

from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.coding.pursuit import prefers_gram

SHAPES = {
    "one row": (1, 1024, 784, 32),
    "a hundred rows": (100, 1024, 784, 32),
    "a batch of pixels": (1024, 1024, 784, 16),
    "a small batch, many atoms": (256, 4096, 784, 5),
    "a batch of activations": (1024, 8192, 768, 32),
    "digits": (512, 128, 64, 8),
    "tabular": (512, 64, 12, 3),
}


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    rng = np.random.default_rng(args.seed)
    rows = {}
    with open_kernels("cpu", np.dtype(np.float32)) as kernels:
        for name, shape in SHAPES.items():
            calls = both(kernels, rng, *shape)
            seconds = harness.interleave(calls, args.rounds)
            rows[name] = row(shape, harness.timing_rows(seconds, "residual"))
    harness.report("bench_crossover", rows, args)


def both(kernels, rng, n, p, d, k):
    """The two ways to code random rows over random atoms."""
    X, W = (rng.standard_normal(shape, dtype=np.float32) for shape in ((n, d), (p, d)))
    W /= np.linalg.norm(W, axis=1, keepdims=True)

    def pursue(gram):
        G = kernels.gram(W) if gram else None
        return kernels.matching_pursuit(X, W, G, k, tol=0.0, threshold=0.0, positive=True)

    return {"gram": lambda: pursue(True), "residual": lambda: pursue(False)}


def row(shape, timing):
    gram, residual = (timing[name]["median s"] for name in ("gram", "residual"))
    return {
        **dict(zip("npdk", shape, strict=True)),
        "gram s": gram,
        "residual s": residual,
        "gram / residual": gram / residual,
        "model": "gram" if prefers_gram(*shape, itemsize=4) else "residual",
    }


if __name__ == "__main__":
    main()
