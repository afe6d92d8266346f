#!/usr/bin/env bash
# Runs the tests on the newest versions there are, whatever constraints.txt says; but on its
# torch, whose newest version may have no build for the CPU, and on what is tied to that.
# Options go to pytest: tools/check_newest.sh -n auto
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/venv"
grep -E '^(torch|triton)==' constraints.txt > "$scratch/torch.txt"
"$scratch/venv/bin/pip" install -q --upgrade -c "$scratch/torch.txt" -e '.[test]'
"$scratch/venv/bin/pip" check
"$scratch/venv/bin/pip" list
"$scratch/venv/bin/python" -m pytest "$@"
