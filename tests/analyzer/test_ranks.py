"""A run of several ranks: all are judged by default, the worst speaks and is named, and one is judged on request."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.analyzer.app_driver import screen, until

from esper_analyzer import open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judgement import level_and_rank
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.terminal.app.app import EsperApp
from esper_recorder import Recorder

Record = Callable[..., Path]
Command = Callable[..., Any]

SAID = "Rank 1: Value loss is NaN (not finite) since update 150."


def rows(rank: int, count: int = 200) -> list[dict[str, Any]]:
    """A sound rank 0; a rank 1 whose value loss is NaN from update 150 on."""
    return [
        {"update": n, "value_loss": math.nan if rank and n >= 150 else 0.5 + rank, "explained_variance": 0.9}
        for n in range(count)
    ]


@pytest.fixture
def path(record: Record) -> Path:
    """A run of two ranks, of which rank 1 is broken."""
    for rank in (0, 1):
        run = record(rows(rank), rank=rank, world_size=2, resume="allow")
    return run


def text_of(done: Any) -> str:
    """What a command printed, as one line."""
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_every_format_of_the_report_names_the_worst_rank(path: Path, command: Command, form: str) -> None:
    """Verdict, sentence and alert are those of rank 1; asked for rank 0, nothing is wrong."""
    done = command("report", "--run", path, "--format", form)
    assert done.returncode == 0
    assert SAID.partition("(")[0] in text_of(done)
    assert "critical" in text_of(done)
    of_zero = command("report", "--run", path, "--format", form, "--rank", "0")
    assert "Rank 1" not in of_zero.stdout
    assert "Value loss is NaN" not in of_zero.stdout
    of_one = command("report", "--run", path, "--format", form, "--rank", "1")
    assert "Value loss is NaN" in of_one.stdout
    assert "Rank 1: " not in of_one.stdout


def test_numbers_are_of_the_first_rank_and_say_so(path: Path, command: Command) -> None:
    """Metrics, updates and ratio are of rank 0; alerts and integrity of both; one rank is one rank in all."""
    document = json.loads(command("report", "--run", path, "--format", "json").stdout)
    assert (document["run"]["ranks"], document["run"]["rank"], document["updates"]["rows"]) == ([0, 1], 0, 200)
    assert document["metrics"]["value_loss"]["last"] == 0.5
    first = document["alerts"][0]
    assert (first["rule"], first["rank"], first["first"]) == ("impossible_value_loss", 1, 150)
    assert document["integrity"]["segments_sealed"] == 2
    assert "verdict on 2 ranks, numbers of rank 0" in text_of(command("report", "--run", path))
    document = json.loads(command("report", "--run", path, "--format", "json", "--rank", "1").stdout)
    assert (document["run"]["ranks"], document["run"]["rank"]) == ([1], 1)
    assert document["metrics"]["value_loss"]["last"] == "NaN"
    document = json.loads(command("report", "--run", path, "--format", "json", "--rank", "all").stdout)
    assert (document["run"]["rank"], document["updates"]["rows"]) == (None, 400)


@pytest.mark.parametrize("gate", [(), ("--gate", "value_loss")])
def test_check_fails_by_the_worst_rank(path: Path, command: Command, gate: tuple[str, ...]) -> None:
    """Exit code 1 in every format, also with gates; the rank is named; rank 0 alone passes."""
    for form in ("text", "json", "junit", "github"):
        done = command("check", "--run", path, "--format", form, *gate)
        assert done.returncode == 1, form
        assert "Rank 1: Value loss is NaN" in text_of(done)
    document = json.loads(command("check", "--run", path, "--format", "json", *gate).stdout)
    assert document["verdict"]["level"] == "critical"
    assert all(one["outcome"] == "failed" for one in document["gates"].values())
    junit = ElementTree.fromstring(command("check", "--run", path, "--format", "junit", *gate).stdout)
    assert junit.get("failures") == str(1 + len(gate) // 2)
    assert command("check", "--run", path, "--rank", "0", *gate).returncode == 0
    assert command("check", "--run", path, "--rank", "1", *gate).returncode == 1


def test_the_list_of_runs_has_the_verdict_of_the_worst_rank(path: Path, command: Command) -> None:
    """The line of the run is critical, since when, and names the rank."""
    line = command("runs", "--root", path.parent).stdout.splitlines()[-1]
    assert line.split()[-5:] == ["critical", "since", "150", "(rank", "1)"]


def test_tail_judges_all_and_shows_one(path: Path, command: Command) -> None:
    """One frame and lines in a pipe have the verdict on all ranks and the numbers of the first; --rank is one alone."""
    frame = command("tail", "--run", path, "--once")
    assert "Verdict" in frame.stdout
    assert SAID in text_of(frame)
    assert "rank 0 of 2" in frame.stdout
    assert "Rank 1: " in frame.stdout.split("Verdict")[1].split("V.Loss")[1]  # in the list of alerts, too
    assert "NaN" not in command("tail", "--run", path, "--once", "--rank", "0").stdout
    assert "rank 1 of 2" in command("tail", "--run", path, "--once", "--rank", "1").stdout
    lines = command("tail", "--run", path)
    assert len(lines.stdout.splitlines()) == 200
    assert "NaN" not in lines.stdout
    assert lines.stderr.splitlines()[-1] == "run: verdict critical (rank 1)"
    assert "run: critical first at update 150: rank 1: Impossible value loss, once" in lines.stderr
    assert command("tail", "--run", path, "--rank", "0").stderr.splitlines()[-1] == "run: verdict healthy"


@pytest.mark.parametrize(("rank", "level"), [(None, "critical"), (0, "healthy")])
def test_the_screen_has_the_verdict_on_all_ranks(path: Path, rank: int | None, level: str) -> None:
    """It shows one rank at a time; the next one by its key, with the same verdict, unless one was asked for."""

    async def drive() -> None:
        app = EsperApp(open_run(path), rank, style=Style(color=True, unicode=True), interval=0.02)
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: app.scene.picture.verdict is not None)
            verdict = app.scene.picture.verdict
            assert verdict is not None
            assert (app.scene.rank, verdict.level, app.scene.picture.last("value_loss")) == (0, level, 0.5)
            await until(pilot, lambda: ("Rank 1: Value loss is NaN" in " ".join(screen(app))) is (rank is None))
            await pilot.press("r")
            await until(pilot, lambda: app.scene.rank == 1 and app.scene.picture.verdict is not None)
            verdict = app.scene.picture.verdict
            assert verdict is not None
            assert level_and_rank(verdict) == ("critical (rank 1)" if rank is None else "critical")

    asyncio.run(drive())


def test_a_notebook_has_the_verdict_on_all_ranks(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The display, the frame of alerts and the cell that follows."""
    run = open_run(path)
    assert SAID in run._repr_html_()
    frame = run.alerts()
    assert frame.row(0, named=True)["rank"] == 1
    assert "impossible_value_loss" not in run.alerts(0)["rule"].to_list()
    run.watch()
    assert capsys.readouterr().out == "run: finished, 200 updates, verdict critical (rank 1)\n"
    run.watch(rank=0)
    assert capsys.readouterr().out == "run: finished, 200 updates, verdict healthy\n"


