"""The HTML report as it is seen: drawn, light and dark, narrow, printed, without scripts, and by axe-core."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.analyzer.reporting.web.html_page import Opened, check_accessibility, pixels, unfold

from esper_analyzer import open_run
from esper_analyzer.reporting.html import report_html
from esper_recorder import Recorder
from esper_schemas.metric.catalogue import is_label
from esper_schemas.metric.payload import METRICS


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


@pytest.mark.slow
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
        assert page.locator(".key button").count() == (len(ranks) if len(ranks) > 1 else 0)
        page.locator("#chart-0 .plot").focus()
        page.keyboard.press("l")
        page.keyboard.press("Home")
        first = {"largest floats": "1.7977e308", "a lone value among NaN": "NaN"}.get(name, str(ranks[0][0][1]))
        assert first in page.locator("#announce").inner_text()


def test_colours_follow_the_reader(opened: Opened) -> None:
    """A page that is open changes to dark, charts included."""
    with opened(color_scheme="light") as page:
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert pixels(page, "chart-0", "--line-0") > 100


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Opened, scheme: str) -> None:
    """With everything unfolded, the page has no fault that axe-core calls serious or critical."""
    with opened(color_scheme=scheme) as page:
        unfold(page)
        page.wait_for_function("document.querySelectorAll('#other .u-over').length > 0")
        check_accessibility(page, least_passes=21)


@pytest.mark.parametrize("width", [360, 820])
def test_a_narrow_screen_needs_no_sideways_scrolling(opened: Opened, width: int) -> None:
    """On a phone the page is as wide as the screen, with everything unfolded and long hostile names."""
    with opened(width=width, height=780, is_mobile=True, has_touch=True) as page:
        unfold(page)
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


def _run_of(root: Path, updates: int, **odd: Any) -> Path:
    """The page of a run with every metric of the table that is a float; where `odd` gives a function, by that."""
    names = [name for name, metric in METRICS.items() if metric.dtype == "float64" and not is_label(name)]
    rng = np.random.default_rng(0)
    usual = {"explained_variance": 0.9, "entropy": 1.0, "kl_divergence": 0.006, "clip_fraction": 0.1, "ratio_mean": 1.0}
    with Recorder.open(
        root, run_id="printed", config={f"setting_{n}": n for n in range(30)}, env="Corridor-v0"
    ) as recorder:
        for update in range(updates):
            row = {name: usual.get(name, 0.5) + 0.001 * float(rng.normal()) for name in names}
            row |= {
                "episode_return_mean": 200.0 * (1.0 - math.exp(-update / 50)),
                "policy_loss": -0.01,
                "value_loss": 0.5,
            }
            recorder.record(
                update=update, env_steps=2048 * (update + 1), **row | {name: of(update) for name, of in odd.items()}
            )
    run, path = open_run(root / "printed"), root / "printed.html"
    path.write_text(report_html(run, run.report()), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_a_sound_run_prints_on_three_pages(opened: Opened, tmp_path: Path, paper: str) -> None:
    """With all metrics and thirty settings, verdict, tiles, charts and tables fit on one to three pages."""
    with opened(file=_run_of(tmp_path, 120)) as page:
        assert "healthy" in page.title()
        assert 1 <= page.pdf(format=paper).count(b"/Type /Page\n") <= 3


def test_a_hundred_alerts_of_few_kinds_print_on_four_pages(opened: Opened, tmp_path: Path) -> None:
    """A kind of alert is one line, however many times it was raised."""
    odd = {
        "entropy": lambda update: 0.05 if update % 14 < 4 else 1.0,
        "kl_divergence": lambda update: 0.05 if update % 16 < 5 else 0.006,
    }
    with opened(file=_run_of(tmp_path, 1100, **odd)) as page:
        raised = " ".join(page.locator("table.alerts tbody tr").all_inner_texts())
        assert sum(map(int, re.findall(r"(\d+) times", raised))) >= 100
        assert page.locator("table.alerts tbody tr").count() < 8
        assert page.pdf(format="A4").count(b"/Type /Page\n") <= 4


def test_a_little_chart_leads_to_the_moment_in_its_own_chart(opened: Opened, tmp_path: Path) -> None:
    """Its link shows the same updates in the metric's chart, which gets the focus."""
    with Recorder.open(tmp_path, run_id="jumps") as recorder:
        for update in range(60):
            loss = math.nan if update >= 50 else 0.5 + 0.01 * (update % 7)
            recorder.record(update=update, policy_loss=0.01 * (update % 5), value_loss=loss)
    run, path = open_run(tmp_path / "jumps"), tmp_path / "jumps.html"
    path.write_text(report_html(run, run.report()), encoding="utf-8")
    with opened(file=path) as page:
        assert page.locator(".little a").all_inner_texts() == ["Value loss"]
        link = page.locator(".little a")
        first, last = str(link.get_attribute("data-first")), str(link.get_attribute("data-last"))
        link.click()
        page.wait_for_function("document.activeElement.className === 'plot'")
        assert (page.input_value("#from"), page.input_value("#to")) == (first, last)
        assert page.evaluate("document.activeElement.closest('.chart').id") == "chart-0"
        assert page.locator(".little svg").first.bounding_box() is not None


def test_verdict_and_tables_need_no_script(opened: Opened) -> None:
    """Where scripts are switched off the verdict, alerts and metrics are there, and controls are not."""
    with opened(java_script_enabled=False) as page:
        assert "".join(page.locator(".verdict h2").all_text_contents()).split()[:2] == ["Verdict:", "Critical"]
        assert page.locator("table.alerts tbody tr").count() > 0
        assert not page.locator(".toolbar").is_visible()
        assert page.get_by_text("The charts need JavaScript").is_visible()
