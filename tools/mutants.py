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
MUTATED = ["sklearn_mpsae/coding", "sklearn_mpsae/learning"]
# Triton compiles the source of its kernels, line by line, itself.
LEFT_OUT = "sklearn_mpsae/coding/kernels/fused.py"
BITS = ("BitOr", "BitAnd", "BitXor", "LShift", "RShift", "Invert")

# Tests of the module alone come first: the first failure ends the run.
TESTS = [
    *("pursuit", "gradient", "properties", "training", "estimators", "numerics", "sources"),
    *("streams", "checkpoint", "threads", "large", "hostile", "bad_input", "distributed"),
]
# The compiled loops run as plain Python: compiling each mutant would take a minute.
LOOPS = "sklearn_mpsae/coding/kernels/loops.py"
TESTS_OF_LOOPS = ["pursuit", "gradient", "properties"]


def mutants(seed):
    """One mutant of each line that has any, in random order: (module, line, operator, code)."""
    paths = [path for folder in MUTATED for path in sorted((ROOT / folder).rglob("*.py"))]
    with tempfile.TemporaryDirectory() as scratch, use_db(f"{scratch}/db") as db:
        init.init([path for path in paths if path != ROOT / LEFT_OUT], db, {})
        specs = [item.mutations[0] for item in db.work_items]
    specs = [s for s in specs if not any(bits in s.operator_name for bits in BITS)]
    specs.sort(key=lambda s: (s.module_path, s.start_pos, s.operator_name, s.occurrence))
    random.seed(seed)
    random.shuffle(specs)
    one_each = {(s.module_path, s.start_pos[0]): s for s in specs}
    return random.sample(list(one_each.values()), len(one_each))


def passes(folder, module, limit):
    """Whether the tests of a module pass in a folder, and the seconds they took."""
    names = TESTS_OF_LOOPS if module == LOOPS else TESTS
    environment = {
        **os.environ,
        "NUMBA_DISABLE_JIT": str(int(module == LOOPS)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    start = time.monotonic()
    process = subprocess.Popen(
        command + [f"tests/test_{name}.py" for name in names],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        passed = process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        passed = False
    return passed, time.monotonic() - start


def try_mutant(spec, folder, limits):
    module = str(spec.module_path.relative_to(ROOT))
    path = folder / module
    code = path.read_text()
    operator = get_operator(spec.operator_name)(**spec.operator_args)
    mutated = mutate_code(code, operator, spec.occurrence)
    path.write_text(mutated)
    try:
        survived, seconds = passes(folder, module, limits[module == LOOPS])
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


def copy_tree(folder):
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sample", type=int, help="how many mutants; all lines without")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folders = SimpleQueue()
        limits = {}
        for job in range(options.jobs):
            folder = Path(scratch) / str(job)
            copy_tree(folder)
            for module in (LOOPS, MUTATED[0]):
                passed, seconds = passes(folder, module, None)
                if not passed:
                    sys.exit(f"without a mutant, the tests for {module} fail")
                limits[module == LOOPS] = 4 * seconds + 30
            folders.put(folder)

        def run(spec):
            folder = folders.get()
            try:
                return try_mutant(spec, folder, limits)
            finally:
                folders.put(folder)

        killed = tried = 0
        with ThreadPoolExecutor(options.jobs) as pool, options.out.open("w") as out:
            for result in pool.map(run, mutants(options.seed)[: options.sample]):
                tried += 1
                killed += not result["survived"]
                print(json.dumps(result), file=out, flush=True)
                print(f"{killed} of {tried} killed", end="\r", flush=True)
    print(f"\n{killed / tried:.1%} of {tried} mutants killed")


if __name__ == "__main__":
    main()
