"""What must hold on a GPU; without one, the same logic on CPU tensors."""

from __future__ import annotations

import math
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from esper_recorder import Recorder, rollout_statistics
from esper_recorder.train import losses
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.trainer import Trainer
from esper_recorder.writing.device_capture import SLOTS
from esper_schemas import RunDirectory
from esper_schemas.run.names import black_boxes
from esper_schemas.segment.black_box import read_black_box

ReadRows = Callable[..., list[dict[str, Any]]]


@contextmanager
def waiting_forbidden() -> Iterator[None]:
    """Inside, a call that makes the host wait for the device is an error."""
    if not torch.cuda.is_available():
        yield
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def keep_busy(device: torch.device) -> None:
    """Give a GPU about a second of work, so that what is queued behind it has not happened yet."""
    if device.type == "cuda":
        torch.cuda._sleep(2_000_000_000)  # type: ignore[no-untyped-call]


def test_an_update_waits_for_nothing_before_its_one_copy_to_the_host(device: torch.device) -> None:
    """Rollout and minibatches run with waiting forbidden; the row has the device's times and memory."""
    config = PPOConfig(num_envs=64, rollout_steps=16, updates=3)
    trainer = Trainer(config, make_env(config.env, config.num_envs, seed=0, device=device), device)
    rows = [trainer.run_update(0)]
    with waiting_forbidden():
        rollout = trainer.collector.collect()
        trainer.ppo.update(rollout, learning_rate=1e-4)
        trainer.collector.collect()
    rows.append(trainer.run_update(1))
    assert all(row["update_secs"] > 0 and row["rollout_secs"] > 0 for row in rows)
    assert all(math.isfinite(row["value_loss"]) for row in rows)
    if device.type == "cuda":
        assert all(row["gpu_memory_peak_bytes"] >= row["gpu_memory_allocated_bytes"] > 0 for row in rows)


@pytest.mark.parametrize("env", ["CartPole-v1", "gym:CartPole-v1", "Pendulum-v1"])
def test_every_kind_of_environment_trains_and_records(device: torch.device, tmp_path: Path, env: str) -> None:
    """Built-in and Gymnasium's, discrete and continuous actions: every update is a row with finite losses."""
    config = PPOConfig.for_env(env, num_envs=8, rollout_steps=32, updates=3, target_kl=1e3)
    environment = make_env(config.env, config.num_envs, seed=0, device=device)
    rows: list[dict[str, Any]] = []
    with Recorder.open(tmp_path, run_id="r", strict=True, on_update=lambda row: rows.append(dict(row))) as recorder:
        Trainer(config, environment, device).train(recorder)
    environment.close()
    assert [row["update"] for row in rows] == [0, 1, 2]
    assert all(math.isfinite(row[name]) for row in rows for name in ("value_loss", "policy_loss", "entropy"))


def test_numbers_arrive_bit_for_bit_and_nobody_waits(device: torch.device, tmp_path: Path, read_rows: ReadRows) -> None:
    """Tensors of every dtype come out as they were when they were recorded, though the device had not got there."""
    strange = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
    values: dict[str, Any] = {
        "value_loss": torch.tensor(strange, dtype=torch.float64),
        "policy_loss": torch.tensor(0.1, requires_grad=True),
        "entropy": torch.tensor(-0.0, dtype=torch.bfloat16),
        "kl_divergence": torch.tensor([2**-24], dtype=torch.float16),
        "env_steps": torch.tensor(2**63 - 1),
        "skipped": torch.tensor(False),
        "epochs_run": torch.tensor(7, dtype=torch.int32),
        "mine": torch.tensor(-math.inf),
    }
    tensors: dict[str, Any] = {name: value.detach().clone().to(device) for name, value in values.items()}
    with Recorder.open(tmp_path, run_id="r") as recorder:
        recorder.record(update=0, **tensors)  # pinned memory is allocated at the first row
        keep_busy(device)
        with waiting_forbidden():
            recorder.record(update=1, **tensors)
            for tensor in tensors.values():
                tensor.zero_()  # as a trainer does that accumulates into buffers
    assert recorder.dropped_rows == 0
    for row in read_rows(tmp_path / "r"):
        assert struct.pack("<d", row["value_loss"]) == struct.pack("<d", strange)
        assert row["policy_loss"] == values["policy_loss"].item()
        assert math.copysign(1, row["entropy"]) == -1
        assert row["kl_divergence"] == 2**-24
        assert (row["env_steps"], row["skipped"], row["epochs_run"], row["mine"]) == (2**63 - 1, False, 7, -math.inf)


