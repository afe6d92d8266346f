"""A small language model: what its loss, probes and words say of the features of a layer.

A causal transformer of 4 layers is trained on WordNet's glosses. Estimators learn from the
activations after one of its blocks, at equal L0, each at its best learning rate of a sweep by
the test R² itself. Then their reconstructions take the place of the layer.
"""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import language_measures as lm
import language_minilm
import language_strong
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
from joblib import Parallel, delayed
from language_model import UNKNOWN, Settings, is_word
from language_rows import Loaded, Source, load
from matplotlib import pyplot as plt

from sklearn_mpsae import (
    BatchTopKSAE,
    JumpReLUSAE,
    MatryoshkaSAE,
    MPSparseAutoencoder,
    TopKSAE,
    compare,
    metrics,
)

RATES = (0.1, 0.3, 1.0)
PURSUITS = ("MP", "MP (average)", "MP (no metric)")
RANDOM = "random dictionary"
STYLE = LOOKS | {
    "MP (no metric)": {"color": "#D55E00", "marker": "o", "linestyle": ":", "mfc": "white"}
}
# Measures by column: what they are called, and whether more is better.
MEASURES = {
    "r2": ("R²", True),
    "recovered": ("cross-entropy recovered", True),
    "lost": ("cross-entropy lost, nats", False),
    "speech 1": ("probe, part of speech, 1 atom", True),
    "speech 5": ("probe, part of speech, 5 atoms", True),
    "speech all": ("probe, part of speech, all atoms", True),
    "next 1": ("probe, next token, 1 atom", True),
    "next 5": ("probe, next token, 5 atoms", True),
    "next all": ("probe, next token, all atoms", True),
    "f1": ("labels, F1", True),
    "balanced": ("labels, balanced accuracy", True),
    "stability": ("stability", True),
    "dead_fraction": ("dead atoms", False),
}
EXPANSION = 4  # atoms for each feature of a row
# What is fitted where there is no time for all.
FEW = ("MP", "MP (average)", "TopK", "BatchTopK")
QUANTILES = (0.99, 0.9, 0.75, 0.5, 0.25, 0.1)


class Setting:
    """How large it all is."""

    def __init__(self, args) -> None:
        quick = args.quick
        self.model = Settings()
        if quick:
            self.model = Settings(n_words=200, context=24, width=32, n_heads=2, n_epochs=1)
        self.swept, self.levels = ((2,), (2, 6)) if quick else ((8, 32), (8, 32, 100))
        self.middle = self.levels[1]
        self.seeds = range(2 if quick else 3)
        self.rates = RATES[1:] if quick else RATES
        self.epochs = 1 if quick else None  # None for about 1,000 steps
        # The few steps of a quick run do not get L0 where it is to be.
        self.miss = np.inf if quick else 0.05
        self.block = 2
        self.others = (1,) if quick else (1, 3, 4)
        sizes = (2_000, 1_000, 300) if quick else (150_000, 20_000, 10_000)
        self._rows = (2_000 if quick else None), sizes
        self._minilm = (300, 300, 20) if quick else (6_500, 500, 300)
        self._folder, self._cache = str(Path(args.data or ".")), args.cache

    def minilm(self, weights: str) -> language_minilm.Source:
        return language_minilm.Source(weights, self._folder, *self._minilm)

    def source(self, block: int) -> Source:
        most_glosses, sizes = self._rows
        return Source(self._folder, self._cache, self.model, most_glosses, block, *sizes)


def main() -> None:
    args = arguments(__doc__, more_arguments)
    setting = Setting(args)
    report = Report("language", args)
    data = load(setting.source(setting.block))
    describe(setting, data, report)
    study = Study(setting, setting.source(setting.block), lm, args)
    rates = sweep(study, report)
    rows = study.results(rates, setting.levels, setting.seeds)
    rows = pd.concat([rows, study.results({RANDOM: {}}, setting.levels, range(1))])
    by_level(setting, rows, report)
    report.table("answers", answers(setting, rows))
    reference(study, report)
    strong_uses(study, rows, report)
    first_codes(study, rows, report)
    figure(rows, report)
    report.table("examples", examples(setting, rows, data))
    other_blocks(setting, rates, rows, args, report)
    if args.minilm is not None:
        minilm(setting, rates, args, report)
    report.save()


