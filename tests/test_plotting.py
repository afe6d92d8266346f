"""The displays: what is drawn is what was computed, where it was asked for."""

import subprocess
import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import polars as pl
import pytest
from drawn import (  # noqa: F401 - fixtures
    SHAPE,
    altered,
    axes_to_draw_on,
    close_figures,
    legend_of,
    pursuit_to_draw,
    rows_to_draw,
    shallow_to_draw,
)
from matplotlib import pyplot as plt
from sklearn.decomposition import DictionaryLearning
from sklearn.exceptions import NotFittedError

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, metrics, plotting
from sklearn_mpsae.plotting import (
    AtomsDisplay,
    AtomUsageDisplay,
    AtomWeightsDisplay,
    BabelDisplay,
    GramDisplay,
    ProgressiveReconstructionDisplay,
    ReconstructionPathDisplay,
    SparsityFrontierDisplay,
)

# How each display is made from a fitted estimator and rows.
MAKE = {
    "AtomUsageDisplay": AtomUsageDisplay.from_estimator,
    "AtomWeightsDisplay": lambda est, X, **kw: AtomWeightsDisplay.from_estimator(est, **kw),
    "AtomsDisplay": lambda est, X, **kw: AtomsDisplay.from_estimator(est, **SHAPE, **kw),
    "BabelDisplay": BabelDisplay.from_estimator,
    "GramDisplay": lambda est, X, **kw: GramDisplay.from_estimator(est, **kw),
    "ProgressiveReconstructionDisplay": lambda est, X, **kw: (
        ProgressiveReconstructionDisplay.from_estimator(est, X[:2], **SHAPE, **kw)
    ),
    "ReconstructionPathDisplay": ReconstructionPathDisplay.from_estimator,
    "SparsityFrontierDisplay": lambda est, X, **kw: SparsityFrontierDisplay.from_estimators(
        {"one": est}, X, **kw
    ),
}
every_display = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


# ------------------------------------------------------------------------------- all
def test_every_public_display_is_tested():
    assert sorted(MAKE) == sorted(plotting.__all__)


@every_display
def test_axes_given_are_drawn_on_and_no_figure_is_made(make, mp, X, ax):
    display = make(mp, X, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert plt.get_fignums() == [ax.figure.number]
    assert ax.has_data()


@every_display
def test_a_figure_is_made_without_axes_and_by_plotting_again(make, mp, X):
    display = make(mp, X)
    assert plt.get_fignums() == [display.figure_.number]
    first = display.ax_
    assert display.plot() is display
    assert display.ax_ is not first
    assert len(plt.get_fignums()) == 2
    display.figure_.draw_without_rendering()


@every_display
def test_an_estimator_has_to_be_fitted(make, X):
    with pytest.raises(NotFittedError):
        make(MPSparseAutoencoder(64), X)
    assert plt.get_fignums() == []


def test_an_estimator_has_to_be_fitted_without_rows_too():
    for display in (AtomUsageDisplay, BabelDisplay):
        with pytest.raises(NotFittedError):
            display.from_estimator(TopKSAE())


def test_every_estimator_can_be_drawn(Estimator, small, ax):
    """Those whose number of codes is a mean over rows too."""
    est = Estimator(16, n_nonzero_coefs=3, max_iter=2, random_state=0).fit(small)
    path = ReconstructionPathDisplay.from_estimator(est, small, ax=ax)
    assert path.mark_ is not None
    rows = {"image_shape": (2, 5), "ax": ax}
    display = ProgressiveReconstructionDisplay.from_estimator(est, small[:3], **rows)
    np.testing.assert_allclose(
        display.reconstructions[:, -1].reshape(3, 10),
        est.inverse_transform(est.transform(small[:3])),
    )
    usage = AtomUsageDisplay.from_estimator(est, small, ax=ax)
    assert usage.usage.sum() == np.count_nonzero(est.transform(small))


@every_display
def test_without_matplotlib_the_error_says_what_to_install(make, mp, X, monkeypatch):
    display = make(mp, X)
    # Before anything is computed: with a path that cannot be had.
    monkeypatch.setattr(MPSparseAutoencoder, "_coder", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    match = f"{type(display).__name__} draws with matplotlib.*pip install matplotlib"
    with pytest.raises(ImportError, match=match):
        make(mp, X)
    with pytest.raises(ImportError, match=match):
        display.plot()


def test_importing_plotting_does_not_import_matplotlib():
    code = "import sys, sklearn_mpsae.plotting; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# ------------------------------------------------------------------------------ path
def test_path_draws_r2(mp, X):
    display = ReconstructionPathDisplay.from_estimator(mp, X, n_nonzero_coefs=6)
    path = mp.reconstruction_path(X, 6)
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 7))
    np.testing.assert_array_equal(display.line_.get_ydata(), 1 - path)
    assert display.ax_.get_ylabel() == "R²"
    assert display.ax_.get_xlabel() == "Number of atoms"
    assert legend_of(display) == ["MPSparseAutoencoder (k=4)"]


