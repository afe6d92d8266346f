"""Checks of the texts, images and positions that users give with their rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .._array_api import as_numpy
from ._texts import Tokens


def checked_texts(texts, name, n, kinds, of="samples"):
    """Texts as a list, or None; refused unless there are n, all of these kinds."""
    if texts is None:
        return None
    if isinstance(texts, str | bytes):
        raise TypeError(f"{name} must be a sequence with one entry for each of the {of}.")
    texts = list(as_numpy(texts))
    if len(texts) != n:
        raise ValueError(f"There are {len(texts)} {name} for {n} {of}: pass one for each.")
    for i, text in enumerate(texts):
        if not isinstance(text, kinds):
            wanted = "text" if kinds == (str,) else "text or whole numbers"
            raise TypeError(
                f"{name}[{i}] is {text!r}, of type {type(text).__name__}: {name} must be "
                f"{wanted}. Pass e.g. [str(x) for x in {name}]."
            )
    return [str(text) for text in texts]


def checked_tokens(tokens, positions, n):
    """The tokens of all documents, and which of them the samples are; None without any."""
    if tokens is None:
        if positions is not None:
            raise ValueError("positions say which tokens the samples are: pass tokens too.")
        return None
    positions = checked_positions(positions, n)
    name, tokens = "tokens", checked_list(tokens, "tokens")
    if positions is not None and positions.shape[1] == 3:
        batches = [checked_list(batch, f"tokens[{i}]") for i, batch in enumerate(tokens)]
        positions = _without_batches(positions, [len(batch) for batch in batches])
        name, tokens = "tokens of batches", [doc for batch in batches for doc in batch]
    documents = [
        checked_document(document, f"{name}[{i}]") for i, document in enumerate(tokens)
    ]
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    if positions is not None:
        _check_places(positions, lengths)
    elif lengths.sum() != n:
        raise ValueError(
            f"There are {lengths.sum()} tokens for {n} samples: pass one for each, or "
            "positions to say which of them the samples are."
        )
    return Tokens(documents, positions)


def checked_positions(positions, n):
    if positions is None:
        return None
    positions = np.asarray(as_numpy(positions))
    if positions.shape not in ((n, 2), (n, 3)) or positions.dtype.kind not in "iu":
        raise ValueError(
            f"positions must be whole numbers of shape ({n}, 2), the document of each sample "
            f"and its place there, or ({n}, 3), its batch before them; got {positions.dtype} "
            f"of shape {positions.shape}."
        )
    return positions.astype(np.int64)


def _without_batches(positions, sizes):
    """Positions in the documents of all batches, one after the other."""
    batch, document, place = positions.T
    _check_within(positions[:, :2], np.array(sizes, dtype=np.int64), positions)
    starts = np.cumsum([0, *sizes])
    return np.stack([starts[batch] + document, place], axis=1)


def _check_places(positions, lengths):
    _check_within(positions, lengths, positions)
    if len(np.unique(positions, axis=0)) < len(positions):
        raise ValueError("positions has a place twice: pass each sample once.")


def _check_within(places, lengths, positions):
    """Refuse pairs of a number and a place that are not in lists of these lengths."""
    known = (places >= 0).all(axis=1) & (places[:, 0] < len(lengths))
    known[known] = places[known, 1] < lengths[places[known, 0]]
    if not known.all():
        first = int(np.argmin(known))
        batches = positions.shape[1] == 3
        advice = " Positions that begin with a batch need a list of documents for each batch."
        raise ValueError(
            f"positions[{first}] is {positions[first].tolist()}, where tokens has no token."
            + advice * batches
        )


def checked_list(values, name):
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} is {values!r:.80}: pass lists of tokens, each of them text.")
    return list(as_numpy(values))


def checked_document(document, name):
    document = checked_list(document, name)
    for i, token in enumerate(document):
        if not isinstance(token, str):
            raise TypeError(
                f"{name}[{i}] is {token!r:.80}, of type {type(token).__name__}: tokens must "
                "be text. Decode them one by one, e.g. [tokenizer.decode(t) for t in ids]."
            )
    return [str(token) for token in document]


def checked_atom_labels(labels, n_atoms):
    if labels is None or callable(labels) or (isinstance(labels, str) and labels == "words"):
        return labels
    if isinstance(labels, str):
        raise ValueError(
            f'atom_labels must be "words", a label for each atom, a callable or None; got '
            f"{labels!r}."
        )
    return checked_texts(labels, "atom_labels", n_atoms, (str,), "atoms")


def checked_images(images, n):
    """Pictures of the samples as an array (n, height, width) or (n, height, width, 3)."""
    if isinstance(images, list | tuple):
        shapes = [np.shape(as_numpy(image)) for image in images]
        other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is not None:
            raise ValueError(
                f"images[{other}] has shape {shapes[other]}, and images[0] {shapes[0]}: "
                "bring them all to one size."
            )
        images = [as_numpy(image) for image in images]
    images = np.asarray(as_numpy(images))
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)) or 0 in images.shape[1:]:
        raise ValueError(
            "images must have shape (n_samples, height, width) or (n_samples, height, width, "
            f"3), got {images.shape}. Rows of pixels are reshaped by image_shape."
        )
    if len(images) != n:
        raise ValueError(f"There are {len(images)} images for {n} samples: pass one for each.")
    if images.dtype == np.uint8:
        return images
    # NaN fails this too.
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
        ends = f" from {images.min()} to {images.max()}" if images.dtype.kind in "iuf" else ""
        raise ValueError(
            f"images must be uint8, or floats from 0 to 1; got {images.dtype}{ends}."
        )
    return images


# --------------------------------------------------------------- what the page holds
