"""The object stores of the tests are as different as the tests of clients rely on."""

from __future__ import annotations

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from tests.object_store.servers import Server
from tests.object_store.uploads import client


def test_put_if_absent(object_store: Server) -> None:
    """Moto refuses to put an object that exists, if it is asked to; s3rver overwrites it."""
    store = client(object_store)
    obstore.put(store, "a/b", b"first", mode="create")
    if object_store.honours_create:
        with pytest.raises(AlreadyExistsError):
            obstore.put(store, "a/b", b"second", mode="create")
    else:
        obstore.put(store, "a/b", b"second", mode="create")
    there = obstore.get(store, "a/b").bytes().to_bytes()
    assert there == (b"first" if object_store.honours_create else b"second")


def test_kill_and_start(object_store: Server) -> None:
    """A server that was killed starts again on its port; moto has forgotten its objects, s3rver has them."""
    store = client(object_store)
    obstore.put(store, "a/b", b"first")
    port = object_store.port
    object_store.kill()
    assert object_store.process is None
    object_store.start()
    names = [entry["path"] for entry in obstore.list(store).collect()]
    assert (object_store.port, names) == (port, ["a/b"] if object_store.keeps_objects else [])
