"""MNIST in one file: downloaded once, checked at every use."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home
from sklearn.utils import Bunch

from .._compat import validate_params
from .._files import check_writable, replacing

# Far more than MNIST takes, whatever its dtype; a small archive could claim any size.
_MOST_BYTES = 1 << 30

_SHAPES = {
    "X_train": (60_000, 784),
    "y_train": (60_000,),
    "X_test": (10_000, 784),
    "y_test": (10_000,),
}

# Of the bytes of these arrays, in this order.
_SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"

_DESCR = """\
MNIST, a database of handwritten digits
---------------------------------------

70,000 images of 28 x 28 pixels, each a row of 784 grey levels from 0 (paper) to 255 (ink),
and the digit each one shows. The first 60,000 rows are for training, the last 10,000 for
testing.

By Yann LeCun, Corinna Cortes and Christopher J.C. Burges, from NIST's Special Databases 1
and 3. Licence: CC BY-SA 3.0.

Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 86(11), 1998.
"""


@validate_params(
    {
        "data_home": [str, PathLike, None],
        "download_if_missing": ["boolean"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_mnist(
    data_home: str | PathLike[str] | None = None,
    *,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load MNIST: 70,000 handwritten digits of 28 x 28 pixels.

    Reads ``mnist.npz`` in `data_home`. Where there is none, it downloads the data from
    OpenML, with scikit-learn, and keeps them there.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder of the file. None for scikit-learn's own data folder, which is
        ``~/scikit_learn_data`` unless ``SCIKIT_LEARN_DATA`` names another.
    download_if_missing : bool, default=True
        Whether to download the data where the file is missing; if not, an OSError is raised.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    mnist : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (70000, 784), uint8
            Grey levels, 0 to 255: the 60,000 training rows, then the 10,000 test rows.
        target : ndarray of shape (70000,), uint8
            The digits, 0 to 9.
        feature_names : list of length 784
            ``pixel_<row>_<column>``, as in :func:`sklearn.datasets.load_digits`.
        DESCR : str
            Where the data come from.
    (data, target) : tuple
        Instead of the Bunch, if `return_X_y` is True.

    Raises
    ------
    OSError
        If the file is missing and must not or could not be downloaded.
    ValueError
        If the file, or what was downloaded, is not MNIST. A download that fails this check
        is not kept.

    Examples
    --------
    >>> from sklearn_mpsae.datasets import fetch_mnist
    >>> X, y = fetch_mnist(return_X_y=True)  # doctest: +SKIP
    >>> X_train, X_test = X[:60_000], X[60_000:]  # doctest: +SKIP
    """
    path = Path(get_data_home(data_home)) / "mnist.npz"
    if path.exists():
        arrays = _read(path)
    elif download_if_missing:
        check_writable(path)
        arrays = _download(path)
        with replacing(path) as beside, open(beside, "wb") as file:
            np.savez_compressed(file, **arrays)
    else:
        raise FileNotFoundError(f"There is no {path}, and download_if_missing is False.")
    data = np.concatenate([arrays["X_train"], arrays["X_test"]])
    target = np.concatenate([arrays["y_train"], arrays["y_test"]])
    if return_X_y:
        return data, target
    names = [f"pixel_{row}_{column}" for row in range(28) for column in range(28)]
    return Bunch(data=data, target=target, feature_names=names, DESCR=_DESCR)


def _read(path):
    """The file's arrays, checked."""
    with path.open("rb") as file:
        try:
            # Not np.load: it would take a file that is no archive for a pickle.
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
                if sum(part.file_size for part in archive.zip.infolist()) > _MOST_BYTES:
                    raise ValueError("it would take more than 1 GiB.")
                arrays = {name: archive[name] for name in _SHAPES}
            _check(arrays)
        # Where an archive is torn decides what it raises.
        except Exception as error:
            raise ValueError(
                f"{path} is not the MNIST file it should be: {_reason(error)} Delete it, and "
                "fetch_mnist will download the data anew."
            ) from error
    return arrays


def _download(path):
    """OpenML's copy, which has the rows in MNIST's own order, checked."""
    try:
        mnist = fetch_openml(
            "mnist_784",
            version=1,
            as_frame=False,
            parser="liac-arff",  # the one that needs no pandas
            data_home=path.parent,
        )
    except (OSError, HTTPException) as error:
        shapes = ", ".join(f"{name} {shape}" for name, shape in _SHAPES.items())
        raise OSError(
            f"There is no {path}, and mnist_784 could not be downloaded from OpenML: "
            f"{_reason(error)} Check the network and try again, or put the file there by "
            f"hand: a NumPy archive of uint8 arrays {shapes}."
        ) from error
    n_train = _SHAPES["X_train"][0]
    try:
        X, y = mnist.data.astype(np.uint8), mnist.target.astype(np.uint8)
        parts = X[:n_train], y[:n_train], X[n_train:], y[n_train:]
        arrays = dict(zip(_SHAPES, parts, strict=True))
        _check(arrays)
    except ValueError as error:
        raise ValueError(
            f"What OpenML sent as mnist_784 is not MNIST: {_reason(error)} Delete "
            f"{path.parent / 'openml'}, where scikit-learn keeps it, and try again."
        ) from error
    return arrays


def _check(arrays):
    """Raise ValueError unless the arrays are MNIST, to the last bit."""
    digest = hashlib.sha256()
    for name, shape in _SHAPES.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(
                f"{name} has shape {array.shape} and dtype {array.dtype}, not {shape} and "
                "uint8."
            )
        if name.startswith("y") and array.max() > 9:
            raise ValueError(f"{name} has the label {array.max()}, but labels are 0 to 9.")
        digest.update(np.ascontiguousarray(array))
    if digest.hexdigest() != _SHA256:
        raise ValueError(
            f"its contents differ (SHA-256 {digest.hexdigest()}, expected {_SHA256})."
        )


def _reason(error):
    """What an error says, as a sentence; some say nothing but their name."""
    return (str(error) or type(error).__name__).rstrip(".") + "."
