"""What somebody can make of a run folder before he hands it on: functions that make a copy of a sound run hostile.

Each is called with the run's folder and with `outside`, a folder that the run has no business with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.ground import READERS, WRITERS, Ground
from tests.hostile.server import Answer

Make = Callable[[Path, Path], None]

RANK = "rank-0000"

FILES = {
    "LOCK": f"{RANK}/LOCK",
    "active file": f"{RANK}/active/00000001.arrows",
    "sealed file": f"{RANK}/segments/00000000.parquet",
    "seal": f"{RANK}/seals/00000000.json",
    "first attempt": f"{RANK}/attempts/0000.json",
    "last attempt": f"{RANK}/attempts/0001.json",
    "run.json": "run.json",
    "checkpoint": "checkpoint.pt",
    "repair record": f"{RANK}/repairs/0000.json",
    "column states": f"{RANK}/states/00000000.json",
    "black box": f"{RANK}/blackbox/00000005.parquet",
    "record of a black box": f"{RANK}/blackbox/00000005.json",
}
"""Every kind of file that a command reads or writes."""

FOLDERS = {
    "rank": RANK,
    "active": f"{RANK}/active",
    "segments": f"{RANK}/segments",
    "seals": f"{RANK}/seals",
    "states": f"{RANK}/states",
    "attempts": f"{RANK}/attempts",
    "repairs": f"{RANK}/repairs",
    "blackbox": f"{RANK}/blackbox",
}

UNFINISHED = {
    "checkpoint.pt.tmp": "checkpoint.pt.tmp",
    "run.json.tmp": "run.json.tmp",
    "next attempt": f"{RANK}/attempts/0002.json.tmp",
    "last attempt": f"{RANK}/attempts/0001.json.tmp",
    "parquet": f"{RANK}/active/00000001.parquet.tmp",
    "next parquet": f"{RANK}/active/00000002.parquet.tmp",
    "seal": f"{RANK}/seals/00000001.json.tmp",
    "states": f"{RANK}/states/00000001.json.tmp",
    "broken": f"{RANK}/active/00000001.arrows.broken.tmp",
    "repair record": f"{RANK}/repairs/0000.json.tmp",
    "black box": f"{RANK}/blackbox/00000008.parquet.tmp",
    "record of a black box": f"{RANK}/blackbox/00000008.json.tmp",
}
"""Names that a writer uses for a moment."""


_MUST_SAY_SO = ("report", "check", "tail --once", "verify")


@dataclass(frozen=True, slots=True)
class Hostile:
    """A way to make a run hostile.

    Attributes:
        make: does it.
        is_damage: whether report, check, tail and verify must say that something is wrong (exit code 2 or 3).
        refused_by: commands that must not go on with such a run.
        commands: those that are tried on it.
    """

    make: Make
    is_damage: bool = True
    refused_by: tuple[str, ...] = ()
    commands: tuple[str, ...] = (*READERS, *WRITERS)

    def check(self, ground: Ground) -> dict[str, Answer]:
        """Let the commands at such a run, and check what each of them must say of it."""
        answers = ground.ask_about(self.make, self.commands)
        silent = [name for name in _MUST_SAY_SO if name in answers and not answers[name].code]
        assert not (self.is_damage and silent), f"nothing is wrong, say {', '.join(silent)}"
        went_on = [name for name in self.refused_by if name in answers and not answers[name].code]
        assert not went_on, f"went on all the same: {', '.join(went_on)}"
        return answers


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(place: str, place_it: Callable[[Path, Path], object]) -> Make:
    """Put something else in place of a file or folder of the run."""

    def make(run: Path, outside: Path) -> None:
        path = run / place
        remove(path)
        path.parent.mkdir(exist_ok=True)
        place_it(path, outside)

    return make


def soft(place: str, target: str) -> Make:
    """A symbolic link to something outside, which need not exist."""
    return put(place, lambda path, outside: path.symlink_to(outside / target))


def hard(place: str, target: str) -> Make:
    """A second name of a file outside."""
    return put(place, lambda path, outside: path.hardlink_to(outside / target))


def both(*makes: Make) -> Make:
    """One after the other."""

    def make(run: Path, outside: Path) -> None:
        for one in makes:
            one(run, outside)

    return make


def damage(run: Path, _outside: Path) -> None:
    """Damage that a repair moves aside and writes a record about."""
    path = run / FILES["sealed file"]
    path.write_bytes(path.read_bytes()[:-100])


def tear(run: Path, _outside: Path) -> None:
    """Damage in the active file, of which recovery and repair keep a part."""
    path = run / FILES["active file"]
    path.write_bytes(path.read_bytes() + b"\xff\xff\xff\xff" + b"not a row" * 1000)


_WRITES = ("record", "train")
_REFUSED = {
    "LOCK": ("repair", *_WRITES),
    "active file": _WRITES,
    "last attempt": _WRITES,
    "run.json": _WRITES,
    "checkpoint": ("train",),
}
_NO_DAMAGE = ("LOCK", "checkpoint", "column states")  # they hold no data of the run


def _links() -> dict[str, Hostile]:
    found = {}
    for name, place in FILES.items():
        refused, is_damage = _REFUSED.get(name, ()), name not in _NO_DAMAGE
        found[f"{name} is a link"] = Hostile(soft(place, "id_rsa"), is_damage, refused)
        # A LOCK with a second name, as backups of links make it, is replaced.
        found[f"{name} is a hard link"] = Hostile(hard(place, "id_rsa"), is_damage, () if name == "LOCK" else refused)
        is_missed = is_damage and name not in ("repair record", "last attempt")
        found[f"{name} is a dangling link"] = Hostile(soft(place, "new"), is_missed, refused if name == "LOCK" else ())
    for name, place in FOLDERS.items():
        target = "" if name == "rank" else name
        found[f"{name} is a link"] = Hostile(soft(place, target), refused_by=() if name == "repairs" else _WRITES)
    for name, place in UNFINISHED.items():
        commands = ("verify", "repair", "record", *(["train"] if "checkpoint" in name else ()))
        for kind, link, target in (
            ("link", soft, "notes.txt"),
            ("hard link", hard, "notes.txt"),
            ("dangling link", soft, "new"),
        ):
            is_written_by_repair = name in ("repair record", "run.json.tmp", "last attempt")
            make = both(damage if is_written_by_repair else tear, link(place, target))
            found[f"unfinished {name} is a {kind}"] = Hostile(make, is_damage=False, commands=commands)
    found |= {
        "repairs is a link in a damaged run": Hostile(both(damage, soft(FOLDERS["repairs"], "a"))),
        "what repair moves aside goes to a link": Hostile(both(damage, soft(f"{RANK}/repairs/0000.broken", "a"))),
        "a second rank is a link": Hostile(soft("rank-0001", ""), is_damage=False),
        "a second rank is a link to the first": Hostile(
            put("rank-0001", lambda path, _: path.symlink_to(RANK)), is_damage=False
        ),
        "the next black box is a link": Hostile(soft(f"{RANK}/blackbox/00000008.parquet", "new")),
        "the file of an unfinished black box is a link": Hostile(
            both(put(FILES["black box"], lambda *_: None), soft(f"{FILES['black box']}.tmp", "id_rsa"))
        ),
        "a foreign folder is a link": Hostile(soft(f"{RANK}/more", ""), is_damage=False),
        "a broken end is a link": Hostile(both(tear, soft(f"{FILES['active file']}.broken", "notes.txt"))),
        "the next active file is a link": Hostile(soft(f"{RANK}/active/00000002.arrows", "new"), is_damage=False),
        "the next sealed file is a link": Hostile(soft(f"{RANK}/segments/00000001.parquet", "new"), is_damage=False),
    }
    return found


LINKS = _links()


# ------------------------------------------------------------------ what is no file


def fifo(path: Path, _outside: Path) -> None:
    """A pipe, of which nobody ever writes the other end."""
    os.mkfifo(path)


def a_socket(path: Path, _outside: Path) -> None:
    """A socket, at which nobody listens."""
    with socket.socket(socket.AF_UNIX) as end, tempfile.TemporaryDirectory() as folder:
        with chdir(folder):  # a socket's path must be short
            end.bind("s")
        Path(folder, "s").rename(path)


def device(path: Path, _outside: Path) -> None:
    """A device that never ends; only a link to it where nodes cannot be made."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:
        path.symlink_to("/dev/zero")


