"""Shows the progress of training on stderr: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from esper_recorder.train.trainer import Progress
from esper_schemas.console import can_redraw, make_bar
from esper_schemas.metric.levels import PALETTE
from esper_schemas.metric.metrics import HISTORY_LENGTH, Level

PLAIN_INTERVAL_SECS = 5.0
"""Time between two lines if the output is not a terminal."""

_WIDE = 100
"""A bar of this width has room for the trend."""

_BAR_STYLE = "cyan"  # the bar of rich is nearly red, as if something were wrong


class ProgressDisplay:
    """Shows progress; use it as a context manager and call it with each `Progress`.

    If `console` can redraw a line, this is a bar with speed, mean return, and value loss with its health and trend.
    Otherwise it prints the first and last update and one line per `PLAIN_INTERVAL_SECS`, without escape codes. Health
    and trend come from the analyzer; they are left out if polars, which the analyzer needs, is not installed.
    """

    def __init__(self, console: Console, num_updates: int, *, done: int = 0) -> None:
        self._console = console
        self._num_updates = num_updates
        self._last_line = -float("inf")
        self._judge = _load_judge()
        self._losses: deque[float] = deque(maxlen=HISTORY_LENGTH)
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if can_redraw(console):
            self._bar = make_bar(
                console,
                TextColumn("update {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=None, complete_style=_BAR_STYLE, finished_style=_BAR_STYLE, pulse_style=_BAR_STYLE),
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
        level, trend = self._health(progress)
        if self._bar is not None:
            colored = f"[{PALETTE[level].style}]{level}[/]" if level else ""
            status = describe(progress, colored, trend if self._console.width >= _WIDE else "")
            self._bar.update(self._task, completed=progress.update + 1, status=status)
            return
        now = time.monotonic()
        is_last = progress.update + 1 == self._num_updates
        if is_last or now - self._last_line >= PLAIN_INTERVAL_SECS:
            self._last_line = now
            line = f"update {progress.update + 1}/{self._num_updates}  {describe(progress, level or '', trend)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _health(self, progress: Progress) -> tuple[Level | None, str]:
        """Return level and trend of the value loss; None and an empty text without the analyzer."""
        if self._judge is None:
            return None, ""
        if progress.value_loss is not None:
            self._losses.append(progress.value_loss)
        level, trend = self._judge(self._losses, progress.value_loss)
        return "critical" if progress.skipped else level, trend


def describe(progress: Progress, level: str, trend: str) -> str:
    """Describe speed, value loss with level and trend, and mean return; a dash is a value not measured yet."""
    skipped = "  skipped" if progress.skipped else ""
    value_loss = " ".join(part for part in (format_number(progress.value_loss, 3), level, trend) if part)
    return (
        f"{progress.steps_per_sec:,.0f} steps/s  value loss {value_loss}"
        f"  return {format_number(progress.mean_return, 1)}{skipped}"
    )


def format_number(value: float | None, decimals: int) -> str:
    """Format `value` with so many decimals, or None as a dash."""
    return "—" if value is None else f"{value:.{decimals}f}"


def _load_judge() -> Callable[[Iterable[float], float | None], tuple[Level, str]] | None:
    """Return the function that gives level and trend of the value loss, from its last values and the newest one."""
    # Imported here because it imports polars, which nothing else in the recorder needs.
    if find_spec("polars") is None:
        return None
    from esper_analyzer.measuring.levels import level_of
    from esper_analyzer.measuring.trends import trend_of
    from esper_analyzer.wording import trend_words

    def judge(losses: Iterable[float], newest: float | None) -> tuple[Level, str]:
        return level_of("value_loss", newest), trend_words("value_loss", trend_of("value_loss", losses)).short

    return judge
