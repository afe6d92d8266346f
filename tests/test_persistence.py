"""Saved estimators: all of them comes back."""

import inspect
import shutil
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import skops.io
from checkpoints import assert_same_fit
from conftest import ESTIMATORS, SEARCHING
from saved_models import files_of, fitted, path_of_model  # noqa: F401 - fixtures
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from test_citizenship import run_python
from toys import with_learnt

from sklearn_mpsae import (
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    MPSparseAutoencoderCV,
    TopKSAE,
)
from sklearn_mpsae.persistence import _names, load, load_from_hub, push_to_hub, save

# What a search over few codes comes to is of no matter here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:No number of codes reaches:sklearn.exceptions.ConvergenceWarning"
)


EVERY = pytest.mark.parametrize(
    "Estimator", ESTIMATORS + SEARCHING, ids=lambda Estimator: Estimator.__name__
)


def test_every_estimator_has_a_line_in_the_table():
    assert set(_names.NAMES) == {cls.__name__ for cls in ESTIMATORS + SEARCHING}


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_of_an_estimator_comes_back(Estimator, dtype, small, path):
    est = fitted(Estimator, small.astype(dtype))
    assert save(est, path) == path
    back = load(path)
    assert type(back) is Estimator
    assert_same_fit(back, est)
    np.testing.assert_array_equal(back.transform(small), est.transform(small))
    assert back.score(small) == est.score(small)


def test_a_stream_goes_on_bit_for_bit(Estimator, small, path):
    est = Estimator(16, n_nonzero_coefs=3, batch_size=20, dead_after=1)
    est.set_params(random_state=np.random.RandomState(3)).partial_fit(small[:40])
    save(est, path)
    back = load(path)
    for chunk in (small, small[::-1]):
        assert_same_fit(back.partial_fit(chunk), est.partial_fit(chunk))


def test_a_warm_start_goes_on_bit_for_bit(small, path):
    est = fitted(JumpReLUSAE, small, warm_start=True)
    save(est, path)
    assert_same_fit(load(path).fit(small), est.fit(small))


def test_names_of_features_and_the_kind_of_output_are_kept(small, path):
    X = pd.DataFrame(small, columns=[f"wavelength {i} µm" for i in range(10)])
    est = fitted(TopKSAE, X).set_output(transform="pandas")
    save(est, path)
    back = load(path)
    pd.testing.assert_frame_equal(back.transform(X), est.transform(X))
    assert list(back.feature_names_in_) == list(X.columns)


PARAMETERS = {
    "array": {"dict_init": np.eye(16, 10) + 1},
    "big-endian": {"dict_init": (np.eye(16, 10) + 1).astype(">f4")},
    "lists": {"dict_init": (np.eye(16, 10) + 1).tolist()},
    "number of atoms": {"n_components": None, "dict_init": np.eye(13, 10) + 1},
    "generator": {"random_state": np.random.RandomState(7)},
    "NumPy numbers": {"n_nonzero_coefs": np.int64(2), "learning_rate": np.float32(0.1)},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_that_are_no_plain_values_are_kept(name, small, path):
    est = fitted(MPSparseAutoencoder, small, **PARAMETERS[name])
    save(est, path)
    assert_same_fit(load(path).fit(small), est.fit(small))


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("transform_algorithm", np.str_("omp"), "omp"),
        ("device", np.str_("cpu"), "cpu"),
        ("positive_code", np.False_, False),
        ("batch_size", np.int16(30), 30),
        ("learning_rate", np.float64(0.2), 0.2),
        ("learning_rate", np.float32(0.2), np.float32(0.2)),
    ],
)
def test_what_a_grid_over_an_array_gives_is_kept(name, value, kept, small, path):
    est = fitted(MPSparseAutoencoder, small, **{name: value})
    save(est, path)
    back = load(path)
    assert getattr(back, name) == kept
    np.testing.assert_array_equal(back.transform(small), est.transform(small))


NO_PARAMETERS = [
    *(
        0,
        -1,
        1e9,
        2**80,
        np.nan,
        np.inf,
        1j,
        Fraction(1, 2),
        "x",
        "\ud800",
        b"x",
        np.bytes_(b"x"),
    ),
    *(np.float16(0.5), np.longdouble(1), np.datetime64("2020"), np.array([None]), object()),
    *([np.nan], [[1]], {}, {"tensor": True}, {"random_state": 1}, np.full((16, 10), np.nan)),
]


