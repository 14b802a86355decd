"""Links in somebody else's run folder: none is followed, whatever a command is asked to do with the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.hostile.folders import FILES, LINKS, RANK
from tests.hostile.ground import READERS, WRITERS, Ground, call, picture

pytestmark = pytest.mark.hostile


@pytest.mark.parametrize("name", LINKS)
def test_no_link_is_followed(ground: Ground, name: str) -> None:
    """Whatever is a link, no command changes, tells or copies what it leads to, or takes it for a part of the run."""
    LINKS[name].check(ground)


@pytest.mark.parametrize("kind", ["link", "hard link"])
@pytest.mark.parametrize("place", [FILES["LOCK"], f"{RANK}/attempts/0002.json.tmp", "checkpoint.pt.tmp"])
def test_link_to_another_file_of_the_run_destroys_nothing(ground: Ground, place: str, kind: str) -> None:
    """A name that writers use, as a link to another file of the same run, costs that file nothing."""
    cases = [
        (target, command)
        for target in ("run.json", "checkpoint.pt", FILES["seal"], FILES["last attempt"])
        for command in (("train",) if "checkpoint" in place else ("repair", "record"))
    ]
    runs = []
    for target, _ in cases:
        runs.append(run := ground.copy())
        path = run / place
        path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(os.path.relpath(run / target, path.parent))
        else:
            path.hardlink_to(run / target)
    ground.check(*ground.ask(*(call(command, run) for (_, command), run in zip(cases, runs, strict=True))))
    for (target, command), run in zip(cases, runs, strict=True):
        is_new = command == "train" and target == "checkpoint.pt"  # which it may replace, as a whole
        whole = (ground.recorded / target).read_bytes()
        assert (run / target).read_bytes() == whole or is_new, f"{command} overwrote {target}"


def test_run_that_is_itself_given_by_a_link(ground: Ground) -> None:
    """Who names a link on the command line means what it leads to: every command answers as about the run itself."""
    for command in (*READERS, *WRITERS):
        run, other = ground.copy(), ground.copy()
        link = other.parent.parent / f"linked-{command.replace(' ', '-')}" / other.name
        is_of_folder = command in ("runs", "mcp")
        if is_of_folder:  # it is given the folder of runs, in which no link is followed
            link.parent.symlink_to(other.parent)
        else:
            link.parent.mkdir()
            link.symlink_to(other)
        direct, linked = ground.ask(call(command, run), call(command, link))
        ground.check(direct, linked)
        assert linked.code == direct.code, linked
        if command != "explain two runs":  # which wraps the two paths, and these differ in length
            assert len(linked.out.splitlines()) == len(direct.out.splitlines()), linked
        assert (link.parent if is_of_folder else link).is_symlink()


def test_root_that_is_given_by_a_link(ground: Ground, tmp_path: Path) -> None:
    """A folder of runs may be a link, too."""
    run = ground.copy()
    (tmp_path / "runs").symlink_to(run.parent)
    linked = tmp_path / "runs" / run.name
    answers = ground.ask(*(call(command, linked) for command in ("report", "verify", "repair", "record", "train")))
    ground.check(*answers)
    assert [answer.code for answer in answers] == [0] * 5


def test_readers_change_nothing(ground: Ground) -> None:
    """A command that only reads leaves a run as it is, to the byte."""
    run = ground.copy()
    before = picture(run)
    ground.check(*ground.ask(*(call(command, run) for command in READERS)))
    assert picture(run) == before
