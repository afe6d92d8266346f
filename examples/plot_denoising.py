"""
Denoising and inpainting with learned patches
=============================================

Patches of a photograph are sums of a few atoms; noise is not, and neither is a patch with
holes in it. So a sparse code of a damaged patch keeps the picture and leaves the damage. We
remove noise with atoms learnt from the noisy picture itself, beside scikit-learn's
dictionary learning, and fill in missing pixels with atoms learnt from another photograph.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import griddata
from sklearn.datasets import load_sample_image
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.feature_extraction.image import extract_patches_2d, reconstruct_from_patches_2d
from sklearn.linear_model import orthogonal_mp_gram

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.plotting import AtomsDisplay

SIDE = 8
rng = np.random.default_rng(0)


def photograph(name):
    """Its brightness, from 0 to 1."""
    return load_sample_image(name).mean(axis=2, dtype=np.float32) / 255


def patches(image, **options):
    """All patches as rows, less their means, and the means."""
    rows = extract_patches_2d(image, (SIDE, SIDE), **options).reshape(-1, SIDE**2)
    means = rows.mean(axis=1, keepdims=True)
    return rows - means, means


def rebuild(image, dictionary, encode):
    """The image from the codes of its patches, averaged where they overlap."""
    rows, means = patches(image)
    rows = encode(rows) @ dictionary + means
    return reconstruct_from_patches_2d(rows.reshape(-1, SIDE, SIDE), image.shape)


def psnr(image):
    """Peak signal-to-noise ratio, in decibels."""
    return -10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2))


clean = photograph("china.jpg")[60:220, 180:380]

# %%
# Denoising
# ---------
# How many atoms a patch takes has to depend on the patch. With ``sparsity="average"`` it
# takes those whose codes exceed a threshold, which training sets so that patches have three
# on average.
SIGMA = 0.1
noisy = clean + rng.normal(scale=SIGMA, size=clean.shape).astype(np.float32)
rows, _ = patches(noisy)
signed = {"positive_code": False, "intercept": "zero", "max_iter": 8, "random_state": 0}
ours = MPSparseAutoencoder(256, n_nonzero_coefs=3, sparsity="average", **signed).fit(rows)
denoised = {"MPSparseAutoencoder": rebuild(noisy, ours.components_, ours.transform)}

# %%
# scikit-learn's dictionary learning is slower, and so learns from 5,000 of the patches. Its
# orthogonal matching pursuit can stop where what is left of a patch is no more than noise, if
# one knows how strong that is.
theirs = MiniBatchDictionaryLearning(256, alpha=0.6, max_iter=3, random_state=0)
W = theirs.fit(rng.permutation(rows)[:5000]).components_.astype(np.float64)


def until_noise(rows):
    options = {"tol": 1.2 * SIDE**2 * SIGMA**2, "norms_squared": (rows**2).sum(axis=1)}
    return orthogonal_mp_gram(W @ W.T, W @ rows.T, **options).T


denoised["MiniBatchDictionaryLearning"] = rebuild(noisy, W, until_noise)
for name, image in {"noisy": noisy, **denoised}.items():
    print(f"{name:28} {psnr(image):.2f} dB")

# %%
# Inpainting
# ----------
# Half of the pixels are lost. We start from linear interpolation and go round a few times:
# code all patches, rebuild the image, put back the pixels that are known.
other, _ = patches(photograph("flower.jpg"), max_patches=20_000, random_state=0)
flower = MPSparseAutoencoder(256, n_nonzero_coefs=8, **signed).fit(other)
known = rng.random(clean.shape) < 0.5
everywhere = tuple(np.indices(clean.shape))
interpolated = griddata(np.argwhere(known), clean[known], everywhere, fill_value=clean.mean())
filled = interpolated.astype(np.float32)
for _ in range(10):
    filled = np.where(known, clean, rebuild(filled, flower.components_, flower.transform))
print(f"Linear interpolation {psnr(interpolated):.2f} dB, with atoms {psnr(filled):.2f} dB")

# %%
# The pictures
# ------------
# Above: both dictionaries take the noise from the sky and keep the tiles of the roof; the
# decibels differ little. Below: interpolation frays every edge, and the atoms, none of which
# has seen a roof, draw most of them through. On the lower left are these atoms.
views = {
    "Original": clean,
    f"Noisy, {psnr(noisy):.1f} dB": noisy,
    **{f"{name},\n{psnr(image):.1f} dB": image for name, image in denoised.items()},
    "Half of the pixels": np.where(known, clean, np.nan),
    f"Linear interpolation,\n{psnr(interpolated):.1f} dB": interpolated,
    f"Filled in with atoms,\n{psnr(filled):.1f} dB": filled,
}
figure, axes = plt.subplots(2, 4, figsize=(13, 5.9), layout="constrained")
for ax, (title, image) in zip(np.delete(axes, 4), views.items(), strict=True):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize="medium")
AtomsDisplay.from_estimator(
    flower, image_shape=(SIDE, SIDE), n_atoms=70, n_columns=10, ax=axes[1, 0], cmap="gray"
).colorbar_.remove()
axes[1, 0].set_title("70 of the 256 atoms\nlearnt from a flower", fontsize="medium")
plt.show()
