"""The displays: what is drawn is what was computed, where it was asked for."""

import copy
import subprocess
import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from sklearn.decomposition import DictionaryLearning
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

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

FAST = {"n_nonzero_coefs": 4, "max_iter": 2, "random_state": 0}
SHAPE = {"image_shape": (8, 8)}

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


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def X(digits):  # noqa: N802 - the field's name for rows
    return digits[:300]


@pytest.fixture(scope="module")
def mp(X):
    return MPSparseAutoencoder(64, **FAST).fit(X)


@pytest.fixture(scope="module")
def top_k(X):
    return TopKSAE(64, **FAST).fit(X)


@pytest.fixture
def ax():
    return plt.figure().add_subplot()


def altered(estimator, **params):
    return copy.copy(estimator).set_params(**params)


def legend_of(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def tile_of(mosaic, line, column, height=8, width=8, gap=1):
    top, left = line * (height + gap), column * (width + gap)
    return np.asarray(mosaic)[top : top + height, left : left + width]


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


# ------------------------------------------------------------------------------ Gram
def test_gram_follows_the_hierarchy(rng):
    atoms = rng.standard_normal((7, 5))
    parents = [3, -1, 1, -1, 1, 2, -1]
    display = GramDisplay.from_dictionary(atoms, parents=parents)
    order = [1, 2, 5, 4, 3, 0, 6]
    assert display.order.tolist() == order
    assert display.borders.tolist() == [4, 6]
    unit = atoms[order] / np.linalg.norm(atoms[order], axis=1, keepdims=True)
    np.testing.assert_allclose(display.image_.get_array(), unit @ unit.T, atol=1e-12)
    assert [line.get_ydata()[0] for line in display.lines_[::2]] == [3.5, 5.5]
    assert [line.get_xdata()[0] for line in display.lines_[1::2]] == [3.5, 5.5]


def test_gram_follows_groups(rng):
    display = GramDisplay.from_dictionary(rng.standard_normal((5, 4)), groups=list("baaba"))
    assert display.order.tolist() == [1, 2, 4, 0, 3]
    assert display.borders.tolist() == [3]


def test_gram_puts_similar_atoms_side_by_side(rng):
    directions = np.linalg.qr(rng.standard_normal((8, 8)))[0][:4]
    which = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3])
    # Opposite atoms are as similar as equal ones.
    signs = np.repeat([1, -1, 1], 4)[:, None]
    atoms = signs * directions[which] + 0.05 * rng.standard_normal((12, 8))
    display = GramDisplay.from_dictionary(atoms)
    assert np.count_nonzero(np.diff(which[display.order])) == 3
    assert display.borders.size == 0


def test_gram_in_an_order_given(mp):
    display = GramDisplay.from_estimator(mp, order=[5, 0, 9], groups=np.arange(64) > 3)
    W = mp.components_[[5, 0, 9]]
    np.testing.assert_allclose(display.image_.get_array(), W @ W.T, atol=1e-6)
    assert display.borders.tolist() == [1, 2]


def test_gram_colours_are_centred_and_end_at_the_largest_cosine(rng):
    atoms = np.array([[1.0, 0.0], [0.6, -0.8], [0.0, 1.0]])
    display = GramDisplay.from_dictionary(atoms)
    assert display.image_.get_clim() == (-0.8, 0.8)
    assert display.colorbar_.ax.get_ylabel() == "Cosine"
    assert display.plot(vmin=-1, vmax=1).image_.get_clim() == (-1, 1)


def test_gram_of_atoms_of_zeros_or_few(rng):
    display = GramDisplay.from_dictionary([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], order=[0, 1, 2])
    assert display.cosines.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert GramDisplay.from_dictionary([[0.0, 2.0]]).cosines.tolist() == [[1]]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"order": [0, 3]}, "order names atom 3, but the dictionary has 3: 0 to 2"),
        ({"order": [-1]}, "order names atom -1"),
        ({"order": [0.5]}, "order must be a list of indices"),
        ({"order": []}, "order must be a list of indices"),
        ({"parents": [-1, 0, 7]}, "parents names atom 7"),
        ({"parents": [-1, -2, 0]}, "parents names atom -2"),
        ({"parents": [-1, 0]}, r"parents must have an entry for each of the 3 .* \(2,\)"),
        ({"parents": [-1, 2, 1]}, "parents form a circle"),
        ({"groups": [0]}, "groups must have an entry"),
        ({"groups": [0, 0, 1], "parents": [-1, 0, 0]}, "parents or groups, not both"),
    ],
)
def test_gram_of_what_does_not_fit(options, match):
    with pytest.raises(ValueError, match=match):
        GramDisplay.from_dictionary(np.eye(3), **options)


