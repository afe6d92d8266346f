"""Reconstructions back into a module."""

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import (  # noqa: F401 - fixtures
    WIDTH,
    Caller,
    _seeded,
    as_it_is,
    assert_as_before,
    convolutional,
    fitted,
    fitted_to_the_perceptron,
    padded_tokens,
    perceptron,
    perceptron_made,
    rows_of_the_perceptron,
    state,
    transformer,
)

from sklearn_mpsae import BatchTopKSAE, JumpReLUSAE, MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.activations import ModuleActivations, ablate, clamp, scale, spliced
from sklearn_mpsae.persistence import to_torch_module


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
        intercept="zero",
        whitening=0,
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


BAD_SPLICES = {
    "an unknown layer": ({"layer": "10"}, "module has no layer '10'"),
    "another width": ({"layer": "3"}, "has 3 features.*fitted on 8"),
    "an atom that is not there": ({"edit": ablate([0, 12])}, "names the atom 12.*has 12"),
    "no edit": ({"edit": 3}, "edit must be a function"),
    "an edit that is none": ({"edit": [3]}, "edit must be a function from codes to codes"),
    "an edit that gives none": (
        {"edit": lambda codes: codes[:1]},
        r"must give codes of the shape .* got one of shape \(1, 12\)",
    ),
    "an edit that gives an array": (
        {"edit": lambda codes: codes.detach().numpy()},
        "a torch tensor, got ndarray",
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
    ("edit", "message"),
    [
        (lambda: ablate(-1), "must not be negative, got -1"),
        (lambda: ablate([]), "the number of an atom, or several"),
        (lambda: ablate(np.ones(9, bool)), r"bool and shape \(9,\)\. \(.*np.flatnonzero\(mask"),
        (lambda: ablate([1, 1]), "names an atom twice"),
        (lambda: scale([0.5], 1), r"got an array of float64 and shape \(1,\)\.$"),
        (lambda: clamp(0, np.nan), "must be finite"),
        (lambda: scale([0, 1], [1.0, 2.0, 3.0]), "There are 2 atoms"),
    ],
)
def test_bad_edits_are_refused(edit, message):
    with pytest.raises(ValueError, match=message):
        edit()
