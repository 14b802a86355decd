"""A fleet for scripts and engines: `esper-fleet/1` as JSON, and one row for each run as CSV and Parquet."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from esper_analyzer.listing.formats import NO_RUN, csv_of, flat_row, row_of
from esper_analyzer.reporting.fleet.fleet import Fleet
from esper_analyzer.strict_json import strict

_LEFT_OUT = "age_secs"
"""What `runs` says and `fleet` does not, so that the same runs have the same output whenever they are judged."""

MAX_CONFIG_COLUMNS = 1000
"""A table has columns for so many hyper-parameters at most: those that most runs have."""

_TYPES: dict[str, pa.DataType] = {
    "updates": pa.int64(),
    "steps": pa.int64(),
    "since": pa.int64(),
    "goal_reached": pa.int64(),
    "rank": pa.int64(),
    "return": pa.float64(),
    "return_goal": pa.float64(),
    "loss": pa.float64(),
    "lr": pa.float64(),
    "damaged": pa.bool_(),
    "created": pa.timestamp("us", tz="UTC"),
}
"""The types of the columns of each row that are no texts."""


def fleet_json(fleet: Fleet) -> str:
    """Return the fleet as JSON, in ASCII; its runs are those of `esper-runs/1`, each with its group."""
    groups = fleet.group_of
    document = {
        "format": "esper-fleet/1",
        "found": fleet.found,
        "levels": fleet.levels,
        "unreadable": fleet.unreadable,
        "damaged": fleet.damaged,
        "groups": [asdict(group) for group in fleet.groups],
        "runs": [_grouped(row_of(run), groups) for run in fleet.runs],
    }
    return json.dumps(strict(document), indent=2)


def fleet_csv(fleet: Fleet) -> str:
    """Return one row for each run as CSV: the columns of `runs`, but for the age, and the group."""
    groups = fleet.group_of
    return csv_of([_grouped(flat_row(run), groups) for run in fleet.runs], list(_grouped(flat_row(NO_RUN), {})))


def fleet_parquet(fleet: Fleet) -> bytes:
    """Return one row for each run as Parquet: the columns of the CSV, and `config.NAME` for each hyper-parameter.

    A hyper-parameter that is a number or a boolean in every run that has it is one here; any other is a text, which has
    lists and mappings as JSON. A text that UTF-8 cannot say has escapes. There are `MAX_CONFIG_COLUMNS` at most.
    """
    groups = fleet.group_of
    rows = [_grouped(flat_row(run), groups) for run in fleet.runs]
    names = dict.fromkeys([*_grouped(flat_row(NO_RUN), {}), *(key for row in rows for key in row)])
    measured = {key for run in fleet.runs for key in run.measured} - _TYPES.keys()
    columns = {name: _column(name, [row.get(name) for row in rows], name in measured) for name in names}
    counts = Counter(key for run in fleet.runs for key in run.config)
    chosen = sorted(counts, key=lambda key: (-counts[key], key))[:MAX_CONFIG_COLUMNS]
    for key in sorted(chosen):
        columns[_encodable(f"config.{key}")] = _config_column([run.config.get(key) for run in fleet.runs])
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def _grouped(row: dict[str, Any], groups: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of `runs` as one of a fleet."""
    return {key: value for key, value in row.items() if key != _LEFT_OUT} | {"group": groups.get(row["name"])}


def _column(name: str, values: Sequence[Any], is_metric: bool) -> pa.Array:
    if is_metric:
        return pa.array(values, pa.float64())
    kind = _TYPES.get(name, pa.string())
    if name == "created":
        return pa.array(map(_time, values), kind)
    return pa.array(map(_text, values) if kind == pa.string() else values, kind)


def _config_column(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float}:
        with suppress(OverflowError):  # an integer beyond all floats
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array(map(_text, values), pa.string())


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return _encodable(value if isinstance(value, str) else json.dumps(strict(value)))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _time(created: str | None) -> datetime | None:
    try:
        time = None if created is None else datetime.fromisoformat(created)
        return None if time is None else (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
