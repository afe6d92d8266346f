"""
Learning from files
===================

Rows that do not fit in memory stay in their files. An estimator takes
:class:`~sklearn_mpsae.sources.NpyFiles`, or what ``np.load(path, mmap_mode="r")`` gives,
in the place of an array, reads the rows as it needs them, and writes their codes to disk as
it finds them. The files here are small, so that this runs in seconds; nothing would change
with larger ones. (For a cluster see the example with dask.)
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.datasets import load_image_patches
from sklearn_mpsae.plotting import AtomsDisplay
from sklearn_mpsae.sources import NpyFiles

# %%
# Rows in files
# -------------
# Patches of two photographs, in ten files. In real use such files exist already, for
# example the activations of a model.
folder = tempfile.TemporaryDirectory()
patches = load_image_patches((8, 8), n_patches=110_000, random_state=0).data.astype(np.float32)
held_out, *parts = np.split(patches, 11)
paths = [Path(folder.name, f"patches_{number}.npy") for number in range(len(parts))]
for path, part in zip(paths, parts, strict=True):
    np.save(path, part)
rows = NpyFiles(paths)
print(f"{len(paths)} files, {rows.shape[0]} rows of {rows.shape[1]} features")

# %%
# Fit: several passes
# -------------------
# `fit` goes through the files once for each epoch, in a new order. It learns the same as
# from the array.
options = {"n_nonzero_coefs": 5, "positive_code": False, "intercept": "zero", "random_state": 0}
from_files = MPSparseAutoencoder(128, max_iter=5, **options).fit(rows)
from_array = MPSparseAutoencoder(128, max_iter=5, **options).fit(np.concatenate(parts))
same = np.array_equal(from_files.components_, from_array.components_)
print(f"The same atoms as from the array: {same}")

# %%
# partial_fit: as they come
# -------------------------
# Where each row is seen only once, as on a stream, call `partial_fit` with what has come.
stream = MPSparseAutoencoder(128, **options)
curve = []
for path in paths:
    stream.partial_fit(np.load(path, mmap_mode="r"))
    curve.append((stream.n_samples_seen_, stream.score(held_out)))

# %%
# Codes to disk
# -------------
# The codes are three files of a sparse matrix, which is mapped, not loaded.
codes = from_files.transform_to(rows, Path(folder.name, "codes"))
print(f"{codes.shape[0]} x {codes.shape[1]} codes, {codes.nnz / codes.shape[0]:.2f} in a row")

# %%
# The learning curve
# ------------------
# On the left, R² of held-out patches. On the stream it rises with each file, fast at first;
# five passes of `fit`, with a falling learning rate, end above it. On the right, the learnt
# atoms: edges in all directions, and gratings.
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=[1, 1.3]
)
left.plot(*np.transpose(curve), "o-", color="#0072B2", label="partial_fit, file by file")
left.axhline(from_files.score(held_out), color="#D55E00", ls="--", label="fit, five passes")
left.set(xlabel="Rows seen by partial_fit", ylabel="R² of held-out patches")
left.grid(alpha=0.3)
left.legend()
AtomsDisplay.from_estimator(
    from_files, image_shape=(8, 8), n_atoms=96, n_columns=12, cmap="gray", ax=right
)
right.set_title("The 96 most used of 128 atoms")
plt.show()
folder.cleanup()
