"""The page in a real browser: it draws, can be looked into, fetches nothing, and names of runs stay text."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run, made_seeds
from small_runs import small_config, train_whole

from dsac import compare
from dsac.compare import report
from dsac.errors import NoRenderer
from dsac.evaluation import film

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HIT = "hit=1"
NASTY = f"0<img src=x onerror={HIT}>"
NASTIER = f"</script><script>{HIT}</script>"


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
    states = '{"mean": [1, 2], "return_mean": [1, 3], "sigma": [1, 1], "return_deviation": [1, 2]}'
    for folder in (root / "runs" / "Hopper" / "dsac_t").glob("*/learner-0"):
        (folder / "calibration.json").write_text(states)
    twice = made_run(root / "runs", "dsac_t", (0.0, 0.0, 1.0))
    twice.rename(twice.with_name(NASTY))
    own = made_run(root / "runs", "td3") / "config.yaml"
    own.write_text(own.read_text().replace("name: td3", f"name: 'no.{NASTIER}'").replace("relu", NASTIER))
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


def test_the_page_draws_all_there_is(page: Any):
    """Catches a script that stops halfway, a chart without its lines, a table that is missing."""
    assert page.said == []
    assert page.locator("h2").all_inner_texts()[:2] == ["Ant-v5", "Hopper-v5"]
    charts = page.locator("svg.chart")
    assert charts.count() == 2 + 1 + 2  # two tasks, the profile, mean and sigma of the critics
    hopper = page.locator("figure[data-curves='1']")
    assert hopper.locator(".series").count() == 3
    for label in ("DSAC-T", "PPO"):
        drawn = hopper.locator(f".series[data-label='{label}'] path").last.get_attribute("d")
        assert len(re.findall("[ML]", drawn)) == 3  # an evaluation each
    assert page.locator("figure[data-dots='sigma'] circle").count() == 8
    text = page.locator("main").inner_text()
    for words in (
        "What was reached",
        "Who beats whom",
        "DSAC-T against PPO",
        "Against PPO, at 61.2",
        "All tasks",
        "Critics",
    ):
        assert words in text
    page.get_by_text("Make it again").click()
    assert "python -m dsac.train env=Hopper algo=dsac_t" in page.locator("main").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_legend_hides_and_shows(page: Any):
    """Catches a legend that does nothing, hides another series, or hides it in one chart only."""
    ours = page.locator(".series[data-label='DSAC-T']")
    before, others = ours.count(), page.locator(".series[data-label='PPO']").count()
    assert before == 2 + 1 + 2
    button = page.locator("#legend button", has_text="DSAC-T")
    button.click()
    assert ours.count() == 0
    assert page.locator(".series[data-label='PPO']").count() == others
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert ours.count() == before
    assert page.said == []


def test_charts_can_be_looked_into(page: Any):
    """Catches a zoom that shows the same, an axis that keeps its name, seeds that are not drawn, a tip that lies."""
    figure = page.locator("figure[data-curves='1']")
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
    closer = chart.text_content()
    assert closer != whole
    figure.get_by_text("whole range").click()
    assert chart.text_content() == whole
    page.locator("#axes button", has_text="seconds").click()
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
    assert f"{NASTY}/learner-0 left out" in page.locator(".remarks").inner_text()
    assert page.locator("#legend button").last.inner_text() == f"no.{NASTIER}"
    source = made.read_text()
    assert NASTY not in source
    assert NASTIER not in source


def test_dark_and_narrow(browser: Any, made: Path):
    """Catches text that cannot be read at night, and a page that is wider than a telephone."""
    opened = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    opened.goto(made.as_uri())
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
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
    assert opened.evaluate("document.querySelector('video').videoWidth") == report.FILM_SIZE[0]
    assert "PPO, seed 0, its best evaluation" in opened.locator(".films").inner_text()
    opened.close()


def test_a_film_that_cannot_be_made_is_said(tmp_path: Path):
    """Catches a report lost for want of a renderer or of the policies, which a committed folder does not hold."""
    made_run(tmp_path / "runs")
    compare(tmp_path / "runs", out=tmp_path / "out", curves=False, commit=tmp_path / "made")
    compare(tmp_path / "made", out=tmp_path / "out", report=True, curves=False)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "No film: the run was read from a committed folder, which holds no policies" in text
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
