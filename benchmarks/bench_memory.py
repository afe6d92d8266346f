"""Peak memory of fit and of a sparse transform.

Bar 7. Every figure comes from a process of its own: the most that it held at once during
the call, in MB, the input among it. Linux with glibc only.
"""

import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

import harness
import numpy as np
from harness import Bar

FEATURES = 784
ATOMS = 10


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rows", type=int, nargs=2, default=[6_000, 60_000])
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--transform-components", type=int, default=8192)
    options.add_argument("--child", nargs=4, help="(for itself) task, estimator, rows, atoms")
    args = options.parse_args()
    if args.child:
        print(json.dumps(child(*args.child)))
        return

    rows = {}
    for name in ("MPSparseAutoencoder", "TopKSAE"):
        for n in args.rows:
            rows[f"{name} fit, {n} rows"] = measured("fit", name, n, args.components)
        n, p = args.rows[-1], args.transform_components
        rows[f"{name} transform, {n} rows, {p} atoms"] = measured("transform", name, n, p)
    harness.report("bench_memory", rows, args, bars=bars(rows))


def measured(*task):
    """The task's figures, from a fresh process."""
    command = [sys.executable, __file__, "--child", *map(str, task)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(task, name, n_rows, n_components):
    """Do one task, and tell what it took."""
    import sklearn_mpsae

    X = np.random.default_rng(0).random((int(n_rows), FEATURES), dtype=np.float32)
    model = getattr(sklearn_mpsae, name)(
        int(n_components),
        n_nonzero_coefs=ATOMS,
        max_iter=1,
        sparse_output=True,
        random_state=0,
    )
    # Libraries loaded and kernels compiled are not what is asked for.
    model.fit(X[: max(2048, int(n_components))])
    before = forget_peak()
    getattr(model, task)(X)
    peak = memory("VmHWM")
    return {
        "input": X.nbytes / 1e6,
        "before": before,
        "peak": peak,
        "beyond": peak - before,
    }


def forget_peak():
    """Give back what is free, and let the kernel count the peak anew from what is held."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(field):
    """One of the kernel's own figures on this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def bars(rows):
    """What the package has to reach."""
    found = []
    for name in ("MPSparseAutoencoder", "TopKSAE"):
        few, many, transform = (row for key, row in rows.items() if key.startswith(name))
        growth = (many["peak"] - few["peak"]) / (many["input"] - few["input"])
        found += [
            Bar(f"{name}, peak of fit per MB of input", growth, at_most=1.2),
            Bar(f"{name}, MB of transform beyond input", transform["beyond"], at_most=1000),
        ]
    return found


if __name__ == "__main__":
    main()
