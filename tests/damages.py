"""The table of damages: ways to damage a recorded run, and what every reader must find in it.

A reader looks as deep as it can afford; a fault has the least depth at which it can be seen:

    records    names, seals, attempts, active files: a listing and small files
    checksums  also the sha256, the footer and the identity of each sealed file
    rows       also every row

Whoever reads the format can hold itself against this table: record the runs of `BASES`, damage a copy by
`Damage.inflict`, and compare. Nothing here needs more than the format and pyarrow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from esper_schemas.examining.faults import FaultKind
from esper_schemas.segment.active import RowLayout

Depth = Literal["records", "checksums", "rows"]
DEPTHS: tuple[Depth, ...] = ("records", "checksums", "rows")

Base = Literal["finished", "killed", "two ranks", "earlier", "other"]
BASES: Mapping[Base, str] = {
    "finished": "rows 0 to 24 of attempt 0 in segments 0 to 2, rows 25 to 44 of attempt 1 in segments 3 and 4; row 12"
    " was dropped, which row 13 says; both attempts are finished, the update of a row is its sequence number",
    "killed": "the same, and attempt 1 was killed when rows 45 to 49 were in the active segment 5",
    "two ranks": "ranks 0 and 1 of 20 rows each in segments 0 and 1, finished",
    "earlier": "as `finished`, of the same run id, recorded before it",
    "other": "as `finished`, of the run id `other`",
}
"""The runs that are damaged, or that damage is taken from. All have the run id `run` but `other`."""

LEFTOVER = "00000004.arrows"
"""Beside the run of `killed`: its active segment 4 as it was before it was sealed."""

Address = tuple[int | None, int | None, FaultKind]
"""Rank, segment and kind of a fault."""

HARMLESS = frozenset({"torn", "repaired", "note"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A fault that must be found: its address, and the least depth at which it can be."""

    rank: int | None
    segment: int | None
    kind: FaultKind
    depth: Depth

    @property
    def address(self) -> Address:
        """Where it is and what it is."""
        return (self.rank, self.segment, self.kind)

    @property
    def is_damage(self) -> bool:
        """Whether the run is damaged by it."""
        return self.kind not in HARMLESS


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a recorded run that may be damaged, and the whole runs beside it."""

    path: Path
    bases: Mapping[Base, Path]

    def file(self, folder: str, name: str, rank: int = 0) -> Path:
        """A file of a rank."""
        return self.path / f"rank-{rank:04d}" / folder / name

    def sealed(self, number: int, rank: int = 0) -> Path:
        """A sealed file."""
        return self.file("segments", f"{number:08d}.parquet", rank)

    def seal(self, number: int, rank: int = 0) -> Path:
        """A seal record."""
        return self.file("seals", f"{number:08d}.json", rank)

    def attempt(self, number: int) -> Path:
        """An attempt record."""
        return self.file("attempts", f"{number:04d}.json")

    def active(self) -> Path:
        """The only active file."""
        (path,) = self.file("active", "").glob("*.arrows")
        return path

    def of(self, base: Base) -> Copy:
        """Another whole run, to take a file from."""
        return Copy(self.bases[base], self.bases)


@dataclass(frozen=True, slots=True)
class Damage:
    """One row of the table.

    Attributes:
        name: what was done to the run.
        base: the run that it is done to.
        inflict: does it.
        faults: everything that must be found.
        header: `gone` and `unreadable` where the run header is damaged; a reader that cannot do without it says so.
        needs: what the format must have for it to be seen; None for format version 1 as of 0.1.0.
        rows_left: how many rows, of all ranks, a reader at `checksums` shows; None where that is not laid down.
    """

    name: str
    base: Base
    inflict: Callable[[Copy], object]
    faults: tuple[Seen, ...]
    header: Literal["whole", "unreadable", "gone"] = "whole"
    needs: Literal["recording uuid"] | None = None
    rows_left: int | None = None

    @property
    def rank(self) -> int:
        """The rank that is damaged; 0 where the whole run is."""
        return next((fault.rank for fault in self.faults if fault.rank is not None), 0)

    @property
    def depth(self) -> Depth | None:
        """The least depth at which the run is seen to be damaged; None if it is not damaged."""
        return min((fault.depth for fault in self.faults if fault.is_damage), key=DEPTHS.index, default=None)

    def addresses(self, depth: Depth) -> set[Address]:
        """What must be found at a depth, at the least."""
        return {fault.address for fault in self.faults if DEPTHS.index(fault.depth) <= DEPTHS.index(depth)}


# ------------------------------------------------------------------ how files are damaged


def flip(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    """Cut a file to a size, a negative one to so many bytes fewer."""
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def edit(path: Path, **fields: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2))


def remove(*paths: Path) -> None:
    """Remove files."""
    for path in paths:
        path.unlink()


def put(copy: Copy, number: int, source: Copy, source_number: int, source_rank: int = 0) -> None:
    """Put a sealed segment of another place, with its seal, in place of segment `number`."""
    shutil.copyfile(source.sealed(source_number, source_rank), copy.sealed(number))
    shutil.copyfile(source.seal(source_number, source_rank), copy.seal(number))
    edit(copy.seal(number), segment=number)


def rewrite(copy: Copy, number: int, change: Callable[[pa.Table], pa.Table], **fields: object) -> None:
    """Change the rows or columns of a sealed file, and fit its seal to the new bytes and to `fields`."""
    path = copy.sealed(number)
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    data = path.read_bytes()
    edit(copy.seal(number), sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), **fields)


def with_column(name: str, make: Callable[[pa.ChunkedArray], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    """A change that makes a column anew."""

    def change(table: pa.Table) -> pa.Table:
        column = make(table.column(name))
        at = table.schema.names.index(name)
        return table.set_column(at, pa.field(name, column.type), column).replace_schema_metadata(table.schema.metadata)

    return change


def row_offset(active: Path, row: int) -> int:
    """An offset in the middle of a row of an active file."""
    layout = RowLayout.read(active.read_bytes())
    assert layout is not None
    return len(layout.header) + row * layout.row_bytes + layout.row_bytes // 2


def swap(copy: Copy, one: int, other: int) -> None:
    """Put two sealed segments and their seals in each other's place."""
    for of in (copy.sealed, copy.seal):
        first, second = of(one).read_bytes(), of(other).read_bytes()
        of(one).write_bytes(second)
        of(other).write_bytes(first)
    edit(copy.seal(one), segment=one)
    edit(copy.seal(other), segment=other)


def write(path: Path, data: bytes) -> None:
    """Write a file, and its folder if need be."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def make_folder(path: Path) -> None:
    """Put an empty folder in place of a file."""
    path.unlink()
    path.mkdir()


def go_back(column: pa.ChunkedArray) -> pa.Array:
    """Sequence numbers of which one comes twice."""
    numbers: list[Any] = column.to_pylist()
    numbers[4] = numbers[3]
    return pa.array(numbers, column.type)


def last_differs(column: pa.ChunkedArray) -> pa.Array:
    """Whole numbers of which the last is another one."""
    numbers: list[Any] = column.to_pylist()
    numbers[-1] += 1
    return pa.array(numbers, column.type)


def without_row(table: pa.Table) -> pa.Table:
    """A table without its fifth row."""
    return pa.concat_tables([table.slice(0, 4), table.slice(5)])
