"""The explorer: its numbers are those of loops, its page is safe, and it works."""

import base64
import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from pages import blob, column, opened, shown
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, explore
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.explorer import _page
from sklearn_mpsae.explorer._facts import facts_of, uses_of
from sklearn_mpsae.explorer._samples import atom_pictures
from sklearn_mpsae.explorer._texts import BEFORE, Tokens, words_of_texts, words_of_tokens
from sklearn_mpsae.sources import BatchStream, NpyFiles

FAST = {"n_nonzero_coefs": 4, "max_iter": 3, "random_state": 0}
HOSTILE = [
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "\u2028\u2029window.ran = 1//",
    "lone \ud800 surrogate \udfff",
    "null \x00 byte, \x1b[31m escape",
    "\u202eright to left\u2066 <b>bold</b>",
    "{{script}} {{facts}} ]]> --> <!--<script>",
    '" onmouseover="window.ran = 1',
    "javascript:window.ran=1",
    "&lt;script&gt; &amp;",
]


@pytest.fixture(scope="module")
def X(digits):  # noqa: N802 - the field's name for rows
    return digits[:400]


@pytest.fixture(scope="module")
def mp(X):
    """Codes of either sign, so that atoms are taken twice; three atoms are never used."""
    model = MPSparseAutoencoder(40, positive_code=False, dead_atoms="keep", **FAST).fit(X)
    model.intercept_[0] += 0.5  # not the mean of these rows
    return model


@pytest.fixture(scope="module")
def top_k(X):
    return TopKSAE(40, **FAST).fit(X)


@pytest.fixture(params=["mp", "top_k"])
def fitted(request):
    return request.getfixturevalue(request.param)


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


# ------------------------------------------------------------------- tokens and labels
def sentences(n, length=10):
    """Documents of `length` tokens for n rows; the last has what is left."""
    tokens = [f" word{i % 7}" for i in range(n)]
    return [tokens[start : start + length] for start in range(0, n, length)]


def test_tokens_are_shown_in_their_contexts_with_their_codes(fitted, X, tmp_path):
    documents = sentences(len(X))
    page = opened(explore(fitted, X, tmp_path / "page.html", tokens=documents))
    arrays = page["arrays"]
    dense = fitted.transform(X)
    before, shape = page["tokens_before"], arrays["context_codes"].shape
    for sample, (own, tokens) in zip(arrays["samples"], page["contexts"], strict=True):
        document, place = divmod(sample, 10)
        assert tokens == documents[document][max(0, place - before) : place + 9]
        assert tokens[own] == documents[document][place]
        assert own == min(place, before)
    for atom in range(len(dense.T)):
        windows = np.zeros(shape[1:])
        for rank, example in enumerate(arrays["examples"][atom]):
            if example < 0:
                continue
            row = arrays["samples"][example]
            for j in range(shape[2]):
                near = row + j - before
                if near // 10 == row // 10:
                    windows[rank, j] = dense[near, atom]
        largest = np.abs(windows).max() or 1
        np.testing.assert_allclose(
            arrays["context_codes"][atom] / 127, windows / largest, atol=0.5 / 127 + 1e-6
        )


