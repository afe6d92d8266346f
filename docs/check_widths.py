"""Check in a browser that nothing on the built site is cut: ``check_widths.py FOLDER``.

At each width of the window, a table, a block of code or a signature that is wider than its box
must have a scrollbar that is always seen. Needs playwright and Chromium or Chrome, and says so
where they are missing. Shows up to three of each page's faults.
"""

import shutil
import sys
from pathlib import Path

WIDTHS = (1400, 400)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = {
    "args": ["--no-sandbox", "--disable-background-networking"],
    "ignore_default_args": ["--hide-scrollbars"],
}

CUT = """() => {
    const article = document.querySelector(".bd-article");
    if (!article) return [];
    const hides = box => getComputedStyle(box).overflowX != "visible";
    const hasBar = box => {
        const {borderTopWidth: top, borderBottomWidth: bottom} = getComputedStyle(box);
        return box.offsetHeight - box.clientHeight - parseFloat(top) - parseFloat(bottom) > 3;
    };
    const isCut = content => {
        let right = content.getBoundingClientRect().left + content.scrollWidth;
        for (let box = content; box != article; box = box.parentElement) {
            if (hides(box) && box.scrollWidth > box.clientWidth + 1) {
                if (!hasBar(box)) return true;
                right = box.getBoundingClientRect().right;
            }
        }
        return right > article.getBoundingClientRect().right + 1;
    };
    return [...article.querySelectorAll("table, pre, dt.sig, img")]
        .filter(content => content.offsetWidth && isCut(content))
        .map(content => content.localName + ": "
            + content.textContent.trim().replace(/\\s+/g, " ").slice(0, 60));
}"""


def cut(page, path):
    """Yield (width, what is cut) for each such element of a page."""
    page.goto(path.as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        yield from ((width, text) for text in page.evaluate(CUT))


def main(folder):
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        print("check_widths.py DID NOT RUN: it needs playwright, and Chromium or Chrome")
        return False
    files = sorted(Path(folder).resolve().rglob("*.html"))
    files = [file for file in files if "_static" not in file.parts]
    n_cut = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, **OPTIONS)
        # A phone, like a Mac, hides scrollbars that have no style of their own.
        page = browser.new_page(is_mobile=True)
        for file in files:
            found = list(cut(page, file))
            n_cut += len(found)
            for width, text in found[:3]:
                print(f"{file}: cut at {width} px: {text}")
    print(f"{len(files)} pages at {WIDTHS} px, {n_cut} tables, blocks or signatures cut")
    return bool(n_cut or not files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
