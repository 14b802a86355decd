"""The chooser of runs: the columns and filters of `esper-analyze runs`, filled in while the runs are judged."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.events import Resize
from textual.widgets import Input, OptionList, Static
from textual.worker import get_current_worker

from esper_analyzer.drawing.style import in_ascii
from esper_analyzer.judging.settings import Settings
from esper_analyzer.listing.entry import RunEntry, read_rows
from esper_analyzer.listing.kept_entries import KeptEntries
from esper_analyzer.listing.text import Table
from esper_analyzer.terminal.app.widgets import Chooser
from esper_analyzer.terminal.choices import is_wanted

_SHOW_SECS = 0.3
"""Interval between two fillings of the list: each draws all of its lines."""

_AT_ONCE = 8
"""So many runs are read between two looks whether the list was closed."""


class RunChooser(Chooser):
    """A list to choose a run from, by its path; typing leaves the runs whose lines contain it, or that it is true of.

    What the headers say and what is kept is there at once. Return, steps and verdict of the other runs follow, as each
    is read in a thread.
    """

    def __init__(self, runs: Sequence[RunEntry], settings: Settings, kept: KeptEntries, *, unicode: bool) -> None:
        """Start from what is known of the runs.

        Args:
            runs: the runs, in the order of the list, as `headers` returns them.
            settings: thresholds and rules to judge them by.
            kept: what was kept of them; it keeps what is read now.
            unicode: whether the terminal shows more than ASCII.
        """
        super().__init__("run", [], unicode=unicode)
        self._runs = list(runs)
        self._settings = settings
        self._kept = kept
        self._unicode = unicode
        self._width = 0

    def compose(self) -> ComposeResult:
        """Create the input line, the names of the columns, and the list."""
        with Vertical(id="box"):
            yield Input(placeholder="run: type to filter, as return > 100; Enter chooses, Esc goes back", compact=True)
            yield Static(id="columns", markup=False)
            yield OptionList(compact=True)

    def on_mount(self) -> None:
        """Focus the input line, and begin to read the runs."""
        self._draw(self.app.size.width)
        super().on_mount()
        self._read()

    def on_resize(self, event: Resize) -> None:
        """Draw the table for the new width."""
        self._draw(event.size.width)
        self._renew()

    def _draw(self, width: int) -> None:
        """Draw the table for a terminal of this width."""
        self._width = width
        table = Table(self._runs, max(20, min(int(width * 0.9), _MAX_WIDTH) - _FRAME))
        lines = [line if self._unicode else in_ascii(line) for line in (table.heading, *table.lines)]
        self._heading = lines[0]
        self._entries = [(str(run.path), line) for run, line in zip(self._runs, lines[1:], strict=True)]

    def _renew(self) -> None:
        """Show the table again, with the same run highlighted."""
        options = self.query_one(OptionList)
        at = options.highlighted
        chosen = None if at is None else options.get_option_at_index(at).id
        self._show(self.query_one(Input).value)
        places = [options.get_option_at_index(place).id for place in range(options.option_count)]
        if chosen in places:
            options.highlighted = places.index(chosen)

    def _show(self, part: str) -> None:
        self.query_one("#columns", Static).update(self._heading)
        super()._show(part)

    def _matching(self, part: str) -> list[tuple[str, Text]]:
        return [
            (key, line)
            for run, (key, line) in zip(self._runs, self._entries, strict=True)
            if is_wanted(part, run.name, line.plain, run)
        ]

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        """Read and judge the runs that are not known one after another, until the list is closed."""
        runs = list(self._runs)
        try:
            self._read_each(runs)
        finally:
            self._kept.save([run.name for run in runs])

    def _read_each(self, runs: Sequence[RunEntry]) -> None:
        worker, shown, read = get_current_worker(), time.monotonic(), dict[int, RunEntry]()
        unread = [place for place, run in enumerate(runs) if run.level is None]
        for start in range(0, len(unread), _AT_ONCE):
            if worker.is_cancelled:
                return
            places = unread[start : start + _AT_ONCE]
            for place, entry in zip(places, read_rows([runs[at] for at in places], self._settings), strict=True):
                read[place] = entry
                self._kept.put(entry)
            if time.monotonic() - shown >= _SHOW_SECS:
                self.app.call_from_thread(self._take, read)
                shown, read = time.monotonic(), {}
        if not worker.is_cancelled:
            self.app.call_from_thread(self._take, read)

    def _take(self, read: dict[int, RunEntry]) -> None:
        """Show what has been read."""
        if not self.is_attached:
            return
        for place, run in read.items():
            self._runs[place] = run
        self._draw(self._width)
        self._renew()


_MAX_WIDTH, _FRAME = 140, 4
"""Cells of the box at most, as in `app.tcss`, and of its border and padding."""
