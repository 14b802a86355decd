"""Objects that a store shows while they are written, as s3rver does: what is there in part is never read as whole."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.object_store.servers import BUCKET, S3rver, Server
from tests.object_store.stored import put_folder
from tests.object_store.uploads import client, record_rows
from tests.tables import shortened
from tests.waiting import HANG_SECS, wait_until

from esper_analyzer import open_run
from esper_analyzer.listing.listing import list_runs
from esper_recorder import Recorder
from esper_schemas.errors import EsperError
from esper_schemas.examining.run import examine_run
from esper_schemas.examining.segment import DEPTHS
from esper_schemas.run import bucket
from esper_schemas.run.directory import open_place
from esper_schemas.run.store import StoreUrl

RANK = "rank-0000"
SEGMENT_ROWS = 10

OBJECTS = {
    "header": "run.json",
    "attempt": f"{RANK}/attempts/0000.json",
    "seal": f"{RANK}/seals/00000001.json",
    "column states": f"{RANK}/states/00000001.json",
    "segment": f"{RANK}/segments/00000001.parquet",
    "last segment": f"{RANK}/segments/00000002.parquet",
    "record of a black box": f"{RANK}/blackbox/00000030.json",
    "black box": f"{RANK}/blackbox/00000030.parquet",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three segments, with a black box."""
    with Recorder.open(tmp_path, run_id="mine", segment_rows=SEGMENT_ROWS) as recorder:
        recorder.minibatch(policy_loss=0.5)
        record_rows(recorder, 0, 3 * SEGMENT_ROWS)
        recorder.dump_black_box("asked")
    return recorder.path


@contextmanager
def _in_part(server: Server, key: str, data: bytes, count: int) -> Iterator[None]:
    """Put an object of which only so many bytes have arrived; the rest arrives when the block ends."""
    head = f"PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), HANG_SECS) as connection:
        connection.sendall(head.encode() + data[:count])
        yield
        connection.sendall(data[count:])
        assert b" 200 " in connection.recv(100)


@pytest.mark.slow
@pytest.mark.parametrize("name", shortened(OBJECTS, str))
def test_object_in_part(name: str, s3rver: S3rver, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads the run sees rows of whole segments alone, and all of it as soon as the rest has arrived; also
    where the object was whole before, and is put again.
    """
    monkeypatch.setattr(bucket, "LISTED_SECS", 0.0)
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))
    for variable, value in s3rver.variables().items():
        monkeypatch.setenv(variable, value)
    place = StoreUrl.parse(s3rver.url("runs/mine"))
    path, key = run / OBJECTS[name], (place / OBJECTS[name]).key
    data, whole = path.read_bytes(), open_run(run).updates().collect()
    missing = int(path.stem) if "segments/" in OBJECTS[name] else None
    put_folder(s3rver, run, "runs/mine")
    obstore.delete(client(s3rver), key)
    on_disk = s3rver.objects / BUCKET / f"{key}._S3rver_object"

    def has(count: int) -> Callable[[], bool]:
        return lambda: on_disk.exists() and on_disk.stat().st_size == count

    for count in (1, len(data) // 2, len(data) - 2):  # the last byte of a record is the end of its line
        with _in_part(s3rver, key, data, count):
            wait_until(has(count))
            for depth in DEPTHS:
                found = examine_run(open_place(place), "mine", depth)
                held = [segment.number for check in found.ranks for segment in check.segments if segment.holds]
                assert missing not in held, depth
            try:
                _check_part(
                    place, name, whole.filter(pl.col("seq") // SEGMENT_ROWS != (-1 if missing is None else missing))
                )
            except EsperError:
                assert name in ("header", "attempt")
        here, there = open_run(run), open_run(place)
        assert (there.faults(), there.status()) == ([], "finished")
        assert_frame_equal(there.updates().collect(), whole)
        assert there.report().to_json().replace(str(place), "") == here.report().to_json().replace(str(run), "")
        (listed,) = list_runs([place.parent]).runs
        assert (listed.error, listed.updates, listed.is_damaged) == (None, whole.height, False)


def _check_part(place: StoreUrl, name: str, expected: pl.DataFrame) -> None:
    """What reads a run in which one object is there in part finds the rows that are expected, or an error."""
    (listed,) = list_runs([place.parent]).runs
    assert name != "header" or listed.error is not None
    assert listed.error is not None or listed.updates == expected.height
    there = open_run(place)
    assert_frame_equal(there.updates().collect(), expected)
    assert json.loads(there.report().to_json())["updates"]["rows"] == expected.height
    assert name != "attempt" or there.status() != "finished"
