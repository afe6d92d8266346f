"""A typed program that uses the package: `test_typing` has mypy check it, as a user would.

It runs too, so that what it says is true.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, assert_type

import numpy as np

import sklearn_mpsae
from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
    coding,
    compare,
    datasets,
    metrics,
)
from sklearn_mpsae.sources import BatchStream, NpyFiles


def learn(X: np.ndarray) -> MPSparseAutoencoder:
    sae = MPSparseAutoencoder(16, n_nonzero_coefs=3, transform_algorithm="omp", max_iter=2)
    assert_type(sae.fit(X), MPSparseAutoencoder)
    assert_type(sae.partial_fit(X), MPSparseAutoencoder)
    return sae.fit(X)


def use(sae: MPSparseAutoencoder, X: np.ndarray) -> float:
    atoms = assert_type(sae.components_, np.ndarray)
    mean = assert_type(sae.intercept_, np.ndarray)
    assert atoms.shape[1] == mean.shape[0]
    rows = assert_type(sae.inverse_transform(sae.transform(X)), np.ndarray)
    codes = sae.encode(X)
    assert_type(codes, coding.Codes)
    assert_type(codes.decode(atoms), np.ndarray)
    path = assert_type(sae.reconstruction_path(X, 2), np.ndarray)
    assert_type(sae.score_samples(X), np.ndarray)
    assert rows.shape == X.shape
    assert len(path) == 2
    return assert_type(sae.score(X), float)


def shallow(X: np.ndarray) -> list[float]:
    topk = TopKSAE(16, dead_atoms="auxiliary", max_iter=2).fit(X)
    assert_type(topk, TopKSAE)
    encoder = assert_type(topk.encoder_components_, np.ndarray)
    assert encoder.shape == topk.components_.shape
    thresholds = assert_type(JumpReLUSAE(20).fit(X).threshold_, np.ndarray)
    assert thresholds.shape == (20,)
    others = BatchTopKSAE(20), ReLUSAE(20), MatryoshkaSAE(20)
    return [sae.fit(X).score(X) for sae in others]


def from_disk(X: np.ndarray, folder: Path) -> float:
    np.save(folder / "X.npy", X)
    sae = MPSparseAutoencoder(8, max_iter=1).fit(BatchStream([X[:30], X[30:]]))
    sae.transform_to(NpyFiles(folder / "X.npy"), folder / "codes")
    return sae.score([list(row) for row in X])


def mistakes(X: np.ndarray) -> None:
    """Never called: a type checker has to find something in each line."""
    MPSparseAutoencoder(n_components="16")  # type: ignore[arg-type]
    MPSparseAutoencoder(sparsity="all")  # type: ignore[arg-type]
    TopKSAE(16, sparsity="row")  # type: ignore[call-arg]
    MPSparseAutoencoder(16).fit()  # type: ignore[call-arg]
    MPSparseAutoencoder(16).fit(X).transform_to(X)  # type: ignore[call-arg]
    coding.matching_pursuit(X, X, n_nonzero_coefs="3")  # type: ignore[arg-type]


def main() -> None:
    # A Bunch, whose attributes scikit-learn does not type.
    truth: Any = datasets.make_hierarchical_features(600, dtype=np.float32, random_state=0)
    X: np.ndarray = truth.data
    sae = learn(X)
    assert use(sae, X) <= 1
    assert len(shallow(X)) == 3
    assert 0 <= metrics.mutual_coherence(sae.components_) <= 1
    codes = coding.matching_pursuit(X, sae.components_, 3)
    assert codes.l0().max() <= 3
    assert_type(metrics.l0(codes), float)
    assert_type(metrics.AtomUsage().update(codes), metrics.AtomUsage)
    assert_type(metrics.match_codes(codes, truth.codes).scores, np.ndarray)
    table = compare({"MP": MPSparseAutoencoder(8, max_iter=1)}, X, n_nonzero_coefs=[1, 2])
    assert len(table)
    with TemporaryDirectory() as folder:
        assert from_disk(X, Path(folder)) <= 1
    assert isinstance(sklearn_mpsae.__version__, str)


if __name__ == "__main__":
    main()
