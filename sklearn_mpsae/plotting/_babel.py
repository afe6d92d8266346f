"""The sums of cosines that bound what a pursuit recovers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import on_numpy
from ..coding.codes import stack_csr
from ..metrics import babel_function, coselected_babel
from ._base import BaseDisplay, check_estimator, legend, line_style, name_of, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Markers at more points than this would hide the line.
_MANY = 32


class BabelDisplay(BaseDisplay):
    """The Babel function: the largest sum of an atom's cosines with r others.

    That of the whole dictionary and, given data, that of the atoms which a row selects
    together, averaged over rows: a pursuit can do well where only the latter is small. Use
    `from_estimator` or `from_dictionary` to make one. Several can share axes: pass
    ``ax=display.ax_``.

    Parameters
    ----------
    babel : ndarray of shape (r,)
        The Babel function of the dictionary for 1, 2, ... r other atoms.
    coselected : ndarray of shape (r_coselected,), default=None
        The same of the atoms that rows select together.
    name : str, default=None
        The name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        That of the dictionary and, where there is one, that of co-selected atoms, dashed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mpsae.plotting import BabelDisplay
    >>> display = BabelDisplay.from_dictionary(np.eye(4))
    >>> display.babel
    array([0., 0., 0.])
    >>> again = display.plot(display.ax_, color="gray")

    Of an estimator, and of the atoms that its rows take together:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> X = load_digits().data
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=2).fit(X)
    >>> len(BabelDisplay.from_estimator(sae, X).babel)
    3
    """

    def __init__(
        self,
        babel: np.ndarray,
        *,
        coselected: np.ndarray | None = None,
        name: str | None = None,
    ) -> None:
        self.babel = babel
        self.coselected = coselected
        self.name = name

    @classmethod
    def from_dictionary(
        cls,
        dictionary: ArrayLike,
        r: int | None = None,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the Babel function of a dictionary.

        Parameters
        ----------
        dictionary : array-like of shape (n_components, n_features)
            Atoms, one per row.
        r : int, default=None
            The largest number of other atoms; None for all.
        name : str, default=None
            The name in the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **line_kw : dict
            Options of matplotlib's `plot`.

        Returns
        -------
        display : BabelDisplay
            What was drawn.

        Raises
        ------
        ValueError
            As `metrics.babel_function`.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        return cls(babel_function(dictionary, r), name=name).plot(ax, **line_kw)

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        r: int | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the Babel function of a fitted estimator's dictionary.

        Parameters
        ----------
        estimator : estimator of this package
            It must be fitted. Without X it may be a pipeline that ends with one.
        X : array-like of shape (n_samples, n_features), default=None
            Rows to encode, to draw the function of co-selected atoms as well.
        r : int, default=None
            The largest number of other atoms; None for as many as rows select together or,
            without X, for all.
        name : str, default=None
            The name in the legend; None for the estimator's class.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **line_kw : dict
            Options of matplotlib's `plot`, for both lines.

        Returns
        -------
        display : BabelDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is another one, such as a search, or, with X, a pipeline.
        ValueError
            As `metrics.babel_function` and `metrics.coselected_babel`.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        estimator = check_estimator(estimator, "encode" if X is not None else None)
        dictionary = estimator.components_
        coselected = None
        if X is not None:
            coselected = coselected_babel(stack_csr(estimator._encoded(X)), dictionary, r)
            r = len(coselected) or None
        babel = babel_function(dictionary, r)
        display = cls(babel, coselected=coselected, name=name_of(estimator, name))
        return display.plot(ax, **line_kw)

    def plot(self, ax: Axes | None = None, *, name: str | None = None, **line_kw: Any) -> Self:
        """Draw the functions.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        name : str, default=None
            The name in the legend; None for that of the display.
        **line_kw : dict
            Options of matplotlib's `plot`, for both lines.

        Returns
        -------
        display : BabelDisplay
            What was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = self._open(ax)
        name = self.name if name is None else name
        prefix = "" if name is None else f"{name}, "
        style = line_style(ax, line_kw)
        if len(self.babel) > _MANY:
            style["marker"] = line_kw.get("marker", "")
        curves = [(self.babel, f"{prefix}all atoms", "-")]
        if self.coselected is not None:
            curves.append((self.coselected, f"{prefix}selected together", "--"))
        self.lines_ = [
            ax.plot(
                np.arange(1, len(y) + 1), y, **{"label": label, "linestyle": dashes} | style
            )[0]
            for y, label, dashes in curves
        ]
        ax.set(xlabel="Number of other atoms, r", ylabel="Babel function, $\\mu_1(r)$")
        whole_numbers(ax.xaxis)
        legend(ax)
        return self
