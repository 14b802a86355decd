"""Losses that are empty cells or null where each row before had a number: NaN, unless the row is of another kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.recorder.importing.logs import balance, import_log

from esper_recorder.importing.values import empty_keys

ReadRows = Callable[..., list[dict[str, Any]]]
Record = dict[str, float | None]

FULL = 12
"""Rows with both losses at the beginning."""


def _record(at: int, **other: float | None) -> Record:
    record: Record = {"env_steps": 64.0 * (at + 1), "episode_return_mean": 9.0 + at, "kl_divergence": 0.01}
    return {**record, "policy_loss": -0.01, "value_loss": 0.5, **other}


def _empty(at: int, **other: float | None) -> Record:
    return _record(at, policy_loss=None, value_loss=None, **other)


def _csv(records: list[Record]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record))
    cells = [["" if (cell := record.get(name)) is None else str(cell) for name in names] for record in records]
    return "".join(f"{','.join(row)}\n" for row in [names, *cells])


def _write(records: list[Record], form: str, folder: Path) -> Path:
    log = folder / f"own.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(records), log)
    elif form == "jsonl":
        log.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    else:
        log.write_text(json.dumps(records) if form == "json" else _csv(records), encoding="utf-8")
    return log


def _losses(records: list[Record], read_rows: ReadRows, folder: Path, form: str = "csv") -> tuple[list[Any], str]:
    """The losses of each row of an import, both in a pair, with None for NaN; and the notes."""
    done = import_log(_write(records, form, folder), root=folder / "runs")
    assert done.exit_code == 0, done.output
    rows = list(read_rows(folder / "runs" / "own"))
    assert [row["update"] for row in rows] == list(range(len(rows)))
    losses = [(row["policy_loss"], row["value_loss"]) for row in rows]
    return [tuple(None if math.isnan(loss) else loss for loss in pair) for pair in losses], balance(done)["note"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_empty_losses_behind_full_rows_are_nan(form: str, read_rows: ReadRows, tmp_path: Path) -> None:
    """Each such row is an update with its own numbers, in the middle and at the end, and the balance says so."""
    records = [_empty(at) if at in (12, 15, 16) else _record(at) for at in range(17)]
    losses, note = _losses(records, read_rows, tmp_path, form)
    assert losses == [(-0.01, 0.5)] * 12 + [(None, None)] + [(-0.01, 0.5)] * 2 + [(None, None)] * 2
    assert "3 rows, from row 13 to 17, have an empty value_loss and policy_loss where each row before" in note
    assert list(read_rows(tmp_path / "runs" / "own"))[-1]["episode_return_mean"] == 25.0


@pytest.mark.parametrize("name", ["policy_loss", "value_loss"])
def test_one_empty_loss_is_nan(name: str, read_rows: ReadRows, tmp_path: Path) -> None:
    """The other loss keeps its number, and no update is refused."""
    records = [_record(at) if at < FULL else _record(at, **{name: None}) for at in range(FULL + 2)]
    losses, note = _losses(records, read_rows, tmp_path)
    assert losses[FULL:] == [(None, 0.5) if name == "policy_loss" else (-0.01, None)] * 2
    assert f"2 rows, from row 13 to 14, have an empty {name} where" in note


@pytest.mark.parametrize(
    "others",
    [
        [{"env_steps": 900.0, "eval/return": 5.0, "episode_return_mean": 5.0}],
        [{"env_steps": 900.0}],
        [{"env_steps": 900.0, "charts/speed": 100.0}, {"env_steps": 964.0, "charts/speed": 100.0}],
    ],
    ids=["evaluation", "only a step", "charts"],
)
def test_a_row_of_another_kind_has_no_losses(others: list[Record], read_rows: ReadRows, tmp_path: Path) -> None:
    """A row with a key that no update has, or with nothing that an update measured, is no update."""
    losses, note = _losses([*map(_record, range(FULL)), *others], read_rows, tmp_path)
    assert len(losses) == FULL
    assert "read as NaN" not in note


def test_rows_that_alternate_have_no_losses(read_rows: ReadRows, tmp_path: Path) -> None:
    """Where rows without losses came before, or few rows have losses, an empty one is nothing new."""
    before = [{"env_steps": 0.0, "episode_return_mean": 9.0, "kl_divergence": 0.0, "value_loss": None}]
    losses, note = _losses([*before, *map(_record, range(FULL)), _empty(FULL)], read_rows, tmp_path)
    assert len(losses) == FULL
    assert "read as NaN" not in note


def test_losses_that_stay_away_early_are_said(read_rows: ReadRows, tmp_path: Path) -> None:
    """After too few rows nothing is read as NaN, and the balance says what that may mean."""
    losses, note = _losses([*map(_record, range(5)), *map(_empty, range(5, 20))], read_rows, tmp_path)
    assert len(losses) == 5
    assert "the last 15 rows have an empty value_loss and policy_loss, and are no updates here" in note


def test_a_refusal_is_printed_once(tmp_path: Path) -> None:
    """Updates that are refused for one reason, one behind the other, are counted and not listed one by one."""
    records = [_record(0), _record(1), *(_record(at, policy_loss=None) for at in range(2, 9))]
    refused = balance(import_log(_write(records, "csv", tmp_path), root=tmp_path / "runs"))["refused"]
    assert refused == "an update has no policy_loss, … (7 in all)"


def test_null_is_looked_for_as_deep_as_numbers_are() -> None:
    """A record that is nested without end is not followed to its end."""
    record: dict[str, Any] = {"value_loss": None}
    for _ in range(5000):
        record = {"a": record, "b": None}
    found = empty_keys(record)
    assert found[-1] == "b"
    assert "a/a/b" in found
    assert len(found) < 50
