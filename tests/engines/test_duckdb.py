"""DuckDB runs each block of the page about SQL as it stands there, and finds what Esper finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.engines.conftest import SEEDS, UPDATES
from tests.engines.page import PAGE, PROJECT, VIEWS, blocks, questions
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas import find_runs

Connect = Callable[[Path], duckdb.DuckDBPyConnection]

NUMBERS = ["rank", "attempt", "seq", "update", "wall_time", "env_steps", "value_loss", "explained_variance", "skipped"]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """A function that opens DuckDB in a folder, with the views of the page."""
    opened: list[duckdb.DuckDBPyConnection] = []

    def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
        monkeypatch.chdir(folder)
        opened.append(duckdb.connect())
        for block in blocks(VIEWS):
            opened[-1].sql(block)
        return opened[-1]

    yield _connect
    for connection in opened:
        connection.close()


def _critical(reader: Path) -> dict[str, int | None]:
    """The runs whose report is critical, and since when."""
    verdicts = {str(run.path.relative_to(reader)): open_run(run.path).report().verdict for run in find_runs(reader)}
    return {run: verdict.since for run, verdict in verdicts.items() if verdict.level == "critical"}


@pytest.mark.slow
@pytest.mark.parametrize("view", ["updates", "all_attempts"])
def test_the_views_have_the_rows_of_the_run(view: str, connect: Connect, reader: Path) -> None:
    """Restarts, repeated updates, ranks and runs of the same name included, of each run what `Run.updates` has."""
    connection = connect(reader)
    found = 0
    for directory in find_runs(reader / "runs"):
        run = open_run(directory.path)
        expected = run.updates(all_attempts=view == "all_attempts").collect()
        if directory.path.name == "killed":
            expected = expected.clear()  # no row of it is sealed
        name = directory.path.relative_to(reader)
        rows = connection.sql(f"select * from {view} where run = '{name}' order by rank, seq").pl()
        assert_frame_equal(
            rows.select(NUMBERS).with_columns(pl.col("wall_time").dt.replace_time_zone("UTC")),
            expected.sort("rank", "seq").select(NUMBERS),
            check_exact=True,
        )
        found += rows.height
    assert found == connection.sql(f"select count(*) from {view}").pl().item()


@pytest.mark.slow
def test_runs_that_went_critical_are_those_of_the_reports(connect: Connect, reader: Path) -> None:
    """Since the same update, and when by the clock."""
    rows = connect(reader).sql(blocks("Which runs went critical?")[0]).pl()
    critical = _critical(reader)
    assert set(critical) == {"runs/special", *(f"runs/broken-{seed}" for seed in range(SEEDS))}
    assert dict(zip(rows["run"], rows["since"], strict=True)) == critical
    for run, since, wall_time in rows.select("run", "since", "wall_time").iter_rows():
        at = open_run(reader / run).updates().filter(pl.col("update") == since).collect()
        assert wall_time.timestamp() == at["wall_time"].item().timestamp()
    assert rows["wall_time"].is_sorted()


def test_three_lines_answer_from_the_table_of_the_fleet(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which runs went critical, since when, and the settings that only they have, without a view and without rows."""
    monkeypatch.chdir(reader)
    (command,), (lines,) = blocks("Three lines", "sh"), blocks("Three lines")
    assert lines.count("\n") == 3
    judged = f"{sys.executable} -m esper_analyzer {command.removeprefix('esper-analyze ')}"
    subprocess.run(["bash", "-euc", judged], cwd=reader, check=True, timeout=HANG_SECS)
    which, common = lines.strip().removesuffix(";").split(";\n")
    with duckdb.connect() as connection:
        rows = connection.sql(which).pl()
        found = connection.sql(common).fetchall()
    assert dict(zip(rows["path"], rows["since"], strict=True)) == _critical(reader)
    assert sorted(found[:2]) == [("config.lr", "0.03", SEEDS, SEEDS), ("config.schedule", "constant", SEEDS, SEEDS)]
    assert all(critical < of_runs for _, _, critical, of_runs in found[2:])


