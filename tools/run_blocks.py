"""Run the Python and bash blocks of pages in order, as `tools/check_readme.sh` does.

``python tools/run_blocks.py README.md``, in the folder of the repository and in an environment
that may be changed: blocks of bash install into it. Python blocks go on from each other. The
first block that fails ends the run, with the page, its line and the error.
"""

import importlib
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from code_blocks import Block, blocks

# This block runs all tests, for minutes; .ci/run runs it in an environment of its own.
ELSEWHERE = {"Test it"}


def main(pages: list[str]) -> int:
    """Run pages; 1 if a block fails."""
    for page in pages:
        names = {"__name__": "__main__"}
        for block in blocks(Path(page).read_text(encoding="utf-8"), "bash", "python"):
            where = f"{page}:{block.line} ({block.language}, {block.heading})"
            if block.heading in ELSEWHERE:
                print(f"- {where} is left to .ci/run", flush=True)
                continue
            start = time.perf_counter()
            if not ran(block, page, names):
                print(f"FAILED: {where}", flush=True)
                return 1
            print(f"+ {where}: {time.perf_counter() - start:.0f} s", flush=True)
    return 0


def ran(block: Block, page: str, names: dict) -> bool:
    """Run a block, and print the error if it has one."""
    if block.language == "bash":
        # As with this environment activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        command = ["bash", "-euo", "pipefail", "-c", block.code]
        code = subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode
        importlib.invalidate_caches()  # for what it has installed
        return code == 0
    try:
        # So many empty lines that errors have the page's line.
        exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), names)
    except Exception:
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
