"""One module per rival; the benchmarks find them here.

A rival joins by adding one file with

    NAME        what the tables call it
    PACKAGE     the distribution whose version is recorded

and whichever it can of these tables, from a label to a function (all arrays float32):

    ENCODERS    (X, W, k) -> run; run() codes the rows of X over the unit rows of W with k
                atoms each and returns (indices, values), or codes as a matrix
    STEPS       (n_features, n_components, k) -> step; step(batch) does one whole training
                step on harness.BATCH rows: forward, backward, optimiser, and whatever the
                trainer does besides
    LEARNERS    (X, n_components, k, seed) -> harness.Learned

It imports its package at the top: where that fails, the benchmarks say so and go on.
"""

import os

# Read when tqdm is imported. Some trainers draw a progress bar and cannot leave it out.
os.environ["TQDM_DISABLE"] = "1"

from . import _torchvision  # noqa: F401  before any rival that needs it
