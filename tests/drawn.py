"""Rows, models and axes to draw, for tests of displays."""

import copy

import pytest
from matplotlib import pyplot as plt

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

FAST = {"n_nonzero_coefs": 4, "max_iter": 2, "random_state": 0}
SHAPE = {"image_shape": (8, 8)}


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(name="X", scope="module")
def rows_to_draw(digits):
    return digits[:300]


@pytest.fixture(name="mp", scope="module")
def pursuit_to_draw(X):
    return MPSparseAutoencoder(64, **FAST).fit(X)


@pytest.fixture(name="top_k", scope="module")
def shallow_to_draw(X):
    return TopKSAE(64, **FAST).fit(X)


@pytest.fixture(name="ax")
def axes_to_draw_on():
    return plt.figure().add_subplot()


def altered(estimator, **params):
    return copy.copy(estimator).set_params(**params)


def legend_of(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]
