"""How much of the data is explained, atom by atom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import on_numpy
from ._base import BaseDisplay, check_estimator, legend, line_style, name_of, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {"r2": "R²", "unexplained": "Unexplained share of the variance"}


class ReconstructionPathDisplay(BaseDisplay):
    """R² of the reconstruction after 1, 2, ... k atoms.

    A ring marks the number of atoms that the estimator was trained with. Use
    `from_estimator` to make one. Several can share axes: pass ``ax=display.ax_``.

    Parameters
    ----------
    path : ndarray of shape (n_nonzero_coefs,)
        Unexplained share of the variance after 1, 2, ... atoms, as an estimator's
        `reconstruction_path` gives it.
    n_trained : float, default=None
        The number of atoms trained with, to be marked; None for no mark.
    name : str, default=None
        The name in the legend; None for no legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        The path.
    mark_ : matplotlib Line2D or None
        The ring around the number of atoms trained with, where the path reaches it.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.plotting import ReconstructionPathDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(64, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> display = ReconstructionPathDisplay.from_estimator(sae, X, n_nonzero_coefs=8)
    >>> display.path.shape
    (8,)
    >>> again = display.plot(display.ax_)
    """

    def __init__(
        self, path: np.ndarray, *, n_trained: float | None = None, name: str | None = None
    ) -> None:
        self.path = path
        self.n_trained = n_trained
        self.name = name

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        *,
        n_nonzero_coefs: int | None = None,
        quantity: Literal["r2", "unexplained"] = "r2",
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the path of a fitted estimator.

        Parameters
        ----------
        estimator : estimator of this package
            It must be fitted.
        X : array-like of shape (n_samples, n_features)
            Rows to reconstruct.
        n_nonzero_coefs : int, default=None
            How far to go; None for as far as `transform` does.
        quantity : {"r2", "unexplained"}, default="r2"
            What to draw.
        name : str, default=None
            The name in the legend; None for the estimator's class.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **line_kw : dict
            Options of matplotlib's `plot`.

        Returns
        -------
        display : ReconstructionPathDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it is another one, such as a pipeline or a search.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        check_estimator(estimator, "reconstruction_path")
        path = estimator.reconstruction_path(X, n_nonzero_coefs)
        display = cls(path, n_trained=estimator._n_trained(), name=name_of(estimator, name))
        return display.plot(ax, quantity=quantity, **line_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        quantity: Literal["r2", "unexplained"] = "r2",
        name: str | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the path.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        quantity : {"r2", "unexplained"}, default="r2"
            What to draw.
        name : str, default=None
            The name in the legend; None for that of the display.
        **line_kw : dict
            Options of matplotlib's `plot`.

        Returns
        -------
        display : ReconstructionPathDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the quantity is unknown.
        ImportError
            If matplotlib is not installed.
        """
        if quantity not in _LABELS:
            raise ValueError(f"quantity must be 'r2' or 'unexplained', got {quantity!r}.")
        ax = self._open(ax)
        n_atoms = np.arange(1, len(self.path) + 1)
        y = 1 - self.path if quantity == "r2" else self.path
        style = line_style(ax, line_kw, label=self._label(name))
        (self.line_,) = ax.plot(n_atoms, y, **style)
        self.mark_ = self._mark(ax, y)
        ax.set(xlabel="Number of atoms", ylabel=_LABELS[quantity])
        whole_numbers(ax.xaxis)
        if self.line_.get_label()[:1] != "_":
            legend(ax)
        return self

    def _label(self, name):
        name = self.name if name is None else name
        if name is None or self.n_trained is None:
            return name
        return f"{name} (k={self.n_trained:g})"

    def _mark(self, ax, y):
        if self.n_trained is None or self.n_trained > len(y):
            return None
        # Where it is a mean over rows, it need not be whole.
        n = max(1, round(self.n_trained))
        ring = {"markerfacecolor": "none", "markeredgewidth": 1.5, "markersize": 12}
        ring |= {"marker": "o", "linestyle": "none", "color": self.line_.get_color()}
        return ax.plot([n], [y[n - 1]], **ring)[0]
