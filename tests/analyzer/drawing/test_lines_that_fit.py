from __future__ import annotations

import re

import polars as pl
import pytest

from esper_analyzer.drawing.chart import draw_chart
from esper_analyzer.drawing.panels import alert_lines
from esper_analyzer.drawing.style import Style
from esper_analyzer.live.picture import Event
from esper_analyzer.measuring.history import history_of
from esper_analyzer.terminal.keys import HINTS, key_line


@pytest.mark.parametrize("height", [8, 12, 24])
def test_a_low_chart_has_several_labels(height: int) -> None:
    """A return from −500 to −69 has at least two labels within its values, however low the chart."""
    values = [-500.0 + 431.0 * n / 99 for n in range(100)]
    rows = pl.LazyFrame({"update": range(100), "episode_return_mean": values})
    course = history_of(rows, ("episode_return_mean",)).of("episode_return_mean")
    lines = draw_chart(course, None, width=60, height=height, style=Style(color=False, unicode=True))
    labels = [float(match[1]) for line in lines if (match := re.match(r" *(-?\d+)┤", line))]
    assert sum(-500 <= label <= -69 for label in labels) >= 2


def test_a_long_alert_wraps_where_there_is_room() -> None:
    """Its whole text is in the list over several lines; without room for them it is cut to one."""
    event = Event(17, "warning", "kl_divergence", "word " * 20 + "end")
    wrapped = [line.plain for line in alert_lines([event], None, 40, 8)]
    assert " ".join(" ".join(wrapped).split()) == "17 ▲ " + event.message
    assert max(map(len, wrapped)) < 40
    (cut,) = alert_lines([event], None, 40, 1)
    assert cut.plain.endswith("…")


@pytest.mark.parametrize("width", [20, 59, 79, 99, 199])
def test_the_line_of_keys_has_whole_hints(width: int) -> None:
    """Every hint is whole or left out, the most important first."""
    hints = re.split(r"  +", key_line(HINTS, width).strip())
    assert set(hints) <= set(HINTS)
    assert hints[:2] == ["? help", "q quit"]
    assert len(key_line(HINTS, width)) <= width
