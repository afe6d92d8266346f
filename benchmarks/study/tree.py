"""The tree: which estimators find features that fire only where their parents do.

The synthetic tree of arXiv:2506.03093, at cosines rho of siblings from 0 to 0.9, and its
Table 1, which varies how strongly children fire. The rivals of MP are tuned at each rho, by
shorter fits, on a seed that is in no table.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import NamedTuple

import common
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from sklearn.model_selection import ParameterGrid

import sklearn_mpsae
from sklearn_mpsae import metrics
from sklearn_mpsae.datasets import make_hierarchical_features
from sklearn_mpsae.plotting import GramDisplay

BATCH = 200
MEAN_L0 = 1.36  # of the true codes

# MP as it comes, and what else it may be given; the bars are for the first.
MP = {
    "MP": {"n_nonzero_coefs": 2},
    "MP (average)": {"n_nonzero_coefs": MEAN_L0, "sparsity": "average"},
    "MP (mean)": {"n_nonzero_coefs": 2, "intercept": "mean"},
    "MP (no metric)": {"n_nonzero_coefs": MEAN_L0, "sparsity": "average", "whitening": 0},
    "MP (OMP, whitened)": {
        "n_nonzero_coefs": MEAN_L0,
        "sparsity": "average",
        "intercept": "zero",
        "whitening": 0.95,
        "transform_algorithm": "omp",
    },
    "MP (tol 1e-3)": {"n_nonzero_coefs": 2, "tol": 1e-3},
    "MP (3 atoms)": {"n_nonzero_coefs": 3},
}

# What is tried for the others; the top level has 11 features.
KINDS = ("learn", "zero")
AVERAGE = {"n_nonzero_coefs": [MEAN_L0, 2], "intercept": list(KINDS)}
RIVALS = {
    "TopK": AVERAGE | {"n_nonzero_coefs": [1, 2]},
    "BatchTopK": AVERAGE,
    "Matryoshka": AVERAGE | {"n_nonzero_coefs": [MEAN_L0], "prefix_sizes": [None, [11]]},
    "ReLU": AVERAGE,
}
CLASSES = {name: f"{name}SAE" for name in RIVALS} | dict.fromkeys(MP, "MPSparseAutoencoder")
SHORT = {"n_nonzero_coefs": "k", "learning_rate": "lr", "prefix_sizes": "prefixes"}

# Bars: the least matched cosine, and the most absorption, of MP.
COSINE = {0.0: 0.995, 0.1: 0.995, 0.3: 0.995, 0.6: 0.97}
ABSORPTION = {0.0: 0.01, 0.3: 0.01}

# Table 1: mean and standard deviation of the children's codes, and what the paper prints.
NOT_RUN = float("nan")
PAPER = {
    (0.1, 1 / 40): {
        "MP": 0.005,
        "Matryoshka": NOT_RUN,
        "ReLU": NOT_RUN,
        "BatchTopK": NOT_RUN,
    },
    (0.5, 1 / 400): {"MP": 0.073, "Matryoshka": 0.048, "ReLU": 0.70, "BatchTopK": 0.50},
    (0.5, 1 / 8): {"MP": 0.043, "Matryoshka": 0.096, "ReLU": 0.70, "BatchTopK": 0.49},
    (1.0, 1 / 4): {"MP": 0.0011, "Matryoshka": 0.22, "ReLU": 0.47, "BatchTopK": 0.42},
}

# The seed of the sweep is none of the others.
SWEEP_SEED = 100
FULL = {
    "rhos": (0.0, 0.1, 0.3, 0.6, 0.9),
    "seeds": range(5),
    "runs": range(8),
    "rival_runs": range(3),
    "rates": (0.01, 0.03, 0.1, 0.3),
    "steps": 15_000,
    "sweep_steps": 4_000,
}
QUICK = {
    "rhos": (0.0, 0.3),
    "seeds": range(2),
    "runs": range(2),
    "rival_runs": range(2),
    "rates": (0.1,),
    "steps": 500,
    "sweep_steps": 100,
}


def main() -> None:
    args = common.arguments(__doc__)
    plan = QUICK if args.quick else FULL
    report = common.Report("tree", args)

    tried = sweep(plan, args)
    chosen = {rho: best(of_rho) for rho, of_rho in tried.groupby("rho")}
    report.table("sweep", sweep_table(tried))

    cells = [
        Cell(name, params, {"rho": rho}, seed, plan["steps"])
        for rho in plan["rhos"]
        for seed in plan["seeds"]
        for name, params in {**MP, **chosen[rho]}.items()
    ]
    tree = fits("tree", cells, args)
    report.table("bars", bars_table(tree))
    report.table("matched_cosine", by_rho(tree, "matched_cosine"))
    report.table("absorption", by_rho(tree, "absorption"))
    report.table("within", by_rho(tree, "within", "{:.4f}"))
    report.table("across", by_rho(tree, "across", "{:.4f}"))
    report.table("l0", by_rho(tree, "l0", "{:.2f}"))
    report.table("r2", by_rho(tree, "r2", "{:.4f}"))
    report.table("matched_by_codes", by_rho(tree, "matched_cosine_codes"))
    report.table("absorption_by_codes", by_rho(tree, "absorption_codes"))
    report.table("seconds", by_rho(tree, "fit_seconds", "{:.1f}"))
    report.figure("recovery", recovery_figure(tree))
    report.figure("gram", gram_figure(tree, 0.3, ("MP", "ReLU", "Matryoshka")))

    table, settings = firing_variance(tried, plan, args)
    report.table("table1", paper_table(table))
    report.table("table1_magnitude", by_child(table, "absorption_magnitude"))
    report.table("table1_children", by_child(table, "child_cosine"))
    report.table("table1_settings", settings)
    report.save()


# -------------------------------------------------------------------------------- the fits
class Cell(NamedTuple):
    """One fit. Kept in the cache by these, so that they must say all there is to it."""

    name: str
    params: dict
    task: dict
    """``rho``, or the mean and standard deviation of a ``child``."""
    seed: int
    steps: int

    def row(self) -> dict:
        """Of a table, in place of what was measured."""
        task = {"rho": self.task.get("rho"), "child": self.task.get("child")}
        return {"name": self.name, "params": self.params, **task, "seed": self.seed}


class Rows:
    """What a cell learns from, and is measured on: drawn when first asked for."""

    def __init__(self, task: dict, seed: int, steps: int) -> None:
        self.task, self.seed, self.steps = task, seed, steps

    @cached_property
    def train(self):
        return self._draw(self.steps * BATCH, self.seed)

    @cached_property
    def test(self):
        return self._draw(20_000, self.seed + 1000, dictionary=self.train.dictionary)

    def _draw(self, n_samples, seed, **options):
        if "child" in self.task:
            child = make_hierarchical_features(1).levels > 0
            mean, std = self.task["child"]
            options |= {"mean": np.where(child, mean, 1), "std": np.where(child, std, 1 / 4)}
        else:
            options |= self.task
        return make_hierarchical_features(
            n_samples, **options, dtype=np.float32, random_state=seed
        )


def measured(name: str, params: dict, task: dict, seed: int, steps: int, rows: Rows) -> dict:
    """Fit one estimator to rows that it sees once, and compare its atoms with the truth."""
    train, test = rows.train, rows.test
    estimator = getattr(sklearn_mpsae, CLASSES[name])(
        len(train.dictionary), **params, batch_size=BATCH, max_iter=1, random_state=seed
    )
    start = time.perf_counter()
    estimator.fit(train.data)
    seconds = time.perf_counter() - start
    codes = estimator.transform(test.data)
    atoms, truth, parents = estimator.components_, train.dictionary, train.parents
    result = {
        "fit_seconds": seconds,
        "steps": estimator.n_steps_,
        "l0": np.count_nonzero(codes) / len(codes),
        "r2": estimator.score(test.data),
    }
    matchings = {
        "": metrics.match_atoms(atoms, truth),
        "_codes": metrics.match_codes(codes, test.codes),
    }
    for suffix, matching in matchings.items():
        within, across = metrics.similarity_error(atoms, truth, train.levels, matching)
        result |= {
            f"matched_cosine{suffix}": metrics.matched_cosine(atoms, truth, matching),
            f"absorption{suffix}": metrics.feature_absorption(atoms, truth, parents, matching),
            f"within{suffix}": within,
            f"across{suffix}": across,
        }
    ordered = atoms[matchings[""].atoms]
    child = parents >= 0
    result["absorption_magnitude"] = np.abs(
        np.sum(ordered[child] * truth[parents[child]], axis=1)
    ).mean()
    result["child_cosine"] = matchings[""].scores[child].mean()
    return result | {"atoms": ordered, "truth": truth}


def fits(title: str, cells: list[Cell], args) -> pd.DataFrame:
    """A row for each cell, in their order. Cells of the same rows are one job."""
    jobs: dict[str, list[int]] = {}
    for i, cell in enumerate(cells):
        jobs.setdefault(repr(cell[2:]), []).append(i)
    cached = common.memory(args).cache(measured, ignore=["rows"])
    parallel = Parallel(n_jobs=args.jobs, return_as="generator_unordered")
    results, start = {}, time.monotonic()
    for numbers, found in parallel(
        delayed(_job)(cached, numbers, [cells[i] for i in numbers]) for numbers in jobs.values()
    ):
        results |= dict(zip(numbers, found, strict=True))
        minutes = (time.monotonic() - start) / 60
        print(f"{title}: {len(results)} of {len(cells)} fits, {minutes:.1f} min", flush=True)
    return pd.DataFrame([cell.row() | results[i] for i, cell in enumerate(cells)])


def _job(cached, numbers, cells):
    rows = Rows(*cells[0][2:])
    return numbers, [cached(*cell, rows) for cell in cells]


# -------------------------------------------------------------------------------- the sweep
def sweep(plan: dict, args) -> pd.DataFrame:
    """All settings of the rivals at each rho, fitted for fewer steps; best first."""
    cells = [
        Cell(name, params, {"rho": rho}, SWEEP_SEED, plan["sweep_steps"])
        for rho in plan["rhos"]
        for name, space in RIVALS.items()
        for params in ParameterGrid(space | {"learning_rate": plan["rates"]})
    ]
    return ranked(fits("sweep", cells, args))


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    return found.sort_values("matched_cosine", ascending=False, kind="stable")


def best(found: pd.DataFrame) -> dict[str, dict]:
    """The parameters of the first, that is the best, of each rival."""
    first = found.groupby("name", sort=False).first()
    return {name: first.loc[name, "params"] for name in RIVALS if name in first.index}


def firing_variance(tried: pd.DataFrame, plan: dict, args):
    """Table 1: of the two best settings at rho 0, the better for each of its rows is run."""
    names = [name for name in RIVALS if name in PAPER[0.5, 1 / 8]]
    at_zero = tried[(tried.rho == 0) & tried.name.isin(names)].groupby("name").head(2)
    cells = [
        Cell(row.name, row.params, {"child": child}, SWEEP_SEED, plan["sweep_steps"])
        for child in PAPER
        for row in at_zero.itertuples()
    ]
    tried = ranked(fits("Table 1, settings", cells, args))
    chosen = {child: best(of_child) for child, of_child in tried.groupby("child")}
    cells = [
        Cell(name, params, {"child": child}, seed, plan["steps"])
        for child in PAPER
        for seed in plan["runs"]
        for name, params in {**MP, **chosen[child]}.items()
        if name in ("MP", "MP (3 atoms)")
        or (name != "MP (mean)" and seed in plan["rival_runs"])
    ]
    settings = pd.DataFrame(
        {"child": text_of(child)} | {name: setting(chosen[child][name]) for name in names}
        for child in PAPER
    )
    return fits("Table 1", cells, args), settings


# -------------------------------------------------------------------------------- the tables
def setting(params: dict) -> str:
    """Parameters, in a few words."""
    words = [
        f"{SHORT[key]} {value}"
        for key, value in sorted(params.items())
        if key in SHORT and value is not None
    ]
    return ", ".join([*words, f"intercept {params.get('intercept', 'learn')}"])


def text_of(child: tuple) -> str:
    mean, std = child
    return f"{mean:g} (1/{1 / std:.0f})"


def sweep_table(tried: pd.DataFrame) -> pd.DataFrame:
    """What was chosen, and the best cosine with each kind of intercept."""
    rows = []
    for (rho, name), found in tried.groupby(["rho", "name"]):
        intercept = found.params.map(lambda params: params["intercept"])
        cosines = found.matched_cosine
        rows.append(
            {
                "rho": rho,
                "estimator": name,
                "chosen": setting(found.params.iloc[0]),
                **{
                    f"best, {kind}": f"{cosines[intercept == kind].max():.3f}" for kind in KINDS
                },
                "worst": f"{cosines.iloc[-1]:.3f}",
            }
        )
    return pd.DataFrame(rows)


def bars_table(tree: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for measure, bars, sign, holds in (
        ("matched_cosine", COSINE, "≥", np.greater_equal),
        ("absorption", ABSORPTION, "≤", np.less_equal),
    ):
        means = tree.groupby(["name", "rho"])[measure].mean()
        for rho, bar in bars.items():
            if ("MP", rho) in means.index:
                row = {"measure": measure.replace("_", " "), "rho": rho, "bar": f"{sign} {bar}"}
                for name in MP:
                    value = means[name, rho]
                    met = "yes" if holds(value, bar) else "**no**"
                    row[name] = f"{round(value, 4) + 0.0:.4f} {met}"
                rows.append(row)
    return pd.DataFrame(rows)


def by_rho(tree: pd.DataFrame, measure: str, form: str = "{:.3f}") -> pd.DataFrame:
    """Mean ± standard deviation over the seeds: a row per estimator, a column per rho."""
    cells = _mean_and_spread(tree, ["name", "rho"], measure, form)
    return cells.unstack().reindex([*MP, *RIVALS]).rename_axis("estimator").reset_index()


def by_child(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    cells = _mean_and_spread(table, ["child", "name"], measure, "{:.3f}").unstack()
    cells = cells.reindex(index=list(PAPER), columns=[n for n in [*MP, *RIVALS] if n in cells])
    cells.index = [text_of(child) for child in PAPER]
    return cells.rename_axis("child's mean (sd)").reset_index()


def paper_table(table: pd.DataFrame) -> pd.DataFrame:
    """Our absorption, with the paper's number in brackets."""
    cells = by_child(table, "absorption")
    for i, printed in enumerate(PAPER.values()):
        for name, value in printed.items():
            cells.loc[i, name] += " (nan)" if np.isnan(value) else f" ({value:g})"
    return cells