def test_path_draws_the_unexplained_share(mp, X):
    display = ReconstructionPathDisplay.from_estimator(mp, X, quantity="unexplained")
    np.testing.assert_array_equal(display.line_.get_ydata(), mp.reconstruction_path(X))
    assert display.ax_.get_ylabel() == "Unexplained share of the variance"
    with pytest.raises(ValueError, match="quantity must be 'r2' or 'unexplained', got 'r3'"):
        display.plot(quantity="r3")


def test_path_marks_the_sparsity_trained_with(mp, X):
    display = ReconstructionPathDisplay.from_estimator(mp, X, n_nonzero_coefs=6)
    assert display.mark_.get_xydata().tolist() == [[4, 1 - display.path[3]]]
    shorter = ReconstructionPathDisplay.from_estimator(mp, X, n_nonzero_coefs=3)
    assert shorter.mark_ is None
    mean = ReconstructionPathDisplay(display.path, n_trained=2.6).plot()
    assert mean.mark_.get_xdata().tolist() == [3]


def test_path_without_a_name_has_no_legend():
    display = ReconstructionPathDisplay(np.array([0.5, 0.2])).plot()
    assert display.ax_.get_legend() is None
    assert legend_of(display.plot(name="mine")) == ["mine"]


def test_paths_share_axes_and_differ_in_colour_and_marker(mp, top_k, X):
    first = ReconstructionPathDisplay.from_estimator(mp, X, name="a")
    second = ReconstructionPathDisplay.from_estimator(top_k, X, name="b", ax=first.ax_)
    assert first.line_.get_color() != second.line_.get_color()
    assert first.line_.get_marker() != second.line_.get_marker()
    assert legend_of(second) == ["a (k=4)", "b (k=4)"]
    assert len(plt.get_fignums()) == 1


def test_options_of_a_line_win_by_any_of_their_names(mp, X):
    display = ReconstructionPathDisplay.from_estimator(mp, X, c="red", lw=3, marker="x")
    line = display.line_
    assert (line.get_color(), line.get_linewidth(), line.get_marker()) == ("red", 3, "x")


# -------------------------------------------------------------------------- frontier
RESULTS = {
    "estimator": ["B", "B", "B", "A", "A", "A", "A", "B"],
    "n_nonzero_coefs": [4, 4, 4, 8, 2, 2, 2, 16],
    "seed": [0, 1, 2, 0, 0, 1, 2, 0],
    "l0": [3.0, 4.0, 3.5, 8.0, 2.0, 2.0, 2.0, np.nan],
    "r2": [0.5, 0.9, 0.6, 0.8, 0.1, 0.4, 0.2, np.nan],
    "fit_seconds": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    "error": ["", None, "", "", "", "", None, "ValueError: no"],
}


@pytest.mark.parametrize("kind", [dict, pd.DataFrame, pl.DataFrame])
def test_frontier_is_the_median_over_seeds_in_a_band(kind):
    display = SparsityFrontierDisplay.from_results(kind(RESULTS))
    assert list(display.frontiers) == ["B", "A"]
    b, a = display.lines_
    assert b.get_xydata().tolist() == [[3.5, 0.6]]
    assert a.get_xydata().tolist() == [[2, 0.2], [8, 0.8]]
    corners = display.bands_[1].get_paths()[0].vertices
    assert {tuple(v) for v in corners.tolist()} == {(2, 0.1), (2, 0.4), (8, 0.8)}
    assert legend_of(display) == ["B", "A"]
    assert display.ax_.get_ylabel() == "R²"


def test_frontier_of_other_columns():
    display = SparsityFrontierDisplay.from_results(
        RESULTS, x="n_nonzero_coefs", y="fit_seconds", by="seed", xscale="linear"
    )
    assert list(display.frontiers) == ["0", "1", "2"]
    assert display.lines_[0].get_xydata().tolist() == [[2, 5], [4, 1], [8, 4]]
    assert display.ax_.get_xscale() == "linear"
    assert display.ax_.get_ylabel() == "Seconds of fit"
    assert display.ax_.get_xlabel() == "n_nonzero_coefs"
    assert display.plot().ax_.get_xscale() == "log"


def test_frontier_takes_missing_settings_for_one_and_the_same():
    results = {"estimator": ["A"] * 3, "n_nonzero_coefs": [np.nan, np.nan, 2.0]}
    results |= {"l0": [4.0, 6.0, 2.0], "r2": [0.5, 0.7, 0.3]}
    display = SparsityFrontierDisplay.from_results(results)
    np.testing.assert_allclose(display.lines_[0].get_xydata(), [[2, 0.3], [5, 0.6]])


def test_frontier_ticks_read_as_numbers():
    display = SparsityFrontierDisplay.from_results(RESULTS)
    display.figure_.draw_without_rendering()
    labels = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert {"2", "4", "8"} <= set(labels)


