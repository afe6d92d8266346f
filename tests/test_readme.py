"""What the README says runs."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs one block after the other, as a reader would."""

    def run():
        monkeypatch.chdir(tmp_path)
        names = {}
        for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
            exec(block, names)
        assert (tmp_path / "atoms.png").stat().st_size > 10_000
        return names

    return run


def test_its_python_runs(run, monkeypatch):
    """With fits that are cut short."""
    monkeypatch.setattr("sklearn_mpsae.learning.run._DEFAULT_STEPS", 30)
    names = run()
    assert (names["table"].error == "").all()
    assert names["codes"].shape == (1797, 128)
    assert names["unexplained"].shape in [(2,), (4,), (8,)]
    assert names["on_disk"].shape == (900, 256)
    assert names["outputs"].shape == (1797, 10)


@pytest.mark.slow
def test_its_python_gives_what_it_says(run):
    names = run()
    assert (names["table"].r2 > 0).all()
    assert (names["table"].error == "").all()
    assert names["search"].best_params_ == {"mpsparseautoencoder__n_nonzero_coefs": 8}
    assert names["codes"].shape == (1797, 128)
    assert (names["codes"] != 0).sum(axis=1).max() == 8
    assert names["unexplained"].shape == (8,)
    assert names["unexplained"][-1] < 0.1
    assert names["on_disk"].shape == (900, 256)


def test_a_picture_of_atoms_takes_five_lines():
    """One to install, four to run."""
    install, python = re.findall(r"```(?:bash|python)\n(.*?)```", README, flags=re.DOTALL)[:2]
    assert install.startswith("pip install")
    assert "savefig" in python
    assert len(re.findall(r"^.+$", install + python, flags=re.MULTILINE)) == 5
