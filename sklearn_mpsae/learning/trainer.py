"""One training step, and what it carries to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .dictionary import unit_rows
from .distributed import Alone, Ranks
from .recipe import Plan

# Short memories: the loss changes as fast as the atoms that are chosen.
_BETA1, _BETA2 = 0.5, 0.9375


class Now(NamedTuple):
    """What a model is told of the step it takes part in."""

    plan: Plan
    dead: np.ndarray
    """Indices of the atoms that have gone without use for long."""
    running: dict[str, float]
    """Numbers the model keeps account of, to be updated."""
    ranks: Alone | Ranks
    """Each has some rows of the batch."""

    def totals(self, *numbers) -> np.ndarray:
        """Sums over ranks."""
        return self.ranks.sum(np.array([float(number) for number in numbers]))


class Step(NamedTuple):
    """What a model says of one batch. Arrays of the kernels' kind."""

    indices: Any
    """(n, k) atoms of each row."""
    values: Any
    """(n, k) their codes."""
    residual: Any
    """(n, d) what the codes leave."""
    gradients: dict[str, Any]
    """Of half the residual's energy, for each parameter."""


@dataclass
class TrainingState:
    """What a training carries from step to step. NumPy arrays and numbers: it pickles."""

    n_steps: int
    moments: dict[str, tuple[np.ndarray, np.ndarray]]
    """Adam's two, for each parameter: (p, d) and (p,)."""
    last_used: np.ndarray
    """(p,) the step at which each atom was used last."""
    running: dict[str, float]
    """Numbers the model keeps account of: a threshold, the weight of a penalty."""

    @classmethod
    def new(cls, parameters: dict[str, np.ndarray], running: dict[str, float]) -> TrainingState:
        moments = {
            name: (np.zeros_like(array), np.zeros(len(array), array.dtype))
            for name, array in parameters.items()
        }
        last_used = np.zeros(len(parameters["components"]), np.int64)
        return cls(0, moments, last_used, running)


