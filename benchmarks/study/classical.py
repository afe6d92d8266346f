"""Against classical dictionary learning: MNIST, embeddings, patches, superposition, tree.

Dictionaries are compared by one coder, orthogonal matching pursuit, at the same number of
codes. scikit-learn's MiniBatchDictionaryLearning takes its best penalty, batch and sign of a
sweep by the test R² itself (by the matched cosine, where there are true atoms); MP keeps
its defaults. One fit at a time, whatever --jobs says, as seconds are compared; they are
seconds of a core.
"""

from __future__ import annotations

import os

import beyond
import numpy as np
import pandas as pd
from classical_fits import Cells, Data, directions
from common import LOOKS, Report, arguments, spread
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_mpsae import metrics
from sklearn_mpsae.coding import orthogonal_matching_pursuit
from sklearn_mpsae.datasets import (
    fetch_mnist,
    make_hierarchical_features,
    make_superposition,
)

PARTS = ("tree", "superposition", "digits", "mnist", "embeddings", "patches")
MBDL, DL = "MiniBatchDictionaryLearning", "DictionaryLearning"
MP = "MP (OMP codes)"
SWEEP_TEST = 2_000  # test rows that settings are chosen by
# Rows without noise take no further atom once so little of their energy is left.
ENOUGH = 1e-3
EITHER, BY_PATH = "MP, codes of either sign", "path_weight=0.6"
# Few rows are learnt better by the loss of all prefixes of their codes.
DIGITS = {
    "MP, codes ≥ 0": {"positive_code": True},
    EITHER: {"positive_code": False},
    f"{EITHER}, {BY_PATH}": {
        "positive_code": False,
        "transform_algorithm": "mp",
        "path_weight": 0.6,
    },
}
THEIR_LOOK = {"color": "#333333", "marker": "X"}


class Setting:
    """How large it all is."""

    def __init__(self, quick: bool) -> None:
        self.mnist_rows, self.mnist_test = (2000, 500) if quick else (50_000, 10_000)
        self.mnist_atoms = 100 if quick else 1000
        self.mnist_levels = (5, 10, 20, 30)
        self.mnist_epochs = 2 if quick else 10
        self.mnist_alphas = (0.5, 1.0, 2.0)
        self.mnist_final_alphas = (0.25, 0.5, 1.0)
        self.middle = 10
        self.part_rows = 1000 if quick else 5000
        self.mnist_parts = 2 if quick else 20
        self.embedding_parts = 2 if quick else 10
        self.seeds = range(1 if quick else 3)
        self.embedding_alphas = (0.1, 0.2, 0.3)
        self.tree_rows = 5000 if quick else 100_000
        self.superposition_rows = 3000 if quick else 30_000
        self.whole_rows = 500 if quick else 2000
        self.made_passes = 1
        self.made_epochs = 3 if quick else 15
        self.digits_atoms = 100
        self.digits_levels = (2, 4, 8)
        self.digits_alphas = (2.0, 4.0, 8.0)


def main() -> None:
    args = arguments(__doc__, _only)
    setting = Setting(args.quick)
    report = Report("classical", args)
    cells = Cells(args)
    for part in (tree, superposition):
        if part.__name__ in args.only:
            part(setting, cells, report)
    # What each adds to the summary, which needs all.
    of_real_data = {
        "digits": lambda: digits(setting, cells, report),
        "mnist": lambda: mnist(setting, args, cells, report),
        "embeddings": lambda: embedded(setting, args, cells, report),
        "patches": lambda: patches(args),
    }
    rows = [row for name, part in of_real_data.items() if name in args.only for row in part()]
    if set(PARTS) == set(args.only):
        report.table("summary", pd.DataFrame(rows))
    cells.close()
    report.save()


def _only(parser) -> None:
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="some of the tables: the others, and the summary, stay as they are",
    )


