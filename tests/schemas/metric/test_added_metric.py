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

# Records a run, and answers on one line what each command, and the notebook, says of it.
RECORD_AND_SHOW = """
import contextlib, io, json, runpy, sys
from esper_recorder import Recorder

with Recorder.open("runs", run_id="mine") as recorder:
    for update in range(40):
        recorder.record(update=update, policy_loss=0.1, value_loss=0.5, state_novelty=3.0)

from esper_analyzer import open_run
from esper_analyzer.cli import main
from esper_analyzer.notebook.jupyter import run_html

said = {"notebook": run_html(open_run("runs/mine"))}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)) as out:
        try:
            main([*command.split(), "--run", "runs/mine"])
        except SystemExit as end:
            assert not end.code, (command, end.code)
    said[command] = out.buffer.getvalue().decode()
with contextlib.redirect_stdout(io.StringIO()) as out:
    runpy.run_module("esper_schemas.metric.table", run_name="__main__")
said["table"] = out.getvalue()
print(json.dumps(said))
"""

Show = Callable[..., dict[str, str]]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Record with a copy of the packages, and show the run with it: what each command said, the notebook, the table.

    One process does it all: most of its time is imports.
    """
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, tmp_path / package)
    paths = os.pathsep.join(str(tmp_path / Path(package).parent) for package in PACKAGES)
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100", "LINES": "50"}

    def run(*commands: str) -> dict[str, str]:
        script = [sys.executable, "-W", "ignore:.*found in sys.modules", "-c", RECORD_AND_SHOW, json.dumps(commands)]
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said: dict[str, str] = json.loads(done.stdout)
        return said

    return run


def add_field(tree: Path, further: str = "") -> None:
    """The one edit: a field at the end of the payload of a copy."""
    payload = tree / "schemas" / "esper_schemas" / "metric" / "payload.py"
    before = payload.read_text()
    end = "\n    extras: Mapping[str, float]"
    assert before.count(end) == 1
    payload.write_text(before.replace(end, FIELD.format(further=further) + end))


def test_one_edit_adds_a_metric_with_thresholds(show: Show, tmp_path: Path) -> None:
    """A field that declares no more than its thresholds is recorded, judged, explained and documented."""
    add_field(tmp_path)
    said = show("report", "report --format json", "report --format html")
    assert "| `state_novelty` | float64 | critic | share of states never seen before |" in said["table"]
    assert "| `state_novelty` | State novelty | This is beyond what is usual;" in said["table"]

    report = json.loads(said["report --format json"])
    assert report["metrics"]["state_novelty"]["health"]["level"] == "critical"
    (alert,) = (alert for alert in report["alerts"] if alert["metric"] == "state_novelty")
    assert alert["level"] == "critical"
    reason = "State novelty is 3.000 (> 2.000) since update 10."
    assert alert["message"].startswith(f"{reason} This is beyond what is usual;")

    assert re.search(r"^  state_novelty +3\.000 .* critical$", said["report"], re.MULTILINE)
    assert reason in " ".join(said["report"].split())

    first, other = said["report --format html"].split('<details id="other">')
    assert "State novelty</h3>" not in first
    (chart,) = re.findall(r"State novelty</h3>.*?</section>", other, re.DOTALL)
    assert "last value critical" in chart


def test_one_edit_shows_a_metric_first(show: Show, tmp_path: Path) -> None:
    """A field that declares a place and a short name stands on every screen and page, by title and with its level."""
    add_field(tmp_path, SHOWN_FIRST)
    said = show("tail --once", "report --format html", "report --format markdown")
    assert "| `state_novelty` | State novelty | Novelty |" in said["table"]
    assert re.search(r"^  Novelty +3\.000 ", said["tail --once"], re.MULTILINE)

    page = said["report --format html"]
    (tiles,) = re.findall(r'<ul class="tiles".*?</ul>', page, re.DOTALL)
    tile = r'"name">State novelty</span><span class="value">3\.000</span><span class="level critical">'
    assert re.search(tile, tiles)
    assert page.index("Value loss</h3>") < page.index("State novelty</h3>")
    assert 'id="other"' not in page  # nothing was recorded but what comes first

    row = r"^\| State novelty \| 3\.000 \| .* \| ❌ critical \|$"
    assert re.search(row, said["report --format markdown"], re.MULTILINE)
    assert "<td>Novelty</td>" in said["notebook"]
