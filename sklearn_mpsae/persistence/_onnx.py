"""Fitted estimators as ONNX models. Written out node by node: no torch, no tracing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from .._array_api import on_numpy
from .._files import replacing
from .._optional import needed
from ..models.coder import PursuitCoder
from ._names import coder_of

# Operators of 2022, and the file format of that time: onnxruntime 1.14 and later read them.
_OPSET, _IR = 18, 8

# A protobuf message has at most so many bytes.
_MOST_BYTES = 2**31 - 1

# Matching pursuit, as a loop over steps; `open` says which rows go on.
_PURSUIT = """
    centred = Sub (X, intercept)
    R0 = INTO_METRIC (centred)
    energy = ReduceSumSquare <keepdims = 1> (R0, last)
    norm = Sqrt (energy)
    drowned = Mul (norm, noise)
    least = Max (drowned, threshold)
    share = Mul (energy, tol)
    enough = Max (share, atol)
    start = Expand (zero, shape)
    open_0 = START
    R, found, open = Loop (k, go, R0, start, open_0) <body = step (
        int64 t, bool go_in, real[N, d] R_in, real[N, p] codes_in, bool[N, 1] open_in
    ) => (bool go_out, real[N, d] R_out, real[N, p] codes_out, bool[N, 1] open_out) {
        correlations = MatMul (R_in, atoms_T)
        scores = SCORE (correlations)
        best, i = TopK (scores, one)
        value = GatherElements <axis = 1> (correlations, i)
        strong = Greater (best, least)
        going = And (strong, open_in)
        taken = Where (going, value, zero)
        codes_out = ScatterElements <axis = 1, reduction = "add"> (codes_in, i, taken)
        atom = GatherND (unit_atoms, i)
        part = Mul (taken, atom)
        R_out = Sub (R_in, part)
        STOPPING
        go_out = Identity (go_in)
    }>
    codes = OUT_OF_METRIC (found)
"""

# Whether a row begins, and goes on after a step.
_BEGINS, _BEGINS_OUTSIDE = "GreaterOrEqual (energy, zero)", "Greater (energy, enough)"
_ALWAYS = "open_out = Identity (going)"
_WITHIN = """
        left = ReduceSumSquare <keepdims = 1> (R_out, last)
        more = Greater (left, enough)
        open_out = And (going, more)
"""
_ONCE = """
        earlier = GatherElements <axis = 1> (codes_in, i)
        new = Equal (earlier, zero)
        fresh = And (going, new)
"""

_LINEAR = """
    centred = Sub (X, intercept)
    product = MatMul (centred, encoder_T)
    outputs = Add (product, bias)
"""

_ABOVE = """
    high = Greater (outputs, floor)
    above = Where (high, outputs, zero)
"""

_LARGEST = """
    scores = SCORE (above)
    best, i = TopK (scores, k)
    signed = GatherElements <axis = 1> (above, i)
    values = VALUE (signed)
    start = Expand (zero, shape)
    codes = ScatterElements <axis = 1> (start, i, values)
"""

_SHAPE = """
    rows = Shape <start = 0, end = 1> (X)
    shape = Concat <axis = 0> (rows, p)
"""

_DECODE = """
    sum = MatMul (codes, atoms)
    reconstruction = Add (sum, intercept)
