"""What all displays do: find matplotlib and the axes to draw on. And how lines look."""

from __future__ import annotations

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._optional import imported
from ..coding.checks import check_count

# Okabe and Ito's colours, which all eyes tell apart, without the yellow, too pale for a line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


class BaseDisplay:
    """The axes of a display."""

    @classmethod
    def _check_matplotlib(cls):
        """Complain of a missing matplotlib before anything is computed."""
        imported(
            "matplotlib",
            f"{cls.__name__} draws with matplotlib, which cannot be imported. Install it with "
            "`pip install matplotlib`.",
        )

    def _open(self, ax, figsize=None):
        """Set `ax_` and `figure_`: the axes given, or those of a new figure."""
        self._check_matplotlib()
        if ax is None:
            from matplotlib import pyplot as plt

            _, ax = plt.subplots(figsize=figsize, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        return ax


def check_estimator(estimator, method=None):
    """The estimator, found to be fitted, with a dictionary and the method that is needed.

    Where no method is needed, and so no rows are coded, it may be the last step of a pipeline.
    """
    if method is None and isinstance(estimator, Pipeline):
        return check_estimator(estimator[-1])
    if hasattr(estimator, "fit") and (method is None or hasattr(estimator, method)):
        check_is_fitted(estimator)
        if hasattr(estimator, "components_"):
            return estimator
    wanted = "of this package" if method else "with components_"
    if method is None and not hasattr(estimator, "fit"):
        wanted += " (an array of atoms is drawn by from_dictionary)"
    raise TypeError(
        f"estimator is a {type(estimator).__name__}, not a fitted estimator {wanted}. Of a "
        "pipeline, pass the step that is one, and X as that step gets it: pipeline[i], and "
        "pipeline[:i].transform(X); of a search, its best_estimator_."
    )


def name_of(estimator, name):
    """The name given, or that of the estimator's class."""
    return type(estimator).__name__ if name is None else name


def line_style(ax, line_kw, **defaults):
    """Options of the next line on these axes, in a colour that no other has yet.

    Lines in the legend are counted, rather than matplotlib's colour cycle followed, so that
    displays that share axes differ in marker too.
    """
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    n_drawn = sum(not str(line.get_label()).startswith("_") for line in ax.get_lines())
    look = {
        "color": _COLOURS[n_drawn % len(_COLOURS)],
        "marker": _MARKERS[n_drawn % len(_MARKERS)],
        "markersize": 4,
    }
    return look | defaults | normalize_kwargs(line_kw, Line2D)


def legend(ax):
    """A legend in small print, so that it fits axes of a grid too."""
    ax.legend(fontsize="small")


def whole_numbers(axis):
    """Put an axis' ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def most_used(estimator, n_shown):
    """The atoms most used in training, the most used first; None if that is not known."""
    check_count(n_shown, "n_atoms")
    usage = getattr(estimator, "atom_usage_", None)
    return None if usage is None else np.argsort(-usage, kind="stable")[:n_shown]


def atoms_to_show(atoms, n_shown, n_atoms):
    """Indices of the atoms asked for, if there are such; for None, the first ones."""
    check_count(n_shown, "n_atoms")
    if atoms is None:
        atoms = np.arange(n_atoms)[:n_shown]
    return check_atoms(atoms, n_atoms, "atoms")


def check_atoms(atoms, n_atoms, name):
    """Indices of atoms as an array, if there are such atoms."""
    atoms = np.asarray(atoms)
    if atoms.ndim != 1 or atoms.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a list of indices of atoms, got {atoms!r}.")
    unknown = atoms[(atoms < 0) | (atoms >= n_atoms)]
    if len(unknown):
        raise ValueError(
            f"{name} names atom {unknown[0]}, but the dictionary has {n_atoms}: 0 to "
            f"{n_atoms - 1}."
        )
    return atoms
