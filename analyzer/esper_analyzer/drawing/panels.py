"""The panels around the chart as text: losses, gauges, small charts, alerts, verdict, cursor, time line.

Each panel is a pure function of a picture and a width. The caller cuts the lines that do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.text import Text

from esper_analyzer.drawing.braille import small_chart
from esper_analyzer.drawing.chart import Beside, Scaling, is_logarithmic
from esper_analyzer.drawing.metric_table import FURTHER, LOSSES, metric_row, table_head
from esper_analyzer.drawing.style import LEVEL_STYLE, alarm_style, fit, level_text
from esper_analyzer.drawing.window import Window
from esper_analyzer.judging.rules.rule import WARM_UP_UPDATES
from esper_analyzer.live.clock import Clock
from esper_analyzer.live.picture import CHARTED, Event, Picture
from esper_analyzer.measuring.buckets import Buckets
from esper_analyzer.measuring.levels import bands_of, level_of
from esper_analyzer.measuring.places import BY_UPDATE, Ruler
from esper_analyzer.measuring.snapshot import as_number
from esper_analyzer.wording import compact, count, duration, limits, number
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import EPISODE_RETURN, EXPLAINED_VARIANCE, leading
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import COMPARISONS, MAX_SHORT, SKIP_REASONS, Limit

GAUGES = {metric.name: metric.gauge for metric in leading() if metric.gauge is not None}
"""The metrics with a gauge, and the ends of its scale."""

TITLES = {**LOSSES, **FURTHER}

_TITLE_WIDTH, _VALUE_WIDTH = MAX_SHORT, 9
_CURSOR_DECIMALS = 4
_ROOM_FOR_COUNT = 4
_ROOM_FOR_SENTENCE = 60
_ROOM_FOR_ANY = 10_000
_MANY_EVENTS = 100  # no panel has room for so many over several lines


def losses(picture: Picture, width: int, *, head: bool) -> list[Text]:
    """Draw the return, where it was recorded, V.Loss, P.Loss and Lv/Lp: last value, the last ten, trend and level."""
    names = {picture.return_name: TITLES[EPISODE_RETURN]} | LOSSES if picture.has_return else LOSSES
    rows = [metric_row(name, title, picture.state(name), width, picture.thresholds) for name, title in names.items()]
    return [table_head(width), *rows] if head else rows


def gauges(picture: Picture, width: int, *, columns: int) -> list[Text]:
    """Draw a bar for each metric with a gauge. The bar is dotted where a value would be a warning, densely if critical.

    An arrow at an end of the bar marks a value beyond it. Only a value has the colour of a level, so that nothing is
    red that is not wrong. A finite value has none before thresholds apply, and no explained variance has one where
    there is nothing to explain.
    """
    cell = width // columns
    drawn = [_gauge(picture, name, cell - 1) for name in GAUGES]
    lines = []
    for start in range(0, len(drawn), columns):
        line = Text()
        for gauge in drawn[start : start + columns]:
            gauge.pad_right(cell - gauge.cell_len)
            line.append_text(gauge)
        lines.append(line)
    return lines


def _gauge(picture: Picture, name: str, width: int) -> Text:
    low, high = GAUGES[name]
    value, bands = picture.last(name), bands_of(name, picture.thresholds)
    style = "" if _says_little(picture, name, value) else LEVEL_STYLE[picture.levels[name]]
    line = Text("  ").append(TITLES[name].ljust(_TITLE_WIDTH)).append(number(value).rjust(7), style=style)
    cells = width - line.cell_len - 2
    if cells < 4:
        return line
    line.append(" ")
    share = 0.0 if value is None or value != value else (max(low, min(value, high)) - low) / (high - low)
    filled = round(share * cells)
    for index in range(cells):
        middle = low + (index + 0.5) / cells * (high - low)
        if value is not None and ((index == 0 and value < low) or (index == cells - 1 and value > high)):
            line.append("◄" if index == 0 else "►", style=style)
        elif index < filled and value is not None:
            line.append("█", style=style)
        elif bands is not None and _beyond(middle, bands.critical):
            line.append("▒", style="dim")
        elif bands is not None and _beyond(middle, bands.warning):
            line.append("░", style="dim")
        else:
            line.append("─", style="dim")
    return line


def _says_little(picture: Picture, name: str, value: float | None) -> bool:
    """Whether thresholds do not apply to this finite value: not yet, or not while there is nothing to explain."""
    if value is None or not math.isfinite(value):
        return False
    return picture.rows <= WARM_UP_UPDATES or (name == EXPLAINED_VARIANCE and not picture.is_explainable)


def _beyond(value: float, limits: Iterable[Limit]) -> bool:
    return any(COMPARISONS[limit.comparison](value, limit.bound) for limit in limits)


def shown_small(picture: Picture, chosen: str, pinned: Sequence[str] = ()) -> list[str]:
    """Return the metrics that get a small chart, without the one in the main chart.

    Those that are pinned come first, in their order, then the return, then the others that were recorded.
    """
    frame = picture.history.frame
    recorded = [
        name
        for name in CHARTED
        if frame[f"{name}/min"].null_count() < frame.height or int(frame[f"{name}/nonfinite"].sum()) > 0
    ]
    others = sorted(recorded, key=lambda name: name != EPISODE_RETURN)
    return [name for name in dict.fromkeys([*pinned, *others]) if name != chosen]


def small_charts(
    picture: Picture,
    names: Sequence[str],
    width: int,
    height: int,
    *,
    unicode: bool,
    columns: int = 1,
    ruler: Ruler = BY_UPDATE,
) -> list[Text]:
    """Draw title, newest value and history of these metrics, as tall as they fit, in one or more columns."""
    if not names or height < 1:
        return []
    rows_each = max(1, min(5, height // -(-len(names) // columns)))
    cell = width // columns
    blocks = [_small(picture, name, cell - 2, rows_each, ruler, unicode=unicode) for name in names]
    lines: list[Text] = []
    for start in range(0, len(blocks), columns):
        for row in range(rows_each):
            line = Text()
            for block in blocks[start : start + columns]:
                part = block[row].copy()
                part.pad_right(cell - part.cell_len)
                line.append_text(part)
            lines.append(line)
    return lines[:height]


def _small(picture: Picture, name: str, width: int, height: int, ruler: Ruler, *, unicode: bool) -> list[Text]:
    value, course = picture.last(name), picture.course(name)
    alarm = "" if _says_little(picture, name, value) else alarm_style(name, picture.level(name))
    head = Text("  ").append(fit(TITLES.get(name, printable(name)), _TITLE_WIDTH))
    head.pad_right(2 + _TITLE_WIDTH - head.cell_len)
    head.append(number(value).rjust(_VALUE_WIDTH), style=alarm).append(" ")
    cells = width - head.cell_len
    if course is None:
        chart = ["reading …"[:cells], *[""] * (height - 1)]
    else:
        chart = small_chart(course, cells, height, unicode=unicode, ruler=ruler)
    lines = [Text(" " * head.cell_len), *(Text(" " * head.cell_len) for _ in range(height - 1))]
    lines[0] = head
    for line, drawn in zip(lines, chart, strict=True):
        for part in drawn:
            line.append(part, style="bold red" if part == "!" else "cyan")
    return lines


def alert_lines(events: Sequence[Event], selected: int | None, width: int, height: int) -> list[Text]:
    """Draw the list of events, in their order, by the update of each. The event at index `selected` stays in view."""
    if not events:
        return [Text(" no alerts so far", style="dim")]
    wrapped = _wrapped_alerts(events, selected, width)
    if len(wrapped) <= height:
        return wrapped
    rows = height - 1 if len(events) > height >= _ROOM_FOR_COUNT else min(height, len(events))
    first = 0 if selected is None else max(0, min(selected - rows // 2, len(events) - rows))
    lines = []
    for index in range(first, first + rows):
        event, line = events[index], _alert_head(events, index, selected)
        line.append(printable(_in_short(event, width - 1 - line.cell_len)), style="dim" if event.is_over else "")
        line.truncate(width - 1, overflow="ellipsis")
        if index == selected:
            line.stylize("bold")
        lines.append(line)
    if rows < height and rows < len(events):
        lines.append(Text(f" … {count(len(events) - rows)} more", style="dim"))
    return lines


def _alert_head(events: Sequence[Event], index: int, selected: int | None) -> Text:
    """Return what is before the text of an event: whether it is selected, its update and its mark."""
    event, digits = events[index], max(len(str(event.update)) for event in events)
    mark = "▲" if event.level in ("warning", "critical") else "◆"
    line = Text("▶" if index == selected else " ").append(f"{event.update:>{digits}} ")
    return line.append(f"{mark} ", style=LEVEL_STYLE[event.level])


def _wrapped_alerts(events: Sequence[Event], selected: int | None, width: int) -> list[Text]:
    """Return the list of events with their whole texts, over as many lines as they need."""
    lines = []
    for index, event in enumerate(events[:_MANY_EVENTS]):
        head = _alert_head(events, index, selected)
        style = "dim" * event.is_over + " bold" * (index == selected)
        text = printable(_in_short(event, _ROOM_FOR_ANY))
        parts = wrap(text, max(8, width - 1 - head.cell_len)) or [""]
        indent = Text(" " * head.cell_len)
        lines += [(indent if at else head).copy().append(part, style=style.strip()) for at, part in enumerate(parts)]
    return lines


def _in_short(event: Event, width: int) -> str:
    """Return the text of an event in a list: how often it was raised, if more than once, else what was found."""
    alert = event.alert
    if alert is None:
        return event.message
    rank = "" if alert.rank is None else f"Rank {alert.rank}: "
    if alert.count == 1:
        return rank + (event.message if width >= _ROOM_FOR_SENTENCE else alert.in_short)
    whole = f"{rank}{alert.title}: {alert.times}"
    return whole if len(whole) <= width else f"{rank}{alert.title} {count(alert.count)} times, last at {alert.last}"


def verdict(picture: Picture, width: int, height: int, *, has_keys: bool = True) -> list[Text]:
    """Draw the verdict with as many reasons as fit, or the progress of the judge while there is no verdict yet.

    If reasons are left out, the last line says so and, with `has_keys`, names the key that shows them.
    """
    if not picture.rows:
        return [Text(" no updates yet", style="dim")]
    head = Text(" Verdict  ")
    if picture.verdict is None:
        share = 100 * picture.judged // max(1, picture.rows)
        return [head.append(f"judging … {share} % of {count(picture.rows)} updates", style="dim")]
    head.append_text(level_text(picture.verdict.level))
    style = "dim" * (picture.verdict.level == "healthy")
    if height < 3 or width < 60:
        return _with_reasons(head, picture.verdict.reasons, width, height, style, has_keys=has_keys)
    for question, answer in picture.verdict.questions.items():
        head.append(f"  {question} ", style="dim").append(PALETTE[answer.level].mark, style=LEVEL_STYLE[answer.level])
    reasons = _with_reasons(Text(" "), picture.verdict.reasons, width, height - 1, style, has_keys=has_keys)
    return [head, *reasons]


def selected_alert(event: Event, width: int, height: int) -> list[Text]:
    """Draw the full message of an alert, in place of the verdict."""
    head = Text(f" Update {event.update}  ").append(event.level if event.level != "unknown" else "event")
    head.stylize(LEVEL_STYLE[event.level], len(head) - len(event.level) if event.level != "unknown" else 0)
    of_rank = "" if event.rank is None else f" of rank {event.rank}"
    head.append(f"  {printable(event.metric)}{of_rank}", style="dim")
    return _with_reasons(head, [event.message, *([event.alert.course] if event.alert else [])], width, height)


def _with_reasons(
    head: Text, reasons: Sequence[str], width: int, height: int, style: str = "", *, has_keys: bool = True
) -> list[Text]:
    """Draw the first reason after the head and each further reason on its own line, as far as they fit."""
    lines: list[str] = []
    shown = 0
    for reason in reasons:
        shown += len(lines) < height
        first = "   " if lines else " " * (head.cell_len + 2)
        lines += wrap(printable(reason), max(1, width - 1), initial_indent=first, subsequent_indent="   ")
    if len(lines) > height:
        rest, key = (f" … {len(reasons) - shown} more", ": v") if shown < len(reasons) else (" …", " v")
        cut = fit(lines[height - 1], width - 1 - len(rest + key)).rstrip("…")
        lines[height - 1] = cut + rest + key * has_keys
    texts = [Text(line, style=style) for line in lines[:height]]
    return [head.append(texts[0][head.cell_len :]), *texts[1:]] if texts else [head]


def chart_title(
    picture: Picture,
    metric: str,
    scaling: Scaling,
    shown: tuple[int, int] | None,
    course: Buckets | None,
    width: int,
    *,
    smoothing: float = 0.0,
    names: Sequence[tuple[str, str, str]] = (),
    beside: Sequence[Beside] = (),
    axis: str = "",
) -> Text:
    """Draw the title of the chart: metric, names of several runs, range of updates, scale, extremes, thresholds.

    Args:
        picture, metric, scaling, course: what is in the chart.
        shown: first and last update in it; None for all.
        width: cells there are.
        smoothing: weight of the past in the average that is drawn; 0 draws none.
        names: name, colour and character of each run, if there are several.
        beside: the further lines.
        axis: what is said of the horizontal axis; empty for updates.
    """
    bands = bands_of(metric, picture.thresholds)
    title = Text(" ").append(metric.replace("_", " ") if metric in CHARTED else printable(metric), style="bold")
    for name, color, mark in names:
        title.append(f"  {mark} ", style=color).append(fit(printable(name), max(8, (width - title.cell_len) // 2)))
    title.append(f"  {axis}" if axis else "")
    title.append(f"  smoothed {smoothing:g}" if smoothing else "")
    if picture.span is not None and shown is not None and shown != picture.span:
        title.append(f"  {shown[0]}–{shown[1]}")
    if course is not None and is_logarithmic(course, bands, scaling, beside):
        title.append("  log scale")
    elif scaling != "auto":
        title.append(f"  {'linear' if scaling == 'linear' else 'linear, since nothing is positive'}")
    low, high = (course.frame["min"].min(), course.frame["max"].max()) if course is not None else (None, None)
    if isinstance(low, float) and isinstance(high, float):
        title.append(f"  {compact(low)} to {compact(high)}", style="dim")
    broken = int(course.frame["nonfinite"].sum()) if course is not None else 0
    if broken:
        title.append(f"  ! {count(broken)} not finite", style="bold red")
    bounds = f"  {limits(bands)}"
    if title.cell_len + len(bounds) > width - 1:  # those of a warning have room more often than all
        bounds = bounds.partition(", then")[0]
    if title.cell_len + len(bounds) <= width - 1:
        title.append(bounds, style="dim")
    title.truncate(width - 1, overflow="ellipsis")
    return title


def readout(picture: Picture, metric: str, window: Window, width: int) -> Text:
    """Draw the values at the cursor: that of the chart, the return, and as many others as there is room for."""
    if window.cursor is None:
        text = Text(" arrows move a cursor with values, +/- zoom, ? shows help", style="dim")
        text.truncate(width - 1, overflow="ellipsis")
        return text
    line = Text(" ").append(f"▏{window.cursor}  ", style="bold")
    row = picture.row
    if row is None or row[0] != window.cursor:
        return line.append("…", style="dim")
    values = row[1]
    if values is None:
        return line.append("this update is missing", style="yellow")
    value = as_number(values.get(metric))
    level = level_of(metric, value, values, picture.thresholds)
    line.append(f"{TITLES.get(metric, printable(metric))} ").append(
        number(value, _CURSOR_DECIMALS), style=LEVEL_STYLE[level] if level != "unknown" else ""
    )
    if values.get("skipped"):
        reason = SKIP_REASONS.get(values["skip_reason"], "") if values.get("skip_reason") is not None else ""
        line.append(f"  skipped {reason}".rstrip(), style="yellow")
    for name in sorted(CHARTED, key=lambda name: name != EPISODE_RETURN):
        part = f"  {TITLES.get(name, name)} "
        if name != metric and values.get(name) is not None:
            shown = number(as_number(values[name]))
            if line.cell_len + len(part) + len(shown) <= width - 1:
                line.append(part, style="dim").append(shown)
    line.truncate(width - 1, overflow="ellipsis")
    return line


def time_line(clock: Clock, width: int) -> Text:
    """Draw the position and speed of the replay, and a bar of the whole run."""
    state = "▶" if clock.playing else "‖"
    done = clock.position >= clock.total
    share = clock.position / clock.total if clock.total else 1.0
    text = f" {state} {'end' if done else f'{100 * share:.0f} %'}  {clock.pace}  "
    text += f"{duration(clock.recorded_secs)}  " if width >= 80 else ""
    line = Text(text)
    cells = max(0, width - line.cell_len - 2)
    filled = round(share * cells)
    return line.append("━" * filled, style="cyan").append("─" * (cells - filled), style="dim")
