"""Reads the rows of sealed segments in an object store: only the columns that are asked for, several segments at once.

polars asks a lazy frame for columns when it is collected. The bytes of these columns are fetched in ranges, and checked
and decoded from memory, so that nothing can change in between. polars passes an error of the store on as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from esper_analyzer.reading.segment_index import Piece, to_frame
from esper_schemas.errors import RunDamagedError
from esper_schemas.segment import sealed
from esper_schemas.segment.holds import check_columns

AT_ONCE = 8
"""So many segments are fetched while the one before them is used."""


def scan_far(pieces: Sequence[Piece], schema: pl.Schema) -> pl.LazyFrame:
    """Return the rows of sealed segments in an object store, in order; nothing is fetched yet.

    A collected frame raises StoreError if the store does not answer, and RunDamagedError if a file is not what its seal
    says.
    """
    return register_io_source(partial(_rows, pieces, schema), schema=schema)


def _rows(
    pieces: Sequence[Piece],
    schema: pl.Schema,
    columns: list[str] | None,
    predicate: pl.Expr | None,
    limit: int | None,
    _batch_rows: int | None,
) -> Iterator[pl.DataFrame]:
    chosen = list(schema) if columns is None else columns
    for frame in _frames(pieces, chosen):
        missing = [pl.lit(None, schema[name]).alias(name) for name in chosen if name not in frame.columns]
        rows = frame.with_columns(missing).select(chosen)
        if limit is not None:
            rows = rows.head(limit)
            limit -= rows.height
        yield rows if predicate is None else rows.filter(predicate)
        if limit == 0:
            return


def _frames(pieces: Sequence[Piece], columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The segments one after another, while those behind are fetched."""
    pool = ThreadPoolExecutor(min(AT_ONCE, len(pieces)))
    coming: deque[Future[pl.DataFrame]] = deque()
    left = iter(pieces)
    try:
        while True:
            while len(coming) < AT_ONCE and (piece := next(left, None)) is not None:
                coming.append(pool.submit(_read, piece, columns))
            if not coming:
                return
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(piece: Piece, columns: Sequence[str]) -> pl.DataFrame:
    """Read columns of a segment; those that it does not have are left out."""
    where = piece.storage.where(piece.name)
    try:
        with (
            piece.open() as file,
            sealed.open_parquet(file, piece.storage.size(piece.name), where, columns) as parquet,
        ):
            check_columns(parquet.schema_arrow)
            if parquet.metadata.num_rows != piece.rows:
                found = parquet.metadata.num_rows
                raise RunDamagedError(f"{where}: expected {piece.rows} rows, found {found} in its footer")
            names = [name for name in parquet.schema_arrow.names if name in columns]
            if not names:  # only the number of rows is asked for, or a column of another segment
                return pl.DataFrame({"seq": [None] * piece.rows}, {"seq": pl.Int64})
            batches = list(sealed.batches(parquet, names))
    except (pa.ArrowException, FileNotFoundError) as error:
        raise RunDamagedError(f"{where}: {' '.join(str(error).split())}") from None
    return pl.concat([to_frame(batch) for batch in batches])
