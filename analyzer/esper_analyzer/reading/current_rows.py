"""Selects the rows that count after restarts and rollbacks: the default view and the view of all attempts, both lazy.

`esper_schemas.examining.current` has the rule. Sealed segments whose updates rise are filtered, never sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import polars as pl
from polars import selectors

from esper_analyzer.reading.descriptors import open_pieces
from esper_analyzer.reading.far_rows import scan_far
from esper_analyzer.reading.segment_index import SCHEMA, Piece
from esper_schemas.examining.current import cuts_by_attempt, rises
from esper_schemas.run.files import Folder


def schema_of(pieces: Iterable[Piece]) -> pl.Schema:
    """Return the columns of a run: those of the table, then every metric of the user, in order of appearance.

    Runs with the same columns share the result, which nobody may change.
    """
    return _schema(tuple(dict.fromkeys(name for piece in pieces for name in piece.extras)))


@lru_cache(maxsize=64)
def _schema(extras: tuple[str, ...]) -> pl.Schema:
    return pl.Schema({**SCHEMA, **{name: pl.Float64() for name in extras if name not in SCHEMA}})


def all_attempts(pieces: Sequence[Piece], schema: pl.Schema) -> pl.LazyFrame:
    """Return every row of a rank, ordered by seq."""
    return _concat([_scan(pieces, schema)], schema)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive segments of a rank, and which of their rows count.

    Attributes:
        pieces: the segments.
        cut: rows from this update on are superseded; None if none are.
        settles: whether only the last row of each update counts, and the rows must be sorted.
    """

    pieces: Sequence[Piece]
    cut: int | None = None
    settles: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every row counts, in its order."""
        return self.cut is None and not self.settles

    def rows(self, schema: pl.Schema) -> pl.LazyFrame:
        """Return the rows that count, ordered by update."""
        frame = _scan(self.pieces, schema)
        if self.cut is not None:
            frame = frame.filter(pl.col("update") < self.cut)
        return frame.unique("update", keep="last", maintain_order=True).sort("update") if self.settles else frame


def stretches(pieces: Sequence[Piece]) -> list[Stretch]:
    """Return the segments of a rank that have rows which no later row supersedes, ordered by update."""
    if rises(pieces):
        return [Stretch(pieces)] if pieces else []
    cuts = cuts_by_attempt(pieces)
    found = []
    for attempt, group in groupby(pieces, key=lambda piece: piece.attempt):
        cut = cuts[attempt]
        of_attempt = list(group)
        if not rises(of_attempt):
            found.append(Stretch(of_attempt, cut, settles=True))
            continue
        whole = [piece for piece in of_attempt if cut is None or piece.last_update < cut]
        cut_off = [piece for piece in of_attempt if cut is not None and piece.first_update < cut <= piece.last_update]
        found += [Stretch(whole)] if whole else []
        found += [Stretch([piece], cut) for piece in cut_off]
    return found


def current(pieces: Sequence[Piece], schema: pl.Schema) -> pl.LazyFrame:
    """Return the rows of a rank that no later row supersedes, ordered by update."""
    return _concat([stretch.rows(schema) for stretch in stretches(pieces)], schema)


def _scan(pieces: Sequence[Piece], schema: pl.Schema) -> pl.LazyFrame:
    """Return the rows of these pieces in order; consecutive sealed pieces are scanned together.

    This opens the sealed files on a disk, and polars keeps them open as long as the frame lives. Those in an object
    store are fetched when the frame is collected.
    """
    frames = []
    for is_sealed, group in groupby(pieces, key=lambda piece: piece.frame is None):
        if is_sealed:
            frames.append(_scan_sealed(list(group), schema))
        else:
            frames += [_complete(piece.frame, schema).lazy() for piece in group if piece.frame is not None]
    return _concat(frames, schema)


def _scan_sealed(pieces: Sequence[Piece], schema: pl.Schema) -> pl.LazyFrame:
    if not isinstance(pieces[0].storage, Folder):  # all are of one rank
        return scan_far(pieces, schema)
    with ExitStack() as files:
        return pl.scan_parquet(
            open_pieces(pieces, files),
            schema=schema,
            missing_columns="insert",
            glob=False,
            hive_partitioning=False,
            cache=False,
        )


def _complete(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    return frame.with_columns(missing).select(selectors.by_name(*schema))


def _concat(frames: list[pl.LazyFrame], schema: pl.Schema) -> pl.LazyFrame:
    if not frames:
        return pl.LazyFrame(schema=schema)
    return frames[0] if len(frames) == 1 else pl.concat(frames)
