"""Runs everything that only a GPU can answer and prints one table: `python tests/gpu/measure.py TABLE`.

Without a GPU every step runs on the CPU, shorter, so that the script itself is known to work. A step that fails is a
row that says so; the others run all the same, and the exit code is 1.
"""

from __future__ import annotations

import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tests.gpu.host_trainer import HostTrainer
from tests.gpu.sync_trace import count_waits

from esper_recorder import Recorder
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import CartPole
from esper_recorder.train.losses import masked_mean, value_loss_per_sample
from esper_recorder.train.trainer import Trainer
from esper_recorder.writing import unplanned
from esper_recorder.writing.device_capture import DeviceCapture
from esper_schemas import RunDirectory, read_segments
from esper_schemas.segment.scan import ActiveSegment, SealedSegment

PROJECT = Path(__file__).resolve().parents[2]
HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
COMMAND_TIMEOUT_SECS = 200
STEPS = 200

Row = tuple[str, str]
"""What was measured, and the answer."""


class StepFailedError(Exception):
    """A step did not come to its end, or its answer is wrong."""


# ------------------------------------------------------------------ steps


def cuda_tests() -> Iterator[Row]:
    """The tests of the suite that are about a device."""
    tests = [PROJECT / "tests/gpu", PROJECT / "tests/recorder/writing/test_device_capture.py"]
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", "-c", str(PROJECT / "pyproject.toml")]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # those of the machine may warn
    done = run([sys.executable, "-m", "pytest", *arguments, *map(str, tests)], environment=environment, check=False)
    yield "CUDA tests of the suite", (done.stdout.strip().splitlines() or ["none could begin"])[-1]
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
        raise StepFailedError("see the output above")


def default_run(root: Path) -> Iterator[Row]:
    """`esper-rec train` with no option but the device, and what it reached."""
    short = [] if HAS_GPU else ["--updates", "30"]
    began = time.monotonic()
    done = run(esper_rec("train", "--device", DEVICE.type, "--out", str(root), "--run-id", "default", *short))
    secs = time.monotonic() - began
    rows = read_rows(root / "default")
    found = re.search(r"return +(\S+)", done.stdout)
    yield "`esper-rec train`, default run" if not short else "`esper-rec train`, 30 updates", f"{secs:.0f} s in all"
    yield "mean return of the last 100 episodes", found.group(1) if found else "—"
    steps_per_sec = rows[-1]["env_steps"] / (rows[-1]["elapsed_secs"] + rows[0]["rollout_secs"])
    yield "environment steps per second, training included", f"{steps_per_sec:,.0f}"
    update, rollout = (statistics.median(row[name] for row in rows) for name in ("update_secs", "rollout_secs"))
    yield "one update: rollout, learning", f"{1e3 * rollout:.0f} ms, {1e3 * update:.0f} ms"
    run(esper_rec("verify", str(root / "default")))
    yield "`esper-rec verify`", f"no damage, {len(rows)} rows"


