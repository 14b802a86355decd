"""The size of a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TextIO


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal; elsewhere COLUMNS and LINES, else 80 and 24."""
    if stream.isatty():
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(stream.fileno())
            if columns and rows:
                return columns, rows
    size = shutil.get_terminal_size((80, 24))
    return size.columns, size.lines
