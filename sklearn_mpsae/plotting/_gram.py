"""How alike atoms are, all pairs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from .._array_api import as_rows, on_numpy
from ..coding.unit import unit_rows
from ._base import BaseDisplay, check_atoms, check_estimator, whole_numbers
from ._mosaic import DIVERGING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class GramDisplay(BaseDisplay):
    """Cosines between atoms, as a heat map.

    Use `from_estimator` or `from_dictionary` to make one: they order atoms so that similar
    ones are neighbours.

    Parameters
    ----------
    cosines : ndarray of shape (n_shown, n_shown)
        Cosines between the atoms shown, in their order.
    order : ndarray of shape (n_shown,), int
        The atoms shown.
    borders : ndarray of shape (n_groups - 1,), int
        The positions in `order` at which a new group begins.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage
    colorbar_ : matplotlib Colorbar
    lines_ : list of matplotlib Line2D
        Between groups.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.plotting import GramDisplay
    >>> display = GramDisplay.from_dictionary(np.eye(3), parents=[2, -1, -1])
    >>> display.order, display.borders
    (array([1, 2, 0]), array([1]))
    >>> again = display.plot(display.ax_, cmap="gray")

    Of an estimator:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> sae = MPSparseAutoencoder(16, max_iter=2).fit(load_digits().data)
    >>> GramDisplay.from_estimator(sae).cosines.shape
    (16, 16)
    """

    def __init__(self, cosines: np.ndarray, *, order: np.ndarray, borders: np.ndarray) -> None:
        self.cosines = cosines
        self.order = order
        self.borders = borders

    @classmethod
    def from_dictionary(
        cls,
        dictionary: ArrayLike,
        *,
        order: ArrayLike | None = None,
        parents: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw the cosines between the atoms of a dictionary.

        Parameters
        ----------
        dictionary : array-like of shape (n_components, n_features)
            Atoms, one per row, of any norm; an atom of zeros has cosine 0 with all.
        order : array-like of shape (n_shown,), int, default=None
            The atoms to show, in this order. None for all: parents followed by their
            children, group by group, or, without either, by hierarchical clustering of the
            cosines' magnitudes.
        parents : array-like of shape (n_components,), int, default=None
            The index of each atom's parent, -1 where it has none. A line separates trees.
        groups : array-like of shape (n_components,), default=None
            The group of each atom. A line separates groups.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **image_kw : dict
            Options of matplotlib's `imshow`.

        Returns
        -------
        display : GramDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If `order` or `parents` name an unknown atom, parents form a circle, both
            parents and groups are given, or they do not have an entry per atom.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        cosines = _cosines(as_rows(dictionary, "dictionary"))
        order, labels = _arrange(np.abs(cosines), order, parents, groups)
        shown = labels[order]
        borders = np.flatnonzero(shown[1:] != shown[:-1]) + 1
        display = cls(cosines[np.ix_(order, order)], order=order, borders=borders)
        return display.plot(ax, **image_kw)

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        *,
        order: ArrayLike | None = None,
        parents: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        ax: Axes | None = None,
        **image_kw: Any,
    ) -> Self:
        """Draw the cosines between the atoms of a fitted estimator.

        Parameters
        ----------
        estimator : estimator with `components_`, or pipeline that ends with one
            It must be fitted.
        order : array-like of shape (n_shown,), int, default=None
            The atoms to show, in this order; None as for `from_dictionary`.
        parents : array-like of shape (n_components,), int, default=None
            The index of each atom's parent, -1 where it has none. A line separates trees.
        groups : array-like of shape (n_components,), default=None
            The group of each atom. A line separates groups.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **image_kw : dict
            Options of matplotlib's `imshow`.

        Returns
        -------
        display : GramDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is another one, such as a search.
        ValueError, ImportError
            As for `from_dictionary`.
        """
        estimator = check_estimator(estimator)
        options = {"order": order, "parents": parents, "groups": groups, "ax": ax}
        return cls.from_dictionary(estimator.components_, **options, **image_kw)

    def plot(self, ax: Axes | None = None, **image_kw: Any) -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **image_kw : dict
            Options of matplotlib's `imshow`. The colours end at the largest cosine of two
            different atoms unless `vmin` and `vmax` say otherwise.

        Returns
        -------
        display : GramDisplay
            What was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = self._open(ax)
        limit = _largest_off_diagonal(self.cosines)
        look = {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
        self.image_ = ax.imshow(self.cosines, **look | image_kw)
        # The diagonal may be off the scale.
        extend = "max" if self.image_.norm.vmax < 1 else "neither"
        self.colorbar_ = self.figure_.colorbar(
            self.image_, ax=ax, label="Cosine", extend=extend
        )
        thin = {"color": "0.3", "linewidth": 0.6}
        self.lines_ = [
            line(border - 0.5, **thin)
            for border in self.borders
            for line in (ax.axhline, ax.axvline)
        ]
        ax.set(xlabel="Atom, as ordered", ylabel="Atom, as ordered")
        whole_numbers(ax.xaxis)
        whole_numbers(ax.yaxis)
        return self


def _cosines(W):
    W = unit_rows(W)
    return np.clip(W @ W.T, -1, 1)


def _largest_off_diagonal(cosines):
    """1 if all others are zero."""
    others = np.abs(cosines - np.diag(np.diag(cosines)))
    return float(others.max()) or 1.0


def _arrange(similarity, order, parents, groups):
    """The order of atoms, and a label for each that changes from group to group."""
    n_atoms = len(similarity)
    if parents is not None and groups is not None:
        raise ValueError("Give parents or groups, not both.")
    if parents is not None:
        own_order, labels = _by_hierarchy(_per_atom(parents, n_atoms, "parents"))
    elif groups is not None:
        labels = np.unique(_per_atom(groups, n_atoms, "groups"), return_inverse=True)[1]
        own_order = np.argsort(labels, kind="stable")
    else:
        labels = np.zeros(n_atoms, int)
        own_order = _by_similarity(similarity) if order is None else None
    return (own_order if order is None else check_atoms(order, n_atoms, "order")), labels


def _per_atom(values, n_atoms, name):
    values = np.asarray(values)
    if values.shape != (n_atoms,):
        raise ValueError(
            f"{name} must have an entry for each of the {n_atoms} atoms, got shape "
            f"{values.shape}."
        )
    return values


def _by_hierarchy(parents):
    """Parents followed by their children, and the root of each atom."""
    check_atoms(parents[parents != -1], len(parents), "parents")
    children = [[] for _ in range(len(parents) + 1)]
    for atom, parent in enumerate(parents):
        children[parent].append(atom)  # those without a parent at the end, index -1
    order, roots = [], np.empty(len(parents), int)
    todo = children[-1][::-1]
    while todo:
        atom = todo.pop()
        order.append(atom)
        roots[atom] = atom if parents[atom] == -1 else roots[parents[atom]]
        todo.extend(children[atom][::-1])
    if len(order) < len(parents):
        raise ValueError("parents form a circle: following them must end at -1.")
    return np.array(order), roots


def _by_similarity(similarity):
    if len(similarity) < 3:
        return np.arange(len(similarity))
    distances = np.clip(1 - similarity, 0, None)
    np.fill_diagonal(distances, 0)
    # The best order of the leaves takes a second for 1,000 atoms, and grows with the square.
    tree = linkage(
        squareform(distances, checks=False), "average", optimal_ordering=len(distances) <= 1024
    )
    return leaves_list(tree)
