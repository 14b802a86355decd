"""The HTML report as it is used: by mouse, keyboard and fingers, and what can be taken along from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.analyzer.reporting.web.html_page import Opened, pixels, plot_area, value_loss, view

from esper_analyzer import open_run
from esper_analyzer.reporting.html import report_html
from esper_recorder import Recorder


@pytest.mark.slow
def test_hovering_shows_rounded_values_in_all_charts(opened: Opened) -> None:
    """The cursor of one chart is that of all; each says its value there in five digits, or what is in place of one."""
    with opened() as page:
        over = plot_area(page)

        def hover(update: int) -> str:
            page.mouse.move(over["x"] + over["width"] * update / 119, over["y"] + 20)
            return page.locator("#chart-0 .readout").inner_text()

        assert hover(40) == "5000.3 (update 40)"
        assert hover(64) == "NaN (updates 60 to 69)"
        assert hover(75) == "+∞ (update 75)"
        assert hover(76) == "−∞ (update 76)"
        assert hover(21) == "updates 20 to 23 missing"
        hover(40)
        assert page.locator(".chart", has_text="Entropy").first.locator(".readout").inner_text() == "0.6 (update 40)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.1 + 0.2, "0.3"),
        (-69.12345678901234, "-69.123"),
        (123456.789, "123457"),
        (9876543, "9876543"),
        (0.000123456789, "0.00012346"),
        (1.23456789e-7, "1.2346e-7"),
        (-9.87654321e12, "-9.8765e12"),
        (5e-324, "4.9407e-324"),
        (0, "0"),
    ],
)
def test_numbers_are_rounded_to_what_is_read(opened: Opened, value: float, said: str) -> None:
    """Five digits, all digits before the point, and powers of ten for what is very large or very small."""
    with opened() as page:
        assert page.evaluate("value => short(value)", value) == said


def test_dragging_zooms_all_charts_and_a_double_click_shows_all(opened: Opened) -> None:
    """Charts share one range of updates."""
    with opened() as page:
        over = plot_area(page)
        page.mouse.move(over["x"] + over["width"] * 0.25, over["y"] + 40)
        page.mouse.down()
        page.mouse.move(over["x"] + over["width"] * 0.5, over["y"] + 60, steps=4)
        page.mouse.up()
        first, last = view(page)
        assert (abs(first - 30) <= 1, abs(last - 60) <= 1) == (True, True)  # a pixel is a tenth of an update
        page.locator("#chart-1 .plot").focus()
        page.keyboard.press("End")
        assert page.locator("#chart-1 .readout").inner_text().endswith(f"(update {last})")
        page.locator("#chart-0 .u-over").dblclick(position={"x": 50, "y": 40})  # it may have been scrolled away
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


def test_smoothing_draws_over_the_values_and_hides_none(opened: Opened) -> None:
    """A smoothed line comes over the raw one, which stays; the readout has both."""
    with opened() as page:
        assert pixels(page, "chart-1", "--mean-0") == 0
        page.locator("#smoothing").fill("0.9")
        assert page.locator("#smoothed").inner_text() == "0.9"
        assert pixels(page, "chart-1", "--mean-0") > 100
        page.locator("#chart-0 .plot").focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        mean = (0.9 * value_loss(0) + value_loss(1)) / 1.9  # weights 0.1 · 0.9 and 0.1, over their sum
        said = f"{value_loss(1)} (update 1), smoothed {mean:.5g}"
        assert page.locator("#chart-0 .readout").inner_text() == said
        assert page.evaluate("smooth([1, null, 3], 0.5)") == [1, None, 7 / 3]


def test_charts_can_stand_on_environment_steps_or_time(opened: Opened, tmp_path: Path) -> None:
    """Another axis moves the lines, not the updates: the same drag then is another range."""
    with Recorder.open(tmp_path, run_id="steps") as recorder:
        for update in range(101):
            recorder.record(update=update, env_steps=update**2, policy_loss=0.1, value_loss=0.5 + update)
    run, path = open_run(tmp_path / "steps"), tmp_path / "steps.html"
    path.write_text(report_html(run, run.report()), encoding="utf-8")
    with opened(file=path) as page:
        assert page.locator("#axis option").all_inner_texts() == ["update", "environment steps", "time"]
        page.locator("#axis").select_option("env_steps")
        over = plot_area(page)
        page.mouse.move(over["x"] + over["width"] * 0.25, over["y"] + 40)  # 2,500 steps are 50 updates
        assert page.locator("#chart-0 .readout").inner_text() == "50.5 (update 50)"
        page.mouse.down()
        page.mouse.move(over["x"] + over["width"] * 0.64, over["y"] + 40, steps=4)
        page.mouse.up()
        assert view(page) == (50, 80)
        page.locator("#axis").select_option("")
        assert view(page) == (50, 80)


def test_the_address_keeps_the_view(opened: Opened) -> None:
    """Updates, smoothing and axis go into the address, and a page opened at it shows them."""
    with opened() as page:
        page.locator("#from").fill("58")
        page.locator("#to").fill("76")
        page.locator("#to").press("Enter")
        page.locator("#smoothing").fill("0.5")
        page.locator("#axis").select_option("seconds")
        page.wait_for_function("() => location.hash.includes('smooth=0.5') && location.hash.includes('by=')")
        address = page.url
        page.locator("[data-do=all]").click()
        page.wait_for_function("() => !location.hash.includes('updates')")
        page.evaluate("address => { location.hash = new URL(address).hash; }", address)
        page.wait_for_function("() => document.getElementById('from').value === '58'")
        assert view(page) == (58, 76)
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_selector("html[data-ready]", state="attached")
        assert view(page) == (58, 76)
        assert page.input_value("#axis") == "seconds"
        assert page.locator("#smoothed").inner_text() == "0.5"


def test_values_and_picture_can_be_saved(opened: Opened, tmp_path: Path) -> None:
    """The CSV holds every value in view bit for bit, and what is not finite as ranges; the picture is a PNG."""
    with opened() as page:
        page.locator("#from").fill("58")
        page.locator("#to").fill("76")
        page.keyboard.press("Enter")
        page.locator("#chart-0 .values summary").click()
        for kind in ("csv", "png"):
            with page.expect_download() as download:
                page.locator(f"#chart-0 [data-save={kind}]").click()
            assert download.value.suggested_filename == f"sick-value_loss.{kind}"
            download.value.save_as(tmp_path / f"saved.{kind}")
    rows = (tmp_path / "saved.csv").read_text(encoding="utf-8").splitlines()
    assert rows[:4] == [
        "rank,first_update,last_update,value",
        f"0,58,58,{value_loss(58)}",
        f"0,59,59,{value_loss(59)}",
        "0,60,69,NaN",
    ]
    assert rows[-2:] == ["0,75,75,Infinity", "0,76,76,-Infinity"]
    assert (tmp_path / "saved.png").read_bytes().startswith(b"\x89PNG")


def test_fingers_read_and_zoom_and_the_page_still_scrolls(opened: Opened) -> None:
    """One finger sideways moves the cursor, two zoom, a double tap shows all; up and down stays the page's."""
    with opened(width=390, height=780, is_mobile=True, has_touch=True) as page:
        page.evaluate(
            "document.querySelector('#chart-0 .plot').scrollIntoView({ behavior: 'instant', block: 'center' })"
        )
        over = plot_area(page)
        wire = page.context.new_cdp_session(page)

        def touch(kind: str, *lefts: float, below: float = 100) -> None:
            points = [{"x": over["x"] + left, "y": over["y"] + below, "id": at} for at, left in enumerate(lefts)]
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        def drag(*paths: tuple[float, float], down: float = 0) -> None:
            touch("touchStart", *(start for start, _ in paths))
            for step in range(1, 11):
                touch("touchMove", *(a + (b - a) * step / 10 for a, b in paths), below=100 + down * step / 10)
            touch("touchEnd")

        scrolled = page.evaluate("scrollY")
        drag((20, over["width"] * 40 / 119))
        assert page.locator("#chart-0 .readout").inner_text() == "5000.3 (update 40)"
        width = over["width"]
        drag((0.4 * width, 0.2 * width), (0.6 * width, 0.8 * width))
        first, last = view(page)
        assert (abs(first - 40) <= 2, abs(last - 79) <= 2) == (True, True)
        assert page.evaluate("scrollY") == scrolled
        for _ in range(2):
            touch("touchStart", 100)
            touch("touchEnd")
        page.wait_for_function("() => document.getElementById('from').value === '0'")
        drag((100, 100), down=-80)
        page.wait_for_function("before => scrollY > before", arg=scrolled)


