"""Rows of the activations of layers, in files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .._files import new_folder
from ..coding.checks import check_count
from ..rows.npy import NpyFiles
from ._collect import Activations
from ._reader import Reader, no_rows

# The size of a file, unless the number of its rows is given.
_SHARD_BYTES = 256 << 20


def save_activations(
    module: nn.Module,
    layers: str | nn.Module | Sequence[str | nn.Module],
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    folder: str | os.PathLike[str],
    *,
    at: str = "output",
    mask: str | int | Callable[[Any], Any] | None = "auto",
    feature_axis: int | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
    stop_early: bool = True,
    n_samples: int | None = None,
    shard_rows: int | None = None,
) -> dict[str, Activations]:
    """Write the activations of one or more layers to files, in one pass of the module.

    Parameters
    ----------
    module : torch.nn.Module
        As for `ModuleActivations`.
    layers : str, torch.nn.Module, or list of these
        The layers, each by its dotted name or itself.
    batches : iterable, or function that returns one
        As for `ModuleActivations`.
    folder : path-like
        A folder that does not exist yet. It appears when all is in it.
    at : {'output', 'input'}, default='output'
        As for `ModuleActivations`, and so are the next four.
    mask : str, int, callable or None, default='auto'
        Which positions to keep.
    feature_axis : int, default=None
        The axis of the features.
    call : callable, default=None
        Runs the module in a way of yours.
    stop_early : bool, default=True
        Whether to leave the module once all layers were called.
    n_samples : int, default=None
        How many rows of each layer to write, fewer where there are no more. None: all.
    shard_rows : int, default=None
        How many rows go into one .npy file. None: 256 MB of them.

    Returns
    -------
    activations : dict of str to Activations
        As `load_activations` gives them.

    Raises
    ------
    FileExistsError
        Where there is such a folder.
    ValueError
        As while `ModuleActivations` is read.

    Examples
    --------
    >>> import os, tempfile, torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import load_activations, save_activations
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> batches = torch.randn(200, 4).split(50)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "activations")
    >>> saved = save_activations(net, ["0", "1"], batches, path)
    >>> {name: each.rows.shape for name, each in load_activations(path).items()}
    {'0': (200, 8), '1': (200, 8)}
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=2).fit(saved["1"].rows)
    >>> folder.cleanup()
    """
    # A ModuleList is never called itself, and is a list of layers that are.
    many = isinstance(layers, Iterable) and not isinstance(layers, str | nn.Sequential)
    layers = list(layers) if many else [layers]
    for value, name in ((n_samples, "n_samples"), (shard_rows, "shard_rows")):
        if value is not None:
            check_count(value, name)
    reader = Reader(module, layers, batches, at, mask, feature_axis, call, stop_early)
    with new_folder(folder) as beside:
        writers = [_Shards(beside, i, shard_rows) for i in range(len(layers))]
        for parts in reader.read(n_samples):
            for writer, part in zip(writers, parts, strict=True):
                writer.add(part)
        files = [writer.finish() for writer in writers]
        if not all(files):
            raise no_rows()
        names = [name for name, _ in reader.layers]
        (beside / "layers.json").write_text(json.dumps(dict(zip(names, files, strict=True))))
    return load_activations(folder)


def load_activations(folder: str | os.PathLike[str]) -> dict[str, Activations]:
    """Open what `save_activations` has written.

    Parameters
    ----------
    folder : path-like
        The folder it was written to.

    Returns
    -------
    activations : dict of str to Activations
        For each layer, by its name, the rows as `sources.NpyFiles`, and their positions.

    Raises
    ------
    ValueError
        Where the folder holds no activations, or damaged ones.

    Examples
    --------
    >>> import os, tempfile, torch
    >>> from torch import nn
    >>> from sklearn_mpsae.activations import load_activations, save_activations
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "activations")
    >>> _ = save_activations(nn.Linear(4, 8), "", torch.randn(20, 4).split(10), path)
    >>> rows, positions = load_activations(path)[""]
    >>> rows.shape, positions.shape
    ((20, 8), (20, 2))
    >>> folder.cleanup()
    """
    folder = Path(folder)
    try:
        layers = json.loads((folder / "layers.json").read_text())
        return {name: _opened_layer(folder, files) for name, files in layers.items()}
    # What a damaged file raises is not documented.
    except Exception as error:
        raise ValueError(f"{folder} holds no activations, or damaged ones: {error}") from error


def _opened_layer(folder, files):
    # Names are those of files of this folder, wherever they claim to be.
    names = [os.path.basename(file) for file in files]
    rows = NpyFiles([folder / name for name in names])
    paths = [folder / name.replace("rows", "positions") for name in names]
    positions = np.concatenate([np.load(path, allow_pickle=False) for path in paths])
    if len(positions) != rows.shape[0]:
        raise ValueError(f"{len(positions)} positions for {rows.shape[0]} rows")
    return Activations(rows, positions)


class _Shards:
    """Writes the rows of one layer, and their positions, some to a file."""

    def __init__(self, folder, number, shard_rows):
        self.folder, self.number, self.shard_rows = folder, number, shard_rows
        self.files, self.parts, self.held = [], [], 0

    def add(self, part):
        rows, positions = part.rows(), part.positions()
        if self.shard_rows is None:
            self.shard_rows = max(1, _SHARD_BYTES // (rows.shape[1] * rows.itemsize))
        while len(rows):
            n = self.shard_rows - self.held
            self.parts.append((rows[:n], positions[:n]))
            self.held += len(rows[:n])
            rows, positions = rows[n:], positions[n:]
            if self.held == self.shard_rows:
                self._write()

    def _write(self):
        file = f"layer{self.number}_rows{len(self.files):05d}.npy"
        rows, positions = map(np.concatenate, zip(*self.parts, strict=True))
        np.save(self.folder / file, rows)
        np.save(self.folder / file.replace("rows", "positions"), positions)
        self.files.append(file)
        self.parts, self.held = [], 0

    def finish(self):
        """The names of the files, all of them written."""
        if self.parts:
            self._write()
        return self.files
