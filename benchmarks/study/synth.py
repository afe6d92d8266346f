"""SynthSAEBench's own generator, at an eighth (or a quarter) of the benchmark's size.

Rows come from SAELens's `sae_lens.synthetic`: features that fire by Zipf's law, in trees whose
children exclude each other, with correlations and a bias; four features for each atom. Who
finds the features at each number of codes: read at equal L0, at equal explained variance, and
each at its best.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from common import (
    FROZEN,
    LOOKS,
    PAGES,
    Report,
    arguments,
    memory,
    random_dictionary,
    spread,
)
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from scipy import sparse

from sklearn_mpsae import BatchTopKSAE, MatryoshkaSAE, MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.metrics import firing_scores, match_atoms

_AVERAGE = partial(MPSparseAutoencoder, sparsity="average")
_FROZEN = partial(_AVERAGE, **FROZEN)
MODELS = {
    "MP (average)": _AVERAGE,
    "MP": MPSparseAutoencoder,
    "MP (average), whitening 0": partial(_AVERAGE, whitening=0.0),
    "MP (average), whitening 0.3": partial(_AVERAGE, whitening=0.3),
    "MP (average), OMP": partial(_AVERAGE, transform_algorithm="omp"),
    "MP (average), intercept zero": partial(_AVERAGE, intercept="zero"),
    "TopK": TopKSAE,
    "BatchTopK": BatchTopKSAE,
    "Matryoshka": MatryoshkaSAE,
    "random dictionary": partial(_FROZEN, intercept="mean"),
    "true dictionary": partial(_FROZEN, intercept="zero"),
}
OURS = "MP (average)"
QUARTER = (OURS, "MP")
RIVALS = ("TopK", "BatchTopK", "Matryoshka")
GRID = [{"learning_rate": rate, "dead_atoms": "revive"} for rate in (0.03, 0.1, 0.3, 1.0)]
GRID += [{"learning_rate": 0.3, "dead_atoms": "auxiliary"}]
STYLE = LOOKS | {
    "MP (average), whitening 0": {"color": "#F0E442", "marker": "d"},
    "MP (average), whitening 0.3": {"color": "#CC79A7", "marker": "d"},
    "MP (average), OMP": {"color": "#CC79A7", "marker": "s"},
    "MP (average), intercept zero": {"color": "#E69F00", "marker": "x"},
    "true dictionary": {"color": "#888888", "marker": ".", "linestyle": "--"},
}
# Of the commonest features first; as shares of the number of atoms.
BANDS = {"commonest quarter": (0.0, 0.25), "next": (0.25, 0.5), "rarer half": (0.5, 1.0)}
MEASURES = {"f1": "F1", "precision": "precision", "recall": "recall", "ev": "EV", "mcc": "MCC"}
BAR, MARGIN = 0.85, 0.05


@dataclass(frozen=True)
class Data:
    """The benchmark divided by `part`; rows are learnt from, then as many others tested on."""

    part: int
    n_train: int
    n_test: int = 20_000

    @property
    def n_atoms(self) -> int:
        return 4096 // self.part

    @property
    def rank(self) -> int:
        """Of the correlations; not divided as the rest is: 8 at an eighth."""
        return {8: 8, 4: 12}.get(self.part, 8)


class Rows(NamedTuple):
    """Rows to learn from, fresh rows with what fires in them, and what they are made of."""

    train: np.ndarray
    test: np.ndarray
    truth: sparse.csr_array
    dictionary: np.ndarray
    bias: np.ndarray


class Setting:
    """How large it all is."""

    def __init__(self, args: argparse.Namespace) -> None:
        quick = args.quick
        self.data = Data(
            part=64 if quick else 4 if args.quarter else 8,
            n_train=args.rows or (10_000 if quick else 400_000),
            n_test=2_000 if quick else 20_000,
        )
        self.epochs = args.epochs or 3
        self.l0 = (2, 4) if quick else (2, 3, 4, 5, 8, 12, 18, 25)
        self.sweep_l0 = (4,) if quick else (4, 12)
        self.grid = GRID[2:3] if quick else GRID
        self.models = tuple(MODELS)
        if args.quarter and not quick:
            # Four times the work a fit: fewer of them.
            self.l0, self.sweep_l0, self.grid = (3, 4, 5, 8), (5,), GRID[2:4]
            self.models = tuple(m for m in MODELS if "MP" not in m or m in QUARTER)
        self.seeds = range(args.seeds)
        # Another seed than those of the tables: another dictionary, other trees, other rows.
        self.sweep_seed = 100


def sizes(parser: argparse.ArgumentParser) -> None:
    """The options of this part."""
    parser.add_argument(
        "--quarter", action="store_true", help="a quarter, not an eighth; to CACHE/quarter"
    )
    parser.add_argument("--rows", type=int, help="rows to learn from (400,000)")
    parser.add_argument("--epochs", type=int, help="how often they are seen (3)")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (1)")


# ------------------------------------------------------------------------------- the cells
def generator(data: Data, seed: int):
    """SAELens's model of the benchmark's kind."""
    from sae_lens import synthetic

    return synthetic.SyntheticModel(
        synthetic.SyntheticModelConfig(
            num_features=16_384 // data.part,
            hidden_dim=768 // data.part,
            firing_probability=synthetic.ZipfianFiringProbabilityConfig(
                exponent=0.5, max_prob=0.4, min_prob=5e-4
            ),
            hierarchy=synthetic.HierarchyConfig(
                total_root_nodes=128 // data.part,
                branching_factor=4,
                max_depth=3,
                mutually_exclusive_portion=1.0,
                compensate_probabilities=True,
                scale_children_by_parent=True,
            ),
            orthogonalization=synthetic.OrthogonalizationConfig(num_steps=100, lr=3e-4),
            correlation=synthetic.LowRankCorrelationConfig(
                rank=data.rank, correlation_scale=0.1
            ),
            mean_firing_magnitudes=synthetic.LinearMagnitudeConfig(start=4.0, end=5.0),
            std_firing_magnitudes=synthetic.FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
            bias=1.0,
            seed=seed,
        )
    )


def generated(data: Data, seed: int, source: str) -> Rows:
    """Rows of one model; a thousand at a time, as it makes all features of each."""
    import torch

    # It shows a progress bar, whatever it is told.
    with contextlib.redirect_stderr(io.StringIO()):
        model = generator(data, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        train = [model.sample(1000).numpy() for _ in range(data.n_train // 1000)]
        pairs = [model.sample_with_features(1000) for _ in range(data.n_test // 1000)]
    return Rows(
        np.concatenate(train),
        np.concatenate([rows.numpy() for rows, _ in pairs]),
        sparse.csr_array(sparse.vstack([sparse.csr_array(f.numpy()) for _, f in pairs])),
        model.feature_dict.feature_vectors.detach().numpy().copy(),
        model.feature_dict.bias.detach().numpy().copy(),
    )


def frequencies(rows: Rows) -> np.ndarray:
    """How often each feature fires in the test rows."""
    n_rows, n_features = rows.truth.shape
    return np.bincount(rows.truth.indices, minlength=n_features) / n_rows


def measured(codes, dictionary, offset, rows: Rows) -> dict:
    """How well atoms tell which features are there, and reconstruct."""
    matching = match_atoms(dictionary, rows.dictionary, absolute=True)
    scores = firing_scores(codes, rows.truth, matching).per_feature
    # A feature that never fires in the test rows has no score.
    of_pairs = {name: getattr(scores, name)[matching.features] for name in scores._fields}
    residual = rows.test - codes.decode(dictionary) - offset
    commonest = np.argsort(np.argsort(-frequencies(rows)[matching.features]))
    rank = commonest / len(commonest)
    return {
        **{name: float(np.nanmean(of_pairs[name])) for name in ("f1", "precision", "recall")},
        "f1_theirs": their_f1(codes, dictionary, rows),
        "mcc": float(matching.scores.mean()),
        "ev": float(1 - (residual**2).sum() / (len(residual) * rows.test.var(axis=0).sum())),
        "found": float(codes.l0().mean()),
        "bands": {
            band: (
                float(np.nanmean(of_pairs["f1"][(low <= rank) & (rank < high)])),
                float(matching.scores[(low <= rank) & (rank < high)].mean()),
            )
            for band, (low, high) in BANDS.items()
        },
    }


def their_f1(codes, dictionary, rows: Rows) -> float:
    """F1 as SAELens counts it: each atom with its nearest feature, of which many may be one."""
    nearest = np.abs(dictionary @ rows.dictionary.T).argmax(axis=1)
    truth = sparse.csc_array(rows.truth != 0)[:, nearest]
    fires = codes.dense() != 0
    both = np.asarray(truth.multiply(fires).sum(axis=0)).ravel()
    n = fires.sum(axis=0) + np.asarray(truth.sum(axis=0)).ravel()
    return float(np.mean(2 * both / np.maximum(n, 1)))


def fit_cell(data: Data, model, l0, epochs, parameters, seed, source, rows: Rows) -> dict:
    """Fit one estimator, and measure it on fresh rows."""
    start = time.perf_counter()
    given = {"max_iter": epochs, **parameters}
    bias = np.zeros_like(rows.bias)
    if model == "true dictionary":
        given["dict_init"] = rows.dictionary[np.argsort(-frequencies(rows))[: data.n_atoms]]
        bias = rows.bias
    if model == "random dictionary":
        shape = data.n_atoms, rows.dictionary.shape[1]
        given["dict_init"] = random_dictionary(*shape, seed)
    if "dict_init" in given:
        del given["max_iter"]
    estimator = MODELS[model](data.n_atoms, n_nonzero_coefs=l0, random_state=seed, **given)
    estimator.fit(rows.train - bias)
    codes = estimator.encode(rows.test - bias)
    return measured(codes, estimator.components_, estimator.intercept_ + bias, rows) | {
        "seconds": time.perf_counter() - start
    }


def ancestors_of(data: Data, seed: int, source: str) -> list[list[int]]:
    """Of each feature its ancestors, the parent first; none outside the trees: [] or [-1]."""
    with contextlib.redirect_stderr(io.StringIO()):
        model = generator(data, seed)
    above: list[list[int]] = [[-1]] * (16_384 // data.part)
    todo = [(root, []) for root in model.hierarchy.roots]
    while todo:
        node, path = todo.pop()
        above[node.feature_index] = path
        todo += [(child, [node.feature_index, *path]) for child in node.children]
    return above


def paths_cell(data, model, l0, epochs, parameters, seed, source, rows, above) -> dict:
    """By the depth of the paired features: what their atoms are made of."""
    estimator = MODELS[model](
        data.n_atoms, n_nonzero_coefs=l0, random_state=seed, max_iter=epochs, **parameters
    ).fit(rows.train)
    D, W = rows.dictionary, estimator.components_
    matching = match_atoms(W, D, absolute=True)
    f1 = firing_scores(estimator.encode(rows.test), rows.truth, matching).per_feature.f1
    nearest = np.abs(W @ D.T).argmax(axis=1)
    found: dict = {}
    for atom, feature, cosine in zip(*matching, strict=True):
        path = [a for a in above[feature] if a >= 0]
        total = D[[feature, *path]].sum(axis=0)
        depth = "outside trees" if above[feature] == [-1] else len(path)
        found.setdefault(depth, []).append(
            (
                f1[feature],
                cosine,
                abs(W[atom] @ total) / np.linalg.norm(total),
                nearest[atom] in path,
            )
        )
    return {depth: (len(of), *np.nanmean(of, axis=0)) for depth, of in found.items()}


# Part of what a finished cell is kept under, so that a change of it runs again.
_ROWS = "".join(map(inspect.getsource, (generator, generated)))
_FIT = _ROWS + "".join(map(inspect.getsource, (frequencies, measured, their_f1, fit_cell)))
_PATHS = _ROWS + "".join(map(inspect.getsource, (ancestors_of, paths_cell)))


class Runner:
    """Runs cells, so many at a time, or finds them in the cache; says how far it is."""

    def __init__(self, args, setting):
        kept = memory(args)
        self.rows = kept.cache(generated)
        self.fit = kept.cache(fit_cell, ignore=["rows"])
        self.ancestors = kept.cache(ancestors_of)
        self.paths = kept.cache(paths_cell, ignore=["rows", "above"])
        self.jobs, self.setting = args.jobs, setting

    def __call__(self, what, seed, cells) -> pd.DataFrame:
        """One row for each cell (a model, an L0 and parameters)."""
        start = time.monotonic()
        rows = self.rows(self.setting.data, seed, _ROWS)
        defaults = {"data": self.setting.data, "epochs": self.setting.epochs, "seed": seed}
        full = [defaults | {"parameters": {}, "source": _FIT} | cell for cell in cells]
        tasks = (delayed(self.fit)(**cell, rows=rows) for cell in full)
        found = []
        for result in Parallel(self.jobs, return_as="generator")(tasks):
            cell = full[len(found)]
            found.append(cell | result)
            left = (time.monotonic() - start) / len(found) * (len(cells) - len(found)) / 60
            print(
                f"{what}: {len(found)}/{len(cells)} {cell['model']}, L0 {cell['l0']}: "
                f"F1 {result['f1']:.3f}, EV {result['ev']:.3f}; {left:.1f} minutes left",
                flush=True,
            )
        return pd.DataFrame(found)


# ------------------------------------------------------------------------------- the study
def main() -> None:
    args = arguments(__doc__, sizes)
    try:
        import sae_lens.synthetic  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"This part makes its rows by SAELens, which cannot be imported here ({error}): "
            "pip install 'sae-lens>=6.54'."
        )
    if args.quarter and args.out == PAGES:
        # The committed page is of an eighth.
        args.out = args.cache / "quarter"
    setting = Setting(args)
    run, report = Runner(args, setting), Report("synth", args)
    data_part(run, setting, report)
    best = sweep_part(run, setting, report)
    found = pd.concat(
        run(
            f"seed {seed}",
            seed,
            [
                {"model": model, "l0": l0, "parameters": best.get((model, l0), {})}
                for l0, model in product(setting.l0, setting.models)
            ],
        )
        for seed in setting.seeds
    )
    at_equal_l0(found, setting, report)
    at_equal_ev(found, report)
    peaks = at_best(found, report)
    bars_part(found, peaks, report)
    bands_part(found, peaks, report)
    paths_part(run, peaks, best, setting, report)
    figures_part(found, report)
    report.save()


def data_part(run, setting, report):
    """What the rows are like, and on what it was run."""
    lines = []
    for seed in setting.seeds:
        rows = run.rows(setting.data, seed, _ROWS)
        p = np.sort(frequencies(rows))[::-1]
        n_features, d = rows.dictionary.shape
        n = setting.data.n_atoms
        lines.append(
            {
                "seed": seed,
                "features": n_features,
                "dimensions": d,
                "atoms": n,
                "features in a row": f"{p.sum():.2f}",
                f"of the {n} commonest": f"{p[:n].sum():.2f}",
                "for each dimension": f"{p.sum() / d:.3f}",
                f"the {n}th fires in": f"{p[n - 1]:.2%}",
                "rows": f"{len(rows.train):,} × {setting.epochs}",
                "test rows": f"{len(rows.test):,}",
                "SAELens": metadata.version("sae-lens"),
            }
        )
    report.table("data", pd.DataFrame(lines))


def sweep_part(run, setting, report) -> dict:
    """Settings of the rivals on another seed: (model, L0) -> parameters."""
    cells = [
        {"model": m, "l0": k, "parameters": p}
        for k, m, p in product(setting.sweep_l0, RIVALS, setting.grid)
    ]
    found = run("sweep", setting.sweep_seed, cells)
    rows, best = [], {}
    for (l0, model), cells in found.groupby(["l0", "model"], sort=False):
        chosen = cells.loc[cells.f1.idxmax()].parameters
        row = {"L0": l0, "estimator": model}
        for cell in cells.itertuples():
            bold = "**" if cell.parameters == chosen else ""
            name = "{dead_atoms} {learning_rate}".format(**cell.parameters)
            row[name] = f"{bold}{cell.f1:.3f}{bold}"
        rows.append(row)
        best |= {(model, k): chosen for k in setting.l0 if _nearest(setting.sweep_l0, k) == l0}
    report.table("sweep", pd.DataFrame(rows))
    return best


def _nearest(values, k):
    """In ratio: 12 has 8 and more."""
    return min(values, key=lambda value: abs(np.log(value / k)))


def at_equal_l0(found, setting, report):
    """The first reading, by the number of codes asked for; `at_best` has the spreads."""
    nearest = [
        {"estimator": model}
        | {l0: f"{cells.f1_theirs.mean():.3f}" for l0, cells in at.groupby("l0")}
        for model, at in found.groupby("model", sort=False)
    ]
    report.table("nearest", pd.DataFrame(nearest))
    rows = []
    for model in dict.fromkeys(found.model):
        row = {"estimator": model}
        for l0 in setting.l0:
            cells = found[(found.model == model) & (found.l0 == l0)]
            f1, ev, mcc = (cells[name].mean() for name in ("f1", "ev", "mcc"))
            row[l0] = f"{f1:.3f} / {ev:.3f} / {mcc:.2f}"
        rows.append(row)
    report.table("equal_l0", pd.DataFrame(rows))


def at_equal_ev(found, report, levels=(0.55, 0.6, 0.65, 0.7, 0.75, 0.8)):
    """The second: F1 where each explains so much, between the L0 on either side of it."""
    rows = []
    for model in dict.fromkeys(found.model):
        row = {"estimator": model}
        for level in levels:
            values = []
            for _, cells in found[found.model == model].groupby("seed"):
                path = cells.sort_values("l0")
                values.append(_crossing(path.ev.to_numpy(), path.f1.to_numpy(), level))
            row[f"{level:.0%}"] = spread(pd.Series(values, dtype=float))
        rows.append(row)
    report.table("equal_ev", pd.DataFrame(rows))


def _crossing(ev, f1, level):
    """F1 where `ev` first passes the level, by a straight line; NaN where it never does."""
    for i in range(1, len(ev)):
        if ev[i - 1] <= level <= ev[i]:
            share = (level - ev[i - 1]) / (ev[i] - ev[i - 1])
            return f1[i - 1] + share * (f1[i] - f1[i - 1])
    return np.nan


def at_best(found, report) -> dict:
    """The third: each at the L0 where its F1 is highest; (model) -> its cells there."""
    rows, peaks = [], {}
    for model in dict.fromkeys(found.model):
        cells = found[found.model == model]
        l0 = cells.groupby("l0").f1.mean().idxmax()
        peaks[model] = at = cells[cells.l0 == l0]
        rows.append(
            {"estimator": model, "best L0": l0, "L0 of test rows": f"{at.found.mean():.2f}"}
            | {title: spread(at[name]) for name, title in MEASURES.items()}
            | {
                "highest F1, nearest feature (L0)": _peak(cells, "f1_theirs"),
                "highest MCC (L0)": _peak(cells, "mcc"),
                "seconds": f"{at.seconds.mean():.0f}",
            }
        )
    report.table("best", pd.DataFrame(rows))
    return peaks


def _peak(cells, name):
    means = cells.groupby("l0")[name].mean()
    return f"{means.max():.3f} ({means.idxmax()})"


def bars_part(found, peaks, report):
    """The two bars, for the default and for the best kind of MP."""
    rows = []
    for name, title in (("f1", "F1, one to one"), ("f1_theirs", "F1, nearest feature")):
        best = found.groupby(["model", "l0"])[name].mean().groupby("model").max()
        rival = best[list(RIVALS)].idxmax()
        kind = best[[model for model in peaks if model.startswith("MP")]].idxmax()
        for model in dict.fromkeys((OURS, kind)):
            ahead = best[model] - best[rival]
            rows.append(
                {
                    "measure": title,
                    "estimator": model if model == OURS else f"{model} (best of those tried)",
                    "at its best L0": f"{best[model]:.3f}",
                    f"at least {BAR}": "yes" if best[model] >= BAR else "**no**",
                    "best rival": f"{rival} {best[rival]:.3f}",
                    "ahead by": f"{ahead:+.3f}",
                    f"at least {MARGIN}": "yes" if ahead >= MARGIN else "**no**",
                }
            )
    report.table("bars", pd.DataFrame(rows))


def bands_part(found, peaks, report):
    """F1 and |cosine| of common and of rare features, each estimator at its best L0."""
    rows = []
    for model, cells in peaks.items():
        row = {"estimator": model, "L0": cells.l0.iloc[0]}
        for band in BANDS:
            f1, cosine = np.mean([b[band] for b in cells.bands], axis=0)
            row[band] = f"{f1:.3f} / {cosine:.3f}"
        rows.append(row)
    report.table("bands", pd.DataFrame(rows))


def paths_part(run, peaks, best, setting, report):
    """What atoms of features in trees are made of, of the first seed."""
    seed, rows = setting.seeds[0], []
    data = run.rows(setting.data, seed, _ROWS)
    above = run.ancestors(setting.data, seed, _PATHS)
    for model in (OURS, *RIVALS):
        l0 = int(peaks[model].l0.iloc[0])
        found = run.paths(
            setting.data,
            model,
            l0,
            setting.epochs,
            best.get((model, l0), {}),
            seed,
            _PATHS,
            rows=data,
            above=above,
        )
        for depth in ("outside trees", 0, 1, 2, 3):
            if depth in found:
                n, f1, feature, path, ancestor = found[depth]
                rows.append(
                    {
                        "estimator": model,
                        "L0": l0,
                        "depth": depth,
                        "pairs": n,
                        "F1": f"{f1:.3f}",
                        "cosine with the feature": f"{feature:.3f}",
                        "with the sum of its path": f"{path:.3f}",
                        "nearest to an ancestor": f"{ancestor:.0%}",
                    }
                )
    report.table("paths", pd.DataFrame(rows))


def figures_part(found, report):
    """F1 of both kinds and MCC against the number of codes; F1 against explained variance."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    panels = (("l0", "f1"), ("ev", "f1"), ("l0", "f1_theirs"), ("l0", "mcc"))
    titles = {
        "l0": "L0",
        "ev": "explained variance",
        "f1": "F1, one to one",
        "f1_theirs": "F1, nearest feature",
        "mcc": "MCC",
    }
    for ax, (x, y) in zip(axes.flat, panels, strict=True):
        for model in dict.fromkeys(found.model):
            path = (
                found[found.model == model]
                .groupby("l0")[["f1", "ev", "mcc", "f1_theirs"]]
                .mean()
            )
            path = path.reset_index()
            ax.plot(path[x], path[y], label=model, **STYLE[model])
        ax.set_xlabel(titles[x])
        ax.set_ylabel(titles[y])
        if x == "l0":
            ax.set_xscale("log")
            ax.set_xticks(sorted(set(found.l0)), sorted(set(found.l0)))
            ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    report.figure("readings", figure)


if __name__ == "__main__":
    # By its own name, under which workers and the cache find what it defines.
    import synth

    synth.main()
