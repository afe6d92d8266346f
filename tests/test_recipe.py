"""What a step of a fit does, by how far it has come, and the numbers that it steers."""

from dataclasses import dataclass
from math import exp, inf, log
from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_mpsae.coding.kernels import team
from sklearn_mpsae.coding.kernels.native import NativeKernels
from sklearn_mpsae.learning.batches import Batches
from sklearn_mpsae.learning.distributed import Alone
from sklearn_mpsae.learning.frame import Frame
from sklearn_mpsae.learning.recipe import fit_plan, stream_plan
from sklearn_mpsae.learning.settings import Settings
from sklearn_mpsae.learning.state import TrainingState
from sklearn_mpsae.learning.trainer import Trainer
from sklearn_mpsae.models import steering
from sklearn_mpsae.models.base import BatchResult, Model, Plan
from sklearn_mpsae.rows.moments import Moments


# --------------------------------------------------------------------------------- plans
def test_the_rate_of_a_fit_falls_along_a_cosine():
    rates = [fit_plan(progress, 4, 64, free_norms=True).rate for progress in (0, 1 / 3, 0.5, 1)]
    assert rates == pytest.approx([1, 0.75, 0.5, 0])


@pytest.mark.parametrize(
    ("k", "n_components", "first"),
    [(1, 64, 3), (4, 64, 12), (5, 64, 15), (20, 64, 30), (6, 8, 8)],
)
def test_a_fit_starts_with_more_codes_and_ends_with_those_asked_for(k, n_components, first):
    """Three times as many, 10 more at most, never more than there are atoms."""
    counts = [
        fit_plan(progress, k, n_components, free_norms=True).n_nonzero_coefs
        for progress in (0, 0.35, 0.7, 1)
    ]
    assert counts == [first, k + round((first - k) / 2), k, k]


def test_the_phases_of_a_fit():
    plans = {p: fit_plan(p, 4, 64, free_norms=True) for p in (0, 0.69, 0.7, 0.89, 0.9, 1)}
    assert [plan.sphere for plan in plans.values()] == [False, False, True, True, True, True]
    assert [plan.refine for plan in plans.values()] == [False, False, True, True, True, True]
    assert [plan.revive for plan in plans.values()] == [True, True, True, True, False, False]
    # Longer than sqrt(2), an atom's step would raise the error.
    assert [plan.max_norm for plan in plans.values()] == [1.2, 1.2, inf, inf, inf, inf]
    bound = fit_plan(0, 4, 64, free_norms=False)
    assert bound.sphere
    assert bound.max_norm == inf


def test_the_plans_of_a_stream():
    plans = [stream_plan(n_steps, 4, 64) for n_steps in (0, 100, 150, 199, 200, 10**6)]
    assert [plan.n_nonzero_coefs for plan in plans] == [12, 8, 6, 4, 4, 4]
    assert plans[0].rate == 1
    assert plans[2].rate == pytest.approx(0.5)
    assert plans[5].rate == pytest.approx(50**0.5 / 1000, rel=1e-4)
    assert [plan.refine for plan in plans] == [False] * 4 + [True] * 2
    for plan in plans:
        assert plan.sphere
        assert plan.revive
        assert plan.max_norm == inf


# ------------------------------------------------------------------------------- control
def steered(l0s, target=4, gain=0.1):
    """The numbers after batches of 100 rows with so many codes each."""
    numbers = steering.numbers_to_steer("penalty", 0.5)
    plan = Plan(1, target, target, sphere=True, max_norm=inf, refine=True, revive=True)
    for l0 in l0s:
        values = np.zeros((100, 40))
        values[:, :l0] = 1
        step = SimpleNamespace(plan=plan, numbers=numbers, totals=lambda *each: each)
        n_rows = steering.steer_l0(step, "penalty", gain, values)
        steering.settle(step, "settled", numbers["penalty"], n_rows)
        steering.count(step, (values > 0).sum(), n_rows)
    return numbers


def test_what_is_steered_starts_at_nothing_unless_told():
    numbers = {"settled": 0.0, "n_batches": 0, "l0": 0.0, "trained_l0": 0.0}
    assert steering.numbers_to_steer("threshold") == numbers | {"threshold": 0.0}
    assert steering.numbers_to_steer("penalty", 0.01)["penalty"] == 0.01


