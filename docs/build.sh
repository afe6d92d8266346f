#!/bin/sh
# Builds the site into docs/_build/html: warnings are errors, references and links are checked,
# and with Chromium or Chrome, that nothing on a page is cut. Takes three minutes on two cores, and two more with Chromium.
# Makes .venv-docs with what it needs, or takes the environment that $VENV names as it is.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${VENV:-}" ]; then
    VENV=.venv-docs
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install -q -c constraints.txt -e '.[docs]'
fi
"$VENV/bin/python" -m sphinx -W -n --keep-going -b html docs docs/_build/html
"$VENV/bin/python" docs/check_links.py docs/_build/html
"$VENV/bin/python" docs/check_widths.py docs/_build/html
