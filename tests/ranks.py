"""What one rank does in the tests of `distributed=True`: python ranks.py task folder.

Its rank and the number of ranks are in the environment, as torchrun sets them; a test that
starts it by itself gives them to `begin`. What it has learnt, or the error it met, goes to a
file of its own in the folder.
"""

import os
import signal
import sys
from pathlib import Path

import joblib
import numpy as np

import sklearn_mpsae
from sklearn_mpsae.learning.trainer import Trainer
from sklearn_mpsae.sources import BatchStream

# Found, not listed: all that can be fitted by several processes.
NAMES = [
    name
    for name in sklearn_mpsae.__all__
    if "distributed" in getattr(getattr(sklearn_mpsae, name), "_parameter_constraints", ())
    and hasattr(getattr(sklearn_mpsae, name), "partial_fit")
]
OPTIONS = {
    "n_components": 24,
    "n_nonzero_coefs": 3,
    "max_iter": 3,
    "batch_size": 64,
    # A third of the first atoms point where no row does: they have to be revived.
    "dict_init": np.concatenate(
        [np.random.default_rng(1).random((16, 12)), np.repeat(np.eye(12)[:1], 8, axis=0)]
    ),
    "intercept": "zero",
    "dead_after": 4,
    "random_state": 0,
}


def rows(seed=0):
    """640 rows of 12 features, most entries zero, of the first all."""
    rng = np.random.default_rng(seed)
    dense = rng.random((640, 12), dtype=np.float32)
    return dense * (rng.random((640, 12)) < 0.4) * (np.arange(12) > 0)


def shares(n_ranks, uneven):
    """How many rows of each batch of 64 are whose."""
    if not uneven:
        return [64 // n_ranks] * n_ranks
    return [64 - 8 * (n_ranks - 1), *[8] * (n_ranks - 1)]


def shard(X, rank, n_ranks, uneven):
    """A rank's rows: its share of each batch."""
    ends = np.cumsum([0, *shares(n_ranks, uneven)])
    batches = X.reshape(-1, 64, X.shape[1])
    return batches[:, ends[rank] : ends[rank + 1]].reshape(-1, X.shape[1])


def in_order(X):
    """Rows that come as they are, so that several ranks see what one process sees."""
    return BatchStream([X], shuffle=False)


def estimators(**options):
    """One of each kind, and variants of matching pursuit."""
    made = {name: getattr(sklearn_mpsae, name)(**OPTIONS, **options) for name in NAMES}
    mp = made["MPSparseAutoencoder"].get_params()
    for name, change in {
        # From the other first atoms its threshold falls into the noise of rounding.
        "average": {"sparsity": "average", "dict_init": None},
        "omp": {"transform_algorithm": "omp"},
        "centred": {"intercept": "mean", "dict_init": None},
        "learnt": {"intercept": "learn", "dict_init": None},
        "whitened": {"intercept": "learn", "whitening": 0.3, "dict_init": None},
    }.items():
        made[name] = sklearn_mpsae.MPSparseAutoencoder(**mp | change)
    return made


def fit_all(X, **options):
    """Each kind fitted to X, and then to it again in parts."""
    fitted = estimators(**options)
    for est in fitted.values():
        est.fit(in_order(X)).partial_fit(in_order(X))
    return fitted


def dies_at(n_steps, how):
    """Let this process end in its training, in whatever way."""
    step = Trainer.step

    def counted(self, *args):
        if self.n_steps == n_steps:
            how()
        return step(self, *args)

    Trainer.step = counted


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ArithmeticError("of rank 1 alone")


def single(**options):
    return sklearn_mpsae.MPSparseAutoencoder(**OPTIONS | {"distributed": True} | options)


def learn(task, folder, rank, n_ranks):
    """What the tests ask for, by name."""
    X = shard(rows(), rank, n_ranks, uneven="uneven" in task)
    if task in ("even", "uneven"):
        return fit_all(X, distributed=True)
    if task == "shuffled":
        return single(dict_init=None, random_state=None).fit(X)
    if task == "killed" and rank == 1:
        dies_at(5, kill)
    if task == "failing" and rank == 1:
        dies_at(5, fail)
    if task == "other features" and rank == 1:
        X = X[:, :5]
    if task == "bad rows" and rank == 1:
        X[7, 3] = np.nan
    if task == "few rows" and rank == 1:
        X = X[:5]
    other = {"tol": 0.1} if task == "other parameters" and rank == 1 else {}
    if task in ("checkpoint", "resumed"):
        other = {"checkpoint": folder / "checkpoint", "checkpoint_every": 0}
    if task == "checkpoint" and rank == 1:
        dies_at(17, kill)
    return single(**other).fit(X)


def begin(task, folder, environment):
    os.environ |= environment
    main(task, folder)


def main(task, folder):
    rank, n_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        result = learn(task, Path(folder), rank, n_ranks)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    joblib.dump(result, Path(folder) / f"{rank}.joblib")


if __name__ == "__main__":
    main(*sys.argv[1:])
