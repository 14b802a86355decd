"""The screen of `tail` and `replay`: one frame as lines, a pure function of the view and the size."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from rich.text import Text

from esper_analyzer.chart import draw_chart
from esper_analyzer.health import DEFAULT_THRESHOLDS, LOSS_RATIO, Thresholds, bands_of
from esper_analyzer.run import Run
from esper_analyzer.snapshot import MetricState, as_number
from esper_analyzer.sparklines import sparkline
from esper_analyzer.style import (
    LEVEL_STYLE,
    STATUS_STYLE,
    Style,
    count,
    duration,
    fit,
    level_text,
    number,
    rate,
    trend_mark,
)
from esper_analyzer.summary import Value
from esper_analyzer.verdict import Verdict
from esper_analyzer.view import CHART_METRIC, View
from esper_schemas.cleaning import printable
from esper_schemas.metrics import Level

LOSSES = {"value_loss": "V.Loss", "policy_loss": "P.Loss", LOSS_RATIO: "Lv/Lp"}
FURTHER = {
    "explained_variance": "Expl.var",
    "kl_divergence": "KL",
    "clip_fraction": "Clip",
    "entropy": "Entropy",
    "pre_clip_grad_norm": "Grad",
    "episode_return_mean": "Return",
}

MIN_WIDTH, MIN_HEIGHT = 40, 12
WIDE = 78
"""From this width on the rows of metrics carry the trend in words and its confidence."""

VERY_WIDE = 98
"""From this width on they carry the slow trend, too."""

_INDENT = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """What a screen says beside the view: which run, how it stands, a note for the last line, the verdict.

    Without a verdict it is that of the view, which knows the rows only.
    """

    run: Run
    rank: int
    status: str
    note: str = ""
    verdict: Verdict | None = None


def draw_screen(view: View, frame: Frame, *, width: int, height: int, style: Style) -> list[str]:
    """Exactly `height` lines that are at most `width` cells wide."""
    width, room = max(width, MIN_WIDTH), max(height, MIN_HEIGHT)
    top = _heading(view, frame, width)
    roomy = room >= 24
    reasons = _verdict(view, frame, width, (4 if room >= 30 else 2) if roomy else 1)
    bottom = [*loss_table(view, width), *_further(view, width, room), *reasons]
    if roomy:
        top.append(Text())
        bottom = [table_head(width), *bottom]
    if frame.note:
        bottom.append(_line(Text(frame.note, style="dim"), width))
    chart_height = max(4, room - len(top) - len(bottom) - 1)
    bands = bands_of(CHART_METRIC, view.settings.thresholds)
    limits = "; ".join(str(bands).split("; ")[:2])  # that what is not finite is critical, the marks in the chart say
    title = _line(Text("value loss", style="bold").append(f"  {limits}", style="dim"), width)
    if view.rows:
        chart = draw_chart(view.chart, bands, width=width - 1, height=chart_height, style=style)
    else:
        chart = [
            "no updates yet".center(width - 1).rstrip() if i == chart_height // 2 else "" for i in range(chart_height)
        ]
    for line in bottom:
        line.truncate(width)
    lines = [*style.render([*top, title]), *chart, *style.render(bottom)]
    return lines[:height] + [""] * (height - len(lines))


def loss_table(view: View, width: int) -> list[Text]:
    """V.Loss, P.Loss and Lv/Lp: last value, the last ten as sparkline, where they are going, level."""
    thresholds = view.settings.thresholds
    return [metric_row(name, title, view.state(name), width, thresholds) for name, title in LOSSES.items()]


def table_head(width: int) -> Text:
    """Heading of the rows that `metric_row` makes."""
    trend = f"{'trend':11}{'sure':>4}  " if width >= WIDE else ""
    trend += f"{'over 30':10}{'sure':>4}  " if width >= VERY_WIDE else ""
    return Text(f"{'':{_INDENT}}{'':9}{'last':>10}  {'last 10':10}  {'change':10}{trend}level", style="dim")


def metric_row(
    name: str, title: str, state: MetricState, width: int, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Text:
    """One row of the table: 55 cells, 72 with the trend in words and how sure it is, 88 with the slow trend."""
    style = LEVEL_STYLE[state.level] if name == LOSS_RATIO else _alarm(state.level) or "bold"
    line = Text(" " * _INDENT).append(title.ljust(9)).append(number(as_number(state.last)).rjust(10), style=style)
    line.append("  ").append(sparkline(map(as_number, state.history)).ljust(10), style="cyan").append("  ")
    mark = trend_mark(state.trend) if state.history else Text()
    line.append_text(mark).append(" " * (10 - len(mark)))
    if width >= WIDE:
        sure = state.trend.confidence
        line.append((state.trend.label if state.history else "").ljust(11), style=mark.style)
        line.append(f"{'' if sure is None else f'{100 * sure:.0f}%':>4}  ", style="dim")
    if width >= VERY_WIDE:
        slow = state.long_trend
        mark = trend_mark(slow) if slow.change is not None else Text()
        line.append_text(mark).append(" " * (10 - len(mark)))
        line.append(f"{'' if slow.confidence is None else f'{100 * slow.confidence:.0f}%':>4}  ", style="dim")
    line.append_text(level_text(state.level))
    if name == "value_loss" and state.level == "healthy" and is_low(name, state.last, thresholds):
        line.append(", low", style="dim")
    return line


def is_low(name: str, value: Value, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> bool:
    """Whether a healthy value is so small that it is shown with the remark "low"."""
    bands, size = bands_of(name, thresholds), as_number(value)
    return bool(bands and bands.low is not None and size is not None and size < bands.low)


def _heading(view: View, frame: Frame, width: int) -> list[Text]:
    header = frame.run.header
    status = Text(f"● {frame.status}", style=STATUS_STYLE.get(frame.status, ""))
    name = Text(" " * _INDENT).append(fit(printable(header.run_id), width - _INDENT - len(status) - 2), style="bold")
    first = name.append(" " * (width - 1 - name.cell_len - status.cell_len)).append_text(status)
    parts = [" on ".join(printable(part) for part in (header.trainer, header.env) if part)]
    parts += [printable(header.device)] if header.device else []
    parts += [f"rank {frame.rank}"] if header.world_size > 1 or frame.rank else []
    if view.last_update is not None:
        attempt = view.recent["attempt"][-1]
        speed, elapsed = view.updates_per_sec(), view.state("elapsed_secs").last
        steps = view.state("env_steps").last
        parts = [f"update {view.last_update}", *parts]
        parts += [f"attempt {attempt}"] if attempt else []
        parts += [f"{count(int(as_number(steps) or 0))} steps"] if steps is not None else []
        parts += [f"{rate(speed)}/s"] if speed is not None else []
        parts += [duration(as_number(elapsed) or 0.0)] if elapsed is not None else []
    return [first, _line(Text(" · ".join(part for part in parts if part), style="dim"), width)]


def _further(view: View, width: int, height: int) -> list[Text]:
    """The other metrics that matter: as rows where there is room, else as one line."""
    states = {name: view.state(name) for name in FURTHER}
    recorded = {name: state for name, state in states.items() if state.last is not None}
    if height >= 32:
        return [metric_row(name, FURTHER[name], state, width) for name, state in recorded.items()]
    line = Text(" " * _INDENT)
    for name, state in recorded.items():
        item = f"{FURTHER[name]} {number(state.last)}"
        if line.cell_len + len(item) + 3 > width:
            break
        line.append("   " if line.cell_len > _INDENT else "").append(f"{FURTHER[name]} ", style="dim")
        line.append(number(state.last), style=_alarm(state.level))
    return [line] if line.cell_len > _INDENT else []


def _alarm(level: Level) -> str:
    return LEVEL_STYLE[level] if level in ("warning", "critical") else ""


def _verdict(view: View, frame: Frame, width: int, most: int) -> list[Text]:
    """The verdict and, below it, as much of its reasons as fits into `most` lines."""
    if not view.rows:
        return []
    verdict = frame.verdict or view.verdict(remarks=frame.run.remarks)
    said = Text(" " * _INDENT).append("Verdict  ").append_text(level_text(verdict.level))
    if most == 1 and verdict.reasons:
        said.append(f"  {fit(verdict.reasons[0], width - said.cell_len - 3)}")
        return [said]
    reasons = [line for reason in verdict.reasons for line in wrap(reason, width - 6)]
    style = "dim" if verdict.level == "healthy" else ""
    if len(reasons) > most > 0:
        reasons[most - 1] = fit(reasons[most - 1], width - 8) + " …"
    return [said, *(Text(" " * 4 + line, style=style) for line in reasons[:most])]


def _line(text: Text, width: int, indent: int = _INDENT) -> Text:
    line = Text(" " * indent).append_text(text)
    line.truncate(width - 1, overflow="ellipsis")
    return line


def plain_line(row: dict[str, float | None], level: str) -> str:
    """One update as a line for a pipe or a log file; the level is that of its value loss."""
    return (
        f"update {row['update']}  V.Loss {number(row['value_loss'])} {'skipped' if row['skipped'] else level}"
        f"  P.Loss {number(row['policy_loss'])}  Lv/Lp {number(row[LOSS_RATIO])}"
    )
