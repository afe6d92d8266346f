"""R² of held-out rows by the number of coefficients and of atoms."""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_mpsae import MPSparseAutoencoder

X_train, X_test = train_test_split(load_digits().data, random_state=0)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
sizes = [16, 32, 64, 128, 256, 512]
scores = {k: [] for k in (2, 4, 8)}
for n_components in sizes:
    sae = MPSparseAutoencoder(n_components, n_nonzero_coefs=8, random_state=0).fit(X_train)
    path = 1 - sae.reconstruction_path(X_test, 16)
    for k, r2 in scores.items():
        r2.append(path[k - 1])
    if n_components in (32, 128, 512):
        axes[0].plot(range(1, 17), path, ".-", label=f"{n_components} atoms")
for k, r2 in scores.items():
    axes[1].plot(sizes, r2, ".-", label=f"k = {k}")
axes[0].axvline(8, color="0.8", lw=1, zorder=0)
axes[0].set(xlabel="non-zero coefficients per row (trained with 8)", ylabel="R² of test rows")
axes[1].set(xlabel="atoms", xscale="log", xticks=sizes, xticklabels=sizes)
axes[1].minorticks_off()
for ax in axes:
    ax.legend()
