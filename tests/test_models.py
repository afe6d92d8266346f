"""A model that lacks something is refused by name, at the first step at the latest."""

from dataclasses import dataclass

import numpy as np
import pytest

from sklearn_mpsae import TopKSAE
from sklearn_mpsae.models.base import Model, check_model
from sklearn_mpsae.models.shallow import BatchTopK, TopK

FAST = {"n_nonzero_coefs": 2, "max_iter": 1, "batch_size": 20, "random_state": 0}


class Modelled(TopKSAE):
    """TopKSAE with a model of the test's."""

    model = TopK

    def _model(self):
        return self.model()


def refused(model, small, match):
    """Before the first training step, unless it is `gradients` that is wrong."""
    est = type("Other", (Modelled,), {"model": model})(8, **FAST)
    for learn in (est.fit, est.partial_fit):
        with pytest.raises(TypeError, match=match):
            learn(small)
    assert not hasattr(est, "components_")
    assert not hasattr(est, "n_features_in_")


@pytest.mark.parametrize("verb", ["start", "gradients", "attributes", "parameters", "coder"])
def test_a_verb_that_is_missing_is_named(verb, small):
    verbs = {name: getattr(TopK, name) for name in vars(Model) if hasattr(TopK, name)}
    verbs = {name: x for name, x in verbs.items() if not name.startswith("_") and name != verb}
    refused(type("Bare", (Model,), verbs), small, f"Bare.*{verb}")


@pytest.mark.parametrize("declaration", ["layout", "fitted"])
def test_a_declaration_that_is_missing_is_named(declaration, small):
    verbs = {name: getattr(TopK, name) for name in dir(TopK) if not name.startswith("__")}
    verbs.pop(declaration)
    model = type("Bare", (Model,), verbs)
    refused(model, small, f"The model Bare declares no '{declaration}'")


def test_the_dictionary_has_to_be_laid_out_and_fitted(small):
    @dataclass(frozen=True)
    class Other(TopK):
        layout = {"atoms": "pd"}

    refused(Other, small, "Other must lay out 'components' and fit 'components_'")


def test_what_a_steering_model_needs_is_named(small):
    @dataclass(frozen=True)
    class Uncounted(TopK):
        steers = True

    @dataclass(frozen=True)
    class Unlevelled(BatchTopK):
        level = "nothing"

    refused(Uncounted, small, "Uncounted steers its number of codes, and has no `count`")
    refused(Unlevelled, small, "`level` must name one of its first_numbers, not 'nothing'")


@pytest.mark.parametrize("change", ["missing", "another", "shape"])
def test_gradients_have_to_match_the_parameters(change, small):
    @dataclass(frozen=True)
    class Wrong(TopK):
        def gradients(self, *args):
            result = super().gradients(*args)
            gradients = dict(result.gradients)
            if change == "missing":
                del gradients["bias"]
            elif change == "another":
                gradients["threshold"] = gradients["bias"]
            else:
                gradients["bias"] = gradients["bias"][:, 0]
            return result._replace(gradients=gradients)

    refused(Wrong, small, "The model Wrong lays out .* names and shapes must agree")


def test_attributes_have_to_be_those_declared(small):
    @dataclass(frozen=True)
    class More(TopK):
        def attributes(self, *args):
            return super().attributes(*args) | {"extra_": 1.0}

    refused(More, small, "The model More declares the fitted attributes .* and gives .*extra_")


def test_attributes_have_to_be_declared_by_the_estimator_too(small):
    refused(BatchTopK, small, r"declares no Fitted\(\) for threshold_")


@dataclass(frozen=True)
class Untrained(TopK):
    """What is wrong with it is told before it is trained."""

    def gradients(self, *args):
        raise AssertionError("trained")


def with_one(word):
    return {**TopK.layout, "bias": word}


WRONG = {
    "layout pd": (
        {"layout": with_one("pd")},
        "starts with bias of .*declared is 'pd'",
    ),
    "layout p": (
        {"layout": with_one("p")},
        "starts with bias of .*declared is 'p'",
    ),
    "no axis": ({"layout": with_one("px")}, "no axis is called {'x'}"),
    "rates": ({"rate_factors": {"biases": 0.1}}, "has rate_factors of {'biases'}"),
    "start of nothing": ({"start": lambda self, atoms: None}, "must start with .* not None"),
    "start without": (
        {"start": lambda self, atoms: {"components": atoms}},
        r"must start with .* not \['components'\]",
    ),
    "fitted d": (
        {"fitted": {**TopK.fitted, "encoder_intercept_": "d"}},
        "gives the attributes encoder_intercept_ of shape .8,.; declared is 'd'",
    ),
    "attributes of nothing": ({"attributes": lambda self, *args: None}, "and gives None"),
    "one more": ({"fitted": {**TopK.fitted, "atom_usage_": "p"}}, "declares the fitted attr"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_before_it_is_trained(kind, small):
    change, match = WRONG[kind]
    refused(type("Wrong", (Untrained,), change), small, match)


def test_a_model_is_a_model(small):
    refused(lambda est: object(), small, "object is no model: derive it from models.base.Model")


def test_a_steering_model_counts_its_codes(small):
    numbers = {"first_numbers": {"threshold": 0.0, "n_batches": 0}}
    refused(type("Wrong", (BatchTopK,), numbers), small, "first_numbers need 'l0'")


RESULTS = {
    "nothing": (lambda result: None, "must give a BatchResult, not None"),
    "a tuple": (tuple, "must give a BatchResult"),
    "one code": (
        lambda result: result._replace(indices=result.indices[:, 0]),
        "gives indices and values of shapes",
    ),
    "fewer rows": (
        lambda result: result._replace(residual=result.residual[:3]),
        "gives a residual of shape .3, 10., the batch has .20, 10.",
    ),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_what_gradients_give_is_checked(kind, small):
    change, match = RESULTS[kind]
    right = TopK.gradients
    wrong = {"gradients": lambda self, *args: change(right(self, *args))}
    refused(type("Wrong", (TopK,), wrong), small, match)


def test_a_coder_is_a_coder(small):
    est = type("Other", (Modelled,), {"model": type("Wrong", (TopK,), {"coder": no_coder})})
    fitted = est(8, **FAST)
    with pytest.raises(TypeError, match=r"Wrong\.coder must give a Coder .* not None"):
        fitted.fit(small).transform(small)


def no_coder(self, fitted, k, trained):
    return None


def test_the_models_of_all_estimators_are_complete(Estimator):
    model = Estimator()._model()
    check_model(model)
    assert set(model.rate_factors) <= set(model.layout)


def test_fitted_attributes_cannot_be_assigned(Estimator, small):
    est, kind = Estimator(8, max_iter=1, random_state=0).fit(small), Estimator.__name__
    for name in ("components_", "intercept_", "n_steps_", *est._model().fitted):
        before = getattr(est, name)
        with pytest.raises(AttributeError, match=f"{name} of {kind} is read-only"):
            setattr(est, name, 1)
        np.testing.assert_array_equal(getattr(est, name), before)
