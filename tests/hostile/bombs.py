"""Small files that unfold into large ones, and large files that hold nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.hostile.folders import FILES, RANK, Hostile, both, edit_json, put, refit, reseal
from tests.schemas.segment.page_headers import PageHeader, column, header_at, with_header

from esper_schemas.metric.payload import METRICS
from esper_schemas.segment.active import RowLayout, SegmentIdentity

SPARSE_BYTES = 60 << 30
BOMB_ROWS = 20_000_000
BOMB_COLUMNS = 100_000
TEXT_ROWS = 8192

_CHUNK = 2_000_000


def _metadata(run_id: str) -> dict[str, str]:
    names = ("format", "run_id", "rank", "attempt", "segment", "first_seq")
    return dict(zip([f"esper.{name}" for name in names], ["1", run_id, "0", "0", "0", "0"], strict=True))


def _columns(rows: int) -> dict[str, pa.Array]:
    whole = {name: pa.repeat(pa.scalar(0, pa.int32()), rows) for name in ("rank", "attempt")}
    numbers = {name: pa.repeat(pa.scalar(0, pa.int64()), rows) for name in ("seq", "dropped_before", "update")}
    losses = {name: pa.repeat(pa.scalar(0.5), rows) for name in ("policy_loss", "value_loss")}
    return {"run_id": pa.repeat("good", rows), **whole, **numbers, **losses}


@cache
def long_parquet() -> bytes:
    """A small file that says, and holds, that the same row comes twenty million times."""
    return _again_and_again(pa.table(_columns(_CHUNK)).replace_schema_metadata(_metadata("good")))


def _again_and_again(chunk: pa.Table) -> bytes:
    """A file of twenty million rows: those of the chunk in each of its row groups."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, chunk.schema, compression="zstd", write_statistics=False) as writer:
        for _ in range(BOMB_ROWS // _CHUNK):
            writer.write_table(chunk, row_group_size=_CHUNK)
    return sink.getvalue()


@cache
def text_parquet() -> bytes:
    """A text of 200 kB that is there once, and again in each of eight thousand rows."""
    once = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), TEXT_ROWS), ["x" * 200_000])
    return _written(pa.table(_columns(TEXT_ROWS) | {"run_id": once}), compression="zstd")


@cache
def wide_parquet() -> bytes:
    """One row of a hundred thousand columns."""
    extras = {f"x{number}": pa.array([0.5]) for number in range(BOMB_COLUMNS)}
    return _written(pa.table(_columns(1) | extras), compression="none", use_dictionary=False)