def more_arguments(parser) -> None:
    parser.add_argument(
        "--minilm",
        help="folder with all-MiniLM-L6-v2's model.safetensors and the files beside it, to "
        "measure its tokens too; needs transformers",
    )


# ------------------------------------------------------------------------ the estimators
def estimators(setting: Setting, n_features: int) -> dict:
    """All estimators, by name."""
    shape = EXPANSION * n_features, n_features
    options = {"n_components": shape[0], "max_iter": setting.epochs}
    return {
        "MP": MPSparseAutoencoder(**options),
        "MP (average)": MPSparseAutoencoder(sparsity="average", **options),
        "MP (no metric)": MPSparseAutoencoder(whitening=0.0, **options),
        "TopK": TopKSAE(**options),
        "BatchTopK": BatchTopKSAE(**options),
        "Matryoshka": MatryoshkaSAE(**options),
        "JumpReLU": JumpReLUSAE(**options),
        RANDOM: MPSparseAutoencoder(
            dict_init=random_dictionary(*shape, 0), **{**options, **FROZEN}
        ),
    }


class Study:
    """Fits to the rows of a source, and what a module's `measured` says of them."""

    def __init__(self, setting: Setting, source, module, args) -> None:
        self.setting, self.source, self.module = setting, source, module
        self.memory, self.jobs = memory(args), args.jobs
        data = module.load(source)
        self.n_features = data.train.X.shape[1]
        self._everything = {
            "X": data.train.X,
            "X_test": data.test.X,
            "measures": {"fitted": lm.itself},
            "n_jobs": args.jobs,
            "memory": self.memory,
            "verbose": 1,
        }

    def fits(self, models: dict, levels, seeds=range(1)) -> pd.DataFrame:
        """The fitted estimators and what `compare` measures."""
        rows = compare(models, n_nonzero_coefs=levels, random_states=seeds, **self._everything)
        failed = rows[rows.error != ""]
        if len(failed):
            raise RuntimeError(f"Fits failed:\n{failed[['estimator', 'error']].to_string()}")
        return rows

    def results(self, rates: dict, levels, seeds) -> pd.DataFrame:
        """Fits with these learning rates, and all that is measured of them."""
        rows = pd.concat(
            [
                self.fits(self._at(rates, level), level, seeds)
                # Fits of one level are together, as the estimators are by name.
                for level in levels
            ],
            ignore_index=True,
        )
        cached = self.memory.cache(self.module.measured)
        found = Parallel(self.jobs)(delayed(cached)(fit, self.source) for fit in rows.fitted)
        rows = rows.join(pd.DataFrame(found))
        rows["lost"] = [each.spliced - each.clean for each in rows.losses]
        rows["f1"] = [np.nanmean(each.f1) for each in rows.labels]
        rows["balanced"] = [np.nanmean(each.balanced_accuracy) for each in rows.labels]
        rows["judged"] = [np.isfinite(each.f1).mean() for each in rows.labels]
        return rows

    def estimators(self) -> dict:
        return estimators(self.setting, self.n_features)

    def _at(self, rates: dict, level: int) -> dict:
        """Models at their best rates."""
        models = {name: self.estimators()[name] for name in rates}
        for name, by_level in rates.items():
            if by_level:
                models[name].set_params(learning_rate=rate_at(by_level, level))
        return models


def sweep(study: Study, report: Report) -> dict:
    """The best learning rate of each estimator at each level swept: name -> level -> rate."""
    models = study.estimators()
    del models[RANDOM]
    # Under its own name at each rate, so that the best one's fit is not repeated below.
    rows = pd.concat(
        study.fits(
            {name: model.set_params(learning_rate=rate) for name, model in models.items()},
            study.setting.swept,
        ).assign(rate=rate)
        for rate in study.setting.rates
    )
    return best_rates(rows, study.setting.miss, report)


