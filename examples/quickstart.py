"""Quickstart
==========

Learn handwritten digits: search the sparsity, compare with scikit-learn, draw the atoms.

``python examples/quickstart.py`` runs on scikit-learn's digits, in about a minute.
``--data mnist`` runs on all of MNIST, in ten minutes or more, and downloads it once.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import DictionaryLearning, MiniBatchDictionaryLearning
from sklearn.linear_model import OrthogonalMatchingPursuit
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.datasets import fetch_mnist

SEED = 0
R2_WANTED = 0.8

HEADER = f"""
{"":28}  fitted to     fit  R², own  R², OMP  mean   dead
{"":28}       rows     [s]    codes    codes    L0  atoms"""

NOTES = """
All learn from the same centred rows, and code with k atoms: the autoencoders non-negatively,
scikit-learn's dictionaries by orthogonal matching pursuit (OMP). R² is that of the test rows,
with the learner's own codes, and with those of OrthogonalMatchingPursuit on its dictionary.
Dead are atoms in no test row's own code. Seconds are wall time of one fit; the kernels were
compiled before. On MNIST, DictionaryLearning is left out: it codes all rows at each iteration,
for a minute or more.
"""


class Task(NamedTuple):
    X_train: np.ndarray
    X_test: np.ndarray
    white: int  # the largest grey level
    n_components: int
    sparsities: tuple[int, ...]  # to search
    search_rows: int
    search_epochs: int | None
    verbose: int


def load(name, data_home):
    if name == "mnist":
        X, _ = fetch_mnist(data_home, return_X_y=True)
        return Task(X[:60_000], X[60_000:], 255, 1024, (5, 10, 20), 10_000, 30, verbose=1)
    X, _ = load_digits(return_X_y=True)
    X_train, X_test = train_test_split(X, random_state=SEED)
    return Task(X_train, X_test, 16, 128, (2, 4, 8), len(X_train), None, verbose=0)


def unit_range(X, white):
    # float64 stays; MNIST's bytes become float32, which is enough and faster.
    return X / np.float32(white)


# ------------------------------------------------------------- 1. search the sparsity
def sparsest(cv_results):
    """The fewest atoms that reach the R² wanted: more can only raise it."""
    scores = cv_results["mean_test_score"]
    return int(np.argmax(scores >= min(R2_WANTED, scores.max())))


def search(estimator, task, n_jobs):
    """Return the sparsity found; an estimator's `score` is R², so no scoring is needed."""
    scale = FunctionTransformer(unit_range, kw_args={"white": task.white})
    pipeline = Pipeline([("scale", scale), ("sae", estimator)])
    grid = {"sae__n_nonzero_coefs": task.sparsities}
    search = GridSearchCV(pipeline, grid, refit=sparsest, cv=3, n_jobs=n_jobs)
    start = time.perf_counter()
    search.fit(task.X_train[: task.search_rows])
    seconds = time.perf_counter() - start
    scores = zip(task.sparsities, search.cv_results_["mean_test_score"], strict=True)
    listed = "   ".join(f"k={k}: {r2:.3f}" for k, r2 in scores)
    k = search.best_params_["sae__n_nonzero_coefs"]
    print(f"{type(estimator).__name__:20} {listed}   chosen: k={k}   ({seconds:.1f} s)")
    return k


# ------------------------------------------------------------------------- 2. compare
def learners(task, k):
    """Name, estimator and number of rows to learn from."""
    n_rows = len(task.X_train)
    both = {"n_components": task.n_components, "random_state": SEED}
    ours = both | {"n_nonzero_coefs": k, "verbose": task.verbose}
    theirs = both | {"transform_algorithm": "omp", "transform_n_nonzero_coefs": k}
    yield "MPSparseAutoencoder", MPSparseAutoencoder(**ours), n_rows
    omp = MPSparseAutoencoder(transform_algorithm="omp", **ours)
    yield "MPSparseAutoencoder (omp)", omp, n_rows
    yield "TopKSAE", TopKSAE(**ours), n_rows
    name = "MiniBatchDictionaryLearning"
    if n_rows > 10_000:
        # alpha=0.5 takes twice as long, for 0.0005 of R².
        yield name, MiniBatchDictionaryLearning(alpha=1, max_iter=1, **theirs), 6_000
    else:
        # Of 0.1, 0.3, 0.5 and 1, the alpha that comes furthest in some seconds.
        theirs |= {"alpha": 0.5, "max_iter": 20}
        yield name, MiniBatchDictionaryLearning(**theirs), n_rows
        yield "DictionaryLearning", DictionaryLearning(**theirs), n_rows


def warm_up(task, k, X):
    """Compile the kernels, so that no time below is the compiler's."""
    omp = MPSparseAutoencoder(transform_algorithm="omp")
    for sae in (MPSparseAutoencoder(), omp, TopKSAE()):
        # Some kernels are for rows that only a whole fit comes to: on few rows, one is made.
        epochs = 1 if len(X) > 10_000 else None
        sae.set_params(n_components=task.n_components, n_nonzero_coefs=k, max_iter=epochs)
        sae.set_params(random_state=SEED).fit(X[:2000])