def _written(table: pa.Table, **options: Any) -> bytes:
    """A file of one row group without the Arrow schema, which would say how the columns were made."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, write_statistics=False, store_schema=False, **options) as writer:
        writer.add_key_value_metadata(_metadata("good"))
        writer.write_table(table)
    return sink.getvalue()


@cache
def wide_active() -> bytes:
    """One row of an active file with a hundred thousand columns, every checksum right."""
    extras = [f"x{number}" for number in range(BOMB_COLUMNS)]
    layout = RowLayout.create(SegmentIdentity("good", 0, 1, 1, 3), extras)
    row = {"seq": 3, "update": 3, "policy_loss": 0.5, "value_loss": 0.5}
    message = layout.encoder(row).encode([row[name] for name in layout.columns if name in row])
    return layout.header + message


def claiming_pages(run: Path, _outside: Path) -> None:
    """The page of each measured metric says that it unpacks to 2 GiB."""
    path = run / FILES["sealed file"]
    data = before = path.read_bytes()
    for name, metric in METRICS.items():
        chunk = column(data, name)
        at, length = chunk.data_page_offset, len(header_at(data, chunk.data_page_offset))
        if metric.dtype == "float64" and length > 40:  # its least and its greatest value make room
            packed = chunk.total_compressed_size - length
            data = with_header(data, at, PageHeader(0, 2**31 - 1, packed, chunk.num_values, 9))
    assert data != before
    path.write_bytes(data)
    reseal(run)


def bomb(parquet: Callable[[], bytes], *, is_sealed: bool) -> Callable[[Path, Path], None]:
    """Put a Parquet file in place of the sealed segment, with a seal that fits or without any."""

    def make(run: Path, _outside: Path) -> None:
        (run / FILES["sealed file"]).write_bytes(parquet())
        if not is_sealed:
            (run / FILES["seal"]).unlink()
        elif parquet is not wide_parquet:
            rows = BOMB_ROWS if parquet is long_parquet else TEXT_ROWS
            reseal(run, rows=rows, last_seq=0, first_update=0, last_update=0, updates_rise=False)
        else:
            extras = [f"x{number}" for number in range(BOMB_COLUMNS)]
            reseal(run, rows=1, last_seq=0, first_update=0, last_update=0, extras=extras)

    return make


def _as_black_box(make: Callable[[pa.Table], bytes], rows: int) -> Callable[[Path, Path], None]:
    """Put other columns into the file of the black box, and so many minibatches into its record."""

    def change(run: Path, _outside: Path) -> None:
        path = run / FILES["black box"]
        path.write_bytes(make(pq.read_table(path, partitioning=None)))
        refit(run, minibatches=rows)

    return change


def _long_black_box(table: pa.Table) -> bytes:
    return _zeros(table.schema)


@cache
def _zeros(schema: pa.Schema) -> bytes:
    return _again_and_again(pa.table([pa.repeat(pa.scalar(0, one.type), _CHUNK) for one in schema], schema=schema))


def _wide_black_box(table: pa.Table) -> bytes:
    one, sink = table.slice(0, 1), io.BytesIO()
    names = [f"x{number}" for number in range(2_000)]
    wide = pa.table(
        [*one.columns, *(pa.array([0.5]) for _ in names)],
        pa.schema([*one.schema, *((name, pa.float64()) for name in names)], one.schema.metadata),
    )
    pq.write_table(wide, sink, compression="zstd", write_statistics=False)
    return sink.getvalue()


def _claiming_black_box(run: Path, _outside: Path) -> None:
    """The pages of the numbers of a black box say that they unpack to 2 GiB."""
    path = run / FILES["black box"]
    data = before = path.read_bytes()
    for name in pq.ParquetFile(path).schema_arrow.names:
        chunk = column(data, name)
        at, length = chunk.data_page_offset, len(header_at(data, chunk.data_page_offset))
        if length > 40:  # its least and its greatest value make room
            packed = chunk.total_compressed_size - length
            data = with_header(data, at, PageHeader(0, 2**31 - 1, packed, chunk.num_values))
    assert data != before
    path.write_bytes(data)
    refit(run)


def _sparse_black_box(run: Path, outside: Path) -> None:
    """The file of the black box as one of 60 GB, of which the record says the same."""
    sparse(FILES["black box"], keep=True)(run, outside)
    edit_json(run / FILES["record of a black box"], bytes=SPARSE_BYTES)


def _many_black_boxes(run: Path, _outside: Path) -> None:
    for number in range(500):
        (run / FILES["record of a black box"]).with_stem(f"{number:08d}").touch()


def sparse(place: str, *, keep: bool = False) -> Callable[[Path, Path], None]:
    """Make a file one of 60 GB that takes no room, from nothing or behind what it holds."""

    def make(run: Path, _outside: Path) -> None:
        path = run / place
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.truncate(SPARSE_BYTES if keep else 0)
            file.truncate(SPARSE_BYTES)

    return make


def sparse_sealed(run: Path, outside: Path) -> None:
    """The sealed file as one of 60 GB, of which the seal says the same."""
    sparse(FILES["sealed file"], keep=True)(run, outside)
    edit_json(run / FILES["seal"], bytes=SPARSE_BYTES)


def endless(place: str) -> Callable[[Path, Path], None]:
    """A link to a device that never ends, in place of a file."""
    return put(place, lambda path, _: path.symlink_to("/dev/zero"))


def _text(place: str, name: str) -> Callable[[Path, Path], None]:
    """A record with a text of three megabytes."""
    return lambda run, _: edit_json(run / place, **{name: "long " * 600_000})


def _wide_active(run: Path, _outside: Path) -> None:
    (run / FILES["active file"]).write_bytes(wide_active())


def _far_rank(run: Path, _outside: Path) -> None:
    (run / RANK).rename(run / "rank-999999999")


def _far_segment(run: Path, _outside: Path) -> None:
    (run / FILES["sealed file"]).rename(run / RANK / "segments/99999999.parquet")


def _many_losses(run: Path, _outside: Path) -> None:
    losses = [{"first_seq": 2 * number, "last_seq": 2 * number, "cause": "x"} for number in range(2_000)]
    path = run / FILES["repair record"]
    path.parent.mkdir()
    path.write_text(json.dumps({"repair": 0, "repaired": "2026-01-01T00:00:00+00:00", "losses": losses}))


_ALL = ("report", "check", "runs", "tail --once", "verify", "replay", "repair", "record")
_TRAINED = (*_ALL, "train")

SIZES: dict[str, Hostile] = {
    "sparse active file": Hostile(sparse(FILES["active file"]), commands=_ALL),
    "sparse end of the active file": Hostile(sparse(FILES["active file"], keep=True), commands=_ALL),
    "endless active file": Hostile(endless(FILES["active file"]), commands=_ALL),
    "endless sealed file": Hostile(endless(FILES["sealed file"]), commands=_ALL),
    "sparse sealed file": Hostile(sparse_sealed, commands=_ALL),
    "sparse end of the sealed file": Hostile(sparse(FILES["sealed file"], keep=True), commands=_ALL),
    "sparse checkpoint": Hostile(sparse("checkpoint.pt"), False, ("train",), commands=("verify", "report", "train")),
    "sparse end of the checkpoint": Hostile(sparse("checkpoint.pt", keep=True), False, ("train",), ("train",)),
    "endless checkpoint": Hostile(endless("checkpoint.pt"), False, ("train",), ("train",)),
    "sparse LOCK": Hostile(sparse(FILES["LOCK"]), False, commands=_ALL),
    "rows of a long Parquet file, sealed": Hostile(bomb(long_parquet, is_sealed=True), commands=_ALL),
    "rows of a long Parquet file, not sealed": Hostile(bomb(long_parquet, is_sealed=False), commands=_ALL),
    "columns of a wide Parquet file, sealed": Hostile(bomb(wide_parquet, is_sealed=True), commands=_ALL),
    "columns of a wide Parquet file, not sealed": Hostile(bomb(wide_parquet, is_sealed=False), commands=_ALL),
    "pages that claim two gigabytes": Hostile(claiming_pages, commands=_ALL),
    "texts that share their bytes, sealed": Hostile(bomb(text_parquet, is_sealed=True), commands=_ALL),
    "texts that share their bytes, not sealed": Hostile(bomb(text_parquet, is_sealed=False), commands=_ALL),
    "columns of a wide active file": Hostile(_wide_active, commands=_ALL),
    "long text in run.json": Hostile(_text("run.json", "trainer"), False, commands=_TRAINED),
    "long text in an attempt": Hostile(_text(FILES["last attempt"], "reason"), False, commands=_ALL),
    "long text in a seal": Hostile(_text(FILES["seal"], "sha256"), commands=_ALL),
    "rank of a large number": Hostile(_far_rank, False, commands=_ALL),
    "segment of a large number": Hostile(_far_segment, commands=_ALL),
    "many recorded losses": Hostile(_many_losses, False, commands=_ALL),
    "rows of a long black box": Hostile(_as_black_box(_long_black_box, BOMB_ROWS), commands=_ALL),
    "rows of a long black box, fewer in its record": Hostile(_as_black_box(_long_black_box, 5), commands=_ALL),
    "columns of a wide black box": Hostile(_as_black_box(_wide_black_box, 1), commands=_ALL),
    "pages of a black box that claim two gigabytes": Hostile(_claiming_black_box, commands=_ALL),
    "sparse end of a black box": Hostile(sparse(FILES["black box"], keep=True), commands=_ALL),
    "sparse black box of a record that fits": Hostile(_sparse_black_box, commands=_ALL),
    "endless black box": Hostile(endless(FILES["black box"]), commands=_ALL),
    "endless file of an unfinished black box": Hostile(
        both(put(FILES["black box"], lambda *_: None), endless(f"{FILES['black box']}.tmp")), commands=_ALL
    ),
    "long text in the record of a black box": Hostile(
        _text(FILES["record of a black box"], "reason"), False, commands=_ALL
    ),
    "many damaged black boxes": Hostile(_many_black_boxes, commands=_ALL),
    **{
        f"sparse {name}": Hostile(sparse(FILES[name]), commands=_ALL)
        for name in ("run.json", "seal", "last attempt", "repair record", "black box", "record of a black box")
    },
}
