"""What starting a command costs, and what many runs cost: processor time beside importing polars and pyarrow.

Each command runs as a process of its own, in rounds that alternate between all of them. The figures are user and system
time, because a machine with other work stretches what a clock shows. At the end comes where the time of `--help`, of
`report` and of `tail --once` goes: the interpreter, the imports by package, the work, and the functions in it.

Usage: python tests/bench/start_cost.py [rounds] [many]   (default 5 rounds, and 1,000 runs in the largest folder)
"""

from __future__ import annotations

import cProfile
import io
import math
import os
import pstats
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from esper_recorder import Recorder

UPDATES = 1000
SIXTY_UPDATES = (200, 400, 600, 1000)
MANY_UPDATES = (60, 120, 180)
SHOWN = 12
FEW_MILLIS = 2.0
REFERENCE = "import polars, pyarrow"
ANALYZE = (sys.executable, "-m", "esper_analyzer")
BOARD_READER = (
    "import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E;"
    " E(sys.argv[1], size_guidance={'scalars': 0}).Reload()"
)


def write_run(root: Path, name: str, updates: int) -> None:
    """A finished run whose critic learns."""
    config = {"lr": 1e-3, "seed": name}
    with Recorder.open(root, run_id=name, config=config) as recorder:
        for update in range(updates):
            recorder.record(
                update=update,
                env_steps=2048 * (update + 1),
                policy_loss=-0.01,
                value_loss=0.1 + 2.0 * 0.99**update,
                entropy=1.0,
                kl_divergence=0.01,
                clip_fraction=0.1,
                explained_variance=1.0 - 0.9 * 0.99**update,
                episode_return_mean=float(min(update, 500) + update % 7),
            )


def write_board(place: Path) -> None:
    """The same numbers as an event file of TensorBoard."""
    with SummaryWriter(place) as board:
        for update in range(UPDATES):
            for name in (
                "policy_loss",
                "value_loss",
                "entropy",
                "approx_kl",
                "clipfrac",
                "explained_variance",
                "return",
            ):
                board.add_scalar(name, 1.0, update)


def cpu_and_clock(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of the processor, and of the clock, that a process takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    secs, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} ended with {done.returncode}: {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, secs


def print_table(commands: Mapping[str, Sequence[str]], rounds: int) -> None:
    """Run all commands in turns, and print the median of each and its ratio to the first one."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(cpu_and_clock(command))
    medians = {name: [statistics.median(one) for one in zip(*both, strict=True)] for name, both in found.items()}
    reference = next(iter(medians.values()))[0]
    for name, (cpu, secs) in medians.items():
        print(f"  {name:36}{cpu:8.2f} s CPU{cpu / reference:8.2f} ×{secs:8.2f} s", flush=True)


def import_millis(arguments: Sequence[str], rounds: int) -> dict[str, float]:
    """Milliseconds that each module of a command takes by itself to import: the least of some rounds."""
    command = [sys.executable, "-X", "importtime", "-m", "esper_analyzer", *arguments]
    least: dict[str, float] = {}
    for _ in range(rounds):
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        for micros, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)", lines, re.MULTILINE):
            least[name] = min(least.get(name, math.inf), int(micros) / 1000)
    return least


def print_where(arguments: Sequence[str], rounds: int) -> None:
    """Print where the time of a command goes: the interpreter, imports by package, its work, and the rest."""
    started = statistics.median(cpu_and_clock([sys.executable, "-c", "pass"])[0] for _ in range(rounds))
    whole = statistics.median(cpu_and_clock((*ANALYZE, *arguments))[0] for _ in range(rounds))
    packages: defaultdict[str, float] = defaultdict(float)
    for module, millis in import_millis(arguments, rounds).items():
        package = module.partition(".")[0].removeprefix("_").removesuffix("_runtime_32")
        packages["standard library" if package in sys.stdlib_module_names else package] += millis
    worked, functions = work_millis(arguments)
    parts = {"start of the interpreter": 1000 * started, **{f"import {name}": one for name, one in packages.items()}}
    parts["work, once all is imported"] = worked
    parts["import of what takes less than 2 ms"] = sum(millis for millis in parts.values() if millis < FEW_MILLIS)
    print(f"where the {1000 * whole:.0f} ms of `{' '.join(arguments[:2])}` go")
    shown = {name: millis for name, millis in parts.items() if millis >= FEW_MILLIS}
    for name, millis in sorted(shown.items(), key=lambda part: -part[1]):
        print(f"  {name:48}{millis:8.1f} ms")
    print(f"  {'all the rest, such as threads and the end':48}{1000 * whole - sum(shown.values()):8.1f} ms")
    print("functions of its work with what they call, in the time of a profiler")
    for name, millis in functions:
        print(f"  {name:48}{millis:8.1f} ms")


def work_millis(arguments: Sequence[str]) -> tuple[float, list[tuple[str, float]]]:
    """Milliseconds of the processor that a command takes once all is imported, and our functions in it."""
    from esper_analyzer.cli import main

    profile = cProfile.Profile()
    least = math.inf
    for turn in range(6):
        sys.stdout, kept = io.StringIO(), sys.stdout
        began = time.process_time()
        try:
            if turn == 5:
                profile.enable()
            main.main([*arguments], standalone_mode=False)
        except SystemExit:
            pass
        finally:
            profile.disable()
            sys.stdout = kept
        least = min(least, time.process_time() - began)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    ours = sorted(((row[3], key) for key, row in stats.items() if f"{os.sep}esper_" in key[0]), reverse=True)
    named = [(f"{Path(path).name}:{line} {name}", 1000 * secs) for secs, (path, line, name) in ours]
    return 1000 * least, named[: 2 * SHOWN]


def main() -> None:
    """Write the runs, run every command, print the tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as place:
        one, sixty, folder, board = (Path(place) / name for name in ("one", "sixty", "many", "board"))
        write_run(one, "run", UPDATES)
        for number in range(60):
            write_run(sixty, f"run-{number:02}", SIXTY_UPDATES[number % len(SIXTY_UPDATES)])
        for number in range(many):
            write_run(folder, f"run-{number:04}", MANY_UPDATES[number % len(MANY_UPDATES)])
        write_board(board)
        run, imports = str(one / "run"), (sys.executable, "-c", REFERENCE)
        tensorboard = str(Path(sys.executable).parent / "tensorboard")
        print(f"one run of {UPDATES:,} updates, medians of {rounds}; the last column is the clock")
        print_table(
            {
                REFERENCE: imports,
                "--help": (*ANALYZE, "--help"),
                "report --help": (*ANALYZE, "report", "--help"),
                "report": (*ANALYZE, "report", run),
                "tail --once": (*ANALYZE, "tail", "--once", run),
                "check --fail-on critical": (*ANALYZE, "check", run),
                "explain --update 500": (*ANALYZE, "explain", "--update", "500", run),
                "tensorboard --inspect": (tensorboard, "--inspect", "--logdir", str(board)),
                "EventAccumulator.Reload()": (sys.executable, "-c", BOARD_READER, str(board)),
            },
            rounds,
        )
        print("many finished runs")
        print_table(
            {
                REFERENCE: imports,
                "60 runs: runs": (*ANALYZE, "runs", str(sixty)),
                "60 runs: compare": (*ANALYZE, "compare", *map(str, sorted(sixty.iterdir()))),
                f"{many:,} runs: runs": (*ANALYZE, "runs", str(folder)),
            },
            min(rounds, 3),
        )
        print_where(["--help"], rounds)
        print_where(["report", run], rounds)
        print_where(["tail", "--once", run], rounds)


if __name__ == "__main__":
    main()
