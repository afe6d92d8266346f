"""The examples run, without a warning, and are what the gallery asks for."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PLOTS = sorted(EXAMPLES.glob("plot_*.py"))
# Whose time is that of their fits.
FAST = {
    "plot_callbacks",
    "plot_choose_k",
    "plot_embeddings",
    "plot_hierarchy",
    "plot_network_activations",
    "plot_retrieval",
    "plot_sparsity_path",
    "plot_table",
}
PATIENCE = 300  # seconds, after which one hangs; they take some


def run(command, folder):
    """Where no picture can be shown; a warning is an error, in what it starts as well."""
    env = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    env |= {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=env,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", sorted(FAST))
def test_it_runs_with_fits_that_are_cut_short(name, tmp_path, monkeypatch):
    if name == "plot_callbacks":
        pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sklearn_mpsae.learning.run._DEFAULT_STEPS", 30)
    runpy.run_path(str(EXAMPLES / f"{name}.py"))
    assert plt.get_fignums()
    plt.close("all")
    assert not list(tmp_path.iterdir())


def test_the_quickstart_prints_the_scores_of_its_estimators(monkeypatch, capsys):
    """Codes are about the learnt intercept: without it R² is too low."""
    monkeypatch.setattr("sklearn_mpsae.learning.run._DEFAULT_STEPS", 30)
    quickstart = runpy.run_path(str(EXAMPLES / "quickstart.py"))
    task = quickstart["load"]("digits", None)
    task = task._replace(X_train=task.X_train[:100], n_components=8)
    estimator = quickstart["compare"](task, 2, task.X_train, task.X_test)
    (line,) = re.findall(r"^MPSparseAutoencoder  .*", capsys.readouterr().out, re.M)
    assert float(line.split()[3]) == round(estimator.score(task.X_test), 3)
    assert float(line.split()[4]) >= float(line.split()[3])


@pytest.mark.slow
@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    if path.stem == "plot_callbacks":
        pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    assert run([path], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_quickstart_leaves_a_picture(tmp_path):
    assert "Picture: quickstart.png" in run([EXAMPLES / "quickstart.py"], tmp_path)
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_it_opens_with_what_it_shows(path):
    """A title, underlined, then prose: what sphinx-gallery makes a page from."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    title, line, empty, prose = docstring.splitlines()[:4]
    assert re.fullmatch("=+", line)
    assert len(line) == len(title)
    assert not empty
    assert prose


@pytest.mark.parametrize("path", PLOTS, ids=lambda path: path.stem)
def test_it_ends_with_a_picture(path):
    """Begun and shown in the last block: sphinx-gallery closes figures after each."""
    *before, last = path.read_text().split("\n# %%\n")
    drawn = re.compile(r"plt\.(subplots|figure)\(")
    assert drawn.search(last)
    assert "plt.show()" in last
    assert not drawn.search("".join(before))


def test_the_gallery_starts_with_the_quickstart_and_its_picture(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES.parent / "docs")
    from gallery_order import QuickstartFirst

    names = sorted((path.name for path in EXAMPLES.glob("*.py")), key=QuickstartFirst("."))
    pictured = [path.name for path in PLOTS]
    assert names[: len(pictured) + 1] == ["quickstart.py", *pictured]
    quickstart = (EXAMPLES / "quickstart.py").read_text()
    thumbnail = re.search(r'^# sphinx_gallery_thumbnail_path = "(.*)"$', quickstart, re.M)[1]
    assert (EXAMPLES.parent / "docs" / thumbnail).is_file()
