"""Record what estimators learn and code, bit for bit, and compare two records.

    python tools/digests.py record FILE [--only SUBSTRING]
    python tools/digests.py compare A B [--only SUBSTRING]

A record is a JSON file of SHA-256 digests, one for each result: fitted attributes, codes,
scores, torch modules, saved and loaded models. Its keys are readable, such as
"TopKSAE float32 stream: components_". `compare` lists the keys that differ and exits with 1.
`--only` takes the cases, or the keys, that contain the text.

Results depend on the processor, the number of threads and the versions of libraries. So a
record is compared with one of the same machine and the same environment. The package is the
one that Python imports: PYTHONPATH chooses among source trees. Only public names are used.
"""

import os

# A thread pool takes its size when its library is loaded, so before anything else.
os.environ["OMP_NUM_THREADS"] = "2"
os.environ["OPENBLAS_NUM_THREADS"] = "2"
os.environ["MKL_NUM_THREADS"] = "2"
os.environ["NUMBA_NUM_THREADS"] = "2"

import argparse
import contextlib
import hashlib
import importlib.metadata
import inspect
import itertools
import json
import pickle
import platform
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator

import sklearn_mpsae
from sklearn_mpsae import persistence
from sklearn_mpsae.sources import BatchStream, NpyFiles

N_FEATURES = 12
PATIENCE = 60  # seconds that a rank waits for the other
BASICS = {
    "n_components": 24,
    "n_nonzero_coefs": 3,
    "max_iter": 4,
    "batch_size": 64,
    "dead_after": 4,
    "device": "cpu",
    "random_state": 0,
}
# Of what a search has besides; 6 codes are to choose from.
SEARCH = {"n_nonzero_coefs": 6, "cv": 3, "target_score": 0.6}

# First atoms of which a third are the same, along a feature that no row has.
UNUSED = np.concatenate(
    [
        np.random.default_rng(1).random((16, N_FEATURES)),
        np.repeat(np.eye(N_FEATURES)[:1], 8, axis=0),
    ]
)

# Each goes with all estimators that have its parameters.
VARIANTS = {
    "": {},
    "average": {"sparsity": "average"},
    "average omp": {"sparsity": "average", "transform_algorithm": "omp"},
    "omp": {"transform_algorithm": "omp"},
    "omp signed": {"transform_algorithm": "omp", "positive_code": False},
    "tol": {"tol": 0.1},
    "atol": {"atol": 0.05},
    "stop_on_repeat": {"stop_on_repeat": True},
    "signed": {"positive_code": False},
    "bfloat16": {"precision": "bfloat16"},
    "uncentred": {"intercept": "zero"},
    "fractional": {"n_nonzero_coefs": 2.5},
    "prefixes": {"prefix_sizes": [6, 24]},
    # 48 features: a Gram matrix is cheapest, or for 1024 atoms rows of one.
    "wide": {"n_components": 64, "n_nonzero_coefs": 4},
    "many atoms": {"n_components": 1024, "n_nonzero_coefs": 8},
    # About 1000 steps.
    "average long": {"sparsity": "average", "max_iter": None},
    "default sizes": {"n_components": None, "n_nonzero_coefs": None, "max_iter": None},
    **{
        f"unused atoms {what}": {"dead_atoms": what, "dict_init": UNUSED, "intercept": "zero"}
        for what in ("revive", "keep", "auxiliary")
    },
}
# The variants that go through all ways of learning, the others through some.
EVERY_WAY = ("", "wide", "average", "omp", "unused atoms revive", "unused atoms auxiliary")
FIT_ONLY = ("default sizes", "average omp", "average long", "many atoms")  # the slow ones
WIDE = ("wide", "many atoms")


class InterruptedFitError(Exception):
    """What ends a fit before its time."""


class InterruptAfter:
    """A callback that ends a fit after so many epochs."""

    def __init__(self, n_epochs):
        self.left = n_epochs

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.left -= 1
            if not self.left:
                raise InterruptedFitError


