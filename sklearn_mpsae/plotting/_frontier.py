"""Sparsity against quality, over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from .._array_api import on_numpy
from .._compat import reconstructed
from ..metrics import explained_variance, l0
from ._base import BaseDisplay, legend, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Labels of columns whose names do not say what they are.
_LABELS = {
    "l0": "Mean number of atoms per row (L0)",
    "r2": "R²",
    "r2_train": "R² of the training rows",
    "dead_fraction": "Share of dead atoms",
    "fit_seconds": "Seconds of fit",
    "transform_seconds": "Seconds of transform",
    "probe_accuracy": "Accuracy of a linear probe",
    "matched_cosine": "Mean cosine with the true features",
}


class Frontier(NamedTuple):
    """One line of the picture: arrays of shape (n_points,), from left to right."""

    x: np.ndarray
    """Median over seeds."""
    y: np.ndarray
    """Median over seeds."""
    low: np.ndarray
    """The smallest y of all seeds."""
    high: np.ndarray
    """The largest."""


class SparsityFrontierDisplay(BaseDisplay):
    """What each estimator reaches at each sparsity: a median line in a band over seeds.

    Use `from_results` or `from_estimators` to make one.

    Parameters
    ----------
    frontiers : dict of str to Frontier
        The line of each name: median x and y, smallest and largest y, each of shape
        (n_points,).
    x, y : str
        What is drawn, for the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The medians, in the order of `frontiers`.
    bands_ : list of matplotlib PolyCollection
        From the smallest to the largest y.

    Examples
    --------
    >>> from sklearn_mpsae.plotting import SparsityFrontierDisplay
    >>> results = {
    ...     "estimator": ["TopKSAE"] * 4,
    ...     "n_nonzero_coefs": [2, 2, 4, 4],
    ...     "seed": [0, 1, 0, 1],
    ...     "l0": [2.0, 2.0, 4.0, 4.0],
    ...     "r2": [0.5, 0.6, 0.7, 0.9],
    ... }
    >>> display = SparsityFrontierDisplay.from_results(results)
    >>> display.frontiers["TopKSAE"].y
    array([0.55, 0.8 ])
    >>> again = display.plot(display.ax_, xscale="linear")

    Of fitted estimators:

    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import TopKSAE
    >>> X = load_digits().data
    >>> fitted = [TopKSAE(32, n_nonzero_coefs=k, max_iter=2).fit(X) for k in (2, 4)]
    >>> display = SparsityFrontierDisplay.from_estimators({"TopK": fitted}, X)
    >>> display.frontiers["TopK"].x
    array([2., 4.])
    """

    def __init__(self, frontiers: dict[str, Frontier], *, x: str = "l0", y: str = "r2") -> None:
        self.frontiers = frontiers
        self.x = x
        self.y = y

    @classmethod
    def from_results(
        cls,
        results: Any,
        *,
        x: str = "l0",
        y: str = "r2",
        by: str = "estimator",
        at: str = "n_nonzero_coefs",
        xscale: Literal["log", "linear"] = "log",
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw the results of `sklearn_mpsae.compare`.

        Parameters
        ----------
        results : DataFrame or dict of str to array-like of shape (n_fits,)
            One row per fit. Rows with an `error` are left out.
        x, y : str, default="l0", "r2"
            The columns to draw.
        by : str, default="estimator"
            The column with a line for each of its values.
        at : str, default="n_nonzero_coefs"
            The column with a point for each of its values: rows that agree in `by` and
            `at` are the seeds of one point.
        xscale : {"log", "linear"}, default="log"
            The scale of x.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **line_kw : dict
            Options of matplotlib's `plot`, for all lines.

        Returns
        -------
        display : SparsityFrontierDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If a column is missing or no row is without an error.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        names, points, xs, ys = _columns(results, by, at, x, y)
        xs, ys = xs.astype(float), ys.astype(float)
        frontiers = {
            str(name): _frontier(points[rows], xs[rows], ys[rows])
            for name, rows in _rows_by(names).items()
        }
        return cls(frontiers, x=x, y=y).plot(ax, xscale=xscale, **line_kw)

    @classmethod
    @on_numpy
    def from_estimators(
        cls,
        estimators: dict[str, Any],
        X: ArrayLike,
        *,
        at: str = "n_nonzero_coefs",
        xscale: Literal["log", "linear"] = "log",
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> Self:
        """Draw mean L0 and R² of fitted estimators.

        Parameters
        ----------
        estimators : dict of str to (list of) fitted estimators
            The estimators of each line: anything with `transform` and `inverse_transform`.
        X : array-like of shape (n_samples, n_features)
            Rows to encode and reconstruct.
        at : str, default="n_nonzero_coefs"
            The parameter in which the points of a line differ: estimators that agree in it
            are the seeds of one point.
        xscale : {"log", "linear"}, default="log"
            The scale of x.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        **line_kw : dict
            Options of matplotlib's `plot`, for all lines.

        Returns
        -------
        display : SparsityFrontierDisplay
            What was drawn.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        TypeError
            If `estimators` is no dict, or holds something else than estimators.
        ValueError
            If there is no estimator, or one has no parameter `at` of a single value.
        ImportError
            If matplotlib is not installed.
        """
        cls._check_matplotlib()
        if not isinstance(estimators, dict):
            raise TypeError(
                f"estimators is a {type(estimators).__name__}: name each line, by a dict as "
                '{"MP": [e1, e2]}.'
            )
        pairs = [
            (name, estimator)
            for name, fitted in estimators.items()
            for estimator in (fitted if isinstance(fitted, (list, tuple)) else [fitted])
        ]
        for name, estimator in pairs:
            if not hasattr(estimator, "transform") or not hasattr(estimator, "get_params"):
                raise TypeError(f"estimators[{name!r}] is {estimator!r}, not an estimator.")
            check_is_fitted(estimator)
        qualities = [_l0_and_r2(estimator, X) for _, estimator in pairs]
        results = {
            "estimator": [name for name, _ in pairs],
            at: [_parameter(estimator, at) for _, estimator in pairs],
            "l0": [sparsity for sparsity, _ in qualities],
            "r2": [quality for _, quality in qualities],
        }
        return cls.from_results(results, at=at, xscale=xscale, ax=ax, **line_kw)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        xscale: Literal["log", "linear"] = "log",
        **line_kw: Any,
    ) -> Self:
        """Draw the lines and their bands.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        xscale : {"log", "linear"}, default="log"
            The scale of x.
        **line_kw : dict
            Options of matplotlib's `plot`, for all lines.

        Returns
        -------
        display : SparsityFrontierDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the scale is unknown.
        ImportError
            If matplotlib is not installed.
        """
        if xscale not in ("log", "linear"):
            raise ValueError(f"xscale must be 'log' or 'linear', got {xscale!r}.")
        ax = self._open(ax)
        self.lines_, self.bands_ = [], []
        for name, (x, y, low, high) in self.frontiers.items():
            (line,) = ax.plot(x, y, **line_style(ax, line_kw, label=name))
            band = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
            self.lines_.append(line)
            self.bands_.append(ax.fill_between(x, low, high, **band))
        _scale_x(ax, xscale)
        ax.set(xlabel=_LABELS.get(self.x, self.x), ylabel=_LABELS.get(self.y, self.y))
        legend(ax)
        return self


def _columns(results, *names):
    """The columns asked for, of the rows without an error."""
    there = list(getattr(results, "columns", results))
    missing = [name for name in names if name not in there]
    if missing:
        raise ValueError(
            f"results have no column {', '.join(map(repr, missing))}; there are "
            f"{', '.join(map(repr, there))}. Name the columns to draw by x, y, by and at."
        )
    columns = [np.asarray(results[name]) for name in names]
    errors = results["error"] if "error" in there else [None] * len(columns[0])
    failed = np.array([isinstance(error, str) and error != "" for error in errors], bool)
    if failed.all():
        first = f" The first: {next(iter(errors))}" if len(failed) else ""
        raise ValueError(
            f"results have nothing to draw: {len(failed)} rows, all with an error.{first}"
        )
    return [column[~failed] for column in columns]


def _rows_by(keys):
    """The rows of each key, in the order in which keys come first."""
    rows = {}
    for row, key in enumerate(keys):
        # NaN, which pandas puts for None, is not equal to itself.
        rows.setdefault(key if key == key else None, []).append(row)
    return rows


def _frontier(points, x, y):
    groups = _rows_by(points).values()
    medians = np.array([np.median(x[rows]) for rows in groups])
    order = np.argsort(medians, kind="stable")
    spread = np.array([[np.median(y[r]), y[r].min(), y[r].max()] for r in groups])
    return Frontier(medians[order], *spread[order].T)


def _parameter(estimator, name):
    params = estimator.get_params()
    if name not in params:
        raise ValueError(
            f"{type(estimator).__name__} has no parameter {name!r}: name one by `at`, in "
            "which the points of a line differ."
        )
    # What a search has chosen is what it codes by.
    value = getattr(estimator, f"{name}_", params[name])
    if np.ndim(value):
        raise ValueError(
            f"The parameter {name!r} of {type(estimator).__name__} is no single value, but "
            f"{value!r}: name another by `at`."
        )
    return value


def _l0_and_r2(estimator, X):
    codes = estimator.transform(X)
    return l0(codes), explained_variance(X, reconstructed(estimator, codes))


def _scale_x(ax, xscale):
    if xscale == "linear":
        return ax.set_xscale("linear")
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    # Sparsities are doubled rather than multiplied by ten, and read as 8, not as 2**3.
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return ax.xaxis.set_minor_locator(NullLocator())
