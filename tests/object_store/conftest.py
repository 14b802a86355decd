"""The object stores of the tests.

`object_store` is each server of the S3 protocol in turn, `moto` and `s3rver` are one of them; `cloud` is each of the
other protocols in turn, and `any_store` is each of all.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.object_store.clouds import CLOUDS
from tests.object_store.servers import SERVERS, Server, check_installed
from tests.object_store.uploads import empty

from esper_schemas.run import bucket

ONE_KIND = pytest.mark.parametrize("object_store", ["moto"], indirect=True)
"""Mark of a test whose fixtures take `object_store`, and to which the kind of the store does not matter."""


@pytest.fixture(scope="session")
def idle_servers() -> Iterator[dict[str, Server]]:
    """Running servers with an empty bucket, by their names: to start one takes longer than most tests of one."""
    check_installed()
    idle: dict[str, Server] = {}
    yield idle
    for server in idle.values():
        server.kill()


@pytest.fixture
def start_server(
    idle_servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Server]]:
    """A function that has a server running, by its name, with an empty bucket.

    At the end of the test, a server that was killed meanwhile, if only to be started again, is killed for good; any
    other is emptied for the next test, or killed if it does not become empty. So a test that leaves a server other than
    it was kills it. What this process has listed of it is forgotten, too: a reader keeps it for a second, and the next
    test may begin before.
    """
    lent: list[tuple[str, Server, subprocess.Popen[bytes] | None]] = []

    def start(name: str) -> Server:
        for known in bucket._BUCKETS.values():
            known._trees.clear()
        server = idle_servers.pop(name, None) or {**SERVERS, **CLOUDS}[name](tmp_path_factory.mktemp(name)).start()
        lent.append((name, server, server.process))
        return server

    yield start
    for name, server, process in lent:
        if server.process is process and name not in idle_servers and empty(server):
            idle_servers[name] = server
        else:
            server.kill()


@pytest.fixture(params=sorted(SERVERS))
def object_store(request: pytest.FixtureRequest, start_server: Callable[[str], Server]) -> Server:
    """A running server of the S3 protocol, that nobody else uses; the test runs once with each kind."""
    return start_server(request.param)


@pytest.fixture(params=sorted(CLOUDS))
def cloud(request: pytest.FixtureRequest, start_server: Callable[[str], Server]) -> Server:
    """The same of a server that stands for Google's or Microsoft's."""
    return start_server(request.param)


@pytest.fixture(params=sorted({**SERVERS, **CLOUDS}))
def any_store(request: pytest.FixtureRequest, start_server: Callable[[str], Server]) -> Server:
    """The same of all servers."""
    return start_server(request.param)


@pytest.fixture
def moto(start_server: Callable[[str], Server]) -> Server:
    """A running server of moto: it honours put-if-absent, and forgets everything when it is killed."""
    return start_server("moto")


@pytest.fixture
def s3rver(start_server: Callable[[str], Server]) -> Server:
    """A running s3rver: it overwrites objects in place, and keeps them when it is killed."""
    return start_server("s3rver")
