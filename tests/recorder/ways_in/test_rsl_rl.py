"""The page about rsl_rl: its snippets, as they stand there, record a real training, and watch it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.rsl_rl_runs import Points, make_runner, rows_of

from esper_analyzer import open_run
from esper_recorder.adapters.rsl_rl import Writer

PAGE = Path(__file__).parents[3] / "recorder" / "ways_in" / "rsl_rl.md"


def test_the_snippets_record_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first snippet records every update and leaves event files; the second one goes on, and watches."""
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # rsl_rl turns that off
    names: dict[str, Any] = {"env": Points(), "cfg": make_runner(tmp_path).cfg | {"max_iterations": 2}}
    exec(compile(snippets[0], str(PAGE), "exec"), names)
    run = open_run("runs/mine")
    assert [row["update"] for row in rows_of(run)] == [0, 1]
    assert all(row["explained_variance"] is not None and row["/reward/near"] < 0.0 for row in rows_of(run))
    assert list(Path("logs").glob("events.out.tfevents.*"))
    exec(compile(snippets[1], str(PAGE), "exec"), names)
    assert [(row["update"], row["attempt"]) for row in rows_of(run)] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert names["monitor"].level == run.report().verdict.level
    assert run.status() == "finished"
    assert not run.faults()


def test_the_page_names_options_of_the_writer() -> None:
    """Each key that the page names for `cfg["logger"]` is an option of the Writer."""
    text = PAGE.read_text(encoding="utf-8")
    named = {"root", "run_id", "also", "resume", "config", "env", "strict", "upload", "redact"}
    assert all(re.search(rf"[`\"]{name}[`\"=]", text) for name in named)
    assert named == inspect.signature(Writer).parameters.keys() - {"log_dir"}
