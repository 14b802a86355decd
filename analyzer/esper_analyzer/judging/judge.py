"""The judge: applies the rules to the updates of a run, and keeps which alerts are in force and when each began.

Report, tail, check, notebook and live monitor all use it, with a million rows at a time or with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from esper_analyzer.judging import signals
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.baselines import COLUMNS, READS, Baselines
from esper_analyzer.judging.hysteresis import NOT_FINITE, Bounds, Change, Hysteresis
from esper_analyzer.judging.rules import INFORMING, PARTS, RULES, SIGNALS, Rule
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas.metric.metrics import SKIP_REASONS
from esper_schemas.metric.payload import REQUIRED

BATCH_ROWS = 65_536


class Judge:
    """The state of every rule after the rows so far, which must arrive in the order of their updates.

    Its size does not depend on the length of the run, and neither does the cost of one more row.

    Attributes:
        rules: what is watched.
        rows: number of rows so far.
        last_update: update of the newest row; −1 if there is none.
        has_losses: whether any loss has been measured.
        in_force: episodes that still last, by position of the rule and severity.
    """

    def __init__(self, rules: Iterable[Rule] = RULES.values()) -> None:
        self.rules: Sequence[Rule] = tuple(rules)
        self.rows = 0
        self.last_update = -1
        self.has_losses = False
        self.in_force: dict[tuple[int, int], Episode] = {}
        self._bounds = Bounds([rule.bands for rule in self.rules])
        parts = {name: value for step in PARTS for name, value in step.items()}
        values = {rule.name: rule.value for rule in self.rules}
        read = {name for value in (*values.values(), *parts.values()) for name in value.meta.root_names()}
        read -= {*COLUMNS, *parts}
        self.columns = sorted({"update", "skipped", "skip_reason", *READS, *read})
        self._hysteresis = Hysteresis(self.rules)
        self._from_row = np.array([rule.from_row for rule in self.rules])
        self._updates = np.zeros(self._hysteresis.memory, np.int64)  # of the rows before the next one
        self._baselines = Baselines()
        types = {name: SCHEMA[name] for name in self.columns} | dict.fromkeys(COLUMNS, pl.Float64())
        self._context = pl.DataFrame(schema=types)
        found = self._with_parts(self._context).select(**values).schema
        self._values = {
            name: value if found[name] == pl.Float64 else value.cast(pl.Float64) for name, value in values.items()
        }
        self._columns = {name: value.meta.root_names()[0] for name, value in values.items() if value.meta.is_column()}
        made = [value.alias(name) for name, value in self._values.items() if name not in self._columns]
        self._steps = [[value.alias(name) for name, value in step.items()] for step in PARTS]
        self._parts = sorted(set(self._columns.values()) & parts.keys())
        self._made = [pl.col("update").alias("_update"), *made, *map(pl.col, self._parts)]  # never empty
        self._newest: dict[str, float | None] = dict.fromkeys(values)

    def advance(self, rows: pl.DataFrame) -> list[Episode]:
        """Judge further rows, and return the episodes that begin in them, in order of updates.

        If a rule becomes critical at once, only its critical episode is returned.

        Args:
            rows: rows with `columns`, in the order of their updates, later than all previous rows.
        """
        if not rows.height:
            return []
        if rows.columns != self.columns:
            rows = rows.select(self.columns)
        self.has_losses = self.has_losses or any(rows[name].null_count() < rows.height for name in REQUIRED)
        rows = self._complete(rows)
        frame = self._context.clone().extend(rows)
        numbers: pl.DataFrame | dict[str, list[float | None]]
        if rows.height == 1:
            self._newest = self._numbers_now(frame)
            levels = self._bounds.severities_now(list(self._newest.values()))
            numbers = {name: [value] for name, value in self._newest.items()}
        else:
            numbers = self._with_parts(frame).select(**self._values).tail(rows.height)
            levels = self._bounds.severities(numbers)
            self._newest = numbers.row(-1, named=True)
        is_early = np.arange(self.rows, self.rows + rows.height)[:, None] < self._from_row
        levels[is_early & (levels < NOT_FINITE)] = 0
        begun = self._episodes(self._hysteresis.advance(levels), rows, numbers)
        self._context = frame.tail(signals.CONTEXT_ROWS)
        self.rows += rows.height
        self.last_update = int(rows["update"][-1])
        return begun

    def advance_all(self, updates: pl.LazyFrame) -> Iterator[Episode]:
        """As `advance`, for a whole run in bounded memory, a batch of rows at a time."""
        for batch in updates.select(self.columns).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            yield from self.advance(batch)

    def values(self) -> dict[str, float | None]:
        """Return the newest value of each rule's number, by the rule's name."""
        return {name: None if value is None else value + 0.0 for name, value in self._newest.items()}  # −0.0 is 0.0

    def measured(self, column: str) -> float | None:
        """Return the value of one of `columns` in the newest row."""
        return _as_float(self._context[column][-1]) if self.rows else None

    def signals(self) -> dict[str, float | None]:
        """Return every signal after the newest row, by name: those that rules watch, and those that only inform."""
        values = self.values()
        watched = {name: values.get(name) for name in SIGNALS}
        if not self.rows:
            return watched | dict.fromkeys(INFORMING)
        return watched | self._context.select(**INFORMING).row(-1, named=True)

    def _numbers_now(self, frame: pl.DataFrame) -> dict[str, float | None]:
        """Return the number of each rule for the last row alone.

        Nearly all of the cost is planning the expressions. So values that are already in the row bypass the engine, the
        engine is called once, and it does not optimise the plan. It uses no other threads, because waking them costs
        more than the work.
        """
        plan = frame.lazy()
        for parts in self._steps:
            plan = plan.with_columns_seq(parts)
        plan = plan.select_seq(self._made)
        made = plan.collect(engine="in-memory", optimizations=pl.QueryOptFlags.none()).row(-1, named=True)
        row = frame.row(-1, named=True) | {name: made[name] for name in self._parts}
        return {
            name: _as_float(row[self._columns[name]]) if name in self._columns else made[name] for name in self._values
        }

    @staticmethod
    def _with_parts(frame: pl.DataFrame) -> pl.DataFrame:
        for parts in PARTS:
            frame = frame.with_columns(**parts)
        return frame

    def _complete(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Remove the measurements of skipped updates from rows, and add the baselines."""
        if rows["skipped"].any():
            kept = ("update", "skipped", "skip_reason")
            measured = pl.when(~pl.col("skipped").fill_null(False)).then(pl.exclude(kept))
            rows = rows.select(pl.col(kept), measured).select(self.columns)
        return self._baselines.extend(rows)

    def _episodes(
        self, changes: Sequence[Change], rows: pl.DataFrame, numbers: pl.DataFrame | dict[str, list[float | None]]
    ) -> list[Episode]:
        """Update `in_force`; return the episodes that begin in these newest rows, which have these `numbers`."""
        updates = np.concatenate([self._updates, rows["update"].to_numpy()])
        memory = len(self._updates)
        self._updates = updates[-memory:]
        begun: list[Episode] = []
        for change in changes:
            key, update = (change.rule, change.severity), int(updates[memory + change.row])
            if not change.begins:
                self.in_force.pop(key).until = update
                continue
            rule = self.rules[change.rule]
            value, detail = float(numbers[rule.name][change.row]), _detail(rule, rows, change.row)  # type: ignore[arg-type]
            since = int(updates[memory + change.since])
            self.in_force[key] = Episode(rule, change.severity, since, update, value, detail)
            if change.severity == 2 and begun and begun[-1].rule is rule and begun[-1].update == update:
                begun.pop()  # a warning that is critical at once
            begun.append(self.in_force[key])
        return begun


def _as_float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _detail(rule: Rule, rows: pl.DataFrame, row: int) -> str:
    """Describe why an update was skipped, if the reason was recorded."""
    code = rows["skip_reason"][row] if rule.metric == "skipped" else None
    return "" if code is None else f" ({SKIP_REASONS.get(code, f'reason {code}')})"
