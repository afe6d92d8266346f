"""The pages of `explore` in a browser."""

import re

import numpy as np
import pytest
from explored import (  # noqa: F401 - fixtures
    FAST,
    HOSTILE,
    pursuit_to_explore,
    rows_to_explore,
    sentences,
)
from pages import blob, column, opened, shown

from sklearn_mpsae import MPSparseAutoencoder, TopKSAE, explore


@pytest.fixture(scope="module")
def digits_page(X, digits, tmp_path_factory):
    from sklearn.datasets import load_digits

    model = MPSparseAutoencoder(64, **FAST).fit(X)
    path = tmp_path_factory.mktemp("explorer") / "digits.html"
    labels = [f"digit {y}" for y in load_digits().target[:400]]
    return explore(model, X, path, labels=labels, image_shape=(8, 8), title="Digits")


def numbers(texts):
    return [float(re.sub(r"[^\d.]", "", text)) for text in texts if text != "–"]


def test_the_table_opens_and_sorts(visit, digits_page):
    page = visit(digits_page)
    facts = opened(digits_page)
    assert page.inner_text("h1") == "Digits"
    assert "64 atoms · 400 samples" in page.inner_text("#summary")
    usage = numbers(column(page, 1))
    assert usage == sorted(usage, reverse=True)
    assert usage[0] == pytest.approx(100 * facts["arrays"]["usage"].max() / 400, abs=0.5)
    for index, name in enumerate(["Atom", "Usage", "Mean code", "Coherence", "Picked"]):
        for _ in range(2):
            page.get_by_role("columnheader").get_by_text(name, exact=True).click()
            down = page.locator(f'[data-key][aria-sort="descending"] >> text="{name}"').count()
            shown = numbers(column(page, index))
            assert len(shown) > 10
            assert shown == sorted(shown, reverse=bool(down))
    head = page.get_by_role("columnheader").get_by_text("If removed")
    assert "squared error" in head.get_attribute("title")


def test_the_table_draws_the_rows_in_view_only(visit, digits_page):
    page = visit(digits_page)
    page.set_viewport_size({"width": 1400, "height": 600})
    page.evaluate("document.getElementById('scroller').scrollTop = 1e6")
    page.locator('.row[aria-rowindex="65"]').wait_for()
    assert page.locator(".row:not([hidden])").count() < 40
    assert page.locator("#grid").get_attribute("aria-rowcount") == "65"
    assert numbers(column(page, 1))[-1] == min(numbers(column(page, 1)))


def test_search_finds_labels_and_numbers(visit, digits_page):
    page = visit(digits_page)
    facts = opened(digits_page)
    page.keyboard.press("/")
    page.keyboard.type("#17")
    assert column(page, 0) == ["17"]
    page.fill("#search", "DIGIT 3")
    has_three = [
        any("digit 3" in facts["labels"][i] for i in examples if i >= 0)
        for examples in facts["arrays"]["examples"]
    ]
    assert f"{sum(has_three)} of 64 atoms" in page.inner_text("#found")
    found = [int(atom) for atom in column(page, 0)]
    assert all(has_three[atom] for atom in found)
    page.locator(f"#row-{found[0]}").click()
    assert {mark.lower() for mark in page.locator("mark").all_inner_texts()} == {"digit 3"}
    page.fill("#search", "nowhere")
    assert "No atom" in page.inner_text("#found")
    page.keyboard.press("Escape")
    assert page.inner_text("#found") == "64 atoms"


def test_clicks_lead_from_atom_to_atom_and_back(visit, digits_page):
    page = visit(digits_page)
    arrays = opened(digits_page)["arrays"]
    page.locator(".row").nth(3).click()
    atom = int(column(page, 0)[3])
    assert page.inner_text("#atom h2") == f"Atom {atom}"
    assert page.url.endswith(f"#{atom}")
    assert page.title() == f"Atom {atom} – Digits"
    neighbor = arrays["neighbors"][atom, 0]
    similar = page.locator("section", has=page.get_by_text("Most similar atoms"))
    similar.get_by_role("button").first.click()
    assert page.inner_text("#atom h2") == f"Atom {neighbor}"
    page.go_back()
    shown(page, atom)
    assert page.locator('[aria-selected="true"]').get_attribute("id") == f"row-{atom}"


def test_an_atom_shows_what_the_file_says_of_it(visit, digits_page):
    arrays = opened(digits_page)["arrays"]
    atom = int(np.argmax((arrays["before"][:, 0] >= 0) & (arrays["usage"] > 12)))
    path = digits_page
    page = visit(path)
    page.evaluate(f"location.hash = '{atom}'")
    shown(page, atom)
    text = page.inner_text("#atom")
    assert f"{arrays['usage'][atom]} of 400 samples" in text
    n_shown = np.count_nonzero(arrays["examples"][atom] >= 0)
    assert page.locator("#atom figure canvas").count() == n_shown > 12
    assert page.locator("#atom rect").count() == arrays["histogram"].shape[1]
    before = page.locator("section", has=page.get_by_text("Picked before it"))
    first = before.get_by_role("button").first.get_attribute("aria-label")
    rows = arrays["before_rows"][atom, 0]
    assert first.startswith(f"Atom {arrays['before'][atom, 0]}. In {rows} of the ")
    canvas = page.locator("#atom figure canvas").first
    drawn = canvas.evaluate("c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data]")
    pixels = np.frombuffer(blob(path.read_text(), "samples"), np.uint8).reshape(-1, 64)
    assert drawn[::4] == pixels[arrays["examples"][atom, 0]].tolist()


