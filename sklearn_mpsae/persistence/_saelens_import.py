"""SAEs that SAELens has saved, as estimators; see _saelens.py for the formats."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..estimators._mp import MPSparseAutoencoder
from ..estimators._threshold import JumpReLUSAE, ReLUSAE
from ..estimators._topk import BatchTopKSAE, MatryoshkaSAE, TopKSAE
from ..learning.state import Learnt
from ._disk import damaged, described, open_tensors, read_json
from ._files import WEIGHTS as _OURS
from ._saelens import CONFIG, PLAIN, WEIGHTS
from ._state import is_number

# What is particular to an architecture, and what it is where a cfg.json does not say.
_CENTRING = {"apply_b_dec_to_input": True}
_STOPPING = _CENTRING | {
    "residual_threshold": 1e-2,
    "max_iterations": None,
    "stop_on_duplicate_support": True,
}
_CHOOSING = _CENTRING | {"k": 100, "rescale_acts_by_decoder_norm": False}
_WHOLE = {"k", "max_iterations"}
_OWN = {
    "matching_pursuit": _STOPPING,
    "topk": _CHOOSING,
    "abstopk": _CHOOSING,
    "jumprelu": _CENTRING,
    "standard": _CENTRING,
}

# What does not change codes: where it is, where it is from, how it was trained.
_NO_MATTER = {
    *("device", "metadata", "decoder_init_norm"),
    *("use_sparse_activations", "aux_loss_coefficient"),
    *("l1_coefficient", "lp_norm", "l1_warm_up_steps", "l0_coefficient", "l0_warm_up_steps"),
    *("jumprelu_init_threshold", "jumprelu_bandwidth", "jumprelu_sparsity_loss_mode"),
    *("jumprelu_tanh_scale", "jumprelu_ste_to_input", "pre_act_loss_coefficient"),
    "target_l0",
}


def import_saelens(folder: str | os.PathLike[str]) -> Any:
    """Load an SAE that SAELens has saved, as an estimator with the same codes.

    Its "matching_pursuit" becomes an `MPSparseAutoencoder`, "topk" and "abstopk" a `TopKSAE`,
    "standard" a `ReLUSAE` and "jumprelu" a `JumpReLUSAE`; or, where its metadata say that
    it was trained so and it has one threshold, a `BatchTopKSAE` or a `MatryoshkaSAE`.
    Where codes would differ, it is refused; but a row whose norm is below the
    ``residual_threshold`` of a matching pursuit has no codes here, and one there.

    Atoms of a matching pursuit, "topk" and "abstopk" have the norms they have there, which
    codes depend on. With ``rescale_acts_by_decoder_norm``, and for "jumprelu" and "standard",
    they become unit ones: a code is then multiplied by the norm that its atom had, and so
    are weights, biases and thresholds.

    There is no optimizer to go on with: ``set_params(warm_start=True).fit(X)`` learns on from
    the atoms, and `partial_fit` goes on after that. Where no file says how many codes rows
    had on average, `n_nonzero_coefs` is None: set it before. The `penalty_` of a `ReLUSAE` is
    0, since SAELens does not save it.

    Needs ``pip install 'sklearn_mpsae[share]'``, but not SAELens.

    Parameters
    ----------
    folder : path-like
        A folder that ``save_model`` or ``save_inference_model`` of SAELens 6 wrote, with
        weights of float32 or float64 (or float16 weights for one of these).

    Returns
    -------
    estimator : estimator of this package
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
    if folder.is_file() or ((folder / _OURS).exists() and not (folder / CONFIG).exists()):
        raise ValueError(
            f"{folder} is no folder of SAELens: load({str(folder)!r}) takes what `save` has "
            "written, and import_saelens a folder with cfg.json and sae_weights.safetensors."
        )
    config = read_json(folder / CONFIG)
    try:
        architecture, p, d, dtype = _checked(config)
        own = _own(config, _OWN[architecture])
        if "k" in own and not 0 < own["k"] <= p:
            raise ValueError(f"it has {own['k']} codes per row of {p} atoms")
        if architecture == "matching_pursuit":
            own["max_iterations"] = _steps(own["max_iterations"], p, d)
    except ValueError as error:
        raise ValueError(f"{folder} cannot be imported: {error}.") from error
    shapes = {"W_dec": [p, d], "b_dec": [d]}
    if architecture != "matching_pursuit":
        shapes |= {"W_enc": [d, p], "b_enc": [p]}
    if architecture == "jumprelu":
        shapes["threshold"] = [p]
    weights = _weights(folder / WEIGHTS, shapes, dtype)
    if architecture == "matching_pursuit":
        return _imported_pursuit(weights, own)
    with np.errstate(over="ignore", invalid="ignore"):
        if architecture in ("topk", "abstopk"):
            estimator = _imported_top_k(weights, own, architecture == "topk")
        else:
            centred, metadata = own["apply_b_dec_to_input"], config.get("metadata")
            estimator = _imported_threshold(weights, centred, metadata)
    numbers = estimator._learnt.attributes.values()
    if not all(np.isfinite(each).all() for each in numbers):
        raise ValueError(
            f"{folder} cannot be imported: its encoder, times the norms of its atoms, has "
            f"numbers beyond {dtype}. Write 'float64' as the dtype in its cfg.json."
        )
    return estimator


