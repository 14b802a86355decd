"""One run in a list of many: what its header says, and what reading and judging its rows says."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from esper_analyzer.judging.judge import judge_each
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import judge_rank, verdict_of_ranks, verdict_on_rank
from esper_analyzer.judging.plan import Plan
from esper_analyzer.judging.settings import Settings
from esper_analyzer.judging.task import Task
from esper_analyzer.judging.verdict import REMARK, Verdict
from esper_analyzer.reading.configuration import flattened
from esper_analyzer.reading.errors import DAMAGE, RUN_ERRORS, describe_error
from esper_analyzer.reading.run_index import RunIndex
from esper_schemas.errors import StoreError
from esper_schemas.examining.segment import Depth
from esper_schemas.metric.catalogue import EPISODE_RETURN, SLIDING_RETURN
from esper_schemas.metric.metrics import Level
from esper_schemas.run.directory import run_at
from esper_schemas.run.store import Place

STEPS, LOSS, RATE = "env_steps", "value_loss", "learning_rate"

SHOWN = (EPISODE_RETURN, SLIDING_RETURN, STEPS, LOSS, RATE)
"""The metrics whose newest values a list shows."""

_RATE_KEYS = ("learning_rate", "lr", "learning-rate", "policy_lr", "actor_lr")
"""What trainers call the learning rate in their configuration, in this order of preference."""

_FUTURE_SECS = 24 * 3600.0
"""A run from further in the future than this has no age: its clock, or its header, is wrong."""

_HELD_ROWS = 262_144
"""The rows of a longer rank are not held in memory, but read again for each thing that is asked of them."""

_ROWS_AT_ONCE = 65_536
"""About so many rows of several runs are held at a time, in 100 MB while they are judged."""


@dataclass(frozen=True, slots=True)
class RunEntry:
    """What is known of one run.

    Attributes:
        name: the name to type after `--run`: the path below the root.
        path: the run's folder, or its place in an object store.
        status: as of `Run.status`; None if the header cannot be read.
        end_reason: why the last attempt ended, as of a report; None where it does not say.
        created: when the run was created (ISO 8601, UTC), as its header says.
        age_secs: seconds since then; None if that is no valid time.
        env, trainer, run_uuid: as the header says.
        config: the hyper-parameters by dotted name.
        updates: number of updates that count, of the first rank that has recorded anything; None before its rows were
            read.
        measured: newest measured value of some metrics of that rank, by name; null where one was never measured.
        return_goal: the goal of the episode return that the run was judged by; None without one, or before.
        goal_reached: the first update after which that rank's smoothed return was at the goal; None if it never was.
        level: level of the verdict; None before the run was judged.
        since: the update since which the verdict has that level, if a rule gives it.
        rank: of several ranks, the one that gives the verdict.
        reason: the first reason of the verdict.
        is_damaged: whether the files of the run are damaged.
        references: names of the runs that it was judged beside.
        error: why the run cannot be read, in one line that still has to be cleaned.
    """

    name: str
    path: Place
    status: str | None = None
    end_reason: str | None = None
    created: str | None = None
    age_secs: float | None = None
    env: str | None = None
    trainer: str | None = None
    run_uuid: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    updates: int | None = None
    measured: Mapping[str, float | None] = field(default_factory=dict)
    return_goal: float | None = None
    goal_reached: int | None = None
    level: Level | None = None
    since: int | None = None
    rank: int | None = None
    reason: str | None = None
    is_damaged: bool = False
    references: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def task(self) -> Task:
        """What the run is trained on, and by what."""
        return Task.of(self.env, self.trainer, self.config)

    @property
    def returned(self) -> float | None:
        """The newest episode return; of a run that never measured one, the mean return of the last 100 episodes."""
        own = self.measured.get(EPISODE_RETURN)
        return self.measured.get(SLIDING_RETURN) if own is None else own

    @property
    def learning_rate(self) -> float | None:
        """The learning rate of the configuration, which schedules start from; else the newest that was recorded."""
        for key in _RATE_KEYS:
            for name, value in self.config.items():
                if name.rpartition(".")[2] == key and isinstance(value, int | float) and not isinstance(value, bool):
                    return float(value)
        return self.measured.get(RATE)


def read_header(path: Place, name: str) -> RunEntry:
    """Read what is known of a run without reading its rows. Only StoreError is raised; any other is in the entry."""
    try:
        run = JudgedRun(run_at(path))
        header, (status, end_reason) = run.header, run.ending(None)
        return RunEntry(
            name=name,
            path=path,
            status=status,
            end_reason=end_reason,
            created=header.created,
            age_secs=age_of(header.created),
            env=header.env,
            trainer=header.trainer,
            run_uuid=header.run_uuid,
            config=flattened(header.config),
        )
    except StoreError:
        raise  # the other runs are in the same store
    except RUN_ERRORS as error:
        return _failed(RunEntry(name, path), error)


def read_rows(
    entries: Sequence[RunEntry], settings: Settings, depth: Depth = "records", wanted: Collection[str] = ()
) -> list[RunEntry]:
    """Read the rows of runs and judge them, short runs side by side, which takes a fraction of the time.

    Only StoreError is raised; any other error is in the entry of its run.

    Args:
        entries: what their headers say; one that has an error is returned as it is.
        settings: thresholds and rules to judge by.
        depth: how deep to examine the files; at `records`, checksums are not checked.
        wanted: further metrics of the table, and metrics of the user, whose newest values are asked for.
    """
    made: list[RunEntry] = []
    group: list[_Read] = []
    for entry in entries:
        group.append(_read(entry, settings, depth, {*SHOWN, *wanted}))
        if sum(rows.height for one in group for rows in one.held.values()) >= _ROWS_AT_ONCE:
            made += _judged(group, settings)
            group = []
    return made + _judged(group, settings)


@dataclass(slots=True)
class _Read:
    """A run whose rows were read.

    Attributes:
        entry: what its header says, with the error if it cannot be read.
        run, found: the run and the look at it; None if it cannot be read.
        updates, measured: as in its entry.
        goal_reached: as in its entry; of the first rank that has recorded anything.
        verdicts: the verdicts on its ranks; at first on those with many rows.
        held: the rows of each other rank.
    """

    entry: RunEntry
    run: JudgedRun | None = None
    found: RunIndex | None = None
    updates: int = 0
    measured: Mapping[str, float | None] = field(default_factory=dict)
    goal_reached: int | None = None
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    held: dict[int, pl.DataFrame] = field(default_factory=dict)


def _read(entry: RunEntry, settings: Settings, depth: Depth, wanted: Collection[str]) -> _Read:
    """Read the rows of a run."""
    if entry.error is not None:
        return _Read(entry)
    try:
        run = JudgedRun(run_at(entry.path), settings)
        read = _Read(entry, run, found := run.look(None, depth))
        shown = next(iter(found.shown("first")), None)
        needed = {*Plan.of(settings.rules).columns, "dropped_before", *wanted}
        for rank, rows in found.frames().items():
            index = found.ranks[rank]
            if not index.rows and rank != shown:
                continue
            if index.rows <= _HELD_ROWS:
                read.held[rank] = rows.select(name for name in found.schema if name in needed).collect()
                if rank == shown:
                    read.updates, read.measured = read.held[rank].height, _newest(read.held[rank], wanted)
                continue
            judged = judge_rank(run, index, rows, found.damage_of(rank))
            read.verdicts[rank] = judged.verdict
            if rank == shown:
                read.updates, read.measured = _newest_of_many(rows, wanted)
                read.goal_reached = judged.goal_reached
        return read
    except StoreError:
        raise  # the other runs are in the same store
    except RUN_ERRORS as error:
        return _Read(_failed(entry, error))


def _judged(group: Sequence[_Read], settings: Settings) -> list[RunEntry]:
    """Judge what was read of some runs, and return their entries."""
    held = [(one, rank, one.run.judge(), rows) for one in group if one.run for rank, rows in one.held.items()]
    try:
        judge_each([(judge, rows) for _, _, judge, rows in held], side_by_side=settings.can_travel)
        for one, rank, judge, rows in held:
            assert one.run is not None
            assert one.found is not None
            damage = one.found.damage_of(rank)
            one.verdicts[rank] = verdict_on_rank(one.run, one.found.ranks[rank], rows, damage, judge)
            if rank == next(iter(one.found.shown("first"))):
                one.goal_reached = judge.goal_reached
    except RUN_ERRORS as error:
        if len(group) > 1:  # whichever run it is of
            return [entry for one in group for entry in _judged([one], settings)]
        return [_failed(group[0].entry, error)]
    return [_entry(one) for one in group]


def _entry(read: _Read) -> RunEntry:
    if read.run is None or read.found is None:
        return read.entry
    entry = replace(
        read.entry,
        updates=read.updates,
        measured=read.measured,
        return_goal=read.run.return_goal,
        goal_reached=read.goal_reached,
        is_damaged=bool(read.found.damage),
        references=[one.name for one in read.run.references],
    )
    if not read.verdicts:
        return replace(entry, level="unknown")
    verdict = verdict_of_ranks({rank: read.verdicts[rank] for rank in read.found.ranks if rank in read.verdicts})
    return replace(
        entry,
        level=verdict.level,
        since=verdict.since,
        rank=None if verdict.level == "healthy" else verdict.findings[0].rank,
        reason=next((one.said for one in verdict.findings if one.rule != REMARK), None),
    )


def _newest(rows: pl.DataFrame, wanted: Collection[str]) -> dict[str, float | None]:
    """Return the newest measured value of each metric that the run has as a number."""
    schema, found = rows.schema, dict[str, float | None]()
    for name in sorted(name for name in wanted if name in schema and schema[name].is_numeric()):
        values = rows[name]
        if values.null_count() == rows.height:
            found[name] = None
        else:
            found[name] = float(values[-1] if values[-1] is not None else values.drop_nulls()[-1])
    return found


def _newest_of_many(rows: pl.LazyFrame, wanted: Collection[str]) -> tuple[int, dict[str, float | None]]:
    """As `_newest`, of rows that are not held; also return how many there are."""
    schema = rows.collect_schema()
    names = sorted(name for name in wanted if name in schema and schema[name].is_numeric())
    newest = [pl.col(name).cast(pl.Float64).drop_nulls().last().alias(name) for name in names]
    count, *values = rows.select(pl.len(), *newest).collect().row(0)
    return int(count), dict(zip(names, values, strict=True))


def age_of(created: str) -> float | None:
    """Return the seconds since a time in ISO 8601; None if it is no valid time, or lies far in the future."""
    try:
        age = time.time() - datetime.fromisoformat(created).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, age) if age > -_FUTURE_SECS else None


def _failed(entry: RunEntry, error: BaseException) -> RunEntry:
    cause = describe_error(error).replace(f"{entry.path}/", "")  # the entry has the name already
    return replace(entry, error=cause, is_damaged=isinstance(error, DAMAGE))
