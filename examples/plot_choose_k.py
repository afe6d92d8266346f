"""
Choosing k without labels
=========================

``n_nonzero_coefs`` (k) is the largest number of coefficients in a row. A grid
search by the score always takes the largest k it is given. Here we see why,
and what :class:`~sklearn_mpsae.MPSparseAutoencoderCV` does instead: it takes
the smallest k that reaches a score you choose.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from sklearn_mpsae import MPSparseAutoencoder, MPSparseAutoencoderCV

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)
options = {"n_components": 64, "max_iter": 30, "random_state": 0}

# %%
# A grid search by the score
# --------------------------
# ``verbose=3`` prints each fit, its score and its time when it ends.
ks = [1, 2, 4, 6, 8, 12, 16]
grid = {"n_nonzero_coefs": ks}
search = GridSearchCV(MPSparseAutoencoder(**options), grid, cv=3, verbose=3)
search.fit(X_train)
scores = search.cv_results_["mean_test_score"]
for k, score in zip(ks, scores, strict=True):
    print(f"k = {k:2}: mean R² {score:.3f}")
print(f"The grid search takes {search.best_params_}")

# %%
# The score is the R² of the reconstruction of held-out rows, and it rises with
# each k. A pursuit uses each further coefficient to reduce the error of a row,
# held out or not. A larger grid would give a larger k.
#
# The smallest k that is good enough
# ----------------------------------
# ``target_score`` says what is enough: here an R² of 0.8, and then of 0.9.
# Codes of different k are nested, so each fold needs one fit, and its held-out
# rows are encoded once for all k.
found, upto = {}, options | {"n_nonzero_coefs": 16, "cv": 3}
for target in (0.8, 0.9):
    sae = MPSparseAutoencoderCV(target_score=target, **upto)
    found[target] = sae.fit(X_train)
    print(f"R² of at least {target}: k = {sae.n_nonzero_coefs_}")
    print(f"   {sae.best_score_:.3f} in cross-validation")
    print(f"   {sae.score(X_test):.3f} on test rows")
means = sae.cv_scores_.mean(axis=0)
for k in ks:
    print(f"k = {k:2}: mean R² {means[k - 1]:.3f}")

# %%
# The target holds for the mean over folds; on other rows the score may be a
# little below it, as with the second target here.
#
# Both answers together
# ---------------------
# Squares are fits for one k each. The line is the fit for k = 16 of each fold,
# cut to fewer coefficients; its loss also counts the error after the first 1,
# 2, ... coefficients (``path_weight``). For k up to 4 the fits for one k are
# better, so there ``MPSparseAutoencoderCV`` may choose a k that is too large.
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ax.plot(sae.candidates_, means, marker=".", label="MPSparseAutoencoderCV")
ax.plot(ks, scores, "s", ms=5, label="GridSearchCV")
ring = {"ms": 12, "mfc": "none"}
ax.plot(ks[-1], scores[-1], "s", **ring, label="taken by GridSearchCV")
for target, sae in found.items():
    k, score = sae.n_nonzero_coefs_, sae.best_score_
    ax.axhline(target, color="0.7", ls="--", lw=1)
    ax.plot(k, score, "o", **ring, label=f"taken for R² {target}: k = {k}")
ax.set(xlabel="k", ylabel="R² of held-out rows", ylim=(0.6, 1))
ax.legend(loc="lower right")
plt.show()
