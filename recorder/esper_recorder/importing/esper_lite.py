"""Reads updates from the `events.jsonl` of esper-lite (github.com/tachyon-beep/esper-lite)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account, Mapped
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.json_lines import NO_LINE_YET, read_lines
from esper_recorder.importing.log_file import LogFile
from esper_recorder.importing.other_files import describe_start
from esper_recorder.importing.rows import Row
from esper_recorder.importing.run_import import OnRead
from esper_schemas.errors import PayloadError, UsageError
from esper_schemas.metric.coercion import RECORDER_COLUMNS, check_extra_name, coerce
from esper_schemas.metric.payload import METRICS, PPOUpdatePayload
from esper_schemas.run.records import ValueLossDefinition

UPDATE_EVENT = "PPO_UPDATE_COMPLETED"
HYPERPARAMETER_EVENT = "TRAINING_STARTED"

MAX_LINES_WITHOUT_EVENT = 1000
"""A file whose first lines, this many, contain no event is not a log of esper-lite."""

MAX_FURTHER_KEYS = 200
"""At most this many unknown keys of an update become extras."""


@dataclass(frozen=True, slots=True)
class Target:
    """The metric or extra that a key becomes, and how the two differ."""

    column: str
    remark: str = ""


TARGETS: dict[str, Target] = {
    "batch": Target("update", "numbering kept"),
    "policy_loss": Target("policy_loss"),
    "value_loss": Target("value_loss", "× 1: it is ½·mean(max(e², e_clipped²)) already"),
    "entropy": Target("entropy_normalised", "extra: share of log(valid actions), 0 to 1; `entropy` is in nats"),
    "entropy_coef": Target("entropy_coef", "the factor of entropy_normalised"),
    "approx_kl": Target("approx_kl_k1", "extra: k1 estimator, may be negative; `kl_divergence` is k3"),
    "clip_fraction": Target("clip_fraction"),
    "ratio_max": Target("ratio_max_minibatch_mean", "extra: mean of the minibatches' largest, not the largest of all"),
    "ratio_min": Target(
        "ratio_min_minibatch_mean", "extra: mean of the minibatches' smallest, not the smallest of all"
    ),
    "ratio_std": Target("ratio_std"),
    "explained_variance": Target("explained_variance", "0.0 is written where it is not defined, and becomes null"),
    "early_stop_epoch": Target("early_stop_epoch", "null where KL did not stop the update"),
    "avg_reward": Target("episode_return_mean", "undiscounted, of raw rewards; mean over the environments"),
    "episodes_completed": Target("episodes_completed", "extra: cumulative; `episodes` counts one rollout"),
    "train_steps": Target("train_steps", "extra: updates that the trainer has made"),
    "avg_accuracy": Target("avg_accuracy", "extra: %, of the networks being grown"),
    "rolling_avg_accuracy": Target("rolling_avg_accuracy", "extra: %, mean of the last 10 batches"),
}
"""Keys of an update, as esper-lite's `simic/ppo.py` and `simic/vectorized.py` compute them in December 2025."""

_RATIO_KEYS = ("ratio_max", "ratio_min")
_NEVER_MEASURED = {"ratio_max": 1.0, "ratio_min": 1.0, "ratio_std": 0.0, "clip_fraction": 0.0}
"""The recurrent policy measures none of these; its events have exactly these values."""

_TAKEN = {*METRICS, *RECORDER_COLUMNS, *(target.column for target in TARGETS.values())}


