"""The blocks of code of a page in Markdown."""

import re
from typing import NamedTuple

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code."""

    language: str
    code: str
    line: int
    """The line of the page that its code begins at."""
    heading: str
    """The last heading above it."""


def blocks(text: str, *languages: str) -> list[Block]:
    """The blocks of these languages, in the order of the page."""
    found = []
    for match in _BLOCK.finditer(text):
        language, code = match.groups()
        if language in languages:
            above = text[: match.start()]
            # Comments of the code above begin as headings do.
            headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", above), re.MULTILINE)
            line = above.count("\n") + 2
            found.append(Block(language, code, line, headings[-1] if headings else ""))
    return found
