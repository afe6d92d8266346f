"""Time by the number of rows and of atoms, and training steps beside another package's."""

import re

import matplotlib.pyplot as plt
from records import foot, record

scaling, large = record("bench_scaling"), record("bench_large")


def by(pattern, column):
    """Sizes in the names of rows, and the figures of these rows."""
    found = {name: re.fullmatch(pattern, name) for name in scaling["rows"]}
    sizes = [int(match[1].replace(",", "")) for match in found.values() if match]
    return sizes, [scaling["rows"][name][column] for name, match in found.items() if match]


figure, (rows, atoms, steps) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
rows.plot(*by(r"([\d,]+) rows", "us per row"), "o-")
rows.set(
    xscale="log", xlabel="rows", ylabel="microseconds per row", title="one epoch from a file"
)
rows.set_ylim(0, 1.5 * rows.get_ylim()[1])
sizes, milliseconds = by(r"p=(\d+)", "ms per step")
atoms.plot(sizes, milliseconds, "o-")
atoms.set(xscale="log", yscale="log", xlabel="atoms", ylabel="milliseconds")
atoms.set(xticks=sizes, xticklabels=[f"{size:,}" for size in sizes], title="a training step")
atoms.minorticks_off()

# All sides have steps of one size of batch.
(batch,) = large["settings"]["rival_batches"]
ending = f", {batch} rows"
speeds = {
    name.removesuffix(ending): row["rows/s"]
    for name, row in large["rows"].items()
    if name.endswith(ending) and "rows/s" in row
}
names = sorted(speeds, key=speeds.get)
colours = ["tab:blue" if name.startswith("ours") else "0.6" for name in names]
bars = steps.barh(names, [speeds[name] for name in names], color=colours)
steps.bar_label(bars, [f"{speeds[name]:,.0f}" for name in names], padding=3)
steps.set(xlabel="rows per second", title=f"steps of {batch:,} rows, large dictionary")
steps.margins(x=0.25)
foot(figure, scaling, large)
