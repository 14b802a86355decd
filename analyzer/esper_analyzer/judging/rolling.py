"""Medians, other ranks and extremes of moving windows, of a whole column at once.

**How the ranks of a window are found.** The rows are cut into groups. The windows of all rows of a group share most of
their values, which are sorted once for the group. Then the group is halved again and again: the windows of each half
share a few values more, which are merged into those before. Only the values are kept that can still come to the ranks
that are asked for. Each comparison is one call of `np.minimum` or `np.maximum` on all groups side by side; a window of
50 rows takes about eighty for each row.

Sources: Adams, "Fast Median Filters using Separable Sorting Networks" (2021), for the windows that share their values;
Knuth, "The Art of Computer Programming", 5.2.2, algorithm M, for the network that sorts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float64]"
Ranks = tuple[int, int]
"""The first and the last of some ranks; the lowest value of a window has rank 1."""

_CHUNK = 131_072
"""Number of rows that are worked on at a time: with fewer, calls cost more than what they do; more leave the cache."""

_FEW = 4096
"""Up to so many rows, polars' own median is as fast: all the comparisons for a window of 50 take 2 ms at least."""

_CONVERTED = 16_384
"""Up to so many rows `to_numpy` replaces nulls faster than polars plans a query that does."""


def floats(values: pl.Series) -> Floats:
    """Return a column of numbers as an array in which null is NaN; `to_numpy` takes four times as long for many."""
    has_many = len(values) > _CONVERTED and values.has_nulls()
    return values.fill_null(np.nan).to_numpy() if has_many else values.to_numpy()


def median(value: pl.Expr, size: int, fewest: int) -> pl.Expr:
    """Median of the last `size` rows, with the bits of polars' `rolling_median`, in a fraction of its time.

    Args:
        value: Float64; null and NaN are missing.
        size: number of rows in a window; even.
        fewest: how many of them must have a value, at least 1; where there are fewer, the median is null.
    """
    return value.map_batches(lambda values: _median(values, size, fewest), return_dtype=pl.Float64())


def extreme(value: pl.Expr, of_two: np.ufunc, size: int) -> pl.Expr:
    """Highest or lowest value of the last `size` rows, as `extremes`; null where it is NaN."""
    return value.map_batches(
        lambda values: pl.Series(values.name, extremes(of_two, floats(values), size), nan_to_null=True),
        return_dtype=pl.Float64(),
    )


def _median(values: pl.Series, size: int, fewest: int) -> pl.Series:
    numbers = floats(values)
    is_missing = np.isnan(numbers)
    if is_missing.all():
        return _nulls(values.name, len(values))
    found = pl.Series(values.name, medians(numbers, size))
    if not is_missing.any():
        return _nulls(values.name, min(fewest - 1, len(found))).append(found[fewest - 1 :])
    known = np.zeros(len(numbers) + size, np.int32)  # number of values up to each row, after those before the first
    np.cumsum(~is_missing, out=known[size:])
    return found.set(pl.Series(known[size:] - known[:-size] < fewest), None)


def _nulls(name: str, rows: int) -> pl.Series:
    return pl.Series(name, [None], pl.Float64).new_from_index(0, rows)


