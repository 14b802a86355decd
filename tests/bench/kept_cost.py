"""What commands on finished runs cost the first time, and again from the cache folder.

Usage: python tests/bench/kept_cost.py [updates] [runs]   (default: a report of 1,000,000 updates, a list of 1,000 runs)

Every command that takes many runs is measured over sixty, and the list of runs over many more. With 0 updates there is
no long run: `kept_cost.py 0 1000` prints in a few minutes what many runs cost.

Each figure is of a command in a process of its own, with all that it imports.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from read_cost import write_run

from esper_analyzer.caching.folder import CACHE_DIR
from esper_recorder import Recorder

LISTED_UPDATES = 1000
SIXTY = 60
EXTRAPOLATED = 10_000


def write_runs(root: Path, count: int) -> None:
    """Write finished runs of `LISTED_UPDATES` updates: four are recorded, the others are copies of them."""
    rng = np.random.default_rng(0)
    for place in range(min(4, count)):
        with Recorder.open(root, run_id=f"run-{place}", config={"lr": 3e-4, "seed": place}) as recorder:
            for update in range(LISTED_UPDATES):
                recorder.record(
                    update=update,
                    policy_loss=-0.01 + 0.001 * rng.normal(),
                    value_loss=1 / (1 + update) + 0.01 * rng.random(),
                    explained_variance=min(0.9, update / 500),
                    episode_return_mean=update / 10 + rng.normal(),
                    env_steps=2048 * (update + 1),
                )
    for place in range(4, count):
        shutil.copytree(root / f"run-{place % 4}", root / f"run-{place}")


def secs_of(*arguments: object) -> tuple[float, float]:
    """Seconds that `esper-analyze` takes: by the clock, and of the processor, that of its workers included."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "esper_analyzer", *map(str, arguments)]
    ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert ended.returncode in (0, 3)  # the long run has no record of an attempt that recorded its rows
    secs, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return secs, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def show(name: str, *arguments: str | Path, factor: float = 1.0) -> None:
    """Print the first and the best of three further times of a command; `factor` extrapolates it, but for the start."""
    shutil.rmtree(os.environ[CACHE_DIR], ignore_errors=True)
    first, *further = [secs_of(*arguments) for _ in range(4)]
    again = min(further)
    print(f"  {name:44} {first[0]:7.2f} s {first[1]:7.2f} s   {again[0]:7.2f} s {again[1]:7.2f} s")
    if factor > 1:
        start = min(secs_of(*arguments[:2], Path(arguments[2]).parent / "few")[0] for _ in range(4))
        both = [start + factor * (secs - start) for secs in (first[0], again[0])]
        print(f"  {'  extrapolated to ' + format(EXTRAPOLATED, ',') + ' runs':44} {both[0]:7.1f} s {both[1]:19.1f} s")


def main() -> None:
    """Write a long run and many short ones, and print one table."""
    updates = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as place:
        os.environ[CACHE_DIR] = f"{place}/cache"
        root, sixty, few = Path(place) / "many", Path(place) / "sixty", Path(place) / "few"
        print(f"{'':46} {'first':>9}, {'processor':9}   {'again':>8}, {'processor':9}")
        if updates:
            show(f"report of {updates:,} updates", "report", write_run(Path(place) / "long", updates).path)
        write_runs(sixty, SIXTY)
        print(f"{SIXTY} runs of {LISTED_UPDATES:,} updates")
        for command in ways_of_many(sixty):
            shown = " ".join(str(one) for one in command if not isinstance(one, Path))
            show(f"{shown}", *command)
        write_runs(root, count)
        write_runs(few, 1)
        show(f"runs over {count:,} runs", "runs", "--root", root, factor=EXTRAPOLATED / count)


def ways_of_many(root: Path) -> list[list[str | Path]]:
    """Every command that takes many runs, in its formats, and those on one or two of them."""
    runs = sorted(root.iterdir())
    lists = [["runs", root, "--format", form] for form in ("text", "json", "csv")]
    fleets = [["fleet", root, "--format", form] for form in ("text", "json")]
    comparisons = [["compare", *runs, "--format", form] for form in ("text", "json", "html")]
    return [*lists, *fleets, *comparisons, ["report", runs[0]], ["check", runs[0]], ["explain", runs[0], runs[1]]]


if __name__ == "__main__":
    main()
