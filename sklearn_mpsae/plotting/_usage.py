"""How often each atom is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import on_numpy
from ..coding.codes import stack_csr
from ..metrics import atom_usage
from ._base import BaseDisplay, check_estimator, legend, line_style, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class AtomUsageDisplay(BaseDisplay):
    """How many rows use each atom, from the most to the least used.

    Use `from_estimator` to make one. Several can share axes: pass ``ax=display.ax_``.
    Atoms that no row uses are dead: their number is in the legend, the line ends before
    them.

    Parameters
    ----------
    usage : ndarray of shape (n_components,), int
        How many rows use each atom, in the dictionary's order.
    n_samples : int, default=None
        Of how many rows, to draw shares; None to draw counts.
    name : str, default=None
        The name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
        Its data are the ranks 1, 2, ... of the atoms in use, and their usage.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import TopKSAE
    >>> from sklearn_mpsae.plotting import AtomUsageDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = TopKSAE(64, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> display = AtomUsageDisplay.from_estimator(sae, X)
    >>> bool(display.usage.sum() <= 4 * len(X))
    True
    >>> again = display.plot(display.ax_)
    """

    def __init__(
        self, usage: np.ndarray, *, n_samples: int | None = None, name: str | None = None
    ) -> None:
        self.usage = usage
        self.n_samples = n_samples
        self.name = name

    @classmethod
    @on_numpy
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike | None = None,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the usage of a fitted estimator's atoms.

        Parameters
        ----------
        estimator : estimator of this package
            It must be fitted.
        X : array-like of shape (n_samples, n_features), default=None
            Rows to encode, to draw the share of them that uses each atom. None to draw
            `atom_usage_`: counts of rows during the last pass of the training.
        name : str, default=None
            The name in the legend; None for the estimator's class.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **line_kw : dict
            Options of matplotlib's `plot`.

        Returns
        -------
        display : AtomUsageDisplay
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
        check_estimator(estimator, "encode")
        if X is None:
            usage, n_samples = estimator.atom_usage_, None
        else:
            codes = stack_csr(estimator._encoded(X))
            usage, n_samples = atom_usage(codes), codes.shape[0]
        display = cls(usage, n_samples=n_samples, name=name_of(estimator, name))
        return display.plot(ax, **line_kw)

    def plot(self, ax: Axes | None = None, *, name: str | None = None, **line_kw: Any) -> Self:
        """Draw the usage.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        name : str, default=None
            The name in the legend; None for that of the display.
        **line_kw : dict
            Options of matplotlib's `plot`.

        Returns
        -------
        display : AtomUsageDisplay
            What was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = self._open(ax)
        used = np.sort(self.usage[self.usage > 0])[::-1]
        y = used if self.n_samples is None else used / self.n_samples
        style = line_style(ax, line_kw, label=self._label(name, len(used)), marker="")
        (self.line_,) = ax.plot(np.arange(1, len(used) + 1), y, **style)
        # Room for the dead atoms, so that the line is seen to end before them.
        ax.update_datalim([(len(self.usage), y[-1] if len(y) else 1)])
        ax.autoscale_view()
        ax.set(yscale="log", xlabel="Rank of the atom", ylabel=self._ylabel())
        legend(ax)
        return self

    def _label(self, name, n_used):
        name = self.name if name is None else name
        dead = f"{len(self.usage) - n_used} of {len(self.usage)} dead"
        return dead if name is None else f"{name} ({dead})"

    def _ylabel(self):
        if self.n_samples is None:
            return "Rows that use the atom"
        return "Share of rows that use the atom"