def sweep(cells, data, levels, *, alphas, **base) -> tuple[pd.DataFrame, dict]:
    """Test R² after the first part of a fit, and the setting with the best mean of it."""
    tried, states, scores = [], [], []

    def run(setting):
        (state,) = cells.theirs(data, 1, seed=0, **base, **setting)
        tried.append(setting)
        states.append(state)
        scores.append([data.r2(state, level, n_rows=SWEEP_TEST) for level in levels])

    def best():
        return tried[int(np.argmax(np.mean(scores, axis=1)))]

    for alpha in alphas:
        run({"alpha": alpha})
    penalty = best()
    for change in ({"batch_size": 128}, {"positive": True}):
        run(penalty | change)
    rows = [
        {
            "setting": _words(setting),
            "core-seconds": f"{state['seconds']:.0f}",
            "L0 of its Lasso": f"{state['lasso_l0']:.1f}",
        }
        | {f"L0 = {level}": f"{r2:.3f}" for level, r2 in zip(levels, values, strict=True)}
        for setting, state, values in zip(tried, states, scores, strict=True)
    ]
    return pd.DataFrame(rows), best()


# --------------------------------------------------------------------- real data
def digits(setting, cells, report) -> list[dict]:
    """Few rows, all of which scikit-learn's DictionaryLearning takes at each step."""
    X = load_digits().data
    X, X_test = train_test_split(X, test_size=500, random_state=0)
    mean = X.mean(axis=0)
    data = Data(X - mean, X_test - mean, cells)
    p, levels = setting.digits_atoms, setting.digits_levels
    theirs = {
        alpha: [
            cells.whole(data, p=p, n_rows=len(X), alpha=alpha, seed=seed, positive=False)
            for seed in setting.seeds
        ]
        for alpha in setting.digits_alphas
    }
    values, seconds = {}, {}
    for name, options in DIGITS.items():
        fits = cells.ours_at(data, levels, setting.seeds, p=p, **options)
        sign = options["positive_code"]
        values[name] = data.r2_of(fits, positive=sign)
        seconds[name] = [fit["seconds"] for group in fits.values() for fit in group]
    for alpha, fits in theirs.items():
        name = f"{DL}, alpha={alpha:g}, either sign"
        values[name] = data.r2_of(dict.fromkeys(levels, fits))
        seconds[name] = [fit["seconds"] for fit in fits]
    rows = [
        {"dictionary and codes": name}
        | {f"L0 = {level}": spread(r2[level], 4) for level in levels}
        | {"core-seconds of a fit": spread(np.array(seconds[name]), 1)}
        for name, r2 in values.items()
    ]
    report.table("digits", pd.DataFrame(rows), "Test R²:")
    best = {
        level: max((r2[level] for name, r2 in values.items() if DL in name), key=np.mean)
        for level in levels
    }
    return [
        *_summary(f"digits, either sign ({DL})", levels, values[EITHER], best),
        *_summary(f"the same, {BY_PATH}", levels, values[f"{EITHER}, {BY_PATH}"], best),
    ]


