"""The HTML report in a real browser: Chromium, headless, driven over its debugging protocol."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from esper_analyzer import open_run
from esper_analyzer.report_html import report_html
from esper_recorder import Recorder

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = Path(__file__).parent / "web" / "axe.min.js"
NASTY = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"

Opened = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests; without one they fail, since nothing else shows whether the page works."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.fail("The HTML report is tested in Chromium, which is not installed: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def value_loss(update: int) -> float:
    """A run that begins well, has a spike, is NaN for a while, infinite once, and ends beyond its threshold."""
    if 60 <= update < 70:
        return math.nan
    return {40: 5000.25, 75: math.inf, 76: -math.inf}.get(update, 0.5 + 0.001 * update if update < 80 else 60.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with all that a chart has to show, and with a hostile name."""
    root = tmp_path_factory.mktemp("html")
    rng = np.random.default_rng(0)
    with Recorder.open(root, run_id="sick", trainer=NASTY, env=NASTY, config={NASTY: NASTY}) as recorder:
        for update in range(120):
            if 20 <= update < 24:
                continue  # a gap
            recorder.record(
                update=update,
                policy_loss=float(rng.normal()),
                value_loss=value_loss(update),
                entropy=0.6,
                kl_divergence=0.01,
                explained_variance=-0.2,
                clip_fraction=0.1,
                pre_clip_grad_norm=math.nan,
                extras={NASTY: float(update), "other": 1.0},
            )
    run = open_run(root / "sick")
    path = root / "sick.html"
    path.write_text(report_html(run, run.report()), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Opened:
    """Open the file in a fresh context; any message on the console, error or request of its own fails the test."""

    @contextmanager
    def _opened(width: int = 1280, height: int = 900, file: Path = file, **options: Any) -> Iterator[Page]:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        trouble: list[str] = []
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: trouble.append(request.url) if request.url != file.as_uri() else None)
        page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", state="attached", timeout=10_000)
        yield page
        context.close()
        assert [said for said in trouble if not said.startswith("data:")] == []

    return _opened


def view(page: Page) -> tuple[int, int]:
    """First and last update shown."""
    return int(page.input_value("#from")), int(page.input_value("#to"))


DRAWN = """
    (canvas, colour) => {
        const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
        const probe = copy.getContext("2d", { willReadFrequently: true });
        probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(colour);
        probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
        probe.clearRect(0, 0, 1, 1);
        probe.drawImage(canvas, 0, 0);
        const { data } = probe.getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let at = 0; at < data.length; at += 4) {
            if (data[at] === r && data[at + 1] === g && data[at + 2] === b && data[at + 3] > 200) count++;
        }
        return count;
    }
"""


def pixels(page: Page, chart: str, colour: str) -> int:
    """How many pixels of a chart have a colour of the page."""
    return int(page.locator(f"#{chart} canvas").evaluate(DRAWN, colour))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn(opened: Opened, scheme: str) -> None:
    """Every open chart has its line in its colour, the alerts and what is not finite in theirs."""
    with opened(color_scheme=scheme) as page:
        charts = page.locator("#charts > .charts .chart")
        assert charts.count() == 8
        for position in range(charts.count()):
            section = str(charts.nth(position).get_attribute("id"))
            if "Gradient norm" not in charts.nth(position).inner_text():  # all of it NaN
                assert pixels(page, section, "--line-0") > 100, section
        assert pixels(page, "chart-0", "--critical") > 100
        assert pixels(page, "chart-0", "--warning") > 20
        assert page.evaluate("window.pwned") is None


ODD_RUNS: dict[str, list[list[tuple[int, float]]]] = {
    "one update": [[(7, 0.5)]],
    "three ranks": [[(n, rank + 0.01 * n) for n in range(30) if n != 10 * rank] for rank in range(3)],
    "largest floats": [[(n, (1.7976931348623157e308, 0.0, 5e-324)[n % 3]) for n in range(30)]],
    "updates of fifteen digits": [[(10**14 + 10**12 * n, 0.5 + n) for n in range(30)]],
    "a lone value among NaN": [[(n, 0.5 if n == 15 else math.nan) for n in range(30)]],
}