def test_frontier_of_estimators(mp, top_k, X):
    rival = DictionaryLearning(32, transform_algorithm="omp", max_iter=1, random_state=0)
    # Its dictionary is what counts, and a fit would take seconds.
    rival.components_, rival.n_features_in_ = mp.components_[:32], 64
    sparser = altered(mp, n_nonzero_coefs=1, sparse_output=True)
    fitted = {"MP": [mp, sparser], "TopK": top_k}
    display = SparsityFrontierDisplay.from_estimators(fitted, X)
    by_hand = [
        [np.count_nonzero(est.transform(X)) / len(X), est.score(X)]
        for est in (altered(sparser, sparse_output=False), mp, top_k)
    ]
    np.testing.assert_allclose(display.lines_[0].get_xydata(), by_hand[:2])
    np.testing.assert_allclose(display.lines_[1].get_xydata(), by_hand[2:])
    with pytest.raises(ValueError, match="DictionaryLearning has no parameter 'n_nonzero"):
        SparsityFrontierDisplay.from_estimators({"rival": rival}, X)
    at = "transform_n_nonzero_coefs"
    theirs = SparsityFrontierDisplay.from_estimators({"rival": rival}, X - X.mean(0), at=at)
    assert 0 < theirs.frontiers["rival"].y[0] < 1


def test_results_without_a_column():
    with pytest.raises(ValueError, match="no column 'kind', 'r3'; there are 'estimator', 'n_"):
        SparsityFrontierDisplay.from_results(RESULTS, y="r3", by="kind")
    with pytest.raises(ValueError, match="no column 'r3'; there are 'estimator', 'n_"):
        SparsityFrontierDisplay.from_results(pl.DataFrame(RESULTS), y="r3")


def test_results_with_nothing_to_draw(X):
    results = pd.DataFrame(RESULTS)
    with pytest.raises(ValueError, match=r"1 rows, all with an error. The first: ValueError"):
        SparsityFrontierDisplay.from_results(results[-1:])
    with pytest.raises(ValueError, match="nothing to draw: 0 rows"):
        SparsityFrontierDisplay.from_results(results[:0])
    with pytest.raises(ValueError, match="nothing to draw: 0 rows"):
        SparsityFrontierDisplay.from_estimators({}, X)


def test_unknown_scale_of_x():
    with pytest.raises(ValueError, match="xscale must be 'log' or 'linear', got 'logit'"):
        SparsityFrontierDisplay.from_results(RESULTS, xscale="logit")


# ----------------------------------------------------------------------------- babel
def test_babel_of_a_dictionary(mp):
    display = BabelDisplay.from_dictionary(mp.components_, 5, name="MP")
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 6))
    np.testing.assert_array_equal(line.get_ydata(), metrics.babel_function(mp.components_, 5))
    assert legend_of(display) == ["MP, all atoms"]


def test_babel_of_atoms_selected_together(mp, X):
    display = BabelDisplay.from_estimator(mp, X)
    expected = metrics.coselected_babel(mp.transform(X), mp.components_)
    np.testing.assert_allclose(display.lines_[1].get_ydata(), expected)
    # As far as rows go, where the two can be compared.
    np.testing.assert_allclose(
        display.lines_[0].get_ydata(), metrics.babel_function(mp.components_, len(expected))
    )
    assert legend_of(display) == [
        "MPSparseAutoencoder, all atoms",
        "MPSparseAutoencoder, selected together",
    ]
    assert len(BabelDisplay.from_estimator(mp).lines_[0].get_xdata()) == 63
    assert len(BabelDisplay.from_estimator(mp, X, r=2).lines_[1].get_xdata()) == 2


def test_babel_of_rows_with_one_atom(mp, X):
    display = BabelDisplay.from_estimator(altered(mp, transform_n_nonzero_coefs=1), X)
    assert len(display.coselected) == 0
    assert len(display.babel) == 63


# ----------------------------------------------------------------------------- usage
def test_usage_is_the_sorted_share_of_rows(mp, X):
    rows = X[:20]
    display = AtomUsageDisplay.from_estimator(mp, rows)
    share = np.sort((mp.transform(rows) != 0).mean(axis=0))[::-1]
    used = share[share > 0]
    assert 0 < len(used) < 64
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, len(used) + 1))
    np.testing.assert_allclose(display.line_.get_ydata(), used)
    assert legend_of(display) == [f"MPSparseAutoencoder ({64 - len(used)} of 64 dead)"]
    assert display.ax_.get_yscale() == "log"
    assert display.ax_.get_ylabel() == "Share of rows that use the atom"
    # Dead atoms are within the picture.
    assert display.ax_.get_xlim()[1] >= 64


def test_usage_of_the_training(mp):
    display = AtomUsageDisplay.from_estimator(mp)
    used = np.sort(mp.atom_usage_[mp.atom_usage_ > 0])[::-1]
    np.testing.assert_array_equal(display.line_.get_ydata(), used)
    assert display.ax_.get_ylabel() == "Rows that use the atom"


def test_usages_share_axes(mp, top_k, X):
    first = AtomUsageDisplay.from_estimator(mp, X)
    second = AtomUsageDisplay.from_estimator(top_k, X, name="b", ax=first.ax_)
    assert first.line_.get_color() != second.line_.get_color()
    assert len(legend_of(second)) == 2


def test_a_dictionary_that_nothing_uses():
    display = AtomUsageDisplay(np.zeros(5, int), name="none").plot()
    display.figure_.draw_without_rendering()
    assert legend_of(display) == ["none (5 of 5 dead)"]
