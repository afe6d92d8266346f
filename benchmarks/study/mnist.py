"""MNIST as in arXiv:2506.05239: shallow sparse autoencoders against MP-SAE at equal L0.

The first 50,000 training images to learn from, the other 10,000 to measure on; 1,000 atoms.
Baselines take their best learning rate of a sweep, by validation R² itself, for few and for
many codes.
"""

from __future__ import annotations

from pathlib import Path

import measures
import numpy as np
import pandas as pd
from common import (
    FROZEN,
    LOOKS,
    Report,
    arguments,
    best_rates,
    memory,
    random_dictionary,
    rate_at,
    spread,
)
from matplotlib import pyplot as plt

from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
    compare,
    metrics,
)
from sklearn_mpsae.coding import Codes, matching_pursuit
from sklearn_mpsae.datasets import fetch_mnist
from sklearn_mpsae.plotting import AtomsDisplay, ProgressiveReconstructionDisplay

RATES = (0.1, 0.3, 1.0, 3.0)
MIDDLE = 10  # the sparsity of the paper
SHOWN = measures.STEPS
PURSUITS = ("MP", "MP (average)", "MP (no metric)")
RANDOM = "random dictionary"
STYLE = LOOKS | {
    "MP (no metric)": {"color": "#D55E00", "marker": "o", "linestyle": ":", "mfc": "white"}
}
WEIGHTS = (0.0, 0.5, 0.75)  # of the path, in the table of one fit for every sparsity


class Setting:
    """How large it all is."""

    def __init__(self, quick: bool) -> None:
        self.n_train, self.n_test = (2000, 500) if quick else (50_000, 10_000)
        self.n_components = 100 if quick else 1000
        self.epochs = 3 if quick else 10
        self.long = 6 if quick else 50
        # The few steps of a quick run do not get L0 where it is to be.
        self.miss = np.inf if quick else 0.05
        self.swept = (5,) if quick else (5, 20)
        self.levels = (5, 20) if quick else (5, 20, 30)
        self.far_levels = (1, 50)
        self.seeds = range(2 if quick else 3)
        self.few = 3
        self.most = 10 if quick else 30  # codes of the one fit for every sparsity
        self.rows_seen = (1024, 2048) if quick else (5_000, 50_000, 150_000, 500_000)


def main() -> None:
    args = arguments(__doc__)
    setting = Setting(args.quick)
    data = fetch_mnist(args.data)
    X, y = data.data[:60_000].astype(np.float32) / 255, data.target[:60_000]
    a, b = setting.n_train, setting.n_train + setting.n_test
    everything = {
        "X": X[:a],
        "X_test": X[a:b],
        "n_jobs": args.jobs,
        "memory": memory(args),
        "verbose": 1,
    }
    report = Report("mnist", args)
    rates = sweep(setting, everything, report)
    models = estimators(setting, rates, MIDDLE)
    classes = {"y": y[:a], "y_test": y[a:b]}
    middle = compare(
        models,
        n_nonzero_coefs=MIDDLE,
        random_states=setting.seeds,
        measures={
            "path": measures.inference_path,
            "babel_curve": measures.babel,
            "coselected_curve": measures.coselected_babel,
            "conditional": measures.conditional_orthogonality,
            "dictionary": measures.dictionary,
            "rank_path": measures.rank_path,
        },
        **everything,
        **classes,
    )
    at_middle(middle, report)
    along_inference(middle, report)
    authors(middle, X[a:b], args, report)
    others = [
        compare(
            estimators(setting, rates, level),
            n_nonzero_coefs=level,
            random_states=setting.seeds,
            **everything,
            **classes,
        )
        for level in (*setting.levels, *setting.far_levels)
    ]
    rows = pd.concat([middle, *others], ignore_index=True)
    by_level(rows, report)
    one_fit(setting, everything, rows, report)
    along_training(setting, rates, X[:a], X[a:b], args, report)
    pictures(models, X[:a], X[a:b], args, report)
    training_length(setting, rates, everything, middle, report)
    report.save()


def shallow(setting: Setting, **options) -> dict:
    """The rivals, by name."""
    options = {"n_components": setting.n_components, "batch_size": 1024, **options}
    return {
        "TopK": TopKSAE(**options),
        "BatchTopK": BatchTopKSAE(**options),
        "JumpReLU": JumpReLUSAE(**options),
        "ReLU": ReLUSAE(**options),
    }


