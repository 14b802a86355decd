"""The layout of a run: the names of its folders and files, and the numbers in those that are there. See FORMAT.md."""

from __future__ import annotations

import re
from collections.abc import Iterable

from esper_schemas.run.storage import Storage

HEADER_NAME = "run.json"
RANK_PREFIX = "rank-"

# Names inside the folder of a rank.
LOCK_NAME = "LOCK"
ACTIVE, SEGMENTS, SEALS, ATTEMPTS, REPAIRS = "active", "segments", "seals", "attempts", "repairs"
BLACK_BOXES, STATES = "blackbox", "states"
WRITTEN_FOLDERS = (ACTIVE, SEGMENTS, SEALS, STATES, ATTEMPTS)
"""The folders that a writer creates in the folder of a rank."""

_BLACK_BOX = re.compile(r"([0-9]{8}|[1-9][0-9]{8,18})(?:-([2-9]|[1-9][0-9]{1,8}))?")


def active_name(segment: int) -> str:
    """Arrow IPC stream of an active segment."""
    return f"{ACTIVE}/{segment:08d}.arrows"


def sealed_name(segment: int) -> str:
    """Parquet file of a sealed segment."""
    return f"{SEGMENTS}/{segment:08d}.parquet"


def seal_name(segment: int) -> str:
    """Seal record of a sealed segment."""
    return f"{SEALS}/{segment:08d}.json"


def states_name(segment: int) -> str:
    """Column states of a sealed segment."""
    return f"{STATES}/{segment:08d}.json"


def attempt_name(attempt: int) -> str:
    """Record of one attempt."""
    return f"{ATTEMPTS}/{attempt:04d}.json"


def black_box_name(box: str) -> str:
    """Parquet file of a black box, given its name: `00000811`, or `00000811-2` for a second one of that update."""
    return f"{BLACK_BOXES}/{box}.parquet"


def black_box_record_name(box: str) -> str:
    """Record of a black box: why it was written, and its sha256."""
    return f"{BLACK_BOXES}/{box}.json"


def new_black_box(rank: Storage, seq: int) -> str:
    """A free name for a black box that is written in the update whose row has this sequence number."""
    there = rank.names(BLACK_BOXES)
    box, count = f"{seq:08d}", 1
    while f"{box}.json" in there or f"{box}.parquet" in there:
        count += 1
        box = f"{seq:08d}-{count}"
    return box


def black_boxes(rank: Storage) -> list[str]:
    """The names of the black boxes of a rank, oldest first: of every file that is one, or the record of one."""
    found = {box for name in rank.names(BLACK_BOXES) if (box := black_box_of(name))}
    return sorted(found, key=lambda box: [int(number) for number in box.split("-")])


def black_box_of(file: str) -> str | None:
    """The name of the black box that a file in `blackbox/` is the file or the record of; None if it is neither."""
    box, _, suffix = file.partition(".")
    return box if suffix in ("parquet", "json") and _BLACK_BOX.fullmatch(box) else None


def rank_name(rank: int) -> str:
    """Folder of a rank."""
    return f"{RANK_PREFIX}{rank:04d}"


def numbers_in(names: Iterable[str], suffix: str, digits: int = 8) -> dict[int, str]:
    """Number → name, for the names that are a number of at least `digits` ASCII digits and the suffix."""
    numbered = {}
    for name in names:
        number = name.removesuffix(suffix)
        is_number = number.isascii() and number.isdecimal() and number + suffix == name
        if is_number and f"{int(number):0{digits}d}" == number:
            numbered[int(number)] = name
    return numbered


def segment_numbers(rank: Storage) -> set[int]:
    """Numbers of all segments in a listing, sealed or active; only a hint while a writer is running."""
    return {*numbers_in(rank.names(ACTIVE), ".arrows"), *numbers_in(rank.names(SEGMENTS), ".parquet")}


def rank_numbers(run: Storage) -> list[int]:
    """Numbers of the ranks that have a folder, or another file with such a name, in order."""
    names = (name.removeprefix(RANK_PREFIX) for name in run.names() if name.startswith(RANK_PREFIX))
    return sorted(numbers_in(names, "", 4))
