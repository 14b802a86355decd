"""What the two choosers of the screen list: metrics with their newest values, and the runs that are asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl
from rich.text import Text

from esper_analyzer.drawing.sparklines import sparkline
from esper_analyzer.drawing.style import alarm_style, fit
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.live.picture import CHARTED, Picture
from esper_analyzer.measuring.levels import levels_of
from esper_analyzer.measuring.snapshot import as_number, chartable_names, metric_names
from esper_analyzer.options import By
from esper_analyzer.reading.configuration import flattened
from esper_analyzer.reading.run_index import rows_of
from esper_analyzer.terminal.scene import Chosen
from esper_analyzer.wording import number
from esper_schemas.cleaning import printable
from esper_schemas.errors import UsageError
from esper_schemas.metric.catalogue import LOSS_RATIO, RETURNS
from esper_schemas.metric.metrics import HISTORY_LENGTH
from esper_schemas.run.records import RunHeader

if TYPE_CHECKING:
    from esper_analyzer.listing.entry import RunEntry

_NAME_WIDTH = 28
_OPERATOR = re.compile(r"[<>=~]")


def chosen_to_see(run: JudgedRun, rank: int | None, metrics: Sequence[str], by: By) -> Chosen:
    """Return what somebody asks to see of a run.

    Args:
        run, rank: the run and the rank in front; None for the first.
        metrics: names of metrics, each may be several with commas between; the first is for the chart, the others are
            pinned.
        by: the horizontal axis.

    Raises:
        UsageError: the run has recorded updates, and no such number.
    """
    names = list(dict.fromkeys(name.strip() for part in metrics for name in part.split(",")))
    found = run.look(rank, "records") if names else None
    known = [LOSS_RATIO]
    for index in found.ranks.values() if found is not None else ():
        known += chartable_names(rows_of(index).collect_schema()) if index.rows else []
    for name in names:
        if not name:
            raise UsageError("--metric must name metrics, found an empty name")
        if len(known) > 1 and name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"for example {', '.join(CHARTED[:3])}"
            raise UsageError(f"{run.path} has recorded no metric {name!r}; {hint}")
    default = Chosen()
    return Chosen(names[0] if names else default.metric, by, tuple(names[1:]))


def metrics_to_step_through(picture: Picture) -> list[str]:
    """Return the metrics that have a small chart and at least one measured value."""
    return [name for name in CHARTED if picture.history.of(name).frame.height]


def metric_entries(picture: Picture) -> list[tuple[str, Text]]:
    """List every number measured in the newest rows, the return first: name, newest value, last ten."""
    frame = picture.recent
    if not frame.height:
        return []
    numbers = [name for name in metric_names(frame.schema) if frame.schema[name].is_numeric() and name != "update"]
    names = list(dict.fromkeys([*(name for name in (*RETURNS, *CHARTED) if name in numbers), *numbers]))
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


def configuration_text(header: RunHeader) -> str:
    """Return what the header of a run says, a line for each value, its hyper-parameters by dotted name."""
    about = {
        "run": header.run_id, "trainer": header.trainer, "environment": header.env, "device": header.device,
        "created": header.created, "host": header.host, "commit": header.git_commit,
    }  # fmt: skip
    parts = {"About": about, "Configuration": flattened(header.config), "Versions": header.versions}
    lines = []
    for title, values in parts.items():
        known = {printable(name): printable(str(value)) for name, value in values.items() if value not in (None, "")}
        width = max(map(len, known), default=0)
        rows = [f"  {name.ljust(width)}  {value}" for name, value in known.items()]
        lines += [title, *(rows or ["  nothing was recorded"]), ""]
    return "\n".join(lines[:-1])


def is_wanted(text: str, name: str, shown: str, run: RunEntry) -> bool:
    """Whether a run belongs to what is typed in the chooser: a filter as `runs --filter` takes it, or part of a line.

    Args:
        text: what is typed; a filter that is still incomplete is part of no line, so that nothing is chosen by it.
        name, shown: the name of the run, and its line.
        run: what is known of it so far.
    """
    part = text.strip()
    if _OPERATOR.search(part):
        from esper_analyzer.listing.filters import parse_filters

        try:
            return all(condition.holds(run) for condition in parse_filters([part]))
        except UsageError:
            return False
    return part.lower() in name.lower() or part.lower() in shown.lower()
