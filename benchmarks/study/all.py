"""Runs every part of the study, one after the other; options are passed on to each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PARTS = ("tree", "superposition", "mnist", "classical", "beyond", "language", "synth")


def main() -> None:
    for part in PARTS:
        script = Path(__file__).with_name(f"{part}.py")
        print(f"\n==== {part}", flush=True)
        subprocess.run([sys.executable, str(script), *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
