"""The course of a run: each of its columns as plain Python has it, in whatever portions the rows come."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.analyzer.judging.plain import (
    INF,
    NAN,
    Columns,
    Value,
    as_judged,
    columns_of,
    course_of,
    messy_run,
    real_run,
    same,
)

from esper_analyzer.judging import signals, stand_ins, steps
from esper_analyzer.judging.course import COLUMNS, READS, TYPES, Course
from esper_analyzer.judging.goal import GoalCourse
from esper_analyzer.judging.reference import ReferenceCourse
from esper_schemas.metric.catalogue import STAND_INS

ROWS = 230


def frame_of(**columns: Sequence[Value]) -> pl.DataFrame:
    """Rows with `READS`; what is not given is null."""
    rows = len(next(iter(columns.values())))
    return pl.DataFrame(
        {name: pl.Series(columns.get(name, [None] * rows), dtype=pl.Float64, strict=False) for name in READS}
    )


def rows_of_course(rows: pl.DataFrame, made: Course | None = None) -> Columns:
    """The columns of the course, row by row."""
    made = Course() if made is None else made
    found: Columns = {name: [] for name in COLUMNS}
    for row in rows.select(READS).iter_rows(named=True):
        made.step(row)
        for name in COLUMNS:
            found[name].append(None if row[name] is None else float(row[name]))
    return found


def portions_of_course(rows: pl.DataFrame, cuts: Sequence[int]) -> Columns:
    """The columns of the course, of rows that come in portions."""
    made, found = Course(), []
    for start, end in zip([0, *cuts], [*cuts, rows.height], strict=True):
        if end > start:
            found.append(made.extend(rows[start:end]).select(COLUMNS))
    return columns_of(pl.concat(found)) if found else {name: [] for name in COLUMNS}


def agree(found: Columns, expected: Columns) -> None:
    """The same in each column and row."""
    assert list(found) == list(expected)
    for name in found:
        try:
            same(found[name], expected[name], 1.1e-9 if name in ("below_floor", "error_beyond_returns") else 1e-14)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


RUNS = {
    "messy": as_judged(messy_run(ROWS)),
    "messier": as_judged(messy_run(ROWS, seed=1)),
    "real": real_run(ROWS),
    "short": real_run(90, seed=2),
    "losses_only": real_run(ROWS).with_columns(pl.lit(None, pl.Float64).alias(x) for x in READS if "loss" not in x),
    "no_spread": real_run(ROWS).with_columns(return_std=pl.lit(None, pl.Float64)),
    "no_episodes": real_run(ROWS).with_columns(episode_return_mean=pl.lit(None, pl.Float64)),
    "late_episodes": real_run(ROWS).with_columns(
        episode_return_mean=pl.when(pl.int_range(pl.len()) > 70).then(pl.col("episode_return_mean"))
    ),
    "worse": real_run(
        ROWS,
        episode_return_mean=[100.0 + i % 5 - min(i, 150) / 2.0 for i in range(ROWS)],
        episode_length_mean=[200.0] * ROWS,
    ),
    "sliding": real_run(ROWS).rename(STAND_INS | {sliding: name for name, sliding in STAND_INS.items()}),
    "sliding_over_long_episodes": real_run(
        ROWS,
        episode_return_mean=[None] * ROWS,
        episode_return_sliding_mean=[None, NAN, *(50.0 - 0.1 * i for i in range(ROWS - 2))],
        episode_length_sliding_mean=[NAN, *([900.0, 0.5, None, 700.0] * ROWS)[: ROWS - 1]],
        env_steps=[1024 * (i % 130) if i % 50 else None for i in range(ROWS)],  # it begins anew
    ),
    "sliding_at_first": real_run(
        ROWS,
        episode_return_sliding_mean=[None, NAN, *(50.0 + i for i in range(ROWS - 2))],
        episode_return_mean=[None] * 30 + [300.0 + i % 3 - i for i in range(ROWS - 30)],
        episode_length_sliding_mean=[9.0] * ROWS,
    ),
    "falls_in_long_episodes": real_run(
        ROWS, episode_return_mean=[min(i, 100) + i % 5 - 90.0 * (i > 120) if i % 2 else None for i in range(ROWS)]
    ),
    "falls_in_large_rollouts": real_run(
        ROWS,
        episode_return_mean=[min(i, 100) + i % 5 - 90.0 * (120 < i < 150 or i > 170) for i in range(ROWS)],
        env_steps=[None, NAN, *(2048 * i - 7 * (i % 3) for i in range(ROWS - 2))],
    ),
    "falls_where_rollouts_grow": real_run(
        ROWS,
        episode_return_mean=[min(i, 80) + i % 5 - 75.0 * (i > 90) if i % 3 else None for i in range(ROWS)],
        env_steps=[600 * i + 9 * i * i if i % 4 else None for i in range(ROWS)],
    ),
    "diverges": real_run(
        60,
        value_loss=[1.0 if i < 30 else 3.0 ** (i - 30) for i in range(60)],
        episode_return_mean=[None, NAN, *(10.0 + i % 3 for i in range(58))],
        value_target_scale=[2.0, None, NAN] * 20,
    ),
    "idle": real_run(
        60, kl_divergence=[0.0] * 60, clip_fraction=[0.0] * 60, policy_loss=[1e-8] * 30 + [-1e-6] * 20 + [2e-6] * 10
    ),
    "frozen": real_run(90, kl_divergence=[1e-5, None, NAN] * 30, entropy=[0.69] * 80 + [0.6] * 10),
    "mostly_lowest": real_run(90, episode_return_mean=[1.0 * (i % 9 == 4 or i in (60, 61, 63, 64)) for i in range(90)]),
    "nothing": frame_of(value_loss=[None] * 60),
}


@cache
def expected_of(name: str) -> Columns:
    """The columns of the course of one of these runs, in plain Python."""
    return course_of(columns_of(RUNS[name].select(READS)))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_column_is_what_plain_python_says(name: str) -> None:
    """In each row: as one frame, row by row, and in portions of 1, 40, 1, 100 and so on."""
    run, expected = RUNS[name].select(READS), expected_of(name)
    agree(portions_of_course(run, []), expected)
    agree(rows_of_course(run), expected)
    cuts = [1, 41, 42, 142, 143] if run.height > 143 else [1, 41, 42]
    agree(portions_of_course(run, cuts), expected)


def test_every_column_says_something_in_these_runs() -> None:
    """No column is null throughout, and each of the outcome's is neither always 0 nor always the same.

    Those on the way to a goal, and beside references, have their own tests.
    """
    for name in set(COLUMNS) - {*GoalCourse.NAMES, *ReferenceCourse.NAMES}:
        values = {value for run in RUNS for value in expected_of(run)[name] if value is not None}
        assert len(values) > 1, name


numbers = (
    st.floats(-3.0, 3.0)
    | st.integers(-4, 4).map(float)
    | st.sampled_from([None, NAN, INF, -INF, 0.0, 1e-300, -1e-12, 1e12, -1e200, 1.7e308, -1.7e308, 5e-324])
)
stretches = st.builds(
    lambda values, times: (values * times)[:60], st.lists(numbers, min_size=1, max_size=4), st.integers(1, 30)
)
ramps = st.builds(
    lambda start, step, rows: [start + step * i for i in range(rows)],
    st.sampled_from([0.0, 1.0, -100.0, 1e6]),
    st.sampled_from([1.0, -0.5, 1e-3, 1e5]),
    st.integers(5, 45),
)
courses = st.lists(stretches | ramps | st.lists(numbers, max_size=20), min_size=1, max_size=5).map(
    lambda parts: [value for part in parts for value in part][:130]
)


CANCELLING: list[Value] = [*map(float, range(19)), 1.7e308, -1.7e308, *[0.0] * 109]
"""Numbers whose sum depends on the order in which they are added up."""


@pytest.mark.slow
@settings(max_examples=20)
@given(
    columns=st.fixed_dictionaries(dict.fromkeys(READS, courses)),
    cuts=st.lists(st.integers(0, 130), max_size=5),
)
@example(columns={name: [] for name in READS} | {"episode_return_mean": CANCELLING}, cuts=[])
def test_any_numbers_in_any_portions(columns: dict[str, list[Value]], cuts: list[int]) -> None:
    """`extend` in portions, `step` row by row, both one after the other, and plain Python give the same numbers."""
    rows = max(map(len, columns.values()))
    run = frame_of(**{name: (values + [None] * rows)[:rows] for name, values in columns.items()})
    expected = course_of(columns_of(run))
    cuts = sorted(min(cut, rows) for cut in cuts)
    agree(rows_of_course(run), expected)
    agree(portions_of_course(run, cuts), expected)
    half = cuts[0] if cuts else rows // 2
    made = Course()
    first = made.extend(run[:half]).select(COLUMNS) if half else pl.DataFrame(schema=TYPES)
    rest = rows_of_course(run[half:], made)
    agree({name: columns_of(first)[name] + rest[name] for name in COLUMNS}, expected)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.5, 1e-310, 1e308, -1e308, NAN, INF, -INF, None])
def test_a_number_that_never_changes(value: Value) -> None:
    """A constant, or nothing, in every column: it is unmoved, it has not stalled, and nothing raises."""
    run = frame_of(**{name: [value] * 80 for name in READS})
    expected = course_of(columns_of(run))
    agree(portions_of_course(run, [33]), expected)
    agree(rows_of_course(run), expected)
    is_number = value is not None and math.isfinite(value)
    assert expected["return_unmoved"][-1] == (80.0 if is_number else None)
    assert expected["return_stalled"][-1] == (0.0 if is_number else None)


def test_infinite_ratios_are_no_baseline() -> None:
    """Policy losses of exactly 0 in updates 10 to 29 leave Lv/Lp without a baseline, in both forms."""
    for policy, expected in (0.0, None), (0.5, 2.0):
        run = frame_of(value_loss=[1.0] * 40, policy_loss=[policy] * 40)
        for found in (portions_of_course(run, []), rows_of_course(run)):
            assert found["loss_ratio_baseline"] == [None] * 30 + [expected] * 10


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_baseline_has_the_bits_of_its_expression(seed: int) -> None:
    """Made of 30 rows one by one, Lv/Lp at the start is what its expression gives, to the bit, whatever is among them.

    Any numbers, zeros and holes in the losses; None where the expression has null.
    """
    random = np.random.default_rng(seed)
    odd: list[Value] = [None, NAN, INF, -INF, 0.0, -0.0, 1e-310, 1e308]
    rows: list[tuple[Value, Value]] = [
        (
            odd[random.integers(len(odd))] if random.random() < 0.2 else float(random.lognormal()),
            odd[random.integers(len(odd))] if random.random() < 0.2 else float(random.normal()),
        )
        for _ in range(30)
    ]
    frame = pl.DataFrame(rows, schema={"value_loss": pl.Float64, "policy_loss": pl.Float64}, orient="row")
    assert steps.loss_ratio_baseline(rows) == frame.select(signals.loss_ratio_baseline()).item()


def test_what_is_kept_does_not_grow_with_the_run() -> None:
    """After 50,000 rows the state is as large as after 500, and it goes on from there as the whole run does."""
    rng = np.random.default_rng(0)
    run = frame_of(**{name: rng.normal(size=50_000).tolist() for name in READS})
    sizes, made = [], Course()
    for start, end in ((0, 500), (500, 50_000)):
        whole = made.extend(run[start:end])
        sizes.append(len(pickle.dumps(made)))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    bits = Course()
    bits.extend(run[:49_990])
    agree(rows_of_course(run[49_990:], bits), columns_of(whole.select(COLUMNS).tail(10)))


def test_a_sliding_mean_is_read_with_each_fourth_episode() -> None:
    """An episode has a step or more, and steps that begin anew are no episodes that have not been; so in both forms."""
    counts, lengths = [4.0, 5.0, 6.0, 7.0, 8.0, 2.0, 4.0, 9.0], [0.5] * 7 + [NAN]
    rows: list[dict[str, float | None]] = [
        dict.fromkeys(stand_ins.READS)
        | {"env_steps": count, "episode_return_sliding_mean": 1.0, "episode_length_sliding_mean": length}
        for count, length in zip(counts, lengths, strict=True)
    ]
    expected = [True, False, False, False, True, False, False, True]  # the last one, since nobody knows
    columns = {name: np.array([NAN if row[name] is None else row[name] for row in rows], float) for name in rows[0]}
    slides, is_read, _ = stand_ins.StandIns().extend(columns)
    assert slides.all()
    assert is_read.tolist() == expected
    one = stand_ins.StandIns()
    assert [one.step(row) for row in rows] == [1.0] * 8
    assert [row["episode_return_mean"] is not None for row in rows] == expected