def a_folder(path: Path, _outside: Path) -> None:
    """A folder, with something in it."""
    path.mkdir()
    (path / "file").write_bytes(b"file")


SPECIAL = {
    f"{name} is a {kind.__name__.removeprefix('a_')}": Hostile(
        put(place, kind), name not in _NO_DAMAGE, _REFUSED.get(name, ())
    )
    for name, place in FILES.items()
    for kind in (fifo, a_socket, device, a_folder)
    if name != "first attempt"
}

for _name in ("next attempt", "parquet", "seal", "checkpoint.pt.tmp", "black box"):
    _commands = ("verify", "repair", "record", "train")
    SPECIAL[f"unfinished {_name} is a fifo"] = Hostile(put(UNFINISHED[_name], fifo), False, commands=_commands)
for _name, _place in FOLDERS.items():
    SPECIAL[f"{_name} is a fifo"] = Hostile(put(_place, fifo), refused_by=() if _name == "repairs" else ("record",))


# ------------------------------------------------------------------ records


def edit_json(path: Path, **values: Any) -> None:
    """Change keys of a JSON record; a value of `...` takes the key out."""
    record = json.loads(path.read_bytes()) | values
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))


def reseal(run: Path, number: int = 0, **values: Any) -> None:
    """Make the seal of a segment fit the bytes that its file now has, as whoever changed it would."""
    path = run / RANK / "segments" / f"{number:08d}.parquet"
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    seal = run / RANK / "seals" / f"{number:08d}.json"
    edit_json(seal, sha256=digest, bytes=path.stat().st_size, **values)


def refit(run: Path, **values: Any) -> None:
    """Make the record of the black box fit the bytes that its file now has, as `reseal` does."""
    data = (run / FILES["black box"]).read_bytes()
    edit_json(run / FILES["record of a black box"], sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), **values)
