"""What the pages of docs/ say is complete, and what they show runs."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from code_blocks import blocks
from sklearn import decomposition, linear_model
from test_docstrings import public_objects
from test_package import PROJECT

docscrape = pytest.importorskip("numpydoc.docscrape")

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = DOCS / "guide"

VERDICTS = {"same", "extended", "not available"}


# ---------------------------------------------------------------------------- words
# Figures of speech, where the field has a word: interface, other packages, correct, ...
FIGURES = r"(?:doors?|rivals?|houses?|wings?|defeat\w*|mend\w*|riddles?|strangers?|stead)"
# Folders and options of benchmarks.
NAMES = r"`?rivals/\S*|rivals[=.,_)]|--rival\S*|import rivals|from rivals"
WRITTEN = [
    *(DOCS.parent / "sklearn_mpsae").rglob("*.py"),
    *(DOCS.parent / "sklearn_mpsae").rglob("*.js"),
    *(DOCS.parent / "examples").glob("*.py"),
    *DOCS.glob("*.md"),
    *GUIDE.glob("*.md"),
    *(DOCS.parent / name for name in ("CONTRIBUTING.md", "README.md", "SECURITY.md")),
    DOCS.parent / "benchmarks" / "README.md",
]


def test_docs_docstrings_and_messages_use_plain_words():
    found = []
    for path in WRITTEN:
        text = re.sub(NAMES, "", path.read_text(encoding="utf-8"))
        lines = re.findall(rf"^.*\b{FIGURES}\b.*$", text, re.IGNORECASE | re.MULTILINE)
        found += [f"{path.name}: {line}" for line in lines]
    assert not found


# --------------------------------------------------------------------------- tables
def sections(page):
    """The text below each heading of the second level."""
    parts = re.split(r"^## (.*)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text):
    """The cells of the rows of tables with a verdict, in four columns."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    return [line for line in cells if len(line) == 4 and line[2] not in ("", "---")]


def names(cell):
    """`a`, `b="c"` and `d`: a, b, c, d."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", cell))))


def parameters(public):
    return set(inspect.signature(public).parameters) - {"self"}


def features(public):
    """Parameters, methods and fitted attributes."""
    if not inspect.isclass(public):
        return parameters(public)
    doc = docscrape.ClassDoc(public)
    attributes = {entry.name for entry in doc["Attributes"]}
    return parameters(public) | attributes | {n for n in dir(public) if is_method(public, n)}


def is_method(cls, name):
    return not name.startswith("_") and callable(inspect.getattr_static(cls, name, None))


SKLEARN = [heading for heading in sections(GUIDE / "from_sklearn.md") if "`" in heading]


@pytest.mark.parametrize("heading", SKLEARN)
def test_every_feature_of_scikit_learn_has_a_row(heading):
    table = rows(sections(GUIDE / "from_sklearn.md")[heading])
    listed = set().union(*(names(theirs) for theirs, *_ in table))
    there = set()
    for name in re.findall(r"`(\w+)`", heading):
        there |= features(getattr(decomposition, name, None) or getattr(linear_model, name))
    assert there - listed == set()


def test_the_family_of_scikit_learn_is_whole():
    listed = set(re.findall(r"`(\w+)`", " ".join(SKLEARN)))
    family = {
        name
        for module in (decomposition, linear_model)
        for name in module.__all__
        if re.search(
            "dict(ionary)?_?learning|sparse_?(en)?code|orthogonal_?m", name, re.IGNORECASE
        )
    }
    assert listed == family


# The matching pursuit, TopK and BatchTopK of SAELens 6.54 and overcomplete 0.3: configs,
# signatures and methods. `test_the_lists_are_those_of_the_packages` compares, where they
# are installed.
SAELENS = """
    d_in d_sae dtype device apply_b_dec_to_input normalize_activations reshape_activations
    metadata residual_threshold max_iterations stop_on_duplicate_support decoder_init_norm k
    rescale_acts_by_decoder_norm use_sparse_activations aux_loss_coefficient topk_threshold_lr
    total_training_samples train_batch_size_samples lr lr_end lr_scheduler_name
    lr_warm_up_steps lr_decay_steps n_restart_cycles adam_beta1 adam_beta2 autocast
    dead_feature_window feature_sampling_window n_checkpoints checkpoint_path
    save_final_checkpoint logger n_batches_for_norm_estimate W_enc decode encode
    fold_W_dec_norm fold_activation_norm_scaling_factor fold_activation_whitening
    fold_and_get_W_dec_norm forward from_dict from_pretrained
    from_pretrained_with_cfg_and_sparsity get_W_dec_norm get_activation_fn get_name
    get_sae_class_for_architecture get_sae_config_class_for_architecture initialize_weights
    load_from_disk load_from_pretrained process_sae_in process_state_dict_for_loading
    process_state_dict_for_saving save_model to turn_off_forward_pass_hook_z_reshaping
    turn_on_forward_pass_hook_z_reshaping use_error_term calculate_aux_loss
    calculate_topk_aux_loss encode_with_hidden_pre get_coefficients
    load_weights_from_checkpoint log_histograms process_state_dict_for_saving_inference
    save_inference_model training_forward_pass update_topk_threshold feature_sparsity
    log_feature_sparsity dead_neurons fit set_final_sae_metadata save_checkpoint step
    maybe_reset_sparsity full_sparsity_window_log save_trainer_state load_trainer_state
    build_train_step_log_dict