class Trainer:
    """Steps a model's parameters.

    Parameters
    ----------
    kernels : open kernels
    backward : callable
        ``backward(kernels, parameters, X, now) -> Step``.
    parameters : dict of str to ndarray
        "components" (p, d), the dictionary, and what else the model has, each with one
        row per atom. They are copied; `finish` gives the trained ones.
    state : TrainingState
        Copied too.
    learning_rate : float
    shares : dict of str to float
        The share of the learning rate that each parameter takes; 1 where not named.
    dead_after : int or None
        Steps without use after which an atom is dead; None for never.
    revive : bool
        Whether a dead atom is replaced by a residual; else it is only named to `backward`.
    steers : bool
        Whether the model's running numbers keep L0 where it is to be.
    random_state : numpy RandomState
        In the same state on all ranks.
    ranks : Alone or Ranks
        Who has a part of each batch.
    """

    def __init__(
        self,
        kernels,
        backward,
        parameters,
        state,
        *,
        learning_rate,
        shares,
        dead_after,
        revive,
        steers,
        random_state,
        ranks,
    ):
        self.kernels = kernels
        self.backward = backward
        self.learning_rate = learning_rate
        self.shares = shares
        self.dead_after = dead_after
        self.revive = revive
        self.steers = steers
        self.random_state = random_state
        self.ranks = ranks
        self.n_steps = state.n_steps
        self.last_used = state.last_used.copy()
        self.running = dict(state.running)
        self.parameters = {k: kernels.asarray(v.copy()) for k, v in parameters.items()}
        self.moments = {
            name: tuple(kernels.asarray(moment.copy()) for moment in moments)
            for name, moments in state.moments.items()
        }
        self.usage = np.zeros(len(self.last_used), np.int64)

    def step(self, X, plan: Plan) -> float:
        """Learn from one batch; returns the sum of its squared residuals.

        Raises
        ------
        FloatingPointError
            If that sum is not finite.
        """
        now = Now(plan, self._dead(), self.running, self.ranks)
        batch = self.backward(self.kernels, self.parameters, X, now)
        energies = self.kernels.energies(batch.residual)
        counts = self.kernels.count(batch.indices, batch.values, len(self.last_used))
        totals = self.ranks.sum(np.array([energies.sum(), *counts], dtype=np.float64))
        loss, counts = totals[0], totals[1:]
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"The loss is not finite at training step {self.n_steps}. Lower "
                f"learning_rate (now {self.learning_rate}), or rescale features whose "
                "squares leave the range of X's dtype, or pass X as float64."
            )
        self._descend(batch.gradients, plan)
        self.n_steps += 1
        self.usage += counts.astype(np.int64)
        self.last_used[counts > 0] = self.n_steps
        if self.revive and plan.revive:
            self._replace_dead(batch.residual, energies)
        return float(loss)

    def settle(self, X, plan: Plan) -> None:
        """Bring the model's running numbers up to date with its parameters; learn nothing.

        A step takes them from codes that it then changes, early in a training by much.
        """
        if self.steers:
            now = Now(plan, self._dead(), self.running, self.ranks)
            self.backward(self.kernels, self.parameters, X, now)

    def _descend(self, gradients, plan):
        step = self.n_steps + 1
        corrections = 1 / (1 - _BETA1**step), 1 / (1 - _BETA2**step)
        for name, gradient in gradients.items():
            gradient = self.ranks.sum(gradient)
            rate = self.learning_rate * plan.rate * self.shares.get(name, 1.0)
            atoms = name == "components"
            self.kernels.adam_step(
                self.parameters[name],
                gradient,
                *self.moments[name],
                (rate, _BETA1, _BETA2, *corrections),
                sphere=atoms and plan.sphere,
                max_norm=plan.max_norm if atoms else np.inf,
            )

    def _dead(self):
        """Indices of the atoms that have gone without use for too long."""
        if self.dead_after is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.n_steps - self.last_used >= self.dead_after)

    def _replace_dead(self, residual, energies):
        """Point dead atoms at what the others leave of this batch.

        Rows are drawn with probability proportional to their residual's energy. All
        parameters of the model have one row per atom; those as wide as the atoms point
        the same way, those of width one (biases) start at zero.
        """
        dead = self._dead()
        if not len(dead):
            return
        parts = self.ranks.gather(energies)
        energies = np.concatenate(parts)
        dead = dead[: np.count_nonzero(energies)]
        if not len(dead):
            return
        rows = self.random_state.choice(
            len(energies), len(dead), replace=False, p=energies / energies.sum()
        )
        rows -= sum(map(len, parts[: self.ranks.rank]))
        atoms = unit_rows(self._rows_of_all(residual, rows))
        for name, array in self.parameters.items():
            wide = array.shape[1] == atoms.shape[1]
            array[dead] = self.kernels.asarray(atoms if wide else np.zeros_like(atoms[:, :1]))
            mean, square = self.moments[name]
            mean[dead] = 0
            square[dead] = square.mean()
        self.last_used[dead] = self.n_steps

    def _rows_of_all(self, array, rows):
        """Rows of all ranks' arrays, by their number from this rank's first one."""
        own = (rows >= 0) & (rows < len(array))
        out = np.zeros((len(rows), array.shape[1]), self.kernels.to_numpy(array[:0]).dtype)
        out[own] = self.kernels.to_numpy(array[rows[own]])
        return self.ranks.sum(out)

    def snapshot(self) -> tuple[dict[str, np.ndarray], TrainingState]:
        """Copies of the parameters as they are, and of the state to go on from.

        Raises
        ------
        FloatingPointError
            If any of them is not finite.
        """

        def copied(array):
            return np.array(self.kernels.to_numpy(array))

        parameters = {name: copied(array) for name, array in self.parameters.items()}
        moments = {name: tuple(map(copied, pair)) for name, pair in self.moments.items()}
        state = TrainingState(self.n_steps, moments, self.last_used.copy(), dict(self.running))
        arrays = [*parameters.values(), *(array for pair in moments.values() for array in pair)]
        if not all(np.isfinite(x).all() for x in [*arrays, [*self.running.values()]]):
            raise FloatingPointError(
                f"The training has diverged by step {self.n_steps}: not all it has learnt is "
                f"finite. Lower learning_rate (now {self.learning_rate}), or pass X as float64."
            )
        return parameters, state

    def finish(self) -> tuple[dict[str, np.ndarray], TrainingState]:
        """The trained parameters, atoms of unit norm, and the state to go on from."""
        parameters, state = self.snapshot()
        parameters["components"] = unit_rows(parameters["components"])
        return parameters, state
