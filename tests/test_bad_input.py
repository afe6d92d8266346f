"""Bad input: a clear error before work is lost, and the estimator as it was."""

from contextlib import nullcontext

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from toys import model_of

from sklearn_mpsae import (
    MatryoshkaSAE,
    MPSparseAutoencoder,
    MPSparseAutoencoderCV,
    coding,
    explore,
    metrics,
    plotting,
)
from sklearn_mpsae.coding import save_codes
from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.sources import BatchStream

FAST = {"max_iter": 2, "batch_size": 20, "random_state": 0}


def with_value(X, value):
    X = X.copy()
    X[30, 4] = value
    return X


BAD_DATA = {
    "NaN": (lambda X: with_value(X, np.nan), "Input X contains NaN"),
    "infinity": (lambda X: with_value(X, np.inf), "Input X contains infinity"),
    "1-D": (lambda X: X[0], "Expected 2D array, got 1D array"),
    "3-D": (lambda X: X[None], "Found array with dim 3"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "no features": (lambda X: X[:, :0], "0 feature"),
    "words": (lambda X: np.full(X.shape, "word"), "could not convert string"),
    "objects": (lambda X: np.full(X.shape, {}, object), "must be a string or a real number"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
}


# Columns that are not numbers, beside numbers that are text, objects or may be missing.
COLUMNS = {
    "text": (["x", "y"], pd.Series, pl.Series),
    "categories": (["x", "y"], pd.Categorical, lambda x: pl.Series(x, dtype=pl.Categorical)),
    "strings": (["x", "y"], lambda x: pd.array(x, dtype="string"), pl.Series),
    "objects": ([{}, []], pd.Series, lambda x: pl.Series(x, dtype=pl.Object)),
    "dates": ([np.datetime64("2020-01-01")] * 2, pd.Series, lambda x: pl.Series(map(str, x))),
}


def by_open_encoder(sae, X):
    with sae.coder() as encode:
        encode(X)


DOORS = {
    "fit": lambda sae, X: sae.fit(X),
    "fit of a stream": lambda sae, X: sae.fit(BatchStream([X])),
    "fit with cross-validation": lambda sae, X: MPSparseAutoencoderCV(3, cv=2).fit(X),
    "partial_fit": lambda sae, X: sae.partial_fit(X),
    "transform": lambda sae, X: sae.transform(X),
    "inverse_transform": lambda sae, X: sae.inverse_transform(X),
    "score": lambda sae, X: sae.score(X),
    "an open encoder": by_open_encoder,
    "pursuit": lambda sae, X: coding.matching_pursuit(X, np.eye(3), 2),
    "dictionary": lambda sae, X: coding.orthogonal_matching_pursuit(np.eye(3), X, 2),
    "metric of rows": lambda sae, X: metrics.explained_variance(X, np.ones((2, 3))),
    "metric of codes": lambda sae, X: metrics.l0(X),
    "metric of atoms": lambda sae, X: metrics.babel_function(X, 2),
}


def with_column(library, make):
    values, in_pandas, in_polars = COLUMNS[make]
    columns = {"number": [1.0, 2.0], "as text": ["1", "2"]}
    if library == "polars":
        return pl.DataFrame({**columns, "bad": in_polars(values)})
    return pd.DataFrame({**columns, "bad": in_pandas(values)})


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_are_not_numbers_are_named(door, library, small):
    sae = MPSparseAutoencoder(3, **FAST).fit(small[:, :3])
    for make in COLUMNS:
        match = r"has columns that are not numbers: 'bad'\. Encode them .*OneHotEncoder"
        with pytest.raises(ValueError, match=match):
            DOORS[door](sae, with_column(library, make))


def test_three_columns_are_named_at_most(small):
    X = pd.DataFrame({0: [1.0] * 4, **{i: ["x"] * 4 for i in range(1, 6)}})
    with pytest.raises(ValueError, match="not numbers: 1, 2, 3 and 2 more"):
        MPSparseAutoencoder(2, **FAST).fit(X)


def test_a_broken_number_of_codes_for_each_row_is_refused(small):
    with pytest.raises(ValueError, match="sparsity='average' for rows that have so many"):
        MPSparseAutoencoder(8, n_nonzero_coefs=1.5).fit(small)


COUNTS = {
    "n_nonzero_coefs of a path": lambda sae, X, to, n: sae.reconstruction_path(X, n),
    "n_nonzero_coefs of a drawn path": lambda sae, X, to, n: (
        plotting.ReconstructionPathDisplay.from_estimator(sae, X, n_nonzero_coefs=n)
    ),
    "n_atoms": lambda sae, X, to, n: plotting.AtomsDisplay.from_estimator(
        sae, image_shape=(2, 5), n_atoms=n
    ),
    "n_atoms of a dictionary": lambda sae, X, to, n: plotting.AtomsDisplay.from_dictionary(
        sae.components_, image_shape=(2, 5), n_atoms=n
    ),
    "n_features": lambda sae, X, to, n: plotting.AtomWeightsDisplay.from_estimator(
        sae, n_features=n
    ),
    "n_atoms of bars": lambda sae, X, to, n: plotting.AtomWeightsDisplay.from_estimator(
        sae, n_atoms=n
    ),
    "n_columns": lambda sae, X, to, n: plotting.AtomsDisplay.from_estimator(
        sae, image_shape=(2, 5), n_columns=n
    ),
    "n_examples": lambda sae, X, to, n: explore(sae, X, to / "page.html", n_examples=n),
    "n_related": lambda sae, X, to, n: explore(sae, X, to / "page.html", n_related=n),
    "r": lambda sae, X, to, n: metrics.babel_function(sae.components_, n),
    "r of rows": lambda sae, X, to, n: metrics.coselected_babel(
        sae.transform(X), sae.components_, n
    ),
    "most": lambda sae, X, to, n: save_codes(to / "codes", [sae.encode(X).csr()], n),
    "n_samples": lambda sae, X, to, n: sae.transform(BatchStream([X], n)),
}


@pytest.mark.parametrize("n", [-1, 0, 2.5, np.nan, "2", [2]], ids=str)
@pytest.mark.parametrize("place", COUNTS)
def test_a_count_is_an_integer_of_at_least_one(place, n, small, tmp_path):
    sae = MPSparseAutoencoder(8, **FAST).fit(small)
    with pytest.raises(
        ValueError, match=f"{place.split()[0]} must be an integer of at least 1"
    ):
        COUNTS[place](sae, small, tmp_path, n)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [10, (10,), (-2, -5), (2.0, 5.0), "25", (5, 5), np.nan], ids=str
)
def test_an_image_has_a_height_and_a_width(shape, small, tmp_path):
    sae = MPSparseAutoencoder(8, **FAST).fit(small)
    with pytest.raises(ValueError, match="image_shape must be"):
        plotting.AtomsDisplay.from_estimator(sae, image_shape=shape)
    with pytest.raises(ValueError, match="image_shape must be"):
        explore(sae, small, tmp_path / "page.html", image_shape=shape)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "sizes", [[], [0, 4], [9], [2.5], [[2, 4]], ["a"], [True, 4]], ids=lambda sizes: str(sizes)
)
def test_bad_prefixes_are_refused_before_any_work(sizes, small):
    with pytest.raises(
        ValueError, match="prefix_sizes must be whole numbers from 1 to 8, at least"
    ):
        MatryoshkaSAE(8, prefix_sizes=sizes).fit(small)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("make", BAD_DATA)
