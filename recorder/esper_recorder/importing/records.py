"""Logs of records, one line or row each: JSON lines and Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.following import READ_ONCE, Following, RewrittenError, Watched
from esper_recorder.importing.json_lines import NO_LINE_YET
from esper_recorder.importing.json_values import read_values
from esper_recorder.importing.log_file import LogFile
from esper_recorder.importing.long_form import LongTable, long_table
from esper_recorder.importing.numbering import as_steps
from esper_recorder.importing.one_run import OneRun
from esper_recorder.importing.points import NOTHING_YET, Points, of_record
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.values import empty_keys, flatten
from esper_schemas.errors import UsageError

STEP_KEYS = ("step", "global_step", "_step", "Step")
"""Columns and keys that have the step of a record, in logs of any trainer; the first of them counts.

`_step` counts the records of W&B, whose page calls it `Step`. Where W&B was handed the points of TensorBoard,
`global_step` is their step.
"""

TIME_KEYS = ("_timestamp",)
"""Columns and keys that have the time of a record, in seconds since 1970."""

CONFIG_KEY = "config"
"""The object in a record that has hyper-parameters and no results, as RLlib writes it."""

MAX_COLUMNS = 5000
_MAX_GROUP_BYTES = 512 * 1024 * 1024


def points_of(values: Mapping[str, float], empty: Sequence[str] | None = None) -> Points:
    """Return the points of a record; its step and time are those of the keys that have them in any log.

    Args:
        values: Its numbers by key.
        empty: As for `Points`.
    """
    rest = dict(values)
    step = time = None
    for key in STEP_KEYS:
        if step is None and (step := as_steps(rest.get(key))) is not None:
            del rest[key]
    for key in TIME_KEYS:
        time = rest.pop(key, time)
    return of_record(rest, step, time, empty=empty)


class JsonLines:
    """JSON objects, one on each line or however they are laid out, as a `PointReader`; nested keys are joined with `/`.

    In `{"step": 3, "data": {…}}`, as verl writes it, the numbers are those of `data`.
    """

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE, source_run: str | None = None) -> None:
        self.path = path
        self._following = following
        self._source_run = source_run
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each line; see `PointReader.points`."""
        others: dict[str, str] = {}
        one_run = OneRun(self._source_run)
        long: LongTable | None = None
        before: tuple[str, ...] = ()
        with LogFile(self.path, self._following) as file:
            for line in read_values(file):
                if line is NO_LINE_YET:
                    yield NOTHING_YET
                    continue
                on_read(line.size)
                record = line.value
                if not isinstance(record, dict):
                    if line.problem or line.value is not None:
                        account.unreadable.add(f"{line.place} ({line.problem or 'JSON, but not an object'})")
                    continue
                if record.keys() == {"step", "data"} and isinstance(record["data"], dict):
                    record = {**record["data"], "step": record["step"]}
                settings = record.pop(CONFIG_KEY, None)
                if isinstance(settings, dict) and not self.config:
                    self.config.update(settings)
                if not one_run.has(record):
                    continue
                if long is None and (keys := tuple(record)) != before:  # of nearly all records, it has to be cheap
                    before, long = keys, long_table(keys)
                if long is not None:
                    yield from long.add(record)
                    continue
                values: dict[str, float] = {}
                flatten(record, "", values, others)
                if values:
                    yield points_of(values, empty_keys(record))
        one_run.check()
        if long is not None:
            yield from long.rest()
            others |= {name: f"text, in {count:,} records" for name, count in long.texts.items()}
        if self.config:
            account.notes.append(
                f"the {len(self.config):,} hyper-parameters under {CONFIG_KEY} are in the run's header"
            )
        for name, kind in list(others.items())[:MAX_COLUMNS]:
            account.left_out.setdefault(name, kind)


class ParquetTable:
    """A Parquet file as a `PointReader`, also in long form, as the exporter of Neptune writes it.

    Such a file never grows: one that is followed is read anew if it changes.
    """

    what = "numbers"

    def __init__(self, path: Path, following: Following = READ_ONCE, source_run: str | None = None) -> None:
        self.path = path
        self._following = following
        self._source_run = source_run
        self.config: dict[str, Any] = {}

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of each row; see `PointReader.points`."""
        with self.path.open("rb") as opened:
            watched = Watched(self.path, opened, self._following)
            yield from self._points(on_read, account)
            watched.note_read(os.fstat(opened.fileno()).st_size)
            while not watched.is_over:
                yield NOTHING_YET
                if watched.has_changed():
                    raise RewrittenError

    def _points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        one_run = OneRun(self._source_run)
        try:
            with pq.ParquetFile(self.path) as file:
                if file.metadata.num_columns > MAX_COLUMNS:
                    raise UsageError(f"it has {file.metadata.num_columns:,} columns; the limit is {MAX_COLUMNS:,}")
                schema = file.schema_arrow
                numbers = [field.name for field in schema if _is_number(field.type)]
                of_run = one_run.columns(schema.names)
                long = long_table(schema.names)
                read = numbers if long is None else long.columns.read
                account.left_out |= {
                    field.name: f"{field.type}, no number" for field in schema if field.name not in {*read, *of_run}
                }
                for row in self._rows(file, [*read, *(name for name in of_run if name not in read)], on_read):
                    if of_run and not one_run.has(row):
                        continue
                    if long is not None:
                        yield from long.add(row)
                    elif values := {name: float(row[name]) for name in numbers if row[name] is not None}:
                        yield points_of(values, [name for name in numbers if row[name] is None])
        except pa.ArrowException as error:
            raise UsageError(f"it is no readable Parquet file: {' '.join(str(error).split())[:200]}") from None
        one_run.check()
        if long is not None:
            yield from long.rest()

    def _rows(self, file: Any, columns: list[str], on_read: OnRead) -> Iterator[dict[str, Any]]:
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).total_byte_size
            if size > _MAX_GROUP_BYTES:
                raise UsageError(f"row group {group} takes {size:,} bytes; the limit is {_MAX_GROUP_BYTES:,}")
            on_read(0)
            for batch in file.iter_batches(1024, row_groups=[group], columns=columns, use_threads=False):
                yield from batch.to_pylist()


def _is_number(dtype: Any) -> bool:
    import pyarrow as pa

    return any(is_kind(dtype) for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))
