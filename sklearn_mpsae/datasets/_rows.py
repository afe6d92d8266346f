"""From features that fire to rows of data."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils import Bunch, check_random_state

from .._compat import Interval

# What all generators ask of the parameters that they share.
CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "mean": [Real, "array-like"],
    "std": [Real, "array-like"],
    "noise": [Interval(Real, 0, None, closed="left")],
    "dictionary": ["array-like", None],
    "random_state": ["random_state"],
}


def float_dtype(dtype):
    """The dtype, if it is float32 or float64; else ValueError."""
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}.")
    return np.dtype(dtype)


def own_stream(random_state):
    """A RandomState that draws other numbers than the one given, which moves on.

    An estimator with the same seed as its data would else start from the true atoms: both
    begin by drawing a Gaussian matrix.
    """
    seed = check_random_state(random_state).randint(2**32, size=4, dtype=np.uint32)
    return np.random.RandomState(seed)


def per_feature(name, value, n_components, *, least=-np.inf):
    """A number for each feature, from one for all or one for each; else ValueError."""
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in {(), (n_components,)}:
        raise ValueError(
            f"{name} must be a number, or one for each of the {n_components} features; it has "
            f"shape {values.shape}."
        )
    if not (np.isfinite(values) & (values >= least)).all():
        bound = f" of at least {least:g}" if least > -np.inf else ""
        raise ValueError(f"{name} must be finite{bound}, got {value!r}.")
    return np.broadcast_to(values, n_components)


def checked_law(mean, std, n_components):
    """The mean and standard deviation of each feature's codes."""
    mean = per_feature("mean", mean, n_components)
    return mean, per_feature("std", std, n_components, least=0)


def draw_rows(where, n_samples, dictionary, law, *, noise, random_state, **truth):
    """What a generator returns: sums of the features that fire, and the truth of them.

    where : two arrays of equal length, rows and the features that fire in them
    law : of the codes, as from `checked_law`
    """
    rows, features = where
    mean, std = law
    values = mean[features] + std[features] * random_state.standard_normal(len(features))
    # 32-bit indices, because much of scikit-learn takes no others.
    where = rows.astype(np.int32), features.astype(np.int32)
    shape = n_samples, len(dictionary)
    codes = csr_array((values.astype(dictionary.dtype), where), shape=shape)
    data = codes @ dictionary
    if noise:
        data += noise * random_state.standard_normal(data.shape)
    return Bunch(data=data, dictionary=dictionary, codes=codes, **truth)
