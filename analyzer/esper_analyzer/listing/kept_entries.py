"""What reading the rows of runs gave the last time, by the state of their folders, in one file for each folder of runs.

A run whose folder is as it was has the rows that it had: nothing in it was written, added, removed or renamed since.
Only that is looked at, without opening a file, so that ten thousand runs are listed in seconds. A list does not check
checksums either way; `runs --verify` reads every run, and takes nothing from here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from functools import partial

from esper_analyzer.caching.coding import from_json, to_json
from esper_analyzer.caching.folder import load, store
from esper_analyzer.caching.keys import key_of, key_of_judging
from esper_analyzer.judging.settings import Settings
from esper_analyzer.listing.entry import RunEntry, age_of
from esper_schemas.errors import EsperError, StoreError
from esper_schemas.examining.segment import Depth
from esper_schemas.metric.metrics import Level
from esper_schemas.run.directory import run_at
from esper_schemas.run.ending import GOING_ON
from esper_schemas.run.storage import SETTLED_NS
from esper_schemas.run.store import Place

_KIND = "runs"


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read from a run: the fingerprint that its folder had before and after, and its entry.

    `config` is the configuration as JSON; the rest is as in `RunEntry`.
    """

    fingerprint: str
    status: str | None
    end_reason: str | None
    created: str | None
    env: str | None
    trainer: str | None
    run_uuid: str | None
    config: str
    updates: int | None
    measured: dict[str, float | None]
    return_goal: float | None
    goal_reached: int | None
    level: Level | None
    since: int | None
    rank: int | None
    reason: str | None
    is_damaged: bool
    references: list[str]


@dataclass(frozen=True, slots=True)
class _Bundle:
    """What is kept of the runs in one list, by the name of the run."""

    runs: dict[str, _Kept]


_PARTS = tuple(part.name for part in fields(_Kept) if part.name not in ("fingerprint", "config"))


class KeptEntries:
    """What is kept of the runs below some folders.

    Args:
        roots: the folders.
        settings: thresholds and rules that the runs are judged by.
        depth: how deep the files are examined; only what was read at depth `records` is kept.
        columns: the metrics that are read beside those of every list.
    """

    def __init__(self, roots: Sequence[Place], settings: Settings, depth: Depth, columns: Collection[str]) -> None:
        judging = key_of_judging(settings) if depth == "records" else None
        folders = [str(root.resolve()) for root in roots]
        self._key = None if judging is None else key_of(judging, folders, sorted(columns))
        self._kept = self._load()
        self._asked: dict[str, str] = {}  # the fingerprint of each run that has to be read
        self._new: dict[str, _Kept] = {}

    def get(self, name: str, path: Place) -> RunEntry | None:
        """Return the whole entry of a run, but for its age as it was the last time; None if the run has to be read."""
        fingerprint = None if self._key is None else _fingerprint(path)
        if fingerprint is None:
            return None
        kept = self._kept.get(name)
        if kept is None or kept.fingerprint != fingerprint:
            self._asked[name] = fingerprint
            return None
        parts = {part: getattr(kept, part) for part in _PARTS}
        age = None if kept.created is None else age_of(kept.created)
        return RunEntry(name=name, path=path, age_secs=age, config=json.loads(kept.config), **parts)

    def put(self, entry: RunEntry) -> None:
        """Keep what was read from a run since `get`, unless the run goes on or its folder was changed meanwhile.

        A writer changes LOCK when it takes it. So as long as the fingerprint is the same, nobody writes the run.
        """
        before = self._asked.pop(entry.name, None)
        if before is None or entry.error is not None or entry.status in GOING_ON:
            return
        if before == _fingerprint(entry.path):
            parts = {part: getattr(entry, part) for part in _PARTS}
            self._new[entry.name] = _Kept(before, config=json.dumps(dict(entry.config)), **parts)

    def save(self, there: Collection[str]) -> None:
        """Write what is new beside what another process may have kept meanwhile.

        Args:
            there: the names of all runs that there are; what is kept of others is left out.
        """
        if self._key is None or not self._new:
            return
        every = {**self._load(), **self._new}
        wanted = set(there)
        store(_KIND, self._key, to_json(_Bundle({name: one for name, one in every.items() if name in wanted})))
        self._new = {}

    def _load(self) -> dict[str, _Kept]:
        bundle = None if self._key is None else load(_KIND, self._key, partial(from_json, _Bundle))
        return {} if bundle is None else bundle.runs


def _fingerprint(path: Place) -> str | None:
    """Return the fingerprint of the folder of a run; None if it cannot tell this state from the next."""
    try:
        with run_at(path).open() as folder:
            found = folder.fingerprint()
    except StoreError:
        raise
    except (EsperError, OSError):
        return None
    if found is None or abs(time.time_ns() - found.changed_ns) < SETTLED_NS:
        return None
    return found.digest
