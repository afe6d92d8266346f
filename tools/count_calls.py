"""Count the Python calls within the package: `python tools/count_calls.py [--conversion NAME]`.

Prints a markdown table for `fit`, `partial_fit`, `transform`, `score` of matching pursuit and
TopK on 60 rows. `fit` and `partial_fit` take one training step; "a step more" is what three
steps of 20 rows take beyond two. Everything is called once before, so that imports and
compilation are not counted. The package is the one that Python imports: PYTHONPATH chooses
the source tree.

calls
    Calls of functions that a file of the package defines: methods, properties, decorators'
    wrappers, lambdas, generators. Not counted are comprehensions and generator expressions,
    which belong to the function they stand in (from Python 3.12 on, a list comprehension is
    no call), and resumptions of a generator, which is one call for as long as it lives.
    What other packages do in between is not seen.
changes of file
    How often the file of such a call is another one than that of the call before. A
    resumption of a generator counts here: data does come from its file.
files
    The different files of those calls.
conversions
    Calls of the function that makes NumPy arrays of X, by its name (``--conversion``).
checks
    Calls of scikit-learn's `check_array`.
compiled
    Calls of compiled loops, which count for nothing else.
kernels
    How often kernels were opened: calls of ``NativeKernels.__enter__``.
"""

import argparse
import sys
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

import sklearn_mpsae
from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

PACKAGE = Path(sklearn_mpsae.__file__).parent
N_ROWS = 60
OPTIONS = {"n_components": 16, "n_nonzero_coefs": 3, "max_iter": 1, "random_state": 0}
WITHIN = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<module>"}


class Calls:
    """Calls by (file, function), and what is told of them."""

    def __init__(self):
        self.of, self.changes, self.checks, self.compiled = Counter(), 0, 0, 0
        self._last, self._generators = None, set()

    def __call__(self, frame, event, arg):
        """What `sys.setprofile` takes."""
        if event != "call":
            return
        code = frame.f_code
        self.checks += code.co_name == "check_array" and "sklearn" in code.co_filename
        if not code.co_filename.startswith(f"{PACKAGE}/") or code.co_name in WITHIN:
            return
        file = str(Path(code.co_filename).relative_to(PACKAGE))
        # numba reports its calls as Python does.
        if (file, code.co_name) in compiled_loops():
            self.compiled += 1
            return
        self.changes += file != self._last
        self._last = file
        # A frame that is kept gives its id to no other.
        self.of[file, code.co_qualname] += frame not in self._generators
        if code.co_flags & 0x20:  # inspect.CO_GENERATOR
            self._generators.add(frame)

    def row(self, conversion):
        """Calls, changes of file, files, conversions, checks of X, compiled, kernels."""
        return (
            self.of.total(),
            self.changes,
            len({file for file, _ in self.of}),
            self.named(conversion),
            self.checks,
            self.compiled,
            self.named("NativeKernels.__enter__"),
        )

    def named(self, name):
        return sum(n for (_, function), n in self.of.items() if function == name)


@cache
def compiled_loops():
    """(file, function) of what numba has compiled in the modules that are loaded."""
    values = [
        value
        for name, module in sys.modules.items()
        if name.startswith(f"{PACKAGE.name}.")
        for value in vars(module).values()
        if hasattr(value, "py_func")
    ]
    codes = [value.py_func.__code__ for value in values]
    return {(str(Path(code.co_filename).relative_to(PACKAGE)), code.co_name) for code in codes}


def counted(function, *args):
    """The Calls of a function, after it has been called once."""
    calls = Calls()
    sys.setprofile(calls)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return calls


def tasks(cls, X):
    """What to count, by name: functions that each make a new start."""

    def learn(method, n_steps):
        if n_steps is None:
            return getattr(cls(**OPTIONS), method), X
        n_rows = len(X) // 3
        return getattr(cls(**OPTIONS, batch_size=n_rows), method), X[: n_steps * n_rows]

    fitted = cls(**OPTIONS).fit(X)
    return {
        "fit": lambda n=None: learn("fit", n),
        "partial_fit": lambda n=None: learn("partial_fit", n),
        "transform": lambda: (fitted.transform, X),
        "score": lambda: (fitted.score, X),
    }


def table(X, conversion):
    """Rows of (name, counts)."""
    for cls in (MPSparseAutoencoder, TopKSAE):
        for name, task in tasks(cls, X).items():
            method, *args = task()
            method(*args)
            calls = counted(*task())
            yield f"{cls.__name__} `{name}`", calls.row(conversion), calls
            if "fit" in name:
                two, three = (counted(*task(n)) for n in (2, 3))
                more = Calls()
                more.of = three.of - two.of
                for figure in ("changes", "checks", "compiled"):
                    setattr(more, figure, getattr(three, figure) - getattr(two, figure))
                yield f"{cls.__name__} `{name}`, a step more", more.row(conversion), more


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conversion", default="as_numpy", help="function that converts X")
    parser.add_argument("--list", metavar="TASK", help="functions of rows with this text")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    X = np.random.default_rng(0).random((N_ROWS, 10))
    print("| | calls | changes of file | files | conversions | checks | compiled | kernels |")
    print("|---|---|---|---|---|---|---|---|")
    rows = list(table(X, args.conversion))
    for name, row, _ in rows:
        print(f"| {name} | {' | '.join(map(str, row))} |")
    for name, _, calls in rows:
        if args.list is not None and args.list in name:
            print(f"\n{name}")
            for (file, function), n in sorted(calls.of.items()):
                print(f"{n:5} {file} {function}")


if __name__ == "__main__":
    main()
