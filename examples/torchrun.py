"""One dictionary learnt by several processes
==========================================

Each learns from rows of its own::

    torchrun --nproc-per-node 2 examples/torchrun.py

On several machines the same, with torchrun's `--nnodes` and `--rdzv-endpoint`; SLURM, Ray
and `accelerate launch` set the same variables. Here each process draws its own half of
scikit-learn's digits; in real use it would open its own files
(`sklearn_mpsae.sources.NpyFiles`). With --checkpoint, a run that was interrupted goes on
where it was.
"""

import argparse
import os

import joblib
from sklearn.datasets import load_digits

from sklearn_mpsae import MPSparseAutoencoder


def main():
    options = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    options.add_argument("--components", type=int, default=128)
    options.add_argument("--sparsity", type=int, default=8)
    options.add_argument("--checkpoint", help="file to go on from")
    options.add_argument("--output", help="file for the estimator, as joblib writes it")
    args = options.parse_args()

    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    digits = load_digits().data
    sae = MPSparseAutoencoder(
        args.components,
        n_nonzero_coefs=args.sparsity,
        distributed="RANK" in os.environ,
        checkpoint=args.checkpoint,
        verbose=1,
        random_state=0,
    )
    sae.fit(digits[rank::size])
    # All ranks now have the same estimator.
    print(
        f"rank {rank} of {size}: learnt from {sae.n_samples_seen_} rows, of which "
        f"{len(digits[rank::size])} its own; R2 of all rows {sae.score(digits):.4f}"
    )
    if args.output and rank == 0:
        joblib.dump(sae, args.output)


if __name__ == "__main__":
    main()
