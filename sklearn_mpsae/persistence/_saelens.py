"""SAELens's folders: cfg.json and sae_weights.safetensors, both ways, with the same codes.

Theirs, for a row x of d_in features (sae_lens 6, `SAE.load_from_disk`)::

    matching_pursuit    r = x - b_dec; max_iterations times: i = argmax relu(W_dec r),
                        v = relu(<W_dec[i], r>), codes[i] += v, r -= v W_dec[i]
    topk                the k largest of relu((x - b_dec) W_enc + b_enc)
    abstopk             the k largest in magnitude of (x - b_dec) W_enc + b_enc

`b_dec` is subtracted with ``apply_b_dec_to_input`` only. What else a cfg.json can ask for
changes codes in ways that the estimators here do not have, and is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .._arrays import on_numpy
from .._files import new_folder
from .._mp import MPSparseAutoencoder
from .._topk import TopKSAE
from ._disk import (
    damaged,
    described,
    open_tensors,
    read_json,
    write_json,
    write_tensors,
)
from ._rules import Pursuit, rule_of
from ._state import is_number, without_training

_CONFIG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"

# What is particular to an architecture, and what it is where a cfg.json does not say.
_CENTRING = {"apply_b_dec_to_input": True}
_STOPPING = _CENTRING | {
    "residual_threshold": 1e-2,
    "max_iterations": None,
    "stop_on_duplicate_support": True,
}
_CHOOSING = _CENTRING | {"k": 100, "rescale_acts_by_decoder_norm": False}
_WHOLE = {"k", "max_iterations"}
_OWN = {"matching_pursuit": _STOPPING, "topk": _CHOOSING, "abstopk": _CHOOSING}

# What must be so for the rows that come in to be those that are coded.
_PLAIN = {"normalize_activations": "none", "reshape_activations": "none"}

# What does not change codes: where it is, where it is from, how it was trained.
_NO_MATTER = {
    *("device", "metadata", "decoder_init_norm"),
    *("use_sparse_activations", "aux_loss_coefficient"),
}


@on_numpy
def export_saelens(estimator: Any, folder: str | os.PathLike[str]) -> Path:
    """Write a fitted estimator as a folder that SAELens reads.

    ``sae_lens.SAE.load_from_disk(folder)`` gives an SAE with the same codes: a
    "matching_pursuit" one for `MPSparseAutoencoder`, a "topk" one for `TopKSAE`, or with
    ``positive_code=False`` an "abstopk" one. `intercept_` is its ``b_dec``. Where codes
    would differ, nothing is written.

    Needs ``pip install "sklearn_mpsae[share]"``, but not SAELens.

    Parameters
    ----------
    estimator : MPSparseAutoencoder or TopKSAE
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
        If SAELens has no encoder like it: another class; a pursuit that is orthogonal, may
        have negative codes, or stops by `tol` or `threshold_`.
    FileExistsError
        Where the folder exists.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.persistence import export_saelens, import_saelens
    >>> X = np.random.default_rng(0).standard_normal((100, 8))
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    >>> folder = export_saelens(sae, os.path.join(tempfile.mkdtemp(), "saelens"))
    >>> sorted(os.listdir(folder))
    ['cfg.json', 'sae_weights.safetensors']
    >>> bool(np.allclose(import_saelens(folder).transform(X), sae.transform(X)))
    True
    """
    rule, folder = rule_of(estimator), Path(folder)
    tensors = {"W_dec": rule.atoms, "b_dec": rule.intercept}
    if isinstance(rule, Pursuit):
        own = _exported_pursuit(rule)
    else:
        own = _exported_top_k(rule, type(estimator).__name__)
        tensors |= {"W_enc": rule.encoder.T, "b_enc": rule.bias}
    p, d = rule.atoms.shape
    config = (
        own
        | _PLAIN
        | {
            "d_in": d,
            "d_sae": p,
            "dtype": rule.atoms.dtype.name,
            "device": "cpu",
            "apply_b_dec_to_input": True,
            # The format that this is; SAELens takes a config without a version for an old one.
            "metadata": {"sae_lens_version": "6.0.0", "exported_by": "sklearn_mpsae"},
        }
    )
    with new_folder(folder) as beside:
        write_tensors(beside / _WEIGHTS, tensors, {})
        write_json(beside / _CONFIG, config)
    return folder


def _exported_pursuit(rule):
    obstacles = {
        "stops rows by a threshold (sparsity='average'); set transform_n_nonzero_coefs to "
        "give each so many": rule.threshold > 0,
        "stops rows by a relative tol; set tol=0": rule.tol > 0,
        "may have negative codes (positive_code=False)": not rule.positive,
    }
    for obstacle, there in obstacles.items():
        if there:
            raise ValueError(
                f"This pursuit cannot be exported: it {obstacle}. SAELens's has codes from "
                "zero up and stops after a number of atoms, or by an absolute residual."
            )
    return {
        "architecture": "matching_pursuit",
        "max_iterations": int(rule.k),
        "residual_threshold": 0.0,
        "stop_on_duplicate_support": False,
    }


def _exported_top_k(rule, name):
    if rule.k is None or rule.floor is not None:
        raise ValueError(
            f"This {name} cannot be exported: it keeps outputs above a threshold, and only "
            "matching pursuits and encoders that keep the k largest of each row are."
        )
    return {
        "architecture": "topk" if rule.positive else "abstopk",
        "k": int(rule.k),
        "rescale_acts_by_decoder_norm": False,
    }


def import_saelens(folder: str | os.PathLike[str], *, ignore_stopping: bool = False) -> Any:
    """Load an SAE that SAELens has saved, as an estimator with the same codes.

    Its "matching_pursuit" becomes an `MPSparseAutoencoder`, "topk" and "abstopk" a `TopKSAE`.
    Where codes would differ, it is refused. Atoms have the norms they have there, which
    codes depend on; only with ``rescale_acts_by_decoder_norm`` they become unit ones.

    There is no optimizer to go on with: ``set_params(warm_start=True).fit(X)`` learns on from
    the atoms, and `partial_fit` says so.

    Needs ``pip install "sklearn_mpsae[share]"``, but not SAELens.

    Parameters
    ----------
    folder : path-like
        A folder that ``save_model`` or ``save_inference_model`` of SAELens 6 wrote, with
        weights of float32 or float64 (or float16 weights for one of these).
    ignore_stopping : bool, default=False
        SAELens's pursuit can stop where its residual falls below an absolute
        ``residual_threshold``, or where it takes an atom again
        (``stop_on_duplicate_support``); both are its default, and no estimator here does so.
        False to refuse that. True to leave it out: rows then have up to
        ``max_iterations`` codes (None there: as many as features), more than there.

    Returns
    -------
    estimator : MPSparseAutoencoder or TopKSAE
        Fitted.

    Raises
    ------
    FileNotFoundError
        Where the folder lacks one of its two files.
    ValueError
        Where a file is damaged, or the SAE codes as no estimator here does.

    Examples
    --------
    >>> from sklearn_mpsae.persistence import import_saelens
    >>> sae = import_saelens("folder_of_saelens")  # doctest: +SKIP
    """
    folder = Path(folder)
    config = read_json(folder / _CONFIG)
    try:
        architecture, p, d, dtype = _checked(config)
        own = _own(config, _OWN[architecture])
        pursuit = architecture == "matching_pursuit"
        k = _steps(own, p, d, ignore_stopping) if pursuit else own["k"]
        if not 0 < k <= p:
            raise ValueError(f"it has {k} codes per row of {p} atoms")
    except ValueError as error:
        raise ValueError(f"{folder} cannot be imported: {error}.") from error
    shapes = {"W_dec": [p, d], "b_dec": [d]}
    if not pursuit:
        shapes |= {"W_enc": [d, p], "b_enc": [p]}
    weights = _weights(folder / _WEIGHTS, shapes, dtype)
    centred = own["apply_b_dec_to_input"]
    if pursuit:
        return _imported_pursuit(weights, k, centred)
    return _imported_top_k(
        weights, k, centred, own["rescale_acts_by_decoder_norm"], architecture == "topk"
    )


def _checked(config):
    """Its architecture, atoms, features and dtype, if it is one that can be imported."""
    architecture = config.get("architecture")
    if architecture not in _OWN:
        raise ValueError(
            f"its architecture is {architecture!r}; those known here are {', '.join(_OWN)}"
        )
    known = {"architecture", "d_in", "d_sae", "dtype"}
    unknown = set(config) - known - set(_PLAIN) - _NO_MATTER - set(_OWN[architecture])
    if unknown:
        raise ValueError(
            f"its cfg.json has {', '.join(sorted(unknown))}, which may change its codes and is "
            "not known here; one of SAELens before 6 can be loaded there and saved again"
        )
    for key, plain in _PLAIN.items():
        if config.get(key, plain) != plain:
            raise ValueError(
                f"it has {key}={config[key]!r}; apply that to the rows, or fold it into the "
                f"weights in SAELens, and save it with {plain!r}"
            )
    sizes = config.get("d_sae"), config.get("d_in")
    if not all(is_number(size, whole=True) and size > 0 for size in sizes):
        raise ValueError(f"its (d_sae, d_in) are {sizes}")
    dtype = str(config.get("dtype", "float32")).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"it computes in {dtype}; load it in SAELens as float32 and save it")
    return architecture, *sizes, dtype


def _own(config, usual):
    """What is particular to its architecture, by name; what it does not say is as usual."""
    own = usual | {key: config[key] for key in usual if key in config}
    for key, value in own.items():
        if isinstance(usual[key], bool):
            ok = isinstance(value, bool)
        else:
            ok = is_number(value, whole=key in _WHOLE) or value is usual[key] is None
        if not ok:
            raise ValueError(f"its {key} is {value!r}")
    return own


def _steps(own, p, d, ignore_stopping):
    """The steps of its pursuit, where these are all that ends it."""
    steps = d if own["max_iterations"] is None else own["max_iterations"]
    stops = {
        "residual_threshold": own["residual_threshold"] > 0,
        "stop_on_duplicate_support": own["stop_on_duplicate_support"],
    }
    stopping = ", ".join(f"{key}={own[key]!r}" for key, acts in stops.items() if acts)
    if steps > p:
        stopping = f"max_iterations={steps} for {p} atoms" + (stopping and f", {stopping}")
    if stopping and not ignore_stopping:
        raise ValueError(
            f"its pursuit stops by {stopping}, which no estimator here does, so that codes "
            "would differ; pass ignore_stopping=True to take its atoms without"
        )
    return min(steps, p)


def _weights(path, shapes, dtype):
    """The tensors of these shapes, and no others."""
    with open_tensors(path) as file:
        found = described(file)
        layout = {name: facts["shape"] for name, facts in found.items()}
        if layout != shapes:
            raise damaged(path, f"its tensors have shapes {layout}, not {shapes}")
        kinds = {facts["dtype"] for facts in found.values()}
        if kinds - {"float16", "float32", "float64"}:
            raise ValueError(
                f"{path} has tensors of {', '.join(sorted(kinds))}: load it in SAELens as "
                "float32 and save it."
            )
        weights = {name: file.get_tensor(name).astype(dtype) for name in shapes}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise damaged(path, f"{name} holds values that are not finite")
    return weights


def _imported_pursuit(weights, k, centred):
    atoms, b_dec = weights["W_dec"], weights["b_dec"]
    estimator = MPSparseAutoencoder(len(atoms), n_nonzero_coefs=k, center=centred)
    # It is decoded without b_dec too, where that is not subtracted.
    intercept = b_dec if centred else np.zeros_like(b_dec)
    return _fitted(estimator, atoms, intercept, threshold_=0.0)


def _imported_top_k(weights, k, centred, rescale, positive):
    atoms, b_dec = weights["W_dec"], weights["b_dec"]
    encoder, bias = np.ascontiguousarray(weights["W_enc"].T), weights["b_enc"]
    if not centred:
        # Outputs of x itself, from those of x - b_dec.
        bias = bias + encoder @ b_dec
    if rescale:
        norms = np.linalg.norm(atoms, axis=1)
        encoder, bias = encoder * norms[:, None], bias * norms
        atoms = atoms / np.where(norms > 0, norms, 1)[:, None]
    estimator = TopKSAE(len(atoms), n_nonzero_coefs=k, positive_code=positive)
    return _fitted(
        estimator, atoms, b_dec, encoder_components_=encoder, encoder_intercept_=bias
    )


def _fitted(estimator, atoms, intercept, **attributes):
    vars(estimator).update(
        attributes,
        components_=atoms,
        intercept_=intercept,
        n_features_in_=atoms.shape[1],
        atom_usage_=np.zeros(len(atoms), np.int64),
        n_steps_=0,
        n_samples_seen_=0,
    )
    return without_training(estimator)
