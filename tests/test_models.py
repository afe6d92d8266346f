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


def test_the_models_of_all_estimators_are_complete(Estimator):
    model = Estimator()._model()
    check_model(model)
    assert set(model.rate_factors) <= set(model.layout)


def test_fitted_attributes_are_read_only(Estimator, small):
    est, kind = Estimator(8, max_iter=1, random_state=0).fit(small), Estimator.__name__
    for name in ("components_", "intercept_", "n_steps_", *est._model().fitted):
        before = getattr(est, name)
        with pytest.raises(AttributeError, match=f"{name} of {kind} is read-only"):
            setattr(est, name, 1)
        np.testing.assert_array_equal(getattr(est, name), before)