# ---------------------------------------------------------------------------- the tables
def describe(setting: Setting, data: Loaded, report: Report) -> None:
    """The model, and the rows."""
    found, text, model = data.found, data.text, setting.model
    by_epoch = ", ".join(f"{loss:.3f}" for loss in found["losses"])
    n_words = sum(int(is_word(batch).sum()) for batch in data.loss_batches)
    unknown = np.mean(np.concatenate([data.train.own, data.test.own]) == UNKNOWN)
    report.text(
        "model",
        f"{model.n_layers} blocks of {model.n_heads} heads, width {model.width}, context "
        f"{model.context}, {len(text.words):,} words: {found['n_parameters']:,} parameters. "
        f"{text.n_train:,} glosses to learn from ({found['n_tokens']:,} tokens), "
        f"{len(text.glosses) - text.n_train:,} held out. Cross-entropy of the token after a "
        f"held-out word, after each epoch: {by_epoch} nats; of a model that knows only how "
        f"frequent each token is: {found['unigram']:.3f}. Trained in {found['minutes']:.0f} "
        f"minutes. Of the words {unknown:.1%} are `<unk>`.\n\n"
        f"{len(data.train.X):,} rows to learn from and {len(data.test.X):,} held-out ones of "
        f"{model.width} numbers, after block {setting.block}; {EXPANSION * model.width} "
        f"atoms; cross-entropy measured on {n_words:,} held-out words.",
    )


def by_level(setting: Setting, rows: pd.DataFrame, report: Report) -> None:
    """Mean and spread over seeds of each measure, by estimator and L0."""
    shown = {"l0": 2, "r2": 4, "recovered": 4, "lost": 4, "dead_fraction": 3, "coherence": 3}
    shown |= {"f1": 3, "balanced": 3, "judged": 3}
    for key, digits in shown.items():
        report.table(key, table(rows, key, digits))
    report.table("stability", stability_table(rows))
    for task in ("speech", "next"):
        parts = [
            table(rows, f"{task} {n}", 3).assign(atoms=str(n)) for n in (*lm.PROBED, "all")
        ]
        together = pd.concat(parts)
        columns = ["atoms", *together.columns.drop("atoms")]
        report.table(task, together[columns])
    losses = rows.losses.iloc[0]
    report.text(
        "losses",
        f"Cross-entropy as it is: {losses.clean:.3f} nats. With the mean of all rows instead "
        f"of the layer: {losses.mean_ablated:.3f}; with zeros: {losses.zero_ablated:.3f}.",
    )
    middle = rows[rows.n_nonzero_coefs == setting.middle]
    seconds = middle.groupby("estimator", sort=False).fit_seconds.median()
    report.table("seconds", seconds.map("{:.0f}".format).reset_index())


def table(rows: pd.DataFrame, key: str, digits: int) -> pd.DataFrame:
    cells = rows.groupby(["estimator", "n_nonzero_coefs"], sort=False)[key]
    found = cells.agg(lambda values: spread(values, digits)).unstack()
    found = found.loc[list(dict.fromkeys(rows.estimator))].reset_index()
    return found.rename(columns=lambda name: f"L0 = {name}" if name != "estimator" else name)


def pairs(part: pd.DataFrame) -> pd.Series:
    """The matched cosine of the dictionaries of each two seeds."""
    atoms = [fit.components_ for fit in part.fitted]
    return pd.Series([metrics.stability(a, b) for a, b in combinations(atoms, 2)], dtype=float)


def stability_table(rows: pd.DataFrame) -> pd.DataFrame:
    """How much of a dictionary another seed finds, beside random ones."""
    lines = []
    for name, part in rows.groupby("estimator", sort=False):
        found = {f"L0 = {k}": spread(pairs(p)) for k, p in part.groupby("n_nonzero_coefs")}
        lines.append({"estimator": name} | found)
    shape = rows.fitted.iloc[0].components_.shape
    drawn = [random_dictionary(*shape, seed) for seed in range(2)]
    drawn = [atoms / np.linalg.norm(atoms, axis=1, keepdims=True) for atoms in drawn]
    chance = f"{metrics.stability(*drawn):.3f}"
    lines[-1] |= dict.fromkeys(list(lines[-1])[1:], chance)
    return pd.DataFrame(lines)