@pytest.mark.parametrize("name", ODD_RUNS)
def test_odd_runs_are_drawn(opened: Opened, tmp_path: Path, name: str) -> None:
    """Whatever a run is like, its values are seen, those of each rank in a colour of its own."""
    ranks = ODD_RUNS[name]
    for rank, rows in enumerate(ranks):
        with Recorder.open(tmp_path, run_id="odd", rank=rank, world_size=len(ranks)) as recorder:
            for update, value in rows:
                recorder.record(update=update, policy_loss=0.1, value_loss=value)
    run, which = open_run(tmp_path / "odd"), None if len(ranks) > 1 else 0
    path = tmp_path / "odd.html"
    path.write_text(report_html(run, run.report(which), which), encoding="utf-8")
    with opened(file=path) as page:
        for rank in range(len(ranks)):
            seen = pixels(page, "chart-0", f"--line-{rank}") + pixels(page, "chart-0", f"--mean-{rank}")
            assert seen > 4  # so large is the solid part of one point
        assert page.locator(".key span").count() == (len(ranks) if len(ranks) > 1 else 0)
        page.locator("#chart-0 .plot").focus()
        page.keyboard.press("l")
        page.keyboard.press("Home")
        first = "NaN" if math.isnan(ranks[0][0][1]) else str(ranks[0][0][1])
        assert first in page.locator("#announce").inner_text()


def test_colours_follow_the_reader(opened: Opened) -> None:
    """A page that is open changes to dark, charts included."""
    with opened(color_scheme="light") as page:
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert pixels(page, "chart-0", "--line-0") > 100


def test_hovering_shows_exact_values_in_all_charts(opened: Opened) -> None:
    """The cursor of one chart is that of all; each says its exact value there, or what is there in place of one."""
    with opened() as page:
        over = page.locator("#chart-0 .u-over").bounding_box()
        assert over is not None

        def hover(update: int) -> str:
            page.mouse.move(over["x"] + over["width"] * update / 119, over["y"] + 20)
            return page.locator("#chart-0 .readout").inner_text()

        assert hover(40) == "5000.25 (update 40)"
        assert hover(64) == "NaN (updates 60 to 69)"
        assert hover(75) == "+∞ (update 75)"
        assert hover(76) == "−∞ (update 76)"
        assert hover(21) == "updates 20 to 23 missing"
        hover(40)
        assert page.locator(".chart", has_text="Entropy").first.locator(".readout").inner_text() == "0.6 (update 40)"


def test_dragging_zooms_all_charts_and_a_double_click_shows_all(opened: Opened) -> None:
    """Charts share one range of updates."""
    with opened() as page:
        over = page.locator("#chart-0 .u-over").bounding_box()
        assert over is not None
        page.mouse.move(over["x"] + over["width"] * 0.25, over["y"] + 40)
        page.mouse.down()
        page.mouse.move(over["x"] + over["width"] * 0.5, over["y"] + 60, steps=4)
        page.mouse.up()
        first, last = view(page)
        assert (abs(first - 30) <= 1, abs(last - 60) <= 1) == (True, True)  # a pixel is a tenth of an update
        page.locator("#chart-1 .plot").focus()
        page.keyboard.press("End")
        assert page.locator("#chart-1 .readout").inner_text().endswith(f"(update {last})")
        page.mouse.dblclick(over["x"] + 50, over["y"] + 40)
        assert view(page) == (0, 119)


def test_everything_works_by_keyboard(opened: Opened) -> None:
    """Tab reaches every control; keys zoom, pan, reset, read values, change the scale and go from alert to alert."""
    with opened() as page:
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(
                    "[document.activeElement.dataset.do ?? document.activeElement.className, "
                    "getComputedStyle(document.activeElement).outlineStyle]"
                )
            )
        names = [name for name, _ in reached]
        assert {"earlier", "later", "in", "out", "all", "previous", "next", "log", "plot"} <= set(names)
        assert all(outline != "none" for name, outline in reached if name)  # the page itself has no name

        page.locator("[data-do=in]").focus()
        page.keyboard.press("Enter")
        assert view(page) == (30, 89)
        page.locator("[data-do=all]").focus()
        page.keyboard.press("Space")
        assert view(page) == (0, 119)
        page.locator("#from").fill("100")
        page.keyboard.press("Enter")
        assert view(page) == (100, 119)

        page.locator("#chart-0 .plot").focus()
        page.keyboard.press("0")
        assert view(page) == (0, 119)
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        said = f"{value_loss(1)} (update 1)"
        assert page.locator("#chart-0 .readout").inner_text() == page.locator("#announce").inner_text() == said
        page.keyboard.press("+")
        first, last = view(page)
        assert first <= 1
        assert last <= 61
        page.keyboard.press("Shift+ArrowRight")
        assert view(page)[0] > first
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        assert "Alert 1 of" in page.locator("#announce").inner_text()
        assert view(page)[1] < 119


