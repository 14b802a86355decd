"""Reading a reference run: what a sound run of a task had earned and explained, by age."""

from __future__ import annotations

import numpy as np
import polars as pl

from esper_analyzer.judging.course import READS, Course
from esper_analyzer.judging.judge import without_skipped
from esper_analyzer.judging.plan import ALWAYS, chosen
from esper_analyzer.judging.reference import Levels, ReferenceRun, explained_lately
from esper_analyzer.judging.returns import START_RETURNS
from esper_analyzer.judging.rolling import floats
from esper_analyzer.judging.task import Task
from esper_analyzer.reading.run_reader import RunReader
from esper_schemas.errors import UsageError

COLUMNS = tuple(sorted({*ALWAYS, *READS}))
"""Of the rows that a reference is made from."""


def reference_of(run: RunReader) -> ReferenceRun:
    """Read what a run had earned, and what its critic had explained, by age; of its first rank.

    Raises:
        UsageError: fewer than `START_RETURNS` updates measured an episode return.
    """
    ranks = run.ranks()
    rows = chosen(run.updates(ranks[0] if ranks else None), COLUMNS).collect()
    return reference_from(rows, run.header.run_id, Task.of_header(run.header), run.header.run_uuid)


def reference_from(rows: pl.DataFrame, name: str, task: Task, run_uuid: str = "") -> ReferenceRun:
    """As `reference_of`, from the rows of a run with at least `COLUMNS`; one without `run_uuid` is told by its name."""
    if not rows.height:
        raise _too_few(name, 0)
    course = Course().extend(without_skipped(rows))
    now, start, noise = (floats(course[f"return_{name}"]) for name in ("now", "start", "noise"))
    updates, steps = floats(rows["update"]), floats(rows["env_steps"])
    by_updates = Levels.of(updates, now)
    if by_updates is None:
        raise _too_few(name, int(np.isfinite(floats(course["episode_return_mean"])).sum()))
    explained = explained_lately(floats(course["explained"]))
    return ReferenceRun(
        name=name,
        run_uuid=run_uuid or name,
        task=task,
        start=float(np.nanmin(start)),
        noise=float(np.nanmedian(noise)),
        by_steps=Levels.of(steps, now),
        by_updates=by_updates,
        explained_by_steps=Levels.of(steps, explained),
        explained_by_updates=Levels.of(updates, explained),
    )


def _too_few(name: str, measured: int) -> UsageError:
    return UsageError(
        f"reference run {name} has {measured} updates with an episode return, and needs {START_RETURNS}; name a sound"
        " run that went on for longer, or that recorded episode_return_mean"
    )
