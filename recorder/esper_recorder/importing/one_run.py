"""Tells the rows of one run from those of another, in a table that has both."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from esper_schemas.errors import UsageError

_RUN_KEYS = ("run", "run_id", "run_name", "run_uuid", "run_hash", "trial_id", "seed")
"""Columns that tell one run from another, in small letters, and with `_` for what is between words."""

_SEPARATORS = re.compile(r"[\s.-]+")

_PROGRESS = ("step", "global_step", "_step", "update", "iteration", "iter", "env_steps", "timesteps", "total_timesteps")
"""Columns that rise while one run goes on."""

_SHOWN = 10


class OneRun:
    """Lets the rows of one run through.

    Args:
        wanted: Which run: the value of a column such as `run_id` or `seed`. If it is None, the log must have one run.
    """

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._names: dict[str, None] = {}
        self._has_found = False
        self._header: Collection[str] = ()
        self._columns: list[str] = []  # of a row with these columns
        self._of_row: dict[str, str] = {}
        self._progress: dict[str, float] = {}

    def is_asked(self, header: Collection[str]) -> bool:
        """Whether the rows of a table with this header can be of several runs, or one is wanted."""
        return self._wanted is not None or bool(self.columns(header))

    def columns(self, header: Iterable[str]) -> list[str]:
        """Return the columns of a table that tell one run from another."""
        return [key for key in header if _SEPARATORS.sub("_", key.strip().lower()) in _RUN_KEYS]

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, with its cells by column, is of the run.

        A value that changes while the run goes on, such as a seed for each update, makes no other run.

        Raises:
            UsageError: no run is wanted, and the row begins another one, or is of one beside this one.
        """
        if row.keys() != self._header:
            self._header, self._columns = row.keys(), self.columns(row)
        of_row = {key: str(row[key]).strip() for key in self._columns if row[key] not in (None, "")}
        if not of_row:
            return self._wanted is None
        if self._wanted is not None:
            for name in of_row.values():
                if len(self._names) <= _SHOWN:
                    self._names[name] = None
            is_wanted = self._wanted in of_row.values()
            self._has_found |= is_wanted
            return is_wanted
        progress = {key: number for key in _PROGRESS if (number := _number(row.get(key))) is not None}
        for key, name in of_row.items():
            before = self._of_row.get(key, name)
            if name != before and not any(progress[it] > self._progress.get(it, progress[it]) for it in progress):
                raise UsageError(
                    f"it has rows of several runs: {key} is {before[:50]!a}, and then {name[:50]!a};"
                    " choose one with --source-run"
                )
        self._of_row, self._progress = of_row, progress
        return True

    def check(self) -> None:
        """Check, at the end of the log, that the run was there.

        Raises:
            UsageError: it was not.
        """
        if self._wanted is not None and not self._has_found:
            names = list(self._names)
            shown = ", ".join(name[:50] for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            columns = f"found {shown}" if names else f"it has no column {', '.join(_RUN_KEYS)}"
            raise UsageError(f"--source-run: it has no run {self._wanted!a}; {columns}")


def _number(cell: object) -> float | None:
    try:
        return float(cell)  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError):
        return None
