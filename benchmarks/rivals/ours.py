"""The package that is compared here."""

from functools import partial

from harness import BATCH, Learned

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding import (
    matching_pursuit,
    orthogonal_least_squares,
    orthogonal_matching_pursuit,
)

NAME = "ours"
PACKAGE = "sklearn-mpsae"


def encode(X, W, k, *, pursuit, positive):
    """Codes over a given dictionary, which the call prepares anew each time."""

    def run():
        codes = pursuit(X, W, n_nonzero_coefs=k, positive=positive)
        return codes.indices, codes.values

    return run


def training_step(n_features, n_components, k, *, build):
    """partial_fit of one batch is one training step."""
    model = build(n_components, n_nonzero_coefs=k, batch_size=BATCH, random_state=0)
    return model.partial_fit


def learn(X, n_components, k, seed, *, build, epochs, **options):
    """The estimator with its defaults, but for the batches that all sides take."""
    model = build(
        n_components,
        n_nonzero_coefs=k,
        batch_size=BATCH,
        max_iter=epochs,
        sparse_output=True,
        random_state=seed,
        **options,
    ).fit(X)
    return Learned(model.components_, model.transform, model.intercept_)


ENCODERS = {
    "MP": partial(encode, pursuit=matching_pursuit, positive=True),
    "MP, either sign": partial(encode, pursuit=matching_pursuit, positive=False),
    "OMP": partial(encode, pursuit=orthogonal_matching_pursuit, positive=False),
    "OMP, positive": partial(encode, pursuit=orthogonal_matching_pursuit, positive=True),
    "OLS": partial(encode, pursuit=orthogonal_least_squares, positive=False),
}
STEPS = {
    "MP": partial(training_step, build=MPSparseAutoencoder),
    "TopK": partial(training_step, build=TopKSAE),
}
LEARNERS = {
    "MP": partial(learn, build=MPSparseAutoencoder, epochs=10),
    "MP, omp": partial(learn, build=MPSparseAutoencoder, epochs=10, transform_algorithm="omp"),
    "MP, ols, either sign": partial(
        learn,
        build=MPSparseAutoencoder,
        epochs=9,  # ten would take a little more than a third of trainDL's time
        transform_algorithm="ols",
        positive_code=False,
    ),
    "TopK": partial(learn, build=TopKSAE, epochs=10),
}
