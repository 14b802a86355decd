from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.forked import run_module
from tests.waiting import wait_until

from esper_recorder import EsperError, Recorder
from esper_recorder.cli import main
from esper_schemas import RunDirectory
from esper_schemas.examining.faults import Repair
from esper_schemas.examining.run import find_run, verify_run
from esper_schemas.run.files import Folder
from esper_schemas.testing.strategies import damaged

RANK = "rank-0000"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three attempts with drops and an extra metric, closed; segments of 10 rows."""
    root = tmp_path_factory.mktemp("whole")
    for attempt in range(3):
        with Recorder.open(root, run_id="run", resume="allow", segment_rows=10) as recorder:
            for i in range(25):
                extras = {"mine": 0.5} if i > 20 else {}
                loss: Any = "bad" if i in (0, 7, 24) else 0.25  # the first, one in between, the last
                recorder.record(update=20 * attempt + i, policy_loss=0.1, value_loss=loss, extras=extras)
    return root / "run"


def _verify(path: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["verify", str(path), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_whole_run_is_found_whole(whole: Path) -> None:
    """A run with attempts, drops at every place, extras and restarts has neither fault nor note."""
    code, output = _verify(whole)
    assert code == 0
    assert output.splitlines() == [
        f"{whole}: no damage (0 faults, 0 recorded losses, 0 notes, 1 rank, 9 segments, 66 rows)"
    ]


def test_fault_is_named_by_run_rank_segment_offset_and_cause(whole: Path, tmp_path: Path) -> None:
    """A line for each fault says where it is, and the exit code is 3; the JSON says the same."""
    path = shutil.copytree(whole, tmp_path / "run")
    with Recorder.open(tmp_path, run_id="run", resume="must") as recorder:
        for i in range(5):
            recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
        (active,) = (path / RANK / "active").glob("*.arrows")
        data = bytearray(active.read_bytes())
    (path / RANK / "segments" / f"{active.stem}.parquet").unlink()
    (path / RANK / "seals" / f"{active.stem}.json").unlink()
    data[-5000] ^= 1
    active.write_bytes(data)
    code, output = _verify(path)
    assert code == 3
    assert output.startswith("run rank 0 segment 9 offset ")
    assert "corrupt: the checksum of a row does not match" in output
    code, output = _verify(path, "--format", "json")
    document = json.loads(output)
    assert code == 3
    assert document["format"] == "esper-verify/1"
    assert document["damaged"] is True
    fault = document["faults"][0]
    assert {name: fault[name] for name in ("rank", "segment", "kind", "damage")} == {
        "rank": 0,
        "segment": 9,
        "kind": "corrupt",
        "damage": True,
    }
    assert 0 < fault["offset"] < len(data)


def test_run_without_header_is_damaged_and_no_run_is_nothing(whole: Path, tmp_path: Path) -> None:
    """A run that lost its run.json is still found; a folder that is no run at all is exit code 2."""
    path = shutil.copytree(whole, tmp_path / "run")
    (path / "run.json").unlink()
    assert _verify(path)[0] == 3
    (tmp_path / "nothing").mkdir()
    code, output = _verify(tmp_path / "nothing")
    assert code == 2
    assert output.count("\n") == 1


def test_newer_version_is_refused(whole: Path, tmp_path: Path) -> None:
    """A run of a newer Esper is neither verified nor repaired."""
    path = shutil.copytree(whole, tmp_path / "run")
    header = path / "run.json"
    header.write_text(header.read_text().replace('"format": 1', '"format": 99'))
    for command in ("verify", "repair"):
        result = CliRunner().invoke(main, [command, str(path)])
        assert result.exit_code == 2
        assert "upgrade" in result.output


def test_run_that_is_recorded_at_full_speed_is_never_damaged(tmp_path: Path) -> None:
    """While a writer appends, rotates and seals, verify sees neither a fault nor a note."""
    stop = threading.Event()

    def write() -> None:
        with Recorder.open(tmp_path, run_id="run", segment_rows=20) as recorder:
            i = 0
            while not stop.is_set():
                recorder.record(update=i, policy_loss=0.1, value_loss="bad" if i % 37 == 0 else 0.2)
                i += 1
                if i % 10 == 0:
                    stop.wait(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not (tmp_path / "run" / RANK / "segments" / "00000001.parquet").exists():
            stop.wait(0.01)
        rows = list[int]()
        while len(rows) < 4 or rows[0] == rows[-1]:
            found = verify_run(RunDirectory(tmp_path / "run"))
            assert found.faults == []
            rows.append(found.rows)
    finally:
        stop.set()
        thread.join()
    assert verify_run(RunDirectory(tmp_path / "run")).faults == []


def test_end_that_a_writer_is_at_is_no_fault(whole: Path, tmp_path: Path) -> None:
    """Half a row at the end is nothing while the lock is held, and a torn end once it is not."""
    path = shutil.copytree(whole, tmp_path / "run")
    with Recorder.open(tmp_path, run_id="run", resume="must") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
        recorder.record(update=1, policy_loss=0.1, value_loss=0.2)
        (active,) = (path / RANK / "active").glob("*.arrows")
        shutil.copytree(path, tmp_path / "copy" / "run")
    half = tmp_path / "copy" / "run" / active.relative_to(path)
    os.truncate(half, half.stat().st_size - 100)
    copy = RunDirectory(tmp_path / "copy" / "run")
    with copy.rank(0).lock_path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert verify_run(copy).faults == []
    assert {fault.kind for fault in verify_run(copy).faults} == {"torn", "note"}


@pytest.mark.parametrize(("attempt", "claimed", "shown"), [(0, 1, 2), (1, 0, 2), (2, 1, 2)])
def test_attempt_that_claims_fewer_drops_than_its_rows_show_is_a_fault(
    whole: Path, tmp_path: Path, attempt: int, claimed: int, shown: int
) -> None:
    """The rows themselves say how many were dropped before them; a record that says less is named, with both counts."""
    path = shutil.copytree(whole, tmp_path / "run")
    record = path / RANK / "attempts" / f"{attempt:04}.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "dropped_rows": claimed}))
    code, output = _verify(path)
    assert code == 3
    (fault,) = [line for line in output.splitlines() if record.name in line]
    assert [int(number) for number in re.findall(r"\d+", fault.partition(record.name)[2])] == [claimed, shown]


@pytest.mark.parametrize("change", ["longer", "shorter", "written again"])
def test_sealed_file_of_another_size_is_a_fault_that_names_both_sizes(whole: Path, tmp_path: Path, change: str) -> None:
    """A sealed file has the size that its seal says, also where what it holds can be read."""
    path = shutil.copytree(whole, tmp_path / "run")
    segment = path / RANK / "segments" / "00000001.parquet"
    sealed = segment.read_bytes()
    if change == "written again":
        pq.write_table(pq.read_table(segment, partitioning=None), segment, compression="none")
    else:
        segment.write_bytes(sealed + b"\0" if change == "longer" else sealed[:-1])
    code, output = _verify(path)
    assert code == 3
    (fault,) = [line for line in output.splitlines() if "rank 0 segment 1" in line]
    said = [int(number) for number in re.findall(r"\d+", fault.partition(segment.name)[2])]
    assert said == [len(sealed), segment.stat().st_size]


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "name", ["run.json", "LOCK", "segments/00000001.parquet", "seals/00000001.json", "attempts/0001.json"]
)
def test_pipe_in_place_of_a_file_does_not_make_us_wait(whole: Path, tmp_path: Path, name: str) -> None:
    """A file that would block its reader for ever is a fault like any other, and is never opened."""
    path = shutil.copytree(whole, tmp_path / "run")
    _pipe(path / name if name == "run.json" else path / RANK / name)
    ended = run_module("esper_recorder", "verify", path)
    assert ended.returncode == (0 if name == "LOCK" else 3), ended
    assert "Traceback" not in ended.stderr


def test_values_that_were_left_out_are_told_in_words(tmp_path: Path) -> None:
    """The note says of which metric how many, and why the last one; a name that is too long is cut."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for i in range(2):
            recorder.record(update=i, policy_loss=0.1, value_loss=0.2, entropy="x", extras={"k" * 5000: 1.0})
    notes = [fault.message for fault in verify_run(RunDirectory(tmp_path / "r")).faults]
    assert notes[0] == (
        "attempt 0: values of 'entropy' that could not be stored are left out (2; the last because entropy must be one"
        " float64 number, found str 'x')"
    )
    assert "values of 'kkkk" in notes[1]
    assert len(notes[1]) < 400


