"""What SQL over many runs costs: views of DuckDB over the files, rows kept in one file, DuckLake, Spark.

Usage: python tests/bench/sql_cost.py [runs] [updates]   (default: 1,000 runs of 1,000 updates)

The SQL is that of analyzer/SQL.md. Each engine is a process of its own; seconds are by the clock and of the processor.
DuckLake and Spark run in the environments of `make engines`, and are left out where these are not.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

from tests.engines.page import ENVIRONMENTS, VIEWS, blocks  # noqa: E402 (this script runs as a file)

from esper_recorder import Recorder  # noqa: E402

TEMPLATES = 20
A_SWEEP = 1000

RAW = "select count(distinct run) from all_attempts where value_loss > 2 and explained_variance < 0"
CURRENT = "select count(distinct run) from updates where value_loss > 2 and explained_variance < 0"
NONE = "select count(distinct run) from all_attempts where value_loss > 1000"

TIMED = """
import json, os, pathlib, time
machine = "self"  # the process that does the work
def spent():
    try:
        used = pathlib.Path(f"/proc/{machine}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return time.perf_counter(), 0.0
    return time.perf_counter(), sum(map(int, used[11:13])) / os.sysconf("SC_CLK_TCK")
def timed(name, call):
    before = spent()
    answer = call()
    secs = [after - begin for after, begin in zip(spent(), before)]
    print(json.dumps([name, *secs, str(answer)]), flush=True)
"""


def write_runs(root: Path, count: int, updates: int) -> None:
    """Write finished runs: `TEMPLATES` are recorded, one in ten of them broken; the others are copies of these.

    Each has a seed of its own. One template was resumed in its middle.
    """
    folder = root / "templates"
    for place in range(TEMPLATES):
        rng, is_broken = random.Random(place), place % 10 == 3
        spans = [(0, updates), (updates // 2, updates)] if place == 5 else [(0, updates)]
        for first, end in spans:
            config = {"lr": 3e-2 if is_broken else 3e-4, "batch": 64 * (1 + place % 2), "seed": place}
            with Recorder.open(folder, run_id=f"run-{place}", resume="allow", config=config) as recorder:
                for update in range(first, end):
                    fails = is_broken and update > updates // 2
                    recorder.record(
                        update=update,
                        policy_loss=-0.01 + 0.001 * rng.random(),
                        value_loss=(4.0 if fails else 1 / (1 + update / 50)) + 0.05 * rng.random(),
                        explained_variance=-0.5 + 0.1 * rng.random() if fails else min(0.9, update / updates * 4),
                        kl_divergence=0.01 * rng.random(),
                        entropy=1.0 - update / updates / 2,
                        grad_norm=rng.lognormvariate(0, 1),
                        episode_return_mean=8.0 if fails else update / 10 + rng.random(),
                        env_steps=2048 * (update + 1),
                        extras={"reward/distance": rng.random()} if place % 4 == 0 else {},
                    )
    for place in range(count):
        run = root / "runs" / f"sweep-{place // A_SWEEP}" / f"run-{place:05}"
        shutil.copytree(folder / f"run-{place % TEMPLATES}", run)
        header = json.loads((run / "run.json").read_text())
        header["config"]["seed"] = place
        (run / "run.json").write_text(json.dumps(header))


def duckdb_program() -> str:
    """Views over the files, and a table in one file that has the rows that count."""
    views = [f"connection.sql({view!r})" for view in blocks(VIEWS)]
    keep = "".join(blocks("Kept in one file")).partition("select run")[0]
    asked = [
        *_timed("one question, all attempts", RAW),
        *_timed("the same, rows that count", CURRENT),
        f"timed('rows kept in one file', lambda: connection.sql({keep!r}))",
        *_timed("the same question of that file", CURRENT.replace("from updates", "from kept.updates")),
        *[f"timed({name!r}, lambda: len(connection.sql({question!r}).fetchall()))" for name, question in _verdicts()],
    ]
    return "\n".join([TIMED, "import duckdb", "connection = duckdb.connect()", *views, *asked])


def ducklake_program() -> str:
    """The catalogue made anew, brought up to date once more, and asked."""
    attach, register, replace = blocks("DuckLake", "python")
    views = [f"lake.sql({view!r})" for view in blocks(VIEWS)]
    define = register.replace("\nregister()\n", "")
    again = "timed('registered again, nothing new', register)"
    lines = ["connection = lake", "timed('registered', register)", again, replace]
    lines += _timed("one question, all attempts", RAW) + _timed("the same, rows that count", CURRENT)
    lines += _timed("a question that no file answers", NONE)
    return "\n".join([TIMED, attach, *views, define, *lines])


def spark_program() -> str:
    """The files at the depth of the sweeps, and the same questions."""
    read, _ = blocks("Spark", "python")
    (statement,) = [view for view in blocks(VIEWS) if "view updates" in view]
    load = f"def load():\n    global spark\n    {'    '.join(read.replace('runs/*/', 'runs/*/*/').splitlines(True))}"
    started = "machine = spark.sparkContext._gateway.proc.pid"
    lines = [
        "machine = -1  # there is none yet",
        "timed('started, files found', load)",
        started,
        f"spark.sql({statement!r})",
    ]
    for name, question in (("one question, all attempts", RAW), ("the same, rows that count", CURRENT)):
        lines.append(f"timed({name!r}, lambda: spark.sql({question!r}).collect()[0][0])")
    return "\n".join([TIMED, load, *lines])


def _timed(name: str, question: str) -> list[str]:
    return [f"timed({name!r}, lambda: connection.sql({question!r}).fetchall()[0][0])"]


def _verdicts() -> list[tuple[str, str]]:
    which, common, _ = blocks("Which runs went critical?")
    which = which.replace("u.wall_time,", "u.wall_time::varchar as wall_time,", 1)
    return [("which went critical, and when", which), ("what they have in common", common)]


def show(engine: str, python: Path, program: str, folder: Path) -> None:
    """Run a program of an engine, and print a line for each thing that it timed."""
    print(f"\n{engine}")
    if not python.exists():
        print(f"  left out: no {python.parents[1]}; `make engines` makes it")
        return
    command: list[str | Path] = [python, "-c", program]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in filter(lambda text: text.startswith("["), process.stdout):
            name, secs, processor, answer = json.loads(line)
            print(f"  {name:36} {secs:8.2f} s {processor:8.2f} s   {answer[:20]}", flush=True)
        said = process.stderr.read()
    if process.returncode:
        print(f"  failed: {said[-600:]}")


def main() -> None:
    """Write the runs, judge them, and print one table for each engine."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    updates = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_runs(folder, count, updates)
        sizes = [path.stat().st_size for path in folder.glob("runs/*/*/rank-*/segments/*.parquet")]
        print(f"{count:,} runs of {updates:,} updates: {len(sizes):,} files, {sum(sizes) / 2**20:,.0f} MiB")
        began = time.perf_counter()
        (command,) = blocks(VIEWS, "sh")
        command = f"{sys.executable} -m esper_analyzer {command.removeprefix('esper-analyze ')}"
        subprocess.run(["bash", "-c", command], cwd=folder, check=False, env=os.environ | {"ESPER_CACHE_DIR": place})
        print(f"  {'verdicts, by esper-analyze runs':36} {time.perf_counter() - began:8.2f} s")
        show("DuckDB over the files", Path(sys.executable), duckdb_program(), folder)
        show("DuckLake", ENVIRONMENTS / "ducklake/bin/python", ducklake_program(), folder)
        show("Spark, local mode", ENVIRONMENTS / "spark/bin/python", spark_program(), folder)


if __name__ == "__main__":
    main()
