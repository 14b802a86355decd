"""Makes a result, or takes it from the cache folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from esper_analyzer.caching.coding import from_json, to_json
from esper_analyzer.caching.folder import load, store

Made = TypeVar("Made")


def kept(kind: str, key: str | None, declared: type[Made], make: Callable[[], Made]) -> Made:
    """Return what was kept under a key; else make it, and keep it.

    What was made just now is returned as it would be read later, so that whoever tests the one has tested the other.

    Args:
        kind: what it is; see `folder.load`.
        key: of everything that it is made of; None if it is to be made without being kept.
        declared: its type, a dataclass.
        make: makes it.
    """
    if key is None:
        return make()
    found = load(kind, key, partial(from_json, declared))
    if found is None:
        body = to_json(make())
        store(kind, key, body)
        found = from_json(declared, body)
    return found
