"""How the package is built: who imports whom, from where, and how long its files are.

All is read from the source; nothing is imported.
"""

import ast
import functools
import itertools
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1] / "sklearn_mpsae"

# The layers, lowest first: a module imports from its own and lower ones.
LAYERS = [
    {"_lazy", "_version", "_warn", "_files", "_docs", "_compat", "_optional"},
    {"coding"},
    {"rows"},
    {"sources", "_array_api"},  # `sources` is the public name of `rows`
    {"models"},
    {"learning"},
    {"estimators"},
    {"metrics"},
    {"datasets"},
    {"plotting"},
    {"persistence"},
    {"_compare"},
    {"explorer"},
    {"activations"},
    {"callbacks"},
    {"__init__"},
]

# A file that is longer is about several things.
MOST_LINES = 450


class Import(NamedTuple):
    """One imported module or name, by its full name."""

    module: str  # the module that imports
    line: int
    name: str  # "sklearn.utils.check_array": a name, or the module itself
    for_types: bool  # whether it never runs

    @property
    def where(self):
        return f"{_path(self.module).relative_to(ROOT.parent)}:{self.line}"


def _module(path):
    """The full name of a module of the package; that of a package ends with __init__."""
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


def _path(module):
    return ROOT.parent.joinpath(*module.split(".")).with_suffix(".py")


def _is_for_types(node):
    """Whether it is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _imports(module, node, for_types=False):
    """All imports below a node, those within functions too."""
    for child in ast.iter_child_nodes(node):
        # The other branch of such an `if` does run.
        typing_only = for_types or (_is_for_types(node) and child in node.body)
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            package = module.split(".")[: -child.level] if child.level else []
            base = ".".join([*package, *filter(None, [child.module])])
            names = [f"{base}.{alias.name}" for alias in child.names]
        else:
            names = []
            yield from _imports(module, child, typing_only)
        for name in names:
            yield Import(module, child.lineno, name, typing_only)


MODULES = sorted(map(_module, ROOT.rglob("*.py")))


@functools.cache
def all_imports():
    return [
        found
        for module in MODULES
        for found in _imports(module, ast.parse(_path(module).read_text(encoding="utf-8")))
    ]


def imported_module(name):
    """The module of the package that an imported name is, or is of; None for other packages."""
    if name.split(".")[0] != ROOT.name:
        return None
    while name:
        for module in (name, f"{name}.__init__"):
            if module in MODULES:
                return module
        name = name.rpartition(".")[0]
    return None


def layer(module):
    """The number of a module's layer, None where it has none."""
    part = module.split(".")[1]
    return next((i for i, names in enumerate(LAYERS) if part in names), None)


def test_each_module_has_a_layer():
    missing = sorted({m.split(".")[1] for m in MODULES if layer(m) is None})
    assert not missing, f"in no layer of LAYERS: {missing}"


def test_no_layer_is_empty():
    present = {module.split(".")[1] for module in MODULES}
    missing = sorted(set().union(*LAYERS) - present)
    assert not missing, f"in LAYERS, but not in the package: {missing}"


def test_no_import_upwards():
    """Imports for types count: a module knows what it names in its annotations.

    Except those in a package's `__init__`: they tell type checkers what it offers lazily.
    """
    upwards = []
    for found in all_imports():
        if found.for_types and found.module.endswith(".__init__"):
            continue
        target = imported_module(found.name)
        ours, theirs = layer(found.module), target and layer(target)
        if None not in (target, ours, theirs) and theirs > ours:
            upwards.append(f"{found.where}: imports {found.name}")
    assert not upwards, "imports upwards:\n" + "\n".join(upwards)


def test_no_cyclic_imports():
    """Imports within functions count, as they only hide a cycle; those for types never run."""
    graph = {module: {} for module in MODULES}
    for found in all_imports():
        target = imported_module(found.name)
        if target not in (None, found.module) and not found.for_types:
            graph[found.module].setdefault(target, found)
    cycles = [
        ", ".join(f"{graph[a][b].where} imports {b}" for a, b in itertools.pairwise(path))
        for path in _cycles(graph)
    ]
    assert not cycles, "cyclic imports:\n" + "\n".join(cycles)


def _cycles(graph):
    """A cycle through each edge that closes one in a depth-first search."""
    done, path = set(), []

    def visit(module):
        path.append(module)
        for target in graph[module]:
            if target in path:
                yield [*path[path.index(target) :], target]
            elif target not in done:
                yield from visit(target)
        done.add(path.pop())

    for module in graph:
        if module not in done:
            yield from visit(module)


def test_private_names_of_scikit_learn_are_imported_in_one_place():
    private = [
        f"{found.where}: {found.name}"
        for found in all_imports()
        if found.module != f"{ROOT.name}._compat"
        and found.name.split(".")[0] == "sklearn"
        and any(part.startswith("_") for part in found.name.split("."))
    ]
    assert not private, "for _compat.py to import:\n" + "\n".join(private)


# Modules of torch's kernels, and folders and modules that are of no use without torch.
OF_TORCH = (
    "coding.kernels.fused",
    "coding.kernels.least_squares",
    "coding.kernels.reference",
    "coding.kernels.tensor",  # and tensor_stops
    "persistence._torch_modules",
    "activations._",
)


def test_torch_is_imported_where_nothing_is_of_use_without_it():
    """All other modules that import it ask `_optional.torch_for`, which says what to type."""
    allowed = tuple(f"{ROOT.name}.{name}" for name in OF_TORCH)
    asked = {
        found.module for found in all_imports() if found.name.endswith("_optional.torch_for")
    }
    elsewhere = [
        found.where
        for found in all_imports()
        if found.name.split(".")[0] == "torch"
        and not found.for_types
        and not found.module.startswith(allowed)
        and found.module not in asked
    ]
    assert not elsewhere, "torch is optional:\n" + "\n".join(elsewhere)


@pytest.mark.parametrize("suffix", ["py", "js", "css"])
def test_no_file_is_long(suffix):
    paths = sorted(ROOT.rglob(f"*.{suffix}"))
    assert paths
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in paths}
    long = [
        f"{path.relative_to(ROOT.parent)}: {n} lines"
        for path, n in lengths.items()
        if n > MOST_LINES
    ]
    assert not long, f"files of more than {MOST_LINES} lines:\n" + "\n".join(long)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import sklearn.utils._x", ["sklearn.utils._x"]),
        ("from sklearn.base import _a, b", ["sklearn.base._a", "sklearn.base.b"]),
        ("def f():\n    from ..coding import checks", ["sklearn_mpsae.coding.checks"]),
        ("from . import checks", ["sklearn_mpsae.rows.checks"]),
        ("from .checks import f", ["sklearn_mpsae.rows.checks.f"]),
    ],
)
def test_imports_are_read_from_the_source(source, names):
    found = list(_imports("sklearn_mpsae.rows.array", ast.parse(source)))
    assert [each.name for each in found] == names
    assert not any(each.for_types for each in found)


def test_imports_for_types_are_told_from_those_that_run():
    source = "if TYPE_CHECKING:\n    import a\nelse:\n    import b"
    found = _imports("sklearn_mpsae.rows.array", ast.parse(source))
    assert [(each.name, each.for_types) for each in found] == [("a", True), ("b", False)]


def test_cycles_are_found():
    graph = {"a": {"b": 0}, "b": {"c": 0}, "c": {"b": 0, "a": 0}, "d": {"a": 0}}
    assert list(_cycles(graph)) == [["b", "c", "b"], ["a", "b", "c", "a"]]
