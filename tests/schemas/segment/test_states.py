from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper_schemas.errors import RunDamagedError
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, badness, badness_of
from esper_schemas.segment.active import ARROW_TYPES, column_types
from esper_schemas.segment.column_state import ColumnState, Combination, lacks_digest, states_of
from esper_schemas.segment.digest import MIN_VALUES, K, digest_of, empty_digest, from_text, median_of, to_text
from esper_schemas.segment.states import SegmentStates, differences

NOISE = np.random.default_rng(0).lognormal(size=3000)


def rows_of(first: int = 0, /, **columns: list[Any]) -> pa.RecordBatch:
    """Rows with these columns; `seq` and `update` count from `first` unless given."""
    count = len(next(iter(columns.values())))
    counted = list(range(first, first + count))
    columns = {"seq": counted, "update": counted} | columns
    types = column_types(columns.keys() - column_types().keys())
    return pa.RecordBatch.from_arrays(
        [pa.array(values, ARROW_TYPES[types[name]]) for name, values in columns.items()], names=list(columns)
    )


def state_of(values: list[Any], name: str = "mine") -> ColumnState:
    """The state of one column."""
    return states_of(rows_of(0, **{name: values}))[name]


def test_a_column_with_everything_in_it() -> None:
    """A column with everything in it."""
    state = state_of([None, math.nan, 2.0, -1.0, math.inf, None, 2.0, -math.inf])
    assert (state.measured, state.nan, state.positive_infinity, state.negative_infinity) == (6, 1, 1, 1)
    assert (state.finite, state.smallest, state.largest) == (3, (-1.0, 3), (2.0, 2))
    assert math.isnan(state.first[0])
    assert (state.first[1], state.last, state.mean, state.m2) == (1, (-math.inf, 7), 1.0, 6.0)
    assert (state.levels, state.worst, state.digest, state.total) == (None, None, None, None)


def test_nothing_measured_has_no_state_and_nothing_finite_no_extremes() -> None:
    """Nothing measured has no state and nothing finite no extremes."""
    assert "mine" not in states_of(rows_of(mine=[None, None]))
    state = state_of([math.nan])
    assert (state.smallest, state.largest, state.mean, state.m2, lacks_digest(state)) == (None, None, None, None, False)


def test_integers_booleans_and_times_keep_their_type() -> None:
    """Integers booleans and times keep their type."""
    states = states_of(
        rows_of(
            skipped=[True, False, True],
            env_steps=[2**53 + 1, 5, None],
            wall_time=[-(2**62), 1_000_000, 2**62],  # only one of them is in the calendar
        )
    )
    assert (states["skipped"].smallest, states["skipped"].total) == ((False, 1), 2)
    assert (states["env_steps"].largest, states["env_steps"].total) == ((2**53 + 1, 0), 2**53 + 6)
    time = states["wall_time"]
    assert (time.smallest, time.largest, time.first, time.mean) == ((1_000_000, 1), (1_000_000, 1), (-(2**62), 0), None)
    assert not lacks_digest(time)


def test_levels_and_the_worst_value_are_those_of_the_table() -> None:
    """Levels and the worst value are those of the table."""
    state = state_of([0.1, 2.0, math.nan, 0.2, math.nan], "value_loss")
    assert state.levels == (3, 0, 2)
    assert state.worst is not None
    assert (state.worst.seq, state.worst.update, state.worst.severity) == (2, 2, 2)  # the first NaN
    assert math.isnan(state.worst.value)


def test_the_ratio_of_the_losses_has_a_state() -> None:
    """The ratio of the losses has a state."""
    states = states_of(rows_of(value_loss=[1.0, 3.0, None], policy_loss=[-0.5, 1e-11, 1.0]))
    assert (states["loss_ratio"].measured, states["loss_ratio"].last) == (1, (2.0, 0))
    assert "loss_ratio" not in states_of(rows_of(value_loss=[1.0]))


def test_large_numbers_do_not_overflow_the_mean() -> None:
    """Large numbers do not overflow the mean."""
    state = state_of([1.7e308, 1.7e308, 1.6e308])
    assert state.mean == pytest.approx(5 / 3 * 1e308)
    assert state.m2 == pytest.approx(math.inf)


