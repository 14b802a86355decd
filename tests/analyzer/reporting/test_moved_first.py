"""Below a critical verdict, the report as text says what moved first."""

from __future__ import annotations

import math

from tests.analyzer.conftest import Record
from tests.analyzer.explaining.sound import rows
from tests.conftest import Command

from esper_analyzer import open_run

LABEL = "  moved first  "


def test_a_critical_report_says_what_moved_first(record: Record, command: Command) -> None:
    """With the first two sentences of `explain`, and the command that has the others; on the screen and in a file."""
    made = list(rows(80))
    for update in range(60, 80):
        made[update] |= {"learning_rate": 1e-3, "entropy": 0.5}
    for update in range(62, 80):
        made[update]["value_loss"] = math.nan
    run = record(made)
    sentences = open_run(run).explain().sentences
    assert "Learning rate moved first, in update 60" in sentences[0]
    shown = command("report", run).stdout
    said = " ".join([*sentences[:2], "`esper-analyze explain` says more."])
    assert LABEL.strip() + " " + said in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    file = run.parent / "report.txt"
    command("report", run, "-o", file)
    assert file.read_text(encoding="utf-8") == shown


def test_what_has_come_back_is_not_named(record: Record, command: Command) -> None:
    """A metric that was odd in one update, twenty before the trouble, is no cause that a report should name."""
    made = list(rows(80))
    made[55]["learning_rate"] = 1e-3
    for update in range(75, 80):
        made[update]["skipped"] = True
    run = record(made)
    found = open_run(run)
    assert (found.report().verdict.level, found.explain().moved[0].lasts) == ("critical", False)
    assert LABEL not in command("report", run).stdout


def test_a_report_that_is_not_critical_says_nothing_of_it(record: Record, command: Command) -> None:
    """Nothing moved in a sound run, and what is only a warning is left to `explain`."""
    assert LABEL not in command("report", record(list(rows(80)))).stdout
