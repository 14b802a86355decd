from __future__ import annotations

import math
import random

import polars as pl

from esper_analyzer.drawing.braille import small_chart
from esper_analyzer.drawing.chart import SCALINGS
from esper_analyzer.drawing.panels import alert_lines, gauges, verdict
from esper_analyzer.drawing.plot import MARGIN, draw_plot
from esper_analyzer.drawing.window import Window
from esper_analyzer.judging.rules.rule import Question
from esper_analyzer.judging.verdict import Answer, Reason, Verdict
from esper_analyzer.live.picture import Event, Picture
from esper_analyzer.measuring.history import MAX_BUCKETS, History, history_of
from esper_analyzer.measuring.levels import bands_of
from esper_schemas.metric.metrics import Level


def test_a_history_does_not_depend_on_how_often_rows_came() -> None:
    """Added row by row or at once, many metrics together or one alone, the buckets are the same."""
    values = [math.sin(i) if i % 97 else math.nan for i in range(5000)]
    rows = pl.DataFrame({"update": range(5000), "value_loss": values, "policy_loss": values[::-1]})
    names = ("value_loss", "policy_loss")
    slowly = History.empty(names)
    for start in range(0, 5000, 7):
        slowly = slowly.with_rows(rows[start : start + 7])
    at_once = history_of(rows.lazy(), names)
    alone = history_of(rows.lazy(), ("value_loss",))
    assert at_once.frame.height <= MAX_BUCKETS
    assert slowly.width == at_once.width
    assert slowly.frame.equals(at_once.frame)
    assert at_once.of("value_loss").frame.equals(alone.of("value_loss").frame)
    assert at_once.rows == 5000


def test_a_window_stays_within_the_run() -> None:
    """Whatever keys are pressed, the chart shows updates that exist, and the cursor among them."""
    rng = random.Random(1)
    window, first, last = Window(), 5, 300
    for _ in range(2000):
        last += rng.randrange(3)
        choices = [
            window.zoom(first, last, closer=rng.random() < 0.6),
            window.pan(first, last, rng.uniform(-2, 2)),
            window.move(first, last, rng.randrange(-50, 50)),
            window.at(first, last, rng.randrange(-10, 400)),
        ]
        window = rng.choice(choices)
        low, high = window.limits(first, last)
        assert first <= low <= high <= last
        assert window.cursor is None or first <= window.cursor <= last


def test_zooming_and_moving_keep_what_one_looks_at() -> None:
    """The end is followed, the cursor keeps its place, what is jumped to is in the middle, and no key is swallowed."""
    run = (0, 999)
    half = Window().zoom(*run, closer=True)
    assert half.limits(*run) == (500, 999)
    assert half.limits(0, 1099) == (600, 1099)
    quarter = half.zoom(*run, closer=True)
    assert quarter.zoom(*run, closer=False) == half
    assert half.zoom(*run, closer=False) == Window()
    assert Window(400, 599, cursor=300).zoom(*run, closer=True).limits(*run) == (251, 450)
    assert Window(100, 800, cursor=5).zoom(*run, closer=True).limits(*run) == (751, 800)
    assert Window(100, 150).pan(*run, -5.0).pan(*run, 0.5).limits(*run) == (50, 149)
    assert Window(100, 150).pan(*run, 20.0).limits(0, 1099) == (1000, 1099)
    shown = {350: (350, 449), 401: (401, 500), 550: (451, 550), 50: (1, 100), 900: (851, 950), 1: (0, 99)}
    for update, limits in shown.items():
        window = Window(100, 500).at(*run, update)
        assert (window.cursor, window.limits(*run)) == (update, limits)
    assert Window().move(*run, -3).cursor == 999
    assert Window().move(*run, 3).cursor == 0
    assert Window(cursor=7).move(*run, -3).cursor == 4


