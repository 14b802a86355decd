"""The states of columns over all rows of a run: those of its segments, combined in their order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl
from polars import selectors

from esper_analyzer.measuring.levels import bands_of
from esper_analyzer.reading.current_rows import Stretch
from esper_analyzer.reading.segment_index import Piece
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, Thresholds
from esper_schemas.run.names import STATES
from esper_schemas.segment.column_state import ColumnState, Combination, lacks_digest, states_of
from esper_schemas.segment.digest import median_of

EXACT_MEDIAN_ROWS = 200_000
"""The medians of a run with so many rows, or more, are approximate."""

_PORTION_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Whole:
    """The states of columns over all rows.

    Attributes:
        states: of each metric of which anything was measured, without its digest.
        medians: of each of them whose median is that of a digest, which is approximate.
    """

    states: Mapping[str, ColumnState]
    medians: Mapping[str, float]


def whole_of(
    stretches: Sequence[Stretch], schema: pl.Schema, names: Sequence[str], thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Whole:
    """Combine the states that were stored at sealing, or else those of the rows; they are the same.

    Args:
        stretches: the segments that have the rows, of one rank after another.
        schema: columns and types of the rows.
        names: the metrics; `loss_ratio` may be one of them.
        thresholds: thresholds for the levels and the worst value.
    """
    is_long = sum(piece.rows for stretch in stretches for piece in stretch.pieces) >= EXACT_MEDIAN_ROWS
    columns = _needed(names, thresholds)
    needed = [name for name in schema if name in columns]
    combinations = {name: Combination(bands_of(name, thresholds)) for name in names}
    for states in _states_of_segments(stretches, schema, needed, thresholds, is_long):
        for name, state in states.items():
            if name in combinations:
                combinations[name].add(state)
    found = {name: whole for name, one in combinations.items() if (whole := one.state()) is not None}
    medians = {name: median_of(one.digest) for name, one in found.items() if is_long and one.digest is not None}
    return Whole({name: replace(one, digest=None) for name, one in found.items()}, medians)


def measured_metrics(stretches: Sequence[Stretch], schema: pl.Schema, names: Sequence[str]) -> list[str]:
    """Return those of these metrics that have a value in some row, from the column states where there are some.

    Args:
        stretches: the segments that have the rows, of one rank after another.
        schema: the columns of the rows.
        names: the metrics; `loss_ratio` may be one of them, and is measured where it is finite.
    """
    found, columns = set[str](), _needed(names, DEFAULT_THRESHOLDS)
    needed = [name for name in schema if name in columns]
    for states in _states_of_segments(stretches, schema, needed, DEFAULT_THRESHOLDS, with_digests=False):
        found |= {name for name, one in states.items() if (one.finite if name == LOSS_RATIO else one.measured)}
    return [name for name in names if name in found]


def _states_of_segments(
    stretches: Sequence[Stretch],
    schema: pl.Schema,
    needed: Sequence[str],
    thresholds: Thresholds,
    with_digests: bool,
) -> Iterator[Mapping[str, ColumnState]]:
    """Yield the column states of one segment after another, or of the rows that count of several, in bounded memory.

    Args:
        stretches: the segments.
        schema: columns and types of the rows.
        needed: the columns to read where rows must be read.
        thresholds: thresholds by which levels are counted; states that were stored have those of the table.
        with_digests: whether every column whose values differ needs a digest, however short the segment.
    """
    make = partial(states_of, thresholds=thresholds, digests_from=2 if with_digests else sys.maxsize)
    for stretch in stretches:
        if not stretch.is_whole:
            counting = stretch.rows(schema).select(map(column, needed))
            yield from (make(portion.to_arrow()) for portion in _portions(counting))
            continue
        for pieces in _together(stretch.pieces):
            pieces[0].storage.read_ahead((STATES,))
            stored = [_stored(piece, with_digests) if thresholds == DEFAULT_THRESHOLDS else None for piece in pieces]
            unknown = [piece for piece, states in zip(pieces, stored, strict=True) if states is None]
            if not unknown:
                yield from filter(None, stored)
                continue
            rows, first = Stretch(unknown).rows(schema).select(map(column, needed)).collect(), 0
            for piece, states in zip(pieces, stored, strict=True):
                if states is not None:
                    yield states
                    continue
                yield make(rows.slice(first, piece.rows).to_arrow())
                first += piece.rows


def _needed(names: Sequence[str], thresholds: Thresholds) -> set[str]:
    """The columns that the states of these metrics are made of."""
    needed = {"seq", "update", *names}
    for name in names:
        bands = bands_of(name, thresholds)
        if bands is not None and bands.only_if is not None:
            needed |= {bands.only_if.low, bands.only_if.high}
    return needed - {LOSS_RATIO} | ({"value_loss", "policy_loss"} if LOSS_RATIO in names else set())


def _stored(piece: Piece, with_digests: bool) -> Mapping[str, ColumnState] | None:
    """The stored states of a segment; None if there are none, or a digest is needed that they do not have."""
    states = piece.states(with_digests)
    lacks = with_digests and states is not None and any(map(lacks_digest, states.values()))
    return None if lacks else states


def _together(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield consecutive segments that are read together."""
    group: list[Piece] = []
    for piece in pieces:
        group.append(piece)
        if sum(one.rows for one in group) >= _PORTION_ROWS:
            yield group
            group = []
    if group:
        yield group


def _portions(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Yield rows in portions of a fixed length, so that sums do not depend on how they were read."""
    waiting: list[pl.DataFrame] = []
    for batch in rows.collect_batches(chunk_size=_PORTION_ROWS, maintain_order=True):
        waiting.append(batch)
        if sum(one.height for one in waiting) >= _PORTION_ROWS:
            together = pl.concat(waiting)
            full = together.height - together.height % _PORTION_ROWS
            yield from together.head(full).iter_slices(_PORTION_ROWS)
            waiting = [together.slice(full)]
    together = pl.concat(waiting) if waiting else pl.DataFrame()
    if together.height:
        yield together


def column(name: str) -> pl.Expr:
    """Select a column by its exact name, even if that is "*" or looks like a pattern."""
    return selectors.by_name(name).as_expr()