def mnist(setting, args, cells, report) -> list[dict]:
    """The bar: R² at each L0, and the seconds of both sides."""
    if not args.data:
        raise SystemExit(
            "MNIST: point --data or $SKLEARN_MPSAE_DATA to the folder of mnist.npz, or to one "
            "for sklearn_mpsae.datasets.fetch_mnist to download it to."
        )
    X = fetch_mnist(args.data).data[:60_000].astype(np.float32) / 255
    data = Data(X[: setting.mnist_rows], X[50_000:][: setting.mnist_test], cells)
    p, levels = setting.mnist_atoms, setting.mnist_levels
    size = {"p": p, "n_rows": setting.part_rows}
    table, best = sweep(cells, data, levels, alphas=setting.mnist_alphas, **size)
    caption = f"After the first {setting.part_rows:,} rows:"
    report.table("mnist_sweep", table, caption)
    theirs = {
        alpha: [
            cells.theirs(
                data, setting.mnist_parts, seed=seed, **size, **best | {"alpha": alpha}
            )
            for seed in setting.seeds
        ]
        for alpha in setting.mnist_final_alphas
    }
    options = {"p": p, "max_iter": setting.mnist_epochs, "batch_size": 1024}
    ours = cells.ours_at(data, levels, setting.seeds, **options)
    of_either_sign = cells.ours_at(
        data, [setting.middle], setting.seeds, **options, positive_code=False
    )
    of = data.r2_of
    last = {
        f"{MBDL}, alpha={alpha}": {level: [states[-1] for states in runs] for level in levels}
        for alpha, runs in theirs.items()
    }
    values = {
        "MP, codes ≥ 0": of(ours, positive=True),
        "MP, codes of either sign": of(ours),
        "MP (positive_code=False), either sign": of(of_either_sign),
    }
    for name, fits in last.items():
        values[f"{name}, codes ≥ 0"] = of(fits, positive=True)
        values[f"{name}, either sign"] = of(fits)
    either_sign = [values[f"{name}, either sign"] for name in last]
    best_of_theirs = {
        level: max((r2[level] for r2 in either_sign), key=np.mean) for level in levels
    }
    for kind in ("PCA", "NMF"):
        values[kind] = {
            level: np.array([cells.factors(data, kind=kind, n_components=level)])
            for level in levels
        }
    fits = {"MP, codes ≥ 0": ours, "MP (positive_code=False), either sign": of_either_sign}
    fits |= last
    rows = [
        {"dictionary and codes": name}
        | {f"L0 = {level}": spread(r2[level], 4) if level in r2 else "" for level in levels}
        for name, r2 in values.items()
    ]
    report.table("mnist", pd.DataFrame(rows), "Test R²:")
    rows = [
        {"dictionary": name}
        | {
            f"L0 = {level}": spread(np.array([fit["seconds"] for fit in group[level]]), 0)
            if level in group
            else ""
            for level in levels
        }
        for name, group in fits.items()
    ]
    report.table("mnist_seconds", pd.DataFrame(rows), "Core-seconds of a fit:")
    report.text(
        "mnist_training",
        f"{MBDL}: {_words(best)}, and the other alphas, "
        f"{setting.mnist_parts * setting.part_rows:,} rows. MP: {setting.mnist_epochs} passes "
        f"over {setting.mnist_rows:,} rows.",
    )
    shown = values | {MBDL: best_of_theirs}
    mnist_figure(setting, data, shown, theirs, ours, report)
    return [
        *_summary("MNIST", levels, values["MP, codes ≥ 0"], best_of_theirs),
        *_summary(
            "MNIST, either sign", levels, values["MP, codes of either sign"], best_of_theirs
        ),
    ]


def _words(setting):
    return ", ".join(f"{key}={value}" for key, value in setting.items())


