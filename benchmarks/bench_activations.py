"""What it costs to read a module's activations, and to learn from them as they come.

First a layer's rows are read by `ModuleActivations`, beside the module's own forward passes
and a copy of the rows: in seconds of the processor, as one thread does it all. Then one epoch
is learnt from such a stream, beside the module alone and a fit to the same rows in memory: in
seconds of the clock. Module and estimator have one core each, where nobody else has it; and
once the module only waits for as long as its forward passes take, as for a device of its own.
"""

import itertools
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import harness
import numpy as np
import torch
from harness import Bar
from torch import nn

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.activations import ModuleActivations

LAYER = "3"


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rows", type=int, default=130_000)
    options.add_argument("--features", type=int, default=256)
    options.add_argument(
        "--batch", type=int, default=2048, help="rows of a batch of the module"
    )
    options.add_argument("--components", type=int, default=2048)
    options.add_argument("--sparsity", type=int, default=16)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    torch.set_num_threads(harness.THREADS)
    torch.manual_seed(args.seed)
    module = residual_network(args.features).eval()
    batches = torch.randn(args.rows, args.features).split(args.batch)
    collecting = interleaved(readings(module, batches, args), args.rounds)
    fits = harness.interleave(
        fittings(module, batches, collecting["the module alone"], args), args.rounds
    )
    rows = {
        name: {"rows/s": args.rows / row["median s"], **row}
        for seconds, reference in [(collecting, "the module alone"), (fits, "fit in memory")]
        for name, row in harness.timing_rows(seconds, reference).items()
    }
    harness.report("bench_activations", rows, args, bars=bars(rows))


class Block(nn.Module):
    """A residual block, as those of a transformer without its attention."""

    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(x)))


def residual_network(width):
    return nn.Sequential(*(Block(width) for _ in range(4)))


def readings(module, batches, args):
    """The module without and with its activations read."""
    copy = np.random.default_rng(0).random((args.batch, args.features), dtype=np.float32)

    def copied():
        for batch in batches:
            copy[: len(batch)].copy()

    def read(layer, **options):
        for _ in ModuleActivations(module, layer, batches, **options).batches():
            pass

    return {
        "the module alone": lambda: run(module, batches),
        "a copy of the rows": copied,
        "read of the last layer": lambda: read(LAYER),
        "read of the first, run to the end": lambda: read("0", stop_early=False),
        "read of the first, left early": lambda: read("0"),
    }


def interleaved(calls, rounds):
    """Seconds of the processor of each call, all in turn, after an untimed round."""
    seconds = {name: [] for name in calls}
    for i, (name, call) in itertools.product(range(rounds + 1), calls.items()):
        start = time.process_time()
        call()
        if i:
            seconds[name].append(time.process_time() - start)
    return seconds


def run(module, batches):
    with torch.no_grad():
        for batch in batches:
            module(batch)


class Waiting(nn.Module):
    """Takes some time for a batch, and no processor."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def fittings(module, batches, seconds, args):
    """The estimator on rows in memory, and as the module gives them."""
    X = ModuleActivations(module, LAYER, batches).collect().rows
    options = {"n_nonzero_coefs": args.sparsity, "max_iter": 1, "random_state": args.seed}

    waiting = Waiting(min(seconds) / len(batches))

    def fit(rows):
        MPSparseAutoencoder(args.components, **options).fit(rows)

    return {
        "the module alone again": lambda: run(module, batches),
        "fit in memory": lambda: fit(X),
        "fit on the stream": lambda: fit(
            ModuleActivations(module, LAYER, batches, n_samples=args.rows)
        ),
        "a module that waits alone": lambda: run(waiting, batches),
        "fit on its stream": lambda: fit(
            ModuleActivations(waiting, "", batches, n_samples=args.rows)
        ),
    }


def bars(rows):
    def seconds(name):
        return rows[name]["median s"]

    own = seconds("the module alone") + seconds("a copy of the rows")
    slower = max(seconds("the module alone again"), seconds("fit in memory"))
    waited = max(seconds("a module that waits alone"), seconds("fit in memory"))
    return [
        Bar(
            "read, over forward passes and a copy", seconds("read of the last layer") / own, 1.1
        ),
        Bar(
            "the same of the first layer, run to the end",
            seconds("read of the first, run to the end") / own,
            1.1,
        ),
        Bar(
            "rows/s of a fit on the stream, over those of the slower alone",
            slower / seconds("fit on the stream"),
            at_least=0.8,
        ),
        Bar(
            "the same, of a module that waits",
            waited / seconds("fit on its stream"),
            at_least=0.8,
        ),
    ]


if __name__ == "__main__":
    main()
