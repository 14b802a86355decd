"""Changes to the files of a run, drawn by a seed, and every command on what comes of them, in this process.

Much of it is what chance would not do: a change inside a checksum is followed by a new checksum, as whoever changes
a file on purpose makes one.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.folders import FILES, RANK, refit, reseal

NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, -0.0, 0.5)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    None,
    True,
    "",
    "x",
    "9999",
    [],
    {},
    [1],
    {"a": None},
    float("nan"),
    float("inf"),
    "\ud800",
    "\x00",
)

_CHECKSUM_BYTES = 8


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, insert, repeat or clear some bytes."""
    if not data:
        return rng.randbytes(rng.randrange(1, 64))
    at = rng.choice([rng.randrange(len(data)), max(0, len(data) - rng.randrange(1, 400))])
    size = rng.choice([1, 2, 4, 8, 64])
    changes: list[Callable[[], bytes]] = [
        lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        lambda: data[:at] + rng.randbytes(size) + data[at + size :],
        lambda: data[:at] + bytes(size) + data[at + size :],
        lambda: data[:at] + b"\xff" * size + data[at + size :],
        lambda: data[:at] + rng.randbytes(size) + data[at:],
        lambda: data[:at] + data[at + size :],
        lambda: data[:at],
        lambda: data[:at] + data,
    ]
    return rng.choice(changes)()


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Put another value, or none, in some place of a JSON document."""
    document = json.loads(data)
    inside: Any = document
    while True:
        key = rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        if not isinstance(inside[key], (dict, list)) or not inside[key] or rng.random() < 0.3:
            break
        inside = inside[key]
    if rng.random() < 0.15:
        del inside[key]
    else:
        inside[key] = rng.choice(VALUES)
    return json.dumps(document).encode()


def change_cells(data: bytes, rng: random.Random) -> bytes:
    """Change values of a row of an active file, and make its checksum fit."""
    start = data.index(b"\xff\xff\xff\xff", 8)
    row_bytes = (len(data) - start) // 2  # the recorded run has two rows in its active file
    row = bytearray(data[start : start + row_bytes])
    cells = (row_bytes - _CHECKSUM_BYTES) // 8
    for _ in range(rng.choice([1, 1, 3])):
        at = 8 * rng.randrange(cells // 3, cells) + (row_bytes - _CHECKSUM_BYTES) % 8
        number = rng.choice([0, 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1, rng.getrandbits(64)])
        row[at : at + 8] = number.to_bytes(8, "little")
    row[-_CHECKSUM_BYTES:] = b"%08x" % zlib.crc32(row[:-_CHECKSUM_BYTES])
    return data[:start] + bytes(row) + data[start + row_bytes :]


def change_header(data: bytes, rng: random.Random) -> bytes:
    """Change a byte of the header of an active file, and make its checksum fit."""
    start = data.index(b"\xff\xff\xff\xff", 8)
    header = bytearray(data[:start])
    mark = header.index(b"\x01", header.index(b"esper.crc32") + 16)
    place = rng.choice([index for index in range(8, start) if not mark - 8 <= index <= mark + 8])
    digit = bytes(header[place : place + 1]).isdigit()
    header[place] = rng.choice(b"0123456789-") if digit else header[place] ^ 1 << rng.randrange(8)
    crc = zlib.crc32(header[mark + 9 :], zlib.crc32(header[: mark + 1]))
    header[mark + 1 : mark + 9] = b"%08x" % crc
    return bytes(header) + data[start:]


_CHANCES = {
    "sealed file": 8,
    "seal": 3,
    "active file": 5,
    "first attempt": 1,
    "last attempt": 3,
    "run.json": 3,
    "checkpoint": 1,
    "black box": 4,
    "record of a black box": 2,
}


def mutate(run: Path, seed: int) -> str:
    """Change one or two files of a run; says what was done."""
    rng = random.Random(seed)
    done = []
    for name in rng.choices(list(_CHANCES), list(_CHANCES.values()), k=rng.choice([1, 1, 2])):
        path = run / FILES[name]
        data = path.read_bytes()
        kinds: list[Callable[[bytes, random.Random], bytes]] = [change_bytes]
        if path.suffix == ".json":
            kinds += [change_json] * 3
        if name == "active file":
            kinds += [change_cells, change_header, change_header]
        kind = rng.choice(kinds)
        try:
            path.write_bytes(kind(data, rng))
        except (ValueError, IndexError):  # changed before, and no such file any more
            path.write_bytes(change_bytes(data, rng))
        is_sealed = name in ("sealed file", "black box") and rng.random() < 0.9
        if is_sealed:
            with contextlib.suppress(ValueError):  # a seal that was changed before
                (reseal if name == "sealed file" else refit)(run)
        done.append(f"{kind.__name__} of {name}{', resealed' if is_sealed else ''}")
    if rng.random() < 0.05:
        victim = rng.choice(["segments", "seals", "attempts", "active", "blackbox"])
        shutil.rmtree(run / RANK / victim)
        done.append(f"without {victim}")
    return "; ".join(done)


def fuzz(recorded: Path, folder: Path, seed: int) -> None:
    """Let commands at a copy of a run that is changed by a seed; print what was done, and each improper end.

    `report`, a writer and a reader of those that remain, in turn; `train` where the checkpoint was changed.
    """
    from tests.hostile.ground import ANOTHER, call
    from tests.hostile.server import Capture, perform

    capture = Capture()
    shutil.copytree(recorded, folder / ANOTHER)
    run = folder / "runs" / recorded.name
    shutil.copytree(recorded, run)
    done = mutate(run, seed)
    print(done, flush=True)
    others = ("check", "runs", "tail --once", "verify", "replay", "compare")
    commands = ["report", others[seed % len(others)], "record" if seed % 2 else "repair"]
    if "checkpoint" in done:
        commands.insert(2, "train")
    for command in (*commands, "verify"):
        complaint = perform([str(word) for word in call(command, run)], capture).complaint
        if complaint:
            print(complaint, flush=True)
