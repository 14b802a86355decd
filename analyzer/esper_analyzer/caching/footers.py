"""The footers of long runs that were checked once: by the checksums of their files, or by the states of these.

Whether the footer and the page headers of a file are within bounds follows from its bytes alone, and it takes as long
to find out as to compute the checksum. So a report of a run that was examined before computes the checksum of every
file, and looks at no footer again. Whoever reads rows without comparing checksums, as `Run.updates`, takes a file with
the same device, inode, size, mtime and ctime for the same: whoever changes it, its ctime changes, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from esper_analyzer.caching.code import code_digest
from esper_analyzer.caching.coding import to_json
from esper_analyzer.caching.folder import store
from esper_analyzer.caching.kept import load_kept
from esper_analyzer.caching.keys import key_of
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.run_reader import RunReader
from esper_analyzer.reading.segment_index import note_within_bounds, uses_stored_numbers
from esper_schemas.examining.run import RunExamination
from esper_schemas.examining.segment import CheckedFooter
from esper_schemas.run.files import Folder
from esper_schemas.run.storage import SETTLED_NS

FEWEST = 64
"""Footers of fewer files are checked sooner than a file of the cache folder is written."""

_MOST = 65_536  # about 20 MB
_KIND = "footers"
_KIND_OF_BOUNDS = "bounds"


@dataclass(frozen=True, slots=True)
class _Footers:
    """What the cache folder keeps: the sha256 of each file, and its footer."""

    of_files: list[tuple[str, CheckedFooter]]


@contextmanager
def kept_footers(run: RunReader) -> Iterator[None]:
    """While a run is examined, it has the footers that were kept of it; those that were checked are kept, if many."""
    code = code_digest() if uses_stored_numbers() else None
    if code is None:
        yield
        return
    key = key_of(code, str(run.path), run.header.run_id, run.header.run_uuid)
    if not run.footers and (kept := load_kept(_KIND, key, _Footers)) is not None:
        run.footers.update(kept.of_files)
    before = len(run.footers)
    yield
    new = len(run.footers) - before
    if new >= FEWEST and len(run.footers) <= _MOST:
        store(_KIND, key, to_json(_Footers([*run.footers.items()])))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What the cache folder keeps: the state of each file that is within bounds, its rows and its added columns."""

    of_files: list[tuple[tuple[int, int, int, int, int], int, list[str]]]


def index_with_kept_bounds(run: RunReader, found: RunExamination) -> RunIndex:
    """Make the index of a run; of a long one whose seals alone were examined, look at no file that is as it was kept.

    Raises:
        RunDamagedError, OSError, ArrowException: as `RunIndex.of`.
    """
    ranks = [check for check in found.ranks if check.depth == "records" and isinstance(check.storage, Folder)]
    is_long = sum(segment.is_sealed for check in ranks for segment in check.segments) >= FEWEST
    code = code_digest() if is_long and uses_stored_numbers() else None
    if code is None:
        return RunIndex.of(found)
    key = key_of(code, str(run.path), run.header.run_id, run.header.run_uuid)
    kept = load_kept(_KIND_OF_BOUNDS, key, _Bounds) or _Bounds([])
    for state, rows, extras in kept.of_files:
        note_within_bounds(state, rows, extras)
    settled = time.time_ns() - SETTLED_NS  # what changes now may change again at the same time
    index = RunIndex.of(found)
    pieces = [piece for rank in index.ranks.values() for piece in rank.pieces]
    known = {state: (rows, extras) for state, rows, extras in kept.of_files}  # of other ranks, too
    before = len(known)
    known |= {
        one.state: (one.rows, [*one.extras]) for one in pieces if one.state is not None and one.state[-1] < settled
    }
    if len(known) >= before + FEWEST and len(known) <= _MOST:
        store(_KIND_OF_BOUNDS, key, to_json(_Bounds([(state, *holds) for state, holds in known.items()])))
    return index
