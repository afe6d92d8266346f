"""Superposition: who finds the true features when they are more than the dimensions.

Rows of `make_superposition`: 512 features that fire independently, 8 in a row on average, in
256, 96 and 64 dimensions. Which stopping rule of the pursuit finds the features of a row,
with the true and with a learnt dictionary; MP-SAE against shallow autoencoders at their best
settings; then other numbers of features, hierarchy, firing laws, and too few atoms.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from common import (
    FROZEN,
    LOOKS,
    InMetric,
    Report,
    arguments,
    memory,
    random_dictionary,
    spread,
)
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from superposition_rules import RULES, SOURCE, Path

from sklearn_mpsae import BatchTopKSAE, MatryoshkaSAE, MPSparseAutoencoder, TopKSAE
from sklearn_mpsae.coding import Codes
from sklearn_mpsae.datasets import make_superposition
from sklearn_mpsae.metrics import firing_scores, match_atoms

# What is best for MP where features are hierarchical, and the metric of it for shallow ones.
METRIC = {"whitening": 0.98, "intercept": "zero"}
OWN_BEST = {"sparsity": "average", "transform_algorithm": "omp", **METRIC}
RANDOM = "random dictionary"
MODELS = {
    "MP": MPSparseAutoencoder,
    "MP (average)": partial(MPSparseAutoencoder, sparsity="average"),
    "MP (average, OMP)": partial(
        MPSparseAutoencoder, sparsity="average", transform_algorithm="omp"
    ),
    "MP (whitened, OMP)": partial(MPSparseAutoencoder, **OWN_BEST),
    "TopK": TopKSAE,
    "BatchTopK": BatchTopKSAE,
    "Matryoshka": MatryoshkaSAE,
    "TopK, whitened": partial(InMetric, TopKSAE, **METRIC),
    "BatchTopK, whitened": partial(InMetric, BatchTopKSAE, **METRIC),
    RANDOM: partial(MPSparseAutoencoder, sparsity="average", **FROZEN),
}
RIVALS = ("TopK", "BatchTopK", "Matryoshka")
RATES = (0.03, 0.1, 0.3, 1.0)
GRID = [
    {"learning_rate": rate, "dead_atoms": "revive", "intercept": intercept}
    for intercept in ("learn", "zero")
    for rate in RATES
]
GRID += [{"learning_rate": 0.3, "dead_atoms": "auxiliary", "intercept": "zero"}]

# The rule that each kind of MP codes by: its ceiling is that rule with the true dictionary.
RULE_OF = {
    "MP": "steps: the same number in every row",
    "MP (average)": "code: absolute",
    "MP (average, OMP)": "OMP, correlation: absolute",
    "MP (whitened, OMP)": "OMP, correlation: absolute",
}
OPEN = {"linestyle": ":", "mfc": "white"}
STYLE = LOOKS | {
    "MP (average, OMP)": LOOKS["MP (OMP codes)"],
    "MP (whitened, OMP)": LOOKS["MP (OMP codes)"] | OPEN,
    "TopK, whitened": LOOKS["TopK"] | OPEN,
    "BatchTopK, whitened": LOOKS["BatchTopK"] | OPEN,
}


@dataclass(frozen=True)
class Data:
    """What rows are made of, and how many there are."""

    n_features: int
    n_components: int = 512
    hierarchy: float = 0.0
    exponent: float = 0.5
    n_train: int = 60_000
    n_test: int = 10_000


class Setting:
    """How large it all is."""

    def __init__(self, quick: bool) -> None:
        self.l0 = 8
        self.epochs = 5 if quick else 15
        self.dimensions = (32, 16) if quick else (256, 96, 64)
        self.n_components = 64 if quick else 512
        self.sizes = {"n_train": 3000, "n_test": 1000} if quick else {}
        self.seeds = range(2 if quick else 3)
        self.middle = 32 if quick else 96
        n = self.n_components
        self.variations = {
            "features": ("n_components", (n // 2, n, 2 * n)),
            "hierarchy: share of children": ("hierarchy", (0.0, 0.3, 0.6)),
            "firing law: exponent": ("exponent", (0.25, 0.5, 1.0)),
        }
        self.few_atoms, self.few_l0 = n // 2, 6
        self.grid = GRID[1:3] if quick else GRID

    def data(self, n_features, **others) -> Data:
        return Data(n_features, **({"n_components": self.n_components} | self.sizes | others))


# ------------------------------------------------------------------------------- the cells
def generated(data: Data, seed: int):
    """Rows to learn from, and fresh rows of the same features."""
    random_state = np.random.RandomState(seed)
    made = partial(
        make_superposition,
        n_features=data.n_features,
        n_components=data.n_components,
        hierarchy=data.hierarchy,
        exponent=data.exponent,
        dtype=np.float32,
        random_state=random_state,
    )
    train = made(data.n_train)
    return train, made(data.n_test, dictionary=train.dictionary)


def measured(codes: Codes, dictionary, fresh, bias=0.0) -> dict:
    """How well these codes tell which features are there, and reconstruct."""
    matching = match_atoms(dictionary, fresh.dictionary)
    f1 = firing_scores(codes, fresh.codes, matching).per_feature.f1
    residual = fresh.data - codes.decode(dictionary) - bias
    return {
        "f1": float(np.nanmean(f1[matching.features])),
        "f1_commonest": float(np.nanmean(f1[: len(dictionary)])),
        "cosine": float(matching.scores.mean()),
        "l0": float(codes.l0().mean()),
        "r2": float(1 - (residual**2).sum() / (len(residual) * fresh.data.var(axis=0).sum())),
    }


def fit_cell(data, model, n_atoms, l0, epochs, parameters, seed, source):
    """Fit one estimator, and measure it on fresh rows."""
    train, fresh = generated(data, seed)
    given = {"max_iter": epochs, **parameters}
    if model == RANDOM:
        given = {"dict_init": random_dictionary(n_atoms, data.n_features, seed)}
    estimator = MODELS[model](n_atoms, n_nonzero_coefs=l0, random_state=seed, **given)
    estimator.fit(train.data)
    codes = estimator.encode(fresh.data)
    found = measured(codes, estimator.components_, fresh, estimator.intercept_)
    return found | {
        "threshold": getattr(estimator, "threshold_", 0.0),
        "dictionary": estimator.components_ if model.startswith("MP") else None,
    }


def rules_cell(data, dictionary, n_atoms, l0, names, seed, source):
    """Code fresh rows by each stopping rule, at the same mean number of codes.

    dictionary : None for the true one, its most frequent `n_atoms` features
    """
    _, fresh = generated(data, seed)
    D = fresh.dictionary[:n_atoms] if dictionary is None else dictionary
    path = Path(fresh, D, l0)
    return {name: measured(RULES[name](path), D, fresh) for name in names}


# Part of what a finished cell is kept under, so that a change of it runs again.
_FIT = "".join(map(inspect.getsource, (generated, measured)))
_RULES = _FIT + SOURCE


# ------------------------------------------------------------------------------ the runner
class Runner:
    """Runs cells, so many at a time, or finds them in the cache; says how far it is."""

    def __init__(self, args, setting):
        kept = memory(args)
        self.fit, self.code = kept.cache(fit_cell), kept.cache(rules_cell)
        self.jobs, self.setting = args.jobs, setting

    def __call__(self, what, function, cells):
        """The results of the cells (keyword arguments), in their order."""
        start, results = time.monotonic(), [None] * len(cells)
        tasks = (delayed(_numbered)(i, function, cell) for i, cell in enumerate(cells))
        parallel = Parallel(self.jobs, return_as="generator_unordered")
        for done, (i, result) in enumerate(parallel(tasks), 1):
            results[i] = result
            left = (time.monotonic() - start) / done * (len(cells) - done) / 60
            print(f"{what}: {done}/{len(cells)}, {left:.1f} minutes left", flush=True)
        return results

    def fits(self, what, cells) -> pd.DataFrame:
        """One row for each (data, model, parameters, seed)."""
        defaults = {"l0": self.setting.l0, "epochs": self.setting.epochs, "source": _FIT}
        full = [
            defaults | {"n_atoms": c["data"].n_components, "parameters": {}} | c for c in cells
        ]
        found = self(what, self.fit, full)
        return pd.DataFrame([c | f for c, f in zip(full, found, strict=True)])

    def sweep(self, data, seed, grid) -> pd.DataFrame:
        """The rivals with all parameters of the grid."""
        cells = [
            {"data": d, "model": m, "seed": seed, "parameters": p}
            for d, m, p in product(data, RIVALS, grid)
        ]
        return self.fits("sweep", cells)

    def models(self, what, data, seeds, best, models=tuple(MODELS), **others):
        """Models on several data; rivals with the best parameters at that dimension."""
        cells = [
            {
                "data": d,
                "model": m,
                "seed": s,
                "parameters": best.get((d.n_features, m.partition(",")[0]), {}),
                **others,
            }
            for s, d, m in product(seeds, data, models)
        ]
        return self.fits(what, cells)

    def rules(self, what, cells) -> pd.DataFrame:
        """One row for each (data, seed, rule)."""
        full = [
            {"l0": self.setting.l0, "source": _RULES, "dictionary": None} | c for c in cells
        ]
        full = [{"n_atoms": c["data"].n_components} | c for c in full]
        rows = []
        for cell, found in zip(full, self(what, self.code, full), strict=True):
            for rule, scores in found.items():
                rows.append({"data": cell["data"], "seed": cell["seed"], "rule": rule} | scores)
        return pd.DataFrame(rows)


def _numbered(i, function, cell):
    return i, function(**cell)


# ------------------------------------------------------------------------------ the study
def main() -> None:
    args = arguments(__doc__)
    setting = Setting(args.quick)
    run, report = Runner(args, setting), Report("superposition", args)
    levels = [setting.data(d) for d in setting.dimensions]
    sweep = run.sweep(levels, setting.seeds[0], setting.grid)
    best = sweep_table(sweep, report)
    found = run.models("levels", levels, setting.seeds, best)
    truth = run.rules(
        "rules, true dictionary",
        [
            {"data": d, "seed": s, "names": tuple(RULES)}
            for d, s in product(levels, setting.seeds)
        ],
    )
    levels_part(found, truth, report)
    report.save()
    rules_part(run, found, truth, levels, report)
    report.save()
    few_atoms_part(run, levels, best, report)
    report.save()
    variations_part(run, found, truth, best, report)
    report.save()


def ceiling_of(truth, data, model, seed=None):
    """F1 of the true dictionary, coded by the model's rule (MP's for shallow ones)."""
    rule = RULE_OF.get(model, RULE_OF["MP (average)"])
    rows = truth[(truth.data == data) & (truth.rule == rule)]
    return rows.set_index("seed").f1


def sweep_table(sweep, report):
    """F1 of the rivals by learning rate and treatment of dead atoms; the best of each."""
    rows, best = [], {}
    dimension = sweep.data.map(lambda d: d.n_features)
    for (d, model), cells in sweep.groupby([dimension, "model"], sort=False):
        best[d, model] = cells.loc[cells.f1.idxmax()].parameters
        row = {"dimension": d, "estimator": model}
        for cell in cells.itertuples():
            bold = "**" if cell.f1 == cells.f1.max() else ""
            name = "{dead_atoms} {learning_rate}, {intercept}".format(**cell.parameters)
            row[name] = f"{bold}{cell.f1:.3f}{bold}"
        rows.append(row)
    report.table("sweep", pd.DataFrame(rows))
    return best


def levels_part(found, truth, report):
    """The three levels: a table, the bars, and the figure."""
    rows, bars = [], []
    for data in dict.fromkeys(found.data):
        at = found[found.data == data]
        means = at.groupby("model").f1.mean()
        for model in MODELS:
            cells = at[at.model == model]
            ceiling = ceiling_of(truth, data, model).loc[cells.seed]
            rows.append(
                {
                    "dimension": data.n_features,
                    "estimator": model,
                    "F1": spread(cells.f1),
                    "matched cosine": spread(cells.cosine),
                    "L0": f"{cells.l0.mean():.2f}",
                    "R²": spread(cells.r2),
                    "ceiling of F1": spread(ceiling),
                    "F1 / ceiling": f"{cells.f1.mean() / ceiling.mean():.3f}",
                }
            )
        rival = means[list(RIVALS)].idxmax()
        for model in ("MP (average)", "MP (average, OMP)", "MP (whitened, OMP)"):
            share = means[model] / ceiling_of(truth, data, model).mean()
            bars.append(
                {
                    "dimension": data.n_features,
                    "estimator": model,
                    "F1": f"{means[model]:.3f}",
                    "best rival": f"{rival} {means[rival]:.3f}",
                    "above it": "yes" if means[model] > means[rival] else "NO",
                    "of the ceiling": f"{share:.3f}",
                    "at least 0.95": "yes" if share >= 0.95 else "NO",
                }
            )
    report.table("levels", pd.DataFrame(rows))
    report.table("bars", pd.DataFrame(bars))
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
    for ax, measure, title in zip(
        axes, ("f1", "cosine", "r2"), ("F1 of firing", "matched cosine", "R²"), strict=True
    ):
        along_dimensions(ax, found, measure)
        ax.set_title(title)
    along_ceiling(axes[0], truth)
    _legend(figure, axes[0])
    report.figure("levels", figure)


def along_dimensions(ax, found, measure):
    dimensions = list(dict.fromkeys(d.n_features for d in found.data))
    for model in MODELS:
        cells = found[found.model == model]
        if cells.empty:
            continue
        groups = cells.groupby(cells.data.map(lambda d: d.n_features))[measure]
        mean, sd = groups.mean().loc[dimensions], groups.std().loc[dimensions]
        ax.errorbar(
            range(len(dimensions)), mean, sd.fillna(0), label=model, capsize=3, **STYLE[model]
        )
    n = found.data.iloc[0].n_components
    ax.set_xticks(range(len(dimensions)), [f"{d}\n({n / d:.3g})" for d in dimensions])
    ax.set_xlabel("dimensions (features for each)")
    _plain(ax)


def along_ceiling(ax, truth):
    rows = truth[truth.rule == RULE_OF["MP (average)"]]
    dimensions = list(dict.fromkeys(d.n_features for d in rows.data))
    mean = rows.groupby(rows.data.map(lambda d: d.n_features)).f1.mean().loc[dimensions]
    label = "true dictionary, coded by MP"
    ax.plot(range(len(dimensions)), mean, "--", color="0.6", zorder=0, label=label)


def _plain(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.3)


def _legend(figure, ax):
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)


def rules_part(run, found, truth, levels, report):
    """Stopping rules, with the true dictionary and with two that were learnt."""
    seeds = run.setting.seeds
    learnt = {}
    for model in ("MP", "MP (average)"):
        cells = []
        for data, seed in product(levels, seeds):
            rows = found[(found.data == data) & (found.model == model) & (found.seed == seed)]
            cells.append(
                {
                    "data": data,
                    "seed": seed,
                    "names": tuple(RULES),
                    "dictionary": rows.dictionary.iloc[0],
                }
            )
        learnt[model] = run.rules(f"rules, dictionary of {model}", cells)
    sources = {"true": truth, **learnt}
    table = []
    for rule in RULES:
        row = {"rule": rule}
        for name, rows in sources.items():
            for data in levels:
                cells = rows[(rows.data == data) & (rows.rule == rule)]
                row[f"{name}, {data.n_features}"] = f"{cells.f1.mean():.3f}"
        of_rule = truth[truth.rule == rule]
        row["L0"] = f"{of_rule.l0.min():.2f} to {of_rule.l0.max():.2f}"
        table.append(row)
    report.table("rules", pd.DataFrame(table))
    figure, axes = plt.subplots(
        1, len(levels), figsize=(11.5, 4), sharey=True, layout="constrained"
    )
    looks = {"true": ("o", "#000000"), "MP": ("s", "#D55E00"), "MP (average)": ("D", "#E69F00")}
    for ax, data in zip(axes, levels, strict=True):
        for name, rows in sources.items():
            mean = rows[rows.data == data].groupby("rule").f1.mean().loc[list(RULES)]
            marker, color = looks[name]
            label = "true dictionary" if name == "true" else f"dictionary of {name}"
            ax.plot(
                mean,
                range(len(mean)),
                marker,
                color=color,
                label=label,
                markerfacecolor=color if name == "true" else "none",
            )
        ax.set_title(f"{data.n_features} dimensions")
        ax.set_xlabel("F1 of firing")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.3)
    axes[0].set_yticks(range(len(RULES)), RULES)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    report.figure("rules", figure)


def few_atoms_part(run, levels, best, report):
    """Half as many atoms as features."""
    setting = run.setting
    others = {"n_atoms": setting.few_atoms, "l0": setting.few_l0}
    found = run.models("few atoms", levels, setting.seeds, best, **others)
    names = tuple(dict.fromkeys(RULE_OF.values()))
    truth = run.rules(
        "few atoms, true dictionary",
        [
            {"data": d, "seed": s, "names": names, **others}
            for d, s in product(levels, setting.seeds)
        ],
    )
    rows = []
    for data, model in product(levels, MODELS):
        cells = found[(found.data == data) & (found.model == model)]
        ceiling = ceiling_of(truth, data, model).loc[cells.seed]
        rows.append(
            {
                "dimension": data.n_features,
                "estimator": model,
                "F1": spread(cells.f1),
                "F1 of the commonest": spread(cells.f1_commonest),
                "matched cosine": spread(cells.cosine),
                "L0": f"{cells.l0.mean():.2f}",
                "R²": spread(cells.r2),
                "ceiling of F1": spread(ceiling),
                "F1 / ceiling": f"{cells.f1.mean() / ceiling.mean():.3f}",
            }
        )
    report.table("few_atoms", pd.DataFrame(rows))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, measure, title in zip(axes, ("f1", "r2"), ("F1 of firing", "R²"), strict=True):
        along_dimensions(ax, found, measure)
        ax.set_title(title)
    along_ceiling(axes[0], truth)
    _legend(figure, axes[0])
    report.figure("few_atoms", figure)


def variations_part(run, found, truth, best, report):
    """Other numbers of features, hierarchy and firing laws, at the middle dimension."""
    setting = run.setting
    models = (
        "MP (average)",
        "MP (whitened, OMP)",
        *RIVALS,
        "TopK, whitened",
        "BatchTopK, whitened",
    )
    middle = setting.data(setting.middle)
    made = {
        (name, value): setting.data(setting.middle, **{parameter: value})
        for name, (parameter, values) in setting.variations.items()
        for value in values
    }
    data = [d for d in made.values() if d != middle]
    seeds = setting.seeds
    new = run.models("variations", data, seeds, best, models)
    names = tuple(dict.fromkeys(RULE_OF[m] for m in models if m in RULE_OF))
    new_truth = run.rules(
        "variations, true dictionary",
        [{"data": d, "seed": s, "names": names} for d, s in product(data, seeds)],
    )
    found = pd.concat([found[(found.data == middle) & found.seed.isin(seeds)], new])
    truth = pd.concat([truth[(truth.data == middle) & truth.seed.isin(seeds)], new_truth])
    rows = []
    figure, axes = plt.subplots(
        1, len(setting.variations), figsize=(11.5, 3.6), sharey=True, layout="constrained"
    )
    for ax, (name, (_, values)) in zip(axes, setting.variations.items(), strict=True):
        f1 = {model: [] for model in models}
        ceilings = []
        for value in values:
            at = found[found.data == made[name, value]]
            row = {"varied": name, "value": str(value)}
            for model in models:
                cells = at[at.model == model]
                row[model] = f"{cells.f1.mean():.3f} / {cells.cosine.mean():.3f}"
                f1[model].append(cells.f1)
            ceilings.append(ceiling_of(truth, made[name, value], "MP (average)").mean())
            row["ceiling"] = f"{ceilings[-1]:.3f}"
            rows.append(row)
        for model in models:
            mean = [cells.mean() for cells in f1[model]]
            sd = [cells.std(ddof=1) if len(cells) > 1 else 0 for cells in f1[model]]
            ax.errorbar(range(len(values)), mean, sd, label=model, capsize=3, **STYLE[model])
        label = "true dictionary, coded by MP"
        ax.plot(range(len(values)), ceilings, "--", color="0.6", zorder=0, label=label)
        ax.set_xticks(range(len(values)), values)
        ax.set_xlabel(name)
        _plain(ax)
    axes[0].set_ylabel("F1 of firing")
    _legend(figure, axes[0])
    report.table("variations", pd.DataFrame(rows))
    report.figure("variations", figure)


if __name__ == "__main__":
    # By its own name, under which workers and the cache find what it defines.
    import superposition

    superposition.main()