def test_a_control_moves_by_its_gain_times_the_logarithm_of_the_excess():
    first = steered([8])
    assert first["penalty"] == pytest.approx(0.5 * exp(0.5 * log(2)))
    assert first["settled"] == pytest.approx(first["penalty"])
    assert first["l0"] == first["trained_l0"] == 8
    second = steered([8, 2])["penalty"] / first["penalty"]
    assert second == pytest.approx(exp(0.25 * log(0.5)))
    many = steered([8] * 30)["penalty"] / steered([8] * 29)["penalty"]
    assert many == pytest.approx(exp(0.1 * log(2)))
    assert steered([4] * 5)["penalty"] == 0.5


def test_a_control_takes_small_steps_and_finds_its_way_back():
    assert steered([40])["penalty"] == pytest.approx(0.5 * exp(0.5))
    assert steered([0])["penalty"] == pytest.approx(0.5 * exp(-0.5))
    assert steered([0] * 1000)["penalty"] == 1e-6


def test_what_a_fit_keeps_is_the_mean_of_the_last_steps():
    runs = [steered([4] * n, target=4) for n in range(1, 80)]
    assert {run["settled"] for run in runs} == {0.5}
    numbers = steering.numbers_to_steer() | {"l0": 4.0}
    expected = 0.0
    for n in range(1, 80):
        numbers["n_batches"] = n
        steering.settle(step_of(numbers, np.ones((100, 4))), "settled", n, 100)
        expected += max(0.06, min(1, 3 / n)) * (n - expected)
        assert numbers["settled"] == pytest.approx(expected)


def test_what_a_fit_keeps_follows_faster_where_it_is_behind():
    for l0, share in ((4.19, 0.06), (4.21, 0.5), (3.81, 0.06), (3.79, 0.5)):
        numbers = steering.numbers_to_steer() | {"l0": l0, "n_batches": 1000}
        steering.settle(step_of(numbers), "settled", 1.0, 100)
        assert numbers["settled"] == pytest.approx(share)
    numbers = steering.numbers_to_steer() | {"l0": 4.0, "trained_l0": 4.41, "n_batches": 1000}
    steering.settle(step_of(numbers), "settled", 1.0, 100)
    assert numbers["settled"] == pytest.approx(0.5)


def test_small_batches_move_means_by_less():
    for n_rows, share in ((1000, 0.06), (100, 0.06), (50, 0.03), (1, 0.0006)):
        numbers = steering.numbers_to_steer() | {"l0": 4.0, "n_batches": 10_000}
        steering.settle(step_of(numbers), "settled", 1.0, n_rows)
        assert numbers["settled"] == pytest.approx(share)


def step_of(numbers, codes=None, *, planned=4, asked=4):
    plan = Plan(1, planned, asked, sphere=True, max_norm=inf, refine=True, revive=True)
    return SimpleNamespace(plan=plan, numbers=numbers, ranks=Alone(), totals=lambda *each: each)


@pytest.mark.parametrize(
    ("asked", "threshold"),
    [(1, 7.5), (1.5, 6.5), (2, 5.5), (0.1, 8.5), (3.5, 1), (4, 0), (9, 0)],
)
def test_a_threshold_lies_between_the_last_code_that_is_kept_and_the_next(asked, threshold):
    sizes = np.array([[9.0, 8.0, 2.0, 0.0, 7.0], [6.0, 5.0, 3.0, 2.0, 0.0]])
    assert steering.divide(step_of({}, asked=asked), sizes, 2) == threshold


def test_a_threshold_does_not_part_codes_that_are_equal():
    sizes = np.array([[2.0, 2.0, 1.0], [2.0, 2.0, 0.0]])
    assert steering.divide(step_of({}, asked=1), sizes, 2) == 1.5