def test_alerts_of_all_ranks_are_told_and_a_rank_that_begins_later_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail is told what any rank raises from now on, with its rank; of a rank that joins, everything."""
    monkeypatch.setattr("esper_analyzer.live.ranks.STATUS_SECS", 0.0)
    told: list[Alert] = []
    options: dict[str, Any] = {"run_id": "run", "world_size": 3, "resume": "allow"}
    with Recorder.open(tmp_path, rank=0, **options) as zero, Recorder.open(tmp_path, rank=1, **options) as one:
        for recorder in (zero, one):
            for update in range(12):
                recorder.record(update=update, policy_loss=-0.01, value_loss=1.0)
        feed = RanksFeed(open_run(tmp_path / "run"), on_alert=told.append)
        assert feed.finish().verdict.level == "unknown"  # type: ignore[union-attr]
        one.record(update=12, policy_loss=-0.01, value_loss=math.nan)
        assert feed.look()
        picture = feed.finish()
        assert [(alert.rule, alert.rank, alert.update) for alert in told] == [("impossible_value_loss", 1, 12)]
        assert picture.verdict is not None
        assert (level_and_rank(picture.verdict), picture.rows) == ("critical (rank 1)", 12)
        with Recorder.open(tmp_path, rank=2, **options) as two:
            two.record(update=0, policy_loss=math.nan, value_loss=1.0)
            feed.look()
            picture = feed.finish()
            assert [(alert.rule, alert.rank) for alert in told[1:]] == [("policy_loss", 2)]
            assert [event.rank for event in picture.events] == [2, 1]
        assert not feed.has_ended
    report = open_run(tmp_path / "run").report()
    feed.look()
    assert feed.finish().verdict == report.verdict
    feed.close()


def test_a_rank_without_rows_leaves_the_numbers_to_the_next(tmp_path: Path, command: Command) -> None:
    """The numbers are of the first rank that has recorded anything."""
    Recorder.open(tmp_path, run_id="run", rank=0, world_size=2).close()
    with Recorder.open(tmp_path, run_id="run", rank=1, world_size=2, resume="allow") as recorder:
        for row in rows(1, 160):
            recorder.record(policy_loss=-0.01, **row)
    report = open_run(tmp_path / "run").report()
    assert (report.run.rank, report.updates.rows, report.verdict.level) == (1, 160, "critical")
    assert command("check", "--run", tmp_path / "run").returncode == 1
    assert command("tail", "--run", tmp_path / "run").stderr.splitlines()[-1].startswith("run: verdict critical")


def test_damage_of_any_rank_is_damage(path: Path, command: Command) -> None:
    """Exit code 3 of report, check and tail, though rank 0 is whole; asked for alone, it is whole."""
    segment = path / "rank-0001" / "segments" / "00000000.parquet"
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 1
    segment.write_bytes(data)
    for name in ("report", "check", "tail"):
        assert command(name, "--run", path).returncode == 3, name
        assert command(name, "--run", path, "--rank", "0").returncode == 0, name
    assert command("tail", "--run", path, "--once").returncode == 3


def test_a_comparison_has_the_verdict_on_all_ranks(path: Path, record: Record, command: Command) -> None:
    """The numbers are of the first rank; asked for one rank, the verdict is on it alone."""
    other = record(rows(0), name="other")
    document = json.loads(command("compare", path, other, "--format", "json").stdout)
    assert document["rank"] == 0
    assert [(one["updates"], one["verdict"], one["scores"]["final"]) for one in document["runs"]] == [
        (200, "critical", 0.5),
        (200, "healthy", 0.5),
    ]
    assert document["runs"][0]["reason"].startswith("Rank 1: ")
    document = json.loads(command("compare", path, other, "--format", "json", "--rank", "0").stdout)
    assert [one["verdict"] for one in document["runs"]] == ["healthy", "healthy"]
