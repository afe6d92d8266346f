"""The dictionaries that the classical page compares: how they are learnt, kept and scored."""

from __future__ import annotations

import time
import warnings

import joblib
import numpy as np
from common import memory
from sklearn.decomposition import NMF, PCA, DictionaryLearning, MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches
from tqdm import tqdm

from sklearn_mpsae import MPSparseAutoencoder, metrics
from sklearn_mpsae.coding import orthogonal_matching_pursuit

NMF_ROWS = 5_000


class Cells:
    """Fits, one by one: each is kept, and found again by what it was asked for."""

    def __init__(self, args) -> None:
        cache = memory(args).cache
        self._part = cache(learn_part, ignore=["X", "before"])
        self._whole = cache(learn_whole, ignore=["X"])
        self._ours = cache(learn_ours, ignore=["X"])
        self.scores = cache(score, ignore=["X"])
        self._factors = cache(learn_factors, ignore=["X", "X_test"])
        self._bar = tqdm(desc="classical", unit="fit", disable=False)

    def theirs(self, data, n_parts, **options) -> list[dict]:
        """The states after each of so many parts of the training."""
        states = [None]
        for part in range(n_parts):
            self._bar.update()
            states.append(self._part(data.key, data.X, states[-1], part=part, **options))
        return states[1:]

    def whole(self, data, **options):
        self._bar.update()
        return self._whole(data.key, data.X, **options)

    def ours(self, data, **options):
        self._bar.update()
        return self._ours(data.key, data.X, **options)

    def ours_at(self, data, levels, seeds, **options) -> dict[int, list[dict]]:
        """Fits with OMP codes: at each level, one for each seed."""
        options = {"transform_algorithm": "omp", **options}
        return {
            level: [self.ours(data, k=level, seed=seed, **options) for seed in seeds]
            for level in levels
        }

    def factors(self, data, **options):
        self._bar.update()
        return self._factors(data.key, data.X, data.X_test, **options)

    def close(self) -> None:
        self._bar.close()


class Data:
    """Rows to learn from and rows to measure on, and what made them, if it is known."""

    def __init__(self, X, X_test, cells, truth=None) -> None:
        self.X, self.X_test, self.truth = X, X_test, truth
        self.key = joblib.hash((X, X_test), coerce_mmap=True)
        self._scores = cells.scores

    def r2(self, fit, level, *, positive=False, n_rows=None) -> float:
        """The test R² of the codes that orthogonal matching pursuit finds.

        fit : {"atoms": (p, d), "offset": (d,)}; the atoms were learnt about the offset
        """
        atoms, offset = fit["atoms"], fit["offset"]
        return self._scores(
            self.key, self.X_test[:n_rows], offset, atoms, level, positive, n_rows
        )

    def r2_of(self, fits: dict[int, list[dict]], **how) -> dict[int, np.ndarray]:
        """The test R² of fits, by their levels."""
        return {
            level: np.array([self.r2(fit, level, **how) for fit in group])
            for level, group in fits.items()
        }


def score(key, X, offset, atoms, level, positive, n_rows) -> float:
    """The R² of the codes that orthogonal matching pursuit finds for these atoms."""
    X, atoms = X - offset.astype(X.dtype), directions(atoms).astype(X.dtype)
    codes = orthogonal_matching_pursuit(X, atoms, level, positive=positive)
    return metrics.explained_variance(X, codes.decode(atoms))


def directions(atoms: np.ndarray) -> np.ndarray:
    """Atoms of unit norm, without those that are zero."""
    norms = np.linalg.norm(np.asarray(atoms, dtype=np.float64), axis=1)
    alive = norms > 1e-8
    return atoms[alive] / norms[alive, None]


def learn_part(
    key, X, before, *, part, n_rows, p, alpha, seed, batch_size=512, positive=False, center=True
) -> dict:  # fmt: skip
    """scikit-learn's dictionary after `n_rows` more rows: what it is now, and the seconds."""
    # In float64: in float32 coordinate descent does not reach its tolerance.
    X = X.astype(np.float64)
    offset = X.mean(axis=0) * center
    X -= offset
    rows = np.random.default_rng(seed).permutation(len(X))
    if before is None:
        # Its own start, by singular vectors, has none for atoms beyond the dimensions.
        learner = MiniBatchDictionaryLearning(
            p,
            alpha=alpha,
            batch_size=batch_size,
            fit_algorithm="cd",
            positive_code=positive,
            transform_algorithm="lasso_cd",
            dict_init=directions(X[rows[-p:]]),
            random_state=seed,
        )
        seconds = 0.0
    else:
        learner, seconds = before["learner"], before["seconds"]
    rows = np.take(rows, range(part * n_rows, (part + 1) * n_rows), mode="wrap")
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for batch in gen_batches(n_rows, batch_size):
            learner.partial_fit(X[rows[batch]])
        seconds += time.process_time() - start
        lasso_l0 = float((learner.transform(X[:200]) != 0).sum(axis=1).mean())
    atoms = learner.components_.astype(np.float32)
    learnt = {"atoms": atoms, "offset": offset, "seconds": seconds}
    return learnt | {"lasso_l0": lasso_l0, "learner": learner}


def learn_whole(key, X, *, p, n_rows, alpha, seed, positive) -> dict:
    """The dictionary of scikit-learn's DictionaryLearning, from few rows."""
    learner = DictionaryLearning(
        p,
        alpha=alpha,
        max_iter=30,
        fit_algorithm="cd",
        positive_code=positive,
        random_state=seed,
    )
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learner.fit(X[:n_rows])
    seconds = time.process_time() - start
    return {"atoms": learner.components_, "offset": np.zeros(X.shape[1]), "seconds": seconds}


def learn_ours(key, X, *, p, k, seed, **options) -> dict:
    """Our dictionary, and what it cost."""
    start = time.process_time()
    model = MPSparseAutoencoder(p, n_nonzero_coefs=k, random_state=seed, **options).fit(X)
    seconds = time.process_time() - start
    learnt = {"atoms": model.components_, "offset": model.intercept_}
    return learnt | {"seconds": seconds, "model": model}


def learn_factors(key, X, X_test, *, kind, n_components) -> float:
    """The test R² of so many components, all of which every row uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if kind == "PCA":
            model = PCA(n_components, random_state=0).fit(X)
        else:
            model = NMF(n_components, init="nndsvda", random_state=0).fit(X[:NMF_ROWS])
        return metrics.explained_variance(
            X_test, model.inverse_transform(model.transform(X_test))
        )
