"""Rows of a layer's activations, as they are computed or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from ..coding.checks import check_count
from ..rows.batches import has_length
from ..rows.stream import BatchStream
from ._reader import Reader, no_rows

# The parts that rows of a known number are handed on in, at least.
_FEWEST_BUFFERS = 16


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
        is of booleans or of 0 and 1, which keep where they are True, in the shape of the
        positions or of their first axes. A `key_padding_mask` of torch is the reverse.
        'auto': the batch's "attention_mask" where it is a dict that has one; a dict with a
        `key_padding_mask` and without it is refused. None: all.
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
        reader = Reader(module, [layer], batches, at, mask, feature_axis, call, stop_early)
        super().__init__(self._batches, n_samples, shuffle=shuffle)
        self._reader, self._buffer = reader, buffer

    @property
    def _one_pass(self) -> bool:
        return hasattr(self._reader.batches, "__next__")

    @property
    def _ends(self) -> bool:
        return has_length(self._reader.batches)

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
        read = self._reader.read(n_samples or self.n_samples)
        given = [(part.rows(), part.positions()) for (part,) in read]
        if not any(len(rows) for rows, _ in given):
            raise no_rows()
        return Activations(*map(np.concatenate, zip(*given, strict=True)))
