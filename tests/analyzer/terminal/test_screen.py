from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pexpect
import polars as pl
import pyte
import pytest
from rich.cells import cell_len
from tests.analyzer.app_driver import show
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.drawing.chart import draw_chart
from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import Style
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.history import MAX_BUCKETS, history_of
from esper_analyzer.terminal.frame import draw_frame
from esper_analyzer.terminal.layout import HEADING_HEIGHT, Layout
from esper_analyzer.wording import compact, number, percentage
from esper_recorder import Recorder, ValueLossDefinition
from esper_schemas import METRICS
from esper_schemas.cleaning import printable

BANDS = METRICS["value_loss"].bands
PLAIN, COLOR, ASCII = (
    Style(color=False, unicode=True),
    Style(color=True, unicode=True),
    Style(color=False, unicode=False),
)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
NAN, INF = math.nan, math.inf


def buckets(values: Sequence[float | None], first: int = 0) -> Buckets:
    """The values at updates `first`, `first` + 1, …"""
    rows = pl.LazyFrame(
        {"update": range(first, first + len(values)), "value_loss": values},
        schema={"update": pl.Int64, "value_loss": pl.Float64},
    )
    return history_of(rows, ("value_loss",)).of("value_loss")


def picture_of(run: JudgedRun) -> Picture:
    """The run as it is now, all of it judged."""
    feed = LiveFeed(run, 0)
    try:
        return feed.finish()
    finally:
        feed.close()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([1.0], "▄"),
        ([2.0, 2.0, 2.0], "▄▄▄"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([0.0, NAN, 1.0], "▁!█"),
        ([NAN, INF, -INF], "!!!"),
        ([0.0, None, 1.0], "▁ █"),
        ([-1.7e308, 0.0, 1.7e308], "▁▅█"),
        ([5e-324, 0.0], "█▁"),
    ],
)
def test_a_sparkline_survives_any_values(values: list[float | None], expected: str) -> None:
    """One character for each value; NaN and infinities are marked, nulls blank, constants half-way."""
    assert sparkline(values) == expected


CURVES: dict[str, list[float | None]] = {
    "nothing": [],
    "one": [1.0],
    "constant": [0.5] * 30,
    "falling": [30 * math.exp(-i / 20) + 0.001 for i in range(200)],
    "nan only": [NAN, NAN],
    "not finite": [1.0, NAN, 2.0, INF, 3.0, -INF],
    "negative": [-1.0, 1.0, -3.0],
    "huge": [1.7e308, -1.7e308, 0.0],
    "tiny": [5e-324, 0.0, 1e-300],
    "wide": [1e-300, 1e300],
    "nulls": [None, 1.0, None, 2.0],
}


def test_a_chart_has_no_background_of_its_own() -> None:
    """No cell sets a background colour, so that the chart looks right on dark and on light terminals."""
    chart = "".join(draw_chart(buckets(CURVES["falling"]), BANDS, width=80, height=20, style=COLOR))
    assert "\x1b[38;5;" in chart
    assert "\x1b[48;" not in chart


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("width", "height"), [(60, 6), (60, 20), (110, 24), (20, 4)])
@pytest.mark.parametrize("style", [PLAIN, COLOR, ASCII])
def test_a_chart_has_the_size_asked_for(curve: str, width: int, height: int, style: Style) -> None:
    """Whatever the values, the chart fills its cells exactly, and shows no more than its style can."""
    lines = draw_chart(buckets(CURVES[curve]), BANDS, width=width, height=height, style=style)
    assert len(lines) == height
    assert {cell_len(ESCAPE.sub("", line)) for line in lines} == {width}
    text = "".join(lines)
    assert ("\x1b" in text) == style.color
    assert style.unicode or text.isascii()


def test_thresholds_are_labelled_where_they_are_in_view() -> None:
    """5 and 20 have their line and label when the values reach them, 0.001 when they come down to it."""

    def labels(values: list[float]) -> set[str]:
        lines = draw_chart(buckets(values), BANDS, width=80, height=24, style=PLAIN)
        return {match[1] for line in lines if "┈" in line and (match := re.match(r" *(\S+)[┤┼]", line))}

    assert labels([1.0, 30.0, 3.0]) == {"5", "20"}
    assert labels([10.0 ** (1 - i / 20) for i in range(100)]) == {"5", "20", "0.001"}
    assert labels([0.1, 0.2, 0.3]) == set()


