"""Reading the reference runs: what sound runs of a task had earned, by age."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from esper_analyzer.judging.course import READS, Course
from esper_analyzer.judging.judge import without_skipped
from esper_analyzer.judging.plan import ALWAYS, chosen
from esper_analyzer.judging.reference import Levels, ReferenceRun
from esper_analyzer.judging.returns import START_RETURNS
from esper_analyzer.judging.rolling import floats
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.reading.imported_log import LogChoice, find_log, imported_log
from esper_analyzer.reading.run_reader import RunReader, locate_run
from esper_schemas.errors import UsageError
from esper_schemas.run.store import parse_place

COLUMNS = tuple(sorted({*ALWAYS, *READS}))
"""Of the rows that a reference is made from."""


def with_references(
    runs: Iterable[str | os.PathLike[str]],
    root: str | os.PathLike[str] = "runs",
    settings: Settings = DEFAULT_SETTINGS,
    mapping: Sequence[str] = (),
) -> Settings:
    """Return settings by which a run is judged beside sound runs of the same task, as by `--reference`.

    Args:
        runs: paths, URLs or names under `root` of sound runs, or logs of other trainers. Three are better than one,
            since then the lowest of them is left out. A run is judged beside those of its own environment, and not
            beside itself.
        root: folder of runs, or the URL of one in an object store.
        settings: what else it is judged by.
        mapping: `KEY=FIELD` for keys of logs that nobody else names.

    Raises:
        NotARunError: there is no such run.
        UsageError: a run has fewer than `START_RETURNS` updates in which an episode return was measured; or `runs` is
            one text, or has an empty one.
    """
    if isinstance(runs, (str, os.PathLike)):
        raise UsageError(f"references are a list of runs, found {str(runs)!r}; write [{str(runs)!r}]")
    found: dict[str, ReferenceRun] = {}
    for named in runs:
        run = os.fspath(named)
        one = _read(run, root, mapping)
        if one.run_uuid not in found:
            is_taken = any(other.name == one.name for other in found.values())
            found[one.run_uuid] = replace(one, name=run) if is_taken else one
    return replace(settings, references=tuple(found.values()))


def _read(run: str, root: str | os.PathLike[str], mapping: Sequence[str]) -> ReferenceRun:
    if not run:
        raise UsageError("a reference has no name; expected a path, a URL, or a name under the folder of runs")
    log = find_log(run, parse_place(root))
    if log is None:
        return reference_of(RunReader(locate_run(run, root)))
    with imported_log(log, LogChoice(tuple(mapping)), is_followed=False) as (path, _):
        return replace(reference_of(RunReader(locate_run(path))), name=log.name)


def reference_of(run: RunReader) -> ReferenceRun:
    """Read what a run had earned, by age; of its first rank.

    Raises:
        UsageError: fewer than `START_RETURNS` updates measured an episode return.
    """
    ranks = run.ranks()
    rows = chosen(run.updates(ranks[0] if ranks else None), COLUMNS).collect()
    return reference_from(rows, run.header.run_id, run.header.env, run.header.run_uuid)


def reference_from(rows: pl.DataFrame, name: str, env: str | None, run_uuid: str = "") -> ReferenceRun:
    """As `reference_of`, from the rows of a run with at least `COLUMNS`; one without `run_uuid` is told by its name."""
    if not rows.height:
        raise _too_few(name, 0)
    course = Course().extend(without_skipped(rows))
    now, start, noise = (floats(course[f"return_{name}"]) for name in ("now", "start", "noise"))
    by_updates = Levels.of(floats(rows["update"]), now)
    if by_updates is None:
        raise _too_few(name, int(np.isfinite(floats(course["episode_return_mean"])).sum()))
    return ReferenceRun(
        name=name,
        run_uuid=run_uuid or name,
        env=env,
        start=float(np.nanmin(start)),
        noise=float(np.nanmedian(noise)),
        by_steps=Levels.of(floats(rows["env_steps"]), now),
        by_updates=by_updates,
    )


def _too_few(name: str, measured: int) -> UsageError:
    return UsageError(
        f"reference run {name} has {measured} updates with an episode return, and needs {START_RETURNS}; name a sound"
        " run that went on for longer, or that recorded episode_return_mean"
    )