"""
OVERCOMPLETE = """
    input_shape nb_concepts k dropout encoder_module dictionary_params device max_iter top_k
    threshold_momentum in_dimensions normalization initializer use_multiplier model dataloader
    criterion optimizer scheduler nb_epochs clip_grad monitoring max_nan_fallbacks decode
    encode fit forward get_dictionary tied train untied
"""


@pytest.mark.parametrize(
    ("heading", "there"), [("SAELens", SAELENS), ("overcomplete", OVERCOMPLETE)]
)
def test_every_feature_of_their_pursuit_and_top_k_has_a_row(heading, there):
    table = rows(sections(GUIDE / "from_sae_libraries.md")[heading])
    listed = set().union(*(names(theirs) for theirs, *_ in table))
    assert set(there.split()) - listed == set()


def of_package(cls, package):
    """The names of a class's public members that the package defines."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        module = getattr(inspect.unwrap(function), "__module__", None) or ""
        if module.startswith(package) and not name.startswith("_"):
            yield name


def of_saelens():
    sae_lens = pytest.importorskip("sae_lens", exc_type=ImportError)
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    kinds = ["MatchingPursuit", "MatchingPursuitTraining", "TopK", "TopKTraining"]
    saes = [getattr(sae_lens, kind + "SAE") for kind in [*kinds, "BatchTopKTraining"]]
    configs = [getattr(sae_lens, kind + "SAEConfig") for kind in [*kinds, "BatchTopKTraining"]]
    found = set().union(*(parameters(config) for config in [*configs, SAETrainerConfig]))
    return found.union(*(of_package(cls, "sae_lens") for cls in [*saes, SAETrainer]))


def of_overcomplete():
    pytest.importorskip("overcomplete", exc_type=ImportError)
    from overcomplete import sae
    from overcomplete.sae.train import train_sae, train_sae_amp

    saes = [sae.MpSAE, sae.OMPSAE, sae.TopKSAE, sae.BatchTopKSAE]
    found = set().union(
        *(parameters(x) for x in [*saes, sae.DictionaryLayer, train_sae, train_sae_amp])
    )
    return found.union(*(of_package(cls, "overcomplete") for cls in saes))


@pytest.mark.parametrize(
    ("found", "listed"), [(of_saelens, SAELENS), (of_overcomplete, OVERCOMPLETE)]
)
def test_the_lists_are_those_of_the_packages(found, listed):
    assert found() == set(listed.split())


@pytest.mark.parametrize("page", ["from_sklearn.md", "from_spams.md", "from_sae_libraries.md"])
def test_each_row_says_same_extended_or_not_available(page):
    """And why, unless it is the same."""
    table = rows((GUIDE / page).read_text())
    assert {verdict for *_, verdict, _ in table} == VERDICTS
    for theirs, ours, verdict, reason in table:
        assert reason or (ours and verdict == "same"), theirs


