"""What a user calls: checks first, then facts, samples and the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .._array_api import on_numpy
from .._files import replacing
from .._version import __version__
from ..coding.checks import check_count
from ..estimators._encoder import BaseEncoder
from ..plotting._base import check_estimator
from ..plotting._mosaic import as_images
from ..rows.stream import BatchStream
from ._facts import facts_of
from ._inputs import checked_atom_labels, checked_images, checked_texts, checked_tokens
from ._page import write_page
from ._samples import (
    atom_pictures,
    by_importance,
    largest_weights,
    pictures_of,
    profiles_of,
)
from ._texts import (
    BEFORE,
    Strongest,
    context_codes,
    named_by,
    words_of_texts,
    words_of_tokens,
)

# Longer texts and labels are cut, and all texts together are kept below so many characters.
_TEXT_LENGTH, _LABEL_LENGTH, _ALL_TEXT = 400, 80, 8_000_000


@on_numpy
def explore(
    estimator: BaseEncoder,
    X: ArrayLike,
    path: str | os.PathLike[str],
    *,
    texts: Sequence[str] | None = None,
    tokens: Sequence[Sequence[str]] | None = None,
    positions: ArrayLike | None = None,
    labels: Sequence[str] | Sequence[int] | None = None,
    images: ArrayLike | None = None,
    image_shape: tuple[int, ...] | None = None,
    feature_names: Sequence[str] | None = None,
    atom_labels: str | Sequence[str] | Callable[[Strongest], str | None] | None = "words",
    n_examples: int = 12,
    n_related: int = 8,
    title: str | None = None,
) -> Path:
    """Write a page to explore the atoms of a fitted estimator, in any browser.

    The page is one HTML file, which needs neither a server nor a network. It has a table of
    all atoms, to search and to sort: how many samples use each, its mean code, its
    cosine with the most similar or opposite atom, the step at which a pursuit selects it, its
    share of the energy, and the rise of the error without it. For each atom it shows its
    strongest samples, some with middling and with weak codes, the histogram of its codes, the
    most similar atoms, and those that are selected before and after it.

    Parameters
    ----------
    estimator : estimator of this package
        It must be fitted. Of a pipeline, pass the last step, and X as that step gets it.
    X : array-like, CSR or NpyFiles of shape (n_samples, n_features)
        The samples to encode; all numbers of the page are of these. They need not be the
        training rows.
    path : path-like
        The file to write, its name ending in .html or .htm. A file of that name is
        replaced, once the new one is complete.
    texts : sequence of str of length n_samples, default=None
        What to show of each sample, if it is a text. Those longer than 400 characters are
        cut.
    tokens : sequence of sequences of str, default=None
        If samples are tokens: the tokens of each document, in order, as they are to be read
        one after the other, spaces included. A sample is shown in its context, in which each
        token has the colour of its code. Instead of `texts`.
    positions : array-like of shape (n_samples, 2) or (n_samples, 3), int, default=None
        Which token each sample is: its document, and its place there. With three columns,
        as :mod:`sklearn_mpsae.activations` gives them, its batch, document and place:
        `tokens` then has the documents of each batch. None where the samples are all tokens
        of all documents in order.
    labels : sequence of str or int of length n_samples, default=None
        A word or two to show with each sample, such as its class.
    images : array-like of shape (n_samples, height, width) or (n_samples, height, width, 3), \
default=None
        Pictures to show of the samples: uint8, or floats from 0 to 1.
    image_shape : (height, width) or (height, width, 3), default=None
        The shape of a row of X as an image, to draw atoms as images, and samples too unless
        there are `images`.
    feature_names : sequence of str of length n_features, default=None
        Names for the weights of the atoms. None for the estimator's ``feature_names_in_``,
        or x0, x1, ...
    atom_labels : "words", sequence of str of length n_components, callable or None, \
