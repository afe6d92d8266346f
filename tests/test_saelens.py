"""SAELens's folders. The real package is asked in test_the_real_package_codes_the_same."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError

import sklearn_mpsae
from sklearn_mpsae import BatchTopKSAE, MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.persistence import export_saelens, import_saelens, load, save

ROOT = Path(__file__).parents[1]
FAST = {"n_nonzero_coefs": 4, "max_iter": 5, "batch_size": 20, "random_state": 0}

EXPORTED = {
    "MP": MPSparseAutoencoder(24, **FAST),
    "MP, not centred": MPSparseAutoencoder(24, center=False, **FAST),
    "MP, other k": MPSparseAutoencoder(24, transform_n_nonzero_coefs=9, **FAST),
    "MP, average": MPSparseAutoencoder(
        24, sparsity="average", transform_n_nonzero_coefs=3, **FAST
    ),
    "TopK": TopKSAE(24, **FAST),
    "TopK, signed": TopKSAE(24, positive_code=False, **FAST),
    "BatchTopK": BatchTopKSAE(24, transform_n_nonzero_coefs=3, **FAST),
}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "saelens"


# Written from their definitions, to be read beside the module's docstring.
def their_codes(folder, X):
    """What SAELens makes of a folder, by one-line definitions."""
    cfg = json.loads((folder / "cfg.json").read_text())
    w = load_file(folder / "sae_weights.safetensors")
    centred = X - w["b_dec"] * cfg["apply_b_dec_to_input"]
    if cfg["architecture"] == "matching_pursuit":
        assert cfg["residual_threshold"] == 0
        assert not cfg["stop_on_duplicate_support"]
        return np.stack([pursued(x, w["W_dec"], cfg["max_iterations"]) for x in centred])
    scores = centred @ w["W_enc"] + w["b_enc"]
    norms = np.linalg.norm(w["W_dec"], axis=1)
    scores = scores * norms if cfg["rescale_acts_by_decoder_norm"] else scores
    sizes = abs(scores) if cfg["architecture"] == "abstopk" else np.maximum(scores, 0)
    floor = np.sort(sizes, axis=1)[:, -cfg["k"], None]
    return np.where((sizes >= floor) & (sizes > 0), scores, 0)


def pursued(residual, W, steps):
    codes = np.zeros(len(W), W.dtype)
    for _ in range(steps):
        i = np.argmax(W @ residual)
        value = max(W[i] @ residual, 0)
        codes[i] += value
        residual = residual - value * W[i]
    return codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXPORTED)
def test_both_ways_by_their_definition(name, dtype, small, folder):
    X = small.astype(dtype)
    est = EXPORTED[name].fit(X)
    assert export_saelens(est, folder) == folder
    codes = est.transform(X)
    np.testing.assert_allclose(their_codes(folder, X), codes, atol=1e-5)
    back = import_saelens(folder)
    np.testing.assert_allclose(back.transform(X), codes, atol=1e-5)
    np.testing.assert_array_equal(back.components_, est.components_)
    np.testing.assert_array_equal(back.intercept_, est.intercept_)
    assert back.components_.dtype == dtype


def test_a_folder_has_what_saelens_reads(small, folder):
    export_saelens(TopKSAE(24, **FAST).fit(small), folder)
    assert sorted(file.name for file in folder.iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]
    cfg = json.loads((folder / "cfg.json").read_text())
    assert cfg.pop("metadata")["sae_lens_version"] >= "6"
    assert cfg == {
        "architecture": "topk",
        "k": 4,
        "rescale_acts_by_decoder_norm": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "d_in": 10,
        "d_sae": 24,
        "dtype": "float64",
        "device": "cpu",
        "apply_b_dec_to_input": True,
    }
    shapes = {k: v.shape for k, v in load_file(folder / "sae_weights.safetensors").items()}
    assert shapes == {"W_dec": (24, 10), "W_enc": (10, 24), "b_dec": (10,), "b_enc": (24,)}


REFUSED = {
    "average": ({"sparsity": "average"}, "set transform_n_nonzero_coefs"),
    "tol": ({"tol": 0.1}, "set tol=0"),
    "signed": ({"positive_code": False}, "may have negative codes"),
    "omp": ({"transform_algorithm": "omp"}, "set transform_algorithm='mp'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pursuits_that_would_code_otherwise_are_not_exported(name, small, folder):
    params, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        export_saelens(MPSparseAutoencoder(24, **FAST, **params).fit(small), folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaSAE", "ReLUSAE", "JumpReLUSAE"])
def test_thresholds_are_not_exported(name, small, folder):
    est = getattr(sklearn_mpsae, name)(24, **FAST).fit(small)
    with pytest.raises(ValueError, match=f"This {name} cannot be exported: it keeps outputs"):
        export_saelens(est, folder)
    assert not folder.exists()


def test_an_unfitted_estimator_is_not_exported(Estimator, folder):
    with pytest.raises(NotFittedError):
        export_saelens(Estimator(), folder)


def test_an_export_takes_no_other_folders_place(small, folder):
    folder.mkdir()
    with pytest.raises(FileExistsError, match="name a new folder"):
        export_saelens(EXPORTED["MP"].fit(small), folder)


# ---------------------------------------------------------------------------- import
def theirs(folder, kind, rng, real=np.float64, **cfg):
    """A folder as SAELens writes it, of random weights and atoms of any norm."""
    W = rng.standard_normal((24, 10)) * rng.uniform(0.2, 0.4, (24, 1))
    weights = {"W_dec": W, "b_dec": rng.standard_normal(10)}
    facts = {"architecture": kind, "d_in": 10, "d_sae": 24}
    if kind == "matching_pursuit":
        facts |= {
            "max_iterations": 5,
            "residual_threshold": 0.0,
            "stop_on_duplicate_support": False,
        }
    else:
        weights |= {"W_enc": rng.standard_normal((10, 24)), "b_enc": rng.standard_normal(24)}
        facts |= {"k": 5, "rescale_acts_by_decoder_norm": False}
    facts |= {
        "dtype": np.dtype(real).name,
        "device": "cuda",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12"},
    }
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps(facts | cfg))
    weights = {name: array.astype(real) for name, array in weights.items()}
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


IMPORTED = {
    "MP": ("matching_pursuit", {}),
    "MP, b_dec unused": ("matching_pursuit", {"apply_b_dec_to_input": False}),
    "TopK": ("topk", {}),
    "TopK, not centred": ("topk", {"apply_b_dec_to_input": False}),
    "TopK, by norms": ("topk", {"rescale_acts_by_decoder_norm": True}),
    "TopK, both": (
        "topk",
        {"rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False},
    ),
    "AbsTopK": ("abstopk", {}),
    "training": ("topk", {"decoder_init_norm": 0.1, "aux_loss_coefficient": 1.0}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", IMPORTED)
def test_theirs_code_the_same_here(name, dtype, small, folder, rng):
    architecture, cfg = IMPORTED[name]
    theirs(folder, architecture, rng, dtype, **cfg)
    est, X = import_saelens(folder), small.astype(dtype)
    codes = their_codes(folder, X)
    np.testing.assert_allclose(est.transform(X), codes, atol=1e-5)
    # And decode the same: by the atoms, which are unit ones where codes were scaled.
    w = load_file(folder / "sae_weights.safetensors")
    if cfg.get("rescale_acts_by_decoder_norm"):
        codes = codes / np.linalg.norm(w["W_dec"], axis=1)
    used = architecture != "matching_pursuit" or cfg.get("apply_b_dec_to_input", True)
    rows = codes @ w["W_dec"] + w["b_dec"] * used
    np.testing.assert_allclose(est.inverse_transform(est.transform(X)), rows, atol=1e-4)


def test_an_imported_one_can_be_saved_and_learnt_on_from(small, folder, rng, tmp_path):
    for name, architecture in [("a", "matching_pursuit"), ("b", "topk")]:
        est = import_saelens(theirs(tmp_path / name, architecture, rng))
        est = load(save(est, tmp_path / f"{name}.safetensors"))
        codes = est.transform(small)
        with pytest.raises(ValueError, match="set warm_start=True and call fit"):
            est.partial_fit(small)
        np.testing.assert_array_equal(est.transform(small), codes)
        before = est.score(small)
        est.set_params(warm_start=True, max_iter=20, random_state=0).fit(small)
        assert est.score(small) > before
        assert est.partial_fit(small).n_steps_ == 21


NOT_IMPORTED = {
    "architecture": ({"architecture": "gated"}, "'gated'; those known here are matching_pur"),
    "no architecture": ({"architecture": None}, "its architecture is None"),
    "unknown entry": ({"skip": True}, "has skip, which may change its codes"),
    "normalised": ({"normalize_activations": "layer_norm"}, "fold it into the weights"),
    "reshaped": ({"reshape_activations": "hook_z"}, "apply that to the rows"),
    "dtype": ({"dtype": "bfloat16"}, "computes in bfloat16; load it in SAELens as float32"),
    "sizes": ({"d_sae": -1}, r"\(d_sae, d_in\) are \(-1, 10\)"),
    "other sizes": ({"d_sae": 25}, r"tensors have shapes .*, not"),
    "steps": ({"max_iterations": 0}, "it has 0 codes per row"),
    "steps as text": ({"max_iterations": "5"}, "max_iterations is '5'"),
    "threshold as text": ({"residual_threshold": "0"}, "residual_threshold is '0'"),
    "more steps than atoms": ({"max_iterations": 30}, "max_iterations=30 for 24 atoms"),
    "residual": ({"residual_threshold": 0.01}, "stops by residual_threshold=0.01, which no"),
    "duplicates": (
        {"stop_on_duplicate_support": True},
        "stop_on_duplicate_support=True, which no .* pass ignore_stopping=True",
    ),
}


@pytest.mark.parametrize("name", NOT_IMPORTED)
def test_what_would_code_otherwise_is_not_imported(name, folder, rng):
    cfg, match = NOT_IMPORTED[name]
    with pytest.raises(ValueError, match=match):
        import_saelens(theirs(folder, "matching_pursuit", rng, **cfg))


def test_their_defaults_are_what_a_config_without_them_means(folder, rng):
    theirs(folder, "matching_pursuit", rng)
    cfg = json.loads((folder / "cfg.json").read_text())
    for key in ("max_iterations", "residual_threshold", "stop_on_duplicate_support"):
        del cfg[key]
    (folder / "cfg.json").write_text(json.dumps(cfg))
    with pytest.raises(ValueError, match=r"residual_threshold=0.01, stop_on_dup"):
        import_saelens(folder)


def test_their_stopping_can_be_left_out_if_that_is_said(folder, rng, small):
    stopping = {"residual_threshold": 0.01, "stop_on_duplicate_support": True}
    theirs(folder, "matching_pursuit", rng, max_iterations=None, **stopping)
    est = import_saelens(folder, ignore_stopping=True)
    assert est.n_nonzero_coefs == 10
    w = load_file(folder / "sae_weights.safetensors")
    codes = [pursued(x, w["W_dec"], 10) for x in small - w["b_dec"]]
    np.testing.assert_allclose(est.transform(small), codes, atol=1e-5)


def test_damaged_weights_are_refused(folder, rng):
    theirs(folder, "topk", rng)
    path = folder / "sae_weights.safetensors"
    whole, weights = path.read_bytes(), load_file(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        import_saelens(folder)
    save_file({k: v * np.nan for k, v in weights.items()}, path)
    with pytest.raises(ValueError, match="not finite"):
        import_saelens(folder)
    save_file({k: v.astype(np.int64) for k, v in weights.items()}, path)
    with pytest.raises(ValueError, match="tensors of int64"):
        import_saelens(folder)
    save_file(weights | {"scaling_factor": np.ones(24)}, path)
    with pytest.raises(ValueError, match="its tensors have shapes"):
        import_saelens(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="sae_weights"):
        import_saelens(folder)


@pytest.mark.parametrize("k", [0, 25, 2.5, True, None, "3"])
def test_a_number_of_codes_that_is_none_is_refused(k, folder, rng):
    with pytest.raises(ValueError, match=f"it has {k} codes per row of 24|its k is {k!r}"):
        import_saelens(theirs(folder, "topk", rng, k=k))


# -------------------------------------------------------------------- the real package
@pytest.mark.slow
def test_the_real_package_codes_the_same(tmp_path):
    python = os.environ.get("SKLEARN_MPSAE_RIVALS")
    if python is None:
        pytest.skip("set SKLEARN_MPSAE_RIVALS to the Python of an environment with sae-lens")
    script = ROOT / "benchmarks" / "check_saelens.py"
    done = subprocess.run(
        [python, script, "--results", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    (bar,) = json.loads((tmp_path / "check_saelens.json").read_text())["bars"]
    assert bar["at_most"] == 1e-5
    assert bar["verdict"] == "met"
