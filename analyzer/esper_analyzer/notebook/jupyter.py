"""A run in a notebook: how it shows itself, plots of its metrics, a display that follows it while it goes on."""

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
from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import trend_mark, write_lines
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.follow import LiveRun
from esper_analyzer.live.view import CHART_METRIC, View
from esper_analyzer.measuring.levels import LEVEL_TYPE, bands_of, level, loss_ratio
from esper_analyzer.measuring.snapshot import as_number
from esper_analyzer.notebook.svg_chart import svg_chart
from esper_analyzer.reading.errors import RUN_ERRORS, describe_error
from esper_analyzer.reading.run_reader import GOING_ON, Status
from esper_analyzer.terminal.screen import plain_line
from esper_analyzer.wording import compact, count, rate
from esper_schemas.cleaning import printable
from esper_schemas.errors import UsageError
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.levels import PALETTE

ALERT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "update": pl.Int64, "metric": pl.String, "level": LEVEL_TYPE, "value": pl.Float64, "message": pl.String,
    "since": pl.Int64, "until": pl.Int64, "rule": pl.String, "rank": pl.Int64,
}  # fmt: skip
"""Columns of the frame of alerts; `Alert` says what each is."""

_WATCHED = "Watched until the run ends; interrupt the cell to stop."
_LEFT_ALONE = "No longer watched; the run goes on."


# ---------------------------------------------------------------------- the display


def run_html(run: JudgedRun) -> str:
    """The run as HTML for a notebook: verdict, status, updates, course of the value loss, a table of metrics.

    It shows rank 0, or the first rank there is. Text is in the colour of the page, on no ground of its own.
    """
    rank = next(iter(run.ranks()), 0)
    try:
        live = LiveRun(run, rank)
        try:
            status = live.status()
            live.refresh()
            return live_html(live, status)
        finally:
            live.close()
    except RUN_ERRORS as error:
        said = printable(describe_error(error))
        return str(Markup("<div><strong>{}</strong><div>{}</div></div>").format(printable(str(run.path)), said))


def live_html(live: LiveRun, status: Status, note: str = "") -> str:
    """A followed run as HTML, as it stood at its last refresh, with a note as last line."""
    view = live.view
    verdict = live.verdict()
    since = verdict.since
    chart = svg_chart(view.chart, bands_of(CHART_METRIC, view.settings.thresholds)) if view.rows else Markup()
    # Names may hold dollars, of which a notebook would otherwise make formulas.
    return str(
        Markup(
            '<div class="esper-run tex2jax_ignore mathjax_ignore" style="border-left:4px solid {};padding-left:12px">'
            "<div><strong>{} {}</strong>{} · {} · {}</div>"
            '<div style="opacity:.8">{}</div><ul style="margin:6px 0">{}</ul>{}{}{}</div>'
        ).format(
            PALETTE[verdict.level].color,
            PALETTE[verdict.level].mark,
            verdict.level,
            "" if since is None else f" since update {since}",
            printable(live.run.header.run_id),
            status,
            _facts(live),
            Markup().join(Markup("<li>{}</li>").format(printable(reason)) for reason in verdict.reasons),
            chart,
            _table(view),
            Markup('<div style="opacity:.8">{}</div>').format(note) if note else "",
        )
    )


def _facts(live: LiveRun) -> str:
    header, view = live.run.header, live.view
    ranks, attempts = live.run.ranks(), live.run.attempt_count(live.rank)
    made_by = " on ".join(printable(part) for part in (header.trainer, header.env) if part)
    parts = [made_by, printable(header.device or "")]
    parts += [f"rank {live.rank} of {len(ranks)}"] if len(ranks) > 1 else []
    parts += [f"{attempts} attempts"] if attempts > 1 else []
    newest = f", the newest is {view.last_update}" if view.rows else ""
    parts.append(f"{count(view.rows)} update{'s' * (view.rows != 1)}{newest}")
    speed = view.updates_per_sec()
    parts += [f"{rate(speed)} updates per second"] if speed is not None else []
    return " · ".join(part for part in parts if part)


