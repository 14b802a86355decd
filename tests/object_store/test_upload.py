"""`esper-rec upload`, against real servers: what is there afterwards, and what is refused."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.object_store.servers import Server
from tests.object_store.uploads import (
    ROWS,
    faults,
    files,
    keys,
    objects,
    put,
    record_rows,
    record_run,
    start_upload,
    upload,
)
from tests.waiting import HANG_SECS, PATIENT, wait_until

from esper_recorder import Recorder

pytestmark = pytest.mark.timeout(2 * HANG_SECS)

SEGMENT = "runs/mine/rank-0000/segments/00000002.parquet"


@pytest.mark.slow
def test_whole_run(any_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run is there file by file, the same bytes under the same names, and is sound when it is read there."""
    run = record_run(tmp_path)
    done = upload(any_store, run, any_store.url("runs/"))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{any_store.url('runs/mine')} has {len(files(run))} objects" in done.stdout
    assert objects(any_store) == files(run, "runs/")
    assert faults(any_store, "runs/mine", monkeypatch) == (ROWS, [])


@pytest.mark.slow
def test_nothing_twice(any_store: Server, tmp_path: Path) -> None:
    """A second upload puts nothing, with or without a slash at the end of the URL, and says so."""
    run = record_run(tmp_path)
    first = upload(any_store, run, any_store.url("runs"), "--format", "json")
    second = upload(any_store, run, any_store.url("runs/"), "--format", "json")
    (one,), (other,) = (json.loads(done.stdout)["runs"] for done in (first, second))
    size = sum(map(len, files(run).values()))
    assert (one["new_objects"], one["new_bytes"]) == (len(files(run)), size)
    assert (other["new_objects"], other["new_bytes"], other["complete"]) == (0, 0, True)
    assert (other["objects"], other["bytes"], other["url"]) == (len(files(run)), size, any_store.url("runs/mine"))


def test_names(moto: Server, tmp_path: Path) -> None:
    """RUN is a path or a name under `--root`, and `--run` says the same; a command without one says what is missing."""
    record_run(tmp_path)
    for given in (["mine"], ["--run", "mine"], ["-r", tmp_path / "mine"]):
        assert upload(moto, *given, moto.url("runs"), "--root", tmp_path).returncode == 0
    done = upload(moto, moto.url("runs"))
    assert (done.returncode, "name the runs to upload before the URL" in done.stderr) == (2, True)


