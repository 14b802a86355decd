"""Spark, in an environment of its own, reads the files in place and answers the question of the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.engines.conftest import SEEDS, UPDATES
from tests.engines.page import VIEWS, blocks, run_in

from esper_analyzer import open_run
from esper_recorder import Recorder

pytestmark = pytest.mark.engines

COLUMNS = ["rank", "attempt", "seq", "update", "value_loss", "skipped", "env_steps"]


def program(*questions: str) -> str:
    """The page's blocks as they stand, then questions; each value of an answer is printed as Python writes it."""
    read, ask = blocks("Spark", "python")
    (statement,) = [view for view in blocks(VIEWS) if "view updates" in view]
    show = """
import json
def show(question):
    rows = [[repr(value) for value in row] for row in spark.sql(question).collect()]
    print(json.dumps([[value.strip("'") for value in row] for row in rows]))
"""
    return "\n".join([read, f"spark.sql({statement!r})", ask, show, *(f"show({question!r})" for question in questions)])


def test_spark_has_the_rows_that_count(reader: Path) -> None:
    """What `Run.updates` has of each run at that depth, value by value, and the answer to the question of the page."""
    _, ask = blocks("Spark", "python")
    (question,) = re.findall(r'"""(.*?)"""', ask, re.DOTALL)
    rows = f"select split(run, '/runs/')[1], {', '.join(COLUMNS)} from updates"
    extras = "select update, `reward/distance` from updates where run_id = 'sound-1' and seq = 3"
    found, broken, extra = run_in("spark", program(rows, question, extras), reader)
    expected = []
    for header in (reader / "runs").glob("*/run.json"):
        if header.parent.name != "killed":  # no row of it is sealed
            updates = open_run(header.parent).updates().select(COLUMNS).collect()
            expected += [[header.parent.name, *map(repr, row)] for row in updates.iter_rows()]
    assert sorted(found) == sorted(expected)
    start, count = UPDATES // 2 + 1, UPDATES - UPDATES // 2 - 1
    assert sorted([Path(run).name, *values] for run, *values in broken) == [
        [f"broken-{seed}", "0.03", str(start), str(count)] for seed in range(SEEDS)
    ]
    assert extra == [["3", "0.25"]]


def test_names_and_values_are_as_the_table_says(tmp_path: Path) -> None:
    """NaN above every number, extremes of int64, and metrics whose names differ only in case."""
    extras = {"filename": 2.0, "Reward": 3.0, "reward": 4.0, "a.b (c);": 5.0}
    with Recorder.open(tmp_path / "runs", run_id="odd", config={"lr": "linear"}) as recorder:
        for value in (1.0, float("nan"), float("inf"), -0.0):
            recorder.record(update=2**63 - 1, policy_loss=0.1, value_loss=value, extras=extras)
    with Recorder.open(tmp_path / "runs", run_id="plain", config={"lr": 0.5}) as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=1.0)
    found = run_in(
        "spark",
        program(
            "select value_loss from all_attempts where value_loss > 100",
            "select update, value_loss from updates where run_id = 'odd'",
            "select filename, Reward, reward, `a.b (c);` from updates order by run",
            "select config.lr from runs order by run",
        ),
        tmp_path,
    )
    assert found == [
        [["nan"], ["inf"]],
        [[str(2**63 - 1), "-0.0"]],
        [["2.0", "3.0", "4.0", "5.0"], ["None"] * 4],
        [["linear"], ["0.5"]],
    ]
