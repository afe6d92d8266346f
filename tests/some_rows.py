"""Rows in memory, in files and in streams, for tests, and a fit to them."""

import warnings

import numpy as np
import pytest
import torch

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.rows import sizes
from sklearn_mpsae.sources import NpyFiles

OPTIONS = {"n_nonzero_coefs": 3, "max_iter": 2, "batch_size": 64, "random_state": 0}


@pytest.fixture(name="X")
def some_rows(rng):
    return (rng.random((700, 12)) * (rng.random((700, 12)) < 0.4)).astype(np.float32)


@pytest.fixture(name="small_pools")
def pools_of_200_rows(monkeypatch):
    """Pools of about 200 rows, in blocks of 10."""
    monkeypatch.setattr(sizes, "_POOL_BYTES", 200 * 12 * 4)
    monkeypatch.setattr(sizes, "_BLOCK_BYTES", 10 * 12 * 4)


@pytest.fixture(name="path")
def path_of_rows(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


def fitted(X, **options):
    return MPSparseAutoencoder(20, **OPTIONS | options).fit(X)


def shards(X, path):
    """Three files, the last one empty but for a row."""
    paths = [path.with_name(f"shard{i}.npy") for i in range(3)]
    for each, part in zip(paths, np.split(X, [300, 699]), strict=True):
        np.save(each, part)
    return NpyFiles(paths)


def order_of(source, seed=0, skip=0):
    pools = source.pools(np.random.RandomState(seed), skip)
    return np.concatenate([take(order)[:, 0] for order, take in pools])


def batches_of(X, size=130):
    return np.array_split(X, len(X) // size)


def loader(X, *others, **options):
    tensors = [torch.from_numpy(each) for each in (X, *others)]
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*tensors), **{"batch_size": 7} | options
    )


def nested_tensor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype
        return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)])
