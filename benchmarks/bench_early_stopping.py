"""What early stopping saves and costs: python benchmarks/bench_early_stopping.py [folder]

Digits, and 20,000 rows of MNIST where a folder with mnist.npz is named. Each dictionary is
learnt once, with the held-out score after each epoch; where any patience would have stopped
follows from these.
"""

import sys
from math import ceil

import numpy as np
from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.callbacks import EarlyStopping
from sklearn_mpsae.datasets import fetch_mnist


def stopped(scores, patience):
    """The epoch a fit stops at, and the best score until then."""
    best = 0
    for epoch, score in enumerate(scores):
        best = epoch if score > scores[best] else best
        if epoch - best >= patience:
            break
    return epoch + 1, scores[best]


def report(name, train, held_out, sizes, epochs):
    for cls in (MPSparseAutoencoder, TopKSAE):
        for n_components, k in sizes:
            watch = EarlyStopping(held_out, patience=10**9, restore_best=False)
            est = cls(n_components, n_nonzero_coefs=k, max_iter=epochs, random_state=0)
            est.set_callbacks(watch).fit(train)
            scores = np.array(watch.scores_)
            cells = [f"{scores.max():.4f} ({scores.argmax() + 1})", f"{scores[-1]:.4f}"]
            for patience in (5, 0.1, 0.2):
                wait = patience if patience >= 1 else ceil(patience * len(scores))
                epoch, score = stopped(scores, wait)
                cells.append(f"{score:.4f} ({epoch})")
            print(
                f"| {name} | {cls.__name__} | {n_components}, {k} | {len(scores)} | "
                + " | ".join(cells)
                + " |",
                flush=True,
            )


print(
    "| data | estimator | atoms, codes | epochs | best (epoch) | last | stopped: patience 5 | "
    "0.1 | 0.2 |\n|---|---|---|---|---|---|---|---|---|"
)
X = np.random.default_rng(0).permutation(load_digits().data)
report("digits", X[:1000], X[1000:], [(64, 4), (64, 10), (256, 10), (512, 4), (512, 10)], None)
if len(sys.argv) > 1:
    X = fetch_mnist(sys.argv[1]).data.astype(np.float32) / 255
    report("MNIST", X[:20_000], X[60_000:63_000], [(512, 10), (1024, 32)], 25)
