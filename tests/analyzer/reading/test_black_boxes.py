from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.analyzer.black_box_runs import blown_up, plant, step, train

from esper_analyzer import BlackBox, open_run
from esper_recorder import Recorder
from esper_schemas import NotARunError, RunDamagedError

Record = Callable[..., Path]


def test_black_boxes_say_what_broke_and_have_every_minibatch(tmp_path: Path) -> None:
    """Oldest first: what was recorded, why, and the update in progress, which need not have a row."""
    path = blown_up(tmp_path)
    boxes = open_run(path).black_boxes()
    first, second = boxes
    assert isinstance(first, BlackBox)
    assert (first.rank, first.name, first.seq, first.attempt) == (0, "00000003", 3, 0)
    assert first.path == path / "rank-0000" / "blackbox" / "00000003.parquet"
    assert (first.trigger, first.reason) == ("not_finite", "value_loss is inf in minibatch 2")
    assert (first.update, first.after_update, first.not_written, first.minibatches) == (13, None, 0, 15)
    assert (second.name, second.trigger, second.reason) == ("00000005", "asked", "a look at it")
    assert (second.update, second.after_update, second.minibatches) == (None, 14, 20)
    assert first.written < second.written
    rows = first.rows()
    assert rows.columns == [
        "seq", "minibatch", "elapsed_secs", "policy_loss", "learning_rate", "reward_forward", "value_loss", "epoch",
    ]  # fmt: skip
    assert rows.schema["minibatch"] == pl.Int64
    assert rows["seq"].to_list() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 3
    assert rows["value_loss"].to_list()[-4:] == [12.3, 13.0, 13.1, math.inf]
    assert math.isnan(rows["reward_forward"][-1])
    assert second.rows().height == 20
    for box in boxes:
        assert box.last.equals(box.rows().tail(10))
    assert first.last_updates == [11] * 3 + [12] * 4 + [13] * 3
    assert second.last_updates == [12] * 2 + [13] * 3 + [14] * 4 + [None]


def test_a_number_that_was_not_passed_is_null(record: Record) -> None:
    """Not measured is null, and NaN stays NaN."""
    path = record([{"update": 0}])
    plant(path, 0, {"loss": [1.0, None, math.nan]})
    (box,) = open_run(path).black_boxes()
    assert str(box.rows()["loss"].to_list()) == "[1.0, None, nan]"


def test_the_rows_around_it_may_have_metrics_of_the_user(tmp_path: Path) -> None:
    """Sealed or active, in some segments and not in others: the update of a black box is that of its row."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        for update in range(10, 15):
            step(recorder, 0, value_loss=1.0)
            recorder.dump_black_box(f"update {update}")
            recorder.record(update=update, policy_loss=0.1, value_loss=1.0, extras={"mine": 1.0} if update > 11 else {})
        live = open_run(recorder.path).black_boxes()
    for boxes in (live, open_run(recorder.path).black_boxes()):
        assert [(f"update {box.update}", box.reason) for box in boxes] == [(f"update {n}",) * 2 for n in range(10, 15)]


def test_a_row_of_a_later_attempt_is_not_that_of_the_black_box(tmp_path: Path) -> None:
    """After a crash within an update, the next attempt gives the number of its row to another update."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=2) as recorder:
        train(recorder, [0, 1, 2])
        step(recorder, 0, value_loss=math.inf)
    with Recorder.open(tmp_path, run_id="r", resume="must", segment_rows=2) as recorder:
        train(recorder, [1, 2, 3])
        step(recorder, 0, value_loss=math.inf)
        recorder.record(update=4, policy_loss=0.1, value_loss=math.inf)
    boxes = open_run(recorder.path).black_boxes()
    assert [(box.seq, box.attempt, box.update, box.after_update) for box in boxes] == [(3, 0, None, 2), (6, 1, 4, None)]


