"""What a reconstruction costs a module downstream, against the same by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from toys import with_learnt  # noqa: E402

from sklearn_mpsae import MPSparseAutoencoder  # noqa: E402
from sklearn_mpsae.activations import ablate, spliced  # noqa: E402
from sklearn_mpsae.metrics import attribution, downstream_loss  # noqa: E402
from sklearn_mpsae.persistence import to_torch_module  # noqa: E402


class Reader(nn.Module):
    """Tokens to a number at each position, by way of `layer`; eval stops the dropout."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Embedding(20, 6), nn.Linear(6, 6)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 1)

    def forward(self, ids, attention_mask=None):
        return self.head(torch.tanh(self.drop(self.layer(self.embed(ids)))))[..., 0]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Reader().train()


@pytest.fixture(scope="module")
def batches():
    """Two batches of different size and padding."""
    ids = torch.arange(40).reshape(5, 8) % 20
    mask = torch.ones(5, 8, dtype=torch.long)
    mask[0, 3:] = mask[3, 6:] = 0
    whole = {"ids": ids, "attention_mask": mask}
    return [{k: v[:1] for k, v in whole.items()}, {k: v[1:] for k, v in whole.items()}]


@pytest.fixture(scope="module")
def sae(net, batches):
    return fitted(net, 2)


def fitted(net, k, **options):
    with torch.no_grad():
        X = net.layer(net.embed(torch.arange(20))).numpy()
    return MPSparseAutoencoder(
        12, n_nonzero_coefs=k, positive_code=False, max_iter=2, random_state=0, **options
    ).fit(X)


def at_each(output, batch):
    return (output - 1) ** 2


def of_batch(output, batch):
    return at_each(output, batch)[batch["attention_mask"].bool()].mean()


def sum_and_number(output, batch):
    keep = batch["attention_mask"].bool()
    return at_each(output, batch)[keep].sum(), keep.sum()


def by_hand(net, batches, new):
    """The mean loss over all positions that are kept, with other activations there."""
    losses = []
    for batch in batches:
        with torch.no_grad():
            keep = batch["attention_mask"].bool()
            x = net.layer(net.embed(batch["ids"]))
            x[keep] = new(x[keep])
            losses.append((net.head(torch.tanh(x))[..., 0][keep] - 1) ** 2)
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("loss", [at_each, of_batch, sum_and_number])
def test_losses_are_those_by_hand(net, batches, sae, loss):
    with torch.no_grad():
        rows = torch.cat(
            [net.layer(net.embed(b["ids"]))[b["attention_mask"].bool()] for b in batches]
        )
    encoder = to_torch_module(sae)
    expected = {
        "clean": by_hand(net, batches, lambda x: x),
        "spliced": by_hand(net, batches, lambda x: encoder.decode(encoder(x))),
        "mean_ablated": by_hand(net, batches, lambda x: rows.mean(0).expand_as(x)),
        "zero_ablated": by_hand(net, batches, torch.zeros_like),
    }
    losses = downstream_loss(net, "layer", sae, batches, loss)
    assert {name: getattr(losses, name) for name in expected} == pytest.approx(
        expected, rel=1e-5
    )
    for ablated, recovered in (("mean_ablated", 4), ("zero_ablated", 5)):
        cost = getattr(losses, ablated) - losses.clean
        assert losses[recovered] == pytest.approx(1 - (losses.spliced - losses.clean) / cost)
    for given in (encoder, net.layer):
        layer, model = ("layer", given) if given is encoder else (given, sae)
        again = downstream_loss(net, layer, model, lambda: iter(batches), loss)
        assert again == pytest.approx(losses)


def test_a_perfect_reconstruction_recovers_all(net, batches):
    sae = fitted(net, 6, whitening=0)
    with_learnt(sae, components_=np.vstack([np.eye(6)] * 2).astype(np.float32))
    losses = downstream_loss(net, "layer", sae, batches, at_each)
    assert losses.spliced == pytest.approx(losses.clean, abs=1e-6)
    assert losses.recovered_from_mean == pytest.approx(1, abs=1e-4)
    assert losses.recovered_from_zero == pytest.approx(1, abs=1e-4)


