"""Learning from a file larger than half the memory, against the same rows in memory.

Bar 1 of scale. Makes a float32 file (once; --folder keeps it), then fits one epoch to it
and to the same rows in memory, each in a process of its own, in turn. Before a fit from
the file, its pages are dropped from the page cache, so that it is read from the disk.
"anon MB" is the most memory that the process held at once beyond mapped files and page
cache. Linux only.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import harness
import numpy as np
from harness import Bar

FEATURES, MADE_OF = 784, 256


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--rows", type=int, default=4_000_000)
    options.add_argument("--components", type=int, default=1024)
    options.add_argument("--sparsity", type=int, default=10)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--folder", type=Path, help="where the file is, or is to be kept")
    options.add_argument("--child", nargs=4, help="(for itself) side, file, atoms, sparsity")
    args = options.parse_args()
    if args.child:
        print(json.dumps(child(*args.child)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = made(args.folder or Path(scratch), args.rows)
        runs = {"memory": [], "file": []}
        for _ in range(args.rounds):
            for side, results in runs.items():
                drop_pages(path)
                results.append(measured(side, path, args.components, args.sparsity))
    rows = {side: summary(results, args.rows) for side, results in runs.items()}
    del args.folder, args.child
    harness.report("bench_files", rows, args, bars=bars(rows))


def made(folder, n_rows):
    """The file: sums of some of 256 atoms, plus noise."""
    path = folder / f"rows-{n_rows}x{FEATURES}.npy"
    if path.exists():
        return path
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((MADE_OF, FEATURES), dtype=np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, FEATURES))
    for start in range(0, n_rows, 8192):
        n = min(8192, n_rows - start)
        codes = rng.standard_exponential((n, MADE_OF), dtype=np.float32)
        codes *= rng.random((n, MADE_OF), dtype=np.float32) < 0.04
        noise = rng.standard_normal((n, FEATURES), dtype=np.float32)
        rows[start : start + n] = codes @ atoms + noise
    rows.flush()
    return path


def drop_pages(path):
    """Let the next reader of a file find none of it in the page cache."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(*task):
    """The task's figures, from a fresh process."""
    command = [sys.executable, __file__, "--child", *map(str, task)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(side, path, n_components, sparsity):
    """Fit one epoch, and tell how long it took and how much memory."""
    from sklearn_mpsae import MPSparseAutoencoder

    mapped = np.load(path, mmap_mode="r")
    X = np.load(path) if side == "memory" else mapped
    model = MPSparseAutoencoder(
        int(n_components), n_nonzero_coefs=int(sparsity), max_iter=1, random_state=0
    )
    model.fit(X[:5000])  # compiled loops are loaded
    with PeakMemory() as peak:
        start = time.perf_counter()
        model.fit(X)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "anon MB": peak.megabytes,
        "R2": model.score(mapped[-20_000:]),
        "sum": float(model.components_.sum(dtype=float)),
    }


class PeakMemory:
    """The most anonymous memory of this process, looked at every 20 ms."""

    def __enter__(self):
        self.megabytes, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.wait(0.02):
            status = Path("/proc/self/status").read_text()
            line = next(x for x in status.splitlines() if x.startswith("RssAnon"))
            self.megabytes = max(self.megabytes, int(line.split()[1]) / 1000)


def summary(results, n_rows):
    """A table row of one side's runs."""
    return {
        "rows/s": n_rows / median(result["seconds"] for result in results),
        "seconds": median(result["seconds"] for result in results),
        "anon MB": max(result["anon MB"] for result in results),
        "R2": results[0]["R2"],
        "sum of atoms": results[0]["sum"],
        "runs": len(results),
    }


def bars(rows):
    """What the package has to reach."""
    file, memory = rows["file"], rows["memory"]
    return [
        Bar(
            "rows/s from the file over from memory",
            file["rows/s"] / memory["rows/s"],
            at_least=0.85,
        ),
        Bar("MB beyond page cache, from the file", file["anon MB"], at_most=1500),
        Bar(
            "difference of the two dictionaries' sums",
            abs(file["sum of atoms"] - memory["sum of atoms"]),
            at_most=0,
        ),
    ]


if __name__ == "__main__":
    main()
