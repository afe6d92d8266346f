"""Rules that hold at every door of a fitted estimator, whatever is asked of it."""

import copy
import tracemalloc
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from toys import with_learnt

import sklearn_mpsae
from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    MPSparseAutoencoderCV,
    ReLUSAE,
    TopKSAE,
    compare,
    explore,
    plotting,
)
from sklearn_mpsae.coding import (
    Codes,
    matching_pursuit,
    orthogonal_least_squares,
    orthogonal_matching_pursuit,
)
from sklearn_mpsae.coding.codes import stack_csr, stack_dense
from sklearn_mpsae.coding.kernels import open_kernels
from sklearn_mpsae.coding.kernels.budget import even_parts
from sklearn_mpsae.explorer._facts import Uses, related_by
from sklearn_mpsae.models.coder import ShallowCoder
from sklearn_mpsae.persistence import (
    export_saelens,
    import_saelens,
    load,
    save,
    to_onnx,
    to_torch_module,
)
from sklearn_mpsae.rows.array import ArrayRows
from sklearn_mpsae.sources import BatchStream

FAST = {"max_iter": 2, "random_state": 0}


def exported(sae, X, folder):
    torch = pytest.importorskip("torch")
    return to_torch_module(sae)(torch.from_numpy(X[:5]))[0].detach().numpy()


def in_onnx(sae, X, folder):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(to_onnx(sae, folder / "model.onnx"))
    return session.run(None, {"X": X})[0]


def in_saelens(sae, X, folder):
    pytest.importorskip("safetensors")
    return import_saelens(export_saelens(sae, folder / "saelens")).transform(X)


def explored(sae, X, folder):
    return np.array(len(explore(sae, X, folder / "page.html").read_bytes()) > 0)


# What a fitted estimator is asked for, as arrays that can be compared.
DOORS = {
    "transform": lambda sae, X, folder: sae.transform(X),
    "encode": lambda sae, X, folder: sae.encode(X).values,
    "transform_to": lambda sae, X, folder: sae.transform_to(X, folder / "codes").toarray(),
    "score": lambda sae, X, folder: np.array(sae.score(X)),
    "score_samples": lambda sae, X, folder: sae.score_samples(X),
    "reconstruction_path": lambda sae, X, folder: sae.reconstruction_path(X),
    "explore": explored,
    "ReconstructionPathDisplay": lambda sae, X, folder: (
        plotting.ReconstructionPathDisplay.from_estimator(sae, X).path
    ),
    "AtomUsageDisplay": lambda sae, X, folder: (
        plotting.AtomUsageDisplay.from_estimator(sae, X).usage
    ),
    "BabelDisplay": lambda sae, X, folder: (
        plotting.BabelDisplay.from_estimator(sae, X).coselected
    ),
    "ProgressiveReconstructionDisplay": lambda sae, X, folder: (
        plotting.ProgressiveReconstructionDisplay.from_estimator(
            sae, X[:2], image_shape=(2, 5)
        ).reconstructions
    ),
    "save": lambda sae, X, folder: load(save(sae, folder / "s.safetensors")).transform(X),
    "to_torch_module": exported,
    "to_onnx": in_onnx,
    "export_saelens": in_saelens,
}


@pytest.fixture(params=DOORS)
def door(request):
    if request.param.endswith("Display"):
        pytest.importorskip("matplotlib")
    if request.param == "save":
        pytest.importorskip("safetensors")
    yield DOORS[request.param]
    if request.param.endswith("Display"):
        from matplotlib import pyplot as plt

        plt.close("all")


# ------------------------------------------------------------------------ whole numbers
WHOLE = [3.0, np.int64(3), np.float64(3), np.float32(3)]


@pytest.mark.parametrize("k", WHOLE, ids=repr)
def test_a_whole_number_of_codes_is_that_number_at_every_door(k, door, small, tmp_path):
    (tmp_path / "a").mkdir()
    expected = MPSparseAutoencoder(12, n_nonzero_coefs=3, whitening=0, **FAST).fit(small)
    found = MPSparseAutoencoder(12, n_nonzero_coefs=k, whitening=0, **FAST).fit(small)
    answers = door(expected, small, tmp_path / "a"), door(found, small, tmp_path)
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("k", WHOLE, ids=repr)
def test_a_whole_number_of_codes_is_learnt_from_streams(k, small):
    first, second = (
        MPSparseAutoencoder(12, n_nonzero_coefs=each, random_state=0).partial_fit(small)
        for each in (3, k)
    )
    np.testing.assert_array_equal(first.transform(small), second.transform(small))
    path = first.reconstruction_path(small, 3)
    np.testing.assert_array_equal(path, second.reconstruction_path(small, k))


