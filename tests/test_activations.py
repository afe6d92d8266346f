"""From a module's layers to rows, and reconstructions back into the module."""

import dataclasses
import re
import threading
from collections import UserDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_mpsae import BatchTopKSAE, JumpReLUSAE, MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.activations import (
    ModuleActivations,
    ablate,
    clamp,
    load_activations,
    save_activations,
    scale,
    spliced,
)
from sklearn_mpsae.persistence import to_torch_module
from sklearn_mpsae.rows import sizes
from sklearn_mpsae.rows.stream import StreamRows

WIDTH = 8


# ------------------------------------------------------------------ modules made on the spot
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


@pytest.fixture
def net():
    return perceptron()


@pytest.fixture
def x():
    return torch.randn(60, 4)


@pytest.fixture
def tokens():
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


@pytest.fixture
def sae(net, x):
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


# ---------------------------------------------------------------------------------- rows
def test_rows_are_what_the_layer_gives(net, x):
    with torch.no_grad():
        expected = net[1](net[0](x)).numpy()
    rows = ModuleActivations(net, "1", x.split(25))
    np.testing.assert_array_equal(rows.collect().rows, expected)
    np.testing.assert_array_equal(ModuleActivations(net, net[1], [x]).collect().rows, expected)
    # In order, for an estimator too.
    sae = fitted(expected)
    np.testing.assert_array_equal(sae.transform(rows), sae.transform(expected))


def test_input_and_output_are_those_before_later_layers_work_in_place(net, x):
    """Of the first batch, which is run to its end, and of the others."""
    with torch.no_grad():
        expected = net[0](x)
    assert (expected < 0).any()
    for layer, at in [("0", "output"), ("1", "input")]:
        rows = ModuleActivations(net, layer, x.split(20), at=at).collect().rows
        np.testing.assert_array_equal(rows, expected)


def test_how_the_module_is_run_does_not_matter_to_a_fit(net, x):
    """With numbers that add up without rounding, in whatever order a processor adds."""
    x = (4 * x).round() / 4
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((8 * parameter).round() / 8)
    one, other = (fitted(ModuleActivations(net, "1", x.split(n))) for n in (7, 60))
    np.testing.assert_array_equal(one.components_, other.components_)
    assert one.n_samples_seen_ == len(x)


@pytest.mark.parametrize("at", ["output", "input"])
def test_only_what_the_mask_keeps_is_given(tokens, at):
    """Whichever side is padded, by key, by function, and where it is transformers' own."""
    model = Language()
    kept = sum(int(batch["attention_mask"].sum()) for batch in tokens)
    options = {"at": at, "batches": tokens, "module": model, "layer": "body.layers.1"}
    rows, positions = ModuleActivations(**options).collect()
    assert len(rows) == len(positions) == kept
    for mask in ("attention_mask", lambda batch: batch["attention_mask"].bool()):
        again = ModuleActivations(**options, mask=mask).collect()
        np.testing.assert_array_equal(again.rows, rows)
    every = ModuleActivations(**options, mask=None).collect()
    assert len(every.rows) == 2 * 6 * 5
    of_every = {
        tuple(where): row
        for where, row in zip(every.positions.tolist(), every.rows, strict=True)
    }
    for where, row in zip(positions.tolist(), rows, strict=True):
        assert tokens[where[0]]["attention_mask"][where[1], where[2]]
        np.testing.assert_array_equal(row, of_every[tuple(where)])


def test_masks_of_the_first_axes_speak_for_the_others():
    net, images = convolutional(), torch.randn(5, 2, 6, 6)
    rows, positions = ModuleActivations(
        net, "0", [images], mask=lambda batch: torch.arange(5) < 2
    ).collect()
    assert rows.shape == (2 * 16, WIDTH)
    assert positions.max(axis=0).tolist() == [0, 1, 3, 3]


@pytest.mark.parametrize("layer", ["0", "1"])
def test_channels_of_a_convolution_are_the_features(layer):
    net, images = convolutional(), torch.randn(5, 2, 6, 6)
    rows, positions = ModuleActivations(net, layer, images.split(2)).collect()
    with torch.no_grad():
        given = net.eval()[: int(layer) + 1](images)
    for row, (batch, i, h, w) in zip(rows, positions, strict=True):
        np.testing.assert_allclose(row, given[2 * batch + i, :, h, w], rtol=1e-5, atol=1e-6)


