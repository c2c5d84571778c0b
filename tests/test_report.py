"""The page in a real browser: it draws, can be looked into, fetches nothing, and names of runs stay text."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run, made_seeds, many_runs
from said import assert_says
from small_runs import small_config, train_whole

from dsac import compare
from dsac.compare.page import films
from dsac.errors import NoRenderer
from dsac.evaluation import film

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HIT = "hit=1"
NASTY = f"0<img src=x onerror={HIT}>"
NASTIER = f"</script><script>{HIT}</script>"
ODD = f"PPO, {NASTIER} activation"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of runs of two tasks, with calibrations, names that are HTML among them."""
    root = tmp_path_factory.mktemp("report")
    for env in ("Hopper", "Ant"):
        made_seeds(root / "runs", "dsac_t", [90.0, 100.0, 110.0, 130.0], env=env)
        made_seeds(root / "runs", "ppo", [40.0, 50.0, 60.0, 95.0], env=env)
    numbers = {"mean": [1, 2], "return_mean": [1, 3], "sigma": [1, 1], "return_deviation": [1, 2]}
    for folder in (root / "runs" / "Hopper" / "dsac_t").glob("*/learner-0"):
        (folder / "calibration.json").write_text(json.dumps({"env_steps": 3000, "states": 2, "samples": 16, **numbers}))
    twice = made_run(root / "runs", "dsac_t", (0.0, 0.0, 1.0))
    twice.rename(twice.with_name(NASTY))
    own = made_run(root / "runs", "ppo") / "config.yaml"
    own.write_text(own.read_text().replace("tanh", NASTIER))
    compare(root / "runs", out=root, report=True, films=False, curves=False)
    return root / "report.html"


