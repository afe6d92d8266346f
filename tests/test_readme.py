"""What the README says runs."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_its_python_runs(tmp_path, monkeypatch):
    """One block after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "atoms.png").stat().st_size > 10_000
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
