#!/usr/bin/env bash
# Runs the tests on Python 3.11 and the oldest versions that pyproject.toml declares.
# PyPI's torch of that time comes with CUDA: some 3 GB to download, 7 GB on disk.
# Options go to pytest: tools/check_oldest.sh -n auto
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3.11}" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q -c constraints-oldest.txt -e '.[test]'
"$scratch/venv/bin/pip" check
# Docstrings are checked by rules of the newest numpydoc, pages are of the newest Sphinx, and
# the examples of callbacks call them, which takes scikit-learn 1.9.
"$scratch/venv/bin/python" -m pytest --ignore=tests/test_docstrings.py \
    --ignore=tests/test_docs.py --ignore=sklearn_mpsae/callbacks.py "$@"
