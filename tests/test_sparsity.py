"""Rows have as many codes as were asked for, at any time of a training, or it says so."""

import copy
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from epochs import AfterEpochs
from sklearn.exceptions import ConvergenceWarning

from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
)
from sklearn_mpsae.callbacks import EarlyStopping, LogMetrics
from sklearn_mpsae.datasets import make_superposition
from sklearn_mpsae.metrics import firing_scores, match_atoms
from sklearn_mpsae.persistence import load, save

RNG = np.random.default_rng(0)

AVERAGE = [
    BatchTopKSAE(),
    MatryoshkaSAE(),
    JumpReLUSAE(),
    ReLUSAE(),
    MPSparseAutoencoder(sparsity="average"),
]
with_callbacks = pytest.mark.skipif(
    find_spec("sklearn.callback") is None, reason="callbacks came with scikit-learn 1.9"
)
average = pytest.mark.parametrize("sae", AVERAGE, ids=lambda sae: type(sae).__name__)


def l0(sae, X):
    return (sae.transform(X) != 0).sum(axis=1).mean()


def new(sae, **params):
    options = {"n_components": 64, "n_nonzero_coefs": 4, "random_state": 0}
    return copy.deepcopy(sae).set_params(**options | params)


@with_callbacks
@average
def test_each_epoch_ends_with_the_codes_that_were_asked_for(sae, digits):
    """Also while the training steps explore with three times as many."""
    epochs = AfterEpochs(lambda est: l0(est, digits))
    new(sae, max_iter=40).set_callbacks(epochs).fit(digits)
    np.testing.assert_allclose(epochs.seen[1:], 4, rtol=0.2)
    np.testing.assert_allclose(epochs.seen[-10:], 4, rtol=0.1)