@pytest.mark.parametrize("cls", [MPSparseAutoencoder, JumpReLUSAE])
def test_a_parameter_that_is_refused_is_named(cls, small, tmp_path):
    """And what is not refused can be loaded."""
    est, refusals = fitted(cls, small), []
    for name, right in est.get_params().items():
        for value in NO_PARAMETERS:
            try:
                save(est.set_params(**{name: value}), tmp_path / "model.safetensors")
                load(tmp_path / "model.safetensors")
            except ValueError as error:
                refusals.append((name, str(error)))
        est.set_params(**{name: right})
    assert len(refusals) > 200
    for name, said in refusals:
        reasons = f"{name} is or holds", f"'{name}' parameter", "cannot be saved"
        assert any(reason in said for reason in reasons)
        assert name in said
        assert ".." not in said


def test_lists_are_kept(small, path):
    save(fitted(MatryoshkaSAE, small, prefix_sizes=[2, 8]), path)
    assert load(path).prefix_sizes == [2, 8]


def test_a_checkpoint_is_a_file_of_this_machine_and_stays_here(small, tmp_path, path):
    est = fitted(TopKSAE, small, checkpoint=tmp_path / "fit.ckpt")
    save(est, path)
    assert load(path).checkpoint is None


def test_neither_saving_nor_loading_imports_torch(small, tmp_path):
    folder, file = tmp_path / "model", tmp_path / "model.safetensors"
    save(fitted(TopKSAE, small), folder)
    run_python(
        "import sys\n"
        "from sklearn_mpsae.persistence import import_saelens, load, load_from_hub, save\n"
        "heavy = {'torch', 'safetensors', 'huggingface_hub', 'onnx'}\n"
        "assert not heavy & set(sys.modules)\n"
        f"est = load(save(load({str(folder)!r}), {str(file)!r}))\n"
        "est.set_params(device='cpu').transform([[0.0] * 10])\n"
        "assert heavy & set(sys.modules) == {'safetensors'}\n"
    )


@EVERY
def test_skops_trusts_our_names_alone(Estimator, small):
    est = fitted(Estimator, small)
    file = skops.io.dumps(est)
    names = skops.io.get_untrusted_types(data=file)
    assert all(name.startswith("sklearn_mpsae.") for name in names)
    assert_same_fit(skops.io.loads(file, trusted=names), est)


# ---------------------------------------------------------------- what is not written
class Derived(TopKSAE):
    pass


class _Named:
    """Not an estimator of ours, under the name of one."""


_Named.__name__ = "TopKSAE"


def spoilt(est, **attributes):
    vars(est).update(attributes)
    return est


UNSAVEABLE = {
    "unfitted": (lambda X: TopKSAE(), NotFittedError, "not fitted"),
    "derived": (
        lambda X: fitted(Derived, X),
        ValueError,
        "Derived is none of the estimators that can be saved",
    ),
    "scoring": (
        lambda X: fitted(MPSparseAutoencoderCV, X, scoring=lambda est, X: est.score(X), cv=2),
        ValueError,
        "scoring is or holds a function, which cannot be saved",
    ),
    "list of arrays": (
        lambda X: spoilt(fitted(TopKSAE, X), dict_init=list(np.eye(16, 10))),
        ValueError,
        "dict_init is or holds a ndarray",
    ),
    "namesake": (lambda X: _Named(), ValueError, "TopKSAE is none of the estimators"),
    "pipeline": (lambda X: make_pipeline(TopKSAE()), ValueError, "the last step of a pipeline"),
    "attribute": (
        lambda X: spoilt(fitted(TopKSAE, X), mine=1),
        ValueError,
        "no place for: mine",
    ),
    "object": (
        lambda X: spoilt(fitted(TopKSAE, X), dict_init=pd.DataFrame(X)),
        ValueError,
        r"dict_init is or holds a DataFrame, which cannot be saved.*Set dict_init to",
    ),
    "n_components": (
        lambda X: fitted(TopKSAE, X).set_params(n_components=8),
        ValueError,
        r"components_ has shape \[16, 10\].*Set back parameters",
    ),
    "parameter": (
        lambda X: fitted(TopKSAE, X).set_params(batch_size=-1),
        ValueError,
        "'batch_size' parameter",
    ),
    "NaN": (
        lambda X: with_learnt(fitted(TopKSAE, X), components_=np.full((16, 10), np.nan)),
        ValueError,
        "components_ holds values that are not finite",
    ),
    "dtype": (
        lambda X: with_learnt(fitted(TopKSAE, X), intercept_=np.zeros(10, np.float16)),
        ValueError,
        "intercept_ has dtype float16",
    ),
}


