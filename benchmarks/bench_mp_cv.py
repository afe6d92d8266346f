"""Rules that choose the sparsity from held-out rows: python benchmarks/bench_mp_cv.py

On rows whose mean number of atoms is known, with a tenth of their variance as noise, and on
digits. "R² >= 0.9" is that of MPSparseAutoencoderCV, "1 SE" the smallest number within one
standard error of the best R², "EBIC" the extended Bayesian information criterion (Chen and
Chen, 2008) of held-out rows, all from the same held-out scores.
"""

import numpy as np
from scipy.special import gammaln
from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoderCV
from sklearn_mpsae.datasets import make_superposition


def one_standard_error(scores):
    means, errors = scores.mean(axis=0), scores.std(axis=0, ddof=1) / np.sqrt(len(scores))
    best = means.argmax()
    return np.argmax(means >= means[best] - errors[best]) + 1


def ebic(scores, n_atoms, n_features):
    k = np.arange(1, scores.shape[1] + 1)
    names = gammaln(n_atoms + 1) - gammaln(k + 1) - gammaln(n_atoms - k + 1)
    lengths = n_features * np.log(1 - scores) / 2 + names + k * np.log(n_features) / 2
    return lengths.mean(axis=0).argmin() + 1


def report(name, X, n_atoms, largest, **options):
    for algorithm in ("mp", "omp"):
        est = MPSparseAutoencoderCV(
            n_atoms,
            n_nonzero_coefs=largest,
            transform_algorithm=algorithm,
            cv=3,
            random_state=0,
            **options,
        ).fit(X)
        rules = (
            est.n_nonzero_coefs_,
            one_standard_error(est.cv_scores_),
            ebic(est.cv_scores_, n_atoms, X.shape[1]),
        )
        print(
            f"| {name} | {largest} | {algorithm} | {' | '.join(map(str, rules))} |", flush=True
        )


print("| data | largest | codes | R² >= 0.9 | 1 SE | EBIC |\n|---|---|---|---|---|---|")
for l0 in (2, 4, 8):
    X = make_superposition(6000, 64, 96, l0=l0, random_state=0).data
    noise = np.random.default_rng(1).standard_normal(X.shape)
    X = X + np.sqrt(0.1) * X.std() * noise
    for largest in (2 * l0, 4 * l0):
        report(f"{l0} atoms a row", X, 96, largest, max_iter=60)
for n_atoms in (64, 256):
    for largest in (12, 24):
        report(f"digits, {n_atoms} atoms", load_digits().data, n_atoms, largest, max_iter=100)
