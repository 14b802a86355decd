"""Reads and judges many runs: one after another, or in processes of their own where that pays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings, read_settings
from esper_analyzer.listing.entry import RunEntry, read_rows
from esper_analyzer.listing.kept_entries import KeptEntries
from esper_analyzer.reading.errors import quiet_panics
from esper_schemas.examining.segment import Depth
from esper_schemas.run.store import StoreUrl

MIN_POOLED = 200
"""Fewer runs are read in this process: another takes most of a second until it has imported what it needs."""

_MAX_PROCESSES = 8
_AT_ONCE = 8
"""So many runs are handed to a process at once, and so many in an object store are read at a time."""

_POLARS_THREADS = "POLARS_MAX_THREADS"


def read_all(
    entries: Sequence[RunEntry], settings: Settings, depth: Depth, wanted: Collection[str], kept: KeptEntries
) -> Iterator[RunEntry]:
    """Read and judge each run that was not, keep the result, and return all runs, in order; see `read_rows`."""
    read = _read_all([entry for entry in entries if entry.level is None], settings, depth, wanted)
    for entry in entries:
        found = entry
        if entry.level is None:
            found = next(read)
            kept.put(found)
        yield found


def _read_all(
    entries: Sequence[RunEntry], settings: Settings, depth: Depth, wanted: Collection[str]
) -> Iterator[RunEntry]:
    processes = min(_MAX_PROCESSES, os.cpu_count() or 1)
    is_known_elsewhere = settings is DEFAULT_SETTINGS or settings.source is not None  # rules do not travel
    done = 0
    if len(entries) >= MIN_POOLED and processes > 1 and is_known_elsewhere:
        with suppress(BrokenProcessPool):  # somebody ended one of the processes; the rest is read here
            for entry in _read_by_pool(entries, settings, depth, wanted, processes):
                done += 1
                yield entry
    left = entries[done:]
    if any(isinstance(entry.path, StoreUrl) for entry in left):
        yield from _read_from_afar(left, settings, depth, wanted)
        return
    for entry in left:
        yield _read(entry, settings, depth, wanted)


def _read_from_afar(
    entries: Sequence[RunEntry], settings: Settings, depth: Depth, wanted: Collection[str]
) -> Iterator[RunEntry]:
    """Read several runs at a time, since most of the time goes by until an object store answers."""
    with quiet_panics(), ThreadPoolExecutor(_AT_ONCE) as threads:
        read = partial(read_rows, settings=settings, depth=depth, wanted=wanted)
        yield from list(threads.map(read, entries))


def _read_by_pool(
    entries: Sequence[RunEntry], settings: Settings, depth: Depth, wanted: Collection[str], processes: int
) -> Iterator[RunEntry]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (settings.source,))
    try:
        with quiet_panics(), _one_thread_each():  # the processes keep the environment that they are started with
            read = partial(_read_in_pool, depth=depth, wanted=frozenset(wanted))
            results = pool.map(read, entries, chunksize=_AT_ONCE)
        yield from results
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(entry: RunEntry, settings: Settings, depth: Depth, wanted: Collection[str]) -> RunEntry:
    with quiet_panics():  # without checksums, polars may be the first to read a wrong byte
        return read_rows(entry, settings, depth, wanted)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start processes in which polars has one thread, since there is a process for each core."""
    before = os.environ.get(_POLARS_THREADS)
    os.environ[_POLARS_THREADS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_POLARS_THREADS]
        else:
            os.environ[_POLARS_THREADS] = before


_settings = DEFAULT_SETTINGS
"""What a process of the pool judges by."""


def _read_in_pool(entry: RunEntry, depth: Depth, wanted: Collection[str]) -> RunEntry:
    return _read(entry, _settings, depth, wanted)


def _begin(thresholds: Path | None) -> None:
    """Prepare a process of the pool: Ctrl-C is for the one that started it, and when that ends, this one does."""
    global _settings
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if thresholds is not None:
        _settings = read_settings(thresholds)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
