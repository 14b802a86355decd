from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PACKAGES = ("schemas/esper_schemas", "recorder/esper_recorder", "analyzer/esper_analyzer")

FIELD = """
    state_novelty: float | None = _critic(
        "share of states never seen before",
        bands=Bands(warning=(above(1.0),), critical=(above(2.0),)),{further}
    )
"""
SHOWN_FIRST = """
        short="Novelty",
        order=11,
        headline=True,"""

RECORD = """
from esper_recorder import Recorder

with Recorder.open("runs", run_id="mine") as recorder:
    for update in range(40):
        recorder.record(update=update, policy_loss=0.1, value_loss=0.5, state_novelty=3.0)
"""

Python = Callable[..., str]


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """Python on a copy of the packages, in a folder with a `runs` of its own; what it printed."""
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    paths = os.pathsep.join(str(tmp_path / Path(package).parent) for package in PACKAGES)
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100", "LINES": "50"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def add_field(tree: Path, further: str = "") -> None:
    """The one edit: a field at the end of the payload of a copy."""
    payload = tree / "schemas" / "esper_schemas" / "metric" / "payload.py"
    before = payload.read_text()
    end = "\n    extras: Mapping[str, float]"
    assert before.count(end) == 1
    payload.write_text(before.replace(end, FIELD.format(further=further) + end))


def test_one_edit_adds_a_metric_with_thresholds(python: Python, tmp_path: Path) -> None:
    """A field that declares no more than its thresholds is recorded, judged, explained and documented."""
    add_field(tmp_path)
    python("-c", RECORD)
    table = python("-m", "esper_schemas.metric.table")
    assert "| `state_novelty` | float64 | critic | share of states never seen before |" in table
    assert "| `state_novelty` | State novelty | This is beyond what is usual;" in table

    report = json.loads(python("-m", "esper_analyzer", "report", "--run", "runs/mine", "--format", "json"))
    assert report["metrics"]["state_novelty"]["health"]["level"] == "critical"
    (alert,) = (alert for alert in report["alerts"] if alert["metric"] == "state_novelty")
    assert alert["level"] == "critical"
    said = "State novelty is 3.000 (> 2.000) since update 10."
    assert alert["message"].startswith(f"{said} This is beyond what is usual;")

    text = python("-m", "esper_analyzer", "report", "--run", "runs/mine")
    assert re.search(r"^  state_novelty +3\.000 .* critical$", text, re.MULTILINE)
    assert said in " ".join(text.split())

    page = python("-m", "esper_analyzer", "report", "--run", "runs/mine", "--format", "html")
    first, other = page.split('<details id="other">')
    assert "State novelty</h3>" not in first
    (chart,) = re.findall(r"State novelty</h3>.*?</section>", other, re.DOTALL)
    assert "last value critical" in chart


def test_one_edit_shows_a_metric_first(python: Python, tmp_path: Path) -> None:
    """A field that declares a place and a short name stands on every screen and page, by title and with its level."""
    add_field(tmp_path, SHOWN_FIRST)
    python("-c", RECORD)
    assert "| `state_novelty` | State novelty | Novelty |" in python("-m", "esper_schemas.metric.table")

    screen = python("-m", "esper_analyzer", "tail", "--once", "--run", "runs/mine")
    assert re.search(r"^  Novelty +3\.000 ", screen, re.MULTILINE)

    page = python("-m", "esper_analyzer", "report", "--run", "runs/mine", "--format", "html")
    (tiles,) = re.findall(r'<ul class="tiles".*?</ul>', page, re.DOTALL)
    said = r'"name">State novelty</span><span class="value">3\.000</span><span class="level critical">'
    assert re.search(said, tiles)
    assert page.index("Value loss</h3>") < page.index("State novelty</h3>")
    assert 'id="other"' not in page  # nothing was recorded but what comes first

    markdown = python("-m", "esper_analyzer", "report", "--run", "runs/mine", "--format", "markdown")
    assert re.search(r"^\| State novelty \| 3\.000 \| .* \| ❌ critical \|$", markdown, re.MULTILINE)
    drawn = "from esper_analyzer.notebook.jupyter import run_html; from esper_analyzer import open_run;"
    assert "<td>Novelty</td>" in python("-c", f"{drawn} print(run_html(open_run('runs/mine')))")
