"""Hypothesis strategies for everything in the format: values, rows, identities, active files, JSON records, damage.

They favour difficult values: NaN with any bits, ±∞, −0.0, subnormal numbers, the smallest and largest integers, null,
and extra metrics with odd names.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, get_args

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("esper_schemas.testing.strategies needs hypothesis: pip install hypothesis") from error

from esper_schemas.errors import PayloadError
from esper_schemas.examining.faults import Loss, Repair
from esper_schemas.limits import FORMAT_VERSION, MAX_ATTEMPTS, MAX_SEGMENT_BYTES, MAX_SEQ
from esper_schemas.metric.coercion import LIKELY_NANOSECONDS, LIKELY_SECONDS, check_extra_name
from esper_schemas.metric.metrics import SKIP_REASONS, Dtype
from esper_schemas.metric.payload import METRICS, REQUIRED
from esper_schemas.run.records import Attempt, BlackBoxRecord, EndStatus, RunHeader, Seal, Trigger
from esper_schemas.segment.active import SEQ_COLUMNS, SegmentIdentity, column_types
from esper_schemas.segment.black_box import MAX_MINIBATCHES, OWN_COLUMNS, to_parquet
from esper_schemas.testing.segments import active_file

SIGNALLING_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_0000_0001))[0]

_INT64 = st.sampled_from([-(2**63), 2**63 - 1, 0, -1]) | st.integers(-(2**63), 2**63 - 1)
_VALUES: dict[Dtype, st.SearchStrategy[Any]] = {
    "float64": st.sampled_from(
        [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, SIGNALLING_NAN]
    )
    | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
    "int64": _INT64,
    "int32": st.sampled_from([-(2**31), 2**31 - 1, 0]) | st.integers(-(2**31), 2**31 - 1),
    "bool": st.booleans(),
    "timestamp": _INT64.filter(  # the recorder takes neither
        lambda time: time not in LIKELY_SECONDS and time not in LIKELY_NANOSECONDS
    ),
}


def values(dtype: Dtype) -> st.SearchStrategy[Any]:
    """Any value of a column of this dtype except null; a timestamp is in microseconds since 1970, UTC."""
    return _VALUES[dtype]


# ------------------------------------------------------------------ rows

_ODD_NAMES = ["é", "température", "x y", 'x "y"', "a/b", "..", "-", "%s", "{}", "💥", "n" * 255, "Update", "seq "]


def _is_extra(name: str) -> bool:
    try:
        check_extra_name(name)
    except (PayloadError, UnicodeEncodeError):
        return False
    return name not in METRICS


def extra_names() -> st.SearchStrategy[str]:
    """Valid names of extra metrics, many of them odd."""
    return (st.sampled_from(_ODD_NAMES) | st.text(min_size=1, max_size=40)).filter(_is_extra)


@st.composite
def payload_rows(draw: st.DrawFn, extras: Sequence[str] | None = None) -> dict[str, Any]:
    """One update as a trainer records it: metric → number, without the metrics that were not measured.

    `PPOUpdatePayload`, `Recorder.record` and `metric.payload.validate` accept every such row.

    Args:
        extras: names of extra metrics to draw from; None for any names.
    """
    row = _some_of(draw, {name: values(metric.dtype) for name, metric in METRICS.items() if name != "skip_reason"})
    row["update"] = draw(values("int64"))
    if not row.get("skipped"):
        row |= {name: draw(values("float64")) for name in REQUIRED}
    elif draw(st.booleans()):
        row["skip_reason"] = draw(st.sampled_from(sorted(SKIP_REASONS)))
    names = draw(st.lists(extra_names(), max_size=3, unique=True)) if extras is None else extras
    return row | _some_of(draw, dict.fromkeys(names, values("float64")))


def _some_of(draw: st.DrawFn, choices: dict[str, st.SearchStrategy[Any]]) -> dict[str, Any]:
    """Values for some of the names. Random bytes select the names: drawing them is faster than one bool per name, and a
    random integer would mostly be small."""
    size = (len(choices) + 7) // 8
    chosen = int.from_bytes(draw(st.binary(min_size=size, max_size=size)))
    return {name: draw(choice) for i, (name, choice) in enumerate(choices.items()) if chosen >> i & 1}


# ------------------------------------------------------------------ segments


def run_ids() -> st.SearchStrategy[str]:
    """Valid run ids."""
    return st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)


def identities() -> st.SearchStrategy[SegmentIdentity]:
    """Identities of segments, some without a uuid, as in files of 0.1.0."""
    return st.builds(
        SegmentIdentity,
        run_id=run_ids(),
        rank=st.integers(0, 9999),
        attempt=st.integers(0, 9999),
        segment=st.integers(0, 99_999_999),
        first_seq=st.integers(0, 2**40),
        run_uuid=st.none() | st.uuids().map(str),
    )


@dataclass(frozen=True, slots=True)
class ActiveFile:
    """An active file and its content.

    Attributes:
        identity: which segment it is.
        rows: column → number for each row, without null columns; a timestamp is in microseconds since 1970.
        extras: names of the columns that the user added.
        data: the bytes of the file.
    """

    identity: SegmentIdentity
    rows: list[dict[str, Any]]
    extras: list[str]
    data: bytes


@st.composite
def active_segments(draw: st.DrawFn, min_rows: int = 0, max_rows: int = 4) -> ActiveFile:
    """A complete active file. Any column except `seq` may be null, and rows may have been dropped before each row."""
    identity = draw(identities())
    extras = draw(st.lists(extra_names(), max_size=3, unique=True))
    choices = {name: values(dtype) for name, dtype in column_types(extras).items() if name not in SEQ_COLUMNS}
    rows: list[dict[str, Any]] = []
    next_seq = identity.first_seq
    for _ in range(draw(st.integers(min_rows, max_rows))):
        row = _some_of(draw, choices)
        if dropped := draw(st.sampled_from([None, None, 0, 1, 1000])):
            row["dropped_before"] = dropped
        row["seq"] = next_seq + (dropped or 0)
        next_seq = row["seq"] + 1
        rows.append(row)
    return ActiveFile(identity, rows, extras, active_file(identity, rows, extras))


@dataclass(frozen=True, slots=True)
class BlackBoxFile:
    """A black box and its content.

    Attributes:
        name: its name, such as `00000811` or `00000811-2`.
        rank: number of the rank that it is of.
        record: why it was written.
        columns: column → its value in each minibatch; None where a number was not passed.
        data: the bytes of the Parquet file.
    """

    name: str
    rank: int
    record: BlackBoxRecord
    columns: dict[str, list[Any]]
    data: bytes


@st.composite
def black_boxes(draw: st.DrawFn, max_minibatches: int = 4) -> BlackBoxFile:
    """A complete black box with its record. Any number of a minibatch may be null."""
    run_uuid = str(draw(st.uuids()))
    identity = replace(draw(identities()), run_uuid=run_uuid)
    rows = draw(st.integers(1, max_minibatches))
    names = draw(st.lists(extra_names().filter(lambda name: name not in OWN_COLUMNS), max_size=3, unique=True))
    own = {"seq": _INT64, "minibatch": _INT64, "elapsed_secs": values("float64")}
    choices = own | {name: st.none() | values("float64") for name in names}
    columns = {name: [draw(choice) for _ in range(rows)] for name, choice in choices.items()}
    numbers = {name: columns[name] for name in names}
    data = to_parquet({name: columns[name] for name in own}, numbers, identity)
    record = replace(
        draw(black_box_records()),
        attempt=identity.attempt,
        run_uuid=run_uuid,
        minibatches=rows,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    count = draw(st.sampled_from(["", "-2", "-9", "-10", "-123456789"]))
    return BlackBoxFile(f"{record.seq:08d}{count}", identity.rank, record, columns, data)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content of a file with 1 to 4 pieces replaced by other bytes, perhaps of another length."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


# ------------------------------------------------------------------ JSON records

_COUNTS = st.integers(0, MAX_SEQ)
_TEXTS = st.text(max_size=20)
_TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)


def run_headers() -> st.SearchStrategy[RunHeader]:
    """Headers of runs: `run.json`."""
    text = st.none() | _TEXTS
    return st.builds(
        RunHeader,
        run_uuid=st.uuids().map(str),
        run_id=run_ids(),
        created=_TIMES,
        trainer=text,
        env=text,
        device=text,
        value_loss_definition=st.dictionaries(st.sampled_from(["source", "reduction"]), _TEXTS),
        world_size=st.integers(1, 10_000),
        host=text,
        versions=st.dictionaries(_TEXTS, _TEXTS, max_size=3),
        git_commit=text,
        config=st.dictionaries(_TEXTS, _JSON, max_size=3),
    )


def attempts() -> st.SearchStrategy[Attempt]:
    """Records of attempts: `attempts/0000.json`."""
    return st.builds(
        Attempt,
        attempt=st.integers(0, 9999),
        started=_TIMES,
        ended=st.none() | _TIMES,
        status=st.none() | st.sampled_from(get_args(EndStatus)),
        reason=st.none() | _TEXTS,
        first_seq=_COUNTS,
        last_seq=st.none() | st.integers(-1, MAX_SEQ - 1),
        rows=_COUNTS,
        dropped_rows=_COUNTS,
        last_drop_reason=st.none() | _TEXTS,
        pid=st.none() | st.integers(1, 2**22),
        host=st.none() | _TEXTS,
    )


@st.composite
def seals(draw: st.DrawFn) -> Seal:
    """Seals: `seals/00000000.json`."""
    first_seq = draw(st.integers(0, 2**40))
    rows = draw(st.integers(0, 8192))
    return Seal(
        segment=draw(st.integers(0, 99_999_999)),
        attempt=draw(st.integers(0, MAX_ATTEMPTS)),
        sha256=draw(st.binary(min_size=32, max_size=32)).hex(),
        bytes=draw(st.integers(1, 2**27)),
        rows=rows,
        first_seq=first_seq,
        last_seq=first_seq + rows - 1,
        first_update=draw(_INT64) if rows else None,
        last_update=draw(_INT64) if rows else None,
        updates_rise=draw(st.booleans()),
        rows_lost=draw(st.integers(0, 8192)),
        extras=draw(st.none() | st.lists(extra_names(), max_size=3, unique=True)),
        run_uuid=draw(st.none() | st.uuids().map(str)),
    )


def black_box_records() -> st.SearchStrategy[BlackBoxRecord]:
    """Records of black boxes: `blackbox/00000811.json`."""
    return st.builds(
        BlackBoxRecord,
        format=st.just(FORMAT_VERSION),
        seq=_COUNTS,
        attempt=st.integers(0, MAX_ATTEMPTS),
        run_uuid=st.uuids().map(str),
        written=_TIMES,
        trigger=st.sampled_from(get_args(Trigger)),
        reason=_TEXTS,
        minibatches=st.integers(1, MAX_MINIBATCHES),
        bytes=st.integers(1, MAX_SEGMENT_BYTES),
        sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
        not_written=_COUNTS,
    )


def repairs() -> st.SearchStrategy[Repair]:
    """Records of repairs: `repairs/0000.json`."""
    number = st.none() | _COUNTS
    fields = {name: number for name in Loss.__slots__ if name != "cause"}
    return st.builds(
        Repair,
        repair=st.integers(0, 9999),
        repaired=_TIMES,
        losses=st.lists(st.fixed_dictionaries({**fields, "cause": _TEXTS}), max_size=3),
        done=st.lists(_TEXTS, max_size=3),
    )
