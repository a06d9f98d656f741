"""The page in a real browser: what people see, sort, switch and open, on a desk and on a phone."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect
from support.browsers import BROWSER, Opened, browser, opened
from support.page_contents import CLASSES, HOSTILE, STRATEGIES, content, simulated

from flax_agnews.report.html.content import Estimate, PageContent
from flax_agnews.report.html.page import html_page

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium")

LARGE, SMALL = content(), content(strategies=3, seeds=2, texts=300)


def bare(made: PageContent) -> PageContent:
    """The same as of a folder without predictions: no interval, rank, difference or text."""
    entries = [replace(e, rank=None, accuracy=Estimate(e.accuracy.value), f1=None, loss=None) for e in made.entries]
    scores = [
        replace(one, **{key: Estimate(getattr(one, key).value) for key in ("precision", "recall", "f1")})
        for one in made.class_scores
    ]
    nothing = {"differences": [], "calibration": [], "texts": None, "all_wrong": [], "disputed": []}
    return replace(made, entries=entries, class_scores=scores, **nothing)


CONTENTS = {
    "large": LARGE,
    "small": SMALL,
    "hostile": content(strategies=3, seeds=2, texts=300, extra=HOSTILE),
    "bare": bare(SMALL),
    "one run": content(strategies=1, seeds=1, texts=60, epochs=1),
}
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(27, 29, 34)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages: of 13 strategies x 10 seeds x 7,600 texts, small ones, and one whose names and texts are hostile."""
    folder = tmp_path_factory.mktemp("pages")
    for name, made in CONTENTS.items():
        (folder / f"{name}.html").write_text(html_page(made), "utf-8")
    return {name: folder / f"{name}.html" for name in CONTENTS}


@pytest.fixture
def large(chromium: Browser, files: dict[str, Path]) -> Iterator[Opened]:
    with opened(chromium, files["large"]) as found:
        yield found
        assert found.messages == []
        assert found.requests == [files["large"].as_uri()]


@pytest.fixture
def page(large: Opened) -> Page:
    return large.page


def shown_names(page: Page) -> list[str]:
    rows = page.locator("#board tbody tr:visible").all()
    return [row.get_attribute("data-name") or "" for row in rows]


def chart(page: Page, name: str) -> Locator:
    """A figure that has been drawn, in view."""
    figure = page.locator(f'[data-chart="{name}"]')
    figure.scroll_into_view_if_needed()
    expect(figure).to_have_attribute("data-drawn", re.compile(r"\d+"))
    return figure


def markers(figure: Locator) -> Locator:
    return figure.locator(".mark-symbol path")


def tip_at(page: Page, marker: Locator) -> dict[str, str]:
    """The tooltip's lines when the pointer is over a marker."""
    box = marker.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + 40)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#tip")).to_be_visible()
    keys, values = (page.locator(f"#tip {tag}").all_inner_texts() for tag in ("dt", "dd"))
    return dict(zip(keys, values, strict=True))


def test_the_large_page_opens_in_two_seconds(chromium: Browser, files: dict[str, Path]) -> None:
    def milliseconds() -> int:
        with opened(chromium, files["large"]) as found:
            return int(found.page.locator("html").get_attribute("data-rendered") or 0)

    assert 0 < min(milliseconds() for _ in range(3)) < 2000


@pytest.mark.parametrize(("name", "charts"), [("large", 6), ("one run", 6), ("bare", 4)])
def test_nothing_is_complained_of_or_asked_for_when_all_is_drawn(
    chromium: Browser, files: dict[str, Path], name: str, charts: int
) -> None:
    with opened(chromium, files[name]) as found:
        found.draw_all()
        assert found.page.locator("[data-chart] svg").count() == charts
        assert found.messages == []
        assert found.requests == [files[name].as_uri()]


def test_hostile_names_and_texts_are_texts(chromium: Browser, files: dict[str, Path]) -> None:
    with opened(chromium, files["hostile"]) as found:
        found.draw_all()
        made, page = CONTENTS["hostile"], found.page
        assert page.title().split() == made.title.split()
        assert shown_names(page) == [entry.name for entry in made.entries]
        page.locator("[data-list]").first.click()
        article = page.locator("#opened article").first
        assert made.texts
        assert article.locator(".content").text_content() == made.texts[made.all_wrong[0]].content
        page.keyboard.press("Escape")
        tip = tip_at(page, markers(chart(page, "forest")).first)
        assert tip["strategy"].split() == made.entries[1].name.split()
        assert page.locator("img").count() == 0
        assert found.messages == []
        assert found.requests == [files["hostile"].as_uri()]


