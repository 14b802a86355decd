"""Losses whose cells are empty, in a table that had them in every row: how many programs write NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set

from esper_recorder.dialects.key import Dialect
from esper_recorder.importing.account import Account
from esper_recorder.importing.points import Points
from esper_recorder.importing.targets import Targets

FEWEST_ROWS = 10
"""Rows with both losses, one behind the other, after which an empty loss is read as NaN."""

_LOSSES = ("value_loss", "policy_loss")
_NOT_MEASURED = frozenset({"env_steps", "wall_time", "elapsed_secs"})
"""Columns that a row has also where there was no update."""

_MOST_KINDS = 100


class EmptyLosses:
    """Tells a row whose losses are NaN from one that has none, where a table writes NaN as an empty cell.

    pandas and the API of W&B write NaN as an empty cell, and JSON.stringify as null. An empty loss is read as NaN if
    at least `FEWEST_ROWS` rows before, one behind the other, had both losses, and the row has a number that each of
    them had and that an update measured. A row with a key that none of them had, such as an evaluation, or with the
    keys of an earlier row without losses, is of another kind, and stays without losses.

    Args:
        dialect: What is known of the keys.
        targets: What each key becomes.
        account: Takes down which rows were read so.
    """

    def __init__(self, dialect: Dialect, targets: Targets, account: Account) -> None:
        self._account = account
        self._targets = targets
        self._lags = dialect.lags
        self._losses = [next(key.name for key in dialect.keys if key.column == column) for column in _LOSSES]
        self._rows = 0  # that have been looked at
        self._full = 0  # rows with both losses, one behind the other
        self._known: set[str] = set()  # keys of any of them
        self._common: set[str] = set()  # keys of all of them
        self._order: list[str] = []  # keys of the last one
        self._lossless: set[frozenset[str]] = set()  # keys of rows without losses
        self._read: dict[str, tuple[int, int, int]] = {}  # of a loss: rows that are read as NaN, the first, the last
        self._open = 0  # rows without losses since the last one with some, although they seem to be of updates
        self._most_open = 0

    def filled(self, row: Points) -> Points:
        """Return a row with NaN for each loss that is to be read so."""
        assert row.empty is not None
        self._rows += 1
        if row.keys == self._order and self._full:
            self._count_full()
            return row
        missing = [name for name in self._losses if name not in row.keys]
        keys = set(row.keys)
        if not missing:
            self._common = self._common & keys if self._full else keys
            self._known |= keys
            self._order = list(row.keys)
            self._count_full()
            return row
        are_empty = all(name in row.empty for name in missing)
        if are_empty and self._full >= FEWEST_ROWS and self._is_update(keys):
            for name in missing:
                count, first, _ = self._read.get(name, (0, self._rows, 0))
                self._read[name] = count + 1, first, self._rows
            return self._with_nan(row, missing)
        if are_empty and any(self._is_measured(key) for key in keys & self._common):
            self._open += 1
        if keys <= self._known or not self._full:
            if len(self._lossless) < _MOST_KINDS:
                self._lossless.add(frozenset(keys))
            self._full = 0
        return row

    def _count_full(self) -> None:
        self._full += 1
        self._most_open, self._open = max(self._most_open, self._open), 0

    def _is_update(self, keys: Set[str]) -> bool:
        """Whether a row with these keys, without both losses, is one of an update, as the rows before are."""
        if keys & set(self._losses):
            return True
        if keys - self._known or any(keys <= kind for kind in self._lossless):
            return False
        others = {key for key in self._common if self._is_measured(key)}
        present = others & keys
        is_known = any(self._targets[key].kind == "update" for key in present)
        return is_known or (not self._lags and 2 * len(present) >= len(others) > 0)

    def _is_measured(self, key: str) -> bool:
        """Whether an update measured what this key has: no loss, and nothing that other rows have, too."""
        target = self._targets[key]
        if key in self._losses or target.column in _NOT_MEASURED or target.kind in ("step", "number", "again"):
            return False
        return not (self._lags and target.kind == "rollout")

    def _with_nan(self, row: Points, missing: Sequence[str]) -> Points:
        """The row with NaN for these keys, where the rows before have them."""
        keys, values = list(row.keys), list(row.values)
        for name in missing:
            behind = self._order[self._order.index(name) + 1 :]
            place = next((keys.index(key) for key in behind if key in row.keys), len(keys))
            keys.insert(place, name)
            values.insert(place, math.nan)
        return Points(keys, [row.steps[0]] * len(keys), [row.times[0]] * len(keys), values)

    def note(self) -> None:
        """Say in the account which rows were read as updates whose loss is NaN, and which were not."""
        read: dict[tuple[int, int, int], list[str]] = {}
        for name, where in self._read.items():
            read.setdefault(where, []).append(name)
        for (count, first, last), names in read.items():
            rows = f"row {first:,} has" if count == 1 else f"{count:,} rows, from row {first:,} to {last:,}, have"
            self._account.notes.append(
                f"{rows} an empty {' and '.join(names)} where each row before had a number: read as NaN"
            )
        if self._open > max(self._most_open, 1):
            self._account.notes.append(
                f"the last {self._open:,} rows have an empty {' and '.join(self._losses)}, and are no updates here: if"
                " the losses were NaN, the run is dead, and nothing says so"
            )