@pytest.fixture
def page(browser: Any, made: Path) -> Iterator[Any]:
    """The page, with all that it complained about and asked for in `page.said` and `page.asked`."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("dialog", lambda dialog: opened.said.append(dialog.message))
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("requestfailed", lambda request: opened.asked.append(request.failure))
    opened.goto(made.as_uri())
    yield opened
    opened.close()


def task(page: Any, env: str) -> Any:
    """The part of the page that is about a task."""
    return page.locator("section.task", has=page.locator("h2", has_text=env))


def test_pictures_come_first(page: Any):
    """Catches a page of sentences before the first curve: notes, pairs and words that are not folded."""
    ant = task(page, "Ant-v5")
    curves, finals = (ant.locator(part).bounding_box() for part in ("[data-curves] svg", ".finals ol"))
    assert max(curves["y"] + curves["height"], finals["y"] + finals["height"]) < 700
    assert curves["width"] > 400
    assert ant.locator(".sentence:visible").all_inner_texts() == [
        "DSAC-T ends highest, at 107.5 [90.0, 130.0] over 4 seeds, ahead of PPO at 61.2 [40.0, 95.0]."
    ]
    assert page.locator("details[open]").count() == 0
    text = page.locator("main").inner_text()
    for words in ("probability", "Against PPO", "left out"):
        assert words not in text
    for folded in page.locator("summary").all():
        folded.click()
    text = page.locator("main").inner_text()
    for words in ("probability of improvement", "DSAC-T against PPO", "Against PPO, at 61.2", "left out"):
        assert words in text
    assert "python -m dsac.train env=Hopper algo=dsac_t" in text
    assert page.said == []


def test_the_page_draws_all_there_is(page: Any):
    """Catches a script that stops halfway, a chart without its lines, a final score without its interval or seeds."""
    assert page.said == []
    assert page.locator("svg.chart").count() == 2 + 1 + 2  # two tasks, the profile, mean and sigma of the critics
    hopper = task(page, "Hopper-v5")
    assert hopper.locator("[data-curves] .series").count() == 3
    for label in ("DSAC-T", "PPO"):
        drawn = hopper.locator(f"[data-curves] .series[data-label='{label}'] .mean").get_attribute("d")
        assert len(re.findall("[ML]", drawn)) == 3  # an evaluation each
    assert page.locator("figure[data-dots='sigma'] circle").count() == 8
    rows = hopper.locator(".finals li")
    assert [row.locator(".value").inner_text() for row in rows.all()] == ["107.5", "100", "61.3"]
    assert [row.locator(".interval").count() for row in rows.all()] == [1, 0, 1]
    assert [row.locator(".one").count() for row in rows.all()] == [4, 0, 4]
    ours, theirs = (rows.nth(index).locator(".point").bounding_box()["x"] for index in (0, 2))
    assert ours > theirs
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_row_of_the_final_scores_takes_its_curve_out_of_the_colours(page: Any):
    """Catches a legend that does nothing, that acts on another curve or task, or that a keyboard cannot reach."""
    hopper, ant = task(page, "Hopper-v5"), task(page, "Ant-v5")
    button = hopper.locator(".finals button", has_text="DSAC-T")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert hopper.locator("[data-curves] .series[data-label='DSAC-T']").count() == 0
    assert hopper.locator("[data-curves] .context[data-label='DSAC-T']").count() == 1
    assert hopper.locator("[data-curves] .series[data-label='PPO']").count() == 1
    assert ant.locator("[data-curves] .series[data-label='DSAC-T']").count() == 1
    page.keyboard.press("Enter")
    assert hopper.locator("[data-curves] .series[data-label='DSAC-T']").count() == 1
    assert page.said == []


def test_a_table_sorts(page: Any):
    """Catches text sorted for numbers, a second click that changes nothing, and an order that is not announced."""
    hopper = task(page, "Hopper-v5")
    names = hopper.locator(".sorts td:first-child")
    assert hopper.locator("th[aria-sort]").all_inner_texts() == ["final"]
    assert names.all_inner_texts() == ["DSAC-T", ODD, "PPO"]
    for word, order, expected in (
        ("sd", "descending", ["PPO", "DSAC-T", ODD]),  # 23.9 above 17.1; one seed has none
        ("sd", "ascending", ["DSAC-T", "PPO", ODD]),
        ("group", "ascending", ["DSAC-T", "PPO", ODD]),
    ):
        hopper.locator(".sorts th button", has_text=word).first.focus()
        page.keyboard.press("Enter")
        assert names.all_inner_texts() == expected, (word, order)
        head = hopper.locator("th[aria-sort]")
        assert (head.inner_text().strip(), head.get_attribute("aria-sort")) == (word, order)
    assert page.said == []


def test_groups_of_other_budgets_have_a_view_of_their_own(browser: Any, tmp_path: Path):
    """Catches scores of different budgets beside each other, and settings as one types them in headings and legends."""
    for budget in (2000, 3000):
        for precision in ("float32", "bfloat16"):
            words = (f"precision={precision}", f"total_env_steps={budget}")
            made_seeds(tmp_path / "runs", "dsac_t", [budget / 100, budget / 90], *words, "algo.batch_size=512")
    made_seeds(tmp_path / "runs", "ppo", [9.0], "total_env_steps=3000")
    made_seeds(tmp_path / "runs", "dsac_t", [5.0], "total_env_steps=3000", "algo.huber_delta=30")
    compare(tmp_path / "runs", out=tmp_path, report=True, films=False, curves=False)
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    opened.goto((tmp_path / "report.html").as_uri())
    names = opened.locator(".finals .name")

    def shown() -> list[str]:
        return [name.rpartition(" seed")[0][:-2] for name in names.all_inner_texts()]

    assert opened.locator(".views button").all_inner_texts() == [
        "3,000 steps · 4 groups",
        "2,000 steps · 2 groups",
        "all 6 groups",
    ]
    three = ["DSAC-T, batch 512, bfloat16", "DSAC-T, batch 512, float32", "PPO", "DSAC-T, huber_delta=30.0"]
    assert sorted(shown()) == sorted(three)
    table = opened.locator(".sorts tbody tr:visible")
    cells = [row.locator("td").all_inner_texts() for row in table.all()]
    assert ["DSAC-T, batch 512", "bfloat16", "3,000"] in [row[:3] for row in cells]
    opened.locator(".views button").nth(1).click()
    assert sorted(shown()) == sorted(three[:2])
    assert table.count() == 2
    opened.locator(".views button").nth(2).click()
    assert table.count() == 6
    assert opened.locator(".sentence:visible").inner_text().endswith("compared only where they have the same budget.")
    headings = opened.locator("h1, h2, h3, th, summary, .sentence, .name, .views")
    assert not re.search("precision=|batch_size|total_env_steps", " ".join(headings.all_text_contents()))
    opened.close()


def test_charts_can_be_looked_into(page: Any):
    """Catches a zoom that shows the same, an axis that keeps its name, seeds that are not drawn, a tip that lies."""
    figure = task(page, "Hopper-v5").locator("[data-curves]")
    chart = figure.locator("svg.chart")
    whole = chart.text_content()
    assert "env steps" in whole
    chart.scroll_into_view_if_needed()
    area = chart.bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] * 0.4, middle)
    tip = figure.locator(".tip").inner_text()
    assert "env steps" in tip
    assert tip.index("DSAC-T") < tip.index("PPO")  # the higher one first
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.6, middle, steps=5)
    page.mouse.up()
    assert chart.text_content() != whole
    figure.get_by_text("whole range").click()
    assert chart.text_content() == whole
    page.get_by_role("button", name="seconds").click()
    assert "seconds" in chart.text_content()
    lines = chart.locator("path").count()
    page.locator("#seeds").click()
    assert chart.locator("path").count() == lines + 4 + 4 + 1
    assert page.said == []


def test_nothing_is_fetched_and_nothing_could_be(page: Any, made: Path):
    """Catches a font, a library or a picture from outside, and a policy that would let one in."""
    page.wait_for_timeout(300)
    assert page.asked == [made.as_uri()]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", made.read_text())
    blocked = page.evaluate(
        """async () => {
          const blocked = [];
          addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
          try { await fetch("https://example.org/"); } catch {}
          document.body.append(Object.assign(new Image(), { src: "https://example.org/x.png" }));
          document.body.append(Object.assign(document.createElement("script"), { textContent: "window.hit=1" }));
          await new Promise((resolve) => setTimeout(resolve, 300));
          return blocked.sort();
        }"""
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert page.asked == [made.as_uri(), "https://example.org/x.png", "csp"]  # asked for here, and refused
    assert page.evaluate("window.hit") is None


def test_names_that_are_html_stay_text(page: Any, made: Path):
    """Catches a name from a run folder that becomes part of the page: a tag, a script, the end of the data."""
    assert page.evaluate("window.hit") is None
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == 0
    assert f"{NASTY}/learner-0 left out" in page.locator(".remarks").text_content()
    assert ODD in task(page, "Hopper-v5").locator(".finals ol").inner_text()
    source = made.read_text()
    assert NASTY not in source
    assert NASTIER not in source


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(browser: Any, made: Path, scheme: str):
    """Catches text that cannot be read at night, a line that is lost on the paper, and two lines of one look."""
    opened = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme=scheme)
    opened.goto(made.as_uri())
    colours = opened.evaluate(
        """() => {
          const colour = (part) => getComputedStyle(part);
          const lines = [...document.querySelectorAll(".task:first-of-type .series .mean")];
          const text = [...document.querySelectorAll("p, h1, h2, td, th, summary, .name, .chart text")];
          return { paper: colour(document.body).backgroundColor, lines: lines.map((line) => colour(line).stroke),
            text: text.map((part) => part.tagName === "text" ? colour(part).fill : colour(part).color) };
        }"""
    )
    assert len(set(colours["lines"])) == len(colours["lines"]) == 2
    paper = luminance(colours["paper"])
    assert (paper < 0.02) == (scheme == "dark")
    for kind, least in (("lines", 3.0), ("text", 4.5)):  # WCAG 2.2: graphics and text
        for colour in colours[kind]:
            low, high = sorted([paper, luminance(colour)])
            assert (high + 0.05) / (low + 0.05) >= least, (kind, colour)
    opened.close()


def luminance(colour: str) -> float:
    """The relative luminance (WCAG 2.2) of rgb(r, g, b)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_telephone_need_not_scroll_sideways(browser: Any, made: Path):
    """Catches a page that is wider than a telephone: a table, a long name, or what is folded."""
    opened = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    opened.goto(made.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    opened.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    chart = opened.locator("[data-curves] svg").first
    chart.scroll_into_view_if_needed()
    area = chart.bounding_box()
    for share in (0.2, 0.45, 0.9):
        opened.mouse.move(area["x"] + area["width"] * share, area["y"] + 50)
        assert opened.locator(".tip:visible").count() == 1
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    opened.close()


def test_the_best_policy_is_filmed_into_the_page(browser: Any, tmp_path: Path):
    """Catches a film that does not play, of another policy, or that needs a file beside the page."""
    pytest.importorskip("av", reason="the extra `video` is not installed")
    try:
        film.choose_renderer()
    except NoRenderer as error:
        pytest.skip(str(error))
    run = train_whole(small_config(tmp_path, "ppo", "env=InvertedDoublePendulum"))
    compare(run, out=tmp_path / "out", report=True, curves=False)
    opened = browser.new_page()
    opened.goto((tmp_path / "out" / "report.html").as_uri())
    opened.wait_for_function("document.querySelector('video').readyState >= 2", timeout=10_000)
    assert opened.evaluate("document.querySelector('video').videoWidth") == films.FILM_SIZE[0]
    assert "PPO, seed 0, its best evaluation" in opened.locator(".films").inner_text()
    opened.close()


def test_a_film_that_cannot_be_made_is_said(tmp_path: Path):
    """Catches a report lost for want of a renderer or of the policies, which a committed folder does not hold."""
    made_run(tmp_path / "runs")
    compare(tmp_path / "runs", out=tmp_path / "out", curves=False, commit=tmp_path / "made")
    compare(tmp_path / "made", out=tmp_path / "out", report=True, curves=False)
    text = (tmp_path / "out" / "report.html").read_text()
    assert_says(text, "No film", "committed folder", "no policies")
    assert "<video" not in text


def test_without_the_extra_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback for want of a library, after the work was done."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(ValueError, match=r"pip install -e '\.\[compare\]'"):
        compare(tmp_path, report=True, curves=False)


def test_every_column_has_its_heading(made: Path):
    """Catches a heading too many, under which each value stands below another's name."""
    tables = re.findall(r"<table.*?</table>", made.read_text(), re.S)
    assert len(tables) > 5
    for table in tables:
        header, *rows = re.findall(r"<tr>.*?</tr>", table, re.S)
        assert {row.count("<td") for row in rows} <= {header.count("<th")}, header


def test_a_page_of_many_groups_stays_light(browser: Any, tmp_path: Path):
    """Catches a curve for each of hundreds of groups: a page of megabytes that takes seconds to open."""
    many_runs(tmp_path / "runs", (), settings=40, seeds=3, log_rows=2)
    compare(tmp_path / "runs", out=tmp_path, report=True, films=False, curves=False)
    page = tmp_path / "report.html"
    assert page.stat().st_size < 300_000
    opened = browser.new_page()
    opened.goto(page.as_uri())
    assert opened.locator("[data-curves] .series").count() == 6
    assert opened.locator(".finals li").count() == 12
    assert opened.locator(".more").inner_text().endswith("28 more are in the table.")
    rows = opened.locator(".sorts tbody tr:visible")
    assert rows.count() == 10
    opened.get_by_text("all 40 rows").click()
    assert rows.count() == 40
    opened.close()
