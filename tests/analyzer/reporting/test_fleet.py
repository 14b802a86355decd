"""`esper-analyze fleet`: rows, order and groups, and that they depend on the runs alone."""

from __future__ import annotations

import csv
import io
import json
import math
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from tests.analyzer.deadly import deadly_environment, make_deadly
from tests.waiting import HANG_SECS, wait_until

from esper_analyzer import open_run
from esper_analyzer.engines import local
from esper_analyzer.engines.local import LocalEngine
from esper_analyzer.judging.rules import RULES
from esper_analyzer.judging.settings import DEFAULT_SETTINGS, Settings
from esper_analyzer.listing.listing import list_runs
from esper_analyzer.reporting.fleet.fleet import judge_fleet
from esper_analyzer.reporting.fleet.text import fleet_lines, table_of
from esper_recorder import Recorder
from esper_schemas.errors import UsageError

Command = Callable[..., Any]

BENCHMARK = Path(__file__).parents[2] / "bench" / "fleet_cost.py"

SEEDS = 3
GROUPS = {"sound": 1e-3, "broken": 1e-1}


def record_run(root: Path, name: str, seed: int, rate: float) -> Path:
    """A run that learns; with a rate of 0.1, one whose losses are not finite in the end."""
    with Recorder.open(root, run_id=name, env="CartPole-v1", config={"lr": rate, "seed": seed}) as recorder:
        for update in range(45):
            recorder.record(
                update=update,
                policy_loss=-0.01,
                value_loss=0.5 if rate < 0.05 or update < 20 else math.nan,
                explained_variance=0.9,
                env_steps=2048 * (update + 1),
                episode_return_mean=100.0 + update + seed if rate < 0.05 else 10.0 - seed,
            )
    return Path(recorder.path)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of three seeds, and a run without updates."""
    root = tmp_path_factory.mktemp("runs")
    for group, rate in GROUPS.items():
        for seed in range(SEEDS):
            record_run(root / group, f"{group}-{seed}", seed, rate)
    Recorder.open(root, run_id="empty").close()
    return root


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that wants several processes says so: each imports for half a second of a processor."""
    monkeypatch.setattr(local, "cores", lambda: 1)


