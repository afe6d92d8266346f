"""One handwritten digit through the first steps of a pursuit."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoder

N_STEPS, ROW = 5, 1

X = load_digits().data
# In the data's own space, where what an atom leaves can be drawn.
sae = MPSparseAutoencoder(64, n_nonzero_coefs=N_STEPS, whitening=0, random_state=0).fit(X)
codes = sae.encode(X[[ROW]])
taken, values = codes.indices[0], codes.values[0]
left = X[ROW] - sae.intercept_
size = np.abs(left).max()

figure, axes = plt.subplots(4, N_STEPS, figsize=(9, 6.6), layout="constrained")
look = {"cmap": "RdBu_r", "vmin": -size, "vmax": size}
for step, (atom, value) in enumerate(zip(taken, values, strict=True)):
    correlations = sae.components_ @ left
    part = value * sae.components_[atom]
    left = left - part
    before, bars, chosen, sum_so_far = axes[:, step]
    before.imshow((left + part).reshape(8, 8), **look)
    before.set_title(f"step {step + 1}")
    bars.vlines(np.arange(len(correlations)), 0, correlations, color="0.6", lw=1)
    bars.vlines(atom, 0, correlations[atom], color="tab:red", lw=2)
    bars.set(ylim=(-35, 35))
    chosen.imshow(part.reshape(8, 8), **look)
    chosen.set_xlabel(f"{value:.1f} × atom {atom}")
    sum_so_far.imshow((X[ROW] - left).reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    energy = np.sum((X[ROW] - sae.intercept_) ** 2)
    sum_so_far.set_xlabel(f"residual energy: {np.sum(left**2) / energy:.2f}")
names = ["residual", "correlation\nwith each atom", "part of the\nbest atom", "sum so far"]
for ax, name in zip(axes[:, 0], names, strict=True):
    ax.set_ylabel(name)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
