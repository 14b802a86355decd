"""Read the runs of a comparison, each once; a run that cannot be read does not stop the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.settings import Settings
from esper_analyzer.reading.errors import DAMAGE, RUN_ERRORS, describe_error
from esper_analyzer.reading.run_index import Ranks, RunIndex, looked_at
from esper_analyzer.reading.run_reader import locate_run
from esper_analyzer.reporting.report import Report, build_report
from esper_schemas.errors import NotARunError, RunDamagedError, RunUnreadableError, UsageError


@dataclass(frozen=True, slots=True)
class Reading:
    """A run with the index of the rank that is compared, and its report, from one examination."""

    run: JudgedRun
    found: RunIndex
    report: Report


def read_all(
    runs: Sequence[JudgedRun | str | os.PathLike[str]],
    root: str | os.PathLike[str],
    settings: Settings,
    rank: Ranks,
    metrics: Collection[str] | None,
) -> tuple[list[Reading], dict[str, str]]:
    """Read each run once. Also return, for each run that cannot be read at all, what is wrong with it.

    Args:
        runs, root, settings: as for `compare`.
        rank: as for `build_report`.
        metrics: as for `build_report`.

    Raises:
        UsageError: there are fewer than two runs, or one is given twice.
        NotARunError: there is no such run or rank, or fewer than two runs can be read and none is damaged.
        RunUnreadableError: the permissions of a run's folder do not let it be opened.
        RunDamagedError: fewer than two runs can be read, and one is damaged.
    """
    if len(runs) < 2:
        raise UsageError(f"compare needs at least two runs, found {len(runs)}")
    opened: list[JudgedRun] = []
    readings: list[Reading] = []
    set_aside: dict[str, str] = {}
    any_damaged = False
    for given in runs:
        try:
            run = given if isinstance(given, JudgedRun) else JudgedRun(locate_run(given, root), settings)
            opened.append(run)
            _check_given_once(opened)
            readings.append(run.read(looked_at(rank), partial(_reading, run, rank, metrics)))
        except (NotARunError, RunUnreadableError, UsageError):
            raise
        except RUN_ERRORS as error:
            any_damaged |= isinstance(error, DAMAGE)
            set_aside[str(given.path if isinstance(given, JudgedRun) else given)] = describe_error(error)
    if len(readings) < 2:
        causes = "; ".join(f"{name}: {cause}" for name, cause in set_aside.items())
        message = f"fewer than two of the {len(runs)} runs can be read: {causes}"
        raise RunDamagedError(message) if any_damaged else NotARunError(message)
    return readings, set_aside


def _reading(run: JudgedRun, rank: Ranks, metrics: Collection[str] | None, found: RunIndex) -> Reading:
    report = build_report(run, rank, found, metrics)
    return Reading(run, found if report.run.rank is None else found.only(report.run.rank), report)


def _check_given_once(runs: Sequence[JudgedRun]) -> None:
    paths = Counter(run.path.resolve() for run in runs)
    twice = next((run.path for run in runs if paths[run.path.resolve()] > 1), None)
    if twice is not None:
        raise UsageError(f"the run {twice} is given more than once; name each run once")
