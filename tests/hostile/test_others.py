"""What other people on the machine, and names and times that only look right, do to a run: nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.hostile.folders import FILES, FOLDERS, RANK, edit_json
from tests.hostile.ground import Ground, call
from tests.hostile.server import NOBODY

from esper_recorder import Recorder

pytestmark = pytest.mark.hostile

IS_ROOT = os.getuid() == 0


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A user who lets everybody write."""
    before = os.umask(0)
    yield
    os.umask(before)


# ------------------------------------------------------------------ the lock


@pytest.mark.usefixtures("open_umask")
def test_lock_of_a_new_run_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, nobody else can open LOCK, and so nobody else can hold it."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert stat.S_IMODE((recorder.path / FILES["LOCK"]).stat().st_mode) == 0o600
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        assert stat.S_IMODE((recorder.path / FILES["LOCK"]).stat().st_mode) == 0o600


def test_lock_of_an_older_run_becomes_its_owners_alone(ground: Ground) -> None:
    """A LOCK that an older version left open to everybody is closed by the next writer."""
    run = ground.copy()
    (run / FILES["LOCK"]).chmod(0o644)
    ground.check(*ground.ask(call("record", run)))
    assert stat.S_IMODE((run / FILES["LOCK"]).stat().st_mode) == 0o600


@pytest.mark.parametrize("command", ["record", "repair", "train"])
def test_reader_that_holds_the_lock_keeps_nobody_from_resuming(ground: Ground, command: str) -> None:
    """Somebody who can only read LOCK, and holds a shared lock on it for ever, is no writer."""
    run = ground.copy()
    (run / FILES["LOCK"]).chmod(0o644)
    descriptor = os.open(run / FILES["LOCK"], os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        (answer,) = ground.ask(call(command, run))
    finally:
        os.close(descriptor)
    ground.check(answer)
    assert answer.code == 0, answer.err


@pytest.mark.skipif(not IS_ROOT, reason="only root can be somebody else")
def test_somebody_else_cannot_hold_the_lock(ground: Ground) -> None:
    """Another user does not even get at the lock of a run that he may read."""
    run = ground.copy()
    ground.check(*ground.ask(call("record", run)))
    (answer,) = ground.ask_as_stranger(("flock", run / FILES["LOCK"], "0"))
    assert answer.out == "PermissionError\n"


# ------------------------------------------------------------------ the latest run


@pytest.mark.parametrize(
    "created",
    [
        "9999",
        "9999-12-31T23:59:59+00:00",
        "zzzz",
        "in thirty days",
        "",
        "2099-01-01",
        "٢٠٩٩-01-01T00:00:00+00:00",
        "99999999-01-01T00:00:00+00:00",
    ],
)
def test_run_from_the_future_is_not_the_latest(ground: Ground, created: str) -> None:
    """A time that is no time, or has not come yet, does not make a run the latest one."""
    if created == "in thirty days":
        created = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    run = ground.copy()
    for name in ("a-late-run", "z-late-run"):
        late = ground.copy(name)
        edit_json(late / "run.json", created=created, run_id=name)
        late.rename(run.parent / name)
    resumed = ("esper-rec", "train", "--out", run.parent, "--resume", "--updates", "7")
    report, train = ground.ask(("esper-analyze", "report", "--root", run.parent), resumed)
    ground.check(report, train)
    assert report.err.splitlines()[-1].endswith("/good"), report.err
    assert f"resuming {run} " in train.err


# ------------------------------------------------------------------ names


def test_folder_that_is_named_by_other_digits_is_no_rank(ground: Ground) -> None:
    """A rank is four ASCII digits: a folder of other digits, or of more or fewer, is none."""
    run = ground.copy()
    for name in ("rank-٠٠٠٠", "rank-٠٠٠١", "rank-²", "rank-0", "rank-00000", "rank-+001", "rank- 001", "rank-1_0"):
        shutil.copytree(run / RANK, run / name)
    answers = ground.ask(
        ("esper-rec", "verify", run, "--format", "json"),
        ("esper-analyze", "report", "--run", run, "--rank", "all", "--format", "json"),
        call("record", run),
    )
    ground.check(*answers)
    assert json.loads(answers[0].out)["run"]["ranks"] == 1
    assert json.loads(answers[1].out)["updates"]["rows"] == 5
    assert answers[2].code == 0


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("segments", "٠٠٠٠٠٠٠٩.parquet"),
        ("segments", "9.parquet"),
        ("segments", "000000009.parquet"),
        ("active", "٠٠٠٠٠٠٠٩.arrows"),
        ("active", "9.arrows"),
        ("seals", "٠٠٠٠٠٠٠٩.json"),
        ("attempts", "٠٠٠٩.json"),
        ("attempts", "9.json"),
        ("repairs", "٠٠٠٩.json"),
        ("blackbox", "٠٠٠٠٠٠٠٥.parquet"),
        ("blackbox", "5.parquet"),
        ("blackbox", "000000005.json"),
        ("blackbox", "00000005-1.json"),
    ],
)
def test_file_that_is_named_by_other_digits_is_no_part_of_the_run(ground: Ground, folder: str, name: str) -> None:
    """A number in a file's name is ASCII digits, as many as FORMAT.md says; what else is there changes no number."""
    run, plain = ground.copy(), ground.copy()
    for copy in (run, plain):
        (copy / FOLDERS["repairs"]).mkdir(exist_ok=True)
    source = {"segments": FILES["sealed file"], "active": FILES["active file"], "seals": FILES["seal"]}
    shutil.copy(run / source.get(folder, FILES["first attempt"]), run / RANK / folder / name)
    there, here = (
        ground.ask(("esper-analyze", "report", "--run", one, "--format", "json"), call("record", one))
        for one in (run, plain)
    )
    ground.check(*there, *here)
    assert there[1].code == 0, there[1].err
    theirs, ours = json.loads(there[0].out), json.loads(here[0].out)
    assert theirs["updates"] == ours["updates"]
    for name, metric in ours["metrics"].items():  # means differ in the last digit from one summation to the next
        exact = ("last", "min", "max", "median", "nonfinite", "history")
        assert {key: theirs["metrics"][name][key] for key in exact} == {key: metric[key] for key in exact}, name
    assert {"00000000.parquet", "00000001.parquet"} <= set(os.listdir(run / RANK / "segments"))  # noqa: PTH208
    assert (run / RANK / "attempts" / "0002.json").exists()


