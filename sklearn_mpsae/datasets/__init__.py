"""Data that the examples and benchmarks learn from, real and with known features."""

from ._correlated import make_correlated_features
from ._hierarchical import make_hierarchical_features
from ._mnist import fetch_mnist
from ._patches import load_image_patches
from ._superposition import make_superposition

__all__ = [
    "fetch_mnist",
    "load_image_patches",
    "make_correlated_features",
    "make_hierarchical_features",
    "make_superposition",
]
