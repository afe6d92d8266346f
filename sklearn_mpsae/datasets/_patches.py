"""Patches of natural images, from the photographs that scikit-learn brings along."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.utils import Bunch, check_random_state

from .._compat import Interval, validate_params
from .._optional import imported

# What ITU-R BT.601 has red, green and blue contribute to brightness.
_LUMA = np.array([0.299, 0.587, 0.114])


@validate_params(
    {
        "patch_shape": [tuple, list],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
        "grayscale": ["boolean"],
        "subtract_mean": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def load_image_patches(
    patch_shape: Sequence[int] = (8, 8),
    *,
    n_patches: int = 10_000,
    grayscale: bool = True,
    subtract_mean: bool = True,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Load patches of natural images, cut at random places.

    The images are the two photographs of :func:`sklearn.datasets.load_sample_images`, 427 x
    640 pixels each. Nothing is downloaded, but Pillow is needed to read them.

    Parameters
    ----------
    patch_shape : tuple (height, width), default=(8, 8)
        The size of a patch, in pixels.
    n_patches : int, default=10_000
        The number of patches. No two are cut at the same place, but they may overlap.
    grayscale : bool, default=True
        Whether to reduce colours to their brightness (ITU-R BT.601).
    subtract_mean : bool, default=True
        Whether to subtract from each patch the mean of its values. It is how bright the place
        is, most of a patch's energy, and says nothing of structure.
    random_state : int, RandomState instance or None, default=None
        Draws the places.

    Returns
    -------
    patches : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_patches, height * width) or (n_patches, height * width * 3)
            The patches, by rows of pixels; with colours, red, green and blue of each pixel.
            Values are from 0 (black) to 1, before means are subtracted.
        images : ndarray of shape (2, 427, 640) or (2, 427, 640, 3)
            The images they are cut from, from 0 to 1.
        positions : ndarray of shape (n_patches, 3), int
            The image of each patch, and the row and column of its upper left pixel.
        patch_shape : tuple (height, width) or (height, width, 3)
            The shape of one patch: ``data[0].reshape(patch_shape)`` can be looked at.
        DESCR : str
            Where the images come from.

    Raises
    ------
    ImportError
        If Pillow is missing.
    ValueError
        If patches are larger than the images, or more than there are places.

    Notes
    -----
    Sparse codes of such patches, learnt, are the edge filters of B. A. Olshausen and D. J.
    Field, "Emergence of simple-cell receptive field properties by learning a sparse code for
    natural images", Nature 381, 1996. (Its images were whitened; these are not.)

    Examples
    --------
    >>> from sklearn_mpsae.datasets import load_image_patches
    >>> patches = load_image_patches((8, 8), n_patches=100, random_state=0)
    >>> patches.data.shape, patches.patch_shape
    ((100, 64), (8, 8))
    """
    random_state = check_random_state(random_state)
    images, description = _photographs()
    if grayscale:
        images = images @ _LUMA
    windows = _windows(images, patch_shape)
    places = windows.shape[:3]
    if n_patches > np.prod(places):
        raise ValueError(
            f"n_patches={n_patches} is more than there are places for patches of that shape, "
            f"{np.prod(places)}: ask for fewer."
        )
    drawn = random_state.permutation(np.prod(places))[:n_patches]
    positions = np.stack(np.unravel_index(drawn, places), axis=1)
    patches = windows[tuple(positions.T)]
    data = patches.reshape(n_patches, -1)
    if subtract_mean:
        data = data - data.mean(axis=1, keepdims=True)
    return Bunch(
        data=data,
        images=images,
        positions=positions,
        patch_shape=patches.shape[1:],
        DESCR=description,
    )


def _photographs():
    """The images, in colours from 0 to 1, and what scikit-learn says of them."""
    imported(
        "PIL",
        "load_image_patches reads JPEG photographs, which takes Pillow: install it, with "
        "`pip install pillow`.",
    )
    photographs = load_sample_images()
    return np.stack(photographs.images) / 255, photographs.DESCR


def _windows(images, patch_shape):
    """A view of all patches, (images, rows, columns, *one patch)."""
    sizes = images.shape[1:3]
    if len(patch_shape) != 2 or not all(isinstance(n, Integral) and n > 0 for n in patch_shape):
        raise ValueError(f"patch_shape must be two positive integers, got {patch_shape!r}.")
    if patch_shape[0] > sizes[0] or patch_shape[1] > sizes[1]:
        raise ValueError(
            f"patch_shape={tuple(patch_shape)} is larger than the images, which are "
            f"{sizes[0]} x {sizes[1]} pixels."
        )
    windows = np.lib.stride_tricks.sliding_window_view(images, patch_shape, axis=(1, 2))
    # Colours come before the patch, if there are any; they belong behind it.
    return np.moveaxis(windows, 3, -1) if images.ndim == 4 else windows