def test_bad_data_to_learn_from(Estimator, method, make, small):
    spoil, match = BAD_DATA[make]
    est = Estimator(8, **FAST)
    with pytest.raises((ValueError, TypeError), match=match):
        getattr(est, method)(spoil(small))
    assert vars(est) == vars(Estimator(8, **FAST))


# The other methods, and fits of what has been fitted: tests/test_hostile.py.
@pytest.mark.parametrize("make", BAD_DATA)
def test_bad_data_for_a_path(Estimator, make, small):
    spoil, match = BAD_DATA[make]
    est = Estimator(8, **FAST).fit(small)
    with pytest.raises((ValueError, TypeError), match=match.replace("0 feature", "feature")):
        est.reconstruction_path(spoil(small))


@pytest.mark.parametrize(
    "method", ["transform", "score", "score_samples", "reconstruction_path", "partial_fit"]
)
def test_wrong_number_of_features(Estimator, method, small):
    est = Estimator(8, **FAST).fit(small)
    with pytest.raises(ValueError, match=r"X has 9 features, but .* is expecting 10 features"):
        getattr(est, method)(small[:, :9])


def test_codes_of_the_wrong_width(Estimator, small):
    est = Estimator(8, **FAST).fit(small)
    with pytest.raises(ValueError, match=r"X has 7 columns, but .* has 8 components"):
        est.inverse_transform(np.ones((3, 7)))


