"""The kernels of Triton are the torch loops they stand for, and the reference.

They run here in Triton's interpreter, on the CPU. That has to be asked for before Triton is
imported and holds for a whole process, so the cases run in one of their own: the functions
named `case_...`, which only `test_in_the_interpreter` and `test_on_cuda` collect.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from sklearn_mpsae.coding.kernels import reference, tensor, tensor_rows
from sklearn_mpsae.coding.kernels.tensor import TensorKernels
from sklearn_mpsae.coding.unit import unit_rows

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-12), (np.float32, 1e-5)])
SIGN = pytest.mark.parametrize("positive", [True, False], ids=["positive", "signed"])
# A row of the last takes fewer atoms than it may.
SHAPES = pytest.mark.parametrize(
    ("p", "d", "k"), [(37, 16, 4), (64, 12, 3), (3, 3, 16)], ids=str
)
STOP = pytest.mark.parametrize(
    "stop",
    [{}, {"tol": 0.4}, {"threshold": 1.2}, {"once": True, "atol": 0.5}],
    ids=["never", "tol", "threshold", "once, atol"],
)


# --------------------------------------------------------------------------- #
# The processes that run the cases
# --------------------------------------------------------------------------- #
def run_cases(interpret):
    pytest.importorskip("triton", reason="Triton is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    # The interpreter of Triton 3.2 does that.
    command += ["-W", "ignore:Conversion of an array with ndim > 0:DeprecationWarning"]
    done = subprocess.run(
        [*command, "-o", "python_functions=case_"],
        env={**os.environ, "TRITON_INTERPRET": interpret},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_in_the_interpreter():
    run_cases("1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device")
def test_on_cuda():
    run_cases("0")


@pytest.mark.parametrize("arch", [80, 90])
def test_correlations_stay_in_registers(arch, tmp_path, monkeypatch):
    """Compiled for a GPU that need not be there, at the most that a program holds."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    if not hasattr(triton, "knobs"):
        pytest.skip("older Triton's compiler is called otherwise")
    from triton.backends.compiler import GPUTarget

    from sklearn_mpsae.coding.kernels import fused

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for dtype, gram, itemsize in [
        ("fp32", "fp32", 4),
        ("fp32", "bf16", 4),
        ("fp64", "fp64", 8),
    ]:
        width = fused._ON_CHIP_BYTES // itemsize
        pointers = [dtype, gram, "fp64", "fp64", "i64", dtype]
        types = [*(f"*{name}" for name in pointers), "i32", "i32", *3 * ["constexpr"]]
        names = fused._pursue_on_chip.arg_names
        source = triton.compiler.ASTSource(
            fn=fused._pursue_on_chip,
            signature=dict(zip(names, types, strict=True)),
            constexprs={"positive": False, "SLOTS": 64, "WIDTH": width},
            attrs={(i,): [["tt.divisibility", 16]] for i in range(len(pointers))},
        )
        options = {"num_warps": fused._warps(width), "enable_fp_fusion": False}
        binary = triton.compile(source, GPUTarget("cuda", arch, 32), options).asm["cubin"]
        path = tmp_path / "kernel.cubin"
        path.write_bytes(binary)
        tool = triton.knobs.nvidia.cuobjdump.path
        usage = subprocess.check_output([tool, "--dump-resource-usage", path], text=True)
        assert "STACK:0 " in usage, usage


def test_without_triton_cuda_says_so(monkeypatch):
    import sklearn_mpsae.coding.kernels as package

    monkeypatch.setitem(sys.modules, f"{package.__name__}.fused", None)
    monkeypatch.delattr(package, "fused", raising=False)
    with pytest.warns(RuntimeWarning, match=r"several times slower.*sklearn_mpsae\[gpu\]"):
        assert tensor._fused_kernels(torch.device("cuda")) is None


def test_the_cpu_needs_no_triton():
    assert tensor._fused_kernels(torch.device("cpu")) is None


# --------------------------------------------------------------------------- #
# The cases
# --------------------------------------------------------------------------- #
def both(dtype):
    """The operations of torch, and the kernels of Triton."""
    from sklearn_mpsae.coding.kernels import fused

    loops, kernels = TensorKernels(DEVICE, dtype), TensorKernels(DEVICE, dtype)
    loops._fused, kernels._fused = None, fused
    return loops, kernels


def problem(p, d, dtype, n=5, device=DEVICE):
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((n, d)), unit_rows(rng.standard_normal((p, d)))
    return [torch.tensor(a.astype(dtype), device=device) for a in arrays]


def options(stop, positive):
    return {"tol": 0.0, "threshold": 0.0, **stop, "positive": positive}


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def assert_reference(indices, values, X, W, k, within, **stop):
    for x, row, codes in zip(X, indices, values, strict=True):
        support, expected = reference.matching_pursuit(x, W, k, **stop)
        unused = [0] * (k - len(support))
        assert row.tolist() == support + unused
        expected = values.new_tensor([*expected, *unused])
        torch.testing.assert_close(codes, expected, rtol=0, atol=10 * within)


