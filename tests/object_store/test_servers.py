"""The object stores of the tests are as different as the tests of clients rely on."""

from __future__ import annotations

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from tests.object_store.servers import Server
from tests.object_store.uploads import client


def test_put_if_absent(any_store: Server) -> None:
    """S3rver overwrites an object that it was asked to put only if absent; the others refuse."""
    store = client(any_store)
    obstore.put(store, "a/b", b"first", mode="create")
    if any_store.honours_create:
        with pytest.raises(AlreadyExistsError):
            obstore.put(store, "a/b", b"second", mode="create")
    else:
        obstore.put(store, "a/b", b"second", mode="create")
    there = obstore.get(store, "a/b").bytes().to_bytes()
    assert there == (b"first" if any_store.honours_create else b"second")


def test_kill_and_start(any_store: Server) -> None:
    """A server that was killed starts again on its port; s3rver has its objects, the others have forgotten them."""
    store = client(any_store)
    obstore.put(store, "a/b", b"first")
    port = any_store.port
    any_store.kill()
    assert any_store.process is None
    any_store.start()
    names = [entry["path"] for entry in obstore.list(store).collect()]
    assert (any_store.port, names) == (port, ["a/b"] if any_store.keeps_objects else [])