def resume(root: Path) -> Iterator[Row]:
    """A run that is killed, resumed to its end, and held against one that was not interrupted."""
    updates, kill_after = 24, 12
    options = ["--device", DEVICE.type, "--out", str(root), "--checkpoint-updates", "5", "--num-envs", "64"]
    size = ["--rollout-steps", "32", "--updates", str(updates)]
    run(esper_rec("train", *options, *size, "--run-id", "whole"))
    process = subprocess.Popen(
        esper_rec("train", *options, *size, "--run-id", "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + COMMAND_TIMEOUT_SECS
    while process.poll() is None and time.monotonic() < deadline:
        if len(read_rows(root / "killed")) >= kill_after:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    if process.wait() != -signal.SIGKILL:
        raise StepFailedError(f"the run to be killed ended by itself, with {process.returncode}")
    made = len(read_rows(root / "killed"))
    run(esper_rec("train", "--resume", "--out", str(root), "--run-id", "killed"))
    run(esper_rec("verify", str(root / "killed")))
    latest = {row["update"]: row for row in read_rows(root / "killed")}
    if sorted(latest) != list(range(updates)):
        raise StepFailedError(f"expected the updates 0 to {updates - 1}, found {sorted(latest)}")
    whole = read_rows(root / "whole")
    names = ("value_loss", "policy_loss", "entropy", "kl_divergence", "episode_return_mean")
    alike = sum(all(row[name] == latest[row["update"]][name] for name in names) for row in whole)
    answer = f"all {updates} updates there; {alike} of them bit for bit as in a run that was not interrupted"
    yield f"killed after {made} updates, `--resume`", answer


def waits(root: Path) -> Iterator[Row]:
    """How often the training's thread waits for the device, with and without a recorder, by the profiler's trace."""
    host, updates = HostTrainer(DEVICE), 20 if HAS_GPU else 2
    with recording(root, "trace") as recorder:
        for update in range(3):
            recorder.record(update=update, **host.update())
        off = count_waits(partial(host.updates, updates, None), DEVICE)
        on = count_waits(partial(host.updates, updates, recorder.record), DEVICE)
    what = f"waits for the device in {updates} updates of a trainer that hands over device tensors: recording off, on"
    yield what, f"{off.caller}, {on.caller} in the training's thread ({on.others} in the recorder's)"
    trainer, updates = built_in_trainer(), 4 if HAS_GPU else 1
    with recording(root, "trace-built-in") as recorder:
        recorder.record(**trainer.run_update(0))
        off_here = count_waits(lambda: [trainer.run_update(1) for _ in range(updates)], DEVICE)
        on_here = count_waits(lambda: [recorder.record(**trainer.run_update(1)) for _ in range(updates)], DEVICE)
    yield f"the same in {updates} updates of the built-in trainer: off, on", f"{off_here.caller}, {on_here.caller}"
    if on.caller != off.caller or on_here.caller != off_here.caller:
        raise StepFailedError("recording makes the training wait")


def step_time(root: Path) -> Iterator[Row]:
    """The cost of recording as a share of the step time: interleaved blocks with and without, on the same trainer."""
    kinds = {"bound by launches": HostTrainer(DEVICE)}
    if HAS_GPU:
        kinds["bound by the device"] = HostTrainer(DEVICE, width=2048, samples=8192)
    for kind, host in kinds.items():
        pairs = 10 if not HAS_GPU else 120 if kind == "bound by launches" else 40
        ratio, low, high, update_secs = recorded_ratio(root / kind.replace(" ", "-"), host, pairs)
        yield (
            f"step time with recording / without, {host.scalars} device tensors, updates of {1e3 * update_secs:.1f} ms,"
            f" {kind}",
            f"{ratio:.4f} (95 %: {low:.4f} to {high:.4f})",
        )


def recorded_ratio(root: Path, host: HostTrainer, pairs: int, updates: int = 4) -> tuple[float, float, float, float]:
    """Median ratio of step times with and without recording, its 95 % interval, and the seconds of one without.

    Args:
        root: a folder for the run.
        host: the trainer.
        pairs: blocks with recording, and as many without.
        updates: updates in a block.
    """
    secs: dict[bool, list[float]] = {True: [], False: []}
    shuffled = random.Random(0)
    with recording(root, "blocks") as recorder:
        host.updates(3, recorder.record)
        for _ in range(pairs):
            for is_recorded in shuffled.sample((True, False), 2):
                synchronize()
                began = time.perf_counter()
                host.updates(updates, recorder.record if is_recorded else None)
                synchronize()
                secs[is_recorded].append((time.perf_counter() - began) / updates)
    return *ratio_with_interval(secs[True], secs[False]), statistics.median(secs[False])


def caller_cost(root: Path) -> Iterator[Row]:
    """Microseconds of the training's thread that one `record` of device tensors takes, and whether all is kept."""
    host = HostTrainer(DEVICE)
    tensors = host.update()
    costs = []
    updates = 2000 if HAS_GPU else 200
    with recording(root, "tensors") as recorder:
        for update in range(updates):
            began = time.perf_counter_ns()
            recorder.record(update=update, **tensors)
            costs.append((time.perf_counter_ns() - began) / 1e3)
        numbers = {name: tensor.item() for name, tensor in tensors.items()}
    rows = read_rows(root / "tensors")
    different = sum(any(row[name] != number for name, number in numbers.items()) for row in rows)
    yield (
        f"`record()` of {len(tensors)} device tensors, tight loop of {updates:,}",
        f"{statistics.median(costs):.0f} µs median, {np.quantile(costs, 0.99):.0f} µs 99th percentile;"
        f" {recorder.dropped_rows} dropped, {different} different",
    )
    if recorder.dropped_rows or different or len(rows) != updates:
        raise StepFailedError("rows are missing or not as they were recorded")
    costs = []
    ten = dict(list(tensors.items())[:10])
    with recording(root, "minibatches") as recorder:
        for _ in range(updates):
            began = time.perf_counter_ns()
            recorder.minibatch(**ten)
            costs.append((time.perf_counter_ns() - began) / 1e3)
        began = time.perf_counter_ns()
        is_written = recorder.dump_black_box("measured")
        written_ms = (time.perf_counter_ns() - began) / 1e6
    yield (
        f"`minibatch()` of 10 device tensors, tight loop of {updates:,}",
        f"{statistics.median(costs):.0f} µs median, {np.quantile(costs, 0.99):.0f} µs 99th percentile;"
        f" the black box of the last {min(updates, 512)} is on the disk {written_ms:.0f} ms after it was asked for",
    )
    if not is_written:
        raise StepFailedError("no black box was written")


def value_loss_bandwidth() -> Iterator[Row]:
    """Value loss beside the time that the device's memory needs to hand over its inputs once."""
    largest = 2**26 if HAS_GPU else 2**20
    source = torch.zeros(largest, device=DEVICE)
    target = torch.empty_like(source)
    copy_secs = best_secs(lambda: target.copy_(source))
    bandwidth = 2 * source.nbytes / copy_secs
    yield "memory bandwidth, device-to-device copy, read and written", f"{bandwidth / 1e9:,.0f} GB/s"
    compiled = torch.compile(_value_loss, dynamic=False) if HAS_GPU else None
    for samples in dict.fromkeys((4096, 2**20, largest)):
        values, old_values, targets = torch.randn(3, samples, device=DEVICE)
        valid = torch.ones(samples, dtype=torch.bool, device=DEVICE)
        floor = sum(tensor.nbytes for tensor in (values, old_values, targets, valid)) / bandwidth
        arguments = (values, old_values, targets, valid)
        with torch.no_grad():
            eager = best_secs(partial(_value_loss, *arguments))
            fused = best_secs(partial(compiled, *arguments)) if compiled else None
        text = f"{1e6 * eager:,.0f} µs, {eager / floor:,.1f} × the floor of {1e6 * floor:.2g} µs"
        if fused is not None:
            text += f"; with torch.compile {1e6 * fused:,.0f} µs, {fused / floor:,.1f} ×"
        yield f"value loss of {samples:,} samples, forward", text


def environment_speed() -> Iterator[Row]:
    """The built-in CartPole alone, random actions."""
    for num_envs in (64, 1024, 16384, 262144) if HAS_GPU else (64, 1024):
        env = CartPole(num_envs, seed=0, device=DEVICE)
        env.reset()
        actions = torch.randint(2, (16, num_envs), device=DEVICE)

        def walk(env: CartPole = env, actions: torch.Tensor = actions) -> None:
            for i in range(STEPS):
                env.step(actions[i % len(actions)])

        secs = best_secs(walk, repeats=3)
        yield f"CartPole steps per second, {num_envs:,} environments", f"{num_envs * STEPS / secs:,.0f}"


# ------------------------------------------------------------------ what the steps share


def esper_rec(*arguments: str) -> list[str]:
    """The command line of `esper-rec` with these arguments, under this Python."""
    return [sys.executable, "-m", "esper_recorder", *arguments]


def run(
    command: list[str], *, environment: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; StepFailedError with what it said if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_SECS, check=False, env=environment
    )
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise StepFailedError(f"{' '.join(command[2:5])} ended with {done.returncode}: {' '.join(said)}")
    return done


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row of rank 0, sealed and active."""
    rows: list[dict[str, Any]] = []
    for segment in read_segments(RunDirectory(path).rank(0)):
        if isinstance(segment, SealedSegment):
            rows += pq.read_table(segment.path, partitioning=None).to_pylist()
        elif isinstance(segment, ActiveSegment) and segment.rows is not None:
            rows += pa.Table.from_batches([segment.rows]).to_pylist()
    return rows


@contextmanager
def recording(root: Path, run_id: str) -> Iterator[Recorder]:
    """A recorder; on the CPU, one that fetches tensors as from a GPU."""
    if not HAS_GPU:
        unplanned.take_device_tensors = _take_tensors  # type: ignore[attr-defined]
        unplanned.DeviceCapture = partial(DeviceCapture, pinned=False)  # type: ignore[assignment,attr-defined]
    with Recorder.open(root, run_id=run_id) as recorder:
        yield recorder


def _take_tensors(metrics: dict[str, Any]) -> dict[str, Any]:
    names = [name for name, value in metrics.items() if isinstance(value, torch.Tensor)]
    return {name: metrics.pop(name) for name in names}


def built_in_trainer() -> Trainer:
    """The trainer of `esper-rec train`, on a small CartPole."""
    config = PPOConfig(num_envs=64, rollout_steps=16, updates=10)
    return Trainer(config, CartPole(config.num_envs, seed=0, device=DEVICE), DEVICE)


def synchronize() -> None:
    """Wait for the device."""
    if HAS_GPU:
        torch.cuda.synchronize()


def best_secs(call: Callable[[], object], repeats: int = 20) -> float:
    """The shortest of several calls, by the device's own clock where there is one."""
    for _ in range(2):
        call()
    secs: list[float] = []
    for _ in range(repeats):
        if HAS_GPU:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            secs.append(start.elapsed_time(end) / 1e3)
        else:
            began = time.perf_counter()
            call()
            secs.append(time.perf_counter() - began)
    return min(secs)


def ratio_with_interval(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Median of the paired ratios, and its 95 % interval by the percentile bootstrap over pairs."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    sampler = random.Random(0)
    medians = sorted(statistics.median(sampler.choices(ratios, k=len(ratios))) for _ in range(2000))
    return statistics.median(ratios), medians[50], medians[-51]


def _value_loss(
    values: torch.Tensor, old_values: torch.Tensor, targets: torch.Tensor, valid: torch.Tensor
) -> torch.Tensor:
    return masked_mean(value_loss_per_sample(values, old_values, targets, 0.2), valid)


def where() -> str:
    """The machine in words."""
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, pyarrow {pa.__version__}"
    if HAS_GPU:
        return f"{torch.cuda.get_device_name()}, {versions}"
    return f"no GPU here: CPU tensors, short runs; {versions}"


def main(table: Path) -> int:
    """Run every step and write the table; 1 if any failed."""
    lines = [f"| on {where()} | |", "| --- | --- |"]
    print("\n".join(lines), flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        steps: list[Callable[[], Iterator[Row]]] = [
            cuda_tests,
            partial(waits, root),
            partial(caller_cost, root),
            partial(step_time, root),
            partial(default_run, root),
            partial(resume, root),
            environment_speed,
            value_loss_bandwidth,
        ]
        for step in steps:
            began = time.monotonic()
            name = getattr(step, "func", step).__name__
            try:
                for what, answer in step():
                    lines.append(f"| {what} | {answer} |")
                    print(lines[-1], flush=True)
                    table.write_text("\n".join(lines) + "\n")
            except Exception as error:  # the next steps must have their turn
                failed = True
                lines.append(f"| {name} | FAILED: {type(error).__name__}: {' '.join(str(error).split())[:500]} |")
                print(lines[-1], flush=True)
            print(f"    ({name}: {time.monotonic() - began:.1f} s)", file=sys.stderr, flush=True)
    table.write_text("\n".join(lines) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