@pytest.mark.parametrize("name", UNSAVEABLE)
def test_what_could_not_be_loaded_is_not_written(name, small, path):
    make, error, match = UNSAVEABLE[name]
    with pytest.raises(error, match=match):
        save(make(small), path)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_exists_is_refused_and_a_file_replaced(small, tmp_path):
    est = fitted(TopKSAE, small)
    save(est, tmp_path / "model")
    with pytest.raises(FileExistsError, match="name a new folder"):
        save(est, tmp_path / "model")
    save(est, tmp_path / "model.safetensors")
    save(est.set_params(verbose=1), tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").verbose == 1


def test_a_full_disk_leaves_what_there_was(small, path, monkeypatch):
    est = fitted(TopKSAE, small)
    if path.suffix:
        save(est, path)
    before = sorted(path.parent.iterdir())

    def full(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(est, path)
    assert sorted(path.parent.iterdir()) == before
    if path.suffix:
        assert_same_fit(load(path), est)


def test_a_folder_to_write_to_that_is_missing_is_named(small, path):
    with pytest.raises(OSError, match="nowhere"):
        save(fitted(TopKSAE, small), path.parent / "nowhere" / path.name)


def test_files_may_be_read_by_those_who_may_read_others(small, path):
    save(fitted(TopKSAE, small), path)
    other = path.parent / "other"
    other.touch()
    assert {file.stat().st_mode for file in files_of(path)} == {other.stat().st_mode}


@pytest.mark.parametrize(
    "verb", [lambda est, path: save(est, path), lambda est, path: load(path)]
)
def test_a_missing_package_is_named(verb, small, path, monkeypatch):
    est = fitted(TopKSAE, small)
    save(est, path)
    shutil.rmtree(path, ignore_errors=True)
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn_mpsae\[share\]'"):
        verb(est, path)


# -------------------------------------------------------------------------- the hub
@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in the hub's place; what it was asked for is kept."""
    repo = tmp_path / "repo"
    calls = []

    class HfApi:
        def __init__(self, token=None):
            calls.append(("token", token))

        def create_repo(self, repo_id, *, private, exist_ok):
            assert exist_ok
            calls.append(("create", repo_id, private))
            repo.mkdir(exist_ok=True)

        def upload_folder(
            self, *, repo_id, folder_path, allow_patterns, revision, commit_message
        ):
            calls.append(("upload", repo_id, revision, commit_message))
            for name in allow_patterns:
                shutil.copy(Path(folder_path) / name, repo)
            return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    def snapshot_download(repo_id, *, revision, token, allow_patterns):
        calls.append(("download", repo_id, revision, token))
        cache = tmp_path / "cache"
        cache.mkdir()
        for file in repo.iterdir():
            if file.name in allow_patterns:
                (cache / file.name).symlink_to(file)
        return str(cache)

    monkeypatch.watch(huggingface_hub, "HfApi", HfApi)
    monkeypatch.watch(huggingface_hub, "snapshot_download", snapshot_download)
    return SimpleNamespace(repo=repo, calls=calls, cache=tmp_path / "cache")


def test_the_hub_gets_two_files_and_gives_them_back(small, hub):
    est = fitted(TopKSAE, small)
    url = push_to_hub(est, "me/model", private=True, revision="next", token="t")
    assert url == "https://huggingface.co/me/model/commit/1"
    assert sorted(file.name for file in hub.repo.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    (hub.repo / "model.pkl").write_bytes(b"not asked for")
    assert_same_fit(load_from_hub("me/model", revision="v1"), est)
    assert len(list(hub.cache.iterdir())) == 2
    assert hub.calls == [
        ("token", "t"),
        ("create", "me/model", True),
        ("upload", "me/model", "next", "Save with sklearn_mpsae"),
        ("download", "me/model", "v1", None),
    ]


def test_nothing_is_uploaded_that_cannot_be_saved(hub):
    with pytest.raises(NotFittedError):
        push_to_hub(TopKSAE(), "me/model")
    assert hub.calls == []


def test_the_real_hub_takes_these_arguments():
    """The fake above has the names of the real signatures."""
    api = huggingface_hub.HfApi
    for method, names in {
        api.create_repo: {"private", "exist_ok"},
        api.upload_folder: {"folder_path", "allow_patterns", "revision", "commit_message"},
        huggingface_hub.snapshot_download: {"revision", "token", "allow_patterns"},
    }.items():
        assert names <= set(inspect.signature(method).parameters)
