"""Scalars of event records: those of the common form many at a time, all others one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esper_recorder.importing.points import Points
from esper_schemas.tfevents.protobuf import MalformedError, parse_event
from esper_schemas.tfevents.records import Bytes, Chunk, Group, Offsets

_MAX_VARINT = 10


@dataclass(slots=True)
class Other:
    """What a chunk has besides scalars.

    Attributes:
        counts: How often each kind of content came.
        texts: Name and text of each text.
        settings: Hyper-parameters of the hparams plugin.
        malformed: Number of records that are no events.
    """

    counts: dict[str, int] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    malformed: int = 0


@dataclass(slots=True)
class _Columns:
    """Scalars of a chunk, in any order: place of the record, number of the name, and the rest of a point."""

    places: list[NDArray[np.int64]] = field(default_factory=list)
    names: list[NDArray[np.int64]] = field(default_factory=list)
    steps: list[NDArray[np.int64]] = field(default_factory=list)
    times: list[NDArray[np.float64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)


class ScalarDecoder:
    """Turns chunks of records into points; keeps the names that it has met."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def decode(self, chunk: Chunk) -> tuple[Points, Other]:
        """Return the scalars of a chunk in the order of the file, and what else it has."""
        columns, other = _Columns(), Other()
        for group in chunk.groups:
            self._decode_group(group, columns, other)
        if not columns.places:
            return Points([], [], [], []), other
        order = np.argsort(np.concatenate(columns.places), kind="stable")
        names = np.array(self._names, dtype=object)[np.concatenate(columns.names)[order]]
        steps, times, values = (
            np.concatenate(parts)[order].tolist() for parts in (columns.steps, columns.times, columns.values)
        )
        return Points(names.tolist(), steps, times, values), other

    def _decode_group(self, group: Group, columns: _Columns, other: Other) -> None:
        data, places = group.data, group.places
        is_common = np.zeros(len(data), dtype=bool)
        if data.shape[1] > 9 and len(data):
            has_time = data[:, 0] == 0x09
            has_step = has_time & (data[:, 9] == 0x10)
            self._decode_common(data, places, has_time & ~has_step, 0, columns, is_common)
            digits = data[:, 10 : 10 + _MAX_VARINT] & 0x80
            width = np.argmin(digits, axis=1) + 1 if digits.shape[1] else np.zeros(len(data), dtype=np.int64)
            for size in np.unique(width[has_step]):
                self._decode_common(data, places, has_step & (width == size), int(size), columns, is_common)
        for place in np.flatnonzero(~is_common):
            self._decode_one(data[place].tobytes(), int(places[place]), columns, other)

    def _decode_common(
        self,
        data: Bytes,
        places: Offsets,
        chosen: NDArray[np.bool_],
        step_bytes: int,
        columns: _Columns,
        is_common: NDArray[np.bool_],
    ) -> None:
        """Take the records that are one time, one step of so many bytes, and one name with one float.

        That is how PyTorch, tensorboardX and TensorFlow 1 write a scalar: five fixed tags and four lengths, all of them
        known from the length of the record.
        """
        length = data.shape[1]
        start = 10 + step_bytes if step_bytes else 9
        name_bytes = length - start - 11
        if not 0 < name_bytes < 117 or not chosen.any():  # all lengths in one byte
            return
        fixed = {
            start: 0x2A,
            start + 1: length - start - 2,
            start + 2: 0x0A,
            start + 3: length - start - 4,
            start + 4: 0x0A,
            start + 5: name_bytes,
            length - 5: 0x15,
        }
        fits = chosen.copy()
        for column, byte in fixed.items():
            fits &= data[:, column] == byte
        if not fits.any():
            return
        is_common |= fits
        found = data[fits]
        steps = np.zeros(len(found), dtype=np.uint64)
        for digit in range(step_bytes):
            steps |= (found[:, 10 + digit].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * digit)
        columns.places.append(places[fits])
        columns.names.append(self._numbers_of(found[:, start + 6 : start + 6 + name_bytes]))
        columns.steps.append(steps.view(np.int64))
        columns.times.append(np.ascontiguousarray(found[:, 1:9]).view("<f8").ravel())
        columns.values.append(np.ascontiguousarray(found[:, length - 4 :]).view("<f4").ravel().astype(np.float64))

    def _numbers_of(self, names: Bytes) -> NDArray[np.int64]:
        """The number of each name, of which there are few."""
        numbers = np.empty(len(names), dtype=np.int64)
        left = np.arange(len(names))
        while len(left):
            is_same = (names[left] == names[left[0]]).all(axis=1)
            numbers[left[is_same]] = self._number(names[left[0]].tobytes().decode("utf-8", "replace"))
            left = left[~is_same]
        return numbers

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def _decode_one(self, data: bytes, place: int, columns: _Columns, other: Other) -> None:
        try:
            event = parse_event(data)
        except MalformedError:
            other.malformed += 1
            return
        for name, value in event.scalars:
            columns.places.append(np.array([place]))
            columns.names.append(np.array([self._number(name)]))
            columns.steps.append(np.array([event.step]))
            columns.times.append(np.array([event.time]))
            columns.values.append(np.array([value]))
        other.texts += event.texts
        other.settings |= event.settings
        for kind in event.others:
            other.counts[kind] = other.counts.get(kind, 0) + 1
