from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.live_runs import copy_live_run

from esper_recorder import Recorder
from esper_schemas.run.records import Attempt, BlackBoxRecord, RunHeader, Seal
from esper_schemas.segment.scan import parse_active
from esper_schemas.testing.bases import BASES, LEFTOVER, Base, write_bases
from esper_schemas.testing.golden import wrong_columns

_OF_THE_MOMENT = {
    RunHeader: {"run_uuid", "created", "host", "versions", "value_loss_definition"},
    Attempt: {"started", "ended", "pid", "host", "last_drop_reason"},
    Seal: {"run_uuid", "sha256", "states_sha256", "bytes"},
    BlackBoxRecord: {"run_uuid", "written", "sha256", "bytes"},
}
"""What differs in each recording of the same rows."""


def _record(recorder: Recorder, updates: Sequence[int], dropped: int = 12) -> None:
    for update in updates:
        if updates[0] == 0 and update == updates[-1]:
            recorder.minibatch(value_loss=0.5)
            recorder.minibatch(value_loss=0.25, grad_norm=2.0)
            assert recorder.dump_black_box("a look")
        loss: Any = "no number" if update == dropped else 0.5
        recorder.record(update=update, policy_loss=-0.01, value_loss=loss)


def _finished(root: Path, run_id: str = "run") -> None:
    for updates in (range(25), range(25, 45)):
        with Recorder.open(root, run_id=run_id, resume="allow", segment_rows=10, git_commit="") as recorder:
            _record(recorder, updates)


def _killed(root: Path) -> None:
    with Recorder.open(root / "live", run_id="run", segment_rows=10, git_commit="") as recorder:
        _record(recorder, range(25))
    with Recorder.open(root / "live", run_id="run", resume="must", segment_rows=10, git_commit="") as recorder:
        _record(recorder, range(25, 40))
        _record(recorder, range(40, 50))
        copy_live_run(recorder.path, root / "run", sealed=5)


def _two_ranks(root: Path) -> None:
    for rank in (0, 1):
        with Recorder.open(root, run_id="run", segment_rows=10, git_commit="", rank=rank, world_size=2) as recorder:
            _record(recorder, range(20), dropped=-1)


_RECORD: Mapping[Base, Callable[[Path], None]] = {
    "earlier": _finished,
    "finished": _finished,
    "killed": _killed,
    "two ranks": _two_ranks,
    "other": lambda root: _finished(root, "other"),
}


def _rows(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        table = pq.read_table(path, partitioning=None)
    else:
        segment = parse_active(int(path.stem), path.read_bytes())
        assert segment.end.kind == "clean"
        table = pa.Table.from_batches([segment.rows])
    return table.drop_columns([name for name in ("wall_time", "elapsed_secs") if name in table.column_names])


def _record_of(path: Path) -> dict[str, Any]:
    """A JSON record without what differs from one recording to the next."""
    kinds: dict[str, type] = {"run.json": RunHeader, "attempts": Attempt, "seals": Seal, "blackbox": BlackBoxRecord}
    values: dict[str, Any] = json.loads(path.read_text())
    if path.parent.name == "states":
        of_the_moment = ("wall_time", "elapsed_secs")
        columns = {name: state for name, state in values["columns"].items() if name not in of_the_moment}
        return {"rows": values["rows"], "segment": values["segment"], "columns": columns}
    kind = kinds[path.name if path.name in kinds else path.parent.name]
    assert values.keys() >= _OF_THE_MOMENT[kind]
    return {name: value for name, value in values.items() if name not in _OF_THE_MOMENT[kind]}


@pytest.mark.parametrize("base", BASES)
def test_base_is_what_the_recorder_records(base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that is written without a recorder has the files, rows and records of one that was recorded."""
    caplog.set_level(logging.CRITICAL, "esper_recorder")  # a row is dropped on purpose
    (tmp_path / "recorded").mkdir()
    _RECORD[base](tmp_path / "recorded")
    written = write_bases(tmp_path)[base]
    recorded = tmp_path / "recorded" / written.name
    names = sorted(path.relative_to(recorded) for path in recorded.rglob("*"))
    assert sorted(path.relative_to(written) for path in written.rglob("*")) == names
    for name in names:
        if name.suffix in (".parquet", ".arrows"):
            assert wrong_columns(_rows(recorded / name), _rows(written / name)) == []
        elif name.suffix == ".json":
            assert _record_of(written / name) == _record_of(recorded / name)


def test_leftover_holds_the_rows_of_the_segment_it_became(tmp_path: Path) -> None:
    """The active file that a crash leaves beside its sealed one has the same rows."""
    run = write_bases(tmp_path)["killed"]
    sealed = run / "rank-0000" / "segments" / LEFTOVER.replace("arrows", "parquet")
    assert wrong_columns(_rows(sealed), _rows(run.parent / LEFTOVER)) == []