@pytest.mark.parametrize("ks", [np.linspace(1, 3, 3), np.array([1, 2, 3]), [1.0, 2.0]])
def test_grids_of_whole_numbers(ks, small):
    search = GridSearchCV(MPSparseAutoencoder(12, **FAST), {"n_nonzero_coefs": ks}, cv=2)
    scores = search.fit(small).cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("ks", [[1.0, 3.0], np.array([1.0, 3.0]), np.array([1, 3], np.int8)])
def test_candidates_may_be_whole_floats(ks, small):
    sae = MPSparseAutoencoderCV(12, n_nonzero_coefs=ks, cv=2, target_score=0.01, **FAST)
    assert sae.fit(small).candidates_.tolist() == [1, 3]
    up_to = MPSparseAutoencoderCV(12, n_nonzero_coefs=3.0, cv=2, target_score=0.01, **FAST)
    assert up_to.fit(small).candidates_.tolist() == [1, 2, 3]


def test_prefixes_and_levels_may_be_whole_floats(small):
    first, second = (
        MatryoshkaSAE(12, prefix_sizes=sizes, **FAST).fit(small)
        for sizes in ([4, 8], np.array([4.0, 8.0]))
    )
    np.testing.assert_array_equal(first.components_, second.components_)
    table = compare({"MP": MPSparseAutoencoder(12, **FAST)}, small, n_nonzero_coefs=[2.0])
    assert table.error[0] == ""
    assert table.n_nonzero_coefs.tolist() == [2]


AVERAGE = [BatchTopKSAE, JumpReLUSAE, MatryoshkaSAE, ReLUSAE]
COUNTS = ["n_components", "n_nonzero_coefs", "transform_n_nonzero_coefs", "max_iter"]
COUNTS += ["batch_size", "dead_after"]


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_no_count_is_refused(Estimator, name, small):
    values = [True, np.bool_(True), 0, -1, np.nan, "2"]
    if not (name == "n_nonzero_coefs" and Estimator in AVERAGE):
        values.append(2.5)
    for value in values:
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError, match=name):
                getattr(Estimator(**{name: value}), method)(small)


@pytest.mark.parametrize(
    "function", [matching_pursuit, orthogonal_matching_pursuit, orthogonal_least_squares]
)
def test_true_is_no_number_of_codes(function, small):
    with pytest.raises(ValueError, match="n_nonzero_coefs"):
        function(small, np.eye(10), True)
    with pytest.raises(ValueError, match="n_nonzero_coefs"):
        compare({"MP": MPSparseAutoencoder()}, small, n_nonzero_coefs=[True, 4])
    sae = MPSparseAutoencoder(12, **FAST).fit(small)
    with pytest.raises(ValueError, match="n_nonzero_coefs"):
        sae.reconstruction_path(small, True)


# ------------------------------------------------------------- parameters set after fit
SET_AFTER = [
    *({"transform_n_nonzero_coefs": value} for value in (0, -1, True, 2.5)),
    *({"tol": value} for value in (np.nan, 1.5)),
    {"transform_algorithm": "OMP"},
    {"positive_code": "yes"},
    {"sparsity": "both"},
    {"sparse_output": 2},
    {"n_nonzero_coefs": 0},
    {"n_nonzero_coefs": "2"},
    {"device": None},
]


