"""
Sparse codes as features for a classifier
=========================================

PCA, NMF and sparse codes all describe an image by a few numbers. How well does a linear
classifier read the digit from these? We give each method the same budget, the mean count of
numbers other than zero in a row, and see how accuracy grows with it.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

X, y = load_digits(return_X_y=True)

# %%
# Four kinds of features
# ----------------------
# The autoencoders have a dictionary of 256 atoms, of which each row takes k. PCA has k
# components and uses all of them in every row; NMF has a few more, and leaves some at zero.
budgets = [2, 4, 8, 16, 32]
sparse = {"n_components": 256, "max_iter": 20, "random_state": 0}
methods = {
    "MPSparseAutoencoder": lambda k: MPSparseAutoencoder(n_nonzero_coefs=k, **sparse),
    "TopKSAE": lambda k: TopKSAE(n_nonzero_coefs=k, **sparse),
    "PCA": lambda k: PCA(k, random_state=0),
    "NMF": lambda k: NMF(k, init="random", tol=1e-3, max_iter=2000, random_state=0),
}


def measure(features):
    """Numbers other than zero in a row, and mean, least and largest accuracy of 3 folds."""
    model = make_pipeline(features, MaxAbsScaler(), LogisticRegression(C=10, max_iter=2000))
    folds = cross_validate(model, X, y, cv=3, return_estimator=True)
    used = [np.count_nonzero(fitted[:1].transform(X)) for fitted in folds["estimator"]]
    scores = folds["test_score"]
    return np.mean(used) / len(X), scores.mean(), scores.min(), scores.max()


results = {name: [measure(make(k)) for k in budgets] for name, make in methods.items()}
inked, pixels, *_ = measure("passthrough")
for name, points in results.items():
    print(f"{name:20}", "  ".join(f"{used:4.1f}: {mean:.3f}" for used, mean, *_ in points))
print(f"{'pixels':20} {inked:4.1f}: {pixels:.3f}")

# %%
# Accuracy for a budget
# ---------------------
# Points are means of three folds, bands reach from the worst fold to the best, and the dashed
# line is the accuracy from the pixels themselves. With two to eight numbers per row the sparse
# codes are better than PCA and NMF: two coordinates contain little information, but *which* two
# of 256 atoms a row uses nearly determines the digit. With 16 and more all are close. TopK's
# accuracy grows with further atoms and the pursuit's does not, so TopK's codes are the better
# features from there on. None is far above the pixels, but two numbers are fewer than 33.
figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
colours, markers = ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), "osD^"
for (name, points), colour, marker in zip(results.items(), colours, markers, strict=True):
    used, mean, low, high = np.transpose(points)
    ax.plot(used, mean, color=colour, marker=marker, label=name)
    ax.fill_between(used, low, high, color=colour, alpha=0.12, lw=0)
ax.axhline(pixels, color="0.3", ls="--", lw=1)
ax.text(2, pixels + 0.008, f"pixels ({inked:.0f} of them not zero)", color="0.3")
ax.set_xscale("log", base=2)
ax.set_xticks(budgets, budgets)
ax.set(xlabel="Numbers other than zero in a row", ylabel="Accuracy, three folds")
ax.grid(alpha=0.3)
ax.legend(loc="lower right")
plt.show()