def answers(setting: Setting, rows: pd.DataFrame) -> pd.DataFrame:
    """The lead of MP over the best shallow encoder, with its standard error over seeds."""
    lines = []
    for ours in PURSUITS[:2]:
        for key, (label, more) in MEASURES.items():
            line = {"estimator": ours, "measure": label}
            for level in setting.levels:
                line[f"L0 = {level}"] = lead(
                    rows[rows.n_nonzero_coefs == level], key, ours, more
                )
            lines.append(line)
    return pd.DataFrame(lines)


def lead(part: pd.DataFrame, key: str, ours: str, more: bool) -> str:
    """As text: what it is, beside whom, and whether it is beyond two standard errors."""
    groups = dict(list(part.groupby("estimator", sort=False)))
    values = {
        name: pairs(group) if key == "stability" else group[key]
        for name, group in groups.items()
        if name != RANDOM
    }
    means = {name: v.mean() for name, v in values.items() if name not in PURSUITS}
    best = (max if more else min)(means, key=means.get)
    difference = values[ours].mean() - means[best]
    error = math.sqrt(sum(v.var(ddof=1) / len(v) for v in (values[ours], values[best])))
    good = difference if more else -difference
    verdict = "ahead" if good > 2 * error else "behind" if good < -2 * error else "equal"
    return f"{verdict}: {difference:+.3f} ± {error:.3f} ({best})"


def reference(study: Study, report: Report) -> None:
    """The same probes on the rows themselves."""
    found = study.memory.cache(lm.measured_rows)(study.source)
    lines = [
        {"task": task} | {f"{n}": f"{found[f'{task} {n}']:.3f}" for n in (*lm.PROBED, "all")}
        for task in ("speech", "next")
    ]
    report.table("reference", pd.DataFrame(lines))


def strong_uses(study: Study, rows: pd.DataFrame, report: Report) -> None:
    """Labels of the strongest uses at the middle L0, and how evenly atoms are used."""
    cached = study.memory.cache(language_strong.measured)
    lines = []
    middle = rows[rows.n_nonzero_coefs == study.setting.middle]
    for name, part in middle.groupby("estimator", sort=False):
        found = [cached(fit, study.source) for fit in part.fitted]
        f1, accuracy = (
            pd.Series([np.nanmean(getattr(each["labels"], key)) for each in found])
            for key in ("f1", "balanced_accuracy")
        )
        used = np.mean([each["used"] for each in found], axis=0)
        judged = np.mean([np.isfinite(each["labels"].f1).mean() for each in found])
        lines.append(
            {
                "estimator": name,
                "F1": spread(f1),
                "balanced accuracy": spread(accuracy),
                "judged": f"{judged:.3f}",
                "rows that use an atom: 10%": f"{used[0]:.3f}",
                "median": f"{used[1]:.3f}",
                "90%": f"{used[2]:.3f}",
            }
        )
    report.table("strong", pd.DataFrame(lines), f"At L0 = {study.setting.middle}:")


def first_codes(study: Study, rows: pd.DataFrame, report: Report) -> None:
    """Labels of the first codes of each row, at the first L0 of all."""
    cached = study.memory.cache(language_strong.by_step)
    level, lines = study.setting.levels[0], []
    for name in ("MP", "TopK"):
        part = rows[(rows.estimator == name) & (rows.n_nonzero_coefs == level)]
        found = [cached(fit, study.source) for fit in part.fitted]
        for key, label in {"f1": "F1", "balanced_accuracy": "balanced accuracy"}.items():
            line = {"estimator": name, "labels": label}
            for k in language_strong.STEPS:
                values = pd.Series([np.nanmean(getattr(each[k], key)) for each in found])
                line[f"first {k}"] = spread(values)
            lines.append(line)
    report.table("steps", pd.DataFrame(lines), f"At L0 = {level}:")


