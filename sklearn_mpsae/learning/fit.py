"""One fit: epochs of training steps, from where an interrupted one had come to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .batches import Batches
from .checkpoint import Checkpoint, pack_random_state, unpack_random_state
from .recipe import Plan
from .trainer import ENOUGH_ROWS, Trainer, TrainingState


class Fit:
    """Trains epoch after epoch, and keeps account of how far it has come.

    Parameters
    ----------
    trainer : Trainer
    batches : Batches
    plan : callable
        Gives the plan of the step of this number.
    n_iter : int
        The number of epochs.
    checkpoint : Checkpoint or None

    Attributes
    ----------
    losses : list of float
        For each epoch, the mean share of the rows' energy that was left unexplained.
    finished : bool
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: Batches,
        plan: Callable[[int], Plan],
        n_iter: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.trainer, self.batches, self.plan = trainer, batches, plan
        self.n_iter, self.checkpoint = n_iter, checkpoint
        self.losses, self.finished = [], False
        self._n_batches, self._loss, self._last = 0, 0.0, None
        self._start = pack_random_state(trainer.random_state)

    def epoch(self) -> None:
        """Train for an epoch, or for what is left of one."""
        trainer = self.trainer
        if self._n_batches:
            # The same order again, from a copy of the generator as it was then.
            order = trainer.ranks.order(unpack_random_state(*self._start))
        else:
            self._start = pack_random_state(trainer.random_state)
            order = trainer.ranks.order(trainer.random_state)
            trainer.usage[:] = 0
        first = len(self.losses) * self.batches.per_epoch
        trainer.recent.clear()
        seen = self._recent_batches()
        rows = self.batches.epoch(order, trainer.kernels, self._n_batches - seen)
        for i, batch in enumerate(self._saving_on_error(rows)):
            if i < seen:
                trainer.remember(batch)
                continue
            self._last = plan = self.plan(first + self._n_batches)
            self._loss += trainer.step(batch, plan)
            self._n_batches += 1
            if first + self._n_batches == self.n_iter * self.batches.per_epoch:
                trainer.settle(plan)
                self._last = None
            if self.checkpoint is not None and self.checkpoint.due():
                self.save()
        # The data were scaled to a mean energy of 1.
        self.losses.append(self._loss / self.batches.n_rows)
        self._n_batches, self._loss = 0, 0.0
        self.finished = len(self.losses) == self.n_iter

    def _recent_batches(self):
        """How many of the batches before an interruption the trainer is to remember."""
        if not self.trainer.steers:
            return 0
        rows_of_batch = self.batches.source.n_rows // self.batches.per_epoch
        return min(self._n_batches, -(-ENOUGH_ROWS // rows_of_batch) + 1)

    def _saving_on_error(self, rows):
        """The batches; where they cannot be read on, what was learnt until then is saved."""
        try:
            yield from rows
        except Exception:
            self.save()
            raise

    def result(self) -> tuple[dict[str, np.ndarray], TrainingState]:
        """The parameters and the state as they are after an epoch.

        For whoever looks at an epoch, the running numbers are brought up to date with the
        parameters, in a copy: looking changes nothing of the training.
        """
        trainer = self.trainer
        before = dict(trainer.running)
        # Other ranks may not be looking, and could not take part.
        if self._last and trainer.ranks.size == 1:
            trainer.settle(self._last)
        try:
            return trainer.finish()
        finally:
            trainer.running.update(before)

    def finish(self) -> None:
        """There is nothing more to train."""
        self.finished = True
        self.save()

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.checkpoint is None or self.trainer.ranks.rank:
            return
        parameters, state = self.trainer.snapshot()
        own, own_arrays = pack(state, self.trainer.random_state)
        start, start_keys = self._start
        facts = own | {
            "losses": self.losses,
            "loss": self._loss,
            "n_batches": self._n_batches,
            "finished": self.finished,
            "n_rows": self.batches.n_rows,
            "scale": float(self.batches.scale),
            "start": start,
        }
        arrays = own_arrays | {
            "center": self.batches.center,
            "usage": self.trainer.usage,
            "start": start_keys,
        }
        arrays |= {f"{name} value": array for name, array in parameters.items()}
        self.checkpoint.save(facts, arrays)

    def resume(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what was saved; the trainer has been made from `unpack` of it."""
        batches = self.batches
        # Streams that are cut otherwise have others by rounding.
        batches.center = arrays["center"]
        batches.scale = batches.source.dtype.type(facts["scale"])
        if facts["finished"]:
            self.checkpoint = None  # there is nothing to add to it
        self.losses, self.finished = list(facts["losses"]), facts["finished"]
        self._n_batches, self._loss = facts["n_batches"], facts["loss"]
        self._start = facts["start"], arrays["start"]
        self.trainer.usage[:] = arrays["usage"]


def pack(state: TrainingState, random_state: np.random.RandomState):
    """What a training goes on with: plain values, and arrays."""
    own, keys = pack_random_state(random_state)
    facts = {
        "n_steps": state.n_steps,
        "running": {name: float(x) for name, x in state.running.items()},
        "random_state": own,
    }
    arrays = {"last_used": state.last_used, "random_state": keys}
    for name, (mean, square) in state.moments.items():
        arrays |= {f"{name} mean": mean, f"{name} square": square}
    return facts, arrays


def unpack(facts: dict, arrays: dict[str, np.ndarray]):
    """What was packed: the parameters saved with it, TrainingState, random state."""

    def of(kind):
        ending = f" {kind}"
        return {k.removesuffix(ending): a for k, a in arrays.items() if k.endswith(ending)}

    means, squares = of("mean"), of("square")
    moments = {name: (means[name], squares[name]) for name in means}
    state = TrainingState(
        facts["n_steps"], moments, arrays["last_used"], dict(facts["running"])
    )
    random_state = unpack_random_state(facts["random_state"], arrays["random_state"])
    return of("value"), state, random_state
