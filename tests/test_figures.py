"""The pictures of docs/benchmarks.md, and what the page says of them: all from the records."""

import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"

# The day on which the learnt intercept and the metric became defaults.
DEFAULTS_OF = "2026-11-26"


@pytest.fixture
def records(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "figures"))
    import records

    return records


@pytest.fixture
def changed(records, monkeypatch):
    """Call it with the name of a record and what changes that in place."""
    read = records.record

    def change(name, how):
        record = read(name)
        how(record)
        monkeypatch.setattr(records, "record", lambda n: record if n == name else read(n))

    return change


@pytest.fixture
def drawn():
    """All the words of a picture, by its script."""

    def draw(name):
        runpy.run_path(str(DOCS / "figures" / f"{name}.py"))
        figure = plt.gcf()
        figure.canvas.draw()
        texts = figure.findobj(plt.Text)
        return figure, "\n".join(text.get_text() for text in texts)

    yield draw
    plt.close("all")


def points(ax):
    """All points of a panel but those that the legend stands on."""
    return {
        (x, y)
        for line in ax.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


def test_the_picture_of_mnist_has_every_side(drawn, records):
    figure, words = drawn("mnist_quality")
    for ax, name in zip(figure.axes, ("bench_mnist", "topk/bench_mnist"), strict=True):
        record = records.record(name)
        for side, row in record["rows"].items():
            assert f"{side}: {row['fit s']:.0f} s, R² {row['R2 own']:.3f}" in words
            assert (row["fit s"], row["R2 OMP"]) in points(ax)
            low = row["R2 own"] < 0
            assert ((row["fit s"], row["R2 own"]) in points(ax)) != low
        assert f"{record['settings']['rows']:,} rows" in ax.get_title()
        assert records.conditions(record) in words
    assert "R² -7.064, not drawn" in words


def test_the_picture_of_mnist_follows_its_records(drawn, changed):
    def more(record):
        record["rows"]["another"] = record["rows"]["SPAMS trainDL"] | {"fit s": 7.0, "L0": 12.0}
        record["versions"]["torch"] = "9.9"

    changed("bench_mnist", more)
    figure, words = drawn("mnist_quality")
    assert "another: 7 s, R² 0.873, 12.0 codes a row, not drawn" in words
    assert "torch 9.9" in words
    assert sorted(x for x, y in points(figure.axes[0]))[0] == 7.0


def test_one_run_of_all_sides_makes_one_panel(drawn, changed, records):
    others = records.record("topk/bench_mnist")["rows"]
    changed("bench_mnist", lambda record: record["rows"].update(others))
    figure, words = drawn("mnist_quality")
    assert len(figure.axes) == 1
    assert "overcomplete TopK, rate 0.01: 47 s" in words


def test_the_pictures_of_scale_are_those_of_the_records(drawn, changed, records):
    def double(record):
        record["rows"]["p=8192"]["ms per step"] *= 2

    changed("bench_scaling", double)
    figure, words = drawn("scale")
    scaling, large = (records.record(f"bench_{name}")["rows"] for name in ("scaling", "large"))
    rows, atoms, steps = figure.axes
    each = {10**4: "10,000", 10**5: "100,000", 10**6: "1,000,000", 4 * 10**6: "4,000,000"}
    assert points(rows) == {(n, scaling[f"{of} rows"]["us per row"]) for n, of in each.items()}
    assert (8192, scaling["p=8192"]["ms per step"]) in points(atoms)
    assert len(points(atoms)) == 5
    widths = {bar.get_width() for bar in steps.patches}
    assert widths == {
        row["rows/s"]
        for name, row in large.items()
        if name.endswith(", 4096 rows") and not name.startswith("bfloat16")
    }
    assert "ours MP bfloat16" in words


# ------------------------------------------------------------------------------ the page
def test_the_page_says_what_the_records_say(records):
    """After new runs of the benchmarks, the sentences of the page are to be changed."""
    page = " ".join(PAGE.read_text().split())
    mnist, shallow = records.record("bench_mnist"), records.record("topk/bench_mnist")
    mp, omp, spams = (mnist["rows"][n] for n in ("ours MP", "ours MP, omp", "SPAMS trainDL"))
    topk = shallow["rows"].pop("ours TopK")
    theirs = max(shallow["rows"].values(), key=lambda row: row["R2 own"])
    assert f"With {mnist['settings']['sparsity']} codes a row" in page
    assert f"reaches an R² of {told(mp)[0]} on the test rows in a fit of {told(mp)[1]}" in page
    assert f'{told(omp)[0]} with `transform_algorithm="omp"`' in page
    for row in (spams, topk, theirs):
        assert "reaches {} in {}".format(*told(row)) in page
    assert ("older than the learnt intercept" in page) == (
        mnist["machine"]["date"] < DEFAULTS_OF
    )


def told(row):
    return f"{row['R2 own']:.3f}", f"{row['fit s']:.0f} s"


def test_the_page_says_how_time_grows_as_the_records_do(records):
    page = " ".join(PAGE.read_text().split())
    scaling, large = records.record("bench_scaling")["rows"], records.record("bench_large")
    costs = [row["us per row"] for row in scaling.values() if "us per row" in row]
    assert f"{min(costs):.0f} to {max(costs):.0f} µs" in page
    growth = scaling["p=8192"]["ms per step"] / scaling["p=512"]["ms per step"]
    assert f"takes {growth:.0f} times as long" in page
    rate = {name: row["rows/s"] for name, row in large["rows"].items() if "rows/s" in row}
    theirs = rate["SAELens MP, 4096 rows"]
    assert f"from {rate['ours MP bfloat16, 8192 rows'] / theirs:.0f} times as many rows" in page
    assert f"from {rate['ours MP, 8192 rows'] / theirs:.0f} times as many." in page


def test_the_page_names_machine_and_versions(records):
    page = " ".join(PAGE.read_text().split())
    for name in ("bench_mnist", "topk/bench_mnist", "bench_scaling", "bench_large"):
        assert f"{records.conditions(records.record(name))}." in page


def test_the_pictures_come_before_the_tables():
    page = PAGE.read_text()
    pictures = [match.start() for match in re.finditer(r"^\.\. plot::", page, flags=re.M)]
    assert len(pictures) == 2
    assert max(pictures) < page.index("```{include}")
