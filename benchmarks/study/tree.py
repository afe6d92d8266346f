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

# MP as it comes, and what else it may be given; the bars are for the first two.
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
    "MP (3 atoms, no metric)": {"n_nonzero_coefs": 3, "whitening": 0},
}
RANDOM = "random dictionary"
BASELINE = {RANDOM: {"n_nonzero_coefs": MEAN_L0, "sparsity": "average", **common.FROZEN}}

# What is tried for the others; the top level has 11 features.
KINDS = ("learn", "zero")
AVERAGE = {"n_nonzero_coefs": [MEAN_L0, 2], "intercept": list(KINDS)}
RIVALS = {
    "TopK": AVERAGE | {"n_nonzero_coefs": [1, 2]},
    "BatchTopK": AVERAGE,
    "Matryoshka": AVERAGE | {"n_nonzero_coefs": [MEAN_L0], "prefix_sizes": [None, [11]]},
    "ReLU": AVERAGE,
}
SHORT = {"n_nonzero_coefs": "k", "learning_rate": "lr", "prefix_sizes": "prefixes"}
# The rivals on rows as they are, and on rows in the metric that MP is strongest in.
WHITENED = "whitened"
WHITENINGS = dict.fromkeys(RIVALS, 0.0) | {f"{name}, {WHITENED}": 0.95 for name in RIVALS}
PURSUITS = [*MP, RANDOM]

# Bars: the least matched cosine, and the most absorption, of MP.
COSINE = {0.0: 0.995, 0.1: 0.995, 0.3: 0.995, 0.6: 0.995, 0.9: 0.96}
ABSORPTION = {0.0: 0.01, 0.3: 0.01}

# Table 1: mean and standard deviation of the children's codes, and what the paper prints:
# of MP, Matryoshka, ReLU and BatchTopK.
PAPER_NAMES = ("MP", "Matryoshka", "ReLU", "BatchTopK")
NAN = float("nan")
PAPER = {
    (0.1, 1 / 400): (0.0036, NAN, NAN, NAN),
    (0.1, 1 / 40): (0.005, NAN, NAN, NAN),
    (0.5, 1 / 400): (0.073, 0.048, 0.70, 0.50),
    (0.5, 1 / 40): (0.062, 0.090, 0.70, 0.54),
    (0.5, 1 / 8): (0.043, 0.096, 0.70, 0.49),
    (1.0, 1 / 400): (0.0013, 0.21, 0.45, 0.48),
    (1.0, 1 / 40): (0.0012, 0.15, 0.45, 0.45),
    (1.0, 1 / 8): (0.0011, 0.21, 0.47, 0.46),
    (1.0, 1 / 4): (0.0011, 0.22, 0.47, 0.42),
}
# And the tree whose codes do not vary at all, children and parents.
CONSTANT = "constant"
TABLE_1 = ("MP", "MP (average)", "MP (no metric)", "MP (3 atoms, no metric)")

