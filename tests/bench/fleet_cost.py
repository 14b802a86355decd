"""What judging a fleet costs per run, by local processes and on a Ray cluster, some of which are killed meanwhile.

Usage: python tests/bench/fleet_cost.py [runs]... [--ray]   (default: 100 and 1,000 runs by local processes)

Each figure is of `esper-analyze fleet` in a process of its own, with all that it starts; seconds of the processor are
those of the command and its processes, so there are none for a cluster. A worker is killed with SIGKILL in the middle
of one command of each kind. The output of every command over the same runs is compared byte by byte.
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
from hashlib import sha256
from pathlib import Path

from esper_analyzer.caching.folder import CACHE_DIR
from esper_recorder import Recorder

UPDATES = 200
TEMPLATES = 8
SEEDS_PER_GROUP = 5

FLEET = (sys.executable, "-m", "esper_analyzer", "fleet")
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


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


def judge(root: Path, target: Path, *options: str, kill_after: float | None = None) -> tuple[float, float, int]:
    """Judge a fleet into a file. Return seconds by the clock and of the processor, and how many workers were killed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [*FLEET, str(root), "--format", "json", "-o", str(target), *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    killed: list[int] = []

    def kill() -> None:
        workers = ray_workers() if "ray" in options else children(process.pid)
        if workers:
            os.kill(workers[-1], signal.SIGKILL)
            killed.append(workers[-1])

    timer = threading.Timer(kill_after or 0.0, kill)
    if kill_after is not None:
        timer.start()
    code = process.wait()
    timer.cancel()
    assert code == 0, code
    secs, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return secs, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, len(killed)


def measure(count: int, place: Path, address: str | None) -> None:
    """Print one line for each way to judge so many runs."""
    root, outputs = place / f"{count}" / "runs", set()
    make_fleet(root, count)
    ways: list[tuple[str, tuple[str, ...]]] = [
        ("local, 1 process", ("--workers", "1")),
        ("local, 2 processes", ("--workers", "2")),
    ]
    if address is not None:
        ways.append(("Ray, 2 nodes", ("--engine", "ray", "--address", address)))
    print(f"{count:,} runs of {UPDATES} updates")
    for name, options in ways:
        secs, processor, _ = judge(root, place / "out", *options, "--no-cache")
        outputs.add((place / "out").read_bytes())
        on_cluster = "ray" in options
        cost = "" if on_cluster else f"{processor / count * 1e3:8.1f} ms of the processor"
        print(f"  {name:32} {secs:8.1f} s {secs / count * 1e3:8.1f} ms per run {cost}")
        if name != ways[0][0]:
            again, _, killed = judge(root, place / "out", *options, "--no-cache", kill_after=0.6 * secs)
            outputs.add((place / "out").read_bytes())
            print(f"  {'  with SIGKILL to a worker':32} {again:8.1f} s {'':19} {killed} killed")
    os.environ[CACHE_DIR] = str(place / f"cache-{count}")
    judge(root, place / "out")
    outputs.add((place / "out").read_bytes())
    secs, processor, _ = judge(root, place / "out")
    outputs.add((place / "out").read_bytes())
    cost = f"{processor / count * 1e3:8.1f} ms of the processor"
    print(f"  {'again, from the cache':32} {secs:8.1f} s {secs / count * 1e3:8.1f} ms per run {cost}")
    print(f"  {'outputs':32} {'all the same to the byte' if len(outputs) == 1 else f'{len(outputs)} DIFFERENT ONES'}")


def main() -> None:
    """Print one table for each number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of two nodes of this machine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as place:
        process, address = None, None
        if given.ray:
            environment = {**os.environ, "RAY_TMPDIR": tempfile.mkdtemp(prefix="ray-")}
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", CLUSTER], text=True, env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            address = next(line.strip() for line in process.stdout if ":" in line and " " not in line.strip())
        try:
            for count in given.runs:
                measure(count, Path(place), address)
        finally:
            if process is not None:
                process.communicate("")


if __name__ == "__main__":
    main()
