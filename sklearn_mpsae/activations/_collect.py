"""Rows of a layer's activations: as they are computed, in memory, or in files."""

from __future__ import annotations

import inspect
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .._files import new_folder
from ..coding.checks import check_count
from ..coding.inputs import plain
from ..rows.batches import opened
from ..rows.npy import NpyFiles
from ..rows.stream import BatchStream
from ._layers import (
    as_mask,
    called,
    called_twice,
    check_at,
    features_last,
    find_layer,
    first_not_finite,
    hooks_honoured,
    located,
    never_called,
    on_call,
    own_precision,
    taken,
)

# One module runs at a time: two threads would undo each other's modes and see each other's
# activations.
_RUNNING = threading.RLock()

_FEWEST_BUFFERS = 16

_MASK_OF_TRANSFORMERS = "attention_mask"


class Activations(NamedTuple):
    """Rows of activations, and where each came from.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features) or NpyFiles
        In memory or in files.
    positions : ndarray of shape (n_samples, n_axes), int
        The number of a row's batch, then its position in the activations of that batch:
        example and token, or example, height and width.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae.activations import ModuleActivations
    >>> net = nn.Sequential(nn.Embedding(10, 4), nn.ReLU())
    >>> tokens = [torch.tensor([[1, 2, 3], [4, 5, 0]])]
    >>> rows, positions = ModuleActivations(net, "0", tokens, mask=lambda t: t > 0).collect()
    >>> [int(tokens[batch][i, t]) for batch, i, t in positions]
    [1, 2, 3, 4, 5]
    """

    rows: Any
    positions: np.ndarray