# The seed of the sweep is none of the others.
SWEEP_SEED = 100
FULL = {
    "rhos": (0.0, 0.1, 0.3, 0.6, 0.9),
    "seeds": range(3),
    "rates": (0.03, 0.1, 0.3),
    "steps": 15_000,
    "sweep_steps": 4_000,
}
QUICK = {
    "rhos": (0.0, 0.9),
    "seeds": range(2),
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
        for name, params in {**MP, **chosen[rho], **BASELINE}.items()
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
    middle, last = plan["rhos"][len(plan["rhos"]) // 2], plan["rhos"][-1]
    report.figure("gram", gram_figure(tree, middle, ("MP", "ReLU", "Matryoshka")))
    report.table("structure", structure_table(tree, last))
    names = ("MP (3 atoms, no metric)", "MP (OMP, whitened)", f"ReLU, {WHITENED}")
    report.figure("gram_last", gram_figure(tree, last, names))

    tasks = [{"child": child} for child in PAPER] + [{CONSTANT: True}]
    found, settings = firing_variance(tasks, tried, plan, args)
    report.table("table1", paper_table(found))
    report.table("table1_magnitude", by_task(found, "absorption_magnitude"))
    report.table("table1_children", by_task(found, "child_cosine"))
    report.table("table1_r2", by_task(found, "r2", "{:.4f}"))
    report.table("table1_settings", settings)
    report.save()


# -------------------------------------------------------------------------------- the fits
class Cell(NamedTuple):
    """One fit. Kept in the cache by these, so that they must say all there is to it."""

    name: str
    params: dict
    task: dict
    """``rho``, or the mean and standard deviation of a ``child``, or that codes are
    ``constant``."""
    seed: int
    steps: int

    def row(self) -> dict:
        """Of a table, in place of what was measured."""
        task = {"rho": self.task.get("rho"), "task": text_of(self.task)}
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
        elif CONSTANT in self.task:
            options |= {"mean": 1.0, "std": 0.0}
        else:
            options |= self.task
        return make_hierarchical_features(
            n_samples, **options, dtype=np.float32, random_state=seed
        )


def measured(name: str, params: dict, task: dict, seed: int, steps: int, rows: Rows) -> dict:
    """Fit one estimator to rows that it sees once, and compare its atoms with the truth."""
    train, test = rows.train, rows.test
    estimator = made(name, *train.dictionary.shape, params, seed)
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


def made(name: str, n_components: int, n_features: int, params: dict, seed: int):
    """An estimator, not yet fitted."""
    options = {"batch_size": BATCH, "max_iter": 1, "random_state": seed, **params}
    if name == RANDOM:
        options["dict_init"] = common.random_dictionary(n_components, n_features, seed)
    if name in PURSUITS:
        return sklearn_mpsae.MPSparseAutoencoder(n_components, **options)
    kind = getattr(sklearn_mpsae, f"{name.partition(',')[0]}SAE")
    if whitening := WHITENINGS[name]:
        return common.InMetric(kind, n_components, whitening=whitening, **options)
    return kind(n_components, **options)


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
        for name in WHITENINGS
        for params in ParameterGrid(
            RIVALS[name.partition(",")[0]] | {"learning_rate": plan["rates"]}
        )
    ]
    return ranked(fits("sweep", cells, args))


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    return found.sort_values("matched_cosine", ascending=False, kind="stable")


def best(found: pd.DataFrame) -> dict[str, dict]:
    """The parameters of the first, that is the best, of each rival."""
    first = found.groupby("name", sort=False).first()
    return {name: first.loc[name, "params"] for name in WHITENINGS if name in first.index}


def firing_variance(tasks: list[dict], tried: pd.DataFrame, plan: dict, args):
    """Table 1: of the two best settings at rho 0, the better for each of its rows is run."""
    names = [name for name in PAPER_NAMES if name in RIVALS]
    at_zero = tried[(tried.rho == 0) & tried.name.isin(names)].groupby("name").head(2)
    cells = [
        Cell(row.name, row.params, task, SWEEP_SEED, plan["sweep_steps"])
        for task in tasks
        for row in at_zero.itertuples()
    ]
    tried = ranked(fits("Table 1, settings", cells, args))
    chosen = {task: best(of_task) for task, of_task in tried.groupby("task")}
    ours = {name: MP[name] for name in TABLE_1}
    cells = [
        Cell(name, params, task, seed, plan["steps"])
        for task in tasks
        for seed in plan["seeds"]
        for name, params in {**ours, **chosen[text_of(task)]}.items()
    ]
    settings = pd.DataFrame(
        {"child": text_of(task)}
        | {name: setting(chosen[text_of(task)][name]) for name in names}
        for task in tasks
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


def text_of(task: dict) -> str:
    """A task, as tables name it."""
    if "child" not in task:
        return "all codes 1" if CONSTANT in task else f"rho {task['rho']:g}"
    mean, std = task["child"]
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
    cells = _mean_and_spread(tree, ["name", "rho"], measure, form).unstack()
    order = [*MP, *WHITENINGS, RANDOM]
    return cells.reindex(order).rename_axis("estimator").reset_index()


def by_task(found: pd.DataFrame, measure: str, form: str = "{:.3f}") -> pd.DataFrame:
    cells = _mean_and_spread(found, ["task", "name"], measure, form).unstack()
    cells = cells.reindex(
        index=found.task.unique(), columns=[n for n in [*MP, *RIVALS] if n in cells]
    )
    return cells.rename_axis("child's mean (sd)").reset_index()


def paper_table(found: pd.DataFrame) -> pd.DataFrame:
    """Our absorption, with the paper's number in brackets."""
    cells = by_task(found, "absorption")
    for i, printed in enumerate(PAPER.values()):
        for name, value in zip(PAPER_NAMES, printed, strict=True):
            cells.loc[i, name] += " (nan)" if np.isnan(value) else f" ({value:g})"
    return cells


def structure_table(tree: pd.DataFrame, rho: float) -> pd.DataFrame:
    """Atoms by where four fifths of their energy lie: along a level's mean, or off it.

    The paper says that at rho 0.9 each level splits into an anchor and deviations from it:
    1 and 10 for the eleven features at the top, 3 and 6 for the three families of children.
    """
    at = tree[tree.rho == rho]
    first = at[at.name == "MP"]
    found = {"truth": first.truth} | {name: at.atoms[at.name == name] for name in at.name}
    rows = []
    for name, dictionaries in found.items():
        counts = [structure(*pair) for pair in zip(dictionaries, first.truth, strict=True)]
        means = (f"{count:.1f}" for count in np.mean(counts, axis=0))
        rows.append({"atoms": name} | dict(zip(_PARTS, means, strict=True)))
    return pd.DataFrame(rows)


_PARTS = (
    "along the top's mean",
    "off it, at the top",
    "along a family's mean",
    "off it, in a family",
    "none of these",
)


def structure(atoms: np.ndarray, truth: np.ndarray) -> list[int]:
    """How many atoms lie along means and deviations; `truth` is in the order of the tree."""
    top, families = [0, 4, 8, *range(12, 20)], [[1, 2, 3], [5, 6, 7], [9, 10, 11]]
    anchors = [truth[top].mean(axis=0)], [truth[f].mean(axis=0) for f in families]
    deviations = (
        truth[top] - anchors[0][0],
        np.vstack([truth[f] - m for f, m in zip(families, anchors[1], strict=True)]),
    )
    spaces = [anchors[0], deviations[0], anchors[1], deviations[1]]
    energies = []
    for space in spaces:
        basis, sizes, _ = np.linalg.svd(np.asarray(space).T, full_matrices=False)
        energies.append(((atoms @ basis[:, sizes > 1e-3 * sizes[0]]) ** 2).sum(axis=1))
    energies = np.array(energies)
    taken = np.where(energies.max(axis=0) >= 0.8, energies.argmax(axis=0), len(spaces))
    return np.bincount(taken, minlength=len(_PARTS)).tolist()


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
    names = [name for name in [*MP, *RIVALS, RANDOM] if name in LOOKS]
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
        title = "true features" if name == "truth" else f"{name}:\natoms with each other"
        axes[0, i].set_title(title, fontsize=10)
        axes[0, i].set(xlabel="", ylabel="")
        display.colorbar_.remove()
        if name != "truth":
            image = axes[1, i].imshow(atoms @ truth.T, cmap="RdBu_r", vmin=-1, vmax=1)
            axes[1, i].set_title(f"{name}:\natoms with truth", fontsize=10)
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
