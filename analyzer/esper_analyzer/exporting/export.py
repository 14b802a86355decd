"""Exports the rows of a run that count into one file: Parquet, CSV, or an event file of TensorBoard."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import polars as pl
import pyarrow.parquet as pq

from esper_analyzer.exporting.event_file import ROWS_AT_A_TIME, write_event_file
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.run_reader import RunReader
from esper_analyzer.whole_file import whole_file
from esper_schemas.errors import UsageError

Form = Literal["parquet", "csv", "tfevents"]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        path: the file.
        rows: how many updates it has.
        ranks: the ranks that they are of.
        is_damaged: whether the run is damaged, so that rows may be missing.
    """

    path: Path
    rows: int
    ranks: list[int]
    is_damaged: bool


def form_of(path: Path) -> Form:
    """Return what the name of a file says it is.

    Raises:
        UsageError: it says nothing that is known.
    """
    if "tfevents" in path.name:
        return "tfevents"
    if path.suffix == ".parquet":
        return "parquet"
    if path.suffix == ".csv":
        return "csv"
    raise UsageError(
        f"the name of an export must end in .parquet or .csv, or contain tfevents, by which TensorBoard finds files;"
        f" found {path.name!a}"
    )


def export_run(
    run: RunReader, path: str | os.PathLike[str], *, rank: int | None = None, force: bool = False
) -> Exported:
    """Write the rows of a run that count into one file; its name says in which format.

    `.parquet` and `.csv` have the rows and columns of `Run.updates`, of all ranks by default. A name that contains
    `tfevents` makes an event file of TensorBoard with one rank, by default the first; see `write_event_file`. The file
    is whole or not there, see `whole_file`. Missing folders are made.

    Args:
        run: the run, which may still be recorded.
        path: the file.
        rank: only this rank.
        force: whether an existing file is replaced.

    Raises:
        UsageError: the name says no format, or the file exists.
        NotARunError: the run has no such rank.
        OSError: the file cannot be written.
    """
    target = Path(path)
    form = form_of(target)
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name the file to write in it")
    if target.exists() and not force:
        raise UsageError(f"{target} exists already; choose another name, or replace it with --force")
    if form == "tfevents" and rank is None:
        rank = next(iter(run.ranks()), 0)
    rows, is_damaged = run.read(rank, _collected)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as file:
        if form == "parquet":
            pq.write_table(rows.to_arrow(), file, compression="zstd")
        elif form == "csv":
            _write_csv(file, rows)
        else:
            write_event_file(file, rows, run.header.config)
    return Exported(target, rows.height, run.selected_ranks(rank), is_damaged)


def _collected(found: RunIndex) -> tuple[pl.DataFrame, bool]:
    return found.updates().collect(), any(fault.is_damage for fault in found.faults)


def _write_csv(file: BinaryIO, rows: pl.DataFrame) -> None:
    """Write piece by piece: polars does not say why a file takes no more."""
    file.write(rows.clear().write_csv().encode())
    for part in rows.iter_slices(ROWS_AT_A_TIME):
        file.write(part.write_csv(include_header=False).encode())
