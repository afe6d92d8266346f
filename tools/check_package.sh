#!/usr/bin/env bash
# Builds the sdist and the wheel, and uses the wheel where this repository is not: only with
# what it needs, then typed, then with two extras; all of it without torch.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
repository=$PWD
python=${PYTHON:-python3}

echo "+ build from the files that git knows"
mkdir "$scratch/source"
git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from - |
    tar --extract --directory "$scratch/source"
"$python" -m venv "$scratch/build"
"$scratch/build/bin/pip" install -q -c constraints.txt build twine
"$scratch/build/bin/python" -m build --outdir "$scratch/dist" "$scratch/source" \
    > "$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
"$scratch/build/bin/twine" check --strict "$scratch"/dist/*
"$python" tools/contents.py "$scratch"/dist/*

echo "+ install the wheel"
wheel=$(ls "$scratch"/dist/*.whl)
"$python" -m venv "$scratch/clean"
"$scratch/clean/bin/pip" install -q -c constraints.txt "$wheel"
"$scratch/clean/bin/pip" check
cd "$scratch"  # so that nothing is imported from the repository

echo "+ the examples of the docstrings of MPSparseAutoencoder"
"$scratch/clean/bin/python" -W error - << 'PYTHON'
import doctest, importlib.util, site, sys
import sklearn_mpsae
from sklearn_mpsae.estimators import _mp

assert any(sklearn_mpsae.__file__.startswith(path) for path in site.getsitepackages())
assert sklearn_mpsae.__version__ != "0+unknown"
failed, attempted = doctest.testmod(_mp)
assert importlib.util.find_spec("torch") is None
print(f"sklearn_mpsae {sklearn_mpsae.__version__}: {attempted} examples, {failed} failed")
sys.exit(failed or not attempted)
PYTHON

echo "+ a typed program, checked by mypy --strict and run"
"$scratch/clean/bin/pip" install -q -c "$repository/constraints.txt" "$wheel[compare,share]" mypy
cp "$repository/tests/typed_client.py" .
"$scratch/clean/bin/mypy" --strict --python-executable "$scratch/clean/bin/python" typed_client.py
"$scratch/clean/bin/python" typed_client.py

echo "+ all that needs no torch"
"$scratch/clean/bin/python" "$repository/tests/torchless.py" > sums.json