# ----------------------------------------------------------------------------- atoms
def test_atoms_are_tiled_the_most_used_first(mp):
    display = AtomsDisplay.from_estimator(mp, **SHAPE, n_atoms=5, n_columns=3, scale="shared")
    most_used = np.argsort(-mp.atom_usage_, kind="stable")[:5]
    assert display.atoms.tolist() == most_used.tolist()
    mosaic = display.image_.get_array().filled(np.nan)
    assert mosaic.shape == (17, 26)
    for i, atom in enumerate(most_used):
        image = mp.components_[atom].reshape(8, 8)
        np.testing.assert_array_equal(tile_of(mosaic, *divmod(i, 3)), image)
    # What lies between, and the sixth place.
    assert np.isnan(mosaic[8]).all()
    assert np.isnan(mosaic[:, 8]).all()
    assert np.isnan(tile_of(mosaic, 1, 2)).all()


def test_atoms_that_are_named(mp, ax):
    display = AtomsDisplay.from_estimator(mp, **SHAPE, atoms=[7, 2], ax=ax)
    np.testing.assert_array_equal(display.images, mp.components_[[7, 2]].reshape(2, 8, 8))
    assert display.atoms.tolist() == [7, 2]


def test_scales_of_atoms_are_symmetric(rng):
    atoms = rng.standard_normal((4, 6)) * [[1], [2], [3], [0]]
    shape = {"image_shape": (2, 3), "n_columns": 4}
    shared = AtomsDisplay.from_dictionary(atoms, **shape, scale="shared")
    limit = np.abs(atoms).max()
    assert shared.image_.get_clim() == (-limit, limit)
    assert shared.colorbar_.ax.get_ylabel() == "Weight"
    own = AtomsDisplay.from_dictionary(atoms, **shape)
    assert own.image_.get_clim() == (-1, 1)
    mosaic = own.image_.get_array()
    for i in range(3):
        part = tile_of(mosaic, 0, i, 2, 3)
        np.testing.assert_allclose(part.ravel(), atoms[i] / np.abs(atoms[i]).max())
    assert not tile_of(mosaic, 0, 3, 2, 3).any()
    with pytest.raises(ValueError, match="scale must be 'atom' or 'shared', got 'each'"):
        own.plot(scale="each")


@pytest.mark.parametrize("scale", ["atom", "shared"])
def test_atoms_in_colour_are_centred_at_grey(scale, rng):
    atoms = rng.standard_normal((3, 12)) * [[1], [2], [3]]
    display = AtomsDisplay.from_dictionary(
        atoms, image_shape=(2, 2, 3), n_columns=2, scale=scale
    )
    limits = np.abs(atoms).max(axis=1) if scale == "atom" else [np.abs(atoms).max()] * 3
    mosaic = display.image_.get_array()
    assert mosaic.shape == (5, 5, 4)
    for i in range(3):
        part = tile_of(mosaic, *divmod(i, 2), 2, 2)
        expected = 0.5 + 0.5 * atoms[i].reshape(2, 2, 3) / limits[i]
        np.testing.assert_allclose(part[..., :3], expected)
        assert (part[..., 3] == 1).all()
    assert not mosaic[2, :, 3].any()
    assert not tile_of(mosaic, 1, 1, 2, 2).any()
    assert display.colorbar_ is None


@pytest.mark.parametrize("shape", [(8, 9), (64,), (4, 4, 4), (4, 8, 2), (-8, -8, 1)])
def test_image_shape_has_to_fit(shape, mp, X):
    match = r"image_shape must be .* multiply to the 64 features there are, got \("
    with pytest.raises(ValueError, match=match):
        AtomsDisplay.from_estimator(mp, image_shape=shape)
    with pytest.raises(ValueError, match=match):
        ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], image_shape=shape)
    assert plt.get_fignums() == []