def test_columns_sort_both_ways_by_their_numbers(page: Page) -> None:
    def order(key: str, reverse: bool) -> list[str]:
        costs = {entry.name: getattr(entry.costs, key) for entry in LARGE.entries}
        known = sorted((n for n in costs if costs[n] is not None), key=lambda n: costs[n], reverse=reverse)
        return known + [name for name in shown_names(page) if costs[name] is None]

    heading = page.locator("#board th", has_text="Train time")
    heading.get_by_role("button").click()
    assert shown_names(page) == order("seconds", reverse=False)
    expect(heading).to_have_attribute("aria-sort", "ascending")
    page.keyboard.press("Enter")  # the button keeps the focus
    assert shown_names(page) == order("seconds", reverse=True)
    page.get_by_role("button", name="Accuracy, %", exact=True).first.click()
    by_accuracy = sorted(LARGE.entries, key=lambda entry: -entry.accuracy.value)
    assert shown_names(page) == [entry.name for entry in by_accuracy]
    assert page.locator("th[aria-sort]").count() == 1


def test_the_leaderboard_is_filtered(page: Page) -> None:
    page.locator("#filter").fill("LORA")
    assert shown_names(page) == ["lora", "lora_prompt"]
    page.locator("#filter").fill("")
    page.locator("#front").select_option("seconds")
    points = {e.name: (e.costs.seconds, e.accuracy.value) for e in LARGE.entries if e.costs.seconds is not None}
    beaten = {a for a, (t, y) in points.items() for s, z in points.values() if (s <= t and z >= y) and (s, z) != (t, y)}
    assert set(shown_names(page)) == set(points) - beaten
    page.locator("#front").select_option("")
    page.locator("#references").uncheck()
    assert shown_names(page) == list(STRATEGIES)
    expect(page.locator("#shown")).to_have_text("13 of 15 shown")
    expect(page.locator("#board th", has_text="FLOP")).to_be_hidden()
    page.locator("#all-costs").check()
    expect(page.locator("#board th", has_text="FLOP")).to_be_visible()


def test_curves_are_the_means_of_what_is_switched_on(page: Page) -> None:
    figure = chart(page, "curves")
    assert markers(figure).count() == 13 * 6
    section = page.locator("#curves")
    section.get_by_role("button", name="none").click()
    expect(figure).to_have_text("Nothing to show.")
    section.get_by_role("button", name="full", exact=True).click()
    expect(markers(figure)).to_have_count(6)
    section.locator('[data-seed="42"]').uncheck()
    section.get_by_label("loss").check()
    expect(figure).to_contain_text("loss")
    runs = [curve for curve in LARGE.curves if curve.strategy == "full" and curve.seed != 42]
    tip = tip_at(page, markers(figure).last)
    mean = np.mean([curve.validation_loss[-1] for curve in runs])
    assert (tip["strategy"], tip["epoch"], tip["seeds"]) == ("full", "6", "9")
    assert float(tip["mean loss"]) == pytest.approx(mean, abs=6e-4)
    section.get_by_label("training").check()
    expect(markers(figure)).to_have_count(12)
    assert page.locator('[data-chip="lora"][aria-pressed="false"]').count() == 3  # in every section alike


def test_differences_are_seen_from_any_strategy(page: Page) -> None:
    figure = chart(page, "forest")
    assert markers(figure).count() == 13  # twelve strategies and TF-IDF; the majority class is not paired here
    page.locator("#against").select_option("lora")
    (pair,) = [d for d in LARGE.differences if (d.a, d.b) == ("full", "lora")]
    expect(figure).to_contain_text("full")
    tip = tip_at(page, markers(figure).first)
    assert (tip["strategy"], tip["compared with"]) == ("full", "lora")
    assert float(tip["points"]) == pytest.approx(100 * pair.difference.value, abs=6e-3)
    tip = tip_at(page, markers(figure).nth(2))
    (pair,) = [d for d in LARGE.differences if (d.a, d.b) == ("lora", "adapter")]
    assert float(tip["points"].replace("−", "-")) == pytest.approx(-100 * pair.difference.value, abs=6e-3)


