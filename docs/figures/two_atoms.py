"""A row that is one of two correlated atoms and one that is a sum of both, in three codes."""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_mpsae.coding import matching_pursuit, orthogonal_matching_pursuit

ANGLE = np.radians(35)
ATOMS = np.array([[1.0, 0.0], [np.cos(ANGLE), np.sin(ANGLE)]])
ROWS = {"a row that is atom 2": ATOMS[1], "a row of both": ATOMS[0] + 0.6 * ATOMS[1]}
COLOURS = np.array(["tab:blue", "tab:orange"])


def shallow(row):
    """Both atoms by their correlations with the row, as a shallow encoder sees them."""
    return [(atom, float(value)) for atom, value in enumerate(ATOMS @ row)]


def pursuit(row):
    codes = matching_pursuit(row[None], ATOMS, 4)
    slots = zip(codes.indices[0], codes.values[0], strict=True)
    return [(atom, value) for atom, value in slots if value > 1e-6]


def orthogonal(row):
    codes = orthogonal_matching_pursuit(row[None], ATOMS, 2)
    return list(zip(codes.indices[0], codes.values[0], strict=True))


CODERS = {
    "correlations": shallow,
    "matching pursuit": pursuit,
    "orthogonal matching pursuit": orthogonal,
}

figure, axes = plt.subplots(2, 3, figsize=(9, 4.2), layout="constrained", sharey=True)
for line, (name, row) in zip(axes, ROWS.items(), strict=True):
    for ax, (coder, code) in zip(line, CODERS.items(), strict=True):
        for atom, colour in zip(ATOMS, COLOURS, strict=True):
            ax.plot([0, 2.6 * atom[0]], [0, 2.6 * atom[1]], color=colour, alpha=0.25, lw=1)
        at = np.zeros(2)
        for atom, value in code(row):
            step = value * ATOMS[atom]
            ax.annotate(
                "",
                at + step,
                at,
                arrowprops={"arrowstyle": "->", "color": COLOURS[atom], "lw": 2},
            )
            at = at + step
        ax.plot(*row, "k*", ms=11)
        error = np.sum((row - at) ** 2) / np.sum(row**2)
        ax.set_title(f"{coder}\nresidual energy: {error:.2f}", fontsize=9)
        ax.set(xlim=(-0.1, 2.8), ylim=(-0.15, 1.0), aspect="equal", xticks=[], yticks=[])
    line[0].set_ylabel(name)
