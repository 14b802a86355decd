"""What trainers print on a console: the lines of verl, the tables of Stable-Baselines3, the blocks of rsl_rl."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.json_lines import MAX_LINE_BYTES
from esper_recorder.importing.log_file import LogFile
from esper_recorder.importing.points import NOTHING_YET, Points, of_record
from esper_recorder.importing.records import points_of
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import as_number

_LINE = re.compile(r"(?:^|[\s)])step:(\d+) - ([^\s:]+:[^\s]+(?: - [^\s:]+(?::[^\s:]+)*:[^\s]+)*)")
"""A line that verl prints for each step, behind whatever a launcher puts before it."""

_RULE = "-----"
"""How a line above and below a table ends."""

_ROW = re.compile(r"\| ?([^|]*)\|([^|]*)\|\s*$")
"""A row of a table of two columns, which Stable-Baselines3, Baselines and Spinning Up print between two rules."""

_BLOCK = re.compile(r"Learning iteration (\d+)/\d+")
"""The headline of a block of rsl_rl, whose last line is the time that is left."""

_ENTRY = re.compile(r"\s*(\S[^:]*):\s+([-+]?(?:nan|inf|\d[\d.]*(?:e[-+]?\d+)?))s?\s*$", re.IGNORECASE)
_LAST_ENTRY = re.compile(r"\s*ETA:")

_IS_CONSOLE = re.compile(
    r"(?:^|[\s)])step:\d+ - [^\s:]+:[^\s]+|-----\s*?\n[^\n]*\|[^|\n]+\|[^|\n]*\|[ \t\r]*\n|Learning iteration \d+/\d+"
)
"""What none but the console output of a trainer has."""

_BORDERS = str.maketrans(
    dict.fromkeys("│┃║", "|") | dict.fromkeys("─━═┌┐└┘├┤┬┴┼┏┓┗┛┡┩┢┪┣┫┳┻╇╈╋╭╮╰╯╔╗╚╝╠╣╦╩╬╞╡╪╒╕╘╛", "-")
)
"""What Rich draws tables with, and what Stable-Baselines3 does."""

_NUMBER = re.compile(r"(?:np\.\w+\()?([-+]?(?:nan|inf|\d[\d.]*(?:e[-+]?\d+)?))\)?", re.IGNORECASE)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_INDENT = "   "  # of a key below the heading of its group
_MAX_ROWS = 5000


def is_console(start: bytes) -> bool:
    """Whether the first bytes of a text are the console output of a trainer that is known."""
    return _IS_CONSOLE.search(_plain(start.decode("utf-8", "replace"))) is not None


def _plain(text: str) -> str:
    """A text without colours, and with the borders of tables as ASCII."""
    return _ESCAPE.sub("", text).translate(_BORDERS)


class ConsoleOutput:
    """What a trainer printed, kept in a file, as a `PointReader`. Other lines between are counted.

    A record is a line of verl, a table, or a block of rsl_rl. One that is not whole, since the trainer was killed or
    still prints it, is none.
    """

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE) -> None:
        self.path = path
        self._following = following
        self.config: dict[str, Any] = {}
        self._table: dict[str, str] | None = None  # cells of the table that is being read
        self._group = ""
        self._block: dict[str, float] | None = None
        self._iteration = 0
        self._others = 0
        self._texts: dict[str, int] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each record; see `PointReader.points`."""
        number = began = 0
        with LogFile(self.path, self._following) as file:
            while (line := file.readline(MAX_LINE_BYTES)) != b"":
                if line is None:
                    yield NOTHING_YET
                    continue
                on_read(len(line))
                number += 1
                was_open = self._table is not None or self._block is not None
                shown = line.decode("utf-8", "replace").rstrip("\r\n").rpartition("\r")[2]
                text = _plain(shown)
                if not line.endswith(b"\n"):
                    account.unreadable.add(f"line {number} (torn: it does not end)")
                    continue
                yield from self._read(text, f"line {number}", account)
                if not was_open:
                    began = number
        if self._table:
            account.unreadable.add(f"lines {began} to {number} (torn: the table does not end)")
        elif self._block:
            account.unreadable.add(f"lines {began} to {number} (torn: the block of an iteration does not end)")
        if self._others:
            account.not_imported["other lines"] = self._others
        for name, count in self._texts.items():
            account.left_out.setdefault(name, f"text, in {count:,} records")

    def _read(self, text: str, where: str, account: Account) -> Iterator[Points]:
        """Take a line; yield the points of the record that it completes."""
        if row := _ROW.search(text):
            self._add_row(row[1], row[2].strip())
        elif text.rstrip().endswith(_RULE) and self._block is None:
            yield from self._of_table()
        elif headline := _BLOCK.search(text):
            self._block, self._iteration = {}, int(headline[1])
        elif self._block is not None and _LAST_ENTRY.match(text):
            block, self._block = self._block, None
            yield of_record(block, self._iteration)
        elif self._block is not None and (entry := _ENTRY.match(text)):
            if len(self._block) < _MAX_ROWS:
                self._block[entry[1].strip()] = float(entry[2])
        elif found := _LINE.search(text):
            yield of_record(_numbers_of(found[2], where, account), int(found[1]))
        elif text.strip() and self._block is None:
            self._others += 1

    def _add_row(self, key: str, cell: str) -> None:
        table = self._table = self._table or {}
        name = key.strip()
        if not cell and name.endswith("/"):
            self._group = name
        elif len(table) < _MAX_ROWS:
            self._group = self._group if key.startswith(_INDENT) else ""
            table[self._group + name] = cell

    def _of_table(self) -> Iterator[Points]:
        """Yield the points of a table that ends here; what begins here has no group yet."""
        table, self._table, self._group = self._table, None, ""
        values = {}
        for name, cell in (table or {}).items():
            if (number := as_number(cell)) is not None:
                values[name] = number
            elif cell:
                self._texts[name] = self._texts.get(name, 0) + 1
        if values:
            yield points_of(values)


def _numbers_of(text: str, where: str, account: Account) -> dict[str, float]:
    """The numbers of a line of verl."""
    values: dict[str, float] = {}
    for part in text.split(" - "):
        key, _, number = part.rpartition(":")
        match = _NUMBER.match(number)
        if match is None or not key:
            account.unreadable.add(f"{where} ({part[:60]!a} is no key with a number)")
        else:
            values[key] = float(match[1])
    return values
