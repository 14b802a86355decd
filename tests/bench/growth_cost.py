"""How the cost of reading grows with the length of a run and with the number of runs, beside other readers.

Usage: python tests/bench/growth_cost.py [longest] [most] [pictures]
(default: runs of up to 1,000,000 updates, folders of up to 1,000 runs, curves into tests/bench/pictures/)

Every figure is of a process of its own with all that it imports, because a person waits for that, too.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from kept_cost import LISTED_UPDATES, write_runs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from read_cost import SCALARS, write_run
from torch.utils.tensorboard import SummaryWriter

from esper_analyzer.caching.folder import CACHE_DIR

LENGTHS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
COUNTS = (10, 60, 1_000, 10_000)
LONGEST_CSV = 100_000
"""Longer CSV files of 40 columns are gigabytes."""

LONGEST_BOARD = 10_000
"""`SummaryWriter` takes a millisecond to write an update of 38 scalars."""

LARGEST_GROUP = 60
"""Nobody reads a comparison of more runs than a screen has lines."""

PICTURES = Path(__file__).parent / "pictures"

SERIES = {
    "esper, open_run().updates()": "from esper_analyzer import open_run;"
    " open_run(at).updates().select('update', 'value_loss').collect()",
    "polars": "import polars; polars.scan_parquet(at + '/**/*.parquet').select('update', 'value_loss').collect()",
    "duckdb": "import duckdb;"
    " duckdb.sql(f\"select update, value_loss from '{at}/**/*.parquet' order by seq\").fetchnumpy()",
    "pandas on CSV": "import pandas; pandas.read_csv(at + '.csv', usecols=['update', 'value_loss'])",
    "TensorBoard": "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as Reader;"
    " board = Reader(at + '.board', size_guidance={'scalars': 0}); board.Reload(); board.Scalars('value_loss')",
    "tbparse": "from tbparse import SummaryReader; s = SummaryReader(at + '.board').scalars; s[s.tag == 'value_loss']",
}
"""Programs that read one series of the run at the path `at`; all but the first are written as one would by hand."""

LIMITS = {"pandas on CSV": LONGEST_CSV, "TensorBoard": LONGEST_BOARD, "tbparse": LONGEST_BOARD}

WATCH = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
secs = time.perf_counter() - began
print(json.dumps([os.waitstatus_to_exitcode(status), secs, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""A program that runs a command. It is small, since the peak of a new process begins with that of its parent."""

LAST_VALUES = (
    "import polars; polars.scan_parquet(at + '/*/**/*.parquet', include_file_paths='file')"
    ".select('file', 'value_loss').group_by('file').last().collect()"
)
"""The last value loss of every run below `at`, by hand."""


class Cost(NamedTuple):
    """What a process took."""

    secs: float
    cpu_secs: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.secs:8.2f} s {self.cpu_secs:8.2f} s {self.peak_mb:7,.0f} MB"


