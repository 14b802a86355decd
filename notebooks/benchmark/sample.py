"""Samples the runs of the benchmark, batch by batch; what is there is not sampled again.

    python notebooks/benchmark/sample.py --out FOLDER [--jobs 1] [--minutes N] [--only fresh_10]

Every finished batch is one file of rows and one of runs under FOLDER/batches, or under FOLDER/held_back, FOLDER/fresh
and FOLDER/fresh_10 for what is not judged before the end. Ctrl-C, or a kill, costs the batches in progress and nothing
else: the same command goes on from there.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import click
import numpy as np
import polars as pl

from benchmark.fresh_plan import make_fresh_batches
from benchmark.large_plan import make_large_batches
from benchmark.outcomes import FOLDERS
from benchmark.plan import Batch, Entry, make_batches, make_plan
from benchmark.running import Clock, Ledger, Policy, Training, evaluate
from benchmark.storage import batch_path, read_runs, stored_rows, write_batch
from esper_analyzer import open_run
from esper_schemas.errors import EsperError, UsageError
from esper_schemas.exit_codes import ExitCode

EVALUATION_EPISODES = 10
"""Of the final evaluation of a run of the part "rlmutation", as in the paper."""

LAST_SHARE = 0.2
"""Share of a run's updates that its final return is taken from."""

NICENESS = 10
"""Sampling takes hours and gives way to everything else."""


