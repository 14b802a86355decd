"""The runs under a folder as a table: status, updates, last value loss, verdict."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from esper_analyzer.follow import LiveRun
from esper_analyzer.run import Run
from esper_analyzer.run_errors import RUN_ERRORS, describe_error, quiet_panics
from esper_analyzer.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.snapshot import as_number
from esper_analyzer.style import STATUS_STYLE, count, fit, level_text, number
from esper_schemas.cleaning import printable
from esper_schemas.errors import NotARunError
from esper_schemas.examining.segment import Depth
from esper_schemas.run_directory import RunDirectory, find_runs

_MIN_NAME_WIDTH, _MAX_NAME_WIDTH = 12, 36


def overview_lines(root: Path, settings: Settings = DEFAULT_SETTINGS, *, verify: bool = False) -> Iterator[Text]:
    """One line for each run under `root`, judged by `settings`, the oldest first, below a heading.

    What is wrong with one run stands in its line, and hides no other run.

    Args:
        root: folder of runs.
        settings: thresholds and rules to judge by.
        verify: whether to hold every sealed file against its checksum; else only small files are examined.

    Raises:
        NotARunError: there is no such folder, or no run in it.
    """
    found = list(find_runs(root))
    if not found:
        raise NotARunError(f"{root} holds no runs: record one, or name the folder of runs with --root")
    width = min(_MAX_NAME_WIDTH, max(_MIN_NAME_WIDTH, *(len(printable(run.path.name)) for run in found)))
    yield Text(f"{'run':{width}}  {'status':11}  {'updates':>11}  {'V.Loss':>9}  verdict", style="dim")
    for directory in found:
        line = Text(fit(printable(directory.path.name), width))
        line.append(" " * (width - line.cell_len) + "  ")
        try:
            with quiet_panics():  # without checksums, polars may be the first to meet a wrong byte
                state = _state(directory, settings, "checksums" if verify else "records")
            yield line.append_text(state)
        except RUN_ERRORS as error:
            said = describe_error(error).replace(f"{directory.path}{os.sep}", "")  # the name is in the line already
            line.append(printable(said), style="bold red")
            line.truncate(100, overflow="ellipsis")
            yield line


def _state(directory: RunDirectory, settings: Settings, depth: Depth) -> Text:
    run = Run(directory, settings)
    found = run.look(None, depth)
    live = LiveRun(run, min(found.ranks, default=0), found)
    try:
        live.refresh()
    finally:
        live.close()
    status = run.status(None)
    line = Text(f"{status:11}", style=STATUS_STYLE[status]).append(f"  {count(live.view.rows):>11}", style="default")
    line.append(f"  {number(as_number(live.view.state('value_loss').last)):>9}  ", style="default")
    line.append_text(level_text(live.verdict().level))
    return line.append("  damaged", style="bold red") if found.damage or live.damage else line
