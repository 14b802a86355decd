"""Files and folders that the user may not read: a fault with its address, never a loop, a traceback or silence."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.hostile.folders import FILES, FOLDERS, RANK
from tests.hostile.ground import READERS, WRITERS, Ground, call, picture
from tests.hostile.server import NOBODY

pytestmark = pytest.mark.hostile

PLACES = {**FILES, **FOLDERS, "run": "."}

_NO_DAMAGE = ("LOCK", "checkpoint", "column states")
_BLACK_BOX = ("black box", "record of a black box")
_NOT_NEEDED_TO_RECORD = (
    "checkpoint",
    "repairs",
    "repair record",
    "sealed file",
    "first attempt",
    "seal",
    "column states",
    *_BLACK_BOX,
)


def hand_over(folder: Path) -> None:
    """Give a folder to the user whom the commands run as."""
    if os.getuid() == 0:
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files, "."):
                os.chown(Path(place, name), NOBODY, NOBODY)


def close(run: Path, name: str) -> None:
    """Make a file or a folder of a run one that nobody may open."""
    path = run / PLACES[name]
    path.parent.mkdir(exist_ok=True)
    if name in ("repairs", "repair record"):
        (run / FOLDERS["repairs"]).mkdir(exist_ok=True)
        record = '{"repair": 0, "repaired": "2026-01-01T00:00:00+00:00", "losses": []}'
        (run / FILES["repair record"]).write_text(record)
    hand_over(run.parent)
    path.chmod(0)


@pytest.mark.parametrize("name", PLACES)
def test_what_may_not_be_read_is_a_fault_with_its_address(ground: Ground, name: str) -> None:
    """A file or folder that the user may not open is named, and counts as what it is: something that is wrong."""
    commands = (*READERS, *WRITERS)
    runs = [ground.copy() for _ in commands]
    for run in runs:
        close(run, name)
    asked = [call(command, run) for command, run in zip(commands, runs, strict=True)]
    answers = dict(zip(commands, ground.ask_as_stranger(*asked), strict=False))
    ground.check(*answers.values())
    if name not in _NO_DAMAGE:
        silent = [command for command in ("report", "check", "tail --once", "verify") if not answers[command].code]
        assert not silent, f"nothing is wrong, say {', '.join(silent)}"
        address = runs[0].name if name == "run" else Path(PLACES[name]).name
        mute = [command for command in ("report", "verify") if address not in answers[command].said]
        assert not mute, f"{', '.join(mute)} do not say that it is {address}"
    if name not in _NOT_NEEDED_TO_RECORD:
        assert answers["record"].code == 2


@pytest.mark.parametrize(("name", "code"), [("run", 2), ("rank", 3), ("run.json", 3)])
def test_tail_does_not_wait_for_what_it_may_not_see(ground: Ground, name: str, code: int) -> None:
    """Nobody can tell whether such a run goes on; there is nothing to wait for all the same."""
    run = ground.copy()
    close(run, name)
    (answer,) = ground.ask_as_stranger(call("tail", run))
    ground.check(answer)
    assert answer.code == code, answer.said


@pytest.mark.parametrize("name", ["run", "rank", "segments", "active", "seal", "run.json", "active file", "attempts"])
def test_bad_run_does_not_hide_the_others(ground: Ground, name: str) -> None:
    """`runs` lists every run that can be read, and names the one that cannot."""
    root = ground.copy("a-sound-run").parent
    for other in ("m-bad-run", "z-sound-run"):
        ground.copy(other).rename(root / other)
    close(root / "m-bad-run", name)
    (answer,) = ground.ask_as_stranger(call("runs", root / "m-bad-run"))
    ground.check(answer)
    for run in ("a-sound-run", "z-sound-run"):
        assert re.search(rf"{run} +crashed +5 ", answer.out), answer.said
    assert "m-bad-run" in answer.said


def test_latest_run_among_bad_ones_is_found(ground: Ground) -> None:
    """Without a name the latest run that can be read is taken, whatever else lies beside it."""
    run = ground.copy()
    for name in ("run", "run.json", "rank"):
        bad = ground.copy(f"bad-{name}").rename(run.parent / f"bad-{name}")
        close(bad, name)
    answers = ground.ask_as_stranger(
        ("esper-analyze", "report", "--root", run.parent),
        ("esper-analyze", "runs", "--root", run.parent),
        ("esper-rec", "verify", "--root", run.parent, run.name),
    )
    ground.check(*answers)
    assert all(run.name in answer.said for answer in answers)


def test_run_of_somebody_else_is_read_and_left_alone(ground: Ground) -> None:
    """Who may only read a run sees all of it, and whoever would write it is refused in one line."""
    run = ground.copy()
    for place, folders, files in os.walk(run.parent):
        for name in (*folders, *files, "."):
            path = Path(place, name)
            path.chmod(0o555 if path.is_dir() else 0o444)
    (run / RANK / "LOCK").chmod(0o600 if os.getuid() == 0 else 0)
    before = picture(run)
    commands = (*READERS, *WRITERS)
    answers = dict(zip(commands, ground.ask_as_stranger(*(call(command, run) for command in commands)), strict=False))
    ground.check(*answers.values())
    assert {command: answers[command].code for command in READERS} == dict.fromkeys(READERS, 0)
    for command in WRITERS:
        assert answers[command].code == 2, answers[command]
        assert len(answers[command].err.splitlines()) == 1, answers[command].err
    assert picture(run) == before
