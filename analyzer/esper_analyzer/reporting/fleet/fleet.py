"""`fleet`: judge every run below some folders, and say how many are how bad; the worst run and group come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from esper_analyzer.engines.engine import Engine
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.listing.entry import RunEntry
from esper_analyzer.listing.listing import Wanted, list_runs
from esper_analyzer.options import FailOn
from esper_analyzer.reporting.check import outcome_of
from esper_analyzer.reporting.fleet.seeds import SeedGroup, check_keys, groups_of
from esper_schemas.examining.segment import Depth
from esper_schemas.exit_codes import ExitCode
from esper_schemas.metric.levels import LEVELS, severity_of
from esper_schemas.metric.metrics import Level
from esper_schemas.run.store import Place


@dataclass(frozen=True, slots=True)
class Fleet:
    """The runs of a fleet that are wanted, judged.

    Attributes:
        runs: the worst first: those that cannot be read, then by the level of their verdict, then by name; or in the
            order that was asked for.
        found: number of runs that there are.
        groups: groups of seeds, the worst first; empty if every run is alone, or none were asked for.
    """

    runs: list[RunEntry]
    found: int
    groups: list[SeedGroup]

    @property
    def levels(self) -> dict[Level, int]:
        """How many runs have each level, the worst first. Runs that cannot be read have none."""
        given = [run.level for run in self.runs if run.error is None]
        return {level: given.count(level) for level in reversed(LEVELS)}

    @property
    def unreadable(self) -> int:
        """How many runs, and folders that were named, cannot be read."""
        return sum(run.error is not None for run in self.runs)

    @property
    def damaged(self) -> int:
        """How many runs have damaged files, whether they can be read or not."""
        return sum(run.is_damaged for run in self.runs)

    @property
    def group_of(self) -> Mapping[str, str]:
        """The name of the group of each run that is in one, by the name of the run."""
        return {run: group.name for group in self.groups for run in group.runs}

    def exit_code(self, fail_on: FailOn | None) -> ExitCode:
        """Return 3 if a run is damaged, else 2 if one cannot be read, else 1 if one reaches `fail_on`, else 0."""
        if self.damaged:
            return ExitCode.DAMAGED
        if self.unreadable:
            return ExitCode.USAGE
        if fail_on is not None and any(outcome_of(run.level or "unknown", fail_on) == "failed" for run in self.runs):
            return ExitCode.VERDICT
        return ExitCode.FINE


def judge_fleet(
    roots: Sequence[Place],
    engine: Engine,
    wanted: Wanted | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    depth: Depth = "records",
    group: bool = True,
    group_by: Sequence[str] | None = None,
) -> Fleet:
    """Judge every run below some folders that is wanted. The result depends on the runs and settings alone.

    Args:
        roots: folders of runs, at any depth. If there are several, one that has no runs is an entry with that error.
        engine: whose workers judge; it is entered only if a run has to be judged, and left before this returns.
        wanted: which runs, and in which order; by default all, the worst first.
        settings: thresholds and rules to judge by.
        depth: how deep to examine the files; at `records`, checksums are not checked.
        group: whether to group runs that differ only in the seed.
        group_by: group runs with equal values of these hyper-parameters instead.

    Raises:
        NotARunError: there is only one folder, and no run in it.
        UsageError: no run has a hyper-parameter that is asked for, or the engine cannot be used as it was asked for.
        WorkersFailedError: the workers of the engine cannot work.
    """
    wanted = wanted or Wanted()
    check = None if group_by is None else partial(check_keys, keys=group_by)
    listing = list_runs(roots, wanted, settings, depth=depth, engine=engine, check=check)
    runs = wanted.in_order(sorted(listing.runs, key=_worst_first))
    return Fleet(runs, listing.found, groups_of(sorted(runs, key=_worst_first), group_by) if group else [])


def _worst_first(run: RunEntry) -> tuple[bool, int, str]:
    return run.error is None, -severity_of(run.level or "unknown"), run.name
