"""The run format: the metrics, the files of a run and their bytes. Recorder and analyzer share only this package.

What reads segments is loaded on first use: a training that only records does not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from esper_schemas.errors import (
    EsperError,
    FormatVersionError,
    NotARunError,
    PayloadError,
    RunDamagedError,
    RunExistsError,
    RunLockedError,
    RunUnreadableError,
    StoreError,
    UsageError,
)
from esper_schemas.metric.metrics import SKIP_REASONS, Bands, Level, Limit, Metric
from esper_schemas.metric.payload import METRICS, PPOUpdatePayload
from esper_schemas.run.directory import RankDirectory, RunDirectory, StoredRank, StoredRun
from esper_schemas.run.finding import find_runs, resolve_run
from esper_schemas.run.records import Attempt, RunHeader, Seal, ValueLossDefinition

if TYPE_CHECKING:
    from esper_schemas.segment.follow import RankFollower
    from esper_schemas.segment.scan import ActiveSegment, MissingSegment, SealedSegment, read_segments

__all__ = [
    "METRICS",
    "SKIP_REASONS",
    "ActiveSegment",
    "Attempt",
    "Bands",
    "EsperError",
    "FormatVersionError",
    "Level",
    "Limit",
    "Metric",
    "MissingSegment",
    "NotARunError",
    "PPOUpdatePayload",
    "PayloadError",
    "RankDirectory",
    "RankFollower",
    "RunDamagedError",
    "RunDirectory",
    "RunExistsError",
    "RunHeader",
    "RunLockedError",
    "RunUnreadableError",
    "Seal",
    "SealedSegment",
    "StoreError",
    "StoredRank",
    "StoredRun",
    "UsageError",
    "ValueLossDefinition",
    "find_runs",
    "read_segments",
    "resolve_run",
]

_ON_FIRST_USE = {
    "RankFollower": "follow",
    "ActiveSegment": "scan",
    "MissingSegment": "scan",
    "SealedSegment": "scan",
    "read_segments": "scan",
}


def __getattr__(name: str) -> object:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"esper_schemas.segment.{_ON_FIRST_USE[name]}"), name)
