"""What the parts of the study share: arguments, a cache to resume from, pages, looks."""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import joblib
import matplotlib as mpl
import numpy as np
import pandas as pd

import sklearn_mpsae
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.metrics import explained_variance

sys.path.insert(0, str(Path(__file__).parents[1]))
import machine

mpl.use("Agg")

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "study"

# One colour and marker for each estimator, on every figure (Okabe and Ito's colours).
LOOKS = {
    "MP": {"color": "#D55E00", "marker": "o"},
    "MP (OMP codes)": {"color": "#CC79A7", "marker": "s"},
    "MP (average)": {"color": "#E69F00", "marker": "D"},
    "TopK": {"color": "#0072B2", "marker": "^"},
    "BatchTopK": {"color": "#56B4E9", "marker": "v"},
    "JumpReLU": {"color": "#009E73", "marker": "<"},
    "ReLU": {"color": "#888888", "marker": ">"},
    "Matryoshka": {"color": "#000000", "marker": "P"},
    "random dictionary": {"color": "#BBBBBB", "marker": ".", "linestyle": ":"},
}


class InMetric:
    """A shallow estimator on rows in MP's metric, and its atoms in the data's space again.

    Parameters
    ----------
    kind : class
        Of the estimator.
    n_components : int
    whitening : float
        As that of MPSparseAutoencoder, which settles the metric of rows.
    **parameters
        Of the estimator, `intercept` among them.
    """

    def __init__(self, kind, n_components, *, whitening, **parameters) -> None:
        self.estimator = kind(n_components, **parameters)
        self.whitening = whitening

    def fit(self, X):
        self._matrix = metric(X, self.whitening, self.estimator.intercept)
        self._inverse = np.linalg.inv(self._matrix.astype(np.float64)).astype(X.dtype)
        self.estimator.fit(X @ self._matrix)
        atoms = self.estimator.components_ @ self._inverse
        self._norms = np.linalg.norm(atoms, axis=1)
        self.components_ = atoms / self._norms[:, None]
        self.intercept_ = self.estimator.intercept_ @ self._inverse
        return self

    def encode(self, X) -> Codes:
        codes = self.estimator.encode(X @ self._matrix)
        return Codes(codes.indices, codes.values * self._norms[codes.indices], len(self._norms))

    def transform(self, X):
        return self.encode(X).dense()

    def score(self, X):
        decoded = self.encode(X).decode(self.components_)
        return explained_variance(X, decoded + self.intercept_)

    def __getattr__(self, name):
        if name == "estimator":
            raise AttributeError(name)
        return getattr(self.estimator, name)


def metric(X, whitening: float, intercept: str) -> np.ndarray:
    """The matrix that MPSparseAutoencoder multiplies these rows with."""
    sae = sklearn_mpsae.MPSparseAutoencoder(
        1,
        n_nonzero_coefs=1,
        whitening=whitening,
        intercept=intercept,
        max_iter=1,
        batch_size=1024,
        random_state=0,
    )
    return sae.fit(X[:50_000]).metric_


def random_dictionary(n_components: int, n_features: int, seed: int) -> np.ndarray:
    """Directions that nobody has learnt."""
    shape = n_components, n_features
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


# What keeps a dictionary as it was given: of MPSparseAutoencoder.
FROZEN = {"whitening": 0.0, "learning_rate": 1e-9, "dead_atoms": "keep", "max_iter": 1}


