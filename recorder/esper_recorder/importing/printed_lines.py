"""The lines that a training loop prints: keys with numbers, as `value_loss: 0.5 | policy_loss: -0.01`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from esper_recorder.dialects.plain import is_loss, likely_losses
from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.json_lines import MAX_LINE_BYTES
from esper_recorder.importing.log_file import LogFile
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.records import STEP_KEYS, points_of
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.text_file import TextFile

_START_BYTES = 1024 * 1024
_LONGEST = 64 * 1024  # of a line, in characters: a longer one is no line for a person
_LEAST_LINES = 2  # with the same loss: settings have one
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LEVEL = r"(?:DEBUG|INFO|WARNING|ERROR)\b"  # what `logging` puts before a text
_WORD = r"[A-Za-z_][\w./()-]{0,60}"
_NUMBER = r"[-+]?(?:nan|inf(?:inity)?|\d{1,3}(?:,\d{3})+(?:\.\d*)?|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"

_KEY = rf"(?<![\w.])(?!{_LEVEL})(?P<key>{_WORD}(?: (?!{_LEVEL}){_WORD}){{0,3}})"

_PAIR = re.compile(
    rf"{_KEY}(?:[\"']?\s*[:=]\s*|(?P<gap>\s+))[\"']?"
    rf"(?:(?P<wrapped>(?:tensor|array|Array|np\.\w+)\(\[?))?(?P<number>{_NUMBER})(?(wrapped)\]?(?:,\s*[a-z][^()]*)?\))"
    r"(?P<unit>[%kKMB]|s)?(?=[\s|;:/)\]}\"']|,(?!\d)|$)",
    re.IGNORECASE,
)
"""A key, a number, and the unit behind it. Between them is `:` or `=`, or only a gap."""

_BEGUN = re.compile(rf"{_KEY}[\"']?\s*[:=]\s*[\"']?[-+]?\.?\d", re.IGNORECASE)
"""A key, and what begins like its number: `0,5` and `12ms` are none that is read."""

_TITLE = re.compile(
    rf"(?:^|\] )\s*(?:\[(?!{_LEVEL})([A-Z][A-Za-z]*(?: [A-Z][A-Za-z]*)?)\] |(?!{_LEVEL})([A-Z]{{3,}}) - )(?=[A-Za-z])"
)
"""What Acme, and Stoix and Mava put before the keys of an actor, a learner and an evaluation."""

_PROGRAM = ".py"
"""How what looks like a key ends where `logging` names the line of a program, as `train.py:12`."""

_BETWEEN_DICTS = re.compile(r"(?<=\})\s*,\s*(?=\{)")
_WHOLE = ("}", "}]", "})")
"""How a line ends that lacks nothing, also without the end of a line."""

_UNITS = {"%": 0.01, "k": 1e3, "m": 1e6, "b": 1e9}


class PrintedLines:
    """What a training loop printed in words of its own, kept in a file, as a `PointReader`.

    A line has keys and numbers: `key: 0.5`, `key=0.5`, `'key': 0.5`, and if it has a loss also `key 0.5`. A percentage
    becomes a fraction, and `1.5M` is 1,500,000. Other lines are counted, and so are numbers in other forms. A record is
    one line or several: it ends behind a line with both losses, or else where a key comes again. A line with a list of
    dicts is as many lines as it has dicts. Where a line begins with `[Learner]` or `TRAINER -`, the keys on it are
    `learner/…` and `trainer/…`, so that a return of the actor is not that of an evaluation.
    """

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE) -> None:
        self.path = path
        self._following = following
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each line; see `PointReader.points`."""
        others = number = 0
        repeated: set[str] = set()
        unread: Counter[str] = Counter()
        record: dict[str, float] = {}
        with LogFile(self.path, self._following) as file:
            while (line := file.readline(MAX_LINE_BYTES)) != b"":
                if line is None:
                    yield NOTHING_YET
                    continue
                on_read(len(line))
                number += 1
                parts = _parts_of(line.decode("utf-8", "replace"))
                if not line.endswith(b"\n") and not parts[-1].endswith(_WHOLE):
                    account.unreadable.add(f"line {number} (torn: it does not end)")
                    parts.pop()
                for text in parts:
                    pairs = list(_pairs(text))
                    others += not pairs and bool(text.strip())
                    title = _title_of(text) if pairs else ""
                    values = {key if key in STEP_KEYS else f"{title}{key}": value for key, value in pairs}
                    unread.update(_unread(text) - {key for key, _ in pairs} if pairs else ())
                    repeated.update(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
                    if not record.keys().isdisjoint(values):
                        yield points_of(record)
                        record = {}
                    record |= values
                    if _has_both(tuple(values)):
                        yield points_of(record)
                        record = {}
        if record:
            yield points_of(record)
        if others:
            account.not_imported["other lines"] = others
        for key, count in sorted(unread.items()):
            account.left_out.setdefault(key, f"numbers in a form that is not read, on {count:,} lines")
        if repeated:
            keys = ", ".join(sorted(repeated)[:10])
            account.notes.append(f"several times on one line, where the last one counts: {keys}")


def has_losses(path: Path) -> bool:
    """Whether the first MiB of a text has lines with keys and numbers, and a loss among them more than once.

    Raises:
        OSError: the file cannot be read.
    """
    with TextFile(path) as text:
        start = text.stream.read(_START_BYTES)
    if b"loss" not in start.lower():
        return False
    lines = (line for line in start.decode("utf-8", "replace").split("\n") if "loss" in line.lower())
    losses = Counter(key for line in lines for part in _parts_of(line) for key in {key for key, _ in _pairs(part)})
    return any(count >= _LEAST_LINES and is_loss(key) for key, count in losses.items())


@lru_cache
def _has_both(keys: tuple[str, ...]) -> bool:
    return all(likely_losses(keys).values())


def _parts_of(line: str) -> list[str]:
    """What a terminal shows of a line, each dict of a list by itself."""
    text = _shown(line)
    return _BETWEEN_DICTS.split(text) if "}" in text else [text]


def _unread(text: str) -> set[str]:
    """The keys in a text behind which something begins like a number."""
    found = {match["key"] for match in _BEGUN.finditer(text)} if len(text) <= _LONGEST else set()
    return {key for key in found if not key.endswith(_PROGRAM)}


def _title_of(text: str) -> str:
    """How the keys of a line begin, by the word at its beginning."""
    title = _TITLE.search(text) if "[" in text or " - " in text else None
    return "" if title is None else f"{(title[1] or title[2]).lower().replace(' ', '_')}/"


def _shown(line: str) -> str:
    """What a terminal shows of a line: without colours, and without what a progress bar wrote before the last `\\r`."""
    return _ESCAPE.sub("", line.rstrip("\r\n").rpartition("\r")[2])


def _pairs(text: str) -> Iterator[tuple[str, float]]:
    """Yield the keys in a text with their numbers."""
    if len(text) > _LONGEST:
        return
    has_loss = "loss" in text.lower()
    for match in _PAIR.finditer(text):
        if (match["gap"] is None or has_loss) and not match["key"].endswith(_PROGRAM):
            unit = (match["unit"] or "").lower()
            yield match["key"], float(match["number"].replace(",", "")) * _UNITS.get(unit, 1.0)
