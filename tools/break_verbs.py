"""Breaks each verb of the kernels once: does a default test fail?

    python tools/break_verbs.py                 # all of them, some four minutes
    python tools/break_verbs.py tensor fused    # those of some modules
    python tools/break_verbs.py native.top_k    # or some of them
    python tools/break_verbs.py tensor -k torch_path   # what fits of estimators see

A verb raises; in a second run it gives a wrong answer without a word: numbers 1% too large,
counts and order changed. The tests of its module that are named below are run until one
fails. A table says which; the exit status is that of a verb whose fault no test has seen.
"""

import argparse
import ast
import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
KERNELS = "sklearn_mpsae.coding.kernels"

# Tests of each module, the quickest that see much of it first.
TESTS = {
    "native": ["kernels", "gradient", "pursuit", "large", "threads", "estimators"],
    "tensor": ["kernels", "gradient", "pursuit", "fused", "estimators"],
    "fused": ["fused"],
}
# Only what is of torch: an estimator's fits on torch have a test of their own.
OF_TORCH = "not estimators or torch_path"


CLASSES = {"native": "NativeKernels", "tensor": "TensorKernels"}


def verbs(module):
    """The public functions of its class, or of the module; Triton is not imported yet."""
    tree = ast.parse((ROOT / KERNELS.replace(".", "/") / f"{module}.py").read_text())
    if module in CLASSES:
        tree = next(n for n in tree.body if getattr(n, "name", None) == CLASSES[module])
    found = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
    return [f.name for f in found if not f.name.startswith("_") and not f.decorator_list]


def owner_of(module):
    there = importlib.import_module(f"{KERNELS}.{module}")
    return getattr(there, CLASSES[module]) if module in CLASSES else there


def broken(verb, how):
    if how == "raises":

        @functools.wraps(verb)
        def raising(*args, **kwargs):
            raise RuntimeError(f"{verb.__name__} is broken")

        return raising

    @functools.wraps(verb)
    def wrong(*args, **kwargs):
        result = verb(*args, **kwargs)
        if verb.__name__ == "adam_step":  # in place
            args[1][:] = 1.01 * args[1]
        if verb.__name__ == "by_value":
            return tuple(spoilt(part, by="order") for part in result)
        return spoilt(result)

    return wrong


def spoilt(result, by="value"):
    """With numbers 1% too large, whole ones with one more; or from the last to the first."""
    if isinstance(result, tuple):
        found = [spoilt(part) for part in result]
        floats = [part for part in found if is_floating(part)]
        # Of codes the values are spoilt, their atoms are not: so that these can be looked up.
        return tuple(
            new if is_floating(new) or not floats else old
            for new, old in zip(found, result, strict=True)
        )
    if by == "order":
        return result[:, range(result.shape[1])[::-1]]
    if is_floating(result):
        return result * 1.01
    return result + 1


def is_floating(x):
    kind = getattr(x, "dtype", type(x))
    return "float" in str(kind)


def preload():
    """What the tests import, but Triton; processes that are forked then have it."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    for name in ("torch", "sklearn.model_selection", "sklearn.pipeline", "pytest", "joblib"):
        __import__(name)
    for module in ("native", "tensor"):
        owner_of(module)


def run(module, name, how, keyword, answers):
    """In a process of its own: the first test that fails, or None."""
    os.chdir(ROOT)
    if module == "fused":  # asked for before Triton is imported
        os.environ["TRITON_INTERPRET"] = "1"
    import pytest

    owner = owner_of(module)
    setattr(owner, name, broken(getattr(owner, name), how))
    failed = []

    class First:
        def pytest_runtest_logreport(self, report):
            if report.failed:
                failed.append(report.nodeid)

    files = [f"tests/test_{each}.py" for each in TESTS[module]]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header"]
    if module == "fused":
        options += ["-o", "python_functions=case_", "-W", "ignore::DeprecationWarning"]
    if keyword or module == "tensor":
        options += ["-k", keyword or OF_TORCH]
    with contextlib.redirect_stdout(io.StringIO()):
        status = pytest.main([*options, *files], plugins=[First()])
    answers.put(
        failed[0] if failed else (None if status == 0 else f"pytest ended with {status}")
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", default=list(TESTS), help="modules or module.verb")
    parser.add_argument("--how", nargs="+", default=["raises", "is wrong"])
    parser.add_argument("-k", dest="keyword", help="only such tests, as of pytest")
    options = parser.parse_args()
    chosen = []
    for what in options.what:
        module, _, verb = what.partition(".")
        chosen += [(module, name) for name in ([verb] if verb else verbs(module))]
    preload()
    processes = multiprocessing.get_context("fork")
    unseen = 0
    print(f"{'verb':32} {'how':9} {'seconds':>7}  first test that fails")
    for module, name in chosen:
        for how in options.how:
            start, answers = time.monotonic(), processes.Queue()
            process = processes.Process(
                target=run, args=(module, name, how, options.keyword, answers)
            )
            process.start()
            test = answers.get()
            process.join()
            unseen += test is None
            seconds = time.monotonic() - start
            print(
                f"{module + '.' + name:32} {how:9} {seconds:7.1f}  {test or 'NONE'}", flush=True
            )
    print(f"{unseen} faults that no test has seen")
    sys.exit(unseen > 0)


if __name__ == "__main__":
    main()