def r2_score(X, reconstruction):
    return 1 - np.sum((X - reconstruction) ** 2) / np.sum((X - X.mean(axis=0)) ** 2)


def omp_codes(X, dictionary, k):
    # In float64: in float32, scikit-learn's pursuit takes round-off for linear dependence.
    X, dictionary = X.astype(np.float64), dictionary.astype(np.float64)
    omp = OrthogonalMatchingPursuit(n_nonzero_coefs=k, fit_intercept=False, precompute=True)
    return omp.fit(dictionary.T, X.T).coef_


def compare(task, k, X_train, X_test):
    """Print a row for each learner, and return the fitted MP-SAE."""
    print(f"\nAt k={k} of {task.n_components} atoms, on {len(X_test):,} test rows:\n{HEADER}")
    warm_up(task, k, X_train)
    fitted = {}
    for name, estimator, n_rows in learners(task, k):
        start = time.perf_counter()
        fitted[name] = estimator.fit(X_train[:n_rows])
        seconds = time.perf_counter() - start
        codes, dictionary = estimator.transform(X_test), estimator.components_
        # The autoencoders learn an offset of the rows too.
        offset = getattr(estimator, "intercept_", 0.0)
        own = r2_score(X_test, codes @ dictionary + offset)
        refitted = omp_codes(X_test - offset, dictionary, k)
        omp = r2_score(X_test, refitted @ dictionary + offset)
        l0 = np.count_nonzero(codes) / len(codes)
        dead = np.sum(~codes.any(axis=0))
        print(
            f"{name:28} {n_rows:>10,} {seconds:>7.1f} {own:>8.3f} {omp:>8.3f} {l0:>5.1f} "
            f"{dead:>6}",
            flush=True,
        )
    print(NOTES)
    return fitted["MPSparseAutoencoder"]


def machine():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} CPUs, {models[0] if models else platform.machine()}"


# ---------------------------------------------------------------------------- 3. look
def draw(figure, images, labels, title, bar, **options):
    """Draw a labelled line for each line of images."""
    axes = figure.subplots(*np.shape(images)[:2])
    for ax, image in zip(axes.flat, np.concatenate(images), strict=True):
        side = int(image.size**0.5)
        shown = ax.imshow(image.reshape(side, side), **options)
        ax.set(xticks=[], yticks=[])
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
    figure.colorbar(shown, ax=axes, shrink=0.8, label=bar, extend="both")
    figure.suptitle(title)


def picture(sae, X_test, mean, path):
    """The most used atoms, and test rows after 1, 2, 4 and 8 atoms."""
    figure = Figure(figsize=(10, 8.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[4, 5])

    atoms = sae.components_[np.argsort(-sae.atom_usage_)[:48]]
    limit = np.quantile(np.abs(atoms), 0.995)
    labels = [f"{first} to {first + 11}" for first in (1, 13, 25, 37)]
    title = f"The {len(atoms)} most used of {len(sae.components_)} atoms"
    colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    draw(upper, atoms.reshape(4, 12, -1), labels, title, "weight of a pixel", **colours)

    images, labels = [X_test[:12] + mean], ["original"]
    unexplained = sae.reconstruction_path(X_test, 8)
    for t in (1, 2, 4, 8):
        codes = sae.set_params(transform_n_nonzero_coefs=t).transform(X_test[:12])
        images.append(sae.inverse_transform(codes) + mean)
        labels.append(f"{t} atom{'s' * (t > 1)}\nR² {1 - unexplained[t - 1]:.2f}")
    title = "Test rows, and their reconstructions (R² of all test rows)"
    draw(lower, images, labels, title, "grey level", cmap="gray_r", vmin=0, vmax=1)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[2])
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--data-home", help="the folder of mnist.npz")
    parser.add_argument("--output", default="quickstart.png", help="the picture's path")
    parser.add_argument("--n-jobs", type=int, default=1, help="of the grid search")
    args = parser.parse_args()

    task = load(args.data, args.data_home)
    print(
        f"Grid search of k = n_nonzero_coefs, R² over 3 folds of {task.search_rows:,} rows; "
        f"chosen is the\nsmallest k that reaches {R2_WANTED}, or the best if none does:"
    )
    params = {"n_components": task.n_components, "max_iter": task.search_epochs}
    search(TopKSAE(random_state=SEED, **params), task, args.n_jobs)
    k = search(MPSparseAutoencoder(random_state=SEED, **params), task, args.n_jobs)

    X_train, X_test = (unit_range(X, task.white) for X in (task.X_train, task.X_test))
    mean = X_train.mean(axis=0)
    sae = compare(task, k, X_train - mean, X_test - mean)
    packages = (sklearn_mpsae, sklearn, np)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    print(f"Python {platform.python_version()}, {versions}; seed {SEED}; {machine()}")
    picture(sae, X_test - mean, mean, args.output)
    print(f"Picture: {args.output}")


# %%
# The picture, from scikit-learn's digits:
#
# .. image:: /images/quickstart.png
#    :alt: The most used atoms, and test rows after 1, 2, 4 and 8 atoms

# sphinx_gallery_thumbnail_path = "images/quickstart.png"
if __name__ == "__main__":
    main()
