"""A file that says where a fit is, so that an interrupted one goes on from there.

It is an .npz archive (a zip of .npy files) of arrays, and of one JSON text with the rest
and a SHA-256 of all: nothing in it can run code. It is written beside the old one and put
in its place at the end, so that there is a whole one at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .._files import check_writable, reason, remove_scratch, replacing
from .._warn import warn
from ..coding.kernels.loops import checksum_rows

_KIND = "sklearn_mpsae checkpoint"
_FORMAT = f"{_KIND} 4"
_FACTS = "facts"

# Rows are copied so many bytes at a time, which stay in a processor's cache.
_COPIED_BYTES = 1 << 19

_OWN_FILE = (
    "Each fit needs a file of its own: name another one, or delete this one to start afresh; "
    "for a search or cross-validation, whose fits would all have the same one, set "
    "checkpoint=None."
)

# What differs where a longer fit is asked for, with or without a warm start.
_OF_WARM_START = {"max_iter", "warm_start", "start"}

_TRAIN_ON = (
    " To train on from its end, call load_checkpoint with the parameters it has, then fit with "
    "warm_start=True, max_iter of the epochs to come, and another checkpoint."
)


class Checkpoint:
    """The checkpoint of one fit.

    Parameters
    ----------
    path : path-like
    every : float
        Seconds between two writes.
    identity : dict
        What tells this fit from others, but for its data; plain values.
    feature_names : list of str or None
        Those of the data, kept for `load_checkpoint`.
    """

    def __init__(self, path, every, identity, feature_names=None):
        # The process may change its working directory during the fit.
        self.path = Path(os.path.abspath(path))
        self.every = every
        self.identity = identity
        self.feature_names = feature_names
        # The name of a training: of a fit, and of those that go on with it.
        self._training = secrets.token_hex(8)
        self._lost = False
        self._written = time.monotonic()

    def load(self) -> tuple[dict, dict[str, np.ndarray]] | None:
        """The facts and arrays that were saved last; None where there is no file.

        Raises
        ------
        ValueError
            Where the file is damaged, or of another fit.
        OSError
            Where it cannot be read, or the fit that is to come could not write it.
        """
        saved = read(self.path) if self.path.is_file() else None
        if saved is not None:
            check_same(self.path, saved[0]["identity"], self.identity, _OWN_FILE, _TRAIN_ON)
            self._training = saved[0]["training"]
        if saved is None or not saved[0]["finished"]:
            check_writable(self.path)
            remove_scratch(self.path, self._training)
        return saved

    def check_data(self, saved: tuple[dict, dict[str, np.ndarray]] | None, data: dict) -> None:
        """Note what the data are; a ValueError where others were learnt from."""
        self.identity = self.identity | {"data": data}
        if saved is not None and saved[0]["identity"]["data"] != data:
            raise ValueError(
                f"The data are not those that {self.path} was made with: the rows, their "
                "number or their order differ, or the way they are shuffled, which for streams "
                f"is another than for arrays and files. {_OWN_FILE}"
            )

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._written >= self.every

    def save(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Write the file anew; warn where that fails, and leave the old one as it is.

        A file that another fit has written meanwhile is left alone from then on.
        """
        if self._lost:
            return
        own = {
            "identity": self.identity,
            "feature_names": self.feature_names,
            "training": self._training,
        }
        try:
            with replacing(self.path, self._training) as beside:
                write(beside, facts | own, arrays)
                # Checked last: another fit has hardly any time to write after that.
                self._lost = self.path.exists() and not self._is_own()
                if self._lost:
                    raise FileExistsError("another fit has written it meanwhile")
        except OSError as error:
            still = "The file still has what was written before, if anything."
            warn(
                f"The checkpoint {self.path} could not be written ({error}), and the fit goes "
                f"on. {_OWN_FILE if self._lost else still}",
                RuntimeWarning,
            )
        self._written = time.monotonic()

    def _is_own(self):
        """Whether the file that is there was written by this training."""
        try:
            return read(self.path, all_of_it=False)[0]["training"] == self._training
        except (ValueError, KeyError):
            return False


