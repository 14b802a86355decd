"""Shared by the tests of `run/files.py`: a run folder, and every call that opens or changes one of its files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from esper_schemas.run.files import Folder

OUTSIDE = b"outside"
Call = Callable[[Folder, str], object]


def lay_out(place: Path) -> Path:
    """A run's folder with a file and a folder in it; beside it a file that nothing may reach."""
    (place / "outside").mkdir()
    (place / "outside" / "file").write_bytes(OUTSIDE)
    inside = place / "run"
    (inside / "folder").mkdir(parents=True)
    (inside / "file").write_bytes(b"inside")
    (inside / "folder" / "file").write_bytes(b"deeper")
    return inside


def descriptors() -> set[str]:
    """Those that this process holds, and the one that lists them."""
    return set(os.listdir("/dev/fd"))  # noqa: PTH208 (pathlib gives whole paths)


def _create(folder: Folder, name: str) -> None:
    os.close(folder.create(name))


def _open(folder: Folder, name: str) -> None:
    folder.open(name).close()


READING: dict[str, Call] = {
    "size": Folder.size,
    "read": lambda folder, name: folder.read(name, 100),
    "open": _open,
    "open_descriptor": Folder.open_descriptor,
}
LOOKING: dict[str, Call] = {
    **READING,
    "stat": Folder.stat,
    "exists": Folder.exists,
    "is_folder": Folder.is_folder,
    "identity_of": Folder.identity_of,
}
CHANGING: dict[str, Call] = {
    "make_folder": Folder.make_folder,
    "create": _create,
    "link from": lambda folder, name: folder.link(name, "second"),
    "link to": lambda folder, name: folder.link("file", name),
    "rename from": lambda folder, name: folder.rename(name, "second"),
    "rename to": lambda folder, name: folder.rename("file", name),
    "unlink": Folder.unlink,
    "unlink that one": lambda folder, name: folder.unlink(name, (0, 0)),
}
LISTING: dict[str, Call] = {"folder": Folder.folder, "names": Folder.names}
ON_NAMES = LOOKING | CHANGING
EVERYTHING = ON_NAMES | LISTING


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What stands in a folder: kind of each name, and the bytes of a file or where a link leads to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (kind, content)
    return found