def estimators(setting: Setting, rates: dict, level: int, **options) -> dict:
    """All estimators: MP with its defaults, shallow ones at their best learning rates."""
    options = {"max_iter": setting.epochs, **options}
    pursuit = {"n_components": setting.n_components, "batch_size": 1024, **options}
    models = {
        "MP": MPSparseAutoencoder(**pursuit),
        "MP (average)": MPSparseAutoencoder(sparsity="average", **pursuit),
        "MP (no metric)": MPSparseAutoencoder(whitening=0.0, **pursuit),
        RANDOM: MPSparseAutoencoder(
            dict_init=random_dictionary(setting.n_components, 784, 0), **{**pursuit, **FROZEN}
        ),
    }
    for name, model in shallow(setting, **options).items():
        models[name] = model.set_params(learning_rate=rate_at(rates[name], level))
    return models


def sweep(setting: Setting, data: dict, report: Report) -> dict:
    """The best learning rate of each rival at each level swept: name -> level -> rate."""
    models = {
        f"{name} {rate}": model
        for rate in RATES
        for name, model in shallow(setting, max_iter=setting.epochs, learning_rate=rate).items()
    }
    rows = compare(models, n_nonzero_coefs=setting.swept, **data)
    rows[["estimator", "rate"]] = rows.estimator.str.rsplit(" ", n=1, expand=True)
    return best_rates(rows.astype({"rate": float}), setting.miss, report)


def training_length(
    setting: Setting, rates: dict, data: dict, middle: pd.DataFrame, report: Report
) -> None:
    """Whether more epochs would change the order: beside the first seed of the rest."""
    models = estimators(setting, rates, MIDDLE, max_iter=setting.long)
    del models["MP (average)"], models[RANDOM]
    longer = compare(models, n_nonzero_coefs=MIDDLE, **data).set_index("estimator")
    usual = middle[middle.seed == 0].set_index("estimator").loc[longer.index]
    columns = {f"{setting.epochs} epochs": usual.r2, f"{setting.long} epochs": longer.r2}
    report.table("epochs", pd.DataFrame(columns).round(4).reset_index())


def by_level(rows: pd.DataFrame, report: Report) -> None:
    """R² and what else goes with L0."""
    rows = rows.sort_values(["n_nonzero_coefs", "seed"])
    failed = rows[rows.error != ""]
    if len(failed):
        raise RuntimeError(f"Fits failed:\n{failed[['estimator', 'error']].to_string()}")
    for key, digits in [
        ("r2", 4),
        ("l0", 2),
        ("probe_accuracy", 3),
        ("dead_fraction", 3),
        ("coherence", 3),
        ("coselected_babel", 2),
        ("effective_rank", 0),
    ]:
        cells = rows.groupby(["estimator", "n_nonzero_coefs"], sort=False)[key]
        table = cells.agg(lambda values, digits=digits: spread(values, digits)).unstack()
        report.table(key, table.loc[list(dict.fromkeys(rows.estimator))].reset_index())
    levels = rows[~rows.n_nonzero_coefs.isin([1, 50])]
    report.table("margins", margins(levels))
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
    for ax, (y, label) in zip(
        axes,
        [
            ("r2", "Validation R²"),
            ("probe_accuracy", "Accuracy of a linear probe"),
            ("effective_rank", "Effective rank of the codes"),
        ],
        strict=True,
    ):
        for name, part in rows.groupby("estimator", sort=False):
            cells = part.groupby("n_nonzero_coefs")
            x, middle = cells.l0.median(), cells[y].median()
            ax.plot(x, middle, label=name, markersize=5, **STYLE[name])
            color = STYLE[name]["color"]
            ax.fill_between(x, cells[y].min(), cells[y].max(), color=color, alpha=0.25)
        ax.set(xscale="log", xlabel="Non-zero codes per row (L0)", ylabel=label)
        ax.set_xticks([1, 5, 10, 20, 30, 50], [1, 5, 10, 20, 30, 50])
    axes[0].legend()
    report.figure("levels", figure)


def margins(rows: pd.DataFrame) -> pd.DataFrame:
    """MP's lead over the best shallow one, beside the spread over seeds."""
    lines = []
    for level, part in rows.groupby("n_nonzero_coefs"):
        scores = part.groupby("estimator").r2
        shallow_ones = scores.mean().drop([*PURSUITS, RANDOM])
        best = shallow_ones.idxmax()
        ranges = scores.max() - scores.min()
        lines.append(
            {
                "L0": level,
                "best shallow": best,
                "its R²": f"{shallow_ones[best]:.4f}",
                "MP's R²": f"{scores.mean()['MP']:.4f}",
                "lead": f"{scores.mean()['MP'] - shallow_ones[best]:.4f}",
                "lead without the metric": (
                    f"{scores.mean()['MP (no metric)'] - shallow_ones[best]:.4f}"
                ),
                "largest range over seeds": f"{max(ranges['MP'], ranges[best]):.4f}",
            }
        )
    return pd.DataFrame(lines)


