"""The package is typed for those who use it: `typed_client.py` is a program of theirs."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CLIENT = Path(__file__).with_name("typed_client.py")


# Types of torch and the like are none of a user's, and take mypy long.
CONFIG = """\
[mypy]
strict = True
follow_imports = silent
[mypy-matplotlib.*,pandas.*,torch.*,triton.*]
follow_imports = skip
"""


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.2.0",
    reason="before NumPy 2.2, ndarray had to be given its type parameters",
)
def test_a_typed_program_passes_mypy_strict(tmp_path):
    pytest.importorskip("mypy")
    # Outside of the repository, so that the package is a library to it.
    (tmp_path / "mypy.ini").write_text(CONFIG)
    (tmp_path / CLIENT.name).write_text(CLIENT.read_text())
    result = subprocess.run(
        [sys.executable, "-m", "mypy", CLIENT.name],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(CLIENT.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.filterwarnings("ignore:Rows have .* codes on average")
def test_the_typed_program_runs():
    runpy.run_path(str(CLIENT), run_name="__main__")
