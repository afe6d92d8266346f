"""The explorer's page of 16,384 atoms and 30,000 samples: written, opened and scrolled.

The hardest that a page of that size gets: rows of 28 x 28 are sums of 16 of the atoms, with
noise, so that neither atoms nor samples deflate well; each sample has a text of 100 letters
besides. The dictionary is that of true atoms, fitted to a few rows only, for what it is
does not matter here. With --data, a folder with minilm_nouns.npz (see study/embeddings.py),
also the page of these embeddings and their words. Seconds of writing are those of
`explore`, which encodes the samples; "CPU s" are those of all its threads. Opening is from
the navigation until Chromium shows the first row of the table, then until the pictures of
samples are there too; "frame ms" are the times between frames while the table scrolls.
Needs Python's playwright and Chromium.
"""

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import harness
import numpy as np
from harness import Bar

from sklearn_mpsae import MPSparseAutoencoder, explore

ATOMS_OF_A_ROW = 16
FRAMES = 200

# Scrolls by some rows a frame; gives the times between frames.
SCROLL = """frames => new Promise(done => {
  const scroller = document.getElementById("scroller"), times = [];
  let last = performance.now();
  const next = now => {
    times.push(now - last);
    last = now;
    scroller.scrollTop += 700;
    if (times.length < frames) requestAnimationFrame(next);
    else done(times.slice(1));
  };
  requestAnimationFrame(next);
})"""


def main():
    options = harness.parser(__doc__.splitlines()[0], rivals=False)
    options.add_argument("--samples", type=int, default=30_000)
    options.add_argument("--components", type=int, default=16_384)
    options.add_argument("--opened", type=int, default=5, help="how many times")
    options.add_argument("--data", type=Path, help="folder of minilm_nouns.npz, if any")
    options.add_argument("--browser", default="/usr/bin/chromium")
    args = options.parse_args()

    cases = {"pictures and texts": synthetic}
    if args.data:
        cases["embeddings"] = embeddings
    rows = {}
    for name, make in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = measured(*make(args), Path(folder) / "page.html", args)
    args.data = args.data and args.data.name
    harness.report("bench_explorer", rows, args, bars=bars(rows))


def synthetic(args):
    """An estimator, rows, and what the page shows of them."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((args.components, 784), dtype=np.float32)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    X = rng.standard_normal((args.samples, 784), dtype=np.float32) * np.float32(0.02)
    for _ in range(ATOMS_OF_A_ROW):
        values = rng.exponential(size=(args.samples, 1)).astype(np.float32)
        X += values * W[rng.integers(args.components, size=args.samples)]
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz     "))
    texts = ["".join(line) for line in rng.choice(letters, (args.samples, 100))]
    return fitted(W, X, ATOMS_OF_A_ROW), X, {"texts": texts, "image_shape": (28, 28)}


def embeddings(args):
    """The same of sentence embeddings, whose first rows are the atoms."""
    with np.load(args.data / "minilm_nouns.npz") as arrays:
        X = arrays["X"][: args.samples].astype(np.float32)
        texts = [str(word) for word in arrays["word"][: args.samples]]
    return fitted(X[: args.components], X, ATOMS_OF_A_ROW), X, {"texts": texts}


def fitted(W, X, k):
    model = MPSparseAutoencoder(
        len(W), n_nonzero_coefs=k, max_iter=1, dict_init=W, dead_atoms="keep", random_state=0
    )
    return model.fit(X[:1024])


def measured(model, X, samples, path, args):
    """A table row: the page written once, and opened some times."""
    cpu = time.process_time()
    seconds, _ = harness.stopwatch(explore, model, X, path, **samples)
    cpu = time.process_time() - cpu
    row = {"write s": seconds, "CPU s": cpu, "MB": path.stat().st_size / 1e6}
    with chromium(args.browser) as browser:
        if browser is not None:
            times = [opened(browser, path) for _ in range(args.opened)]
            first, whole, frames = zip(*times, strict=True)
            frames = np.concatenate(frames)
            row |= {
                "first row s": median(first),
                "all s": median(whole),
                "frame ms": float(np.median(frames)),
                "frame ms, 95%": float(np.quantile(frames, 0.95)),
                "opened": args.opened,
            }
    return row


@contextmanager
def chromium(path):
    """The browser, headless; None where it or playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("skipped: opening (no playwright)")
        yield None
        return
    if not os.access(path, os.X_OK):
        print(f"skipped: opening (no {path}, see --browser)")
        yield None
        return
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()


def opened(browser, path):
    """Seconds to the first row and to all pictures, and milliseconds between frames."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()

        def open_page():
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_selector(".row")

        first, _ = harness.stopwatch(open_page)
        rest, _ = harness.stopwatch(page.wait_for_selector, "body[data-ready]")
        return first, first + rest, page.evaluate(SCROLL, FRAMES)


def bars(rows):
    """What the package has to reach, with every case."""
    all_bars = []
    for name, row in rows.items():
        all_bars += [
            Bar(f"seconds to write, {name}", row["write s"], at_most=60),
            Bar(f"MB, {name}", row["MB"], at_most=30),
            Bar(f"seconds to the first row, {name}", row.get("first row s"), at_most=2),
            Bar(f"ms a frame, {name}, 95%", row.get("frame ms, 95%"), at_most=34),
        ]
    return all_bars


if __name__ == "__main__":
    main()
