from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from tests.schemas.segment.segments_of import IDENTITY, numbered, rows_of

from esper_schemas import RunDamagedError
from esper_schemas.limits import MAX_COLUMNS, MAX_SEQ
from esper_schemas.segment.holds import Holds, added_columns, check_columns, summarise

FIRST = IDENTITY.first_seq


def _summary(*batches: pa.RecordBatch, first_seq: int = FIRST) -> Holds:
    return summarise(replace(IDENTITY, first_seq=first_seq), [], batches)


def test_summary_of_plain_rows() -> None:
    """Counts, ranges and whether updates rise, over all batches; empty ones in between mean nothing."""
    empty = rows_of([])
    holds = _summary(empty, numbered(100, 101), empty, numbered(102), empty)
    assert (holds.rows, holds.first_seq, holds.last_seq) == (3, 100, 102)
    assert (holds.first_update, holds.last_update, holds.updates_rise) == (100, 102, True)
    assert (holds.gaps, holds.dropped) == ([], 0)


def test_summary_of_no_rows() -> None:
    """Without a row there is no update, and the next number is the first one."""
    for batches in ([], [rows_of([])]):
        holds = _summary(*batches)
        assert (holds.rows, holds.first_seq, holds.last_seq) == (0, 100, 99)
        assert (holds.first_update, holds.last_update, holds.updates_rise) == (None, None, True)


def test_gaps_are_what_neither_rows_nor_drops_explain() -> None:
    """In front of the first row, inside a batch and between two; a drop explains the numbers right before its row."""
    rows = [
        {"seq": 102, "update": 1},  # 100 and 101 are lost
        {"seq": 105, "update": 2, "dropped_before": 2},
        {"seq": 110, "update": 3, "dropped_before": 1},  # 106 to 108
        {"seq": 111, "update": 4},
        {"seq": 113, "update": 5},  # 112
    ]
    expected = [(100, 101), (106, 108), (112, 112)]
    for cut in range(len(rows) + 1):
        holds = _summary(rows_of(rows[:cut]), rows_of(rows[cut:]))
        assert (holds.gaps, holds.dropped, holds.rows) == (expected, 3, 5)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("updates", "rise"),
    [
        ([5, 6, 9], True),
        ([5, 5, 6], False),
        ([5, 4, 6], False),
        ([5, 6, 5], False),
        ([-3, -2, 0], True),
        ([0, 0, 1], False),
    ],
)
def test_updates_that_do_not_rise_are_noticed_anywhere(updates: list[int], rise: bool, cut: int) -> None:
    """Also where one batch ends and the next one begins."""
    rows = [{"seq": FIRST + i, "update": update} for i, update in enumerate(updates)]
    assert _summary(rows_of(rows[:cut]), rows_of(rows[cut:])).updates_rise is rise


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"seq": 100, "update": 0}, {"seq": 100, "update": 1}], "100 comes after 100"),
        ([{"seq": 101, "update": 0}, {"seq": 100, "update": 1}], "100 comes after 101"),
        ([{"seq": 99, "update": 0}], "99 comes after 99"),
        ([{"seq": 100, "update": 0}, {"seq": 101, "update": 1, "dropped_before": 1}], "101 comes after 100"),
        ([{"seq": 100, "update": 0, "dropped_before": 1}], "100 comes after 99"),
        ([{"seq": None, "update": 0}], "seq has a null"),
        ([{"seq": 100, "update": None}], "update has a null"),
        ([{"seq": -1, "update": 0}], "0 or more, found -1"),
        ([{"seq": 100, "update": 0, "dropped_before": -1}], "0 or more, found -1"),
        ([{"seq": -(2**63), "update": 0}], "0 or more"),
        ([{"seq": MAX_SEQ + 1, "update": 0}], "at most 2\\^62, found 4611686018427387905"),
        ([{"seq": 2**63 - 1, "update": 0}], "at most 2\\^62"),
        ([{"seq": 100, "update": 0, "dropped_before": 2**63 - 1}], "at most 2\\^62"),
        ([{"seq": 100, "update": 0, "run_id": "s"}], "run_id is not 'r' in every row"),
        ([{"seq": 100, "update": 0, "run_id": None}], "run_id is not 'r'"),
        ([{"seq": 100, "update": 0, "rank": 1}], "rank is not 0"),
        ([{"seq": 100, "update": 0}, {"seq": 101, "update": 1, "attempt": 3}], "attempt is not 2"),
    ],
)
def test_rows_that_cannot_be_are_refused(rows: list[dict[str, Any]], words: str) -> None:
    """A row of another segment, a number that is none or that comes too late, whether in one batch or in two."""
    with pytest.raises(RunDamagedError, match=words):
        _summary(rows_of(rows))
    with pytest.raises(RunDamagedError, match=words):
        _summary(rows_of(rows[:1]), rows_of(rows[1:]))


