"""What the pictures of benchmarks read: the records of benchmarks/results."""

import json
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def record(name):
    """All that a benchmark has written down."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def conditions(record):
    """Machine, versions and date of a record, in a line."""
    machine = record["machine"]
    versions = (f"{name} {record['versions'][name]}" for name in ("numpy", "numba", "torch"))
    return (
        f"{machine['cores']} cores of an {machine['cpu']}, {machine['threads']} threads; "
        f"{', '.join(versions)}; {machine['date'][:10]}"
    )


def foot(figure, *records):
    """Write the conditions of records below a figure, each once."""
    lines = dict.fromkeys(map(conditions, records))
    figure.supxlabel("\n".join(lines), fontsize=7, color="0.4")
