"""What follows from the rules alone: the columns to read, and the queries that make the number of each rule of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import is_not
from typing import TypeVar

import polars as pl

from esper_analyzer.judging.course import READS, TYPES
from esper_analyzer.judging.hysteresis import Bounds
from esper_analyzer.judging.rules.rule import Rule
from esper_analyzer.judging.signals import CONTEXT_ROWS
from esper_analyzer.judging.watched import PARTS
from esper_analyzer.reading.segment_index import SCHEMA
from esper_schemas.metric.catalogue import STAND_INS

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

READ_TYPES = pl.Schema({**SCHEMA, **dict.fromkeys(STAND_INS.values(), pl.Float64())})
"""Types of the columns that may be read: every row has those of the table, and only some runs have the extras."""

ALWAYS = ("update", "skipped", "skip_reason")
"""Columns of which skipped updates keep their values; they are always read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from the rules alone: a list of many runs judges all of them by the same ones.

    Attributes:
        rules: what is watched.
        columns: the columns to read.
        no_rows: a frame without rows, of these columns and those of the course.
        gap: the same with as many null rows as the windows of the rules reach back.
        frames: the number of each rule.
        bounds: the bands of all rules.
    """

    rules: Sequence[Rule]
    columns: list[str]
    no_rows: pl.DataFrame
    gap: pl.DataFrame
    frames: list[pl.Expr]
    bounds: Bounds

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Plan:
        """Return the plan of some rules; that of the same rules as the last time is kept."""
        global _newest_plan
        plan = _newest_plan
        if plan is None or len(plan.rules) != len(rules) or any(map(is_not, plan.rules, rules)):
            columns = sorted({*ALWAYS, *READS, *_read_by(rules)})
            no_rows = pl.DataFrame(schema={**{name: READ_TYPES[name] for name in columns}, **TYPES})
            nulls = pl.DataFrame({"update": [None] * CONTEXT_ROWS}, {"update": READ_TYPES["update"]})
            gap = pl.concat([no_rows, nulls], how="diagonal")  # a tenth of what `clear` takes
            frames = [rule.value.frame.cast(pl.Float64).alias(rule.name) for rule in rules]
            plan = _newest_plan = cls(rules, columns, no_rows, gap, frames, Bounds([rule.bands for rule in rules]))
        return plan

    def numbers(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the number of each rule [rows] in rows that have the columns of the course."""
        for parts in PARTS:
            rows = rows.with_columns_seq(**{name: signal.frame for name, signal in parts.items()})
        return rows.select(self.frames)


def chosen(rows: Frame, columns: Sequence[str]) -> Frame:
    """Return `columns` of the rows of a run, with null in the extras that it does not have."""
    there = rows.collect_schema()
    return rows.select(
        pl.col(name) if name in there or name in SCHEMA else pl.lit(None, READ_TYPES[name]).alias(name)
        for name in columns
    )


_newest_plan: Plan | None = None


def _read_by(rules: Iterable[Rule]) -> set[str]:
    """The recorded columns that the numbers of some rules are made from."""
    parts = {name: signal.frame for part in PARTS for name, signal in part.items()}
    read = {name for rule in rules for name in rule.value.frame.meta.root_names()}
    read |= {name for frame in parts.values() for name in frame.meta.root_names()}
    return read - {*TYPES, *parts}
