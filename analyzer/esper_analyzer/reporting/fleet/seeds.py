"""Groups of seeds in a fleet: how many of their runs are how bad, and the spread of their returns.

Which runs are a group is decided as in `compare`. There are no intervals here, because the runs of a fleet may be of
any length, and so their newest returns at different steps. `compare` aligns the runs of a few groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from esper_analyzer.listing.entry import RunEntry
from esper_analyzer.reporting.comparison.groups import (
    Settings,
    describe_group,
    differing,
    group_name,
    is_seed,
    seed_groups,
    settings_of,
)
from esper_schemas.metric.levels import LEVELS
from esper_schemas.metric.metrics import Level


@dataclass(frozen=True, slots=True)
class Returns:
    """The newest returns of the runs of a group, as far as they are finite.

    Attributes:
        n: how many there are.
        median, lowest, highest: of them; None if there are none.
    """

    n: int
    median: float | None = None
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """Runs that differ only in the seed, or have equal values of the keys to group by.

    Attributes:
        name: A, B, …
        runs: the names of its runs, the worst first.
        settings: the values that distinguish this group from the others.
        levels: how many runs have each level, the worst first.
        unreadable: how many cannot be read.
        returns: of those that can.
    """

    name: str
    runs: list[str]
    settings: dict[str, Any]
    levels: dict[Level, int]
    unreadable: int
    returns: Returns


def check_keys(runs: Sequence[RunEntry], keys: Sequence[str]) -> None:
    """Check the keys to group by before any run is judged.

    Raises:
        UsageError: no run has one of them.
    """
    seed_groups({run.name: _settings(run) for run in runs if run.config or run.error is None}, keys)


def groups_of(runs: Sequence[RunEntry], by: Sequence[str] | None) -> list[SeedGroup]:
    """Return the groups, the worst first; an empty list if every run is alone.

    A group is worse if a larger share of its runs is critical; of equal shares, if more are a warning, cannot be read,
    or if the median of its returns is lower.

    Args:
        runs: in the order in which a group names them.
        by: keys with equal values within a group; None means all keys except seeds.

    Raises:
        UsageError: no run has such a key.
    """
    by_name = {run.name: run for run in runs if run.config or run.error is None}
    settings = {name: _settings(run) for name, run in by_name.items()}
    found = seed_groups(settings, by) if settings else []
    if len(found) == len(settings):
        return []
    first = {members[0]: settings[members[0]] for members in found}
    keys = by if by is not None else [key for key in differing(first) if not is_seed(key)]
    unnamed = [_group([by_name[name] for name in members], first, keys, len(found)) for members in found]
    return [
        SeedGroup(group_name(place), one.runs, one.settings, one.levels, one.unreadable, one.returns)
        for place, one in enumerate(sorted(unnamed, key=_worst_first))
    ]


def _group(members: Sequence[RunEntry], first: Mapping[str, Settings], keys: Sequence[str], groups: int) -> SeedGroup:
    names = [run.name for run in members]
    levels = [run.level for run in members if run.error is None]
    values = [value for run in members if (value := run.returned) is not None and math.isfinite(value)]
    return SeedGroup(
        name="",
        runs=names,
        settings=describe_group(names[:1], first, keys) if groups > 1 else {},
        levels={level: levels.count(level) for level in reversed(LEVELS)},
        unreadable=len(members) - len(levels),
        returns=Returns(len(values), median(values), min(values), max(values)) if values else Returns(0),
    )


def _worst_first(group: SeedGroup) -> tuple[object, ...]:
    count = len(group.runs)
    shares = [-group.levels[level] / count for level in group.levels if level in ("critical", "warning")]
    middle = group.returns.median
    return *shares, -group.unreadable / count, middle is None, middle or 0.0, group.runs[0]


def _settings(run: RunEntry) -> Settings:
    return settings_of(run.config, {"trainer": run.trainer, "env": run.env}, {})