def test_channels_of_series_and_of_single_examples_are_the_features():
    net = nn.Sequential(nn.Conv1d(2, WIDTH, 3), nn.MaxPool1d(2))
    for layer in "01":
        for series in (torch.randn(5, 2, 10), torch.randn(2, 10)):
            rows = ModuleActivations(net, layer, [series]).collect().rows
            assert rows.shape[1] == WIDTH


def test_of_images_whose_axes_cannot_be_told_the_features_are_asked_for():
    net, images = convolutional(), torch.randn(5, 2, 6, 6)
    with pytest.raises(ValueError, match=r"\(5, 8, 4, 4\): say which axis.*feature_axis=1"):
        ModuleActivations(net, "2", [images]).collect()
    rows = ModuleActivations(net, "2", [images], feature_axis=1).collect().rows
    assert rows.shape == (5 * 16, WIDTH)
    with pytest.raises(ValueError, match="feature_axis=4 is out of range"):
        ModuleActivations(net, "2", [images], feature_axis=4).collect()


# What makes one of a tensor, and what takes it out again.
CONTAINERS = {
    "tensor": (lambda h: h, lambda out: out),
    "tuple": (lambda h: (h, "kept"), lambda out: out[0]),
    "named tuple": (lambda h: Named(h, "kept"), lambda out: out.hidden),
    "nested": (lambda h: (None, [torch.arange(3), h], "kept"), lambda out: out[1][1]),
    "dict": (
        lambda h: {"pooled": h[:1], "last_hidden_state": h, "kept": "kept"},
        lambda out: out["last_hidden_state"],
    ),
    "dataclass": (lambda h: Output(h.sum(), h), lambda out: out.hidden),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_first_tensor_of_what_a_layer_gives_is_read_and_replaced(kind, x):
    hold, take = CONTAINERS[kind]
    module = Holder(hold)
    X = module.layer(x).detach()
    rows = ModuleActivations(module, "", [x]).collect().rows
    np.testing.assert_array_equal(rows, X)
    encoder = to_torch_module(fitted(X))
    before = module(x)
    with spliced(module, "", encoder):
        after = module(x)
    found, new = take(before), take(after)
    assert type(after) is type(before)
    assert "kept" in str(after) or kind == "tensor"
    torch.testing.assert_close(new, encoder.decode(encoder(found)))
    np.testing.assert_array_equal(found.detach(), X)  # that of before is as it was


BATCHES = {
    "tensor": lambda x: x,
    "array": lambda x: x.numpy(),
    "tuple": lambda x: (x, 2.0),
    "list": lambda x: [x, torch.tensor(2.0)],
    "dict": lambda x: {"x": x, "scale": 2.0},
    "mapping": lambda x: UserDict(x=x, scale=2.0),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_are_passed_as_their_kind_says(kind, x):
    module = Caller()
    rows = ModuleActivations(module, "layer", [BATCHES[kind](x)]).collect().rows
    times = 1.0 if kind in ("tensor", "array") else 2.0
    np.testing.assert_array_equal(rows, module(x, times).detach())


def test_batches_with_labels_take_a_call_of_the_users(net, x):
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x[:, 0]), 20)
    with pytest.raises(ValueError, match=r"does not take batches with 2 parts.*batch\[0\]"):
        ModuleActivations(net, "1", batches).collect()
    rows = ModuleActivations(net, "1", batches, call=lambda net, batch: net(batch[0])).collect()
    assert rows.rows.shape == (60, WIDTH)
    with pytest.raises(ValueError, match=r"batches with \['text', 'input'\]"):
        ModuleActivations(net, "1", [{"text": "a", "input": x}]).collect()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_halves_become_float32_and_doubles_stay(net, x, dtype):
    net.to(dtype)
    rows = ModuleActivations(net, "1", [x.to(dtype)]).collect().rows
    assert rows.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    with torch.no_grad():
        np.testing.assert_array_equal(rows, net[1](net[0](x.to(dtype))).double())
    sae = fitted(rows)
    before = net.eval()(x.to(dtype))
    with spliced(net, "1", sae, keep_error=True):
        torch.testing.assert_close(net(x.to(dtype)), before, rtol=0, atol=0)
    with spliced(net, "1", sae):
        assert net(x.to(dtype)).dtype == dtype


