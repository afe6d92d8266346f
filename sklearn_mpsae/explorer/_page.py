"""The page: facts and samples packed into one HTML file that fetches nothing.

What users bring (texts, labels, names) is in the page only as JSON within deflated bytes
in base64, an alphabet that has no markup; the script writes it as text, never as HTML. The
page's policy lets run the one script and use the one style sheet that it was made with, by
their hashes, allows no request, and no making of HTML from strings.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Callable
from importlib.resources import files
from typing import BinaryIO

import numpy as np

# The largest size of the file, about. Beyond it, pictures of samples are left out: first of
# samples that are no atom's strongest.
_FILE_BYTES = 28_000_000

# Bytes that pictures of samples get, however large the rest of the page is.
_LEAST_FOR_SAMPLES = 1_000_000

# Pictures are added so many at a time, the last ones only if all of them fit.
_BLOCK = 256

# The parts of the page's script, in this order.
_SCRIPT = ("data", "table", "atom", "start")

# base64 takes four bytes for three.
_BASE64 = 4 / 3


def write_page(
    file: BinaryIO,
    header: dict,
    arrays: dict[str, np.ndarray],
    atom_images: np.ndarray | None,
    sample_images: Callable | None,
    n_samples: int,
) -> None:
    """Write the page.

    Parameters
    ----------
    file : binary file
    header : dict
        Plain values, texts among them. The number of samples that have their picture in
        the file is added.
    arrays : dict of str to ndarray
    atom_images : ndarray of int8 or None
    sample_images : function from a slice to an ndarray of uint8, or None
        Pictures of samples, in the order of their importance.
    n_samples : int
        How many of them there are.
    """
    atoms = b"" if atom_images is None else zlib.compress(atom_images.tobytes())
    # The number of pictures takes a few bytes in the header, which are not counted.
    room = _FILE_BYTES / _BASE64 - len(atoms) - len(_facts(header, arrays))
    samples, n_pictures = b"", 0
    if sample_images is not None:
        room = max(_LEAST_FOR_SAMPLES, room)
        samples, n_pictures = _deflate_within(sample_images, n_samples, room)
    facts = _facts(header | {"n_pictures": n_pictures}, arrays)
    file.write(_filled(header["title"], facts=facts, atoms=atoms, samples=samples))


def _facts(header, arrays) -> bytes:
    """The header as JSON behind its length, then the arrays, all deflated.

    They are float32 or int32, or int8 if they come so. The header says of each its dtype,
    shape, and how far behind the header it starts.
    """
    where, at, parts = {}, 0, []
    for name, array in arrays.items():
        kind = {"f": "<f4", "i": "<i4"}[array.dtype.kind] if array.itemsize > 1 else "i1"
        array = np.ascontiguousarray(array, kind)
        where[name] = {"dtype": array.dtype.name, "shape": array.shape, "at": at}
        padding = -array.nbytes % 8
        parts += [array.tobytes(), bytes(padding)]
        at += array.nbytes + padding
    # ASCII only: lone surrogates and such come as escapes, which JSON.parse takes.
    text = json.dumps(header | {"arrays": where}, allow_nan=False).encode("ascii")
    text += b" " * (-(len(text) + 4) % 8)
    return zlib.compress(b"".join([len(text).to_bytes(4, "little"), text, *parts]))


def _deflate_within(images, n, room):
    """Deflate as many images as fit, from the first on; also how many these are."""
    packer, parts, size, done = zlib.compressobj(), [], 0, 0
    for start in range(0, n, _BLOCK):
        before = packer.copy()
        block = images(slice(start, min(start + _BLOCK, n)))
        part = packer.compress(block.tobytes()) + packer.flush(zlib.Z_SYNC_FLUSH)
        if size + len(part) > room:
            packer = before
            break
        parts.append(part)
        size, done = size + len(part), start + len(block)
    return b"".join([*parts, packer.flush()]), done


def _filled(title, **blobs) -> bytes:
    """The template with its parts in place."""
    here = files(__package__)
    style, page = ((here / name).read_bytes() for name in ("page.css", "page.html"))
    script = b"".join((here / f"page_{part}.js").read_bytes() for part in _SCRIPT)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    parts = {
        "policy": policy.encode(),
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace"),
        "style": style,
        "script": script,
        **{name: base64.b64encode(blob) for name, blob in blobs.items()},
    }
    # In one go, so that nothing that is filled in is taken for a place to fill.
    return re.sub(rb"\{\{(\w+)\}\}", lambda place: parts[place[1].decode()], page)


def _hash(source):
    return f"sha256-{base64.b64encode(hashlib.sha256(source).digest()).decode()}"
