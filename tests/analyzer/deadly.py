"""A run that kills the worker that reads it, and a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.waiting import HANG_SECS

HOOK = """
import multiprocessing, os, signal, sys, time

def hook(event, arguments):
    if event != "open" or not str(arguments[0]).endswith("/deadly"):
        return
    if multiprocessing.parent_process() is None and "default_worker" not in sys.argv[0]:
        return
    try:
        with open(f"{arguments[0]}.deaths", "r+") as file:
            said = file.read()
            left = 0 if said == "wait" else int(said)
            file.seek(0)
            file.write("idle" if said == "wait" else str(left - 1))
    except OSError:
        return
    if said == "wait":
        time.sleep(3600)
    if left > 0:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""
"""Kills a worker that opens a run called `deadly`, as often as the number in `deadly.deaths` beside it says.

Where that file says `wait`, the worker waits, and makes it `idle`.
"""

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 1024**2})
cluster.add_node(num_cpus=1, object_store_memory=80 * 1024**2)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def deadly_environment(folder: Path) -> dict[str, str]:
    """The environment of a process whose workers die of a run called `deadly`."""
    (folder / "sitecustomize.py").write_text(HOOK)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def make_deadly(run: Path, deaths: int | Literal["wait"]) -> Path:
    """Copy a run beside itself as `deadly`, which kills so many workers, or holds one up. Return the file of `HOOK`."""
    deadly = run.parent / "deadly"
    if not deadly.exists():
        shutil.copytree(run, deadly)
    told = deadly.with_name("deadly.deaths")
    told.write_text(str(deaths))
    return told


@contextmanager
def ray_cluster(environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """A cluster of two nodes with one core each; yields its address, and the group of its processes."""
    place = tempfile.mkdtemp(prefix="r-")  # short: it is part of the names of sockets
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, "RAY_TMPDIR": place, "RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        address = next(line.strip() for line in process.stdout if ":" in line and " " not in line.strip())
        yield address, process.pid
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate("", timeout=HANG_SECS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(place, ignore_errors=True)