def test_autocast_is_off_in_whichever_thread_rows_are_read(net, x):
    rows = ModuleActivations(net, "0", [x])
    expected = rows.collect().rows
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(rows.collect().rows, expected)


def test_one_pass_for_several_layers_into_files(x, net, tmp_path):
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    saved = save_activations(
        net, ["0", net[1], "3"], x.split(25), tmp_path / "a", stop_early=False, shard_rows=7
    )
    assert len(calls) == 3
    assert len(list((tmp_path / "a").glob("layer1_rows*"))) == 9
    for name, (rows, positions) in saved.items():
        expected = ModuleActivations(net, name, x.split(25)).collect()
        np.testing.assert_array_equal(rows.read(0, 60), expected.rows)
        np.testing.assert_array_equal(positions, expected.positions)
    assert list(load_activations(tmp_path / "a")) == ["0", "1", "3"]
    assert fitted(saved["1"].rows).n_features_in_ == WIDTH
    with pytest.raises(FileExistsError):
        save_activations(net, "1", [x], tmp_path / "a")
    few = save_activations(
        net, nn.ModuleList([net[0], net[1]]), [x], tmp_path / "b", n_samples=5
    )
    assert [each.rows.shape for each in few.values()] == [(5, WIDTH)] * 2
    (tmp_path / "b" / "layer0_positions00000.npy").unlink()
    with pytest.raises(ValueError, match="holds no activations, or damaged ones"):
        load_activations(tmp_path / "b")