class ModuleActivations(BatchStream):
    """The rows that a layer of a torch module gives, as an estimator asks for them.

    An estimator's `fit`, `partial_fit`, `transform`, `encode`, `transform_to` and `score`
    take it in the place of X, as any `sources.BatchStream`. While an estimator learns from
    some rows, the module runs for the next ones in another thread. To read the rows more than
    once costs as many passes of the module: `save_activations` keeps them in files.

    The module runs in eval mode and without gradients. Between its batches it is as it was:
    modes of all submodules, hooks and grad mode, also after an error, or where the rest is
    not asked for.

    Parameters
    ----------
    module : torch.nn.Module
        It stays on its device; batches are moved there, activations to the CPU.
    layer : str or torch.nn.Module
        The layer, as its dotted name (see ``module.named_modules()``) or itself.
    batches : iterable, or function that returns one
        What the module is run on: tensors, ``module(batch)``; tuples and lists,
        ``module(*batch)``; dicts as tokenizers of transformers give them,
        ``module(**batch)``. Each pass goes through it anew, as through a `DataLoader`.
    at : {'output', 'input'}, default='output'
        Which of the two to read.
    mask : str, int, callable or None, default='auto'
        Which positions to keep: the key or the number of the part of a batch that says so,
        or a function of the batch that does, as ``lambda batch: batch["input_ids"] != 0``. It
        is of booleans or of 0 and 1, in the shape of the positions or of their first axes.
        'auto': the batch's "attention_mask" where it is a dict that has one. None: all.
    feature_axis : int, default=None
        The axis of the features; the others are positions. None: the channels of torch's own
        layers for images and series, as Conv2d; of others the last, and there must be no
        more than three.
    call : callable, default=None
        Runs the module in a way of yours: ``call(module, batch)``, for batches of another
        kind, or under autocast, which is off else.
    stop_early : bool, default=True
        Whether to leave the module, by an exception, once the layer was called: what follows
        need not be computed. The first batch of each pass is run to its end, to see that the
        layer is called once. Modules that Accelerate has spread are always run to the end;
        pass False for others in which something must happen after the layer.
    n_samples : int, default=None
        As for `BatchStream`: the number of rows of one pass, more are left; the data's mean
        and scale are those of the first buffer (or 16 MB). None: the rows are counted, and
        their mean and scale taken, in a pass of the module before the training.
    shuffle : bool, default=True
        Whether to shuffle rows within the buffer.
    buffer : int, default=None
        How many rows are shuffled together: the module fills one buffer while the estimator
        learns from the one before. None: a sixteenth of a pass, but no less than 16 MB and
        no more than 256 MB of rows.

    Notes
    -----
    Of a tuple, a dict or a dataclass the first tensor of floats is read (of a mapping
    `last_hidden_state`). Half floats become float32. torch's fused transformer layers are off
    while the module runs. Errors of the module are raised as they are, with a note that names
    the batch.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import ModuleActivations
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> rows = ModuleActivations(net, "1", torch.randn(200, 4).split(50), n_samples=200)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(rows)
    >>> sae.transform(rows).shape
    (200, 16)
    >>> X, positions = rows.collect(60)
    >>> X.shape, positions[-1].tolist()
    ((60, 8), [1, 9])
    """

    _instead = "ModuleActivations.collect(n) gives the first n and where they came from"

    def __init__(
        self,
        module: nn.Module,
        layer: str | nn.Module,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        at: str = "output",
        mask: str | int | Callable[[Any], Any] | None = "auto",
        feature_axis: int | None = None,
        call: Callable[[nn.Module, Any], Any] | None = None,
        stop_early: bool = True,
        n_samples: int | None = None,
        shuffle: bool = True,
        buffer: int | None = None,
    ) -> None:
        if buffer is not None:
            check_count(buffer, "buffer")
        reader = _Reader(module, [layer], batches, at, mask, feature_axis, call, stop_early)
        super().__init__(self._batches, n_samples, shuffle=shuffle)
        self._reader, self._buffer = reader, buffer

    @property
    def _one_pass(self) -> bool:
        return hasattr(self._reader.batches, "__next__")

    def _buffer_of(self, most, least, n_rows):
        if self._buffer is None and n_rows is not None:
            # Of few buffers, the first is waited for longer than the others are worked at.
            return min(most, max(least, -(-n_rows // _FEWEST_BUFFERS)))
        return min(most, self._buffer or most)

    def _batches(self):
        return (part.rows() for (part,) in self._reader.read())

    def collect(self, n_samples: int | None = None) -> Activations:
        """The first rows in memory, in order, and where they came from.

        Parameters
        ----------
        n_samples : int, default=None
            How many, fewer where there are no more. None: all, or as many as the
            `n_samples` that this was made with.

        Returns
        -------
        activations : Activations
            ``rows, positions``.
        """
        if n_samples is not None:
            check_count(n_samples, "n_samples")
        left = self.n_samples if n_samples is None else n_samples
        rows, positions = [], []
        for (part,) in self._reader.read():
            rows.append(part.rows()[:left])
            positions.append(part.positions()[:left])
            left = None if left is None else left - len(rows[-1])
            if left == 0:
                break
        if not any(map(len, rows)):
            raise ValueError("batches gives no rows: it is empty, or all of it is masked.")
        return Activations(np.concatenate(rows), np.concatenate(positions))


# --------------------------------------------------------------------------- #
# Files
# --------------------------------------------------------------------------- #
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
    reader = _Reader(module, layers, batches, at, mask, feature_axis, call, stop_early)
    with new_folder(folder) as beside:
        writers = [_Shards(beside, i, shard_rows, n_samples) for i in range(len(layers))]
        for parts in reader.read():
            for writer, part in zip(writers, parts, strict=True):
                writer.add(part)
            if all(writer.left == 0 for writer in writers):
                break
        files = [writer.finish() for writer in writers]
        if not all(files):
            raise ValueError("batches gives no rows: it is empty, or all of it is masked.")
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
        saved = {name: _opened_layer(folder, files) for name, files in layers.items()}
    # What a damaged file raises is not documented.
    except Exception as error:
        raise ValueError(f"{folder} holds no activations, or damaged ones: {error}") from error
    return saved


def _opened_layer(folder, files):
    # Names are those of files of this folder, wherever they claim to be.
    rows = NpyFiles([folder / os.path.basename(file) for file in files])
    positions = [
        np.load(
            folder / os.path.basename(file).replace("rows", "positions"), allow_pickle=False
        )
        for file in files
    ]
    positions = np.concatenate(positions)
    if len(positions) != rows.shape[0]:
        raise ValueError(f"{len(positions)} positions for {rows.shape[0]} rows")
    return Activations(rows, positions)


class _Shards:
    """Writes the rows of one layer, and their positions, some to a file."""

    def __init__(self, folder, number, shard_rows, n_samples):
        self.folder, self.number, self.shard_rows = folder, number, shard_rows
        self.left, self.files, self.parts, self.held = n_samples, [], [], 0

    def add(self, part):
        if self.left == 0:
            return
        rows, positions = part.rows()[: self.left], part.positions()[: self.left]
        if not len(rows):
            return
        if self.shard_rows is None:
            self.shard_rows = max(1, (256 << 20) // (rows.shape[1] * rows.itemsize))
        if self.left is not None:
            self.left -= len(rows)
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


# --------------------------------------------------------------------------- #
# Running the module
# --------------------------------------------------------------------------- #
class _Reader:
    """Runs a module over batches, and gives the activations of some layers."""

    def __init__(self, module, layers, batches, at, mask, feature_axis, call, stop_early):
        check_at(at)
        _check_batches(batches)
        if not layers:
            raise ValueError("layers names none: give at least one.")
        self.module, self.layers = module, [find_layer(module, layer) for layer in layers]
        if len({id(layer) for _, layer in self.layers}) < len(self.layers):
            raise ValueError("layers names a layer twice.")
        self.batches, self.at, self.mask = batches, at, mask
        self.feature_axis, self.call, self.stop_early = feature_axis, call, stop_early

    def read(self):
        """Yield, for each batch, a part of rows for each layer.

        The module is as it was whenever this is not at work: it may be left at any batch.
        """
        items, _ = opened(self.batches)
        # Accelerate brings weights in before a submodule runs, and takes them away after it.
        spread = any(hasattr(each, "_hf_hook") for each in self.module.modules())
        first = None
        for number, batch in enumerate(items):
            whole = number == 0 or spread or not self.stop_early
            try:
                parts = self._of(batch, number, whole)
                kinds = [(part.kept.shape[1], len(part.shape)) for part in parts]
                first = first or kinds
                self._check_alike(first, kinds)
            except Exception as error:
                error.add_note(f"This was batch {number} of the module's batches.")
                raise
            yield parts

    def _of(self, batch, number, whole):
        with _as_evaluated(self.module), torch.no_grad():
            caught = self._caught(batch, number, whole)
            return [
                self._part(batch, number, *layer, x)
                for layer, x in zip(self.layers, caught, strict=True)
            ]

    def _caught(self, batch, number, whole):
        """The tensor of each layer, while the module runs on a batch."""
        found, device = {}, _device(self.module)
        batch = _moved(batch, device)
        if number == 0 and self.call is None:
            _check_takes(self.module, batch)

        def catch(name):
            def hook(value):
                if name in found:
                    raise called_twice(name)
                # A copy: what follows may work in its place.
                found[name] = taken(value, located(value, name, self.at)).detach().clone()
                if not whole and len(found) == len(self.layers):
                    raise _EnoughError

            return hook

        with ExitStack() as hooks:
            for name, layer in self.layers:
                hooks.callback(on_call(layer, self.at, catch(name)).remove)
            try:
                with own_precision(device):
                    (self.call or _called)(self.module, batch)
            except _EnoughError:
                pass
        for name, _ in self.layers:
            if name not in found:
                raise never_called(name)
        return [found[name] for name, _ in self.layers]

    def _part(self, batch, number, name, layer, x):
        x, _ = features_last(x, layer, name, self.feature_axis)
        if not x.shape[-1]:
            raise ValueError(f"{called(name, self.at)} has no features.")
        mask = self._mask_of(batch)
        if mask is not None:
            mask = as_mask(mask, x.shape[:-1], "mask", name).to(x.device)
        rows = (x.reshape(-1, x.shape[-1]) if mask is None else x[mask]).cpu()
        part = _Part(number, x.shape[:-1], mask, rows)
        bad = first_not_finite(rows)
        if bad is not None:
            position = tuple(part.positions()[bad[0], 1:].tolist())
            raise ValueError(
                f"{called(name, self.at)} has NaN or infinity in batch {number} at position "
                f"{position} (the first such): mend the batch, or leave such positions out by "
                "`mask`."
            )
        return part

    def _check_alike(self, first, kinds):
        """Refuse activations of another width, or with other axes, than those of before."""
        for (name, _), one, other in zip(self.layers, first, kinds, strict=True):
            if one != other:
                raise ValueError(
                    f"{called(name, self.at)} has {other[0]} features and {other[1]} axes of "
                    f"positions, and had {one[0]} and {one[1]} in the first batch: say which "
                    "feature_axis, or give batches of one kind."
                )

    def _mask_of(self, batch):
        mask = self.mask
        if mask is None:
            return None
        if callable(mask):
            return mask(batch)
        if mask == "auto":
            holds = isinstance(batch, Mapping) and _MASK_OF_TRANSFORMERS in batch
            return batch[_MASK_OF_TRANSFORMERS] if holds else None
        try:
            return batch[mask]
        except (KeyError, IndexError, TypeError):
            has = f" with the keys {list(batch)}" if isinstance(batch, Mapping) else ""
            raise ValueError(
                f"mask={mask!r} is no part of the batch, a {type(batch).__name__}{has}: name "
                "one, or give a function of the batch."
            ) from None


class _Part(NamedTuple):
    """What a layer gave for one batch."""

    batch: int
    shape: torch.Size
    mask: Any
    kept: torch.Tensor

    def rows(self):
        """An array of shape (n, n_features)."""
        return plain(self.kept)

    def positions(self):
        """Batch and position of each row."""
        if self.mask is None:
            where = np.indices(self.shape).reshape(len(self.shape), -1).T
        else:
            where = self.mask.nonzero().cpu().numpy()
        return np.column_stack([np.full(len(where), self.batch), where]).astype(np.int64)


class _EnoughError(BaseException):
    """All layers were called: the rest of the module need not run.

    No Exception, so that no module takes it for one of its own.
    """


@contextmanager
def _as_evaluated(module):
    """Eval mode of all submodules, each as it was afterwards.

    The modes alone are set: a submodule's own `train` may do more than can be undone.
    """
    with _RUNNING, hooks_honoured():
        training = [each for each in module.modules() if each.training]
        try:
            for each in training:
                each.training = False
            yield
        finally:
            for each in training:
                each.training = True


def _check_batches(batches):
    if isinstance(batches, Mapping | torch.Tensor | np.ndarray | str | bytes):
        raise ValueError(
            f"batches is a {type(batches).__name__}, which is one batch: pass [batch], or "
            "batch.split(64) of a tensor."
        )


def _device(module):
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def _moved(batch, device):
    """A batch on a device: tensors, and tuples and dicts of them."""
    if isinstance(batch, np.ndarray) and batch.dtype.kind in "biuf":
        batch = torch.from_numpy(np.ascontiguousarray(batch))
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _moved(part, device) for key, part in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(_moved(part, device) for part in batch)
    return batch


def _arguments(batch):
    if isinstance(batch, Mapping):
        return (), batch
    return (batch if isinstance(batch, tuple) else (batch,)), {}


def _called(module, batch):
    args, kwargs = _arguments(batch)
    module(*args, **kwargs)


def _check_takes(module, batch):
    """Refuse a batch that the module's forward cannot be called with."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return
    args, kwargs = _arguments(batch)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        parts = list(kwargs) if kwargs else f"{len(args)} parts"
        raise ValueError(
            f"The module does not take batches with {parts}, of which each is an argument: "
            f"{error}. Give such as it takes, or say how to call it, as "
            "call=lambda module, batch: module(batch[0])."
        ) from error