@pytest.mark.parametrize(
    "method",
    ["transform", "inverse_transform", "score", "score_samples", "reconstruction_path"],
)
def test_before_fit(Estimator, method, small):
    with pytest.raises(NotFittedError):
        getattr(Estimator(8), method)(small)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"n_components": 0}, "'n_components' parameter"),
        ({"n_nonzero_coefs": 0}, "'n_nonzero_coefs' parameter"),
        ({"transform_n_nonzero_coefs": -1}, "'transform_n_nonzero_coefs' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"batch_size": -5}, "'batch_size' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"learning_rate": 0}, "'learning_rate' parameter"),
        ({"learning_rate": float("nan")}, "'learning_rate' parameter"),
        ({"dead_atoms": "bury"}, "'dead_atoms' parameter"),
        ({"dead_after": 0}, "'dead_after' parameter"),
        ({"device": 0}, "'device' parameter"),
        ({"random_state": "lucky"}, "'random_state' parameter"),
        ({"device": "abacus"}, "device='abacus' cannot compute.*Use device='cpu'"),
        ({"dict_init": np.ones((8, 9))}, r"dict_init must have shape .* = \(8, 10\)"),
        ({"dict_init": np.eye(8, 10) * (np.arange(8) < 3)[:, None]}, "row 3"),
        ({"dict_init": np.full((8, 10), np.nan)}, "dict_init holds NaN"),
        ({"dict_init": np.ones((0, 10)), "n_components": None}, "dict_init must have shape"),
        ({"dict_init": np.ones(10), "n_components": None}, "dict_init must have shape"),
        ({"dict_init": np.array(3.0), "n_components": None}, "dict_init must have shape"),
    ],
    ids=str,
)
def test_bad_parameters(Estimator, parameters, match, small):
    est = Estimator(**({"n_components": 8} | FAST | parameters))
    with pytest.raises(ValueError, match=match):
        est.fit(small)
    assert not hasattr(est, "n_features_in_")


@pytest.mark.parametrize(
    ("parameters", "match"),
    [({"tol": -1}, "'tol' parameter"), ({"tol": 1}, "'tol' parameter"),
     ({"transform_algorithm": "lars"}, "'transform_algorithm' parameter")],
)  # fmt: skip
def test_bad_parameters_of_the_pursuit(parameters, match, small):
    with pytest.raises(ValueError, match=match):
        MPSparseAutoencoder(8, **parameters).fit(small)


def test_an_absent_device_is_not_replaced_by_another():
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(ValueError, match="device='cuda' cannot compute in float64 here"):
        open_kernels("cuda", np.dtype(np.float64))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_loss_that_is_not_finite(Estimator, method, small, monkeypatch):
    """The error says what to do, and nothing of the estimator changes."""
    est = Estimator(8, **FAST).fit(small)
    before, contents = vars(est).copy(), joblib.hash(est)

    model = model_of(Estimator)
    gradients = model.gradients

    def diverging(*args):
        result = gradients(*args)
        result.residual[:] = np.inf
        return result

    monkeypatch.setattr(model, "gradients", diverging)
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        getattr(est, method)(small)
    assert vars(est) == before
    assert joblib.hash(est) == contents


def test_interruption_leaves_the_estimator_as_it_was(Estimator, small, monkeypatch):
    est = Estimator(8, **FAST).fit(small)
    before = vars(est).copy()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_of(Estimator), "gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        est.fit(small[:, :5])
    assert vars(est) == before


