"""overcomplete: sparse autoencoders and dictionary learning for vision models."""

from functools import partial

import torch
from harness import BATCH, Learned, batches
from overcomplete.sae import MpSAE, TopKSAE, train_sae
from overcomplete.sae.losses import top_k_auxiliary_loss

NAME = "overcomplete"
PACKAGE = "overcomplete"


def mse(x, x_hat, pre_codes, codes, dictionary):
    """The criterion of its README."""
    return (x - x_hat).square().mean()


def train(model, data, criterion, learning_rate):
    """Its trainer at its own settings, over all batches that `data` yields."""
    adam = torch.optim.Adam(model.parameters(), lr=learning_rate)
    return lambda: train_sae(model, data, criterion, adam, nb_epochs=1, monitoring=0)


def training_step(n_features, n_components, k, *, build, criterion):
    """Its trainer, given a single batch."""
    torch.manual_seed(0)
    model = build(n_features, n_components, k)
    data = [None]
    run = train(model, data, criterion, 1e-3)

    def step(batch):
        data[0] = torch.from_numpy(batch)
        run()

    return step


def learn(X, n_components, k, seed, *, learning_rate, criterion, epochs=10):
    """TopK trained by its own trainer."""
    torch.manual_seed(seed)
    model = TopKSAE(X.shape[1], n_components, k)
    data = map(torch.from_numpy, batches(X, BATCH, epochs, seed))
    train(model, data, criterion, learning_rate)()
    model.eval()

    @torch.no_grad()
    def encode(X):
        return model.encode(torch.from_numpy(X))[1].numpy()

    return Learned(model.get_dictionary().detach().numpy(), encode)


STEPS = {
    "MP": partial(training_step, build=MpSAE, criterion=mse),
    "TopK": partial(training_step, build=TopKSAE, criterion=mse),
    "TopK, auxiliary loss": partial(
        training_step, build=TopKSAE, criterion=top_k_auxiliary_loss
    ),
}
LEARNERS = {
    f"TopK, rate {rate:g}": partial(learn, learning_rate=rate, criterion=top_k_auxiliary_loss)
    for rate in (1e-3, 3e-3, 1e-2)
}
