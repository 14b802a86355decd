"""The e-detector: what it computes, in whatever portions; and what it promises, exactly and by simulation."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from esper_analyzer.judging.e_detector import FRACTIONS, EDetector
from esper_schemas.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[3] / "notebooks"))

from benchmark import guarantee
from benchmark.guarantee import HIGH, LOW, PROCESSES, Process, make_detector, mean_and_error, run_lengths

FLOOR = 0.1
NULLS = [process for process in PROCESSES if process.is_null]
MEMORIES = [process for process in PROCESSES if not process.is_null]

numbers = st.floats(-1.2, 1.2) | st.sampled_from([LOW, HIGH, FLOOR, math.inf, -math.inf])
stretches = st.builds(lambda value, length: [value] * length, numbers, st.integers(1, 300))
values_in_portions = st.lists(st.lists(numbers | st.just(math.nan), max_size=40) | stretches, max_size=8)
"""Portions of a sequence: mixed ones with missing values, and long ones that all push to one side."""


def steps(detector: EDetector, values: Sequence[float | None]) -> list[float]:
    """What `step` returns for each value."""
    return [detector.step(value) for value in values]


def broken(floor: float) -> EDetector:
    """A detector that is wrong: its bets reach twice the largest one allowed, so that its factors can be negative."""
    detector = make_detector(floor, fractions=[0.25, 0.5, 0.75, 1])
    detector._bets = [2 * bet for bet in detector._bets]
    return detector


# ------------------------------------------------------------------------------------------------ what it computes


def test_the_recursion() -> None:
    """With the largest bet on a floor of 0 in [−1, 1], the factors of −1, 0 and 0.5 are 2, 1 and 0.5."""
    detector = EDetector(floor=0, low=-1, high=1, fractions=[1])
    statistics = [10.0**level for level in steps(detector, [-1, -1, 0, 0.5])]
    assert statistics == pytest.approx([2, 2 * 3, 1 * 7, 0.5 * 8])
    assert detector.level == pytest.approx(math.log10(4))


def test_bets_are_mixed_by_their_mean() -> None:
    """The statistic of several bets is the mean of the statistics of each."""
    values = [-0.5, 0.4, -0.9, -1, -0.3, 0.2, -0.8]
    alone = [
        [10**level for level in steps(EDetector(floor=0.3, low=-1, high=1, fractions=[f]), values)] for f in (0.2, 0.8)
    ]
    both = steps(EDetector(floor=0.3, low=-1, high=1, fractions=[0.2, 0.8]), values)
    assert [10**level for level in both][2:] == pytest.approx(np.mean(alone, axis=0)[2:])


@given(values_in_portions, st.sampled_from([1.0, 6.0, 100.0]), st.sampled_from([FRACTIONS, (1.0,), (0.03, 1.0)]))
def test_one_at_a_time_and_in_portions_agree(
    portions: list[list[float]], cap: float, fractions: Sequence[float]
) -> None:
    """One `step` a value, one `extend`, and any turns of both give the same numbers and end in the same state."""
    detectors = [EDetector(floor=FLOOR, low=LOW, high=HIGH, fractions=fractions, cap=cap) for _ in range(4)]
    single, whole, cut, mixed = detectors
    values = [value for portion in portions for value in portion]
    expected = steps(single, values)
    np.testing.assert_allclose(whole.extend(values), expected, rtol=1e-9)
    in_portions = [level for portion in portions for level in cut.extend(portion)]
    np.testing.assert_allclose(in_portions, expected, rtol=1e-9)
    turns = [steps(mixed, portion) if i % 2 else mixed.extend(portion) for i, portion in enumerate(portions)]
    np.testing.assert_allclose([level for turn in turns for level in turn], expected, rtol=1e-9)
    for detector in detectors:
        assert detector.level == (pytest.approx(expected[-1], rel=1e-9) if expected else 0.0)
        assert detector._statistics == pytest.approx(single._statistics, rel=1e-9)


@pytest.mark.parametrize("floor", [0.1, 0.9])
def test_a_long_run_agrees_and_never_overflows(floor: float) -> None:
    """Tens of thousands of the worst values, then of the best, then noise, over several batches of `extend`.

    Just below the highest value the largest factor is 18: the product over a block would be no number.
    """
    noise = np.random.default_rng(1).uniform(2 * floor - 1.1, 1, 90_000)
    noise[::7] = np.nan
    values = np.concatenate([np.full(50_000, LOW), np.full(40_000, HIGH), noise])
    whole, single = (EDetector(floor=floor, low=LOW, high=HIGH, cap=100) for _ in range(2))
    np.testing.assert_allclose(whole.extend(values), steps(single, values.tolist()), rtol=1e-9)
    assert whole._statistics == pytest.approx(single._statistics, rel=1e-9)


@given(values_in_portions)
def test_a_level_is_a_number_between_0_and_the_cap(portions: list[list[float]]) -> None:
    """Whatever comes, also where the largest bet makes the statistic 0, whose logarithm would be infinite."""
    detector = EDetector(floor=FLOOR, low=LOW, high=HIGH, fractions=[1], cap=2)
    levels = [level for portion in portions for level in steps(detector, portion)]
    assert all(0 <= level <= 2 for level in levels)


def test_missing_values_change_nothing() -> None:
    """None and NaN repeat the number before, and what follows is as if they had not been there."""
    sparse, dense = make_detector(FLOOR), make_detector(FLOOR)
    assert steps(sparse, [None, math.nan]) == [0, 0]
    found = steps(sparse, [-0.9, None, -0.8, math.nan, math.nan, -1])
    first, second, third = steps(dense, [-0.9, -0.8, -1])
    assert found == [first, first, second, second, second, third]
    assert make_detector(FLOOR).extend([math.nan, -0.9, math.nan, -0.8]).tolist() == pytest.approx(
        [0, first, first, second]
    )
    assert sparse.extend([]).tolist() == []
    assert sparse.level == third


def test_values_beyond_the_bounds_count_as_the_bounds() -> None:
    """An explained variance of −43 is −1, and no value makes a factor negative."""
    clipped = steps(make_detector(FLOOR), [-1, -1, -1, 1, -1])
    assert steps(make_detector(FLOOR), [-43, -math.inf, -1.5, 7, -1]) == clipped
    assert make_detector(FLOOR).extend([-43, -math.inf, -1.5, math.inf, -1]).tolist() == pytest.approx(clipped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": 1.0}, "floor must be at least low and below high, all finite; found floor 1.0, low -1.0, high 1.0"),
        (
            {"floor": -1.1},
            "floor must be at least low and below high, all finite; found floor -1.1, low -1.0, high 1.0",
        ),
        (
            {"floor": math.nan},
            "floor must be at least low and below high, all finite; found floor nan, low -1.0, high 1.0",
        ),
        (
            {"high": math.inf},
            "floor must be at least low and below high, all finite; found floor 0.1, low -1.0, high inf",
        ),
        ({"cap": 0}, "cap must be above 0 and at most 100, found 0"),
        ({"cap": 101}, "cap must be above 0 and at most 100, found 101"),
        ({"fractions": []}, "fractions must be one or more numbers above 0 and at most 1, found []"),
        ({"fractions": [0.5, 1.1]}, "fractions must be one or more numbers above 0 and at most 1, found [0.5, 1.1]"),
    ],
)
def test_what_would_break_the_guarantee_is_refused(options: dict[str, float], message: str) -> None:
    """Bets that are too large, bounds that are none, and a cap that numbers do not reach."""
    with pytest.raises(UsageError) as raised:
        EDetector(**{"floor": FLOOR, "low": LOW, "high": HIGH} | options)  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_a_portion_is_one_row_of_numbers() -> None:
    """A matrix is no sequence of values."""
    with pytest.raises(UsageError, match=r"one row of numbers, found an array of shape \(2, 3\)"):
        make_detector(FLOOR).extend(np.zeros((2, 3)))


# ------------------------------------------------------------------------------------------------ the cap


@given(values_in_portions, st.sampled_from([0.5, 1.0, 3.0]))
def test_the_cap_does_not_move_the_first_alarm(portions: list[list[float]], cap: float) -> None:
    """At every threshold up to the cap, the first alarm comes at the same value as without a cap."""
    values = [value for portion in portions for value in portion]
    capped = EDetector(floor=FLOOR, low=LOW, high=HIGH, cap=cap).extend(values)
    free = EDetector(floor=FLOOR, low=LOW, high=HIGH, cap=100).extend(values)
    for threshold in (cap / 3, 0.99 * cap):
        assert np.flatnonzero(capped >= threshold)[:1].tolist() == np.flatnonzero(free >= threshold)[:1].tolist()


@pytest.mark.parametrize(("value", "most"), [(0.6, 50), (0.3, 120)])
def test_recovery_does_not_take_longer_after_a_longer_fall(value: float, most: int) -> None:
    """It takes as many good values after 100,000 bad ones as after 1,000."""
    needed = []
    for bad in (1_000, 100_000):
        detector = make_detector(FLOOR)
        assert detector.extend(np.full(bad, -0.5))[-1] == detector.cap == 6
        needed.append(int(np.argmax(detector.extend(np.full(1_000, value)) < 5)))
    assert 0 < needed[0] == needed[1] <= most


# ------------------------------------------------------------------------------------------------ the guarantee


def excess_at_the_alarm(
    detector: EDetector, threshold: float, depth: int, margin: float, rng: np.random.Generator
) -> float:
    """E[M_τ] − E[τ], exactly, where τ is the number of values up to the alarm, and at most `depth`.

    The values are a random tree: at each of its nodes the next value is one of two, whose mean is `margin` above the
    floor, and the two depend on the path to the node. No statistic may be negative, or M_τ could hide an alarm.
    """
    statistic = sum(detector._statistics) / len(detector._statistics)
    assert min(detector._statistics) >= 0
    if depth == 0 or statistic >= threshold:
        return statistic
    low, high = rng.uniform(LOW, FLOOR - 0.1), rng.choice([HIGH, rng.uniform(FLOOR + 0.1 + margin, HIGH)])
    chance_of_high = (FLOOR + margin - low) / (high - low)
    excess = -1.0
    for value, chance in (low, 1 - chance_of_high), (high, chance_of_high):
        branch = deepcopy(detector)
        branch.step(value)
        excess += chance * excess_at_the_alarm(branch, threshold, depth - 1, margin, rng)
    return excess


@pytest.mark.parametrize("threshold", [2.0, 5.0, 1e3])
def test_the_statistic_grows_by_one_a_value_on_average(threshold: float) -> None:
    """E[M_τ] = E[τ] at the floor, without any sampling error, and less above: what the guarantee follows from."""
    for seed in range(10):
        detector, rng = make_detector(FLOOR), np.random.default_rng(seed)
        assert excess_at_the_alarm(detector, threshold, 8, 0.0, rng) == pytest.approx(0, abs=1e-9)
        assert excess_at_the_alarm(detector, threshold, 8, 0.1, rng) < -0.1


def keeps_its_promise(process: Process, make: Callable[[float], EDetector], floor: float) -> bool:
    """Whether the average run length at the floor is at least the threshold, 3 standard errors allowed."""
    detectors = [make(floor) for _ in range(300)]
    (lengths,) = run_lengths(process, floor, detectors, [200.0], horizon=5_000)
    mean, error = mean_and_error(np.minimum(lengths, 5_000))
    return mean + 3 * error >= 200


@pytest.mark.parametrize("floor", [0.1, 0.3])
@pytest.mark.parametrize("process", NULLS, ids=lambda process: process.name)
def test_the_average_run_length_to_a_false_alarm(process: Process, floor: float) -> None:
    """As promised under every process within the null, independent or not, at the floor itself."""
    assert keeps_its_promise(process, make_detector, floor)


@pytest.mark.parametrize("process", [NULLS[1], NULLS[2]], ids=lambda process: process.name)
def test_bets_that_are_too_large_break_the_promise(process: Process) -> None:
    """The check above fails for factors 1 + 2λ·(floor − value)."""
    assert not keeps_its_promise(process, broken, FLOOR)


@pytest.mark.parametrize("process", MEMORIES, ids=lambda process: process.name)
def test_the_promise_is_about_the_mean_given_the_past(process: Process) -> None:
    """Noise with a memory whose overall mean is the floor is outside the null, and alarms come sooner."""
    assert not keeps_its_promise(process, make_detector, FLOOR)


@pytest.mark.parametrize("floor", [0.1, 0.3])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_the_processes_have_the_mean_that_they_say(process: Process, floor: float) -> None:
    """Within the bounds, with an overall mean of the floor; and given the value before, too, within the null."""
    portions = process.portions(np.random.default_rng(2), 500, floor)
    values = np.concatenate([next(portions) for _ in range(2)])
    assert LOW <= values.min() < values.max() <= HIGH
    assert values.mean() == pytest.approx(floor, abs=0.01)
    before, after = values[:-1], values[1:]
    is_lowest = before <= np.quantile(before, 0.1)
    lowest, others = after[is_lowest].mean(), after[~is_lowest].mean()
    if process.is_null:
        assert (lowest, others) == pytest.approx((floor, floor), abs=0.01)
    else:
        assert lowest < floor - 0.1


def test_the_tables_are_printed_and_reproducible() -> None:
    """The script prints all five tables, the same each time, as text and in Markdown."""
    arguments = ["--runs", "5", "--floor", "0.3"]
    first, second = (CliRunner().invoke(guarantee.main, arguments).output for _ in range(2))
    assert first == second
    assert "at a mean of 0.3, the floor (5 runs" in first
    shown = CliRunner().invoke(guarantee.main, [*arguments, "--markdown"]).output
    assert shown.count("\n| --- |") == 5
    assert all(f"\n| {process.name} | {'yes' if process.is_null else 'no'} | " in shown for process in PROCESSES)
