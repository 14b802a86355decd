"""The row of a run for scripts, as JSON and as CSV, and the list of runs in both: `esper-runs/1`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esper_analyzer.listing.entry import LOSS, RATE, STEPS, RunEntry
from esper_analyzer.listing.listing import Listing
from esper_analyzer.strict_json import strict
from esper_schemas.cleaning import printable
from esper_schemas.metric.catalogue import EPISODE_RETURN

_SHOWN = {EPISODE_RETURN: "return", STEPS: "steps", LOSS: "loss"}
_NOT_ASKED = frozenset({*_SHOWN, RATE})


def listing_json(listing: Listing) -> str:
    """Return the list as JSON, in ASCII: `{"format": "esper-runs/1", "found": 60, "runs": [{"name": …}, …]}`."""
    document = {"format": "esper-runs/1", "found": listing.found, "runs": [row_of(run) for run in listing.runs]}
    return json.dumps(strict(document), indent=2)


def listing_csv(listing: Listing) -> str:
    """Return the list as CSV: the values of the JSON that are no objects, in the same order; see `csv_of`."""
    return csv_of([flat_row(run) for run in listing.runs], list(flat_row(NO_RUN)))


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as CSV with a heading. Texts are cleaned, so that each row has one line.

    Args:
        rows: values by the name of the column; null is an empty cell.
        columns: those that there are even if there are no rows.
    """
    every = dict.fromkeys(key for row in rows for key in row) or dict.fromkeys(columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(every)
    writer.writerows([_cell(row.get(column)) for column in every] for row in rows)
    return text.getvalue()


NO_RUN = RunEntry("", Path())
"""A run of which nothing is known. Its row has the columns that every row has."""


def row_of(run: RunEntry) -> dict[str, Any]:
    """Return what is known of a run; these keys are promised to scripts."""
    return {
        "name": run.name,
        "path": str(run.path),
        "status": run.status,
        "updates": run.updates,
        "return": run.returned,
        "steps": _count(run.measured.get(STEPS)),
        "loss": run.measured.get(LOSS),
        "created": run.created,
        "age_secs": None if run.age_secs is None else round(run.age_secs, 3),
        "env": run.env,
        "trainer": run.trainer,
        "lr": run.learning_rate,
        "return_goal": run.return_goal,
        "goal_reached": run.goal_reached,
        "verdict": {"level": run.level, "since": run.since, "rank": run.rank, "reason": run.reason},
        "references": run.references,
        "damaged": run.is_damaged,
        "error": run.error,
        "end_reason": run.end_reason,
        "metrics": {name: value for name, value in sorted(run.measured.items()) if name not in _NOT_ASKED},
        "config": dict(run.config),
    }


def flat_row(run: RunEntry) -> dict[str, Any]:
    """Return the values of `row_of` in one level, without the configuration."""
    values = row_of(run)
    verdict, metrics, references = values.pop("verdict"), values.pop("metrics"), values.pop("references")
    del values["config"]
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key == "damaged":
            flat |= {"verdict": verdict["level"], "since": verdict["since"], "rank": verdict["rank"]}
            flat |= {"reason": verdict["reason"], "references": ", ".join(references) or None}
        flat[key] = value
    return {**flat, **{f"extras.{name}" if name in flat else name: value for name, value in metrics.items()}}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(value) if isinstance(value, str) else repr(value)


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)
