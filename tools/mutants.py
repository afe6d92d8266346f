"""Mutation testing: which faults in coding/ and learning/ would the tests not notice?

    pip install cosmic-ray
    python tools/mutants.py mutants.jsonl --sample 400

A mutant has one operator, number or branch changed. It counts as killed where a test then
fails or does not end. At most one mutant of a line is tried, drawn at random: lines with many
operators would outvote the others. Changes of `|`, which types are made of, and those to
operators on bits, which any number trips over, are left out. The file gets a line of JSON for
each mutant, with its difference; docs/trust.md says what was found.
"""

import argparse
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import use_db

ROOT = Path(__file__).parents[1]
CODING, LEARNING = "sklearn_mpsae/coding", "sklearn_mpsae/learning"
# The compiled loops run as plain Python: compiling each mutant would take a minute.
LOOPS = f"{CODING}/kernels/loops.py"
# Triton compiles the source of its kernels, line by line, itself.
LEFT_OUT = f"{CODING}/kernels/fused.py"
BITS = ("BitOr", "BitAnd", "BitXor", "LShift", "RShift", "Invert")

# The tests of each part, the quickest first: the first failure ends a run.
TESTS = {
    LOOPS: [
        *("kernels", "recipe", "gradient", "pursuit", "properties"),
        "large.py::test_blocked_pursuit_is_the_reference",
        "large.py::test_coarse_pursuit_without_room_for_all_rows",
        "large.py::test_ties_go_to_the_lowest_index",
        "large.py::test_rows_of_zeros_have_no_codes",
    ],
    CODING: [
        *("kernels", "gradient", "properties", "numerics"),
        *("streams", "large", "pursuit", "mp_cv"),
    ],
    LEARNING: [
        "recipe",
        *("gradient", "streams", "sources", "bad_input", "hostile", "callbacks"),
        *("properties", "checkpoint", "training", "estimators"),
    ],
}
# And those of a module of its own, before the others.
TESTS_OF = {
    "__init__": ["citizenship"],
    "tensor": ["fused"],
    "team": ["recipe", "threads", "citizenship"],
    "disk": ["sources", "faults"],
    "checks": ["hostile", "hostile_functions"],
    "checkpoint": ["checkpoint"],
    "fit": ["checkpoint"],
    "distributed": ["distributed"],
    "compiled": ["faults"],
}

PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]


def is_left_out(spec):
    """Changes to bits; and where loops run as plain Python, numba's decorators do nothing."""
    loops = spec.module_path == ROOT / LOOPS
    left_out = (*BITS, "RemoveDecorator") if loops else BITS
    return any(name in spec.operator_name for name in left_out)


def mutants(seed):
    """One mutant of each line that has any, in random order."""
    paths = [p for folder in (CODING, LEARNING) for p in sorted((ROOT / folder).rglob("*.py"))]
    with tempfile.TemporaryDirectory() as scratch, use_db(f"{scratch}/db") as db:
        init([path for path in paths if path != ROOT / LEFT_OUT], db, {})
        specs = [item.mutations[0] for item in db.work_items]
    specs = [s for s in specs if not is_left_out(s)]
    specs.sort(key=lambda s: (s.module_path, s.start_pos, s.operator_name, s.occurrence))
    random.seed(seed)
    random.shuffle(specs)
    one_each = {(s.module_path, s.start_pos[0]): s for s in specs}
    return random.sample(list(one_each.values()), len(one_each))


def part_of(module):
    return LOOPS if module == LOOPS else CODING if module.startswith(CODING) else LEARNING


def passes(folder, part, first=(), limit=None):
    """Whether the tests of a part pass in a folder, and the seconds they took."""
    names = dict.fromkeys([*first, *TESTS[part]])
    files = [f"tests/test_{name}" + ("" if "::" in name else ".py") for name in names]
    start = time.monotonic()
    process = subprocess.Popen(
        [*PYTEST, *(["-k", "not tensor"] if part == LOOPS else []), *files],
        cwd=folder,
        env={
            **os.environ,
            "NUMBA_DISABLE_JIT": str(int(part == LOOPS)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(folder),  # for the processes that tests start
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        passed = process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        passed = False
    return passed, time.monotonic() - start


def try_mutant(spec, folder, limits):
    module = str(spec.module_path.relative_to(ROOT))
    part, path = part_of(module), folder / module
    code = path.read_text()
    operator = get_operator(spec.operator_name)(**spec.operator_args)
    mutated = mutate_code(code, operator, spec.occurrence)
    path.write_text(mutated)
    try:
        survived, seconds = passes(folder, part, TESTS_OF.get(path.stem, ()), limits[part])
    finally:
        path.write_text(code)
    difference = difflib.unified_diff(code.splitlines(), mutated.splitlines(), n=0, lineterm="")
    return {
        "module": module,
        "line": spec.start_pos[0],
        "operator": spec.operator_name.removeprefix("core/"),
        "survived": survived,
        "seconds": round(seconds, 1),
        "difference": list(difference)[3:],
    }


def prepared(folder):
    """Copy what git tracks, and see how long the tests of each part may take there."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    limits = {}
    for part in TESTS:
        passed, seconds = passes(folder, part)
        if not passed:
            sys.exit(f"the tests of {part} fail without a mutant")
        limits[part] = 4 * seconds + 200
    return limits


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sample", type=int, help="how many mutants; all lines without")
    parser.add_argument("--again", type=Path, help="only the survivors in this earlier file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    chosen = mutants(options.seed)[: options.sample]
    if options.again:
        before = [json.loads(line)["survived"] for line in options.again.open()]
        chosen = [spec for spec, survived in zip(chosen, before, strict=False) if survived]
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(options.jobs) as pool,
        options.out.open("w") as out,
    ):
        places = [Path(scratch) / str(job) for job in range(options.jobs)]
        free = SimpleQueue()
        for place in zip(places, pool.map(prepared, places), strict=True):
            free.put(place)

        def run(spec):
            place, limits = free.get()
            try:
                return try_mutant(spec, place, limits)
            finally:
                free.put((place, limits))

        killed = 0
        for tried, result in enumerate(pool.map(run, chosen), 1):
            killed += not result["survived"]
            print(json.dumps(result), file=out, flush=True)
            print(f"{killed} of {tried} killed ({killed / tried:.1%})", flush=True)


if __name__ == "__main__":
    main()
