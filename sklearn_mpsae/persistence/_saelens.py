"""SAELens's folders: cfg.json and sae_weights.safetensors, both ways, with the same codes.

Theirs, for a row x of d_in features (sae_lens 6, `SAE.load_from_disk`)::

    matching_pursuit    r = x - b_dec; max_iterations times: i = argmax relu(W_dec r),
                        v = relu(<W_dec[i], r>), codes[i] += v, r -= v W_dec[i]; until
                        |r| < residual_threshold, if that is above 0, or, with
                        stop_on_duplicate_support, codes[i] was not 0 before
    topk                the k largest of relu((x - b_dec) W_enc + b_enc)
    abstopk             the k largest in magnitude of (x - b_dec) W_enc + b_enc
    jumprelu            those of relu((x - b_dec) W_enc + b_enc) that exceed `threshold`
    standard            relu((x - b_dec) W_enc + b_enc)

`b_dec` is subtracted with ``apply_b_dec_to_input`` only. BatchTopK and Matryoshka SAEs are
saved as jumprelu, with one threshold; the metadata say what trained them. What else a
cfg.json can ask for changes codes in ways that the estimators here do not have, and is
refused.
"""

from __future__ import annotations

import os
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from .._array_api import on_numpy
from .._files import new_folder
from ..models.coder import PursuitCoder
from ._disk import write_json, write_tensors
from ._names import coder_of

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

# What an SAE was trained as that is saved as jumprelu.
_TRAINED = {"batchtopk": "BatchTopKSAE", "matryoshka_batchtopk": "MatryoshkaSAE"}

# What must be so for the rows that come in to be those that are coded.
PLAIN = {"normalize_activations": "none", "reshape_activations": "none"}


@on_numpy
def export_saelens(estimator: Any, folder: str | os.PathLike[str]) -> Path:
    """Write a fitted estimator as a folder that SAELens reads.

    ``sae_lens.SAE.load_from_disk(folder)`` gives an SAE with the same codes: a
    "matching_pursuit" one for `MPSparseAutoencoder`, a "topk" one for `TopKSAE`, or with
    ``positive_code=False`` an "abstopk" one, a "standard" one for `ReLUSAE`, and a
    "jumprelu" one for `JumpReLUSAE`, `BatchTopKSAE` and `MatryoshkaSAE`, which SAELens saves
    so too; where `transform_n_nonzero_coefs` is set, the last two and `ReLUSAE` are "topk".
    `intercept_` is its ``b_dec``. Where codes would differ, nothing is written.

    Needs ``pip install 'sklearn_mpsae[share]'``, but not SAELens.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted.
    folder : path-like
        Must not exist; it appears when both files are in it.

    Returns
    -------
    folder : pathlib.Path
        The folder.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If SAELens has no encoder like it: a class of yours with a coder of its own; a
        pursuit that is orthogonal, has a metric, may have negative codes, or stops by `tol`
        or `threshold_`; a JumpReLU encoder that keeps a number of codes.
    FileExistsError
        Where the folder exists.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.persistence import export_saelens, import_saelens
    >>> X = np.random.default_rng(0).standard_normal((100, 8))
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, whitening=0, max_iter=2).fit(X)
    >>> folder = export_saelens(sae, os.path.join(tempfile.mkdtemp(), "saelens"))
    >>> sorted(os.listdir(folder))
    ['cfg.json', 'sae_weights.safetensors']
    >>> bool(np.allclose(import_saelens(folder).transform(X), sae.transform(X)))
    True
    """
    coder, folder = coder_of(estimator), Path(folder)
    tensors = {"W_dec": coder.components, "b_dec": coder.intercept}
    if isinstance(coder, PursuitCoder):
        own = _exported_pursuit(coder)
    else:
        own = _exported_shallow(coder)
        tensors |= {"W_enc": coder.encoder.T, "b_enc": coder.bias}
        if own["architecture"] == "jumprelu":
            tensors["threshold"] = coder.floor
    p, d = coder.components.shape
    config = (
        own
        | PLAIN
        | {
            "d_in": d,
            "d_sae": p,
            "dtype": coder.components.dtype.name,
            "device": "cpu",
            "apply_b_dec_to_input": True,
            # The format that this is; SAELens takes a config without a version for an old one.
            "metadata": {"sae_lens_version": "6.0.0", "exported_by": "sklearn_mpsae"}
            | _training(estimator),
        }
    )
    with new_folder(folder) as beside:
        write_tensors(beside / WEIGHTS, tensors, {})
        write_json(beside / CONFIG, config)
    return folder


def _exported_pursuit(coder):
    obstacles = {
        "stops rows by a threshold (sparsity='average'); set transform_n_nonzero_coefs to "
        "give each so many": coder.threshold > 0,
        "stops rows by a relative tol; set tol=0": coder.tol > 0,
        "may have negative codes (positive_code=False)": not coder.positive,
        "chooses atoms in a metric; fit with whitening=0": coder.metric is not None,
    }
    for obstacle, there in obstacles.items():
        if there:
            raise ValueError(
                f"This pursuit cannot be exported: it {obstacle}. SAELens's has codes from "
                "zero up and stops after a number of atoms, by an absolute residual (atol), "
                "or after a repeated atom (stop_on_repeat)."
            )
    return {
        "architecture": "matching_pursuit",
        "max_iterations": int(coder.k),
        "residual_threshold": _norm_above(coder.atol, coder.components.dtype.type),
        "stop_on_duplicate_support": bool(coder.stop_on_repeat),
    }


def _norm_above(atol, real):
    """The smallest number above all norms whose squares are at most atol; 0 for atol=0."""
    root = real(sqrt(atol))
    above = np.nextafter(root, real(np.inf)) if float(root) ** 2 <= atol else root
    return float(above) if atol else 0.0


def _exported_shallow(coder):
    if coder.floor is not None:
        if coder.k is not None:
            raise ValueError(
                "This encoder cannot be exported: it keeps outputs above a threshold, and of "
                "these a number; SAELens's do one or the other. Set "
                "transform_n_nonzero_coefs=None to export its threshold."
            )
        return {"architecture": "jumprelu" if coder.floor.any() else "standard"}
    return {
        "architecture": "topk" if coder.positive else "abstopk",
        "k": int(coder.k),
        "rescale_acts_by_decoder_norm": False,
    }


def _training(estimator):
    """The metadata that say what trained a jumprelu SAE."""
    for architecture, name in _TRAINED.items():
        if type(estimator).__name__ == name:
            details = {"k": float(estimator._n_trained())}
            if hasattr(estimator, "prefix_sizes"):
                p = len(estimator.components_)
                details["matryoshka_widths"] = estimator._model().prefixes(p)
            return {
                "training_architecture": architecture,
                "training_architecture_details": details,
            }
    return {}