def test_image_shape_has_to_be_given(mp):
    for display, source in [
        (AtomsDisplay.from_estimator, mp),
        (AtomsDisplay.from_dictionary, mp.components_),
    ]:
        with pytest.raises(TypeError, match=r"image_shape is missing.*table.*explore"):
            display(source)
    assert plt.get_fignums() == []


def test_displays_of_a_dictionary_take_the_last_step_of_a_pipeline(mp, X):
    pipe = make_pipeline(FunctionTransformer(), mp)
    np.testing.assert_array_equal(
        AtomsDisplay.from_estimator(pipe, **SHAPE).images,
        AtomsDisplay.from_estimator(mp, **SHAPE).images,
    )
    np.testing.assert_array_equal(
        GramDisplay.from_estimator(pipe).cosines, GramDisplay.from_estimator(mp).cosines
    )
    babel = BabelDisplay.from_estimator(pipe)
    np.testing.assert_array_equal(babel.babel, BabelDisplay.from_estimator(mp).babel)
    assert babel.name == "MPSparseAutoencoder"
    with pytest.raises(TypeError, match="X as that step gets it"):
        BabelDisplay.from_estimator(pipe, X)


def test_atoms_that_do_not_exist(mp):
    with pytest.raises(ValueError, match="atoms names atom 64, but the dictionary has 64"):
        AtomsDisplay.from_estimator(mp, **SHAPE, atoms=[3, 64])


def test_first_atoms_of_an_estimator_that_does_not_count(mp):
    other = DictionaryLearning(64)
    other.components_ = mp.components_
    display = AtomsDisplay.from_estimator(other, **SHAPE, n_atoms=3)
    assert display.atoms.tolist() == [0, 1, 2]


# ------------------------------------------------------------------- reconstructions
@pytest.mark.parametrize("kind", ["mp", "omp", "topk"])
def test_reconstructions_are_those_of_fewer_atoms(kind, mp, top_k, X):
    est = {
        "mp": mp,
        "omp": altered(mp, transform_algorithm="omp", positive_code=False),
        "topk": top_k,
    }[kind]
    display = ProgressiveReconstructionDisplay.from_estimator(
        est, X[:3], **SHAPE, steps=[1, 2, 5]
    )
    assert display.steps.tolist() == [1, 2, 5]
    for i, k in enumerate(display.steps):
        fewer = altered(est, transform_n_nonzero_coefs=int(k))
        expected = fewer.inverse_transform(fewer.transform(X[:3]))
        np.testing.assert_allclose(
            display.reconstructions[:, i].reshape(3, 64), expected, atol=1e-10
        )
    assert est.transform_n_nonzero_coefs is None


def test_reconstructions_go_as_far_as_transform(mp, X):
    display = ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE)
    assert display.steps.tolist() == [1, 2, 3, 4]
    further = altered(mp, transform_n_nonzero_coefs=6)
    display = ProgressiveReconstructionDisplay.from_estimator(further, X[:2], **SHAPE)
    assert display.steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_atoms_taken_are_those_of_the_codes(mp, X):
    signed = altered(mp, positive_code=False, transform_n_nonzero_coefs=6)
    codes = signed.encode(X[:30])
    assert (codes.values < 0).any()
    display = ProgressiveReconstructionDisplay.from_estimator(signed, X[:30], **SHAPE)
    expected = np.sign(codes.values)[..., None] * mp.components_[codes.indices]
    np.testing.assert_array_equal(display.taken.reshape(30, 6, 64), expected)


def test_a_row_that_needs_no_further_atom_shows_none(mp, X):
    # Its mean needs none at all, so its reconstruction is itself.
    rows = np.stack([mp.intercept_, X[0], mp.intercept_ + 3 * mp.components_[5]])
    tolerant = altered(mp, tol=1e-6)
    display = ProgressiveReconstructionDisplay.from_estimator(tolerant, rows, **SHAPE)
    blank = np.isnan(display.taken).all(axis=(2, 3))
    assert blank.tolist() == [[True] * 4, [False] * 4, [False, True, True, True]]
    np.testing.assert_allclose(display.reconstructions[0, 3], display.inputs[0])


