"""The first points of a log, kept until its keys show which dialect it is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from esper_recorder.dialects.key import Dialect
from esper_recorder.dialects.table import find_dialect
from esper_recorder.importing.account import Account
from esper_recorder.importing.points import Points
from esper_recorder.importing.targets import STEP, with_mapping


class Waiting:
    """The points of a log whose dialect is not known yet.

    Args:
        mapping: Key -> column, as a person gave it.

    Attributes:
        keys: How many points each key has.
        found: The dialect that the keys so far look like; None if they look like none.
        points: The points, in order.
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self.keys: Counter[str] = Counter()
        self.found: Dialect | None = None
        self.points: list[Points] = []
        self._mapping = mapping

    @property
    def updates(self) -> int:
        """How many updates have their value loss; 0 if no dialect is found."""
        return 0 if self.found is None else self.keys[self.found.marker.name]

    def with_steps(self, dialect: Dialect, account: Account) -> Dialect:
        """Return the dialect without the steps of the log as `env_steps` if the first update is at step 0 or 1.

        No update comes after so few environment steps: W&B counts what it was handed from 0, whoever named the keys. A
        key that has the steps then gives them itself. The account says what was found.
        """
        has_column = any(
            key.column == "env_steps" and key.kind != "step" and self.keys[key.name] for key in dialect.keys
        )
        if dialect.steps != "env_steps" or dialect.lags or has_column or STEP in self._mapping:
            return dialect
        marker = dialect.marker.name
        of_updates = (
            step for points in self.points for key, step in zip(points.keys, points.steps, strict=True) if key == marker
        )
        first = next(of_updates, None)
        if first not in (0, 1):
            return dialect
        keys = tuple(key._replace(kind="update") if key.kind == "step" else key for key in dialect.keys)
        advice = (
            "" if any(key.kind == "step" and self.keys[key.name] for key in dialect.keys) else "; --map KEY=env_steps"
        )
        account.notes.append(
            f"the step of the first update is {first}: it counts records or updates, and no environment steps{advice}"
        )
        return replace(dialect, keys=keys, steps="other", number=dialect.number or STEP)

    def add(self, points: Points) -> None:
        """Keep some more points, which may come one by one.

        Raises:
            UsageError: as `with_mapping`.
        """
        if not points.keys:
            return
        known = len(self.keys)
        self.keys.update(points.keys)
        if len(self.keys) > known:
            self.found = with_mapping(find_dialect(self.keys, self._mapping), self._mapping)
        last = self.points[-1] if self.points else None
        is_row = points.empty is not None
        if last is None or is_row or points.begins_anew or points.steps[0] is None or last.steps[0] is None:
            keys, steps, times, values, begins_anew, empty = points
            self.points.append(Points(list(keys), list(steps), list(times), list(values), begins_anew, empty))
            return
        for kept, more in zip(last[:4], points[:4], strict=True):
            assert isinstance(kept, list)
            kept += more
