"""Modules of torch made on the spot, for tests, and what of them is to stay as it was."""

import dataclasses
from collections import UserDict
from typing import NamedTuple

import pytest
import torch
from torch import nn

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.activations import ModuleActivations

WIDTH = 8


def perceptron():
    return nn.Sequential(
        nn.Linear(4, WIDTH), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 3)
    )


def transformer():
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, WIDTH, 3),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(WIDTH * 16, 3),
    )


@dataclasses.dataclass
class Output:
    loss: torch.Tensor
    hidden: torch.Tensor
    kept: str = "kept"


class Named(NamedTuple):
    hidden: torch.Tensor
    kept: str


class Holder(nn.Module):
    """Gives what a layer gives, in a container of some kind."""

    def __init__(self, hold):
        super().__init__()
        self.layer, self.hold = nn.Linear(4, WIDTH), hold

    def forward(self, x):
        return self.hold(self.layer(x))


class Caller(nn.Module):
    """Calls its layer so many times, then maybe fails."""

    def __init__(self, times=1, error=None):
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)
        self.times, self.error = times, error

    def forward(self, x, scale=1.0):
        for _ in range(self.times):
            x = self.layer(x * scale)
        if self.error is not None:
            raise self.error
        return x


class Language(nn.Module):
    """A model as those of transformers: takes what a tokenizer gives, by name."""

    def __init__(self):
        super().__init__()
        self.embed, self.body, self.head = (
            nn.Embedding(20, WIDTH),
            transformer(),
            nn.Linear(8, 20),
        )

    def forward(self, input_ids, attention_mask=None):
        pad = None if attention_mask is None else attention_mask == 0
        return {"logits": self.head(self.body(self.embed(input_ids), src_key_padding_mask=pad))}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(name="net")
def perceptron_made():
    return perceptron()


@pytest.fixture(name="x")
def rows_of_the_perceptron():
    return torch.randn(60, 4)


@pytest.fixture(name="tokens")
def padded_tokens():
    """Two batches, padded on the right and on the left."""
    ids = torch.randint(1, 20, (2, 6, 5))
    masks = torch.ones_like(ids)
    masks[0, 2:, 3:], masks[1, 0, :4] = 0, 0
    pairs = zip(ids, masks, strict=True)
    return [UserDict(input_ids=each, attention_mask=mask) for each, mask in pairs]


def fitted(X, cls=MPSparseAutoencoder, **options):
    options = {
        "n_nonzero_coefs": 3,
        "max_iter": 3,
        "batch_size": 16,
        "random_state": 0,
    } | options
    return cls(12, **options).fit(X)


@pytest.fixture(name="sae")
def fitted_to_the_perceptron(net, x):
    return fitted(ModuleActivations(net, "1", [x]))


def state(module):
    """All that is to be as before."""
    return {
        "modes": [each.training for each in module.modules()],
        "hooks": [
            len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules()
        ],
        "grad": torch.is_grad_enabled(),
        "fast": torch.backends.mha.get_fastpath_enabled(),
        "values": [value.clone() for value in module.state_dict().values()],
        "gradients": [p.requires_grad for p in module.parameters()],
        "random": torch.get_rng_state(),
    }


def assert_as_before(module, before):
    for name, now in state(module).items():
        torch.testing.assert_close(now, before[name], rtol=0, atol=0, msg=name)


def as_it_is(module):
    """In modes of all kinds."""
    module.train()
    module[0].eval()
    return module