@average
@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_a_short_fit_has_the_codes_that_were_asked_for(sae, max_iter, digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sae = new(sae, max_iter=max_iter).fit(digits)
    assert l0(sae, digits) == pytest.approx(4, rel=0.1)


@with_callbacks
@average
def test_a_stopped_fit_has_the_codes_that_were_asked_for(sae, digits):
    train, held_out = digits[:1500], digits[1500:]
    stopping = EarlyStopping(held_out, scoring=lambda est, X: -est.n_iter_, patience=3)
    sae = new(sae, max_iter=50).set_callbacks(stopping)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        sae.fit(train)
    assert len(stopping.scores_) < 10
    assert l0(sae, train) == pytest.approx(4, rel=0.1)


@with_callbacks
def test_epochs_of_another_sparsity_are_not_compared(digits, monkeypatch):
    """Neither taken for the best, nor counted by the patience."""
    epochs = []

    def wrong_at_first(l0_at, level, asked):
        epochs.append(level)
        return level, 9.0 if len(epochs) <= 3 else 4.0

    monkeypatch.setattr("sklearn_mpsae.learning.trainer.tuned", wrong_at_first)
    stopping = EarlyStopping(digits[:50], scoring=lambda est, X: -est.n_iter_, patience=2)
    sae = new(BatchTopKSAE(), max_iter=20, batch_size=200).set_callbacks(stopping)
    sae.fit(digits[:400])
    assert (sae.n_iter_, len(stopping.scores_)) == (4, 6)


@with_callbacks
def test_the_score_that_is_logged_is_of_the_codes_that_were_asked_for(digits):
    seen = []
    log = LogMetrics(lambda epoch, numbers: seen.append(numbers), X_val=digits)
    new(BatchTopKSAE(), max_iter=5).set_callbacks(log).fit(digits)
    with_twelve = new(TopKSAE(), n_nonzero_coefs=12, max_iter=5).fit(digits).score(digits)
    assert seen[0]["l0"] > 8
    assert all(numbers["r2"] < with_twelve - 0.03 for numbers in seen)


@average
def test_a_stream_has_the_codes_that_were_asked_for_from_its_first_call_on(sae, digits):
    sae = new(sae)
    for n in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sae.partial_fit(digits[600 * n : 600 * n + 600])
        assert l0(sae, digits) == pytest.approx(4, rel=0.15)


@average
def test_a_stream_that_follows_a_fit_explores_no_more(sae, digits):
    sae = new(sae, max_iter=50).fit(digits)
    for _ in range(3):
        sae.partial_fit(digits)
    assert l0(sae, digits) == pytest.approx(4, rel=0.2)
    assert (sae.partial_fit(digits[:50]).atom_usage_ - sae.atom_usage_).sum() < 6 * 50


@average
def test_a_stream_row_by_row_has_about_the_codes_that_were_asked_for(sae, digits):
    rows = np.random.default_rng(0).permutation(digits)[:400]
    sae = new(sae)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in rows:
            sae.partial_fit(row[None])
    assert l0(sae, rows) == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
@average
def test_other_codes_than_asked_for_are_told(sae, verb, digits, monkeypatch):
    model = type(sae._model())
    monkeypatch.setattr(model, "count", lambda self, kernels, parameters, X, *_: 5 * len(X))
    with pytest.warns(
        ConvergenceWarning, match="Rows have 5 codes on average, not the"
    ) as seen:
        getattr(new(sae, max_iter=1), verb)(digits)
    assert seen[0].filename == __file__


@average
def test_chunks_that_are_too_small_to_tell_are_told_by_the_last_steps(sae, digits, monkeypatch):
    def off_by_a_lot(step, n_codes, n_rows):
        step.numbers["l0"] = 5.0

    in_steering = isinstance(sae, MPSparseAutoencoder | JumpReLUSAE)
    module = "steering" if in_steering else "shallow"
    monkeypatch.setattr(f"sklearn_mpsae.models.{module}.count", off_by_a_lot)
    with pytest.warns(ConvergenceWarning, match="Rows have 5 codes on average, not the"):
        new(sae).partial_fit(digits[:100])


HARD = {
    "mostly zero rows": np.r_[np.zeros((100, 6)), RNG.standard_normal((20, 6))],
    "categories": np.eye(12)[np.minimum(RNG.geometric(0.3, 200), 12) - 1],
    "rank one": np.outer(RNG.standard_normal(100), np.arange(6.0)),
    "repeated rows": np.repeat(RNG.standard_normal((6, 8)), 20, axis=0),
    "few rows": RNG.standard_normal((20, 8)),
    "heavy tails": RNG.standard_t(1.5, (200, 6)),
}


@pytest.mark.parametrize("data", HARD)
@pytest.mark.parametrize("options", [{}, {"learning_rate": 3.0}, {"batch_size": 20}], ids=str)
@pytest.mark.parametrize(
    "sae",
    [
        *AVERAGE,
        MPSparseAutoencoder(sparsity="average", transform_algorithm="omp"),
        MPSparseAutoencoder(sparsity="average", positive_code=False, tol=0.01),
    ],
    ids=str,
)
def test_hard_rows_have_the_codes_that_were_asked_for_or_it_says_so(sae, options, data):
    X = HARD[data]
    sae = new(sae, n_components=24, n_nonzero_coefs=2, max_iter=5).set_params(**options)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sae.fit(X)
    is_off = abs(l0(sae, X) - 2) > 0.2 + 1e-9
    assert is_off == any("codes on average" in str(each.message) for each in told)


@pytest.mark.parametrize("sae", [*AVERAGE, TopKSAE()], ids=lambda sae: type(sae).__name__)
def test_a_training_that_leaves_no_codes_says_so(sae, digits):
    atoms = np.zeros((64, 64))
    atoms[:, 0] = 1.0  # the corner pixel is blank in all rows
    with pytest.warns(ConvergenceWarning, match="no row uses 100% of the atoms"):
        new(sae, max_iter=1, dict_init=atoms, dead_atoms="keep").fit(digits)


# -------------------------------------------------------------------------- other rows
DOORS = {
    "transform": lambda sae, X, folder: sae.transform(X),
    "encode": lambda sae, X, folder: sae.encode(X),
    "transform_to": lambda sae, X, folder: sae.transform_to(X, folder / "codes"),
    "score": lambda sae, X, folder: sae.score(X),
    "score_samples": lambda sae, X, folder: sae.score_samples(X),
    "path": lambda sae, X, folder: sae.reconstruction_path(X),
}


@pytest.mark.parametrize("door", DOORS)
@average
def test_rows_that_have_other_codes_on_average_are_told(sae, door, digits, tmp_path):
    sae = new(sae, max_iter=5).fit(digits)
    faint = sae.intercept_ + (digits - sae.intercept_) / 2
    with pytest.warns(UserWarning, match="These rows have .* not n_nonzero_coefs=4") as seen:
        DOORS[door](sae, faint, tmp_path)
    assert seen[0].filename == __file__


@average
def test_rows_like_those_of_the_fit_are_not_told_of(sae, digits):
    """Nor are too few rows to tell, nor other numbers of codes than the one learnt."""
    sae = new(sae, max_iter=5).fit(digits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sae.transform(digits)
        for row in digits[:20]:
            sae.transform(row[None])
        sae.set_params(transform_n_nonzero_coefs=2).transform(digits)


@with_callbacks
def test_callbacks_are_not_told_at_each_epoch(digits):
    sae = new(BatchTopKSAE(), max_iter=3)
    numbers = LogMetrics(lambda *_: None, X_val=digits[:300] / 2)
    sae.set_callbacks(EarlyStopping(digits[:300] / 2), numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sae.fit(digits)


# ---------------------------------------------------------- the threshold of a pursuit
@pytest.mark.parametrize("algorithm", ["mp", "omp", "ols"])
def test_a_pursuit_compares_correlations_with_its_threshold(algorithm, digits):
    """As the docstring of `threshold_` says: not the codes that a refit leaves."""
    options = {"sparsity": "average", "transform_algorithm": algorithm, "max_iter": 10}
    sae = MPSparseAutoencoder(96, n_nonzero_coefs=6, random_state=0, **options).fit(digits)
    rows = digits[:300]
    codes = sae.transform(rows)
    V = sae.components_ @ sae.metric_
    norms = np.linalg.norm(V, axis=1)
    sizes = (codes * norms)[codes != 0]
    assert (sizes.min() > sae.threshold_) == (algorithm == "mp")
    if algorithm != "ols":
        left = (rows - sae.inverse_transform(codes)) @ sae.metric_ @ (V / norms[:, None]).T
        ended = (codes != 0).sum(axis=1) < 24
        assert ended.mean() > 0.9
        assert left[ended].max() <= sae.threshold_ + 1e-9


# ---------------------------------------------------------------------- repeated rows
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cls", [BatchTopKSAE, MatryoshkaSAE])
def test_repeated_rows_keep_their_codes(cls, seed):
    X = np.eye(10)[np.random.default_rng(seed).integers(0, 10, 500)]
    sae = cls(16, n_nonzero_coefs=1, intercept="mean", max_iter=60, random_state=0).fit(X)
    outputs = (X - sae.intercept_) @ sae.encoder_components_.T + sae.encoder_intercept_
    assert abs(outputs - sae.threshold_).min() > 1e-4
    if cls is BatchTopKSAE:
        assert (sae.transform(X) > 0).any(axis=1).all()


# ------------------------------------------------------------------------- ReLU's penalty
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [1e-5, 3e-3, 1.0])
def test_relu_learns_at_any_rate_and_keeps_nothing_that_is_not_finite(rate, dtype, digits):
    X = digits.astype(dtype)
    sae = new(ReLUSAE(), learning_rate=rate, max_iter=60).fit(X)
    state = sae._training.state
    arrays = [sae.components_, sae.encoder_components_, sae.encoder_intercept_]
    arrays += [a for pair in state.moments.values() for a in pair]
    assert all(np.isfinite(a).all() for a in [*arrays, list(state.numbers.values())])
    assert l0(sae, X) == pytest.approx(4, rel=0.1)
    assert sae.score(X) > 0.1
    assert 0 < sae.penalty_ < 40


def test_a_slower_rate_learns_less(digits):
    scores = [
        new(ReLUSAE(), learning_rate=rate, max_iter=50).fit(digits).score(digits)
        for rate in (1e-3, 1e-2, 0.1, 0.3)
    ]
    assert (np.diff(scores) > 0).all()


def test_what_is_not_finite_is_never_kept(Estimator, digits, monkeypatch):
    from sklearn_mpsae.coding.kernels.native import NativeKernels

    right = NativeKernels.adam_step

    def diverging(self, W, gradient, mean, square, *args, **options):
        right(self, W, gradient, mean, square, *args, **options)
        square[0] = np.inf

    sae = Estimator(16, max_iter=1, random_state=0).fit(digits)
    before = copy.deepcopy(vars(sae))
    monkeypatch.setattr(NativeKernels, "adam_step", diverging)
    for verb in ("fit", "partial_fit"):
        with pytest.raises(FloatingPointError, match="Lower learning_rate"):
            getattr(sae, verb)(digits)
    assert vars(sae).keys() == before.keys()
    np.testing.assert_array_equal(sae.components_, before["components_"])


# ------------------------------------------------------------------- the scale of streams
@pytest.mark.parametrize("scale", [1.0, 2.0**-20])
@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_a_first_chunk_without_variance_settles_no_scale(
    Estimator, scale, first, offset, digits
):
    """What follows it is learnt as if it had come first."""
    X = (digits[:400] + offset) * scale
    begun = Estimator(32, n_nonzero_coefs=4, random_state=0)
    with pytest.warns(ConvergenceWarning, match=f"The {first} rows so far do not vary"):
        begun.partial_fit(np.repeat(X[:1], first, axis=0))
    assert begun.n_samples_seen_ == first
    right = Estimator(32, n_nonzero_coefs=4, random_state=0)
    for _ in range(4):
        begun.partial_fit(X)
        right.partial_fit(X)
    assert begun.score(X) == pytest.approx(right.score(X), abs=0.03)
    assert begun._training.frame.scale == pytest.approx(right._training.frame.scale, rel=0.05)


def test_rows_that_differ_by_rounding_do_not_vary(Estimator):
    row = np.float32([0.1, 0.7, 1e3])
    sae = Estimator(4, random_state=0)
    for _ in range(5):
        with pytest.warns(ConvergenceWarning, match="do not vary"):
            sae.partial_fit(row[None])
    assert sae.n_steps_ == 0


@pytest.mark.parametrize("offset", [1e4, 5e6, 1e7])
def test_a_stream_far_from_zero_learns(Estimator, offset):
    """As a fit does, whatever float32 keeps of it."""
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((200, 2)) @ rng.standard_normal((2, 8)) + offset).astype("f4")
    sae = Estimator(8, n_nonzero_coefs=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sae.partial_fit(X)
    assert sae.n_steps_ == 1


def test_the_mean_of_many_chunks_keeps_its_digits(tmp_path):
    """In float32 each chunk would round it anew; files keep it too."""
    X = (np.random.default_rng(0).standard_normal((300, 3)) + 1e6).astype("f4")
    sae = TopKSAE(4, n_nonzero_coefs=1, intercept="mean", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for row in X[:200]:
            sae.partial_fit(row[None])
        save(sae, tmp_path / "model.safetensors")
        again = load(tmp_path / "model.safetensors")
        for est in (sae, again):
            for row in X[200:]:
                est.partial_fit(row[None])
    np.testing.assert_allclose(
        sae._training.frame.center, X.mean(axis=0, dtype=float), rtol=1e-13
    )
    np.testing.assert_array_equal(sae.intercept_, sae._training.frame.center.astype("f4"))
    np.testing.assert_array_equal(sae.components_, again.components_)


def test_a_stream_row_by_row_learns_the_scale(Estimator, digits):
    rows = np.random.default_rng(0).permutation(digits)[:100]
    sae = Estimator(8, n_nonzero_coefs=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for row in rows:
            sae.partial_fit(row[None])
    expected = np.sqrt(((digits - digits.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert sae._training.frame.scale == pytest.approx(expected, rel=0.1)
    later = copy.deepcopy(sae).partial_fit(np.tile(digits[:600], (2, 1)))
    assert later._training.frame.scale == later.partial_fit(digits * 100)._training.frame.scale


@average
def test_a_warm_start_begins_with_the_codes_that_were_asked_for(sae, digits):
    sae = new(sae, max_iter=30, warm_start=True).fit(digits)
    sae.set_params(max_iter=1, learning_rate=1e-9).fit(digits)
    assert l0(sae, digits) == pytest.approx(4, rel=0.1)


def test_atoms_used_before_a_small_chunk_are_not_dead(Estimator, digits):
    sae = Estimator(32, n_nonzero_coefs=4, max_iter=30, random_state=0).fit(digits)
    before = sae.atom_usage_
    after = sae.partial_fit(digits[:10]).atom_usage_
    assert (after >= before).all()
    assert 0 < (after - before).sum() < 10 * 32


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_threshold_that_overflows_is_refused():
    X = RNG.standard_normal((60, 8))
    sae = JumpReLUSAE(16, n_nonzero_coefs=2, max_iter=2, learning_rate=1e20, random_state=0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        sae.fit(X)
    assert not hasattr(sae, "threshold_")


def test_revived_latents_of_relu_do_not_take_over(digits):
    """With a bias of zero they were above it for half of the rows, and R2 ended near 0."""
    sae = ReLUSAE(256, n_nonzero_coefs=2, dead_atoms="revive", max_iter=150, random_state=0)
    assert sae.fit(digits).score(digits) > 0.3


@pytest.mark.slow
def test_revived_latents_of_a_choosing_encoder_are_chosen():
    """With a bias at the living ones' mean the firing of features was found worse: 0.26."""
    rows = make_superposition(40_000, 64, 512, dtype=np.float32, random_state=0)
    options = {"max_iter": 10, "learning_rate": 1.0, "intercept": "zero", "random_state": 0}
    sae = BatchTopKSAE(512, n_nonzero_coefs=8, dead_atoms="revive", **options).fit(rows.data)
    matching = match_atoms(sae.components_, rows.dictionary)
    f1 = firing_scores(sae.encode(rows.data), rows.codes, matching).macro.f1
    assert f1 > 0.33
