"""tools/check_gpu.sh, and the device that its tests run on; without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import conftest
import numpy as np
import pytest
import torch

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.coding import kernels
from sklearn_mpsae.coding.kernels import open_kernels

SCRIPT = Path(__file__).parents[1] / "tools" / "check_gpu.sh"
QUICK = ("--device", "cpu:0", "--quick")  # torch's kernels; "cpu" is of NumPy

# Stands for Python: each run is written down, and ends as a file beside it says.
STUB = """#!/bin/sh
here=$(dirname "$0")
echo "$SKLEARN_MPSAE_DEVICE $*" >> "$here/runs"
case "$*" in
    *bench_gpu*) sleep "$(cat "$here/seconds")"; exit "$(cat "$here/rc")" ;;
esac
"""


@pytest.fixture
def environment(tmp_path):
    """An environment whose Python is the stub."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name, text in {"python": STUB, "seconds": "0", "rc": "0", "runs": ""}.items():
        (folder / name).write_text(text)
    (folder / "python").chmod(0o755)
    return folder


@pytest.fixture
def check(environment, tmp_path):
    """Runs the script; gives what it did, and what it ran."""

    def call(*options, copied_to=""):
        (environment / "runs").write_text("")
        done = subprocess.run(
            [SCRIPT, "--out", tmp_path / "out", *options],
            capture_output=True,
            text=True,
            env=os.environ | {"VENV": str(environment.parent), "OUT": str(copied_to)},
        )
        runs = (environment / "runs").read_text().splitlines()
        return done, [run for run in runs if " -c " not in run and "-m pip" not in run]

    return call


def test_each_part_runs_once_on_the_device(check, tmp_path):
    done, runs = check()
    assert done.returncode == 0, done.stderr
    assert len(runs) == 6
    assert all(run.startswith("cuda -m pytest") for run in runs[:4])
    files = {word for run in runs[:4] for word in run.split() if word.startswith("tests/")}
    assert files == {f"tests/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert "sklearn_mpsae" in runs[3].split()
    assert "benchmarks/bench_gpu.py" in runs[4]
    assert "benchmarks/profile_gpu.py" in runs[5]
    assert all("--device cuda" in run and "--small" not in run for run in runs[4:])
    assert "device: cuda" in (tmp_path / "out" / "machine.txt").read_text()
    done, runs = check()
    assert done.returncode == 0
    assert runs == []


def test_a_part_that_failed_is_told_and_runs_again_by_name(environment, check):
    (environment / "rc").write_text("4")
    done, _ = check("bench", *QUICK)
    assert done.returncode == 1
    assert "bench: rc 4" in done.stdout
    done, runs = check(*QUICK)
    assert done.returncode == 1
    assert len(runs) == 2  # all but that
    (environment / "rc").write_text("0")
    done, runs = check("bench", *QUICK)
    assert done.returncode == 0
    assert len(runs) == 1
    assert "--device cpu:0 --small" in runs[0]


def test_results_of_other_options_or_sources_do_not_count(check, tmp_path):
    check(*QUICK)
    _, runs = check("--device", "cpu", "--quick")
    assert len(runs) == 3
    stamp = tmp_path / "out" / "stamp"
    assert stamp.read_text().startswith("cpu 1 ")
    stamp.write_text("cpu 1 of other sources")
    _, runs = check("--device", "cpu", "--quick")
    assert len(runs) == 3


def test_a_part_ends_with_the_time_of_a_call(environment, check):
    (environment / "seconds").write_text("100")
    done, runs = check(*QUICK, "--minutes", "0.05", "bench", "profile")
    assert done.returncode == 1
    assert "bench: rc 124" in done.stdout
    assert "profile: not run yet" in done.stdout
    assert "Run the same command again" in done.stdout
    assert len(runs) == 1


def test_results_are_copied_to_the_folder_of_the_machine(check, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    check(*QUICK, copied_to=kept)
    assert "rc 0" in (kept / "summary.txt").read_text()
    assert (kept / "machine.txt").exists()


@pytest.mark.parametrize("wrong", ["benchmark", "--fast", "--device"])
def test_a_wrong_argument_is_refused(check, wrong):
    done, runs = check(wrong)
    assert done.returncode == 2
    assert wrong in done.stderr
    assert runs == []


@pytest.mark.slow
def test_a_little_of_each_part_runs_on_the_cpu(tmp_path):
    environment = os.environ | {"VENV": sys.prefix, "OUT": ""}
    done = subprocess.run([SCRIPT, *QUICK, "--out", tmp_path], env=environment)
    assert done.returncode == 0, (tmp_path / "summary.txt").read_text()
    rows = json.loads((tmp_path / "bench_gpu.json").read_text())["rows"]
    assert {"ours MP", "ours MP, bfloat16", "ours TopK", "torch TopK"} <= set(rows)
    rows = json.loads((tmp_path / "profile_gpu.json").read_text())["rows"]
    assert set(rows) == {"step", "step_bfloat16", "encode"}
    for name in rows:
        assert "aten::" in (tmp_path / f"profile_{name}.txt").read_text()


# ---------------------------------------------------------------------- the benchmark
@pytest.fixture
def bench_gpu(monkeypatch):
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):  # it sets them, for good
        variable = f"{name}_NUM_THREADS"
        monkeypatch.setenv(variable, os.environ.get(variable, "2"))
    monkeypatch.syspath_prepend(str(SCRIPT.parents[1] / "benchmarks"))
    import bench_gpu

    return bench_gpu


def test_a_side_without_room_on_the_device_is_left_out(bench_gpu, capsys):
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate")

    skipped = {}
    found = bench_gpu.with_no_room({"large": too_large, "small": lambda: None}, skipped)
    assert found == ["large"]
    assert skipped == {"large": "OutOfMemoryError: CUDA out of memory. Tried to"}
    assert "skipped: large" in capsys.readouterr().out


def test_our_step_is_that_of_partial_fit(bench_gpu, monkeypatch):
    made = []
    trainer = bench_gpu.Trainer
    monkeypatch.setattr(
        bench_gpu, "Trainer", lambda *args: made.append(trainer(*args)) or made[-1]
    )
    step = bench_gpu.our_step(MPSparseAutoencoder(), 8, 16, 2, "cpu:0")
    assert np.isfinite(step(bench_gpu.batches(40, 8, "cpu:0", 0)[0]))
    assert made[0].parameters["intercept"].any()  # it is learnt
    assert made[0].revive


# --------------------------------------------------------------- the device of the tests
def test_auto_is_the_device_that_the_variable_names(monkeypatch):
    monkeypatch.setattr(conftest, "DEVICE", "cpu:0")
    monkeypatch.setattr(kernels, "_best_device", conftest._named_device)
    with open_kernels("auto", np.dtype(np.float32)) as found:
        assert str(found.device) == "cpu:0"


def test_a_device_that_is_absent_is_not_replaced(monkeypatch):
    monkeypatch.setattr(conftest, "DEVICE", "cuda:99")
    monkeypatch.setattr(kernels, "_best_device", conftest._named_device)
    with pytest.raises(ValueError, match="device='cuda:99' cannot compute"):
        open_kernels("auto", np.dtype(np.float32))


@pytest.mark.skipif(not conftest.DEVICE, reason="SKLEARN_MPSAE_DEVICE is not set")
def test_these_tests_run_on_it():
    with open_kernels("auto", np.dtype(np.float32)) as found:
        assert str(found.device) in (conftest.DEVICE, f"{conftest.DEVICE}:0")
