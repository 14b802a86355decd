"""The command `runs`: the runs under a folder as a table of status, updates, last value loss and verdict."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from esper_analyzer.drawing.style import STATUS_STYLE, fit, level_text
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import level_and_rank
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.reading.errors import DAMAGE, RUN_ERRORS, describe_error, quiet_panics
from esper_analyzer.wording import count, number
from esper_schemas.cleaning import printable
from esper_schemas.errors import NotARunError
from esper_schemas.examining.segment import Depth
from esper_schemas.run.directory import RunDirectory, find_runs

_MIN_NAME_WIDTH, _MAX_NAME_WIDTH = 12, 36


class Overview:
    """Iterate over the lines of the table: a heading, then one line for each run, oldest first.

    A run that cannot be read has the reason in its line; the others are listed as usual.

    Args:
        root: folder of runs.
        settings: thresholds and rules to judge by.
        verify: whether to check every sealed file against its checksum; else only the small files are examined.

    Attributes:
        is_damaged: whether any run listed so far is damaged.

    Raises:
        NotARunError: there is no such folder, or it has no runs.
    """

    def __init__(self, root: Path, settings: Settings = DEFAULT_SETTINGS, *, verify: bool = False) -> None:
        self.is_damaged = False
        self._runs = list(find_runs(root))
        self._settings = settings
        self._depth: Depth = "checksums" if verify else "records"
        if not self._runs:
            raise NotARunError(f"there are no runs in {root}; record one, or name the folder of runs with --root")

    def __iter__(self) -> Iterator[Text]:
        names = [printable(run.path.name) for run in self._runs]
        width = min(_MAX_NAME_WIDTH, max(_MIN_NAME_WIDTH, *map(len, names)))
        yield Text(f"{'run':{width}}  {'status':11}  {'updates':>11}  {'V.Loss':>9}  verdict", style="dim")
        for directory, name in zip(self._runs, names, strict=True):
            line = Text(fit(name, width))
            line.append(" " * (width - line.cell_len) + "  ")
            try:
                with quiet_panics():  # without checksums, polars may be the first to read a wrong byte
                    state, is_damaged = _state(directory, self._settings, self._depth)
                line.append_text(state)
            except RUN_ERRORS as error:
                is_damaged = isinstance(error, DAMAGE)
                cause = describe_error(error).replace(f"{directory.path}{os.sep}", "")  # the line has the name already
                line.append(printable(cause), style="bold red")
                line.truncate(100, overflow="ellipsis")
            self.is_damaged = self.is_damaged or is_damaged
            yield line


def _state(directory: RunDirectory, settings: Settings, depth: Depth) -> tuple[Text, bool]:
    """Return status, updates, value loss and verdict of a run, and whether it is damaged."""
    run = JudgedRun(directory, settings)
    found = run.look(None, depth)
    feed = RanksFeed(run, charted=(), found=found)
    try:
        picture = feed.finish()
    finally:
        feed.close()
    assert picture.verdict is not None  # because `finish` judges every row
    status = run.status(None)
    line = Text(f"{status:11}", style=STATUS_STYLE[status]).append(f"  {count(picture.rows):>11}", style="default")
    line.append(f"  {number(picture.last('value_loss')):>9}  ", style="default")
    level = picture.verdict.level
    line.append_text(level_text(level)).append(level_and_rank(picture.verdict).removeprefix(level), style="default")
    is_damaged = bool(found.damage or picture.damage)
    return line.append("  damaged", style="bold red") if is_damaged else line, is_damaged
