#!/usr/bin/env bash
# Runs the Python and bash blocks of README.md and of the site's home page in order, each page in
# a fresh environment and a copy of the repository, and fails at the first that fails. Takes five
# minutes or more, most of them for pip. Other pages by name: tools/check_readme.sh README.md
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
repository=$PWD
export MPLBACKEND=Agg PIP_QUIET=1  # pictures are drawn, never shown

pages=("$@")
[ ${#pages[@]} -gt 0 ] || pages=(README.md docs/index.md)
for page in "${pages[@]}"; do
    rm -rf "$scratch/copy" "$scratch/venv"
    mkdir "$scratch/copy"
    git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from - |
        tar --extract --directory "$scratch/copy"
    "${PYTHON:-python3}" -m venv "$scratch/venv"
    (cd "$scratch/copy" && "$scratch/venv/bin/python" "$repository/tools/run_blocks.py" "$page")
done
