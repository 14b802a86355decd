"""The table of damages: ways to damage a run, with every fault that a correct reader finds, and at which depth.

`bases.write_bases` writes the runs, `Damage.copy_to` damages a copy of one, `Damage.objections` checks an answer.
"""

from __future__ import annotations

import shutil

from esper_schemas.examining.faults import FaultKind
from esper_schemas.examining.segment import Depth
from esper_schemas.testing.bases import LEFTOVER
from esper_schemas.testing.damage import (
    Copy,
    Damage,
    Seen,
    cut,
    edit,
    flip,
    go_back,
    last_differs,
    make_folder,
    put,
    remove,
    rewrite,
    row_offset,
    swap,
    with_column,
    without_row,
    write,
)
from esper_schemas.testing.damages_of_black_boxes import BLACK_BOXES


def _in(segment: int | None, kind: FaultKind, depth: Depth = "records", rank: int | None = 0) -> Seen:
    return Seen(rank, segment, kind, depth)


def _left_out(segment: int, depth: Depth, rank: int = 0) -> tuple[Seen, ...]:
    """The faults of an unusable segment: its rows are lost, which shows at the start of the next segment."""
    return (_in(segment, "corrupt", depth, rank), _in(segment + 1, "lost", depth, rank))


def _remove_all(copy: Copy, *, seals: bool) -> None:
    remove(*copy.file("segments", "").iterdir())
    if seals:
        remove(*copy.file("seals", "").iterdir())


def _take_header(copy: Copy) -> None:
    shutil.copyfile(copy.of("other").path / "run.json", copy.path / "run.json")


