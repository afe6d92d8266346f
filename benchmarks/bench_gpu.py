"""Seconds of one training step on a GPU, beside what the device could do at best.

Every side trains on the same batches of random rows, which lie on the device already, each
by its own trainer's step; "torch TopK" is a dense TopK autoencoder in plain torch. Shapes
decide the time here, not the data. "ours MP, bfloat16" chooses atoms with products of
bfloat16 and values them in float32.

The roofline is the least time the side's own way of working needs, from its floating point
operations over the rate of a large product, and its bytes over the rate of a large copy,
both measured in this run: whichever is longer. Products are in float32 without TensorFloat32
for all sides but that one, since that is what torch does unless told otherwise.

A side that does not import, or has no room on the device, is left out and named.

    python benchmarks/bench_gpu.py
    python benchmarks/bench_gpu.py --device cpu --small     # to see that it runs
"""

import itertools
import statistics
import sys
import time

import harness
import machine
import numpy as np
import torch
from harness import Bar, ratio

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding.kernels.tensor import TensorKernels
from sklearn_mpsae.coding.unit import unit_rows
from sklearn_mpsae.learning.distributed import Alone
from sklearn_mpsae.learning.recipe import stream_plan
from sklearn_mpsae.learning.state import INTERCEPT, TrainingState
from sklearn_mpsae.learning.trainer import Trainer

N_BATCHES = 4
SMALL = {"rows": 256, "features": 64, "components": 512, "sparsity": 8, "rounds": 2}


def main():
    args = arguments(__doc__)
    shape = args.rows, args.features, args.components, args.sparsity
    calls, skipped = steps(*shape[1:], args.device, args.only)
    data = batches(args.rows, args.features, args.device, args.seed)
    timed = {name: on(data, step, args.device) for name, step in calls.items()}
    for name in with_no_room(timed, skipped):
        del timed[name], calls[name]
    seconds = harness.interleave(timed, args.rounds, repeats=3)
    rows = harness.timing_rows(seconds, "torch TopK")
    peaks = measured_peaks(args.device, small=args.small)
    for name, work in workloads(*shape).items():
        if name in rows:
            rows[name] |= roofline(work, peaks, rows[name]["median s"])
    record = {
        "device": device_name(args.device),
        "versions": machine.versions({"sae-lens", "triton"}),
        "CUDA": torch.version.cuda,
        "peaks": peaks,
        "skipped": skipped,
    }
    harness.report("bench_gpu", rows, args, bars=() if args.small else bars(rows), **record)


def arguments(doc):
    """The options of this script and of profile_gpu.py, for the device that is there."""
    options = harness.parser(doc.splitlines()[0])
    options.add_argument("--device", default="cuda")
    options.add_argument("--small", action="store_true", help=f"for a dry run: {SMALL}")
    options.add_argument("--rows", type=int, default=8192)
    options.add_argument("--features", type=int, default=1024)
    options.add_argument("--components", type=int, default=16_384)
    options.add_argument("--sparsity", type=int, default=64)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    if args.small:
        vars(args).update(SMALL)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "There is no CUDA device here. Run this on a machine that has one, or pass "
            "--device cpu --small to see that the script runs."
        )
    return args


def batches(n, d, device, seed):
    """Rows of mean energy 1, as the package scales its data."""
    generator = torch.Generator().manual_seed(seed)
    shape = N_BATCHES, n, d
    return [X.to(device) for X in torch.randn(shape, generator=generator) / d**0.5]


def on(data, step, device):
    """The step, fed with one batch after the other and waited for."""
    stream = itertools.cycle(data)

    def call():
        step(next(stream))
        synchronize(device)

    return call


def with_no_room(calls, skipped):
    """The sides whose first step needs more memory than the device has; told, and recorded."""
    found = []
    for name, call in calls.items():
        try:
            call()
        except torch.OutOfMemoryError as error:
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"skipped: {name} ({skipped[name]})")
            found.append(name)
    return found


