"""Beyond MNIST: sentence embeddings with WordNet's classes, and patches of photographs.

Baselines take their best learning rate of a sweep, by the test R² itself; MP keeps its
default. scikit-learn's dictionary learning takes its best penalty at each sparsity.
"""

from __future__ import annotations

from pathlib import Path

import embeddings
import joblib
import measures
import numpy as np
import pandas as pd
from common import LOOKS, Report, arguments, memory, spread
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    ReLUSAE,
    TopKSAE,
    compare,
)
from sklearn_mpsae.datasets import load_image_patches
from sklearn_mpsae.plotting import AtomsDisplay

RATES = (0.1, 0.3, 1.0)
ALPHAS = (0.05, 0.1, 0.2)
MBDL = "MiniBatchDictionaryLearning"
EITHER_SIGN = "MP (OMP codes of either sign)"
MORE_LOOKS = {
    MBDL: {"color": "#F0E442", "marker": "X", "markeredgecolor": "#555"},
    EITHER_SIGN: {"color": "#CC79A7", "marker": "s", "mfc": "white", "linestyle": "--"},
}
SIDE = 8  # of a patch, in pixels
BORDER = 504  # the column of the photographs at which the test patches begin
N_EXAMPLES = 10
N_WORDS = 6


class Setting:
    """How large it all is."""

    def __init__(self, quick: bool) -> None:
        self.n_train, self.n_test = (3000, 1000) if quick else (25_000, 5_000)
        self.n_components = 128 if quick else 1024
        self.levels = (5, 10) if quick else (5, 10, 20)
        self.middle = 10
        self.seeds = range(1 if quick else 3)
        self.epochs = 3 if quick else None
        self.n_patches = 4000 if quick else 30_000
        self.n_patch_components = 128 if quick else 256
        self.patch_levels = (3, 5, 10)
        self.passes = 1 if quick else 2


def main() -> None:
    args = arguments(__doc__)
    setting = Setting(args.quick)
    report = Report("beyond", args)
    data = embedded(setting, args)
    words(setting, embedding_results(setting, args, report), data, args, report)
    patches(setting, args, report)
    report.save()


# ----------------------------------------------------------------------- the estimators
def pursuits(n_components: int, **options) -> dict:
    """MP with its defaults, by name."""
    return {
        "MP": MPSparseAutoencoder(n_components, **options),
        "MP (OMP codes)": MPSparseAutoencoder(
            n_components, transform_algorithm="omp", **options
        ),
    }


def rivals(n_components: int, **options) -> dict:
    """The rivals, by name."""
    kinds = (TopKSAE, BatchTopKSAE, JumpReLUSAE, ReLUSAE, MatryoshkaSAE)
    return {kind.__name__.removesuffix("SAE"): kind(n_components, **options) for kind in kinds}


def at_best_rates(models: dict, level: float, report: Report | None, key: str, data: dict):
    """The models with the rate that has the best test R² at this level, of one seed."""
    # Under its own name at each rate, so that the best one's fit is not repeated below.
    swept = {
        rate: compare(
            {name: model.set_params(learning_rate=rate) for name, model in models.items()},
            n_nonzero_coefs=level,
            **data,
        ).set_index("estimator")["r2"]
        for rate in RATES
    }
    table = pd.DataFrame(swept)
    if report is not None:
        shown = table.map("{:.3f}".format).reset_index(names="test R² at rate")
        report.table(key, shown, f"At L0 = {level:g}, seed 0:")
    best = table.idxmax(axis=1)
    return {
        name: model.set_params(learning_rate=float(best[name]))
        for name, model in models.items()
    }


# ----------------------------------------------------------------------- the embeddings
def source(setting: Setting, args) -> tuple:
    path = str(Path(args.data or ".") / "minilm_nouns.npz")
    return path, setting.n_train, setting.n_test


def embedded(setting: Setting, args) -> embeddings.Embeddings:
    return embeddings.load(*source(setting, args))


def embedding_results(setting, args, report=None, *, only=None) -> pd.DataFrame:
    """All fits to the embeddings, or those of the pursuit of this name."""
    data, n = embedded(setting, args), setting.n_train
    everything = {
        "X": data.X[:n],
        "X_test": data.X[n:],
        "y": data.y[:n],
        "y_test": data.y[n:],
        "measures": {
            "top": embeddings.TopRows(*source(setting, args)),
            "dictionary": measures.dictionary,
            "intercept": measures.intercept,
        },
        "n_jobs": args.jobs,
        "memory": memory(args),
        "verbose": 1,
    }
    options = {"max_iter": setting.epochs}
    models = pursuits(setting.n_components, **options)
    if only is not None:
        models = {only: models[only]}
    else:
        shallow = rivals(setting.n_components, **options)
        models |= at_best_rates(
            shallow, min(setting.levels), report, "embeddings_rates", everything
        )
    return compare(
        models, n_nonzero_coefs=setting.levels, random_states=setting.seeds, **everything
    )