def test_while_it_explores_a_training_settles_what_gives_as_many_codes_as_asked_for():
    numbers = steering.numbers_to_steer("threshold", 0.5)
    sizes = np.tile(np.arange(9.0, 1, -1), (100, 1))  # eight codes a row, from 9 down to 2
    step = step_of(numbers, planned=8, asked=4)
    n_rows = steering.steer_l0(step, "threshold", 0.05, sizes)
    steering.settle_threshold(step, "threshold", sizes, n_rows)
    assert (numbers["settled"], numbers["l0"], numbers["trained_l0"]) == (5.5, 4, 8)
    assert numbers["threshold"] == 0.5


def test_a_steered_number_has_a_largest_value():
    numbers = steering.numbers_to_steer("penalty", 0.9)
    for _ in range(5):
        steering.steer_l0(step_of(numbers), "penalty", 0.1, np.ones((100, 40)), 1.0)
    assert numbers["penalty"] == 1.0


def test_numbers_scale_with_the_data():
    numbers = {"threshold": 2.0, "settled": 4.0, "n_batches": 6, "l0": 8.0, "trained_l0": 10.0}
    assert steering.rescaled(numbers, 3) == numbers | {"threshold": 6.0, "settled": 12.0}


def test_a_running_mean_is_the_plain_one_at_first():
    numbers = {"n_batches": 0, "l0": 0.0}
    for n in range(1, 11):
        numbers["n_batches"] = n
        steering.update_mean(numbers, "l0", n)
        assert numbers["l0"] == pytest.approx((n + 1) / 2)
    numbers["n_batches"] = 11
    steering.update_mean(numbers, "l0", 15.5)
    assert numbers["l0"] == pytest.approx(5.5 + 0.1 * 10)


@pytest.mark.parametrize(("level", "trials"), [(2.2, 1), (1e-3, 31), (50.0, 31), (0.0, 31)])
def test_a_threshold_is_sought_where_it_gives_another_number_of_codes(level, trials):
    tried = []

    def l0_at(level):
        tried.append(level)
        return 8 / (1 + level) ** 0.6

    found, l0 = steering.tuned(l0_at, level, 4)
    assert l0 == l0_at(found) == pytest.approx(4, rel=0.05)
    assert len(tried) - 1 <= trials
    assert found == level or trials > 1


def test_the_nearest_threshold_is_taken_where_none_gives_the_number():
    assert steering.tuned(lambda level: 5.0 if level < 3 else 2.0, 0.0, 4)[1] == 5
    assert steering.tuned(lambda level: 0.0, 1.0, 4) == (1, 0)


@pytest.mark.parametrize(
    ("l0", "is_missed"),
    [(4, False), (3.6, False), (4.4, False), (3.59, True), (4.41, True), (0, True)],
)
def test_an_average_that_was_missed_by_a_tenth_is_told(l0, is_missed):
    assert steering.l0_if_missed({"l0": l0}, 4) == (l0 if is_missed else None)


# ------------------------------------------------------------------------------- trainer
@dataclass(frozen=True)
class Toy(Model):
    """Uses these atoms in each row, and leaves this residual."""

    atoms: list
    gradient: np.ndarray
    residual: np.ndarray
    steers: bool = False

    layout = {"components": "pd"}
    fitted = {"components_": "pd"}
    level = "settled"
    start = attributes = parameters = coder = None

    def gradients(self, kernels, parameters, X, step):
        indices = np.tile(np.array(self.atoms, np.int32), (len(self.residual), 1))
        shift = np.zeros((1, X.shape[1]))
        gradients = {"components": self.gradient, "intercept": shift}
        return BatchResult(indices, np.ones(indices.shape), self.residual, gradients)


def trainer(kernels, model, W, *, parameters=None, **settings):
    parameters = parameters or {"components": W}
    state = TrainingState.new(parameters, {})
    settings = Settings(len(W), 2, learning_rate=0.01, **settings)
    return Trainer(
        model, kernels, parameters, state, settings, np.random.RandomState(0), Alone()
    )


FREE = Plan(0.5, 2, 2, sphere=False, max_norm=inf, refine=False, revive=True)


def test_each_step_along_a_steady_gradient_is_as_long_as_the_rate(rng):
    """Of whatever size the gradient is, from the first step: Adam's means are corrected."""
    W, gradient = rng.standard_normal((5, 7)), rng.standard_normal((5, 7)) * 1e-3
    with NativeKernels() as kernels:
        training = trainer(kernels, Toy([0], gradient, np.ones((3, 7))), W)
        for n_steps in range(1, 6):
            assert training.step(np.zeros((3, 7)), FREE) == 21
            moved = W - training.snapshot()[0]["components"]
            lengths = np.linalg.norm(gradient, axis=1, keepdims=True)
            np.testing.assert_allclose(moved, n_steps * 0.005 * gradient / lengths)


