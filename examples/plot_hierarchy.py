"""
A hierarchy recovered
=====================

Features often come in families: there is no *poodle* without a *dog*. It is then sparser to
let the poodle's atom absorb the dog's direction, and shallow encoders do. A matching pursuit
takes the dog first and the poodle from what is left, so the two stay apart. We make rows from
a tree whose features are known, learn atoms from them, and compare them with the true features.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.datasets import make_hierarchical_features
from sklearn_mpsae.metrics import feature_absorption, match_atoms

# %%
# The data
# --------
# Features 0, 4 and 8 are parents; the three after each are its children, which fire only
# where their parent does. Features 12 to 19 have no children. All are orthogonal.
tree = make_hierarchical_features(50_000, random_state=0)
print(f"{tree.data.shape[0]} rows, {tree.probabilities.sum():.2f} features in each on average")

# %%
# Two encoders
# ------------
# A row has one feature or two. The pursuit takes as many atoms as each row needs; TopK takes
# the two largest outputs. For sums of whole features nothing is subtracted from the rows. They
# have no noise, and the pursuit compares them as they are (``whitening=0``): the metric that
# it has by default would leave a trace of each parent in its children, an absorption of 0.05.
common = {"n_components": 20, "intercept": "zero", "max_iter": 20, "random_state": 0}
saes = {
    "MP": MPSparseAutoencoder(n_nonzero_coefs=1.36, sparsity="average", whitening=0, **common),
    "TopK": TopKSAE(n_nonzero_coefs=2, **common),
}

# %%
# Children and parents from codes
# -------------------------------
# From the codes alone: if B fires wherever A does, but not the other way round, then A
# is a child of B.


def parents_of(codes):
    """For each atom the one that fires wherever it does, or -1."""
    fires = (codes != 0).astype(float)
    together = (fires.T @ fires) / np.maximum(fires.sum(axis=0), 1)[:, None]
    np.fill_diagonal(together, 0)
    needs = (together > 0.95) & (together.T < 0.95)
    return np.where(needs.any(axis=1), needs.argmax(axis=1), -1)


cosines, absorption = {}, {}
for name, sae in saes.items():
    atoms = match_atoms(sae.fit(tree.data).components_, tree.dictionary).atoms
    cosines[name] = sae.components_[atoms] @ tree.dictionary.T
    absorption[name] = feature_absorption(cosines[name], np.eye(20), tree.parents)
    right = parents_of(sae.transform(tree.data)[:, atoms]) == tree.parents
    print(
        f"{name:4}  mean cosine with the truth {np.diag(cosines[name]).mean():.3f},  "
        f"absorption {absorption[name]:.3f},  place in the tree right for {right.sum()} of 20"
    )

# %%
# Atoms and truth
# ---------------
# Each line is an atom, each column a true feature. The pursuit's atoms are the features:
# all entries off the diagonal are zero. TopK explains the rows as well, but its atoms of
# children also contain the parent: the marks to the left of the diagonal, in the columns 0,
# 4 and 8.
figure, axes = plt.subplots(1, 2, figsize=(10.5, 5), layout="constrained", sharey=True)
for ax, (name, sae) in zip(axes, saes.items(), strict=True):
    image = ax.imshow(cosines[name], cmap="RdBu_r", vmin=-1, vmax=1)
    for edge in (3.5, 7.5, 11.5):
        ax.axhline(edge, color="0.6", lw=0.8)
        ax.axvline(edge, color="0.6", lw=0.8)
    ax.set(
        title=f"{name}: absorption {absorption[name]:.2f}, R² {sae.score(tree.data):.2f}",
        xlabel="True feature",
        xticks=range(0, 20, 4),
        yticks=range(0, 20, 4),
    )
axes[0].set_ylabel("Atom, in the order of the features")
figure.colorbar(image, ax=axes, label="Cosine", shrink=0.9)
plt.show()