def test_names_reach_the_screen_escaped(whole: Path, tmp_path: Path) -> None:
    """Terminal escapes and newlines in names of files and in metadata are printed as text."""
    path = shutil.copytree(whole, tmp_path / "run")
    (path / RANK / "segments" / "\x1b[31m\nred.parquet").write_bytes(b"x")
    table = pq.read_table(path / RANK / "segments" / "00000001.parquet", partitioning=None)
    metadata = {**table.schema.metadata, b"esper.run_id": b"\x1b]0;title\x07\n"}
    pq.write_table(table.replace_schema_metadata(metadata), path / RANK / "segments" / "00000001.parquet")
    (path / RANK / "seals" / "00000001.json").unlink()
    code, output = _verify(path)
    assert code == 3
    assert "red.parquet" in output
    assert "title" in output
    assert all(line.isprintable() for line in output.splitlines())


def test_recorded_loss_is_listed_and_is_no_damage(whole: Path, tmp_path: Path) -> None:
    """What a repair has recorded as lost is listed for ever, with exit code 0; one row more is damage."""
    path = shutil.copytree(whole, tmp_path / "run")
    (path / RANK / "segments" / "00000001.parquet").unlink()
    (path / RANK / "seals" / "00000001.json").unlink()
    (path / RANK / "repairs").mkdir()
    loss: dict[str, Any] = {"first_segment": 1, "last_segment": 1, "first_seq": 0, "last_seq": 21, "cause": "a test"}
    record = Repair(repair=0, repaired="", losses=[loss])
    (path / RANK / "repairs" / "0000.json").write_bytes(record.to_bytes())
    code, output = _verify(path)
    assert (code, "segment 1 and rows 0 to 21 lost (a test)" in output) == (0, True), output
    loss["last_seq"] = 15
    (path / RANK / "repairs" / "0000.json").write_bytes(record.to_bytes())
    code, output = _verify(path)
    assert code == 3
    assert "rows with sequence numbers 16 to" in output


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_run_gives_faults_or_our_own_errors(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever bytes stand in any file: verify ends with faults, or with an error of ours."""
    path = tmp_path / "run"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file() and entry.name != "LOCK")
    target = data.draw(st.sampled_from(files))
    target.write_bytes(data.draw(damaged(target.read_bytes())))
    seal = path / RANK / "seals" / f"{target.stem}.json"
    if target.suffix == ".parquet" and data.draw(st.booleans()):
        seal.unlink()  # so that the file itself must be looked into
    with suppress(EsperError):
        verify_run(find_run(path, tmp_path))


def test_verify_while_a_segment_is_sealed_between_any_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment more at each look into a folder of the rank is neither fault nor note."""
    with Recorder.open(tmp_path, run_id="run", segment_rows=1) as recorder:
        rank = RunDirectory(recorder.path).rank(0)
        look = Folder.names
        sealed = 0

        def seal_one() -> None:
            nonlocal sealed
            recorder.record(update=sealed, policy_loss=0.1, value_loss=0.2)
            sealed += 1
            wait_until(lambda: rank.sealed_path(sealed - 1).exists() and not rank.active_path(sealed - 1).exists())

        def look_and_seal(folder: Folder, inner: str = "") -> list[str]:
            found = look(folder, inner)
            if folder.path == rank.path and inner:
                seal_one()
            return found

        seal_one()
        monkeypatch.setattr(Folder, "names", look_and_seal)
        found = verify_run(RunDirectory(recorder.path))
    assert sealed > 5
    assert found.faults == []
