"""A run judged: its level after every row, from one pass over its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.verdict import RunFacts, level_in_force
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas.metric.metrics import Level

LEVELS: tuple[Level, ...] = ("healthy", "warning", "critical")
"""What alerts give, by severity; "healthy" here is that none gives anything, so that a run may be unknown as well."""

CRITICAL = LEVELS.index("critical")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was said of a run while it went on.

    Attributes:
        updates: Numbers of its updates, int64 [rows].
        steps: Environment steps after each of them, float64 [rows]; NaN where they were not recorded.
        severities: After each of them, an index of `LEVELS`, int8 [rows].
        first_warning: First update after which it was at warning or worse; None if it never was.
        first_critical: The same for critical.
        last: Level after the last row.
        rules: Names of what made it critical when it first was, in the order of the rules.
        last_rules: Names of the rules that give `last`, if it is a warning or critical.
    """

    updates: NDArray[np.int64]
    steps: NDArray[np.float64]
    severities: NDArray[np.int8]
    first_warning: int | None
    first_critical: int | None
    last: Level
    rules: tuple[str, ...]
    last_rules: tuple[str, ...]

    def critical_from(self, onset: int) -> int | None:
        """First update from `onset` on after which it was critical; None if there is none."""
        return _first(self.updates, (self.severities == CRITICAL) & (self.updates >= onset))

    def steps_since(self, onset: int, update: int) -> float | None:
        """Environment steps from the row before `onset` to `update`; None where they were not recorded."""
        before = self.steps[self.updates < onset]
        taken = float(self.steps[self.updates == update][0] - (before[-1] if len(before) else 0.0))
        return None if math.isnan(taken) else taken


def judged(rows: pl.DataFrame) -> Judged:
    """Judge one run.

    Args:
        rows: Its updates in order, with those columns of the metrics table that are known; one that is not there was
            not recorded.
    """
    judge = Judge()
    rows = completed(rows, judge.columns)
    found = judge.advance(rows)
    found = list(
        {id(episode): episode for episode in (*found, *judge.in_force.values(), *_unsaid(found, rows))}.values()
    )
    updates = rows["update"].to_numpy()
    severities = np.zeros(len(updates), np.int8)
    for episode in found:
        lasts = (updates >= episode.update) & (updates < (math.inf if episode.until is None else episode.until))
        severities[lasts] = np.maximum(severities[lasts], LEVELS.index(given(episode)))
    steps = rows["env_steps"].cast(pl.Float64).fill_null(math.nan).to_numpy()
    first = _first(updates, severities == CRITICAL)
    last = level_in_force(judge, RunFacts())
    return Judged(
        updates=updates,
        steps=steps,
        severities=severities,
        first_warning=_first(updates, severities > 0),
        first_critical=first,
        last=last,
        rules=() if first is None else _names(judge, (one for one in found if one.update == first), "critical"),
        last_rules=_names(judge, judge.in_force.values(), last),
    )


def judged_runs(rows: pl.DataFrame) -> dict[int, Judged]:
    """Judge every run in `rows`, which have a column `run`."""
    return {int(part["run"][0]): judged(part) for part in rows.partition_by("run", maintain_order=True)}


def completed(rows: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Return `rows` as the judge takes them: `columns` and env_steps with the types of the format, null where missing."""
    wanted = dict.fromkeys(("env_steps", *columns))
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(SCHEMA[name]).alias(name) for name in wanted
    )


def given(episode: Episode) -> Level:
    """Return what an episode gives to the verdict."""
    return episode.rule.gives[episode.severity - 1]


def _unsaid(found: Iterable[Episode], rows: pl.DataFrame) -> list[Episode]:
    """Return the warnings that begin together with a critical episode, which `Judge.advance` does not return.

    They often outlast it. While they are in force the judge has them, so it is stopped where they begin.
    """
    cuts = sorted({one.update for one in found if one.severity == 2})
    again, episodes, updates = Judge(), [], rows["update"].to_numpy()
    ends = [*(int(np.searchsorted(updates, cut, side="right")) for cut in cuts), len(rows)] if cuts else []
    for start, end in zip([0, *ends], ends, strict=False):
        again.advance(rows[start:end])
        episodes += [one for one in again.in_force.values() if one.severity == 1]
    return episodes


def _names(judge: Judge, episodes: Iterable[Episode], level: Level) -> tuple[str, ...]:
    names = {episode.rule.name for episode in episodes if given(episode) == level and level in ("warning", "critical")}
    return tuple(rule.name for rule in judge.rules if rule.name in names)


def _first(updates: NDArray[np.int64], flags: NDArray[np.bool_]) -> int | None:
    return int(updates[np.argmax(flags)]) if flags.any() else None