def rows(dtype, n_features, seed=0, n_rows=320):
    """Rows of which most entries are zero, and the first one always."""
    rng = np.random.default_rng(seed)
    X = rng.random((n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.4)
    return (X * (np.arange(n_features) > 0)).astype(dtype)


def in_batches(X, **options):
    """A stream of X in batches of different sizes."""
    return BatchStream(np.split(X, [50, 51, 130, 300]), **options)


# ------------------------------------------------------------------- ways of learning
def fit(est, X, more):
    return est.fit(X)


def fit_sparse(est, X, more):
    return est.fit(sparse.csr_array(X))


def torch_path(est, X, more):
    return est.set_params(device="cpu:0").fit(X)


def pickled(est, X, more):
    return pickle.loads(pickle.dumps(est.fit(X)))


def saved(est, X, more):
    with tempfile.TemporaryDirectory() as folder:
        return persistence.load(persistence.save(est.fit(X), Path(folder) / "model"))


def through_saelens(est, X, more):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        persistence.export_saelens(est.fit(X), path)
        return persistence.import_saelens(path)


def partial_fit(est, X, more):
    """From the start, for more steps than a stream explores in (200)."""
    est.set_params(batch_size=8)
    for chunk in np.split(np.concatenate([X, more] * 3), [5, 100, 900]):
        est.partial_fit(chunk)
    return est


def fit_then_partial(est, X, more):
    return est.fit(X).partial_fit(more).partial_fit(more[:10])


def saved_then_partial(est, X, more):
    return saved(est, X, more).partial_fit(more)


def torch_path_partial(est, X, more):
    return est.set_params(device="cpu:0").partial_fit(X).partial_fit(more)


def stream(est, X, more):
    return est.fit(in_batches(X))


def stream_of_known_length(est, X, more):
    return est.set_params(max_iter=1).fit(in_batches(X, n_samples=310, shuffle=False))


def stream_partial(est, X, more):
    return est.partial_fit(in_batches(X)).partial_fit(in_batches(more, shuffle=False))


def files(est, X, more):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.npy" for i in range(2)]
        for path, part in zip(paths, (X[:200], X[200:]), strict=True):
            np.save(path, part)
        return est.fit(NpyFiles(paths))


def warm_start(est, X, more):
    return est.fit(X).set_params(warm_start=True).fit(more)


def _resumed(est, X, folder, meet=lambda: None):
    """A fit of X that is interrupted, and resumed from its checkpoint."""
    est.set_params(checkpoint=Path(folder) / "checkpoint", checkpoint_every=0)
    with contextlib.suppress(InterruptedFitError):
        est.fit(X)
    # Rank 0 writes the checkpoint, and keeps the port until it has closed its connections.
    meet()
    est.load_checkpoint(est.checkpoint)
    learnt = est.n_steps_
    est.set_callbacks().fit(X)
    if not 0 < learnt < est.n_steps_:
        raise RuntimeError(f"Interrupted after {learnt} of {est.n_steps_} steps.")
    return est


def resumed(est, X, more, folder=None, meet=lambda: None):
    """After the second epoch."""
    with tempfile.TemporaryDirectory() as own:
        return _resumed(est.set_callbacks(InterruptAfter(2)), X, folder or own, meet)


def resumed_stream(est, X, more):
    """Within the second epoch, by an error of the stream."""
    passes = []

    def batches():
        passes.append(None)
        for batch in np.split(X, [50, 51, 130, 300]):
            # The first pass counts rows, the second is the first epoch.
            if len(passes) == 3 and len(batch) > 150:
                raise InterruptedFitError
            yield batch

    whole = BatchStream(batches, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        return _resumed(est, whole, folder)


# What needs no `partial_fit`, checkpoint or warm start, and what does.
ALONE = (fit, fit_sparse, torch_path, pickled, saved, through_saelens)
LEARNING = (
    *(partial_fit, fit_then_partial, saved_then_partial, torch_path_partial),
    *(stream, stream_of_known_length, stream_partial, files, warm_start),
    *(resumed, resumed_stream),
)
SOME = (fit, torch_path, saved)
IN_RANKS = (fit_then_partial, stream_partial, resumed)


# -------------------------------------------------------------------------- digests
def digest(x):
    """SHA-256 of numbers with their types and shapes, in whatever they are nested."""
    return hashlib.sha256(b"".join(_parts(x))).hexdigest()


def _parts(x):
    if isinstance(x, torch.Tensor):
        x = x.detach().numpy()
    if sparse.issparse(x):
        x = [list(x.shape), x.data, x.indices, x.indptr]
    if isinstance(x, np.ndarray | np.generic) and x.dtype != object:
        yield f"{x.dtype.str}{x.shape}".encode() + np.ascontiguousarray(x).tobytes()
    elif isinstance(x, dict):
        yield from _parts(sorted(x.items()))
    elif isinstance(x, list | tuple | np.ndarray):
        yield f"[{len(x)}".encode()
        for item in x:
            yield from _parts(item)
    else:
        yield repr(x).encode()


def results(est, X):
    """What to digest of a fitted estimator: functions without arguments, by name."""
    few = X[:100]
    found = {
        name: lambda name=name: getattr(est, name)
        for name in dir(est)
        if name.endswith("_") and not name.startswith("_") and hasattr(est, name)
    }

    def with_params(method, *args, **params):
        before = {name: est.get_params(deep=False)[name] for name in params}
        try:
            return getattr(est.set_params(**params), method)(*args)
        finally:
            est.set_params(**before)

    def encoded():
        codes = est.encode(X)
        return codes.indices, codes.values

    def written():
        with tempfile.TemporaryDirectory() as folder:
            return est.transform_to(X, Path(folder) / "codes").copy()

    def module():
        module = persistence.to_torch_module(est)
        inputs = torch.from_numpy(few.astype(est.components_.dtype))
        return dict(module.state_dict()), module(inputs), module.decode(module(inputs))

    return found | {
        "transform": lambda: est.transform(X),
        "transform 100 rows": lambda: est.transform(few),
        "transform one row": lambda: est.transform(X[:1]),
        "transform CSR": lambda: with_params("transform", X, sparse_output=True),
        "transform 2 codes": lambda: with_params("transform", X, transform_n_nonzero_coefs=2),
        "transform stream": lambda: est.transform(in_batches(X, shuffle=False)),
        "transform_to": written,
        "encode": encoded,
        "inverse_transform": lambda: est.inverse_transform(est.transform(few)),
        "score": lambda: est.score(X),
        "score 2 codes": lambda: with_params("score", X, transform_n_nonzero_coefs=2),
        "reconstruction_path": lambda: est.reconstruction_path(X),
        "reconstruction_path 5": lambda: est.reconstruction_path(X, 5),
        "torch module": module,
    }


def described(label, learn, X):
    """Digests of what `learn` gives; of an error its type."""
    try:
        found = results(learn(), X)
    except (ValueError, TypeError, AttributeError) as error:
        return {f"{label}: error": type(error).__name__}
    digests = {}
    for name, result in found.items():
        try:
            digests[f"{label}: {name}"] = digest(result())
        except (ValueError, TypeError, AttributeError) as error:
            digests[f"{label}: {name}"] = type(error).__name__
    return digests


def cases():
    """(label, class, its parameters, way of learning, kind of rows) of all to record."""
    public = (getattr(sklearn_mpsae, name) for name in sklearn_mpsae.__all__)
    for cls in public:
        if not (inspect.isclass(cls) and issubclass(cls, BaseEstimator)):
            continue
        accepted = set(cls().get_params())
        basics = BASICS if hasattr(cls, "partial_fit") else BASICS | SEARCH
        for variant, dtype in itertools.product(VARIANTS, ("float32", "float64")):
            change = VARIANTS[variant]
            if not accepted.issuperset(change):
                continue
            if variant not in EVERY_WAY:
                ways = (fit,) if variant in FIT_ONLY else SOME
            else:
                ways = ALONE + (LEARNING if hasattr(cls, "partial_fit") else ())
            for way in ways:
                name = way.__name__.replace("_", " ")
                label = " ".join(filter(None, (cls.__name__, variant, dtype, name)))
                kind = dtype, 4 * N_FEATURES if variant in WIDE else N_FEATURES
                yield label, cls, basics | change, way, kind


def record_alone(only):
    digests = {}
    for label, cls, params, way, kind in cases():
        if only in label:
            X, more = rows(*kind), rows(*kind, seed=1)
            digests |= described(label, partial(way, cls(**params), X, more), X)
    return digests


# ---------------------------------------------------------------------- two processes
def record_rank(folder, only):
    """What one of two processes learns; each has its own half of the rows."""
    rank, digests, meetings = int(os.environ["RANK"]), {}, itertools.count()

    def meet():
        """Wait for the other rank."""
        number, deadline = next(meetings), time.monotonic() + PATIENCE
        (folder / f"{number} {rank}").touch()
        while not (folder / f"{number} {1 - rank}").exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"Rank {rank} was left alone.")
            time.sleep(0.001)

    for number, (label, cls, params, way, kind) in enumerate(cases()):
        label = f"{label}, two ranks"
        if way not in IN_RANKS or only not in label:
            continue
        X, more = (rows(*kind, seed=2 * i + rank, n_rows=160) for i in range(2))

        learn = partial(way, cls(**params, distributed=True), X, more)
        if way is resumed:
            shared = folder / f"case {number}"
            shared.mkdir(exist_ok=True)
            learn = partial(learn, folder=shared, meet=meet)
        meet()
        digests |= described(f"{label} (rank {rank})", learn, X)
    (folder / f"{rank}.json").write_text(json.dumps(digests))


def record_ranks(only):
    with tempfile.TemporaryDirectory() as folder, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
        sock.close()
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, __file__, "rank", folder, "--only", only]
        processes = [
            subprocess.Popen(
                command, env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}
            )
            for rank in "01"
        ]
        try:
            failed = [process.wait(3 * PATIENCE) for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(failed):
            raise SystemExit("A rank has failed.")
        parts = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in "01"]
    return parts[0] | parts[1]


