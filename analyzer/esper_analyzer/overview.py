"""The runs under a folder as a table: status, updates, last value loss, verdict."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from esper_analyzer.follow import LiveRun
from esper_analyzer.run import Run
from esper_analyzer.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.snapshot import as_number
from esper_analyzer.style import STATUS_STYLE, clean, count, fit, level_text, number
from esper_schemas.errors import EsperError, NotARunError
from esper_schemas.run_directory import RunDirectory, find_runs

_MIN_NAME_WIDTH, _MAX_NAME_WIDTH = 12, 36


def overview_lines(root: Path, settings: Settings = DEFAULT_SETTINGS) -> Iterator[Text]:
    """One line for each run under `root`, judged by `settings`, the oldest first, below a heading.

    Raises:
        NotARunError: there is no such folder, or no run in it.
    """
    found = list(find_runs(root))
    if not found:
        raise NotARunError(f"{root} holds no runs: record one, or name the folder of runs with --root")
    width = min(_MAX_NAME_WIDTH, max(_MIN_NAME_WIDTH, *(len(clean(run.path.name)) for run in found)))
    yield Text(f"{'run':{width}}  {'status':11}  {'updates':>11}  {'V.Loss':>9}  verdict", style="dim")
    for directory in found:
        line = Text(fit(clean(directory.path.name), width))
        line.append(" " * (width - line.cell_len) + "  ")
        try:
            yield line.append_text(_state(directory, settings))
        except EsperError as error:
            said = str(error).replace(f"{directory.path}{os.sep}", "")  # the name is in the line already
            line.append(clean(said), style="bold red")
            line.truncate(100, overflow="ellipsis")
            yield line


def _state(directory: RunDirectory, settings: Settings) -> Text:
    run = Run(directory, settings)
    live = LiveRun(run, min(run.ranks(), default=0))
    try:
        live.refresh()
    finally:
        live.close()
    status = run.status(None)
    line = Text(f"{status:11}", style=STATUS_STYLE[status]).append(f"  {count(live.view.rows):>11}", style="default")
    line.append(f"  {number(as_number(live.view.state('value_loss').last)):>9}  ", style="default")
    line.append_text(level_text(live.verdict().level))
    return line.append("  damaged", style="bold red") if live.damage else line