def mnist_figure(setting, data, values, theirs, ours, report) -> None:
    """R² against L0, and against what it cost."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    looks = {
        "MP, codes ≥ 0": LOOKS[MP],
        MBDL: THEIR_LOOK,
        "PCA": {"color": "#0072B2", "marker": "^"},
        "NMF": {"color": "#009E73", "marker": "v"},
    }
    for name, look in looks.items():
        left.plot(
            list(values[name]), [r2.mean() for r2 in values[name].values()], label=name, **look
        )
    left.set(xlabel="L0", ylabel="R²", xscale="log")
    left.set_xticks(setting.mnist_levels, [str(level) for level in setting.mnist_levels])
    left.minorticks_off()
    left.legend(fontsize="small", loc=(0.03, 0.45))

    level = setting.middle
    for alpha, states in ((alpha, runs[0]) for alpha, runs in theirs.items()):
        seconds = [state["seconds"] for state in states]
        r2 = [data.r2(state, level) for state in states]
        look = THEIR_LOOK | {"linestyle": {0.25: ":", 0.5: "-"}.get(alpha, "--")}
        right.plot(seconds, r2, label=f"{MBDL}, alpha={alpha}", **look)
    seconds = [fit["seconds"] for fit in ours[level]]
    look = LOOKS[MP] | {"linestyle": "none"}
    right.plot(seconds, values["MP, codes ≥ 0"][level], label="MP, finished fits", **look)
    right.set(xlabel="core-seconds", ylabel=f"R² at L0 = {level}", xlim=(0, None))
    right.legend(fontsize="small")
    report.figure("mnist", figure)


def embedded(setting, args, cells, report) -> list[dict]:
    """The embeddings, with the dictionaries of the study of embeddings."""
    theirs_setting = beyond.Setting(args.quick)
    everything = beyond.embedded(theirs_setting, args)
    n, levels, p = everything.n_train, theirs_setting.levels, theirs_setting.n_components
    data = Data(everything.X[:n], everything.X[n:], cells)
    size = {"p": p, "n_rows": setting.part_rows}
    table, best = sweep(cells, data, levels, alphas=setting.embedding_alphas, **size)
    caption = f"After the first {setting.part_rows:,} rows:"
    report.table("embeddings_sweep", table, caption)
    fits = [
        cells.theirs(data, setting.embedding_parts, seed=seed, **size, **best)[-1]
        for seed in setting.seeds
    ]
    seconds = spread(np.array([fit["seconds"] for fit in fits]), 0)
    report.text(
        "embeddings_training",
        f"{MBDL}: {_words(best)}, {setting.embedding_parts * setting.part_rows:,} rows, "
        f"{seconds} core-seconds.",
    )
    results = beyond.embedding_results(theirs_setting, args, only=MP)
    learnt = results.rename(columns={"dictionary": "atoms", "intercept": "offset"})
    r2 = {level: np.array([data.r2(fit, level) for fit in fits]) for level in levels}
    rows = []
    for title, positive in (("embeddings", True), ("embeddings, either sign", False)):
        ours = {
            level: np.array(
                [data.r2(fit, level, positive=positive) for _, fit in group.iterrows()]
            )
            for level, group in learnt.groupby("n_nonzero_coefs")
        }
        rows += _summary(title, levels, ours, r2)
    return rows


def patches(args) -> list[dict]:
    """The patches, as the study of patches has them."""
    setting = beyond.Setting(args.quick)
    results = beyond.at_best_penalty(beyond.patch_results(setting, args))
    r2 = results.set_index(["estimator", "n_nonzero_coefs"])["r2"]
    levels = setting.patch_levels

    def of(name):
        return {level: r2.loc[[(name, level)]].to_numpy() for level in levels}

    return [
        *_summary("patches", levels, of(MP), of(MBDL)),
        *_summary("patches, either sign", levels, of(beyond.EITHER_SIGN), of(MBDL)),
    ]


def _summary(title, levels, ours, theirs):
    return [
        {
            "data": title,
            "L0": level,
            MP: spread(ours[level], 4),
            MBDL: spread(theirs[level], 4),
            "difference": f"{ours[level].mean() - theirs[level].mean():+.4f}",
        }
        for level in levels
    ]


# --------------------------------------------------------------------- made data
def tree(setting, cells, report) -> None:
    """The tree, without a bias, as its rows are sums of atoms."""
    made = make_hierarchical_features
    n = setting.tree_rows
    pairs = []
    for seed in setting.seeds:
        train = made(n, rho=0.3, random_state=seed)
        test = made(5000, rho=0.3, dictionary=train.dictionary, random_state=1000 + seed)
        pairs.append(Data(train.data, test.data, cells, test))
    ours = {
        "MP": {"k": 2, "tol": ENOUGH},
        MP: {"k": 2, "tol": ENOUGH, "transform_algorithm": "omp"},
        "MP (average)": {"k": 1.36, "sparsity": "average"},
    }
    common = {"batch_size": 200, "max_iter": setting.made_epochs}
    ours = {name: options | common for name, options in ours.items()}
    recovery("tree", setting, cells, pairs, ours, report, p=20, level=2, alphas=(0.1, 0.3, 0.6))


def superposition(setting, cells, report) -> None:
    """Twice as many features as dimensions."""
    n, shape = setting.superposition_rows, (64, 128)
    pairs = []
    for seed in setting.seeds:
        train = make_superposition(n, *shape, l0=4, random_state=seed)
        test = make_superposition(
            5000, *shape, l0=4, dictionary=train.dictionary, random_state=1000 + seed
        )
        pairs.append(Data(train.data, test.data, cells, test))
    ours = {
        "MP": {"k": 5, "tol": ENOUGH},
        MP: {"k": 5, "tol": ENOUGH, "transform_algorithm": "omp"},
        "MP (average)": {"k": 4, "sparsity": "average"},
    }
    common = {"max_iter": 2 * setting.made_epochs}
    ours = {name: options | common for name, options in ours.items()}
    recovery(
        "superposition",
        setting,
        cells,
        pairs,
        ours,
        report,
        p=shape[1],
        level=8,
        alphas=(0.1, 0.3, 0.6),
    )


def recovery(key, setting, cells, pairs, ours, report, *, p, level, alphas) -> None:
    """Which dictionaries have the true atoms: one table."""
    tried = [
        {"alpha": alpha, "positive": positive} for positive in (False, True) for alpha in alphas
    ]

    def fit(pair, seed, options, *, whole=False):
        common = {"p": p, "seed": seed, **options}
        if whole:
            return cells.whole(pair, n_rows=setting.whole_rows, **common)
        size = {"n_rows": len(pair.X), "batch_size": 256, "center": False}
        return cells.theirs(pair, setting.made_passes, **size, **common)[-1]

    fits = [fit(pairs[0], 0, options) for options in tried]
    found = [
        recovered(pairs[0], learned, level, positive=options["positive"])
        for options, learned in zip(tried, fits, strict=True)
    ]
    best = tried[int(np.argmax([measured["cosine"] for measured in found]))]
    rows = [
        {
            "alpha": options["alpha"],
            "codes ≥ 0": "yes" if options["positive"] else "no",
            "core-seconds": f"{learned['seconds']:.0f}",
            "matched cosine": f"{measured['cosine']:.3f}",
            "F1": f"{measured['f1']:.3f}",
        }
        for options, learned, measured in zip(tried, fits, found, strict=True)
    ]
    report.table(f"{key}_sweep", pd.DataFrame(rows), f"{MBDL}, seed 0:")

    table = []
    for name, options in ours.items():
        fits = [
            cells.ours(pair, p=p, seed=seed, **options)
            for seed, pair in zip(setting.seeds, pairs, strict=True)
        ]
        own = [
            recovered(pair, fit, level, positive=True, own=True)
            for fit, pair in zip(fits, pairs, strict=True)
        ]
        table.append(_recovery_row(f"{name}, its own codes", fits, own))
        omp = [
            recovered(pair, fit, level, positive=True)
            for fit, pair in zip(fits, pairs, strict=True)
        ]
        table.append(_recovery_row(f"{name}, coded by OMP", fits, omp))
    for whole, name in ((False, MBDL), (True, DL)):
        fits = [
            fit(pair, seed, best, whole=whole)
            for seed, pair in zip(setting.seeds, pairs, strict=True)
        ]
        omp = [
            recovered(pair, fit, level, positive=best["positive"])
            for fit, pair in zip(fits, pairs, strict=True)
        ]
        table.append(_recovery_row(f"{name}, coded by OMP", fits, omp))
    report.table(key, pd.DataFrame(table))


def recovered(data, fit, level, *, positive, own=False) -> dict:
    """How well atoms and codes agree with the truth of the test rows.

    own : by the codes that the model itself finds, not by orthogonal matching pursuit
    """
    atoms, rows = directions(fit["atoms"]), data.X_test - fit["offset"]
    if own:
        codes = fit["model"].encode(data.X_test)
    else:
        codes = orthogonal_matching_pursuit(rows, atoms, level, positive=positive, tol=ENOUGH)
    matching = metrics.match_atoms(atoms, data.truth.dictionary, absolute=not positive)
    firing = metrics.firing_scores(codes.csr(), data.truth.codes, matching).macro
    return {
        "cosine": float(matching.scores.mean()),
        "f1": firing.f1,
        "l0": metrics.l0(codes),
        "r2": metrics.explained_variance(rows, codes.decode(atoms)),
    }


def _recovery_row(name, fits, measured):
    titles = {"cosine": "matched cosine", "f1": "F1", "r2": "test R²", "l0": "L0"}
    row = {"dictionary": name}
    row |= {
        title: spread(np.array([m[key] for m in measured]), 2 if key == "l0" else 3)
        for key, title in titles.items()
    }
    return row | {"core-seconds": spread(np.array([fit["seconds"] for fit in fits]), 0)}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
