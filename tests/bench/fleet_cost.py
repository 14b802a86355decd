"""What judging a fleet costs per run, by local processes and on a Ray cluster, some of which are killed meanwhile.

Usage: PYTHONPATH=. python tests/bench/fleet_cost.py [runs]... [--ray]   (default: 100 and 1,000 runs, local processes)

Each figure is of `esper-analyze fleet` in a process of its own, with all that it starts; seconds of the processor are
those of the command and its processes, so there are none for a cluster. A worker is killed with SIGKILL in the
middle of one command of each kind. The output of every command over the same runs must be the same to the byte.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tests.analyzer.deadly import ray_cluster

from esper_analyzer.caching.folder import CACHE_DIR
from esper_recorder import Recorder

UPDATES = 200
TEMPLATES = 8
SEEDS_PER_GROUP = 5

FLEET = (sys.executable, "-m", "esper_analyzer", "fleet")


def record_template(root: Path, number: int) -> Path:
    """Record a run: of eight, four are sound, one ends in NaN, one explains nothing, two forget what they learned."""
    rng = random.Random(number)
    with Recorder.open(root, run_id=f"template-{number}", env="CartPole-v1", config={"lr": 1e-4}) as recorder:
        for update in range(UPDATES):
            late = max(0, update - UPDATES // 2)
            recorder.record(
                update=update,
                policy_loss=-0.01 + 0.001 * rng.gauss(0, 1),
                value_loss=math.nan if number == 5 and late > 50 else 1 / (1 + update) + 0.01 * rng.random(),
                explained_variance=0.0 if number == 6 else min(0.9, update / 50),
                entropy=1.0,
                kl_divergence=0.01,
                clip_fraction=0.1,
                env_steps=2048 * (update + 1),
                episode_return_mean=min(update, 100) - (late if number in (4, 7) else 0) + rng.gauss(0, 2),
            )
    return Path(recorder.path)


def copy_run(template: Path, target: Path, number: int) -> None:
    """Copy a run as another recording: its uuid, its seed and its learning rate are its own, and it verifies."""
    shutil.copytree(template, target)
    header = json.loads((target / "run.json").read_text())
    before, after = header["run_uuid"], str(uuid.UUID(int=number + 1))
    config = {"lr": 1e-4 * (1 + number // SEEDS_PER_GROUP), "seed": number % SEEDS_PER_GROUP}
    (target / "run.json").write_text(json.dumps(header | {"run_uuid": after, "config": config}, indent=2))
    for segment in target.rglob("segments/*.parquet"):
        data = segment.read_bytes().replace(before.encode(), after.encode())
        segment.write_bytes(data)
        seal_path, states_path = (segment.parents[1] / room / f"{segment.stem}.json" for room in ("seals", "states"))
        seal, digest = json.loads(seal_path.read_text()), sha256(data).hexdigest()
        states = states_path.read_bytes().replace(before.encode(), after.encode())
        states_path.write_bytes(states)
        named = {"run_uuid": after, "sha256": digest, "states_sha256": sha256(states).hexdigest()}
        seal_path.write_text(json.dumps(seal | named, indent=2))


def make_fleet(root: Path, count: int) -> None:
    """Write so many finished runs below a folder, in folders of a hundred."""
    templates = [record_template(root.parent / "templates", number) for number in range(TEMPLATES)]
    for number in range(count):
        copy_run(templates[number % TEMPLATES], root / f"{number // 100:03}" / f"run-{number:05}", number)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def ray_workers() -> list[int]:
    """The processes of Ray on this machine that are at work on a task."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::answer"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class Cost(NamedTuple):
    """What it cost to judge a fleet.

    Attributes:
        secs: seconds by the clock.
        processor: seconds of the processor; None on a cluster.
        killed: how many workers were killed.
    """

    secs: float
    processor: float | None
    killed: int

    def line(self, name: str, runs: int) -> str:
        """One line of the table."""
        each = f"  {name:28}{self.secs:8.1f} s{self.secs / runs * 1e3:8.1f} ms per run"
        processor = "" if self.processor is None else f"{self.processor / runs * 1e3:8.1f} ms of the processor"
        return f"{each}{processor}{f'  {self.killed} killed' if self.killed else ''}"


def judge(root: Path, target: Path, *options: str, kill_after: float | None = None) -> Cost:
    """Judge a fleet into a file, and kill one of the workers that are at work after so many seconds."""
    on_cluster = "ray" in options
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        [*FLEET, str(root), "--format", "json", "-o", str(target), *options], stderr=subprocess.DEVNULL
    )
    killed: list[int] = []

    def kill() -> None:
        time.sleep(kill_after or 0.0)
        while process.poll() is None and not killed:
            for worker in (ray_workers() if on_cluster else children(process.pid))[-1:]:
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    if kill_after is not None:
        killer.start()
    code = process.wait()
    if kill_after is not None:
        killer.join()
    assert code == 0, code
    secs, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(secs, None if on_cluster else processor, len(killed))


def measure(count: int, place: Path, address: str | None) -> None:
    """Print one line for each way to judge so many runs; `address` is that of a cluster."""
    root = place / f"{count}" / "runs"
    make_fleet(root, count)
    ways: list[tuple[str, tuple[str, ...]]] = [
        ("local, 1 process", ("--workers", "1")),
        ("local, 2 processes", ("--workers", "2")),
    ]
    if address is not None:
        ways.append(("Ray, 2 nodes", ("--engine", "ray", "--address", address)))
    print(f"{count:,} runs of {UPDATES} updates", flush=True)
    expected = b""

    def run(name: str, *options: str, kill_after: float | None = None) -> Cost:
        nonlocal expected
        cost = judge(root, place / "out", *options, kill_after=kill_after)
        output = (place / "out").read_bytes()
        expected = expected or output
        assert output == expected, f"{name}: the output differs from that of the first command"
        if kill_after is None or cost.killed:
            print(cost.line(name, count), flush=True)
        return cost

    for name, options in ways:
        secs = run(name, *options, "--no-cache").secs
        shares = iter((0.6, 0.3, 0.0))  # the next command over the same runs may be much quicker than the first
        while name != ways[0][0] and (share := next(shares, None)) is not None:
            if run("  a worker killed", *options, "--no-cache", kill_after=share * secs).killed:
                break
        else:
            assert name == ways[0][0], f"{name}: no worker was ever at work when one was to be killed"
    os.environ[CACHE_DIR] = str(place / f"cache-{count}")
    run("into the cache")
    run("from the cache")
    print("  all outputs are the same to the byte", flush=True)


def main() -> None:
    """Print one table for each number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of two nodes of this machine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as place, ExitStack() as clusters:
        address = clusters.enter_context(ray_cluster(os.environ))[0] if given.ray else None
        for count in given.runs:
            measure(count, Path(place), address)


if __name__ == "__main__":
    main()