def test_an_encoder_with_fewer_slots_than_steps(mp, X, monkeypatch):
    codes = altered(mp, transform_n_nonzero_coefs=2).encode(X[:2])
    monkeypatch.setattr(MPSparseAutoencoder, "encode", lambda self, X: codes)
    display = ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE, steps=[2, 3])
    assert np.isnan(display.taken).all(axis=(2, 3)).tolist() == [[False, True]] * 2


def test_where_reconstructions_and_atoms_are_drawn(mp, X):
    display = ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE, steps=[1, 4])
    images = display.image_.get_array().filled(np.nan)
    atoms = display.atoms_image_.get_array().filled(np.nan)
    assert images.shape == atoms.shape == (2 * 17 + 2, 3 * 8 + 2 * 2)
    # Each line is 17 pixels high: an image, a gap and an atom.
    tall = {"height": 17, "gap": 2}
    for row in range(2):
        parts = [tile_of(images, row, column, **tall) for column in range(3)]
        np.testing.assert_array_equal(parts[0][:8], X[row].reshape(8, 8))
        for step in range(2):
            np.testing.assert_array_equal(
                parts[step + 1][:8], display.reconstructions[row, step]
            )
            below = tile_of(atoms, row, step + 1, **tall)[9:]
            atom = display.taken[row, step]
            np.testing.assert_allclose(below, atom / np.abs(atom).max())
    assert not (np.isfinite(images) & np.isfinite(atoms)).any()
    assert display.image_.get_clim() == (X[:2].min(), X[:2].max())
    labels = display.ax_.get_xticklabels()
    assert [label.get_text() for label in labels] == ["input", "1", "4"]
    assert display.ax_.get_xticks().tolist() == [3.5, 13.5, 23.5]
    assert display.ax_.get_yticks().tolist() == [12.5]


def test_reconstructions_without_atoms(mp, X):
    display = ProgressiveReconstructionDisplay.from_estimator(
        mp, X[:2], **SHAPE, show_atoms=False, cmap="gray_r"
    )
    assert display.atoms_image_ is None
    assert display.image_.get_array().shape == (17, 5 * 9 - 1)
    assert display.image_.get_cmap().name == "gray_r"
    assert display.ax_.get_xticks().tolist() == [3.5, 12.5, 21.5, 30.5, 39.5]


def test_reconstructions_in_colour(rng):
    X = rng.random((40, 12))
    est = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=1, random_state=0).fit(X)
    display = ProgressiveReconstructionDisplay.from_estimator(est, X[:1], image_shape=(2, 2, 3))
    part = tile_of(display.image_.get_array(), 0, 0, 2, 2, gap=2)
    low, high = X[0].min(), X[0].max()
    np.testing.assert_allclose(part[..., :3], (X[0].reshape(2, 2, 3) - low) / (high - low))
    assert (part[..., 3] == 1).all()
    assert not display.atoms_image_.get_array()[:2, :, 3].any()


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([0, 1], "between 1 and the number of atoms, 64, got"),
        ([65], "between 1 and the number of atoms, 64, got"),
        ([], "steps must be a list of numbers of atoms"),
        ([1.5], "steps must be a list of numbers of atoms"),
        (3, "steps must be a list of numbers of atoms"),
    ],
)
def test_steps_that_cannot_be(steps, match, mp, X):
    with pytest.raises(ValueError, match=match):
        ProgressiveReconstructionDisplay.from_estimator(mp, X[:2], **SHAPE, steps=steps)


def test_rows_of_a_data_frame_are_drawn(X):
    frame = pd.DataFrame(X[:40]).add_prefix("pixel")
    est = MPSparseAutoencoder(16, **FAST).fit(frame)
    display = ProgressiveReconstructionDisplay.from_estimator(est, frame[:2], **SHAPE)
    np.testing.assert_array_equal(display.inputs, X[:2].reshape(2, 8, 8))


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