def test_a_superseded_row_still_names_its_update(tmp_path: Path) -> None:
    """What a restart retired from the rows that count was nevertheless the update that broke."""
    path = blown_up(tmp_path)
    with Recorder.open(tmp_path, run_id="boom", resume="must") as recorder:
        train(recorder, [11, 12, 13])
    run = open_run(path)
    assert run.updates().filter(attempt=0).collect()["update"].to_list() == [10]
    assert [box.update for box in run.black_boxes()] == [13, None]


def test_before_the_first_row_of_an_attempt_there_is_no_update(tmp_path: Path) -> None:
    """Rows of the attempt before say nothing about where this one began."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        train(recorder, [0, 1])
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        step(recorder, 0, value_loss=math.nan)
    (box,) = open_run(recorder.path).black_boxes()
    assert (box.attempt, box.update, box.after_update) == (1, None, None)


def test_a_black_box_with_a_fault_is_among_the_faults_only(tmp_path: Path) -> None:
    """One changed byte: the other black box is still there."""
    path = blown_up(tmp_path)
    file = path / "rank-0000" / "blackbox" / "00000003.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    run = open_run(path)
    assert [box.name for box in run.black_boxes()] == ["00000005"]
    assert [(fault.kind, fault.is_damage) for fault in run.faults()] == [("corrupt", True)]


def test_the_black_boxes_of_all_ranks_are_in_order(tmp_path: Path) -> None:
    """By sequence number, then by rank; one rank can be asked for."""
    for rank in (0, 1):
        blown_up(tmp_path, rank=rank, world_size=2, resume="allow")
    run = open_run(tmp_path / "boom")
    assert [(box.seq, box.rank) for box in run.black_boxes()] == [(3, 0), (3, 1), (5, 0), (5, 1)]
    assert [(box.seq, box.rank) for box in run.black_boxes(1)] == [(3, 1), (5, 1)]
    assert all(box.rows().height == box.minibatches for box in run.black_boxes())
    with pytest.raises(NotARunError, match="no rank 2"):
        run.black_boxes(2)


def test_two_black_boxes_of_one_update(tmp_path: Path) -> None:
    """Something broke, and somebody asked for another look in the same update."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        step(recorder, 0, value_loss=math.inf)
        recorder.dump_black_box("another look")
    boxes = open_run(recorder.path).black_boxes()
    assert [(box.name, box.seq, box.trigger) for box in boxes] == [
        ("00000000", 0, "not_finite"), ("00000000-2", 0, "asked"),
    ]  # fmt: skip


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    """The rows are read when they are asked for; if the file is gone by then, the error names it."""
    (box, _) = open_run(blown_up(tmp_path)).black_boxes()
    Path(box.path).unlink()
    with pytest.raises(RunDamagedError, match=r"00000003\.parquet"):
        box.rows()


@pytest.mark.hostile
def test_what_an_examination_keeps_of_a_black_box_is_bounded(record: Record) -> None:
    """A text of megabytes is cut, few of many minibatches stay in memory, and a name of kilobytes is damage."""
    path = record([{"update": 0}])
    plant(path, 0, {"loss": [1.0] * 60_000}, reason="x" * 2_000_000, trigger="y" * 2_000_000, written="z" * 2_000_000)
    plant(path, 1, {"n" * 256: [1.0]})
    run = open_run(path)
    (box,) = run.black_boxes()
    assert [len(text) for text in (box.reason, box.trigger, box.written)] == [501] * 3
    assert (box.minibatches, box.last.height) == (60_000, 10)
    assert box.last.estimated_size() < 1000
    (kept,) = run.look(0).rank(0).black_boxes
    assert kept.last is not None
    assert kept.last.get_total_buffer_size() < 10_000
    assert [fault.kind for fault in run.faults()] == ["corrupt"]


def test_a_run_without_black_boxes(record: Record) -> None:
    """There are none."""
    assert open_run(record([{"update": 0}])).black_boxes() == []