# ------------------------------------------------------------------ settings

LOOSE = '[tool.esper.thresholds.explains_nothing]\ncritical = ""\n'


def check_in(ground: Ground, cwd: Path, run: Path, *more: str) -> tuple[str, str, int | None]:
    """What `check` says in this folder."""
    (answer,) = ground.server.ask(call("check", run, *more), cwd=cwd)
    ground.check(answer)
    return answer.out, answer.err, answer.code


@pytest.fixture
def critical(ground: Ground) -> Path:
    """A run whose critic explains nothing."""
    with Recorder.open(ground.folder / "critical", run_id="r") as recorder:
        for update in range(45):
            recorder.record(update=update, policy_loss=0.5, value_loss=1.0, explained_variance=0.0)
    return recorder.path


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file to somebody else")
@pytest.mark.parametrize("whose", ["folder", "file", "both"])
def test_settings_of_somebody_else_are_not_used(ground: Ground, critical: Path, whose: str) -> None:
    """A `pyproject.toml` further up counts only where it, and the folder that it is in, belong to the user."""
    parent = ground.folder / "project"
    inside = parent / "mine"
    inside.mkdir(parents=True)
    parent.chmod(0o1777)
    settings = parent / "pyproject.toml"
    settings.write_text(LOOSE)
    assert check_in(ground, inside, critical)[2] == 0, "settings of one's own count"
    if whose in ("file", "both"):
        os.chown(settings, NOBODY, NOBODY)
    if whose in ("folder", "both"):
        os.chown(parent, NOBODY, NOBODY)
    out, err, code = check_in(ground, inside, critical)
    assert code == 1, out + err


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_settings_that_are_no_file_do_not_hang(ground: Ground, critical: Path, kind: str) -> None:
    """A `pyproject.toml` further up that is a pipe, or a link to a device, is passed over."""
    inside = ground.folder / "project" / "mine"
    inside.mkdir(parents=True)
    settings = inside.parent / "pyproject.toml"
    if kind == "link":
        settings.symlink_to("/dev/zero")
    else:
        os.mkfifo(settings)
    assert check_in(ground, inside, critical)[2] == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_check_names_the_settings_that_it_used(ground: Ground, critical: Path, form: str) -> None:
    """Whoever reads the outcome of a check sees by whose thresholds it came about."""
    (inside := ground.folder / "project").mkdir()
    settings = inside / "pyproject.toml"
    settings.write_text(LOOSE)
    out, _, code = check_in(ground, inside, critical, "--format", form)
    assert code == 0
    assert "project/pyproject.toml" in "".join(out.split())
