"""The size of a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TextIO


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Return columns and rows of the terminal; without a terminal COLUMNS and LINES, by default 80 and 24."""
    if stream.isatty():
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if columns and rows:
                return columns, rows
    size = shutil.get_terminal_size((80, 24))
    return size.columns, size.lines
