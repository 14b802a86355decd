"""Why a run ended is said wherever its status is, by every command and in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.analyzer.conftest import Record
from tests.conftest import Command

from esper_analyzer import open_run
from esper_analyzer.drawing.heading import heading
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.recorded import RecordedFeed
from esper_analyzer.notebook.jupyter import run_html
from esper_analyzer.reporting.check import check_run
from esper_analyzer.reporting.check_formats import as_github
from esper_analyzer.serving.series import series_document
from esper_recorder.cli import main as recorder_main
from esper_schemas.examining.run import find_run, verify_run
from esper_schemas.run.ending import describe_ending

REASON = "RuntimeError: CUDA out of \x1b[31m memory"
SAID = r"failed: RuntimeError: CUDA out of \x1b[31m memory"


@pytest.fixture
def failed(record: Record) -> Path:
    """A run of one update that failed."""
    return record([{"update": 0}], close={"status": "failed", "reason": REASON})


def test_explanation_says_why_the_run_ended(failed: Path, command: Command) -> None:
    """`explain` has the status and the reason in its first line, and both in JSON."""
    assert command("explain", failed).stdout.splitlines()[0] == f"run  {SAID}"
    document = json.loads(command("explain", failed, "--format", "json").stdout)
    assert (document["status"], document["end_reason"], document["is_imported"]) == ("failed", REASON, False)


def test_list_says_why_runs_ended(
    failed: Path, record: Record, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has the reason, a filter finds it, and the table has it where a run says why and there is room."""
    record([{"update": 0}], "fine")
    root = failed.parent
    found = {run["name"]: run for run in json.loads(command("runs", root, "--format", "json").stdout)["runs"]}
    assert (found["run"]["end_reason"], found["fine"]["end_reason"]) == (REASON, None)
    assert "end_reason: widen" in command("runs", root).stderr
    monkeypatch.setenv("COLUMNS", "200")
    assert SAID.removeprefix("failed: ")[:35] in command("runs", root).stdout
    only = ("--filter", "end_reason ~ memory", "--format", "json")
    assert [run["name"] for run in json.loads(command("runs", root, *only).stdout)["runs"]] == ["run"]
    fine = command("runs", root, "--filter", "name == fine")
    assert "end_reason" not in fine.stdout + fine.stderr


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_heading_of_a_screen_says_why_the_run_ended(record: Record, width: int) -> None:
    """The reason stands behind the status, or below the name where that leaves too little room; each line fits."""
    for name in ("run", "r" * 50):
        run = open_run(record([{"update": 0}], name, close={"status": "failed", "reason": REASON}))
        feed = LiveFeed(run, 0)
        lines = [line.plain for line in heading(run, 0, feed.picture(), width)]
        feed.close()
        assert max(map(len, lines)) < width
        assert "● failed" in lines[0]
        assert width < 80 or SAID[:30] in lines[name != "run" and width < 200]
        assert "failed: R" in "".join(lines)


def test_replay_says_why_the_run_ended_once_it_is_there(record: Record) -> None:
    """A replay does not know before its end how the run ends."""
    run = open_run(record([{"update": 0}, {"update": 1}], close={"status": "failed", "reason": REASON}))
    feed = RecordedFeed(run, 0)
    feed.seek(1)
    before = heading(run, 0, feed.picture(), 80)[0].plain
    after = heading(run, 0, feed.finish(), 80)[0].plain
    assert before.endswith(" ● replay")
    assert after.endswith(f" ● replay, {SAID}")


def test_lines_of_tail_say_why_the_run_ended(failed: Path, command: Command) -> None:
    """In a pipe, `tail` says it on standard error."""
    assert f"run: {SAID}\n" in command("tail", failed).stderr


def test_notebook_says_why_the_run_ended(failed: Path) -> None:
    """The display of a run has it beside the status, and nothing in it can act."""
    assert SAID in run_html(open_run(failed))


def test_annotation_says_why_the_run_ended(record: Record) -> None:
    """The workflow command for the verdict ends with it; that of the files does not repeat it."""
    run = open_run(record([{"update": 0}], close={"status": "failed", "reason": REASON}))
    verdict, integrity = as_github(check_run(run)).splitlines()
    assert verdict.endswith(f"%0AThe status of the run is {SAID}")
    assert "failed:" not in integrity


def test_series_for_agents_say_why_the_run_ended(failed: Path) -> None:
    """The document has the status and the reason."""
    found = series_document(open_run(failed), ["value_loss"], rank=None, first=None, last=None, points=10)["run"]
    assert (found["status"], found["end_reason"]) == ("failed", REASON)


def test_comparison_says_why_runs_ended(failed: Path, record: Record, command: Command) -> None:
    """Text, page and JSON have it, and so has `explain` of two runs; nothing is said of a run without a reason."""
    fine = record([{"update": 0}], "fine")
    compare = ("compare", failed, fine)
    lines = command(*compare).stdout.splitlines()
    assert f"    {SAID}" in lines
    assert sum("finished" in line for line in lines) == 1
    assert f"<td>{SAID}</td>" in command(*compare, "--format", "html").stdout
    runs = {run["label"]: run for run in json.loads(command(*compare, "--format", "json").stdout)["runs"]}
    assert (runs["run"]["end_reason"], runs["fine"]["end_reason"]) == (REASON, None)
    sentences = json.loads(command("explain", fine, failed, "--format", "json").stdout)["sentences"]
    assert sentences[-1] == f"run ended as {SAID}."
    assert not any(sentence.startswith("fine ended") for sentence in sentences)


def test_reason_that_is_cut_or_ends_with_a_dot_gets_none(record: Record, command: Command) -> None:
    """A sentence of `explain` ends with one mark."""
    cut = record([{"update": 0}], "cut", close={"status": "failed", "reason": "x" * 500})
    whole = record([{"update": 0}], "whole", close={"status": "failed", "reason": "Out of memory."})
    sentences = json.loads(command("explain", cut, whole, "--format", "json").stdout)["sentences"]
    assert [one[-3:] for one in sentences[-2:]] == ["xx…", "ry."]


def test_verify_says_why_the_run_ended(failed: Path) -> None:
    """The summary of `esper-rec verify` and its JSON have it, which is no damage."""
    done = CliRunner().invoke(recorder_main, ["verify", str(failed)])
    assert (done.exit_code, done.output.splitlines()[-1].endswith(f"1 row); its status is {SAID}")) == (0, True)
    document = json.loads(CliRunner().invoke(recorder_main, ["verify", str(failed), "--format", "json"]).stdout)
    assert (document["run"]["status"], document["run"]["end_reason"]) == ("failed", REASON)
    assert verify_run(find_run(failed, failed.parent)).ending == open_run(failed).ending(None)


def test_very_long_reason_is_cut() -> None:
    """A line has at most 200 characters of it."""
    assert describe_ending("failed", "x" * 500) == "failed: " + "x" * 199 + "…"
    assert describe_ending("finished", None, is_imported=True) == "imported"
