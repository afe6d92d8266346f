"""What the study does with a language model, on a text of a few words."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE

STUDY = Path(__file__).parents[1] / "benchmarks" / "study"
TRANSFORMER = {"n_words": 12, "context": 10, "width": 8, "n_heads": 2, "n_epochs": 1}


@pytest.fixture
def parts(monkeypatch):
    """The modules of the study, by name."""
    monkeypatch.syspath_prepend(str(STUDY))
    import language_measures
    import language_minilm
    import language_model
    import language_rows
    import language_strong

    return {
        "model": language_model,
        "rows": language_rows,
        "measures": language_measures,
        "minilm": language_minilm,
        "strong": language_strong,
    }


@pytest.fixture
def folder(tmp_path):
    """A folder with 200 glosses of 3 to 7 of 16 words."""
    rng, words = np.random.default_rng(0), [f"{a}{b}" for a in "bcdf" for b in "aeio"]
    chance = np.arange(16, 0, -1) / np.arange(16, 0, -1).sum()
    lines = [
        f"{file:02d}\tword\t{' '.join(rng.choice(words, size, p=chance))}"
        for file, size in zip(
            rng.choice([0, 2, 5, 30], 200), rng.integers(3, 8, 200), strict=True
        )
    ]
    (tmp_path / "wordnet_glosses.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


@pytest.fixture
def source(parts, folder):
    settings = parts["model"].Settings(**TRANSFORMER)
    return parts["rows"].Source(str(folder), folder / "cache", settings, None, 2, 300, 60, 50)


def test_no_gloss_is_both_learnt_from_and_held_out(parts, folder):
    text = parts["model"].read_text(str(folder), 12, 7, None)
    glosses = [tuple(gloss.tolist()) for gloss in text.glosses]
    with_all_words = parts["model"].read_text(str(folder), 100, 7, None)
    assert len({tuple(gloss.tolist()) for gloss in with_all_words.glosses}) == len(glosses)
    assert len(text.words) == 12
    assert max(map(len, glosses)) == 7  # of five words and both ends
    assert all(g[0] == g[-1] == 1 and min(g[1:-1]) > 1 for g in glosses)
    assert 2 in {number for gloss in glosses for number in gloss}  # words that are not kept
    assert set(text.speech) == {"adjective", "adverb", "noun", "verb"}


@pytest.mark.parametrize(
    ("file", "speech"),
    [
        (1, "adjective"),
        (2, "adverb"),
        (3, "noun"),
        (28, "noun"),
        (29, "verb"),
        (44, "adjective"),
    ],
)
def test_parts_of_speech_are_those_of_wordnet_s_files(parts, file, speech):
    assert parts["model"].part_of_speech(file) == speech


def test_a_folder_without_the_text_is_refused(parts, tmp_path):
    with pytest.raises(SystemExit, match=r"wordnet_glosses.tsv.gz is missing.*--data"):
        parts["model"].read_text(str(tmp_path), 12, 10, None)


def test_groups_have_each_gloss_once_and_few_tokens(parts, folder):
    text = parts["model"].read_text(str(folder), 12, 10, None)
    groups = text.groups(range(50), 40)
    assert sorted(gloss for group in groups for gloss in group) == list(range(50))
    assert max(text.batch(group).numel() for group in groups) <= 40


def test_the_model_sees_neither_later_words_nor_padding(parts):
    settings = parts["model"].Settings(**TRANSFORMER)
    model = parts["model"].Transformer(settings, 12)
    tokens = torch.tensor([[1, 5, 6, 7, 8, 1], [1, 5, 6, 9, 1, 0]])
    with torch.no_grad():
        both, short = model(tokens), model(tokens[1:, :5])
    torch.testing.assert_close(both[0, :3], both[1, :3])
    torch.testing.assert_close(both[1, :5], short[0])
    assert not torch.allclose(both[0, 3], both[1, 3])


def test_the_loss_is_that_of_the_next_token(parts):
    tokens = torch.tensor([[1, 3, 4, 1], [1, 5, 1, 0]])
    logits = torch.randn(2, 4, 12)
    found = parts["model"].losses(logits, tokens)
    expected = -logits.log_softmax(-1)
    torch.testing.assert_close(found[0, 1], expected[0, 1, 4])
    torch.testing.assert_close(found[1, 1], expected[1, 1, 1])
    assert found[:, 3].tolist() == [0, 0]
    assert found[1, 2] == 0


def test_a_model_is_trained_once_for_its_settings(parts, folder, monkeypatch):
    module = parts["model"]
    settings = module.Settings(**TRANSFORMER)
    text = module.read_text(str(folder), 12, 10, None)
    model, found = module.trained(settings, text, folder)
    assert len(found["losses"]) == 1
    with monkeypatch.context() as patch:
        patch.watch(module, "_train", None)
        again, _ = module.trained(settings, text, folder)
    torch.testing.assert_close(again.state_dict(), model.state_dict())
    other, _ = module.trained(settings._replace(seed=1), text, folder)
    assert not torch.equal(other.words.weight, model.words.weight)


def test_rows_are_the_activations_of_their_words(parts, source):
    data = parts["rows"].load(source)
    model, text = data.model, data.text
    assert data.train.X.shape == (300, 8)
    assert data.test.X.shape == (60, 8)
    assert data.train.gloss.max() < text.n_train <= data.test.gloss.min()
    for rows in (data.train, data.test):
        for x, before, own, after, gloss in zip(*rows.first(20), strict=True):
            tokens = torch.from_numpy(text.glosses[gloss])[None]
            with torch.no_grad():
                hidden = model.words(tokens) + model.places.weight[: tokens.shape[1]]
                for block in model.blocks[:2]:
                    hidden = block(hidden)
            (place,) = np.flatnonzero(np.isclose(hidden[0], x, atol=1e-5).all(axis=1))
            assert tokens[0, place - 1 : place + 2].tolist() == [before, own, after]


# ------------------------------------------------------------------------------ the labels
def rows_of(parts, rng, n):
    own, before = rng.integers(3, 20, (2, n))
    blank = np.zeros(n)
    return parts["rows"].Rows(blank, before, own, blank, blank)


def test_labels_are_the_words_that_say_where_an_atom_is_used(parts, rng):
    train, test = (rows_of(parts, rng, n) for n in (2000, 1000))

    def codes(rows):
        used = [np.isin(rows.own, [4, 7]), rows.before == 9, np.zeros(len(rows.own), bool)]
        return np.stack(used, axis=1) * 2.0

    found = parts["measures"].labels(train, codes(train), test, codes(test))
    assert found.place[:2].tolist() == ["own", "before"]
    assert sorted(found.words[0]) == [4, 7]
    assert found.words[1].tolist() == [9]
    assert found.f1[:2].tolist() == [1, 1]
    assert found.balanced_accuracy[:2].tolist() == [1, 1]
    # No row uses the last one, which has no words and is not judged.
    assert len(found.words[2]) == 0
    assert np.isnan(found.f1[2])
    assert np.isnan(found.balanced_accuracy[2])


def test_labels_are_judged_on_held_out_rows(parts, rng):
    """A rule is as good as it is where it was not made."""
    train, test = (rows_of(parts, rng, n) for n in (2000, 1000))
    codes, other = (train.own == 4)[:, None] * 1.0, np.isin(test.own, [4, 5])[:, None] * 1.0
    found = parts["measures"].labels(train, codes, test, other)
    n = (test.own == 4).sum()
    used, sensitivity = other.sum(), n / other.sum()
    assert found.f1[0] == pytest.approx(2 * n / (n + used))
    assert found.balanced_accuracy[0] == pytest.approx((sensitivity + 1) / 2)


def test_labels_of_atoms_that_words_say_nothing_of_are_poor(parts, rng):
    train, test = (rows_of(parts, rng, n) for n in (4000, 4000))
    codes, other = (rng.random((4000, 50)) < 0.1 for _ in range(2))
    found = parts["measures"].labels(train, codes * 1.0, test, other * 1.0)
    assert abs(np.nanmean(found.balanced_accuracy) - 0.5) < 0.01


def test_strong_uses_are_a_share_of_each_atom_s_own(parts):
    codes = sparse.csr_array(np.array([[1.0, 50, 0], [2, 0, 0], [3, 60, 0], [4, 0, 0]]))
    least = parts["strong"].thresholds(codes)
    kept = parts["strong"].above(codes, least).toarray()
    assert kept.tolist() == [[0, 0, 0], [0, 0, 0], [0, 60, 0], [4, 0, 0]]
    assert least[2] == np.inf


def test_first_codes_are_those_of_the_pursuit_or_the_largest(parts, rng):
    X = rng.standard_normal((50, 6)).astype(np.float32)
    options = {"n_nonzero_coefs": 3, "max_iter": 1, "random_state": 0}
    pursuit = MPSparseAutoencoder(9, **options).fit(X)
    codes = parts["strong"].in_order(pursuit, X)
    np.testing.assert_array_equal(codes.indices, pursuit.encode(X).indices)
    shallow = TopKSAE(9, **options).fit(X)
    codes = parts["strong"].in_order(shallow, X)
    assert (np.diff(codes.values, axis=1) <= 0).all()
    np.testing.assert_array_equal(codes.dense(), shallow.encode(X).dense())


# ------------------------------------------------------------------- a sentence transformer
class Sentences(torch.nn.Module):
    """Looks like a model of transformers."""

    def forward(self, input_ids, attention_mask):
        hidden = torch.nn.functional.one_hot(input_ids, 6).float()
        return type("Output", (), {"last_hidden_state": hidden})


@pytest.fixture
def batch():
    tokens = torch.tensor([[1, 3, 4, 2], [1, 3, 2, 0]])
    return {"input_ids": tokens, "attention_mask": (tokens != 0).long()}


def test_rows_are_of_tokens_of_the_text_alone(parts, batch):
    inner = parts["minilm"].is_inner(batch)
    assert inner.tolist() == [[False, True, True, False], [False, True, False, False]]


def test_an_embedding_is_the_mean_of_a_gloss_s_own_tokens(parts, batch):
    found = parts["minilm"].embeddings(Sentences()(**batch), batch)
    torch.testing.assert_close(found[1], torch.tensor([0, 1, 1, 1, 0, 0]) / 3**0.5)


def test_the_loss_of_an_embedding_is_how_far_it_turns(parts, batch):
    model = Sentences()
    turned = parts["minilm"].Turned(model, [batch])
    output = model(**batch)
    total, n = turned(output, batch)
    assert float(total) == pytest.approx(0, abs=1e-6)
    assert n == 2
    output.last_hidden_state[1, 1] = 0  # two tokens of three are left
    total, _ = turned(output, batch)
    assert float(total) == pytest.approx(1 - (2 / 3) ** 0.5)