# ------------------------------------------------------------------------- snippets
PAGES = [DOCS / "index.md", DOCS / "scaling.md", *sorted(GUIDE.glob("*.md"))]


def python_of(page):
    return [block.code for block in blocks(page.read_text(), "python")]


@pytest.mark.parametrize("page", [p for p in PAGES if python_of(p)], ids=lambda page: page.stem)
def test_the_python_of_pages_runs(page, tmp_path, monkeypatch, small):
    """One block after the other, as a reader would; fits are cut short."""
    plt = pytest.importorskip("matplotlib.pyplot")
    if page.stem == "callbacks":
        pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sklearn_mpsae.learning.run._DEFAULT_STEPS", 30)
    names = {"__name__": "__main__"}
    if page.stem == "scaling":  # what it says there is
        for name in ("activations", "shard0", "shard1"):
            np.save(f"{name}.npy", small.astype(np.float32))
        np.savetxt("rows.csv", small, delimiter=",", header=",".join("abcdefghij"), comments="")
        names |= {"X": small, "activations_of_a_model": [small]}
    for block in python_of(page):
        block = block.replace("10_000_000", str(len(small)))  # what the stand-in has
        exec(compile(block, str(page), "exec"), names)
    plt.close("all")


# ------------------------------------------------------------------------- what is there
def test_every_public_name_is_in_the_reference():
    reference = re.split(
        r"^\.\. (?:current)?module:: ", (DOCS / "api.md").read_text(), flags=re.M
    )
    listed = {
        f"{module}.{name}"
        for module, _, text in (part.partition("\n") for part in reference[1:])
        for name in re.findall(r"^   (\w+)$", text, flags=re.M)
    }
    assert listed == {name for name, _ in public_objects()}


def test_every_result_of_a_benchmark_has_its_place():
    results = {path.name for path in (DOCS.parent / "benchmarks" / "results").glob("*.md")}
    included = set(re.findall(r"results/(\w+\.md)", (DOCS / "benchmarks.md").read_text()))
    assert included == results


def test_every_page_of_the_study_is_in_the_site():
    pages = {path.stem for path in (DOCS / "study").glob("*.md")} - {"README", "index"}
    listed = re.findall(r"^(\w+)$", (DOCS / "study" / "index.md").read_text(), flags=re.M)
    assert set(listed) - {"README"} == pages


def test_the_guide_says_of_each_page_what_is_there():
    index = (GUIDE / "index.md").read_text()
    pages = re.search(r"```{toctree}\n:hidden:\n\n(.*?)```", index, flags=re.S)[1].split()
    bullets = re.findall(r"^- \[[^]]+\]\(([^)]+)\.md\): (.{40,})$", index, flags=re.M)
    assert [page for page, _ in bullets] == pages
    there = {path.stem for path in GUIDE.glob("*.md")} - {"index"}
    assert set(pages) == there | {"../scaling"}


def test_the_installation_page_has_every_extra():
    page = (DOCS / "install.md").read_text()
    for extra in PROJECT["optional-dependencies"]:
        assert f"`{extra}`" in page
    assert "REPOSITORY_URL" in page  # the site puts the address there


# --------------------------------------------------------------------------- the style sheet
PAGE = """<!doctype html><meta name="viewport" content="width=device-width">
<style>pre, div {{ overflow-x: auto }} {style}</style>
<body class="bd-article"><pre>{wide}</pre>
<div class="pst-scrollable-table-container"><table><td>{wide}</table></div>"""


def test_what_is_wider_than_its_box_has_a_scrollbar(tmp_path):
    """By the style sheet; without it, `check_widths.py` finds both, at each width."""
    site = (DOCS / "_static" / "site.css").read_text()
    for name, style in (("plain", ""), ("styled", site)):
        page = PAGE.format(style=style, wide="wide" * 100)
        (tmp_path / f"{name}.html").write_text(page)
    command = [sys.executable, DOCS / "check_widths.py", tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True)
    if "DID NOT RUN" in ran.stdout:
        pytest.skip(ran.stdout)
    assert "4 tables, blocks or signatures cut" in ran.stdout, ran.stderr
    assert "styled.html" not in ran.stdout
    assert ran.returncode == 1