SEGMENTS = (
    Damage(
        "last segment and its seal gone",
        "finished",
        lambda copy: remove(copy.sealed(4), copy.seal(4)),
        (_in(None, "lost"),),
        rows_left=34,
    ),
    Damage(
        "last segment gone, its seal left",
        "finished",
        lambda copy: remove(copy.sealed(4)),
        (_in(4, "missing"), _in(None, "lost")),
        rows_left=34,
    ),
    Damage(
        "every segment and seal gone",
        "finished",
        lambda copy: _remove_all(copy, seals=True),
        (_in(None, "lost"),),
        rows_left=0,
    ),
    Damage(
        "every segment gone, the seals left",
        "finished",
        lambda copy: _remove_all(copy, seals=False),
        (_in(0, "missing"), _in(None, "lost")),
        rows_left=0,
    ),
    Damage(
        "middle segment gone",
        "finished",
        lambda copy: remove(copy.sealed(1)),
        (_in(1, "missing"), _in(2, "lost")),
        rows_left=34,
    ),
    Damage(
        "middle segment and its seal gone",
        "finished",
        lambda copy: remove(copy.sealed(1), copy.seal(1)),
        (_in(1, "missing"), _in(2, "lost")),
        rows_left=34,
    ),
    Damage(
        "first segment gone",
        "finished",
        lambda copy: remove(copy.sealed(0)),
        (_in(0, "missing"), _in(1, "lost")),
        rows_left=34,
    ),
    Damage(
        "byte of a sealed file flipped",
        "finished",
        lambda copy: flip(copy.sealed(1), 500),
        _left_out(1, "checksums"),
        rows_left=34,
    ),
    Damage(
        "byte of a sealed file of rank 1 flipped",
        "two ranks",
        lambda copy: flip(copy.sealed(0, 1), 500),
        _left_out(0, "checksums", 1),
        rows_left=30,
    ),
    Damage(
        "sealed file cut", "finished", lambda copy: cut(copy.sealed(1), -100), _left_out(1, "records"), rows_left=34
    ),
    Damage("sealed file empty", "finished", lambda copy: cut(copy.sealed(1), 0), _left_out(1, "records"), rows_left=34),
    Damage(
        "folder in place of a sealed file",
        "finished",
        lambda copy: make_folder(copy.sealed(1)),
        _left_out(1, "records"),
        rows_left=34,
    ),
    Damage(
        "segment of another run put in",
        "finished",
        lambda copy: put(copy, 1, copy.of("other"), 1),
        _left_out(1, "checksums"),
        rows_left=34,
    ),
    Damage(
        "segment of an earlier recording of the same name put in",
        "finished",
        lambda copy: put(copy, 1, copy.of("earlier"), 1),
        _left_out(1, "records"),
        rows_left=34,
    ),
    Damage(
        "segment of another rank put in",
        "two ranks",
        lambda copy: put(copy, 0, copy, 0, 1),
        _left_out(0, "checksums"),
        rows_left=30,
    ),
    Damage(
        "segment copied to another number",
        "finished",
        lambda copy: put(copy, 5, copy, 4),
        (_in(5, "corrupt", "checksums"),),
        rows_left=44,
    ),
    Damage(
        "two segments swapped",
        "finished",
        lambda copy: swap(copy, 0, 1),
        (_in(0, "corrupt", "checksums"), *_left_out(1, "checksums")),
        rows_left=24,
    ),
    Damage(
        "column of a wrong type, the seal fits",
        "finished",
        lambda copy: rewrite(
            copy, 1, with_column("value_loss", lambda column: column.cast("float32").combine_chunks())
        ),
        _left_out(1, "checksums"),
        rows_left=34,
    ),
    Damage(
        "column that is needed gone, the seal fits",
        "finished",
        lambda copy: rewrite(copy, 1, lambda table: table.drop_columns("update")),
        _left_out(1, "checksums"),
        rows_left=34,
    ),
    Damage(
        "sequence numbers go back, the seal fits",
        "finished",
        lambda copy: rewrite(copy, 0, with_column("seq", go_back)),
        _left_out(0, "rows"),
    ),
    Damage(
        "rank differs in a row, the seal fits",
        "finished",
        lambda copy: rewrite(copy, 0, with_column("rank", last_differs)),
        _left_out(0, "rows"),
    ),
    Damage(
        "row gone from a sealed file, the seal fits",
        "finished",
        lambda copy: rewrite(copy, 0, without_row, rows=9),
        (_in(0, "lost", "rows"),),
    ),
    Damage(
        "foreign file in segments",
        "finished",
        lambda copy: write(copy.file("segments", "x.parquet"), b"x"),
        (_in(None, "foreign"),),
        rows_left=44,
    ),
    Damage(
        "hidden file in segments",
        "finished",
        lambda copy: write(copy.file("segments", ".DS_Store"), b"x"),
        (_in(None, "note"),),
        rows_left=44,
    ),
)

SEALS = (
    Damage("seal gone", "finished", lambda copy: remove(copy.seal(1)), (_in(1, "missing"),), rows_left=44),
    Damage(
        "seal of the last segment gone",
        "finished",
        lambda copy: remove(copy.seal(4)),
        (_in(4, "missing"),),
        rows_left=44,
    ),
    Damage("seal unreadable", "finished", lambda copy: cut(copy.seal(1), 20), (_in(1, "unreadable"),), rows_left=44),
    Damage(
        "seal of another segment",
        "finished",
        lambda copy: shutil.copyfile(copy.seal(0), copy.seal(1)),
        (_in(1, "unreadable"),),
        rows_left=44,
    ),
    Damage(
        "seal with false updates",
        "finished",
        lambda copy: edit(copy.seal(1), first_update=9, last_update=90),
        (_in(1, "corrupt", "rows"),),
    ),
    Damage(
        "seal claims that updates do not rise",
        "finished",
        lambda copy: edit(copy.seal(1), updates_rise=False),
        (_in(1, "corrupt", "rows"),),
    ),
    Damage(
        "seal claims more rows",
        "finished",
        lambda copy: edit(copy.seal(4), rows=11),
        (_in(4, "corrupt", "checksums"),),
        rows_left=44,
    ),
)