def _mean_and_spread(found, keys, measure, form):
    groups = found.groupby(keys)[measure]
    mean, std = groups.mean().map(form.format), groups.std(ddof=1).map(form.format)
    return (mean + " ± " + std).str.replace(r"-(0\.0+)(?!\d)", r"\1", regex=True)


# ------------------------------------------------------------------------------ the figures
LOOKS = common.LOOKS | {
    "MP (mean)": {"color": "#D55E00", "marker": "o", "linestyle": ":", "mfc": "white"}
}


def recovery_figure(tree: pd.DataFrame):
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    names = [name for name in [*MP, *RIVALS] if name in LOOKS]
    for i, name in enumerate(names):
        for ax, measure in zip(axes, ("matched_cosine", "absorption"), strict=True):
            groups = tree[tree.name == name].groupby("rho")[measure]
            mean, low, high = groups.mean(), groups.min(), groups.max()
            ax.errorbar(
                mean.index + 0.006 * (i - len(names) / 2),
                mean,
                yerr=[mean - low, high - mean],
                label=name,
                markersize=5,
                linewidth=1.3,
                elinewidth=0.8,
                capsize=2,
                zorder=3 if name.startswith("MP") else 2,
                **LOOKS[name],
            )
    axes[0].set(ylabel="Matched cosine (1 is perfect)")
    axes[1].set(ylabel="Absorption (0 is perfect)")
    axes[1].axhline(0, color="0.7", linewidth=0.8, zorder=1)
    for ax in axes:
        ax.set(xlabel="Cosine rho of siblings", xticks=sorted(tree.rho.unique()))
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False
    )
    return figure


