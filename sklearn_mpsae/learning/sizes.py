"""What a training takes for "auto", by the size of its dictionary."""

from __future__ import annotations

from dataclasses import replace

from ..coding.kernels.budget import OUTPUT_BYTES
from ..models.base import Model
from .settings import Settings

# A batch has this many rows or more.
_LEAST = 512

# Each step multiplies the dictionary with itself, or a part of it, which costs about as much
# as to code p / 2 rows: so many rows take as long again or less (benchmarks/bench_large.py).
_ROWS_PER_ATOM = 0.5

# A batch has at most this many rows, and fewer where their outputs would take too much memory
# in float32.
_MOST, _OUTPUT_SIZE = 8192, 4

# A fit of so many epochs takes at least this many steps: with fewer it learns less from the
# same rows (the part "quality" of that benchmark). Where it takes as many epochs as it needs,
# one of them has at least the other number: for few rows, larger batches would only make more
# epochs.
_STEPS, _STEPS_OF_EPOCH = 250, 64


def batch_size_for(
    n_components: int, n_rows: int | None = None, max_iter: int | None = None
) -> int:
    """The rows of a training step.

    n_rows : those of an epoch; None for a stream
    max_iter : the number of epochs; None for as many as are needed
    """
    most = min(_MOST, OUTPUT_BYTES // (_OUTPUT_SIZE * n_components))
    size = min(_ROWS_PER_ATOM * n_components, most)
    if n_rows is not None:
        size = min(size, n_rows * max_iter / _STEPS if max_iter else n_rows / _STEPS_OF_EPOCH)
    return max(_LEAST, int(size))


def sized(
    model: Model, source, settings: Settings, kernels, ranks, n_rows: int | None, saved: dict
) -> tuple[Model, Settings]:
    """The model and the settings with what they leave to the size of the dictionary.

    All ranks take the same; a fit goes on with what its checkpoint has.

    Parameters
    ----------
    n_rows : int or None
        The rows of an epoch of all ranks; None for a stream.
    saved : dict
        The fitted attributes of the checkpoint that are known before the training.
    """
    p = settings.n_components
    size = settings.batch_size or saved.get("batch_size_")
    size = size or ranks.share(batch_size_for(p, n_rows, settings.max_iter))

    def has_bfloat16():
        return all(ranks.gather(kernels.has_bfloat16()))

    model = model.sized((p, source.n_features), has_bfloat16, saved)
    return model, replace(settings, batch_size=size)


def taken(model: Model, settings: Settings) -> dict:
    """The fitted attributes that tell it."""
    return {"batch_size_": settings.batch_size, **model.chosen}


def told(chosen: dict, n_steps: int) -> str:
    """What a fit of so many steps is to do, in words; `chosen` as of `Run`."""
    words = f"{n_steps} steps with up to {chosen['batch_size_']} rows"
    if chosen.get("precision_") == "bfloat16":
        words += ", atoms chosen in bfloat16"
    if "n_nonzero_coefs_" in chosen:
        words += f", {chosen['n_nonzero_coefs_']:.3g} codes a row"
    return words
