"""Files of every kind and what our own reader finds in them, to check the description of the format against."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tests.live_runs import copy_live_run
from tests.schemas.format_reader import FormatError, FormatReader, Segment, plain

from esper_recorder import Recorder
from esper_schemas import RunDamagedError, RunDirectory, read_segments
from esper_schemas.run import names as run_names
from esper_schemas.run.files import Folder
from esper_schemas.segment import black_box, sealed
from esper_schemas.segment.active import RowLayout, SegmentIdentity, column_types
from esper_schemas.segment.holds import check_columns, summarise
from esper_schemas.segment.scan import ActiveSegment, SealedSegment, parse_active
from esper_schemas.testing import bases, description, golden, strategies
from esper_schemas.testing.segments import active_file, sealed_file

DESCRIPTION = description.load()

# ------------------------------------------------------------------ what our own reader finds


def _typed(metadata: dict[str, str]) -> dict[str, Any]:
    integers = {key for key, entry in DESCRIPTION["metadata"].items() if entry["type"] == "integer"}
    return {key: int(value) if key in integers else value for key, value in metadata.items()}


def _rows(batches: Sequence[pa.RecordBatch], columns: list[str]) -> list[dict[str, Any]]:
    table = pa.Table.from_batches(batches).select(columns)
    values = [plain(table.column(name)) for name in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def ours_of_active(data: bytes) -> Segment:
    """What our reader finds in an active file."""
    found = parse_active(0, data)
    if found.identity is None or found.rows is None:
        return Segment(end=found.end.kind)
    layout = RowLayout.read(data)
    assert layout is not None
    metadata = _typed(found.identity.to_metadata()) | {"esper.row_bytes": layout.row_bytes}
    columns = [*layout.columns]
    return Segment(metadata, columns, _rows([found.rows], columns), found.end.kind, found.end.offset)


def ours_of_sealed(data: bytes) -> Segment:
    """What our reader finds in a sealed file."""
    with sealed.open_parquet(io.BytesIO(data), len(data), "it") as parquet:
        footer = sealed.read_footer(parquet, "it")
        rows = _rows(list(sealed.batches(parquet)), footer.schema.names)
    return Segment(_typed(footer.identity.to_metadata()), footer.schema.names, rows, "clean", len(data))


def ours_of_run(path: Path) -> dict[tuple[int, int], Segment]:
    """What our reader finds in a run."""
    found = {}
    for rank in RunDirectory(path).ranks():
        for segment in read_segments(rank):
            if isinstance(segment, SealedSegment):
                found[rank.rank, segment.number] = ours_of_sealed(Path(segment.path).read_bytes())
            elif isinstance(segment, ActiveSegment):
                found[rank.rank, segment.number] = ours_of_active(segment.data)
    return found


def ours_of_black_boxes(path: Path) -> dict[str, Segment]:
    """What our reader finds in the black boxes of a run, by the names of their files without the suffix."""
    found = {}
    for rank in RunDirectory(path).ranks():
        with rank.open() as folder:
            for name in run_names.black_boxes(folder):
                box, file = black_box.read_black_box(folder, name), rank.path / run_names.black_box_name(name)
                metadata = box.minibatches.schema.metadata
                texts = {key.decode(): text.decode() for key, text in metadata.items() if key.startswith(b"esper.")}
                columns = box.minibatches.column_names
                rows = _rows(box.minibatches.to_batches(), columns)
                place = str(file.relative_to(path).with_suffix(""))
                found[place] = Segment(_typed(texts), columns, rows, "clean", file.stat().st_size)
    return dict(sorted(found.items()))


# ------------------------------------------------------------------ real files


def _all_types() -> tuple[SegmentIdentity, list[dict[str, Any]], list[str]]:
    """A segment with every column filled, one with none but what is needed, and both ends of every type."""
    identity, extras = SegmentIdentity("run.1", 3, 2, 7, 100, "uuid"), ["x", 'température "°"']
    low: dict[str, Any] = {"float64": -0.0, "int64": -(2**63), "int32": -(2**31), "bool": False, "timestamp": -1}
    high: dict[str, Any] = {
        "float64": strategies.SIGNALLING_NAN,
        "int64": 2**63 - 1,
        "int32": 2**31 - 1,
        "bool": True,
        "timestamp": 2**63 - 1,
    }
    types = column_types(extras)
    first = {name: low[dtype] for name, dtype in types.items()} | {"seq": 100, "dropped_before": 0}
    last = {name: high[dtype] for name, dtype in types.items()} | {"seq": 103, "dropped_before": 1}
    return identity, [first, {"seq": 101, "update": 5}, last], extras


def _active_files() -> dict[str, bytes]:
    """An active file, and what a crash, a disk and a stranger make of it."""
    data = active_file(*_all_types())
    layout = RowLayout.read(data)
    assert layout is not None
    size, row = len(layout.header), layout.row_bytes
    longer = (int.from_bytes(data[4:8], "little") + 10 * row).to_bytes(4, "little")
    flipped = bytearray(data)
    flipped[size + row + row // 2] ^= 1
    wrong_header = bytearray(data)
    wrong_header[size // 2] ^= 1
    back = [{"seq": 0, "update": 0}, {"seq": 0, "update": 1, "dropped_before": -1}]
    return {
        "whole": data,
        "no extras": active_file(SegmentIdentity("r", 0, 0, 0, 0), [{"seq": 0, "update": 0}]),
        "seq goes back": active_file(SegmentIdentity("r", 0, 0, 0, 0), back),
        "empty": b"",
        "only a header": data[:size],
        "cut in the prefix": data[:5],
        "cut in the header": data[: size - 1],
        "cut in a row": data[:-1],
        "cut in the first row": data[: size + 1],
        "zeros in place of the last byte": data[:-1] + b"\0",
        "zeros in place of half a row": data[: -row // 2] + bytes(row // 2),
        "zeros behind": data + bytes(row + 3),
        "bit flipped": bytes(flipped),
        "bit of the header flipped": bytes(wrong_header),
        "header that says it is longer": data[:4] + longer + data[8:],
        "rows swapped": data[:size] + data[size + row : size + 2 * row] + data[size : size + row],
        "row missing": data[: size + row] + data[size + 2 * row :],
        "something behind": data + b"x" * row,
        "zeros": bytes(500),
        "a byte and zeros": b"\x01" + bytes(500),
        "something else": b"PAR1" + bytes(100),
    }


def _refused() -> list[bytes]:
    """Sealed files without a number that every row must have."""
    identity, rows, extras = _all_types()
    parquet, _ = sealed_file(active_file(identity, [row | {"update": 5} for row in rows], extras))
    table = pq.read_table(pa.BufferReader(parquet))
    wrong = [table.drop_columns(name) for name in ("seq", "update", "run_id")]
    for name in ("seq", "update", "run_id", "rank"):
        values = [None, *table.column(name).to_pylist()[1:]]
        at = table.schema.get_field_index(name)
        wrong.append(table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type)))
    files = []
    for changed in wrong:
        (rows_of_it,) = changed.combine_chunks().to_batches()
        files.append(sealed.to_parquet(rows_of_it, identity))
        assert _is_refused(_examined, files[-1])
    return files


def _refused_black_boxes(root: Path) -> list[bytes]:
    """Black boxes without a number that every minibatch must have, or with another type."""
    own: dict[str, list[Any]] = {"seq": [7, 7], "minibatch": [0, 1], "elapsed_secs": [0.5, 1.0]}
    identity = SegmentIdentity("r", 0, 0, 0, 0, "uuid")
    whole = pq.read_table(pa.BufferReader(black_box.to_parquet(own, {"loss": [None, 1.0]}, identity)))
    wrong = [whole.drop_columns(name) for name in own]
    wrong.append(whole.select(["minibatch", "seq", "elapsed_secs", "loss"]))
    wrong.append(whole.append_column("number", pa.array([1, 2])))
    for at, (name, values) in enumerate(own.items()):
        field = whole.schema.field(name)
        wrong.append(whole.set_column(at, field, pa.array([None, values[1]], field.type)))
        wrong.append(whole.set_column(at, name, pa.array([0, 1], pa.int32())))
    files = []
    for table in wrong:
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", use_dictionary=False)
        files.append(sink.getvalue())
        assert _is_refused(lambda data: _read_black_box(data, root), files[-1])
    return files


def _read_black_box(data: bytes, folder: Path) -> None:
    record = black_box.record_of(
        data, seq=7, attempt=0, run_uuid="uuid", written="", trigger="asked", reason="", minibatches=2
    )
    (folder / run_names.BLACK_BOXES).mkdir(exist_ok=True)
    (folder / run_names.black_box_name("00000007")).write_bytes(data)
    (folder / run_names.black_box_record_name("00000007")).write_bytes(record.to_bytes())
    with Folder.at(folder) as rank:
        black_box.read_black_box(rank, "00000007")


def _examined(data: bytes) -> None:
    with sealed.open_parquet(io.BytesIO(data), len(data), "it") as parquet:
        footer = sealed.read_footer(parquet, "it")
        extras, _ = check_columns(footer.schema)
        summarise(footer.identity, extras, sealed.batches(parquet))


def _recorded(root: Path) -> Iterator[Path]:
    """A run with two attempts, a drop, a metric of the user's own and an active file, copied while it is recorded.

    Each attempt has two black boxes of the same update.
    """
    for attempt in range(2):
        with Recorder.open(root / "live", run_id="mine", resume="allow", segment_rows=8, git_commit="") as recorder:
            for i in range(20):
                loss: Any = "no number" if i == 5 else i / 7
                extras = {"my metric": i / 3} if i > 9 else {}
                recorder.record(update=20 * attempt + i, policy_loss=-0.0, value_loss=loss, extras=extras)
            for minibatch in range(2):
                recorder.minibatch(value_loss=-math.inf, **{"température": minibatch / 3} if minibatch else {})
                assert recorder.dump_black_box("a look")
            yield copy_live_run(recorder.path, root / f"copy-{attempt}" / "mine", sealed=3 + 4 * attempt)
    yield root / "live" / "mine"


@dataclass
class Corpus:
    """Names, active files and runs, each with what our own code says of it; and what it refuses."""

    names: list[tuple[str, str]]
    other_names: list[str]
    active: list[tuple[bytes, Segment]]
    refused: list[bytes]
    refused_black_boxes: list[bytes]
    runs: list[tuple[Path, dict[tuple[int, int], Segment], dict[str, Segment]]]


_NAMES: list[tuple[Callable[[int], str], str, Sequence[int]]] = [
    (run_names.active_name, "active", (0, 99_999_999, 123_456_789)),
    (lambda number: f"{run_names.active_name(number)}.broken", "cut off by recovery", (3,)),
    (lambda number: f"{run_names.sealed_name(number)}.tmp", "unfinished", (3,)),
    (run_names.sealed_name, "sealed", (0, 99_999_999, 123_456_789)),
    (run_names.seal_name, "record", (0, 123_456_789)),
    (run_names.states_name, "cache", (0, 123_456_789)),
    (run_names.attempt_name, "record", (0, 9_999, 10_000)),
    (lambda number: run_names.black_box_name(f"{number:08d}"), "black box", (0, 99_999_999, 123_456_789)),
    (lambda number: run_names.black_box_name(f"00000811-{number}"), "black box", (2, 9, 10, 100)),
    (lambda number: run_names.black_box_record_name(f"{number:08d}"), "record", (0, 123_456_789)),
    (lambda number: run_names.black_box_record_name(f"00000811-{number}"), "record", (2, 10)),
    (lambda number: f"{run_names.REPAIRS}/{number:04d}.json", "record", (0, 10_000)),
    (lambda number: f"{run_names.REPAIRS}/{number:04d}.broken/seals/00000001.json", "kept by a repair", (0,)),
    (lambda _: run_names.LOCK_NAME, "lock", (0,)),
]


_OTHER_BLACK_BOXES = ("0000811", "000000811", "00000811-", "00000811-0", "00000811-1", "00000811-02")


def make_corpus(root: Path) -> Corpus:
    """Write and record everything under `root`."""
    names = [
        (run_names.HEADER_NAME, "record"),
        (f"{run_names.HEADER_NAME}.broken", "kept by a repair"),
        ("checkpoint.pt", "state of `esper-rec train`"),
        *(
            (f"{run_names.rank_name(rank)}/{name(number)}", holds)
            for name, holds, numbers in _NAMES
            for number in numbers
            for rank in (0, 12_345)
        ),
    ]
    runs = [golden.copy_run(name, root) for name in golden.NAMES]
    # Those that hold most come first: there a wrong description is found out soonest.
    runs = [*reversed([*_recorded(root), *bases.write_bases(root / "bases").values()]), *runs]
    boxes = [f"{run_names.rank_name(0)}/{run_names.BLACK_BOXES}/{name}" for name in _OTHER_BLACK_BOXES]
    assert not any(run_names.black_box_of(f"{name}.json") for name in _OTHER_BLACK_BOXES)
    return Corpus(
        names,
        [f"{name}.{suffix}" for name in boxes for suffix in ("parquet", "json")],
        [(data, ours_of_active(data)) for data in _active_files().values()],
        _refused(),
        _refused_black_boxes(root),
        [(path, ours_of_run(path), ours_of_black_boxes(path)) for path in runs],
    )


def hold(document: dict[str, Any], corpus: Corpus) -> None:
    """Read everything by a description; AssertionError or FormatError where it is not what our reader finds."""
    reader = FormatReader(document)
    for name, holds in corpus.names:
        assert reader.kind_of(name)[0]["holds"] == holds, name
    for name in corpus.other_names:
        assert _is_refused(reader.kind_of, name), name
    for data, expected in corpus.active:
        assert is_same(reader.active(data), expected)
    for data in corpus.refused:
        assert _is_refused(reader.sealed, data)
    for data in corpus.refused_black_boxes:
        assert _is_refused(reader.black_box, data)
    for path, segments, boxes in corpus.runs:
        assert is_same(reader.run(path), (segments, boxes)), path


def is_same(found: object, expected: object) -> bool:
    """Whether values are equal and of the same type: True is not 1."""
    return found == expected and repr(found) == repr(expected)


def _is_refused(read: Callable[[Any], object], data: bytes | str) -> bool:
    try:
        read(data)
    except (FormatError, RunDamagedError):
        return True
    return False
