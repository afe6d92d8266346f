"""What the package costs before it works: imports, first fits, small fits, workers.

Bar 8. Every figure is the median over fresh processes, which see no thread limits in
their environment: joblib would take such a limit for its workers too.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

import harness
from harness import Bar

ESTIMATORS = ("MPSparseAutoencoder", "TopKSAE")

IMPORT = """
import json, sys, time
{first}
start = time.perf_counter()
{then}
seconds = time.perf_counter() - start
loaded = [name for name in ("torch", "matplotlib") if name in sys.modules]
print(json.dumps({{"s": seconds, "loaded": len(loaded)}}))
"""

IMPORTS = {
    "import": ("import sklearn", "import sklearn_mpsae"),
    "import estimators": (
        "from sklearn.decomposition import DictionaryLearning",
        "from sklearn_mpsae import MPSparseAutoencoder, TopKSAE",
    ),
}

FIT = """
import json, time
from sklearn.datasets import load_digits
from sklearn_mpsae import {estimator}
X = load_digits().data
seconds = []
for _ in range(2):
    start = time.perf_counter()
    {estimator}(n_components=128, n_nonzero_coefs=8, random_state=0).fit(X)
    seconds.append(time.perf_counter() - start)
print(json.dumps({{"s": seconds[1], "first": seconds[0] - seconds[1]}}))
"""

SEARCH = """
import json, time
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn_mpsae import {estimator}
X = load_digits().data
grid = {{"n_nonzero_coefs": [2, 4, 6, 8, 10]}}
model = {estimator}(n_components=128, random_state=0)
start = time.perf_counter()
GridSearchCV(model, grid, cv=5, refit=False, n_jobs={n_jobs}).fit(X)
print(json.dumps({{"s": time.perf_counter() - start}}))
"""


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()

    rows = {name: imports(*code, args.rounds) for name, code in IMPORTS.items()}
    for name in ESTIMATORS:
        rows |= fits(name, args.rounds)
    for name in ESTIMATORS:
        rows |= searches(name, args.rounds)
    harness.report("bench_startup", rows, args, bars=bars(rows))


def fresh(code, **environment):
    """What a fresh process prints after running the code."""
    unlimited = {key: v for key, v in os.environ.items() if not key.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=unlimited | environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def medians(results):
    """Median of each figure."""
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def imports(first, then, rounds):
    """Seconds of an import after scikit-learn's, and how many heavy packages it loaded."""
    code = IMPORT.format(first=first, then=then)
    fresh(code)  # byte code written
    return medians([fresh(code) for _ in range(rounds)])


def fits(estimator, rounds):
    """A small fit, and what a process's first one costs beyond it."""
    code = FIT.format(estimator=estimator)
    with tempfile.TemporaryDirectory() as empty:
        never = fresh(code, NUMBA_CACHE_DIR=empty)
        cached = medians([fresh(code, NUMBA_CACHE_DIR=empty) for _ in range(rounds)])
    return {f"{estimator}, first use ever": never, f"{estimator}, kernels cached": cached}


def searches(estimator, rounds):
    """25 fits of a grid search by one process and by two, worker start included."""
    codes = {jobs: SEARCH.format(estimator=estimator, n_jobs=jobs) for jobs in (1, 2)}
    results = {jobs: [] for jobs in codes}
    for _ in range(rounds):
        for jobs, code in codes.items():
            results[jobs].append(fresh(code))
    return {f"{estimator}, search, n_jobs={j}": medians(r) for j, r in results.items()}


def bars(rows):
    """What the package has to reach."""
    found = [
        Bar("import, seconds", rows["import"]["s"], at_most=0.3),
        Bar("import, torch and matplotlib loaded", rows["import"]["loaded"], at_most=0),
    ]
    for name in ESTIMATORS:
        never, cached = rows[f"{name}, first use ever"], rows[f"{name}, kernels cached"]
        one, two = (rows[f"{name}, search, n_jobs={jobs}"]["s"] for jobs in (1, 2))
        found += [
            Bar(f"{name}, first fit ever beyond a fit", never["first"], at_most=10),
            Bar(f"{name}, first fit beyond a fit", cached["first"], at_most=1),
            Bar(f"{name}, fit of digits, seconds", cached["s"], at_most=2),
            Bar(f"{name}, search, n_jobs=2 over n_jobs=1", two / one, at_most=1),
        ]
    return found


if __name__ == "__main__":
    main()
