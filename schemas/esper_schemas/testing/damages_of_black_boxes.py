"""The rows of the table of damages that damage a black box; see `damages`."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pyarrow as pa

from esper_schemas.examining.faults import FaultKind
from esper_schemas.examining.segment import Depth
from esper_schemas.testing.bases import Base
from esper_schemas.testing.damage import (
    Copy,
    Damage,
    Seen,
    cut,
    edit,
    flip,
    make_folder,
    put_black_box,
    remove,
    rewrite_black_box,
    with_column,
    write,
)


def _black_box(
    name: str,
    inflict: Callable[[Copy], object],
    kind: FaultKind,
    depth: Depth = "records",
    base: Base = "finished",
) -> Damage:
    """A damage of a black box, which costs no row."""
    return Damage(name, base, inflict, (Seen(0, None, kind, depth),), rows_left=40 if base == "two ranks" else 44)


def _copy_black_box(copy: Copy) -> None:
    for path in (copy.black_box(), copy.black_box_record()):
        shutil.copyfile(path, path.with_stem("00000030"))


def _leave_unfinished(copy: Copy, *, cut_at: int | None = None) -> None:
    path = copy.black_box()
    aside = path.rename(f"{path}.tmp")
    if cut_at is not None:
        cut(aside, cut_at)


BLACK_BOXES = (
    _black_box("record of a black box gone", lambda copy: remove(copy.black_box_record()), "missing"),
    _black_box("black box gone, its record left", lambda copy: remove(copy.black_box()), "missing"),
    _black_box("bit of a black box flipped", lambda copy: flip(copy.black_box(), 300), "corrupt", "checksums"),
    _black_box("black box cut", lambda copy: cut(copy.black_box(), -100), "corrupt"),
    _black_box("black box empty", lambda copy: cut(copy.black_box(), 0), "corrupt"),
    _black_box("folder in place of a black box", lambda copy: make_folder(copy.black_box()), "corrupt"),
    _black_box("record of a black box is no JSON", lambda copy: cut(copy.black_box_record(), 20), "corrupt"),
    _black_box(
        "record of a black box with a value of a wrong type",
        lambda copy: edit(copy.black_box_record(), minibatches="2"),
        "corrupt",
    ),
    _black_box(
        "record of a black box with a number that is too large",
        lambda copy: edit(copy.black_box_record(), minibatches=65_537),
        "corrupt",
    ),
    _black_box(
        "record of a black box with another sha256",
        lambda copy: edit(copy.black_box_record(), sha256="0" * 64),
        "corrupt",
        "checksums",
    ),
    _black_box(
        "record of a black box claims more minibatches",
        lambda copy: edit(copy.black_box_record(), minibatches=3),
        "corrupt",
        "checksums",
    ),
    _black_box(
        "record of a black box names another attempt",
        lambda copy: edit(copy.black_box_record(), attempt=1),
        "corrupt",
        "checksums",
    ),
    _black_box(
        "record of a black box names another recording",
        lambda copy: edit(copy.black_box_record(), run_uuid="another"),
        "foreign",
    ),
    _black_box("black box of another run put in", lambda copy: put_black_box(copy, copy.of("other")), "foreign"),
    _black_box(
        "black box of an earlier recording of the same name put in",
        lambda copy: put_black_box(copy, copy.of("earlier")),
        "foreign",
    ),
    _black_box(
        "black box of another rank put in",
        lambda copy: put_black_box(copy, copy, 1),
        "corrupt",
        "checksums",
        "two ranks",
    ),
    _black_box("black box copied to another update", _copy_black_box, "corrupt"),
    _black_box(
        "column of a black box of a wrong type, the record fits",
        lambda copy: rewrite_black_box(
            copy, with_column("value_loss", lambda column: column.cast("float32").combine_chunks())
        ),
        "corrupt",
        "checksums",
    ),
    _black_box(
        "column of a black box that is needed gone, the record fits",
        lambda copy: rewrite_black_box(copy, lambda table: table.drop_columns("minibatch")),
        "corrupt",
        "checksums",
    ),
    _black_box(
        "sequence number of a black box is null, the record fits",
        lambda copy: rewrite_black_box(
            copy, with_column("seq", lambda column: pa.array([None] * len(column), column.type))
        ),
        "corrupt",
        "checksums",
    ),
    _black_box("whole black box left unfinished", _leave_unfinished, "note"),
    _black_box("part of a black box left unfinished", lambda copy: _leave_unfinished(copy, cut_at=200), "note"),
    _black_box(
        "unfinished record of a black box left",
        lambda copy: write(copy.file("blackbox", "00000030.json.tmp"), b"{"),
        "note",
    ),
    _black_box("stray file beside the black boxes", lambda copy: write(copy.file("blackbox", "x.csv"), b"x"), "note"),
)
