"""One training step, and what it carries to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .control import tuned
from .dictionary import unit_rows
from .distributed import Alone, Ranks
from .recipe import Plan

# Short memories: the loss changes as fast as the atoms that are chosen.
_BETA1, _BETA2 = 0.5, 0.9375

# So many rows tell the average number of codes to some hundredths.
ENOUGH_ROWS = 1000


class Now(NamedTuple):
    """What a model is told of the step it takes part in."""

    plan: Plan
    dead: np.ndarray
    """Indices of the atoms that have gone without use for long."""
    running: dict[str, float]
    """Numbers the model keeps account of, to be updated."""
    ranks: Alone | Ranks
    """Each has some rows of the batch."""
    scale: float = 1.0
    """What the data were divided by."""

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


def check_finite(learnt, n_steps: int, learning_rate: float) -> None:
    """Raise a FloatingPointError where not all of these arrays and numbers are finite."""
    if not all(np.isfinite(each).all() for each in learnt):
        raise FloatingPointError(
            f"The training has diverged by step {n_steps}: not all it has learnt is finite. "
            f"Lower learning_rate (now {learning_rate}), or pass X as float64."
        )


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
    directions : set of str
        The parameters that point where their atom does: a revived atom has them point at
        its row. Others (biases) then start at the mean of the others'.
    dead_after : int or None
        Steps without use after which an atom is dead; None for never.
    revive : bool
        Whether a dead atom is replaced by a residual; else it is only named to `backward`.
    steers : bool
        Whether rows share their codes, whose average number the model's running numbers keep
        where it is to be. Else a row has no room for a further code, and a revived atom has
        to take the place of another one.
    random_state : numpy RandomState
        In the same state on all ranks.
    ranks : Alone or Ranks
        Who has a part of each batch.
    scale : float
        What the data were divided by.
    level : str or None
        The running number that an output has to exceed to be a code, where there is one.
    count : callable
        ``count(kernels, parameters, X, level, now)``: how many codes X has by this number.
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
        directions,
        dead_after,
        revive,
        steers,
        random_state,
        ranks,
        scale=1.0,
        level=None,
        count=None,
    ):
        self.kernels = kernels
        self.backward = backward
        self.learning_rate = learning_rate
        self.shares = shares
        self.directions = directions
        self.dtype = parameters["components"].dtype
        self.dead_after = dead_after
        self.revive = revive
        self.level, self.count = level, count
        self.steers = steers
        self.recent = []
        self.random_state = random_state
        self.ranks = ranks
        self.scale = scale
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
        self.remember(X)
        now = Now(plan, self._dead(), self.running, self.ranks, self.scale)
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
        self.n_steps += 1
        self.usage += counts.astype(np.int64)
        self.last_used[counts > 0] = self.n_steps
        # What is left of the batch is of the atoms before the step.
        revive = self.revive and plan.revive
        dead, atoms = self._reborn(batch, energies) if revive else ([], None)
        self._descend(batch.gradients, plan)
        self._replace_dead(dead, atoms)
        return float(loss)

    def remember(self, X) -> None:
        """Keep the last batches, of so many rows that they tell the average number of codes."""
        if self.steers:
            self.recent.append(X)
            while sum(map(len, self.recent[1:])) >= ENOUGH_ROWS:
                del self.recent[0]

    def settle(self, plan: Plan, *, least: int = 0) -> None:
        """Bring the model's running numbers up to date with its parameters; learn nothing.

        A step takes them from codes that it then changes, early in a training by much. Then
        the last batches are coded as `transform` will, and the threshold is corrected where
        that gives another number of codes than was asked for.

        least : do not correct it by fewer rows
        """
        if not self.steers:
            return
        now = Now(plan, self._dead(), self.running, self.ranks, self.scale)
        self.backward(self.kernels, self.parameters, self.recent[-1], now)
        n_rows = now.totals(sum(map(len, self.recent)))[0]
        if n_rows < least:
            return

        def l0_at(level):
            parts = (
                self.count(self.kernels, self.parameters, X, level, now) for X in self.recent
            )
            return now.totals(sum(parts))[0] / n_rows

        running = self.running
        running[self.level], running["l0"] = tuned(l0_at, running[self.level], plan.asked)

    def _descend(self, gradients, plan):
        step = self.n_steps
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

    def _reborn(self, batch, energies):
        """Dead atoms that are to be replaced, and the unit vectors to replace them with.

        Rows are drawn with probability proportional to their residual's energy. An atom is
        pointed at the residual; where rows are full, at what all codes of its row but the
        least one leave: it has to take the place of that one, which leaves the residual and
        so would win against it, with one code a row every time.
        """
        dead = self._dead()
        if not len(dead):
            return dead, None
        parts = self.ranks.gather(energies)
        energies = np.concatenate(parts)
        dead = dead[: np.count_nonzero(energies)]
        if not len(dead):
            return dead, None
        rows = self.random_state.choice(
            len(energies), len(dead), replace=False, p=energies / energies.sum()
        )
        rows -= sum(map(len, parts[: self.ranks.rank]))
        own = (rows >= 0) & (rows < len(batch.residual))
        targets = np.zeros((len(rows), batch.residual.shape[1]))
        own_rows = rows[own]
        if self.steers:
            targets[own] = self.kernels.to_numpy(batch.residual[own_rows])
        else:
            targets[own] = self._without_least(batch, own_rows)
        return dead, unit_rows(self.ranks.sum(targets))

    def _without_least(self, batch, rows):
        """What is left of rows of a batch by all codes but the least of each."""
        arrays = (array[rows] for array in (batch.residual, batch.indices, batch.values))
        residual, indices, values = map(self.kernels.to_numpy, arrays)
        least = np.argmin(np.where(values != 0, np.abs(values), np.inf), axis=1)
        slots = np.arange(len(rows)), least
        atoms = self.kernels.to_numpy(self.parameters["components"][indices[slots]])
        without = residual + values[slots][:, None] * atoms
        # A code that only does harm is better left where it is: without it nothing may be left.
        longer = np.square(without).sum(axis=1) > np.square(residual).sum(axis=1)
        return np.where(longer[:, None], without, residual)

    def _replace_dead(self, dead, atoms):
        """Point dead atoms, and all parameters that are directions, at new targets.

        Other numbers, as biases, start at the mean of the living atoms': at zero an encoder's
        output would be above it for half of the rows.
        """
        if not len(dead):
            return
        for name, array in self.parameters.items():
            if name in self.directions:
                new = atoms
            else:
                living = np.delete(self.kernels.to_numpy(array), dead, axis=0)
                start = living.mean() if len(living) else 0.0
                new = np.full((len(dead), array.shape[1]), start)
            array[dead] = self.kernels.asarray(new.astype(self.dtype))
            mean, square = self.moments[name]
            mean[dead] = 0
            square[dead] = square.mean()
        self.last_used[dead] = self.n_steps

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
        check_finite([*arrays, *self.running.values()], self.n_steps, self.learning_rate)
        return parameters, state

    def finish(self) -> tuple[dict[str, np.ndarray], TrainingState]:
        """The trained parameters, atoms of unit norm, and the state to go on from."""
        parameters, state = self.snapshot()
        parameters["components"] = unit_rows(parameters["components"])
        return parameters, state