class EsperLiteEvents:
    """One `events.jsonl` as a source of updates; see `UpdateSource` for its attributes.

    Each `PPO_UPDATE_COMPLETED` becomes a row. Unknown keys become extras. An unknown key with the name of a metric of
    the table gets the prefix `esper_lite_`, because it may mean something else. Only anomaly events, such as
    `VALUE_COLLAPSE_DETECTED`, have the largest and smallest ratio of all minibatches. These are not imported: a column
    would show the value of the last anomaly as if it belonged to the last update.
    """

    trainer = "esper-lite"
    what = "events"
    value_loss_definition = ValueLossDefinition(
        source="0.5 * mean(max((V - G)^2, (V_old + clamp(V - V_old, -clip, clip) - G)^2)); the events do not say clip",
        factor=1.0,
        clipping="max",
        reduction="all minibatches",
    )

    def __init__(self, path: Path, following: Following = READ_ONCE) -> None:
        self.path = path
        self._following = following
        self.env: str | None = None
        self.device: str | None = None
        self.config: Mapping[str, Any] = {"imported_from": path.name}
        self.account = Account()
        self._has_hyperparameters = False
        self._start = b""
        self._first_time: datetime | None = None
        self._targets: dict[str, Target] = {}
        self._values: Counter[str] = Counter()
        self._group: object = None
        self._last: tuple[int, object] | None = None  # batch and train_steps of the previous update
        self._anomalies = 0

    def updates(self, on_read: OnRead) -> Iterator[Row]:
        """Yield the updates of the file; see `UpdateSource.updates`.

        Raises:
            UsageError: the file has no events of esper-lite, or no updates.
            OSError: the file cannot be read.
        """
        try:
            for line, event in self._events(on_read):
                name = event["event_type"]
                if name == UPDATE_EVENT:
                    payload = self._update(line, event)
                    if payload is not None:
                        yield payload.to_dict()
                elif name == HYPERPARAMETER_EVENT and not self.account.updates and not self._has_hyperparameters:
                    self._take_hyperparameters(event)
                else:
                    self._leave_out(name, event)
        finally:
            self._finish_account()
        if not self.account.updates:
            raise UsageError(f"{self.path}: {self._why_nothing()}")

    def _events(self, on_read: OnRead) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each event with its line number; lines that are not events go to the account."""
        with LogFile(self.path, self._following) as file:
            for line in read_lines(file):
                if line is NO_LINE_YET:
                    self._following.wait()
                    continue
                on_read(line.size)
                self._start = self._start or line.start
                event = line.value
                if isinstance(event, dict) and isinstance(event.get("event_type"), str):
                    self.account.records += 1
                    self._first_time = self._first_time or _time(event)
                    yield line.number, event
                elif line.start.strip():
                    self.account.unreadable.add(f"line {line.number} ({line.problem or 'JSON, but not an event'})")
                if not self.account.records and line.number >= MAX_LINES_WITHOUT_EVENT:
                    break

    # ------------------------------------------------------------------ one event

    def _take_hyperparameters(self, event: Mapping[str, Any]) -> None:
        data = event.get("data")
        self._has_hyperparameters = True
        if isinstance(data, dict):
            self.config = {**data, **self.config}
            self.env = data["task"] if isinstance(data.get("task"), str) else None
            self.device = data["policy_device"] if isinstance(data.get("policy_device"), str) else None
        self.account.notes.append(f"the hyper-parameters of {HYPERPARAMETER_EVENT} are in the run's header")

    def _leave_out(self, name: str, event: Mapping[str, Any]) -> None:
        self.account.not_imported[name] += 1
        data = event.get("data")
        self._anomalies += isinstance(data, dict) and "anomaly_type" in data and all(key in data for key in _RATIO_KEYS)

    def _update(self, line: int, event: Mapping[str, Any]) -> PPOUpdatePayload | None:
        """Return the row of an update; None if it is not imported, which the account records."""
        group = event.get("group_id")
        if not self.account.updates:
            self._group = group
        elif group != self._group:  # two policies trained side by side, each with its own numbering
            self.account.not_imported[f"{UPDATE_EVENT} of group {group}"] += 1
            return None
        try:
            data = _measured(event.get("data"))
            payload = self._payload(event, data)
        except PayloadError as error:
            self.account.refused.add(f"line {line}: {error}")
            return None
        self._values.update(key for key, value in data.items() if value is not None)
        for key, value in event.items():
            if key not in ("event_type", "timestamp", "data") and value not in (None, ""):
                self.account.left_out.setdefault(key, "belongs to the event, not to the update")
        self._note_gap(payload.update, data.get("train_steps"))
        self.account.count_update(payload.update)
        return payload

    def _payload(self, event: Mapping[str, Any], data: Mapping[str, Any]) -> PPOUpdatePayload:
        time = _time(event)
        if time is None:
            raise PayloadError(f"timestamp must be a time in ISO 8601, found {ascii(event.get('timestamp'))[:60]}")
        if data.get("batch") is None:
            raise PayloadError("batch, the number of the update, is missing")
        metrics: dict[str, Any] = {"wall_time": coerce("wall_time", "timestamp", time)}
        metrics["elapsed_secs"] = (time - (self._first_time or time)).total_seconds()
        extras: dict[str, float] = {}
        for key, value in data.items():
            target = self._target(key, value, data)
            if target is not None and target.column in METRICS:
                metrics[target.column] = value
            elif target is not None and value is not None:
                try:
                    extras[target.column] = float(coerce(key, "float64", value))
                except PayloadError as error:
                    self.account.left_out.setdefault(key, f"in part: {error}")
        return PPOUpdatePayload(**metrics, extras=extras)

    def _target(self, key: str, value: object, data: Mapping[str, Any]) -> Target | None:
        """Return the target of a key; None if it cannot be a column, and the account records why."""
        target = self._targets.get(key)
        if target is None and key in TARGETS and not (key in _RATIO_KEYS and "approx_kl" not in data):
            target = TARGETS[key]
        if target is None and value is not None:  # also the ratios of later versions, whose definition is unknown
            column = f"esper_lite_{key}" if key in _TAKEN else key
            try:
                if not isinstance(value, int | float):
                    raise PayloadError(f"expected a number, found {type(value).__name__}")
                if len(self._targets.keys() - TARGETS.keys()) >= MAX_FURTHER_KEYS:
                    raise PayloadError(f"more than {MAX_FURTHER_KEYS} unknown keys")
                check_extra_name(column)
            except PayloadError as error:
                self.account.left_out.setdefault(key, str(error))
                return None
            target = Target(column, "extra: its definition is unknown")
        if target is not None:
            self._targets[key] = target
        return target

    # ------------------------------------------------------------------ the account

    def _note_gap(self, batch: int, steps: object) -> None:
        if self._last is not None and isinstance(steps, int):
            before, steps_before = self._last
            if batch > before + 1 and isinstance(steps_before, int) and steps == steps_before + 1:
                self.account.gaps.add(
                    f"from {before} to {batch} train_steps rises by 1: the trainer skipped the update, no event is lost"
                )
        self._last = batch, steps

    def _finish_account(self) -> None:
        account = self.account
        account.mapped = [Mapped("timestamp", "wall_time, elapsed_secs", "since the first event", account.updates)]
        account.mapped += [
            Mapped(key, target.column, target.remark, self._values[key]) for key, target in self._targets.items()
        ]
        if self._anomalies:
            account.notes.append(
                f"{self._anomalies:,} anomaly events have the ratio_max and ratio_min of all minibatches; these columns"
                " stay null, because updates without an anomaly have no such event"
            )

    def _why_nothing(self) -> str:
        account = self.account
        if not account.records:
            return (
                "expected events of esper-lite (a JSON object per line, with event_type, timestamp and data), found"
                f" {describe_start(self._start)}"
            )
        if account.refused.count:
            return f"it has no usable update ({account.refused.count:,} refused); {account.refused.first[0]}"
        others = ", ".join(f"{name} {n:,}" for name, n in account.not_imported.most_common(5))
        found = others or "only hyper-parameters"
        return f"expected {UPDATE_EVENT} events, found none among {account.records:,} events ({found})"


def _measured(data: object) -> dict[str, Any]:
    """Return the values of an update, with None in place of numbers that mean "not measured".

    Raises:
        PayloadError: `data` is not a JSON object.
    """
    if not isinstance(data, dict):
        raise PayloadError(f"data must be a JSON object, found {type(data).__name__}")
    absent = {"explained_variance"} if data.get("explained_variance") == 0 else set()
    if all(data.get(key) == value for key, value in _NEVER_MEASURED.items()):
        absent |= _NEVER_MEASURED.keys()
    return {key: None if key in absent else value for key, value in data.items()}


def _time(event: Mapping[str, Any]) -> datetime | None:
    """Return the time of an event; a time without a zone is read as UTC, which the trainer writes."""
    text = event.get("timestamp")
    try:
        time = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
