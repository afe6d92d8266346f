"""From a module's layers to rows."""

import threading
from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import (  # noqa: F401 - fixtures
    WIDTH,
    Caller,
    Holder,
    Language,
    Named,
    Output,
    _seeded,
    as_it_is,
    assert_as_before,
    convolutional,
    fitted,
    fitted_to_the_perceptron,
    padded_tokens,
    perceptron_made,
    rows_of_the_perceptron,
    state,
)

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


def test_a_mask_may_be_a_part_of_a_tuple(tokens):
    pairs = [[batch["input_ids"], batch["attention_mask"]] for batch in tokens]
    model = Language()
    expected = ModuleActivations(model, "embed", tokens).collect()
    found = ModuleActivations(model, "embed", pairs, mask=1).collect()
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.positions, expected.positions)


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


def test_statistics_of_a_batch_norm_stay():
    net, images = convolutional(), torch.randn(5, 2, 6, 6)
    before = state(net)
    ModuleActivations(net, "1", [images]).collect()
    assert_as_before(net, before)


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


def test_batches_of_a_function_may_never_end_and_those_of_a_list_do():
    net, batches = nn.Sequential(nn.Linear(4, 8)), [torch.ones(3, 4)]
    assert ModuleActivations(net, "0", batches)._ends
    assert not ModuleActivations(net, "0", lambda: iter(batches))._ends
