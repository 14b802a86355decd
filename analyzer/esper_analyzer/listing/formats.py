"""The list of runs for scripts: `esper-runs/1` as JSON, and the same values as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from esper_analyzer.listing.entry import LOSS, RATE, RETURN, STEPS, RunEntry
from esper_analyzer.listing.listing import Listing
from esper_analyzer.strict_json import strict
from esper_schemas.cleaning import printable

_SHOWN = {RETURN: "return", STEPS: "steps", LOSS: "loss"}
_NOT_ASKED = frozenset({*_SHOWN, RATE})


def listing_json(listing: Listing) -> str:
    """Return the list as JSON, in ASCII: `{"format": "esper-runs/1", "found": 60, "runs": [{"name": …}, …]}`."""
    document = {"format": "esper-runs/1", "found": listing.found, "runs": [_object(run) for run in listing.runs]}
    return json.dumps(strict(document), indent=2)


def listing_csv(listing: Listing) -> str:
    """Return the list as CSV: the values of the JSON that are no objects, in the same order; null is an empty cell.

    Texts of a run are cleaned, so that each run has one line.
    """
    rows = [_flat(run) for run in listing.runs]
    columns = dict.fromkeys(key for row in rows for key in row) or dict.fromkeys(_flat(RunEntry("", Path())))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _object(run: RunEntry) -> dict[str, Any]:
    """Return what is known of a run; these keys are promised to scripts."""
    return {
        "name": run.name,
        "path": str(run.path),
        "status": run.status,
        "updates": run.updates,
        "return": run.measured.get(RETURN),
        "steps": _count(run.measured.get(STEPS)),
        "loss": run.measured.get(LOSS),
        "created": run.created,
        "age_secs": None if run.age_secs is None else round(run.age_secs, 3),
        "env": run.env,
        "trainer": run.trainer,
        "lr": run.learning_rate,
        "verdict": {"level": run.level, "since": run.since, "rank": run.rank, "reason": run.reason},
        "damaged": run.is_damaged,
        "error": run.error,
        "metrics": {name: value for name, value in sorted(run.measured.items()) if name not in _NOT_ASKED},
        "config": dict(run.config),
    }


def _flat(run: RunEntry) -> dict[str, str]:
    """Return the values of `_object` in one level, as texts."""
    values = _object(run)
    verdict, metrics = values.pop("verdict"), values.pop("metrics")
    del values["config"]
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key == "damaged":
            flat |= {"verdict": verdict["level"], "since": verdict["since"], "rank": verdict["rank"]}
            flat["reason"] = verdict["reason"]
        flat[key] = value
    return {key: _cell(value) for key, value in (flat | metrics).items()}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(value) if isinstance(value, str) else repr(value)


def _count(value: float | None) -> int | None:
    return None if value is None else int(value)