def test_columns_of_the_chart_are_updates_and_the_worst_mark_wins() -> None:
    """From the first to the last update each has its column, and back; an alert hides a new attempt beside it."""
    rows = pl.DataFrame({"update": range(100, 500), "value_loss": [float(i % 9) for i in range(400)]})
    course = history_of(rows.lazy(), ("value_loss",)).of("value_loss")
    events = [
        Event(499, "critical", "value_loss", ""),
        Event(499, "unknown", "attempt", ""),
        Event(100, "unknown", "attempt", ""),
    ]
    plot = draw_plot(course, None, width=100, height=20, events=events, cursor=499)
    assert (plot.first, plot.last, plot.column_of(99), plot.column_of(500)) == (100, 499, None, None)
    assert (plot.column_of(100), plot.column_of(499)) == (MARGIN, MARGIN + plot.columns - 1)
    assert (plot.update_at(MARGIN), plot.update_at(MARGIN + plot.columns - 1)) == (100, 499)
    assert (plot.update_at(MARGIN - 1), plot.update_at(MARGIN + plot.columns)) == (None, None)
    for cell in range(MARGIN, MARGIN + plot.columns):
        update = plot.update_at(cell)
        assert update is not None
        assert plot.column_of(update) == cell
    axis = plot.text.plain.split("\n")[-2]
    assert (axis[MARGIN], axis[MARGIN + plot.columns - 1]) == ("◆", "▲")


def test_a_logarithmic_chart_of_what_has_no_logarithm() -> None:
    """Zeros and negative values stand at the bottom of a logarithmic scale; labels are of the positive values."""
    rows = pl.DataFrame({"update": range(40), "value_loss": [0.0, -5.0, 0.01, 10.0] * 10})
    course = history_of(rows.lazy(), ("value_loss",)).of("value_loss")
    lines = draw_plot(course, bands_of("value_loss"), width=100, height=20, scaling="log").text.plain.split("\n")
    labels = [line[: MARGIN - 1].strip() for line in lines if line[MARGIN - 1 : MARGIN] in ("┤", "┼")]
    assert {"10", "0.01"} <= set(labels)
    assert not any(label.startswith("-") for label in labels)


def test_a_small_chart_loses_no_spike_and_no_nan() -> None:
    """A NaN among many updates of one cell is a mark at the top, a spike reaches the top, few fill the width."""

    def chart(values: list[float], width: int, height: int, *, unicode: bool = True) -> list[str]:
        rows = pl.DataFrame({"update": range(len(values)), "value_loss": values})
        course = history_of(rows.lazy(), ("value_loss",)).of("value_loss")
        return small_chart(course, width, height, unicode=unicode)

    values = [1.0] * 800
    values[401], values[600] = math.nan, 5.0
    lines = chart(values, 20, 2)
    assert [cell for cell, shown in enumerate(lines[0]) if shown != " "] == [10, 15]
    assert lines[0][10] == "!"
    assert " " not in lines[1][:10] + lines[1][11:]
    in_ascii = chart(values, 20, 2, unicode=False)[1]
    assert [cell for cell, shown in enumerate(in_ascii) if shown != in_ascii[0]] == [10, 15]
    assert in_ascii[10] == "!"
    assert chart([2.0] * 4, 20, 1) == chart([2.0] * 40, 20, 1)
    for unicode in (True, False):
        few = chart([1.0, 4.0, math.nan, 4.0, 1.0], 21, 2, unicode=unicode)
        assert "".join(few).count("!") == 1
        assert all(up.strip() + down.strip() for up, down in zip(few[0][:6], few[1][:6], strict=True))
        assert few[1][0] != " " != few[1][-1]
    assert chart([7.0], 20, 1)[0].strip()


def test_what_is_missing_is_not_drawn_over() -> None:
    """No line crosses two hundred missing updates, which are named; one of a metric measured now and then is whole."""

    def columns(updates: list[int], *, gaps: tuple[tuple[int, int], ...] = ()) -> tuple[list[bool], str]:
        """Whether there is a dot in each column, and all the text."""
        rows = pl.DataFrame({"update": updates, "value_loss": [2.0 + 0.001 * update for update in updates]})
        course = history_of(rows.lazy(), ("value_loss",)).of("value_loss")
        text = draw_plot(course, None, width=88, height=12, gaps=gaps).text.plain
        inside = [line.ljust(88)[MARGIN:] for line in text.split("\n")[:-2]]
        return [any("\u2800" < line[column] <= "\u28ff" for line in inside) for column in range(80)], text

    with_gap = [*range(100), *range(300, 400)]
    drawn, text = columns(with_gap, gaps=((100, 299),))
    assert all(drawn[:20] + drawn[61:])
    assert not any(drawn[22:59])
    assert " missing " in text
    assert "missing" not in columns(with_gap)[1]
    assert all(columns(list(range(0, 400, 40)))[0][:-1])