def test_a_cell_opens_the_texts_that_were_confused(page: Page) -> None:
    labels, answers = simulated(13, 10, 7600)
    lora, world, sports = STRATEGIES.index("lora"), 0, 1
    seeds = ((answers[lora] == sports) & (labels == world)).sum(axis=0)
    cell = page.locator(f'[data-cell="{lora}/{world}/{sports}"]')
    cell.click()
    note = page.locator("#opened-note")
    expect(note).to_have_text(f"{(seeds > 0).sum()} texts.")
    expect(page.locator("#opened-title")).to_have_text("lora: World taken for Sports")
    first = page.locator("#opened article").first
    number = int(re.findall(r"Text (\d+)", first.inner_text())[0])
    assert seeds[number] == seeds.max()
    assert LARGE.texts
    expect(first.locator(".content")).to_have_text(LARGE.texts[number].content)
    expect(first).to_contain_text(f"✓ {CLASSES[world]}")
    assert page.locator("#opened article").count() == 25
    page.locator("#opened-more").click()
    assert page.locator("#opened article").count() == min(50, (seeds > 0).sum())
    page.keyboard.press("Escape")
    expect(page.locator("#opened")).to_be_hidden()
    expect(cell).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(
    chromium: Browser, files: dict[str, Path], scheme: str
) -> None:
    with opened(chromium, files["large"], color_scheme=scheme) as found:
        line = chart(found.page, "curves").locator(".mark-line path").first  # full is black on white
        seen = {LIGHT: "rgb(0, 0, 0)", DARK: "rgb(242, 242, 242)"}
        background = DARK if scheme == "dark" else LIGHT
        expect(found.page.locator("body")).to_have_css("background-color", background)
        expect(line).to_have_css("stroke", seen[background])
        found.page.locator("#theme").click()
        other = LIGHT if scheme == "dark" else DARK
        expect(found.page.locator("body")).to_have_css("background-color", other)
        expect(line).to_have_css("stroke", seen[other])


@pytest.mark.parametrize("name", ["large", "hostile"])
def test_nothing_is_wider_than_a_phone(chromium: Browser, files: dict[str, Path], name: str) -> None:
    with opened(chromium, files[name], width=390, height=844) as found:
        found.draw_all()
        assert found.page.evaluate("document.documentElement.scrollWidth") == 390
        for drawing in found.page.locator(".plot svg").all():
            box = drawing.bounding_box()
            assert box
            assert box["x"] + box["width"] <= 390
        assert found.messages == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium: Browser, files: dict[str, Path], scheme: str) -> None:
    with opened(chromium, files["small"], color_scheme=scheme) as found:
        found.draw_all()
        for button in found.page.locator("summary").all():
            button.click()
        found.page.locator("#all-costs").check()
        serious = [*_serious(found.page)]
        found.page.locator("[data-list]").first.click()
        expect(found.page.locator("#opened article").first).to_be_visible()
        assert [*serious, *_serious(found.page)] == []


def _serious(page: Page) -> Iterator[str]:
    for violation in Axe().run(page).response["violations"]:
        if violation["impact"] in ("serious", "critical"):
            yield f"{violation['id']}: {[node['html'][:200] for node in violation['nodes'][:3]]}"


def test_print_is_light_and_has_every_chart(chromium: Browser, files: dict[str, Path]) -> None:
    with opened(chromium, files["large"], color_scheme="dark") as found:
        found.page.pdf()
        assert found.page.locator("[data-chart]:not([data-drawn])").count() == 0
        found.page.emulate_media(media="print", color_scheme="dark")
        expect(found.page.locator("body")).to_have_css("background-color", LIGHT)
        expect(found.page.locator("#theme")).to_be_hidden()
        a4 = 703  # pixels between margins of 12 mm
        found.page.set_viewport_size({"width": a4, "height": 1000})
        assert found.page.evaluate("document.documentElement.scrollWidth") == a4


def test_without_scripts_the_tables_are_there(chromium: Browser, files: dict[str, Path]) -> None:
    with opened(chromium, files["large"], java_script_enabled=False) as found:
        assert shown_names(found.page) == [entry.name for entry in LARGE.entries]
        expect(found.page.locator(".matrix").first).to_be_visible()
        assert found.page.locator(".chart:visible, #filter:visible").count() == 0
