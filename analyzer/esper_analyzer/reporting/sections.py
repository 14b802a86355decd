"""The sections of a report: what is known of a run in parts, whose fields are keys of the report's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esper_analyzer.measuring.summary import Value
from esper_analyzer.measuring.trends import Trend
from esper_analyzer.reading.gaps import Range, missing_count
from esper_schemas.examining.faults import Fault
from esper_schemas.metric.metrics import Level
from esper_schemas.run.ending import Status, describe_ending


@dataclass(frozen=True, slots=True)
class RunSection:
    """Identity and status of the run, from its header and attempts.

    Attributes:
        end_reason: why the last attempt ended, as it says itself: the exception of one that failed, or that nobody
            closed it; None where it does not say. With several ranks, of the first one that has this status.
        is_imported: whether it is the log of another trainer, of whose end nothing is known.
        return_goal: the goal of the episode return that the run was judged by: that of the settings, else the one that
            the run declares; None if neither.
        goal_reached: the first update after which the smoothed return was at the goal or above, in the first rank of
            `rank` that got there; None if none has, or without a goal.
        references: the names of the reference runs that it was judged beside.
        ranks: the ranks that the report is on: its verdict, alerts, files and black boxes.
        rank: the rank that `updates`, `metrics`, `ratio` and `signals` are of; None if they are of several together.
    """

    run_id: str
    path: str
    status: Status
    end_reason: str | None
    is_imported: bool
    trainer: str | None
    env: str | None
    device: str | None
    value_loss_definition: Mapping[str, Any]
    return_goal: float | None
    goal_reached: int | None
    references: list[str]
    world_size: int
    attempts: int
    ranks: list[int]
    rank: int | None

    @property
    def described_ending(self) -> str:
        """The status for people, and why the run ended where that is known; one line that is safe to print."""
        return describe_ending(self.status, self.end_reason, is_imported=self.is_imported)


@dataclass(frozen=True, slots=True)
class UpdatesSection:
    """Counts and ranges of updates.

    Attributes:
        rows: number of updates, without superseded rows.
        first, last: first and last update; None without updates.
        missing: inclusive ranges of missing updates between first and last.
        stride: the step from one update to the next; only a wider one means that updates are missing.
        skipped: updates that the trainer skipped.
        dropped: rows that the recorder had to drop.
        superseded: rows replaced by a later attempt or by a later row of the same update.
    """

    rows: int
    first: int | None
    last: int | None
    missing: list[Range]
    stride: int
    skipped: int
    dropped: int
    superseded: int

    @property
    def missing_count(self) -> int:
        """How many updates are missing."""
        return missing_count(self.missing, self.stride)


@dataclass(frozen=True, slots=True)
class Share:
    """Share of the measured values at each level; None if the levels are unknown."""

    healthy: float | None = None
    warning: float | None = None
    critical: float | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Level of the last value, the most extreme value of the worst level with its update, share of each level.

    The level is unknown where the last update did not measure the value.
    """

    level: Level
    worst: Value
    worst_update: int | None
    share: Share


@dataclass(frozen=True, slots=True)
class MetricSection:
    """One metric now and over the run. Extremes and averages are over finite values; `nonfinite` counts the others.

    `last` is the value of the last update, None where that did not measure it; `history` has the last measured values.
    """

    last: Value
    min: Value
    max: Value
    mean: float | None
    median: float | None
    nonfinite: int | None
    history: list[Value]
    trend: Trend
    long_trend: Trend
    health: Health


@dataclass(frozen=True, slots=True)
class RatioSection:
    """Lv/Lp = abs(value_loss) / abs(policy_loss); `last` is that of the last update, None where it has none."""

    last: Value
    median: float | None
    health: Health


@dataclass(frozen=True, slots=True)
class IntegritySection:
    """The run's files: segments, bytes, and all faults."""

    segments_sealed: int
    segments_active: int
    bytes: int
    faults: list[Fault]


@dataclass(frozen=True, slots=True)
class BlackBoxSection:
    """A black box, as `BlackBox` describes it.

    Attributes:
        file: its Parquet file, below the folder of the run.
        last: its last 10 minibatches, oldest first, each as column → value.
        last_updates: the update of each of these; None where the row of the update was not recorded.
    """

    rank: int
    file: str
    seq: int
    update: int | None
    after_update: int | None
    attempt: int
    written: str
    trigger: str
    reason: str
    minibatches: int
    not_written: int
    last: list[dict[str, Value]]
    last_updates: list[int | None]