def synchronize(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


# --------------------------------------------------------------------------- #
# The sides
# --------------------------------------------------------------------------- #
def steps(d, p, k, device, only):
    """Every side's step, by name, and why the others are left out."""
    builders = {
        "ours MP": lambda: our_step(MPSparseAutoencoder(), d, p, k, device),
        "ours MP, bfloat16": lambda: our_step(
            MPSparseAutoencoder(precision="bfloat16"), d, p, k, device
        ),
        "ours TopK": lambda: our_step(TopKSAE(), d, p, k, device),
        "torch TopK": lambda: torch_top_k(d, p, k, device),
        "SAELens MP": lambda: sae_lens("matching_pursuit", d, p, k, device),
        "SAELens TopK": lambda: sae_lens("top_k", d, p, k, device),
    }
    calls, skipped = {}, {}
    for name, build in builders.items():
        if only and not any(text.lower() in name.lower() for text in only):
            continue
        try:
            calls[name] = build()
        except ImportError as error:
            skipped[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"skipped: {name} ({skipped[name]})")
    return calls, skipped


def our_step(estimator, d, p, k, device):
    """The step that `partial_fit` takes by default, with the parameters on the device."""
    estimator.set_params(n_components=p, n_nonzero_coefs=k, device=device)
    model, settings = estimator._model(), estimator._settings(d)
    atoms = unit_rows(np.random.default_rng(0).standard_normal((p, d), dtype=np.float32))
    parameters = model.start(atoms)
    if settings.intercept == "learn":
        parameters = {**parameters, INTERCEPT: np.zeros((1, d), np.float32)}
    state = TrainingState.new(parameters, model.first_numbers)
    kernels = TensorKernels(device, np.dtype(np.float32)).__enter__()
    random_state = np.random.RandomState(0)
    trainer = Trainer(model, kernels, parameters, state, settings, random_state, Alone())
    return lambda X: trainer.step(X, stream_plan(trainer.n_steps, k, p))


def torch_top_k(d, p, k, device):
    """A dense TopK autoencoder as one writes it in torch, trained by Adam."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn((p, d), generator=generator), dim=1)
    decoder = decoder.to(device).requires_grad_()
    encoder = decoder.detach().clone().requires_grad_()
    bias = torch.zeros(p, device=device, requires_grad=True)
    adam = torch.optim.Adam([encoder, bias, decoder], lr=1e-3, fused=device != "cpu")

    def step(X):
        values, indices = torch.topk(torch.relu(torch.addmm(bias, X, encoder.T)), k, dim=1)
        codes = torch.zeros((len(X), p), device=X.device).scatter(1, indices, values)
        loss = ((X - codes @ decoder) ** 2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def sae_lens(kind, d, p, k, device):
    """Its trainer's own step."""
    import rivals._torchvision  # noqa: F401 - before SAELens, which needs it
    import rivals.saelens as theirs

    torch.manual_seed(0)
    sae = getattr(theirs, kind)(d, p, k).to(device)
    sae.cfg.device = device
    training = theirs.trainer(sae, None, 10**9, 1e-3)

    def step(X):
        training.step(X)
        training.n_training_steps += 1

    return step


# --------------------------------------------------------------------------- #
# The roofline
# --------------------------------------------------------------------------- #
def workloads(n, d, p, k):
    """Floating point operations of each side's products, and its bytes, by kind.

    Per side: operations in float32, in bfloat16, and bytes read or written. A product of
    n x d with d x p takes 2 n d p operations; passes over n x p or p x d floats, and rows
    that are gathered for each of the n k codes, take bytes.
    """
    encode, gram = 2 * n * d * p, 2 * p * p * d
    wide, atoms, gathered = 4 * n * p, 4 * p * d, 4 * n * k * d
    adam = 8 * atoms
    # Backwards: atoms forth and back, and each code's part written and read.
    unrolled = 4 * gathered
    chosen = n * k * p
    return {
        "ours MP": (encode + gram, 0, 2 * wide + 4 * p * p + 4 * chosen + unrolled + adam),
        "ours MP, bfloat16": (
            0,
            encode + gram,
            2 * wide + 2 * p * p + 2 * chosen + gathered + unrolled + adam,
        ),
        "ours TopK": (encode, 0, 2 * wide + 4 * gathered + 2 * adam),
        # Encode, decode, and the gradients of codes, decoder and encoder.
        "torch TopK": (5 * encode, 0, 8 * wide + 2 * adam),
        "SAELens TopK": (5 * encode, 0, 8 * wide + 2 * adam),
        # Every step correlates the residual with all atoms, in the forward pass alone.
        "SAELens MP": (k * encode, 0, 2 * k * wide + adam),
    }


def roofline(work, peaks, seconds):
    """Columns of the table."""
    single, half, size = work
    products = single / peaks["float32 FLOP/s"] + half / peaks["bfloat16 FLOP/s"]
    least = max(products, size / peaks["bytes/s"])
    return {
        "TFLOP": (single + half) / 1e12,
        "GB": size / 1e9,
        "roofline s": least,
        "of roofline": least / seconds,
    }


def measured_peaks(device, *, small):
    """The rates of a large product in either type, and of a large copy."""
    size = 512 if small else 8192
    peaks = {}
    for dtype in (torch.float32, torch.bfloat16):
        A = torch.randn((size, size), device=device).to(dtype)
        rate = 2 * size**3 / fastest(lambda A=A: A @ A, device)
        peaks[f"{str(dtype).removeprefix('torch.')} FLOP/s"] = rate
    source = torch.zeros(size * size * 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size()
    return {**peaks, "bytes/s": copied / fastest(lambda: target.copy_(source), device)}


def fastest(call, device, repeats=10):
    """Median seconds of a call that is repeated enough for a clock to tell."""
    seconds = []
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        synchronize(device)
        seconds.append((time.perf_counter() - start) / repeats)
    return statistics.median(seconds)


def device_name(device):
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def bars(rows):
    """What the package has to reach."""
    ours, dense = ["ours MP", "ours MP, bfloat16"], ["torch TopK"]
    return [
        *(Bar(f"{name} over torch TopK", ratio(rows, name, dense), at_most=2) for name in ours),
        Bar("SAELens MP over MP", ratio(rows, "SAELens MP", ours[:1]), at_least=8),
    ]


if __name__ == "__main__":
    main()
