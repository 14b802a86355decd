"""The row of one update: the value of each key in its column, the environment steps, and what its rollout measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from esper_recorder.dialects.key import Dialect
from esper_recorder.importing.rollouts import Rollouts
from esper_recorder.importing.rows import Row
from esper_recorder.importing.tally import Tally
from esper_recorder.importing.targets import Targets


class UpdateRows:
    """Makes the rows of the updates of one log from the values of their keys.

    Args:
        dialect: What is known of the keys.
        targets: What each key becomes.
        tally: Takes down what a row has.
        rollouts: What the rollouts measured, where a log has that elsewhere than in the update; else None.
        step_column: The column that a person chose for the step of the points, None if nobody did.
    """

    def __init__(
        self, dialect: Dialect, targets: Targets, tally: Tally, rollouts: Rollouts | None, step_column: str | None
    ) -> None:
        self._dialect = dialect
        self._targets = targets
        self._tally = tally
        self._rollouts = rollouts
        self._step_column = step_column

    def row(
        self, values: Mapping[str, float], several: Mapping[str, Sequence[float]], step: int | None, *, is_final: bool
    ) -> Row:
        """Return the row of an update, without its number and its times.

        Args:
            values: Key -> the last value of it in the update.
            several: For keys with several points in the update, their number and their sum.
            step: The step of its value loss.
            is_final: Whether the update is complete, so that its rollout is done with.
        """
        row = self._of_values(values, several)
        self._add_steps(row, step, values, is_final)
        return row

    def _of_values(self, values: Mapping[str, float], several: Mapping[str, Sequence[float]]) -> Row:
        plan = self._tally.plan(tuple(values))
        row: Row = {
            column: value * factor
            for (column, factor), value in zip(plan.columns, values.values(), strict=True)
            if column is not None
        }
        for key in plan.special:
            self._add_special(row, key, values[key], several)
        for key in several:
            if key not in plan.special:
                self._add_special(row, key, values[key], several)
        return row

    def _add_special(self, row: Row, key: str, value: float, several: Mapping[str, Sequence[float]]) -> None:
        """Add a key that has several points, or whose column does not store every number."""
        _, column, factor, kind, is_whole, zero_is_null = self._targets[key]
        count, total = several.get(key, (1, value))
        if not column:
            return
        if kind == "episode":
            row["episodes"] = int(count)
        if kind in ("episode", "further"):
            value = total / count
            if kind == "further":
                row[f"{column}_points"] = float(count)
        elif count > 1:
            self._tally.note_passed_over(key, int(count) - 1)
        value *= factor
        if zero_is_null and value == 0.0:
            self._tally.note_absent(key)
        elif not is_whole:
            row[column] = value
        elif math.isfinite(value) and value == int(value) and abs(value) < 2**63:
            row[column] = int(value)
        else:
            self._tally.note_absent(key, f"{column} must be a whole number, found {value}")

    def _add_steps(self, row: Row, step: int | None, values: Mapping[str, float], is_final: bool) -> None:
        """Add what the step says, and what the rollout of the update measured where that is logged elsewhere."""
        dialect = self._dialect
        known = step if step is not None and step >= 0 else None
        if known is not None and self._step_column is not None:
            self._set_step(row, self._step_column, known)
        if self._rollouts is not None:
            rollouts = self._rollouts if is_final else self._rollouts.copy()
            measured, env_steps = rollouts.of_update(step, values.get(dialect.epochs_key))
            row |= self._of_values(measured, {})
            if env_steps is not None:
                self._set_step(row, "env_steps", env_steps)
            elif known is not None:
                self._set_step(row, dialect.number, float(known))
        elif known is not None and dialect.steps == "env_steps":
            self._set_step(row, "env_steps", known)
        elif known is not None:
            self._set_step(row, dialect.number, float(known))

    def _set_step(self, row: Row, column: str, number: float) -> None:
        if column not in row:
            row[column] = number
            self._tally.note_step(column)