@pytest.fixture(params=["on chip", "in tiles"])
def memory(request, monkeypatch):
    """Correlations in registers; or in tiles of 32, as if they were too many."""
    from sklearn_mpsae.coding.kernels import fused

    if request.param == "in tiles":
        monkeypatch.setattr(fused, "_ON_CHIP_BYTES", 0)
        monkeypatch.setattr(fused, "_TILE", 32)


@DTYPES
@SIGN
@SHAPES
@STOP
@pytest.mark.usefixtures("memory")
def case_pursuit_is_the_loop_to_the_last_bit(dtype, tol, positive, p, d, k, stop):
    loops, kernels = both(dtype)
    X, W = problem(p, d, dtype)
    G = kernels.gram(W)
    stop = options(stop, positive)
    codes = kernels.matching_pursuit(X, W, G, k, **stop)
    assert_equal(codes, loops.matching_pursuit(X, W, G, k, **stop))
    if k < p:  # what is left of a row is more than rounding
        assert_reference(*codes, X, W, k, tol, **stop)


@SIGN
@pytest.mark.usefixtures("memory")
def case_the_lowest_index_wins_a_tie(positive):
    _, kernels = both(np.float64)
    W = torch.eye(3, dtype=torch.float64, device=DEVICE).repeat_interleave(70, dim=0)
    X = W.new_tensor([[1.0, 3.0, -2.0], [0.0, 0.0, 0.0]])
    indices, values = kernels.matching_pursuit(
        X, W, W @ W.T, 4, tol=0.0, threshold=0.0, positive=positive
    )
    expected = [[70, 0, 0, 0], [3, 1, 0, 0]] if positive else [[70, 140, 0, 0], [3, -2, 1, 0]]
    assert [indices[0].tolist(), values[0].tolist()] == expected
    assert not values[1].any()


@pytest.mark.usefixtures("memory")
def case_what_is_not_a_number_is_not_picked():
    _, kernels = both(np.float32)
    X, W = problem(20, 6, np.float32)
    X[0] = float("nan")
    _, values = kernels.matching_pursuit(
        X, W, W @ W.T, 3, tol=0.0, threshold=0.0, positive=True
    )
    assert not values[0].any()
    assert values[1:].all()


@DTYPES
@SIGN
@STOP
@pytest.mark.parametrize("path_weight", [0.0, 0.4])
def case_gradient_is_the_loop_s(dtype, tol, positive, stop, path_weight, monkeypatch):
    from sklearn_mpsae.coding.kernels import fused

    p, d, k = 9, 20, 6
    # 4 rows at a time: the last chunk is not full.
    monkeypatch.setattr(fused, "CHUNK_BYTES", 4 * k * d * np.dtype(dtype).itemsize)
    loops, kernels = both(dtype)
    X, W = problem(p, d, dtype, n=7)
    W *= 0.9  # off the sphere, where no term of the gradient vanishes
    codes = loops.matching_pursuit(X, W, W @ W.T, k, **options(stop, positive))
    ours, theirs = (
        side.pursuit_gradient(X, W, *codes, path_weight) for side in (kernels, loops)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=10 * tol * float(b.abs().max() + 1))


@DTYPES
def case_gradient_is_autograd_s(dtype, tol):
    _, kernels = both(dtype)
    X, W = problem(37, 16, dtype)
    codes = kernels.matching_pursuit(X, W, W @ W.T, 6, tol=0.0, threshold=0.0, positive=True)
    gradient = kernels.pursuit_gradient(X, W, *codes)[1]
    atoms = W.double().requires_grad_()
    for x in X.double():
        code = reference.matching_pursuit(x, atoms, 6)
        (((x - reference.decode(*code, atoms)) ** 2).sum() / 2).backward()
    error = (gradient.double() - atoms.grad).abs().max()
    assert error < 100 * tol * atoms.grad.abs().max()


@DTYPES
@pytest.mark.parametrize("d", [5, 300])
def case_rows_are_added_at_their_atoms(dtype, tol, d):
    """Also where more rows share an atom than are added at a time, and holes in codes."""
    loops, kernels = both(dtype)
    X, _ = problem(1, d, dtype, n=40)
    rng = np.random.default_rng(1)
    indices = torch.tensor(rng.integers(0, 6, (40, 4)), device=DEVICE)
    values = torch.tensor(rng.standard_normal((40, 4)).astype(dtype), device=DEVICE)
    values[rng.random((40, 4)) < 0.3] = 0
    out, expected = (side.scatter_outer(indices, values, X, 8) for side in (kernels, loops))
    torch.testing.assert_close(out, expected, rtol=0, atol=100 * tol)
    assert not out[6:].any()


@DTYPES
@SIGN
@STOP
def case_coarse_pursuit_is_the_loop_s(dtype, tol, positive, stop):
    loops, kernels = both(dtype)
    X, W = problem(37, 16, dtype)
    codes, expected = (
        side.coarse_pursuit(X, W, 6, **options(stop, positive)) for side in (kernels, loops)
    )
    torch.testing.assert_close(codes[0], expected[0], rtol=0, atol=0)
    torch.testing.assert_close(codes[1], expected[1], rtol=0, atol=10 * tol)


