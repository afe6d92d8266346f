"""Check that every link inside the built site leads somewhere: ``check_links.py FOLDER``."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page can be entered by, and where it leads."""

    def __init__(self, path):
        super().__init__()
        self.path, self.anchors, self.links = path, {"", "top"}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]


def broken(pages):
    """Yield (page, link) for each that leads nowhere."""
    for page in pages.values():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue  # another site's
            target = page.path
            if url.path:
                target = (page.path.parent / unquote(url.path)).resolve()
            if target in pages:
                found = unquote(url.fragment) in pages[target].anchors
            else:
                found = target.is_file()
            if not found:
                yield page.path, link


def main(folder):
    files = Path(folder).resolve().rglob("*.html")
    pages = {path: Page(path) for path in files if "_static" not in path.parts}
    found = list(broken(pages))
    for path, link in found:
        print(f"{path}: {link} leads nowhere")
    n_links = sum(len(page.links) for page in pages.values())
    print(f"{len(pages)} pages, {n_links} links, {len(found)} broken")
    return bool(found or not pages)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
