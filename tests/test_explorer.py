"""The explorer: its numbers are those of loops, its page is safe, and it works."""

import base64
import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from explored import (  # noqa: F401 - fixtures
    FAST,
    HOSTILE,
    either_to_explore,
    pursuit_to_explore,
    rows_to_explore,
    shallow_to_explore,
)
from pages import blob, opened
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, explore
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.explorer import _page
from sklearn_mpsae.explorer._facts import facts_of, uses_of
from sklearn_mpsae.explorer._samples import atom_pictures
from sklearn_mpsae.sources import BatchStream, NpyFiles


def facts(model, X, n_examples=5, n_related=4):
    source = model._rows(X)
    ordered = isinstance(model, MPSparseAutoencoder)
    return facts_of(model, source, ordered=ordered, n_examples=n_examples, n_related=n_related)


# ------------------------------------------------------------------------- the numbers
def test_facts_of_an_atom_are_those_of_loops(fitted, X):
    found = facts(fitted, X)
    codes = fitted.encode(X)
    dense = codes.dense().astype(float)
    W = fitted.components_.astype(float)
    residual = X - fitted.intercept_ - dense @ W
    variance = np.square(X - X.mean(axis=0)).sum()
    assert found.r2 == pytest.approx(fitted.score(X))
    assert found.l0 == pytest.approx((dense != 0).sum(axis=1).mean())
    cosines = np.abs(W @ W.T)
    np.fill_diagonal(cosines, 0)
    for atom in range(len(W)):
        rows = np.flatnonzero(dense[:, atom])
        assert found.usage[atom] == len(rows)
        assert found.coherence[atom] == pytest.approx(cosines[atom].max(), abs=1e-6)
        if len(rows) == 0:
            assert np.isnan(
                [found.mean_code[atom], found.mean_step[atom], found.removal[atom]]
            ).all()
            assert (found.top_rows[atom] == -1).all()
            continue
        values = dense[rows, atom]
        steps = [
            1 + np.flatnonzero((codes.indices[row] == atom) & (codes.values[row] != 0))[0]
            for row in rows
        ]
        without = dense[rows].copy()
        without[:, atom] = 0
        error = np.square(residual[rows]).sum()
        worse = np.square(X[rows] - fitted.intercept_ - without @ W).sum() - error
        assert found.mean_code[atom] == pytest.approx(np.abs(values).mean())
        assert found.mean_step[atom] == pytest.approx(np.mean(steps))
        assert found.energy[atom] == pytest.approx(np.sum(values**2) / np.sum(dense**2))
        assert found.removal[atom] == pytest.approx(worse / error)
        assert found.r2_loss[atom] == pytest.approx(worse / variance)
        order = rows[np.argsort(-np.abs(values), kind="stable")][:5]
        assert found.top_rows[atom][: len(order)].tolist() == order.tolist()
        assert found.top_codes[atom][: len(order)] == pytest.approx(dense[order, atom])
        low, high = min(0, values.min()), max(0, values.max())
        assert found.code_range[atom] == pytest.approx([low, high])
        edges = np.linspace(low, high, found.histogram.shape[1] + 1)
        inner = np.histogram(values, edges)[0]
        assert np.abs(found.histogram[atom] - inner).sum() <= 2  # a value at an edge
        assert found.histogram[atom].sum() == len(rows)


def test_atoms_before_and_after_are_counted_in_rows(mp, X):
    found = facts(mp, X, n_related=39)
    codes = mp.encode(X)
    p = codes.n_components
    before, at = np.zeros((p, p)), np.zeros((p, 4))
    for indices, values in zip(codes.indices, codes.values, strict=True):
        taken = list(dict.fromkeys(indices[values != 0].tolist()))
        for place, atom in enumerate(taken):
            at[atom, place] += 1
            before[atom, taken[:place]] += 1
    by_chance = np.array(
        [
            [sum(at[i, t] * at[j, :t].sum() for t in range(4)) for j in range(p)]
            for i in range(p)
        ]
    ) / len(X)
    for name, rows, chance in (
        ("before", before, by_chance),
        ("after", before.T, by_chance.T),
    ):
        related = found.relations[name]
        for atom in range(p):
            excess = rows[atom] - chance[atom]
            expected = np.sort(excess[excess > 1e-4])[::-1]
            others = related.atoms[atom][related.atoms[atom] >= 0]
            assert len(set(others)) == len(others)
            assert excess[others[: len(expected)]] == pytest.approx(expected, abs=1e-4)
            assert related.rows[atom][: len(others)].tolist() == rows[atom, others].tolist()
            assert related.chance[atom][: len(others)] == pytest.approx(
                chance[atom, others], abs=1e-4
            )


