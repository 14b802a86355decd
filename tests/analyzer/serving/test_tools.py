from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer.judging.settings import read_settings
from esper_analyzer.listing.entry import RunEntry, read_rows
from esper_analyzer.serving.answers import Answer
from esper_analyzer.serving.bounds import FORMAT, NOTICE
from esper_analyzer.serving.runs_folder import RunsFolder
from esper_analyzer.serving.tools import TOOLS, Tool, call
from esper_schemas.testing import golden


def told(folder: RunsFolder, tool: str, **arguments: Any) -> dict[str, Any]:
    """The document of the answer to a call that is no error."""
    text, is_error = call(TOOLS[tool], folder, arguments)
    assert not is_error, text
    document: dict[str, Any] = json.loads(text)["document"]
    return document


def test_thresholds_of_the_user_are_in_force(tmp_path: Path) -> None:
    """Every tool that judges a run judges it by the user's own thresholds, where the server was given some."""
    root = tmp_path / "runs"
    for name in ("finished", "resumed"):
        golden.copy_run(name, root)
    file = tmp_path / "strict.toml"
    file.write_text('[thresholds.value_loss]\ncritical = "> 0.0001"\n')
    lenient, strict = RunsFolder(root), RunsFolder(root, read_settings(file))
    assert told(lenient, "check", run="finished")["verdict"]["level"] == "healthy"
    assert told(strict, "check", run="finished")["verdict"]["level"] == "critical"
    assert told(strict, "report", run="finished")["thresholds"] == str(file)
    levels = [run["verdict"] for run in told(strict, "compare", runs=["finished", "resumed"], by="updates")["runs"]]
    assert levels == ["critical", "critical"]
    assert {run["verdict"]["level"] for run in told(strict, "runs")["runs"]} == {"critical"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("division by zero"), "a defect of Esper: ZeroDivisionError"),
        (RecursionError("maximum recursion depth exceeded"), "a defect of Esper: RecursionError"),
        (PermissionError(13, "Permission denied", "/some/file"), "Permission denied: /some/file"),
    ],
)
def test_failure_of_a_tool_is_one_line(tmp_path: Path, error: Exception, said: str) -> None:
    """Whatever a tool raises, the agent reads one line, and the server goes on."""

    def fail(_folder: RunsFolder) -> Answer:
        raise error

    text, is_error = call(Tool("fail", "Fail", "Fails.", (), fail), RunsFolder(tmp_path), {})
    assert is_error
    answer = json.loads(text)
    assert answer == {"format": FORMAT, "notice": NOTICE, "error": answer["error"]}
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_two_runs_whose_names_become_the_same_are_not_mistaken(tmp_path: Path) -> None:
    """A cleaned name that two runs have opens neither, and an exact name opens its own."""
    for name in ("a\n", "a\\n", "b\x1b", "c\n\\x1b", "c\\n\x1b"):
        golden.copy_run("finished", tmp_path).rename(tmp_path / name)
    folder = RunsFolder(tmp_path)
    assert folder.run("a\\n").path.name == "a\\n"
    assert folder.run("b\\x1b").path.name == "b\x1b"
    text, is_error = call(TOOLS["report"], folder, {"run": "c\\n\\x1b"})
    assert is_error
    assert "there is no run" in text


def test_run_that_is_recorded_meanwhile_is_answered_as_it_is(writer: Callable[..., Any], tmp_path: Path) -> None:
    """Each call reads the disk again: a run that goes on is answered as it is then."""
    process = writer("live")
    folder = RunsFolder(tmp_path / "runs")
    for update in (0, 1):
        process.stdin.write(f"{update}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{update}\n"
        made = told(folder, "series", run="live", metrics=["value_loss"])
        assert made["series"]["value_loss"]["points"][-1] == [update, 1.0 / (update + 1.0)]
        assert made["run"]["status"] == "live"


def test_runs_that_are_not_shown_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long list only the part that is asked for is judged, unless what is asked for needs all."""
    for number in range(5):
        golden.copy_run("finished", tmp_path).rename(tmp_path / f"run-{number}")
    read: list[str] = []

    def count(entries: Sequence[RunEntry], *given: Any) -> list[RunEntry]:
        read.extend(entry.name for entry in entries)
        return read_rows(entries, *given)

    monkeypatch.setattr("esper_analyzer.listing.pool.read_rows", count)
    folder = RunsFolder(tmp_path)
    asked = told(folder, "runs", sort="name", limit=1, skip=1)
    assert [run["name"] for run in asked["runs"]] == ["run-1"]
    assert read == ["run-1", "run-2"]  # one more, to know whether there is a next part
    told(folder, "runs", sort="return", limit=1)
    assert len(read) == 2 + 5
