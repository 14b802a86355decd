"""The runs below some folders that a person wants to see, in the order in which they want to see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from esper_analyzer.engines.engine import Engine
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.listing.entry import RunEntry, read_header
from esper_analyzer.listing.filters import OPTION as FILTER
from esper_analyzer.listing.filters import Condition, parse_filters, statuses
from esper_analyzer.listing.kept_entries import KeptEntries
from esper_analyzer.listing.keys import Key, check_config, key_of, order_of
from esper_analyzer.listing.pool import MIN_POOLED, read_all
from esper_analyzer.reading.imported_log import find_log
from esper_schemas.console import progress
from esper_schemas.errors import NotARunError
from esper_schemas.examining.segment import Depth
from esper_schemas.run.finding import fetch_records, import_first, name_of, run_folders, sortable
from esper_schemas.run.store import Place

SORT = "--sort"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs a person wants to see, and in which order.

    Attributes:
        conditions: what a run has to satisfy.
        statuses: the statuses that it may have; empty for any.
        sort: what the runs are sorted by; None keeps the newest first.
        is_reversed: whether the order is reversed. Runs of which the value is not known come last all the same.
    """

    conditions: Sequence[Condition] = ()
    statuses: frozenset[str] = frozenset()
    sort: Key | None = None
    is_reversed: bool = False

    @classmethod
    def of(
        cls,
        filters: Iterable[str] = (),
        status: Iterable[str] = (),
        sort: str | None = None,
        *,
        is_reversed: bool = False,
    ) -> Wanted:
        """Make it of the options of a command; see `parse_filters`.

        Raises:
            UsageError: a filter, a status or a name is wrong.
        """
        key = None if sort is None else key_of(sort, SORT)
        return cls(parse_filters(filters), statuses(status), key, is_reversed)

    @property
    def columns(self) -> set[str]:
        """The metrics that have to be read for it."""
        return {key.column for key in self._keys if key.column is not None}

    @property
    def is_early(self) -> bool:
        """Whether the headers alone decide which runs are wanted, and in which order."""
        return all(key.is_early for key in self._keys)

    @property
    def _keys(self) -> list[Key]:
        return [condition.key for condition in self.conditions] + ([self.sort] if self.sort is not None else [])

    def check(self, runs: Sequence[RunEntry]) -> None:
        """Check its keys of the configuration.

        Raises:
            UsageError: no run has such a key.
        """
        check_config([condition.key for condition in self.conditions], runs, FILTER)
        check_config([] if self.sort is None else [self.sort], runs, SORT)

    def may_have(self, run: RunEntry) -> bool:
        """Whether a run satisfies everything that its header decides."""
        if self.statuses and run.status not in self.statuses:
            return False
        return all(condition.holds(run) for condition in self.conditions if condition.key.is_early)

    def has(self, run: RunEntry) -> bool:
        """Whether a run that was read and judged satisfies everything."""
        return self.may_have(run) and all(condition.holds(run) for condition in self.conditions)

    def in_order(self, runs: Iterable[RunEntry]) -> list[RunEntry]:
        """Return runs, of which the newest are first, in the order that is wanted."""
        every = list(runs)
        if self.sort is None:
            return every[::-1] if self.is_reversed else every
        key = self.sort
        known = sorted((run for run in every if key.value(run) is not None), key=order_of(key))
        return (known[::-1] if self.is_reversed else known) + [run for run in every if key.value(run) is None]


@dataclass(frozen=True, slots=True)
class Listing:
    """The runs that were found.

    Attributes:
        runs: those that are wanted, in order.
        found: number of runs that there are.
        is_damaged: whether one of `runs` is damaged.
    """

    runs: list[RunEntry]
    found: int
    is_damaged: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_damaged", any(run.is_damaged for run in self.runs))


