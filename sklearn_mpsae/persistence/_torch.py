"""Fitted estimators as torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._array_api import on_numpy
from .._optional import torch_for
from ._names import coder_of

if TYPE_CHECKING:
    from torch import nn


@on_numpy
def to_torch_module(estimator: Any) -> nn.Module:
    """A torch module whose output is what `transform` gives.

    Its parameters are copies of what was learnt (``components``, ``intercept``, and for a
    shallow encoder ``encoder`` and ``bias``; ``metric`` is a buffer), on the CPU in the dtype
    of ``components_``; ``.to`` moves them. Which atoms a row has is a choice; their values
    are differentiable, by the row and by all parameters. A pursuit is unrolled: each step is
    some ten nodes of a graph, and autograd stores the residual of each.

    Parameters
    ----------
    estimator : estimator of this package
        Fitted, with matching pursuit or a shallow encoder. What `transform` would do now is
        what the module does, whatever is set afterwards.

    Returns
    -------
    module : torch.nn.Module
        ``module(x)`` and ``module.encode(x)`` give dense codes of shape
        (..., n_components) for rows x of shape (..., n_features) and the module's dtype;
        ``module.decode(codes)`` the reconstruction. `torch.export.export` takes it, with any
        number of rows.

    Raises
    ------
    ImportError
        If torch is not installed.
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it codes by orthogonal matching pursuit, is no such estimator, or is of a class
        of yours with a coder of its own.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_mpsae import MPSparseAutoencoder
    >>> from sklearn_mpsae.persistence import to_torch_module
    >>> X = np.random.default_rng(0).standard_normal((100, 8))
    >>> sae = MPSparseAutoencoder(16, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(X)
    >>> module = to_torch_module(sae)
    >>> codes = module(torch.from_numpy(X))
    >>> bool(np.allclose(codes.detach().numpy(), sae.transform(X)))
    True
    """
    torch_for("to_torch_module")
    from ._torch_modules import module_of

    return module_of(coder_of(estimator))
