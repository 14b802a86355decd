"""A store that is killed at each kind of moment of an upload, and started again: nothing is lost, doubled, or torn."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from tests.forked import Forked
from tests.object_store.proxy import Asked, Proxy
from tests.object_store.servers import BUCKET, S3rver, Server
from tests.object_store.test_upload_trouble import reading
from tests.object_store.uploads import SEGMENT_ROWS, files, objects, record_run, start_upload
from tests.waiting import HANG_SECS, wait_until

pytestmark = pytest.mark.timeout(4 * HANG_SECS)

ROWS = 100  # of 10 segments


class Moment(NamedTuple):
    """When the store is killed: the method of a request, what is in its path, and how much of it is done by then."""

    method: str
    part: str
    trouble: str


MOMENTS = (
    Moment("PUT", "/run.json", "sent half"),
    Moment("GET", "list-type", "unsent"),
    Moment("PUT", "/attempts/", "sent half"),
    Moment("HEAD", "/seals/", "unanswered"),
    Moment("PUT", "/seals/", "sent half"),
    Moment("PUT", "/states/", "unanswered"),
    Moment("HEAD", "/segments/", "unsent"),
    Moment("PUT", "/segments/", "sent half"),
    Moment("PUT", "/segments/", "unanswered"),
    Moment("GET", "/attempts/", "unsent"),
    Moment("PUT", "/attempts/", "unanswered"),
    Moment("GET", "list-type", "unanswered"),
)
"""In the order in which they come, each once."""

FEW_MOMENTS = tuple(moment for moment in MOMENTS if moment.part in ("/run.json", "/segments/"))
"""Those of a store that forgets its objects, and gets all of them again after each."""


class Killer:
    """Kills a store at each of some moments, and looks at what is there before it starts it again.

    Attributes:
        left: the moments that have not come.
        wrong: what was in the store, and should not have been, when it was killed.
    """

    def __init__(self, server: Server, proxy: Proxy, whole: dict[str, bytes]) -> None:
        self.left = list(MOMENTS if server.keeps_objects else FEW_MOMENTS)
        self.wrong: list[str] = []
        self._server, self._proxy, self._whole = server, proxy, whole
        self._has_come, self._is_over = threading.Event(), threading.Event()
        proxy.trouble, proxy.interrupt = self._trouble, self._wait

    def until_ended(self, process: Forked) -> str:
        """Kill the store at each moment until a process has ended; return what that said on standard error."""
        while process.poll() is None:
            if self._has_come.wait(0.05):
                self._has_come.clear()
                self._kill()  # by this thread: a server dies with the thread that started it
                self._is_over.set()
        return process.communicate(timeout=HANG_SECS)[1]

    def _trouble(self, asked: Asked) -> str | None:
        moment = self.left[0] if self.left else None
        if moment is None or asked.method != moment.method or moment.part not in asked.path:
            return None
        self._asked = asked
        return self.left.pop(0).trouble

    def _wait(self) -> None:
        self._is_over.clear()
        self._has_come.set()
        assert self._is_over.wait(HANG_SECS)

    def _kill(self) -> None:
        """Kill the server; whole objects stay as they were, and only what was being put then may be there in part."""
        if isinstance(self._server, S3rver) and self._asked in self._proxy.unanswered:
            key = _key(self._asked)
            wait_until(lambda: key in _on_disk(self._server))
        self._server.kill()
        cut = {_key(asked) for asked in self._proxy.unanswered}
        for key, data in _on_disk(self._server).items():
            expected = self._whole[key]
            if "/attempts/" in key:  # it is put twice: the end of an attempt replaces its beginning
                data, expected = (record.partition(b'"ended"')[0] for record in (data, expected))
            if not (data == expected or (key in cut and expected.startswith(data))):
                self.wrong.append(f"{key} has {len(data)} bytes when the store is killed")
        self._server.start()


def _key(asked: Asked) -> str:
    return unquote(asked.path.partition("?")[0]).removeprefix(f"/{BUCKET}/")


def _on_disk(server: Server) -> dict[str, bytes]:
    """The objects that the store has on the disk."""
    if not isinstance(server, S3rver):
        return {}
    suffix, root = "._S3rver_object", server.objects / BUCKET
    found = root.rglob(f"*{suffix}")
    return {path.relative_to(root).as_posix().removesuffix(suffix): path.read_bytes() for path in found}


@pytest.mark.slow
def test_store_killed_at_each_moment(object_store: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a list, of a HEAD, of a PUT, and between a PUT and its answer: the run is there in the end, a
    reader never counts what is there in part, and a store that keeps its objects gets none of them twice.
    """
    run = record_run(tmp_path, rows=ROWS)
    whole = files(run, "runs/")
    with Proxy(object_store) as proxy, reading(object_store, monkeypatch) as reader:
        killer = Killer(object_store, proxy, whole)
        process = start_upload(object_store, run, object_store.url("runs"), environment=proxy.environment())
        said = killer.until_ended(process)
        assert (process.returncode, killer.left) == (0, []), said
        wait_until(lambda: bool(reader.rows) and reader.rows[-1] == ROWS)
    assert killer.wrong == []
    assert objects(object_store) == whole
    assert set(reader.rows) <= set(range(0, ROWS + 1, SEGMENT_ROWS))
    if object_store.keeps_objects:
        times = Counter(_key(asked) for asked in proxy.answered if "/attempts/" not in asked.path)
        assert {key: count for key, count in times.items() if count > 1} == {}
