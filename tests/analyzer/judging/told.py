"""A run of a few columns, and what the verdict says after each of its updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esper_analyzer import Verdict
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.verdict import RunFacts, conclude, level_in_force, worst_first
from esper_schemas import Level

Column = Sequence[Any] | float | bool | None


@dataclass(frozen=True)
class Told:
    """What was said after each update.

    Attributes:
        verdicts: the verdicts.
        judge: the judge after the last update.
    """

    verdicts: list[Verdict]
    judge: Judge

    @property
    def levels(self) -> list[Level]:
        """The levels."""
        return [verdict.level for verdict in self.verdicts]

    @property
    def worst(self) -> Level:
        """The worst level that was ever told."""
        return min(self.levels, key=worst_first)

    @property
    def last(self) -> Verdict:
        """The verdict in the end."""
        return self.verdicts[-1]

    def first(self, level: Level) -> int | None:
        """The first update after which the run had this level."""
        return next((update for update, one in enumerate(self.levels) if one == level), None)

    def rules(self) -> set[str]:
        """Names of all rules that ever counted in a verdict."""
        return {finding.rule for verdict in self.verdicts for finding in verdict.findings} & RULES.keys()


def told(facts: RunFacts | None = None, return_goal: float | None = None, **columns: Column) -> Told:
    """Judge a run, update by update.

    Args:
        facts: what is known besides the rows.
        return_goal: the goal of the episode return, if one was declared.
        columns: what was measured, in each update or one number for all; small losses unless given.
    """
    facts = RunFacts() if facts is None else facts
    rows = next(len(column) for column in columns.values() if isinstance(column, Sequence))
    given = {"policy_loss": -0.01, "value_loss": [0.1 + 0.01 * (i % 7) for i in range(rows)], **columns}
    judge, verdicts = Judge(return_goal=return_goal), []
    for update in range(rows):
        row: dict[str, Any] = dict.fromkeys(judge.columns)
        for name, column in given.items():
            row[name] = column[update] if isinstance(column, Sequence) else column
        judge.step({"update": update, **{name: value for name, value in row.items() if name != "update"}})
        verdicts.append(conclude(judge, facts))
        assert verdicts[-1].level == level_in_force(judge, facts)
    return Told(verdicts, judge)


def around(level: Sequence[float] | float, spread: float, rows: int = 0, seed: int = 0) -> list[float]:
    """Numbers that spread around a level by so much (a standard deviation), or around a level in each row."""
    levels = np.full(rows, level) if isinstance(level, float | int) else np.array(level)
    noisy: list[float] = (levels + spread * np.random.default_rng(seed).normal(size=len(levels))).tolist()
    return noisy


def line(*points: tuple[int, float]) -> list[float]:
    """The values of a line through points (row, value), of the rows before the last point."""
    rows, values = zip(*points, strict=True)
    return [float(one) for one in np.interp(np.arange(rows[-1]), rows, values)]