def test_a_device_that_is_far_behind_costs_no_row(device: torch.device, tmp_path: Path, read_rows: ReadRows) -> None:
    """Many more rows than pinned slots, all recorded before the device has computed the first, are all kept."""
    count = 20 * SLOTS
    with Recorder.open(tmp_path, run_id="r") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=torch.zeros((), device=device))
        counter = torch.zeros((), dtype=torch.float64, device=device)
        keep_busy(device)
        with waiting_forbidden():
            for update in range(1, count):
                counter += 1
                recorder.record(update=update, policy_loss=0.1, value_loss=counter)
    assert recorder.dropped_rows == 0
    assert [row["value_loss"] for row in read_rows(tmp_path / "r")] == [float(i) for i in range(count)]


def test_minibatches_stay_on_the_device_until_something_breaks(device: torch.device, tmp_path: Path) -> None:
    """Nobody waits for them, and they come out as they were, though their tensors were overwritten since."""
    recorder = Recorder.open(tmp_path, run_id="r")
    loss, norm = torch.zeros((), device=device), torch.zeros((), dtype=torch.float64, device=device)
    recorder.minibatch(value_loss=loss, grad_norm=norm, epoch=0)
    keep_busy(device)
    with waiting_forbidden():
        for number in range(1, 600):
            loss += 1
            norm += 0.1
            recorder.minibatch(value_loss=loss, grad_norm=norm, epoch=number)
        loss *= math.inf
        recorder.minibatch(value_loss=loss, grad_norm=norm, epoch=600)
        recorder.record(update=0, policy_loss=loss, value_loss=loss)
        loss.zero_()
    recorder.close()
    with RunDirectory(tmp_path / "r").rank(0).open() as rank:
        [name] = black_boxes(rank)
        box = read_black_box(rank, name)
    assert box.record.reason == "policy_loss is inf in the row of the update"
    assert box.minibatches.column("epoch").to_pylist() == [float(number) for number in range(89, 601)]
    assert box.minibatches.column("value_loss").to_pylist() == [*(float(number) for number in range(89, 600)), math.inf]
    assert box.minibatches.column("grad_norm").to_pylist()[-1] == pytest.approx(59.9)


def test_a_graph_can_be_captured_while_rows_are_on_their_way(
    device: torch.device, tmp_path: Path, read_rows: ReadRows
) -> None:
    """The background fetches rows in the middle of a capture in global mode, and the capture succeeds."""
    count = 2 * SLOTS  # in slots, and behind them
    arrived: list[float] = []
    may_fetch = threading.Event()

    def hook(row: Mapping[str, Any]) -> None:
        arrived.append(row["value_loss"])
        may_fetch.wait(60)  # in the background's thread, which fetches the next row only after this

    with Recorder.open(tmp_path, run_id="r", on_update=hook) as recorder:
        x = torch.ones(8, device=device)
        for update in range(count):
            recorder.record(update=update, policy_loss=0.1, value_loss=x[0] * update)
        total = (x * 0).sum()
        with captured(device) as graph:
            may_fetch.set()
            deadline = time.monotonic() + 60
            while len(arrived) < count and time.monotonic() < deadline:
                time.sleep(0.01)
            total += x.sum()
            if graph is not None:
                assert not recorder.record(update=count, policy_loss=0.1, value_loss=total)
        assert len(arrived) == count
        if graph is not None:
            graph.replay()
            assert total.item() == 8
            assert recorder.dropped_rows == 1
    assert [row["value_loss"] for row in read_rows(tmp_path / "r")] == [float(i) for i in range(count)]


