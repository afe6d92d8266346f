"""The largest weights of atoms as bars, by the names of the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from .._array_api import as_rows, on_numpy
from ..coding.checks import check_count
from ._base import BaseDisplay, atoms_to_show, check_estimator, most_used
from ._mosaic import NEGATIVE, POSITIVE, largest

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class AtomWeightsDisplay(BaseDisplay):
    """The largest weights of atoms as bars, with the names of the features.

    For rows that are no images, such as those of a table. Use `from_estimator` or
    `from_dictionary` to make one. Each atom has a block of bars, the largest weight in
    magnitude first. Positive weights are red and to the right, negative ones blue and to the
    left. All atoms have the same scale.

    Weights are deviations from the estimator's `intercept_`. With ``intercept="mean"`` that is
    the average row; a learnt intercept may be far from it.

    Parameters
    ----------
    weights : ndarray of shape (n_shown, n_features_shown)
        The weights to draw, one atom per row.
    names : ndarray of shape (n_shown, n_features_shown), str
        The name of the feature of each weight.
    atoms : ndarray of shape (n_shown,), int
        The indices of the atoms in the dictionary.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : list of matplotlib BarContainer
        The bars of each atom.

    See Also
    --------
    AtomsDisplay : Atoms as images.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.plotting import AtomWeightsDisplay
    >>> X = load_wine(as_frame=True).data
    >>> X = StandardScaler().set_output(transform="pandas").fit_transform(X)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    >>> display = AtomWeightsDisplay.from_estimator(sae, n_atoms=2, n_features=5)
    >>> display.weights.shape
    (2, 5)
    >>> str(display.names[0, 0]) in X.columns
    True
    >>> again = display.plot(display.ax_, height=0.5)
    >>> rows = AtomWeightsDisplay.from_dictionary(X[:2], feature_names=X.columns)
    """

    def __init__(self, weights: np.ndarray, *, names: np.ndarray, atoms: np.ndarray) -> None:
        self.weights = weights
        self.names = names
        self.atoms = atoms

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        *,
        feature_names: Sequence[str] | None = None,
        atoms: ArrayLike | None = None,
        n_atoms: int = 3,
        n_features: int = 10,
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw the largest weights of atoms of a fitted estimator.

        Parameters
        ----------
        estimator : estimator with `components_`, or pipeline that ends with one
            It must be fitted.
        feature_names : sequence of str of length n_features_in, default=None
            The names of the features. None for the estimator's `feature_names_in_`, those
            that the other steps of a pipeline give, or x0, x1, ...
        atoms : array-like of shape (n_shown,), int, default=None
            The atoms to show. None for the `n_atoms` most used in training, the most used
            first, or the first ones of an estimator without `atom_usage_`.
        n_atoms : int, default=3
            The number of atoms to show if `atoms` is None.
        n_features : int, default=10
            The number of weights to show of each atom.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **bar_kw : dict
            Options of matplotlib's `barh`.

        Returns
        -------
        display : AtomWeightsDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is another one, such as a search, or names are not text.
        ValueError
            If there is not one name for each feature, `atoms` names one that does not exist,
            or a number is no integer of at least 1.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        names, estimator = _names_before(estimator), check_estimator(estimator)
        if atoms is None:
            atoms = most_used(estimator, n_atoms)
        if feature_names is None:
            feature_names = getattr(estimator, "feature_names_in_", names)
        return cls.from_dictionary(
            estimator.components_,
            feature_names=feature_names,
            atoms=atoms,
            n_atoms=n_atoms,
            n_features=n_features,
            ax=ax,
            **bar_kw,
        )

    @classmethod
    def from_dictionary(
        cls,
        dictionary: ArrayLike,
        *,
        feature_names: Sequence[str] | None = None,
        atoms: ArrayLike | None = None,
        n_atoms: int = 3,
        n_features: int = 10,
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw the largest weights of atoms of a dictionary.

        Parameters
        ----------
        dictionary : array-like of shape (n_components, n_features_in)
            Atoms, one per row.
        feature_names : sequence of str of length n_features_in, default=None
            The names of the features. None for x0, x1, ...
        atoms : array-like of shape (n_shown,), int, default=None
            The atoms to show; None for the first `n_atoms`.
        n_atoms : int, default=3
            The number of atoms to show if `atoms` is None.
        n_features : int, default=10
            The number of weights to show of each atom.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **bar_kw : dict
            Options of matplotlib's `barh`.

        Returns
        -------
        display : AtomWeightsDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If names are not text.
        ValueError
            If there is not one name for each feature, `atoms` names one that does not exist,
            or a number is no integer of at least 1.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        check_count(n_features, "n_features")
        dictionary = as_rows(dictionary, "dictionary")
        names = _checked_names(feature_names, dictionary.shape[1])
        atoms = atoms_to_show(atoms, n_atoms, len(dictionary))
        shown = dictionary[atoms]
        order = np.argsort(-np.abs(shown), axis=1, kind="stable")[:, :n_features]
        weights = np.take_along_axis(shown, order, axis=1)
        return cls(weights, names=names[order], atoms=atoms).plot(ax, **bar_kw)

    def plot(self, ax: Axes | None = None, **bar_kw: Any) -> Self:
        """Draw the weights, one atom below the other.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **bar_kw : dict
            Options of matplotlib's `barh`.

        Returns
        -------
        display : AtomWeightsDisplay
            What was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_atoms, n_bars = self.weights.shape
        # A line for the heading of each atom, then its bars.
        headings = np.arange(n_atoms) * (n_bars + 1)
        places = headings[:, None] + np.arange(1, n_bars + 1)
        ax = self._open(ax, (6.0, 0.8 + 0.22 * n_atoms * (n_bars + 1)))
        self.bars_ = [
            ax.barh(y, weights, **{"color": _colours(weights)} | bar_kw)
            for y, weights in zip(places, self.weights, strict=True)
        ]
        for y, atom in zip(headings, self.atoms, strict=True):
            _heading(ax, y, f"Atom {atom}")
        ax.axvline(0, color="0.3", lw=0.8)
        ax.set_yticks(places.ravel(), self.names.ravel().tolist(), parse_math=False)
        limit = 1.05 * largest(self.weights)
        lowest = n_atoms * (n_bars + 1) - 0.4
        ax.set(xlabel="Weight", xlim=(-limit, limit), ylim=(lowest, -0.6))
        return self


def _colours(weights):
    return np.where(weights < 0, NEGATIVE, POSITIVE).tolist()


def _heading(ax, y, text):
    """Text at the left edge of the axes."""
    across = ax.get_yaxis_transform()
    ax.text(0.01, y, text, transform=across, va="center", weight="bold", size="small")


def _names_before(estimator):
    """The names that the steps of a pipeline give to the features of its last one, or None.

    Without `set_output` the last step is given an array, and does not know them.
    """
    names = None
    while isinstance(estimator, Pipeline):
        try:
            names = estimator[:-1].get_feature_names_out(names)
        except (AttributeError, ValueError):  # a step that knows none
            return None
        estimator = estimator[-1]
    return names


def _checked_names(names, n_features):
    """Names of the features as an array, x0, x1, ... without any."""
    if names is None:
        return np.array([f"x{i}" for i in range(n_features)])
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"feature_names must be a sequence of text, got {names!r}.")
    if len(names) != n_features:
        raise ValueError(
            f"There are {len(names)} feature_names for {n_features} features: pass one for "
            "each."
        )
    return np.array(list(names))