def test_a_shallow_encoder_has_no_before_and_after(top_k, X):
    (name,), (with_it,) = zip(*facts(top_k, X).relations.items(), strict=True)
    assert name == "with"
    used = top_k.transform(X) != 0
    together = used.T.astype(int) @ used
    for atom, (others, rows) in enumerate(zip(with_it.atoms, with_it.rows, strict=True)):
        there = others >= 0
        assert rows[there].tolist() == together[atom, others[there]].tolist()
        assert atom not in others


def test_what_is_taken_twice_is_used_once():
    indices = np.array([[2, 0, 2, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    values = np.array([[1.0, 3.0, 2.0, 0.5], [2.0, -2.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    rows, atoms, sums, steps = uses_of(Codes(indices, values, 3))
    assert rows.tolist() == [0, 0, 0, 1]
    assert atoms.tolist() == [2, 0, 1, 0]
    assert sums.tolist() == [3.0, 3.0, 0.5, 4.0]  # 2 - 2 is no use
    assert steps.tolist() == [1, 2, 4, 3]


def test_one_atom_has_no_relations(X, tmp_path):
    model = MPSparseAutoencoder(1, n_nonzero_coefs=1, max_iter=2, random_state=0).fit(X)
    page = opened(explore(model, X, tmp_path / "one.html"))
    assert page["arrays"]["neighbors"].shape == (1, 0)
    assert np.isnan(page["arrays"]["coherence"]).all()


def test_samples_without_codes_have_a_page_too(X, tmp_path):
    model = TopKSAE(8, **FAST).fit(X)
    model.encoder_intercept_[:] = -1e9
    page = opened(explore(model, X, tmp_path / "none.html"))
    assert (page["l0"], page["arrays"]["usage"].tolist()) == (0, [0] * 8)
    assert page["r2"] == pytest.approx(model.score(X))
    assert (page["arrays"]["with"] == -1).all()
    constant = opened(explore(model, X[:1], tmp_path / "none.html", image_shape=(8, 8)))
    assert constant["r2"] is None


def test_all_kinds_of_rows_give_the_same_page(mp, X, tmp_path):
    half = len(X) // 2
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    np.save(paths[0], X[:half])
    np.save(paths[1], X[half:])
    kinds = [X, sparse.csr_array(X), NpyFiles(paths), X.tolist()]
    pages = [
        explore(mp, rows, tmp_path / "page.html", image_shape=(8, 8)).read_bytes()
        for rows in kinds
    ]
    assert all(page == pages[0] for page in pages[1:])
    shapes = [explore(mp, rows, tmp_path / "page.html").read_bytes() for rows in kinds[:3]]
    assert shapes[0] == shapes[1] == shapes[2]


# ------------------------------------------------------------------- what the page holds
def test_page_holds_the_facts_and_each_sample_once(mp, X, tmp_path):
    found = facts(mp, X, n_examples=12, n_related=8)
    texts = [f"sample number {i}" for i in range(len(X))]
    page = opened(explore(mp, X, tmp_path / "page.html", texts=texts, labels=range(len(X))))
    arrays = page["arrays"]
    for name in ("usage", "mean_code", "mean_step", "energy", "removal", "coherence"):
        np.testing.assert_array_equal(
            arrays[name], getattr(found, name).astype(arrays[name].dtype)
        )
    assert len(set(arrays["samples"])) == len(arrays["samples"])
    shown = np.where(arrays["examples"] < 0, -1, arrays["samples"][arrays["examples"]])
    assert shown.tolist() == found.examples.rows.tolist()
    assert shown[:, : page["groups"][0]].tolist() == found.top_rows.tolist()
    assert page["texts"] == [texts[row] for row in arrays["samples"]]
    assert page["labels"] == [str(row) for row in arrays["samples"]]
    # The strongest of each atom come first.
    strongest = set(found.top_rows[:, 0]) - {-1}
    assert set(arrays["samples"][: len(strongest)]) == strongest


def test_pictures_are_the_rows(mp, X, tmp_path):
    path = explore(mp, X, tmp_path / "page.html", image_shape=(8, 8))
    page = opened(path)
    pixels = np.frombuffer(blob(path.read_text(), "samples"), np.uint8).reshape(-1, 64)
    rows = page["arrays"]["samples"]
    assert (page["picture"]["black"], page["picture"]["white"]) == (0, 16)
    np.testing.assert_allclose(pixels / 255 * 16, X[rows], atol=16 / 255)
    atoms = np.frombuffer(blob(path.read_text(), "atoms"), np.int8).reshape(40, 64)
    scale = np.abs(mp.components_).max(axis=1, keepdims=True)
    np.testing.assert_allclose(atoms / 127 * scale, mp.components_, atol=1 / 127)


@pytest.mark.parametrize("shape", [(100, 70), (100, 70, 3), (5, 200, 1)])
def test_large_pictures_are_reduced_by_means(mp, X, rng, tmp_path, shape):
    images = rng.random((len(X), *shape), dtype=np.float32)
    path = explore(mp, X, tmp_path / "page.html", images=images)
    page = opened(path)
    stored = tuple(page["picture"]["shape"])
    assert max(stored) <= 64
    assert page["picture"]["reduced"]
    pixels = np.frombuffer(blob(path.read_text(), "samples"), np.uint8).reshape(-1, *stored)
    step = -(-max(shape) // 64)
    first = images[page["arrays"]["samples"][0], :step, :step].mean(axis=(0, 1))
    np.testing.assert_allclose(pixels[0, 0, 0] / 255, first.squeeze(), atol=0.01)


def test_profiles_are_the_samples_at_the_largest_weights(mp, X, tmp_path):
    arrays = opened(explore(mp, X, tmp_path / "page.html"))["arrays"]
    W = mp.components_
    for atom in np.flatnonzero(arrays["usage"])[:5]:
        features = arrays["features"][atom]
        assert np.abs(W[atom, features]).min() >= np.sort(np.abs(W[atom]))[-16] - 1e-9
        np.testing.assert_allclose(arrays["weights"][atom], W[atom, features], rtol=1e-6)
        row = arrays["samples"][arrays["examples"][atom, 0]]
        scale = arrays["profile_scale"][atom]
        np.testing.assert_allclose(
            arrays["profiles"][atom, 0] / 127 * scale,
            (X[row] - mp.intercept_)[features],
            atol=scale / 127,
        )


def test_feature_names_are_those_of_the_frame(X, tmp_path):
    frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    model = TopKSAE(8, **FAST).fit(frame)
    names = opened(explore(model, frame, tmp_path / "page.html"))["names"]
    assert names == list(frame.columns)
    given = opened(explore(model, frame, tmp_path / "page.html", feature_names=["<b>"] * 64))
    assert given["names"] == ["<b>"] * 64


def test_pictures_beyond_the_files_size_are_left_out(mp, X, rng, tmp_path, monkeypatch):
    images = rng.integers(0, 256, (len(X), 64, 64), dtype=np.uint8)
    page = opened(explore(mp, X, tmp_path / "all.html", images=images))
    n = len(page["arrays"]["samples"])
    assert page["n_pictures"] == n
    monkeypatch.setattr(_page, "_FILE_BYTES", 600_000)
    monkeypatch.setattr(_page, "_LEAST_FOR_SAMPLES", 0)
    monkeypatch.setattr(_page, "_BLOCK", 16)
    path = explore(mp, X, tmp_path / "some.html", images=images)
    some = opened(path)["n_pictures"]
    assert 0 < some < n
    assert 400_000 < path.stat().st_size < 700_000
    assert len(blob(path.read_text(), "samples")) == some * 64 * 64


def test_texts_beyond_their_room_are_left_out_or_cut(mp, X, tmp_path, monkeypatch):
    texts = ["x" * 1000] * len(X)
    page = opened(explore(mp, X, tmp_path / "page.html", texts=texts))
    assert {len(text) for text in page["texts"]} == {400}
    monkeypatch.setattr("sklearn_mpsae.explorer._explore._ALL_TEXT", 4000)
    page = opened(explore(mp, X, tmp_path / "page.html", texts=texts))
    assert len(page["texts"]) == 10


def test_pictures_of_many_atoms_are_reduced(monkeypatch, rng):
    W = rng.standard_normal((50, 64))
    monkeypatch.setattr("sklearn_mpsae.explorer._samples._MANY_ATOM_PIXELS", 50 * 64 - 1)
    assert len(np.unique(atom_pictures(W, (8, 8)))) <= 31
    monkeypatch.setattr("sklearn_mpsae.explorer._samples._ATOM_PIXELS", 50 * 64 - 1)
    small = atom_pictures(W, (8, 8))
    assert small.shape == (50, 4, 4)
    means = W.reshape(50, 4, 2, 4, 2).mean(axis=(2, 4))
    means /= np.abs(means).max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(small / 120, means, atol=1 / 15)


# ------------------------------------------------------------------------------ safety
def test_the_file_fetches_nothing_and_runs_its_own_script_only(mp, X, tmp_path):
    texts = (HOSTILE * len(X))[: len(X)]
    path = explore(mp, X, tmp_path / "page.html", texts=texts, title=HOSTILE[0] + "{{style}}")
    html = path.read_bytes().decode("utf-8")
    urls = set(re.findall(r"https?://[^\s\"'<>]+", html))
    assert urls == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert re.findall(r"\b(?:src|href|srcset|action)=\"([^\"]*)\"", html) == ["data:,"]
    for word in (
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "innerHTML",
        "eval(",
    ):
        assert word not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert html.count("<script") == 4
    for text in HOSTILE[:3]:
        assert text not in html


def test_a_file_is_replaced_once_the_new_one_is_complete(mp, X, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    bad = tmp_path / "X.npy"
    broken = X.copy()
    broken[-1, 0] = np.nan
    np.save(bad, broken)
    with pytest.raises(ValueError, match=f"Row {len(X) - 1}"):
        explore(mp, NpyFiles(bad), path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["X.npy", "page.html"]
    link = tmp_path / "link.html"
    link.symlink_to(path)
    assert explore(mp, X, str(link)) == link
    assert link.is_symlink()
    assert path.read_text().startswith("<!DOCTYPE html>")


# --------------------------------------------------------------------------- bad input
def no_work(*args, **kwargs):
    raise AssertionError("work was done before the arguments were checked")


PLACES = np.stack([np.zeros(400, int), np.arange(400)], axis=1)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"texts": ["a"] * 401}, ValueError, "401 texts for 400 samples"),
        ({"labels": ["a"] * 399}, ValueError, "399 labels for 400 samples"),
        ({"texts": ["a"] * 399 + [None]}, TypeError, r"texts\[399\] is None"),
        ({"texts": [3] * 400}, TypeError, r"texts\[0\] is 3"),
        ({"texts": "a" * 400}, TypeError, "sequence"),
        ({"labels": [b"a"] * 400}, TypeError, r"labels\[0\] is b'a', of type bytes"),
        ({"labels": [0.5] * 400}, TypeError, "text or whole numbers"),
        ({"labels": [{"a": 1}] * 400}, TypeError, "dict"),
        ({"images": np.zeros((400, 8))}, ValueError, r"\(400, 8\)"),
        ({"images": np.zeros((400, 8, 8, 2))}, ValueError, "height, width"),
        ({"images": np.zeros((400, 0, 8))}, ValueError, "height, width"),
        ({"images": np.zeros((399, 8, 8))}, ValueError, "399 images for 400 samples"),
        (
            {"images": [np.zeros((8, 8))] * 399 + [np.zeros((8, 9))]},
            ValueError,
            r"images\[399\]",
        ),
        ({"images": np.full((400, 8, 8), 16.0)}, ValueError, "floats from 0 to 1"),
        ({"images": np.full((400, 8, 8), np.nan)}, ValueError, "floats from 0 to 1"),
        ({"images": np.ones((400, 8, 8), dtype=int)}, ValueError, "uint8"),
        ({"image_shape": (8, 9)}, ValueError, "image_shape"),
        ({"image_shape": (64,)}, ValueError, "image_shape"),
        ({"feature_names": ["a"] * 63}, ValueError, "63 feature_names for 64 features"),
        ({"feature_names": list(range(64))}, TypeError, "feature_names"),
        ({"tokens": [["a"] * 399]}, ValueError, "399 tokens for 400 samples"),
        ({"tokens": "a" * 400}, TypeError, "lists of tokens"),
        ({"tokens": [["a"] * 400, None]}, TypeError, r"tokens\[1\] is None"),
        ({"tokens": ["a" * 200] * 2}, TypeError, r"tokens\[0\] is 'aaa"),
        ({"tokens": [["a"] * 399, [7]]}, TypeError, r"tokens\[1\]\[0\] is 7, .*Decode"),
        ({"tokens": [["a"] * 400], "texts": ["a"] * 400}, ValueError, "texts or by tokens"),
        ({"positions": PLACES}, ValueError, "pass tokens too"),
        ({"tokens": [["a"] * 400], "positions": PLACES[:9]}, ValueError, r"shape \(400, 2\)"),
        ({"tokens": [["a"] * 400], "positions": PLACES * 1.0}, ValueError, "whole numbers"),
        (
            {"tokens": [["a"] * 9], "positions": PLACES},
            ValueError,
            r"positions\[9\] is \[0, 9\]",
        ),
        ({"tokens": [["a"] * 400], "positions": -PLACES}, ValueError, r"positions\[1\]"),
        ({"tokens": [["a"]], "positions": 0 * PLACES}, ValueError, "a place twice"),
        (
            {"tokens": [[["a"] * 400]], "positions": np.insert(PLACES, 1, 1, axis=1)},
            ValueError,
            r"positions\[0\] is \[0, 1, 0\]",
        ),
        ({"atom_labels": ["a"] * 39}, ValueError, "39 atom_labels for 40 atoms"),
        ({"atom_labels": [3] * 40}, TypeError, r"atom_labels\[0\] is 3"),
        ({"atom_labels": "tfidf"}, ValueError, 'must be "words"'),
        ({"n_examples": 0}, ValueError, "n_examples"),
        ({"n_related": 1.5}, ValueError, "n_related"),
        ({"title": 3}, TypeError, "title"),
        ({"path": "X.npy"}, ValueError, r"\.html"),
        ({"path": "missing/page.html"}, FileNotFoundError, "missing"),
        ({"path": "folder.html"}, IsADirectoryError, "folder"),
        ({"X": np.ones((400, 63))}, ValueError, "63 features"),
        ({"X": np.full((400, 64), np.nan)}, ValueError, "NaN"),
        ({"X": BatchStream([np.ones((400, 64))])}, TypeError, "BatchStream"),
        ({"estimator": PCA()}, TypeError, "of this package"),
        ({"estimator": make_pipeline(TopKSAE())}, TypeError, "pass the step that is one"),
        ({"estimator": TopKSAE()}, NotFittedError, "not fitted"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    mp, X, tmp_path, monkeypatch, options, error, match
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    monkeypatch.watch("sklearn_mpsae.explorer._explore", "facts_of", no_work)
    arguments = {"estimator": mp, "X": X, "path": "page.html"} | options
    with pytest.raises(error, match=match):
        explore(**arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_protected_file_stays(mp, X, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    # Permissions do not bind root, as whom tests may run.
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(PermissionError, match="write-protected"):
        explore(mp, X, path)
    assert path.read_text() == "old"
