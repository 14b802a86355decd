"""The file of column states, both directions: `states/N.json`; see FORMAT.md, Column states."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from esper_schemas.errors import RunDamagedError
from esper_schemas.limits import MAX_SEQ
from esper_schemas.metric.severity import fingerprint
from esper_schemas.run.names import states_name
from esper_schemas.run.records import MAX_JSON_BYTES, Seal
from esper_schemas.run.storage import Storage
from esper_schemas.segment import digest
from esper_schemas.segment.active import SegmentIdentity, column_types
from esper_schemas.segment.column_state import At, ColumnState, Number, Worst, states_of
from esper_schemas.segment.sealed import sha256_of

VERSION = 1

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_COUNTS = ("nan", "positive_infinity", "negative_infinity")
_ENDS = ("first", "last", "smallest", "largest")
_MOMENTS = ("mean", "m2")
_PYTHON_TYPES: dict[str, type] = {"bool": bool, "int32": int, "int64": int, "timestamp": int}


@dataclass(frozen=True, slots=True)
class SegmentStates:
    """The states of the columns of one segment, by name.

    Attributes:
        segment: number of the segment.
        run_uuid: the recording.
        rows: number of rows.
        columns: state of each column of which anything was measured, and of `loss_ratio`.
    """

    segment: int
    run_uuid: str | None
    rows: int
    columns: Mapping[str, ColumnState]

    def to_bytes(self) -> bytes:
        """Return the JSON text, ending in a newline."""
        record = {
            "version": VERSION,
            "segment": self.segment,
            "run_uuid": self.run_uuid,
            "rows": self.rows,
            "thresholds": fingerprint(),
            "columns": {name: _record(state) for name, state in self.columns.items()},
        }
        return (json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes, *, with_digests: bool = True) -> SegmentStates | None:
        """Read states; None if they are of another version, or made with other thresholds.

        Args:
            data: the JSON text.
            with_digests: whether to unpack the digests.

        Raises:
            RunDamagedError: it is not what an Esper writes.
        """
        try:
            record = json.loads(data)
            if (record["version"], record["thresholds"]) != (VERSION, fingerprint()):
                return None
            segment, rows, run_uuid = record["segment"], record["rows"], record["run_uuid"]
            _expect(_is_count(segment) and _is_count(rows) and isinstance(run_uuid, str | None), "its head")
            types = column_types()
            columns = {
                name: _state(of_column, types.get(name, "float64"), rows, with_digests)
                for name, of_column in record["columns"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError) as error:
            raise RunDamagedError(f"expected column states, found something else ({error})"[:300]) from None
        return cls(segment, run_uuid, rows, columns)


def make_states(rows: pa.RecordBatch | pa.Table, identity: SegmentIdentity) -> SegmentStates:
    """Compute the states of the rows of a segment."""
    return SegmentStates(identity.segment, identity.run_uuid, rows.num_rows, states_of(rows))


def read_states(storage: Storage, seal: Seal, *, with_digests: bool = True) -> SegmentStates | None:
    """Read the states of a sealed segment; None if there are none for this version and these thresholds.

    Raises:
        FileNotFoundError, OSError: the file is missing, or cannot be read.
        RunDamagedError: it is not the one that the seal describes, or no Esper wrote it.
    """
    if seal.states_sha256 is None:
        return None
    name = states_name(seal.segment)
    data = storage.read(name, MAX_JSON_BYTES)
    if sha256_of(data) != seal.states_sha256:
        raise RunDamagedError(f"{storage.where(name)}: its sha256 is not the one in the seal")
    try:
        found = SegmentStates.from_bytes(data, with_digests=with_digests)
    except RunDamagedError as error:
        raise RunDamagedError(f"{storage.where(name)}: {error}") from None
    if found is not None and (found.segment, found.run_uuid, found.rows) != (seal.segment, seal.run_uuid, seal.rows):
        raise RunDamagedError(f"{storage.where(name)}: it is of another segment than its seal")
    return found


def differences(there: SegmentStates, here: SegmentStates) -> list[str]:
    """Name the columns whose states differ. Sums may differ in the last digits: another machine adds in another order.

    Args:
        there: as recorded.
        here: as computed from the rows.
    """
    if (there.segment, there.run_uuid, there.rows) != (here.segment, here.run_uuid, here.rows):
        return ["segment, run_uuid or rows"]
    names = [*there.columns, *(name for name in here.columns if name not in there.columns)]
    return [name for name in names if not _is_same(there.columns.get(name), here.columns.get(name))]


# ------------------------------------------------------------------ writing


def _record(state: ColumnState) -> dict[str, Any]:
    found: dict[str, Any] = {"measured": state.measured}
    found |= {name: count for name in _COUNTS if (count := getattr(state, name))}
    found |= {name: [_json(end[0]), end[1]] for name in _ENDS if (end := getattr(state, name)) is not None}
    if state.total is not None:
        found["total"] = state.total
    found |= {name: _json(value) for name in _MOMENTS if (value := getattr(state, name)) is not None}
    if state.levels is not None:
        found["levels"] = list(state.levels)
    if state.worst is not None:
        worst = state.worst
        found["worst"] = [_json(worst.value), worst.seq, worst.update, worst.severity]
    if state.digest is not None:
        found["digest"] = digest.to_text(state.digest)
    return found


def _json(value: Number) -> Number | str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


# ------------------------------------------------------------------ reading


def _state(record: Mapping[str, Any], dtype: str, rows: int, with_digests: bool) -> ColumnState:
    """Read one state, and check that its parts fit together."""
    kind = _PYTHON_TYPES.get(dtype, float)
    found: dict[str, Any] = {name: record.get(name, 0) for name in ("measured", *_COUNTS)}
    counts = tuple(found.values())
    _expect(all(type(count) is int for count in counts) and min(counts) >= 0, "counts")
    measured = counts[0]
    finite = measured - sum(counts[1:])
    _expect(0 < measured <= rows and finite >= 0, "counts")
    for name in _ENDS:
        if name in record:
            found[name] = _end(record[name], kind)
    _expect("first" in found and "last" in found, "first and last")
    is_time = dtype == "timestamp"
    has_extremes = "smallest" in found and "largest" in found
    _expect(is_time or has_extremes == bool(finite), "extremes")
    if has_extremes:
        ends = found["smallest"][0], found["largest"][0]
        _expect(all(map(math.isfinite, ends)) and ends[0] <= ends[1], "extremes")
    if "total" in record:
        _expect(kind is not float and isinstance(record["total"], int), "total")
        found["total"] = record["total"]
    if not is_time and finite:
        found |= {name: _value(record[name], float) for name in _MOMENTS}
    found |= _levels(record, kind, measured)
    if "digest" in record and with_digests:
        _expect(isinstance(record["digest"], str) and kind is not bool and not is_time, "digest")
        found["digest"] = digest.from_text(record["digest"], finite)
    return ColumnState(**found)


def _levels(record: Mapping[str, Any], kind: type, measured: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "levels" in record:
        healthy, warning, critical = record["levels"]
        counts = (healthy, warning, critical)
        _expect(all(map(_is_count, counts)) and sum(counts) <= measured, "levels")
        found["levels"] = counts
    if "worst" in record:
        value, seq, update, severity = record["worst"]
        _expect(_is_count(seq) and isinstance(update, int) and severity in (0, 1, 2), "worst")
        found["worst"] = Worst(_value(value, kind), seq, update, severity)
    return found


def _end(record: Any, kind: type) -> At:
    value, seq = record
    if type(seq) is not int or not 0 <= seq <= MAX_SEQ:
        raise ValueError("a sequence number cannot be right")
    return (value if kind is float and type(value) is float else _value(value, kind)), seq


def _value(value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, str):
        return _NOT_FINITE[value]
    _expect(type(value) is kind, f"a value of type {kind.__name__}")
    _expect(kind is not int or -(2**63) <= value < 2**63, "an integer of 64 bits")
    return value


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEQ


def _expect(is_right: bool, what: str) -> None:
    if not is_right:
        raise ValueError(f"{what} cannot be right")


# ------------------------------------------------------------------ comparing


def _is_same(there: ColumnState | None, here: ColumnState | None) -> bool:
    if there is None or here is None:
        return False
    exact = (*_ENDS, *_COUNTS, "measured", "total", "levels", "worst")
    if any(not _equal(getattr(there, name), getattr(here, name)) for name in exact):
        return False
    if any(not _close(getattr(there, name), getattr(here, name)) for name in _MOMENTS):
        return False
    if there.digest is None or here.digest is None:
        return there.digest is here.digest
    return all(
        math.isclose(there.digest.get_quantile(share), here.digest.get_quantile(share), rel_tol=1e-6, abs_tol=1e-12)
        for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
    )


def _equal(there: Any, here: Any) -> bool:
    return repr(there) == repr(here)  # so that NaN equals NaN, and −0.0 is not 0.0


def _close(there: float | None, here: float | None) -> bool:
    if there is None or here is None:
        return there is here
    return bool(np.isclose(there, here, rtol=1e-9, atol=1e-300, equal_nan=True))