def test_an_ablation_that_costs_nothing_recovers_nothing_known(net, batches, sae):
    losses = downstream_loss(net, "layer", sae, batches, lambda output, batch: torch.ones(()))
    assert losses[:4] == (1, 1, 1, 1)
    assert np.isnan(losses[4:]).all()


def as_dict(module, batch):
    return Output(logits=module(**batch))


class Output(dict):
    """As models of transformers return it."""

    logits = property(lambda self: self["logits"])


def test_a_sum_in_the_place_of_a_mean_is_refused(net, batches, sae):
    def total(output, batch):
        return at_each(output, batch)[batch["attention_mask"].bool()].sum()

    def total_of_dict(output, batch):
        return float(total(output.logits, batch))

    for loss, call in ((total, None), (total_of_dict, as_dict)):
        with pytest.raises(ValueError, match=r"loss gave a sum, .*\(sum, number of") as error:
            downstream_loss(net, "layer", sae, batches, loss, call=call)
        # The first batch has one row, and no halves.
        assert error.value.__notes__ == ["This was batch 1 of the module's batches."]


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (
            lambda total, n: (total / n, n),
            r"loss gave the tuple .* do not add up .*\(sum, number",
        ),
        (lambda total, n: (total, 8), "do not add up"),
        (lambda total, n: (n, total), r"not \(sum, number of losses in it\)"),
        (lambda total, n: (total, -n), "not negative"),
        (lambda total, n: (total, torch.nan), "a whole number"),
        (lambda total, n: (total,), r"not \(sum, number of losses in it\)"),
        (lambda total, n: (total, torch.ones(2)), r"not \(sum, number of losses in it\)"),
    ],
)
def test_a_tuple_that_is_no_sum_and_number_is_refused(loss, match, net, batches, sae):
    def of_sum(output, batch):
        return loss(*sum_and_number(output, batch))

    with pytest.raises(ValueError, match=match):
        downstream_loss(net, "layer", sae, batches, of_sum)


@pytest.mark.parametrize(
    ("least", "change"),
    [
        (0, lambda total, n: (total.bfloat16(), n)),
        (0, lambda total, n: (-total, n.float())),
        (0, lambda total, n: (total * n.log(), n)),
        (16, lambda total, n: (total, n)),
    ],
    ids=["bfloat16", "below zero", "of all pairs", "none in a half"],
)
def test_other_sums_are_taken(least, change, net, batches, sae):
    def loss(output, batch):
        counted = at_each(output, batch)[batch["ids"] >= least]
        return change(counted.sum(), torch.tensor(len(counted)))

    whole = {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}
    clean = downstream_loss(net, "layer", sae, [whole], loss).clean
    total, n = loss(as_evaluated(net, whole), whole)
    assert clean == pytest.approx(float(total) / float(n), rel=1e-6)


def as_evaluated(net, batch):
    """The output, without dropout."""
    with torch.no_grad():
        return net.head(torch.tanh(net.layer(net.embed(batch["ids"]))))[..., 0]


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        ("cross_entropy", r"loss must be a callable, loss\(output, batch\), got str"),
        (lambda output, batch: None, "loss returned None"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss, match, net, batches, sae):
    with pytest.raises(TypeError, match=match):
        downstream_loss(net, "layer", sae, batches, loss)
    if isinstance(loss, str):
        with pytest.raises(TypeError, match="scalar must be a callable"):
            attribution(net, "layer", sae, batches, loss)


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, batch: at_each(output, batch).mean().neg(),
        lambda output, batch: at_each(output, batch).max(),
        lambda output, batch: output.sum() * 0,
        lambda output, batch: at_each(output, batch).reshape(4, 8).mean(),
    ],
    ids=["below zero", "maximum", "zero", "takes no half"],
)
def test_no_sum_is_seen_in_other_losses(loss, net, batches, sae):
    assert np.isfinite(downstream_loss(net, "layer", sae, batches[1:], loss).clean)


