"""Runs in an object store say what the same runs say on a disk, and cost few requests and few bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.analyzer.earning import RISES, STUCK, rows_earning
from tests.conftest import Command
from tests.object_store.conftest import ONE_KIND
from tests.object_store.proxy import Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import analyze, put, put_folder, record, record_rows, run_here
from tests.object_store.uploads import upload
from tests.waiting import wait_until

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_schemas import find_runs
from esper_schemas.examining.run import examine_run
from esper_schemas.run.directory import open_place
from esper_schemas.run.store import StoreUrl
from esper_schemas.testing import golden

SEGMENTS = 40


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch, object_store: Server, tmp_path: Path) -> Server:
    """A store that this process finds by its environment; results are kept in a folder of the test."""
    _find(monkeypatch, object_store.variables(), tmp_path)
    return object_store


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, moto: Server, tmp_path: Path) -> Iterator[Proxy]:
    """A store behind a proxy, which this process finds by its environment."""
    with Proxy(moto) as between:
        _find(monkeypatch, between.variables(), tmp_path)
        yield between


def _find(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], tmp_path: Path) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))


def _plain(document: str, place: object) -> Any:
    """A document without the place of its run, and what depends on whether a lock can be looked at."""
    made = json.loads(document.replace(str(place), "PLACE"))
    if made["run"]["status"] in ("crashed", "unknown"):
        made["run"]["status"] = "without an end"
        made["integrity"]["faults"] = [one for one in made["integrity"]["faults"] if one["kind"] != "torn"]
    return made


@pytest.mark.slow
@ONE_KIND
def test_the_report_is_that_of_the_folder(near: Server) -> None:
    """The report of each golden run, and all its rows, are the same from the store and from the disk."""
    for name in golden.NAMES:
        here, there = open_run(golden.RUNS / name), open_run(put_folder(near, golden.RUNS / name, f"golden/{name}"))
        assert _plain(there.report().to_json(), there.path) == _plain(here.report().to_json(), here.path), name
        for all_attempts in (False, True):
            assert_frame_equal(
                there.updates(all_attempts=all_attempts).collect(), here.updates(all_attempts=all_attempts).collect()
            )
        assert not any(fault.is_damage for fault in there.faults())


def test_a_folder_in_a_store_is_a_reference(near: Server, tmp_path: Path) -> None:
    """By its URL, as `--root`, for a run beside it and for one on this disk."""
    for name, returns in (("a", RISES), ("b", RISES), ("c", RISES), ("stuck", STUCK)):
        with Recorder.open(tmp_path / "runs", run_id=name, env="CartPole-v1") as recorder:
            for row in rows_earning(returns[:100]):
                recorder.record(**row)  # type: ignore[arg-type]
        put_folder(near, recorder.path, f"sweep/{name}")
    url = near.url("sweep")
    for stuck, root in (("stuck", url), (tmp_path / "runs" / "stuck", tmp_path)):
        told = ("report", stuck, "--root", root, "--reference", url, "--format", "json")
        document = json.loads(analyze(near.variables(), *told, cwd=tmp_path).stdout)
        assert sorted(document["run"]["references"]) == ["a", "b", "c"]
        assert document["verdict"]["level"] == "critical"
    empty = analyze(near.variables(), "report", tmp_path / "runs/a", "--reference", near.url("nothing"), cwd=tmp_path)
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1), empty.stderr


def test_the_list_is_that_of_the_folder(near: Server, tmp_path: Path) -> None:
    """Runs are found at any depth below a URL, a run beside them is not, and the list says the same of each."""
    for name in ("finished", "nonfinite"):
        golden.copy_run(name, tmp_path / "runs" / "sweep")
    golden.copy_run("resumed", tmp_path / "runs")
    golden.copy_run("failed", tmp_path / "runs-of-others")
    for prefix in ("runs", "runs-of-others"):
        put_folder(near, tmp_path / prefix, prefix)
    keys = ("name", "status", "updates", "return", "loss", "verdict", "config", "damaged")
    lists = []
    for root in (tmp_path / "runs", near.url("runs")):
        done = analyze(near.environment(), "runs", root, "--format", "json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        lists.append([{key: run[key] for key in keys} for run in json.loads(done.stdout)["runs"]])
    assert lists[0] == lists[1]
    assert {run["name"] for run in lists[1]} == {"resumed", "sweep/finished", "sweep/nonfinite"}
    assert [str(run.path) for run in find_runs(StoreUrl.parse(near.url("runs/resumed/")))] == [near.url("runs/resumed")]


def test_commands_take_a_url(near: Server, tmp_path: Path, command: Command) -> None:
    """Each command that reads takes a URL as RUN, as --run and as --root, and answers as for the folder."""
    for name in ("finished", "resumed"):
        put_folder(near, golden.RUNS / name, f"golden/{name}")
    local, url = golden.RUNS, near.url("golden")
    for words in (
        ["check", "ROOT/finished", "--format", "json"],
        ["check", "--run", "finished", "--root", "ROOT"],
        ["explain", "ROOT/finished", "ROOT/resumed", "--format", "json"],
        ["compare", "ROOT/finished", "ROOT/resumed/"],
        ["tail", "--once", "ROOT/finished"],
        ["export", "ROOT/resumed", "-o", "OUT.csv"],
    ):
        made = []
        for at, root in enumerate((str(local), url)):
            filled = [word.replace("ROOT", root).replace("OUT", f"out-{at}") for word in words]
            done = command(*filled, cwd=tmp_path)
            assert done.returncode == 0, (words, done.stderr)
            made.append((done.stdout + done.stderr).replace(root, "ROOT").replace(f"out-{at}", "OUT"))
        assert made[0] == made[1], words
    assert (tmp_path / "out-0.csv").read_bytes() == (tmp_path / "out-1.csv").read_bytes()


def test_a_report_of_many_segments_costs_few_requests(proxy: Proxy, moto: Server, tmp_path: Path) -> None:
    """Names are listed, not tried; seals come together; each object is asked for once, and not again."""
    url = put_folder(moto, record(tmp_path / "runs", "many", 5 * SEGMENTS, 5), "many")
    proxy.hold, proxy.held = lambda asked: "/seals/" in asked.path, 16
    open_run(url).report()
    lists = [asked for asked in proxy.asked if "list-type" in asked.path]
    objects = [asked.path for asked in proxy.asked if "list-type" not in asked.path]
    assert len(lists) <= 6  # a list counts for a second, so that a slow machine asks again
    assert len(objects) == len(set(objects)) <= 3 * SEGMENTS + 4
    assert proxy.together >= 16
    proxy.forget()
    open_run(url).report()
    assert not [asked for asked in proxy.asked if "list-type" not in asked.path]


@pytest.mark.usefixtures("stored_numbers")
def test_a_kept_report_reads_no_rows(proxy: Proxy, moto: Server, tmp_path: Path) -> None:
    """A process that finds the report in the user's cache folder asks for records, and for no row."""
    url = put_folder(moto, record(tmp_path / "runs", "many", 40, 10), "many")
    first = analyze(proxy.environment(), "report", url, cwd=tmp_path)
    assert any("/segments/" in asked.path for asked in proxy.asked)
    proxy.forget()
    again = analyze(proxy.environment(), "report", url, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (first.returncode, first.stdout)
    assert any("/seals/" in asked.path for asked in proxy.asked)
    assert not any("/segments/" in asked.path for asked in proxy.asked)


def test_a_column_is_read_alone(proxy: Proxy, moto: Server, tmp_path: Path) -> None:
    """Two columns of 24 cost a small part of the bytes, and only the segments that are asked for are opened."""
    folder = record(tmp_path / "runs", "long", 24_000, 8_000)
    url = put_folder(moto, folder, "long")
    segments = sorted(folder.rglob("*.parquet"))
    size = sum(path.stat().st_size for path in segments)
    assert size > 10 * 65_536 * len(segments)  # far more than the ends, which are read anyway
    rows = open_run(url).updates().select("update", "value_loss").collect()
    assert_frame_equal(rows, open_run(folder).updates().select("update", "value_loss").collect())
    assert proxy.body_bytes < 0.25 * size
    proxy.forget()
    first = open_run(url).updates().select("update", "extra_3").head(5).collect()
    assert first["update"].to_list() == [0, 1, 2, 3, 4]
    count = open_run(url).updates().filter(pl.col("update") >= 23_990).select(pl.len()).collect().item()
    assert count == 10


@ONE_KIND
def test_checksums_are_compared_if_asked(near: Server, tmp_path: Path) -> None:
    """A changed byte of a value is found with --verify and by esper-rec verify, and reported as on a disk."""
    folder = record(tmp_path / "runs", "mine", 30, 10)
    url = put_folder(near, folder, "mine")
    assert analyze(near.environment(), "check", url, "--verify", cwd=tmp_path).returncode == 0
    changed = bytearray((folder / "rank-0000/segments/00000001.parquet").read_bytes())
    changed[40] ^= 1
    put(near, "mine/rank-0000/segments/00000001.parquet", bytes(changed))
    done = analyze(near.environment(), "check", url, "--verify", "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    said = f"{url}/rank-0000/segments/00000001.parquet: its sha256 is not the one in its seal"
    assert said in done.stdout
    verified = run_here(near.environment(), "esper-rec", "verify", url, cwd=tmp_path)
    assert (verified.returncode, verified.stderr) == (3, "")
    assert said in verified.stdout


@ONE_KIND
def test_rows_that_cannot_be_decoded_are_damage(near: Server, tmp_path: Path) -> None:
    """Without --verify, too: the segment is left out, named, and the exit code is 3."""
    folder = record(tmp_path / "runs", "mine", 30, 10)
    url = put_folder(near, folder, "mine")
    whole = (folder / "rank-0000/segments/00000001.parquet").read_bytes()
    put(near, "mine/rank-0000/segments/00000001.parquet", bytes(len(whole)))
    done = analyze(near.environment(), "report", url, cwd=tmp_path)
    assert done.returncode == 3
    assert "00000001.parquet" in done.stdout
    assert "20 updates" in done.stdout


def test_a_run_that_is_being_uploaded_is_no_damaged_run(near: Server, tmp_path: Path) -> None:
    """At each moment of an upload, whichever of a segment and its seal came first, the run is one without an end."""
    folder = record(tmp_path / "runs", "mine", 40, 10)
    attempt = json.loads((folder / "rank-0000/attempts/0000.json").read_text())
    begun = {**attempt, "status": None, "ended": None, "rows": 25, "last_seq": 24, "dropped_rows": 0}
    put(near, "mine/run.json", (folder / "run.json").read_bytes())
    put(near, "mine/rank-0000/attempts/0000.json", json.dumps(begun).encode())
    parts = [("segments", ".parquet"), ("states", ".json"), ("seals", ".json")]
    for number in range(4):
        for kind, suffix in parts if number % 2 else parts[::-1]:
            with open_place(StoreUrl.parse(near.url("mine"))) as listed:  # as a reader that has begun just before
                name = f"rank-0000/{kind}/{number:08d}{suffix}"
                put(near, f"mine/{name}", (folder / name).read_bytes())
                found = examine_run(listed, "mine", "records")
            assert not [fault for check in found.ranks for fault in check.all_faults if fault.is_damage], name
    run = open_run(near.url("mine"))
    wait_until(lambda: run.updates().collect().height == 40, "the last segment does not show")  # a list lasts a second
    assert (run.status(), run.faults()) == ("unknown", [])
    put(near, "mine/rank-0000/attempts/0000.json", (folder / "rank-0000/attempts/0000.json").read_bytes())
    done = analyze(near.environment(), "report", near.url("mine"), "--format", "json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)["run"]["status"]) == (0, "finished")


def test_a_record_that_is_replaced_while_it_is_read(near: Server, tmp_path: Path) -> None:
    """Whoever reads a newer record than was listed lists again, so that what the record counts is there."""
    folder = record(tmp_path / "runs", "mine", 40, 10)
    whole = folder / "rank-0000/attempts/0000.json"
    begun = {**json.loads(whole.read_text()), "status": None, "ended": None, "rows": 0, "last_seq": None}
    put_folder(near, folder / "rank-0000/segments", "mine/rank-0000/segments")
    put_folder(near, folder / "rank-0000/seals", "mine/rank-0000/seals")
    put(near, "mine/run.json", (folder / "run.json").read_bytes())
    put(near, "mine/rank-0000/attempts/0000.json", json.dumps(begun).encode())
    with Recorder.open(tmp_path / "runs", run_id="mine", resume="must", segment_rows=10) as recorder:
        record_rows(recorder, 40, 10)
    with open_place(StoreUrl.parse(near.url("mine"))) as listed:
        put_folder(near, folder, "mine")
        found = examine_run(listed, "mine", "records")
    (check,) = found.ranks
    assert [fault for fault in check.all_faults if fault.is_damage] == []
    assert sum(segment.holds.rows for segment in check.segments if segment.holds) in (40, 50)


def test_uploaded_and_read(near: Server, tmp_path: Path) -> None:
    """What `esper-rec upload` has uploaded verifies as sound, and is found by its name below the URL."""
    folder = record(tmp_path / "runs", "mine", 40, 10)
    done = upload(near, folder, near.url("runs/"))
    assert done.returncode == 0, done.stderr
    run = open_run("mine", near.url("runs"), verify=True)
    assert (run.status(), run.faults(), run.updates().collect().height) == ("finished", [], 40)