Curves = dict[str, dict[int, Cost]]
"""What each way of reading took, by the size of what it read."""


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command, which must not fail; one of the analyzer may end in a verdict (1) or in a remark (3)."""
    done = subprocess.run([sys.executable, "-c", WATCH, *command], check=True, capture_output=True, text=True)
    code, *found = json.loads(done.stdout)
    if code not in (0, 1, 3):
        raise SystemExit(f"{' '.join(command)[:200]} ended with {code}")
    return Cost(*found)


def median_cost(command: Sequence[str], rounds: int = 3) -> Cost:
    """The cost of a command by the median of its time."""
    return sorted(cost_of(command) for _ in range(rounds))[rounds // 2]


def python(program: str, place: Path) -> list[str]:
    """The command that runs a program over what is at a path."""
    return [sys.executable, "-c", f"at = {str(place)!r}; {program}"]


def analyze(*arguments: str | Path) -> list[str]:
    """A command of the analyzer."""
    return [sys.executable, "-m", "esper_analyzer", *map(str, arguments)]


def write_csv(run: Path, updates: int) -> None:
    """Write the same number of rows and columns as a CSV file, as Stable-Baselines3 does, beside the run."""
    rng = np.random.default_rng(0)
    with run.with_suffix(".csv").open("w") as lines:
        rows = csv.writer(lines)
        rows.writerow(["update", *SCALARS])
        for update in range(updates):
            rows.writerow([update, *rng.lognormal(size=len(SCALARS)).tolist()])


def write_board(run: Path, updates: int) -> None:
    """Write the same number of rows and columns as an event file of TensorBoard beside the run."""
    rng = np.random.default_rng(0)
    with SummaryWriter(run.with_suffix(".board")) as board:
        for update in range(updates):
            for name, value in zip(SCALARS, rng.lognormal(size=len(SCALARS)), strict=True):
                board.add_scalar(name, float(value), update)


def first_and_again(root: Path, ways: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Cost]]:
    """The cost of commands with an empty cache folder, and of the same again."""
    for number, (name, command) in enumerate(ways.items()):
        os.environ[CACHE_DIR] = str(root / f"cache-{number}")
        yield f"{name}, first", cost_of(command)
        yield f"{name}, again", median_cost(command)


def long_runs(longest: int) -> tuple[Curves, Curves]:
    """One series, and whole commands, over runs of growing length."""
    series: Curves = defaultdict(dict)
    commands: Curves = defaultdict(dict)
    for updates in (length for length in LENGTHS if length <= longest):
        with tempfile.TemporaryDirectory() as place:
            run = write_run(Path(place), updates).path
            if updates <= LONGEST_CSV:
                write_csv(run, updates)
            if updates <= LONGEST_BOARD:
                write_board(run, updates)
            for name, program in SERIES.items():
                if updates <= LIMITS.get(name, updates):
                    series[name][updates] = median_cost(python(program, run))
            ways = {"report": analyze("report", run), "tail --once": analyze("tail", "--once", run)}
            for name, cost in first_and_again(Path(place), ways):
                commands[name][updates] = cost
    return series, commands


def many_runs(most: int) -> Curves:
    """Commands over folders of a growing number of runs."""
    curves: Curves = defaultdict(dict)
    for count in (number for number in COUNTS if number <= most):
        with tempfile.TemporaryDirectory() as place:
            runs = Path(place) / "runs"
            write_runs(runs, count)
            ways = {"runs": analyze("runs", runs)}
            if count <= LARGEST_GROUP:
                ways["compare"] = analyze("compare", *sorted(runs.iterdir()))
            for name, cost in first_and_again(Path(place), ways):
                curves[name][count] = cost
            curves["polars, last values only"][count] = cost_of(python(LAST_VALUES, runs))
    return curves


def show(title: str, unit: str, curves: Curves) -> None:
    """Print a table: the clock, the processor, and the memory."""
    print(f"{title}\n  {'':32}{unit:>12} {'clock':>10} {'processor':>10} {'memory':>10}")
    for name, costs in curves.items():
        for size, cost in costs.items():
            print(f"  {name:32}{size:12,} {cost}", flush=True)


def draw(axes: Axes, title: str, unit: str, curves: Curves) -> None:
    """Draw the clock over the size; ours as solid lines, what others take as dashed ones."""
    others = {*SERIES} - {"esper, open_run().updates()"} | {"polars, last values only"}
    for name, costs in curves.items():
        secs = [cost.secs for cost in costs.values()]
        axes.plot(list(costs), secs, "o--" if name in others else "o-", label=name, markersize=3, linewidth=1.2)
    axes.set(xscale="log", yscale="log", xlabel=unit, title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", frameon=False)


def main() -> None:
    """Measure, print three tables, draw one picture."""
    longest = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    most = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else PICTURES
    series, commands = long_runs(longest)
    show(f"one series of a run of {len(SCALARS) + 3} columns", "updates", series)
    show("whole commands on such a run", "updates", commands)
    listed = many_runs(most)
    show(f"many finished runs of {LISTED_UPDATES:,} updates", "runs", listed)
    mpl.rcParams |= {"svg.hashsalt": "esper", "svg.fonttype": "none"}
    figure = Figure(figsize=(12, 4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    draw(panels[0], "one series", "updates", series)
    draw(panels[1], "whole commands", "updates", commands)
    draw(panels[2], f"runs of {LISTED_UPDATES:,} updates", "runs", listed)
    panels[0].set_ylabel("seconds, imports included")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "growth.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
