"""The footers of long runs that were checked once, by the checksums of their files.

Whether the footer and the page headers of a file are within bounds follows from its bytes alone, and it takes as long
to find out as to compute the checksum. So a report of a run that was examined before computes the checksum of every
file, and looks at no footer again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from esper_analyzer.caching.code import code_digest
from esper_analyzer.caching.coding import to_json
from esper_analyzer.caching.folder import store
from esper_analyzer.caching.kept import load_kept
from esper_analyzer.caching.keys import key_of
from esper_analyzer.reading.run_reader import RunReader
from esper_analyzer.reading.segment_index import uses_stored_numbers
from esper_schemas.examining.segment import CheckedFooter

FEWEST = 64
"""Footers of fewer files are checked sooner than a file of the cache folder is written."""

_MOST = 65_536  # about 20 MB
_KIND = "footers"


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
