"""Several processes learn one dictionary: what one process would learn from all rows."""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
import ranks
import torch

from sklearn_mpsae import MPSparseAutoencoder
from sklearn_mpsae.learning.distributed import _together, open_ranks

# Longer than anything here takes; a test that hangs fails.
PATIENCE = 120


def free_port():
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# A process that has imported all that a rank needs, and is forked for each of them.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch.distributed", "sklearn_mpsae._compare"])


def run(task, folder, n_ranks=2):
    """The processes' results, or None for one that was killed; all end in bounded time."""
    shared = {"WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in map(str, range(n_ranks)):
        (folder / f"{rank}.joblib").unlink(missing_ok=True)
        own = {"RANK": rank, "LOCAL_RANK": rank}
        process = PROCESSES.Process(target=ranks.begin, args=(task, folder, shared | own))
        process.start()
        processes.append(process)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(1, deadline - time.monotonic()))
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
    assert not late
    files = [folder / f"{rank}.joblib" for rank in range(n_ranks)]
    return [joblib.load(file) if file.exists() else None for file in files]


def arrays(est):
    """All fitted numbers of an estimator, the state of its training too."""
    state, fitted = est._training.state, est._learnt.attributes
    moments = {
        f"{name} {i}": m for name in state.moments for i, m in enumerate(state.moments[name])
    }
    return fitted | moments | state.numbers | {"last used": state.last_used}


def test_a_rank_that_fails_closes_its_connections(monkeypatch, rng):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    x = rng.standard_normal(5)

    def fail():
        with open_ranks(True) as alone:
            assert (alone.rank, alone.size) == (0, 1)
            np.testing.assert_array_equal(alone.sum(x.copy()), x)
            assert alone.gather("x") == ["x"]
            assert alone.share("x") == "x"
            assert torch.distributed.is_initialized()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not torch.distributed.is_initialized()


def test_the_first_line_of_an_error_is_told():
    """The rest is torch's stack."""
    with (
        pytest.raises(RuntimeError, match=r"Another rank was lost.* \(timed out\)$"),
        _together(),
    ):
        raise RuntimeError("timed out\nException raised from ...")


@pytest.mark.parametrize(
    ("shards", "n_ranks"),
    [
        ("even", 2),
        ("uneven", 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("even", 1), ("even", 4)]),
        pytest.param("uneven", 4, marks=pytest.mark.slow),
    ],
)
def test_ranks_learn_what_one_process_learns(shards, n_ranks, tmp_path):
    """Bit for bit the same on all ranks, and as one process to 1e-6 in float32."""
    X = np.concatenate(
        [
            np.concatenate(parts)
            for parts in zip(
                *(
                    np.split(ranks.shard(ranks.rows(), rank, n_ranks, shards == "uneven"), 10)
                    for rank in range(n_ranks)
                ),
                strict=True,
            )
        ]
    )
    np.testing.assert_array_equal(X, ranks.rows())
    alone = ranks.fit_all(X)
    first, *others = run(shards, tmp_path, n_ranks)
    for name, est in alone.items():
        ours = arrays(first[name])
        for other in others:
            for key, value in arrays(other[name]).items():
                np.testing.assert_array_equal(value, ours[key], err_msg=f"{name} {key}")
        assert first[name].n_samples_seen_ == est.n_samples_seen_
        assert first[name].n_steps_ == est.n_steps_
        np.testing.assert_array_equal(first[name].atom_usage_, est.atom_usage_, name)
        np.testing.assert_allclose(first[name].components_, est.components_, atol=1e-6)
        np.testing.assert_allclose(first[name].intercept_, est.intercept_, atol=1e-6)
        np.testing.assert_allclose(first[name].loss_curve_, est.loss_curve_, rtol=1e-6)
        codes, ours = est.transform(X), first[name].transform(X)
        np.testing.assert_allclose(ours, codes, atol=1e-5, err_msg=name)


def test_these_fits_have_atoms_to_revive():
    """So that the test above shows that ranks revive alike."""
    revived, kept = (
        MPSparseAutoencoder(**ranks.OPTIONS, dead_atoms=policy).fit(
            ranks.in_order(ranks.rows())
        )
        for policy in ("revive", "keep")
    )
    assert (revived.components_ != kept.components_).any()


def test_without_a_seed_ranks_share_the_first_ones(tmp_path):
    first, second = run("shuffled", tmp_path)
    np.testing.assert_array_equal(first.components_, second.components_)
    assert first.n_samples_seen_ == 640


@pytest.mark.parametrize(
    ("task", "of_rank_1"),
    [("killed", None), ("failing", "ArithmeticError: of rank 1 alone")],
)
def test_a_lost_rank_makes_the_others_fail(task, of_rank_1, tmp_path):
    results = run(task, tmp_path, 3)
    assert results.pop(1) == of_rank_1
    for result in results:
        assert result.startswith("RuntimeError: Another rank was lost")


@pytest.mark.parametrize(
    ("task", "on_both"),
    [
        ("other features", "Rank 1 differs from rank 0 in n_features (5, 12)"),
        ("other parameters", "Rank 1 differs from rank 0 in tol (0.1, 0.0)"),
        ("few rows", "Rank 1 has 5 rows, fewer than the 6 steps of an epoch"),
    ],
)
def test_ranks_that_do_not_fit_together(task, on_both, tmp_path):
    for result in run(task, tmp_path):
        assert on_both in result


def test_bad_rows_of_one_rank(tmp_path):
    first, second = run("bad rows", tmp_path)
    assert "Row 7 of X contains NaN" in second or "Input X contains NaN" in second
    assert "Another rank was lost" in first


def test_a_distributed_fit_goes_on_from_its_checkpoint(tmp_path):
    whole, _ = run("plain", tmp_path)
    assert run("checkpoint", tmp_path)[1] is None
    for resumed in run("resumed", tmp_path):
        np.testing.assert_array_equal(resumed.components_, whole.components_)
        np.testing.assert_array_equal(resumed.loss_curve_, whole.loss_curve_)


@pytest.mark.slow
def test_torchrun_launches_it(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", ranks.__file__, "plain", str(tmp_path)]
    subprocess.run(command, check=True, timeout=PATIENCE, env=os.environ)
    first, second = (joblib.load(tmp_path / f"{rank}.joblib") for rank in range(2))
    np.testing.assert_array_equal(first.components_, second.components_)


def test_a_process_alone_is_told_how_to_be_one_of_several(Estimator, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match=r"torchrun.*MASTER_ADDR, MASTER_PORT, RANK"):
        Estimator(4, distributed=True).fit(np.eye(4))
