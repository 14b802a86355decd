"""What the tools answer: the JSON documents of the commands, about the runs of one folder. It knows no protocol.

Each function takes the folder and the arguments of its tool, and returns the document and what is left out of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from esper_analyzer.listing.formats import listing_json
from esper_analyzer.listing.listing import Listing, Wanted, list_runs
from esper_analyzer.options import By, FailOn
from esper_analyzer.reporting.check import check_run
from esper_analyzer.reporting.check_formats import as_json
from esper_analyzer.reporting.comparison.compare import compare as compare_runs
from esper_analyzer.serving.bounds import cleaned
from esper_analyzer.serving.runs_folder import RunsFolder
from esper_analyzer.serving.series import series_document
from esper_analyzer.wording import count
from esper_schemas.errors import UsageError
from esper_schemas.metric.metrics import Direction

Answer = tuple[dict[str, Any], list[str]]
"""A document, and a sentence for each part that was left out of it."""


def runs(
    folder: RunsFolder,
    *,
    filters: Sequence[str],
    status: Sequence[str],
    sort: str | None,
    reverse: bool,
    limit: int,
    skip: int,
) -> Answer:
    """Return `esper-runs/1`: so many of the runs that are wanted, after those that are skipped."""
    wanted = Wanted.of(filters, status, sort, is_reversed=reverse)
    found = list_runs([folder.root], wanted, folder.settings, part=slice(skip, skip + limit + 1))
    document = json.loads(listing_json(Listing(found.runs[:limit], found.found)))
    after = f"runs: there are more; ask again with skip {skip} plus the number of runs in this answer"
    return document, [after] if len(found.runs) > limit else []


def report(folder: RunsFolder, *, run: str, rank: int | None, metrics: Sequence[str] | None) -> Answer:
    """Return `esper-report/1`. Of the metrics it has those that are asked for, by default those ever measured."""
    made = folder.run(run).report("first" if rank is None else rank)
    document: dict[str, Any] = json.loads(made.to_json())
    sections = document["metrics"]
    measured = [name for name, section in made.metrics.items() if section.nonfinite is not None]
    wanted = measured if metrics is None else [name for name in sections if name in metrics or cleaned(name) in metrics]
    if metrics is not None and len(wanted) < len(set(metrics)):
        raise UsageError(f"the run has no such metric among {', '.join(metrics)}; it measured {', '.join(measured)}")
    document["metrics"] = {name: sections[name] for name in wanted}
    left_out = len(sections) - len(wanted)
    why = "that were never measured" if metrics is None else "that were not asked for"
    return document, [f"metrics: {count(left_out)} {why}"] if left_out else []


def check(folder: RunsFolder, *, run: str, rank: int | None, fail_on: FailOn, gates: Sequence[str]) -> Answer:
    """Return `esper-check/1`."""
    made = check_run(folder.run(run), "first" if rank is None else rank, fail_on=fail_on, gates=gates)
    return json.loads(as_json(made)), []


def explain(folder: RunsFolder, *, run: str, left: str | None, update: int | None, rank: int | None) -> Answer:
    """Return `esper-explain/1`: what moved first in a run or, with `left`, where it left that other run."""
    found = folder.run(run)
    if left is None:
        return json.loads(found.explain(update, rank=rank).to_json()), []
    if update is not None:
        raise UsageError("update is for one run; of two runs all updates that they have in common are compared")
    return json.loads(found.explain_against(folder.run(left), rank=rank or 0).to_json()), []


def compare(
    folder: RunsFolder,
    *,
    runs: Sequence[str],
    metric: str | None,
    by: By | None,
    better: Direction | None,
    group_by: Sequence[str] | None,
    group: bool,
) -> Answer:
    """Return `esper-compare/1`."""
    opened = [folder.run(name) for name in runs]
    settings = folder.settings
    made = compare_runs(opened, settings=settings, by=by, metric=metric, better=better, group=group, group_by=group_by)
    return json.loads(made.to_json()), []


def series(
    folder: RunsFolder,
    *,
    run: str,
    metrics: Sequence[str],
    rank: int | None,
    first: int | None,
    last: int | None,
    points: int,
) -> Answer:
    """Return `esper-series/1`."""
    return series_document(folder.run(run), metrics, rank=rank, first=first, last=last, points=points), []
