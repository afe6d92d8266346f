"""SAELens's folders. The real package is asked in test_the_real_package_codes_the_same."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError

from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
)
from sklearn_mpsae.persistence import export_saelens, import_saelens, load, save

ROOT = Path(__file__).parents[1]
FAST = {"n_nonzero_coefs": 4, "max_iter": 5, "batch_size": 20, "random_state": 0}

# SAELens has no metric.
PLAIN = FAST | {"whitening": 0}

EXPORTED = {
    "MP": MPSparseAutoencoder(24, **PLAIN),
    "MP, not centred": MPSparseAutoencoder(24, intercept="zero", **PLAIN),
    "MP, other k": MPSparseAutoencoder(24, transform_n_nonzero_coefs=9, **PLAIN),
    "MP, average": MPSparseAutoencoder(
        24, sparsity="average", transform_n_nonzero_coefs=3, **PLAIN
    ),
    "MP, atol": MPSparseAutoencoder(24, transform_n_nonzero_coefs=20, atol=0.5, **PLAIN),
    "MP, no atom again": MPSparseAutoencoder(
        24, transform_n_nonzero_coefs=20, stop_on_repeat=True, **PLAIN
    ),
    "TopK": TopKSAE(24, **FAST),
    "TopK, signed": TopKSAE(24, positive_code=False, **FAST),
    "BatchTopK, k": BatchTopKSAE(24, transform_n_nonzero_coefs=3, **FAST),
    "BatchTopK": BatchTopKSAE(24, **FAST),
    "Matryoshka": MatryoshkaSAE(24, prefix_sizes=[6, 12], **FAST),
    "JumpReLU": JumpReLUSAE(24, **FAST),
    "JumpReLU, not centred": JumpReLUSAE(24, intercept="zero", **FAST),
    "ReLU": ReLUSAE(24, **FAST),
    "ReLU, k": ReLUSAE(24, transform_n_nonzero_coefs=3, **FAST),
}
# What comes back as another class, since its codes are those of that.
OTHERS = {"BatchTopK, k": TopKSAE, "ReLU, k": TopKSAE}


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
        stops = cfg["residual_threshold"], cfg["stop_on_duplicate_support"]
        steps = cfg["max_iterations"]
        return np.stack([pursued(x, w["W_dec"], steps, *stops) for x in centred])
    scores = centred @ w["W_enc"] + w["b_enc"]
    if cfg["architecture"] in ("jumprelu", "standard"):
        return np.maximum(scores, 0) * (scores > w.get("threshold", 0))
    norms = np.linalg.norm(w["W_dec"], axis=1)
    scores = scores * norms if cfg["rescale_acts_by_decoder_norm"] else scores
    sizes = abs(scores) if cfg["architecture"] == "abstopk" else np.maximum(scores, 0)
    floor = np.sort(sizes, axis=1)[:, -cfg["k"], None]
    return np.where((sizes >= floor) & (sizes > 0), scores, 0)


def pursued(residual, W, steps, threshold=0.0, once=False):
    codes = np.zeros(len(W), W.dtype)
    for _ in range(len(residual) if steps is None else steps):
        i = np.argmax(W @ residual)
        value = max(W[i] @ residual, 0)
        again = codes[i] != 0
        codes[i] += value
        residual = residual - value * W[i]
        if np.linalg.norm(residual) < threshold or (once and again):
            break
    return codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXPORTED)
def test_both_ways_by_their_definition(name, dtype, small, folder):
    X = small.astype(dtype)
    est = EXPORTED[name].fit(X)
    assert export_saelens(est, folder) == folder
    codes = est.transform(X)
    if name == "MP, atol":  # a row within it has no codes here, and one there
        within = ((X - est.intercept_) ** 2).sum(axis=1) <= est.atol
        assert 0 < within.sum() < len(X) / 2
        assert not codes[within].any()
        assert (np.count_nonzero(their_codes(folder, X[within]), axis=1) == 1).all()
        X, codes = X[~within], codes[~within]
    np.testing.assert_allclose(their_codes(folder, X), codes, atol=1e-5)
    back = import_saelens(folder)
    np.testing.assert_allclose(back.transform(X), codes, atol=1e-5)
    np.testing.assert_array_equal(back.components_, est.components_)
    np.testing.assert_array_equal(back.intercept_, est.intercept_)
    assert back.components_.dtype == dtype
    assert type(back) is OTHERS.get(name, type(est))
    np.testing.assert_allclose(back.inverse_transform(codes), est.inverse_transform(codes))
    again = export_saelens(back, folder.with_name("again"))
    np.testing.assert_array_equal(import_saelens(again).transform(X), back.transform(X))


def test_a_batch_autoencoder_comes_back_as_what_it_was(small, folder, tmp_path):
    est = MatryoshkaSAE(24, prefix_sizes=[6, 12], **FAST | {"n_nonzero_coefs": 2.5}).fit(small)
    back = import_saelens(export_saelens(est, folder))
    assert (back.n_nonzero_coefs, back.prefix_sizes) == (2.5, [6, 12, 24])
    assert back.threshold_ == est.threshold_
    np.testing.assert_array_equal(back.encoder_components_, est.encoder_components_)


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
    "tol and atol": ({"tol": 0.1, "atol": 0.1}, "set tol=0"),
    "signed": ({"positive_code": False}, "may have negative codes"),
    "omp": ({"transform_algorithm": "omp"}, "set transform_algorithm='mp'"),
    "ols": ({"transform_algorithm": "ols"}, "set transform_algorithm='mp'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pursuits_that_would_code_otherwise_are_not_exported(name, small, folder):
    params, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        export_saelens(MPSparseAutoencoder(24, **FAST, **params).fit(small), folder)
    assert not folder.exists()


def test_a_number_of_outputs_above_thresholds_is_not_exported(small, folder):
    est = JumpReLUSAE(24, transform_n_nonzero_coefs=3, **FAST).fit(small)
    with pytest.raises(ValueError, match="Set transform_n_nonzero_coefs=None to export"):
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
    if kind.endswith("topk"):
        facts |= {"k": 5, "rescale_acts_by_decoder_norm": False}
    if kind == "jumprelu":
        weights["threshold"] = rng.uniform(
            -0.1, 2, 24
        )  # of some nothing is asked but to be > 0
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
    "MP, residual": ("matching_pursuit", {"residual_threshold": 4.0, "max_iterations": 24}),
    "MP, no atom again": (
        "matching_pursuit",
        {"stop_on_duplicate_support": True, "max_iterations": 24},
    ),
    "MP, as it comes": (
        "matching_pursuit",
        {
            "residual_threshold": 0.01,
            "stop_on_duplicate_support": True,
            "max_iterations": None,
        },
    ),
    "MP, a threshold below zero": ("matching_pursuit", {"residual_threshold": -1}),
    "JumpReLU": ("jumprelu", {}),
    "JumpReLU, not centred": ("jumprelu", {"apply_b_dec_to_input": False}),
    "JumpReLU, training": ("jumprelu", {"jumprelu_bandwidth": 0.1, "l0_coefficient": 1.0}),
    "standard": ("standard", {}),
    "standard, not centred": ("standard", {"apply_b_dec_to_input": False, "lp_norm": 1.0}),
}
IMPORTED |= {
    "training": ("topk", {"decoder_init_norm": 0.1, "aux_loss_coefficient": 1.0}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", IMPORTED)
def test_theirs_code_the_same_here(name, dtype, small, folder, rng):
    architecture, cfg = IMPORTED[name]
    theirs(folder, architecture, rng, dtype, **cfg)
    est, X = import_saelens(folder), small.astype(dtype)
    codes = their_codes(folder, X)
    w = load_file(folder / "sae_weights.safetensors")
    norms = np.linalg.norm(w["W_dec"], axis=1)
    scaled = architecture in ("jumprelu", "standard")
    if scaled:
        np.testing.assert_allclose(np.linalg.norm(est.components_, axis=1), 1, atol=1e-6)
    here = est.transform(X)
    np.testing.assert_allclose(here, codes * norms if scaled else codes, atol=1e-5)
    np.testing.assert_array_equal(here != 0, codes != 0)
    # And decode the same: by the atoms, which are unit ones where codes were scaled.
    if cfg.get("rescale_acts_by_decoder_norm"):
        codes = codes / norms
    used = architecture != "matching_pursuit" or cfg.get("apply_b_dec_to_input", True)
    rows = codes @ w["W_dec"] + w["b_dec"] * used
    np.testing.assert_allclose(est.inverse_transform(est.transform(X)), rows, atol=1e-4)


def trained_as(folder, architecture, threshold, **details):
    """Unit atoms, one threshold, and what trained them, as save_inference_model writes it."""
    path = folder / "sae_weights.safetensors"
    w = load_file(path)
    w["W_dec"] /= np.linalg.norm(w["W_dec"], axis=1, keepdims=True)
    save_file(w | {"threshold": np.full_like(w["b_enc"], threshold)}, path)
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] |= {
        "training_architecture": architecture,
        "training_architecture_details": details,
    }
    (folder / "cfg.json").write_text(json.dumps(cfg))


TRAINED = {
    "batchtopk": ("batchtopk", {"k": 4.5}, BatchTopKSAE, {"n_nonzero_coefs": 4.5}),
    "matryoshka": (
        "matryoshka_batchtopk",
        {"k": 4, "matryoshka_widths": [8, 24]},
        MatryoshkaSAE,
        {"n_nonzero_coefs": 4, "prefix_sizes": [8, 24]},
    ),
    "widths that are none": (
        "matryoshka_batchtopk",
        {"k": "4", "matryoshka_widths": [8, 99]},
        MatryoshkaSAE,
        {"n_nonzero_coefs": None, "prefix_sizes": None},
    ),
    "another": ("gated", {"k": 4}, JumpReLUSAE, {"n_nonzero_coefs": None}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_the_metadata_say_what_trained_one_threshold(name, folder, rng, small):
    architecture, details, cls, params = TRAINED[name]
    theirs(folder, "jumprelu", rng)
    trained_as(folder, architecture, 0.75, **details)
    est = import_saelens(folder)
    assert type(est) is cls
    assert est.get_params().items() >= params.items()
    np.testing.assert_allclose(est.transform(small), their_codes(folder, small), atol=1e-12)


def test_several_thresholds_are_those_of_a_jumprelu(folder, rng):
    theirs(folder, "jumprelu", rng)
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"]["training_architecture"] = "batchtopk"
    cfg["metadata"]["training_architecture_details"] = {"k": 3}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    est = import_saelens(folder)
    assert type(est) is JumpReLUSAE
    assert est.n_nonzero_coefs == 3


def test_atoms_whose_norms_leave_the_dtype_are_not_imported(folder, rng):
    theirs(folder, "jumprelu", rng, np.float32)
    path = folder / "sae_weights.safetensors"
    weights = load_file(path)
    save_file(weights | {"W_dec": weights["W_dec"] * np.float32(1e25)}, path)
    with pytest.raises(ValueError, match="has numbers beyond float32"):
        import_saelens(folder)


def test_atoms_of_zeros_are_coded_and_not_learnt_on_from(small, folder, rng):
    theirs(folder, "jumprelu", rng)
    path = folder / "sae_weights.safetensors"
    weights = load_file(path)
    weights["W_dec"][3] = 0
    save_file(weights, path)
    est = import_saelens(folder)
    assert not est.transform(small)[:, 3].any()
    est.set_params(warm_start=True, n_nonzero_coefs=3, max_iter=1)
    with pytest.raises(ValueError, match=r"atom 3.*set warm_start=False"):
        est.fit(small)


def test_a_row_of_exactly_the_residual_threshold_goes_on(folder, rng):
    """Theirs stops below it."""
    theirs(folder, "matching_pursuit", rng, np.float32, residual_threshold=1.0)
    path = folder / "sae_weights.safetensors"
    W = np.eye(24, 10, dtype=np.float32)
    save_file({"W_dec": W, "b_dec": np.zeros(10, np.float32)}, path)
    X = np.zeros((3, 10), np.float32)
    X[:, :2] = [[3, 1], [3, np.nextafter(np.float32(1), np.float32(0))], [0.5, 0.25]]
    est = import_saelens(folder)
    assert (est.transform(X) != 0).sum(axis=1).tolist() == [2, 1, 0]
    # Theirs looks at it after each atom, so that the third row has one.
    assert (their_codes(folder, X) != 0).sum(axis=1).tolist() == [2, 1, 1]
    back = json.loads((export_saelens(est, folder.with_name("b")) / "cfg.json").read_text())
    assert back["residual_threshold"] == 1.0


def test_an_imported_one_can_be_saved_and_learnt_on_from(small, folder, rng, tmp_path):
    for name in ("matching_pursuit", "topk", "jumprelu", "standard", "batchtopk"):
        architecture = "jumprelu" if name == "batchtopk" else name
        folder = theirs(tmp_path / name, architecture, rng)
        if name == "batchtopk":
            trained_as(folder, name, threshold=0.5)
        est = import_saelens(folder)
        est = load(save(est, tmp_path / f"{name}.safetensors"))
        codes = est.transform(small)
        with pytest.raises(ValueError, match="set warm_start=True and call fit once; "):
            est.partial_fit(small)
        np.testing.assert_array_equal(est.transform(small), codes)
        before = est.score(small)
        est.set_params(n_nonzero_coefs=5, warm_start=True, max_iter=20, random_state=0)
        est.fit(small)
        assert est.score(small) > before
        assert est.partial_fit(small).n_steps_ == 21


def test_each_format_names_what_loads_the_other(small, folder, tmp_path):
    est = TopKSAE(24, n_nonzero_coefs=3, max_iter=1, random_state=0).fit(small)
    export_saelens(est, folder)
    with pytest.raises(ValueError, match=r"is a folder of SAELens: import_saelens\(.* loads"):
        load(folder)
    for path in (tmp_path / "ours.safetensors", tmp_path / "ours"):
        with pytest.raises(ValueError, match=r"is no folder of SAELens: load\(.* takes"):
            import_saelens(save(est, path))


NOT_IMPORTED = {
    "architecture": ({"architecture": "gated"}, "'gated'; those known here are matching_pur"),
    "no architecture": ({"architecture": None}, "its architecture is None"),
    "unknown entry": ({"skip": True}, "has skip, which may change its codes"),
    "normalised": ({"normalize_activations": "layer_norm"}, "fold it into the weights"),
    "reshaped": ({"reshape_activations": "hook_z"}, "apply that to the rows"),
    "dtype": ({"dtype": "bfloat16"}, "computes in bfloat16; load it in SAELens as float32"),
    "sizes": ({"d_sae": -1}, r"\(d_sae, d_in\) are \(-1, 10\)"),
    "other sizes": ({"d_sae": 25}, r"tensors have shapes .*, not"),
    "steps": ({"max_iterations": 0}, "takes up to 0 atoms of 24"),
    "steps as text": ({"max_iterations": "5"}, "max_iterations is '5'"),
    "threshold as text": ({"residual_threshold": "0"}, "residual_threshold is '0'"),
    "more steps than atoms": ({"max_iterations": 30}, "30 atoms of 24, .* from 1 to 24"),
    "infinite threshold": ({"residual_threshold": np.inf}, "the number Infinity"),
    "training": ({"architecture": "batchtopk"}, "once save_inference_model has written them"),
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
    est = import_saelens(folder)
    assert (est.n_nonzero_coefs, est.stop_on_repeat) == (10, True)
    assert est.atol == pytest.approx(1e-4, rel=1e-12)


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
