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
    found = None if key is None else load_kept(kind, key, declared)
    if found is not None:
        return found
    made = make()
    return made if key is None else keep(kind, key, declared, made)


def load_kept(kind: str, key: str, declared: type[Made]) -> Made | None:
    """Return what was kept under a key; None if nothing was. The arguments are those of `kept`."""
    return load(kind, key, partial(from_json, declared))


def keep(kind: str, key: str, declared: type[Made], made: Made) -> Made:
    """Keep what was made, and return it as it would be read later. The other arguments are those of `kept`."""
    body = to_json(made)
    store(kind, key, body)
    return from_json(declared, body)