def test_largest_numbers_are_counted_right() -> None:
    """At the bounds nothing overflows: neither gap nor drop turns negative."""
    holds = _summary(rows_of([{"seq": MAX_SEQ, "update": 2**63 - 1, "dropped_before": MAX_SEQ - 10}]), first_seq=0)
    assert (holds.gaps, holds.dropped) == ([(0, 9)], MAX_SEQ - 10)
    assert (holds.last_seq, holds.last_update) == (MAX_SEQ, 2**63 - 1)


@pytest.mark.parametrize(
    ("wall_time", "expected"),
    [(None, None), (0, "1970-01-01T00:00:00+00:00"), (10**18, None), (-(2**62), None), (2**62, None)],
)
def test_time_of_the_first_row(wall_time: int | None, expected: str | None) -> None:
    """That of the first row, if it has one that a calendar knows."""
    rows = rows_of({"seq": FIRST + i, "update": i, "wall_time": wall_time} for i in range(2))
    assert _summary(rows).first_time == expected
    without = rows.select([name for name in rows.schema.names if name != "wall_time"])
    assert _summary(without).first_time is None


# ---------------------------------------------------------------------- columns


SCHEMA = rows_of([]).schema


def test_columns_of_this_version() -> None:
    """All columns of the table in their order, with those that the user added behind them, need no note."""
    assert check_columns(SCHEMA) == ([], "")
    assert check_columns(rows_of([], IDENTITY, "mine", "yours").schema) == (["mine", "yours"], "")


def test_columns_of_another_version() -> None:
    """Columns that are not there yet, or stand elsewhere, are a note: the rows can be read."""
    without = SCHEMA.remove(SCHEMA.get_field_index("entropy"))
    assert check_columns(without) == ([], "it lacks columns of the metrics table: entropy")
    few = pa.schema([SCHEMA.field(name) for name in ("run_id", "rank", "attempt", "seq", "dropped_before", "update")])
    extras, note = check_columns(few)
    assert (extras, note.endswith(", …"), note.count(",")) == ([], True, 5)
    turned = pa.schema([*SCHEMA][::-1])
    assert check_columns(turned) == ([], "its columns are in a different order")


@pytest.mark.parametrize("name", ["run_id", "rank", "attempt", "seq", "dropped_before", "update"])
def test_column_that_no_reader_can_do_without(name: str) -> None:
    """Without it, or with it in another type, there is no telling what the rows are."""
    at = SCHEMA.get_field_index(name)
    with pytest.raises(RunDamagedError, match=f"the column {name} is missing"):
        check_columns(SCHEMA.remove(at))
    with pytest.raises(RunDamagedError, match=f"expected the column '{name}' as .*, found double"):
        check_columns(SCHEMA.set(at, pa.field(name, pa.float64())))


@pytest.mark.parametrize(
    "kind", [pa.float32(), pa.string(), pa.list_(pa.float64()), pa.dictionary(pa.int8(), pa.string())]
)
def test_type_that_no_column_has(kind: pa.DataType) -> None:
    """A metric and a column of the user's own are float64, and nothing else."""
    metric = SCHEMA.set(SCHEMA.get_field_index("entropy"), pa.field("entropy", kind))
    for schema in (metric, SCHEMA.append(pa.field("mine", kind))):
        with pytest.raises(RunDamagedError, match=r"expected the column .* as double"):
            check_columns(schema)


def test_too_many_or_equal_columns() -> None:
    """A schema of more columns than any segment has, or of two of one name, is refused."""
    wide = [pa.field(f"extra_{i}", pa.float64()) for i in range(MAX_COLUMNS - len(SCHEMA))]
    assert len(check_columns(pa.schema([*SCHEMA, *wide]))[0]) == len(wide)
    with pytest.raises(RunDamagedError, match="it declares 2,049 columns; the limit is 2,048"):
        check_columns(pa.schema([*SCHEMA, *wide, pa.field("one_more", pa.float64())]))
    with pytest.raises(RunDamagedError, match="two columns have the same name"):
        check_columns(SCHEMA.append(SCHEMA.field("entropy")))


def test_error_is_one_line_of_plain_text() -> None:
    """A name that a file declares reaches the message escaped."""
    with pytest.raises(RunDamagedError) as caught:
        check_columns(SCHEMA.append(pa.field("\x1b[31m\nred", pa.string())))
    assert str(caught.value).isprintable()


def test_added_columns_keep_their_order() -> None:
    """What is neither a metric nor a column of the recorder is the user's."""
    assert added_columns(["seq", "z", "run_id", "a", "entropy", "rank"]) == ["z", "a"]
