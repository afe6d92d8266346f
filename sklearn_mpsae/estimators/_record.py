"""What an estimator has learnt, as attributes that users see and as one record."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from .._array_api import Fitted, Origin, origin_of
from .._compat import UNDER_CALLBACKS
from ..learning.state import Learnt, Training


class Record:
    """The fitted attributes of an estimator; to be mixed in with BaseEstimator."""

    components_ = Fitted[np.ndarray]()
    intercept_ = Fitted[np.ndarray]()
    atom_usage_ = Fitted[np.ndarray]()
    loss_curve_ = Fitted[np.ndarray]()
    n_iter_ = Fitted[int]()
    n_steps_ = Fitted[int]()
    n_samples_seen_ = Fitted[int]()
    batch_size_ = Fitted[int]()

    # What `partial_fit` goes on with; None for what was imported.
    _training: Training | None = None

    # Library and device of the X of the last fit; set by `fit` where that is not NumPy.
    _origin: Origin = None

    # The shapes of fitted attributes that are not the model's; as `Model.fitted`.
    _own_fitted: dict[str, str] = {}

    def _store(self, parameters: dict[str, Any]) -> None:
        """Set the parameters as attributes; `__init__` passes its ``locals()``."""
        vars(self).update({name: x for name, x in parameters.items() if name != "self"})

    @contextmanager
    def _unchanged_on_error(self):
        """Whatever goes wrong, leave the estimator as it was."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            callbacks = {name: vars(self)[name] for name in UNDER_CALLBACKS & set(vars(self))}
            vars(self).clear()
            vars(self).update(before | callbacks)
            raise

    @property
    def _learnt(self) -> Learnt | None:
        """The record of what is learnt; its arrays are NumPy's. None before `fit`.

        Its attributes lie in the instance's ``__dict__`` under their names, where other
        libraries look for fitted attributes.
        """
        names = _fitted_names(type(self)) & set(vars(self))
        attributes = {name: vars(self)[name] for name in names}
        return Learnt(attributes, self._training) if attributes else None

    @_learnt.setter
    def _learnt(self, learnt: Learnt) -> None:
        for name in _fitted_names(type(self)):
            vars(self).pop(name, None)
        vars(self).update(learnt.attributes, _training=learnt.training)

    def _check_declared(self, names: Iterable[str]) -> None:
        """Refuse fitted attributes that the class does not declare, before any training."""
        unknown = set(names) - _fitted_names(type(self))
        if unknown:
            raise TypeError(
                f"{type(self).__name__} declares no Fitted() for {', '.join(sorted(unknown))}."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return "components_" in vars(self)

    def __getstate__(self):
        # A copy shows NumPy arrays, so that it can be read where the library is not.
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_origin"}

    def __sklearn_array_api_convert__(self, converter):
        """A copy whose arrays `converter` has brought elsewhere: so scikit-learn moves them."""
        moved = copy.copy(self)
        moved._origin = origin_of(converter(self.components_))
        return moved


@cache
def _fitted_names(cls: type) -> set[str]:
    """The names of the fitted attributes of a class."""
    return {name for base in cls.__mro__ for name, x in vars(base).items() if type(x) is Fitted}
