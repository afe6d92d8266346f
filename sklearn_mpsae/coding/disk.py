"""Codes on disk: a CSR matrix whose arrays are .npy files of one folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import sparse

from .._files import new_folder
from .checks import check_count

_ARRAYS = ("data", "indices", "indptr")


def save_codes(
    folder: str | os.PathLike[str], parts: Iterable[sparse.csr_array], most: int | None = None
) -> sparse.csr_array:
    """Write codes part by part, and open what was written.

    The folder appears when all is in it, so that there is never half of one.

    Parameters
    ----------
    folder : path-like
        Must not exist.
    parts : iterable of CSR of shape (n, n_components)
        At least one, of any n; held one at a time.
    most : int, default=None
        How many codes there may be in all; indices take 4 bytes where that is enough for
        them. None where it is not known: they take 8.

    Returns
    -------
    codes : csr_array
        As `load_codes` gives them.

    Raises
    ------
    FileExistsError
        Where there is such a folder.
    ValueError
        Where `most` is no integer of at least 1, or there are more codes than that.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from sklearn_mpsae.coding import load_codes, matching_pursuit, save_codes
    >>> codes = matching_pursuit([[1.0, 3.0], [0.0, 2.0]], np.eye(2), 2)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "codes")
    >>> save_codes(path, [codes.csr()], most=4).shape
    (2, 2)
    >>> load_codes(path).nnz
    3
    >>> folder.cleanup()
    """
    if most is not None:
        check_count(most, "most")
    with new_folder(folder) as beside:
        _write(beside, parts, most)
    return load_codes(folder)


def load_codes(folder: str | os.PathLike[str]) -> sparse.csr_array:
    """Open codes that `save_codes`, or an estimator's `transform_to`, has written.

    Parameters
    ----------
    folder : path-like
        The folder they were written to.

    Returns
    -------
    codes : csr_array of shape (n_samples, n_components)
        Its arrays are read-only maps of the files: rows are read as they are used. Only
        the indices are read once, to check them.

    Raises
    ------
    ValueError
        Where the folder holds no codes, or damaged ones.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from sklearn_mpsae.coding import load_codes, matching_pursuit, save_codes
    >>> codes = matching_pursuit([[1.0, 3.0], [0.0, 2.0]], np.eye(2), 2)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "codes")
    >>> saved = save_codes(path, [codes.csr()], most=4)
    >>> load_codes(path).nnz
    3
    >>> folder.cleanup()
    """
    folder = Path(folder)
    try:
        shape = np.load(folder / "shape.npy", allow_pickle=False)
        data, indices, indptr = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        )
        codes = sparse.csr_array((data, indices, indptr), shape=tuple(map(int, shape)))
        # One pass over the indices: one out of range would be read from anywhere.
        codes.check_format(full_check=True)
    # What a damaged file raises is not documented.
    except Exception as error:
        raise ValueError(f"{folder} holds no codes, or damaged ones: {error}") from error
    return codes


def _write(folder, parts, most):
    """The files of the parts' codes."""
    index = np.int64 if most is None or most >= 2**31 else np.int32
    files = {name: open(folder / f"{name}.npy", "wb") for name in _ARRAYS}  # noqa: SIM115
    try:
        n_codes, n_rows, dtypes = 0, 0, {}
        for part in parts:
            if not dtypes:
                dtypes = {"data": part.dtype, "indices": index, "indptr": index}
                for name, file in files.items():
                    _header(file, dtypes[name], 0)
                files["indptr"].write(np.zeros(1, index).tobytes())
            files["data"].write(part.data.tobytes())
            files["indices"].write(part.indices.astype(index).tobytes())
            files["indptr"].write((n_codes + part.indptr[1:]).astype(index).tobytes())
            n_codes, n_rows = n_codes + part.nnz, n_rows + part.shape[0]
            if most is not None and n_codes > most:
                raise ValueError(f"There are more codes than most={most} allows: pass None.")
        for name, length in zip(_ARRAYS, (n_codes, n_codes, n_rows + 1), strict=True):
            files[name].seek(0)
            _header(files[name], dtypes[name], length)
    finally:
        for file in files.values():
            file.close()
    np.save(folder / "shape.npy", np.array([n_rows, part.shape[1]]))


def _header(file, dtype, length):
    """Begin a .npy file; NumPy pads headers, so that of another length takes as many bytes."""
    facts = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, facts)
