"""The class `Damage`, one row of the table of damages, and the functions that damage files.

The table itself is in `damages`. Each fault has the lowest depth at which a reader can see it:

    records    names, seals, attempts, active files: a listing and small files
    checksums  also the sha256, footer and identity of each sealed file and black box
    rows       also every row
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from esper_schemas.examining.faults import HARMLESS, FaultKind
from esper_schemas.examining.segment import DEPTHS, Depth
from esper_schemas.run.names import ACTIVE, BLACK_BOXES, attempt_name, rank_name, seal_name, sealed_name
from esper_schemas.segment.active import RowLayout
from esper_schemas.testing.bases import Base

Address = tuple[int | None, int | None, FaultKind]
"""Rank, segment and kind of a fault."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A fault that a reader must find: its address, and the lowest depth at which it can be seen."""

    rank: int | None
    segment: int | None
    kind: FaultKind
    depth: Depth

    @property
    def address(self) -> Address:
        """Its rank, segment and kind."""
        return (self.rank, self.segment, self.kind)

    @property
    def is_damage(self) -> bool:
        """Whether it damages the run."""
        return self.kind not in HARMLESS


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a run to damage, and the undamaged runs."""

    path: Path
    bases: Mapping[Base, Path]

    def file(self, folder: str, name: str, rank: int = 0) -> Path:
        """A file of a rank."""
        return self.path / rank_name(rank) / folder / name

    def sealed(self, number: int, rank: int = 0) -> Path:
        """A sealed file."""
        return self.path / rank_name(rank) / sealed_name(number)

    def seal(self, number: int, rank: int = 0) -> Path:
        """A seal record."""
        return self.path / rank_name(rank) / seal_name(number)

    def attempt(self, number: int) -> Path:
        """An attempt record."""
        return self.path / rank_name(0) / attempt_name(number)

    def active(self) -> Path:
        """The only active file."""
        (path,) = self.file(ACTIVE, "").glob("*.arrows")
        return path

    def black_box(self, rank: int = 0) -> Path:
        """The only black box of a rank."""
        (path,) = self.file(BLACK_BOXES, "", rank).glob("*.parquet")
        return path

    def black_box_record(self, rank: int = 0) -> Path:
        """The record of the only black box of a rank."""
        return self.black_box(rank).with_suffix(".json")

    def of(self, base: Base) -> Copy:
        """An undamaged run, to take a file from."""
        return Copy(self.bases[base], self.bases)


@dataclass(frozen=True, slots=True)
class Damage:
    """One row of the table.

    Attributes:
        name: what is done to the run.
        base: the run that it is done to.
        inflict: damages a copy of the run.
        faults: everything that a reader must find.
        header: `gone` or `unreadable` if the run header is damaged; a reader that needs it may refuse the run.
        rows_left: number of rows, of all ranks, that a reader at `checksums` shows; None if it is not specified.
    """

    name: str
    base: Base
    inflict: Callable[[Copy], object]
    faults: tuple[Seen, ...]
    header: Literal["whole", "unreadable", "gone"] = "whole"
    rows_left: int | None = None

    @property
    def rank(self) -> int:
        """The damaged rank; 0 if the whole run is damaged."""
        return next((fault.rank for fault in self.faults if fault.rank is not None), 0)

    @property
    def depth(self) -> Depth | None:
        """The lowest depth at which a reader sees that the run is damaged; None if it is not damaged."""
        return min((fault.depth for fault in self.faults if fault.is_damage), key=DEPTHS.index, default=None)

    def addresses(self, depth: Depth) -> set[Address]:
        """The faults that a reader must find at a depth."""
        return {fault.address for fault in self.faults if DEPTHS.index(fault.depth) <= DEPTHS.index(depth)}

    def is_seen(self, depth: Depth) -> bool:
        """Whether a reader at this depth must report that the run is damaged."""
        return self.depth is not None and DEPTHS.index(self.depth) <= DEPTHS.index(depth)

    def copy_to(self, folder: Path, bases: Mapping[Base, Path]) -> Path:
        """Make a damaged copy of its run, in a folder of its own under `folder`; `bases` comes from `write_bases`."""
        base = bases[self.base]
        path = folder / re.sub(r"\W+", "-", self.name) / base.name
        shutil.copytree(base, path)
        self.inflict(Copy(path, bases))
        return path

    def objections(
        self, found: Collection[Address], depth: Depth, *, at_rest: Collection[Address] = (), lists_notes: bool = False
    ) -> list[str]:
        """The faults that a reader missed or reported without reason, one line each; empty for a correct reader.

        Args:
            found: the faults that it reported.
            depth: how deep it looks.
            at_rest: the faults that it reports in the undamaged run.
            lists_notes: whether it lists notes, which is optional.
        """
        required = {address for address in self.addresses(depth) if lists_notes or address[2] != "note"}
        welcome = self.addresses("rows") | {address for address in found if address[2] == "note"}
        missed = sorted(required.difference(found), key=str)
        unfounded = sorted(set(found).difference(welcome, at_rest), key=str)
        return [f"not found: {_shown(it)}" for it in missed] + [f"unfounded: {_shown(it)}" for it in unfounded]


def _shown(address: Address) -> str:
    rank, segment, kind = address
    place = [f"{name} {number}" for name, number in (("rank", rank), ("segment", segment)) if number is not None]
    return f"{kind} ({', '.join(place) or 'the run'})"


# ------------------------------------------------------------------ how files are damaged


def flip(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    """Truncate a file to a size; a negative size removes that many bytes from the end."""
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def edit(path: Path, **fields: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2))


def remove(*paths: Path) -> None:
    """Remove files."""
    for path in paths:
        path.unlink()


def put(copy: Copy, number: int, source: Copy, source_number: int, source_rank: int = 0) -> None:
    """Replace segment `number` and its seal with a sealed segment from elsewhere."""
    shutil.copyfile(source.sealed(source_number, source_rank), copy.sealed(number))
    shutil.copyfile(source.seal(source_number, source_rank), copy.seal(number))
    edit(copy.seal(number), segment=number)


def rewrite(copy: Copy, number: int, change: Callable[[pa.Table], pa.Table], **fields: object) -> None:
    """Change the rows or columns of a sealed file, and update its seal to the new bytes and with `fields`."""
    path = copy.sealed(number)
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    data = path.read_bytes()
    edit(copy.seal(number), sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), **fields)


def put_black_box(copy: Copy, source: Copy, source_rank: int = 0) -> None:
    """Replace the black box and its record with those from elsewhere."""
    box, record = copy.black_box(), copy.black_box_record()
    shutil.copyfile(source.black_box(source_rank), box)
    shutil.copyfile(source.black_box_record(source_rank), record)
    other = int(source.black_box(source_rank).stem)
    for path in (box, record):
        path.rename(path.with_stem(f"{other:08d}"))


def rewrite_black_box(copy: Copy, change: Callable[[pa.Table], pa.Table], **fields: object) -> None:
    """Change the rows or columns of the black box, and update its record to the new bytes and with `fields`."""
    path = copy.black_box()
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    data = path.read_bytes()
    edit(copy.black_box_record(), sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), **fields)


def with_column(name: str, make: Callable[[pa.ChunkedArray], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    """A change for `rewrite` that replaces a column."""

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
    """Swap two sealed segments and their seals."""
    for of in (copy.sealed, copy.seal):
        first, second = of(one).read_bytes(), of(other).read_bytes()
        of(one).write_bytes(second)
        of(other).write_bytes(first)
    edit(copy.seal(one), segment=one)
    edit(copy.seal(other), segment=other)


def write(path: Path, data: bytes) -> None:
    """Write a file, and make its folder if necessary."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def make_folder(path: Path) -> None:
    """Replace a file with an empty folder."""
    path.unlink()
    path.mkdir()


def go_back(column: pa.ChunkedArray) -> pa.Array:
    """Sequence numbers in which one comes twice."""
    numbers: list[Any] = column.to_pylist()
    numbers[4] = numbers[3]
    return pa.array(numbers, column.type)


def last_differs(column: pa.ChunkedArray) -> pa.Array:
    """Whole numbers with the last one changed."""
    numbers: list[Any] = column.to_pylist()
    numbers[-1] += 1
    return pa.array(numbers, column.type)


def without_row(table: pa.Table) -> pa.Table:
    """A table without its fifth row."""
    return pa.concat_tables([table.slice(0, 4), table.slice(5)])