@pytest.mark.parametrize("params", SET_AFTER, ids=str)
def test_what_is_set_after_fit_is_checked_at_every_door(params, door, small, tmp_path):
    sae = MPSparseAutoencoder(12, n_nonzero_coefs=2, **FAST).fit(small).set_params(**params)
    with pytest.raises(ValueError, match=next(iter(params))):
        door(sae, small, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_set_after_fit_is_checked_by_every_estimator(Estimator, small):
    fitted = Estimator(12, n_nonzero_coefs=2, **FAST).fit(small)
    for params in (p for p in SET_AFTER if set(p) <= set(fitted.get_params())):
        sae = copy.deepcopy(fitted).set_params(**params)
        for method in ("transform", "score", "partial_fit"):
            message = f"'{next(iter(params))}' parameter of {Estimator.__name__}"
            with pytest.raises(ValueError, match=message):
                getattr(sae, method)(small)
        np.testing.assert_array_equal(sae.components_, fitted.components_)
        with config_context(skip_parameter_validation=True):
            sae._check_fitted()


def test_codes_need_a_whole_number_where_rows_share_none(small):
    sae = MPSparseAutoencoder(12, n_nonzero_coefs=2.5, sparsity="average", **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sae.fit(small).set_params(sparsity="row")
    with pytest.raises(ValueError, match=r"2\.5 is not a whole number"):
        sae.transform(small)
    sae.set_params(n_nonzero_coefs=2)  # the threshold does not count any more
    assert sae.encode(small).indices.shape == (60, 2)


def test_a_threshold_is_learnt_by_fit_alone(door, small, tmp_path):
    sae = MPSparseAutoencoder(12, n_nonzero_coefs=2, whitening=0, **FAST).fit(small)
    sae.set_params(sparsity="average")
    if door is not DOORS["save"]:
        with pytest.raises(ValueError, match="fit again, or set sparsity='row'"):
            door(sae, small, tmp_path)
    sae.set_params(transform_n_nonzero_coefs=2)
    door(sae, small, tmp_path)


# ------------------------------------------------------------------------------- memory
@pytest.mark.parametrize("Estimator", AVERAGE)
@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_one_outlier_costs_one_row(Estimator, device, rng, tmp_path):
    """Its codes are as many as half of the atoms, those of other rows are few."""
    n, p = 6_000 if device == "cpu" else 1_000, 256
    X = rng.standard_normal((n, 8)).astype(np.float32)
    sae = Estimator(p, n_nonzero_coefs=2, sparse_output=True, device=device, **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sae.fit(X[:100])
    if hasattr(sae, "threshold_"):
        with_learnt(sae, threshold_=sae.threshold_ * 0 + np.float32(1.5))
    else:
        with_learnt(sae, encoder_intercept_=np.full(p, -1.5, np.float32))
    X[7] *= 1e4
    parts = list(sae._encoded(X))
    slots = [part.values.shape for part in parts]
    assert sum(rows for rows, _ in slots) == n
    assert max(width for _, width in slots) > 0.4 * p
    codes = sae.transform(X)
    # Two numbers for each code; as one array the parts would have a thousand times as many.
    assert sum(rows * width for rows, width in slots) < 2 * codes.nnz + len(parts) * 2**16
    np.testing.assert_array_equal(codes.toarray(), sae.encode(X).dense())
    np.testing.assert_array_equal(
        codes.toarray(), sae.transform_to(X, tmp_path / "c").toarray()
    )
    if device == "cpu":
        residual = X - sae.inverse_transform(codes)
        r2 = 1 - np.square(residual).sum() / np.square(X - X.mean(axis=0)).sum()
        assert sae.score(X) == pytest.approx(r2, abs=1e-4)
        tracemalloc.start()
        sae.set_params(sparse_output=True).transform(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * n * p  # a dense array; padded, they took ten


def test_one_row_of_many_codes_costs_one_row_in_explore():
    n, p = 30_000, 400
    rows = np.concatenate([np.repeat(np.arange(n), 2), np.full(p, n)])
    atoms = np.concatenate([np.tile([3, 5, 7, 8], n // 2), np.arange(p)])
    ones = np.ones(len(rows))
    uses, usage = Uses(rows, atoms, ones, ones, ones), np.bincount(atoms, minlength=p)
    tracemalloc.start()
    found = related_by(uses, usage, n + 1, 1, ordered=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found["after"].atoms[3], found["after"].rows[3]) == (5, n // 2 + 1)
    assert (found["before"].atoms[8], found["before"].rows[8]) == (7, n // 2 + 1)
    assert peak < 4 * n * p  # an array of n x p int64 takes twice that


def test_parts_are_at_most_half_empty_beyond_a_few(rng):
    counts = np.where(rng.random(20_000) < 1e-3, 3_000, rng.integers(0, 5, 20_000))
    parts = list(even_parts(counts))
    assert parts[0].start == 0
    assert parts[-1].stop == len(counts)
    assert all(a.stop == b.start for a, b in pairwise(parts))
    for rows in parts:
        n, widest = rows.stop - rows.start, counts[rows].max()
        assert n * widest <= 2 * counts[rows].sum() + 2**16
    assert len(list(even_parts(counts[:0]))) == 1
    assert list(even_parts(np.full(10**5, 7))) == [slice(0, 10**5)]


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_parts_of_rows_have_what_all_rows_have(device, rng):
    X = rng.standard_normal((3_000, 6))
    X[5] *= 1e3
    W, bias = rng.standard_normal((80, 6)), -5 + rng.random(80)
    with open_kernels(device, X.dtype) as kernels:
        arrays = [kernels.asarray(a) for a in (X, W, bias, np.full(80, 0.5))]
        whole, parts = kernels.above(*arrays), list(kernels.above_in_parts(*arrays))
        whole, *parts = (
            Codes(*map(kernels.to_numpy, codes), 80).csr() for codes in (whole, *parts)
        )
    assert len(parts) > 1
    np.testing.assert_allclose(sparse.vstack(parts).toarray(), whole.toarray(), atol=1e-12)


def test_parts_of_other_widths_are_put_together(rng):
    parts = [
        Codes(rng.integers(0, 9, (n, k)), rng.standard_normal((n, k)), 9)
        for n, k in ((3, 2), (1, 5), (2, 1))
    ]
    whole = Codes.stack(parts)
    assert whole.indices.shape == (6, 5)
    expected = np.concatenate([part.dense() for part in parts])
    for found in (whole.dense(), stack_dense(iter(parts)), stack_csr(iter(parts)).toarray()):
        np.testing.assert_allclose(found, expected, atol=1e-15)


# ----------------------------------------------------------------------------- warnings
def through(estimator):
    """An estimator in a pipeline, behind a step that does nothing."""
    return make_pipeline(FunctionTransformer(), estimator)


CALLS = {
    "fit": lambda sae, X: sae.fit(X),
    "fit_transform": lambda sae, X: sae.fit_transform(X),
    "partial_fit": lambda sae, X: sae.partial_fit(X),
    "pipeline": lambda sae, X: through(sae).fit(X),
    "pipeline.fit_transform": lambda sae, X: through(sae).fit_transform(X),
    "search": lambda sae, X: GridSearchCV(sae, {"batch_size": [60]}, cv=2).fit(X),
}


@pytest.mark.parametrize("call", CALLS)
def test_more_codes_than_atoms_warn_at_the_users_line(Estimator, call, small):
    sae = Estimator(4, n_nonzero_coefs=9, **FAST)
    with pytest.warns(UserWarning, match="n_nonzero_coefs=9 is more than the 4") as caught:
        CALLS[call](sae, small)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    "call",
    [
        lambda sae, X: sae.transform(X),
        lambda sae, X: sae.encode(X),
        lambda sae, X: sae.score(X),
        lambda sae, X: sae.score_samples(X),
        lambda sae, X: sae.reconstruction_path(X),
        lambda sae, X: through(sae).fit(X).transform(X),
        lambda sae, X: through(sae).fit_transform(X),
    ],
)
def test_more_codes_to_keep_than_atoms_warn_at_the_users_line(Estimator, call, small):
    sae = Estimator(4, n_nonzero_coefs=2, transform_n_nonzero_coefs=9, **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae.fit(small)
    expected = "transform_n_nonzero_coefs=9 is more than the 4 components"
    with pytest.warns(UserWarning, match=expected) as caught:
        call(sae, small)
    assert {warning.filename for warning in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = sae.transform(small)
    np.testing.assert_array_equal(
        kept, sae.set_params(transform_n_nonzero_coefs=4).transform(small)
    )


@pytest.mark.parametrize("call", ["fit", "fit_transform", "pipeline"])
@pytest.mark.parametrize(
    ("params", "category"),
    [
        ({"n_nonzero_coefs": [2, 9], "target_score": 0.01}, UserWarning),
        ({"n_nonzero_coefs": 2, "target_score": 0.999}, ConvergenceWarning),
    ],
)
def test_warnings_of_the_choice_are_at_the_users_line(call, params, category, small):
    with pytest.warns(category) as caught:
        CALLS[call](MPSparseAutoencoderCV(4, cv=2, **params, **FAST), small)
    assert {warning.filename for warning in caught} == {__file__}


def test_other_warnings_are_at_the_users_line(small, tmp_path, monkeypatch):
    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr("sklearn_mpsae.learning.checkpoint.write", full)
    with pytest.warns(RuntimeWarning, match="could not be written") as caught:
        MPSparseAutoencoder(4, checkpoint=tmp_path / "run.ckpt", **FAST).fit(small)
    assert {warning.filename for warning in caught} == {__file__}
    sae = MPSparseAutoencoder(12, **FAST).fit(small)
    with pytest.warns(UserWarning, match="n_nonzero_coefs=50 is more than the 12") as caught:
        path = sae.reconstruction_path(small, 50)
    assert caught[0].filename == __file__
    assert path.shape == (12,)


def test_there_is_one_way_to_warn():
    """So that no warning counts frames."""
    package = Path(sklearn_mpsae.__file__).parent
    found = [p.name for p in package.rglob("*.py") if "warnings.warn(" in p.read_text("utf-8")]
    assert found == ["_warn.py"]


# ------------------------------------------------------------------ what is no estimator
DISPLAYS = {
    "ReconstructionPathDisplay": {"X": None},
    "ProgressiveReconstructionDisplay": {"X": np.ones((2, 10)), "image_shape": (2, 5)},
    "AtomUsageDisplay": {},
    "AtomsDisplay": {"image_shape": (2, 5)},
    "AtomWeightsDisplay": {},
    "GramDisplay": {},
    "BabelDisplay": {},
}
# These code no rows, and so take the last step of a pipeline.
OF_DICTIONARIES = {"AtomsDisplay", "AtomWeightsDisplay", "GramDisplay", "BabelDisplay"}


@pytest.mark.parametrize("display", DISPLAYS)
def test_displays_say_what_to_pass(display, small):
    pytest.importorskip("matplotlib")
    sae = MPSparseAutoencoder(12, n_nonzero_coefs=2, **FAST)
    search = GridSearchCV(sae, {"n_nonzero_coefs": [2]}, cv=2)
    draw = getattr(plotting, display).from_estimator
    takes_rows = display not in OF_DICTIONARIES
    for wrapped in (through(sae), search) if takes_rows else (search,):
        with pytest.raises(TypeError, match=r"the step that is one.*best_estimator_"):
            draw(wrapped.fit(small), **DISPLAYS[display])


def test_displays_of_a_search_for_the_sparsity(small):
    pytest.importorskip("matplotlib")
    options = {"cv": 2, "target_score": 0.01, **FAST}
    chosen = {"CV": MPSparseAutoencoderCV(12, n_nonzero_coefs=[2, 3], **options).fit(small)}
    display = plotting.ReconstructionPathDisplay.from_estimator(chosen["CV"], small)
    assert (display.n_trained, display.line_.get_label()) == (2, "MPSparseAutoencoderCV (k=2)")
    other = MPSparseAutoencoderCV(12, n_nonzero_coefs=[3], **options).fit(small)
    frontier = plotting.SparsityFrontierDisplay.from_estimators(
        {"CV": [chosen["CV"], other]}, small
    )
    assert len(frontier.frontiers["CV"].x) == 2
    with pytest.raises(ValueError, match="'dict_init' of MPSparseAutoencoder is no single"):
        plotting.SparsityFrontierDisplay.from_estimators(
            {"MP": MPSparseAutoencoder(10, dict_init=np.eye(10), **FAST).fit(small)},
            small,
            at="dict_init",
        )
    with pytest.raises(TypeError, match="is an MPSparseAutoencoderCV, which chooses"):
        compare({"CV": MPSparseAutoencoderCV(12, **options)}, small, n_nonzero_coefs=[2])


# ------------------------------------------------------------------- searches and frames
def test_splitters_say_what_they_need(small):
    groups = np.arange(60) % 3
    options = {"n_nonzero_coefs": 2, "target_score": 0.01, **FAST}
    with pytest.raises(ValueError, match="If it needs classes, pass them as y"):
        MPSparseAutoencoderCV(12, cv=StratifiedKFold(2), **options).fit(small)
    with pytest.raises(ValueError, match=r"cv=list\(splitter"):
        MPSparseAutoencoderCV(12, cv=GroupKFold(2), **options).fit(small)
    MPSparseAutoencoderCV(12, cv=StratifiedKFold(2), **options).fit(small, groups)
    splits = list(GroupKFold(3).split(small, groups=groups))
    assert len(MPSparseAutoencoderCV(12, cv=splits, **options).fit(small).cv_scores_) == 3


def test_compare_under_frames_as_output(small):
    estimators = {"MP": MPSparseAutoencoder(12, **FAST)}
    options = {"y": np.arange(60) % 2, "n_nonzero_coefs": [2]}
    timed = ["fit_seconds", "transform_seconds", "fit_memory"]
    expected = compare(estimators, small, **options).drop(columns=timed)
    for kind in ("pandas", "polars"):
        pytest.importorskip(kind)
        with config_context(transform_output=kind):
            found = compare(estimators, small, **options).drop(columns=timed)
        assert (found.error == "").all()
        pd.testing.assert_frame_equal(found, expected)


def test_compare_takes_no_files_or_streams(small):
    with pytest.raises(ValueError, match="BatchStream is no array"):
        compare({"MP": MPSparseAutoencoder()}, small, X_test=BatchStream([small]))


def test_a_search_keeps_the_names_of_features(small):
    seen, frame = [], pd.DataFrame(small).add_prefix("x")

    def scoring(sae, rows):
        seen.append(sae.score(frame[:30]))
        return sae.score(rows)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        MPSparseAutoencoderCV(
            12, n_nonzero_coefs=[2, 3], scoring=scoring, target_score=0.01, cv=2, **FAST
        ).fit(frame)
    assert len(seen) == 4


# ------------------------------------------------------------------- codes without nesting
class ShrunkenCoder(ShallowCoder):
    nested = False

    def open(self, kernels, n_rows):
        encode = super().open(kernels, n_rows)
        return lambda X: [(indices, values / (1 + 1 / self.k)) for indices, values in encode(X)]


class Shrunken(TopKSAE):
    """Codes that depend on their number: those for fewer are not the first ones."""

    def _coder(self, k=None):
        return ShrunkenCoder(**vars(super()._coder(k)))


def test_a_path_is_that_of_the_codes_nested_or_not(Estimator, small):
    for cls in (Estimator, Shrunken):
        sae = cls(12, n_nonzero_coefs=3, **FAST)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            sae.fit(small)
        path = sae.reconstruction_path(small, 3)
        scores = [sae.set_params(transform_n_nonzero_coefs=k).score(small) for k in (1, 2, 3)]
        np.testing.assert_allclose(1 - path, scores)


def test_a_path_without_nesting_reads_the_variance_once(small, monkeypatch):
    sae = Shrunken(12, n_nonzero_coefs=3, **FAST).fit(small)
    passes, chunks = [], ArrayRows.chunks
    monkeypatch.setattr(ArrayRows, "chunks", lambda self: passes.append(1) or chunks(self))
    sae.reconstruction_path(small, 3)
    assert len(passes) == 1 + 3


SMALL_TYPES = {
    "batch_size": np.uint8(30),
    "max_iter": np.int8(100),
    "dead_after": np.int8(100),
    "n_components": np.uint8(200),
    "n_nonzero_coefs": np.int8(3),
    "learning_rate": np.float16(0.5),
    "tol": np.float16(0.25),
    "atol": np.float16(0.5),
}


@pytest.mark.parametrize("name", SMALL_TYPES)
def test_numbers_of_small_types_do_what_pythons_do(Estimator, name, small):
    if name not in Estimator().get_params():
        pytest.skip("has no such parameter")
    options = {"n_components": 12, "n_nonzero_coefs": 2, "max_iter": 2, "random_state": 0}
    rows, answers = np.tile(small, (5, 1)), []
    for value in (SMALL_TYPES[name], SMALL_TYPES[name].item()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            sae = Estimator(**options | {name: value}).fit(rows).partial_fit(rows)
        answers.append(sae.transform(rows))
    np.testing.assert_array_equal(*answers)


def test_candidates_beyond_all_atoms_are_all_of_them(small):
    sae = MPSparseAutoencoderCV(6, n_nonzero_coefs=1e300, cv=2, target_score=0.1, **FAST)
    with pytest.warns(UserWarning, match="is more than the 6 components"):
        assert sae.fit(small).candidates_.tolist() == [1, 2, 3, 4, 5, 6]
