"""The ground that the tests stand on: a folder of runs, the commands on them, and what must stay as it was."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.server import NOBODY, PATIENCE_SECS, Answer, Call, Server

SECRET = b"-----BEGIN PRIVATE KEY----- b3BlbnNzaC1rZXkt: nobody else's business\n"

ANOTHER = "another/sound"
"""A sound run of every ground, for comparing."""

READERS = (
    "report",
    "check",
    "runs",
    "tail --once",
    "verify",
    "replay",
    "compare",
    "explain",
    "explain two runs",
    "mcp",
)
WRITERS = ("repair", "record", "train")


def call(command: str, run: Path, *more: str | Path) -> Call:
    """A command on a run of a `Ground`, as a call; `more` are further words."""
    root, name, another = run.parent, run.name, run.parent.parent / ANOTHER
    return {
        "report": ("esper-analyze", "report", "--run", run, *more),
        "check": ("esper-analyze", "check", "--run", run, *more),
        "runs": ("esper-analyze", "runs", "--root", root, *more),
        "mcp": ("ask-tools", root, name),
        "tail --once": ("esper-analyze", "tail", "--once", "--run", run, *more),
        "tail": ("esper-analyze", "tail", "--run", run, *more),
        "replay": ("esper-analyze", "replay", "--speed", "0", "--run", run, *more),
        "compare": ("esper-analyze", "compare", "--by", "updates", run, another, *more),
        "explain": ("esper-analyze", "explain", "--update", "4", "--run", run, *more),
        "explain two runs": ("esper-analyze", "explain", another, run, *more),
        "verify": ("esper-rec", "verify", run, *more),
        "repair": ("esper-rec", "repair", run, *more),
        "record": ("record", root, name, "7", "8", "9", *more),
        "train": ("esper-rec", "train", "--out", root, "--run-id", name, "--resume", "--updates", "7", *more),
    }[command]


@dataclass(frozen=True, slots=True)
class Entry:
    """What can be seen of one file or folder."""

    kind: int
    mode: int
    owner: tuple[int, int]
    content: bytes | str


def picture(folder: Path) -> dict[str, Entry]:
    """Everything below a folder, without following a link."""
    seen = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            status = path.lstat()
            content: bytes | str = b""
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
            seen[str(path.relative_to(folder))] = Entry(kind, mode, (status.st_uid, status.st_gid), content)
    return seen


class Ground:
    """A folder with `runs`, the recorded run in it as often as it is needed, and `outside`.

    Attributes:
        folder: the folder; commands run in it.
        recorded: the run that is copied.
        server: forks the commands.
        outside: a folder that belongs to somebody else: a private key, notes, and what looks like the inside of a rank.
    """

    def __init__(self, folder: Path, recorded: Path, server: Server) -> None:
        self.folder = folder
        self.recorded = recorded
        self.server = server
        self.outside = folder / "outside"
        self._fill_outside()
        shutil.copytree(recorded, folder / ANOTHER)
        self._before = picture(self.outside)
        self._copies = 0

    def _fill_outside(self) -> None:
        rank = self.recorded / "rank-0000"
        names = ["id_rsa", "notes.txt", "notes.tmp", "a/deep/one.tmp", "LOCK", "0001.json.tmp", "checkpoint.pt"]
        names += [str(path.relative_to(rank)) for path in rank.rglob("*") if path.is_file()]
        names += ["active/00000001.parquet.tmp", "active/00000007.arrows", "seals/00000001.json.tmp"]
        names += ["repairs/0000.json.tmp"]
        for name in names:
            path = self.outside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(SECRET + name.encode())
            path.chmod(0o600)

    def copy(self, name: str | None = None) -> Path:
        """A new copy of the recorded run, alone in its folder of runs."""
        self._copies += 1
        target = self.folder / f"runs-{self._copies}" / (name or "good")
        shutil.copytree(self.recorded, target)
        return target

    def ask(self, *calls: Call, patience: float = PATIENCE_SECS) -> list[Answer]:
        """Do these calls in a process of their own, with the patience of `Server.ask`."""
        return self.server.ask(*calls, cwd=self.folder, patience=patience)

    def ask_as_stranger(self, *calls: Call) -> list[Answer]:
        """Do these calls as another user, where this one is root; else as this one."""
        if os.getuid() != 0:
            return self.ask(*calls)
        run = self.copy()
        rehearsal = [call(command, run) for command in (*READERS, "repair", "record", "train")]
        return self.server.ask(*calls, cwd=self.folder, uid=NOBODY, rehearsal=rehearsal)

    def ask_about(
        self,
        make: Callable[[Path, Path], None],
        commands: Sequence[str] = (*READERS, *WRITERS),
    ) -> dict[str, Answer]:
        """Let commands at a copy of the run that `make` (run, outside) has made hostile; readers share one.

        Checks what is true of every command on every folder.
        """
        calls: list[Call] = []
        runs: list[Path] = []
        for command in commands:
            if not runs or command in WRITERS:
                runs.append(self.copy())
                make(runs[-1], self.outside)
            calls.append(call(command, runs[-1]))
        answers = self.ask(*calls)
        self.check(*answers)
        for run in runs:
            self.check_discloses_nothing(run)
        return dict(zip(commands, answers, strict=True))

    def check(self, *answers: Answer) -> None:
        """Each answer is one of ours, nothing outside has changed, and nothing of it is told."""
        complaints = [answer.complaint for answer in answers if answer.complaint]
        assert not complaints, "\n".join(complaints)
        self.check_outside()
        for answer in answers:
            assert "PRIVATE KEY" not in answer.said, answer.name

    def check_outside(self) -> None:
        """Nothing outside of the run's own folder has changed."""
        now = picture(self.outside)
        changed = sorted(name for name in self._before.keys() | now.keys() if self._before.get(name) != now.get(name))
        assert not changed, f"changed outside of the run: {', '.join(changed)}"

    def check_discloses_nothing(self, run: Path) -> None:
        """No file of the run holds what stands outside, but for those that are files from outside by another name."""
        outside = {path.stat().st_ino for path in self.outside.rglob("*")}
        for place, _, files in os.walk(run):
            for path in (Path(place, name) for name in files):
                status = path.lstat()
                is_ours = stat.S_ISREG(status.st_mode) and status.st_ino not in outside and status.st_size < 1 << 24
                assert not is_ours or SECRET[:40] not in path.read_bytes(), f"{path.relative_to(run)} is a copy"