def test_three_lines_see_through_a_random_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that broke most of its many runs comes before each learning rate that only one run had."""
    monkeypatch.chdir(tmp_path)
    columns = {
        "verdict": ["critical" if number % 4 == 0 and number % 40 else "healthy" for number in range(10_000)],
        "env": ["CartPole-v1"] * 10_000,
        "config.lr": [1e-4 + 1e-7 * number for number in range(10_000)],
        "config.clip_range": [5.0 if number % 4 == 0 else 0.2 for number in range(10_000)],
    }
    pl.DataFrame(columns).write_parquet("fleet.parquet")
    _, common = blocks("Three lines")[0].strip().removesuffix(";").split(";\n")
    with duckdb.connect() as connection:
        first, *others = connection.sql(common).fetchall()
    assert first == ("config.clip_range", "5.0", 2250, 2500)
    assert others[-1] == ("config.clip_range", "0.2", 0, 7500)


def test_what_critical_runs_have_in_common_comes_first(connect: Connect, reader: Path) -> None:
    """The learning rate that broke them, and the setting that only they have, before what all runs have."""
    _, common, ranges = blocks("Which runs went critical?")
    connection = connect(reader)
    found = connection.sql(common).fetchall()
    shared = [("lr", "0.03", SEEDS, SEEDS), ("schedule", '"constant"', SEEDS, SEEDS)]
    assert sorted(found[:2]) == shared
    assert all(critical < of_runs for _, _, critical, of_runs in found[2:])
    (rate,) = [found for found in connection.sql(ranges).fetchall() if found[0] == "lr"]
    assert rate == ("lr", [0.03, 0.03], [3e-4, 3e-4])


def test_questions_about_rows_join_the_configuration(connect: Connect, reader: Path) -> None:
    """A loss beyond a bound with explained variance below another, in which runs; and returns over seeds."""
    loss, returns = blocks("Questions about rows")
    connection = connect(reader)
    assert sorted(connection.sql(loss).fetchall()) == [
        (f"runs/broken-{seed}", "0.03", UPDATES // 2 + 1, UPDATES - UPDATES // 2 - 1) for seed in range(SEEDS)
    ]
    broken = [found for found in connection.sql(returns).fetchall() if found[0] == "0.03"]
    assert broken == [("0.03", SEEDS, 8.0, 0.0)]


def test_rows_are_kept_in_one_file(connect: Connect, reader: Path, tmp_path: Path) -> None:
    """All of them, in a file that a later connection reads without the runs."""
    shutil.copytree(reader, tmp_path / "reader")
    connection = connect(tmp_path / "reader")
    (block,) = blocks("Kept in one file")
    connection.sql(block)
    rows = connection.sql("select count(*) from updates").fetchall()
    connection.close()
    shutil.rmtree(tmp_path / "reader" / "runs")
    with duckdb.connect(tmp_path / "reader" / "runs.duckdb", read_only=True) as later:
        assert later.sql("select count(*) from updates").fetchall() == rows


def test_column_states_have_the_extremes_of_the_rows(connect: Connect, reader: Path) -> None:
    """The largest finite value loss of each run, without its rows."""
    (block,) = blocks("Without the rows")
    connection = connect(reader)
    rows = connection.sql("select run, max(value_loss) from all_attempts where isfinite(value_loss) group by run")
    assert sorted(connection.sql(block).fetchall()) == sorted(rows.fetchall())


def test_rows_that_are_not_sealed_are_named(connect: Connect, reader: Path, tmp_path: Path) -> None:
    """The run that was killed has a file in active/, and no row in any view until it is repaired."""
    shutil.copytree(reader, tmp_path / "reader")
    unsealed, _, _ = blocks("What SQL does not see")
    connection = connect(tmp_path / "reader")
    rows = "select count(*) from all_attempts where run = 'runs/killed'"
    assert connection.sql(unsealed).fetchall() == [("runs/killed", 1)]
    assert connection.sql(rows).fetchall() == [(0,)]
    subprocess.run([sys.executable, "-m", "esper_recorder", "repair", "runs/killed"], check=True, timeout=HANG_SECS)
    assert connection.sql(unsealed).fetchall() == []
    assert connection.sql(rows).fetchall() == [(40,)]


def test_a_copy_that_is_not_done_is_named(connect: Connect, reader: Path, tmp_path: Path) -> None:
    """A seal without its file, a file without its seal, and a file that was cut short; nothing of a whole run."""
    shutil.copytree(reader, tmp_path / "reader")
    connection = connect(tmp_path / "reader")
    _, uploads, _ = blocks("What SQL does not see")
    assert connection.sql(uploads).fetchall() == []
    segments = tmp_path / "reader/runs/resumed/rank-0000/segments"
    (segments / "00000001.parquet").unlink()
    (segments.parent / "seals" / "00000002.json").unlink()
    whole = (segments / "00000003.parquet").read_bytes()
    (segments / "00000003.parquet").write_bytes(whole[:100])
    found = {Path(file).stem: (sealed, size) for file, sealed, size in connection.sql(uploads).fetchall()}
    assert sorted(found) == ["00000001", "00000002", "00000003"]
    assert found["00000001"][1] is None
    assert found["00000002"][0] is None
    assert found["00000003"] == (len(whole), 100)
    with pytest.raises(duckdb.Error, match=r"runs/resumed/rank-0000/segments/00000003\.parquet"):
        connection.sql("select sum(value_loss) from all_attempts").fetchall()


def test_a_segment_of_another_recording_is_named(connect: Connect, reader: Path, tmp_path: Path) -> None:
    """The file and its seal of another run of the same name."""
    runs = tmp_path / "runs"
    for root in (runs, tmp_path / "other"):
        with Recorder.open(root, run_id="mine", segment_rows=5) as recorder:
            for update in range(10):
                recorder.record(update=update, policy_loss=0.1, value_loss=0.5)
    shutil.copyfile(reader / "verdicts.json", tmp_path / "verdicts.json")
    for name in ("segments/00000001.parquet", "seals/00000001.json"):
        shutil.copyfile(tmp_path / "other/mine/rank-0000" / name, runs / "mine/rank-0000" / name)
    *_, foreign = blocks("What SQL does not see")
    assert connect(tmp_path).sql(foreign).fetchall() == [("runs/mine/rank-0000/segments/00000001.parquet",)]


def test_names_and_values_are_as_the_table_says(connect: Connect, reader: Path, tmp_path: Path) -> None:
    """NaN above every number, extremes of int64, and metrics whose names are also those of columns of the view."""
    extras = {"run": 1.0, "filename": 2.0, "Reward": 3.0, "reward": 4.0, "reward/distance": 5.0}
    with Recorder.open(tmp_path / "runs", run_id="odd") as recorder:
        for value in (1.0, float("nan"), float("inf"), -0.0):
            recorder.record(update=2**63 - 1, policy_loss=0.1, value_loss=value, extras=extras)
    with Recorder.open(tmp_path / "runs", run_id="plain") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=1.0)
    shutil.copyfile(reader / "verdicts.json", tmp_path / "verdicts.json")
    connection = connect(tmp_path)
    assert str(connection.sql("select value_loss from all_attempts where value_loss > 100").fetchall()) == (
        "[(nan,), (inf,)]"
    )
    named = """select run, filename, Reward, reward_1, "reward/distance" from all_attempts where update > 0 limit 1"""
    assert connection.sql(named).fetchall() == [("runs/odd", 2.0, 3.0, 4.0, 5.0)]
    assert str(connection.sql("select update, value_loss from updates where run = 'runs/odd'").fetchall()) == (
        f"[({2**63 - 1}, -0.0)]"
    )
    others = connection.sql("select \"reward/distance\" from all_attempts where run = 'runs/plain'").fetchall()
    assert others == [(None,)]


def test_the_other_engines_are_those_of_the_page() -> None:
    """They are compared by every question, and installed in the versions that the page names."""
    assert len(questions()) == 5
    (install,) = blocks("DuckLake", "sh")
    assert install.split()[2:] == _requirements("ducklake")
    assert "pyspark==" + PAGE.partition("pyspark ")[2].partition(" ")[0] in _requirements("spark")


def _requirements(engine: str) -> list[str]:
    return (PROJECT / "tests/engines" / f"{engine}.txt").read_text(encoding="utf-8").split()
