"""Pages of `explore`: what their files hold, and a browser to open them in."""

import base64
import json
import re
import shutil
import zlib

import numpy as np
import pytest


def blob(html, name):
    packed = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', html)[1]
    return zlib.decompress(base64.b64decode(packed, validate=True))


def opened(path):
    """The header of a page and its arrays by name, as its script reads them."""
    raw = blob(path.read_text(), "facts")
    start = 4 + int.from_bytes(raw[:4], "little")
    header = json.loads(raw[4:start])
    for name, where in header["arrays"].items():
        assert (start + where["at"]) % 8 == 0
        dtype, size = np.dtype(where["dtype"]), int(np.prod(where["shape"]))
        array = np.frombuffer(raw, dtype.newbyteorder("<"), size, start + where["at"])
        header["arrays"][name] = array.reshape(where["shape"])
    return header


def column(page, index):
    """A column of the rows in view, from the top down."""
    rows = page.eval_on_selector_all(
        ".row:not([hidden])",
        "rows => rows.map(r => [r.at, [...r.children].map(c => c.innerText.trim())])",
    )
    return [cells[index] for _, cells in sorted(rows)]


def shown(page, atom):
    """Wait until the page shows the atom. (The page forbids to wait for a function.)"""
    page.get_by_role("heading", name=f"Atom {atom}", exact=True).wait_for()


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install playwright"
    )
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium: none of " + ", ".join(names) + " is on the path")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a file; at the end, it must have asked for nothing else and not complained."""
    contexts, troubles = [], []

    def open_page(path, **options):
        context = browser.new_context(viewport={"width": 1400, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        requests = []
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]")
        visits.append((path, requests))
        return page

    visits = []
    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []
    for path, requests in visits:
        assert [url for url in requests if url != "data:,"] == [path.as_uri()]
