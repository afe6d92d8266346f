"""The study's scripts run, and its pages say what they found."""

import ast
import gzip
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

STUDY = Path(__file__).parents[1] / "benchmarks" / "study"


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDY))
    import common

    return common


@pytest.fixture
def report(common, tmp_path):
    args = type("Args", (), {"out": tmp_path, "quick": False})
    return common.Report("page", args)


@pytest.mark.parametrize(
    "part",
    ["tree", "superposition", "mnist", "classical", "beyond", "language", "synth"],
)
def test_the_names_that_a_script_asks_for_are_there(part, common):
    """All that it imports; it runs in full below."""
    assert callable(importlib.import_module(part).main)


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["tree", "superposition", "mnist", "classical", "beyond", "language", "synth"]
)
def test_quick_version_runs_and_resumes(part, tmp_path):
    if part == "synth":
        pytest.importorskip("sae_lens")
    data = os.environ.get("SKLEARN_MPSAE_DATA")
    if data is None and part in {"mnist", "classical", "beyond"}:
        pytest.skip("set SKLEARN_MPSAE_DATA to a folder with mnist.npz and minilm_nouns.npz")
    if part == "language":
        data = made_up_text(tmp_path)
    where = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "pages")]
    if data is not None:
        where += ["--data", str(data)]
    command = [sys.executable, str(STUDY / f"{part}.py"), "--quick", *where]
    subprocess.run(command, check=True, capture_output=True)
    page = (tmp_path / "pages" / f"{part}.md").read_text()
    assert page.count("<!-- begin ") >= 3
    assert "| MP" in page
    assert list((tmp_path / "pages" / "images").glob(f"{part}_*.png"))


def made_up_text(folder):
    """A folder with a text for a language model: each word suggests the next one."""
    rng = np.random.default_rng(0)
    words = np.array([a + b + c for a in "bcdfgl" for b in "aeiou" for c in "nrst"])
    lines = []
    for _ in range(2000):
        numbers = np.cumsum(rng.choice([1, 2, 7], rng.integers(4, 20))) + rng.integers(120)
        file = rng.choice([0, 2, 10, 35])
        lines.append(f"{file:02d}\tword\t{' '.join(words[numbers % 120])}")
    path = folder / "wordnet_glosses.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def test_pages_have_every_table_their_script_writes():
    """A committed page is one that its script has filled."""
    pages = {*(STUDY.parents[1] / "docs" / "study").glob("*.md")}
    pages = [page for page in pages if page.stem not in ("README", "index")]
    assert len(pages) == 7
    for page in pages:
        text = page.read_text()
        assert "<!-- begin machine -->\nMade by `python benchmarks/study/" in text
        for image in re.findall(r"!\[.*?\]\((.+?)\)", text):
            assert (page.parent / image).is_file()


def test_report_fills_a_page_and_leaves_its_text(report, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- begin scores -->\nold\n<!-- end scores -->\nAfter.\n"
        "<!-- begin machine -->\n<!-- end machine -->\n"
    )
    report.table("scores", pd.DataFrame({"name": ["MP"], "R²": ["0.9"]}))
    report.save()
    text = page.read_text()
    assert text.startswith(
        "Before.\n<!-- begin scores -->\n| name | R² |\n| --- | --- |\n| MP | 0.9 |\n"
        "<!-- end scores -->\nAfter.\n"
    )
    assert "Made by `python benchmarks/study/page.py`" in text


def test_a_table_without_a_place_is_an_error(report, tmp_path):
    (tmp_path / "page.md").write_text("<!-- begin machine -->\n<!-- end machine -->\n")
    report.text("lost", "found")
    with pytest.raises(LookupError, match="has no place for 'lost'"):
        report.save()


def test_what_is_kept_belongs_to_the_code_not_to_its_comments(common):
    def bare(source):
        return ast.dump(common._bare(ast.parse(source)))

    plain = "def f(x):\n    return x + 1\n"
    assert bare(
        '"""Module."""\ndef f(x):\n    """Doc."""\n    # why\n    return x + 1\n'
    ) == bare(plain)
    assert bare(plain) != bare(plain.replace("1", "2"))


def test_the_best_rate_is_of_those_with_the_codes_asked_for(common, report):
    rows = pd.DataFrame(
        [
            ("TopK", 5, 0.1, 0.70, 5.0),
            ("TopK", 5, 1.0, 0.72, 5.0),
            ("TopK", 20, 0.1, 0.86, 20.0),
            ("TopK", 20, 1.0, 0.85, 20.0),
            ("ReLU", 5, 0.1, 0.50, 5.2),
            ("ReLU", 5, 1.0, 0.60, 5.5),
            ("ReLU", 20, 0.1, 0.70, 20.0),
            ("ReLU", 20, 1.0, 0.71, 20.0),
        ],
        columns=["estimator", "n_nonzero_coefs", "rate", "r2", "l0"],
    )
    rates = common.best_rates(rows, 0.05, report)
    assert rates == {"TopK": {5: 1.0, 20: 0.1}, "ReLU": {5: 0.1, 20: 1.0}}
    assert report.parts["sweep"].splitlines() == [
        "| estimator | L0 | 0.1 | 1.0 | taken |",
        "| --- | --- | --- | --- | --- |",
        "| TopK | 5 | 0.7 | 0.72 | 1.0 |",
        "| TopK | 20 | 0.86 | 0.85 | 0.1 |",
        "| ReLU | 5 | 0.5 | missed | 0.1 |",
        "| ReLU | 20 | 0.7 | 0.71 | 1.0 |",
    ]
    found = [common.rate_at(rates["TopK"], level) for level in (3, 5, 6, 20, 50)]
    assert found == [1.0, 1.0, 0.1, 0.1, 0.1]
