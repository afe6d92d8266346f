"""
The sparsity path
=================

A matching pursuit takes one atom after the other, so the codes with four atoms are the first
four of those with eight. One encode therefore tells how good *every* sparsity would be:
that is what :meth:`~sklearn_mpsae.MPSparseAutoencoder.reconstruction_path` gives. Here we
look at the path of handwritten digits that were not learnt from, beside that of
:class:`~sklearn_mpsae.TopKSAE`, and at some digits as they are put together.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.plotting import ProgressiveReconstructionDisplay, ReconstructionPathDisplay

X, _ = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X, random_state=0)

# %%
# Learn with 8 atoms a row, then look up to 16
# --------------------------------------------
# Both encoders learn a dictionary of 128 atoms with 8 of them per row. After the fit, fewer or
# more atoms can be used.
options = {"n_components": 128, "n_nonzero_coefs": 8, "random_state": 0}
mp = MPSparseAutoencoder(**options).fit(X_train)
topk = TopKSAE(**options).fit(X_train)

for sae in (mp, topk):
    path = 1 - sae.reconstruction_path(X_test, 16)
    shown = "  ".join(f"{k}: {path[k - 1]:.3f}" for k in (1, 2, 4, 8, 16))
    print(f"{type(sae).__name__:20} R² with {shown}")

# %%
# One fit serves every sparsity: ``transform_n_nonzero_coefs`` can be set afterwards.
for k in (2, 4, None):
    codes = mp.set_params(transform_n_nonzero_coefs=k).transform(X_test)
    print(
        f"transform_n_nonzero_coefs={k}: up to {(codes != 0).sum(axis=1).max()} codes in a row"
    )

# %%
# The two paths
# -------------
# On the left, a ring marks the sparsity of the training. Each further atom of the pursuit
# lowers the error, so its curve can only rise, also beyond the ring. TopK computes all its
# codes at once: its R² is lower at each sparsity. On the right of the ring its curve is flat,
# because those outputs were not trained.
#
# On the right are reconstructions of three digits by the pursuit, and below each
# reconstruction the atom selected last: red adds ink, blue removes it. The first atom, added to
# the mean of all digits, gives the rough shape; the others correct it.
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
for sae in (mp, topk):
    ReconstructionPathDisplay.from_estimator(sae, X_test, n_nonzero_coefs=16, ax=left)
left.set(title="Unseen digits, explained atom by atom", ylim=(0, 1))
left.grid(alpha=0.3)
ProgressiveReconstructionDisplay.from_estimator(
    mp,
    X_test[[0, 1, 3]],
    image_shape=(8, 8),
    steps=[1, 2, 3, 4, 6, 8],
    ax=right,
    cmap="gray_r",
)
right.set_xlabel("Number of atoms", labelpad=8)
plt.show()