def test_warm_start_needs_the_same_shape(Estimator, small):
    est = Estimator(8, warm_start=True, **FAST).fit(small)
    before = est.components_
    with pytest.raises(ValueError, match="warm_start needs data and n_components"):
        est.set_params(n_components=9).fit(small)
    assert est.components_ is before


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_a_stream_keeps_its_number_of_atoms(Estimator, first, small):
    est = getattr(Estimator(8, **FAST), first)(small)
    before = est.components_
    match = r"n_components cannot change within a stream: it was 8, and is 9.* fit, afresh\."
    with pytest.raises(ValueError, match=match):
        est.set_params(n_components=9).partial_fit(small)
    assert est.components_ is before
    # No number is asked for: the stream has one.
    assert est.set_params(n_components=None).partial_fit(small).components_.shape == (8, 10)


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
def test_another_number_of_atoms_is_refused_before_rows_are_read(verb, small):
    est = MPSparseAutoencoder(8, warm_start=True, **FAST).fit(small)
    read = []

    def batches():
        read.append(True)
        yield small

    # Opening a stream reads its first batch.
    with pytest.raises(ValueError, match="n_components"):
        getattr(est.set_params(n_components=9), verb)(BatchStream(batches))
    assert len(read) == 1


def test_more_codes_than_atoms_are_clipped_with_a_warning(Estimator, small):
    est = Estimator(4, n_nonzero_coefs=7, **FAST)
    with pytest.warns(UserWarning, match="n_nonzero_coefs=7 is more than the 4 components"):
        codes = est.fit(small).transform(small)
    assert codes.shape == (60, 4)


# ------------------------------------------------------- odd data for which it must work
ODD_DATA = {
    "rows of zeros": lambda X: np.vstack([np.zeros((5, 10)), X]),
    "only zeros": lambda X: np.zeros((30, 10)),
    "constant features": lambda X: np.hstack([X[:, :5], np.ones((60, 5))]),
    "duplicate rows": lambda X: np.repeat(X[:3], 20, axis=0),
    "one row": lambda X: X[:1],
    "fewer rows than atoms": lambda X: X[:5],
    "one feature": lambda X: X[:, :1],
    "Fortran order": lambda X: np.asfortranarray(X),
    "strides": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "byte-swapped": lambda X: X.astype(">f8"),
    "float16": lambda X: X.astype(np.float16),
    "booleans": lambda X: X.mean() < X,
    "tiny": lambda X: X.astype(np.float32) * np.float32(1e-30),
    "huge": lambda X: X.astype(np.float32) * np.float32(1e30),
}


@pytest.mark.parametrize("make", ODD_DATA)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_odd_data_work(Estimator, make, method, small):
    X = ODD_DATA[make](small)
    sparsity = {"n_nonzero_coefs": 2, "transform_n_nonzero_coefs": 2}
    est, varies = Estimator(12, **sparsity, **FAST), np.ptp(X.astype(float), axis=0).any()
    with nullcontext() if varies or method == "fit" else pytest.warns(ConvergenceWarning):
        getattr(est, method)(X)
    assert np.isfinite(est.components_).all()
    np.testing.assert_allclose(np.linalg.norm(est.components_, axis=1), 1, atol=1e-5)
    codes = est.transform(X)
    assert np.isfinite(codes).all()
    assert ((codes != 0).sum(axis=1) <= 2).all()
    reconstruction = est.inverse_transform(codes)
    left = np.linalg.norm(X - reconstruction.astype(float))
    # Never worse than the mean alone: for a shallow encoder, once it has learnt.
    if Estimator is MPSparseAutoencoder:
        assert left <= np.linalg.norm(X - est.intercept_.astype(float)) * (1 + 1e-5)


def test_read_only_memory_maps_work(Estimator, small, tmp_path):
    np.save(tmp_path / "X.npy", small)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    est = Estimator(8, **FAST).fit(X)
    np.testing.assert_array_equal(est.components_, Estimator(8, **FAST).fit(small).components_)