def at_middle(rows: pd.DataFrame, report: Report) -> None:
    """Geometry, and sparsity varied at inference."""
    groups = dict(list(rows.groupby("estimator", sort=False)))
    lines, paths = [], []
    for name, part in groups.items():
        path = 1 - np.stack(part.path).mean(axis=0)
        paths.append({"estimator": name} | {k: f"{path[k - 1]:.3f}" for k in SHOWN})
        previous, span = trimmed_means(part.conditional)
        coselected = np.stack([curve[: MIDDLE - 1] for curve in part.coselected_curve])
        babel = np.stack(part.babel_curve)
        lines.append(
            {
                "estimator": name,
                "coherence": spread(part.coherence),
                "Babel(9)": spread(babel[:, MIDDLE - 2], 2),
                "co-selected Babel(9)": spread(coselected[:, -1], 2),
                "cosine with the atom before": f"{previous.mean():.3f}",
                "with the span of all before": f"{span.mean():.3f}",
                "effective rank": spread(part.effective_rank, 0),
                "dead": spread(part.dead_fraction),
                "stability": f"{metrics.stability(list(part.dictionary)):.3f}",
                "probe": spread(part.probe_accuracy),
                "fit seconds": f"{part.fit_seconds.median():.0f}",
            }
        )
    report.table("middle", pd.DataFrame(lines))
    report.table("inference", pd.DataFrame(paths))
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
    for name, part in groups.items():
        look = STYLE[name] | {"markersize": 4, "label": name}
        atoms = np.arange(1, measures.LONGEST + 1)
        path = 1 - np.stack(part.path).mean(axis=0)
        axes[0].plot(atoms[: len(path)], path, markevery=5, **look)
        babel = np.stack(part.babel_curve).mean(axis=0)
        axes[1].plot(atoms[: len(babel)], babel, markevery=5, **look)
        coselected = np.stack([curve[: MIDDLE - 1] for curve in part.coselected_curve])
        axes[2].plot(atoms[: MIDDLE - 1], coselected.mean(axis=0), **look)
    axes[0].axvline(MIDDLE, color="0.7", linestyle=":")
    axes[0].set(
        xlabel="Atoms at inference (trained with 10)", ylabel="Validation R²", ylim=(0, 1)
    )
    axes[1].set(xlabel="r", ylabel="Babel function of the dictionary")
    axes[2].set(xlabel="r", ylabel="Babel function of co-selected atoms")
    axes[0].legend(fontsize=8)
    report.figure("geometry", figure)
    cosine_histogram(groups, report)


def authors(rows: pd.DataFrame, X_test, args, report: Report) -> None:
    """The dictionary that the authors of the paper published, coded as MP codes."""
    path = Path(args.data or ".") / "mp_mnist_authors.npz"
    if not path.is_file():
        report.text("authors", f"{path.name} is not in the data folder: not measured.")
        return
    with np.load(path) as arrays:
        W, intercept = arrays["components"], arrays["intercept"]
    codes = matching_pursuit(X_test - intercept, W, measures.LONGEST)
    table = [geometry("the authors'", codes, W, X_test - intercept)]
    for name in ("MP", "MP (no metric)"):
        part = rows[(rows.estimator == name)].iloc[0]
        row = {k: f"{1 - part.path[k - 1]:.3f}" for k in SHOWN}
        table.append(
            {"dictionary": f"{name}, seed 0"}
            | row
            | {
                "coherence": f"{part.coherence:.3f}",
                "co-selected Babel(9)": f"{part.coselected_curve[MIDDLE - 2]:.2f}",
                "effective rank": f"{part.effective_rank:.0f}",
            }
        )
    report.table("authors", pd.DataFrame(table))


def geometry(name: str, codes: Codes, W, X) -> dict:
    """A row of the table of `authors`, from codes of LONGEST steps."""
    own, middle = {k: measures.first(codes, k) for k in SHOWN}, measures.first(codes, MIDDLE)
    curve = metrics.coselected_babel(middle, W)
    return {
        "dictionary": name,
        **{k: f"{metrics.explained_variance(X, own[k].decode(W)):.3f}" for k in SHOWN},
        "coherence": f"{metrics.mutual_coherence(W):.3f}",
        "co-selected Babel(9)": f"{curve[MIDDLE - 2]:.2f}",
        "effective rank": f"{metrics.effective_rank(middle):.0f}",
    }