def figure(rows: pd.DataFrame, report: Report) -> None:
    """Measures against L0, with the range over seeds."""
    shown = ("r2", "recovered", "speech 5", "next 5", "f1", "balanced")
    # Beside random directions, which explain little, the others would be hard to tell apart.
    rows = rows[rows.estimator != RANDOM]
    drawn, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
    for ax, key in zip(axes.flat, shown, strict=True):
        for name, part in rows.groupby("estimator", sort=False):
            cells = part.groupby("n_nonzero_coefs")
            x, middle = cells.l0.mean(), cells[key].mean()
            errors = middle - cells[key].min(), cells[key].max() - middle
            ax.errorbar(x, middle, errors, label=name, markersize=5, capsize=2, **STYLE[name])
        levels = sorted(rows.n_nonzero_coefs.unique())
        ax.set(xscale="log", xlabel="Non-zero codes per row (L0)", ylabel=MEASURES[key][0])
        ax.set_xticks(levels, levels)
        ax.minorticks_off()
    drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    report.figure("levels", drawn)


def examples(setting: Setting, rows: pd.DataFrame, data: Loaded) -> pd.DataFrame:
    """Atoms at some quantiles of the F1 of their labels, of two estimators."""
    lines = {q: {"quantile": f"{q:g}"} for q in QUANTILES}
    for name in ("MP", "TopK"):
        part = rows[(rows.estimator == name) & (rows.n_nonzero_coefs == setting.levels[0])]
        found = part.labels.iloc[0]
        judged = np.flatnonzero(np.isfinite(found.f1))
        order = judged[np.argsort(found.f1[judged], kind="stable")]
        for q in QUANTILES:
            atom = order[round(q * (len(order) - 1))]
            words = " ".join(f"`{word}`" for word in data.text.words[found.words[atom][:8]])
            lines[q][f"{name}: words"] = f"{found.place[atom]}: {words}".replace("|", "\\|")
            lines[q][f"{name}: F1"] = f"{found.f1[atom]:.2f}"
    return pd.DataFrame(lines.values())


def other_blocks(setting: Setting, rates: dict, rows: pd.DataFrame, args, report) -> None:
    """R² and cross-entropy after the other blocks, of one seed."""
    chosen = {name: rates[name] for name in FEW}
    lines = []
    for block in sorted((setting.block, *setting.others)):
        if block == setting.block:
            part = rows[(rows.n_nonzero_coefs == setting.middle) & (rows.seed == 0)]
        else:
            study = Study(setting, setting.source(block), lm, args)
            part = study.results(chosen, [setting.middle], range(1))
        part = part.set_index("estimator")
        lines.append(
            {"after block": block}
            | {f"{name}: R²": f"{part.r2[name]:.3f}" for name in chosen}
            | {f"{name}: recovered": f"{part.recovered[name]:.3f}" for name in chosen}
        )
    report.table("blocks", pd.DataFrame(lines))


def minilm(setting: Setting, rates: dict, args, report: Report) -> None:
    """The same measures on the tokens of a sentence transformer, at one L0."""
    study = Study(setting, setting.minilm(args.minilm), language_minilm, args)
    rows = study.results({name: rates[name] for name in FEW}, [setting.middle], setting.seeds)
    columns = {key: label for key, (label, _) in MEASURES.items() if key != "stability"}
    columns |= {"recovered": "embedding recovered", "lost": "1 - cosine of embeddings"}
    groups = rows.groupby("estimator", sort=False)
    lines = [
        {"estimator": name, "L0": spread(part.l0, 2)}
        | {label: spread(part[key]) for key, label in columns.items()}
        | {"stability": spread(pairs(part))}
        for name, part in groups
    ]
    turned = rows.losses.iloc[0].mean_ablated
    data = language_minilm.load(study.source)
    report.table(
        "minilm",
        # Estimators in columns: there are fewer of them.
        pd.DataFrame(lines).set_index("estimator").T.reset_index(names="measure"),
        f"{len(data.train.X):,} rows to learn from, {len(data.test.X):,} held out, "
        f"{EXPANSION * study.n_features:,} atoms, L0 = {setting.middle}. The mean of all rows "
        f"instead of the layer's turns embeddings by 1 - cosine = {turned:.3f}:",
    )


if __name__ == "__main__":
    main()