def test_run_goes_on(object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload while a run is recorded puts its sealed segments; a later one puts the rest and how it ended."""
    recorder = Recorder.open(tmp_path, run_id="mine", segment_rows=10)
    record_rows(recorder, 0, 35)
    while len(list((tmp_path / "mine/rank-0000/segments").iterdir())) < 3:
        pass
    done = upload(object_store, "mine", object_store.url("runs"), "--root", tmp_path)
    assert done.returncode == 0
    assert "the run so far" in done.stdout
    assert faults(object_store, "runs/mine", monkeypatch) == (30, [])
    record_rows(recorder, 35, 10)
    recorder.close("failed", "it did")
    assert upload(object_store, tmp_path / "mine", object_store.url("runs")).returncode == 0
    assert objects(object_store) == files(tmp_path / "mine", "runs/")
    assert faults(object_store, "runs/mine", monkeypatch) == (45, [])


def test_attempts_ranks_and_black_boxes(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several attempts and ranks, and black boxes, are all there; `--rank` puts one rank alone."""
    for attempt in range(2):
        for rank in (1, 0):
            with Recorder.open(
                tmp_path, run_id="mine", resume="allow", rank=rank, world_size=2, segment_rows=10
            ) as recorder:
                recorder.minibatch(policy_loss=0.5)
                record_rows(recorder, 20 * attempt, 25)
                recorder.dump_black_box("asked")
    run = tmp_path / "mine"
    assert upload(moto, run, moto.url("one"), "--rank", 1).returncode == 0
    of_rank = {key: data for key, data in files(run, "one/").items() if "rank-0000" not in key}
    assert objects(moto) == of_rank
    assert upload(moto, run, moto.url("runs")).returncode == 0
    assert objects(moto, "runs") == files(run, "runs/")
    assert any("blackbox/" in key for key in of_rank)
    assert faults(moto, "runs/mine", monkeypatch) == (100, [])
    refused = upload(moto, run, moto.url("one"), "--rank", 7)
    assert (refused.returncode, "has no rank 7" in refused.stderr) == (2, True)


def test_killed_run(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_python) -> None:  # type: ignore[no-untyped-def]
    """The rows that a killed process left in an active file are uploaded too; after a resume, their segment is."""
    script = f"""{PATIENT}
import os, sys
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="mine", segment_rows=10)
for update in range(25):
    assert recorder.record(update=update, policy_loss=0.5, value_loss=1.0)
os.kill(os.getpid(), 9)
"""
    assert run_python(script, tmp_path).returncode == -signal.SIGKILL
    run = tmp_path / "mine"
    assert upload(moto, run, moto.url("runs")).returncode == 0
    assert objects(moto) == {key: data for key, data in files(run, "runs/").items() if ".tmp" not in key}
    rows, _ = faults(moto, "runs/mine", monkeypatch)
    assert rows == 25
    with Recorder.open(tmp_path, run_id="mine", resume="must", segment_rows=10) as recorder:
        record_rows(recorder, 25, 5)
    assert upload(moto, run, moto.url("runs")).returncode == 0
    there = objects(moto)
    assert {key: there.get(key) for key in files(run, "runs/")} == files(run, "runs/")
    rows, found = faults(moto, "runs/mine", monkeypatch)
    assert (rows, [fault for fault in found if not fault.startswith("note")]) == (30, [])


def test_no_rows(moto: Server, tmp_path: Path) -> None:
    """Of a run without rows nothing is uploaded, since the next recording under its name is another one."""
    run = record_run(tmp_path, rows=0)
    done = upload(moto, run, moto.url("runs"))
    assert (done.returncode, "no row has been recorded" in done.stdout) == (0, True)
    assert objects(moto) == {}


def test_several_runs(moto: Server, tmp_path: Path) -> None:
    """Each run gets a place of its own; one that cannot be uploaded does not keep the others from being uploaded."""
    for name in ("first", "second", "third"):
        record_run(tmp_path, name)
    segment = tmp_path / "second/rank-0000/segments/00000001.parquet"
    segment.write_bytes(segment.read_bytes()[:-1] + b"?")
    done = upload(moto, "first", "second", "third", moto.url("runs"), "--root", tmp_path)
    assert done.returncode == 3
    assert "00000001.parquet: its sha256 is not the one in its record" in done.stderr
    assert objects(moto, "runs/first") == files(tmp_path / "first", "runs/")
    assert objects(moto, "runs/third") == files(tmp_path / "third", "runs/")
    assert not any("00000001.parquet" in key for key in objects(moto, "runs/second"))


@pytest.mark.slow
@pytest.mark.parametrize("change", [bytes.upper, lambda data: data + b"more", lambda data: data[::-1]])
def test_another_object(any_store: Server, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    """An object with other bytes, of the same size or not, is an error that names it, and is left as it is."""
    run = record_run(tmp_path)
    theirs = change(files(run, "runs/")[SEGMENT])
    put(any_store, SEGMENT, theirs)
    done = upload(any_store, run, any_store.url("runs"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{any_store.url(SEGMENT)}: an object with other bytes is there already" in done.stderr
    assert objects(any_store)[SEGMENT] == theirs


@pytest.mark.slow
def test_another_run(any_store: Server, tmp_path: Path) -> None:
    """A run of the same name that is another recording is refused, and nothing of it is put."""
    run, other = record_run(tmp_path / "one"), record_run(tmp_path / "other")
    assert upload(any_store, run, any_store.url("runs")).returncode == 0
    done = upload(any_store, other, any_store.url("runs"))
    assert (done.returncode, "run.json: an object with other bytes" in done.stderr) == (2, True)
    assert objects(any_store) == files(run, "runs/")


def test_same_object_of_somebody_else(object_store: Server, tmp_path: Path) -> None:
    """An object with the same bytes that another program put counts, though it does not say its sha256."""
    run = record_run(tmp_path)
    for key, data in files(run, "runs/").items():
        put(object_store, key, data)
    done = upload(object_store, run, object_store.url("runs"), "--format", "json")
    assert json.loads(done.stdout)["runs"][0]["new_objects"] == 0


def test_beginning_of_an_object(object_store: Server, tmp_path: Path) -> None:
    """The beginning of an object is completed where the store overwrites; a store that writes no object in part has
    got it from somebody else.
    """
    run = record_run(tmp_path)
    whole = files(run, "runs/")
    record = "runs/mine/rank-0000/attempts/0000.json"
    for key, length in ((SEGMENT, 100), ("runs/mine/rank-0000/seals/00000004.json", 0), (record, 40)):
        put(object_store, key, whole[key][:length])
    done = upload(object_store, run, object_store.url("runs"))
    if object_store.honours_create:
        assert (done.returncode, len(objects(object_store)[SEGMENT])) == (2, 100)
    else:
        assert (done.returncode, objects(object_store)) == (0, whole)


def test_interrupted(s3rver: Server, tmp_path: Path) -> None:
    """Ctrl-C ends an upload whose store does not answer, without a traceback; a second upload adds the rest."""
    run = record_run(tmp_path)
    s3rver.kill()
    s3rver.start()  # nobody is connected to it
    assert s3rver.process is not None
    os.kill(s3rver.process.pid, signal.SIGSTOP)
    process = start_upload(s3rver, run, s3rver.url("runs"))
    wait_until(lambda: s3rver.is_connected() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=HANG_SECS)
    assert (process.returncode, said) == (130, "")
    os.kill(s3rver.process.pid, signal.SIGCONT)
    assert upload(s3rver, run, s3rver.url("runs")).returncode == 0
    assert objects(s3rver) == files(run, "runs/")


def test_follow(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--follow` uploads each segment as it is sealed, and ends when the run does."""
    recorder = Recorder.open(tmp_path, run_id="mine", segment_rows=10)
    record_rows(recorder, 0, 5)
    process = start_upload(moto, tmp_path / "mine", moto.url("runs"), "--follow")
    for first in (5, 25):
        record_rows(recorder, first, 20)
        segment = f"runs/mine/rank-0000/segments/{first // 10:08d}.parquet"
        wait_until(lambda segment=segment: segment in keys(moto) or process.poll() is not None)  # type: ignore[misc]
        assert process.poll() is None
    recorder.close()
    assert process.wait() == 0
    assert objects(moto) == files(tmp_path / "mine", "runs/")
    assert faults(moto, "runs/mine", monkeypatch) == (45, [])
