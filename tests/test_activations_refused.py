"""Modules, layers, batches and masks that give no rows, and what is said of them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import (  # noqa: F401 - fixtures
    Caller,
    Holder,
    Language,
    _seeded,
    assert_as_before,
    fitted,
    padded_tokens,
    perceptron,
    perceptron_made,
    rows_of_the_perceptron,
    state,
    transformer,
)

from sklearn_mpsae.activations import ModuleActivations, save_activations
from sklearn_mpsae.metrics import attribution, downstream_loss


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


def test_a_mask_of_padding_in_the_batch_is_not_passed_over():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    padding = torch.tensor([[False, False, True], [False, True, True]])
    batches = [{"src": torch.randn(2, 3, 8), "src_key_padding_mask": padding}]
    with pytest.raises(ValueError, match=r"'auto' would keep the padding.*or mask=None"):
        ModuleActivations(layer, "linear2", batches).collect()
    assert ModuleActivations(layer, "linear2", batches, mask=None).collect()[0].shape == (6, 8)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            "src_key_padding_mask",
            r'True at padding.*batch: ~batch\["src_key_padding_mask"\]\.$',
        ),
        (torch.ones(6, 5), r"a function of it, .*; got a Tensor of shape \(6, 5\)\.$"),
        (np.ones((6, 5)), r"got a ndarray of shape \(6, 5\)\.$"),
        ([True, False], r"got a list\.$"),
    ],
)
def test_masks_that_name_no_kept_positions_are_refused_at_once(
    mask, message, tokens, net, tmp_path
):
    language, options = Language(), {"mask": mask}
    for use in (
        lambda: ModuleActivations(language, "embed", tokens, **options),
        lambda: save_activations(language, "embed", tokens, tmp_path / "a", **options),
        lambda: downstream_loss(language, "embed", net, tokens, len, **options),
        lambda: attribution(language, "embed", net, tokens, len, **options),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    assert not list(tmp_path.iterdir())


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