def medians(values: Floats, size: int) -> Floats:
    """Return the median of the last `size` of the values, for each of them; arbitrary where all are missing.

    NaN is missing, and so is what would be before the first value. They count as −inf and +inf by turns, so that a
    window has as many of the one as of the other, or one more: its middle is where it was, or half a rank away.

    Args:
        values: [n].
        size: number of values in a window; even.
    """
    if len(values) <= _FEW:
        return floats(pl.Series(values, nan_to_null=True).rolling_median(size, min_samples=1))
    padded = np.concatenate([np.full(size - 1, np.nan), values])
    missing = np.flatnonzero(np.isnan(padded))
    padded[missing[::2]], padded[missing[1::2]] = -np.inf, np.inf
    lower, upper = ranked(padded, size, (size // 2, size // 2 + 1))
    with np.errstate(invalid="ignore", over="ignore"):
        found: Floats = lower + (upper - lower) * 0.5  # rounded as polars rounds it
    affected = len(values) if len(missing) > size - 1 else min(size - 1, len(values))
    turns = np.zeros(affected + size, np.int8)
    inside = missing[missing < affected + size - 1]
    turns[1 + inside[::2]], turns[1 + inside[1::2]] = 1, -1
    turns = turns.cumsum(dtype=np.int8)  # 1 after −inf, 0 after +inf
    more = turns[size:] - turns[:affected]
    np.copyto(found[:affected], upper[:affected], where=more > 0)
    np.copyto(found[:affected], lower[:affected], where=more < 0)
    return found


def extremes(of_two: np.ufunc, values: Floats, size: int) -> Floats:
    """Return the extreme of the last `size` of the values, for each of them.

    Args:
        of_two: `np.fmax` or `np.fmin`, with which NaN is missing, as is what would be before the first value; with
            `np.maximum` or `np.minimum` the extreme is NaN where anything is missing.
        values: [n].
        size: number of values in a window.
    """
    found, width = np.concatenate([np.full(size - 1, np.nan), values]), 1
    while width < size:
        step = min(width, size - width)
        found = of_two(found[step:], found[:-step])
        width += step
    return found


def highest_since(values: Floats, first: NDArray[np.int64], most: int) -> Floats:
    """Return the highest value from `first` on up to each of them: a window whose size differs; NaN where that is < 0.

    Args:
        values: [n], without NaN.
        first: index of the first value of each window [n].
        most: the largest size of a window.
    """
    last, found, size = np.arange(len(values)), np.full(len(values), np.nan), 1
    while size <= most:  # two windows of `size` that overlap cover those of `size` to twice as many
        fits = np.flatnonzero((first >= 0) & (last - first + 1 >= size) & (last - first + 1 < 2 * size))
        if len(fits):
            of_size = extremes(np.maximum, values, size)
            found[fits] = np.maximum(of_size[first[fits] + size - 1], of_size[fits])
        size *= 2
    return found


def ranked(values: Floats, size: int, ranks: Ranks) -> list[Floats]:
    """Return the values of these ranks in each window of `size` values: for n values, arrays of n − size + 1.

    Args:
        values: without NaN, at least `size` of them.
    """
    rows = len(values) - size + 1
    if rows <= _FEW:
        return list(np.sort(sliding_window_view(values, size), axis=1)[:, ranks[0] - 1 : ranks[1]].T)
    found = np.empty((ranks[1] - ranks[0] + 1, rows))
    for start in range(0, rows, _CHUNK):
        stop = min(start + _CHUNK, rows)
        _rank(values[start : stop + size - 1], size, ranks, found[:, start:stop])
    return list(found)


def _rank(values: Floats, size: int, ranks: Ranks, out: Floats) -> None:
    """Write the ranks [ranks, rows] of the windows of some rows to `out`."""
    rows = out.shape[1]
    group = 1 << min(4, size.bit_length() - 1)
    groups = -(-rows // group)
    cells = np.zeros((groups + -(-size // group)) * group)
    cells[: len(values)] = values
    places = np.ascontiguousarray(cells.reshape(-1, group).T)

    def column(place: int) -> Floats:
        return places[place % group, place // group : place // group + groups]

    shared = _sorted([column(place) for place in range(group - 1, size)])
    first = max(ranks[0] - (group - 1), 1)
    made = np.empty((len(out), group, groups))
    for row, found in _halves(column, size, ranks, (0, group - 1), shared[first - 1 : ranks[1]], first):
        made[:, row] = found
    out[:] = made.transpose(0, 2, 1).reshape(len(out), -1)[:, :rows]


def _halves(
    column: Callable[[int], Floats], size: int, ranks: Ranks, rows: tuple[int, int], kept: list[Floats], first: int
) -> Iterator[tuple[int, list[Floats]]]:
    """Yield each row of the groups with its ranks.

    Args:
        column: gives of each group the value at a place, counted from the first value of the first row's window.
        size, ranks: as for `ranked`.
        rows: the first and the last row of the groups that are looked at.
        kept: of what the windows of these rows share, the values that may come to the ranks, in order.
        first: the rank of the first of these.
    """
    start, stop = rows
    if start == stop:
        yield start, kept
        return
    half = (start + stop) // 2
    to_come = half - start
    begin = max(ranks[0] - to_come, 1)
    wanted = range(begin, min(ranks[1], size - to_come) + 1)
    shared = size - (stop - start)
    for part, places in (((start, half), range(half, stop)), ((half + 1, stop), range(start + size, half + size + 1))):
        added = _sorted([column(place) for place in places])
        merged = [_merged(kept, first, shared, added, rank) for rank in wanted]
        yield from _halves(column, size, ranks, part, merged, begin)


def _merged(kept: list[Floats], first: int, shared: int, added: list[Floats], rank: int) -> Floats:
    """Return the value of a rank among `shared` values and the added ones; both are in order.

    It is the lowest that the higher of two can be, one value from each side, whose ranks there add up to it.
    """
    lowest: Floats | None = None
    for theirs in range(max(rank - shared, 0), min(rank, len(added)) + 1):
        ours = rank - theirs
        if not theirs:
            higher = kept[ours - first]
        elif not ours:
            higher = added[theirs - 1]
        else:
            higher = np.maximum(kept[ours - first], added[theirs - 1])
        lowest = higher if lowest is None else np.minimum(lowest, higher)
    assert lowest is not None
    return lowest


def _sorted(columns: list[Floats]) -> list[Floats]:
    """Sort the values of each row of some columns, by Knuth's algorithm M (Batcher's network)."""
    count = len(columns)
    top = 1 << max(count - 1, 0).bit_length() >> 1
    distance = top
    while distance:
        far, offset, step = top, 0, distance
        while True:
            for i in range(count - step):
                if i & distance == offset:
                    one, other = columns[i], columns[i + step]
                    columns[i], columns[i + step] = np.minimum(one, other), np.maximum(one, other)
            if far == distance:
                break
            step, far, offset = far - distance, far >> 1, distance
        distance >>= 1
    return columns
