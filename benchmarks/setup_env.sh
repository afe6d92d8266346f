#!/bin/sh
# Make an environment with this package and those it is compared with: setup_env.sh [folder]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
env=${1:-"$here/.venv"}
python3 -m venv "$env"
"$env/bin/python" -m pip install --requirement "$here/requirements.txt" "$here/.."