def test_one_spike_and_one_nan_in_a_million_updates_are_seen() -> None:
    """The extremes of each bucket are kept, and a value that is not finite is marked at its place."""
    values: list[float | None] = [1.0] * 1_000_000
    values[700_000], values[250_000] = 19.0, NAN
    found = buckets(values)
    assert found.frame.height <= MAX_BUCKETS
    lines = draw_chart(found, BANDS, width=100, height=20, style=PLAIN)
    spike = [line[60:75] for line in lines[:6]]
    assert any(re.search("[\u2801-\u28ff]", part) for part in spike)
    assert [match.start() for line in lines for match in re.finditer("!", line)] == [pytest.approx(8 + 92 / 4, abs=2)]


def test_numbers_are_short_and_foreign_text_is_harmless() -> None:
    """Three decimals where they say something; control characters never reach the terminal."""
    assert [number(value) for value in (0.0, 0.0004, -0.0123, 5.0, 2e7, NAN, -INF, None, True, 1234567)] == [
        "0.000", "4.00e-4", "-0.012", "5.000", "2.00e7", "NaN", "-∞", "—", "yes", "1 234 567",
    ]  # fmt: skip
    extremes = (1.7e308, -1.7e308, -5e-324, -99999.9, -0.001234, 123456789, -(2**63), NAN, None, 99999.99)
    assert max(len(compact(value)) for value in extremes) <= 8
    assert [percentage(value) for value in (0.25, -0.1, 12.0, INF, None)] == ["+25%", "-10%", "+12×", "+∞%", "—"]
    assert printable("a\x1b[31mb\n\u202e") == "a\\x1b[31mb\\n\\u202e"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 12), (60, 16), (60, 20), (80, 24), (100, 30), (160, 50), (200, 60)])
@pytest.mark.parametrize("rows", [0, 1, 40])
@pytest.mark.parametrize("style", [PLAIN, ASCII])
def test_a_frame_fits_its_terminal(record: Callable[..., Path], size: tuple[int, int], rows: int, style: Style) -> None:
    """Exactly as many lines as asked for, none too wide; the losses and the verdict are always on it."""
    run = open_run(record([{"update": i, "value_loss": 3.0 / (i + 1)} for i in range(rows)], env="X" * 90))
    picture = picture_of(run)
    width, height = size
    lines = draw_frame(run, 0, picture, width=width, height=height, style=style)
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert all(title in text for title in ("V.Loss", "P.Loss", "Lv/Lp", "finished"))
    assert ("Verdict" in text) == (rows > 0)
    assert style.unicode or text.isascii()
    assert "?" not in re.sub(r"(mechanics|critic|learning) \?", "", text)  # no character that ASCII has nothing for


@pytest.mark.slow
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (100, 30), (120, 40), (150, 40), (200, 60)])
@pytest.mark.parametrize("is_calm", [False, True])
def test_a_frame_says_what_the_application_says(
    demo: Path, record: Callable[..., Path], size: tuple[int, int], is_calm: bool
) -> None:
    """Heading, verdict, losses, gauges, alerts and small charts of `tail --once` are those of the screen."""
    width, height = size
    calm = [{"update": n, "explained_variance": 0.9, "episode_return_mean": float(n)} for n in range(40)]
    path = record(calm, value_loss_definition=ValueLossDefinition(clipping="none")) if is_calm else demo
    run = open_run(path)
    shown = show(path, None, size)
    printed = draw_frame(run, 0, picture_of(run), width=width, height=height, style=PLAIN)
    layout = Layout.of(width, height, is_calm=is_calm, has_return=True)
    top = HEADING_HEIGHT + layout.verdict
    assert printed[:top] == [re.sub("( … [0-9]+ more|…):? v$", r"\1", line) for line in shown[:top]]  # no key to press
    assert any("Verdict" in line for line in printed[:top])
    bottom = layout.below + layout.small
    assert printed[-bottom:] == shown[-bottom - 1 : -1]  # below it the application has its line of keys
    assert any("V.Loss" in line for line in printed[-bottom:])
    assert printed[top][: width - layout.side].rstrip() == shown[top][: width - layout.side].rstrip()