def _checked(config):
    """Its architecture, atoms, features and dtype, if it is one that can be imported."""
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or architecture not in _OWN:
        raise ValueError(
            f"its architecture is {architecture!r}; those known here are {', '.join(_OWN)}; "
            "batchtopk and matryoshka_batchtopk are, once save_inference_model has written them"
        )
    known = {"architecture", "d_in", "d_sae", "dtype"}
    unknown = set(config) - known - set(PLAIN) - _NO_MATTER - set(_OWN[architecture])
    if unknown:
        raise ValueError(
            f"its cfg.json has {', '.join(sorted(unknown))}, which may change its codes and is "
            "not known here; one of SAELens before 6 can be loaded there and saved again"
        )
    for key, plain in PLAIN.items():
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
            ok = is_number(value, whole=key in _WHOLE) and abs(value) <= sys.float_info.max
            ok = ok or value is usual[key] is None
        if not ok:
            raise ValueError(f"its {key} is {value!r}")
    return own


def _steps(steps, p, d):
    """How many atoms its pursuit may take."""
    steps = d if steps is None else steps
    if not 0 < steps <= p:
        raise ValueError(
            f"its pursuit takes up to {steps} atoms of {p}, which no estimator here does; "
            f"write a max_iterations from 1 to {p} in its cfg.json to take it with that"
        )
    return steps


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


def _imported_pursuit(weights, own):
    atoms, b_dec = weights["W_dec"], weights["b_dec"]
    centred = own["apply_b_dec_to_input"]
    estimator = MPSparseAutoencoder(
        len(atoms),
        n_nonzero_coefs=own["max_iterations"],
        atol=_square_below(own["residual_threshold"], atoms.dtype.type),
        stop_on_repeat=own["stop_on_duplicate_support"],
        whitening=0.0,
        intercept="learn" if centred else "zero",
    )
    # It is decoded without b_dec too, where that is not subtracted.
    intercept = b_dec if centred else np.zeros_like(b_dec)
    return _fitted(estimator, atoms, intercept, threshold_=0.0)


def _imported_top_k(weights, own, positive):
    norms = _norms(weights["W_dec"]) if own["rescale_acts_by_decoder_norm"] else None
    atoms, encoder, bias = _encoder(weights, own["apply_b_dec_to_input"], norms)
    estimator = TopKSAE(len(atoms), n_nonzero_coefs=own["k"], positive_code=positive)
    return _fitted(estimator, atoms, weights["b_dec"], **encoder, **bias)


def _imported_threshold(weights, centred, metadata):
    norms = _norms(weights["W_dec"])
    atoms, encoder, bias = _encoder(weights, centred, norms)
    learnt = encoder | bias
    if "threshold" not in weights:
        estimator, own = ReLUSAE(len(atoms)), {"penalty_": 0.0}
        own |= {"_trained_intercept": learnt["encoder_intercept_"]}
        return _fitted(estimator, atoms, weights["b_dec"], **learnt, **own)
    threshold = weights["threshold"] * norms
    estimator = _trained(metadata, len(atoms))
    if estimator is not None and np.ptp(threshold) == 0:
        own = {"threshold_": float(threshold[0])}
    else:
        k = None if estimator is None else estimator.n_nonzero_coefs
        estimator = JumpReLUSAE(len(atoms), n_nonzero_coefs=k)
        own = {"threshold_": threshold, "_log_threshold": _logs(threshold)[:, None]}
    return _fitted(estimator, atoms, weights["b_dec"], **learnt, **own)


def _norms(atoms):
    """The norms of atoms; exactly 1 where they are that but for rounding."""
    norms = np.linalg.norm(atoms, axis=1)
    norms[abs(norms - 1) < 8 * np.finfo(atoms.dtype).eps] = 1
    return norms


def _encoder(weights, centred, norms):
    """Atoms, weights and bias of an encoder; in units of unit atoms, where norms are given."""
    atoms, b_dec = weights["W_dec"], weights["b_dec"]
    encoder, bias = np.ascontiguousarray(weights["W_enc"].T), weights["b_enc"]
    if not centred:
        # Outputs of x itself, from those of x - b_dec.
        bias = bias + encoder @ b_dec
    if norms is not None:
        encoder, bias = encoder * norms[:, None], bias * norms
        atoms = atoms / np.where(norms > 0, norms, 1)[:, None]
    return atoms, {"encoder_components_": encoder}, {"encoder_intercept_": bias}


def _trained(metadata, p):
    """An estimator of the class that trained an SAE, if that is known."""
    metadata = metadata if isinstance(metadata, dict) else {}
    details = metadata.get("training_architecture_details")
    details = details if isinstance(details, dict) else {}
    k, widths = details.get("k"), details.get("matryoshka_widths")
    k = k if is_number(k) and 0 < k <= sys.float_info.max else None
    match metadata.get("training_architecture"):
        case "batchtopk":
            return BatchTopKSAE(p, n_nonzero_coefs=k)
        case "matryoshka_batchtopk":
            known = isinstance(widths, list) and widths
            known = known and all(is_number(w, whole=True) and 0 < w <= p for w in widths)
            return MatryoshkaSAE(p, n_nonzero_coefs=k, prefix_sizes=widths if known else None)
    return None


def _logs(threshold):
    """The logarithms of thresholds around their mean, where learning goes on from.

    One that is not positive has none, and takes the smallest.
    """
    positive = threshold > 0
    if not positive.any():
        return np.zeros_like(threshold)
    logs = np.log(np.where(positive, threshold, threshold[positive].min()))
    return logs - logs.mean()


def _fitted(estimator, atoms, intercept, **attributes):
    estimator.n_features_in_ = atoms.shape[1]
    estimator._learnt = Learnt(
        attributes
        | {
            "components_": atoms,
            "intercept_": intercept,
            "atom_usage_": np.zeros(len(atoms), np.int64),
            "n_steps_": 0,
            "n_samples_seen_": 0,
        }
    )
    return estimator


def _square_below(norm, real):
    """The inverse: no square of a norm below `norm` is larger; 0 where that is not positive."""
    with np.errstate(over="ignore"):
        square = np.square(np.float64(real(norm)))
    return float(np.nextafter(square, 0)) if norm > 0 else 0.0