def words(setting, results, data, args, report) -> None:
    """Tables, figure and examples of the embeddings."""
    results["purity"] = [np.nanmean(embeddings.purity(t, data.y)) for t in results["top"]]
    report.table("embeddings_r2", by_level(results, "r2"))
    report.table("embeddings_probe", by_level(results, "probe_accuracy"))
    report.text("embeddings_reference", references(setting, data, args))
    report.table(
        "embeddings_measures",
        at_level(
            results,
            setting.middle,
            {
                "L0": ("l0", 2),
                "dead atoms": ("dead_fraction", 3),
                "coherence": ("coherence", 3),
                "Babel": ("babel", 2),
                "Babel, co-selected": ("coselected_babel", 2),
                "effective rank": ("effective_rank", 0),
            },
        ),
        f"At L0 = {setting.middle}:",
    )
    report.table("purity", purities(setting, results, data))
    report.table("purity_levels", by_level(results, "purity"))
    report.table("examples", examples(setting, results, data))

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    labels = {"r2": "R²", "probe_accuracy": "probe accuracy", "purity": "mean purity of atoms"}
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        lines(ax, results, column, label)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=7, fontsize="small")
    report.figure("embeddings", figure)


def references(setting, data, args) -> str:
    """What the probe reaches on the embeddings themselves, and without them."""
    n = setting.n_train
    probe = memory(args).cache(probe_of_rows, ignore=["X", "X_test"], verbose=0)
    accuracy = probe(
        data.X[:n], data.y[:n], data.X[n:], data.y[n:], joblib.hash(data.X, coerce_mmap=True)
    )
    share = np.bincount(data.y[n:]).max() / (len(data.y) - n)
    return (
        f"The same probe on the {data.X.shape[1]} numbers of the embeddings themselves: "
        f"{accuracy:.3f}; always the commonest class: {share:.3f}."
    )


def probe_of_rows(X, y, X_test, y_test, key) -> float:
    """The accuracy of a logistic regression on standardised rows."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    return probe.fit(X, y).score(X_test, y_test)


def purities(setting, results, data) -> pd.DataFrame:
    """How pure atoms are at the middle level, beside directions that learnt nothing."""
    rows = []
    chosen = results[results["n_nonzero_coefs"] == setting.middle]
    for name, group in chosen.groupby("estimator", sort=False):
        rows.append(_purity_row(name, list(group["top"]), data.y))
    X = data.X - data.X[: setting.n_train].mean(axis=0)
    d = X.shape[1]
    draw = np.random.default_rng(0).standard_normal
    axes = PCA(random_state=0).fit(X[: setting.n_train]).components_
    untaught = {
        "random directions": draw((setting.n_components, d)),
        "dimensions of the embedding, ±": np.vstack([np.eye(d), -np.eye(d)]),
        "principal components, ±": np.vstack([axes, -axes]),
        "training rows, drawn at random": X[: setting.n_components],
    }
    for name, directions in untaught.items():
        top = embeddings.top_projections(X, directions.astype(np.float32))
        rows.append(_purity_row(name, [top], data.y))
    return pd.DataFrame(rows)


def _purity_row(name, tops, y):
    all_purities = [embeddings.purity(top, y) for top in tops]
    live = [p[~np.isnan(p)] for p in all_purities]
    return {
        "atoms": name,
        f"with {embeddings.PURE} rows": spread(np.array([len(p) for p in live]), 0),
        "mean purity": spread(np.array([p.mean() for p in live])),
        "median": spread(np.array([np.median(p) for p in live])),
        "share of 0.9 or more": spread(np.array([(p >= 0.9).mean() for p in live])),
    }


def examples(setting, results, data) -> pd.DataFrame:
    """The clearest atoms of MP, one of a class, and the words that use them most."""
    chosen = results.query(
        "estimator == 'MP' and n_nonzero_coefs == @setting.middle and seed == 0"
    )
    top = chosen["top"].iloc[0]
    # By the purity of the top rows, among equals that of more rows, among equals the first.
    first, more = (embeddings.purity(top, data.y, n) for n in (embeddings.PURE, 100))
    order = np.lexsort((-np.nan_to_num(more), -np.nan_to_num(first)))
    rows = {}
    for atom in order:
        label = embeddings.commonest(top[atom, : embeddings.PURE], data.y)
        if label not in rows and len(rows) < N_EXAMPLES:
            rows[label] = {
                "atom": atom,
                "class": embeddings.CLASSES[label],
                "purity": f"{first[atom]:.2f}",
                "of 100 rows": f"{more[atom]:.2f}",
                "words": ", ".join(data.words[top[atom, :N_WORDS]]),
            }
    return pd.DataFrame(rows.values())


# -------------------------------------------------------------------------- the patches
def patch_rows(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Training rows and test rows, that share no pixel."""
    found = load_image_patches((SIDE, SIDE), n_patches=setting.n_patches, random_state=0)
    X, column = found.data, found.positions[:, 2]
    return X[column <= BORDER - SIDE], X[column >= BORDER]


