"""What is drawn: pictures of samples and atoms as bytes, or profiles of their features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..metrics._inputs import batches
from ..plotting._mosaic import as_images

# So many of an atom's largest weights are shown, and the samples' values there.
_N_WEIGHTS = 16

# Pictures are reduced until their longer side is at most this.
_SIDE = 64

# Those of many atoms are reduced until they have so many pixels in all. They have fewer
# shades, too, which look the same at that size, and which deflate well.
_ATOM_PIXELS = 1 << 24
_MANY_ATOM_PIXELS = 1 << 22
_SHADES, _FEW_SHADES = 127, 15


def by_importance(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows to show, each once, the strongest of all atoms first.

    Returns the rows, and `shown` as positions among them.
    """
    by_rank = shown.T.ravel()
    rows, first, which = np.unique(by_rank, return_index=True, return_inverse=True)
    order = np.argsort(first)
    order = order[rows[order] >= 0]
    position = np.full(len(rows), -1)
    position[order] = np.arange(len(order))
    return rows[order], position[which].reshape(shown.T.shape).T


# ------------------------------------------------------------------------- pictures
class Pictures(NamedTuple):
    """Pictures of samples, of which some are taken at a time."""

    shape: tuple[int, ...]
    """That of a picture as it is stored."""
    reduced: bool
    black: float
    white: float
    """The values that become 0 and 255."""
    take: Callable
    """From numbers of rows to uint8, (n, *shape)."""

    def look(self) -> dict:
        """What the page has to know of them."""
        return {name: value for name, value in self._asdict().items() if name != "take"}


def pictures_of(source, images, image_shape, value_range) -> Pictures | None:
    """The `images`, or else the rows of the source in `image_shape`; None without either."""
    if images is not None:
        shape, found = images.shape[1:], images.__getitem__
        low, high = 0, 255 if images.dtype == np.uint8 else 1
    elif image_shape is not None:
        shape, (low, high) = tuple(image_shape), value_range

        def found(rows):
            return as_images(take(source, rows), shape)
    else:
        return None
    step = -(-max(shape[:2]) // _SIDE)
    factor = 255 / ((high - low) or 1)

    def taken(rows):
        pixels = _reduced(found(rows).astype(np.float32), step)
        return np.rint((pixels - low) * factor).clip(0, 255).astype(np.uint8)

    return Pictures(_reduced_shape(shape, step), step > 1, low, high, taken)


def take(source, rows):
    """Rows of a source, by their numbers."""
    if hasattr(source, "take"):
        return source.take(rows)
    return np.concatenate([source.read(row, row + 1) for row in rows])


def _reduced_shape(shape, step):
    return (*(-(-side // step) for side in shape[:2]), *shape[2:])


def _reduced(images, step):
    """Images with the means of squares of this many pixels a side."""
    for axis in (1, 2) if step > 1 else ():
        length = images.shape[axis]
        starts = np.arange(0, length, step)
        sizes = np.diff(np.append(starts, length)).astype(images.dtype)
        sums = np.add.reduceat(images, starts, axis=axis)
        images = sums / np.expand_dims(sizes, [i for i in range(images.ndim) if i != axis])
    return images


def atom_pictures(W: np.ndarray, image_shape) -> np.ndarray | None:
    """Atoms as images of int8, each scaled to its largest weight; None without a shape."""
    if image_shape is None:
        return None
    shape = tuple(image_shape)
    step = -(-max(shape[:2]) // _SIDE)
    while len(W) * math.prod(_reduced_shape(shape, step)) > _ATOM_PIXELS and step < max(shape):
        step += 1
    n_pixels = len(W) * math.prod(_reduced_shape(shape, step))
    shades = _SHADES if n_pixels <= _MANY_ATOM_PIXELS else _FEW_SHADES
    parts = []
    for block in batches(len(W), W.shape[1]):
        images = _reduced(as_images(W[block], shape).astype(np.float32), step)
        axes = tuple(range(1, images.ndim))
        largest = np.abs(images).max(axis=axes, keepdims=True)
        images = np.rint(images / np.where(largest > 0, largest, 1) * shades)
        parts.append((images * (_SHADES // shades)).astype(np.int8))
    return np.concatenate(parts)


# ------------------------------------------------------------------------- features
def largest_weights(W: np.ndarray) -> dict[str, np.ndarray]:
    """The features with each atom's largest weights, and these, the largest first."""
    n = min(_N_WEIGHTS, W.shape[1])
    features = np.empty((len(W), n), dtype=np.int32)
    for block in batches(len(W), W.shape[1]):
        size = -np.abs(W[block])
        best = np.argpartition(size, n - 1, axis=1)[:, :n]
        order = np.argsort(np.take_along_axis(size, best, 1), axis=1, kind="stable")
        features[block] = np.take_along_axis(best, order, 1)
    return {"features": features, "weights": np.take_along_axis(W, features, 1)}


def profiles_of(source, center, features, shown) -> dict[str, np.ndarray]:
    """The shown samples' values of each atom's features, less the mean.

    As int8 of shape (n_components, n_shown, n_features shown), where 127 is the largest
    magnitude of all of the atom's; and these magnitudes.
    """
    profiles = np.zeros((*shown.shape, features.shape[1]), dtype=np.int8)
    scales = np.zeros(len(features))
    for block in batches(len(features), shown.shape[1] * source.n_features):
        rows, which = np.unique(shown[block], return_inverse=True)
        X = take(source, rows.clip(min=0)) - center
        which = which.reshape(shown[block].shape)
        values = X[which[:, :, None], features[block][:, None, :]]
        values[shown[block] < 0] = 0
        scales[block] = np.abs(values).max(axis=(1, 2))
        unit = np.where(scales[block] > 0, scales[block] / 127, 1)
        profiles[block] = np.rint(values / unit[:, None, None])
    return {"profiles": profiles, "profile_scale": scales}
