"""Files and folders that change places while a command is at work: what was checked is what is used.

Somebody who may write into a run's folder swaps a part of it for a link to the outside and back, as fast as he can.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.hostile.folders import FILES, FOLDERS, RANK, UNFINISHED, damage, tear
from tests.hostile.ground import Ground, call

pytestmark = pytest.mark.hostile

SHORT, LONG = 50, 1000

Swap = Callable[[], None]


def swap_for_link(path: Path, target: Path, aside: Path) -> Swap:
    """Put a link in place of a file or folder for a moment, and the thing itself back."""
    link, kept = aside / "link", aside / "kept"
    link.symlink_to(target)

    def swap() -> None:
        with contextlib.suppress(OSError):
            path.rename(kept)
        with contextlib.suppress(OSError):
            link.rename(path)
        time.sleep(0)
        with contextlib.suppress(OSError):
            if path.is_symlink():
                path.rename(link)
        with contextlib.suppress(OSError):
            kept.rename(path)

    return swap


def plant_link(path: Path, target: Path, _aside: Path) -> Swap:
    """Put a link where a writer is about to make a file; it may remove it, and finds it there again."""

    def swap() -> None:
        with contextlib.suppress(OSError):
            path.symlink_to(target)

    return swap


@contextlib.contextmanager
def swapping(swap: Swap) -> Iterator[None]:
    """Swap again and again, in a thread."""
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            swap()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


SWAPS: dict[str, tuple[str, str, Callable[[Path, Path, Path], Swap]]] = {
    **{name: (place, name if name != "rank" else "", swap_for_link) for name, place in FOLDERS.items()},
    "LOCK": (FILES["LOCK"], "LOCK", swap_for_link),
    "active file": (FILES["active file"], "id_rsa", swap_for_link),
    "seal": (FILES["seal"], "id_rsa", swap_for_link),
    "last attempt": (FILES["last attempt"], "id_rsa", swap_for_link),
    "sealed file": (FILES["sealed file"], "id_rsa", swap_for_link),
    "black box": (FILES["black box"], "id_rsa", swap_for_link),
    "record of a black box": (FILES["record of a black box"], "id_rsa", swap_for_link),
    "run.json": ("run.json", "id_rsa", swap_for_link),
    **{
        f"unfinished {name}": (UNFINISHED[name], "notes.txt", plant_link)
        for name in ("next attempt", "parquet", "seal", "broken", "repair record", "run.json.tmp", "black box")
    },
    "what repair moves aside": (f"{RANK}/repairs/0000.broken", "a", plant_link),
}


def test_what_was_checked_is_what_is_used(ground: Ground, is_long: bool) -> None:
    """However often a part of a run is swapped for a link, nothing outside is changed, and nothing of it told."""
    chosen = itertools.product(("repair", "record", "verify"), SWAPS)
    for number, (command, name) in zip(range(LONG if is_long else SHORT), itertools.cycle(chosen), strict=False):
        place, target, kind = SWAPS[name]
        run = ground.copy()
        (tear if number % 2 else damage)(run, ground.outside)
        (run / FOLDERS["repairs"]).mkdir()
        (aside := ground.folder / f"aside-{number}").mkdir()
        with swapping(kind(run / place, ground.outside / target, aside)):
            answers = ground.ask(*[call(command, run)] * 3)
        ground.check(*answers)
        ground.check_discloses_nothing(run)


@pytest.mark.parametrize("name", ["checkpoint.pt.tmp", "checkpoint.pt", "active", "segments", "LOCK"])
def test_training_writes_into_its_own_run_only(ground: Ground, name: str, is_long: bool) -> None:
    """A trainer whose run is swapped under it writes its checkpoints and rows nowhere else."""
    run = ground.copy()
    (aside := ground.folder / "aside").mkdir()
    place = {"checkpoint.pt.tmp": name, "checkpoint.pt": name, "LOCK": FILES["LOCK"]}.get(name) or FOLDERS[name]
    target = ground.outside / {"checkpoint.pt.tmp": "notes.txt"}.get(name, name)
    kind = plant_link if name == "checkpoint.pt.tmp" else swap_for_link
    updates = ("--updates", str(1000 if is_long else 44), "--checkpoint-updates", "1")
    with swapping(kind(run / place, target, aside)):
        answers = ground.ask(call("train", run, *updates), patience=300 if is_long else 30)
    ground.check(*answers)
    ground.check_discloses_nothing(run)


def test_runs_that_come_and_go(ground: Ground) -> None:
    """A folder of runs may be read while runs in it are renamed and removed."""
    run = ground.copy()
    other = ground.copy("other").rename(run.parent / "other")
    names = itertools.cycle(["other", "another", "third"])

    def swap() -> None:
        nonlocal other
        with contextlib.suppress(OSError):
            os.rename(other, target := other.with_name(next(names)))  # noqa: PTH104 — as fast as can be
            other = target

    with swapping(swap):
        answers = ground.ask(*[call("runs", run)] * 10)
    ground.check(*answers)
    assert all("good" in answer.out for answer in answers)
