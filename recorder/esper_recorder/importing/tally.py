"""Counts what the rows of a log have: of each key how many of them have a value, of each column how many the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from esper_recorder.importing.account import Account, Mapped
from esper_recorder.importing.targets import Targets
from esper_schemas.metric.payload import METRICS

_MAX_PLANS = 1024


@dataclass(slots=True)
class Plan:
    """What is done with updates that have the same keys in the same order.

    Attributes:
        columns: For each key its column and factor; no column for a special key.
        special: Keys that need a closer look.
        rows: How many updates there were.
    """

    columns: list[tuple[str | None, float]]
    special: list[str]
    rows: int = 0


def _plan(targets: Targets, names: Sequence[str]) -> Plan:
    targets.settle(names)
    special = [
        key for key in names if targets[key].is_whole or targets[key].zero_is_null or targets[key].kind == "episode"
    ]
    columns = [(None if key in special else targets[key].column or None, targets[key].factor) for key in names]
    return Plan(columns, special)


class Tally:
    """Notes what one row has while it is made, and counts it if `count` is called: for a final row, and no other.

    Args:
        targets: What each key becomes.
        account: Takes down which keys are left out.
    """

    def __init__(self, targets: Targets, account: Account) -> None:
        self._targets = targets
        self._account = account
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._stepped: Counter[str] = Counter()  # rows in which a column has the step
        self._unusual: Counter[str] = Counter()  # points of keys of which only the last one counts
        self.begin()

    def begin(self) -> None:
        """Begin with a row, and forget what was noted of the one before."""
        if len(self._plans) >= _MAX_PLANS:
            self._add_up()
        self._used: list[Plan] = []
        self._absent: list[str] = []
        self._left_out: list[tuple[str, str]] = []
        self._with_step: list[str] = []
        self._passed_over: list[tuple[str, int]] = []

    def plan(self, names: tuple[str, ...]) -> Plan:
        """Return what is done with these keys, all of which have a value unless it is noted as absent."""
        plan = self._plans.get(names)
        if plan is None:
            plan = self._plans[names] = _plan(self._targets, names)
        self._used.append(plan)
        return plan

    def note_absent(self, key: str, why: str = "") -> None:
        """Note that a key has no value after all; with a reason, it is left out in part."""
        self._absent.append(key)
        if why:
            self._left_out.append((key, f"in part: {why}"))

    def note_step(self, column: str) -> None:
        """Note that a column has the step."""
        self._with_step.append(column)

    def note_passed_over(self, key: str, points: int) -> None:
        """Note that so many points of a key came before the one that counts."""
        self._passed_over.append((key, points))

    def count(self, *, is_row: bool) -> None:
        """Count what was noted; of an update that became no row, only what of it can never be imported."""
        for key, why in self._left_out:
            self._account.left_out.setdefault(key, why)
        for key, points in self._passed_over:
            self._unusual[key] += points
        if is_row:
            for plan in self._used:
                plan.rows += 1
            self._targets.updates_with.subtract(self._absent)
            self._stepped.update(self._with_step)

    def _add_up(self) -> None:
        for names, plan in self._plans.items():
            self._targets.updates_with.update(dict.fromkeys(names, plan.rows))
        self._plans.clear()

    # ------------------------------------------------------------------ after the last row

    def mapped(self) -> list[Mapped]:
        """Return what became of each key, for the account."""
        self._add_up()
        return self._targets.mapped()

    def mapped_steps(self) -> list[Mapped]:
        """Return what became of the step, for the account."""
        return [
            Mapped("step", column, "" if column in METRICS else "extra", rows) for column, rows in self._stepped.items()
        ]

    def note(self) -> None:
        """Say in the account of which keys some points were passed over."""
        if self._unusual:
            keys = ", ".join(f"{key} {count:,}" for key, count in self._unusual.most_common(10))
            self._account.notes.append(
                f"of several points of a key in one update the last one counts; not imported: {keys}"
            )
