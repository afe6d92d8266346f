"""Reconstructions as images, atom by atom."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import as_rows, on_numpy
from ..coding import Codes
from ._base import BaseDisplay, check_estimator
from ._mosaic import DIVERGING, as_images, bare, shades, size_of, tile, with_alpha

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ProgressiveReconstructionDisplay(BaseDisplay):
    """Rows of data as images, and their reconstructions after 1, 2, ... atoms.

    A line of pictures for each row of data: the row itself, then what its first atoms make
    of it; below each reconstruction the atom that was taken last. Use `from_estimator` to
    make one.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, height, width[, 3])
        The rows.
    reconstructions : ndarray of shape (n_samples, n_steps, height, width[, 3])
        What the first atoms make of them, at each step.
    taken : ndarray of shape (n_samples, n_steps, height, width[, 3])
        The last of these atoms times the sign of its code; NaN where a row needed no
        further one.
    steps : ndarray of shape (n_steps,), int
        The number of atoms at each step.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage
        The mosaic of rows and reconstructions.
    atoms_image_ : matplotlib AxesImage or None
        The mosaic of atoms, at the places that `image_` leaves free; None without them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.plotting import ProgressiveReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(64, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> display = ProgressiveReconstructionDisplay.from_estimator(
    ...     sae, X[:3], image_shape=(8, 8)
    ... )
    >>> display.reconstructions.shape
    (3, 4, 8, 8)
    >>> again = display.plot(display.ax_, show_atoms=False)
    """

    def __init__(
        self,
        inputs: np.ndarray,
        reconstructions: np.ndarray,
        taken: np.ndarray,
        *,
        steps: np.ndarray,
    ) -> None:
        self.inputs = inputs
        self.reconstructions = reconstructions
        self.taken = taken
        self.steps = steps

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        image_shape: tuple[int, ...],
        steps: Sequence[int] | None = None,
        show_atoms: bool = True,
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw reconstructions by a fitted estimator.

        What k atoms make of a row are its first k codes, in the order in which they were
        chosen. Orthogonal matching pursuit refits them with each atom: there rows are
        encoded anew for each step.

        Parameters
        ----------
        estimator : estimator of this package
            It must be fitted.
        X : array-like of shape (n_samples, n_features)
            The rows to show: a few.
        image_shape : (height, width) or (height, width, 3)
            The shape of a row's image.
        steps : sequence of int, default=None
            The numbers of atoms to show, such as ``[1, 2, 4, 8]``. None for 1, 2, ... as
            far as `transform` goes.
        show_atoms : bool, default=True
            Whether to draw the atom taken below each reconstruction.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **image_kw : dict
            Options of matplotlib's `imshow`, for rows and reconstructions.

        Returns
        -------
        display : ProgressiveReconstructionDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is another one, such as a pipeline or a search.
        ValueError
            If `image_shape` does not multiply to the number of features, or a step is not
            between 1 and the number of atoms.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        check_estimator(estimator, "encode")
        inputs = as_images(as_rows(X), image_shape)
        steps, codes = _codes_by_step(estimator, X, steps)
        W = estimator.components_
        reconstructions = [part.decode(W) + estimator.intercept_ for part in codes]
        taken = [_last_taken(part, k, W) for part, k in zip(codes, steps, strict=True)]
        reconstructions, taken = (
            as_images(np.stack(arrays, axis=1), image_shape)
            for arrays in (reconstructions, taken)
        )
        display = cls(inputs, reconstructions, taken, steps=steps)
        return display.plot(ax, show_atoms=show_atoms, **image_kw)

    def plot(self, ax: Axes | None = None, *, show_atoms: bool = True, **image_kw: Any) -> Self:
        """Draw the rows and their reconstructions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        show_atoms : bool, default=True
            Whether to draw the atom taken below each reconstruction.
        **image_kw : dict
            Options of matplotlib's `imshow`, for rows and reconstructions. The grey levels
            are those of the rows unless `vmin` and `vmax` say otherwise.

        Returns
        -------
        display : ProgressiveReconstructionDisplay
            What was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pictures = np.concatenate([self.inputs[:, None], self.reconstructions], axis=1)
        low, high = np.nanmin(self.inputs), np.nanmax(self.inputs)
        if pictures.ndim == 5:
            pictures = np.clip((pictures - low) / ((high - low) or 1), 0, 1)
        mosaic, atoms = self._mosaics(pictures, show_atoms)
        ax = self._open(ax, size_of(mosaic))
        sharp = {"interpolation": "nearest"}
        look = sharp | {"cmap": "gray", "vmin": low, "vmax": high}
        self.image_ = ax.imshow(with_alpha(mosaic), **look | image_kw)
        self.atoms_image_ = None
        if show_atoms:
            look = sharp | {"cmap": DIVERGING, "vmin": -1, "vmax": 1}
            self.atoms_image_ = ax.imshow(with_alpha(atoms), **look)
        self._label(ax, show_atoms)
        return self

    def _mosaics(self, pictures, show_atoms):
        """The mosaic of the pictures and that of the atoms, each NaN in the other's places."""
        n_columns = pictures.shape[1]
        if not show_atoms:
            return tile(_flat(pictures), n_columns), None
        atoms = np.full_like(pictures, np.nan)
        atoms[:, 1:] = shades(_flat(self.taken), "atom").reshape(self.taken.shape)
        blank = np.full_like(pictures, np.nan)
        # A gap between the two, so that they are told apart.
        blank_line = blank[:, :, :1]
        above = np.concatenate([pictures, blank_line, blank], axis=2)
        below = np.concatenate([blank, blank_line, atoms], axis=2)
        return tile(_flat(above), n_columns, gap=2), tile(_flat(below), n_columns, gap=2)

    def _label(self, ax, show_atoms):
        height, width = self.inputs.shape[1:3]
        gap = 2 if show_atoms else 1
        centres = (width - 1) / 2 + (width + gap) * np.arange(len(self.steps) + 1)
        bare(ax)
        ax.set_xticks(centres, ["input", *map(str, self.steps)])
        ax.tick_params(labeltop=True, labelbottom=False, length=0)
        ax.xaxis.set_label_position("top")
        ax.set_xlabel("Number of atoms")
        if show_atoms:
            ax.set_yticks([1.5 * height + 0.5], ["atom\ntaken"])


def _flat(grid):
    """(n_lines, n_columns, ...) images as (n_lines * n_columns, ...)."""
    return grid.reshape(-1, *grid.shape[2:])


def _check_steps(steps, n_atoms):
    steps = np.asarray(steps)
    if steps.ndim != 1 or steps.dtype.kind not in "iu" or not len(steps):
        raise ValueError(f"steps must be a list of numbers of atoms, got {steps!r}.")
    if steps.min() < 1 or steps.max() > n_atoms:
        raise ValueError(
            f"steps must be between 1 and the number of atoms, {n_atoms}, got {steps.tolist()}."
        )
    return steps


def _codes_by_step(estimator, X, steps):
    """The numbers of atoms to show, and the codes of X with so many."""
    if steps is None:
        # As far as there are slots: not all estimators know their number beforehand.
        codes = estimator.encode(X)
        steps = np.arange(1, max(1, codes.indices.shape[1]) + 1)
    else:
        steps = _check_steps(steps, len(estimator.components_))
        codes = _encode(estimator, X, steps.max())
    if not estimator._coder().nested:
        return steps, [_encode(estimator, X, k) for k in steps]
    slots = codes.indices, codes.values
    return steps, [Codes(*(a[:, :k] for a in slots), codes.n_components) for k in steps]


def _encode(estimator, X, k):
    """Codes of X with k atoms, whatever the estimator is set to."""
    estimator = copy.copy(estimator)
    estimator.transform_n_nonzero_coefs = int(k)
    return estimator.encode(X)


def _last_taken(codes, k, W):
    """The k-th atom of each row times the sign of its code, NaN where there is none."""
    taken = np.full((len(codes), W.shape[1]), np.nan)
    # There may be fewer slots, and slots that are not used.
    rows = np.flatnonzero(codes.values[:, k - 1 :].any(axis=1))
    slots = rows, np.full_like(rows, k - 1)
    taken[rows] = np.sign(codes.values[slots])[:, None] * W[codes.indices[slots]]
    return taken
