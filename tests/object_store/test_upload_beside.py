"""A run that is uploaded while it is recorded: `Recorder.open(..., upload=URL)` and `esper-rec train --upload URL`."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.forked import TRAINING, run_module
from tests.object_store.conftest import ONE_KIND
from tests.object_store.servers import Server
from tests.object_store.uploads import faults, files, keys, objects, record_rows
from tests.waiting import HANG_SECS, PATIENT, wait_until

from esper_recorder import Recorder
from esper_recorder.uploading import beside
from esper_schemas.errors import UsageError

pytestmark = pytest.mark.timeout(2 * HANG_SECS)


@pytest.fixture
def _here(object_store: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of this process has the credentials of the store, and closing a recorder waits for the upload."""
    for name, value in object_store.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(beside, "WAIT_SECS", HANG_SECS)


@ONE_KIND
@pytest.mark.usefixtures("_here")
def test_recorder(object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are there while the run is recorded, and the whole run when the recorder is closed."""
    url = object_store.url("runs")
    with Recorder.open(
        tmp_path, run_id="mine", segment_rows=10, upload=url, redact=["host", "config.key"], config={"key": "t0ken"}
    ) as recorder:
        record_rows(recorder, 0, 15)
        wait_until(lambda: "runs/mine/rank-0000/segments/00000000.parquet" in keys(object_store))
        record_rows(recorder, 15, 10)
    there = objects(object_store)
    assert there.keys() == files(tmp_path / "mine", "runs/").keys()
    assert b"t0ken" not in there["runs/mine/run.json"]
    assert faults(object_store, "runs/mine", monkeypatch) == (25, [])


@ONE_KIND
@pytest.mark.usefixtures("_here")
def test_killed_trainer(object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of a trainer that is killed by SIGKILL gets into the store, those of the unsealed segment too."""
    script = f"""{PATIENT}
import os, sys
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="mine", segment_rows=10, upload=sys.argv[2])
for update in range(25):
    assert recorder.record(update=update, policy_loss=0.5, value_loss=1.0)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path), object_store.url("runs")], check=False)
    assert killed.returncode == -signal.SIGKILL
    record = "runs/mine/rank-0000/attempts/0000.json"
    wait_until(lambda: any("active/" in key for key in keys(object_store)) and record in keys(object_store))
    wait_until(lambda: faults(object_store, "runs/mine", monkeypatch)[0] == 25)
    object_store.kill()  # the upload outlives the trainer, and may look at the store once more


@ONE_KIND
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.usefixtures("_here")
def test_killed_upload(object_store: Server, tmp_path: Path, number: signal.Signals) -> None:
    """An upload that a signal ends, as the end of a job does, is started again when the recorder is closed."""
    with Recorder.open(tmp_path, run_id="mine", segment_rows=10, upload=object_store.url("runs")) as recorder:
        record_rows(recorder, 0, 15)
        wait_until(lambda: "runs/mine/rank-0000/segments/00000000.parquet" in keys(object_store))
        assert recorder._upload is not None
        process = recorder._upload._process
        assert process is not None
        process.send_signal(number)
        process.wait(HANG_SECS)
        record_rows(recorder, 15, 10)
    assert objects(object_store) == files(tmp_path / "mine", "runs/")
    object_store.kill()  # it may still write what the ended upload had sent


@pytest.mark.slow
@pytest.mark.usefixtures("_here")
def test_store_in_trouble(
    object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that does not answer is a note in the log: every row is recorded, and uploaded when the store is back."""
    object_store.kill()
    with Recorder.open(tmp_path, run_id="mine", segment_rows=10, upload=object_store.url("runs")) as recorder:
        for update in range(35):
            assert recorder.record(update=update, policy_loss=0.5, value_loss=1.0)
        wait_until(lambda: "does not answer" in caplog.text)
        object_store.start()
    assert objects(object_store) == files(tmp_path / "mine", "runs/")
    assert faults(object_store, "runs/mine", monkeypatch) == (35, [])
    assert object_store.secret not in caplog.text
    notes = [record for record in caplog.records if "does not answer" in record.message]
    assert [record.levelno for record in notes] == [logging.WARNING]


@ONE_KIND
@pytest.mark.usefixtures("_here")
def test_not_waited_for(
    object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A recorder waits for the upload only so long, and says so; the upload goes on, and ends, by itself."""
    monkeypatch.setattr(beside, "WAIT_SECS", 0.01)
    object_store.kill()
    with Recorder.open(tmp_path, run_id="mine", segment_rows=10, upload=object_store.url("runs")) as recorder:
        record_rows(recorder, 0, 15)
    assert "is not wholly uploaded" in caplog.text
    object_store.start()
    wait_until(lambda: objects(object_store) == files(tmp_path / "mine", "runs/"))


@ONE_KIND
@pytest.mark.usefixtures("_here")
def test_a_run_of_another_recording_is_a_note(
    object_store: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run of that name that is in the store is left as it is, and nothing is raised."""
    for name in ("before", "now"):
        assert caplog.text == ""
        with Recorder.open(tmp_path / name, run_id="mine", upload=object_store.url("runs")) as recorder:
            record_rows(recorder, 0, 5)
    assert "with other bytes" in caplog.text
    assert "esper-rec upload" in caplog.text
    assert objects(object_store) == files(tmp_path / "before" / "mine", "runs/")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"upload": "/mnt/runs"}, "expected the URL of an object store"),
        ({"upload": "s3://me:passw0rd@bucket/runs"}, "a URL must have no user, password"),
        ({"upload": "s3://bucket/runs", "redact": ["lr"]}, "write config.lr"),
        ({"redact": ["host"]}, "give upload=URL too"),
    ],
)
def test_wrong_argument(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    """A wrong argument is raised before anything is recorded, without the password that is in it."""
    with pytest.raises(UsageError, match=said) as raised:
        Recorder.open(tmp_path, run_id="mine", **wrong)  # type: ignore[arg-type]
    assert "passw0rd" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@ONE_KIND
@pytest.mark.usefixtures("_here")
def test_forked_child(object_store: Server, tmp_path: Path) -> None:
    """A forked child of the trainer has nothing to do with the upload: it neither waits for it nor ends it."""
    with Recorder.open(tmp_path, run_id="mine", segment_rows=10, upload=object_store.url("runs")) as recorder:
        record_rows(recorder, 0, 15)
        child = multiprocessing.get_context("fork").Process(target=recorder.close)
        child.start()
        child.join(HANG_SECS)
        assert child.exitcode == 0
        record_rows(recorder, 15, 15)
    assert objects(object_store) == files(tmp_path / "mine", "runs/")


@pytest.mark.slow
def test_train(s3rver: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`esper-rec train --upload URL` uploads the run that it records, also when it is resumed."""
    for name, value in s3rver.variables().items():
        monkeypatch.setenv(name, value)
    words = ["train", "--out", tmp_path, "--run-id", "mine", "--upload", s3rver.url("runs"), "--redact", "host"]
    for options in (["--updates", "3"], ["--resume", "--updates", "5"]):
        done = run_module("esper_recorder", *words, *options, imports=TRAINING)
        assert done.returncode == 0, done.stderr
    expected = {key for key in files(tmp_path / "mine", "runs/") if not key.endswith("checkpoint.pt")}
    assert objects(s3rver).keys() == expected
    assert faults(s3rver, "runs/mine", monkeypatch) == (5, [])
