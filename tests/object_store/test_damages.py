"""The table of damages in an object store: the one examination finds there what it finds on a disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.object_store.servers import SERVERS, Server, check_installed
from tests.object_store.stored import put_folder

from esper_schemas.examining.run import RunExamination, examine_run
from esper_schemas.examining.segment import DEPTHS
from esper_schemas.run.directory import open_place
from esper_schemas.run.store import StoreUrl
from esper_schemas.testing.bases import Base, write_bases
from esper_schemas.testing.damage import Address, Damage
from esper_schemas.testing.damages import DAMAGES

pytestmark = pytest.mark.hostile


@pytest.fixture(scope="module")
def ground() -> Iterator[tuple[Server, Path, Mapping[Base, Path]]]:
    """A store, a folder, and the runs that are damaged."""
    check_installed()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = SERVERS["moto"](root).start()
        yield server, root, write_bases(root / "bases")
        server.kill()


def _addresses(found: RunExamination) -> set[Address]:
    faults = [*found.faults, *(fault for check in found.ranks for fault in check.all_faults)]
    return {(fault.rank, fault.segment, fault.kind) for fault in faults if fault.kind not in ("note", "torn")}


OF_OBJECTS = [damage for damage in DAMAGES if not damage.name.startswith("folder in place of")]
"""The damages that an object store can have. An empty folder is no object."""


@pytest.mark.parametrize("damage", OF_OBJECTS, ids=lambda damage: damage.name)
def test_damage_is_seen_in_a_store(
    damage: Damage, ground: tuple[Server, Path, Mapping[Base, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each depth the faults have the addresses that they have on a disk; without an end, none is made up."""
    server, root, bases = ground
    for name, value in server.variables().items():
        monkeypatch.setenv(name, value)
    folder = damage.copy_to(root / "damaged", bases)
    url = put_folder(server, folder, f"damaged/{folder.parent.name}/{folder.name}")
    for depth in DEPTHS:
        with open_place(folder) as near, open_place(StoreUrl.parse(url)) as far:
            here, there = examine_run(near, folder.name, depth), examine_run(far, folder.name, depth)
        if any(check.is_partial for check in there.ranks):
            assert _addresses(there) <= _addresses(here), depth
        else:
            assert _addresses(there) == _addresses(here), depth
