"""`esper-analyze runs`: which runs are listed, in which order, in which columns, and what each format has."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import open_run, read_settings
from esper_analyzer.listing import pool
from esper_analyzer.listing.listing import Wanted, list_runs
from esper_recorder import Recorder

Command = Callable[..., Any]

RATES = {"low": 1e-4, "middle": 1e-3, "high": 1e-2}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of a sweep whose returns fall with the learning rate, one whose critic explains nothing, one empty."""
    root = tmp_path_factory.mktemp("runs")
    for place, (name, rate) in enumerate(RATES.items()):
        config = {"lr": rate, "ppo": {"clip": 0.2}}
        with Recorder.open(root / "sweep", run_id=name, env="CartPole-v1", trainer="mine", config=config) as recorder:
            for update in range(30):
                recorder.record(
                    update=update,
                    policy_loss=-0.01,
                    value_loss=0.5,
                    explained_variance=0.9,
                    env_steps=2048 * (update + 1),
                    episode_return_mean=100.0 + update - 50 * place,
                    extras={"score": float(place)},
                )
    with Recorder.open(root, run_id="broken", env="Acrobot-v1", config={"seed": 1}) as recorder:
        for update in range(45):
            recorder.record(update=update, policy_loss=0.5, value_loss=1.0, explained_variance=0.0, learning_rate=0.5)
    Recorder.open(root, run_id="empty").close()
    return root


@pytest.fixture
def names(command: Command, sweep: Path) -> Callable[..., list[str]]:
    """The names of the runs that `runs` lists with these options, in order."""

    def _names(*options: str) -> list[str]:
        done = command("runs", sweep, *options, "--format", "json")
        assert done.returncode == 0, done.stderr
        return [run["name"] for run in json.loads(done.stdout)["runs"]]

    return _names


def test_runs_are_listed_the_newest_first_by_the_name_that_run_takes(
    names: Callable[..., list[str]], command: Command, sweep: Path
) -> None:
    """However deep a run lies, its name is its path below the root, and other commands take it."""
    assert names() == ["empty", "broken", "sweep/high", "sweep/middle", "sweep/low"]
    assert names("--reverse") == names()[::-1]
    assert command("check", "sweep/low", "--root", sweep).returncode == 0
    assert command("check", "--run", "broken", "--root", sweep).returncode == 1


def test_runs_are_sorted_with_the_best_first_and_what_has_no_value_last(names: Callable[..., list[str]]) -> None:
    """Numbers from the largest, verdicts from the worst, ages from the youngest, texts from A."""
    assert names("--sort", "return") == ["sweep/low", "sweep/middle", "sweep/high", "empty", "broken"]
    assert names("--sort", "return", "--reverse")[:3] == ["sweep/high", "sweep/middle", "sweep/low"]
    assert names("--sort", "return", "--reverse")[3:] == ["empty", "broken"]
    assert names("--sort", "verdict")[0] == "broken"
    assert names("--sort", "age")[0] == "empty"
    assert names("--sort", "env")[0] == "broken"
    assert names("--sort", "lr") == ["broken", "sweep/high", "sweep/middle", "sweep/low", "empty"]
    assert names("--sort", "extras.score")[0] == "sweep/high"
    assert names("--sort", "config.lr")[:2] == ["sweep/high", "sweep/middle"]