def test_a_label_stands_beside_its_own_threshold() -> None:
    """However low the chart is, the number at a dotted line is that of the threshold."""
    rows = pl.DataFrame({"update": range(200), "value_loss": [28.0 * 0.97**update for update in range(200)]})
    course = history_of(rows.lazy(), ("value_loss",)).of("value_loss")
    for height in range(6, 30):
        lines = draw_plot(course, bands_of("value_loss"), width=100, height=height).text.plain.split("\n")
        labels = {line[: MARGIN - 1].strip() for line in lines if "┈┈┈" in line}
        assert "5" in labels
        assert labels <= {"", "5", "20"}


def test_a_value_beyond_its_gauge_is_an_arrow_at_that_end() -> None:
    """Explained variance of −1.48 and a clip fraction of 0.9 point out of their bars; others fill their share."""

    def bars(explained: float, clipped: float) -> list[str]:
        row = {"update": [0], "explained_variance": [explained], "clip_fraction": [clipped]}
        lines = gauges(Picture("live", rows=1, recent=pl.DataFrame(row)), 60, columns=1)
        return [lines[index].plain.split()[-1] for index in (0, 2)]

    below, above = bars(-1.48, 0.9)
    assert (below[0], above[-1]) == ("◄", "►")
    assert "█" not in below
    inside = "".join(bars(0.0, 0.25))
    assert "◄" not in inside
    assert "►" not in inside
    assert all(abs(2 * bar.count("█") - len(bar)) <= 1 for bar in bars(0.0, 0.25))


def test_the_list_of_alerts_says_how_many_it_leaves_out() -> None:
    """Of twelve events, six lines show the first five, or those about the selected one."""
    events = [Event(update, "warning", "update", f"number {update}") for update in range(12)]
    lines = [line.plain for line in alert_lines(events, None, 60, 6)]
    assert lines[-1] == " … 7 more"
    assert [line.split()[-1] for line in lines[:-1]] == ["0", "1", "2", "3", "4"]
    for selected in range(12):
        lines = [line.plain for line in alert_lines(events, selected, 60, 6)]
        assert len(lines) == 6
        assert sum(line.startswith("▶") for line in lines) == 1
    assert not any("more" in line.plain for line in alert_lines(events[:6], None, 60, 6))


def test_what_the_verdict_leaves_out_is_counted() -> None:
    """Reasons fill the lines there are; the last one ends in how many more there are, and the key that shows them."""
    reasons = ["The first reason is rather long, and takes two lines of this width.", "Second.", "Third.", "Fourth."]
    findings = [Reason("critical", "value_loss", "value_loss", None, 0, reason) for reason in reasons]
    answers: dict[Question, Level] = {"mechanics": "warning", "critic": "critical", "learning": "unknown"}
    questions = {question: Answer(level, None, "") for question, level in answers.items()}
    picture = Picture("live", rows=1, verdict=Verdict("critical", findings, questions))
    assert [line.plain for line in verdict(picture, 60, 9)] == [
        " Verdict  critical  mechanics !  critic ✗  learning ?",
        "   The first reason is rather long, and takes two lines of",
        "   this width.",
        "   Second.",
        "   Third.",
        "   Fourth.",
    ]
    assert verdict(picture, 60, 4)[3].plain == "   Second. … 2 more: v"
    lines = [line.plain for line in verdict(picture, 60, 2)]
    assert lines[0].startswith(" Verdict  critical  The first reason")
    assert lines[1].endswith("… 3 more: v")
    assert verdict(picture, 60, 1)[0].plain.endswith("… 3 more: v")
    for width in range(60, 120):
        assert all(line.cell_len < width for line in verdict(picture, width, 3))


def test_no_value_is_too_large_or_too_small_to_be_drawn() -> None:
    """The largest and the smallest numbers there are make a chart of the asked height, on every scale."""
    for values in ([0.0, 1.797e308] * 20, [5e-324] * 40, [-1.797e308, 1.797e308] * 20, [5e-324, 1.797e308] * 20):
        rows = pl.DataFrame({"update": range(40), "value_loss": values})
        course = history_of(rows.lazy(), ("value_loss",)).of("value_loss")
        for scaling in SCALINGS:
            text = draw_plot(course, bands_of("value_loss"), width=80, height=12, scaling=scaling).text.plain
            assert len(text.split("\n")) == 12
