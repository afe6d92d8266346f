"""SAELens: sparse autoencoders for language models, here on plain rows."""

from functools import partial

import torch
from harness import BATCH, Learned, batches
from sae_lens import (
    MatchingPursuitTrainingSAE,
    MatchingPursuitTrainingSAEConfig,
    SAETrainer,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig

NAME = "SAELens"
PACKAGE = "sae-lens"


def matching_pursuit(n_features, n_components, k):
    """Its matching pursuit, stopped after k atoms instead of n_features."""
    return MatchingPursuitTrainingSAE(
        MatchingPursuitTrainingSAEConfig(
            d_in=n_features, d_sae=n_components, max_iterations=k, decoder_init_norm=1.0
        )
    )


def top_k(n_features, n_components, k):
    """Its TopK, with its loss for dead latents at its own weight."""
    return TopKTrainingSAE(TopKTrainingSAEConfig(d_in=n_features, d_sae=n_components, k=k))


def trainer(sae, data, n_rows, learning_rate):
    """Its trainer at its own settings: Adam, clipped gradients, constant rate.

    Except for the steps after which a latent counts as dead: 1000 by default, which is
    longer than ten epochs of MNIST, so that its loss for dead latents would never act.
    """
    config = SAETrainerConfig(
        total_training_samples=n_rows,
        train_batch_size_samples=BATCH,
        lr=learning_rate,
        lr_end=learning_rate,  # has to be given, though a constant rate ignores it
        dead_feature_window=100,
    )
    return SAETrainer(cfg=config, sae=sae, data_provider=data)


def training_step(n_features, n_components, k, *, build):
    """One call of its trainer's own step, and the count that its loop keeps."""
    torch.manual_seed(0)
    training = trainer(build(n_features, n_components, k), None, BATCH, 1e-3)

    def step(batch):
        training.step(torch.from_numpy(batch))
        training.n_training_steps += 1

    return step


def learn(X, n_components, k, seed, *, learning_rate, epochs=10):
    """TopK trained by its own trainer."""
    torch.manual_seed(seed)
    data = map(torch.from_numpy, batches(X, BATCH, epochs, seed))
    sae = top_k(X.shape[1], n_components, k)
    trainer(sae, data, epochs * len(X), learning_rate).fit()
    sae.fold_W_dec_norm()  # unit atoms, the same function

    @torch.no_grad()
    def encode(X):
        return sae.encode(torch.from_numpy(X)).numpy()

    return Learned(sae.W_dec.detach().numpy(), encode, sae.b_dec.detach().numpy())


STEPS = {
    "MP": partial(training_step, build=matching_pursuit),
    "TopK": partial(training_step, build=top_k),
}
LEARNERS = {
    f"TopK, rate {rate:g}": partial(learn, learning_rate=rate) for rate in (1e-3, 3e-3, 1e-2)
}