def arguments(
    description: str, others: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """The options that every part takes, and what `others` adds for one."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time (2)")
    parser.add_argument(
        "--data",
        default=os.environ.get("SKLEARN_MPSAE_DATA"),
        help="folder with the data that the parts name ($SKLEARN_MPSAE_DATA)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=ROOT / ".study-cache",
        help="where finished fits are kept: run again, it goes on from there",
    )
    parser.add_argument("--out", type=Path, help="folder of pages (docs/study)")
    if others is not None:
        others(parser)
    args = parser.parse_args()
    if args.out is None:
        args.out = ROOT / ".study-cache" / "quick" if args.quick else PAGES
    return args


def memory(args: argparse.Namespace) -> joblib.Memory:
    """A cache for this very code: what other code has computed is not found in it."""
    return joblib.Memory(args.cache / _fingerprint(), verbose=0)


@cache
def _fingerprint() -> str:
    """A hash of all that fits and measures.

    Once for each run: the code that runs is what was imported at its start.
    """
    package = Path(sklearn_mpsae.__file__).parent
    sources = [*sorted(package.rglob("*.py")), Path(__file__).with_name("measures.py")]
    return code_digest([path for path in sources if "plotting" not in path.parts])


def code_digest(sources: list[Path]) -> str:
    """A hash of the code of these files, without its comments and docstrings."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(ast.dump(_bare(ast.parse(source.read_text()))).encode())
    return digest.hexdigest()[:16]


def _bare(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            constant = body[0].value
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                del body[0]
    return tree


class Report:
    """Fills a page's places for tables, and saves its figures.

    A page is written by hand; between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` stands
    what the script found.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.name, self.args = name, args
        self.start = time.monotonic()
        self.parts: dict[str, str] = {}
        (args.out / "images").mkdir(parents=True, exist_ok=True)

    def table(self, key: str, rows, caption: str = "") -> None:
        """A pandas.DataFrame (its index is left out), as Markdown."""
        header = "| " + " | ".join(map(str, rows.columns)) + " |"
        rule = "|" + " --- |" * len(rows.columns)
        lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows.to_numpy()]
        self.text(key, "\n".join([*([caption, ""] if caption else []), header, rule, *lines]))

    def text(self, key: str, text: str) -> None:
        self.parts[key] = text
        print(f"\n{key}\n{text}", flush=True)

    def figure(self, key: str, figure) -> None:
        path = self.args.out / "images" / f"{self.name}_{key}.png"
        figure.savefig(path, dpi=120, bbox_inches="tight")
        mpl.pyplot.close(figure)
        print(f"figure {path}", flush=True)

    def save(self) -> None:
        """Write all parts into the page; a part without a place is an error."""
        self.parts["machine"] = self._machine()
        page = self.args.out / f"{self.name}.md"
        if self.args.quick or not page.exists():
            places = "".join(f"<!-- begin {k} -->\n<!-- end {k} -->\n\n" for k in self.parts)
            text = f"# {self.name}\n\n{places}"
        else:
            text = page.read_text()
        for key, part in self.parts.items():
            place = re.compile(f"(<!-- begin {key} -->\n).*?(<!-- end {key} -->)", re.DOTALL)
            if not place.search(text):
                raise LookupError(f"{page} has no place for {key!r}: <!-- begin {key} -->")
            text = place.sub(lambda match, part=part: f"{match[1]}{part}\n{match[2]}", text)
        page.write_text(text)
        print(f"page {page}")

    def _machine(self) -> str:
        versions = ", ".join(f"{k} {v}" for k, v in machine.versions().items())
        minutes = (time.monotonic() - self.start) / 60
        return (
            f"Made by `python benchmarks/study/{self.name}.py` on {machine.cpu_model()}, "
            f"{os.cpu_count()} cores, in {minutes:.0f} minutes (less what was cached); "
            f"{versions}."
        )


def best_rates(rows: pd.DataFrame, miss: float, report: Report) -> dict:
    """The best learning rate of each estimator at each level, by R²; and the table of all.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `compare`, with the learning rate in a column `rate`.
    miss : float
        Rates whose number of codes is farther from the one asked for, as a share of it, are
        out: they would buy R² with codes.
    report : Report

    Returns
    -------
    rates : dict
        Of names to dicts of levels, in rising order, to rates.
    """
    rows = rows.assign(met=(rows.l0 / rows.n_nonzero_coefs - 1).abs() <= miss)
    cells = ["estimator", "n_nonzero_coefs"]
    scores = rows.pivot(index=cells, columns="rate", values="r2")
    met = rows.pivot(index=cells, columns="rate", values="met")
    taken = scores.where(met).idxmax(axis=1)
    names = list(dict.fromkeys(rows.estimator))
    shown = scores.round(4).astype(str).where(met, "missed").assign(taken=taken)
    shown = shown.loc[names].reset_index()
    report.table("sweep", shown.rename(columns={"n_nonzero_coefs": "L0"}))
    return {name: taken.loc[name].to_dict() for name in names}


def rate_at(by_level: dict, level: float) -> float:
    """The rate of the first level swept that is no smaller, or of the last one."""
    return by_level[next((swept for swept in by_level if swept >= level), max(by_level))]


def spread(values, digits: int = 3) -> str:
    """Mean and standard deviation over seeds, as text."""
    values = values.dropna() if hasattr(values, "dropna") else values
    if len(values) == 0:
        return "–"
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.{digits}f}"
