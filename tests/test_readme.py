"""What the README says runs, and the tool that runs it in a fresh environment."""

import importlib.util
import re
from pathlib import Path

import pytest
from code_blocks import Block, blocks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs one block after the other, as a reader would."""

    def run():
        monkeypatch.chdir(tmp_path)
        names = {}
        for block in blocks(README, "python"):
            exec(block.code, names)
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
    install, python = blocks(README, "bash", "python")[:2]
    assert install.code.startswith("pip install")
    assert "savefig" in python.code
    assert len(list(filter(None, (install.code + python.code).splitlines()))) == 5


# ------------------------------------------------------------------- tools/run_blocks.py
PAGE = """\
# Title

```python
# no heading
x = 1
```

## Test it

```bash
exit 1
```

## Section

```text
not run
```
```bash
echo "y = 2" > made.py
```
```python
from pathlib import Path
Path("seen").write_text(f"{x} {Path('made.py').read_text()}")
```
"""


@pytest.fixture
def run_blocks():
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("run_blocks", ROOT / "tools/run_blocks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_blocks_have_their_line_and_heading():
    first, test, bash, last = blocks(PAGE, "bash", "python")
    assert first == Block("python", "# no heading\nx = 1\n", 4, "Title")
    assert (test.heading, test.code) == ("Test it", "exit 1\n")
    assert (bash.language, bash.heading) == ("bash", "Section")
    assert PAGE.splitlines()[last.line - 1] == "from pathlib import Path"


def test_the_tool_runs_blocks_in_order(run_blocks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("page.md").write_text(PAGE)
    assert run_blocks.main(["page.md"]) == 0
    assert Path("seen").read_text() == "1 y = 2\n"
    assert "page.md:11 (bash, Test it) is left to .ci/run" in capsys.readouterr().out


@pytest.mark.parametrize("block", ["bash\nfalse\ntrue", "python\n1 / 0"])
def test_the_tool_ends_at_the_first_block_that_fails(
    block, run_blocks, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    after = "```python\nopen('after', 'w')\n```\n"
    Path("page.md").write_text(f"# A\n\n```{block}\n```\n{after}")
    assert run_blocks.main(["page.md"]) == 1
    assert "FAILED: page.md:4 " in capsys.readouterr().out
    assert not Path("after").exists()


# What in the code of a block needs an extra.
NEEDS = {"plotting": "plotting", "compare(": "compare", "import torch": "torch"}


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_what_needs_an_extra_comes_after_its_installation(page):
    """In a fresh environment, which `tools/check_readme.sh` makes."""
    installed, needed = set(), set()
    for block in blocks((ROOT / page).read_text(), "bash", "python"):
        if block.language == "bash":
            for extras in re.findall(r"^pip install.*'\.\[(.*)\]'", block.code, re.MULTILINE):
                installed |= set(extras.split(","))
        else:
            needed |= {extra for word, extra in NEEDS.items() if word in block.code}
        assert needed <= installed, f"{page}:{block.line}"
    assert needed
