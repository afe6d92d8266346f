"""What a fit has to agree on with its checkpoint, and with the other ranks."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import joblib
import numpy as np

# Parameters that change nothing of what `fit` learns.
_NOT_TRAINED_WITH = {
    *("checkpoint", "checkpoint_every", "verbose", "device"),
    *("sparse_output", "transform_n_nonzero_coefs"),
}


def identity_of(name: str, parameters: dict[str, Any], version: str) -> dict[str, Any]:
    """The class, the version and the parameters of a fit, as plain values."""
    names = set(parameters) - _NOT_TRAINED_WITH
    # A generator changes as it is used; the checkpoint has its state.
    if not isinstance(parameters["random_state"], Integral):
        names.remove("random_state")
    plain = {name: _plain(parameters[name]) for name in sorted(names)}
    return {"estimator": name, "version": version} | plain


def _plain(value):
    """A parameter as a value that JSON has; equal parameters have equal ones."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Real):
        return float(value)
    return joblib.hash(np.ascontiguousarray(value))
