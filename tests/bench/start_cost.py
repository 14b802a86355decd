"""What starting a command costs, and what many runs cost: processor time beside importing polars and pyarrow.

Each command runs as a process of its own, in rounds that alternate between all of them. The figures are user and system
time, because a machine with other work stretches what a clock shows. At the end comes where the time of `--help` and of
`report` goes: the imports by package, and then the functions.

Usage: python tests/bench/start_cost.py [rounds] [many]   (default 5 rounds, and 1,000 runs in the largest folder)
"""

from __future__ import annotations

import cProfile
import io
import os
import pstats
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from esper_recorder import Recorder

UPDATES = 1000
SIXTY_UPDATES = (200, 400, 600, 1000)
MANY_UPDATES = (60, 120, 180)
SHOWN = 12
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


def print_imports(arguments: Sequence[str]) -> None:
    """Print which packages a command spends its imports in."""
    command = [sys.executable, "-X", "importtime", "-m", "esper_analyzer", *arguments]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    packages: Counter[str] = Counter()
    for micros, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\w+)", lines, re.MULTILINE):
        packages[name] += int(micros)
    print(f"imports of `{' '.join(arguments[:1])}`: {sum(packages.values()) / 1000:,.0f} ms")
    for name, micros in packages.most_common(SHOWN):
        print(f"  {name:36}{micros / 1000:8.1f} ms")


def print_functions(run: Path) -> None:
    """Print the functions of ours in which a report spends its time, once everything is imported."""
    from esper_analyzer.cli import main

    profile = cProfile.Profile()
    for turn in range(2):
        sys.stdout, kept = io.StringIO(), sys.stdout
        try:
            if turn:
                profile.enable()
            main.main(["report", str(run)], standalone_mode=False)
        except SystemExit:
            pass
        finally:
            profile.disable()
            sys.stdout = kept
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    ours = [(row[3], key) for key, row in stats.items() if f"{os.sep}esper_" in key[0]]
    print("functions of `report`, with what they call")
    for secs, (path, line, name) in sorted(ours, reverse=True)[: 2 * SHOWN]:
        print(f"  {f'{Path(path).name}:{line} {name}':48}{1000 * secs:8.1f} ms")


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
        print_imports(["--help"])
        print_imports(["report", run])
        print_functions(Path(run))


if __name__ == "__main__":
    main()
