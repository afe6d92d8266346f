"""Where the time of a training step and of a coding goes on a GPU, operation by operation.

The step is that of bench_gpu.py, on rows that lie on the device. The coding is `encode` of as
many rows of NumPy, and includes their copy to the device and that of the codes back;
`precision` is a matter of the training only. Each has a table of its operations, and a trace
that Perfetto or a Chromium browser (chrome://tracing) shows.

    python benchmarks/profile_gpu.py
    python benchmarks/profile_gpu.py --device cpu:0 --small     # to see that it runs
"""

import gzip

import bench_gpu
import harness
import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from sklearn_mpsae import MPSparseAutoencoder

WARM_UP = 3  # calls: kernels are compiled, and memory is reserved
TOP = 30  # operations of a table


def main():
    args = bench_gpu.arguments(__doc__)
    calls = {
        "step": step(MPSparseAutoencoder(), args),
        "step_bfloat16": step(MPSparseAutoencoder(precision="bfloat16"), args),
        "encode": encode(MPSparseAutoencoder(), args),
    }
    args.results.mkdir(parents=True, exist_ok=True)
    rows = {
        name: profiled(call, args.device, args.results / f"profile_{name}")
        for name, call in calls.items()
    }
    record = {"device": bench_gpu.device_name(args.device), "CUDA": torch.version.cuda}
    harness.report("profile_gpu", rows, args, **record)


def step(estimator, args):
    """One training step on rows that lie on the device."""
    shape = args.features, args.components, args.sparsity
    data = bench_gpu.batches(args.rows, args.features, args.device, args.seed)
    training_step = bench_gpu.our_step(estimator, *shape, args.device)
    return bench_gpu.on(data, training_step, args.device)


def encode(estimator, args):
    """Codes of rows of NumPy, by an estimator after one small step."""
    rng = np.random.default_rng(args.seed)
    X = rng.standard_normal((args.rows, args.features), dtype=np.float32)
    estimator.set_params(
        n_components=args.components, n_nonzero_coefs=args.sparsity, device=args.device
    )
    estimator.set_params(random_state=args.seed).partial_fit(X[: min(len(X), 512)])
    return lambda: estimator.encode(X)


def profiled(call, device, path):
    """Seconds of the call without the profiler; writes what the profiler saw of another."""
    for _ in range(WARM_UP):
        call()
    bench_gpu.synchronize(device)
    seconds = [harness.stopwatch(call)[0] for _ in range(WARM_UP)]
    cuda = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True) as seen:
        call()
        bench_gpu.synchronize(device)
    trace = path.with_suffix(".trace.json")
    seen.export_chrome_trace(str(trace))
    trace.with_suffix(".json.gz").write_bytes(gzip.compress(trace.read_bytes()))
    trace.unlink()
    column = f"self_{'cuda' if cuda else 'cpu'}_time_total"
    operations = seen.key_averages()
    # An operation of the CPU has the time of the kernels that it started, too.
    on_device = [each for each in operations if each.device_type != DeviceType.CPU]
    path.with_suffix(".txt").write_text(operations.table(sort_by=column, row_limit=TOP))
    return {
        "median s": sorted(seconds)[WARM_UP // 2],
        "operations": sum(each.count for each in operations if each not in on_device),
        "device s": sum(each.self_device_time_total for each in on_device) / 1e6,
    }


if __name__ == "__main__":
    main()
