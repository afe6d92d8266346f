"""Count code lines of a package, without docstrings, comments and blank lines.

    python tools/code_lines.py sklearn_mpsae [other/sklearn_mpsae]

A line for each top-level module and subpackage, and one for all. With two trees: those of
both, and the second over the first.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """The number of lines of a module that hold code."""
    docstrings, code = set(), set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                docstrings.update(range(node.lineno, node.end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def of_parts(root: Path) -> Counter:
    """Code lines of each top-level part of a package, and "all"."""
    counts = Counter()
    for path in root.rglob("*.py"):
        n = code_lines(path.read_text(encoding="utf-8"))
        counts.update({path.relative_to(root).parts[0]: n, "all": n})
    if not counts:
        raise SystemExit(f"{root} has no Python files.")
    return counts


def main(*roots: str) -> None:
    trees = [of_parts(Path(root)) for root in roots]
    parts = sorted({part for tree in trees for part in tree} - {"all"})
    parts.sort(key=lambda part: -max(tree[part] for tree in trees))
    for part in [*parts, "all"]:
        counts = [tree[part] for tree in trees]
        ratio = f"{counts[-1] / counts[0]:7.2f}" if len(trees) > 1 and counts[0] else ""
        print(*(f"{n:6}" for n in counts), ratio, f" {part}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
