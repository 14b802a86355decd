from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pyarrow as pa
import torch

from esper_recorder import EsperError, PPOUpdatePayload, Recorder, ValueLossDefinition
from esper_schemas import (
    METRICS,
    ActiveSegment,
    Attempt,
    Metric,
    MissingSegment,
    RankFollower,
    RunDirectory,
    RunHeader,
    Seal,
    SealedSegment,
    StoredRank,
    StoredRun,
    find_runs,
    read_segments,
    resolve_run,
)


def test_recorder_is_typed_as_users_call_it(tmp_path: Path) -> None:
    """Every way to record that the documentation shows passes a strict type check, and runs."""
    seen: list[float] = []

    def on_update(row: Mapping[str, float]) -> None:
        seen.append(row["value_loss"])

    with Recorder.open(
        tmp_path,
        run_id="mine",
        config={"lr": 3e-4, "layers": [64, 64]},
        trainer="mine",
        value_loss_definition=ValueLossDefinition(clipping="none", factor=0.5),
        resume="never",
        on_update=on_update,
    ) as recorder:
        assert_type(recorder, Recorder)
        safe = recorder.record(update=0, policy_loss=0.1, value_loss=0.2, kl_divergence=None, extras={"mine": 1})
        assert_type(safe, bool)
        recorder.record(PPOUpdatePayload(update=1, policy_loss=0.1, value_loss=0.2, extras={"mine": 1.0}))
        recorder.record(update=np.int64(2), policy_loss=np.float32(0.1), value_loss=torch.tensor(0.2), my_own=3.0)
        recorder.record(update=3, skipped=True, skip_reason=2)
        assert_type(recorder.path, Path)
        assert_type(recorder.dropped_rows, int)
    assert len(seen) >= 3
    assert_type(PPOUpdatePayload(update=1, skipped=True).to_dict(), dict[str, Any])
    try:
        Recorder.open(str(tmp_path), run_id="mine")
    except EsperError as error:
        assert_type(str(error), str)


def test_reading_is_typed(tmp_path: Path) -> None:
    """Finding and reading a run needs no casts."""
    with Recorder.open(tmp_path, run_id="mine") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    assert_type(find_runs(tmp_path), Iterator[RunDirectory])
    run = resolve_run("mine", tmp_path)
    assert_type(run, StoredRun)
    assert_type(run.header(), RunHeader)
    (rank,) = run.ranks()
    assert_type(rank, StoredRank)
    assert_type(rank.attempts(), list[Attempt])
    assert_type(rank.seal(0), Seal | None)
    for segment in read_segments(rank):
        assert_type(segment, SealedSegment | ActiveSegment | MissingSegment)
        assert_type(segment.number, int)
    with RankFollower(rank) as follower:
        assert_type(follower, RankFollower)
        batches: list[pa.RecordBatch] = follower.poll()
    assert sum(batch.num_rows for batch in batches) == 1
    assert_type(METRICS["value_loss"], Metric)
