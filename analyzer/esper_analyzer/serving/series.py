"""The document `esper-series/1`: the values of a few metrics of one rank, decimated so that no extreme is lost."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import polars as pl

from esper_analyzer.measuring.levels import loss_ratio
from esper_analyzer.measuring.series import Line, course_of
from esper_analyzer.measuring.snapshot import chartable_names
from esper_analyzer.reading.gaps import numbering_of_index
from esper_analyzer.reading.run_index import Ranks, RunIndex, looked_at, rows_of
from esper_analyzer.run import Run
from esper_analyzer.serving.bounds import cleaned
from esper_schemas.errors import UsageError

FORMAT = "esper-series/1"

_KINDS = ("NaN", "Infinity", "-Infinity")
"""As `esper_analyzer.measuring.series.KINDS`, in the words of strict JSON."""


def series_document(
    run: Run, names: Sequence[str], *, rank: int | None, first: int | None, last: int | None, points: int
) -> dict[str, Any]:
    """Return the values of metrics over updates.

    Args:
        run: the run.
        names: metrics of the table, the user's own, or `loss_ratio`; a name may be as an answer has it.
        rank: the rank; the first that has recorded anything if None.
        first, last: only updates from and to these, both inclusive.
        points: the most points of each metric, 2 or more.

    Returns:
        An object that is valid as strict JSON: `format`, `run` (`run_id`, `path`, `status`, `end_reason`), `rank`,
        `updates` (`first` and `last` of those that were looked at), `width`, `missing` (inclusive ranges of missing
        updates) and `series`. That has for each metric `points`, pairs of update and finite value in order of updates,
        and `nonfinite`, triples of first and last update and `"NaN"`, `"Infinity"` or `"-Infinity"`. If `width` is
        more than 1, the points are the smallest and the largest value of every `width` updates.

    Raises:
        UsageError: there is no such metric, or `first` is after `last`.
        NotARunError, FormatVersionError: as `Run.report`.
    """
    if first is not None and last is not None and first > last:
        raise UsageError(f"first must not be after last, found {first} and {last}")
    ranks: Ranks = "first" if rank is None else rank
    shown, body = run.read(
        looked_at(ranks), lambda found: _measured(found, found.shown(ranks), names, (first, last), points)
    )
    status, reason = run.ending(shown)
    about = {"run_id": run.header.run_id, "path": str(run.path), "status": status, "end_reason": reason}
    return {"format": FORMAT, "run": about, "rank": shown, **body}


def _measured(
    found: RunIndex, shown: Sequence[int], names: Sequence[str], within: tuple[int | None, int | None], points: int
) -> tuple[int | None, dict[str, Any]]:
    """Return the rank, and what the document has of its rows."""
    number = next(iter(shown), None)
    index = found.rank(0 if number is None else number)
    frame = rows_of(index)
    rows = frame.with_columns(loss_ratio())
    chosen = {name: _known(name, chartable_names(rows.collect_schema())) for name in names}
    first, last = within
    missing = [
        (max(a, a if first is None else first), min(b, b if last is None else last))
        for a, b in numbering_of_index(frame, index).missing
        if (first is None or b >= first) and (last is None or a <= last)
    ]
    if first is not None:
        rows = rows.filter(pl.col("update") >= first)
    if last is not None:
        rows = rows.filter(pl.col("update") <= last)
    course = course_of(rows, list(dict.fromkeys(chosen.values())), missing, stretches=max(1, points // 2))
    return number, {
        "updates": {"first": course.first, "last": course.last},
        "width": course.width,
        "missing": [list(one) for one in missing],
        "series": {name: _series(course.lines[name]) for name in dict.fromkeys(chosen.values())},
    }


def _series(lines: Sequence[Line]) -> dict[str, Any]:
    """Return points and values that are not finite, of the line of one rank; without updates there is no line."""
    return {
        "points": [
            [update, value]
            for line in lines
            for update, value in zip(line.updates, line.values, strict=True)
            if value is not None
        ],
        "nonfinite": [[first, last, _KINDS[kind]] for line in lines for first, last, kind in line.nonfinite],
    }


def _known(name: str, known: Sequence[str]) -> str:
    """Return the metric that is named; a name of the user's may be as an answer has it."""
    if name in known:
        return name
    alike = [one for one in known if cleaned(one) == name]
    if len(alike) == 1:
        return alike[0]
    near = get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "the report of the run names those that were recorded"
    raise UsageError(f"the run has no metric {name!a}; {hint}")