@given(st.lists(st.floats() | st.none(), min_size=1, max_size=40), st.data())
def test_states_of_parts_combine_to_that_of_the_whole(values: list[float | None], data: st.DataObject) -> None:
    """States of parts combine to that of the whole."""
    cut = data.draw(st.integers(0, len(values)))
    parts = [rows_of(mine=values[:cut]), rows_of(cut, mine=values[cut:])]
    combination = Combination(None)
    for part in parts:
        if (state := states_of(part).get("mine")) is not None:
            combination.add(state)
    found, expected = combination.state(), states_of(rows_of(mine=values)).get("mine")
    if found is None or expected is None:
        assert found is expected
        return
    for name in ("measured", "nan", "positive_infinity", "negative_infinity", "smallest", "largest", "first", "last"):
        assert repr(getattr(found, name)) == repr(getattr(expected, name)), name
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value)]
    if sizes and max(sizes) < 1e150:
        assert found.mean == pytest.approx(expected.mean, rel=1e-9, abs=1e-9 * max(sizes))


def test_worst_values_combine_to_the_worst_and_among_equals_to_the_first() -> None:
    """Worst values combine to the worst and among equals to the first."""
    combination = Combination(DEFAULT_THRESHOLDS["value_loss"])
    for first, values in ((0, [2.0, 0.1]), (2, [math.nan, 0.3]), (4, [math.nan])):
        combination.add(states_of(rows_of(first, value_loss=values))["value_loss"])
    state = combination.state()
    assert state is not None
    assert state.worst is not None
    assert (state.worst.seq, state.levels) == (2, (3, 0, 2))


@given(
    st.sampled_from(sorted(DEFAULT_THRESHOLDS)),
    st.floats() | st.sampled_from([0.0, -0.0, 0.2, 1.0, 0.5, 1e308, -1e308]),
    st.sampled_from([-1, 0, 1, 2]),
    st.integers(-5, 2 * 10**9),
)
def test_one_value_is_as_bad_as_among_many(name: str, value: float, severity: int, update: int) -> None:
    """The badness of one value has the bits that it has in a column."""
    bands = DEFAULT_THRESHOLDS[name]
    (expected,) = badness(bands, np.array([value]), np.array([severity], np.int8), np.array([update])).tolist()
    assert repr(badness_of(bands, value, severity, update)) == repr(expected)


# ------------------------------------------------------------------ digests


def test_the_same_values_give_the_same_bytes_in_any_order() -> None:
    """The same values give the same bytes in any order."""
    assert digest_of(NOISE).serialize() == digest_of(NOISE[::-1]).serialize()
    assert from_text(to_text(digest_of(NOISE)), len(NOISE)).serialize() == digest_of(NOISE).serialize()


@pytest.mark.parametrize("shape", ["lognormal", "steps", "trend", "bimodal"])
def test_the_rank_of_a_merged_median_is_right_to_about_two_percent(shape: str) -> None:
    """The rank of a merged median is right to about two percent."""
    rng = np.random.default_rng(1)
    values = {
        "lognormal": rng.lognormal(size=400_000),
        "steps": rng.integers(0, 50, 400_000).astype(float),
        "trend": np.cumsum(rng.normal(size=400_000)),
        "bimodal": np.where(rng.random(400_000) < 0.5, -1, 1) + rng.normal(size=400_000) / 10,
    }[shape]
    whole = empty_digest()
    for part in np.split(values, 50):
        whole.merge(digest_of(part))
    found = median_of(whole)
    assert np.mean(values < found) - 0.025 <= 0.5 <= np.mean(values <= found) + 0.025


def test_few_values_or_one_value_have_no_digest() -> None:
    """Few values or one value have no digest."""
    few, same, flags = list(NOISE[: MIN_VALUES - 1]), [2.0] * MIN_VALUES, [True, False] * MIN_VALUES
    assert (state_of(few).digest, lacks_digest(state_of(few))) == (None, True)
    assert (state_of(same).digest, lacks_digest(state_of(same))) == (None, False)
    assert (state_of(flags, "skipped").digest, lacks_digest(state_of(flags, "skipped"))) == (None, False)
    assert state_of(list(NOISE[:MIN_VALUES])).digest is not None


def test_a_part_that_lacks_a_digest_leaves_the_whole_without_and_a_constant_part_counts() -> None:
    """A part that lacks a digest leaves the whole without and a constant part counts."""
    digested = state_of(list(NOISE))
    for part, is_there in ((state_of([1.0, 2.0]), False), (state_of([0.25] * 6000), True)):
        combination = Combination(None)
        combination.add(digested)
        combination.add(part)
        state = combination.state()
        assert state is not None
        assert (state.digest is not None) == is_there
    assert state is not None
    assert median_of(state.digest) == pytest.approx(0.25)


# ------------------------------------------------------------------ the file


