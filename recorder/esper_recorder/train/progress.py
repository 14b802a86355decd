"""Shows the progress of training on stderr: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from esper_recorder.train.trainer import Progress
from esper_schemas.console import can_redraw, make_bar
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import Level

PLAIN_INTERVAL_SECS = 5.0
"""Time between two lines if the output is not a terminal."""


class ProgressDisplay:
    """Shows progress; use it as a context manager and call it with each `Progress`.

    If `console` can redraw a line, this is a bar with speed, value loss, mean return and health. Otherwise it prints
    the first and last update and one line per `PLAIN_INTERVAL_SECS`, without escape codes. Health comes from the
    analyzer; it is left out if polars, which the analyzer needs, is not installed.
    """

    def __init__(self, console: Console, num_updates: int, *, done: int = 0) -> None:
        self._console = console
        self._num_updates = num_updates
        self._last_line = -float("inf")
        self._level_of = _load_level_of()
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if can_redraw(console):
            self._bar = make_bar(
                console,
                TextColumn("update {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
            )
            self._task = self._bar.add_task("train", total=num_updates, completed=done, status="starting")

    def __enter__(self) -> ProgressDisplay:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show the state after an update."""
        level = self._level(progress)
        if self._bar is not None:
            status = describe(progress, f"[{PALETTE[level].style}]{level}[/]" if level else "")
            self._bar.update(self._task, completed=progress.update + 1, status=status)
            return
        now = time.monotonic()
        is_last = progress.update + 1 == self._num_updates
        if is_last or now - self._last_line >= PLAIN_INTERVAL_SECS:
            self._last_line = now
            line = f"update {progress.update + 1}/{self._num_updates}  {describe(progress, level or '')}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _level(self, progress: Progress) -> Level | None:
        """Return the health of the value loss; None without the analyzer."""
        if self._level_of is None:
            return None
        return "critical" if progress.skipped else self._level_of("value_loss", progress.value_loss)


def describe(progress: Progress, level: str) -> str:
    """Describe speed, value loss with its level, and mean return; a dash stands for a value not measured yet."""
    skipped = "  skipped" if progress.skipped else ""
    value_loss = f"{format_number(progress.value_loss, 3)} {level}".rstrip()
    return (
        f"{progress.steps_per_sec:,.0f} steps/s  value loss {value_loss}"
        f"  return {format_number(progress.mean_return, 1)}{skipped}"
    )


def format_number(value: float | None, decimals: int) -> str:
    """Format `value` with so many decimals, or None as a dash."""
    return "—" if value is None else f"{value:.{decimals}f}"


def _load_level_of() -> Callable[[str, float | None], Level] | None:
    # Imported here because it imports polars, which nothing else in the recorder needs.
    if find_spec("polars") is None:
        return None
    from esper_analyzer.measuring.levels import level_of

    return level_of