class Terminal:
    """A real terminal of a given size with `esper-analyze` in it."""

    def __init__(self, arguments: Sequence[str], columns: int, rows: int, **environment: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "esper_analyzer", *arguments],
            dimensions=(rows, columns),
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment},
            timeout=HANG_SECS,
        )

    def see(self, pattern: str) -> str:
        """Wait until the pattern is on the screen; returns the screen's text."""
        end = time.monotonic() + HANG_SECS
        while time.monotonic() < end:
            try:
                self._feed(self.child.read_nonblocking(65536, 0.05))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                end = 0.0
            text = "\n".join(self.screen.display)
            if re.search(pattern, text):
                return text
        raise AssertionError(f"{pattern!r} is not on the screen:\n" + "\n".join(self.screen.display))

    def hides_cursor(self) -> bool:
        """Whether the program has switched the cursor off."""
        return bool(self.screen.cursor.hidden)

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        try:
            while True:
                self._feed(self.child.read_nonblocking(65536, HANG_SECS))
        except pexpect.EOF:
            self.child.close()
        return int(self.child.exitstatus)

    def _feed(self, data: bytes) -> None:
        self.raw += data
        self._stream.feed(data)


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (60, 20)])
def test_tail_on_a_terminal(tmp_path: Path, columns: int, rows: int) -> None:
    """A live run is drawn and redrawn, Ctrl-C gives the terminal back with exit code 130."""
    root = str(tmp_path)
    with Recorder.open(root, run_id="mine", env="CartPole-v1") as recorder:
        terminal = Terminal(["tail", "--root", root, "--interval", "0.05"], columns, rows)
        terminal.see("no updates yet")
        for update in range(30):
            recorder.record(update=update, policy_loss=-0.01, value_loss=8.0 / (update + 1))
        text = terminal.see(r"V\.Loss +0\.267  [▁-█]{10}  → -18% steady(.|\n)*\? help")
        assert "update 29" in text
        assert re.search(r"mine +● live", text)
        terminal.see("┈")
        assert terminal.hides_cursor()
        terminal.child.setwinsize(24, 80)
        terminal.screen.resize(24, 80)
        recorder.record(update=30, policy_loss=-0.01, value_loss=NAN)
        terminal.see(r"update 30(.|\n)*Verdict +critical(.|\n)*V\.Loss +NaN")
        terminal.child.sendintr()
        assert terminal.end() == 130
        assert not terminal.hides_cursor()
        assert b"\x1b[?1049l" in terminal.raw


def test_tail_leaves_the_last_frame(tmp_path: Path) -> None:
    """The end of a run is shown; when the user leaves the other screen, the final state stays in the terminal."""
    with Recorder.open(tmp_path, run_id="mine") as recorder:
        recorder.record(update=0, policy_loss=-0.01, value_loss=1.0)
        terminal = Terminal(["tail", "--root", str(tmp_path), "--interval", "0.05"], 80, 24)
        terminal.see("● live")
    terminal.see("● finished")
    terminal.child.send("q")
    assert terminal.end() == 0
    assert terminal.raw.rindex(b"finished") > terminal.raw.rindex(b"\x1b[?1049l")


@pytest.mark.slow
def test_replay_shows_a_run_from_its_beginning(record: Callable[..., Path], tmp_path: Path) -> None:
    """Rows appear in the rhythm of the recording; SIGTERM gives the terminal back as well, with 143."""
    start = 1_700_000_000_000_000
    record([{"update": i, "wall_time": start + i * 1_000_000, "elapsed_secs": float(i)} for i in range(1000)])
    terminal = Terminal(["replay", "--root", str(tmp_path / "runs"), "--speed", "50"], 80, 24)
    terminal.see("update [1-9]")
    terminal.see("50× recorded")
    terminal.child.kill(15)
    assert terminal.end() == 143
    assert not terminal.hides_cursor()
    fast = Terminal(["replay", "--root", str(tmp_path / "runs"), "--speed", "0"], 80, 24)
    fast.see("update 999")
    fast.child.send("q")
    assert fast.end() == 0


def test_no_color_is_honoured_on_a_terminal(record: Callable[..., Path], tmp_path: Path) -> None:
    """With NO_COLOR a report has no escape codes even on a terminal; without it, it is coloured."""
    record([{"update": i} for i in range(12)])
    for environment, colored in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        terminal = Terminal(["report", "--root", str(tmp_path / "runs")], 80, 60, **environment)
        assert terminal.end() == 0
        assert (b"\x1b[" in terminal.raw) == colored
