"""The numbers that a summary needs of one column of some rows, and how those of several segments combine.

FORMAT.md, Column states, says what they mean. They are the same, whether read from a file or made from the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.coercion import EPOCH
from esper_schemas.metric.metrics import Bands
from esper_schemas.metric.severity import (
    DEFAULT_THRESHOLDS,
    Floats,
    Integers,
    Thresholds,
    badness,
    badness_of,
    loss_ratios,
    severities,
)
from esper_schemas.segment.arrays import is_valid, values_of
from esper_schemas.segment.digest import MIN_VALUES, digest_of, empty_digest

if TYPE_CHECKING:
    from datasketches import tdigest_double
    from numpy.typing import NDArray

Number = float | int | bool
"""A value; a time as microseconds since 1970 (UTC)."""

At = tuple[Number, int]
"""A value and the sequence number of its row."""

_WITHOUT_STATE = frozenset({"run_id", "rank", "attempt", "seq"})
_FIRST_TIME, _LAST_TIME = (
    (time - EPOCH) // timedelta(microseconds=1)
    for time in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
)


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst value of a column whose level is known."""

    value: Number
    seq: int
    update: int
    severity: int

    def badness(self, bands: Bands) -> float:
        """How bad it is; see `esper_schemas.metric.severity.badness`."""
        return badness_of(bands, float(self.value), self.severity, self.update)


@dataclass(frozen=True, slots=True)
class ColumnState:
    """One column of which at least one value was measured.

    Attributes:
        measured: number of values that are not null.
        nan, positive_infinity, negative_infinity: how many of them.
        first, last: first and last value.
        smallest, largest: extremes of the finite values, the first of equal ones; None without any.
        total: exact sum of integers and booleans; else None.
        mean, m2: mean of the finite values, and the sum of their squared distances from it; None for times, or without
            finite values.
        levels: how many values are healthy, warning and critical; None without thresholds.
        worst: the worst value; None if no level is known.
        digest: of the finite values; None where they are few, all the same, or no numbers.
    """

    measured: int
    first: At
    last: At
    nan: int = 0
    positive_infinity: int = 0
    negative_infinity: int = 0
    smallest: At | None = None
    largest: At | None = None
    total: int | None = None
    mean: float | None = None
    m2: float | None = None
    levels: tuple[int, int, int] | None = None
    worst: Worst | None = None
    digest: tdigest_double | None = None

    @property
    def finite(self) -> int:
        """Number of finite values."""
        return self.measured - self.nan - self.positive_infinity - self.negative_infinity

    @property
    def is_constant(self) -> bool:
        """Whether all finite values are the same."""
        return self.smallest is not None and self.largest is not None and self.smallest[0] == self.largest[0]


def states_of(
    rows: pa.RecordBatch | pa.Table,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    *,
    digests_from: int = MIN_VALUES,
) -> dict[str, ColumnState]:
    """Compute the state of each column of which anything was measured, and of `loss_ratio`.

    Args:
        rows: rows in order, with `seq` and `update`, which have no nulls.
        thresholds: thresholds by which levels are counted.
        digests_from: columns with so many finite values have a digest.
    """
    names = [name for name in rows.schema.names if name not in _WITHOUT_STATE]
    columns = {name: column for name in names if (column := _array(rows, name)).null_count < len(column)}
    if not rows.num_rows:
        return {}
    seqs, updates = values_of(_array(rows, "seq")), values_of(_array(rows, "update"))
    found: dict[str, ColumnState] = {}
    for name, column in columns.items():
        bands = thresholds.get(name)
        spread = _spread(columns, bands) if bands is not None and bands.only_if is not None else None
        there = is_valid(column) if column.null_count else slice(None)
        values = values_of(column)[there]
        is_time = pa.types.is_timestamp(column.type)
        where = _Rows(values, seqs[there], updates[there], None if spread is None else spread[there])
        found[name] = _of_times(where) if is_time else _of_numbers(where, bands, digests_from)
    if "value_loss" in columns and "policy_loss" in columns:
        ratios = loss_ratios(_floats(columns["value_loss"]), _floats(columns["policy_loss"]))
        there = ~np.isnan(ratios)
        if there.any():
            where = _Rows(ratios[there], seqs[there], updates[there], None)
            found[LOSS_RATIO] = _of_numbers(where, thresholds.get(LOSS_RATIO), digests_from)
    return found


class Combination:
    """The states of one column of several segments combined, in the order of the segments, in bounded memory."""

    def __init__(self, bands: Bands | None) -> None:
        self._bands = bands
        self._state: ColumnState | None = None
        self._worst = -math.inf
        self._whole: tdigest_double | None = None
        self._is_digested = True

    def add(self, part: ColumnState) -> None:
        """Add the state of the next segment that has measured the column."""
        so_far, self._state = self._state, part
        self._add_digest(part)
        if part.worst is not None and self._bands is not None:
            badness = part.worst.badness(self._bands)
            is_worse, self._worst = badness > self._worst, max(badness, self._worst)
        else:
            is_worse = False
        if so_far is None:
            return
        mean, m2 = _moments(so_far, part)
        self._state = ColumnState(
            measured=so_far.measured + part.measured,
            first=so_far.first,
            last=part.last,
            nan=so_far.nan + part.nan,
            positive_infinity=so_far.positive_infinity + part.positive_infinity,
            negative_infinity=so_far.negative_infinity + part.negative_infinity,
            smallest=min(filter(None, (so_far.smallest, part.smallest)), key=_value, default=None),
            largest=max(filter(None, (so_far.largest, part.largest)), key=_value, default=None),
            total=None if part.total is None else (so_far.total or 0) + part.total,
            mean=mean,
            m2=m2,
            levels=_levels(so_far, part),
            worst=part.worst if is_worse else so_far.worst,
        )

    def state(self) -> ColumnState | None:
        """Return the state of the whole column; None if it was never measured.

        It has no digest if a segment `lacks_digest`, or if all values are the same.
        """
        if self._state is None:
            return None
        needs_digest = self._is_digested and self._whole is not None and not self._state.is_constant
        return replace(self._state, digest=self._whole if needs_digest else None)

    def _add_digest(self, part: ColumnState) -> None:
        self._is_digested = self._is_digested and not lacks_digest(part)
        digest = part.digest
        if digest is None and part.smallest is not None and part.mean is not None and part.total is None:
            digest = digest_of(np.full(part.finite, part.smallest[0], np.float64))  # it is constant
        if digest is not None and self._is_digested:
            if self._whole is None:
                self._whole = empty_digest()
            self._whole.merge(digest)


