"""A file that says where a fit is, so that an interrupted one goes on from there.

It is an .npz archive (a zip of .npy files) of arrays, and of one JSON text with the rest
and a SHA-256 of all: nothing in it can run code. It is written beside the old one and put
in its place at the end, so that there is a whole one at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .._warn import warn

_FORMAT = "sklearn_mpsae checkpoint 1"
_FACTS = "facts"


class Checkpoint:
    """The checkpoint of one fit.

    Parameters
    ----------
    path : path-like
    every : float
        Seconds between two writes.
    identity : dict
        What tells this fit from others; plain values.
    """

    def __init__(self, path, every, identity):
        self.path = Path(path)
        self.every = every
        self.identity = identity
        self._written = time.monotonic()

    def load(self) -> tuple[dict, dict[str, np.ndarray]] | None:
        """The facts and arrays that were saved last; None where there is no file.

        Raises
        ------
        ValueError
            Where the file is damaged, or of another fit.
        """
        if not self.path.exists():
            return None
        facts, arrays = read(self.path)
        check_same(self.path, facts["identity"], self.identity)
        return facts, arrays

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._written >= self.every

    def save(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Write the file anew; warn where that fails, and leave the old one as it is."""
        try:
            write(self.path, facts | {"identity": self.identity}, arrays)
        except OSError as error:
            warn(
                f"The checkpoint {self.path} could not be written ({error}). The fit goes on; "
                "the file still has what was written before, if anything.",
                RuntimeWarning,
            )
        self._written = time.monotonic()


def check_same(path, theirs: dict, ours: dict) -> None:
    """Raise a ValueError where what is asked for is not so in the checkpoint."""
    other = [name for name in ours if theirs.get(name) != ours[name]]
    if other:
        differences = ", ".join(f"{n} ({theirs.get(n)!r}, now {ours[n]!r})" for n in other)
        raise ValueError(
            f"{path} is the checkpoint of another fit, which differs in {differences}. Name "
            "another file, or delete this one to start afresh."
        )


def read(path) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts and arrays of a file.

    Raises
    ------
    ValueError
        Where it is damaged, or no checkpoint of this format.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            # Compressed ones, which `write` does not make, could be of any size.
            if all(part.compress_type == zipfile.ZIP_STORED for part in archive.zip.infolist()):
                arrays = {name: archive[name] for name in archive.files}
                facts = json.loads(arrays.pop(_FACTS).tobytes())
                if facts.pop("format") == _FORMAT and facts.pop("sha256") == _sha256(
                    facts, arrays
                ):
                    return facts, arrays
    except OSError:
        raise
    # What a damaged archive raises is not documented.
    except Exception:
        pass
    raise ValueError(
        f"{path} is no checkpoint of this version, or damaged: name another file, or delete "
        "this one to start afresh."
    )


def write(path, facts: dict, arrays: dict[str, np.ndarray]) -> None:
    """Put a new file in the place of the old one, or leave that as it is.

    Raises
    ------
    OSError
    """
    text = json.dumps({"format": _FORMAT, "sha256": _sha256(facts, arrays)} | facts)
    with replacing(path) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays, **{_FACTS: np.frombuffer(text.encode(), np.uint8)})


def _sha256(facts, arrays):
    """Of all that is in a file: an archive's own checksums do not tell edits."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path):
    """A path to write to, put in the place of `path` at the end, or gone after an error."""
    beside = path.with_name(path.name + ".new")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def pack_random_state(random_state: np.random.RandomState) -> tuple[list, np.ndarray]:
    """The state of a generator: plain values, and an array."""
    name, keys, *rest = random_state.get_state()
    return [name, *rest], keys


def unpack_random_state(values: list, keys: np.ndarray) -> np.random.RandomState:
    """A generator in that state."""
    random_state = np.random.RandomState()
    random_state.set_state((values[0], keys, *values[1:]))
    return random_state
