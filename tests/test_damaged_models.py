"""Damaged and forged files of models: nothing else than a model gets in."""

import hashlib
import json
import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from checkpoints import assert_same_fit
from safetensors.numpy import load_file, save_file
from saved_models import files_of, fitted, path_of_model  # noqa: F401 - fixtures

from sklearn_mpsae import JumpReLUSAE, TopKSAE
from sklearn_mpsae.persistence import _disk, load, save


def assert_refused_or_same(path, est):
    """A file either says that it is damaged, or what was changed made no difference."""
    try:
        back = load(path)
    except ValueError as error:
        return "again" in str(error) or "anew" in str(error) or "upgrade" in str(error)
    assert_same_fit(back, est)
    return False


@pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(share, small, path):
    save(fitted(TopKSAE, small), path)
    for file in files_of(path):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"is damaged.* again from where it came from"):
            load(path)
        file.write_bytes(whole)
    load(path)


def test_a_file_with_any_bit_flipped_is_refused(small, path, rng):
    est = fitted(JumpReLUSAE, small)
    save(est, path)
    for file in files_of(path):
        whole = file.read_bytes()
        refused = []
        for position in rng.integers(len(whole), size=150):
            edited = bytearray(whole)
            edited[position] ^= 1 << int(rng.integers(8))
            file.write_bytes(edited)
            refused.append(assert_refused_or_same(path, est))
        file.write_bytes(whole)
        # White space between the entries of a config is no difference.
        assert np.mean(refused) > (0.4 if file.suffix == ".json" else 0.99)


