"""What a reconstruction costs the module, and what its atoms do there; named in `metrics`.

torch is imported when a function is called, as `metrics` is of use without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._optional import torch_for

if TYPE_CHECKING:
    import torch
    from torch import nn


class DownstreamLoss(NamedTuple):
    """A module's loss as it is, and with other activations of one of its layers.

    Parameters
    ----------
    clean : float
        As it is.
    spliced : float
        With the estimator's reconstruction.
    mean_ablated : float
        With the mean of the activations at all positions.
    zero_ablated : float
        With zeros.
    recovered_from_mean : float
        ``(mean_ablated - spliced) / (mean_ablated - clean)``: 1 if the reconstruction costs
        nothing, 0 if the mean would serve as well. NaN where the ablation costs nothing.
    recovered_from_zero : float
        The same of `zero_ablated`.

    Examples
    --------
    >>> from sklearn_mpsae.metrics import DownstreamLoss
    >>> DownstreamLoss(1.0, 1.25, 2.0, 3.0, 0.75, 0.875).recovered_from_mean
    0.75
    """

    clean: float
    spliced: float
    mean_ablated: float
    zero_ablated: float
    recovered_from_mean: float
    recovered_from_zero: float


def downstream_loss(
    module: nn.Module,
    layer: str | nn.Module,
    estimator: Any,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    loss: Callable[[Any, Any], torch.Tensor],
    *,
    at: str = "output",
    mask: str | int | Callable[[Any], Any] | None = "auto",
    feature_axis: int | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
) -> DownstreamLoss:
    """What a module loses with an estimator's reconstruction in the place of a layer's output.

    The module runs in eval mode and without gradients, and is afterwards as it was. It runs
    four times on each batch.

    Parameters
    ----------
    module : torch.nn.Module
        It stays on its device; batches are moved there.
    layer : str or torch.nn.Module
        The layer, as its dotted name or itself.
    estimator : estimator of this package, or torch.nn.Module
        As for `activations.spliced`.
    batches : iterable, or function that returns one
        As for `activations.ModuleActivations`. It is gone through twice.
    loss : callable
        ``loss(output, batch)``, of the module's output and the batch on its device. A
        number is the mean of the batch, which counts as much as the batch has positions that
        are kept; a sum is wrong, see the Notes. Or a tensor of the shape of the mask, of the
        loss at each position (without a mask, of any shape): its mean over the positions that
        are kept is taken. Or a tuple of the sum of losses and their number, as of the tokens
        that have a next one.
    at : {'output', 'input'}, default='output'
        Which of the two to replace.
    mask : str, int, callable or None, default='auto'
        Which positions to keep, as for `activations.ModuleActivations`. The activations at
        the others stay as they are, and they are counted nowhere.
    feature_axis : int, default=None
        As for `activations.spliced`.
    call : callable, default=None
        ``call(module, batch)`` returns the output, for batches of another kind.

    Returns
    -------
    losses : DownstreamLoss
        ``clean, spliced, mean_ablated, zero_ablated, recovered_from_mean,
        recovered_from_zero``.

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If the loss is no function, or returns None.
    ValueError
        As of `activations.spliced` and `activations.ModuleActivations`; if `batches` can be
        gone through only once or keeps no positions; if the loss is not finite, of another
        shape, or seen to be a sum where it is to be a mean, or the reverse.

    See Also
    --------
    sklearn_mpsae.activations.spliced : The module with the reconstruction, to run yourself.

    Notes
    -----
    What is published of language models is mostly ``recovered_from_zero``. Zeros are far
    from all activations of most layers, so that it is close to 1 for poor reconstructions
    too; the mean is the harder comparison.

    A loss that gives a number is also called with the two halves of one batch. If their
    losses add up to that of the batch, it gives sums, and an error says so. That is seen
    where all tensors of the batch and of the output have as many rows, two or more, and the
    loss takes fewer. Sums that are not seen are averaged like means: the four losses are
    then too large, and where batches have different numbers of positions, the shares that
    are recovered are wrong, as large batches count too much. In the same way a tuple is
    refused if its first entry is a mean, or its second does not add up over the halves.

    torch's fused transformer layers, which write zeros at padding, are off in all four runs:
    a loss that pools over positions must leave padding out.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import ModuleActivations
    >>> from sklearn_mpsae.metrics import downstream_loss
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> batches = [(X, net(X).argmax(1)) for X in torch.randn(200, 4).split(50)]
    >>> def run(module, batch):
    ...     return module(batch[0])
    >>> def loss(output, batch):
    ...     return nn.functional.cross_entropy(output, batch[1])
    >>> rows = ModuleActivations(net, "1", batches, call=run)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=20, random_state=0).fit(rows)
    >>> losses = downstream_loss(net, "1", sae, batches, loss, call=run)
    >>> losses.clean < losses.spliced < losses.mean_ablated
    True
    """
    torch_for("downstream_loss")
    _check_function(loss, "loss")
    from ._runs import losses_of

    where = (module, layer, batches, loss, at, mask, feature_axis, call)
    losses = losses_of(estimator, *where)
    clean, spliced = losses["clean"], losses["spliced"]
    return DownstreamLoss(
        **losses,
        recovered_from_mean=_recovered(losses["mean_ablated"], spliced, clean),
        recovered_from_zero=_recovered(losses["zero_ablated"], spliced, clean),
    )


def attribution(
    module: nn.Module,
    layer: str | nn.Module,
    estimator: Any,
    batches: Iterable[Any] | Callable[[], Iterable[Any]],
    scalar: Callable[[Any, Any], torch.Tensor],
    *,
    at: str = "output",
    mask: str | int | Callable[[Any], Any] | None = "auto",
    feature_axis: int | None = None,
    call: Callable[[nn.Module, Any], Any] | None = None,
) -> np.ndarray:
    """What each atom adds to a number that a module's output gives, to first order.

    The sum over positions of the atom's code times the gradient of the number by that code,
    while the layer's output is the reconstruction and its error. It is about by how much the
    number would fall without the atom (`activations.ablate`), all others staying as they are;
    but one backward pass gives it for all atoms.

    Parameters
    ----------
    module : torch.nn.Module
        As for `downstream_loss`.
    layer : str or torch.nn.Module
        The layer, as its dotted name or itself.
    estimator : estimator of this package, or torch.nn.Module
        As for `activations.spliced`.
    batches : iterable, or function that returns one
        What the module is run on; it is gone through once.
    scalar : callable
        ``scalar(output, batch)`` gives the number, such as a loss or a difference of logits,
        as a tensor with its gradient.
    at : {'output', 'input'}, default='output'
        Which of the two the estimator was fitted on.
    mask : str, int, callable or None, default='auto'
        Which positions to keep, as for `downstream_loss`; the others add nothing.
    feature_axis : int, default=None
        As for `activations.spliced`.
    call : callable, default=None
        ``call(module, batch)`` returns the output, for batches of another kind.

    Returns
    -------
    attributions : ndarray of shape (n_components,)
        The mean over batches, each of which counts as much as it has positions that are
        kept.

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If the scalar is no function.
    ValueError
        As of `downstream_loss`; if the scalar is no number, or does not depend on the layer.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.activations import ModuleActivations
    >>> from sklearn_mpsae.metrics import attribution
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> batches = torch.randn(200, 4).split(50)
    >>> rows = ModuleActivations(net, "1", batches)
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(rows)
    >>> attribution(net, "1", sae, batches, lambda out, batch: out[:, 0].mean()).shape
    (16,)
    """
    torch_for("attribution")
    _check_function(scalar, "scalar")
    from ._runs import attribution_of

    where = (module, layer, batches, scalar, at, mask, feature_axis, call)
    return attribution_of(estimator, *where)


def _check_function(function, name):
    if not callable(function):
        raise TypeError(
            f"{name} must be a callable, {name}(output, batch), got {type(function).__name__}."
        )


def _recovered(ablated, spliced, clean):
    return (ablated - spliced) / (ablated - clean) if ablated != clean else float("nan")
