"""The screen of `tail` and `replay`: one frame as lines, a pure function of the view and the size."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from rich.text import Text

from esper_analyzer.drawing.chart import draw_chart
from esper_analyzer.drawing.metric_table import FURTHER, INDENT, LOSSES, alarm_style, metric_row, table_head
from esper_analyzer.drawing.style import STATUS_STYLE, Style, fit, level_text
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.verdict import Verdict
from esper_analyzer.live.view import CHART_METRIC, View
from esper_analyzer.measuring.levels import bands_of
from esper_analyzer.measuring.snapshot import as_number
from esper_analyzer.wording import count, duration, number, rate
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import LOSS_RATIO

MIN_WIDTH, MIN_HEIGHT = 40, 12


@dataclass(frozen=True, slots=True)
class Frame:
    """What a screen says beside the view: which run, how it stands, a note for the last line, the verdict.

    Without a verdict it is that of the view, which knows the rows only.
    """

    run: JudgedRun
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


def _heading(view: View, frame: Frame, width: int) -> list[Text]:
    header = frame.run.header
    status = Text(f"● {frame.status}", style=STATUS_STYLE.get(frame.status, ""))
    name = Text(" " * INDENT).append(fit(printable(header.run_id), width - INDENT - len(status) - 2), style="bold")
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
    line = Text(" " * INDENT)
    for name, state in recorded.items():
        item = f"{FURTHER[name]} {number(state.last)}"
        if line.cell_len + len(item) + 3 > width:
            break
        line.append("   " if line.cell_len > INDENT else "").append(f"{FURTHER[name]} ", style="dim")
        line.append(number(state.last), style=alarm_style(state.level))
    return [line] if line.cell_len > INDENT else []


def _verdict(view: View, frame: Frame, width: int, most: int) -> list[Text]:
    """The verdict and, below it, as much of its reasons as fits into `most` lines."""
    if not view.rows:
        return []
    verdict = frame.verdict or view.verdict(remarks=frame.run.remarks)
    said = Text(" " * INDENT).append("Verdict  ").append_text(level_text(verdict.level))
    if most == 1 and verdict.reasons:
        said.append(f"  {fit(verdict.reasons[0], width - said.cell_len - 3)}")
        return [said]
    reasons = [line for reason in verdict.reasons for line in wrap(reason, width - 6)]
    style = "dim" if verdict.level == "healthy" else ""
    if len(reasons) > most > 0:
        reasons[most - 1] = fit(reasons[most - 1], width - 8) + " …"
    return [said, *(Text(" " * 4 + line, style=style) for line in reasons[:most])]


def _line(text: Text, width: int, indent: int = INDENT) -> Text:
    line = Text(" " * indent).append_text(text)
    line.truncate(width - 1, overflow="ellipsis")
    return line


def plain_line(row: dict[str, float | None], level: str) -> str:
    """One update as a line for a pipe or a log file; the level is that of its value loss."""
    return (
        f"update {row['update']}  V.Loss {number(row['value_loss'])} {'skipped' if row['skipped'] else level}"
        f"  P.Loss {number(row['policy_loss'])}  Lv/Lp {number(row[LOSS_RATIO])}"
    )
