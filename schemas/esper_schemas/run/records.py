"""The small JSON records of a run: header (`run.json`), attempts and seals; each reads and writes itself."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from esper_schemas.cleaning import short
from esper_schemas.errors import FormatVersionError, RunDamagedError, UsageError
from esper_schemas.limits import FORMAT_VERSION
from esper_schemas.run.storage import Storage

EndStatus = Literal["finished", "failed", "interrupted"]
Trigger = Literal["not_finite", "skipped", "critical", "failed", "interrupted", "asked"]
"""Why a black box was written."""

MAX_JSON_BYTES = 16 * 1024 * 1024
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def now() -> str:
    """The current time in the format of records: ISO 8601, UTC, to the microsecond."""
    return datetime.now(UTC).isoformat()


def check_run_id(run_id: object) -> str:
    """Check that `run_id` can be the name of a run's folder; return it.

    Raises:
        UsageError: it is not a string of 1 to 128 letters, digits, '.', '_' and '-', starting with a letter or digit.
    """
    if not isinstance(run_id, str) or not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"a run id is 1 to 128 letters, digits, '.', '_' or '-', starting with a letter or digit; found {run_id!a}"
        )
    return run_id


def check_return_goal(goal: object) -> float | None:
    """Check that a declared goal of the episode return is a finite number, or None; return it as a float.

    Raises:
        UsageError: it is anything else.
    """
    number = None if goal is None else _finite(goal)
    if goal is not None and number is None:
        raise UsageError(f"return_goal must be a finite number, such as 475, or None, found {short(goal)}")
    return number


def _finite(value: object) -> float | None:
    """A finite number of any type as a float; None if it is anything else."""
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_json(storage: Storage, name: str) -> dict[str, Any]:
    """Read the JSON object in a file.

    Raises:
        FileNotFoundError: there is no such file.
        RunDamagedError: it is unreadable, too large, or not a JSON object.
    """
    where = storage.where(name)
    try:
        value = json.loads(storage.read(name, MAX_JSON_BYTES))
    except (FileNotFoundError, RunDamagedError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise RunDamagedError(f"{where}: expected a JSON object, found none ({error})") from None
    if not isinstance(value, dict):
        raise RunDamagedError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class _JsonFile:
    """A record that is one JSON object. Reading ignores fields that this version does not know."""

    @classmethod
    def read(cls, storage: Storage, name: str) -> Self:
        """Read the record from a file.

        Raises:
            FileNotFoundError, RunDamagedError: as in `read_json`, or a field is missing or has the wrong type.
            FormatVersionError: a newer Esper wrote it.
        """
        path = storage.where(name)
        values = read_json(storage, name)
        types = _types(cls)  # type: ignore[arg-type]  # mypy thinks that a class with slots is not hashable
        version = values.get("format", FORMAT_VERSION)
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FormatVersionError(
                f"{path} has format {version}, newer than the {FORMAT_VERSION} that this Esper reads; upgrade Esper"
            )
        known = {key: value for key, value in values.items() if key in types}
        if missing := [key for key in _required(cls) if key not in known]:  # type: ignore[arg-type]  # as above
            raise RunDamagedError(f"{path}: the keys {', '.join(missing)} are missing; Esper did not write this file")
        for key in cls.misfits(known):
            raise RunDamagedError(f"{path}: {key} has a value of the wrong type, {ascii(known[key])[:60]}")
        return cls(**known)

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """The keys of a JSON object whose values no reader accepts."""
        types = _types(cls)  # type: ignore[arg-type]  # as in `read`
        return [key for key, value in values.items() if key in types and not _fits(value, types[key])]

    def to_bytes(self) -> bytes:
        """The JSON text, indented for people, ending in a newline; text that UTF-8 cannot encode is escaped."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, default=str) + "\n"
        return text.encode("utf-8", "backslashreplace")


@cache
def _types(record: type) -> dict[str, Any]:
    return get_type_hints(record)


@cache
def _required(record: type) -> list[str]:
    return [entry.name for entry in fields(record) if entry.default is entry.default_factory is MISSING]


@cache
def _kinds(declared: Any) -> tuple[tuple[type, ...], bool]:
    """The types that a JSON value of a declared type may have, and whether it may be a bool, which is an int too."""
    if get_origin(declared) in (Union, UnionType):
        options = [_kinds(option) for option in get_args(declared)]
        return tuple(kind for kinds, _ in options for kind in kinds), any(is_bool for _, is_bool in options)
    if get_origin(declared) is Literal:
        declared = str
    kind = get_origin(declared) or declared
    return (kind,), kind is bool


