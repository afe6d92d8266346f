"""What each method learns from MNIST against how long it takes, with as many codes a row.

One panel for each run of the benchmark: seconds compare within a run.
"""

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, MultipleLocator, NullFormatter, StrMethodFormatter
from records import foot, record

# Own codes of a method that has other numbers of them are left out: they are no comparison.
SAME_L0 = 0.02
# Nor are R² drawn that are less than that of all dictionaries by more: such a fit diverged.
WORSE = 0.05

runs = [record("bench_mnist"), record("topk/bench_mnist")]
if set(runs[1]["rows"]) <= set(runs[0]["rows"]):
    del runs[1]
least = min(row["R2 OMP"] for run in runs for row in run["rows"].values()) - WORSE


def draw(ax, name, row, k, look):
    """A side: R² of its own codes, and of OMP's codes over its atoms."""
    seconds, own, omp = row["fit s"], row["R2 own"], row["R2 OMP"]
    label = f"{name}: {seconds:.0f} s, R² {own:.3f}"
    shown = abs(row["L0"] - k) <= SAME_L0 * k and own >= least
    if shown:
        ax.plot([seconds, seconds], [own, omp], color=look["color"], lw=1)
        ax.plot(seconds, own, ls="", **look)
    elif own >= least:
        label += f", {row['L0']:.1f} codes a row, not drawn"
    else:
        label += ", not drawn"
    ax.plot(seconds, omp, mfc="white", ls="", **look)
    ax.plot([], [], ls="", label=label, **look)


figure, axes = plt.subplots(
    1, len(runs), figsize=(5 * len(runs), 5.4), layout="constrained", sharex=True, sharey=True
)
axes = [axes] if len(runs) == 1 else axes
names = list(dict.fromkeys(name for run in runs for name in run["rows"]))
colours = plt.colormaps["tab20" if len(names) > 10 else "tab10"].colors
for ax, run in zip(axes, runs, strict=True):
    settings = run["settings"]
    k, n_seeds = settings["sparsity"], len(settings["seeds"])
    sides = sorted(run["rows"].items(), key=lambda side: side[1]["fit s"])
    for name, row in sides:
        colour = colours[names.index(name) % len(colours)]
        marker = "o" if name.startswith("ours") else "s"
        draw(ax, name, row, k, {"color": colour, "marker": marker, "ms": 8})
    seeds = "1 seed" if n_seeds == 1 else f"medians of {n_seeds} seeds"
    others = f"{run['machine']['taken by others']:.0%}"
    ax.set_title(
        f"{settings['rows']:,} rows, {settings['components']:,} atoms, {k} codes a row\n"
        f"{seeds}, {others} of the machine taken by others",
        fontsize=9,
    )
    ax.set(xscale="log", xlabel="seconds of a fit (less is better)")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_locator(MultipleLocator(0.02))
    ax.grid(color="0.9")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=8, frameon=False)
axes[0].set_ylabel("R² of the test rows (more is better)")
axes[0].plot([], [], "ko", label="filled: the method's own codes; hollow: OMP over its atoms")
axes[0].legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=8, frameon=False)
foot(figure, *runs)
