"""Seconds of one training step.

Bar 4. Each side trains its own model by its own trainer's step, all on the same batches
of centred MNIST in the same order.
"""

import itertools

import harness
from harness import Bar, ratio


def main():
    options = harness.parser(__doc__.splitlines()[0])
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--sparsity", type=int, default=16)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()

    X, _ = harness.mnist(args.data_home)
    data = list(harness.batches(X, harness.BATCH, 1, args.seed))[:16]
    steps, record = harness.sides("STEPS", args.only)
    calls = {
        name: on(data, build(X.shape[1], args.components, args.sparsity))
        for name, build in steps.items()
    }
    seconds = harness.interleave(calls, args.rounds, repeats=5)
    rows = harness.timing_rows(seconds, "ours MP")
    harness.report("bench_step", rows, args, bars=bars(rows), **record)


def on(data, step):
    """The step, fed with one batch after the other."""
    stream = itertools.cycle(data)
    return lambda: step(next(stream))


def bars(rows):
    """What the package has to reach."""
    mp, topk = "ours MP", "ours TopK"
    theirs = ["SAELens TopK", "overcomplete TopK"]
    return [
        Bar("SAELens MP over MP", ratio(rows, "SAELens MP", [mp]), at_least=5),
        Bar("overcomplete MP over MP", ratio(rows, "overcomplete MP", [mp]), at_least=20),
        Bar("MP over the faster of their TopK", ratio(rows, mp, theirs), at_most=1),
        Bar("TopK over the faster of theirs", ratio(rows, topk, theirs), at_most=1),
    ]


if __name__ == "__main__":
    main()