def test_an_atom_is_dead_after_so_many_steps_without_use(rng):
    W = rng.standard_normal((4, 7))
    residual = np.zeros((3, 7))
    residual[1] = 2 * np.arange(7)
    with NativeKernels() as kernels:
        model = Toy([0, 2], np.zeros((4, 7)), residual)
        training = trainer(kernels, model, W, dead_after=3, revive=True)
        for n_steps in (1, 2):
            training.step(np.zeros((3, 7)), FREE)
            assert training.last_used.tolist() == [n_steps, 0, n_steps, 0]
        training.step(np.zeros((3, 7)), FREE)
    # Atoms 1 and 3 are dead, but one row alone has something left: it goes to the first.
    # It is what is left of that row without its least code.
    atoms, left = training.snapshot()[0]["components"], residual[1] + W[0]
    np.testing.assert_allclose(atoms[1], left / np.linalg.norm(left))
    np.testing.assert_array_equal(atoms[[0, 2, 3]], W[[0, 2, 3]])
    assert training.last_used.tolist() == [3, 3, 3, 0]
    assert training.usage.tolist() == [9, 0, 9, 0]


def test_a_new_atom_is_what_is_left_where_rows_share_their_codes(rng):
    W, residual = rng.standard_normal((4, 7)), rng.standard_normal((1, 7))
    with NativeKernels() as kernels:
        model = Toy([0], np.zeros((4, 7)), residual, steers=True)
        training = trainer(kernels, model, W, dead_after=1, revive=True)
        training.step(np.zeros((1, 7)), FREE)
    left = residual[0] / np.linalg.norm(residual[0])
    np.testing.assert_allclose(training.snapshot()[0]["components"][1], left)


def test_a_new_atom_is_no_code_that_only_does_harm(rng):
    """Without that code nothing may be left of its row."""
    W, residual = np.eye(4, 7), np.zeros((1, 7))
    residual[0, 0] = -1
    with NativeKernels() as kernels:
        model = Toy([0], np.zeros((4, 7)), residual)
        training = trainer(kernels, model, W, dead_after=1, revive=True)
        training.step(np.zeros((1, 7)), FREE)
    np.testing.assert_array_equal(training.snapshot()[0]["components"][1], residual[0])


class Encoding(Toy):
    layout = {"components": "pd", "encoder": "pd", "bias": "p1"}

    def gradients(self, kernels, parameters, X, step):
        result = super().gradients(kernels, parameters, X, step)
        zeros = {name: np.zeros((3, 1)) for name in self.layout}
        zeros["intercept"] = np.zeros((1, 1))
        return result._replace(gradients=zeros)


class AtMean(Encoding):
    revived_at_mean = frozenset({"bias"})


@pytest.mark.parametrize(("kind", "bias"), [(Encoding, 0), (AtMean, -3)])
def test_only_directions_of_a_new_atom_point_somewhere(kind, bias):
    """A bias starts at zero or at the mean of the living ones, where d is 1 too."""
    parameters = {name: np.ones((3, 1)) for name in ("components", "encoder")}
    parameters["bias"] = np.array([[-4.0], [9.0], [-2.0]])
    with NativeKernels() as kernels:
        model = kind([0, 2], np.zeros((3, 1)), np.full((1, 1), 3.0))
        W = parameters["components"]
        training = trainer(kernels, model, W, parameters=parameters, dead_after=1, revive=True)
        training.step(np.zeros((1, 1)), FREE)
    learnt = training.snapshot()[0]
    assert [learnt[name][1, 0] for name in parameters] == [1, 1, bias]


