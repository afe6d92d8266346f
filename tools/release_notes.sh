#!/bin/sh
# Prints what CHANGELOG.md says of a version: tools/release_notes.sh 0.1.0
# Fails where it says nothing, or calls the version unreleased.
set -eu
cd "$(dirname "$0")/.."
notes=$(awk -v heading="## $1 " 'index($0 " ", heading) == 1 {print; here = 1; next}
    /^## / {here = 0} here' CHANGELOG.md)
case $notes in
    *"("unreleased")"*) echo "CHANGELOG.md calls $1 unreleased" >&2; exit 1 ;;
    "") echo "CHANGELOG.md has no section $1" >&2; exit 1 ;;
esac
printf '%s\n' "$notes" | tail -n +2