ATTEMPTS = (
    Damage("attempt gone", "finished", lambda copy: remove(copy.attempt(0)), (_in(None, "missing"),), rows_left=44),
    Damage(
        "last attempt gone", "finished", lambda copy: remove(copy.attempt(1)), (_in(None, "missing"),), rows_left=44
    ),
    Damage(
        "attempt unreadable",
        "finished",
        lambda copy: cut(copy.attempt(0), 20),
        (_in(None, "unreadable"),),
        rows_left=44,
    ),
    Damage(
        "attempt of another number",
        "finished",
        lambda copy: edit(copy.attempt(0), attempt=7),
        (_in(None, "unreadable"),),
        rows_left=44,
    ),
    Damage(
        "attempt claims more rows",
        "finished",
        lambda copy: edit(copy.attempt(0), rows=26),
        (_in(None, "corrupt"),),
        rows_left=44,
    ),
    Damage(
        "attempt claims fewer rows", "finished", lambda copy: edit(copy.attempt(0), rows=20), (_in(None, "corrupt"),)
    ),
    Damage(
        "attempt claims fewer drops than its rows show",
        "finished",
        lambda copy: edit(copy.attempt(0), dropped_rows=0),
        (_in(None, "corrupt", "rows"),),
    ),
    Damage(
        "attempt claims more drops than there is room for",
        "finished",
        lambda copy: edit(copy.attempt(0), dropped_rows=9),
        (_in(None, "corrupt"),),
    ),
    Damage(
        "attempt claims rows behind the last one",
        "finished",
        lambda copy: edit(copy.attempt(1), last_seq=49),
        (_in(None, "lost"),),
    ),
)

ACTIVE = (
    Damage(
        "bit of a row of the active file flipped",
        "killed",
        lambda copy: flip(copy.active(), row_offset(copy.active(), 2)),
        (_in(5, "corrupt"), _in(5, "lost")),
        rows_left=46,
    ),
    Damage(
        "bit of the active file's header flipped",
        "killed",
        lambda copy: flip(copy.active(), 2000),
        (_in(5, "corrupt"),),
        rows_left=44,
    ),
    Damage(
        "active file ends in half a row",
        "killed",
        lambda copy: cut(copy.active(), -100),
        (_in(5, "torn"),),
        rows_left=48,
    ),
    Damage(
        "active file is a cut header", "killed", lambda copy: cut(copy.active(), 1000), (_in(5, "torn"),), rows_left=44
    ),
    Damage(
        "active file in the middle gone",  # as of a run that was killed before it sealed segment 4
        "killed",
        lambda copy: remove(copy.sealed(4), copy.seal(4)),
        (_in(4, "missing"), _in(5, "lost")),
        rows_left=39,
    ),
    Damage(
        "active file under another number",
        "killed",
        lambda copy: copy.active().rename(copy.file("active", "00000007.arrows")),
        (_in(5, "missing"), _in(7, "corrupt")),
        rows_left=44,
    ),
    Damage(
        "active file left beside its sealed one",
        "killed",
        lambda copy: shutil.copyfile(copy.of("killed").path.parent / LEFTOVER, copy.file("active", LEFTOVER)),
        (_in(4, "note"),),
        rows_left=49,
    ),
    Damage(
        "unfinished file left",
        "finished",
        lambda copy: write(copy.file("active", "00000004.parquet.tmp"), b"x"),
        (_in(None, "note"),),
    ),
)

HEADER = (
    Damage("run.json of another run", "finished", _take_header, (_in(None, "corrupt", "checksums", None),)),
    Damage(
        "run.json unreadable",
        "finished",
        lambda copy: cut(copy.path / "run.json", 50),
        (_in(None, "unreadable", "records", None),),
        header="unreadable",
    ),
    Damage(
        "run.json gone",
        "finished",
        lambda copy: remove(copy.path / "run.json"),
        (_in(None, "missing", "records", None),),
        header="gone",
    ),
    Damage(
        "repair record unreadable",
        "finished",
        lambda copy: write(copy.file("repairs", "0000.json"), b"{"),
        (_in(None, "unreadable"),),
        rows_left=44,
    ),
)

DAMAGES: tuple[Damage, ...] = (*SEGMENTS, *SEALS, *ATTEMPTS, *ACTIVE, *HEADER, *BLACK_BOXES)
"""Every row of the table."""
