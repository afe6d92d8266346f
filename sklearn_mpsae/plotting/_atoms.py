"""Atoms as images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import as_rows, on_numpy
from ..coding.checks import check_count
from ._base import BaseDisplay, atoms_to_show, check_estimator, most_used
from ._mosaic import DIVERGING, as_images, bare, largest, shades, size_of, tile, with_alpha

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class AtomsDisplay(BaseDisplay):
    """Atoms as images, tiled in one axes.

    Use `from_estimator` or `from_dictionary` to make one. Zero is white (grey in colour
    images), positive weights are red and negative ones blue.

    Parameters
    ----------
    images : ndarray of shape (n_shown, height, width) or (n_shown, height, width, 3)
        The atoms to show.
    atoms : ndarray of shape (n_shown,), int
        Their indices in the dictionary.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage
        The mosaic.
    colorbar_ : matplotlib Colorbar or None
        None for colour images.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.plotting import AtomsDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(64, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> display = AtomsDisplay.from_estimator(sae, image_shape=(8, 8), n_atoms=20)
    >>> display.images.shape
    (20, 8, 8)
    >>> again = display.plot(display.ax_, n_columns=10)
    >>> faces = AtomsDisplay.from_dictionary(X[:5], image_shape=(8, 8), scale="shared")
    """

    def __init__(self, images: np.ndarray, *, atoms: np.ndarray) -> None:
        self.images = images
        self.atoms = atoms

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        atoms: ArrayLike | None = None,
        n_atoms: int = 60,
        n_columns: int | None = None,
        scale: Literal["atom", "shared"] = "atom",
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw atoms of a fitted estimator.

        Parameters
        ----------
        estimator : estimator with `components_`, or pipeline that ends with one
            It must be fitted.
        image_shape : (height, width) or (height, width, 3)
            The shape of an atom's image; it must be given. Atoms of a table are no images:
            `sklearn_mpsae.explore` shows their largest weights by name.
        atoms : array-like of shape (n_shown,), int, default=None
            The atoms to show. None for the `n_atoms` most used in training, the most used
            first, or the first ones of an estimator without `atom_usage_`.
        n_atoms : int, default=60
            The number of atoms to show if `atoms` is None.
        n_columns : int, default=None
            Atoms per line; None for a picture half as wide again as it is high.
        scale : {"atom", "shared"}, default="atom"
            Whether the colours end at the largest weight of each atom, or of all of them.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **image_kw : dict
            Options of matplotlib's `imshow`.

        Returns
        -------
        display : AtomsDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is another one, such as a search; without `image_shape`.
        ValueError
            If `image_shape` does not multiply to the number of features, `atoms` names one
            that does not exist, or a number is no integer of at least 1.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        estimator = check_estimator(estimator)
        if atoms is None:
            atoms = most_used(estimator, n_atoms)
        return cls.from_dictionary(
            estimator.components_,
            image_shape=image_shape,
            atoms=atoms,
            n_atoms=n_atoms,
            n_columns=n_columns,
            scale=scale,
            ax=ax,
            **image_kw,
        )

    @classmethod
    def from_dictionary(
        cls,
        dictionary: ArrayLike,
        *,
        image_shape: tuple[int, ...] | None = None,
        atoms: ArrayLike | None = None,
        n_atoms: int = 60,
        n_columns: int | None = None,
        scale: Literal["atom", "shared"] = "atom",
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw atoms of a dictionary.

        Parameters
        ----------
        dictionary : array-like of shape (n_components, n_features)
            Atoms, one per row.
        image_shape : (height, width) or (height, width, 3)
            The shape of an atom's image; it must be given.
        atoms : array-like of shape (n_shown,), int, default=None
            The atoms to show; None for the first `n_atoms`.
        n_atoms : int, default=60
            The number of atoms to show if `atoms` is None.
        n_columns : int, default=None
            Atoms per line; None for a picture half as wide again as it is high.
        scale : {"atom", "shared"}, default="atom"
            Whether the colours end at the largest weight of each atom, or of all of them.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **image_kw : dict
            Options of matplotlib's `imshow`.

        Returns
        -------
        display : AtomsDisplay
            What was drawn.

        Raises
        ------
        TypeError
            Without `image_shape`.
        ValueError
            If `image_shape` does not multiply to the number of features, `atoms` names one
            that does not exist, or a number is no integer of at least 1.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        if image_shape is None:
            raise TypeError(
                "image_shape is missing: pass the (height, width) or (height, width, 3) of an "
                "atom's image, as image_shape=(28, 28). For a table, use AtomWeightsDisplay, "
                "or sklearn_mpsae.explore(estimator, X, path), which shows the largest weights "
                "of each atom by the names of the features."
            )
        dictionary = as_rows(dictionary, "dictionary")
        atoms = atoms_to_show(atoms, n_atoms, len(dictionary))
        display = cls(as_images(dictionary[atoms], image_shape), atoms=atoms)
        return display.plot(ax, n_columns=n_columns, scale=scale, **image_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        n_columns: int | None = None,
        scale: Literal["atom", "shared"] = "atom",
        **image_kw: Any,
    ) -> Self:
        """Draw the atoms, line after line.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        n_columns : int, default=None
            Atoms per line; None for a picture half as wide again as it is high.
        scale : {"atom", "shared"}, default="atom"
            Whether the colours end at the largest weight of each atom, or of all of them.
        **image_kw : dict
            Options of matplotlib's `imshow`.

        Returns
        -------
        display : AtomsDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the scale is unknown, or `n_columns` no integer of at least 1.
        ImportError
            If matplotlib is not installed.
        """
        if scale not in ("atom", "shared"):
            raise ValueError(f"scale must be 'atom' or 'shared', got {scale!r}.")
        if n_columns is not None:
            check_count(n_columns, "n_columns")
        mosaic = tile(shades(self.images, scale), n_columns or _n_columns(self.images), gap=1)
        ax = self._open(ax, size_of(mosaic))
        look = {"cmap": DIVERGING, "interpolation": "nearest"}
        if mosaic.ndim == 2:
            limit = 1 if scale == "atom" else largest(self.images)
            look |= {"vmin": -limit, "vmax": limit}
        self.image_ = ax.imshow(with_alpha(mosaic), **look | image_kw)
        self.colorbar_ = self._colorbar(ax, scale) if mosaic.ndim == 2 else None
        bare(ax)
        return self

    def _colorbar(self, ax, scale):
        label = "Weight" if scale == "shared" else "Relative weight"
        return self.figure_.colorbar(self.image_, ax=ax, label=label, shrink=0.8)


def _n_columns(images):
    """As many as make a picture half as wide again as it is high."""
    n_images, height, width = images.shape[:3]
    return min(n_images, math.ceil((1.5 * n_images * height / width) ** 0.5))
