"""Files of JSON and of tensors, checked before anything of them is read.

The safetensors format is a length, a JSON header of that length, and the tensors' bytes:
nothing in it can run code. The safetensors package checks that the header fits the file, and
the tensors the bytes after it, before it allocates any of them.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .._files import reason, replacing
from .._optional import needed

# The safetensors package refuses longer headers; what is here as JSON is no longer either.
_MOST_JSON = 100_000_000

# Their names, and NumPy's.
DTYPES = {
    "BOOL": "bool",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
}


def write_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Put a new file in the place of the old one, or leave that as it is.

    Raises
    ------
    OSError
    """
    safetensors, files = needed("safetensors", "share"), needed("safetensors.numpy", "share")
    tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path) as beside:
        try:
            files.save_file(tensors, beside, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}") from error


@contextmanager
def open_tensors(path: Path):
    """A safetensors file, as the package opens it for NumPy.

    Raises
    ------
    ValueError
        Where it is none, or damaged.
    """
    safetensors = needed("safetensors", "share")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise damaged(path, f"no whole safetensors file ({error})") from error


def described(file) -> dict[str, dict]:
    """The shape and dtype of each tensor of an open file, by name; nothing else is read."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    return {
        name: {
            "shape": list(part.get_shape()),
            "dtype": DTYPES.get(part.get_dtype(), part.get_dtype()),
        }
        for name, part in slices.items()
    }


def parse_json(path: Path, text: str | bytes) -> dict:
    """A JSON object of a file.

    Raises
    ------
    ValueError
        Where it is none, is too long or too deep, or has numbers that are not finite.
    """

    def finite(number):
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"it has the number {number}")
        return value

    if len(text) > _MOST_JSON:
        raise damaged(path, "its JSON is too long")
    try:
        value = json.loads(text, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its JSON cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise damaged(path, "its JSON is no object")
    return value


def read_json(path: Path) -> dict:
    """The JSON object that a file is; errors as those of `parse_json`."""
    with open(path, "rb") as file:
        return parse_json(path, file.read(_MOST_JSON + 1))


def write_json(path: Path, value: dict) -> None:
    """A JSON file, for people to read too."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def damaged(path, why: str) -> ValueError:
    """What to raise for a file that is not as it was written."""
    return ValueError(
        f"{path} is damaged, was edited, or is something else: {reason(why)}. Copy or "
        "download it again from where it came from, or save it anew."
    )
