"""The terminal as a full screen: taken over, drawn on, and given back as it was, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn, TextIO

TERMINATED = 143
"""Exit code after SIGTERM."""


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal; elsewhere COLUMNS and LINES, else 80 and 24."""
    if stream.isatty():
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if columns and rows:
                return columns, rows
    size = shutil.get_terminal_size((80, 24))
    return size.columns, size.lines


class FullScreen:
    """The other screen of a terminal; `draw` writes a whole frame without flicker."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: tuple[tuple[int, int], list[str]] | None = None

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines from the top; only lines that changed are written, all after a change of size."""
        size = terminal_size(self._stream)
        before = self._shown[1] if self._shown and self._shown[0] == size else []
        parts = [] if before else ["\x1b[2J"]
        for row, line in enumerate(lines):
            if row >= len(before) or before[row] != line:
                parts.append(f"\x1b[{row + 1};1H{line}\x1b[0m\x1b[K")
        if len(lines) < len(before):
            parts.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        self._stream.write("".join(parts))
        self._stream.flush()
        self._shown = (size, list(lines))


@contextlib.contextmanager
def full_screen(stream: TextIO) -> Iterator[FullScreen]:
    """Take the terminal over: other screen, no cursor, no echo, no wrapping; SIGTERM leaves through the same door."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    stream.write("\x1b[?1049h\x1b[?25l\x1b[?7l")
    try:
        with _no_echo():
            yield FullScreen(stream)
    finally:
        stream.write("\x1b[?7h\x1b[?25h\x1b[?1049l")
        stream.flush()
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def _no_echo() -> Iterator[None]:
    """Keys pressed meanwhile do not spoil the picture."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    silent = termios.tcgetattr(descriptor)
    silent[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)