def test_a_black_box_waits_for_the_capture_on_the_stream_of_its_minibatches(
    device: torch.device, tmp_path: Path
) -> None:
    """It is asked for while their stream captures a graph: the graph is whole, and the black box follows."""
    stream = torch.cuda.Stream() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    x, total = torch.ones(8, device=device), torch.zeros((), device=device)
    with Recorder.open(tmp_path, run_id="r") as recorder:
        with torch.cuda.stream(stream):
            recorder.minibatch(value_loss=x[0] * 3)
        with captured(device, stream) as graph:
            recorder.dump_black_box("asked in the capture")
            total += x.sum()
        if graph is not None:
            graph.replay()
        assert total.item() == 8
    with RunDirectory(tmp_path / "r").rank(0).open() as rank:
        [name] = black_boxes(rank)
        assert read_black_box(rank, name).minibatches.column("value_loss").to_pylist() == [3.0]


@contextmanager
def captured(device: torch.device, stream: torch.cuda.Stream | None = None) -> Iterator[torch.cuda.CUDAGraph | None]:
    """Capture what is done inside as a graph, in the mode that any thread of the process can break; None on the CPU."""
    if device.type != "cuda":
        yield None
        return
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream or torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        graph.capture_begin(capture_error_mode="global")
        try:
            yield graph
        finally:  # or every test after this one fails too
            graph.capture_end()
    torch.cuda.synchronize()


@pytest.mark.parametrize("value_clip", [None, 0.2])
def test_losses_are_those_of_the_cpu(device: torch.device, value_clip: float | None) -> None:
    """Value loss, policy loss, KL and advantages of one rollout agree with the CPU's to float64 rounding."""
    generator = torch.Generator().manual_seed(0)
    values, old_values, targets, log_ratio, advantages = torch.randn(5, 4096, generator=generator).double()
    steps = torch.randn(3, 17, 8, generator=generator).double()
    ends = torch.rand(2, 16, 8, generator=generator) < 0.1
    valid = torch.rand(16, 8, generator=generator) < 0.9

    def computed(device: torch.device) -> list[torch.Tensor]:
        v, o, t, r, a = (tensor.to(device) for tensor in (values, old_values, targets, log_ratio, advantages))
        gae = losses.generalized_advantages(
            steps[0, 1:].to(device),
            steps[1].to(device),
            ends[0].to(device),
            ends[1].to(device),
            valid.to(device),
            gamma=0.99,
            gae_lambda=0.95,
        )
        return [
            losses.value_loss_per_sample(v, o, t, value_clip).cpu(),
            losses.policy_loss_per_sample(r, a, 0.2).cpu(),
            losses.kl_k3(r).cpu(),
            *(tensor.cpu() for tensor in gae),
        ]

    for here, there in zip(computed(torch.device("cpu")), computed(device), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-12, atol=1e-12)


def test_a_rollout_is_measured_where_it_is(device: torch.device, tmp_path: Path, read_rows: ReadRows) -> None:
    """The statistics of a rollout are those of NumPy, null where they are undefined, and nobody waits for them."""
    values = torch.randn(64, 8, device=device)
    returns, constant = values + torch.randn(64, 8, device=device), torch.ones(64, 8, device=device)
    keep_busy(device)
    with Recorder.open(tmp_path, run_id="run") as recorder:
        recorder.record(update=0, policy_loss=0.0, value_loss=torch.zeros((), device=device))  # allocates once
        with waiting_forbidden():
            measured = [rollout_statistics(values, of_row, of_row - values) for of_row in (returns, constant)]
            for update, statistics in enumerate(measured, start=1):
                recorder.record(update=update, policy_loss=0.0, value_loss=0.0, **statistics)
    rows = read_rows(tmp_path / "run")[1:]
    for row, of_row in zip(rows, (returns, constant), strict=True):
        expected = rollout_statistics(values.cpu(), of_row.cpu(), (of_row - values).cpu())
        assert {name for name in expected if row[name] is None} == {n for n in expected if expected[n] is None}
        measured_ones = {name: number for name, number in expected.items() if number is not None}
        assert {name: row[name] for name in measured_ones} == pytest.approx(measured_ones, rel=1e-9)
    assert rows[1]["explained_variance"] is None
