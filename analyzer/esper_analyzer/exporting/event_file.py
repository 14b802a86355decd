"""Writes the rows of one rank as an event file of TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from esper_schemas.metric.coercion import MAX_EXACT, RECORDER_COLUMNS
from esper_schemas.metric.payload import METRICS
from esper_schemas.tfevents.protobuf import scalar_prefix, scalars_event, settings_event, version_event
from esper_schemas.tfevents.records import framed

ROWS_AT_A_TIME = 4096
"""Rows that are turned into text or events at a time."""

_MICROSECONDS = 1e6
_TIME, _STEP = "wall_time", "update"


def write_event_file(file: BinaryIO, rows: pl.DataFrame, config: Mapping[str, Any]) -> None:
    """Write one event for each row, with a scalar for each value that is not null, as float32.

    The step of an event is the update, and its time the wall time of the row, 0 where the row has none. The tag of a
    metric is its group in the metrics table and its name, such as `losses/value_loss`. An extra keeps its name if that
    has a group already, and is in the group `extras` otherwise. Columns of the recorder (run, rank, attempt, …) have no
    tag. Hyper-parameters are written for the hparams plugin.

    Args:
        file: open for writing.
        rows: of one rank, in the order of their updates.
        config: hyper-parameters, as in the header of a run.
    """
    columns = [name for name in rows.columns if name not in {*RECORDER_COLUMNS, _TIME, _STEP}]
    tags = tags_of(columns)
    prefixes = [scalar_prefix(tags[name]) for name in columns]
    began = _seconds(rows[_TIME].drop_nulls().head(1)).tolist()
    start = began[0] if began else 0.0
    settings = dict(_flat(config))
    file.write(framed([version_event(start), *([settings_event(start, settings)] if settings else [])]))
    for part in rows.iter_slices(ROWS_AT_A_TIME):
        file.write(framed(list(_events(part, columns, prefixes))))


def tags_of(columns: Iterable[str]) -> dict[str, str]:
    """Return the tag of each column; no two columns have the same one."""
    tags = {name: f"{METRICS[name].group}/{name}" for name in columns if name in METRICS}
    for name in columns:
        if name not in tags:
            tag = name.strip("/")
            tag = tag if "/" in tag else f"extras/{tag}"
            while tag in tags.values():
                tag = f"extras/{tag}"
            tags[name] = tag
    return tags


def _events(rows: pl.DataFrame, columns: list[str], prefixes: list[bytes]) -> Iterator[bytes]:
    times = _seconds(rows[_TIME]).tolist()
    steps = rows[_STEP].to_list()
    with np.errstate(over="ignore"):  # what is too large for a float32 becomes an infinity
        numbers = [rows[name].cast(pl.Float64).fill_null(0.0).to_numpy().astype("<f4").tobytes() for name in columns]
    measured = [rows[name].is_not_null().to_list() for name in columns]
    fields = list(zip(prefixes, numbers, measured, strict=True))
    for place, (time, step) in enumerate(zip(times, steps, strict=True)):
        at = 4 * place
        scalars = b"".join(prefix + number[at : at + 4] for prefix, number, has in fields if has[place])
        yield scalars_event(time, step, scalars)


def _seconds(times: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
    return times.cast(pl.Int64).fill_null(0).to_numpy() / _MICROSECONDS


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float | str | bool]]:
    """The hyper-parameters by name, those of an object as `object.name`; what a float64 cannot have becomes a text."""
    for name, setting in config.items():
        if isinstance(setting, Mapping):
            yield from _flat(setting, f"{before}{name}.")
        elif isinstance(setting, bool | str):
            yield before + name, setting
        elif isinstance(setting, int | float) and abs(setting) <= MAX_EXACT:
            yield before + name, float(setting)
        else:
            yield before + name, json.dumps(setting)