def list_runs(
    roots: Sequence[Place],
    wanted: Wanted | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    *,
    depth: Depth = "records",
    part: slice = slice(None),
    engine: Engine | None = None,
    check: Callable[[Sequence[RunEntry]], object] | None = None,
) -> Listing:
    """Find the runs below some folders, read and judge those that are wanted.

    A run that cannot be read has its error in its entry, and the others are listed as usual.

    Args:
        roots: folders of runs, at any depth.
        wanted: which runs, and in which order; by default all, the newest first.
        settings: thresholds and rules to judge by.
        depth: how deep to examine the files; at `records`, checksums are not checked.
        part: only this part of the runs that are wanted, in their order. The others are not read if headers decide.
        engine: whose workers read and judge; see `read_all`. With one, a folder of several that cannot be read, or has
            no runs, is an entry with the error.
        check: is called with what the headers say, before any run is read and judged; it may raise.

    Raises:
        NotARunError: there is no such folder, or there are no runs in any of them.
        StoreError: an object store does not answer, or refuses.
        UsageError: no run has a key of the configuration that is asked for.
        WorkersFailedError: the workers of the engine cannot work.
    """
    wanted = wanted or Wanted()
    kept = KeptEntries(roots, settings, depth, wanted.columns)
    try:
        found = headers(roots, kept, skip_bad=engine is not None and len(roots) > 1)
    except NotARunError:
        _check_no_log(roots)
        raise
    if not found:
        _check_no_log(roots)
        named = ", ".join(map(str, roots))
        raise NotARunError(f"there are no runs in {named}; record one, or name the folder of runs with --root")
    wanted.check(found)
    if check is not None:
        check(found)
    may_have = [run for run in found if wanted.may_have(run)]
    if wanted.is_early:
        may_have = wanted.in_order(may_have)[part]
    runs: list[RunEntry] = []
    try:
        with progress("reading runs", len(may_have), at_least=1 if engine else MIN_POOLED) as advance:
            for run in read_all(may_have, settings, depth, wanted.columns, kept, engine):
                advance(1)
                if wanted.has(run):
                    runs.append(run)
    finally:  # whoever interrupts a list of thousands finds what was read when they come back
        kept.save([run.name for run in found])
    return Listing(runs if wanted.is_early else wanted.in_order(runs)[part], len(found))


def _check_no_log(roots: Sequence[Place]) -> None:
    """Raise NotARunError if the only place may be the log of another trainer."""
    if len(roots) == 1 and find_log(str(roots[0]), Path()) is not None:
        raise NotARunError(f"there are no runs in {roots[0]}; {import_first(roots[0])}")


def headers(roots: Sequence[Place], kept: KeptEntries | None = None, *, skip_bad: bool = False) -> list[RunEntry]:
    """Return what the headers of the runs below some folders say, the newest first; each run once.

    With several folders, the names begin with the folder. What was kept of a run also has what its rows say, and its
    header is not read. The order is that of `find_runs`.

    Args:
        roots: the folders.
        kept: what was kept.
        skip_bad: whether a folder that cannot be read, or has no runs, is an entry with that error.

    Raises:
        NotARunError: there is no such folder.
    """
    entries: dict[Place, RunEntry] = {}
    for root in roots:
        try:
            places = list(run_folders(root))
            if skip_bad and not places:
                raise NotARunError("there are no runs in this folder")
        except NotARunError as error:
            if not skip_bad:
                raise
            entries.setdefault(root, RunEntry(str(root), root, error=str(error)))
            continue
        fetch_records(root, places)
        found = []
        for path in places:
            name = name_of(path, root) if len(roots) == 1 else str(path)
            known = None if kept is None else kept.get(name, path)
            found.append(known or read_header(path, name))
        for run in sorted(found, key=lambda run: (sortable(run.created or ""), str(run.path))):
            entries.setdefault(run.path.resolve(), run)
    newest_first = list(entries.values())[::-1]
    if len(roots) > 1:
        newest_first.sort(key=lambda run: (run.age_secs is None, run.age_secs or 0.0))
    return newest_first