def patch_results(setting, args, report=None) -> pd.DataFrame:
    """All fits to the patches."""
    X, X_test = patch_rows(setting)
    everything = {
        "X": X,
        "X_test": X_test,
        "measures": {"dictionary": measures.dictionary},
        "n_jobs": args.jobs,
        "memory": memory(args),
        "verbose": 1,
    }
    p = setting.n_patch_components
    options = {"max_iter": setting.epochs}
    models = pursuits(p, **options)
    # Patches are as often the negative of others: classical codes have either sign.
    models[EITHER_SIGN] = MPSparseAutoencoder(
        p, transform_algorithm="omp", positive_code=False, **options
    )
    # Patches differ in contrast: where codes are so many on average, they go to strong ones.
    models["MP (average)"] = MPSparseAutoencoder(p, sparsity="average", **options)
    level = setting.patch_levels[1]
    models |= at_best_rates(rivals(p, **options), level, report, "patches_rates", everything)
    for alpha in ALPHAS:
        models[f"{MBDL} {alpha}"] = MiniBatchDictionaryLearning(
            p,
            alpha=alpha,
            max_iter=setting.passes,
            tol=0,
            max_no_improvement=None,
        )
    return compare(
        models, n_nonzero_coefs=setting.patch_levels, random_states=setting.seeds, **everything
    )


def at_best_penalty(results: pd.DataFrame, report: Report | None = None) -> pd.DataFrame:
    """The results with the best penalty of MiniBatchDictionaryLearning at each level."""
    theirs = results[results["estimator"].str.startswith(MBDL)]
    table = theirs.groupby(["estimator", "n_nonzero_coefs"])["r2"].mean().unstack()
    if report is not None:
        shown = table.map("{:.3f}".format)
        shown.index = [name.removeprefix(MBDL + " ") for name in shown.index]
        shown.columns = [f"L0 = {level}" for level in shown.columns]
        report.table("patches_penalties", shown.reset_index(names="alpha"))
    best = [
        theirs[(theirs["estimator"] == name) & (theirs["n_nonzero_coefs"] == level)]
        for level, name in table.idxmax().items()
    ]
    ours = results[~results["estimator"].str.startswith(MBDL)]
    return pd.concat([ours, *(part.assign(estimator=MBDL) for part in best)])


def patches(setting: Setting, args, report: Report) -> None:
    """Tables and figures of the patches."""
    X, X_test = patch_rows(setting)
    report.text("patches_rows", f"{len(X):,} patches to learn from, {len(X_test):,} to test.")
    results = at_best_penalty(patch_results(setting, args, report), report)
    report.table("patches_r2", by_level(results, "r2"))
    middle = setting.patch_levels[1]
    columns = {
        "L0": ("l0", 2),
        "dead atoms": ("dead_fraction", 3),
        "coherence": ("coherence", 3),
        "Babel": ("babel", 2),
        "Babel, co-selected": ("coselected_babel", 2),
    }
    report.table("patches_measures", at_level(results, middle, columns), f"At L0 = {middle}:")

    figure, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    lines(ax, results, "r2", "R²")
    figure.legend(loc="outside right center", fontsize="small")
    report.figure("patches", figure)

    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    for ax, name in zip(axes, ("MP", "TopK", MBDL), strict=True):
        atoms = results.query("estimator == @name and n_nonzero_coefs == @middle and seed == 0")
        W = atoms["dictionary"].iloc[0]
        display = AtomsDisplay.from_dictionary(
            W, image_shape=(SIDE, SIDE), n_atoms=100, n_columns=10, ax=ax
        )
        display.colorbar_.remove()
        figure.get_layout_engine().set(wspace=0.05)
        ax.set_title(name)
    report.figure("patches_atoms", figure)


# --------------------------------------------------------------------- tables and lines
def by_level(results: pd.DataFrame, column: str, digits: int = 3) -> pd.DataFrame:
    """A row for each estimator, a column for each level: mean ± sd over the seeds."""
    table = results.pivot_table(
        index="estimator",
        columns="n_nonzero_coefs",
        values=column,
        aggfunc=lambda values: spread(values, digits),
        sort=False,
    )
    table = table[sorted(table.columns)]
    table.columns = [f"L0 = {level}" for level in table.columns]
    return table.reset_index()


def at_level(results: pd.DataFrame, level: float, columns: dict) -> pd.DataFrame:
    """A row for each estimator, a column for each measure, at one level."""
    chosen = results[results["n_nonzero_coefs"] == level]
    groups = chosen.groupby("estimator", sort=False)
    return pd.DataFrame(
        [
            {"estimator": name}
            | {title: spread(group[key], digits) for title, (key, digits) in columns.items()}
            for name, group in groups
        ]
    )


def lines(ax, results: pd.DataFrame, column: str, label: str) -> None:
    """Means over the seeds against the L0 that test rows have."""
    for name, group in results.groupby("estimator", sort=False):
        means = group.groupby("n_nonzero_coefs")[["l0", column]].mean()
        look = LOOKS.get(name) or MORE_LOOKS[name]
        ax.plot(means["l0"], means[column], label=name, **look)
    ax.set(xlabel="L0", ylabel=label, xscale="log")
    levels = sorted(results["n_nonzero_coefs"].unique())
    ax.set_xticks(levels, [str(level) for level in levels])
    ax.minorticks_off()


if __name__ == "__main__":
    main()