# --------------------------------------------------------------------------- #
# The verbs that choose otherwise, as operations of torch
# --------------------------------------------------------------------------- #
@DTYPES
@SIGN
@STOP
def test_blocked_pursuit_is_the_reference(dtype, tol, positive, stop):
    X, W = problem(100, 24, dtype, n=12, device="cpu")
    stop = options(stop, positive)
    codes = TensorKernels("cpu", dtype).blocked_pursuit(X, W, 7, **stop)
    assert_reference(*codes, X, W, 7, tol, **stop)


def test_blocked_pursuit_forms_no_gram_matrix(monkeypatch):
    asked = []
    rows = tensor._GramRows.__getitem__

    def counted(self, i):
        block = rows(self, i)
        asked.append(block.shape)
        return block

    monkeypatch.setattr(tensor._GramRows, "__getitem__", counted)
    monkeypatch.setattr(tensor_rows, "CHUNK_BYTES", 5 * 100 * 8)
    X, W = problem(100, 24, np.float64, n=12, device="cpu")
    TensorKernels("cpu", np.float64).blocked_pursuit(
        X, W, 4, tol=0.0, threshold=0.0, positive=True
    )
    assert set(asked) == {(5, 100), (2, 100)}


@DTYPES
@SIGN
@STOP
def test_coarse_pursuit_values_are_those_of_its_atoms(dtype, tol, positive, stop):
    """Exact along the atoms it takes; which it takes, bfloat16 says."""
    X, W = problem(100, 24, dtype, n=12, device="cpu")
    stop = options(stop, positive)
    indices, values = TensorKernels("cpu", dtype).coarse_pursuit(X, W, 7, **stop)
    for x, row, codes in zip(X.double(), indices, values, strict=True):
        left = x
        for i, v in zip(row, codes.double(), strict=True):
            if v != 0:
                exact = W[i].double() @ left
                assert abs(exact - v) < 100 * tol
                assert abs(v) > stop["threshold"]
                assert v > 0 or not positive
                left = left - exact * W[i].double()
    assert ((indices == 0) | (values != 0)).all()


@SIGN
def test_coarse_pursuit_loses_next_to_nothing(positive):
    X, W = problem(100, 24, np.float32, n=200, device="cpu")
    kernels = TensorKernels("cpu", np.float32)
    stop = options({}, positive)
    exact = kernels.matching_pursuit(X, W, W @ W.T, 7, **stop)
    coarse = kernels.coarse_pursuit(X, W, 7, **stop)
    errors = [float(((X - kernels.decode(*codes, W)) ** 2).sum()) for codes in (exact, coarse)]
    assert errors[1] == pytest.approx(errors[0], rel=5e-3)
    differ = float((exact[0] != coarse[0]).double().mean())
    assert 0 < differ < 0.2


@pytest.mark.parametrize(("n_bytes", "on_demand"), [(40_000, False), (39_999, True)])
def test_coarse_pursuit_forms_no_gram_matrix_beyond_its_budget(monkeypatch, n_bytes, on_demand):
    made = []
    rows = tensor._GramRows
    monkeypatch.watch(tensor, "_GramRows", lambda *args: made.append(1) or rows(*args))
    monkeypatch.setattr(tensor, "GRAM_BYTES", n_bytes)
    X, W = problem(100, 24, np.float32, n=12, device="cpu")
    TensorKernels("cpu", np.float32).coarse_pursuit(X, W, 3, **options({}, True))
    assert bool(made) == on_demand


def test_coarse_pursuit_without_room_for_a_gram_matrix(monkeypatch):
    X, W = problem(100, 24, np.float32, n=12, device="cpu")
    kernels, stop = TensorKernels("cpu", np.float32), options({}, True)
    roomy = kernels.coarse_pursuit(X, W, 3, **stop)
    monkeypatch.setattr(tensor, "GRAM_BYTES", 0)
    tight = kernels.coarse_pursuit(X, W, 3, **stop)
    assert (roomy[0] == tight[0]).double().mean() > 0.9
    torch.testing.assert_close(
        kernels.decode(*tight, W), kernels.decode(*roomy, W), atol=0.3, rtol=0
    )


def test_a_coarse_choice_that_is_not_worth_it_is_left_out():
    """Of the row as rounded the code is positive, of the row itself it is not."""
    X, W = torch.ones(1, 3), torch.tensor([[0.0, 0.0, 0.0], [0.7, 0.31, -1.0115]])
    assert (X @ W.bfloat16().float().T)[0, 1] > 0 > (X @ W.T)[0, 1]
    stop = options({}, True)
    indices, values = TensorKernels("cpu", np.float32).coarse_pursuit(X, W, 2, **stop)
    assert not indices.any()
    assert not values.any()
