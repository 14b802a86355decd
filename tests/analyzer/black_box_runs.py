"""Runs with black boxes: recorded by the real recorder, or planted in a run as nobody's recorder would."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esper_recorder import Recorder
from esper_schemas import RunDirectory
from esper_schemas.run.names import black_box_name, black_box_record_name
from esper_schemas.segment.active import SegmentIdentity
from esper_schemas.segment.black_box import record_of, to_parquet


def train(recorder: Recorder, updates: Sequence[int], minibatches: int = 4) -> None:
    """Some sound updates; the value loss of a minibatch is its update and, behind the point, its number."""
    for update in updates:
        for number in range(minibatches):
            step(recorder, number, value_loss=update + number / 10)
        recorder.record(update=update, policy_loss=-0.1, value_loss=1.0)


def step(recorder: Recorder, number: int, **numbers: float) -> None:
    """One minibatch of two epochs."""
    usual = {"epoch": 1 + number // 2, "policy_loss": -0.1 * (1 + number), "learning_rate": 3e-4, "reward_forward": 2.0}
    recorder.minibatch(**usual | numbers)


def blown_up(root: Path, run_id: str = "boom", **options: Any) -> Path:
    """Updates 10 to 12, then 13, whose third minibatch has an infinite loss, then 14; a look at it while 15 begins."""
    with Recorder.open(root, run_id=run_id, **options) as recorder:
        train(recorder, [10, 11, 12])
        step(recorder, 0, value_loss=13.0)
        step(recorder, 1, value_loss=13.1)
        step(recorder, 2, value_loss=math.inf, reward_forward=math.nan)
        recorder.record(update=13, policy_loss=-0.1, value_loss=math.inf)
        train(recorder, [14])
        step(recorder, 0, value_loss=15.0)
        recorder.dump_black_box("a look at it")
    return Path(recorder.path)


def plant(run: Path, seq: int, numbers: Mapping[str, Sequence[float | None]], **fields: Any) -> None:
    """Put a black box with these columns of minibatches into rank 0; `fields` replace those of its record."""
    header = RunDirectory(run).header()
    rows = max(map(len, numbers.values()), default=0)
    own: dict[str, Sequence[float]] = {
        "seq": [seq] * rows,
        "minibatch": list(range(rows)),
        "elapsed_secs": [float(at) for at in range(rows)],
    }
    fields = {
        "attempt": 0, "run_uuid": header.run_uuid, "written": "2026-01-02T03:04:05.678901+00:00",
        "trigger": "asked", "reason": "planted", **fields,
    }  # fmt: skip
    identity = SegmentIdentity(header.run_id, 0, fields["attempt"], 0, 0, header.run_uuid)
    parquet = to_parquet(own, numbers, identity)
    record = record_of(parquet, seq=seq, minibatches=rows, **fields)
    rank = run / "rank-0000"
    (rank / "blackbox").mkdir(exist_ok=True)
    (rank / black_box_name(f"{seq:08d}")).write_bytes(parquet)
    (rank / black_box_record_name(f"{seq:08d}")).write_bytes(record.to_bytes())
