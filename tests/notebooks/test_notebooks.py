"""The notebooks run from top to bottom, on a real run or on those that they make themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import polars as pl
import pytest
from nbclient import NotebookClient
from tests.waiting import HANG_SECS

from esper_analyzer import open_run

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

SHORTER = {
    "comparing_trainers": ("EPOCHS, MINIBATCHES = 30, 8, 64, 4, 4", "EPOCHS, MINIBATCHES = 12, 8, 64, 2, 2"),
    "many_runs": ('"updates": 40, "rollout_steps": 32', '"updates": 40, "rollout_steps": 8'),
}
"""What a notebook says of how long its runs are trained, and what it says with `--every`: every cell runs, on less."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/`, holding a short CartPole run, and `notebooks/` with the benchmark."""
    place = tmp_path_factory.mktemp("place")
    command = [sys.executable, "-m", "esper_recorder", "train", "--updates", "12", "--run-id", "short"]
    subprocess.run(command, cwd=place, check=True, timeout=HANG_SECS)
    ignored = shutil.ignore_patterns("working", "LOCK", "__pycache__")
    shutil.copytree(FOLDER / "benchmark", place / "notebooks" / "benchmark", ignore=ignored)
    return place


def run_notebook(notebook: Path, place: Path, *, is_shorter: bool) -> None:
    """Run a notebook in a place, as it is or with less training."""
    shutil.copy(notebook, place / "notebooks")
    document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    if is_shorter and notebook.stem in SHORTER:
        long, short = SHORTER[notebook.stem]
        (cell,) = [cell for cell in document.cells if long in cell.source]
        cell.source = cell.source.replace(long, short)
    NotebookClient(document, timeout=600, resources={"metadata": {"path": str(place / "notebooks")}}).execute()
    outputs = [output for cell in document.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.notebooks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter packages, not ours
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, place: Path, pytestconfig: pytest.Config) -> None:
    """Each cell runs without an error, and at least one of them shows a picture."""
    run_notebook(notebook, place, is_shorter=pytestconfig.getoption("--every") > 1)


@pytest.mark.notebooks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_broken_run_is_told_from_the_sound_one(place: Path) -> None:
    """What the notebook on diagnosing says of its two runs is so: one warns of its critic, by `value_spread` first."""
    runs = place / "runs" / "diagnosing"
    if not runs.exists():  # where this test is run alone
        run_notebook(FOLDER / "diagnosing.ipynb", place, is_shorter=False)
    sound, broken = open_run(runs / "sound"), open_run(runs / "no-critic-gradient")
    assert sound.report().verdict.level == "healthy"
    verdict = broken.report().verdict
    assert verdict.level == "warning"
    answers = {question: answer.level for question, answer in verdict.questions.items()}
    assert answers == {"mechanics": "healthy", "critic": "warning", "learning": "healthy"}
    deciding = broken.alerts().filter(
        pl.col("metric").is_in(["value_spread", "critic_error", "explained_where_varied"])
    )
    assert deciding["metric"].to_list()[0] == "value_spread"
    assert broken.updates().select(pl.col("value_loss").max()).collect().item() < 5.0


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(notebook: Path) -> None:
    """Outputs are stripped, so that a notebook changes only when its text does."""
    cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