def one_fit(setting: Setting, data: dict, rows: pd.DataFrame, report: Report) -> None:
    """R² with fewer codes of one fit, beside a fit for each number of codes."""
    options = {
        "n_components": setting.n_components,
        "batch_size": 1024,
        "max_iter": setting.epochs,
    }
    seeds = {"random_states": setting.seeds}
    fits = compare(
        {f"path_weight={w:g}": MPSparseAutoencoder(path_weight=w, **options) for w in WEIGHTS},
        n_nonzero_coefs=setting.most,
        measures={"path": measures.inference_path},
        **seeds,
        **data,
    )
    few = compare(
        {"MP": MPSparseAutoencoder(**options)}, n_nonzero_coefs=setting.few, **seeds, **data
    )
    own = pd.concat([rows[rows.estimator == "MP"], few])
    levels = [k for k in (3, 5, 10, 20, 30, 50) if k in set(own.n_nonzero_coefs)]
    lines = [
        {"fit": f"one with {setting.most}, {name}"}
        | {k: spread(1 - np.stack(part.path)[:, k - 1]) for k in levels}
        for name, part in fits.groupby("estimator", sort=False)
    ]
    own = {k: spread(own[own.n_nonzero_coefs == k].r2) for k in levels}
    report.table("one_fit", pd.DataFrame([*lines, {"fit": "its own for each"} | own]))


def along_inference(rows: pd.DataFrame, report: Report) -> None:
    """Effective rank of the codes along the number of codes at inference."""
    table = []
    for name in ("MP", "TopK"):
        paths = rows[rows.estimator == name].rank_path
        cells = {k: spread(np.array([ranks[k] for ranks in paths]), 0) for k in SHOWN}
        table.append({"estimator": name} | cells)
    report.table("rank_path", pd.DataFrame(table))


def along_training(setting: Setting, rates: dict, X, X_test, args, report: Report) -> None:
    """R² along the number of codes at inference, as a stream goes on."""
    cached = memory(args).cache(training_paths)
    models = estimators(setting, rates, MIDDLE)
    table = []
    for name in ("MP", "TopK"):
        model = models[name].set_params(n_nonzero_coefs=MIDDLE, random_state=0)
        for seen, path in cached(model, X, X_test, setting.rows_seen).items():
            cells = {k: f"{1 - path[k - 1]:.3f}" for k in SHOWN}
            table.append({"estimator": name, "rows seen": f"{seen:,}"} | cells)
    report.table("training", pd.DataFrame(table))


def training_paths(model, X, X_test, rows_seen) -> dict:
    """Unexplained share with 1 .. LONGEST atoms after so many rows of a stream."""
    order, paths, seen = np.random.RandomState(0).permutation(len(X)), {}, 0
    for until in rows_seen:
        while seen < until:
            rows = np.arange(seen, min(seen + 5_000, until)) % len(X)
            model.partial_fit(X[order[rows]])
            seen += len(rows)
        paths[until] = model.reconstruction_path(X_test, measures.LONGEST)
    return paths


def cosine_histogram(groups: dict, report: Report) -> None:
    """How often two atoms of a dictionary have each cosine."""
    figure, ax = plt.subplots(figsize=(7, 3.8))
    edges = np.linspace(-1, 1, 101)
    for name, part in groups.items():
        W = part.dictionary.iloc[0]
        cosines = (W @ W.T)[np.triu_indices(len(W), 1)]
        density, _ = np.histogram(cosines, edges, density=True)
        look = {key: STYLE[name][key] for key in ("color", "linestyle") if key in STYLE[name]}
        ax.plot((edges[1:] + edges[:-1]) / 2, density.clip(1e-5), label=name, **look)
    ax.set(yscale="log", xlabel="Cosine of two atoms", ylabel="Density", ylim=(1e-4, None))
    ax.legend(fontsize=8)
    report.figure("cosines", figure)


def trimmed_means(conditional) -> tuple:
    """Both curves' means over seeds, for the steps up to the one trained with."""
    pairs = [[curve[: MIDDLE - 1] for curve in pair] for pair in conditional]
    return tuple(np.mean(pairs, axis=0))


def fitted(name: str, model, X: np.ndarray):
    """A fit to draw pictures of."""
    return model.set_params(n_nonzero_coefs=MIDDLE, random_state=0).fit(X)


def pictures(models: dict, X, X_test, args, report: Report) -> None:
    """Atoms, and reconstructions after each atom, of MP and of TopK."""
    cached = memory(args).cache(fitted)
    figure, axes = plt.subplots(1, 2, figsize=(14, 5.8))
    figures, panels = plt.subplots(2, 1, figsize=(13, 9))
    for name, ax, panel in zip(("MP", "TopK"), axes, panels, strict=True):
        model = cached(name, models[name], X)
        look = {"image_shape": (28, 28), "n_atoms": 100, "n_columns": 10}
        AtomsDisplay.from_estimator(model, **look, ax=ax)
        ax.set_title(f"{name}: the 100 atoms most used")
        ProgressiveReconstructionDisplay.from_estimator(
            model, X_test[:3], image_shape=(28, 28), ax=panel
        )
        panel.set_title(name)
    report.figure("atoms", figure)
    report.figure("progressive", figures)


if __name__ == "__main__":
    main()
