#!/usr/bin/env bash
# Measures how much of the package the default tests reach, branch by branch; fails below 95%.
# Options go to pytest: tools/check_coverage.sh -n auto
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export COVERAGE_FILE="$scratch/coverage"

python -m coverage run -m pytest -p no:cacheprovider "$@"
# numba's loops are compiled, and out of sight, unless they run as plain Python.
NUMBA_DISABLE_JIT=1 python -m coverage run -m pytest -q -p no:cacheprovider tests/test_gradient.py \
    tests/test_properties.py tests/test_pursuit.py \
    tests/test_large.py::test_blocked_pursuit_is_the_reference \
    tests/test_large.py::test_coarse_pursuit_without_room_for_all_rows
python -m coverage combine -q
python -m coverage report --skip-covered --fail-under=95
