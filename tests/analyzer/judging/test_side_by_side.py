"""Runs that are judged side by side, against the same runs judged each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tests.analyzer.judging.plain import messy_run, real_run

from esper_analyzer.judging.course import COLUMNS, Course, extend_all
from esper_analyzer.judging.judge import STEP_ROWS, Judge, judge_each
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.verdict import RunFacts, conclude

SIZES = (STEP_ROWS + 1, 1, 9, 700, 5000, 31, 100, STEP_ROWS)


def with_every_column(run: pl.DataFrame) -> pl.DataFrame:
    """A run with the columns of every run."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in READ_TYPES.items() if name not in run.columns]
    return run.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in READ_TYPES.items())


def runs_of(sizes: Sequence[int], seed: int) -> list[pl.DataFrame]:
    """Runs of these lengths: as trainers record them, and such in which a good deal goes wrong."""
    make = (real_run, messy_run)
    return [with_every_column(make[at % 2](rows + 4, seed + at).head(rows)) for at, rows in enumerate(sizes)]


def state_of(judge: Judge, begun: Sequence[Any]) -> dict[str, Any]:
    """What anybody can ask of a judge, as text, such that NaN equals NaN and −0.0 is not 0.0."""
    episodes = [*begun, *judge.in_force.values()]
    return {
        "episodes": [repr((one.rule.name, one.severity, one.since, one.update, one.until)) for one in episodes],
        "worst": [repr((float(one.value), float(one.worst), one.worst_update, one.detail)) for one in episodes],
        "values": {name: repr(value) for name, value in judge.values().items()},
        "course": {name: repr(judge.measured_now(name)) for name in COLUMNS},
        "measured": judge.measured,
        "judged": [rule.name for rule in judge.judged],
        "signals": {name: repr(value) for name, value in judge.signals().items()},
        "verdict": repr(conclude(judge, RunFacts())),
    }


def state_alone(rows: pl.DataFrame) -> dict[str, Any]:
    """The state of a judge that sees the rows as one frame."""
    judge = Judge()
    return state_of(
        judge, judge_each([(judge, rows)], side_by_side=True)[0] if len(rows) > STEP_ROWS else judge.advance(rows)
    )


@pytest.mark.parametrize("seed", range(3))
def test_each_run_is_judged_as_if_it_were_alone(seed: int) -> None:
    """Whatever its neighbours are: longer or shorter, sound or not, with other columns measured."""
    runs = runs_of(SIZES, seed)
    portions = [(Judge(), rows) for rows in runs]
    begun = judge_each(portions, side_by_side=True)
    for at, ((judge, rows), episodes) in enumerate(zip(portions, begun, strict=True)):
        assert state_of(judge, episodes) == state_alone(rows), f"run {at} of {rows.height} rows"


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 400), min_size=2, max_size=5), seed=st.integers(0, 1000), cut=st.integers(1, 300))
def test_judges_that_have_seen_rows_go_on_side_by_side(sizes: list[int], seed: int, cut: int) -> None:
    """The windows of each reach back into its own rows, in frames or one by one, and no further."""
    runs = runs_of([size + cut for size in sizes], seed)
    judges, others = [Judge() for _ in runs], [Judge() for _ in runs]
    for judge, other, rows in zip(judges, others, runs, strict=True):
        judge.advance(rows.head(cut))
        other.advance(rows.head(cut))
    begun = judge_each([(one, rows.slice(cut)) for one, rows in zip(judges, runs, strict=True)], side_by_side=True)
    for judge, other, rows, episodes in zip(judges, others, runs, begun, strict=True):
        assert state_of(judge, episodes) == state_of(other, other.advance(rows.slice(cut)))


def test_rules_that_take_no_null_row_for_none_are_judged_each_alone() -> None:
    """A caller whose rules are not those of the tables says so, and gets what each judge says by itself."""
    runs = runs_of((300, 400), 0)
    portions = [(Judge(), rows) for rows in runs]
    begun = judge_each(portions, side_by_side=False)
    for (judge, rows), episodes in zip(portions, begun, strict=True):
        assert state_of(judge, episodes) == state_alone(rows)


def test_the_course_of_several_runs_is_that_of_each() -> None:
    """The columns of each run are made of its own rows."""
    runs = runs_of((40, 1, 300), 7)
    together = extend_all([Course() for _ in runs], pl.concat(runs), [rows.height for rows in runs])
    first = 0
    for rows in runs:
        assert_frame_equal(together.slice(first, rows.height), Course().extend(rows), check_exact=True)
        first += rows.height


def test_no_rows_are_no_trouble() -> None:
    """A run without rows begins nothing, beside others or alone."""
    runs = [*runs_of((300, 300), 1), with_every_column(real_run(5)).clear()]
    begun = judge_each([(Judge(), rows) for rows in runs], side_by_side=True)
    assert not begun[-1]
    assert not judge_each([], side_by_side=True)