# --------------------------------------------------------------------------- commands
def environment():
    names = ("numpy", "scipy", "scikit-learn", "numba", "torch")
    versions = {name: importlib.metadata.version(name) for name in names}
    return versions | {"python": platform.python_version(), "processor": processor()}


def processor():
    """The processor's model, where Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def record(path, only):
    print(f"recording {Path(sklearn_mpsae.__file__).parent}")
    digests = record_alone(only) | record_ranks(only)
    path.write_text(json.dumps({"environment": environment(), "digests": digests}, indent=1))
    errors = sum(len(value) < 64 for value in digests.values())
    print(f"{len(digests)} results ({errors} of them errors) in {path}")


def compare(paths, only):
    a, b = (json.loads(path.read_text()) for path in paths)
    if a["environment"] != b["environment"]:
        print(f"warning: other environments: {a['environment']}, {b['environment']}")
    a, b = ({k: v for k, v in x["digests"].items() if only in k} for x in (a, b))
    differing = [key for key in a | b if a.get(key) != b.get(key)]
    for key in differing:
        print(f"{key}: {a.get(key, 'absent')[:20]} -> {b.get(key, 'absent')[:20]}")
    print(f"{len(differing)} of {len(a | b)} results differ")
    return bool(differing)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["record", "compare", "rank"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="the cases or keys with this text")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.command == "compare":
        return compare(args.paths, args.only)
    (record if args.command == "record" else record_rank)(args.paths[0], args.only)
    return 0


if __name__ == "__main__":
    sys.exit(main())
