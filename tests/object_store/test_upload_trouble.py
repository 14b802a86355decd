"""Uploads that are killed, whose store is killed, and two at once: nothing is lost, doubled, or read in part."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from obstore.exceptions import BaseError
from tests.object_store.proxy import Proxy
from tests.object_store.servers import Server
from tests.object_store.stored import run_here
from tests.object_store.uploads import files, keys, objects, record_run, start_upload, upload
from tests.waiting import HANG_SECS, wait_until

from esper_schemas.errors import EsperError
from esper_schemas.examining.run import examine_run
from esper_schemas.run.directory import open_place
from esper_schemas.run.store import StoreUrl

pytestmark = pytest.mark.timeout(4 * HANG_SECS)

ROWS = 150  # of 15 segments
MANY_ROWS = 400


def _count(server: Server) -> int:
    """The number of objects in a store; −1 if it does not answer."""
    try:
        return len(keys(server))
    except BaseError:
        return -1


class _Reader:
    """Reads a run in a store again and again, as any command does, while it is uploaded.

    Attributes:
        rows: the rows that it has read, each time.
        faults: every damage that it has found.
    """

    def __init__(self, server: Server, key: str) -> None:
        self.rows: list[int] = []
        self.faults: set[str] = set()
        self._url = StoreUrl.parse(server.url(key))
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(HANG_SECS)

    def _read(self) -> None:
        while not self._is_over.wait(0.2):
            try:
                made = examine_run(open_place(self._url), self._url.name, "rows").verification(Path("mine"))
            except (EsperError, OSError):
                continue  # nothing is there, or the store does not answer
            self.rows.append(made.rows)
            self.faults |= {fault.kind for fault in made.faults if fault.is_damage}


@contextmanager
def reading(server: Server, monkeypatch: pytest.MonkeyPatch, key: str = "runs/mine") -> Iterator[_Reader]:
    """Read a run again and again while the block is done."""
    for name, value in server.variables().items():
        monkeypatch.setenv(name, value)
    with _Reader(server, key) as reader:
        yield reader


@pytest.mark.slow
def test_reader_beside(object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a run while it is uploaded sees a sound run that grows; nothing that is there in part counts."""
    run = record_run(tmp_path, rows=ROWS)
    with reading(object_store, monkeypatch) as reader:
        assert upload(object_store, run, object_store.url("runs")).returncode == 0
        wait_until(lambda: bool(reader.rows) and reader.rows[-1] == ROWS)
    assert reader.rows == sorted(reader.rows)
    assert set(reader.rows) <= {10 * segments for segments in range(ROWS // 10 + 1)}
    if object_store.honours_create:  # a store that writes objects in place shows them in part for a moment
        assert reader.faults == set()


def _kill_uploads(server: Server, run: Path, times: int) -> None:
    """Upload a run, and kill the upload so many times, each time when some more objects are there."""
    whole = files(run, "runs/")
    for _ in range(times):
        target = _count(server) + random.randint(0, len(whole) // times)
        process = start_upload(server, run, server.url("runs"))
        while process.poll() is None and _count(server) < target:
            time.sleep(0.01)
        process.kill()
        process.wait()
        for key, data in objects(server, "runs").items():
            is_whole = data == whole[key] or "/attempts/" in key
            assert is_whole or (not server.honours_create and whole[key].startswith(data)), key
    done = upload(server, run, server.url("runs"))
    assert (done.returncode, done.stderr) == (0, "")
    assert objects(server, "runs") == whole


@pytest.mark.slow
def test_uploads_killed(object_store: Server, tmp_path: Path) -> None:
    """Uploads that SIGKILL ends anywhere leave whole objects; the next one adds what is missing, and nothing else."""
    _kill_uploads(object_store, record_run(tmp_path, rows=ROWS), 5)
    object_store.kill()  # it may still write what a killed upload had sent


@pytest.mark.torture
def test_uploads_killed_often(object_store: Server, tmp_path: Path) -> None:
    """The same, many times."""
    for number in range(10):
        run = record_run(tmp_path / str(number), f"run{number}", rows=MANY_ROWS)
        whole = files(run, "runs/")
        for _ in range(12):
            process = start_upload(object_store, run, object_store.url("runs"))
            time.sleep(random.uniform(0.0, 1.0))
            process.kill()
            process.wait()
        assert upload(object_store, run, object_store.url("runs")).returncode == 0
        assert objects(object_store, f"runs/run{number}") == whole


@pytest.mark.torture
def test_server_killed_often(object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is killed and started again and again has the whole run at the end, and at no moment is a part of an
    object read as whole. `test_upload_moments.py` kills it at chosen moments.
    """
    server, run = object_store, record_run(tmp_path, rows=MANY_ROWS)
    whole = files(run, "runs/")
    with reading(server, monkeypatch) as reader:
        process = start_upload(server, run, server.url("runs"))
        wait_until(lambda: _count(server) > 0)
        for _ in range(25):
            target = _count(server) + random.randint(1, len(whole) // 3)
            while process.poll() is None and -1 < _count(server) < target:
                pass
            server.kill()
            time.sleep(random.uniform(0.0, 0.5))
            server.start()
            if process.poll() is not None:  # it was through before the server was killed, which moto then forgets
                process = start_upload(server, run, server.url("runs"))
        _, said = process.communicate(timeout=2 * HANG_SECS)
        assert process.returncode == 0, said
        wait_until(lambda: bool(reader.rows) and reader.rows[-1] == MANY_ROWS)
    assert objects(server, "runs") == whole
    assert set(reader.rows) <= {10 * segments for segments in range(MANY_ROWS // 10 + 1)}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload in this process tries again at once, and not in the course of half a minute."""
    monkeypatch.setattr("esper_recorder.uploading.upload.FIRST_WAIT_SECS", 0.001)


@pytest.mark.usefixtures("_impatient")
def test_store_that_stays_away(moto: Server, tmp_path: Path) -> None:
    """An upload whose store goes away for good ends after some tries, and says what to do."""
    run = record_run(tmp_path, rows=ROWS)
    with Proxy(moto) as proxy:
        proxy.trouble = lambda asked: "gone" if len(proxy.answered) > 10 else None
        done = run_here(proxy.environment(), "esper-rec", "upload", run, moto.url("runs"), cwd=tmp_path)
    again, in_vain = done.stderr.splitlines()
    assert (done.returncode, again.endswith("; it is tried again")) == (2, True)
    assert "does not answer" in in_vain or "the connection broke" in in_vain  # whichever request was on its way
    assert "the same upload again adds the rest" in in_vain


@pytest.mark.usefixtures("_impatient")
def test_bucket_that_is_never_made(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload that follows a run waits for its bucket for a while, as it does for a store that is away."""
    run = record_run(tmp_path, rows=5)
    monkeypatch.setattr(os, "nice", lambda _: None)  # the process of the tests keeps its priority
    done = run_here(moto.environment(), "esper-rec", "upload", run, "s3://nosuchbucket/runs", "--follow", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("no such bucket")) == (2, 2), done.stderr


def test_two_uploads_at_once(object_store: Server, tmp_path: Path) -> None:
    """Two uploads of a run at once both succeed, and the run is there once."""
    run = record_run(tmp_path, rows=ROWS)
    both = [start_upload(object_store, run, object_store.url("runs")) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.wait() for process in both] == [0, 0], said
    assert objects(object_store) == files(run, "runs/")


def test_two_recordings_at_once(object_store: Server, tmp_path: Path) -> None:
    """Of two recordings of one name that are uploaded at once, one is there and whole, and the other is refused."""
    runs = [record_run(tmp_path / name, rows=100) for name in ("one", "other")]
    both = [start_upload(object_store, run, object_store.url("runs")) for run in runs]
    codes = [process.wait() for process in both]
    assert 2 in codes
    if object_store.honours_create:
        assert sorted(codes) == [0, 2]
        assert objects(object_store) == files(runs[codes.index(0)], "runs/")
