from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase
from tests.analyzer.reporting.checked import BAD, FINE, KL_HIGH, WORN, check_apart, damage
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.reporting.check import Check, check_report
from esper_analyzer.reporting.check_formats import as_github, as_json, as_junit, as_text


def workflow_commands(text: str) -> list[tuple[str, str, str]]:
    """Kind, title and message of each line, as the runner of GitHub Actions decodes them."""
    found = []
    for line in text.splitlines():
        assert line.startswith("::")
        head, message = line[2:].split("::", 1)
        kind, title = head.split(" title=", 1)
        for code, char in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
            title = title.replace(code, char)
            message = message.replace(code, char) if code not in ("%3A", "%2C") else message
        found.append((kind, title, message))
    return found


def report_of(path: Path, **options: Any) -> Check:
    """The check of a run in this process."""
    return check_report(open_run(path).report(), **options)


def test_json_is_strict_and_versioned(record: Callable[..., Path]) -> None:
    """The document has the documented keys, and NaN is a string in it."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = as_json(report_of(record(BAD), gates=["value_loss", "kl_divergence"]))
    document = json.loads(text, parse_constant=refuse)
    assert list(document) == [
        "format", "run", "updates", "fail_on", "thresholds", "outcome", "exit_code", "verdict", "gates", "integrity",
    ]  # fmt: skip
    assert document["format"] == "esper-check/1"
    assert (document["outcome"], document["exit_code"]) == ("failed", 1)
    assert document["gates"]["value_loss"]["value"] == "NaN"
    assert list(document["gates"]) == ["value_loss", "kl_divergence"]
    assert document["verdict"]["reasons"]
    first = document["verdict"]["findings"][0]
    assert (first["level"], first["rule"]) == ("critical", "impossible_value_loss")
    assert document["verdict"]["reasons"][0] == f"{first['text']} {first['meaning']}"


def test_junit_is_read_by_a_junit_reader(record: Callable[..., Path], tmp_path: Path) -> None:
    """Failed is a failure, damaged an error, unknown skipped; totals, names and reasons arrive."""
    file = tmp_path / "check.xml"

    def cases(path: Path, *gates: str) -> dict[str, TestCase]:
        file.write_text(as_junit(report_of(path, gates=gates)), encoding="utf-8")
        read = JUnitXml.fromfile(str(file))
        (suite,) = list(read)
        found = {case.name: case for case in suite}
        kinds = [type(result) for case in found.values() for result in case.result]
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (
            len(found), kinds.count(Failure), kinds.count(Error), kinds.count(Skipped),
        )  # fmt: skip
        assert (read.tests, read.failures, read.errors) == (suite.tests, suite.failures, suite.errors)
        return found

    found = cases(record(FINE, "fine"), "kl_divergence")
    assert list(found) == ["verdict", "kl_divergence", "integrity"]
    assert all(case.is_passed for case in found.values())
    assert "healthy" in (found["kl_divergence"].system_out or "")

    found = cases(record(KL_HIGH, "kl"), "kl_divergence", "explained_variance")
    (failure,) = found["kl_divergence"].result
    assert isinstance(failure, Failure)
    assert failure.message == "kl_divergence failed (critical)"
    assert "KL divergence is 0.5 (> 0.03) since update 41" in (failure.text or "")
    assert found["explained_variance"].is_passed
    verify = [sys.executable, "-m", "junitparser", "verify", str(file)]
    assert subprocess.run(verify, check=False, capture_output=True, timeout=HANG_SECS).returncode == 1

    found = cases(record(FINE[:3], "few"))
    assert isinstance(found["verdict"].result[0], Skipped)

    path = record(FINE, "damaged", segment_rows=20)
    damage(path)
    found = cases(path)
    assert isinstance(found["integrity"].result[0], Error)
    assert "segment 0" in (found["integrity"].result[0].text or "")


def test_github_commands(record: Callable[..., Path]) -> None:
    """Errors for what failed, warnings for what is at that level, notices for the rest; one line each."""

    def kinds(path: Path, **options: Any) -> dict[str, str]:
        found = workflow_commands(as_github(report_of(path, **options)))
        return {title.split()[1]: kind for kind, title, _ in found}

    assert kinds(record(FINE, "fine")) == {"verdict": "notice", "integrity": "notice"}
    assert kinds(record(WORN, "worn"))["verdict"] == "warning"
    assert kinds(record(WORN, "worn-too"), fail_on="warning")["verdict"] == "error"
    assert kinds(record(FINE[:3], "few"))["verdict"] == "notice"
    bad = record(BAD, "bad")
    assert kinds(bad, gates=["value_loss", "kl_divergence"]) == {
        "verdict": "error", "value_loss": "error", "kl_divergence": "notice", "integrity": "notice",
    }  # fmt: skip
    _, title, message = workflow_commands(as_github(report_of(bad)))[0]
    assert title == "esper-check: verdict of bad"
    assert message.splitlines()[0] == "verdict failed (critical)"
    assert message.splitlines()[1:] == report_of(bad).verdict.reasons


def test_hostile_names_do_no_harm(record: Callable[..., Path], tmp_path: Path) -> None:
    """A run's name with escapes, line breaks, markup and command syntax stays a name in every format."""
    hostile = "a\x1b[31m\x00\x08\n::error::x,y:z%0A%]]><b a='1'>&amp;\ud800\ufffe"
    path = record(BAD)
    header = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**header, "run_id": hostile, "trainer": hostile, "env": hostile}))
    made = report_of(path)
    texts = [as_text(made, Style(color=False, unicode=True), 80), as_json(made), as_junit(made), as_github(made)]
    for text in texts:
        assert not {char for char in text if not char.isprintable()} - {"\n"}
        text.encode("utf-8")
    shown = r"a\x1b[31m\x00\x08\n\x3a:error\x3a:x,y:z%0A%]]><b a='1'>&amp;\ud800\ufffe"
    assert json.loads(texts[1])["run"]["run_id"] == hostile
    tree = ElementTree.fromstring(texts[2])
    assert tree[0].attrib["name"] == f"esper-check {shown}"
    (suite,) = list(JUnitXml.fromstring(texts[2]))
    assert suite.name == f"esper-check {shown}"
    assert len(texts[3].splitlines()) == 2
    assert workflow_commands(texts[3])[0][1] == f"esper-check: verdict of {shown}"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_text_fits_the_width(record: Callable[..., Path], width: int) -> None:
    """No line is wider than the output, and nothing of a reason is lost."""
    path = record(KL_HIGH, "a-run-with-a-rather-long-name-0123456789-0123456789")
    made = report_of(path, gates=["kl_divergence"])
    text = as_text(made, Style(color=False, unicode=True), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    if width >= 40:
        for reason in made.verdict.reasons:
            assert reason in words
    done = check_apart("--run", path, COLUMNS=str(width)) if width == 60 else None
    assert done is None or max(map(len, done.stdout.splitlines())) <= width


def test_text_says_what_failed(record: Callable[..., Path]) -> None:
    """The first line alone tells a log's reader the outcome, the run, and what failed."""
    style = Style(color=False, unicode=True)

    def first(path: Path, **options: Any) -> str:
        return as_text(report_of(path, **options), style, 200).splitlines()[0]

    assert first(record(FINE, "fine")) == "passed: fine is healthy, 60 updates, 0 to 59"
    assert first(record(KL_HIGH, "kl"), gates=["kl_divergence"]).endswith(
        "; --fail-on critical reached by kl_divergence"
    )
    assert first(record(FINE[:3], "few")).endswith("; a run that cannot be judged does not fail")
    assert "critical" in as_text(report_of(record(BAD, "bad")), Style(color=True, unicode=True), 80)


@pytest.mark.parametrize("status", ["failed", "finished"])
def test_why_a_run_ended_is_said(record: Callable[..., Path], status: str) -> None:
    """The sentence of a check and its JSON say why an attempt ended; nothing in that text can act."""
    made = report_of(record(FINE, close={"status": status, "reason": "RuntimeError: no\x1b[31m memory"}))
    line = as_text(made, Style(color=False, unicode=True), 200).splitlines()[0]
    shown = rf"{status}: RuntimeError: no\x1b[31m memory"
    assert line == f"passed: run is healthy, 60 updates, 0 to 59; its status is {shown}"
    assert json.loads(as_json(made))["run"]["end_reason"] == "RuntimeError: no\x1b[31m memory"
    assert shown in as_junit(made)