def test_runs_are_filtered_by_configuration_results_and_status(names: Callable[..., list[str]]) -> None:
    """Conditions on the header and on the rows, several at once, all of which have to hold."""
    assert names("--filter", "config.lr >= 1e-3") == ["sweep/high", "sweep/middle"]
    assert names("--filter", "config.lr >= 1e-3", "--filter", "return > 50") == ["sweep/middle"]
    assert names("--filter", "config.ppo.clip == 0.2 and return > 100") == ["sweep/low"]
    assert names("--filter", "verdict == critical") == ["broken"]
    assert names("--filter", "explained_variance < 0.5") == ["broken"]
    assert names("--filter", "extras.score == 1") == ["sweep/middle"]
    assert names("--filter", "lr == 0.5") == ["broken"]  # recorded, and in no configuration
    assert names("--filter", "env == CartPole-v1", "--status", "failed,crashed") == []
    assert len(names("--status", "finished")) == 5
    assert names("--filter", "updates == 0") == ["empty"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--filter", "config.lrr > 1"], "no run has config.lrr; known are config.lr"),
        (["--sort", "config.nothing"], "--sort: no run has config.nothing"),
        (["--sort", "retrun"], "--sort: unknown name 'retrun' (did you mean return"),
        (["--filter", "retrun > 1"], "known are name, status"),
        (["--status", "dead"], "--status is one of live"),
        (["--format", "yaml"], "'yaml' is not one of"),
    ],
)
def test_a_wrong_name_is_one_clear_line(command: Command, sweep: Path, options: list[str], said: str) -> None:
    """Exit code 2, nothing on standard output, and the names that there are."""
    done = command("runs", sweep, *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_the_table_fits_its_width_and_says_what_is_left_out(
    command: Command, sweep: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Name, status, return and verdict are always there; a pipe gets plain text."""
    monkeypatch.setenv("COLUMNS", str(width))
    done = command("runs", "--root", sweep)
    heading, *lines = done.stdout.splitlines()
    assert max(map(len, [heading, *lines])) <= width
    assert "\x1b" not in done.stdout
    assert len(lines) == 5
    shown = [name for name in ("updates", "steps", "age", "env", "lr", "loss") if name in heading.split()]
    left_out = [name for name in ("updates", "steps", "age", "env", "lr", "loss") if name not in shown]
    assert (f"no room for {', '.join(left_out)}: widen" in done.stderr) == bool(left_out)
    if width >= 60:
        assert {"run", "status", "return", "verdict", "age"} <= set(heading.split())
        assert any("critical since" in line for line in lines)
    if width == 200:
        assert left_out == []
        (line,) = (line for line in lines if "sweep/low" in line)
        assert line.split()[:6] == ["sweep/low", "finished", "30", "129.0", "61k", line.split()[5]]
        assert line.split()[6:9] == ["CartPole-v1", "1.0e-4", "0.5"]
    few = command("runs", "--root", sweep, "--filter", "return > 100")
    assert "1 of 5 runs" in few.stderr


def test_json_has_everything_and_csv_the_same_in_one_level(command: Command, sweep: Path) -> None:
    """Numbers are exact, and what is not known is null, or an empty cell."""
    made = json.loads(command("runs", sweep, "--filter", "entropy == null", "--format", "json").stdout)
    assert (made["format"], made["found"], len(made["runs"])) == ("esper-runs/1", 5, 5)
    by_name = {run["name"]: run for run in made["runs"]}
    low, broken, empty = by_name["sweep/low"], by_name["broken"], by_name["empty"]
    assert low["config"] == {"lr": 1e-4, "ppo.clip": 0.2}
    assert (low["return"], low["steps"], low["updates"], low["lr"]) == (129.0, 61440, 30, 1e-4)
    assert (low["loss"], low["env"], low["trainer"], low["status"]) == (0.5, "CartPole-v1", "mine", "finished")
    assert (empty["return"], empty["steps"], empty["updates"], empty["error"]) == (None, None, 0, None)
    report = open_run("broken", sweep).report()
    assert broken["verdict"]["level"] == report.verdict.level == "critical"
    assert broken["verdict"]["since"] == report.verdict.since
    assert broken["verdict"]["reason"] == report.verdict.reasons[0]
    rows = list(csv.DictReader(io.StringIO(command("runs", sweep, "--format", "csv").stdout)))
    assert [row["name"] for row in rows] == [run["name"] for run in made["runs"]]
    row = next(row for row in rows if row["name"] == "sweep/low")
    assert (row["return"], row["steps"], row["lr"], row["verdict"], row["damaged"]) == (
        "129.0",
        "61440",
        "0.0001",
        low["verdict"]["level"],
        "false",
    )
    none = command("runs", sweep, "--filter", "return > 1e9", "--format", "csv")
    assert none.stdout.startswith("name,path,status,updates,return,steps,loss,created")
    assert none.stdout.count("\n") == 1


def test_several_roots_are_listed_together_and_each_run_once(command: Command, sweep: Path) -> None:
    """A shell that expands a pattern gives folders of runs, or runs."""
    done = command("runs", sweep / "sweep", sweep / "sweep" / "low", sweep / "broken", "--format", "json")
    paths = [Path(run["path"]).name for run in json.loads(done.stdout)["runs"]]
    assert paths == ["broken", "high", "middle", "low"]
    assert command("runs", sweep / "absent").returncode == 2


def test_a_bad_run_hides_no_other(command: Command, sweep: Path, tmp_path: Path) -> None:
    """It has its reason in its line and in its object, and texts of a run act on no terminal."""
    root = tmp_path / "runs"
    shutil.copytree(sweep, root)
    (root / "sweep" / "middle" / "run.json").write_text("{")
    (root / "broken").rename(root / "br\x1b[31m\noken")
    done = command("runs", root)
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 6
    assert "\x1b" not in done.stdout
    assert "run.json: expected a JSON object" in done.stdout
    made = json.loads(command("runs", root, "--format", "json").stdout)
    (bad,) = (run for run in made["runs"] if run["error"] is not None)
    assert (bad["name"], bad["damaged"], bad["return"], bad["verdict"]["level"]) == ("sweep/middle", True, None, None)
    assert command("runs", root, "--format", "csv").stdout.count("\n") == 6
    assert command("runs", root, "--filter", "config.lr < 1e-3").returncode == 0


@pytest.mark.parametrize("own", [False, True])
def test_processes_of_their_own_say_the_same(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """Where many runs are read by a pool, each has the same entry, by the thresholds of the user too."""
    path = tmp_path / "mine.toml"
    path.write_text("[thresholds.explains_nothing]\ncritical = ''\n")
    given = [read_settings(path)] if own else []
    wanted = Wanted.of(sort="name")
    alone = list_runs([sweep], wanted, *given)
    monkeypatch.setattr(pool, "MIN_POOLED", 2)
    monkeypatch.setattr(pool, "cores", lambda: 2)
    found = list_runs([sweep], wanted, *given)
    assert len(found.runs) == 5
    assert [replace(run, age_secs=None) for run in found.runs] == [replace(run, age_secs=None) for run in alone.runs]
    (broken,) = (run for run in found.runs if run.name == "broken")
    assert (broken.level == "critical") is not own  # it is so by nothing but this rule
