from __future__ import annotations

import math
import random

import polars as pl

from esper_analyzer.app.braille import small_chart
from esper_analyzer.app.history import History, history_of
from esper_analyzer.app.picture import Event
from esper_analyzer.app.plot import MARGIN, draw_plot
from esper_analyzer.app.window import Window
from esper_analyzer.buckets import MAX_BUCKETS, Buckets
from esper_analyzer.health import bands_of


def test_a_history_does_not_depend_on_how_often_rows_came() -> None:
    """Added row by row or at once, many metrics together or one alone, the buckets are the same."""
    values = [math.sin(i) if i % 97 else math.nan for i in range(5000)]
    rows = pl.DataFrame({"update": range(5000), "value_loss": values, "policy_loss": values[::-1]})
    names = ("value_loss", "policy_loss")
    slowly = History.empty(names)
    for start in range(0, 5000, 7):
        slowly = slowly.with_rows(rows[start : start + 7])
    at_once = history_of(rows.lazy(), names)
    alone = Buckets()
    alone.add(rows.lazy(), "value_loss")
    assert at_once.frame.height <= MAX_BUCKETS
    assert slowly.width == at_once.width
    assert slowly.frame.equals(at_once.frame)
    assert (
        at_once.of("value_loss")
        .frame.select("min", "max", "nonfinite")
        .equals(alone.frame.select("min", "max", "nonfinite"))
    )
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
    events = [Event(499, "critical", "value_loss"), Event(499, "unknown", "attempt"), Event(100, "unknown", "attempt")]
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
    """A NaN among many updates of one cell is a mark at the top, a spike reaches the top, few stand left."""

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
    assert chart([2.0] * 4, 20, 1)[0] == chart([2.0] * 40, 20, 1)[0][:2] + " " * 18
