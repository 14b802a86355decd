"""The fingerprint of a folder tells whether anything in it was changed, without reading a file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import wait_until

from esper_schemas.run.files import Folder
from esper_schemas.run.storage import SETTLED_NS, Fingerprint


def fingerprint(path: Path) -> Fingerprint | None:
    """The fingerprint of a folder."""
    with Folder.at(path) as folder:
        return folder.fingerprint()


def is_settled(path: Path) -> bool:
    """Whether the next change has another time than the last one."""
    found = fingerprint(path)
    return found is not None and time.time_ns() - found.changed_ns > SETTLED_NS


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a file, a folder, a file in that, and a link."""
    (tmp_path / "made" / "inner").mkdir(parents=True)
    (tmp_path / "made" / "file").write_bytes(b"abc")
    (tmp_path / "made" / "inner" / "file").write_bytes(b"abc")
    (tmp_path / "made" / "link").symlink_to(tmp_path)
    return tmp_path / "made"


def rewrite(place: Path) -> None:
    """Change a byte, and put the time of the change back as a program can."""
    path = place / "inner" / "file"
    before = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(place: Path) -> None:
    """Put a file with the same bytes and times in place of another."""
    path = place / "file"
    before = path.stat()
    path.unlink()
    path.write_bytes(b"abc")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewrite": rewrite,
    "replace": replace,
    "add": lambda place: (place / "inner" / "new").touch(),
    "add a folder": lambda place: (place / "inner" / "new").mkdir(),
    "remove": lambda place: (place / "inner" / "file").unlink(),
    "rename": lambda place: (place / "file").rename(place / "other"),
    "rename and back": lambda place: (place / "file").rename(place / "other").rename(place / "file"),
    "mode": lambda place: (place / "file").chmod(0o600),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_seen(place: Path, change: Callable[[Path], object]) -> None:
    """What was added, removed, renamed or rewritten changes the fingerprint, however its time was set."""
    wait_until(lambda: is_settled(place))
    before = fingerprint(place)
    assert before == fingerprint(place)
    (place / "file").read_bytes()
    assert before == fingerprint(place)
    change(place)
    assert before != fingerprint(place)


def test_what_a_link_leads_to_is_not_looked_at(place: Path) -> None:
    """A link is a name: what it leads to may be anything, and is not part of the folder."""
    before = fingerprint(place)
    (place.parent / "beside").touch()
    assert before == fingerprint(place)


def test_a_folder_that_is_too_deep_has_none(place: Path) -> None:
    """A folder with more folders in one another than a run has is not looked at for long."""
    (place / "1" / "2" / "3" / "4" / "5" / "6").mkdir(parents=True)
    assert fingerprint(place) is None