def test_a_new_atom_has_no_momentum_and_steps_as_far_as_the_others(rng):
    W, gradient = rng.standard_normal((2, 7)), rng.standard_normal((2, 7))
    moments = []
    with NativeKernels() as kernels:
        for revive in (False, True):
            model = Toy([0], gradient, np.ones((3, 7)))
            training = trainer(kernels, model, W, dead_after=2, revive=revive)
            for _ in range(2):
                training.step(np.zeros((3, 7)), FREE)
            moments.append(training.moments["components"])
    (mean, square), (mean_after, square_after) = moments
    np.testing.assert_array_equal(mean_after, [mean[0], np.zeros(7)])
    np.testing.assert_allclose(square_after, [square[0], square.mean()])


def test_no_atom_is_dead_where_none_is_to_be(rng):
    dead = []

    class Watching(Toy):
        def gradients(self, kernels, parameters, X, step):
            dead.append(len(step.dead))
            return super().gradients(kernels, parameters, X, step)

    W, model = rng.standard_normal((4, 7)), Watching([0], np.zeros((4, 7)), np.ones((3, 7)))
    with NativeKernels() as kernels:
        training = trainer(kernels, model, W, dead_after=None, revive=True)
        for _ in range(5):
            training.step(np.zeros((3, 7)), FREE)
    assert dead == [0] * 5
    np.testing.assert_array_equal(training.snapshot()[0]["components"], W)


def test_no_atom_is_replaced_once_the_plan_says_so(rng):
    W = rng.standard_normal((4, 7))
    late = Plan(0.5, 2, 2, sphere=False, max_norm=inf, refine=True, revive=False)
    with NativeKernels() as kernels:
        model = Toy([0], np.zeros((4, 7)), np.ones((3, 7)))
        training = trainer(kernels, model, W, dead_after=1, revive=True)
        training.step(np.zeros((3, 7)), late)
    np.testing.assert_array_equal(training.snapshot()[0]["components"], W)


# -------------------------------------------------------------------- moments and threads
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_moments_of_parts_are_those_of_all_rows(rng, mean):
    X = rng.standard_normal((50, 6)) + mean
    whole = Moments.of([X])
    parts = Moments.merged([Moments.of([X[:11]]), Moments.of([X[11:20], X[20:]])])
    for found in (whole, parts):
        assert found.n_rows == 50
        np.testing.assert_allclose(found.mean, X.mean(axis=0), rtol=1e-13)
        energy = np.sum((X - X.mean(axis=0)) ** 2)
        assert found.energy == pytest.approx(energy, rel=1e-9)
        center = X.mean(axis=0) + 3
        around = np.sum((X - center) ** 2)
        assert found.energy_around(center) == pytest.approx(around, rel=1e-9)


@pytest.mark.parametrize("pools", [[7], [3, 4], [1, 5, 1]], ids=str)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_an_epoch_has_each_row_once(pools, batch_size):
    """In batches of even size, wherever the pools of the source begin and end."""
    rows = np.arange(7.0)[:, None]
    starts = np.cumsum([0, *pools[:-1]])
    source = SimpleNamespace(
        dtype=rows.dtype,
        n_features=1,
        n_rows=7,
        in_memory=True,
        pools=lambda random_state, skip: [
            (np.arange(start, start + n), lambda order: rows[order])
            for start, n in zip(starts, pools, strict=True)
        ],
    )
    batches = Batches(source, Frame(np.zeros(1), 1.0), [7], batch_size)
    found = list(batches.epoch(None, SimpleNamespace(asarray=np.array)))
    np.testing.assert_array_equal(np.concatenate(found), rows)
    sizes = [len(batch) for batch in found]
    assert len(sizes) == -(-7 // batch_size)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_team_shares_what_is_worth_it_evenly(monkeypatch, size):
    monkeypatch.setattr(team, "n_threads", lambda: size)
    with team.Team() as here:
        parts = []
        here.run(lambda start, stop: parts.append((start, stop)), 10, 1)
        assert parts == [(0, 10)]
        parts.clear()
        here.run(lambda start, stop: parts.append((start, stop)), 10, 1e9)
        share = -(-10 // size)
        assert sorted(parts) == [(i, min(i + share, 10)) for i in range(0, 10, share)]
        parts.clear()
        here.run(lambda start, stop: parts.append((start, stop)), 10, 1e9, chunk=4)
        assert sorted(parts) == [(0, 4), (4, 8), (8, 10)]
