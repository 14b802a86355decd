"""The page of a comparison in a real browser: curves, bands, legend, axes, keyboard, light and dark, narrow."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page
from tests.analyzer.reporting.web.html_page import NASTY, Opened, check_accessibility, pixels, unfold, view

from esper_analyzer.cli import main
from esper_recorder import Recorder


def _page(root: Path, *options: str) -> Path:
    """The page of all runs under a folder, written by the command."""
    file = root.with_suffix(".html")
    with pytest.raises(SystemExit) as left:
        main(["compare", *map(str, sorted(root.iterdir())), "--format", "html", "-o", str(file), *options])
    assert not left.value.code
    return file


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of two seeds, a run on its own that ends in NaN, and one that is too short."""
    root = tmp_path_factory.mktemp("few")
    runs = [("fast", 1, 2.0), ("fast", 2, 4.0), ("slow", 1, 1.0), ("slow", 2, 1.5), (NASTY, 1, 0.5), ("stub", 1, 9.0)]
    for name, seed, gain in runs:
        config = {"method": name, "seed": seed}
        run_id = f"{'odd' if name == NASTY else name}-{seed}"
        with Recorder.open(root, run_id=run_id, config=config, env=NASTY, strict=True) as recorder:
            for update in range(8 if name == "stub" else 40):
                recorder.record(
                    update=update,
                    env_steps=100 * (update + 1),
                    elapsed_secs=0.5 * update * gain,
                    policy_loss=0.01 * update,
                    value_loss=math.nan if name == NASTY and update > 30 else 1.0 + gain,
                    episode_return_mean=gain * update,
                    extras={NASTY: float(update)},
                )
    return _page(root)


def _readout(page: Page) -> str:
    return page.locator("#chart-0 .readout").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_and_bands_are_drawn(opened: Opened, few: Path, scheme: str) -> None:
    """The return comes first, every group and single run in its colour; the readout has centre and ends of the band."""
    with opened(file=few, color_scheme=scheme) as page:
        titles = page.locator(".chart h3").all_inner_texts()
        assert titles[:3] == ["Episode return", "Value loss", "Policy loss"]
        for colour in ("--line-0", "--line-1", "--line-2"):
            assert pixels(page, "chart-0", colour) > 50, colour
        assert page.locator("#axis").input_value() == "env_steps"
        assert _readout(page).startswith("step 4\u202f000: A: 117 [78, 156] · C: 48.75 [39, 58.5] · odd-1: 19.5")
        page.select_option("#band", "median")
        assert "A: 117 [97.5, 136.5]" in _readout(page)
        page.select_option("#band", "")
        assert _readout(page) == "step 4\u202f000: fast-2: 156 · fast-1: 78 · slow-2: 58.5 · slow-1: 39 · odd-1: 19.5"
        assert page.evaluate("window.pwned") is None


def test_the_legend_switches_runs_and_groups(opened: Opened, few: Path) -> None:
    """A switched-off run leaves every chart and its band; short runs are off at first; Shift shows one alone."""
    with opened(file=few) as page:
        page.locator(".legend summary").click()
        runs = page.locator(".legend [data-run]")
        assert runs.all_inner_texts() == ["fast-2", "fast-1", "slow-2", "slow-1", "odd-1", "stub-1 (short)"]
        assert runs.last.get_attribute("aria-pressed") == "false"
        runs.nth(2).click()  # a group of one run has no band
        assert "C:" not in _readout(page)
        page.locator(".legend [data-group='0']").click()
        assert _readout(page) == "step 4\u202f000: odd-1: 19.5"
        assert pixels(page, "chart-0", "--line-0") == 0
        assert runs.first.get_attribute("aria-pressed") == "false"
        runs.last.focus()
        page.keyboard.press("Enter")
        assert "stub-1: ended" in _readout(page)
        page.locator(".legend [data-group='1']").click(modifiers=["Shift"])
        assert _readout(page).startswith("step 4\u202f000: C: 48.75")
        page.locator("[data-all=no]").click()
        assert _readout(page) == "step 4\u202f000: no run is shown"
        page.locator("[data-all=yes]").click()
        assert page.locator("#announce").inner_text() == "6 of 6 runs are shown"


def test_axes_keys_and_the_address(opened: Opened, few: Path) -> None:
    """Each run has its own time; keys zoom and read values; the address keeps axis, smoothing and view."""
    with opened(file=few) as page:
        assert view(page) == (100, 4000)
        page.select_option("#band", "")
        page.select_option("#axis", "seconds")
        assert (page.input_value("#from"), page.input_value("#to")) == ("0", "78")
        assert page.locator("#unit").inner_text() == "Seconds"
        assert _readout(page) == "78 s: fast-2: 156 · fast-1: ended · slow-2: ended · slow-1: ended · odd-1: ended"
        page.select_option("#axis", "")
        assert view(page) == (0, 39)
        page.locator("#chart-0 .plot").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert page.locator("#announce").inner_text().startswith("update 1: fast-2: 4 · fast-1: 2")
        page.keyboard.press("0")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("+")
        first, last = view(page)
        assert last - first < 39
        page.locator("#smoothing").fill("0.5")
        page.wait_for_url(re.compile(rf"updates={first}-{last}&by=updates&smooth=0.5"))
        page.reload()
        page.wait_for_selector("html[data-ready]", state="attached")
        assert (*view(page), page.input_value("#axis"), page.input_value("#smoothing")) == (first, last, "", "0.5")