def test_channels_are_features_and_all_positions_count_without_a_mask():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(80, 2)
    )
    images = torch.randn(6, 1, 6, 6)
    with torch.no_grad():
        rows = net[0](images).permute(0, 2, 3, 1).reshape(-1, 5)
    sae = MPSparseAutoencoder(10, n_nonzero_coefs=2, max_iter=2, random_state=0).fit(
        rows.numpy()
    )

    def loss(output, batch):
        return output.square().mean()

    losses = downstream_loss(net, "0", sae, images.split(4), loss)
    with torch.no_grad():
        mean = rows.mean(0).view(1, 5, 1, 1).expand(6, 5, 4, 4)
        assert losses.mean_ablated == pytest.approx(
            float(loss(net[1:](mean.clone()), 0)), rel=1e-5
        )


def test_attribution_is_the_ablation_where_what_follows_is_linear(batches, net, sae):
    """Each batch counts by its positions; the masked add nothing."""
    linear = nn.Sequential(nn.Embedding(20, 6), nn.Linear(6, 6), nn.Linear(6, 1))
    linear[0], linear[1] = net.embed, net.layer

    def scalar(output, batch):
        return output.sum()

    ids = [batch["ids"] for batch in batches]
    masks = {id(i): b["attention_mask"] for i, b in zip(ids, batches, strict=True)}
    options = {"call": lambda module, i: module(i), "mask": lambda i: masks[id(i)]}
    found = attribution(linear, "1", sae, ids, scalar, **options)
    expected = np.zeros(12)
    with torch.no_grad():
        for i in ids:
            mask = masks[id(i)].bool()
            for atom in range(12):
                edit = {"keep_error": True, "edit": ablate(atom), "positions": mask}
                with spliced(linear, "1", sae, **edit):
                    without = linear(i)
                expected[atom] += float(mask.sum() * (linear(i) - without).sum())
    expected /= sum(int(mask.sum()) for mask in masks.values())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found).max() > 0.1
    assert all(parameter.grad is None for parameter in linear.parameters())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layer": "leyer"}, "close names are 'layer'"),
        ({"layer": "drop", "estimator": MPSparseAutoencoder()}, "not fitted"),
        ({"batches": []}, "no positions"),
        ({"batches": iter([])}, "only once"),
        ({"mask": lambda batch: torch.zeros(8)}, "no positions"),
        ({"mask": lambda batch: batch["attention_mask"][:, :3]}, "mask has the shape"),
        ({"mask": "padding"}, "mask='padding' is no part of the batch"),
        (
            {"loss": lambda output, batch: output[:, 1:]},
            r"loss gave a tensor of shape \(1, 7\), .*, or the tuple \(sum, number",
        ),
        ({"loss": lambda output, batch: output.sum() / 0}, r"loss gave -?inf \(clean\)"),
        ({"layer": "head"}, "1 features"),
    ],
)
def test_bad_input_is_refused_and_the_module_as_before(net, batches, sae, options, match):
    arguments = {"layer": "layer", "estimator": sae, "batches": batches, "loss": at_each}
    with pytest.raises(ValueError, match=match) as error:
        downstream_loss(net, **arguments | options)
    if "loss" in options:
        assert error.value.__notes__ == ["This was batch 0 of the module's batches."]
    assert all(each.training for each in net.modules())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in net.modules())


@pytest.mark.parametrize(
    ("scalar", "match"),
    [
        (lambda output, batch: output, r"one number, got \(1, 8\)"),
        (lambda output, batch: 1.0, "one number, got float"),
        (lambda output, batch: output.sum().detach(), "does not depend on the layer"),
        (lambda output, batch: torch.ones((), requires_grad=True), "does not depend"),
        (lambda output, batch: output.sum() * torch.inf, "NaN or infinity"),
    ],
)
def test_scalars_without_a_gradient_are_refused(net, batches, sae, scalar, match):
    with pytest.raises(ValueError, match=match):
        attribution(net, "layer", sae, batches, scalar)
    assert all(each.training for each in net.modules())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in net.modules())