def gram_figure(tree: pd.DataFrame, rho: float, names):
    """Above: cosines of the atoms with each other. Below: of the atoms with the truth."""
    one = tree[(tree.rho == rho) & (tree.seed == tree.seed.min())].set_index("name")
    truth = one.loc["MP", "truth"]
    groups = np.r_[np.repeat([0, 1, 2], 4), np.full(8, 3)]  # the trees; what is childless
    figure, axes = plt.subplots(2, 1 + len(names), figsize=(12.5, 6.4), layout="constrained")
    for i, name in enumerate(["truth", *names]):
        atoms = truth if name == "truth" else one.loc[name, "atoms"]
        display = GramDisplay.from_dictionary(
            atoms, groups=groups, ax=axes[0, i], vmin=-1, vmax=1
        )
        title = "true features" if name == "truth" else f"{name}: atoms with each other"
        axes[0, i].set_title(title, fontsize=10)
        axes[0, i].set(xlabel="", ylabel="")
        display.colorbar_.remove()
        if name != "truth":
            image = axes[1, i].imshow(atoms @ truth.T, cmap="RdBu_r", vmin=-1, vmax=1)
            axes[1, i].set_title(f"{name}: atoms with truth", fontsize=10)
            axes[1, i].set(xlabel="True feature")
            for border in display.borders:
                axes[1, i].axvline(border - 0.5, color="0.3", linewidth=0.6)
                axes[1, i].axhline(border - 0.5, color="0.3", linewidth=0.6)
    axes[1, 1].set(ylabel="Matched atom")
    axes[1, 0].axis("off")
    axes[1, 0].text(
        0,
        0.5,
        "In each block of four:\na parent, then its\nthree children.\n"
        "Last eight: childless.\n\n"
        f"rho = {rho:g}, seed {tree.seed.min()}",
        transform=axes[1, 0].transAxes,
        va="center",
    )
    figure.colorbar(image, ax=axes, label="Cosine", shrink=0.7)
    for ax in axes.flat:
        ax.set(xticks=[0, 4, 8, 12], yticks=[0, 4, 8, 12])
    return figure


if __name__ == "__main__":
    import tree  # workers, and the cache, know functions by the module they can import

    tree.main()