"""


@on_numpy
def to_onnx(
    estimator: Any, path: str | os.PathLike[str], *, reconstruction: bool = False
) -> Path:
    """Write what `transform` does as an ONNX model.

    The model has the input "X" of shape (N, n_features), for any N, in the dtype of
    ``components_``, and the output "codes" of shape (N, n_components). It uses operators of
    the default domain only (opset 18), and a pursuit is a loop, so that its size does not
    grow with the number of codes.

    Needs ``pip install 'sklearn_mpsae[onnx]'``.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted, with matching pursuit or a shallow encoder.
    path : path-like
        The file, which takes the place of an older one when it is complete.
    reconstruction : bool, default=False
        Whether there is a second output, "reconstruction" of shape (N, n_features).

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it codes by orthogonal matching pursuit, is no such estimator, is of a class of
        yours with a coder of its own, or has 2 GiB of
        arrays or more, for which the format has no room.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import onnxruntime
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.persistence import to_onnx
    >>> X = np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    >>> path = to_onnx(sae, os.path.join(tempfile.mkdtemp(), "model.onnx"))
    >>> session = onnxruntime.InferenceSession(path)
    >>> (codes,) = session.run(["codes"], {"X": X})
    >>> bool(np.allclose(codes, sae.transform(X), atol=1e-5))
    True
    """
    onnx = needed("onnx", "onnx")
    coder, path = coder_of(estimator), Path(path)
    text, constants = (_pursuit if isinstance(coder, PursuitCoder) else _shallow)(coder)
    constants |= {"intercept": coder.intercept, "p": np.array([len(coder.components)])}
    outputs = f"real[N, {len(coder.components)}] codes"
    if reconstruction:
        text += _DECODE
        constants["atoms"] = coder.components
        outputs += f", real[N, {coder.components.shape[1]}] reconstruction"
    n_bytes = sum(array.nbytes for array in constants.values())
    if n_bytes >= _MOST_BYTES:
        raise ValueError(
            f"The model would have {n_bytes / 2**30:.1f} GiB, more than the 2 GiB that an "
            "ONNX file can have: use save, or to_torch_module."
        )
    model = _model(onnx, text, outputs, coder, constants)
    with replacing(path) as beside:
        onnx.save_model(model, beside)
    return path


def _pursuit(coder):
    real = coder.components.dtype.type
    text = _SHAPE + _PURSUIT.replace("SCORE", "Identity" if coder.positive else "Abs")
    within = coder.tol or coder.atol
    text = text.replace("START", _BEGINS_OUTSIDE if within else _BEGINS)
    stopping = _WITHIN if within else _ALWAYS
    if coder.stop_on_repeat:
        stopping = _ONCE + stopping.replace("going", "fresh")
    text = text.replace("STOPPING", stopping)
    if coder.metric is None:
        text = text.replace("INTO_METRIC", "Identity").replace("OUT_OF_METRIC", "Identity")
    else:
        text = text.replace("INTO_METRIC (centred)", "MatMul (centred, metric)")
        text = text.replace("OUT_OF_METRIC (found)", "Div (found, norms)")
    constants = {
        "unit_atoms": coder.atoms,
        "atoms_T": coder.atoms.T,
        "k": np.array(coder.k),
        "one": np.array([1]),
        "last": np.array([1]),
        "go": np.array(True),
        "zero": real(0),
        "noise": real(4 * np.finfo(real).eps),
        "threshold": real(coder.threshold),
        "tol": real(coder.tol),
        "atol": real(coder.atol),
    }
    if coder.metric is not None:
        constants |= {"metric": coder.metric, "norms": coder.metric_norms}
    return text, constants


def _shallow(coder):
    constants = {"encoder_T": coder.encoder.T, "bias": coder.bias}
    constants["zero"] = np.zeros((), coder.encoder.dtype)
    text, codes = _LINEAR, "outputs"
    if coder.floor is not None:
        text += _ABOVE
        constants["floor"] = coder.floor
        codes = "above"
    if coder.k is None:
        return text.replace(codes, "codes"), constants
    largest = _LARGEST.replace("SCORE", "Identity" if coder.positive else "Abs")
    largest = largest.replace("VALUE", "Relu" if coder.positive else "Identity")
    constants["k"] = np.array([coder.k])
    return _SHAPE + text + largest.replace("above", codes), constants


def _model(onnx, text, outputs, coder, constants):
    """The model of this text, with these constants; `real` stands for the dtype."""
    p, d = coder.components.shape
    graph = f"transform (real[N, {d}] X) => ({outputs}) {{ {text} }}"
    graph = graph.replace("real[N, d]", f"real[N, {d}]").replace("real[N, p]", f"real[N, {p}]")
    name = {"float32": "float", "float64": "double"}[coder.components.dtype.name]
    header = f'<ir_version: {_IR}, opset_import: ["" : {_OPSET}]>'
    model = onnx.parser.parse_model(f"{header} {graph.replace('real', name)}")
    used = set(re.findall(r"\w+", text))
    model.producer_name = "sklearn_mpsae"
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        for name, array in constants.items()
        if name in used
    )
    return model
