"""
Features of a network, and the network without them
===================================================

What does a layer of a network hold, and which of it does the network need? We train a small
network to read digits, learn a dictionary for the activations of its hidden layer, and take
single atoms out of that layer while all else stays as it is. The network here is made on the
spot; :class:`~sklearn_mpsae.activations.ModuleActivations` takes any torch module.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.activations import ModuleActivations, ablate, spliced

# %%
# The network
# -----------
# 64 pixels, 128 hidden units, 10 digits.
X, y = map(torch.from_numpy, load_digits(return_X_y=True))
X = X.float() / 16
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
for _ in range(100):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(X), y).backward()
    optimizer.step()


def loss_of_each():
    """The loss of each digit's images."""
    with torch.no_grad():
        losses = nn.functional.cross_entropy(net(X), y, reduction="none")
    return np.array([losses[y == digit].mean() for digit in range(10)])


clean = loss_of_each()

# %%
# Its activations, and a dictionary for them
# ------------------------------------------
# The module runs as the rows are asked for; here once for each epoch.
rows = ModuleActivations(net, "1", X.split(256))
sae = MPSparseAutoencoder(64, n_nonzero_coefs=6, random_state=0).fit(rows)
codes = sae.transform(rows)
print(f"R² {sae.score(rows):.2f} with {(codes != 0).sum(axis=1).mean():.1f} atoms of 64 a row")

# %%
# What the reconstruction costs
# -----------------------------
# Within `spliced` the layer's output is the estimator's reconstruction. With the error kept,
# the network's output is unchanged.
for keep_error in (False, True):
    with spliced(net, "1", sae, keep_error=keep_error):
        spliced_loss = loss_of_each()
    print(f"loss {clean.mean():.4f}, spliced with {keep_error=} {spliced_loss.mean():.4f}")

# %%
# One atom less
# -------------
# Each atom in turn is set to 0 wherever it is in use, and the error is kept: only this
# atom changes. On the left, how much the loss of each digit rises. Most atoms affect one or
# two digits. On the right, for the four atoms with the largest effect, the images with their
# largest codes.
rise = []
for atom in range(64):
    with spliced(net, "1", sae, keep_error=True, edit=ablate(atom)):
        rise.append(loss_of_each() - clean)
rise = np.array(rise)
order = np.argsort(-rise.max(axis=1))[:20]

figure = plt.figure(figsize=(11, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
ax = left.subplots()
limit = rise[order].max()
image = ax.imshow(rise[order], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
ax.set(
    xlabel="Digit",
    ylabel="Atom taken out",
    xticks=range(10),
    yticks=range(20),
    yticklabels=order,
)
left.colorbar(image, ax=ax, label="Rise of the loss")
axes = right.subplots(4, 6)
for line, atom in zip(axes, order, strict=False):
    for ax, strongest in zip(line, np.argsort(-codes[:, atom]), strict=False):
        ax.imshow(X[strongest].view(8, 8).numpy(), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(f"atom {atom}")
plt.show()