def a_file() -> SegmentStates:
    """States of every kind of column."""
    rows = rows_of(
        mine=list(NOISE),
        value_loss=[math.nan, *NOISE[1:]],
        policy_loss=[-0.5] * 3000,
        skipped=[False] * 3000,
        wall_time=list(range(3000)),
        entropy=[math.inf] * 3000,
    )
    return SegmentStates(7, "some uuid", 3000, states_of(rows))


def test_a_file_is_read_as_it_was_written() -> None:
    """A file is read as it was written."""
    written = a_file()
    found = SegmentStates.from_bytes(written.to_bytes())
    assert found is not None
    assert differences(found, written) == []
    assert found.to_bytes() == written.to_bytes()
    without = SegmentStates.from_bytes(written.to_bytes(), with_digests=False)
    assert without is not None
    assert {state.digest for state in without.columns.values()} == {None}


@pytest.mark.parametrize("key", ["version", "thresholds"])
def test_a_file_of_another_version_or_other_thresholds_is_none(key: str) -> None:
    """A file of another version or other thresholds is none."""
    assert SegmentStates.from_bytes(json.dumps(json.loads(a_file().to_bytes()) | {key: 0}).encode()) is None


FALSIFIED: dict[str, tuple[str, Any]] = {
    "more values than rows": ("measured", 3001),
    "no values": ("measured", 0),
    "a negative count": ("nan", -1),
    "more NaN than values": ("nan", 3001),
    "true as a count": ("measured", True),
    "no first value": ("first", None),
    "a text as a value": ("last", ["2", 0]),
    "a whole number in a column of floats": ("smallest", [1, 0]),
    "no number in an extreme": ("smallest", ["NaN", 0]),
    "extremes that are swapped": ("smallest", [1e9, 0]),
    "a sequence number below 0": ("first", [1.0, -1]),
    "a mean that is no number": ("mean", "much"),
    "more levels than values": ("levels", [3001, 0, 0]),
    "two levels": ("levels", [1, 2]),
    "an unknown severity": ("worst", [1.0, 0, 0, 3]),
    "a digest that is no Base64": ("digest", "…"),
    "a digest that is nothing": ("digest", ""),
    "a digest of fewer values": ("digest", to_text(digest_of(NOISE[:2000]))),
}


@pytest.mark.parametrize("what", FALSIFIED)
def test_what_cannot_be_right_is_refused(what: str) -> None:
    """What cannot be right is refused."""
    key, value = FALSIFIED[what]
    record = json.loads(a_file().to_bytes())
    record["columns"]["mine"][key] = value
    with pytest.raises(RunDamagedError, match="expected column states"):
        SegmentStates.from_bytes(json.dumps(record).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b'{"version": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """What is no record is refused."""
    with pytest.raises(RunDamagedError, match="expected column states"):
        SegmentStates.from_bytes(data)


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_a_changed_byte_of_a_digest_is_refused_or_harmless(place: int) -> None:
    """The library that reads it must never see what it does not expect."""
    data = bytearray(digest_of(NOISE).serialize())
    data[place] ^= 0xFF
    text = base64.b64encode(zlib.compress(bytes(data))).decode()
    try:
        digest = from_text(text, len(NOISE))
    except ValueError:
        return
    assert (digest.k, digest.get_total_weight()) == (K, len(NOISE))
    assert math.isfinite(median_of(digest))


def test_a_digest_that_unpacks_to_much_is_not_unpacked() -> None:
    """A digest that unpacks to much is not unpacked."""
    with pytest.raises(ValueError, match="bytes for"):
        from_text(base64.b64encode(zlib.compress(digest_of(NOISE).serialize() + bytes(50_000_000))).decode(), 3000)


def test_other_numbers_differ_and_the_last_digits_of_a_sum_do_not() -> None:
    """Other numbers differ and the last digits of a sum do not."""
    written = a_file()
    record = json.loads(written.to_bytes())
    record["columns"]["mine"]["mean"] *= 1 + 1e-13
    record["columns"]["mine"]["m2"] *= 1 + 1e-13
    close = SegmentStates.from_bytes(json.dumps(record).encode())
    assert close is not None
    assert differences(close, written) == []
    for key, value in (
        ("mean", 1.0),
        ("largest", [1e9, 0]),
        ("levels", [1, 1, 1]),
        ("digest", to_text(digest_of(NOISE + 1))),
    ):
        changed = json.loads(written.to_bytes())
        changed["columns"]["mine"][key] = value
        other = SegmentStates.from_bytes(json.dumps(changed).encode())
        assert other is not None
        assert differences(other, written) == ["mine"]
