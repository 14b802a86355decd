"""Reads and judges many runs: one after another, or by the workers of an engine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from esper_analyzer.engines.engine import Engine, Lost
from esper_analyzer.engines.local import LocalEngine, cores
from esper_analyzer.judging.settings import Settings
from esper_analyzer.listing.entry import RunEntry, read_rows
from esper_analyzer.listing.kept_entries import KeptEntries
from esper_analyzer.reading.errors import quiet_panics
from esper_schemas.console import describe_defect
from esper_schemas.errors import StoreError, UsageError
from esper_schemas.examining.segment import Depth
from esper_schemas.run.store import StoreUrl

MIN_POOLED = 200
"""Fewer runs are read in this process: another takes most of a second until it has imported what it needs."""

_MAX_PROCESSES = 8
_AT_ONCE = 8
"""So many runs in an object store are read at a time."""

_SIDE_BY_SIDE = 20
"""So many runs are read in this process before the first of them is shown as read."""


def read_all(
    entries: Sequence[RunEntry],
    settings: Settings,
    depth: Depth,
    wanted: Collection[str],
    kept: KeptEntries,
    engine: Engine | None = None,
) -> Iterator[RunEntry]:
    """Read and judge each run that was not, keep the result, and return all runs, in order.

    Args:
        entries, settings, depth, wanted: as for `read_rows`.
        kept: keeps the results.
        engine: whose workers do it, each run that there is; without one, processes of this machine where that pays.

    Raises:
        StoreError: an object store does not answer, or refuses.
        UsageError: the settings have rules of the caller's own, which no worker of `engine` can be told.
    """
    read = _read_all([entry for entry in entries if _is_unread(entry)], settings, depth, wanted, engine)
    for entry in entries:
        found = entry
        if _is_unread(entry):
            found = next(read)
            kept.put(found)
        yield found


def _is_unread(entry: RunEntry) -> bool:
    return entry.level is None and entry.error is None


def _read_all(
    entries: Sequence[RunEntry], settings: Settings, depth: Depth, wanted: Collection[str], engine: Engine | None
) -> Iterator[RunEntry]:
    processes = min(_MAX_PROCESSES, cores())
    is_far = any(isinstance(entry.path, StoreUrl) for entry in entries)
    if engine is None and len(entries) >= MIN_POOLED and processes > 1 and settings.can_travel:
        engine = LocalEngine(processes)
    read = partial(_read, settings=settings, depth=depth, wanted=frozenset(wanted))
    if engine is None and is_far:
        # most of the time goes by until an object store answers
        with quiet_panics(), ThreadPoolExecutor(_AT_ONCE) as threads:
            alone = [[entry] for entry in entries]
            made = threads.map(partial(read_rows, settings=settings, depth=depth, wanted=wanted), alone)
            yield from [entry for (entry,) in list(made)]
    elif engine is None:
        for start in range(0, len(entries), _SIDE_BY_SIDE):
            yield from read(entries[start : start + _SIDE_BY_SIDE])
    elif entries:
        if not settings.can_travel:
            raise UsageError("rules of your own cannot be sent to other processes; judge without an engine")
        with engine:
            for entry, found in zip(entries, engine.map(partial(_read_surely, read), entries), strict=True):
                yield _lost(entry, found) if isinstance(found, Lost) else found


def _read(entries: Sequence[RunEntry], settings: Settings, depth: Depth, wanted: Collection[str]) -> list[RunEntry]:
    with quiet_panics():  # without checksums, polars may be the first to read a wrong byte
        return read_rows(entries, settings, depth, wanted)


def _read_surely(read: partial[list[RunEntry]], entries: Sequence[RunEntry]) -> list[RunEntry]:
    """Return the entries of runs, whatever is wrong with them, or with Esper: no run ends the reading of thousands.

    Raises:
        StoreError: the object store does not answer, or refuses; the other runs are in the same store.
    """
    try:
        return read(entries)
    except StoreError:
        raise
    except Exception as error:
        if len(entries) > 1:  # whichever run it is of
            return [found for entry in entries for found in _read_surely(read, [entry])]
        return [replace(entries[0], error=describe_defect(error))]


def _lost(entry: RunEntry, lost: Lost) -> RunEntry:
    return replace(
        entry, error=f"its process died {lost.deaths} times while it read this run ({lost.cause}); is it out of memory?"
    )
