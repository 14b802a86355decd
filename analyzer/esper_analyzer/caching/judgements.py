"""The judgement on the rows of a run: whoever needs it takes it from here, so that no row is judged twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from esper_analyzer.caching.kept import kept
from esper_analyzer.caching.keys import key_of_rows
from esper_analyzer.judging.judged_run import JudgedRun
from esper_analyzer.judging.judgement import Judgement, judge_ranks
from esper_analyzer.reading.run_index import RunIndex


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

    return dict(kept("judgement", key_of_rows(run, found, found), _Judgements, judge).of_ranks)
