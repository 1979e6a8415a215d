"""The report's page in a real headless Chromium."""

import itertools
import json
import re
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from edco_rl.config import ReportConfig
from edco_rl.report import figures
from edco_rl.report.build import build
from edco_rl.report.load import load
from edco_rl.report.page import write_page

from .. import browser
from .synthetic import end, write_matrix, write_run

PLOTS = {"accuracy", "cost", "time", "long", "short"}
RUN = {"heat", "picks", "score", "entropy"}
EDCO = "#run=" + quote(json.dumps(["grpo", "edco", 1], separators=(",", ":")))
TRACES = {"pool_scores", "rollout_entropy", "signal", "reward", "difficulty", "overlap", "loss", "length"}


@pytest.fixture(scope="module")
def chromium():
    pytest.importorskip("playwright", reason="needs Playwright to drive a browser")
    executable = browser.find()
    if executable is None:
        pytest.skip("needs Chromium: `make browser` gets one where there is npm, or set CHROMIUM")
    with browser.launch(executable) as running:
        yield running


def make_page(folder, **config):
    write_page(build(load([str(folder)]), ReportConfig(**config)), folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A report of 24 cells, one of which failed."""
    speeds = {"random": 1.0, "edco": 2.5, "combined": 1.0}
    folder = write_matrix(tmp_path_factory.mktemp("small") / "matrix", speeds=speeds, seeds=(1, 2))
    end(folder, "spelling_sft_edco_2", "failed", "EngineError: <b>no answer</b> </script>")
    return make_page(folder)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A report of one run that is in progress."""
    folder = tmp_path_factory.mktemp("single") / "run"
    write_run(folder)
    (folder / "summary.json").unlink()
    return make_page(folder, watch=1000)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A report of three tasks."""
    shape = {"tasks": ("easy", "mixed", "hard"), "methods": ("grpo",), "seeds": (1, 2, 3)}
    speeds = {"random": 1.0, "edco": 2.0}
    return make_page(write_matrix(tmp_path_factory.mktemp("map") / "matrix", speeds=speeds, **shape))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A report of 200 cells."""
    speeds = {"random": 1.0, **{f"curriculum_{number}": 1.0 for number in range(9)}}
    folder = write_matrix(tmp_path_factory.mktemp("large") / "matrix", speeds=speeds, seeds=range(5), steps=30)
    return make_page(folder)


@pytest.fixture
def open_page(chromium):
    """Opens a page, and fails at the end for an error it reported or a request that left it."""
    contexts, problems = [], []

    def opened(path, width=1280, height=900, address="", **settings):
        context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url == path.as_uri() or request.url.startswith("blob:")
                else problems.append(request.url)
            ),
        )
        page.goto(path.as_uri() + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems


def drawn(page):
    """Marks of each plot: lines, bars, cells, points."""
    marks = ".marks :is(path.line, circle, rect.part, rect.cell, rect.share, line.interval)"
    script = f"plots => Object.fromEntries(plots.map(p => [p.dataset.plot, p.querySelectorAll('{marks}').length]))"
    return page.eval_on_selector_all("svg[data-plot]", script)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_plot_is_drawn_within_the_page_and_readable(open_page, small, scheme, width):
    page = open_page(small, width=width, color_scheme=scheme, address=EDCO)
    marks = drawn(page)
    assert marks.keys() == PLOTS | RUN | TRACES and all(marks.values())
    assert marks["accuracy"] == 6 and marks["time"] == 6 * 4
    if page.locator("#table").get_attribute("open") != "":
        page.locator("#table summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Text of plots at its size on the screen, and of the page.
    size = "e => e.map(t => parseFloat(getComputedStyle(t).fontSize) * (t.getScreenCTM ? t.getScreenCTM().a : 1))"
    assert min(page.eval_on_selector_all("svg[data-plot] text, td, p, li, button", size)) >= 11.5
    assert (
        page.eval_on_selector_all(
            "section:not([hidden])", "all => all.filter(s => !s.querySelector('svg, td, li, dd'))"
        )
        == []
    )
    outside = """plots => plots.flatMap(p => [...p.querySelectorAll('text')].filter(t => {
        const box = t.getBoundingClientRect();
        return box.left < 0 || box.right > innerWidth;
    }).map(t => t.textContent))"""
    assert page.eval_on_selector_all("svg[data-plot]", outside) == []
    colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    ink, paper = (sum(map(int, color[4:-1].split(","))) for color in colors)
    assert (ink > paper) == (scheme == "dark") and abs(ink - paper) > 500


def test_what_a_pointer_is_over_is_told_beside_it_with_its_band(open_page, small):
    page = open_page(small, address=EDCO)
    for plot in sorted(PLOTS | RUN | TRACES):
        svg = page.locator(f"svg[data-plot={plot}]")
        svg.evaluate("plot => plot.scrollIntoView({ block: 'center' })")  # not below what sticks to the top
        box = svg.bounding_box()
        if plot in ("score", "entropy"):
            svg.locator(".point").first.hover(force=True)
        else:
            page.mouse.move(
                box["x"] + box["width"] * (0.15 if plot == "time" else 0.45), box["y"] + box["height"] * 0.4
            )
        tip = page.locator(f"[data-chart={plot}] .tip")
        assert tip.is_visible() and any(character.isdigit() for character in tip.inner_text()), plot
        bands = svg.locator(".marks .band").count(), svg.locator(".guide .band").count()
        assert bands == (0, 1 if plot in {"accuracy", "long", "short", *TRACES} else 0), plot
        page.mouse.move(0, 0)
        assert not tip.is_visible() and not svg.locator(".guide .band").count()


@pytest.mark.parametrize("width", [1280, 400])
def test_lines_have_their_names_at_their_ends_and_no_name_lies_on_a_line_or_another(open_page, large, width):
    page = open_page(large, width=width)
    page.evaluate("choose({ hidden: new Set(data.series.map(seriesName).filter((name) => name.startsWith('sft'))) })")
    found = page.eval_on_selector(
        "svg[data-plot=accuracy]",
        """plot => ({
        names: [...plot.querySelectorAll('.name')].map(t => [t.textContent, t.getBoundingClientRect().toJSON()]),
        ends: [...plot.querySelectorAll('.marks path.line')].map(l => l.getBoundingClientRect().right)})""",
    )
    names, boxes = zip(*found["names"], strict=True)
    assert len(found["ends"]) == 10 and sum("…" in name or "_" in name or "random" in name for name in names) == 10
    assert any(name.startswith("target") for name in names)
    assert min(box["left"] for box in boxes) > max(found["ends"])
    heights = sorted(box["top"] for box in boxes)
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 12


def test_a_single_run_has_a_page_of_its_kind(open_page, single):
    page = open_page(single)
    text = page.locator("body").inner_text()
    assert "Accuracy on 100 held-out prompts went from" in text and "in progress" in text
    words = ("compared", "Nothing", "baseline", "verdict", "Series", "Not measured", "Task", "NaN", "undefined")
    assert not [word for word in words if word in text.split("What made it")[0]]
    marks = drawn(page)
    assert marks.keys() == (PLOTS - {"cost"}) | RUN | (TRACES - {"difficulty"}) and all(marks.values())
    assert page.locator("svg[data-plot=accuracy] .marks .band").count() == 1
    marks = "svg[data-plot=loss] text[text-anchor=middle]"
    *steps, title = page.eval_on_selector_all(marks, "all => all.map(t => t.textContent)")
    assert title == "optimizer steps" and len(steps) > 2 and all(step.isdigit() for step in steps)
    # The prompts as text: found by a word, sorted by a column.
    rows = page.locator(".prompts tbody tr")
    assert "<b>addition</b>?" in rows.first.inner_text() and "steps 1" not in rows.first.inner_text()
    page.locator(".find input").fill("is 7 +")
    assert rows.count() == 1 and "What is 7 + 1" in rows.first.inner_text()
    page.locator(".find input").fill("")
    page.locator("[data-by='5']").click()
    rewards = [float(row.locator("td[data-label=reward]").inner_text().split()[-1]) for row in rows.all()]
    assert rewards == sorted(rewards, reverse=True) and len(rewards) == 12
    assert page.evaluate("data.refresh") == 1000


def test_what_is_shown_stands_in_the_address_and_can_be_taken_away(open_page, small):
    page = open_page(small)
    page.locator("#task").select_option("spelling")
    page.locator("[data-unit=tokens]").click()
    page.locator("[data-series='grpo edco']").click()
    page.locator("#run").select_option(label="sft random, seed 2")
    page.locator("#beside").select_option(label="grpo edco, seed 1")
    address = page.evaluate("location.hash")
    other = open_page(small, address=address)
    for view in (page, other):
        assert view.locator("#task").input_value() == "spelling"
        assert view.locator("[data-unit=tokens]").get_attribute("aria-pressed") == "true"
        assert view.locator("[data-series='grpo edco']").get_attribute("aria-pressed") == "false"
        assert "sft random, seed 2" in view.locator("#beside-grid .run").nth(0).inner_text()
        assert "grpo edco, seed 1" in view.locator("#beside-grid .run").nth(1).inner_text()
        assert "settings differ" in view.locator("#beside-grid .run").nth(1).inner_text()
    with other.expect_download() as csv:
        other.locator("[data-chart=accuracy] [data-take=csv]").click()
    lines = Path(csv.value.path()).read_text().splitlines()
    assert lines[0] == "series,tokens,value,low,high" and {line.split(",")[0] for line in lines[1:]} == {
        *("grpo random", "grpo combined", "sft random", "sft edco", "sft combined"),
    }
    with other.expect_download() as svg:
        other.locator("[data-chart=cost] [data-take=svg]").click()
    root = ElementTree.fromstring(Path(svg.value.path()).read_text())
    assert root.tag.endswith("svg") and "var(--" not in Path(svg.value.path()).read_text()


def test_series_units_and_tasks_are_switched(open_page, small):
    page = open_page(small)
    button = page.locator("[data-series='grpo edco']")
    button.click()
    assert drawn(page)["accuracy"] == 5 and button.get_attribute("aria-pressed") == "false"
    page.locator("[data-chart=accuracy] svg").hover()
    assert "grpo edco" not in page.locator("[data-chart=accuracy] .tip").inner_text()
    page.locator("#none").click()
    assert not page.locator("#accuracy").is_visible() and not page.locator("#traces").is_visible()
    page.locator("#all").click()
    assert drawn(page)["accuracy"] == 6
    page.locator("[data-unit=seconds]").click()
    assert "300" in page.locator("[data-chart=accuracy] svg").text_content()
    assert "seconds, ratio" in page.locator("[data-chart=cost] svg").text_content()
    before = page.locator("[data-chart=heat] svg").inner_html()
    page.locator("#run").select_option(label="sft random, seed 2")
    assert page.locator("[data-chart=heat] svg").inner_html() != before
    page.locator("#task").select_option("spelling")
    assert page.locator("tr[data-task=spelling]").count() == page.locator("#table tbody tr:visible").count() == 6
    assert "spelling" in page.locator("[data-chart=accuracy] svg").get_attribute("aria-label")
    page.set_viewport_size({"width": 500, "height": 900})
    # wait_for_function would evaluate text in the page, which its content security policy forbids.
    from playwright.sync_api import expect

    plot = page.locator("svg[data-plot=accuracy]")
    expect(plot).to_have_attribute("viewBox", re.compile(r"0 0 [1-4]\d\d(\.\d+)? "))


@pytest.mark.parametrize("width", [1280, 360])
def test_the_map_has_what_each_curriculum_takes_on_each_task(open_page, mapped, small, width):
    page = open_page(mapped, width=width)
    told = json.loads(page.eval_on_selector("#data", "data => data.textContent"))["comparisons"]
    told = [entry["units"]["steps"]["ratio"] for entry in told]
    shown = page.eval_on_selector_all("#map-table td", "cells => cells.map(cell => cell.textContent)")
    assert list(map(float, shown)) == pytest.approx(told, rel=0.01) and len(told) == 3  # the baseline has no row
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert open_page(small).locator("#map").is_hidden()  # two tasks are no map


def test_the_map_is_a_plot_too(mapped, monkeypatch):
    save = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda name, *rest: save(name, *rest) if name == "map" else [])
    assert figures.save_figures(build(load([str(mapped.parent)]), ReportConfig()), mapped.parent) == ["map"]
    assert all(f">{task}</text>" in (mapped.parent / "map.svg").read_text() for task in ("easy", "mixed", "hard"))


def test_a_failed_cell_is_shown_as_text_with_its_error(open_page, small):
    page = open_page(small)
    assert "spelling_sft_edco_2 failed: EngineError: <b>no answer</b> </script>" in page.locator("body").inner_text()
    assert "23 done, 1 failed of 24" in page.locator("#cells-summary").inner_text()


def test_the_page_prints_without_its_controls(open_page, small):
    page = open_page(small, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("h2").first.inner_text() == "Accuracy on held-out prompts: addition"
    assert not page.locator("#task").is_visible() and page.locator("[data-series='grpo edco']").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf()[:5] == b"%PDF-"


def test_two_hundred_cells_open_fast_and_can_be_switched(open_page, large):
    page = open_page(large, width=360)
    assert page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart") < 5000
    assert drawn(page)["accuracy"] == 20 and page.evaluate("document.documentElement.scrollWidth") <= 360
    again = "(() => { const began = performance.now(); all.click(); return performance.now() - began })()"
    spent = page.evaluate(again)
    assert spent < 2000
    assert large.stat().st_size < 8e6
