"""Reads the offline runs of W&B (`run-*.wandb`): records of protobuf in the log format of LevelDB.

Seven bytes begin the file: `:W&B`, a magic number and a version. Blocks of 32,768 bytes follow, counted from the
beginning of the file, with fragments of records: the CRC-32 of type and data, the length of the data, the type (1 a
whole record, 2 its first fragment, 3 a middle one, 4 its last one), and the data. A fragment never crosses a block. The
numbers of the fields are those of `wandb_internal.proto`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, Watched
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.records import points_of
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import flatten
from esper_schemas.errors import UsageError
from esper_schemas.tfevents.protobuf import MalformedError, fields_of

MAGIC = b":W&B"

BLOCK_BYTES = 32 * 1024
MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer record is passed over."""

_START = 7
_HEADER = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

_HISTORY, _CONFIG, _RUN, _CONFIG_OF_RUN = 2, 5, 17, 4
_KINDS = {4: "console output", 13: "console output", 6: "files", 7: "system statistics", 8: "artifacts", 10: "alerts"}
"""Records that are counted, by the number of their field. All others are about the run, or repeat its history."""

_MAX_SETTINGS = 1000


class LevelLog:
    """The records of one file; reads on from there if it is asked again.

    Attributes:
        offset: Where the next fragment begins.
        torn_bytes: Bytes behind `offset` that are no whole fragment, when the file was last read to its end.
        is_open: Whether the fragments before `offset` end in the middle of a record.
    """

    def __init__(self) -> None:
        self.offset = _START
        self.torn_bytes = 0
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def is_open(self) -> bool:
        """Whether the fragments that were read end in the middle of a record."""
        return bool(self._parts)

    def records(self, file: BinaryIO, account: Account) -> Iterator[bytes]:
        """Yield the whole records from `offset` on, and note in the account those that are damaged."""
        file.seek(self.offset)
        while True:
            left = BLOCK_BYTES - self.offset % BLOCK_BYTES
            if left < _HEADER.size:
                file.read(left)
                self.offset += left
                continue
            header = file.read(_HEADER.size)
            length, kind = _HEADER.unpack(header)[1:] if len(header) == _HEADER.size else (0, 0)
            data = file.read(length)
            if len(header) < _HEADER.size or len(data) < length:
                self.torn_bytes = len(header) + len(data)
                return
            crc = _HEADER.unpack(header)[0]
            if length + _HEADER.size > left or zlib.crc32(data, zlib.crc32(header[6:])) != crc:
                account.unreadable.add(
                    f"offset {self.offset:,} (a record fails its checksum; its block is passed over)"
                )
                self._parts = []
                self.offset += left
                file.seek(self.offset)
                continue
            self.offset += len(header) + len(data)
            yield from self._joined(kind, data, account)

    def _joined(self, kind: int, data: bytes, account: Account) -> Iterator[bytes]:
        """Yield a record if this is its last fragment."""
        if kind in (_WHOLE, _FIRST):
            if self._parts:
                account.unreadable.add(f"offset {self.offset:,} (the record before has no end)")
            self._parts, self._size = [], 0
        elif not self._parts:
            return  # what belongs to it is damaged
        self._size += len(data)
        self._parts.append(data if self._size <= MAX_RECORD_BYTES else b"")
        if kind in (_WHOLE, _LAST):
            parts, self._parts = self._parts, []
            if self._size <= MAX_RECORD_BYTES:
                yield b"".join(parts)
            else:
                account.unreadable.add(f"offset {self.offset:,} (a record of {self._size:,} bytes; it was passed over)")


class WandbRun:
    """An offline run of W&B as a `PointReader`; each call of `log` is one record."""

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE) -> None:
        self.path = path
        self.config: dict[str, Any] = {}
        self._following = following

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each record of the history; see `PointReader.points`."""
        others: dict[str, str] = {}
        log = LevelLog()
        with self.path.open("rb") as file:
            watched = Watched(self.path, file, self._following)
            while True:
                is_over = watched.is_over
                for record in log.records(file, account):
                    on_read(len(record))
                    try:
                        values = self._values_of(record, account, others)
                    except (MalformedError, struct.error, ValueError, RecursionError) as error:
                        account.unreadable.add(f"a record before offset {log.offset:,} ({error})")
                        continue
                    if values:
                        yield points_of(values)
                if is_over:
                    break
                watched.note_read(log.offset)
                yield NOTHING_YET
                while not (watched.has_changed() or watched.is_over):
                    yield NOTHING_YET
        if log.offset == _START and not (account.unreadable.count or log.torn_bytes):
            raise UsageError("the run of W&B has no records; W&B writes them some seconds after they are logged")
        if log.torn_bytes or log.is_open:
            account.unreadable.add(f"offset {log.offset:,} (torn: the file ends in the middle of a record)")
        if self.config:
            account.notes.append(f"the {len(self.config):,} hyper-parameters of the run are in the run's header")
        for name, kind in others.items():
            account.left_out.setdefault(name, kind)

    def _values_of(self, record: bytes, account: Account, others: dict[str, str]) -> dict[str, float]:
        """Take one record; return the numbers of a record of the history, by key.

        Raises:
            MalformedError, ValueError, RecursionError: it is not what it should be.
        """
        values: dict[str, float] = {}
        for number, _, data in fields_of(record):
            if not isinstance(data, bytes):
                continue
            if number == _HISTORY:
                flatten(_items_of(data, items=1), "", values, others)
            elif number == _CONFIG:
                self._configure(data)
            elif number == _RUN:
                for part, _, config in fields_of(data):
                    if part == _CONFIG_OF_RUN and isinstance(config, bytes):
                        self._configure(config)
            elif number in _KINDS:
                account.not_imported[_KINDS[number]] += 1
        if values.pop("_runtime", None) is not None:
            others["_runtime"] = "seconds since the beginning of the run, as elapsed_secs is"
        return values

    def _configure(self, data: bytes) -> None:
        found = {key: value for key, value in _items_of(data, items=1).items() if not key.startswith("_")}
        if len(self.config) + len(found) <= _MAX_SETTINGS:
            self.config |= found


def _items_of(data: bytes, items: int) -> dict[str, Any]:
    """The keys and values of a record that has a list of them; a key of several parts is joined with `/`."""
    found: dict[str, Any] = {}
    for number, _, item in fields_of(data):
        if number == items and isinstance(item, bytes):
            parts: list[str] = []
            value = b"null"
            for part, _, content in fields_of(item):
                if part in (1, 2) and isinstance(content, bytes):
                    parts.append(content.decode("utf-8", "replace"))
                elif part == 16 and isinstance(content, bytes):
                    value = content
            found["/".join(parts)] = json.loads(value)
    return found