def _fits(value: object, declared: Any) -> bool:
    """Whether a JSON value fits the declared type of a field; for a Literal, any text does."""
    kinds, is_bool = _kinds(declared)
    return isinstance(value, kinds) and (is_bool or not isinstance(value, bool))


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueLossDefinition:
    """What a trainer's "value loss" is, and how it was converted to the half-MSE scale of the column.

    Attributes:
        source: The trainer's own formula, in words.
        factor: What the trainer's number was multiplied by before it was recorded.
        clipping: What is clipped, `none` or unknown. `clipped`: the predictions, V_old + clamp(V − V_old, ±clip_range).
            `max`: per sample the larger of that error and the unclipped one. `error_clipped`: the squared errors,
            each to clip_range at most, as RLlib's `vf_clip_param` does.
        clip_range: Half-width of the clip of the predictions, or the largest squared error; None without clipping.
        reduction: What the recorded number averages.
        coefficient_included: Whether the source number already contained its loss coefficient.
        targets_normalised: Whether the value targets were scaled.
        assumed: True if the trainer declared nothing, so that the half-MSE definition is only assumed.

    Raises:
        UsageError: a value is not of its kind, a number is not finite, or `factor` is 0.
    """

    source: str = "0.5 * mean((V - G)^2)"
    factor: float = 1.0
    clipping: Literal["max", "clipped", "error_clipped", "none", "unknown"] = "unknown"
    clip_range: float | None = None
    reduction: Literal["all minibatches", "last minibatch", "unknown"] = "unknown"
    coefficient_included: bool = False
    targets_normalised: bool | None = None
    assumed: bool = False

    def __post_init__(self) -> None:
        for name, expected in _DEFINED_BY.items():
            given = value = getattr(self, name)
            declared = _types(ValueLossDefinition)[name]
            if name in ("factor", "clip_range") and given is not None:
                value = _finite(given)
                is_right = bool(value) or (name == "clip_range" and value == 0.0)
                object.__setattr__(self, name, value)
            elif get_origin(declared) is Literal:
                is_right = isinstance(given, str) and given in get_args(declared)
            else:
                is_right = _fits(given, declared)
            if not is_right:
                raise UsageError(f"{name} of a ValueLossDefinition must be {expected}, found {short(given)}")


_DEFINED_BY = {
    "source": "text",
    "factor": "a finite number other than 0",
    "clipping": "'max', 'clipped', 'error_clipped', 'none' or 'unknown'",
    "clip_range": "a finite number or None",
    "reduction": "'all minibatches', 'last minibatch' or 'unknown'",
    "coefficient_included": "True or False",
    "targets_normalised": "True, False or None",
    "assumed": "True or False",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHeader(_JsonFile):
    """Who recorded the run, and how: `run.json`, written once when the run is created.

    `return_goal` is the mean episode return from which the task counts as solved, in the environment's own rewards;
    None where nobody has declared one. `redacted` names the keys that an upload has left out: `host`, `commit`,
    `config` and `config.KEY`. It is empty where the run was recorded.
    """

    format: int = FORMAT_VERSION
    run_uuid: str
    run_id: str
    created: str
    trainer: str | None = None
    env: str | None = None
    device: str | None = None
    return_goal: int | float | None = None
    value_loss_definition: Mapping[str, Any] = field(default_factory=dict)
    world_size: int = 1
    host: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    redacted: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt(_JsonFile):
    """One run of the trainer's process: `attempts/0000.json`, rewritten when it ends or drops rows.

    `status` is None until the attempt has ended; a process that was killed leaves it so. `started` and
    `ended` are ISO 8601, UTC. `rows` and `dropped_rows` are this attempt's own; `last_seq` is the number of
    the last row on disk. All three are as of when this was written. `refused_values` names the metrics of which values
    could not be stored exactly and were left out: how many, and why the last one. `imported` says which log the attempt
    was imported from, and how far; empty for a recording.
    """

    attempt: int
    started: str
    ended: str | None = None
    status: EndStatus | None = None
    reason: str | None = None
    first_seq: int = 0
    last_seq: int | None = None
    rows: int = 0
    dropped_rows: int = 0
    last_drop_reason: str | None = None
    refused_values: Mapping[str, Any] = field(default_factory=dict)
    imported: Mapping[str, Any] = field(default_factory=dict)
    pid: int | None = None
    host: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Seal(_JsonFile):
    """What a sealed segment holds: `seals/00000000.json`, written just before the Parquet file appears.

    `updates_rise` says that each row's update is greater than that of the row before; a reader then need not look for
    superseded rows. `rows_lost` is the number of damaged rows that were cut off when the segment was sealed; their
    sequence numbers are not used again. `extras` are the columns that the user added. `run_uuid` identifies the
    recording, and `states_sha256` the bytes of `states/00000000.json`; both are None in files of 0.1.0.
    """

    segment: int
    attempt: int
    sha256: str
    bytes: int
    rows: int
    first_seq: int
    last_seq: int
    first_update: int | None
    last_update: int | None
    updates_rise: bool
    rows_lost: int = 0
    extras: list[str] | None = None
    run_uuid: str | None = None
    states_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BlackBoxRecord(_JsonFile):
    """Why a black box was written, and what its Parquet file must be: `blackbox/00000811.json`.

    `seq` is the sequence number of the row of the update in progress; there may be no such row. `minibatches` is the
    number of rows of the file. `not_written` counts the later updates in which the same happened before the file was
    written.
    """

    format: int = FORMAT_VERSION
    seq: int
    attempt: int
    run_uuid: str
    written: str
    trigger: Trigger
    reason: str
    minibatches: int
    bytes: int
    sha256: str
    not_written: int = 0