default="words"
        What to call the atoms. "words": with `texts` or `tokens`, up to three words that
        are most distinctive of an atom's strongest samples. A callable is called for each
        atom in use with an object that has its number ``atom``, the ``rows`` of its
        strongest samples, their ``codes`` and, if there are texts or tokens, their
        ``texts``, in which a token stands within << and >>; it returns the label, or None.
    n_examples : int, default=12
        How many of its strongest samples are shown of each atom. A third as many are shown
        with codes near the median, and as many with codes near the lowest tenth.
    n_related : int, default=8
        How many atoms are named as its neighbours, and as picked before and after it.
    title : str, default=None
        The heading; None for the estimator's class.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is of another package, if X is a stream, or if texts, tokens, labels or names
        are not text.
    ValueError
        If X has other features than those of the fit, NaN or infinity; if there are more or
        fewer texts, tokens, labels or images than samples, or labels than atoms; if
        positions are outside of their documents or twice the same, images of several
        sizes, a number out of range, or if the path does not end in .html.
    OSError
        If the file cannot be written. As all of the above it is found before any work,
        except for NaN in files, which are read only once.

    See Also
    --------
    sklearn_mpsae.plotting.AtomsDisplay : Atoms as images, with matplotlib.
    sklearn_mpsae.plotting.AtomUsageDisplay : How often each atom is used.

    Notes
    -----
    Without an atom w, whose code for a row is v, the residual r of the row becomes r + v w,
    and its squared error rises by ``v² |w|² + 2 v <r, w>``: the page shows the sum over the
    rows that use the atom, relative to their error, and to the variance of all rows. Other
    atoms are not chosen anew.

    The words of a label have the largest class-based TF-IDF, ``tf * log(1 + A / f)``: tf is
    how often an atom's strongest samples have the word (with `tokens`, the sum of its codes),
    f how often all samples have it, and A the number of words of all samples for each atom.
    A word is in two of the strongest samples at least (with `tokens`, in two documents), and
    twice as frequent there as in all: an atom whose samples have nothing in common has no
    label.

    Samples that several atoms show are in the file once. It is kept below about 30 MB (with
    up to some 20,000 atoms) by leaving out pictures of samples, first those that are no
    atom's strongest sample, and the page says so. Pictures have at most 64 pixels a side.

    The file contains the samples that are passed, so check that you may share them. Texts
    cannot run scripts in it, whatever they contain.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_mpsae import MPSparseAutoencoder, explore
    >>> X, y = load_digits(return_X_y=True)
    >>> sae = MPSparseAutoencoder(64, n_nonzero_coefs=4, max_iter=2, random_state=0).fit(X)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "digits.html")
    >>> explore(sae, X, path, labels=y, image_shape=(8, 8)).name
    'digits.html'
    >>> folder.cleanup()
    """
    check_estimator(estimator, "_rows")
    check_count(n_examples, "n_examples")
    check_count(n_related, "n_related")
    title = _checked_title(title, estimator)
    target = _checked_path(path)
    if isinstance(X, BatchStream):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows cannot be asked for again: pass an array, "
            "a memmap or sklearn_mpsae.sources.NpyFiles; of ModuleActivations, the rows and "
            "positions of its collect()."
        )
    source = estimator._rows(X)
    names = _checked_names(feature_names, estimator)
    texts = checked_texts(texts, "texts", source.n_rows, (str,))
    if texts is not None and tokens is not None:
        raise ValueError("Samples are shown by texts or by tokens: pass one of them.")
    tokens = checked_tokens(tokens, positions, source.n_rows)
    atom_labels = checked_atom_labels(atom_labels, len(estimator.components_))
    labels = checked_texts(labels, "labels", source.n_rows, (str, Integral))
    images = None if images is None else checked_images(images, source.n_rows)
    if image_shape is not None:
        as_images(estimator.components_[:1], image_shape)

    with replacing(target) as beside, open(beside, "wb") as file:
        facts = facts_of(
            estimator,
            source,
            ordered=estimator._coder().ordered,
            n_examples=n_examples,
            n_related=min(n_related, len(estimator.components_) - 1),
        )
        samples, examples = by_importance(facts.examples.rows)
        pictures = pictures_of(source, images, image_shape, facts.value_range)
        atoms = atom_pictures(estimator.components_, image_shape)
        arrays = _arrays(facts, samples, examples)
        if tokens is not None:
            codes = context_codes(facts.uses, tokens, facts.examples.rows, facts.n_samples)
            arrays["context_codes"] = codes
        if atoms is None:
            arrays |= largest_weights(estimator.components_)
            if pictures is None and texts is None and tokens is None:
                features, center = arrays["features"], estimator.intercept_
                arrays |= profiles_of(source, center, features, facts.examples.rows)
        header = {
            "title": title,
            "estimator": type(estimator).__name__,
            "version": __version__,
            "n_samples": facts.n_samples,
            "ordered": facts.ordered,
            "r2": None if np.isnan(facts.r2) else facts.r2,
            "l0": facts.l0,
            "groups": facts.examples.groups,
            "names": names,
            "picture": pictures and pictures.look(),
            "atom_shape": None if atoms is None else atoms.shape[1:],
            "atom_labels": _labels(atom_labels, facts, texts, tokens, arrays),
            "label_words": atom_labels == "words",
            "tokens_before": BEFORE,
            **_words(texts, tokens, labels, samples),
        }
        pixels = pictures and (lambda part: pictures.take(samples[part]))
        write_page(file, header, arrays, atoms, pixels, len(samples))
    return target


# --------------------------------------------------------------------------- checks
def _checked_title(title, estimator):
    if title is not None and not isinstance(title, str):
        raise TypeError(f"title must be text, got {title!r}.")
    return type(estimator).__name__ if title is None else title


def _checked_path(path):
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"path must end in .html or .htm, got {os.fspath(path)!r}.")
    return path


def _checked_names(names, estimator):
    """Names of the features as a list of str, or None for x0, x1, ..."""
    if names is None:
        names = getattr(estimator, "feature_names_in_", None)
    return checked_texts(names, "feature_names", estimator.n_features_in_, (str,), "features")


def _words(texts, tokens, labels, samples):
    """What the header says of the samples."""
    words = {"texts": None, "contexts": None, "labels": None}
    if labels is not None:
        words["labels"] = [_cut(labels[row], _LABEL_LENGTH) for row in samples]
    if texts is not None:
        cut = [_cut(texts[row], _TEXT_LENGTH) for row in samples]
        words["texts"] = cut[: _n_that_fit(map(len, cut))]
    if tokens is not None:
        contexts = tokens.contexts(samples, _LABEL_LENGTH)
        fit = _n_that_fit(sum(map(len, context)) for _, context in contexts)
        words["contexts"] = contexts[:fit]
    return words


def _n_that_fit(lengths):
    return int((np.cumsum(list(lengths)) <= _ALL_TEXT).sum())


def _labels(atom_labels, facts, texts, tokens, arrays):
    """What the atoms are called, or None."""
    if callable(atom_labels):
        texts_of = None if texts is None else lambda rows: [texts[row] for row in rows]
        labels = named_by(atom_labels, facts, texts_of if tokens is None else tokens.marked)
    elif atom_labels != "words":
        labels = atom_labels
    elif texts is not None:
        labels = words_of_texts(texts, facts.top_rows)
    elif tokens is not None:
        codes = arrays["context_codes"][:, : facts.examples.groups[0]]
        labels = words_of_tokens(tokens, codes, facts.top_rows)
    else:
        labels = None
    return None if labels is None else [_cut(label, _LABEL_LENGTH) for label in labels]


def _cut(text, length):
    return text if len(text) <= length else text[: length - 1] + "…"


def _arrays(facts, samples, examples):
    """The facts, by the names that the page's script has for them."""
    arrays = {
        "samples": samples,
        "examples": examples,
        "example_codes": facts.examples.codes,
        "neighbors": facts.neighbors.atoms,
        "cosines": facts.neighbors.cosines,
    }
    # fmt: off
    same = ("usage", "mean_code", "mean_step", "energy", "removal", "r2_loss", "coherence",
            "histogram", "code_range")
    # fmt: on
    arrays |= {name: getattr(facts, name) for name in same}
    for name, related in facts.relations.items():
        arrays[name] = related.atoms
        arrays[f"{name}_rows"] = related.rows
        arrays[f"{name}_chance"] = related.chance
    return arrays
