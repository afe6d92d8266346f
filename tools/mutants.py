"""Mutation testing: which faults in coding/, models/ and learning/ would the tests not notice?

    pip install cosmic-ray pytest-cov
    python tools/mutants.py mutants.jsonl --sample 400

A mutant has one operator, number or branch changed. It counts as killed where a test then
fails or does not end; the tests that reach its line are run, the quickest first, for up to a
minute in all. At most one mutant of a line is tried, drawn at random: lines with many
operators would outvote the others. Changes of `|`, which types are made of, those to operators
on bits, which any number trips over, those of the `*` of a signature, which is no operator, and
those of numbers so large that one more is none, are left out. The file gets a line of JSON for
each mutant, with its difference; docs/trust.md says what was found.
"""

import argparse
import ast
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
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import use_db
from coverage import CoverageData

ROOT = Path(__file__).parents[1]
CODING, LEARNING = "sklearn_mpsae/coding", "sklearn_mpsae/learning"
MODELS = "sklearn_mpsae/models"
# The compiled loops run as plain Python: compiling each mutant would take a minute.
LOOPS = f"{CODING}/kernels/loops/"
# Triton compiles the source of its kernels, line by line, itself.
LEFT_OUT = f"{CODING}/kernels/fused.py"
BITS = ("BitOr", "BitAnd", "BitXor", "LShift", "RShift", "Invert")

# Tests of these folders.
TESTS = [
    "bad_input",
    "callbacks",
    "checkpoint",
    "citizenship",
    "estimators",
    "faults",
    "files",
    "fused",
    "gradient",
    "hostile",
    "hostile_functions",
    "kernels",
    "large",
    "mp_cv",
    "numerics",
    "properties",
    "pursuit",
    "recipe",
    "sources",
    "streams",
    "threads",
    "training",
]
TESTS_OF_LOOPS = [
    *("gradient", "kernels", "properties", "pursuit", "recipe"),
    "large.py::test_a_coarse_choice_is_fine_after_a_code_a_hundred_times_as_large",
    "large.py::test_a_coarse_choice_of_the_wrong_sign_is_left_out",
    "large.py::test_blocked_pursuit_is_the_reference",
    "large.py::test_coarse_pursuit_without_room_for_all_rows",
    "large.py::test_rows_of_zeros_have_no_codes",
    "large.py::test_ties_go_to_the_lowest_index",
]
# Modules whose functions run in processes that tests start, where coverage does not see them.
ELSEWHERE = {f"{LEARNING}/distributed.py": "tests/test_distributed.py"}
# What the tests of one mutant may take, by their times without one.
SECONDS = 60

PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]


def mutants():
    """All of them, line by line."""
    paths = [
        p
        for folder in (CODING, MODELS, LEARNING)
        for p in sorted((ROOT / folder).rglob("*.py"))
    ]
    with tempfile.TemporaryDirectory() as scratch, use_db(f"{scratch}/db") as db:
        init([path for path in paths if path != ROOT / LEFT_OUT], db, {})
        specs = [item.mutations[0] for item in db.work_items]
    specs = [spec for spec in specs if not is_left_out(spec)]
    return sorted(
        specs, key=lambda s: (s.module_path, s.start_pos, s.operator_name, s.occurrence)
    )


def is_left_out(spec):
    if any(name in spec.operator_name for name in BITS):
        return True
    if module_of(spec).startswith(LOOPS) and "RemoveDecorator" in spec.operator_name:
        return True  # Where the loops run as plain Python, numba's decorators do nothing.
    text = first_line(spec)[spec.start_pos[1] :]
    if "NumberReplacer" in spec.operator_name:
        number = ast.literal_eval(text[: spec.end_pos[1] - spec.start_pos[1]])
        return number + 1 == number
    return text.startswith("*,")


def first_line(spec):
    return spec.module_path.read_text().splitlines()[spec.start_pos[0] - 1]


def module_of(spec):
    return str(spec.module_path.relative_to(ROOT))


def drawn(specs, seed):
    """One of each line that has any, in random order."""
    random.seed(seed)
    random.shuffle(specs)
    one_each = {(spec.module_path, spec.start_pos[0]): spec for spec in specs}
    return random.sample(list(one_each.values()), len(one_each))


def earlier(specs, path, survived):
    """Those of an earlier run, or its survivors only, wherever their lines are now."""
    results = [json.loads(line) for line in path.open()]
    wanted = {
        (r["module"], r["operator"], *r["difference"])
        for r in results
        if r["survived"] or not survived
    }
    found = {}
    for spec in specs:
        start = module_of(spec), spec.operator_name, f"-{first_line(spec)}"
        if any(start == key[:3] for key in wanted):
            code = spec.module_path.read_text()
            found[(*start[:2], *difference(code, mutated(spec, code)))] = spec
    return [spec for key, spec in found.items() if key in wanted]


def mutated(spec, code):
    operator = get_operator(spec.operator_name)(**spec.operator_args)
    return mutate_code(code, operator, spec.occurrence)


