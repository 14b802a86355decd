from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from esper_recorder import Recorder
from esper_recorder.writing.device_capture import SLOTS, WIDTH, DeviceCapture, PendingRow
from esper_schemas import PayloadError

ReadRows = Callable[..., list[dict[str, Any]]]


def test_numbers_arrive_exactly() -> None:
    """Floats and integers travel together as 64 bits and come out as they went in, NaN bits included."""
    strange = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
    tensors = {
        "value_loss": torch.tensor(strange, dtype=torch.float64),
        "policy_loss": torch.tensor(0.1, requires_grad=True),
        "entropy": torch.tensor([-0.0], dtype=torch.float16),
        "env_steps": torch.tensor(2**63 - 1),
        "skipped": torch.tensor(True),
        "epochs_run": torch.tensor(-5, dtype=torch.int32),
        "mine": torch.tensor(math.inf),
    }
    row = DeviceCapture(pinned=False).begin({"update": 1}, tensors).resolve()
    assert struct.pack("<d", row["value_loss"]) == struct.pack("<d", strange)
    assert row["policy_loss"] == torch.tensor(0.1).item()
    assert math.copysign(1, row["entropy"]) == -1
    rest = {name: row[name] for name in ("update", "env_steps", "skipped", "epochs_run", "mine")}
    assert rest == {"update": 1, "env_steps": 2**63 - 1, "skipped": True, "epochs_run": -5, "mine": math.inf}


def test_wrong_tensors_are_refused_at_once() -> None:
    """A tensor of several numbers, or too many of them, is an error before anything is copied."""
    capture = DeviceCapture(pinned=False)
    with pytest.raises(PayloadError, match=r"value_loss must be one number, found a tensor of shape \(2,\)"):
        capture.begin({}, {"value_loss": torch.zeros(2)})
    with pytest.raises(PayloadError, match=f"a row can take {WIDTH} values"):
        capture.begin({}, {f"x{i}": torch.tensor(0.0) for i in range(WIDTH + 1)})


def test_slots_are_given_back() -> None:
    """A slot is free again when its row has arrived or failed; rows that find none keep their numbers elsewhere."""
    capture = DeviceCapture(pinned=False)
    for _ in range(SLOTS + 5):
        with pytest.raises(RuntimeError):
            capture.begin({}, {"a": torch.tensor(0.0), "b": torch.empty((), device="meta")}).resolve()
    pending = [capture.begin({}, {"mine": torch.tensor(float(i)), "env_steps": torch.tensor(i)}) for i in range(200)]
    assert [row.resolve() for row in pending] == [{"mine": float(i), "env_steps": i} for i in range(200)]
    assert capture.begin({}, {"mine": torch.tensor(7.0)}).resolve() == {"mine": 7.0}


def test_value_that_does_not_fit_is_an_error_each_time() -> None:
    """A row whose values turned out wrong stays wrong, and is never handed out without them."""
    pending = DeviceCapture(pinned=False).begin({"update": 1}, {"env_steps": torch.tensor(0.5)})
    for _ in range(2):
        with pytest.raises(PayloadError, match="env_steps"):
            pending.resolve()
    assert PendingRow({"update": 1}).resolve() == {"update": 1}


@pytest.fixture
def cpu_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors take the way of CUDA tensors."""

    def take(metrics: dict[str, Any]) -> dict[str, Any]:
        names = [name for name, value in metrics.items() if isinstance(value, torch.Tensor)]
        return {name: metrics.pop(name) for name in names}

    monkeypatch.setattr("esper_recorder.writing.unplanned.take_device_tensors", take)
    monkeypatch.setattr("esper_recorder.writing.unplanned.DeviceCapture", partial(DeviceCapture, pinned=False))


@pytest.mark.usefixtures("cpu_capture")
def test_device_rows_are_written_in_order_among_others(tmp_path: Path, read_rows: ReadRows) -> None:
    """Rows that wait for a device keep their place among rows that do not; a wrong one is dropped and explained."""
    with Recorder.open(tmp_path, run_id="r", segment_rows=11) as recorder:
        for i in range(120):
            loss: Any = torch.tensor(i / 2) if i % 3 else i / 2
            steps: Any = torch.tensor(0.5) if i == 50 else i
            recorder.record(update=i, policy_loss=0.1, value_loss=loss, env_steps=steps)
            time.sleep(0.0005)
        assert not recorder.record(update=torch.tensor(1), value_loss=torch.tensor(2.0))
    rows = read_rows(tmp_path / "r")
    assert [row["update"] for row in rows] == [i for i in range(120) if i != 50]
    assert all(row["value_loss"] == row["update"] / 2 for row in rows)
    assert rows[50]["dropped_before"] == 1
    assert recorder.dropped_rows == 2


@pytest.mark.usefixtures("cpu_capture")
def test_more_rows_than_slots_wait_while_the_disk_is_in_trouble(tmp_path: Path, read_rows: ReadRows) -> None:
    """Rows from a device are bounded by the buffer, not by the slots, however long the disk refuses them."""
    count = 4 * SLOTS
    with Recorder.open(tmp_path, run_id="r") as recorder:
        active = tmp_path / "r" / "rank-0000" / "active"
        active.rename(tmp_path / "away")
        for i in range(count):
            recorder.record(update=i, policy_loss=0.1, value_loss=torch.tensor(float(i)))
            time.sleep(0.003)
        (tmp_path / "away").rename(active)
    assert recorder.dropped_rows == 0
    assert [row["value_loss"] for row in read_rows(tmp_path / "r")] == [float(i) for i in range(count)]
