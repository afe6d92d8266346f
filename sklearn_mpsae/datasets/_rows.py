"""From features that fire to rows of data."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils import check_random_state


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


def draw_rows(rows, features, n_samples, dictionary, *, mean, std, noise, random_state):
    """The data, and the codes they are sums by, where `features` fire in `rows`."""
    values = mean[features] + std[features] * random_state.standard_normal(len(features))
    # 32-bit indices, because much of scikit-learn takes no others.
    where = rows.astype(np.int32), features.astype(np.int32)
    shape = n_samples, len(dictionary)
    codes = csr_array((values.astype(dictionary.dtype), where), shape=shape)
    data = codes @ dictionary
    if noise:
        data += noise * random_state.standard_normal(data.shape)
    return data, codes