def _table(view: View) -> Markup:
    """Last value, the last ten, trend and level of the losses, and of what else was measured."""
    rows = []
    for name, title in (LOSSES | FURTHER).items():
        state = view.state(name)
        if not state.history:
            continue
        sure = state.trend.confidence
        trend = f"{state.trend.label}{'' if sure is None else f', {100 * sure:.0f} % sure'}"
        judged = "" if state.level == "unknown" else f"{PALETTE[state.level].mark} {state.level}"
        if name == LOSS_RATIO and state.level in ("warning", "critical"):
            judged += ", which by itself decides nothing"
        history = sparkline(map(as_number, state.history))
        cells = (title, compact(state.last), history, trend_mark(state.trend).plain, trend, judged)
        rows.append(Markup("<tr>{}</tr>").format(Markup().join(map(Markup("<td>{}</td>").format, cells))))
    if not rows:
        return Markup()
    heads = Markup().join(map(Markup("<th>{}</th>").format, ("", "last", "last 10", "change", "trend", "level")))
    return Markup('<table style="color:inherit"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
        heads, Markup().join(rows)
    )


# ---------------------------------------------------------------------- frames


def alert_frame(alerts: Sequence[Alert]) -> pl.DataFrame:
    """One row for each alert, with the columns of `ALERT_SCHEMA` also where there is none."""
    rows = [[getattr(alert, name) for name in ALERT_SCHEMA] for alert in alerts]
    return pl.DataFrame(rows, schema=ALERT_SCHEMA, orient="row")


# ---------------------------------------------------------------------- following


def watch_run(run: JudgedRun, *, interval: float, updates: int | None, rank: int) -> None:
    """See `Run.watch`."""
    if not 0.0 < interval < math.inf:
        raise UsageError(f"interval must be a positive number of seconds, found {interval!r}")
    if updates is not None and updates < 1:
        raise UsageError(f"updates must be at least 1, found {updates!r}")
    run.selected_ranks(rank)
    show = _Cell() if _is_in_notebook() else _print_lines
    live = LiveRun(run, rank)
    try:
        _watch(live, show, interval, updates)
    finally:
        live.close()


def _watch(live: LiveRun, show: Callable[..., None], interval: float, updates: int | None) -> None:
    """Show the run now, and again whenever it has changed, until it ends, has gone on far enough, or an interrupt."""
    status, drawn = live.status(), None  # asked before the rows are read, so that none is left when the run has ended
    live.refresh()
    seen, rows = 0, pl.DataFrame()  # what was recorded before is no news
    try:
        while True:
            has_ended = status not in GOING_ON
            is_last = has_ended or (updates is not None and seen >= updates)
            if is_last:
                live.check()
            if is_last or rows.height or status != drawn:
                show(live, status, rows, "" if has_ended else _LEFT_ALONE if is_last else _WATCHED)
                drawn = status
            if is_last:
                return
            time.sleep(interval)
            status, rows = live.status(), live.refresh()
            seen += rows.height
    except KeyboardInterrupt:
        show(live, live.status(), pl.DataFrame(), _LEFT_ALONE)


def _is_in_notebook() -> bool:
    """Whether a kernel runs this, whose front end can redraw a display; a terminal, also IPython's, cannot."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class _Cell:
    """The output of a cell, redrawn in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, live: LiveRun, status: Status, rows: pl.DataFrame, note: str) -> None:
        from IPython.display import display

        data = {"text/html": live_html(live, status, note), "text/plain": _state(live, status)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True)


def _print_lines(live: LiveRun, status: Status, rows: pl.DataFrame, note: str) -> None:
    """A line for each new update; one on the whole run at the beginning, at the end and where its status changes."""
    lines = []
    if rows.height:
        judged = rows.with_columns(loss_ratio(), level(CHART_METRIC, live.run.settings.thresholds).alias("level"))
        lines = [plain_line(row, row["level"]) for row in judged.iter_rows(named=True)]
    if not rows.height or note != _WATCHED:
        lines.append(_state(live, status))
    write_lines(map(Text, lines))


def _state(live: LiveRun, status: Status) -> str:
    """The whole run in one line."""
    rows = live.view.rows
    said = f"{count(rows)} update{'s' * (rows != 1)}, verdict {live.verdict().level}"
    return f"{printable(live.run.header.run_id)}: {status}, {said}"
