"""Search the sparsity on a dask cluster
=====================================

Model selection over machines is joblib's: ``GridSearchCV`` knows nothing of dask, and fits
wherever joblib's backend puts it. ``python examples/dask_grid_search.py`` starts a cluster
of two processes on this machine; with a ``Client`` of another cluster the fits run there. For
ray, call ``ray.util.joblib.register_ray()`` once, and say ``backend="ray"``.
Needs ``pip install 'sklearn_mpsae[dask]'``.
"""

import argparse
import time

import joblib
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sklearn_mpsae import MPSparseAutoencoder


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[2])
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--max-iter", type=int, help="epochs of a fit")
    parser.add_argument("--sparsities", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--workers", type=int, default=2, help="processes of the cluster")
    args = parser.parse_args()

    X = load_digits().data
    sae = MPSparseAutoencoder(args.components, max_iter=args.max_iter, random_state=0)
    search = GridSearchCV(sae, {"n_nonzero_coefs": args.sparsities}, cv=3)

    cluster = LocalCluster(args.workers, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        start = time.perf_counter()
        search.fit(X)
        seconds = time.perf_counter() - start

    results = search.cv_results_
    print("  k  R², mean of 3 folds  fit [s]")
    for row in zip(
        args.sparsities, results["mean_test_score"], results["mean_fit_time"], strict=True
    ):
        print("{:3d}  {:19.3f}  {:7.2f}".format(*row))
    print(f"{3 * len(args.sparsities)} fits on {args.workers} workers took {seconds:.1f} s.")


if __name__ == "__main__":
    main()
