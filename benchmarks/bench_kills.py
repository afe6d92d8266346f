"""Fits that are killed at random moments, and go on from their checkpoints.

Bar 4 of scale. Each of the kills is a SIGKILL of a process that fits with a checkpoint
after every step, at some time between its first checkpoint and its end; the next process
goes on to the end, and its dictionary is compared, byte for byte, with that of a fit that
nobody disturbed. Only kills that left an unfinished fit are counted.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import numpy as np
from harness import Bar

KINDS = ("MPSparseAutoencoder", "TopKSAE", "BatchTopKSAE", "JumpReLUSAE", "ReLUSAE")


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--child", nargs=2, help="(for itself) estimator, folder")
    args = options.parse_args()
    if args.child:
        child(*args.child)
        return
    del args.child
    rng = np.random.default_rng(args.seed)
    rows = {}
    for i, kind in enumerate(KINDS):
        n_kills = args.kills // len(KINDS) + (i < args.kills % len(KINDS))
        with tempfile.TemporaryDirectory() as scratch:
            rows[kind] = killed(kind, Path(scratch), n_kills, rng)
        print(kind, rows[kind], flush=True)
    total = {name: sum(row[name] for row in rows.values()) for name in rows[KINDS[0]]}
    rows["all"] = total
    bars = [
        Bar("kills", total["kills"], at_least=args.kills),
        Bar(
            "kills without a bit-identical end", total["kills"] - total["identical"], at_most=0
        ),
        Bar("checkpoints that could not be read", total["corrupt"], at_most=0),
    ]
    harness.report("bench_kills", rows, args, bars=bars)


def killed(kind, folder, n_kills, rng):
    """What became of the fits of one kind."""
    from sklearn_mpsae.learning import checkpoint

    X = rng.random((3000, 64), dtype=np.float32) * (rng.random((3000, 64)) < 0.2)
    np.save(folder / "X.npy", X.astype(np.float32))
    path, components = folder / "checkpoint", folder / "components.npy"
    longest = run(kind, folder)
    whole = components.read_bytes()
    counts = {"kills": 0, "identical": 0, "in mid-write": 0, "corrupt": 0}
    while counts["kills"] < n_kills:
        for file in (path, components, *folder.glob(".checkpoint.*.new")):
            file.unlink(missing_ok=True)
        run(kind, folder, kill_after=rng.uniform(0, longest))
        try:
            if checkpoint.read(path)[0]["finished"]:
                continue  # the fit was faster than the kill
        except ValueError:
            counts["corrupt"] += 1
        counts["kills"] += 1
        counts["in mid-write"] += any(folder.glob(".checkpoint.*.new"))
        run(kind, folder)
        counts["identical"] += components.read_bytes() == whole
    return counts


def run(kind, folder, kill_after=None):
    """Fit in a process of its own; seconds from its first checkpoint to its end."""
    command = [sys.executable, __file__, "--child", kind, str(folder)]
    process = subprocess.Popen(command)
    while not (folder / "checkpoint").exists() and process.poll() is None:
        time.sleep(0.001)
    start = time.perf_counter()
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return time.perf_counter() - start


def child(kind, folder):
    """The fit that is killed."""
    import sklearn_mpsae

    folder = Path(folder)
    model = getattr(sklearn_mpsae, kind)(
        128,
        n_nonzero_coefs=6,
        max_iter=15,
        batch_size=256,
        random_state=0,
        checkpoint=folder / "checkpoint",
        checkpoint_every=0,
    )
    X = np.load(folder / "X.npy", mmap_mode="r")
    np.save(folder / "components.npy", model.fit(X).components_)


if __name__ == "__main__":
    main()