class Checksum:
    """A checksum of rows in their order, however they are stored or cut into chunks.

    Attributes
    ----------
    value : str
        That of the rows that `over` has yielded.
    """

    def __init__(self) -> None:
        self._sum, self._n_rows, self._weights = 0, 0, None

    def over(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The chunks, each taken account of as it passes."""
        for X in chunks:
            n = max(1, _COPIED_BYTES // (X.shape[1] * X.itemsize))
            for start in range(0, len(X), n):
                self._add(X[start : start + n])
            yield X

    def _add(self, X):
        # -0.0 becomes 0.0, since a sparse matrix does not keep the sign of zero.
        words = np.add(X, 0, order="C").view(np.uint32)
        if self._weights is None:
            # RandomState gives the same numbers on all machines, in all versions.
            draw = np.random.RandomState(0).randint
            self._weights = draw(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
        part = checksum_rows(words, self._weights, self._n_rows)
        self._sum = (self._sum + int(part)) % 2**64
        self._n_rows += len(X)

    @property
    def value(self) -> str:
        return f"{self._sum:016x}"


def check_same(path, theirs: dict, ours: dict, advice: str, of_max_iter: str = "") -> None:
    """Raise a ValueError where what is asked for is not so in the checkpoint.

    of_max_iter : more advice, where that differs, and at most a warm start besides
    """
    other = [name for name in ours if theirs.get(name) != ours[name]]
    if not other:
        return
    if "max_iter" in other and _OF_WARM_START.issuperset(other):
        advice += of_max_iter
    differences = ", ".join(f"{n} ({theirs.get(n)!r}, now {ours[n]!r})" for n in other)
    raise ValueError(
        f"{path} is the checkpoint of another fit, which differs in {differences}. {advice}"
    )


def read(path, *, all_of_it: bool = True) -> tuple[dict, dict[str, np.ndarray]]:
    """The facts and arrays of a file; or its facts only, and these not checked.

    Raises
    ------
    ValueError
        Where it is damaged, or no checkpoint of this format.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            # Compressed ones, which `write` does not make, could be of any size.
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.zip.infolist()):
                raise ValueError("it is compressed")
            facts = json.loads(archive[_FACTS].tobytes())
            found = facts.pop("format")
            if not found.startswith(_KIND):
                raise ValueError("it says that it is something else")
            if found == _FORMAT:
                sha256 = facts.pop("sha256")
                if not all_of_it:
                    return facts, {}
                arrays = {name: archive[name] for name in archive.files if name != _FACTS}
                if sha256 != _sha256(facts, arrays):
                    raise ValueError("its checksum does not match")
                return facts, arrays
    except OSError:
        raise
    # What a damaged archive raises is not documented.
    except Exception as error:
        # NumPy takes all that it does not know for a pickle, and says how to load one.
        pickled = "allow_pickle" in str(error)
        why = "it is no .npz archive" if pickled else reason(error)
        raise ValueError(
            f"{path} is no checkpoint, or a damaged one: {why}. Name another file, or "
            "delete this one to start afresh."
        ) from error
    raise ValueError(
        f"{path} was written by another version of sklearn_mpsae: it is a {found!r}, and this "
        f"version reads {_FORMAT!r}. Go on with that version, name another file, or delete "
        "this one to start afresh."
    )


def write(path, facts: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write a file.

    Raises
    ------
    OSError
    """
    text = json.dumps({"format": _FORMAT, "sha256": _sha256(facts, arrays)} | facts)
    with open(path, "wb") as file:
        np.savez(file, **arrays, **{_FACTS: np.frombuffer(text.encode(), np.uint8)})


def _sha256(facts, arrays):
    """Of all that is in a file: an archive's own checksums do not tell edits."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
