"""Many small images as one array, so that they fit in one axes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral

import numpy as np

# Blue, white, red: of atoms' weights. And a blue and a red of it, for bars.
DIVERGING = "RdBu_r"
NEGATIVE, POSITIVE = "#2166AC", "#B2182B"


def as_images(rows, image_shape):
    """Rows as images, shape (n_rows, height, width) or (n_rows, height, width, 3).

    Raises
    ------
    ValueError
        If `image_shape` is not that of an image, or does not multiply to the features.
    """
    shape = tuple(image_shape) if isinstance(image_shape, Iterable) else (image_shape,)
    n_features = rows.shape[-1]
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    is_image = is_image and all(isinstance(n, Integral) and n > 0 for n in shape)
    if not is_image or math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape must be (height, width) or (height, width, 3) and multiply to the "
            f"{n_features} features there are, got {shape}."
        )
    return rows.reshape(*rows.shape[:-1], *shape)


def tile(images, n_columns, *, gap=1):
    """Images side by side, line after line, NaN between them.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, ...)
    n_columns : int
    gap : int, default=1
        The pixels between images.

    Returns
    -------
    mosaic : ndarray of shape (mosaic height, mosaic width, ...)
    """
    n_lines = -(-len(images) // n_columns)
    height, width, *channels = images.shape[1:]
    # Each with a gap below and to the right; the last ones are cut off.
    cells = np.full((n_lines * n_columns, height + gap, width + gap, *channels), np.nan)
    cells[: len(images), :height, :width] = images
    cells = cells.reshape(n_lines, n_columns, *cells.shape[1:]).swapaxes(1, 2)
    mosaic = cells.reshape(n_lines * (height + gap), n_columns * (width + gap), *channels)
    return mosaic[:-gap, :-gap]


def with_alpha(mosaic):
    """Colours with NaN made transparent; grey levels as they are, matplotlib does it there."""
    if mosaic.ndim == 2:
        return mosaic
    opaque = np.isfinite(mosaic[..., :1])
    return np.concatenate([np.nan_to_num(mosaic), opaque], axis=-1)


def size_of(mosaic, longest=9.0):
    """Width and height of a figure in inches, in the mosaic's proportions, with margins."""
    height, width = mosaic.shape[:2]
    inches = longest / max(height, width)
    return 1.2 + inches * width, 0.8 + inches * height


def shades(images, scale):
    """Atoms as they are drawn: divided by the largest of each, colours around mid-grey."""
    if scale == "atom":
        images = np.stack([image / largest(image) for image in images])
    if images.ndim == 4:
        images = 0.5 + 0.5 * images / largest(images)
    return images


def largest(weights):
    """The largest magnitude, 1 where all are zero or there are none."""
    return np.nanmax(np.abs(weights), initial=0) or 1.0


def bare(ax):
    """Neither ticks nor a frame: the images have their own."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
