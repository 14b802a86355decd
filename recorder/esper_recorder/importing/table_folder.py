"""Reads a folder that has a table for each number, as the web pages of TensorBoard, W&B and MLflow export them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from esper_recorder.dialects.table import DIALECTS
from esper_recorder.importing.account import Account
from esper_recorder.importing.csv_table import CsvTable, table_in
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.long_form import long_columns
from esper_recorder.importing.merging import in_log_order, joined
from esper_recorder.importing.points import NOTHING_YET, Points
from esper_recorder.importing.run_import import OnRead
from esper_recorder.importing.wandb_page import keys_of_page
from esper_schemas.errors import UsageError
from esper_schemas.metric.payload import METRICS

_OF_TENSORBOARD = re.compile(r"run-(?P<run>.*)-tag-(?P<tag>.*)")
"""The name of a file that TensorBoard's page exports. Browsers write `_` for the slashes in it."""

_MOST_OF_TENSORBOARD = 1000


def keys_of_tables(files: Sequence[Path], source_run: str | None) -> dict[Path, str] | None:
    """Return the key of the number in each table, empty where the table names its numbers; None if these are others.

    Raises:
        UsageError: the files are of several runs, and none of them is wanted, or another one is.
        OSError: one of them cannot be read.
    """
    found: dict[Path, str] = {}
    runs: dict[str, None] = {}
    for path in files:
        layout = table_in(path)
        columns = None if layout is None else long_columns(layout.header)
        named = _OF_TENSORBOARD.fullmatch(path.name.removesuffix(".gz").removesuffix(".csv"))
        if layout is None:
            return None
        if columns is None and not _is_page_of_wandb(layout.header):
            return None
        if columns is not None and not columns.name:
            if named is not None:
                runs[named["run"]] = None
                if source_run not in (None, named["run"]):
                    continue
            found[path] = _key_of(named["tag"] if named is not None else path.name.partition(".")[0])
        else:
            found[path] = ""
    shown = ", ".join(list(runs)[:10])
    if runs and source_run is not None and source_run not in runs:
        raise UsageError(f"--source-run: it has no run {source_run!a}; found {shown}")
    if len(runs) > 1 and source_run is None:
        raise UsageError(f"it has files of several runs: {shown}; choose one with --source-run")
    return found or None


def _is_page_of_wandb(header: Sequence[str]) -> bool:
    try:
        return keys_of_page(header, None) is not None
    except UsageError:
        return True  # of several runs


def _key_of(tag: str) -> str:
    """The key that a tag without its slashes stands for: that of a known trainer, or one that ends in a metric."""
    flat = re.sub(r"\W", "_", tag)
    names = [key.name for dialect in DIALECTS for key in dialect.keys]
    known = next((name for name in [tag, *names] if name in names and re.sub(r"\W", "_", name) == flat), None)
    if known is not None:
        return known
    metric = max((name for name in METRICS if tag.lower().endswith(f"_{name}")), key=len, default="")
    return f"{tag[: -len(metric) - 1]}/{tag[-len(metric) :]}" if metric else tag


class TableFolder:
    """A folder of such tables as a `PointReader`: points are put in the order of their times, or else of their steps.

    Nobody exports a table while it is written, so a folder that is followed is read once.

    Args:
        keys: The tables, with the keys of their numbers.
        following: Whether it is followed.
        source_run: Which run of tables that have several.
    """

    what = "numbers"

    def __init__(
        self, keys: Mapping[Path, str], following: Following = READ_ONCE, source_run: str | None = None
    ) -> None:
        self.config: dict[str, Any] = {}
        self._keys = keys
        self._following = following
        self._source_run = source_run

    def points(self, on_read: OnRead, account: Account) -> Iterator[Points]:
        """Yield the points of all tables; see `PointReader.points`."""
        parts = []
        for path, key in self._keys.items():
            own = Account()
            table = CsvTable(path, READ_ONCE, None if key else self._source_run, key)
            parts.append(joined(list(table.points(on_read, own))))
            account.add(own, path.name)
        if any(len(part.keys) == _MOST_OF_TENSORBOARD for part in parts):
            account.notes.append("a table has 1,000 rows: the page of TensorBoard exports a sample of a longer log")
        yield in_log_order(parts)
        while not self._following.is_over:
            yield NOTHING_YET
