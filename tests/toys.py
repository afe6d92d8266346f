"""Models and fitted estimators made by hand, for tests."""

from dataclasses import replace


def with_learnt(est, **attributes):
    """The estimator, with these fitted attributes in the place of its own."""
    est._learnt = replace(est._learnt, attributes={**est._learnt.attributes, **attributes})
    return est


def model_of(Estimator):
    """The class of an estimator's model."""
    return type(Estimator()._model())
