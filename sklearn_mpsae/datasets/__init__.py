"""Data that the examples and benchmarks learn from."""

from ._mnist import fetch_mnist

__all__ = ["fetch_mnist"]