def test_the_address_keeps_which_runs_are_shown(opened: Opened, few: Path) -> None:
    """A link shows the same runs and bands: what is switched off, and how seeds are drawn; as at first it is bare."""
    with opened(file=few) as page:
        page.locator(".legend summary").click()
        page.locator(".legend [data-group='0']").click()  # fast-2 and fast-1, the runs 0 and 1
        page.select_option("#band", "median")
        page.wait_for_url(re.compile(r"#off=0-1\.5&seeds=median$"))
        said, address = _readout(page), page.url
        assert said.startswith("step 4\u202f000: C: 48.75 [43.875, 53.625] · odd-1")
        page.locator(".legend [data-run='0']").click()
        page.locator(".legend [data-run='1']").click()
        page.locator(".legend [data-run='5']").click()  # the short run, which is off at first
        page.select_option("#band", "mean")
        page.wait_for_url(re.compile(r"#off=$"))
        page.evaluate("address => { location.hash = new URL(address).hash; }", address)
        page.wait_for_function("said => document.querySelector('#chart-0 .readout').textContent === said", arg=said)
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached")
        assert (_readout(page), page.input_value("#band")) == (said, "median")
        pressed = [run.get_attribute("aria-pressed") for run in page.locator(".legend [data-run]").all()]
        assert pressed == ["false", "false", "true", "true", "true", "false"]
        page.evaluate("location.hash = '#off=x.1-2.99.-3&seeds=none'")  # by hand: what makes no sense is left out
        page.wait_for_function("document.querySelector('.legend [data-run=\"0\"]').ariaPressed === 'true'")
        pressed = [run.get_attribute("aria-pressed") for run in page.locator(".legend [data-run]").all()]
        assert pressed == ["true", "false", "false", "true", "true", "true"]
        assert page.input_value("#band") == "mean"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Opened, few: Path, scheme: str) -> None:
    """With everything unfolded and every chart made, axe-core calls nothing serious or critical."""
    with opened(file=few, color_scheme=scheme, height=6000) as page:
        unfold(page)
        for chart in page.locator(".chart").all():
            chart.locator(".u-over").wait_for()
        check_accessibility(page, least_passes=16)


def test_a_phone_needs_no_sideways_scrolling_and_paper_gets_every_chart(opened: Opened, few: Path) -> None:
    """Charts are made as they come into view, and all of them for printing."""
    with opened(file=few, width=360, height=700, is_mobile=True, has_touch=True) as page:
        unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".u-over").count() < page.locator(".chart").count()
        page.locator(".chart").last.scroll_into_view_if_needed()
        page.locator(".chart").last.locator(".u-over").wait_for()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".u-over").count() == page.locator(".chart").count()
        page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_tables_need_no_script(opened: Opened, few: Path) -> None:
    """Without scripts the scores are there, the best first, and the short run is named."""
    with opened(file=few, java_script_enabled=False) as page:
        shown = page.locator("table.scores tbody th").all_inner_texts()
        assert shown == ["fast-2", "fast-1", "slow-2", "slow-1", "odd-1"]
        assert "stub-1 (ends at 800)" in page.locator(".short").inner_text()
        assert not page.locator(".toolbar").is_visible()


def test_many_points_are_where_they_belong(opened: Opened, tmp_path: Path) -> None:
    """Runs of more updates than the page keeps: extremes are drawn, and means lie at their steps and in their time."""
    root = tmp_path / "long"
    for run, speed in (("a", 1.0), ("b", 2.0)):
        with Recorder.open(root, run_id=run, strict=True) as recorder:
            for update in range(2500):
                value = 1e6 if update == 1234 and run == "a" else float(update)
                steps, secs = 10 * (update + 1), speed * update
                recorder.record(update=update, policy_loss=0.1, value_loss=value, env_steps=steps, elapsed_secs=secs)
    with opened(file=_page(root)) as page:
        assert page.locator("#unit").inner_text() == "Steps"
        for axis, place, of_a, of_b in (("env_steps", 20_010, 2000, 2000), ("seconds", 2000, 2000, 1000)):
            page.select_option("#axis", axis)
            page.locator("#from").fill(str(place))
            page.keyboard.press("Enter")
            page.locator("#chart-0 .plot").focus()
            page.keyboard.press("Home")
            said = dict(re.findall(r"(\w): ([\d.]+)", page.locator("#announce").inner_text()))
            assert [float(said["a"]), float(said["b"])] == pytest.approx([of_a, of_b], abs=3)
            page.locator("[data-do=all]").click()
        details = page.locator("#chart-0 .values")
        details.locator("summary").click()
        assert "1000000" in details.locator("table").inner_text()