def test_appended_bytes_are_refused(small, path):
    save(fitted(TopKSAE, small), path)
    for file in files_of(path):
        with open(file, "ab") as opened:
            opened.write(b"{}")
        with pytest.raises(ValueError, match="is damaged"):
            load(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        save(fitted(TopKSAE, small), path)


def forge(folder, change):
    """Change a saved folder, and make its checksums right."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    facts, tensors = json.loads(config.read_text()), load_file(weights)
    change(facts, tensors)
    for name in set(facts["tensors"]) & set(tensors):
        facts["tensors"][name] = {
            "shape": list(tensors[name].shape),
            "dtype": tensors[name].dtype.name,
            "sha256": hashlib.sha256(tensors[name]).hexdigest(),
        }
    facts.pop("sha256", None)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    facts["sha256"] = hashlib.sha256(text).hexdigest()
    config.write_text(json.dumps(facts))
    save_file(tensors, weights)


def at(*keys, value):
    """A change that sets one entry of the facts."""

    def change(facts, tensors):
        for key in keys[:-1]:
            facts = facts[key]
        facts[keys[-1]] = value

    return change


def without(*keys):
    def change(facts, tensors):
        for key in keys[:-1]:
            facts = facts[key]
        del facts[keys[-1]]

    return change


def tensor(name, function, listed=True):
    """A change of one tensor."""

    def change(facts, tensors):
        tensors[name] = np.array(function(tensors.get(name)), order="C")
        if listed:
            facts["tensors"].setdefault(name, {})

    return change


FORGED = {
    "newer format": (at("format_version", value=2), "has format 2, .* upgrade sklearn_mpsae"),
    "no version": (at("format_version", value="1"), "entries of format 1"),
    "format 0": (at("format_version", value=0), "entries of format 1"),
    "other format": (at("format", value="other"), "not a model that `save` has written"),
    "new entry": (at("hooks", value=["os.system"]), "entries of format 1"),
    "no entry": (without("training"), "entries of format 1"),
    "class elsewhere": (at("estimator", value="os.system"), "of the class 'os.system'"),
    "base class": (at("estimator", value="BaseSparseAutoencoder"), "this version knows"),
    "no class": (at("estimator", value=["TopKSAE"]), "of the class"),
    "new class": (at("estimator", value="ThirdSAE"), "written by .* if that is newer"),
    "other class": (at("estimator", value="BatchTopKSAE"), "fitted values lack threshold_"),
    "new parameter": (at("parameters", "hook", value=1), "have hook, not known here"),
    "a path to write to": (at("parameters", "checkpoint", value="/x"), "have checkpoint"),
    "bad parameter": (at("parameters", "batch_size", value=-1), "'batch_size' parameter"),
    "object as parameter": (at("parameters", "batch_size", value={"a": 1}), "cannot be loaded"),
    "parameters as text": (at("parameters", value="all"), "cannot be loaded"),
    "more atoms": (at("parameters", "n_components", value=17), r"shape \[16, 10\]"),
    "no number of atoms": (at("parameters", "n_components", value=None), r"shape \[16, 10\]"),
    "more features": (at("fitted", "n_features_in_", value=11), r"shape \[16, 10\]"),
    "text as number": (at("fitted", "n_steps_", value="6"), "n_steps_ is '6'"),
    "negative count": (at("fitted", "n_samples_seen_", value=-1), "n_samples_seen_ is -1"),
    "method as number": (at("fitted", "transform", value=1), "have transform, not known"),
    "feature names": (at("feature_names", value=["a"]), "one text for each feature"),
    "output": (at("output", value={"transform": "exec"}), "cannot be loaded"),
    "running number": (at("training", "numbers", value={"x": 1}), "have x, not known"),
    "random state": (
        at("training", "random_state", value=["PCG64", 1, 0, 0.0]),
        "random state",
    ),
    "random position": (
        at("training", "random_state", value=["MT19937", 1 << 40, 0, 0.0]),
        "random state",
    ),
    "scale": (at("training", "scale", value=0), "training's numbers"),
    "listing": (at("tensors", value=[]), "entries of format 1"),
    "unlisted tensor": (tensor("x", lambda _: np.zeros(3), listed=False), "not those that its"),
    "new tensor": (tensor("x", lambda _: np.zeros(3)), "tensors have x, not known"),
    "code as tensor": (
        tensor("__reduce__", lambda _: np.frombuffer(pickle.dumps(print), np.uint8)),
        "tensors have __reduce__",
    ),
    "no tensor": (without("tensors", "components_"), "tensors lack components_"),
    "shape": (tensor("intercept_", lambda a: a[:-1]), r"intercept_ has shape \[9\]"),
    "transposed": (tensor("components_", lambda a: a.T), r"components_ has shape \[10, 16\]"),
    "dtype": (tensor("intercept_", lambda a: a.astype("f4")), "intercept_ has dtype float32"),
    "integers": (tensor("components_", lambda a: a.astype(int)), "components_ has dtype int64"),
    "NaN": (tensor("components_", lambda a: a * np.nan), "components_ holds values"),
    "infinite moment": (
        tensor("training/bias mean", lambda a: a + np.inf),
        "mean holds values",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused_even_with_right_checksums(name, small, tmp_path):
    change, match = FORGED[name]
    folder = save(fitted(TopKSAE, small), tmp_path / "model")
    forge(folder, lambda *facts: None)
    load(folder)
    forge(folder, change)
    with pytest.raises(ValueError, match=match):
        load(folder)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[]", b"{", b'{"a": NaN}', b'{"a": 1e999}'])
def test_odd_json_is_refused(text, small, tmp_path):
    folder = save(fitted(TopKSAE, small), tmp_path / "model")
    (folder / "config.json").write_bytes(text)
    with pytest.raises(ValueError, match="its JSON"):
        load(folder)


def test_json_that_is_too_long_is_not_read(small, tmp_path, monkeypatch):
    folder = save(fitted(TopKSAE, small), tmp_path / "model")
    monkeypatch.setattr(_disk, "_MOST_JSON", 100)
    with pytest.raises(ValueError, match="its JSON is too long"):
        load(folder)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load(path)
    assert not (tmp_path / "ran").exists()


HEADERS = {
    "a long header": (2**62, b"{}"),
    "a large tensor": (
        None,
        {"x": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}},
    ),
    "a shape out of range": (
        None,
        {"x": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]}},
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_sizes_that_the_file_has_not_take_no_memory(name, tmp_path):
    length, header = HEADERS[name]
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes((length or len(header)).to_bytes(8, "little") + header + bytes(64))
    tracemalloc.start()
    with pytest.raises(ValueError, match="no whole safetensors file"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_safetensors_of_others_are_refused(tmp_path):
    save_file({"weight": np.zeros((3, 3))}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not a model that `save` has written"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", ""])
def test_a_missing_file_is_named(missing, small, tmp_path):
    folder = save(fitted(TopKSAE, small), tmp_path / "model")
    if missing:
        (folder / missing).unlink()
    else:
        shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match=missing or "model"):
        load(folder)
