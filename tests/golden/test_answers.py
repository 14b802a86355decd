"""The two commands answer as those of 0.1.0 did: every command, every option, every key of every JSON document.

`answers.json` was written by version 0.1.0 on the golden runs, but for the verdicts, and the answer on all ranks of a
run, which 0.2 gives where none is named; the reports are in `reports/`. `compare` is asked for the value loss, which
0.1.0 compared by default; 0.2 compares the episode return where every run has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.golden.golden import FOLDER, differences

from esper_analyzer.cli import main as analyze
from esper_recorder.cli import main as record
from esper_schemas.testing import golden

ANSWERS: dict[str, Any] = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))
GROUPS: dict[str, click.Group] = {"esper-analyze": analyze, "esper-rec": record}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of every golden run."""
    root = tmp_path_factory.mktemp("golden")
    for name in golden.NAMES:
        golden.copy_run(name, root)
    return root


@pytest.mark.parametrize("tool", GROUPS)
def test_every_command_and_option_is_there(tool: str) -> None:
    """A script that was written for 0.1.0 finds what it names."""
    expected = ANSWERS["commands"][tool]
    assert expected.keys() <= GROUPS[tool].commands.keys()
    for name, spellings in expected.items():
        command = GROUPS[tool].commands[name]
        known = {spelling for option in command.params for spelling in (*option.opts, *option.secondary_opts)}
        arguments = [option for option in command.params if isinstance(option, click.Argument)]
        assert {spelling for spelling in spellings if spelling.startswith("-")} <= known, name
        assert len(arguments) >= sum(not spelling.startswith("-") for spelling in spellings), name


@pytest.mark.parametrize("answer", ANSWERS["documents"], ids=lambda answer: " ".join(answer["arguments"][:3]))
def test_every_document_says_what_it_said(answer: dict[str, Any], root: Path) -> None:
    """Every key has the value that it had, and the exit code is the same; further keys are no difference."""
    arguments = [*answer["arguments"], "--root", str(root)]
    result = CliRunner().invoke(GROUPS[answer["command"]], arguments)
    found = json.loads(result.stdout.replace(json.dumps(str(root))[1:-1], "<root>"))
    assert differences(answer["document"], found, answer["arguments"][0]) == []
    assert result.exit_code == answer["exit_code"]
