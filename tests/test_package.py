"""What pyproject.toml declares is what is tested, and what is cited."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import sklearn_mpsae
from sklearn_mpsae import estimators
from sklearn_mpsae.estimators._encoder import BaseEncoder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {package: Version(version) for package, version in pairs}


def floors(*extras):
    """The oldest version of each package that the package itself or an extra declares."""
    texts = PROJECT["dependencies"] + [
        text for extra in extras for text in PROJECT["optional-dependencies"][extra]
    ]
    requirements = map(Requirement, texts)
    return [(each.name, Version(next(iter(each.specifier)).version)) for each in requirements]


def test_the_oldest_versions_declared_are_those_tested():
    made_by_tools = {"docs", "lint"}  # nobody who uses the package needs these
    oldest = pins("constraints-oldest.txt")
    for package, version in floors(*set(PROJECT["optional-dependencies"]) - made_by_tools):
        assert oldest[package] == version, f"{package}: pyproject.toml has {version}"


def test_all_that_tests_need_is_pinned():
    pinned = pins("constraints.txt")
    for package, version in floors("test"):
        assert pinned[package] >= version


def test_public_names_stand_in_all_three_lists():
    """Of names to import on first use, to import with *, and for type checkers."""
    for package in (sklearn_mpsae, estimators):
        tree = ast.parse(Path(package.__file__).read_text())
        checked = next(each for each in tree.body if isinstance(each, ast.If))
        names = {alias.name for line in checked.body for alias in line.names}
        if "*" in names:
            names = names - {"*"} | set(estimators.__all__)
        assert names == set(package._MODULE_OF) == set(package.__all__)


def test_every_file_of_the_package_is_installed():
    """Tests run from the source tree, where a file that no wheel has is found all the same."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = ROOT / "sklearn_mpsae"
    patterns = settings["package-data"]["sklearn_mpsae"]
    installed = {path for pattern in patterns for path in package.glob(pattern)}
    others = {
        path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert others
    assert others <= installed
    assert all((path.parent / "__init__.py").exists() for path in package.rglob("*.py"))


def test_no_estimator_is_left_out():
    """Tests find estimators by `__all__`: one that is not there would have none."""
    for module in pkgutil.iter_modules(sklearn_mpsae.__path__, "sklearn_mpsae."):
        found = vars(importlib.import_module(module.name))
        for name, value in found.items():
            if inspect.isclass(value) and issubclass(value, BaseEncoder):
                assert name in sklearn_mpsae.__all__ or name.startswith(("Base", "_"))


def test_the_version_cited_is_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_changelog_names_all_that_is_public_in_short_entries():
    text = (ROOT / "CHANGELOG.md").read_text()
    for name in sklearn_mpsae.__all__:
        assert re.search(rf"`{name}\b", text), name
    entries = re.findall(r"^- .*(?:\n  .*)*", text, flags=re.M)
    assert max(len(entry.splitlines()) for entry in entries) <= 2


def test_the_address_of_the_repository_stands_in_one_place():
    """It is a placeholder: whoever replaces it shall have to do so once."""
    owner = PROJECT["urls"]["Repository"].removesuffix("/sklearn_mpsae") + "/"
    texts = [
        path
        for name in ("docs", "sklearn_mpsae", "tests", "examples", ".github")
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".md", ".py", ".yml")
    ]
    texts += [*ROOT.glob("*.md"), ROOT / "CITATION.cff"]
    assert [
        path for path in texts if "_build" not in path.parts and owner in path.read_text()
    ] == []


# ------------------------------------------------------------------------- the workflows
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def scripts(workflow):
    """The scripts of the repository that the commands of a workflow name."""
    yaml = pytest.importorskip("yaml")
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        commands = [step.get("run", "") for step in job.get("steps", [])]
        matrix = job.get("strategy", {}).get("matrix", {}).get("include", [])
        text = "\n".join(commands + [each["command"] for each in matrix])
        yield from re.findall(r"^(?:\.ci|tools|docs)/\S+", text, flags=re.M)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_is_there(workflow):
    found = list(scripts(workflow))
    assert found
    for script in found:
        assert os.access(ROOT / script, os.X_OK), script


def test_workflows_test_all_supported_versions_build_the_site_and_release():
    assert {path.stem for path in WORKFLOWS} == {"tests", "docs", "release"}
    run = {script for workflow in WORKFLOWS for script in scripts(workflow)}
    assert run >= {".ci/run", "tools/check_oldest.sh", "tools/check_newest.sh"}
    assert run >= {"docs/build.sh", "tools/check_package.sh"}
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f'versions: oldest, python: "{oldest}"' in WORKFLOWS[-1].read_text()


def test_release_notes_are_the_section_of_the_version(tmp_path):
    (tmp_path / "tools").mkdir()
    script = shutil.copy(ROOT / "tools" / "release_notes.sh", tmp_path / "tools")
    parts = ["# All", "## 0.3 (unreleased)", "c", "## 0.2 (2026-01-01)", "- b", "## 0.1", "a"]
    (tmp_path / "CHANGELOG.md").write_text("\n".join(parts))

    def notes(version):
        return subprocess.run([script, version], capture_output=True, text=True)

    assert notes("0.2").stdout == "- b\n"
    assert "unreleased" in notes("0.3").stderr
    assert "no section" in notes("0").stderr
    assert notes("0.3").returncode == notes("0").returncode == 1
