"""The run format: the metrics, the files of a run and their bytes. Recorder and analyzer share only this package."""

from esper_schemas.errors import (
    EsperError,
    FormatVersionError,
    NotARunError,
    PayloadError,
    RunDamagedError,
    RunExistsError,
    RunLockedError,
    RunUnreadableError,
    UsageError,
)
from esper_schemas.metric.metrics import SKIP_REASONS, Bands, Level, Limit, Metric
from esper_schemas.metric.payload import METRICS, PPOUpdatePayload
from esper_schemas.run.directory import RankDirectory, RunDirectory, find_runs, resolve_run
from esper_schemas.run.records import Attempt, RunHeader, Seal, ValueLossDefinition
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
    "UsageError",
    "ValueLossDefinition",
    "find_runs",
    "read_segments",
    "resolve_run",
]
