"""Makes the runs of the calibration study: trains each scenario with each of its seeds, recorded by the real recorder.

    python notebooks/calibration/make_runs.py --out FOLDER [--jobs 2] [--only NAME] [--seeds A-B]

A run that is complete is not made again, so that a batch that was stopped goes on where it was. The runs come in
the order of their seeds, so that a batch that is stopped early holds some of every scenario.
"""

from __future__ import annotations

import multiprocessing
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
from scenarios import SCENARIOS, Scenario

from esper_recorder import Recorder
from esper_recorder.train.command import value_loss_definition
from esper_schemas.errors import EsperError, UsageError
from esper_schemas.exit_codes import ExitCode
from esper_schemas.run.directory import RunDirectory

Job = tuple[Scenario, int, Path]
"""A scenario, a seed, and the folder of runs."""


def jobs_of(root: Path, only: tuple[str, ...], seeds: range | None) -> list[Job]:
    """The runs to make, in the order in which to make them: seeds first, each scenario's spread over the whole.

    Raises:
        UsageError: `only` names a scenario that is none.
    """
    if unknown := set(only) - {scenario.name for scenario in SCENARIOS}:
        raise UsageError(f"--only: no scenario is called {', '.join(sorted(unknown))}; scenarios.py lists them")
    jobs = [
        (scenario, seed, root)
        for scenario in SCENARIOS
        for seed in range(scenario.seeds)
        if (not only or scenario.name in only) and (seeds is None or seed in seeds)
    ]
    return sorted(jobs, key=lambda job: job[1] / job[0].seeds)


def is_complete(path: Path) -> bool:
    """Whether the run in `path` was trained to its end; one that was cut off is removed, to be made anew.

    Raises:
        UsageError: another process is writing it, or what is there is no run of this study.
    """
    if not path.exists():
        return False
    run = RunDirectory(path)
    try:
        rank = run.rank(0)
        if rank.has_writer():
            raise UsageError(f"{path} is being written by another process; wait for it, or name another folder")
        attempts = rank.attempts()
        if attempts and attempts[-1].status == "finished":
            return True
        is_ours = "scenario" in run.header().config
    except UsageError:
        raise
    except EsperError as error:
        raise UsageError(f"{path} is in the way and is no run of this study ({error})") from None
    if not is_ours:
        raise UsageError(f"{path} is in the way and is no run of this study; name another folder")
    shutil.rmtree(path)
    return False


def make_run(job: Job) -> tuple[str, float]:
    """Train and record one run; its name and the seconds of CPU time it took. Raises what training raises."""
    scenario, seed, root = job
    began = time.process_time()
    trainer = scenario.make_trainer(seed)
    with (
        closing(trainer.collector.env),
        Recorder.open(
            root,
            run_id=scenario.run_name(seed),
            config=scenario.run_config(seed),
            trainer="calibration study",
            env=trainer.config.env,
            device="cpu",
            value_loss_definition=value_loss_definition(trainer.config),
            strict=True,
        ) as recorder,
    ):
        trainer.train(recorder)
    return scenario.run_name(seed), time.process_time() - began


def make_runs(jobs: list[Job], processes: int) -> Iterator[tuple[str, float]]:
    """Make all runs of `jobs`, as `make_run`, each as it is done."""
    if processes == 1:
        yield from map(make_run, jobs)
        return
    # Spawned, because torch's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(make_run, jobs)


def _seeds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> range | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)-(\d+)", value)
    if found is None or int(found[1]) > int(found[2]):
        raise click.BadParameter(f"expected A-B, such as 0-5, found {value!r}")
    return range(int(found[1]), int(found[2]) + 1)


@click.command()
@click.option("--out", "root", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of runs.")
@click.option("--jobs", "processes", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this scenario; may be given again.")
@click.option("--seeds", callback=_seeds, metavar="A-B", help="Only these seeds, both included.")
def main(root: Path, processes: int, only: tuple[str, ...], seeds: range | None) -> None:
    """Make the runs of the calibration study that are not there yet.

    Example: make_runs.py --out study --only dead-critic --seeds 0-3
    """
    try:
        jobs = jobs_of(root, only, seeds)
        missing = [job for job in jobs if not is_complete(root / job[0].run_name(job[1]))]
        click.echo(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them there already", err=True)
        began = time.monotonic()
        for done, (name, cpu_secs) in enumerate(make_runs(missing, processes), start=1):
            left = (time.monotonic() - began) / done * (len(missing) - done) / 60
            click.echo(f"{done}/{len(missing)}  {name}  {cpu_secs:.1f} s of CPU, {left:.0f} min left", err=True)
    except (EsperError, OSError) as error:
        click.echo(f"make_runs: {error}", err=True)
        sys.exit(ExitCode.USAGE)
    except KeyboardInterrupt:
        click.echo("make_runs: interrupted; the same command goes on from here", err=True)
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
