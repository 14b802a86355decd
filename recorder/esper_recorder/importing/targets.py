"""Which column each key of a log becomes: by its dialect, by what a person said, or as an extra of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from esper_recorder.dialects.key import ANY, Dialect, Key, Kind
from esper_recorder.dialects.plain import UNKNOWN, metric_of, named_keys
from esper_recorder.importing.account import Account, Mapped
from esper_schemas.errors import PayloadError, UsageError
from esper_schemas.metric.coercion import RECORDER_COLUMNS, check_extra_name
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.records import ValueLossDefinition

MAX_FURTHER_KEYS = 500
"""At most this many unknown keys become extras."""

GIVEN = "as given with --map"

FILLED_IN = frozenset({"update", "skipped", "skip_reason", "episodes"})
"""Metrics that no unknown log has: they are counted here, or follow from other columns."""


STEP = "step"
"""What the step of the points is called in a mapping, whatever the log calls it."""


class Target(NamedTuple):
    """What one key of a log becomes.

    Attributes:
        key: The key; of keys that are alike, such as the return in each of several environments, the one for all.
        column: A metric or an extra; empty if the key is left out.
        kind: As for `Key`; `further` for a key that is not known.
        is_whole: Whether the column stores whole numbers.
    """

    key: str
    column: str
    factor: float
    kind: Kind | str
    is_whole: bool
    zero_is_null: bool


class Targets(dict[str, Target]):
    """The target of each key of one log, settled when the key is first met.

    Args:
        dialect: What is known of the keys.
        account: Takes down what became of each key.
        given: Columns that a person chose a key or the step for.
    """

    def __init__(self, dialect: Dialect, account: Account, given: Collection[str] = ()) -> None:
        super().__init__()
        self.updates_with: Counter[str] = Counter()
        self._account = account
        self._known = {key.name: key for key in dialect.keys}
        self._alike = [key for key in dialect.keys if key.name.endswith(ANY)]
        columns = (key.column for key in dialect.keys)
        self._taken = {*METRICS, *RECORDER_COLUMNS, "extras", dialect.number, *columns} - {""}
        self._reads_names = dialect.reads_names
        self._named = {*given, *(key.column for key in dialect.keys)}  # metrics that a key is named after
        self._prefix = "".join(c if c.isalnum() else "_" for c in dialect.name.lower()) + "_"
        self._of_rollout = dialect.of_rollout
        self._further = 0

    def __missing__(self, key: str) -> Target:
        known = self._known.get(key) or next((alike for alike in self._alike if alike.fits(key)), None)
        target = self[key] = self._of_unknown(key) if known is None else _of_known(known)
        if known is not None and known.kind == "again":
            self._account.left_out[key] = known.remark
        return target

    def is_named_late(self, key: str) -> bool:
        """Whether a key that is not settled yet is named after a metric: a number of its update in any case."""
        return self._reads_names and key not in self and key not in self._known and bool(metric_of(key))

    def settle(self, names: Collection[str]) -> None:
        """Settle the keys of one update together: a metric that two of them are named after is read of neither."""
        if not self._reads_names:
            return
        new = [name for name in names if name not in self and name not in self._known]
        self._known |= {key.name: key for key in named_keys(new) if key.column not in self._named}
        self._named.update(map(metric_of, new))

    def mapped(self) -> list[Mapped]:
        """What became of each key, for the account."""
        made = []
        for name, target in self.items():
            if target.column and target.kind != "step" and target.key == name:
                known = self._known.get(name)
                remark = _remark(known) if known else "extra: its definition is unknown"
                made.append(Mapped(name, target.column, remark, self.updates_with[name]))
        return made

    def _of_unknown(self, key: str) -> Target:
        column = f"{self._prefix}{key}" if key in self._taken else key
        kind = "rollout" if self._of_rollout and key.startswith(self._of_rollout) else "further"
        try:
            if self._further >= MAX_FURTHER_KEYS:
                raise PayloadError(f"more than {MAX_FURTHER_KEYS} unknown keys")
            check_extra_name(column)
            check_extra_name(f"{column}_points")
        except PayloadError as error:
            self._account.left_out[key] = str(error)
            return Target(key, "", 1.0, "again", False, False)
        self._further += 1
        self._taken.add(column)
        return Target(key, column, 1.0, kind, False, False)


def _of_known(key: Key) -> Target:
    metric = METRICS.get(key.column)
    is_whole = metric is not None and metric.dtype != "float64"
    return Target(key.name, key.column, key.factor, key.kind, is_whole, key.zero_is_null)


def _remark(key: Key) -> str:
    parts = (
        "" if key.factor == 1.0 else f"× {key.factor:g}",
        "" if key.column in METRICS else "extra",
        key.remark,
    )
    return ": ".join(part for part in ("; ".join(part for part in parts[:2] if part), parts[2]) if part)


def _kind_of(name: str, dialect: Dialect) -> Kind:
    """What a key says, under whatever name: it stays a number of its rollout, or one for each episode."""
    known: Kind = next((key.kind for key in dialect.keys if key.fits(name)), "update")
    if known in ("rollout", "episode"):
        return known
    return "rollout" if dialect.of_rollout and name.startswith(dialect.of_rollout) else "update"


def with_mapping(dialect: Dialect | None, mapping: Mapping[str, str]) -> Dialect | None:
    """Return a dialect in which the keys of `mapping` become its columns; None if it has not both losses.

    Raises:
        UsageError: the column of a key is one that an import fills in, or that the recorder writes.
    """
    for key, column in mapping.items():
        if column in FILLED_IN or column in RECORDER_COLUMNS:
            raise UsageError(f"--map {key}={column}: an import fills in {column} itself; choose another column")
        try:
            check_extra_name(column)
        except PayloadError as error:
            raise UsageError(f"--map {key}={column}: {error}") from None
    columns = set(mapping.values())
    for column in columns:
        if len(names := [name for name, mapped in mapping.items() if mapped == column]) > 1:
            raise UsageError(f"--map: {' and '.join(names)} would both become {column}; choose one of them")
    base = dialect or UNKNOWN
    given = tuple(
        Key(name, column, GIVEN, kind=_kind_of(name, base)) for name, column in mapping.items() if name != STEP
    )
    kept = tuple(key for key in base.keys if key.name not in mapping and key.column not in columns)
    if not {"value_loss", "policy_loss"} <= columns | {key.column for key in kept}:
        return None
    if "value_loss" in columns:
        base = replace(base, value_loss=ValueLossDefinition(source="as logged", assumed=True), define=None, unclear="")
    if "env_steps" in columns and base.steps == "env_steps":
        base = replace(base, steps="other", number=base.number or "step")
    return replace(base, keys=(*given, *kept))