def test_the_keyboard_goes_through_the_table(visit, digits_page):
    page = visit(digits_page)
    page.focus("#grid")
    order = column(page, 0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#atom h2") == f"Atom {order[2]}"
    assert page.locator("#grid").get_attribute("aria-activedescendant") == f"row-{order[2]}"
    page.keyboard.press("End")
    page.locator('.row[aria-rowindex="65"]').wait_for()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "atom"
    page.click("#about-open")
    assert "largest |cosine|" in page.inner_text("#about")
    page.keyboard.press("Escape")


def test_a_narrow_screen_shows_one_thing_at_a_time(visit, digits_page):
    page = visit(digits_page, color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator("#atom").is_hidden()
    page.select_option("#sort", "coherence true")
    page.locator(".row").nth(2).click()
    assert page.locator("#list").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.get_by_text("All atoms").click()
    page.locator("#atom").wait_for(state="hidden")
    assert page.locator("#list").is_visible()


def test_hostile_texts_are_shown_and_run_nothing(visit, X, tmp_path):
    names = (HOSTILE * 7)[:64]
    model = TopKSAE(12, **FAST).fit(X)
    texts = (HOSTILE * len(X))[: len(X)]
    for options in (
        {"texts": texts, "labels": texts[::-1], "title": HOSTILE[0]},
        {"labels": texts, "feature_names": names, "title": "".join(HOSTILE)},
        {
            "tokens": [texts[i : i + 5] for i in range(0, len(X), 5)],
            "atom_labels": lambda strongest: HOSTILE[strongest.atom % len(HOSTILE)],
            "title": HOSTILE[0],
        },
    ):
        path = explore(model, X, tmp_path / "hostile.html", **options)
        page = visit(path)
        rows, shown = page.locator(".row:not([hidden])"), ""
        for i in range(rows.count()):
            rows.nth(i).click()
            shown += page.inner_text("#atom")
        page.fill("#search", "<img src")
        page.click("#about-open")
        assert page.evaluate("window.ran") is None
        assert page.locator("img, #atom b:not(figcaption b), #atom script").count() == 0
        assert "<img src" in shown
        assert "</script>" in page.inner_text("h1")


def test_tokens_have_the_colour_of_their_codes_and_labels_are_found(visit, mp, X, tmp_path):
    documents = sentences(len(X))
    path = explore(
        mp,
        X,
        tmp_path / "page.html",
        tokens=documents,
        atom_labels=[f"label {i}." for i in range(40)],
    )
    page, arrays = visit(path), opened(path)["arrays"]
    page.fill("#search", "LABEL 7.")
    assert page.inner_text("#found") == "1 of 40 atoms, best match first"
    page.locator("#row-7").click()
    assert page.inner_text(".atom-label") == "label 7."
    first = page.locator(".context").first
    (row,) = arrays["samples"][arrays["examples"][7, :1]]
    document, place = divmod(int(row), 10)
    assert first.inner_text() == "".join(documents[document][: place + 9])
    assert first.locator(".own").inner_text() == documents[document][place].strip()
    dense = mp.transform(X)[10 * document : 10 * document + 10, 7]
    shown = dense[: place + 9]
    assert first.locator(".above, .below").count() == np.count_nonzero(shown)
    page.fill("#search", "word3")
    assert set(page.locator("mark").all_inner_texts()) == {"word3"}
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_script_that_got_in_would_not_run(browser, digits_page):
    """The page's policy is a second wall."""
    page = browser.new_page()
    page.goto(digits_page.as_uri())
    page.locator("body[data-ready]").wait_for()
    tries = {
        "const s = document.createElement('script'); s.text = 'window.ran = 1';"
        "document.body.append(s)",
        "document.body.innerHTML = '<img src=x onerror=\"window.ran = 1\">'",
        "document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()",
        "setTimeout('window.ran = 1')",
    }
    for injection in tries:
        page.evaluate(f"try {{ {injection} }} catch (error) {{ }}")
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran") is None
    page.close()


def test_an_unused_atom_says_so(visit, X, tmp_path):
    model = TopKSAE(8, **FAST).fit(X)
    model.encoder_intercept_[5] = -1e9
    page = visit(explore(model, X, tmp_path / "page.html"))
    page.check("#used")
    assert page.inner_text("#found") == "7 of 8 atoms"
    page.evaluate("location.hash = '5'")
    shown(page, 5)
    assert "None of these samples uses this atom." in page.inner_text("#atom")


def test_a_damaged_file_says_so(browser, digits_page, tmp_path):
    html = digits_page.read_text()
    start = html.index('id="facts">') + 500
    path = tmp_path / "damaged.html"
    path.write_text(html[:start] + html[start + 400 :])
    page = browser.new_page()
    page.goto(path.as_uri())
    page.locator("#summary", has_text="could not be opened").wait_for()
    page.close()
