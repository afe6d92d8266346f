"""What pyproject.toml declares is what is tested, and what is cited."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

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


def test_the_version_cited_is_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
