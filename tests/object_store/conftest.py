"""The object stores of the tests: `object_store` is each of them in turn, `moto` and `s3rver` are one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.object_store.servers import SERVERS, Server, check_installed


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """A function that starts a server by its name; all are killed at the end of the test."""
    check_installed()
    started: list[Server] = []

    def start(name: str) -> Server:
        folder = tmp_path / f"store-{len(started)}"
        folder.mkdir()
        server = SERVERS[name](folder)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()


@pytest.fixture(params=sorted(SERVERS))
def object_store(request: pytest.FixtureRequest, start_server: Callable[[str], Server]) -> Server:
    """A running server of its own; the test runs once with each kind."""
    return start_server(request.param)


@pytest.fixture
def moto(start_server: Callable[[str], Server]) -> Server:
    """A running server of moto: it honours put-if-absent, and forgets everything when it is killed."""
    return start_server("moto")


@pytest.fixture
def s3rver(start_server: Callable[[str], Server]) -> Server:
    """A running s3rver: it overwrites objects in place, and keeps them when it is killed."""
    return start_server("s3rver")
