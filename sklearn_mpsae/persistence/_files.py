"""Fitted estimators in files of JSON and safetensors: no pickle, nothing that runs code.

Format 1. A model is a JSON object, the config, and a safetensors file. In a folder these are
config.json and model.safetensors; in a single file the config is the text under
"sklearn_mpsae" in the metadata of the safetensors file. The config has

    format, format_version, package_version
        "sklearn_mpsae model", 1, and what wrote it.
    estimator, parameters, fitted, feature_names, output, training
        See `_state.py`. Arrays among them are tensors: "components_" and its like for
        fitted ones, "parameters/..." and "training/..." for others.
    tensors
        For each tensor its shape, dtype and the SHA-256 of its bytes.
    sha256
        Of the config without this entry, as JSON with sorted keys and no spaces.

Checksums tell damage and hand edits; they do not tell who wrote a file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .._array_api import on_numpy
from .._files import new_folder, reason
from .._version import __version__
from ._disk import (
    damaged,
    described,
    open_tensors,
    parse_json,
    read_json,
    write_json,
    write_tensors,
)
from ._saelens import WEIGHTS as _OF_SAELENS
from ._state import check_layout, packed, unpacked

CONFIG, WEIGHTS = "config.json", "model.safetensors"

_FORMAT, _VERSION = "sklearn_mpsae model", 1
_KEYS = {
    *("format", "format_version", "package_version"),
    *("estimator", "parameters", "fitted", "feature_names", "output", "training"),
    *("tensors", "sha256"),
}


@on_numpy
def save(estimator: Any, path: str | os.PathLike[str]) -> Path:
    """Save a fitted estimator as JSON and safetensors, without pickle.

    All of it is kept: parameters, fitted attributes, names of features, and what a training
    goes on with, so that `partial_fit` of the loaded estimator gives the same bits as that
    of the saved one. Two things are left out: the parameter `checkpoint`, a file of this
    machine, and callbacks.

    Needs ``pip install 'sklearn_mpsae[share]'``.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted. A class derived from one is refused, as `load` would not know it.
    path : path-like
        A name that ends in ".safetensors" for a single file, which takes the place of an
        older one when it is complete. Any other is a folder with a config.json, to be read
        by people, and a model.safetensors; it must not exist yet, and appears when both
        are in it.

    Returns
    -------
    path : pathlib.Path
        The file or folder.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it has what a file has no place for, values that are not finite, or parameters
        that were changed after `fit` and do not match its arrays.
    FileExistsError
        Where the folder exists.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.persistence import load, save
    >>> X = np.random.default_rng(0).standard_normal((100, 8))
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    >>> folder = save(sae, os.path.join(tempfile.mkdtemp(), "model"))
    >>> sorted(os.listdir(folder))
    ['config.json', 'model.safetensors']
    >>> bool((load(folder).transform(X) == sae.transform(X)).all())
    True
    """
    path = Path(path)
    facts, tensors = packed(estimator)
    tensors = {name: _native(array) for name, array in tensors.items()}
    listed = {
        name: {"shape": list(array.shape), "dtype": array.dtype.name}
        for name, array in tensors.items()
    }
    _check_saveable(facts, tensors, listed)
    for name, array in tensors.items():
        listed[name]["sha256"] = _sha256(array)
    config = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "package_version": __version__,
        **facts,
        "tensors": listed,
    }
    config["sha256"] = _sha256(_canonical(config))
    if path.suffix == ".safetensors":
        write_tensors(path, tensors, {"sklearn_mpsae": json.dumps(config)})
    else:
        with new_folder(path) as folder:
            write_tensors(folder / WEIGHTS, tensors, {})
            write_json(folder / CONFIG, config)
    return path


def load(path: str | os.PathLike[str]) -> Any:
    """Load an estimator that `save` has written.

    Nothing in a file can run code, and torch is not imported. Whatever the format does not
    know is refused, before memory is taken for it; every tensor is checked against its
    checksum. A model that computes on a device which this machine lacks is loaded as it is:
    set ``device="auto"`` afterwards.

    Needs ``pip install 'sklearn_mpsae[share]'``.

    Parameters
    ----------
    path : path-like
        The file or folder.

    Returns
    -------
    estimator : estimator of this package
        As it was saved.

    Raises
    ------
    FileNotFoundError
        Where there is no such file, or the folder lacks one of its two.
    ValueError
        Where a file is truncated, was edited, has a newer format, is of a class this
        version does not know, or has tensors that do not match its parameters; or the folder
        is one of SAELens.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from sklearn_mpsae import TopKSAE
    >>> from sklearn_mpsae.persistence import load, save
    >>> X = np.random.default_rng(0).standard_normal((100, 8))
    >>> sae = TopKSAE(16, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    >>> file = save(sae, os.path.join(tempfile.mkdtemp(), "model.safetensors"))
    >>> load(file).partial_fit(X).n_steps_ == sae.n_steps_ + 1
    True
    """
    path = Path(path)
    weights = path / WEIGHTS if path.is_dir() else path
    if path.is_dir() and not weights.exists() and (path / _OF_SAELENS).exists():
        raise ValueError(
            f"{path} is a folder of SAELens: import_saelens({str(path)!r}) loads it."
        )
    with open_tensors(weights) as file:
        if path.is_dir():
            config = read_json(path / CONFIG)
        else:
            text = (file.metadata() or {}).get("sklearn_mpsae")
            if text is None:
                raise damaged(path, "it is not a model that `save` has written")
            config = parse_json(path, text)
        _check_config(path, config)
        listed = config["tensors"]
        try:
            check_layout(config, listed)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _not_understood(path, config, error) from error
        found = described(file)
        if found != {name: _layout(facts) for name, facts in listed.items()}:
            raise damaged(weights, "its tensors are not those that its config lists")
        tensors = {name: file.get_tensor(name) for name in listed}
    for name, array in tensors.items():
        if _sha256(array) != listed[name].get("sha256"):
            raise damaged(weights, f"the checksum of {name} does not match")
    try:
        _check_finite(tensors)
        return unpacked(config, tensors)
    except (ValueError, TypeError) as error:
        raise _not_understood(path, config, error) from error


def _check_saveable(facts, tensors, listed):
    """That `load` will take what is to be written."""
    try:
        check_layout(facts, listed)
        _check_finite(tensors)
        unpacked(facts, tensors)
    except ValueError as error:
        raise ValueError(
            f"This {facts['estimator']} cannot be saved: {reason(error)}. Set back parameters "
            "that were changed since the last fit, or fit again."
        ) from error


def _check_config(path, config):
    """That a config is of this format, and as it was written."""
    if config.get("format") != _FORMAT:
        raise damaged(path, "it is not a model that `save` has written")
    version = config.get("format_version")
    if isinstance(version, int) and version > _VERSION:
        raise ValueError(
            f"{path} has format {version}, written by sklearn_mpsae "
            f"{config.get('package_version')}, and this version ({__version__}) reads "
            f"format {_VERSION}: upgrade sklearn_mpsae."
        )
    signed = {key: value for key, value in config.items() if key != "sha256"}
    if _sha256(_canonical(signed)) != config.get("sha256"):
        raise damaged(path, "the checksum of its config does not match")
    if version != _VERSION or set(config) != _KEYS or not _is_listing(config["tensors"]):
        raise damaged(path, "its config does not have the entries of format 1")


def _is_listing(tensors):
    return isinstance(tensors, dict) and all(isinstance(x, dict) for x in tensors.values())


def _check_finite(tensors):
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")


def _not_understood(path, config, why):
    """What to raise for a file that is as it was written, but not by this version."""
    return ValueError(
        f"{path} cannot be loaded: {reason(why)}. It was written by sklearn_mpsae "
        f"{config['package_version']}, and this is {__version__}: if that is newer, "
        "upgrade; else have it saved anew."
    )


def _native(array):
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _layout(facts):
    return {"shape": facts.get("shape"), "dtype": facts.get("dtype")}


def _canonical(config):
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sha256(data):
    return hashlib.sha256(data).hexdigest()