def difference(before, after):
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return list(lines)[3:]


def started(folder, loops, arguments):
    """A run of pytest in a folder; for mutants of the compiled loops they are plain Python."""
    return subprocess.Popen(
        [*PYTEST, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "NUMBA_DISABLE_JIT": str(int(loops)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(folder),  # for the processes that tests start
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


class Reach:
    """Which tests reach each line of a copy, and how long they take."""

    def __init__(self, folder, loops):
        names = TESTS_OF_LOOPS if loops else TESTS
        files = [f"tests/test_{name}" + ("" if "::" in name else ".py") for name in names]
        unfit = ["-k", "not tensor"] if loops else []
        measure = ["-n", "auto", "--cov", "--cov-context=test", "--cov-report="]
        if started(folder, loops, [*measure, "--junitxml=times.xml", *unfit, *files]).wait():
            sys.exit("the tests fail without a mutant")
        self.folder = folder
        # Moved, as the next run writes its own.
        self.data = CoverageData((folder / ".coverage").rename(folder / f"reach-{loops}"))
        self.data.read()
        self.seconds = defaultdict(float)
        for case in ElementTree.parse(folder / "times.xml").iter("testcase"):
            test = f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}"
            self.seconds[test.split("[")[0]] += float(case.get("time"))

    def tests(self, module, line):
        """The tests to run for a mutant of a line, and the seconds that they take."""
        contexts = self.data.contexts_by_lineno(str(self.folder / module))
        # Not the copy's, which another thread may be mutating.
        for lines in around(line, ast.parse((ROOT / module).read_text())):
            names = {name for n in lines for name in contexts.get(n, ())}
            tests = {name.split("|")[0].split("[")[0] for name in names} & self.seconds.keys()
            if tests:
                break
        else:  # a module of constants, which any test may read
            tests = self.seconds.keys()
        chosen, seconds = self.quickest(tests)
        if module in ELSEWHERE:
            return [*chosen, ELSEWHERE[module]], seconds + 4 * SECONDS
        return chosen, seconds

    def quickest(self, tests):
        """As many as there is time for, one at least, and the seconds that they take."""
        chosen, seconds = [], 0.0
        for test in sorted(tests, key=self.seconds.get):
            if chosen and seconds + self.seconds[test] > SECONDS:
                break
            chosen.append(test)
            seconds += self.seconds[test]
        return chosen, seconds


def around(line, tree):
    """The lines of its statement, of the functions around it, and of the module.

    A line in no function runs at import, whichever test that falls in: its tests are all those
    of the module.
    """
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.stmt)]
    inside = [n for n in inside if n.lineno <= line <= n.end_lineno]
    functions = [n for n in inside if isinstance(n, ast.FunctionDef)]
    nested = [*inside[-1:], *reversed(functions)] if functions else []
    spans = [(n.lineno, n.end_lineno) for n in nested] + [(1, tree.body[-1].end_lineno)]
    return [range(first, last + 1) for first, last in spans]


def survives(spec, folder, reach):
    module = module_of(spec)
    path = folder / module
    tests, expected = reach[module.startswith(LOOPS)].tests(module, spec.start_pos[0])
    code = path.read_text()
    mutant = mutated(spec, code)
    path.write_text(mutant)
    start = time.monotonic()
    process = started(folder, module.startswith(LOOPS), tests)
    try:
        survived = process.wait(4 * expected + 60) == 0
    except subprocess.TimeoutExpired:
        survived = False
    finally:
        # With what its tests have started and left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        path.write_text(code)
    return {
        "module": module,
        "line": spec.start_pos[0],
        "operator": spec.operator_name,
        "survived": survived,
        "tests": len(tests),
        "seconds": round(time.monotonic() - start, 1),
        "difference": difference(code, mutant),
    }


def copied(folder):
    """What git tracks."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sample", type=int, help="how many mutants; all lines without")
    parser.add_argument("--again", type=Path, help="only the survivors of this earlier run")
    parser.add_argument("--same", type=Path, help="the mutants of this earlier run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    specs = mutants()
    if options.again or options.same:
        chosen = earlier(specs, options.again or options.same, survived=bool(options.again))
    else:
        chosen = drawn(specs, options.seed)[: options.sample]
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(options.jobs) as pool,
        options.out.open("w") as out,
    ):
        places = [copied(Path(scratch) / str(job)) for job in range(options.jobs)]
        reach = [Reach(places[0], loops) for loops in (False, True)]
        free = SimpleQueue()
        for place in places:
            free.put(place)

        def run(spec):
            place = free.get()
            try:
                return survives(spec, place, reach)
            finally:
                free.put(place)

        killed = 0
        for tried, result in enumerate(pool.map(run, chosen), 1):
            killed += not result["survived"]
            print(json.dumps(result), file=out, flush=True)
            print(f"{killed} of {tried} killed ({killed / tried:.1%})", flush=True)


if __name__ == "__main__":
    main()
