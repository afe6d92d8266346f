"""Learn from a dask array
=======================

It need not fit in memory, and is coded on a cluster.

``python examples/dask_out_of_core.py`` starts a cluster of two processes on this machine;
``--rows 10_000_000`` is more than most memories hold. dask-ml's ``Incremental`` brings the
estimator to one block after the other, and each is a call of ``partial_fit``; its
``ParallelPostFit`` encodes the blocks in parallel. A ``Client`` of a cluster elsewhere would
do the same there. Needs ``pip install 'sklearn_mpsae[dask]'``.
"""

import argparse
import time

import dask.array as da
import numpy as np
from dask_ml.wrappers import Incremental, ParallelPostFit
from distributed import Client, LocalCluster

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.datasets import make_superposition

SEED = 0
N_FEATURES, N_ATOMS, K = 64, 128, 4


def make_block(dictionary, block_info=None):
    """The rows of one block: sums of a few atoms. Here one would read a file."""
    output = block_info[None]
    data = make_superposition(
        output["chunk-shape"][0],
        *dictionary.shape[::-1],
        l0=K,
        dictionary=dictionary,
        dtype=np.float32,
        random_state=output["chunk-location"][0],
    )
    return data.data


def make_rows(n_rows, block_rows):
    """A dask array whose blocks are made where and when they are needed."""
    dictionary = make_superposition(1, N_FEATURES, N_ATOMS, random_state=SEED).dictionary
    chunks = da.core.normalize_chunks((block_rows, N_FEATURES), (n_rows, N_FEATURES))
    return da.map_blocks(make_block, dictionary, chunks=chunks, dtype=np.float32)


def r2_score(sae, X):
    """As `sae.score`, which would want all rows in one place."""
    reconstruct = lambda rows: sae.inverse_transform(sae.transform(rows))  # noqa: E731
    X_hat = X.map_blocks(reconstruct, meta=np.array((), X.dtype))
    unexplained = ((X - X_hat) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    return 1 - float(unexplained.compute())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[2])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--block-rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2, help="processes of the cluster")
    args = parser.parse_args()

    # With one thread each, as many fits or encodes run as there are workers.
    cluster = LocalCluster(args.workers, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster):
        X = make_rows(args.rows, args.block_rows)
        print(f"{X.shape[0]:,} x {X.shape[1]} rows, {X.numblocks[0]} blocks on", end=" ")
        print(f"{args.workers} workers, {X.nbytes / 1e6:,.0f} MB in all")

        start = time.perf_counter()
        sae = MPSparseAutoencoder(N_ATOMS, n_nonzero_coefs=K, random_state=SEED)
        sae = Incremental(sae, random_state=SEED).fit(X).estimator_
        seconds = time.perf_counter() - start
        print(f"Learnt in {seconds:.1f} s: {sae.n_samples_seen_:,} rows, {sae.n_steps_} steps")

        print(f"R² of all rows: {r2_score(sae, X):.3f}")

        # Sparse codes, which do fit in memory. Before they are computed, dask-ml says that
        # they have as many columns as X.
        sae.set_params(sparse_output=True)
        start = time.perf_counter()
        codes = ParallelPostFit(sae).transform(X).compute()
        print(
            f"Codes in {time.perf_counter() - start:.1f} s: {codes.shape[0]:,} x "
            f"{codes.shape[1]}, {codes.nnz / codes.shape[0]:.2f} non-zero per row, "
            f"{codes.data.nbytes / 1e6:,.0f} MB of values"
        )


if __name__ == "__main__":
    main()
