"""A training from rows to what is learnt: a fit of epochs, or a stream's next rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from sklearn.utils import check_random_state

from ..coding.kernels import open_kernels
from ..models.base import Model, Plan
from ..models.steering import rescaled
from ..rows.moments import Moments
from .batches import Batches
from .checkpoint import Checkpoint, Checksum
from .distributed import Alone, Ranks, check_agreement
from .frame import Basis, check_width
from .progress import Progress
from .recipe import EXPLORE, fit_plan, stream_plan
from .saved import checkpoint_of, saved_frame
from .settings import Settings
from .sizes import sized, taken, told
from .start import (
    check_stream,
    check_warm,
    first_parameters,
    frame_of_fit,
    frame_of_stream,
    needs_products,
    parameters_of,
    warm_parameters,
)
from .state import (
    Learnt,
    Training,
    TrainingState,
    learnt_of,
    pack,
    pack_random_state,
    unpack,
    unpack_random_state,
)
from .trainer import ENOUGH_ROWS, Trainer

# Once it has explored, a stream brings its threshold up to date after this many steps.
_SETTLE_EVERY = 16

# Without max_iter, a fit takes as many epochs as make about this many steps.
_DEFAULT_STEPS = 1000


class Run:
    """Trains epoch after epoch, and counts how far it has come.

    Parameters
    ----------
    trainer : Trainer
    batches : Batches
    plan : callable
        Gives the plan of the step of this number.
    n_iter : int
        The number of epochs.
    basis : Basis
        What the frame of the batches is made from.
    checkpoint : Checkpoint or None
    progress : Progress
        Is told of each step.
    chosen : dict
        Fitted attributes that are known before the training: plain values.

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
        basis: Basis,
        checkpoint: Checkpoint | None,
        progress: Progress,
        chosen: dict,
    ) -> None:
        self.trainer, self.batches, self.plan = trainer, batches, plan
        self.chosen = chosen
        self.n_iter, self.basis, self.checkpoint = n_iter, basis, checkpoint
        self.progress = progress
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
            self._show(plan)
            if first + self._n_batches == self.n_iter * self.batches.per_epoch:
                trainer.settle(plan)
                self._last = None
            if self.checkpoint is not None and self.checkpoint.due():
                self.save()
        # The data were scaled to a mean energy of 1.
        self.losses.append(self._loss / self.batches.n_rows)
        self._n_batches, self._loss = 0, 0.0
        self.finished = len(self.losses) == self.n_iter

    def _show(self, plan):
        epoch = f"epoch {len(self.losses) + 1}/{self.n_iter}"
        share = self._n_batches / self.batches.per_epoch
        loss = self._loss / (self.batches.n_rows * share)
        self.progress.step(epoch, self.n_rows_done, loss, plan.n_nonzero_coefs)

    @property
    def n_rows_done(self) -> int:
        """How many rows were learnt from, in all epochs."""
        epochs = len(self.losses) + self._n_batches / self.batches.per_epoch
        return round(epochs * self.batches.n_rows)

    def _recent_batches(self):
        """How many batches before an interruption the trainer needs to remember."""
        if not self.trainer.model.steers:
            return 0
        rows_of_batch = self.batches.source.n_rows // self.batches.per_epoch
        return min(self._n_batches, -(-ENOUGH_ROWS // rows_of_batch) + 1)

    def _saving_on_error(self, rows):
        """The batches; where reading fails, a checkpoint of the training so far is saved."""
        try:
            yield from rows
        except Exception:
            self.save()
            raise

    def result(self) -> Learnt:
        """What is learnt after an epoch.

        For an observer of the epoch, the model's numbers are brought up to date with the
        parameters, in a copy: observing changes nothing of the training.
        """
        trainer, batches = self.trainer, self.batches
        before = dict(trainer.numbers)
        # Other ranks may not observe, and could not take part.
        if self._last and trainer.ranks.size == 1:
            trainer.settle(self._last)
        try:
            parameters, state = trainer.result()
        finally:
            trainer.numbers.update(before)
        return learnt_of(
            trainer.model,
            trainer.learning_rate,
            parameters,
            Training(state, batches.frame, self.basis, trainer.random_state),
            trainer.usage,
            batches.n_rows,
            n_iter_=len(self.losses),
            loss_curve_=np.array(self.losses),
            **self.chosen,
        )

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
            "chosen": self.chosen,
            "n_rows": self.batches.n_rows,
            "scale": self.batches.frame.scale,
            "basis": self.basis.facts(),
            "start": start,
        }
        arrays = own_arrays | {
            "center": self.batches.frame.center,
            "usage": self.trainer.usage,
            "start": start_keys,
        }
        if self.batches.frame.metric is not None:
            arrays["metric"] = self.batches.frame.metric.matrix
        arrays |= {f"{name} value": array for name, array in parameters.items()}
        self.checkpoint.save(facts, arrays)

    def resume(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Go on from a checkpoint; the trainer has been made from `unpack` of it."""
        if facts["finished"]:
            self.checkpoint = None  # there is nothing to add to it
        self.losses, self.finished = list(facts["losses"]), facts["finished"]
        self._n_batches, self._loss = facts["n_batches"], facts["loss"]
        self._start = facts["start"], arrays["start"]
        self.trainer.usage[:] = arrays["usage"]


@contextmanager
def open_run(
    model: Model,
    source,
    settings: Settings,
    ranks: Alone | Ranks,
    before: Learnt | None,
    progress: Progress,
) -> Iterator[Run]:
    """A fit at its first step, or where it was interrupted.

    before : what to start from, for a warm start
    """
    # First, as the device may not be there.
    with open_kernels(settings.device, source.dtype) as kernels:
        source.on_read = progress.read
        run = _begin(kernels, model, source, settings, ranks, before, progress)
        sizes = told(run.chosen, run.n_iter * run.batches.per_epoch)
        progress.begin(run.n_iter * run.batches.n_rows, run.n_rows_done, sizes)
        yield run


def _begin(kernels, model, source, settings, ranks, before, progress):
    _check(model, source, settings, ranks)
    checkpoint = checkpoint_of(model, source, settings, ranks, before)
    saved = ranks.share(checkpoint.load() if checkpoint and ranks.rank == 0 else None)
    if before and not saved:
        check_warm(settings, source, before)
    outer = settings.whitening > 0 and not saved
    moments, rows_of_ranks = _measured(source, ranks, outer, checkpoint, saved)
    # Streams that are cut otherwise would have another one by rounding.
    frame = saved_frame(*saved) if saved else frame_of_fit(moments, source, settings, ranks)
    known, n_rows = saved[0]["chosen"] if saved else {}, sum(rows_of_ranks)
    model, settings = sized(model, source, settings, kernels, ranks, n_rows, known)
    batches = Batches(source, frame, rows_of_ranks, settings.batch_size)
    n_iter = settings.max_iter or -(-_DEFAULT_STEPS // batches.per_epoch)
    if n_iter > 1 and source.one_pass:
        raise ValueError(
            f"max_iter={n_iter} passes over an iterator that can be gone through once: "
            "set max_iter=1, or let batches start anew (a list, a DataLoader, a function "
            "that returns an iterator)."
        )
    if saved:
        parameters, state, random_state = unpack(*saved)
    else:
        random_state = ranks.share(check_random_state(settings.random_state))
        if before:
            parameters = warm_parameters(model, source, settings, frame, before)
        else:
            parameters = first_parameters(model, source, settings, frame, random_state)
        numbers = before.numbers(model) if before else model.first_numbers
        state = TrainingState.new(parameters, numbers)
    # A warm start has explored already.
    first, n_steps = EXPLORE if before else 0, n_iter * batches.per_epoch
    shares = np.linspace(first, 1, n_steps, endpoint=False)
    k, n_atoms = settings.n_nonzero_coefs, settings.n_components
    chosen = taken(model, settings)
    if settings.chosen:
        chosen["n_nonzero_coefs_"] = k
    run = Run(
        Trainer(model, kernels, parameters, state, settings, random_state, ranks, frame.scale),
        batches,
        lambda step: fit_plan(shares[step], k, n_atoms, free_norms=model.free_norms),
        n_iter,
        replace(Basis.of(settings), n_rows=moments.n_rows),
        checkpoint,
        progress,
        chosen,
    )
    if saved:
        run.resume(*saved)
    return run


def stream(
    model: Model,
    source,
    settings: Settings,
    ranks: Alone | Ranks,
    before: Learnt | None,
    progress: Progress,
) -> Learnt:
    """Learn from one more chunk of rows.

    before : what was learnt from the earlier chunks, or by a fit; None for the first chunk
    """
    # Around all of it: while kernels are open the BLAS has one thread, and sums in one order.
    with open_kernels(settings.device, source.dtype) as kernels:
        return _stream(kernels, model, source, settings, ranks, before, progress)


def _stream(kernels, model, source, settings, ranks, before, progress):
    _check(model, source, settings, ranks)
    if before is not None:
        check_stream(settings, before)
    source.on_read = progress.read
    moments, rows_of_ranks = _measured(source, ranks, needs_products(settings, before))
    n_rows = sum(rows_of_ranks)
    frame, basis, vary = frame_of_stream(moments, n_rows, source, settings, ranks, before)
    if before is None:
        random_state = ranks.share(check_random_state(settings.random_state))
        parameters = first_parameters(model, source, settings, frame, random_state)
        state, usage, n_before = TrainingState.new(parameters, model.first_numbers), 0, 0
    else:
        training, attributes = before.training, before.attributes
        # A copy, so that a call that fails draws nothing from the stream's.
        random_state = copy.deepcopy(training.random_state)
        usage, n_before = attributes["atom_usage_"], attributes["n_samples_seen_"]
        # What is learnt of the intercept is its distance from the centre.
        parameters = parameters_of(model, settings, before, frame, training.frame.center)
        state = training.state.suited(parameters)
        if state.n_steps:
            factor = training.frame.scale / frame.scale
            state = replace(state, numbers=rescaled(state.numbers, factor))
    model, settings = sized(model, source, settings, kernels, ranks, None, {})
    batches = Batches(source, frame, rows_of_ranks, settings.batch_size)
    explored = before is not None and "n_iter_" in before.attributes
    trainer = Trainer(
        model, kernels, parameters, state, settings, random_state, ranks, frame.scale
    )
    # Rows that do not vary tell neither a scale nor a direction: they are counted, and
    # learning begins with those that do.
    if vary or state.n_steps:
        progress.begin(n_rows)
        _train_on(trainer, batches, settings, progress, explored=explored)
    parameters, state = trainer.result()
    usage = trainer.usage + usage
    training = Training(state, frame, basis, random_state)
    learnt = learnt_of(
        *(model, settings.learning_rate, parameters, training, usage, n_before + n_rows),
        **taken(model, settings),
    )
    of_fit = {"n_iter_", "loss_curve_", "n_nonzero_coefs_"}
    of_fit &= set(before.attributes if before else ())
    kept = {name: before.attributes[name] for name in of_fit}
    return replace(learnt, attributes={**kept, **learnt.attributes})


def _train_on(trainer, batches, settings, progress, *, explored):
    """The steps of one chunk of a stream."""
    k, n_atoms = settings.n_nonzero_coefs, settings.n_components
    n_settled = trainer.n_steps // _SETTLE_EVERY
    rows, total = batches.n_rows / batches.per_epoch, 0.0
    epoch = batches.epoch(trainer.ranks.order(trainer.random_state), trainer.kernels)
    for i, batch in enumerate(epoch, 1):
        plan = stream_plan(trainer.n_steps, k, n_atoms, explored=explored)
        total += trainer.step(batch, plan)
        done = round(i * rows)
        progress.step("partial_fit", done, total / done, plan.n_nonzero_coefs)
    # After exploration, calls of one step would take twice as long by it.
    if not plan.refine or trainer.n_steps // _SETTLE_EVERY > n_settled:
        trainer.settle(plan, least=ENOUGH_ROWS // 2)


# ------------------------------------------------------------------- the steps of preparing
def _check(model, source, settings, ranks):
    """Refuse ranks that are about to do different things, and metrics that cannot be."""
    if settings.whitening and not model.whitens:
        raise TypeError(f"The model {type(model).__name__} knows no metric: set whitening=0.")
    check_width(settings.whitening, source.n_features)
    data = {"dtype": source.dtype.name, "n_features": source.n_features}
    check_agreement(ranks, settings.identity | data)


def _measured(source, ranks, outer, checkpoint=None, saved=None):
    """The moments of the rows of all ranks, and the number of rows of each rank.

    outer : whether products of features are measured too

    With a checkpoint, the rows are also compared with those that it was made from.
    """
    rows, checksum, checkpointed = source.survey(), Checksum(), ranks.share(bool(checkpoint))
    if checkpointed:
        rows = checksum.over(rows)
    moments = Moments.merged(ranks.gather(Moments.of(rows, outer=outer)))
    if checkpointed:
        checksums, orders = ranks.gather(checksum.value), ranks.gather(source.order)
        if ranks.rank == 0:
            data = {"n_rows": moments.n_rows, "checksums": checksums, "orders": orders}
            checkpoint.check_data(saved, data)
    return moments, ranks.gather(source.n_rows)
