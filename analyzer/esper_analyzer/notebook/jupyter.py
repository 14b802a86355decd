"""A run in a Jupyter notebook: its HTML display, its alerts as a frame, a cell that follows it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup
from rich.text import Text

from esper_analyzer.drawing.metric_table import FURTHER, LOSSES
from esper_analyzer.drawing.plain_lines import plain_lines
from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import write_lines
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import level_and_rank
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.measuring.levels import LEVEL_TYPE, bands_of
from esper_analyzer.measuring.snapshot import as_number
from esper_analyzer.notebook.svg_chart import svg_chart
from esper_analyzer.reading.errors import RUN_ERRORS, describe_error
from esper_analyzer.wording import compact, count, is_advisory, level_word, rate, trend_words
from esper_schemas.cleaning import printable
from esper_schemas.errors import UsageError
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Level

ALERT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "update": pl.Int64, "metric": pl.String, "level": LEVEL_TYPE, "value": pl.Float64, "message": pl.String,
    "since": pl.Int64, "until": pl.Int64, "rule": pl.String, "count": pl.Int64, "first": pl.Int64, "last": pl.Int64,
    "worst": pl.Float64, "worst_update": pl.Int64, "lasts": pl.Boolean, "in_force": LEVEL_TYPE, "rank": pl.Int64,
}  # fmt: skip
"""Columns of the frame of alerts; `Alert` documents them."""

_WATCHED = "Watching until the run ends; interrupt the cell to stop."
_LEFT_ALONE = "No longer watching; the run goes on."

_CHARTED = "value_loss"
_JUDGING = "The run is still being judged."


# ---------------------------------------------------------------------- the display


def run_html(run: JudgedRun) -> str:
    """Return the run as HTML for a notebook: verdict, status, updates, chart of the value loss, table of metrics.

    The verdict is on all ranks; the numbers are those of the first. It uses the text and background colours of the
    page.
    """
    try:
        feed = RanksFeed(run, charted=(_CHARTED,))
        try:
            return picture_html(feed, feed.finish())
        finally:
            feed.close()
    except RUN_ERRORS as error:
        cause = printable(describe_error(error))
        return str(Markup("<div><strong>{}</strong><div>{}</div></div>").format(printable(str(run.path)), cause))


def picture_html(feed: LiveFeed, picture: Picture, note: str = "") -> str:
    """Return a picture of a followed run as HTML, with a note as the last line."""
    run, verdict = feed.run, picture.verdict
    level: Level = "unknown" if verdict is None else verdict.level
    reasons = [_JUDGING] if verdict is None else verdict.reasons
    since = None if verdict is None else verdict.since
    course = picture.history.of(_CHARTED)
    chart = svg_chart(course, bands_of(_CHARTED, picture.thresholds)) if picture.rows else Markup()
    # The ignore classes stop notebooks from rendering dollars in names as formulas.
    return str(
        Markup(
            '<div class="esper-run tex2jax_ignore mathjax_ignore" style="border-left:4px solid {};padding-left:12px">'
            "<div><strong>{} {}</strong>{} · {} · {}</div>"
            '<div style="opacity:.8">{}</div><ul style="margin:6px 0">{}</ul>{}{}{}{}</div>'
        ).format(
            PALETTE[level].color,
            PALETTE[level].mark,
            level,
            "" if since is None else f" since update {since}",
            printable(run.header.run_id),
            picture.described_ending(is_imported=run.is_imported),
            _facts(run, feed.rank, picture),
            Markup().join(Markup("<li>{}</li>").format(printable(reason)) for reason in reasons),
            Markup() if verdict is None else _questions(verdict),
            chart,
            _table(picture),
            Markup('<div style="opacity:.8">{}</div>').format(note) if note else "",
        )
    )


def _questions(verdict: Verdict) -> Markup:
    """Return the level of each question of the verdict on one line; a tooltip has its answer."""
    answers = Markup(" · ").join(
        Markup('<span title="{}">{} <span style="color:{}">{} {}</span></span>').format(
            printable(one.reason), name, PALETTE[one.level].color, PALETTE[one.level].mark, one.level
        )
        for name, one in verdict.questions.items()
    )
    return Markup('<div style="margin:6px 0">{}</div>').format(answers)


def _facts(run: JudgedRun, rank: int, picture: Picture) -> str:
    header, rows = run.header, picture.rows
    ranks, attempts = run.ranks(), run.attempt_count(rank)
    made_by = " on ".join(printable(part) for part in (header.trainer, header.env) if part)
    parts = [made_by, printable(header.device or "")]
    parts += [f"rank {rank} of {len(ranks)}"] if len(ranks) > 1 else []
    parts += [f"{attempts} attempts"] if attempts > 1 else []
    newest = f", the newest is {picture.last_update}" if rows else ""
    parts.append(f"{count(rows)} update{'s' * (rows != 1)}{newest}")
    speed = picture.updates_per_sec
    parts += [f"{rate(speed)} updates per second"] if speed is not None else []
    return " · ".join(part for part in parts if part)


def _table(picture: Picture) -> Markup:
    """Return the table of the measured losses and other leading metrics: last value, last ten, trend, level."""
    rows = []
    for name, title in (LOSSES | FURTHER).items():
        state = picture.state(name)
        if not state.history:
            continue
        words = trend_words(name, state.trend)
        trend = words.full + (f", {words.sure} sure" if words.sure else "")
        judged = "" if state.level == "unknown" else f"{PALETTE[state.level].mark} {state.level}"
        if is_advisory(name, state.level):
            judged = f"{level_word(name, state.level)}, which does not affect the verdict"
        history = sparkline(map(as_number, state.history))
        cells = (title, compact(state.last), history, trend, judged)
        rows.append(Markup("<tr>{}</tr>").format(Markup().join(map(Markup("<td>{}</td>").format, cells))))
    if not rows:
        return Markup()
    heads = Markup().join(map(Markup("<th>{}</th>").format, ("", "last", "last 10", "trend", "level")))
    return Markup('<table style="color:inherit"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
        heads, Markup().join(rows)
    )


# ---------------------------------------------------------------------- frames


def alert_frame(alerts: Sequence[Alert]) -> pl.DataFrame:
    """Return one row for each alert. The columns are those of `ALERT_SCHEMA`, even without alerts."""
    rows = [[getattr(alert, name) for name in ALERT_SCHEMA] for alert in alerts]
    return pl.DataFrame(rows, schema=ALERT_SCHEMA, orient="row")


# ---------------------------------------------------------------------- following


Show = Callable[[LiveFeed, Picture, pl.DataFrame, str], None]
"""Shows a picture of a followed run and its new rows, with a note as the last line."""


def watch_run(run: JudgedRun, *, interval: float, updates: int | None, rank: int | None) -> None:
    """Follow a run in the output of a cell; see `Run.watch`."""
    if not 0.0 < interval < math.inf:
        raise UsageError(f"interval must be a positive number of seconds, found {interval!r}")
    if updates is not None and updates < 1:
        raise UsageError(f"updates must be at least 1, found {updates!r}")
    run.selected_ranks(rank)  # raises if there is no such rank
    show = _Cell() if _is_in_notebook() else _print_lines
    feed = RanksFeed(run, charted=(_CHARTED,)) if rank is None else LiveFeed(run, rank, charted=(_CHARTED,))
    try:
        _watch(feed, show, interval, updates)
    finally:
        feed.close()


def _watch(feed: LiveFeed, show: Show, interval: float, updates: int | None) -> None:
    """Show the run now and after each change, until it ends, has `updates` new rows, or the user interrupts."""
    picture = feed.picture()
    seen, rows, drawn = 0, pl.DataFrame(), ""  # rows from before do not count as new
    try:
        while True:
            has_ended = feed.has_ended
            is_last = has_ended or (updates is not None and seen >= updates)
            if is_last:
                feed.check()
            picture = feed.finish()
            if is_last or rows.height or picture.status != drawn:
                show(feed, picture, rows, "" if has_ended else _LEFT_ALONE if is_last else _WATCHED)
                drawn = picture.status
            if is_last:
                return
            time.sleep(interval)
            feed.look()
            rows = feed.new_rows
            seen += rows.height
    except KeyboardInterrupt:
        show(feed, picture, pl.DataFrame(), _LEFT_ALONE)


def _is_in_notebook() -> bool:
    """Whether a notebook kernel runs this; its front end can redraw a display, a terminal (also of IPython) cannot."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class _Cell:
    """The output of a cell, redrawn in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, feed: LiveFeed, picture: Picture, rows: pl.DataFrame, note: str) -> None:
        from IPython.display import display

        data = {"text/html": picture_html(feed, picture, note), "text/plain": _state(feed, picture)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True)


def _print_lines(feed: LiveFeed, picture: Picture, rows: pl.DataFrame, note: str) -> None:
    """Print a line for each new update, and one on the whole run at the start, at the end and on a change of status."""
    lines = plain_lines(rows.lazy(), picture.thresholds) if rows.height else []
    if not rows.height or note != _WATCHED:
        lines.append(_state(feed, picture))
    write_lines(map(Text, lines))


def _state(feed: LiveFeed, picture: Picture) -> str:
    """Return the state of the whole run in one line."""
    rows = picture.rows
    verdict = "unknown" if picture.verdict is None else level_and_rank(picture.verdict)
    updates = f"{count(rows)} update{'s' * (rows != 1)}"
    ending = picture.described_ending(is_imported=feed.run.is_imported)
    return f"{printable(feed.run.header.run_id)}: {ending}, {updates}, verdict {verdict}"
