"""What a comparison has found, as data: `esper-compare/1`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from esper_analyzer.judging.verdict import Reason
from esper_analyzer.reporting.comparison.axis import Axis
from esper_analyzer.reporting.comparison.groups import Bootstrap, Group, Improvement
from esper_analyzer.reporting.comparison.scores import Scores
from esper_analyzer.strict_json import strict
from esper_schemas.metric.metrics import Direction, Level
from esper_schemas.run.ending import Status, describe_ending

FORMAT = "esper-compare/1"


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        label: its name, or its path if its name is not unique.
        status, end_reason: its status, and why its last attempt ended; as of a report.
        updates: all updates of the run.
        first, last: positions on the axis of the first and last measured value; None if it was never measured.
        is_cut_off: whether the run goes on beyond the end of the span.
        unplaced: updates left out because they have no position on the axis.
        scores: its scores within the span.
        verdict, reason: verdict on the whole run, as in its report, and the first reason.
        is_damaged: whether files are damaged; the comparison uses the rows that can be read.
        findings: all reasons of the verdict, as data.
        references: the names of the reference runs that it was judged beside.
    """

    label: str
    run_id: str
    path: str
    status: Status
    end_reason: str | None
    updates: int
    first: float | None
    last: float | None
    is_cut_off: bool
    unplaced: int
    scores: Scores
    verdict: Level
    reason: str | None
    is_damaged: bool
    findings: list[Reason]
    references: list[str]

    @property
    def described_ending(self) -> str:
        """Its status, and why it ended where that is known; one line that is safe to print."""
        return describe_ending(self.status, self.end_reason)


@dataclass(frozen=True, slots=True)
class ShortRun:
    """A run that is not compared, because it ends before half the median span of all runs.

    Attributes:
        label: its name, or its path if its name is not unique.
        status, end_reason: its status, and why its last attempt ended; as of a report.
        updates: all updates of the run.
        last: its last position on the axis.
        limit: the position that it would have had to reach: half the median span.
        is_damaged: whether files are damaged.
    """

    label: str
    run_id: str
    path: str
    status: Status
    end_reason: str | None
    updates: int
    last: float
    limit: float
    is_damaged: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; `to_json` returns the stable document `esper-compare/1`.

    Attributes:
        metric, better: the compared metric, and the direction of improvement, if it has one.
        rank: the rank compared in each run.
        axis: the axis that aligns the runs.
        runs: the runs, in the order in which they were given.
        differences: hyper-parameters whose values differ, with the value of each run that has them.
        groups: groups of seeds; empty if no two runs belong together.
        improvement: improvement of the first group over the second, if there are exactly two.
        bootstrap: how the intervals were computed; None without groups.
        warnings: reasons to read the comparison with care, one sentence each.
        set_aside: runs that cannot be read at all, each with the reason; the others are compared.
        short: runs that are not compared because they end before half the median span.
        best_first: the labels of the runs by their final score, the best first; without a direction, as given.
    """

    metric: str
    better: Direction | None
    rank: int
    axis: Axis
    runs: list[ComparedRun]
    differences: dict[str, dict[str, Any]]
    groups: list[Group]
    improvement: Improvement | None
    bootstrap: Bootstrap | None
    warnings: list[str]
    set_aside: dict[str, str] = field(default_factory=dict)
    short: list[ShortRun] = field(default_factory=list)
    best_first: list[str] = field(default_factory=list)
    format: str = field(default=FORMAT)

    @property
    def is_damaged(self) -> bool:
        """Whether files of any run are damaged, or a run cannot be read at all."""
        runs: list[ComparedRun | ShortRun] = [*self.runs, *self.short]
        return bool(self.set_aside) or any(run.is_damaged for run in runs)

    def to_json(self) -> str:
        """Return the comparison as strict JSON in ASCII, `format` first; NaN and infinities are strings."""
        return json.dumps(strict({"format": self.format, **asdict(self)}), indent=2, allow_nan=False)
