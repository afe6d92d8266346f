"""Weights of atoms as bars: the largest, by name, on the side of their sign."""

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from drawn import close_figures  # noqa: F401 - a fixture
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from sklearn.decomposition import DictionaryLearning
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.plotting import AtomWeightsDisplay

W = np.array([[0.1, -0.9, 0.0, 0.4], [0.5, 0.5, -0.6, 0.2]])
NAMES = ["age", "hue", "mass", "price"]


@pytest.fixture
def mp(small):
    frame = pd.DataFrame(small).add_prefix("column ")
    return MPSparseAutoencoder(8, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(frame)


def labels_of(display):
    return [label.get_text() for label in display.ax_.get_yticklabels()]


def headings_of(display):
    return [text.get_text() for text in display.ax_.texts]


def drawn(display):
    """The width and the height in the picture of each bar, of each atom."""
    return [
        [(bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in bars]
        for bars in display.bars_
    ]


def test_the_largest_come_first_by_magnitude():
    display = AtomWeightsDisplay.from_dictionary(W, feature_names=NAMES, n_features=3)
    assert display.weights.tolist() == [[-0.9, 0.4, 0.1], [-0.6, 0.5, 0.5]]
    # Equal ones in the order of the columns.
    assert display.names.tolist() == [["hue", "price", "age"], ["mass", "age", "hue"]]
    assert labels_of(display) == ["hue", "price", "age", "mass", "age", "hue"]
    assert headings_of(display) == ["Atom 0", "Atom 1"]
    assert [[width for width, _ in bars] for bars in drawn(display)] == display.weights.tolist()


def test_each_bar_is_at_the_height_of_its_name():
    display = AtomWeightsDisplay.from_dictionary(W, n_features=3)
    heights = [y for bars in drawn(display) for _, y in bars]
    np.testing.assert_allclose(heights, display.ax_.get_yticks())
    top, bottom = display.ax_.get_ylim()[::-1]
    assert top < min(heights)
    assert max(heights) < bottom
    # A heading is above its own bars and below those of the atom before.
    _, second = (text.get_position()[1] for text in display.ax_.texts)
    assert heights[2] < second < heights[3]


def test_signs_have_a_side_and_a_colour():
    display = AtomWeightsDisplay.from_dictionary(W, atoms=[0], n_features=2)
    (negative, positive) = display.bars_[0]
    assert negative.get_width() < 0 < positive.get_width()
    red, _, blue = to_rgb(negative.get_facecolor())
    assert blue > red
    red, _, blue = to_rgb(positive.get_facecolor())
    assert red > blue
    left, right = display.ax_.get_xlim()
    assert left == -right
    assert right > 0.9


def test_no_more_bars_than_features_and_all_zeros():
    display = AtomWeightsDisplay.from_dictionary(np.zeros((1, 4)))
    assert labels_of(display) == ["x0", "x1", "x2", "x3"]
    display.figure_.draw_without_rendering()


def test_names_and_atoms_of_an_estimator(mp):
    display = AtomWeightsDisplay.from_estimator(mp, n_atoms=2, n_features=4)
    used = np.argsort(-mp.atom_usage_, kind="stable")[:2]
    assert display.atoms.tolist() == used.tolist()
    for atom, weights, names in zip(used, display.weights, display.names, strict=True):
        column = {name: i for i, name in enumerate(mp.feature_names_in_)}
        assert weights.tolist() == [mp.components_[atom, column[name]] for name in names]
    chosen = AtomWeightsDisplay.from_estimator(mp, atoms=[5, 1])
    assert headings_of(chosen) == ["Atom 5", "Atom 1"]
    own = [f"my {i}" for i in range(10)]
    named = AtomWeightsDisplay.from_estimator(mp, feature_names=own, atoms=[5])
    assert set(labels_of(named)) == set(own)


def test_an_estimator_that_neither_counts_nor_has_names():
    other = DictionaryLearning(2)
    other.components_ = W
    display = AtomWeightsDisplay.from_estimator(other, n_atoms=1)
    assert headings_of(display) == ["Atom 0"]
    assert labels_of(display) == ["x1", "x3", "x0", "x2"]


def test_names_are_no_formulas():
    names = ["$ a", "b $", r"\frac", "x_1^2"]
    display = AtomWeightsDisplay.from_dictionary(W, feature_names=names)
    assert set(labels_of(display)) == set(names)
    assert not any(label.get_parse_math() for label in display.ax_.get_yticklabels())
    display.figure_.draw_without_rendering()


def test_a_pipeline_shows_its_last_step(mp):
    shown = AtomWeightsDisplay.from_estimator(Pipeline([("sae", mp)]), n_atoms=2)
    alone = AtomWeightsDisplay.from_estimator(mp, n_atoms=2)
    np.testing.assert_array_equal(shown.weights, alone.weights)


def test_a_pipeline_without_frames_has_names_too(small):
    frame = pd.DataFrame(small).add_prefix("column ")
    sae = MPSparseAutoencoder(8, n_nonzero_coefs=2, max_iter=2, random_state=0)
    pipe = make_pipeline(StandardScaler(), make_pipeline(SelectKBest(k=9), sae))
    pipe.fit(frame, np.arange(60) % 2)
    assert not hasattr(sae, "feature_names_in_")
    kept = pipe[1][0].get_support()
    shown = AtomWeightsDisplay.from_estimator(pipe, atoms=[0])
    assert set(labels_of(shown)) == set(frame.columns[kept])


def test_a_pipeline_with_a_step_that_knows_no_names(small):
    pipe = make_pipeline(FunctionTransformer(), MPSparseAutoencoder(8, max_iter=2)).fit(small)
    assert "x9" in labels_of(AtomWeightsDisplay.from_estimator(pipe))


def test_options_of_the_bars_win(mp):
    display = AtomWeightsDisplay.from_estimator(mp, color="green", height=0.3)
    bar = display.bars_[0][0]
    assert to_rgb(bar.get_facecolor()) == to_rgb("green")
    assert bar.get_height() == pytest.approx(0.3)


@pytest.mark.parametrize("names", [pd.Index(NAMES), np.array(NAMES), pd.Series(NAMES), NAMES])
def test_names_of_every_kind(names):
    display = AtomWeightsDisplay.from_dictionary(W, feature_names=names, atoms=[1])
    assert display.names.tolist() == [["mass", "age", "hue", "price"]]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"feature_names": NAMES[:3]}, ValueError, "are 3 feature_names for 4 features"),
        ({"feature_names": "abcd"}, TypeError, "must be a sequence of text, got 'abcd'"),
        ({"feature_names": [0, 1, 2, 3]}, TypeError, "must be a sequence of text"),
        ({"atoms": [2]}, ValueError, "atoms names atom 2, but the dictionary has 2: 0 to 1"),
        ({"n_features": 0}, ValueError, "n_features must be an integer of at least 1"),
        ({"n_atoms": 2.5}, ValueError, "n_atoms must be an integer of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, match):
    open_before = plt.get_fignums()  # other tests may have left some
    with pytest.raises(error, match=match):
        AtomWeightsDisplay.from_dictionary(W, **options)
    assert plt.get_fignums() == open_before
