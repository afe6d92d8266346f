"""
Correlated features that TopK misses
====================================

A shallow encoder looks at a row once, so a feature that fires also lights up those that are
like it. A pursuit subtracts each atom before it looks for the next. We make rows from
features that come in groups of four, raise the cosine within the groups, and see who still
finds the features.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.datasets import make_correlated_features
from sklearn_mpsae.metrics import match_atoms

# %%
# Fit both at each correlation
# ----------------------------
# 64 features in 32 dimensions, three of them in a row. TopK gets the better of two learning
# rates, chosen by the true features, which is in its favour. It replaces dead atoms by badly
# explained directions, as the pursuit does. The pursuit runs with its defaults.
N_FEATURES, K = 64, 3
common = {"n_components": N_FEATURES, "n_nonzero_coefs": K, "intercept": "zero", "max_iter": 25}
settings_of = {
    "MP": [{}],
    "TopK": [{"learning_rate": rate, "dead_atoms": "revive"} for rate in (0.1, 0.3)],
}
classes = {"MP": MPSparseAutoencoder, "TopK": TopKSAE}


def matched(sae, truth):
    """The atoms in the order of the features, and their cosines with all features."""
    atoms = match_atoms(sae.components_, truth).atoms
    return sae.components_[atoms] @ truth.T


correlations = [0.0, 0.3, 0.5, 0.7, 0.8]
found = {name: [] for name in settings_of}
for rho in correlations:
    data = make_correlated_features(
        20_000, 32, N_FEATURES, rho=rho, n_nonzero_coefs=K, random_state=0
    )
    for name, settings in settings_of.items():
        fits = [
            classes[name](**common, **options, random_state=0).fit(data.data)
            for options in settings
        ]
        tables = [matched(sae, data.dictionary) for sae in fits]
        found[name].append(max(tables, key=np.trace))

# %%
# Count the features found
# ------------------------
# A feature is found if its atom has a cosine above 0.95 with it.
shares = {
    name: [np.mean(np.diag(cosines) > 0.95) for cosines in tables]
    for name, tables in found.items()
}
print("cosine", *(f"{rho:5.1f}" for rho in correlations))
for name, values in shares.items():
    print(f"{name:6}", *(f"{share:5.2f}" for share in values))

# %%
# The picture
# -----------
# Left: TopK misses a few features at correlations at which the pursuit misses none. At the
# largest correlation it misses nearly all, and the pursuit still finds most. Right: the
# cosines of atoms with the first sixteen features (four groups) at the largest correlation.
# Where the pursuit has found features, its atoms are darkest on the diagonal: each is one
# member of a group. TopK uses one atom for a whole group (the dark lines), and its other
# atoms match no single feature.
figure = plt.figure(figsize=(12, 4.2), layout="constrained")
left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
for (name, values), colour, marker in zip(
    shares.items(), ("#0072B2", "#D55E00"), "os", strict=True
):
    left.plot(correlations, values, color=colour, marker=marker, label=name)
left.set(
    xlabel="Cosine of features of a group",
    ylabel="Share of features found",
    ylim=(-0.03, 1.03),
)
left.grid(alpha=0.3)
left.legend()
for ax, (name, tables) in zip((middle, right), found.items(), strict=True):
    image = ax.imshow(tables[-1][:16, :16], cmap="magma_r", vmin=0, vmax=1)
    for edge in (3.5, 7.5, 11.5):
        ax.axhline(edge, color="0.5", lw=0.8)
        ax.axvline(edge, color="0.5", lw=0.8)
    ax.set(title=f"{name}, correlation {correlations[-1]}", xlabel="True feature")
    ax.set(xticks=range(0, 16, 4), yticks=range(0, 16, 4), ylabel="Atom matched with it")
figure.colorbar(image, ax=[middle, right], label="Cosine", extend="min", shrink=0.8)
plt.show()
