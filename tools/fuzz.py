"""Coverage-guided fuzzing of everything that reads a file.

    pip install atheris
    python tools/fuzz.py checkpoint --seconds 900

Whatever the bytes, a loader may only give an answer or raise a ValueError: another error, a
crash, a hang, or more memory than a file of that size needs ends the run, with the input
kept. Inputs are whole files, or parts of them put back with valid checksums, so that more
than the checksums is reached. docs/trust.md has what was found.
"""

import argparse
import contextlib
import inspect
import io
import json
import resource
import struct
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import atheris
import numpy as np

from sklearn_mpsae import MPSparseAutoencoder, coding, datasets, persistence, sources
from sklearn_mpsae.coding import disk
from sklearn_mpsae.datasets import _mnist
from sklearn_mpsae.learning import checkpoint, state
from sklearn_mpsae.persistence import _disk, _files, _state

# Whose branches the fuzzer is to find. Not more: numba cannot compile what is instrumented.
READERS = (
    disk,
    _mnist,
    checkpoint,
    state,
    sources,
    _disk,
    _files,
    _state,
    np.lib.format,
    zipfile,
)

MEMORY = 4 << 30
X = np.random.default_rng(0).standard_normal((30, 4))


def instrument(module):
    """Let the fuzzer see the branches that functions of a module take."""
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__ == module.__name__:
            setattr(module, name, atheris.instrument_func(value))


def sae(**options):
    return MPSparseAutoencoder(6, n_nonzero_coefs=2, max_iter=2, random_state=0, **options)


class Archive:
    """A zip of .npy files: all of it, or one member's bytes."""

    def __init__(self, path):
        self.whole = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            self.members = {name: archive.read(name) for name in archive.namelist()}

    def seeds(self):
        yield b"\0" + self.whole
        for number, content in enumerate(self.members.values(), 1):
            yield bytes([number]) + content

    def file(self, data):
        number, content = data[0] % (len(self.members) + 1), data[1:]
        if not number:
            return content
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for n, (name, old) in enumerate(self.members.items(), 1):
                archive.writestr(name, content if n == number else old)
        return out.getvalue()


class CheckpointTarget:
    """`learning.checkpoint`, and an estimator that goes on from it."""

    def __init__(self, folder):
        self.path = folder / "checkpoint"
        sae(checkpoint=self.path, checkpoint_every=0).fit(X)
        self.archive = Archive(self.path)
        self.seeds = self.archive.seeds

    def run(self, data):
        self.path.write_bytes(self.archive.file(data))
        checkpoint.read(self.path)
        sae(checkpoint=self.path).load_checkpoint(self.path).transform(X)


class CodesTarget:
    """The folder of .npy files that `transform_to` writes."""

    names = ("data", "indices", "indptr", "shape")

    def __init__(self, folder):
        self.folder = folder / "codes"
        sae().fit(X).transform_to(X, self.folder)
        self.files = {name: (self.folder / f"{name}.npy").read_bytes() for name in self.names}

    def seeds(self):
        for number, content in enumerate(self.files.values()):
            yield bytes([number]) + content

    def run(self, data):
        number = data[0] % len(self.names)
        for n, name in enumerate(self.names):
            content = data[1:] if n == number else self.files[name]
            (self.folder / f"{name}.npy").write_bytes(content)
        codes = coding.load_codes(self.folder)
        if codes.shape[0] * codes.shape[1] < 1e6:
            codes.toarray()


class RowsTarget:
    """A .npy file to learn from."""

    def __init__(self, folder):
        self.path, self.model = folder / "X.npy", sae().fit(X)

    def seeds(self):
        for array in (X, X.astype(np.float32), np.asfortranarray(X), X > 0, X.astype(">f4")):
            np.save(self.path, array)
            yield self.path.read_bytes()

    def run(self, data):
        self.path.write_bytes(data)
        self.model.transform(sources.NpyFiles(self.path))


class MnistTarget:
    """The cache of `fetch_mnist`."""

    def __init__(self, folder):
        self.path = folder / "mnist.npz"
        np.savez_compressed(self.path, **{n: np.zeros(3, np.uint8) for n in _mnist._SHAPES})
        self.archive = Archive(self.path)
        self.seeds = self.archive.seeds

    def run(self, data):
        self.path.write_bytes(self.archive.file(data))
        datasets.fetch_mnist(self.path.parent, download_if_missing=False)


class ModelTarget:
    """A saved model: the file, its safetensors header, or its config with a valid checksum."""

    def __init__(self, folder):
        self.path = persistence.save(sae().fit(X), folder / "model.safetensors")
        self.whole = self.path.read_bytes()
        (size,) = struct.unpack("<Q", self.whole[:8])
        self.header, self.rest = self.whole[8 : 8 + size], self.whole[8 + size :]
        self.config = json.loads(self.header)["__metadata__"]["sklearn_mpsae"].encode()

    def seeds(self):
        yield from (b"\0" + self.whole, b"\1" + self.header, b"\2" + self.config)

    def run(self, data):
        kind, content = data[0] % 3, data[1:]
        if kind == 2:
            content = self._header_of(content)
        if kind:
            content = struct.pack("<Q", len(content)) + content + self.rest
        self.path.write_bytes(content)
        persistence.load(self.path).transform(X)

    def _header_of(self, config):
        config = json.loads(config)
        if isinstance(config, dict):
            config.pop("sha256", None)
            config["sha256"] = _files._sha256(_files._canonical(config))
        header = json.loads(self.header)
        header["__metadata__"]["sklearn_mpsae"] = json.dumps(config)
        return json.dumps(header).encode()


TARGETS = {
    "checkpoint": CheckpointTarget,
    "codes": CodesTarget,
    "rows": RowsTarget,
    "mnist": MnistTarget,
    "model": ModelTarget,
}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("target", choices=TARGETS)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--keep", default=".", help="where an input that fails is kept")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    for module in READERS:
        instrument(module)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        target = TARGETS[args.target](Path(scratch))
        seeds = Path(scratch, "seeds")
        seeds.mkdir()
        for number, seed in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(seed)

        def one_input(data):
            with contextlib.suppress(ValueError):
                target.run(data or b"\0")

        limits = [f"-max_total_time={args.seconds}", "-timeout=20", "-rss_limit_mb=4096"]
        outcome = [f"-artifact_prefix={args.keep}/", "-print_final_stats=1", "-max_len=65536"]
        atheris.Setup([sys.argv[0], str(seeds), *limits, *outcome], one_input)
        # More than the files need; so that asking for more is an error here and now.
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
