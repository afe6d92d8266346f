"""Every public name says what it is, in the form that numpydoc validates, with an example."""

import inspect
import operator
import re

import pytest

import sklearn_mpsae

numpydoc_validate = pytest.importorskip("numpydoc.validate")

# What numpydoc would have besides, and why it is left out.
EXCLUDED = {
    "ES01": "a summary that says all needs no second paragraph",
    "EX01": "judged below: an example of a class shows its methods too",
    "RT02": "values that are returned have names, as scikit-learn gives them",
    "SA01": "where there is nothing to see also, nothing is said",
}


# Methods of callbacks, which scikit-learn documents and calls, and no user does.
HOOKS = {"setup", "on_fit_task_begin", "on_fit_task_end", "teardown"}


def public_objects():
    """Yield (dotted name, object) of all that the public modules name in `__all__`."""
    modules = [sklearn_mpsae]
    while modules:
        module = modules.pop()
        for name in module.__all__:
            public = getattr(module, name)
            if inspect.ismodule(public):
                modules.append(public)
            else:
                yield f"{module.__name__}.{name}", public


def methods(cls):
    """Yield the names and functions of a class's public methods and properties of ours."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        public = inspect.isfunction(function) and not name.startswith("_")
        if public and name not in HOOKS and function.__module__.startswith("sklearn_mpsae"):
            yield name, function


def public_names():
    for name, public in public_objects():
        yield name
        if inspect.isclass(public):
            yield from (f"{name}.{method}" for method, _ in methods(public))


@pytest.mark.parametrize("name", list(public_names()))
def test_numpydoc_validates(name):
    errors = numpydoc_validate.validate(name)["errors"]
    assert [error for error in errors if error[0] not in EXCLUDED] == []


@pytest.mark.parametrize("name", list(public_names()))
def test_no_path_of_the_repository_stands_as_text(name):
    """A reader of the site has no such file: `:doc:` links to its page instead."""
    doc = inspect.getdoc(operator.attrgetter(name.partition(".")[2])(sklearn_mpsae)) or ""
    assert not re.findall(r"(?<![\w/])(?:docs|tests|benchmarks|examples)/\w+", doc)


@pytest.mark.parametrize(
    ("name", "public"), list(public_objects()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_has_an_example(name, public):
    """Each name has one of its own; a method is called in its own or in its class's."""
    doc = inspect.getdoc(public)
    assert ">>> " in doc
    if not inspect.isclass(public):
        return
    shown = " ".join(re.findall(r"(?:>>>|\.\.\.) (.*)", doc))
    for method, function in methods(public):
        own = inspect.getdoc(function) or ""
        assert ">>> " in own or re.search(rf"\.{method}\b", shown), f"{name}.{method}"
