"""A run judged: its level after every row, from one pass over its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.reference import ReferenceRun
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.rules.rule import Rule
from esper_analyzer.judging.verdict import RunFacts, level_in_force
from esper_schemas.metric.metrics import Level

LEVELS: tuple[Level, ...] = ("healthy", "warning", "critical")
"""What alerts give, by severity; "healthy" says that none gives anything, so that a run may be unknown as well."""

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


def judged(
    rows: pl.DataFrame,
    rules: Iterable[Rule] = RULES.values(),
    return_goal: float | None = None,
    references: Sequence[ReferenceRun] = (),
) -> Judged:
    """Judge one run.

    Args:
        rows: Its updates in order, with those columns of the metrics table that are known; one that is not there was
            not recorded.
        rules: What is watched.
        return_goal: The goal of the episode return, if the run knows one.
        references: Sound runs of the same task.
    """
    rules = tuple(rules)
    judge = Judge(rules, return_goal, references)
    taken = completed(rows, judge.columns)
    begun = judge.advance(taken)
    found = [*begun, *judge.in_force.values(), *_unsaid(begun, taken, Judge(rules, return_goal, references))]
    updates = taken["update"].to_numpy()
    severities = np.zeros(len(updates), np.int8)
    for episode in found:
        lasts = (updates >= episode.update) & (updates < (math.inf if episode.until is None else episode.until))
        severities[lasts] = np.maximum(severities[lasts], LEVELS.index(_given(episode)))
    first = _first(updates, severities == CRITICAL)
    beginning = () if first is None else _names(rules, (one for one in found if one.update == first), "critical")
    last = level_in_force(judge, RunFacts())
    return summed_up(rows, severities, last, beginning, _names(rules, judge.in_force.values(), last))


def summed_up(
    rows: pl.DataFrame,
    severities: NDArray[np.int8],
    last: Level,
    rules: tuple[str, ...],
    last_rules: tuple[str, ...],
) -> Judged:
    """Return what was said of the run with these `rows`; the other arguments are as in `Judged`."""
    taken = completed(rows, ("update", "env_steps"))
    updates = taken["update"].to_numpy()
    return Judged(
        updates=updates,
        steps=taken["env_steps"].cast(pl.Float64).fill_null(math.nan).to_numpy(),
        severities=severities,
        first_warning=_first(updates, severities > 0),
        first_critical=_first(updates, severities == CRITICAL),
        last=last,
        rules=rules,
        last_rules=last_rules,
    )


def completed(rows: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Return `columns` of `rows`, with the types of the format and null where they are missing, as `Judge` needs."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(READ_TYPES[name]).alias(name) for name in columns
    )


def _unsaid(found: Iterable[Episode], rows: pl.DataFrame, again: Judge) -> list[Episode]:
    """Return the warnings that begin together with a critical episode, which `Judge.advance` leaves out.

    They often outlast it. The judge has them while they are in force, so another one, `again`, is stopped where they
    begin.
    """
    updates, critical = rows["update"].to_numpy(), [one for one in found if one.severity == 2]
    said = [one for one in found if one.severity == 1]
    cuts = sorted({one.update for one in critical if not any(_covers(warning, one) for warning in said)})
    ends = [*(int(np.searchsorted(updates, cut, side="right")) for cut in cuts), len(rows)]
    episodes: list[Episode] = []
    for start, end in zip([0, *ends], ends if cuts else (), strict=False):
        again.advance(rows[start:end])
        episodes += [one for one in again.in_force.values() if one.severity == 1]
    return episodes


def _covers(warning: Episode, critical: Episode) -> bool:
    """Whether a warning of the same rule was in force when a critical episode began."""
    has_ended = warning.until is not None and warning.until <= critical.update
    return warning.rule is critical.rule and warning.update <= critical.update and not has_ended


def _given(episode: Episode) -> Level:
    return episode.rule.gives[episode.severity - 1]


def _names(rules: Iterable[Rule], episodes: Iterable[Episode], level: Level) -> tuple[str, ...]:
    names = {one.rule.name for one in episodes if _given(one) == level and level in ("warning", "critical")}
    return tuple(rule.name for rule in rules if rule.name in names)


def _first(updates: NDArray[np.int64], flags: NDArray[np.bool_]) -> int | None:
    return int(updates[np.argmax(flags)]) if flags.any() else None
