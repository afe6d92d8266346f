"""Rare features: what smaller training steps find that larger ones do not.

Rows of the study's page on superposition whose features fire by Zipf's law (exponent 1): 512
features in 96 dimensions, the first in every row, the last in one of a thousand; 60,000 rows
seen 15 times. Rows are sums of 8 features on average, and get as many codes; a learnt
intercept takes the first feature, so MP also chooses their number itself ("auto"), and TopK
is also given 7. F1 over all features and over the rarest fifth, for steps of several sizes;
shallow encoders at the rates that were best for them on that page.
"""

import statistics
import sys
from pathlib import Path

import harness
import numpy as np
from harness import Bar

sys.path.insert(0, str(Path(__file__).parent / "study"))
import superposition

from sklearn_mpsae import BatchTopKSAE, MPSparseAutoencoder, TopKSAE, metrics

SIDES = {
    "MP (average)": (MPSparseAutoencoder, {"sparsity": "average"}),
    "MP (average), auto": (
        MPSparseAutoencoder,
        {"sparsity": "average", "n_nonzero_coefs": "auto"},
    ),
    "MP (average), intercept zero, no whitening": (
        MPSparseAutoencoder,
        {"sparsity": "average", "intercept": "zero", "whitening": 0.0},
    ),
    "TopK": (TopKSAE, {"learning_rate": 1.0, "dead_atoms": "revive"}),
    "TopK, 7 codes": (
        TopKSAE,
        {"learning_rate": 1.0, "dead_atoms": "revive", "n_nonzero_coefs": 7},
    ),
    "BatchTopK": (
        BatchTopKSAE,
        {"learning_rate": 0.3, "dead_atoms": "revive", "intercept": "zero"},
    ),
}


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--exponents", type=float, nargs="+", default=[1.0, 0.5])
    options.add_argument("--batches", type=int, nargs="+", default=[512, 128])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = options.parse_args()
    rows = {}
    for exponent in args.exponents:
        data = [
            superposition.generated(superposition.Data(96, exponent=exponent), seed)
            for seed in args.seeds
        ]
        for name, size in ((name, size) for name in SIDES for size in args.batches):
            found = [
                fitted(*each, name, size, s) for each, s in zip(data, args.seeds, strict=True)
            ]
            row = {key: statistics.mean(x[key] for x in found) for key in found[0]}
            rows[f"exponent {exponent}, {name}, {size} rows a step"] = row
            print(exponent, name, size, row, flush=True)
    harness.report("bench_rare", rows, args, bars=bars(rows))


def fitted(train, fresh, name, batch_size, seed):
    """What one fit finds, and its seconds."""
    build, options = SIDES[name]
    options = {"n_nonzero_coefs": 8, "max_iter": 15, "device": "cpu", **options}
    sae = build(512, batch_size=batch_size, random_state=seed, **options)
    seconds, _ = harness.stopwatch(sae.fit, train.data)
    codes = sae.encode(fresh.data)
    matching = metrics.match_atoms(sae.components_, fresh.dictionary)
    f1 = metrics.firing_scores(codes, fresh.codes, matching).per_feature.f1
    rare = np.argsort(fresh.codes.count_nonzero(axis=0))[: len(f1) // 5]
    return {
        "F1": float(np.nanmean(f1)),
        "F1, rarest fifth": float(np.nanmean(f1[rare])),
        "matched cosine": float(matching.scores.mean()),
        "L0": metrics.l0(codes),
        "fit s": seconds,
    }


def bars(rows):
    """What the default intercept has to reach."""
    names = {"8 codes": "MP (average)", "auto": "MP (average), auto"}
    return [
        Bar(
            f"F1 of MP at exponent 1, {how}, 128 rows a step",
            rows.get(f"exponent 1.0, {name}, 128 rows a step", {}).get("F1"),
            at_least=0.88,
        )
        for how, name in names.items()
    ]


if __name__ == "__main__":
    main()
