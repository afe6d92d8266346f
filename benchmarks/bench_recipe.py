"""What each part of the training recipe is worth, where the true atoms are known.

The tree of arXiv:2506.03093 (`make_hierarchical_features`): mean matched cosine of learnt
and true atoms (1 is perfect), the median and the lowest of the seeds, for the recipe and for
the recipe without one of its parts.
"""

import statistics
from contextlib import contextmanager
from functools import partial
from unittest import mock

import harness
import numpy as np

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.datasets import make_hierarchical_features
from sklearn_mpsae.learning import recipe
from sklearn_mpsae.metrics import matched_cosine
from sklearn_mpsae.models.pursuit import MatchingPursuit

BATCH = 200


@contextmanager
def without_free_norms():
    with mock.patch.object(MatchingPursuit, "free_norms", False):
        yield


def with_constant(name, value):
    return mock.patch.object(recipe, name, value)


RECIPES = {
    "the recipe": partial(with_constant, "EXPLORE", recipe.EXPLORE),
    "no more codes than asked": partial(with_constant, "_slack", lambda k, n_components: 0),
    "on the sphere throughout": without_free_norms,
    "explore for 30% only": partial(with_constant, "EXPLORE", 0.3),
    "explore for 99%": partial(with_constant, "EXPLORE", 0.99),
}


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--steps", type=int, default=15_000)
    options.add_argument("--rho", type=float, nargs="+", default=[0.0, 0.1, 0.3, 0.6])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = options.parse_args()

    rows = {}
    for name, changed in RECIPES.items():
        rows[name] = {}
        for rho in args.rho:
            with changed():
                cosines = [recovered(rho, seed, args.steps) for seed in args.seeds]
            rows[name][f"rho {rho:g}"] = statistics.median(cosines)
            rows[name][f"lowest at {rho:g}"] = min(cosines)
        print(harness.table({name: rows[name]}), flush=True)
    harness.report("bench_recipe", rows, args)


def recovered(rho, seed, steps):
    """Mean cosine of the true atoms and those that the default fit finds."""
    # Ten passes over as many rows as that takes.
    features = make_hierarchical_features(
        steps * BATCH // 10, rho=rho, dtype=np.float32, random_state=seed
    )
    fit = MPSparseAutoencoder(
        20,
        n_nonzero_coefs=2,
        tol=1e-3,
        intercept="zero",
        batch_size=BATCH,
        max_iter=10,
        random_state=seed,
    ).fit(features.data)
    return matched_cosine(fit.components_, features.dictionary)


if __name__ == "__main__":
    main()
