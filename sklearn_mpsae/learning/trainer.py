"""One training step, and what it carries to the next."""

from __future__ import annotations

import numpy as np

from ..coding.unit import unit_rows
from ..models.base import Plan, StepContext, check_result
from ..models.steering import tuned
from .state import INTERCEPT, TrainingState, check_finite

# Adam's decay rates. They are smaller than usual, as the loss changes with the atoms that
# are chosen (benchmarks/bench_recipe.py).
_BETA1, _BETA2 = 0.5, 0.9375

# The intercept's share of the learning rate: by default it then moves by at most 0.03 of the
# data's scale in a step. A tenth of that did about as well on MNIST, digits and sentence
# embeddings, by one seed each; no script of that is kept.
_INTERCEPT_RATE = 0.1

# This many rows give the average number of codes to some hundredths.
ENOUGH_ROWS = 1000


class Trainer:
    """Steps a model's parameters.

    Parameters
    ----------
    model : models.base.Model
    kernels : open kernels
    parameters : dict of str to ndarray
        "components" (p, d), the dictionary, and what else the model lays out, each with one
        row per atom; "intercept" (1, d) where it is learnt. They are copied; `result` gives
        the trained ones.
    state : TrainingState
        Copied too.
    settings : learning.settings.Settings
    random_state : numpy RandomState
        In the same state on all ranks.
    ranks : Alone or Ranks
        Each has a part of each batch.
    scale : float
        What the data were divided by.
    """

    def __init__(
        self, model, kernels, parameters, state, settings, random_state, ranks, scale=1.0
    ):
        self.model = model
        self.kernels = kernels
        self.learning_rate = settings.learning_rate
        self.dead_after = settings.dead_after
        self.revive = settings.revive
        self.dtype = parameters["components"].dtype
        self.recent = []
        self.random_state = random_state
        self.ranks = ranks
        self.scale = scale
        self.n_steps = state.n_steps
        self.last_used = state.last_used.copy()
        self.numbers = dict(state.numbers)
        self.parameters = {k: kernels.asarray(v.copy()) for k, v in parameters.items()}
        self._of_model = {k: v for k, v in self.parameters.items() if k != INTERCEPT}
        self._intercept = self.parameters.get(INTERCEPT)
        self.moments = {
            name: tuple(kernels.asarray(moment.copy()) for moment in moments)
            for name, moments in state.moments.items()
        }
        self.usage = np.zeros(len(self.last_used), np.int64)
        self._checked = False

    def step(self, X, plan: Plan) -> float:
        """Learn from one batch; returns the sum of its squared residuals.

        Raises
        ------
        FloatingPointError
            If that sum is not finite.
        """
        self.remember(X)
        dead = self._dead()
        batch = self._gradients(X, self._context(plan, dead))
        if not self._checked:
            check_result(self.model, self._of_model, X, batch)
            self._checked = True
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
        # The residual of the batch is that of the atoms before the step.
        revive = self.revive and plan.revive
        dead, atoms = self._reborn(batch, energies) if revive else ([], None)
        self._descend(batch.gradients, plan)
        self._replace_dead(dead, atoms)
        return float(loss)

    def _gradients(self, X, step):
        return self.model.gradients(self.kernels, self._of_model, self._shifted(X), step)

    def _shifted(self, X):
        """The rows about the intercept."""
        return X if self._intercept is None else X - self._intercept

    def _context(self, plan, dead):
        return StepContext(plan, dead, self.numbers, self.ranks, self.scale, self.learning_rate)

    def remember(self, X) -> None:
        """Keep the last batches, enough rows to estimate the average number of codes."""
        if self.model.steers:
            self.recent.append(X)
            while sum(map(len, self.recent[1:])) >= ENOUGH_ROWS:
                del self.recent[0]

    def settle(self, plan: Plan, *, least: int = 0) -> None:
        """Bring the model's numbers up to date with its parameters; learn nothing.

        A step takes them from codes that it then changes, early in a training by much. Then
        the last batches are coded as `transform` will, and the threshold is corrected where
        that gives another number of codes than was asked for.

        least : do not correct it by fewer rows
        """
        model, numbers = self.model, self.numbers
        if not model.steers:
            return
        step = self._context(plan, self._dead())
        self._gradients(self.recent[-1], step)
        n_rows = step.totals(sum(map(len, self.recent)))[0]
        if n_rows < least:
            return

        def l0_at(level):
            parts = (
                model.count(self.kernels, self._of_model, self._shifted(X), level, step)
                for X in self.recent
            )
            return step.totals(sum(parts))[0] / n_rows

        level = model.level
        numbers[level], numbers["l0"] = tuned(l0_at, numbers[level], plan.asked)

    def _descend(self, gradients, plan):
        step = self.n_steps
        corrections = 1 / (1 - _BETA1**step), 1 / (1 - _BETA2**step)
        factors = {**self.model.rate_factors, INTERCEPT: _INTERCEPT_RATE}
        for name in self.parameters:
            gradient = self.ranks.sum(gradients[name])
            rate = self.learning_rate * plan.rate * factors.get(name, 1.0)
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
        if self.model.steers:
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

        Other parameters start at zero, or at the mean of the living atoms'.
        """
        if not len(dead):
            return
        for name, array in self._of_model.items():
            new = np.zeros((len(dead), array.shape[1]))
            if self.model.layout[name] == "pd":
                new = atoms
            elif name in self.model.revived_at_mean and len(dead) < len(array):
                new += np.delete(self.kernels.to_numpy(array), dead, axis=0).mean()
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
        state = TrainingState(self.n_steps, moments, self.last_used.copy(), dict(self.numbers))
        arrays = [*parameters.values(), *(array for pair in moments.values() for array in pair)]
        check_finite([*arrays, *self.numbers.values()], self.n_steps, self.learning_rate)
        return parameters, state

    def result(self) -> tuple[dict[str, np.ndarray], TrainingState]:
        """The trained parameters, atoms of unit norm, and the state to go on from."""
        parameters, state = self.snapshot()
        parameters["components"] = unit_rows(parameters["components"])
        return parameters, state
