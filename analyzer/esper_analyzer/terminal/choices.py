"""The entries of the two choosers of the screen: metrics with their newest values, runs with their status."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich.text import Text

from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import STATUS_STYLE, alarm_style, fit
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import CHARTED, Picture
from esper_analyzer.measuring.levels import levels_of
from esper_analyzer.measuring.snapshot import as_number, metric_names
from esper_analyzer.reading.errors import RUN_ERRORS, describe_error
from esper_analyzer.wording import number
from esper_schemas.cleaning import printable
from esper_schemas.metric.metrics import HISTORY_LENGTH
from esper_schemas.run.directory import find_runs

_NAME_WIDTH = 28


def metrics_to_step_through(picture: Picture) -> list[str]:
    """Return the metrics that have a small chart and at least one measured value."""
    return [name for name in CHARTED if picture.history.of(name).frame.height]


def metric_entries(picture: Picture) -> list[tuple[str, Text]]:
    """List every number measured in the newest rows, those on the screen first: name, newest value, last ten."""
    frame = picture.recent
    if not frame.height:
        return []
    numbers = [name for name in metric_names(frame.schema) if frame.schema[name].is_numeric() and name != "update"]
    names = list(dict.fromkeys([*(name for name in CHARTED if name in numbers), *numbers]))
    measured = {name: values for name in names if len(values := frame[name].drop_nulls())}
    newest = {name: as_number(values[-1]) for name, values in measured.items()}
    levels = levels_of(newest, measured, picture.thresholds)
    entries = []
    for name, values in measured.items():
        line = Text(fit(printable(name), _NAME_WIDTH).ljust(_NAME_WIDTH + 1))
        line.append(number(newest[name]).rjust(10), style=alarm_style(name, levels[name]))
        history = values.tail(HISTORY_LENGTH).cast(pl.Float64).to_list()
        entries.append((name, line.append("  ").append(sparkline(history), style="cyan")))
    return entries


def run_entries(root: Path) -> list[tuple[str, Text]]:
    """List the runs in a folder, newest first: name, status, trainer and environment."""
    entries = []
    for directory in reversed(list(find_runs(root))):
        line = Text(fit(printable(directory.path.name), _NAME_WIDTH).ljust(_NAME_WIDTH + 1))
        try:
            run = JudgedRun(directory)
            status = run.status(None)
            line.append(status.ljust(12), style=STATUS_STYLE[status])
            made_by = " on ".join(printable(part) for part in (run.header.trainer, run.header.env) if part)
            line.append(made_by, style="dim")
        except RUN_ERRORS as error:
            line.append(printable(describe_error(error)), style="bold red")
        entries.append((directory.path.name, line))
    return entries