def test_nothing_is_left_of_files_where_the_module_fails(x, tmp_path):
    with pytest.raises(ZeroDivisionError):
        save_activations(Caller(error=ZeroDivisionError()), "layer", [x], tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_the_module_is_left_once_the_layer_was_called(net, x):
    calls = []
    net[3].register_forward_hook(lambda *_: calls.append(1))
    for stop_early, expected in [(True, 1), (False, 4)]:
        calls.clear()
        ModuleActivations(net, "1", x.split(15), stop_early=stop_early).collect()
        assert len(calls) == expected
    calls.clear()
    net[0]._hf_hook = "as Accelerate's"
    ModuleActivations(net, "1", x.split(15)).collect()
    assert len(calls) == 4


def test_the_module_runs_no_further_than_asked(net, x):
    given = []
    batches = lambda: (given.append(1) or x for _ in iter(int, 1))  # noqa: E731 - never ends
    assert ModuleActivations(net, "1", batches).collect(100).rows.shape == (100, WIDTH)
    assert len(given) == 2
    sae = fitted(ModuleActivations(net, "1", batches, n_samples=90))
    assert sae.n_samples_seen_ == 90


def test_an_iterator_is_gone_through_once(net, x):
    with pytest.raises(ValueError, match="iterator, which can be gone through only once"):
        fitted(ModuleActivations(net, "1", iter([x])))
    rows = ModuleActivations(net, "1", iter(x.split(20)), n_samples=60)
    assert fitted(rows, max_iter=1).n_samples_seen_ == 60


def test_the_module_works_while_the_estimator_learns(net, x, monkeypatch):
    """In another thread, a buffer ahead: a pass has sixteen, or as many as are asked for."""
    threads = set()
    net[0].register_forward_hook(lambda *_: threads.add(threading.get_ident()))
    monkeypatch.setattr(sizes, "_LEAST_BYTES", 64)  # two rows
    fitted(ModuleActivations(net, "1", x.split(10), n_samples=60))
    assert len(threads) > 1

    def pool_sizes(**options):
        rows = StreamRows(ModuleActivations(net, "1", [x], n_samples=60, **options))
        return [len(order) for order, _ in rows.pools(np.random.RandomState(0))]

    assert pool_sizes() == [4] * 15
    assert pool_sizes(buffer=25) == [25, 25, 10]


def test_fits_in_two_threads_share_a_module(net, x):
    expected = fitted(ModuleActivations(net, "1", x.split(5))).components_
    found = []
    fit = lambda: found.append(fitted(ModuleActivations(net, "1", x.split(5))))  # noqa: E731
    threads = [threading.Thread(target=fit) for _ in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [np.array_equal(sae.components_, expected) for sae in found] == [True, True]
    assert net.training


# ------------------------------------------------------------------- the module as before
def as_it_is(module):
    """In modes of all kinds."""
    module.train()
    module[0].eval()
    return module


USES = {
    "collect": lambda net, x, sae: ModuleActivations(net, "1", x.split(20)).collect(),
    "fit": lambda net, x, sae: fitted(ModuleActivations(net, "1", x.split(20))),
    "transform": lambda net, x, sae: sae.transform(ModuleActivations(net, "1", x.split(20))),
    "abandoned": lambda net, x, sae: next(ModuleActivations(net, "1", x.split(20)).batches()),
    "a failing batch": lambda net, x, sae: ModuleActivations(net, "1", [x, x[:, :2]]).collect(),
    "NaN": lambda net, x, sae: ModuleActivations(net, "1", [x, x * np.nan]).collect(),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("use", USES)
def test_the_module_is_as_it_was(use, grad, net, x, sae):
    net, kept = as_it_is(net), None
    with torch.set_grad_enabled(grad):
        before = state(net)
        try:
            kept = USES[use](net, x, sae)
        except (ValueError, RuntimeError):
            assert use in ("a failing batch", "NaN")
        assert_as_before(net, before)
    del kept


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_splice_leaves_nothing(error, net, x, sae):
    before = state(as_it_is(net).eval())
    with spliced(net, "1", sae):
        net(x)
    assert_as_before(net, before)
    failing = Caller(error=error())
    before = state(failing)
    with pytest.raises(error), spliced(failing, "layer", fitted(x.numpy())):
        failing(x)
    assert_as_before(failing, before)


def test_statistics_of_a_batch_norm_stay():
    net, images = convolutional(), torch.randn(5, 2, 6, 6)
    before = state(net)
    ModuleActivations(net, "1", [images]).collect()
    assert_as_before(net, before)


# --------------------------------------------------------------------------------- splices
def cases():
    images, rows = torch.randn(5, 2, 6, 6), torch.randn(30, 5, WIDTH)
    yield "perceptron", perceptron(), "1", (torch.randn(60, 4),)
    yield "transformer", transformer(), "layers.0", (rows,)
    yield "a part of a transformer's layer", transformer(), "layers.1.self_attn", (rows,)
    yield "convolutional", convolutional(), "0", (images,)


CASES = {name: (module, layer, args) for name, module, layer, args in cases()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cls", [MPSparseAutoencoder, TopKSAE, BatchTopKSAE, JumpReLUSAE])
def test_with_the_error_kept_nothing_changes_but_what_is_edited(case, cls):
    module, layer, args = CASES[case]
    module.eval()
    stream = ModuleActivations(module, layer, [args])
    sae = fitted(stream, cls, max_iter=2)
    clean = module(*args)
    with spliced(module, layer, sae, keep_error=True):
        torch.testing.assert_close(module(*args), clean, rtol=1e-6, atol=1e-6)
    # One atom's part, taken away by hand.
    X = stream.collect().rows
    codes = sae.transform(X)
    atom = int(np.abs(codes).sum(axis=0).argmax())
    by_hand = X - codes[:, [atom]] * sae.components_[atom]
    with spliced(module, layer, sae, keep_error=True, edit=ablate(atom)):
        found = ModuleActivations(module, layer, [args]).collect().rows
        without = module(*args)
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    assert not torch.allclose(without, clean, atol=1e-4)
    # And without it, what the estimator makes of the rows.
    with spliced(module, layer, sae):
        found = ModuleActivations(module, layer, [args]).collect().rows
    np.testing.assert_allclose(found, sae.inverse_transform(codes), atol=1e-5)


def test_an_estimator_that_explains_all_changes_no_loss(x):
    net = perceptron().eval()
    sae = MPSparseAutoencoder(
        WIDTH,
        n_nonzero_coefs=WIDTH,
        dict_init=np.eye(WIDTH),
        max_iter=1,
        learning_rate=1e-12,
        center=False,
    )
    stream = ModuleActivations(net, "1", [x])
    assert sae.fit(stream).score(stream) == pytest.approx(1)
    labels = torch.randint(0, 3, (60,))
    clean = nn.functional.cross_entropy(net(x), labels)
    with spliced(net, "1", sae):
        after = nn.functional.cross_entropy(net(x), labels)
    assert after.item() == pytest.approx(clean.item(), abs=1e-4)


def test_edits_change_the_codes_of_their_atoms_alone():
    codes = torch.arange(8.0).reshape(2, 4)
    assert ablate([1, 3])(codes).tolist() == [[0, 0, 2, 0], [4, 0, 6, 0]]
    assert scale(2, -2)(codes).tolist() == [[0, 1, -4, 3], [4, 5, -12, 7]]
    assert scale(np.array([2, 0]), [2, 3])(codes).tolist() == [[0, 1, 4, 3], [12, 5, 12, 7]]
    assert clamp([0, 3], [7, 8])(codes).tolist() == [[7, 1, 2, 8], [7, 5, 6, 8]]
    assert codes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [repr(ablate(1)), repr(scale([0, 2], 3.0))] == ["ablate([1])", "scale([0, 2], 3.0)"]


def test_edits_are_applied_in_their_order(net, x, sae):
    net.eval()
    seen = []
    edits = [clamp(0, 3.0), scale([0, 1], 2.0), lambda codes: seen.append(codes) or codes]
    with spliced(net, "1", sae, edit=edits, keep_error=True):
        found = ModuleActivations(net, "1", [x]).collect().rows
    codes = sae.transform(ModuleActivations(net, "1", [x]))
    new = codes.copy()
    new[:, 0], new[:, 1] = 6.0, 2 * codes[:, 1]
    np.testing.assert_allclose(seen[0], new, atol=1e-5)
    X = ModuleActivations(net, "1", [x]).collect().rows
    np.testing.assert_allclose(found, X + (new - codes) @ sae.components_, atol=1e-5)


POSITIONS = {
    "slice": (slice(1, 3), [1, 2]),
    "open slice": (slice(3, None), [3, 4]),
    "one": (2, [2]),
    "the last": (-1, [4]),
    "some": ([0, -2], [0, 3]),
    "array": (np.array([1, 4]), [1, 4]),
    "mask": (torch.tensor([[0, 1, 1, 0, 1]] * 30).bool(), [1, 2, 4]),
    "mask of examples": (np.ones(30, bool), [0, 1, 2, 3, 4]),
    "all": (None, [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_only_the_positions_named_are_spliced(kind):
    positions, expected = POSITIONS[kind]
    module, layer, args = CASES["transformer"]
    module.eval()
    stream = ModuleActivations(module, layer, [args])
    sae = fitted(stream, TopKSAE)
    before = stream.collect().rows.reshape(30, 5, WIDTH)
    with spliced(module, layer, sae, positions=positions):
        after = stream.collect().rows.reshape(30, 5, WIDTH)
    other = [t for t in range(5) if t not in expected]
    np.testing.assert_array_equal(after[:, other], before[:, other])
    made = sae.inverse_transform(sae.transform(before[:, expected].reshape(-1, WIDTH)))
    np.testing.assert_allclose(after[:, expected].reshape(-1, WIDTH), made, atol=1e-5)


def test_the_input_of_a_layer_can_be_replaced(net, x, sae):
    net.eval()
    clean = net(x)
    with spliced(net, "2", sae, at="input", keep_error=True):
        torch.testing.assert_close(net(x), clean)
    with spliced(net, "1", sae):
        expected = net(x)
    for layer in ("2", net[3]):
        with spliced(net, layer, sae, at="input"):
            torch.testing.assert_close(net(x), expected)


def test_an_input_that_is_named_can_be_replaced(tokens):
    module = nn.Module()
    module.layer = Caller()
    module.forward = lambda x: module.layer(scale=2.0, x=x)
    x = torch.randn(30, 4)
    rows = ModuleActivations(module, "layer", [x], at="input").collect().rows
    np.testing.assert_array_equal(rows, x)
    sae = fitted(rows)
    with torch.no_grad(), spliced(module, "layer", sae, at="input"):
        found = module(x)
    made = torch.from_numpy(sae.inverse_transform(sae.transform(rows)))
    torch.testing.assert_close(found, module(made))


def test_gradients_flow_where_asked(net, x, sae):
    net.eval().requires_grad_(False)
    with spliced(net, "1", sae) as encoder:
        assert not net(x).requires_grad
        leaf = x.clone().requires_grad_()
        net(leaf).sum().backward()
        assert leaf.grad.abs().sum() > 0
        encoder.requires_grad_()
        net(x).sum().backward()
    assert encoder.components.grad.abs().sum() > 0
    # What an atom is worth to the output: the gradient of a change of its code.
    delta = torch.zeros(60, 12, requires_grad=True)
    with spliced(net, "1", sae, keep_error=True, edit=lambda codes: codes + delta):
        net(x).sum().backward()
    expected = torch.from_numpy(sae.components_) @ net[3].weight.sum(0)
    torch.testing.assert_close(delta.grad, expected.expand(60, 12))


def test_a_torch_module_of_an_estimator_is_spliced_as_it_is(net, x, sae):
    net.eval()
    module = to_torch_module(sae)
    with spliced(net, "1", sae):
        expected = net(x)
    with spliced(net, "1", module) as encoder:
        assert encoder is module
        torch.testing.assert_close(net(x), expected)


def test_splices_of_two_layers_go_together(net, x, sae):
    net.eval()
    with spliced(net, "1", sae), spliced(net, "1", sae, keep_error=True, edit=ablate(0)):
        found = ModuleActivations(net, "1", [x]).collect().rows
    X = ModuleActivations(net, "1", [x]).collect().rows
    once = sae.inverse_transform(sae.transform(X))
    codes = sae.transform(once)
    np.testing.assert_allclose(found, once - codes[:, [0]] * sae.components_[0], atol=1e-5)


def test_reshaping_what_was_spliced_works(sae):
    """A later `view` wants the layout that the layer's own output had."""
    module, layer, args = CASES["convolutional"]
    stream = ModuleActivations(module, layer, [args])
    flat = nn.Sequential(module[0], nn.Unflatten(0, (5, 1)))
    flat.forward = lambda x: flat[0](x).view(5, -1)
    with spliced(flat, "0", fitted(stream)):
        assert flat(*args).shape == (5, WIDTH * 16)


# -------------------------------------------------------------------------------- bad input
class Transposed(nn.Module):
    """Has its features before its positions, of which there are as many as are given."""

    def forward(self, x):
        return x.mT


def nan_at(i):
    x = torch.randn(6, 4)
    x[i, 1] = torch.nan
    return x


BAD = {
    "an unknown layer": (
        lambda x: (perceptron(), "layer1", [x]),
        "module has no layer 'layer1': its layers are '0', '1', '2', '3'",
    ),
    "a misspelt layer": (
        lambda x: (transformer(), "layer.0.linear1", [x]),
        "close names are 'layers.0.linear1'",
    ),
    "the end of a name": (
        lambda x: (transformer(), "linear1", [x]),
        "close names are 'layers.1.linear1', 'layers.0.linear1'",
    ),
    "a layer of another module": (
        lambda x: (perceptron(), nn.Linear(4, 4), [x]),
        "is a Linear that is no part of module",
    ),
    "a number for a layer": (lambda x: (perceptron(), 1, [x]), "a dotted name or a submodule"),
    "no module": (lambda x: (lambda x: x, "1", [x]), "must be a torch.nn.Module, got function"),
    "never called": (lambda x: (Caller(), "unused", [x]), "'unused' was never called"),
    "called twice": (lambda x: (Caller(2), "layer", [x]), "'layer' was called twice"),
    "no tensor": (
        lambda x: (Holder(lambda h: (3, "text")), "", [x]),
        "The output of the module is a tuple without a tensor of floats",
    ),
    "another kind of batches": (lambda x: (perceptron(), "1", x), r"one batch: pass \[batch\]"),
    "one dict": (lambda x: (perceptron(), "1", {"input": x}), r"is a dict, which is one batch"),
    "no batches": (lambda x: (perceptron(), "1", []), "gives no rows"),
    "features that are positions": (
        lambda x: (Transposed(), "", [torch.ones(2, 3, 8), torch.ones(2, 5, 8)]),
        "has 5 features and 2 axes of positions, and had 3 and 2 in the first batch",
    ),
    "NaN": (
        lambda x: (perceptron(), "0", [x, nan_at(3), nan_at(0)]),
        r"layer '0' has NaN or infinity in batch 1 at position \(3,\)",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused(kind, x, net, tmp_path):
    """By all that read a module."""
    make, message = BAD[kind]
    for use in (
        lambda *args: ModuleActivations(*args).collect(),
        lambda *args: fitted(ModuleActivations(*args)),
        lambda *args: save_activations(*args, tmp_path / "a"),
    ):
        with pytest.raises(ValueError, match=message):
            use(*make(x))
    assert not list(tmp_path.iterdir())


MASKS = {
    "of another shape": (
        torch.ones(6, 4),
        r"mask has the shape \(6, 4\), but .* have \(6, 5\)",
    ),
    "of more axes": (torch.ones(6, 5, 8), r"mask has the shape \(6, 5, 8\)"),
    "additive": (torch.full((6, 5), -1e9), "mask must be of booleans, or of 0 and 1"),
    "a number": (torch.tensor(True), r"mask has the shape \(\)"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_that_do_not_fit_are_refused(kind, tokens):
    mask, message = MASKS[kind]
    with pytest.raises(ValueError, match=message):
        ModuleActivations(Language(), "embed", tokens, mask=lambda batch: mask).collect()


def test_masks_that_are_not_there_are_refused(tokens):
    with pytest.raises(ValueError, match=r"mask='mask' is no part.*\['input_ids', 'att"):
        ModuleActivations(Language(), "embed", tokens, mask="mask").collect()


def test_nan_is_named_by_its_place_among_all_positions_and_may_be_masked(tokens):
    model = Language()
    model.embed.weight.data[0] = torch.nan
    tokens[1]["input_ids"][0, 2] = 0  # left out by the mask
    assert len(ModuleActivations(model, "embed", tokens).collect().rows)
    tokens[1]["input_ids"][3, 2] = 0
    with pytest.raises(ValueError, match=r"in batch 1 at position \(3, 2\)"):
        ModuleActivations(model, "embed", tokens).collect()


def test_an_error_of_the_module_is_its_own_and_names_the_batch(x):
    module = Caller(error=ZeroDivisionError("deep inside"))
    before = state(module)
    with pytest.raises(ZeroDivisionError, match="deep inside") as caught:
        ModuleActivations(module, "layer", [x]).collect()
    assert caught.value.__notes__ == ["This was batch 0 of the module's batches."]
    assert_as_before(module, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "both"}, "at must be 'output' or 'input', got 'both'"),
        ({"buffer": 0}, "buffer must be an integer of at least 1"),
        ({"n_samples": 0.5}, "n_samples must be an integer"),
    ],
)
def test_bad_options_are_refused_at_once(options, message, net, x):
    with pytest.raises(ValueError, match=message):
        ModuleActivations(net, "1", [x], **options)


BAD_SPLICES = {
    "an unknown layer": ({"layer": "10"}, "module has no layer '10'"),
    "another width": ({"layer": "3"}, "has 3 features.*fitted on 8"),
    "an atom that is not there": ({"edit": ablate([0, 12])}, "names the atom 12.*has 12"),
    "no edit": ({"edit": 3}, "edit must be a function"),
    "an edit that is none": ({"edit": [3]}, "edit must be a function from codes to codes"),
    "an edit that gives none": (
        {"edit": lambda codes: codes[:1]},
        "must give codes of the shape",
    ),
    "a position": ({"positions": 60}, "positions has 60, but layer '1' has 60 positions"),
    "a slice": ({"positions": slice(50, 70)}, "positions has 70"),
    "an empty slice": ({"positions": slice(5, 5)}, r"positions has slice\(5, 5"),
    "one of some": ({"positions": [0, -61]}, "positions has -61"),
    "a mask": ({"positions": np.ones(59, bool)}, r"has the shape \(59,\), but the positions"),
    "an attention mask": ({"positions": torch.ones(6, 10, dtype=int)}, r"mask.bool\(\)"),
    "floats": ({"positions": [0.5]}, "positions must be a mask of booleans"),
    "none of the two": ({"at": "inside"}, "at must be"),
}


@pytest.mark.parametrize("kind", BAD_SPLICES)
def test_bad_splices_are_refused(kind, net, x, sae):
    options, message = BAD_SPLICES[kind]
    before = state(net.eval())
    with pytest.raises(ValueError, match=message):  # noqa: SIM117 - the first is for both
        with spliced(net, **{"layer": "1", "estimator": sae} | options):
            net(x)
    assert_as_before(net, before)


def test_a_splice_that_did_nothing_is_told(net, sae):
    with pytest.raises(ValueError, match="'1' was never called"), spliced(net, "1", sae):
        pass
    with pytest.raises(ZeroDivisionError), spliced(net, "1", sae):
        raise ZeroDivisionError


def test_a_layer_called_twice_is_not_spliced_but_a_module_may_run_twice(x):
    module = Caller(2)
    sae = fitted(x.numpy())
    with pytest.raises(ValueError, match="called twice"), spliced(module, "layer", sae):
        module(x)
    module.times = 1
    with spliced(module, "layer", sae):
        module(x), module(x), module.layer(x), module.layer(x)


def test_nan_is_not_made_a_reconstruction(net, x, sae):
    net.eval()
    x[3] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinity at position \(3,\)"):  # noqa: SIM117
        with spliced(net, "1", sae):
            net(x)
    with pytest.raises(ValueError, match=r"NaN or infinity at position \(3,\)"):  # noqa: SIM117
        with spliced(net, "1", sae, positions=slice(2, None)):
            net(x)
    with spliced(net, "1", sae, positions=slice(4, None)):
        assert net(x)[3].isnan().all()


@pytest.mark.parametrize(
    "edit",
    [
        lambda: ablate(-1),
        lambda: ablate([]),
        lambda: ablate([1, 1]),
        lambda: scale([0.5], 1),
        lambda: clamp(0, np.nan),
        lambda: scale([0, 1], [1.0, 2.0, 3.0]),
    ],
)
def test_bad_edits_are_refused(edit):
    with pytest.raises(ValueError, match=re.compile("atom|finite")):
        edit()


# ------------------------------------------------------------------------------ other homes
def test_a_model_of_transformers_works_unchanged():
    transformers = pytest.importorskip(
        "transformers", reason="transformers is 150 MB, and no extra asks for it"
    )
    config = transformers.GPT2Config(
        vocab_size=50,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(1, 50, (6, 7))
    mask = torch.ones_like(ids)
    mask[:3, 5:] = 0
    batch = transformers.BatchEncoding({"input_ids": ids, "attention_mask": mask})
    before = state(model)
    for layer in ("transformer.h.0", "transformer.h.0.attn", "transformer"):
        rows = ModuleActivations(model, layer, [batch, batch])
        assert rows.collect().rows.shape == (2 * int(mask.sum()), 16)
        sae = fitted(rows)
        model.eval()
        clean = model(**batch, labels=ids)
        with spliced(model, layer, sae, keep_error=True):
            kept = model(**batch, labels=ids)
        torch.testing.assert_close(kept.logits, clean.logits)
        torch.testing.assert_close(kept.loss, clean.loss)
        with spliced(model, layer, sae, positions=mask.bool(), edit=ablate(0)):
            assert not torch.allclose(model(**batch).logits, clean.logits)
        model.train()
        assert_as_before(model, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_module_on_another_device_stays_there(net, x):
    net, before = net.cuda().eval(), net(x.cuda())
    rows, _ = ModuleActivations(net, "1", x.split(20), mask=lambda x: x[:, 0] > 0).collect()
    assert len(rows) == int((x[:, 0] > 0).sum())
    sae = fitted(rows)
    for positions in (None, x[:, 0] > 0, [0, 3]):
        edits = [ablate(0), scale([1, 2], [2.0, 3.0]), clamp(3, 1.0)]
        with spliced(net, "1", sae, keep_error=True, positions=positions):
            torch.testing.assert_close(net(x.cuda()), before)
        with spliced(net, "1", sae, positions=positions, edit=edits):
            assert net(x.cuda()).is_cuda
    assert next(net.parameters()).is_cuda
