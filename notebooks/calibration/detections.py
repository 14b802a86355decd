"""When each rule would have called a run of the study critical: the bare rules of the table, and the verdict.

    python notebooks/calibration/detections.py FOLDER

reads all runs of the study in FOLDER, as `make_runs.py` makes them, and writes two files beside this one, which the
notebook `calibration.ipynb` reads without need of the runs: `results.parquet`, a row for each run, and
`waits.parquet`, when the verdict would have been critical had it waited shorter or longer for the critic.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click
import polars as pl
from outcomes import table
from scenarios import SCENARIOS

from esper_analyzer import level, loss_ratio, open_run
from esper_analyzer.judging.alerts import Episode
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.rules import LEARNING_UPDATES, RULES, Rule
from esper_analyzer.measuring.trends import trend_change
from esper_schemas.errors import EsperError

RESULTS = Path(__file__).with_name("results.parquet")
WAITS = Path(__file__).with_name("waits.parquet")

BARE_RULES = {
    "value loss": "value loss beyond its critical threshold (> 20, negative or not finite)",
    "Lv/Lp": "Lv/Lp beyond its critical thresholds (< 0.1 or > 10)",
    "trend": "value loss declining: 20 % up from the older half of ten updates to the newer",
}
"""The rules of the metrics table as they stand, each on one update."""

OTHER_WAITS = (10, 20, 24, LEARNING_UPDATES, 32, 40)
"""First updates at which the verdict might judge what a critic explains; `LEARNING_UPDATES` is where it does."""

DECIDING = [rule for rule in RULES.values() if "critical" in rule.gives]
"""The rules that can make the verdict critical."""

WRONG_USAGE = 2

Found = dict[str, int | str | None]


def first_bare(updates: pl.LazyFrame) -> Found:
    """The first update at which each of the bare rules is critical, or declining; None where it never is."""
    is_bad = {
        "value loss": level("value_loss") == "critical",
        "Lv/Lp": level("loss_ratio") == "critical",
        "trend": trend_change("value_loss") >= 0.2,
    }
    rows = updates.with_columns(loss_ratio()).select("update", **is_bad).collect()
    return {name: _first(rows.filter(name)["update"].to_list()) for name in is_bad}


def first_verdicts(updates: pl.LazyFrame, rules: Iterable[Rule] = RULES.values()) -> Found:
    """The first updates at which the verdict is a warning (or worse) and critical, the rule that made it critical."""
    begun = list(Judge(rules).advance_all(updates))
    deciding = [episode.update for episode in begun if _given(episode) != "healthy"]
    critical = [(episode.update, episode.rule.name) for episode in begun if _given(episode) == "critical"]
    first, by = min(critical, default=(None, None))
    return {"warning": min(deciding, default=None), "critical": first, "by": by}


def detect(root: Path) -> pl.DataFrame:
    """`outcomes.table` of the finished runs under `root`, with the first update at which each rule found something.

    Returns:
        Its columns, and `bare value loss`, `bare Lv/Lp`, `bare trend`, `warning`, `critical` (Int64, null where
        never) and `by`, the rule that made the verdict critical.
    """
    outcomes = table(root)
    found: list[Found] = []
    for scenario, seed in outcomes.select("scenario", "seed").iter_rows():
        updates = open_run(root / f"{scenario}-{seed:03d}").updates()
        bare = {f"bare {name}": update for name, update in first_bare(updates).items()}
        found.append(bare | first_verdicts(updates))
    types = dict.fromkeys([f"bare {name}" for name in BARE_RULES] + ["warning", "critical"], pl.Int64)
    return outcomes.hstack(pl.DataFrame(found, schema={**types, "by": pl.String}))


def detect_with_other_waits(root: Path, runs: pl.DataFrame) -> pl.DataFrame:
    """What hangs on how long the verdict waits for the critic: the first critical update with each of `OTHER_WAITS`.

    Args:
        root: folder of the runs.
        runs: rows with the `scenario` and `seed` of each.

    Returns:
        A row for each run and wait: `scenario`, `seed`, `wait` and `critical`, null where never.
    """
    rows: list[Found] = []
    for scenario, seed in runs.select("scenario", "seed").iter_rows():
        updates = open_run(root / f"{scenario}-{seed:03d}").updates().collect().lazy()
        for wait in OTHER_WAITS:
            rules = [replace(rule, from_row=wait) if rule.from_row == LEARNING_UPDATES else rule for rule in DECIDING]
            critical = first_verdicts(updates, rules)["critical"]
            rows.append({"scenario": scenario, "seed": seed, "wait": wait, "critical": critical})
    return pl.DataFrame(rows, schema={"scenario": pl.String, "seed": pl.Int64, "wait": pl.Int64, "critical": pl.Int64})


def _given(episode: Episode) -> str:
    """The level that an episode gives to the verdict."""
    return episode.rule.gives[episode.severity - 1]


def _first(updates: Iterable[int]) -> int | None:
    return next(iter(updates), None)


@click.command()
@click.argument("root", metavar="FOLDER", type=click.Path(path_type=Path), required=False)
def main(root: Path | None) -> None:
    """Judge all runs of the calibration study in FOLDER anew; the results go beside this script.

    Example: detections.py study
    """
    wanted = sum(scenario.seeds for scenario in SCENARIOS)
    if root is None or not root.is_dir():
        found = "nothing" if root is None else f"{root}, which is no folder"
        _fail(f"expected the folder of runs that make_runs.py made, found {found}")
    try:
        results = detect(root)
    except (EsperError, OSError) as error:
        _fail(str(error))
    if len(results) != wanted:  # a part of the study must not replace what all of it gave
        _fail(f"{root} holds {len(results)} of the {wanted} finished runs of the study; make_runs.py makes the others")
    results.write_parquet(RESULTS)
    detect_with_other_waits(root, results).write_parquet(WAITS)
    click.echo(f"detections: {len(results)} runs, written to {RESULTS} and {WAITS.name}", err=True)


def _fail(message: str) -> NoReturn:
    click.echo(f"detections: {message}", err=True)
    sys.exit(WRONG_USAGE)


if __name__ == "__main__":
    main()