@pytest.fixture
def judged(command: Command) -> Callable[..., Any]:
    """The document of `fleet --format json` with these arguments."""

    def _judged(*arguments: object) -> Any:
        done = command("fleet", *map(str, arguments), "--format", "json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    return _judged


def test_rows_are_those_of_runs_without_the_age(command: Command, judged: Callable[..., Any], sweep: Path) -> None:
    """The worst first, each with its group; the levels are counted."""
    made = judged(sweep)
    listed = json.loads(command("runs", sweep, "--format", "json").stdout)
    by_name = {run["name"]: {key: value for key, value in run.items() if key != "age_secs"} for run in listed["runs"]}
    assert (made["format"], made["found"], len(made["runs"])) == ("esper-fleet/1", 7, 7)
    for run in made["runs"]:
        group = run.pop("group")
        assert run == by_name[run["name"]]
        assert group == {"broken": "A", "sound": "B", "empty": "C"}[run["name"].split("/")[0]]
    names = [run["name"] for run in made["runs"]]
    assert names == [
        *(f"broken/broken-{seed}" for seed in range(3)),
        *(f"sound/sound-{seed}" for seed in range(3)),
        "empty",
    ]
    assert made["levels"] == {"critical": 3, "warning": 0, "healthy": 3, "unknown": 1}
    assert made["runs"][0]["verdict"]["since"] == open_run(sweep / names[0]).report().verdict.since


def test_groups_of_seeds_have_counts_and_returns(judged: Callable[..., Any], sweep: Path) -> None:
    """The worst first; a run without a configuration is alone, and what a group shares is named only if it differs."""
    worst, best, alone = judged(sweep)["groups"]
    assert worst == {
        "name": "A",
        "runs": [f"broken/broken-{seed}" for seed in range(3)],
        "settings": {"lr": 0.1, "env": "CartPole-v1"},
        "levels": {"critical": 3, "warning": 0, "healthy": 0, "unknown": 0},
        "unreadable": 0,
        "returns": {"n": 3, "median": 9.0, "lowest": 8.0, "highest": 10.0},
    }
    assert (best["settings"]["lr"], best["returns"]["median"], best["levels"]["healthy"]) == (0.001, 145.0, 3)
    assert (alone["runs"], alone["returns"]) == (["empty"], {"n": 0, "median": None, "lowest": None, "highest": None})
    by_seed = judged(sweep, "--group-by", "seed")["groups"]
    assert [sorted(group["runs"]) for group in by_seed[:3]] == [
        [f"broken/broken-{seed}", f"sound/sound-{seed}"] for seed in range(3)
    ]
    assert judged(sweep, "--no-group")["groups"] == []
    assert {run["group"] for run in judged(sweep, "--no-group")["runs"]} == {None}


@pytest.mark.slow
def test_output_depends_on_the_runs_alone(command: Command, sweep: Path, tmp_path: Path) -> None:
    """Not on the number of processes, the cache, or the order of the folders; in no format."""
    folders = [sweep / "broken", sweep / "sound", sweep]
    alone, fresh = ["--no-cache", "--workers", "1"], ["--no-cache", "--workers", "3"]
    for form, ways in (
        ("json", (alone, fresh, [], ["--workers", "2"], [])),
        *((form, (alone, [])) for form in ("text", "csv", "parquet")),
    ):
        outputs = set()
        for number, options in enumerate(ways):
            target = tmp_path / f"{number}.{form}"
            given = folders[::-1] if number == len(ways) - 1 else folders
            assert command("fleet", *given, *options, "--format", form, "-o", target).returncode == 0
            outputs.add(target.read_bytes())
        assert len(outputs) == 1


def test_csv_and_parquet_have_one_row_for_each_run(command: Command, sweep: Path, tmp_path: Path) -> None:
    """Parquet has types, and a column for each hyper-parameter, for engines that ask questions."""
    text = command("fleet", sweep, "--filter", "entropy == null", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    runs = next(csv.reader(io.StringIO(command("runs", sweep, "--format", "csv").stdout)))
    assert next(iter(csv.reader(io.StringIO(text)))) == [
        *(name for name in runs if name != "age_secs"),
        "entropy",
        "group",
    ]
    assert command("fleet", sweep, "--format", "parquet", "-o", tmp_path / "fleet.parquet").returncode == 0
    table = pl.read_parquet(tmp_path / "fleet.parquet")
    assert table["name"].to_list() == [row["name"] for row in rows]
    types = {name: table.schema[name] for name in ("updates", "return", "damaged", "config.lr", "config.seed")}
    assert types == {
        "updates": pl.Int64, "return": pl.Float64, "damaged": pl.Boolean, "config.lr": pl.Float64,
        "config.seed": pl.Int64,
    }  # fmt: skip
    assert table.schema["created"] == pl.Datetime("us", "UTC")
    asked = """SELECT "config.lr", count(*), min(since) FROM fleet WHERE verdict = 'critical' GROUP BY 1"""
    with duckdb.connect() as engine:
        engine.register("fleet", engine.read_parquet(str(tmp_path / "fleet.parquet")))
        found = engine.execute(asked).fetchall()
    assert found == [(0.1, 3, int(rows[0]["since"]))]


def test_configurations_of_any_kind_have_a_column(command: Command, tmp_path: Path) -> None:
    """Numbers stay numbers where all are; whatever else is there becomes text."""
    configs = [
        {"mixed": 1, "whole": 1, "flag": True, "large": 10**400, "nested": {"list": [1, 2]}},
        {"mixed": "a", "whole": 2.5, "flag": None, "large": 0.5, "odd": "\ud800"},
    ]
    for place, config in enumerate(configs):
        with Recorder.open(tmp_path / "runs", run_id=f"run-{place}", config={"one": 1}) as recorder:
            recorder.record(update=0, policy_loss=0.1, value_loss=0.1)
        header = json.loads((tmp_path / "runs" / f"run-{place}" / "run.json").read_text())
        (tmp_path / "runs" / f"run-{place}" / "run.json").write_text(json.dumps(header | {"config": config}))
    made = command("fleet", tmp_path / "runs", "--format", "parquet", "-o", tmp_path / "fleet.parquet")
    assert made.returncode == 0, made.stderr
    table = pl.read_parquet(tmp_path / "fleet.parquet").sort("name")
    assert table["config.mixed"].to_list() == ["1", "a"]
    assert table["config.whole"].to_list() == [1.0, 2.5]
    assert table["config.flag"].to_list() == [True, None]
    assert table["config.nested.list"].to_list() == ["[1, 2]", None]
    assert table["config.odd"].to_list() == [None, "\\ud800"]


@pytest.mark.slow
def test_what_cannot_be_read_is_a_row_with_its_error(command: Command, sweep: Path, tmp_path: Path) -> None:
    """Damaged runs, foreign and missing folders come first, and hide no other."""
    root = tmp_path / "runs"
    shutil.copytree(sweep, root)
    (root / "sound" / "sound-0" / "run.json").write_text("{")
    sealed = next((root / "sound" / "sound-1").rglob("*.parquet"))
    sealed.write_bytes(sealed.read_bytes()[:-10])
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("no run")
    given = (root, tmp_path / "foreign", tmp_path / "missing", sealed)
    done = command("fleet", *given, "--format", "json")
    assert done.returncode == 3
    made = json.loads(done.stdout)
    errors = {Path(run["path"]).name: run["error"] for run in made["runs"] if run["error"] is not None}
    assert list(errors) == [Path(run["path"]).name for run in made["runs"][: len(errors)]]
    assert errors.keys() == {"sound-0", "foreign", "missing", sealed.name}
    assert errors["foreign"] == "there are no runs in this folder"
    assert "is not a folder of runs" in errors["missing"]
    assert (made["unreadable"], made["damaged"], len(made["runs"])) == (4, 2, 10)
    text = command("fleet", *given)
    assert text.stdout.startswith("10 runs: 4 cannot be read, 2 damaged, 3 critical")
    assert command("fleet", sweep, tmp_path / "missing").returncode == 2
    alone = command("fleet", tmp_path / "missing")
    assert (alone.returncode, alone.stdout, alone.stderr.count("\n")) == (2, "", 1)
    nothing = command("fleet", tmp_path / "missing", tmp_path / "foreign")
    assert (nothing.returncode, nothing.stdout.count("there are no runs in this folder")) == (2, 1)


def test_exit_code_says_what_was_asked_of_the_verdicts(command: Command, sweep: Path) -> None:
    """Without --fail-on a verdict fails nothing; with it, one run is enough."""
    assert command("fleet", sweep).returncode == 0
    assert command("fleet", sweep, "--fail-on", "critical").returncode == 1
    assert command("fleet", sweep / "sound", "--fail-on", "warning").returncode == 0
    assert command("fleet", sweep, "--filter", "verdict == unknown", "--fail-on", "unknown").returncode == 1
    assert command("fleet", sweep, "--filter", "verdict == unknown", "--fail-on", "warning").returncode == 0


def test_folders_come_from_a_file_too(command: Command, sweep: Path, tmp_path: Path) -> None:
    """One in each line, beside those that are named; each run is judged once."""
    (tmp_path / "list").write_text(f"{sweep}/broken\n\n{sweep}/sound/sound-1\n{sweep}/sound/sound-1\n")
    done = command("fleet", sweep / "empty", "--from", tmp_path / "list", "--format", "json")
    names = [Path(run["path"]).name for run in json.loads(done.stdout)["runs"]]
    assert names == ["broken-0", "broken-1", "broken-2", "sound-1", "empty"]
    piped = subprocess.run(
        [sys.executable, "-m", "esper_analyzer", "fleet", "--from", "-", "--format", "csv"],
        input=f"{sweep}/broken\n", capture_output=True, text=True, timeout=HANG_SECS, check=False,
    )  # fmt: skip
    assert (piped.returncode, piped.stdout.count("broken-")) == (0, 6), piped.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "{tmp}/nothing"], "{tmp}/nothing names no folder; it must have one in each line"),
        (["--from", "{tmp}/absent"], "No such file"),
        (["--from", "{tmp}/binary"], "a line of it has a null byte"),
        (["--group-by", "lrr"], "no run has a hyper-parameter 'lrr' to group by; those that differ are"),
        (["--group-by", "lr", "--no-group"], "give either --group-by or --no-group, not both"),
        (["--workers", "0"], "0 is not in the range"),
        (["--engine", "spark"], "'spark' is not one of 'local', 'ray'"),
        (["-o", "{tmp}/absent/fleet.csv"], "there is no folder {tmp}/absent"),
        (["--filter", "config.lrr > 1"], "no run has config.lrr"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    command: Command, sweep: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    """Exit code 2 and nothing on standard output."""
    (tmp_path / "nothing").touch()
    (tmp_path / "binary").write_bytes(b"a\0b")
    done = command("fleet", sweep, *(option.format(tmp=tmp_path) for option in options))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said.format(tmp=tmp_path) in done.stderr


def test_keys_to_group_by_are_checked_before_any_run_is_judged(sweep: Path) -> None:
    """Nobody waits for thousands of runs to learn of a typing error."""

    class Untouched(LocalEngine):
        def __enter__(self) -> Untouched:
            raise AssertionError("a run is judged")

    with pytest.raises(UsageError, match="'lrr'"):
        judge_fleet([sweep], Untouched(1), group_by=["lrr"])


def test_rules_of_the_callers_own_are_refused(sweep: Path) -> None:
    """They are functions, and no worker can be told them; other bounds travel."""
    fewer = Settings(DEFAULT_SETTINGS.thresholds, (RULES["explains_nothing"],))
    (first, *_) = judge_fleet([sweep / "broken"], LocalEngine(1), settings=fewer).runs
    assert first.level != "critical"  # it is so by another rule
    other = replace(RULES["explains_nothing"], name="mine")
    with pytest.raises(UsageError, match="rules of your own"):
        judge_fleet([sweep], LocalEngine(1), settings=Settings(DEFAULT_SETTINGS.thresholds, (other,)))
    assert len(list_runs([sweep], settings=Settings(DEFAULT_SETTINGS.thresholds, (other,))).runs) == 7


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("height", [None, 14, 40])
def test_text_fits_its_width_and_the_screen(sweep: Path, width: int, height: int | None) -> None:
    """In a terminal it says what it leaves out; in a pipe it leaves nothing out."""
    made = judge_fleet([sweep], LocalEngine(1))
    lines = [line.plain for line in fleet_lines(made, table_of(made, width), width, height)]
    assert max(map(len, lines)) <= width
    shown = lines[next(place for place, line in enumerate(lines) if line.startswith("run ")) + 1 :]
    assert len(shown) == (6 if height == 14 else 7)  # the last of the six says what is left out
    if height is not None:
        assert len(lines) <= height
        assert lines[-1].startswith("left out: ") == (height == 14)


@pytest.mark.slow
def test_a_killed_worker_changes_no_byte(
    command: Command, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run over which every worker dies is a row with that error; a worker that was killed is replaced."""
    (tmp_path / "hook").mkdir()
    monkeypatch.setenv("PYTHONPATH", deadly_environment(tmp_path / "hook")["PYTHONPATH"])
    for name in ("broken/broken-0", "sound/sound-0"):
        shutil.copytree(sweep / name, tmp_path / "runs" / name)
    given = ("fleet", tmp_path / "runs", "--no-cache", "--workers", "1", "--format", "json")
    told = make_deadly(tmp_path / "runs" / "sound" / "sound-0", 0)
    sound = command(*given)
    assert sound.returncode == 0, sound.stderr
    told.write_text("2")
    replaced = command(*given)
    assert (replaced.returncode, replaced.stdout, replaced.stderr) == (0, sound.stdout, "")
    assert int(told.read_text()) < 0  # both deaths took place
    told.write_text("99")
    lost = command(*given)
    assert lost.returncode == 2
    first, *others = json.loads(lost.stdout)["runs"]
    assert (first["name"], first["verdict"]["level"]) == ("sound/deadly", None)
    assert first["error"] == "its process died 3 times while it read this run (SIGKILL); is it out of memory?"
    before = {run["name"]: run["verdict"] for run in json.loads(sound.stdout)["runs"]}
    del before["sound/deadly"]
    assert {run["name"]: run["verdict"] for run in others} == before


def test_simulated_fleets_are_sound(command: Command, judged: Callable[..., Any], tmp_path: Path) -> None:
    """The runs that the benchmark makes verify, differ in their ids, and are eight groups of five seeds."""
    runpy.run_path(str(BENCHMARK))["make_fleet"](tmp_path / "runs", 40)
    made = judged(tmp_path / "runs", "--verify")
    assert (made["found"], made["damaged"], made["unreadable"]) == (40, 0, 0)
    assert [len(group["runs"]) for group in made["groups"]] == [5] * 8
    assert 0 < made["levels"]["critical"] < made["levels"]["healthy"]
    headers = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("run.json")]
    assert len({header["run_uuid"] for header in headers}) == 40
    assert {fault.kind for fault in open_run("000/run-00003", tmp_path / "runs").faults()} == set()


@pytest.mark.usefixtures("stored_numbers")
def test_ctrl_c_ends_it_and_what_was_judged_is_kept(sweep: Path, tmp_path: Path) -> None:
    """Exit code 130, nothing on standard output, no traceback, and the next time goes on from there."""
    shutil.copytree(sweep, tmp_path / "runs")
    cache = tmp_path / "cache"
    (tmp_path / "hook").mkdir()
    hook = deadly_environment(tmp_path / "hook")
    told = make_deadly(tmp_path / "runs" / "sound" / "sound-0", "wait")  # the oldest, and so the last to be read
    process = subprocess.Popen(
        [sys.executable, "-m", "esper_analyzer", "fleet", tmp_path / "runs", "--workers", "1"],
        env={**hook, "ESPER_CACHE_DIR": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: told.read_text() == "idle")
    process.send_signal(signal.SIGINT)
    out, talk = process.communicate(timeout=HANG_SECS)
    assert (process.returncode, out, talk) == (130, b"", b"")
    kept = next(cache.glob("runs-*.json")).read_text()
    assert all(f'"broken/broken-{seed}"' in kept for seed in range(SEEDS))
    assert "deadly" not in kept