def lacks_digest(state: ColumnState) -> bool:
    """Whether quantiles need the rows of a column: it has differing numbers, and no digest of them."""
    is_number = state.mean is not None and not isinstance(state.first[0], bool)
    return state.digest is None and is_number and not state.is_constant


# ------------------------------------------------------------------ one column


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows in which a column was measured."""

    values: NDArray[Any]
    seqs: Integers
    updates: Integers
    spread: Floats | None

    def at(self, row: int) -> At:
        return self.values[row].item(), int(self.seqs[row])


def _of_times(rows: _Rows) -> ColumnState:
    inside = np.flatnonzero((rows.values >= _FIRST_TIME) & (rows.values <= _LAST_TIME))
    smallest = largest = None
    if len(inside):
        smallest = rows.at(inside[rows.values[inside].argmin()])
        largest = rows.at(inside[rows.values[inside].argmax()])
    return ColumnState(len(rows.values), rows.at(0), rows.at(-1), smallest=smallest, largest=largest)


def _of_numbers(rows: _Rows, bands: Bands | None, digests_from: int) -> ColumnState:
    values, count = rows.values, len(rows.values)
    is_float = values.dtype == np.float64
    finite = np.flatnonzero(np.isfinite(values)) if is_float else np.arange(count)
    numbers = values if len(finite) == count else values[finite]
    smallest = largest = mean = m2 = digest = None
    if len(finite):
        smallest, largest = rows.at(finite[numbers.argmin()]), rows.at(finite[numbers.argmax()])
        floats = numbers.astype(np.float64, copy=False)
        mean, m2 = _moments_of(floats)
        differ = smallest[0] != largest[0]
        if differ and len(finite) >= digests_from and values.dtype != np.bool_:
            digest = digest_of(floats)
    levels, worst = _judged(rows, bands) if bands is not None else (None, None)
    return ColumnState(
        measured=count,
        first=rows.at(0),
        last=rows.at(-1),
        nan=int(np.isnan(values).sum()) if len(finite) < count else 0,
        positive_infinity=int((values == np.inf).sum()) if len(finite) < count else 0,
        negative_infinity=int((values == -np.inf).sum()) if len(finite) < count else 0,
        smallest=smallest,
        largest=largest,
        total=None if is_float else sum(values.tolist()),
        mean=mean,
        m2=m2,
        levels=levels,
        worst=worst,
        digest=digest,
    )


def _moments_of(values: Floats) -> tuple[float, float]:
    with np.errstate(over="ignore"):
        mean = float(values.sum() / len(values))
        if not np.isfinite(mean):
            mean = float((values / len(values)).sum())
        return mean, float(((values - mean) ** 2).sum())


def _judged(rows: _Rows, bands: Bands) -> tuple[tuple[int, int, int], Worst | None]:
    values = rows.values.astype(np.float64, copy=False)
    severity = severities(bands, values, rows.spread)
    healthy, warning, critical = (int(np.count_nonzero(severity == level)) for level in range(3))
    if not healthy + warning + critical:
        return (0, 0, 0), None
    row = int(badness(bands, values, severity, rows.updates).argmax())  # the first of equal ones
    worst = Worst(rows.values[row].item(), int(rows.seqs[row]), int(rows.updates[row]), int(severity[row]))
    return (healthy, warning, critical), worst


def _array(rows: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = rows.column(name)
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def _floats(column: pa.Array) -> Floats:
    """The column with NaN for null."""
    return values_of(column)


def _spread(columns: dict[str, pa.Array], bands: Bands) -> Floats | None:
    """`high` minus `low`, NaN where either was not measured."""
    assert bands.only_if is not None
    ends = [columns.get(name) for name in (bands.only_if.low, bands.only_if.high)]
    if ends[0] is None or ends[1] is None:
        return np.full(len(next(iter(columns.values()))), np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        return _floats(ends[1]) - _floats(ends[0])


# ------------------------------------------------------------------ two segments


def _value(at: At) -> Number:
    return at[0]


def _levels(first: ColumnState, second: ColumnState) -> tuple[int, int, int] | None:
    if first.levels is None or second.levels is None:
        return first.levels or second.levels
    healthy, warning, critical = (one + other for one, other in zip(first.levels, second.levels, strict=True))
    return healthy, warning, critical


def _moments(first: ColumnState, second: ColumnState) -> tuple[float | None, float | None]:
    """Mean and M2 by Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983)."""
    if first.mean is None or first.m2 is None or second.mean is None or second.m2 is None:
        return (first.mean, first.m2) if second.mean is None else (second.mean, second.m2)
    total = first.finite + second.finite
    delta = second.mean - first.mean
    m2 = first.m2 + second.m2 + delta * delta * (first.finite / total * second.finite)
    return first.mean + delta * (second.finite / total), m2
