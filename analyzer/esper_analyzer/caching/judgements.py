"""The judgement on the rows of a run: whoever needs it takes it from here, so that no row is judged twice."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import polars as pl

from esper_analyzer.caching.kept import keep, kept, load_kept
from esper_analyzer.caching.keys import key_of_rows
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement, judge_in_steps, judge_ranks
from esper_analyzer.reading.run_index import RunIndex

_KIND = "judgement"


@dataclass(frozen=True, slots=True)
class _Judgements:
    """What the cache folder keeps: ranks, and the judgement on each."""

    of_ranks: list[tuple[int, Judgement]]


def judgements(
    run: JudgedRun, found: RunIndex, frames: Mapping[int, pl.LazyFrame] | None = None
) -> dict[int, Judgement]:
    """Return the judgement on each rank that was examined: that which was kept, or one that is made and kept now.

    Args:
        run: the run.
        found: the ranks, examined at depth `checksums` or `rows`.
        frames: their rows that count, as `found.frames()` returns them, if those are open already.

    Raises:
        DATA_ERRORS: rows cannot be decoded although their file matches its seal.
    """

    def judge() -> _Judgements:
        return _Judgements([*judge_ranks(run, found, found.frames() if frames is None else frames).items()])

    return dict(kept(_KIND, key_of_rows(run, found, found), _Judgements, judge).of_ranks)


def judgement_in_steps(
    run: JudgedRun, found: RunIndex, rank: int, rows: pl.LazyFrame
) -> Generator[int, None, Judgement] | None:
    """As `judgements`, of one rank and in steps: yields the number of rows judged so far, and returns the judgement.

    Args:
        run: the run.
        found: ranks that were examined at depth `checksums` or `rows`; this one is among them.
        rank: the rank.
        rows: its rows that count.

    Returns:
        None if nothing is kept of the run, because it goes on; see `key_of_rows`.
    """
    found = found.only(rank)
    key = key_of_rows(run, found, found)
    return None if key is None else _in_steps(run, found, rank, rows, key)


def _in_steps(
    run: JudgedRun, found: RunIndex, rank: int, rows: pl.LazyFrame, key: str
) -> Generator[int, None, Judgement]:
    made = load_kept(_KIND, key, _Judgements)
    if made is None:
        judged = yield from judge_in_steps(run, found.rank(rank), rows, found.damage_of(rank))
        made = keep(_KIND, key, _Judgements, _Judgements([(rank, judged)]))
    return dict(made.of_ranks)[rank]