def sample_run(entry: Entry, root: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """Train, record and measure one run; its line of the table of runs, and its rows.

    A run that ends in an exception, as on a NaN, is kept as far as it came: `ended` is "failed", and `error` says why.
    """
    clock = Clock(entry.begins, entry.updates)
    ledger = Ledger(clock)
    training = Training(entry.task, entry.hyper, entry.fault(), clock, ledger, entry.seed, root, entry.name)
    began = time.process_time()
    policy: Policy | None = None
    error = None
    try:
        with np.errstate(all="ignore"):  # what a fault makes infinite is recorded, and must not warn
            policy = _trainer(entry.trainer).train(training)
    except (ValueError, RuntimeError, FloatingPointError) as raised:
        error = f"{type(raised).__name__}: {' '.join(str(raised).split())[:200]}"
    cpu_secs = time.process_time() - began
    run = open_run(root / entry.name)
    rows = run.updates().collect()
    line = entry.to_dict() | {
        "ended": "finished" if error is None else "failed",
        "error": error,
        "rows": len(rows),
        **final_return(ledger, len(rows)),
        "evaluation": None,
        "cpu_secs": round(cpu_secs, 2),
        "value_loss_definition": dict(run.header.value_loss_definition),
    }
    if entry.part == "rlmutation" and policy is not None:
        line["evaluation"] = evaluate(entry.task, policy, episodes=EVALUATION_EPISODES, seed=entry.seed)
    return line, stored_rows(rows, entry.run, ledger.episodes)


def final_return(ledger: Ledger, updates: int) -> dict[str, Any]:
    """Mean return, on the environment's own rewards, of the episodes that ended in the last fifth of `updates`."""
    first = updates - max(1, round(LAST_SHARE * updates))
    returns = [earned for update, earned, _ in ledger.episodes if first <= update < updates]
    return {"final_return": float(np.mean(returns)) if returns else None, "final_episodes": len(returns)}


def _trainer(name: str) -> ModuleType:
    """The module of a trainer, imported when it is needed."""
    from benchmark import cleanrl_style, ours, sb3_runs

    return {"ours": ours, "sb3": sb3_runs, "cleanrl": cleanrl_style}[name]


def sample_batch(batch: Batch, out: Path) -> tuple[str, int, float]:
    """Sample one batch and write it; its name, its updates and the seconds of CPU time it took."""
    working = Path(tempfile.mkdtemp(prefix=f"{batch.folder}-{batch.number:04d}-", dir=out / "working"))
    try:
        lines, frames = zip(*(sample_run(entry, working) for entry in batch.entries), strict=True)
        written = write_batch(out / batch.folder, batch.number, pl.concat(frames), lines)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return (
        f"{batch.folder}/{written.stem}",
        sum(len(frame) for frame in frames),
        sum(line["cpu_secs"] for line in lines),
    )


def missing_batches(batches: Sequence[Batch], out: Path) -> list[Batch]:
    """The batches that are not there yet.

    Raises:
        UsageError: `out` has runs of another plan.
    """
    planned = {batch.folder: dict[int, Entry]() for batch in batches}
    for batch in batches:
        planned[batch.folder] |= {entry.run: entry for entry in batch.entries}
    for folder, entries in planned.items():
        for run in read_runs(out / folder):
            entry = entries.get(run["run"])
            if entry is None or any(run[name] != value for name, value in _comparable(entry).items()):
                raise UsageError(
                    f"{out / folder} has a run {run['name']} that is not in the plan; the plan or the faults were"
                    " changed since. Sample into another folder"
                )
    return [batch for batch in batches if not batch_path(out / batch.folder, batch.number).exists()]


def _comparable(entry: Entry) -> dict[str, Any]:
    names = ("name", "seed", "updates", "begins", "strength", "hyper")
    return {name: value for name, value in entry.to_dict().items() if name in names}


@contextmanager
def working_folder(out: Path) -> Iterator[None]:
    """Hold `out` for this process; what a killed one left behind is removed.

    Raises:
        UsageError: another process samples into it.
    """
    working = out / "working"
    working.mkdir(parents=True, exist_ok=True)
    with (out / "LOCK").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another process samples into {out}; wait for it, or name another folder") from None
        for left in (*working.iterdir(), *out.glob("*/*.tmp")):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield
        finally:
            shutil.rmtree(working, ignore_errors=True)


def _settle() -> None:
    """Prepare a process that trains: one thread, last in the queue, Ctrl-C left to the parent, and no life after it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def sample_batches(batches: Sequence[Batch], out: Path, jobs: int, minutes: float | None) -> Iterator[Any]:
    """Sample `batches` in as many processes as `jobs`; what `sample_batch` returns, each as it is done.

    No batch is begun that would not end within `minutes`, by what the others took.
    """
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting = list(batches)
    began, finished, running = time.monotonic(), 0, 0
    # Spawned, because torch's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(jobs, _settle) as pool:  # leaving it ends the processes
        while waiting or running:
            elapsed = (time.monotonic() - began) / 60
            needed = elapsed / finished * jobs if finished else 0.0
            while waiting and running < jobs and (minutes is None or elapsed + needed < minutes):
                batch = waiting.pop(0)
                pool.apply_async(sample_batch, (batch, out), callback=done.put, error_callback=done.put)
                running += 1
            if not running:
                return
            result = done.get()
            running, finished = running - 1, finished + 1
            if isinstance(result, BaseException):
                raise result
            yield result


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the runs.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--only", type=click.Choice(FOLDERS), help="Only the runs of one folder.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Begin no batch that would end later.")
def main(out: Path, jobs: int, only: str | None, minutes: float | None) -> None:
    """Sample the runs of the benchmark that are not there yet.

    Example: sample.py --out notebooks/benchmark/samples --jobs 2
    """
    again = f"go on with: python notebooks/benchmark/sample.py --out {out} --jobs {jobs}"
    again += f" --only {only}" if only else ""
    planned = (*make_batches(make_plan()), *make_fresh_batches(), *make_large_batches())
    batches = [batch for batch in planned if only in (None, batch.folder)]
    total = there = len(batches)
    try:
        with working_folder(out):
            missing = missing_batches(batches, out)
            there = total - len(missing)
            click.echo(f"sample: {total} batches, {there} of them there already", err=True)
            left, began = sum(batch.updates for batch in missing), time.monotonic()
            made = 0
            for name, updates, cpu_secs in sample_batches(missing, out, jobs, minutes):
                there, made = there + 1, made + updates
                wait = (time.monotonic() - began) / made * max(0, left - made) / 60
                each = 1000 * cpu_secs / updates
                click.echo(
                    f"{there}/{total}  {name}  {updates:,} updates, {each:.0f} ms of CPU each, {wait:.0f} min left",
                    err=True,
                )
    except (EsperError, OSError) as error:
        click.echo(f"sample: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    except KeyboardInterrupt:
        there = total - len(missing_batches(batches, out))  # one may have ended since
        click.echo(f"sample: interrupted with {there} of {total} batches; {again}", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    if there < total:
        click.echo(f"sample: {there} of {total} batches; {again}", err=True)


if __name__ == "__main__":
    main()