def test_the_log_scale_is_a_key_and_a_button(opened: Opened) -> None:
    """Value loss with a spike begins on a log scale; the key and the button change it, other charts stay."""
    with opened() as page:
        button = page.locator("#chart-0 .log")
        other = page.locator("#chart-1 .log")
        begun = button.get_attribute("aria-pressed"), other.get_attribute("aria-pressed")
        assert begun == ("true", "false")
        page.locator("#chart-0 .plot").focus()
        page.keyboard.press("l")
        assert button.get_attribute("aria-pressed") == "false"
        assert pixels(page, "chart-0", "--line-0") > 100
        button.focus()
        page.keyboard.press("Space")
        assert button.get_attribute("aria-pressed") == "true"
        other.click()  # of numbers with both signs
        assert other.get_attribute("aria-pressed") == "true"
        assert pixels(page, "chart-1", "--line-0") > 100


def test_values_can_be_read_as_a_table(opened: Opened) -> None:
    """Behind each chart is a table of what is in view, with what is not finite at its place."""
    with opened() as page:
        page.locator("#from").fill("58")
        page.locator("#to").fill("76")
        page.keyboard.press("Enter")
        page.locator("#chart-0 .values summary").click()
        texts = page.locator("#chart-0 .values tr").all_inner_texts()
        assert texts[:4] == ["updates\tvalue", f"58\t{value_loss(58)}", f"59\t{value_loss(59)}", "60 to 69\tNaN"]
        assert texts[-2:] == ["75\t+∞", "76\t−∞"]
        page.locator("[data-do=all]").click()
        assert "5000.25" in page.locator("#chart-0 .values").inner_text()


def test_a_link_opens_the_chart_that_it_names(opened: Opened) -> None:
    """A metric behind the disclosure is shown, drawn and focused when its link is followed."""
    with opened() as page:
        page.locator("table.numbers a", has_text="other").first.click()
        assert page.locator("#other").get_attribute("open") is not None
        page.wait_for_function("document.activeElement.className === 'plot'")
        section = page.evaluate("document.activeElement.closest('.chart').id")
        assert page.locator(f"#{section} h3").inner_text() == "other"
        assert pixels(page, section, "--line-0") > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Opened, scheme: str) -> None:
    """With everything unfolded, the page has no fault that axe-core calls serious or critical."""
    with opened(color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        page.wait_for_function("document.querySelectorAll('#other .u-over').length > 0")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        serious = [
            (fault["id"], [node["html"][:200] for node in fault["nodes"]])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert len(found["passes"]) > 20


@pytest.mark.parametrize("width", [360, 820])
def test_a_narrow_screen_needs_no_sideways_scrolling(opened: Opened, width: int) -> None:
    """On a phone the page is as wide as the screen, with everything unfolded and long hostile names."""
    with opened(width=width, height=780, is_mobile=True, has_touch=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        page.wait_for_function("document.querySelectorAll('#other .u-over').length > 0")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("window.innerWidth") <= width


def test_it_prints_in_light_colours(opened: Opened) -> None:
    """On paper a dark page is light, its charts too, and they are no wider than the paper."""
    with opened(color_scheme="dark") as page:
        before = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--line-0')")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--line-0')") != before
        assert pixels(page, "chart-0", "--line-0") > 100
        assert page.evaluate("document.querySelector('#chart-0 .uplot').clientWidth") <= 640
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--line-0')") == before
        assert page.pdf(format="A4").count(b"/Type /Page\n") < 20


def test_verdict_and_tables_need_no_script(opened: Opened) -> None:
    """Where scripts are switched off the verdict, alerts and metrics are there, and controls are not."""
    with opened(java_script_enabled=False) as page:
        assert "".join(page.locator(".verdict h2").all_text_contents()).split()[:2] == ["Verdict:", "Critical"]
        assert page.locator("table.alerts tbody tr").count() > 0
        assert not page.locator(".toolbar").is_visible()
        assert page.get_by_text("The charts need a browser").is_visible()
