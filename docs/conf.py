"""How Sphinx builds the site. `docs/build.sh` runs it."""

import inspect
import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PYPROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
REPOSITORY = PYPROJECT["project"]["urls"]["Repository"]
# `gallery_order`; and a source tree that is not installed builds too.
sys.path[:0] = [str(HERE), str(HERE.parent)]

import sklearn_mpsae  # noqa: E402

project = "sklearn_mpsae"
author = "The sklearn_mpsae developers"
copyright = "The sklearn_mpsae developers"
version = release = sklearn_mpsae.__version__

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "study/README.md"]

# ---------------------------------------------------------------------------- Markdown
myst_heading_anchors = 3


def links_into_the_site(app, docname, source):
    """Pages link to files of the repository, as they must there; the site has its own."""
    up = r"\]\((?:\.\./)+"
    source[0] = re.sub(up + r"examples/(\w+)\.py\)", r"](/gallery/\1.rst)", source[0])
    source[0] = re.sub(up + r"benchmarks/results/\)", "](/benchmarks.md)", source[0])
    source[0] = source[0].replace("REPOSITORY_URL", REPOSITORY)


# ----------------------------------------------------------------------- the reference
autosummary_generate = True
autodoc_typehints = "none"  # docstrings say it, with shapes
autodoc_default_options = {"member-order": "groupwise"}
numpydoc_show_class_members = False  # the class template does
numpydoc_xref_param_type = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 80  # of longer ones, each parameter has a line
default_role = "literal"  # as scikit-learn reads single backticks: parameters, mostly

# `-n` wants a target for every reference. These are to packages whose inventories would
# have to be downloaded, and the site is built offline.
nitpick_ignore_regex = [
    ("py:.*", r"(sklearn|scipy|numpy|matplotlib|torch|pandas|logging)(\..*)?")
]


def not_ours(app, what, name, obj, skip, options):
    """Leave out what scikit-learn documents, and fields that tuples document by name."""
    function = getattr(obj, "__func__", obj)
    module = getattr(inspect.unwrap(function), "__module__", None) or ""
    is_field = type(obj).__name__ in ("_tuplegetter", "member_descriptor")
    return True if is_field or module.split(".")[0] == "sklearn" else None


# ------------------------------------------------------------------------- the gallery
sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",  # the others want a cluster or torchrun: shown, not run
    "within_subsection_order": "gallery_order.QuickstartFirst",
    "backreferences_dir": None,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "min_reported_time": 10,
    "plot_gallery": True,
}

# ------------------------------------------------------------------------------ pictures
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 120)]
plot_rcparams = {"font.size": 10, "savefig.bbox": "tight"}
plot_apply_rcparams = True

# A page that is a file of its own, shown within another.
EXTRA = HERE / "_build" / "extra"
EXTRA.mkdir(parents=True, exist_ok=True)
html_extra_path = [str(EXTRA)]


def write_explorer(app):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    sae = sklearn_mpsae.MPSparseAutoencoder(64, n_nonzero_coefs=4, random_state=0).fit(X)
    path = EXTRA / "digits_explorer.html"
    sklearn_mpsae.explore(sae, X, path, labels=y, image_shape=(8, 8), title="Digits")


# ---------------------------------------------------------------------------------- HTML
html_theme = "pydata_sphinx_theme"
html_title = "sklearn_mpsae"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
# Where there are no pages beside a page, there is nothing to navigate.
_ALONE = "index install benchmarks trust add_an_encoder contributing changelog"
html_sidebars = {page: [] for page in _ALONE.split()}
html_theme_options = {
    "github_url": REPOSITORY,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}


def setup(app):
    app.connect("builder-inited", write_explorer)
    app.connect("source-read", links_into_the_site)
    app.connect("autodoc-skip-member", not_ours)