def test_ranks_can_be_hidden(opened: Opened, tmp_path: Path) -> None:
    """A rank's name in the key is a switch for its lines, in every chart and in what is said."""
    for rank in range(2):
        with Recorder.open(tmp_path, run_id="two", rank=rank, world_size=2) as recorder:
            for update in range(30):
                recorder.record(update=update, policy_loss=0.1, value_loss=rank + 0.5)
    run, path = open_run(tmp_path / "two"), tmp_path / "two.html"
    path.write_text(report_html(run, run.report(None), None), encoding="utf-8")
    with opened(file=path) as page:
        assert page.locator("#chart-0 .readout").inner_text() == "update 29: rank 0: 0.5 · rank 1: 1.5"
        assert pixels(page, "chart-0", "--line-1") > 100
        page.locator(".key button").nth(1).press("Enter")
        assert page.locator(".key button").nth(1).get_attribute("aria-pressed") == "false"
        assert pixels(page, "chart-0", "--line-1") == 0
        assert pixels(page, "chart-0", "--line-0") > 100
        page.wait_for_function("() => location.hash === '#off=1'")
        page.reload()
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.locator(".key button").nth(1).get_attribute("aria-pressed") == "false"
        assert page.locator("#chart-0 .readout").inner_text() == "update 29: rank 0: 0.5"


def test_each_chart_says_its_finding_in_words(opened: Opened) -> None:
    """Where it ends, its extremes, what is not finite, its alerts: the label that a screen reader reads."""
    with opened() as page:
        said = str(page.locator("#chart-0 .plot").get_attribute("aria-label"))
        for part in (
            "Value loss, updates 0 to 119",
            "at the end 60 (update 119)",
            "lowest 0.5 at update 0",
            "highest 5000.3 at update 40",
            "Not finite: NaN at updates 60 to 69",
            "last value critical",
            "4 alerts",
        ):
            assert part in said, part
        other = page.locator(".chart", has_text="Explained variance").first.locator(".plot")
        assert "3 alerts; 3 ongoing, since update 10" in str(other.get_attribute("aria-label"))


def test_values_can_be_read_as_a_table(opened: Opened) -> None:
    """Behind each chart is a table of what is in view, with what is not finite at its place."""
    with opened() as page:
        page.locator("#from").fill("58")
        page.locator("#to").fill("76")
        page.keyboard.press("Enter")
        page.locator("#chart-0 .values summary").click()
        page.locator("#chart-0 .values tr").first.wait_for()  # it is made when the details open, after the click
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