def test_positions_say_which_tokens_the_samples_are(top_k, X, tmp_path):
    """Those that are left out, as padding, are in the contexts too."""
    documents = [["<pad>", *document] for document in sentences(len(X))]
    positions = np.array([(i // 10, i % 10 + 1) for i in range(len(X))])
    order = np.random.default_rng(0).permutation(len(X))
    page = opened(
        explore(
            top_k, X[order], tmp_path / "a.html", tokens=documents, positions=positions[order]
        )
    )
    for sample, (own, tokens) in zip(page["arrays"]["samples"], page["contexts"], strict=True):
        document, place = positions[order][sample]
        assert tokens[0] == "<pad>"
        assert tokens[own] == documents[document][place]
    batches = [documents[:15], documents[15:]]
    places = [(d // 15, d % 15, p) if d < 15 else (1, d - 15, p) for d, p in positions[order]]
    explore(top_k, X[order], tmp_path / "b.html", tokens=batches, positions=places)
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_words_of_atoms_are_those_of_their_samples_more_than_of_all():
    texts = [
        "the cat sat",
        "the cat ran",
        "the dog sat",
        "the dog zebra",
        "a plain the text",
    ] * 4
    top_rows = np.array([[0, 1, 5, -1], [2, 3, 7, 8], [0, 2, 4, 9], [3, -1, -1, -1]])
    labels = words_of_texts(texts, top_rows)
    assert labels[0].split(", ")[0] == "cat"
    assert labels[1].split(", ")[0] == "dog"
    assert not any("the" in label.split(", ") for label in labels)  # it is everywhere
    assert labels[3] == ""  # a single sample
    assert words_of_texts(["!", "?"], np.array([[0, 1]])) == [""]


def test_words_of_tokens_count_as_much_as_their_codes():
    tokens = Tokens([["I", " saw", " A", " cat"], ["The", " Cat", " saw"], [" ", " a"]], None)
    top_rows = np.array([[3, 5, -1], [1, 6, 3], [7, 7, 7]])
    codes = np.zeros((3, 3, 25), dtype=np.int8)
    codes[0, :2, BEFORE] = 127
    codes[1, :2, BEFORE] = 10
    codes[1, 2, BEFORE - 2] = 127  # the saw of the first document, seen from the cat
    codes[2, 0, BEFORE] = 127
    assert words_of_tokens(tokens, codes, top_rows) == ["cat", "saw", ""]


def test_atoms_have_the_labels_that_are_given_or_made(mp, X, tmp_path):
    path = tmp_path / "page.html"
    texts = [f"text {i}" for i in range(len(X))]
    given = opened(explore(mp, X, path, atom_labels=[f"atom number {i}" for i in range(40)]))
    assert (given["atom_labels"][7], given["label_words"]) == ("atom number 7", False)
    seen = []

    def name(strongest):
        seen.append(strongest)
        return None if strongest.atom == seen[0].atom else f"{strongest.texts[0]}!"

    page = opened(explore(mp, X, path, texts=texts, atom_labels=name))
    arrays = page["arrays"]
    used = np.flatnonzero(arrays["usage"])
    assert [each.atom for each in seen] == used.tolist()
    for each in seen:
        shown = arrays["examples"][each.atom][:12]
        assert each.rows.tolist() == arrays["samples"][shown[shown >= 0]].tolist()
        assert each.texts == [texts[row] for row in each.rows]
        assert each.codes == pytest.approx(
            arrays["example_codes"][each.atom][: len(each.codes)]
        )
    assert page["atom_labels"][used[0]] == ""
    assert page["atom_labels"][used[1]] == f"{seen[1].texts[0]}!"
    explore(mp, X, path, tokens=sentences(len(X)), atom_labels=lambda s: seen.append(s))
    assert re.fullmatch(r"( word\d)*<< word\d>>( word\d)*", seen[-1].texts[0])
    for options in ({"texts": texts, "atom_labels": None}, {"labels": texts}):
        assert opened(explore(mp, X, path, **options))["atom_labels"] is None


def test_a_label_that_is_no_text_is_refused_and_nothing_written(mp, X, tmp_path):
    with pytest.raises(TypeError, match=r"atom_labels gave 3 for atom \d+"):
        explore(mp, X, tmp_path / "page.html", atom_labels=lambda strongest: 3)
    assert list(tmp_path.iterdir()) == []


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


# -------------------------------------------------------------------------- the browser
@pytest.fixture(scope="module")
def digits_page(X, digits, tmp_path_factory):
    from sklearn.datasets import load_digits

    model = MPSparseAutoencoder(64, **FAST).fit(X)
    path = tmp_path_factory.mktemp("explorer") / "digits.html"
    labels = [f"digit {y}" for y in load_digits().target[:400]]
    return explore(model, X, path, labels=labels, image_shape=(8, 8), title="Digits")


def numbers(texts):
    return [float(re.sub(r"[^\d.]", "", text)) for text in texts if text != "–"]


def test_the_table_opens_and_sorts(visit, digits_page):
    page = visit(digits_page)
    facts = opened(digits_page)
    assert page.inner_text("h1") == "Digits"
    assert "64 atoms · 400 samples" in page.inner_text("#summary")
    usage = numbers(column(page, 1))
    assert usage == sorted(usage, reverse=True)
    assert usage[0] == pytest.approx(100 * facts["arrays"]["usage"].max() / 400, abs=0.5)
    for index, name in enumerate(["Atom", "Usage", "Mean code", "Coherence", "Picked"]):
        for _ in range(2):
            page.get_by_role("columnheader").get_by_text(name, exact=True).click()
            down = page.locator(f'[data-key][aria-sort="descending"] >> text="{name}"').count()
            shown = numbers(column(page, index))
            assert len(shown) > 10
            assert shown == sorted(shown, reverse=bool(down))
    head = page.get_by_role("columnheader").get_by_text("If removed")
    assert "squared error" in head.get_attribute("title")


def test_the_table_draws_the_rows_in_view_only(visit, digits_page):
    page = visit(digits_page)
    page.set_viewport_size({"width": 1400, "height": 600})
    page.evaluate("document.getElementById('scroller').scrollTop = 1e6")
    page.locator('.row[aria-rowindex="65"]').wait_for()
    assert page.locator(".row:not([hidden])").count() < 40
    assert page.locator("#grid").get_attribute("aria-rowcount") == "65"
    assert numbers(column(page, 1))[-1] == min(numbers(column(page, 1)))


def test_search_finds_labels_and_numbers(visit, digits_page):
    page = visit(digits_page)
    facts = opened(digits_page)
    page.keyboard.press("/")
    page.keyboard.type("#17")
    assert column(page, 0) == ["17"]
    page.fill("#search", "DIGIT 3")
    has_three = [
        any("digit 3" in facts["labels"][i] for i in examples if i >= 0)
        for examples in facts["arrays"]["examples"]
    ]
    assert f"{sum(has_three)} of 64 atoms" in page.inner_text("#found")
    found = [int(atom) for atom in column(page, 0)]
    assert all(has_three[atom] for atom in found)
    page.locator(f"#row-{found[0]}").click()
    assert {mark.lower() for mark in page.locator("mark").all_inner_texts()} == {"digit 3"}
    page.fill("#search", "nowhere")
    assert "No atom" in page.inner_text("#found")
    page.keyboard.press("Escape")
    assert page.inner_text("#found") == "64 atoms"


def test_clicks_lead_from_atom_to_atom_and_back(visit, digits_page):
    page = visit(digits_page)
    arrays = opened(digits_page)["arrays"]
    page.locator(".row").nth(3).click()
    atom = int(column(page, 0)[3])
    assert page.inner_text("#atom h2") == f"Atom {atom}"
    assert page.url.endswith(f"#{atom}")
    assert page.title() == f"Atom {atom} – Digits"
    neighbor = arrays["neighbors"][atom, 0]
    similar = page.locator("section", has=page.get_by_text("Most similar atoms"))
    similar.get_by_role("button").first.click()
    assert page.inner_text("#atom h2") == f"Atom {neighbor}"
    page.go_back()
    shown(page, atom)
    assert page.locator('[aria-selected="true"]').get_attribute("id") == f"row-{atom}"


def test_an_atom_shows_what_the_file_says_of_it(visit, digits_page):
    arrays = opened(digits_page)["arrays"]
    atom = int(np.argmax((arrays["before"][:, 0] >= 0) & (arrays["usage"] > 12)))
    path = digits_page
    page = visit(path)
    page.evaluate(f"location.hash = '{atom}'")
    shown(page, atom)
    text = page.inner_text("#atom")
    assert f"{arrays['usage'][atom]} of 400 samples" in text
    n_shown = np.count_nonzero(arrays["examples"][atom] >= 0)
    assert page.locator("#atom figure canvas").count() == n_shown > 12
    assert page.locator("#atom rect").count() == arrays["histogram"].shape[1]
    before = page.locator("section", has=page.get_by_text("Picked before it"))
    first = before.get_by_role("button").first.get_attribute("aria-label")
    rows = arrays["before_rows"][atom, 0]
    assert first.startswith(f"Atom {arrays['before'][atom, 0]}. In {rows} of the ")
    canvas = page.locator("#atom figure canvas").first
    drawn = canvas.evaluate("c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data]")
    pixels = np.frombuffer(blob(path.read_text(), "samples"), np.uint8).reshape(-1, 64)
    assert drawn[::4] == pixels[arrays["examples"][atom, 0]].tolist()


def test_the_keyboard_goes_through_the_table(visit, digits_page):
    page = visit(digits_page)
    page.focus("#grid")
    order = column(page, 0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#atom h2") == f"Atom {order[2]}"
    assert page.locator("#grid").get_attribute("aria-activedescendant") == f"row-{order[2]}"
    page.keyboard.press("End")
    page.locator('.row[aria-rowindex="65"]').wait_for()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "atom"
    page.click("#about-open")
    assert "largest |cosine|" in page.inner_text("#about")
    page.keyboard.press("Escape")


def test_a_narrow_screen_shows_one_thing_at_a_time(visit, digits_page):
    page = visit(digits_page, color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator("#atom").is_hidden()
    page.select_option("#sort", "coherence true")
    page.locator(".row").nth(2).click()
    assert page.locator("#list").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_text("All atoms").click()
    page.locator("#atom").wait_for(state="hidden")
    assert page.locator("#list").is_visible()


def test_hostile_texts_are_shown_and_run_nothing(visit, X, tmp_path):
    names = (HOSTILE * 7)[:64]
    model = TopKSAE(12, **FAST).fit(X)
    texts = (HOSTILE * len(X))[: len(X)]
    for options in (
        {"texts": texts, "labels": texts[::-1], "title": HOSTILE[0]},
        {"labels": texts, "feature_names": names, "title": "".join(HOSTILE)},
        {
            "tokens": [texts[i : i + 5] for i in range(0, len(X), 5)],
            "atom_labels": lambda strongest: HOSTILE[strongest.atom % len(HOSTILE)],
            "title": HOSTILE[0],
        },
    ):
        path = explore(model, X, tmp_path / "hostile.html", **options)
        page = visit(path)
        rows, shown = page.locator(".row:not([hidden])"), ""
        for i in range(rows.count()):
            rows.nth(i).click()
            shown += page.inner_text("#atom")
        page.fill("#search", "<img src")
        page.click("#about-open")
        assert page.evaluate("window.ran") is None
        assert page.locator("img, #atom b:not(figcaption b), #atom script").count() == 0
        assert "<img src" in shown
        assert "</script>" in page.inner_text("h1")


def test_tokens_have_the_colour_of_their_codes_and_labels_are_found(visit, mp, X, tmp_path):
    documents = sentences(len(X))
    path = explore(
        mp,
        X,
        tmp_path / "page.html",
        tokens=documents,
        atom_labels=[f"label {i}." for i in range(40)],
    )
    page, arrays = visit(path), opened(path)["arrays"]
    page.fill("#search", "LABEL 7.")
    assert page.inner_text("#found") == "1 of 40 atoms, best match first"
    page.locator("#row-7").click()
    assert page.inner_text(".atom-label") == "label 7."
    first = page.locator(".context").first
    (row,) = arrays["samples"][arrays["examples"][7, :1]]
    document, place = divmod(int(row), 10)
    assert first.inner_text() == "".join(documents[document][: place + 9])
    assert first.locator(".own").inner_text() == documents[document][place].strip()
    dense = mp.transform(X)[10 * document : 10 * document + 10, 7]
    shown = dense[: place + 9]
    assert first.locator(".above, .below").count() == np.count_nonzero(shown)
    page.fill("#search", "word3")
    assert set(page.locator("mark").all_inner_texts()) == {"word3"}
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_script_that_got_in_would_not_run(browser, digits_page):
    """The page's policy is a second wall."""
    page = browser.new_page()
    page.goto(digits_page.as_uri())
    page.locator("body[data-ready]").wait_for()
    tries = {
        "const s = document.createElement('script'); s.text = 'window.ran = 1';"
        "document.body.append(s)",
        "document.body.innerHTML = '<img src=x onerror=\"window.ran = 1\">'",
        "document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()",
        "setTimeout('window.ran = 1')",
    }
    for injection in tries:
        page.evaluate(f"try {{ {injection} }} catch (error) {{ }}")
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    page.close()


def test_an_unused_atom_says_so(visit, X, tmp_path):
    model = TopKSAE(8, **FAST).fit(X)
    model.encoder_intercept_[5] = -1e9
    page = visit(explore(model, X, tmp_path / "page.html"))
    page.check("#used")
    assert page.inner_text("#found") == "7 of 8 atoms"
    page.evaluate("location.hash = '5'")
    shown(page, 5)
    assert "None of these samples uses this atom." in page.inner_text("#atom")


def test_a_damaged_file_says_so(browser, digits_page, tmp_path):
    html = digits_page.read_text()
    start = html.index('id="facts">') + 500
    path = tmp_path / "damaged.html"
    path.write_text(html[:start] + html[start + 400 :])
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("#summary", has_text="could not be opened").wait_for()
    page.close()
