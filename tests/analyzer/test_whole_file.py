"""The file that `-o` names is whole, or what it was before."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Command
from tests.waiting import HANG_SECS

from esper_analyzer.whole_file import whole_file
from esper_schemas.testing import golden

COMMANDS = (
    ["report", "ROOT/finished", "--format", "html"],
    ["check", "ROOT/finished", "--format", "json"],
    ["compare", "ROOT/finished", "ROOT/resumed", "--format", "html"],
    ["fleet", "ROOT", "--format", "parquet"],
)
"""The commands that take `-o`, but for `export`, which has a test of its own."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two runs."""
    for name in ("finished", "resumed"):
        golden.copy_run(name, tmp_path / "runs")
    return tmp_path / "runs"


@contextmanager
def _small_disk() -> Iterator[None]:
    """No file gets longer than 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_disk_that_takes_no_more_leaves_the_file_before(
    words: list[str], root: Path, tmp_path: Path, command: Command
) -> None:
    """Exit code 2, one line that names the file, and nothing beside it."""
    output = tmp_path / "out" / "document"
    output.parent.mkdir()
    filled = [word.replace("ROOT", str(root)) for word in words]
    assert command(*filled, "-o", output).returncode == 0  # all modules are imported, and compiled, by now
    assert len(output.read_bytes()) > 100
    output.write_text("of yesterday")
    with _small_disk():
        done = command(*filled, "-o", output)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"esper-analyze: File too large: {output}\n")
    assert output.read_text() == "of yesterday"
    assert list(output.parent.iterdir()) == [output]


def _fail(target: Path, error: type[BaseException]) -> None:
    with whole_file(target) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither the file that is there, nor the folder."""
    (tmp_path / "there").write_text("before")
    for name in ("there", "absent"):
        with pytest.raises(error):
            _fail(tmp_path / name, error)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there", "before")]


def test_a_killed_process_leaves_the_file_before(tmp_path: Path) -> None:
    """What it had written by then has another name."""
    script = (
        "import pathlib, sys\nfrom esper_analyzer.whole_file import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n    file.flush()\n    print('written', flush=True)\n    sys.stdin.read()\n"
    )
    target = tmp_path / "target"
    target.write_text("before")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANG_SECS)
    assert target.read_text() == "before"


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    """A new file has those that the user gives to files; one that is replaced keeps its own, also behind a link."""
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    before = os.umask(0o027)
    try:
        with whole_file(target) as file:
            file.write(b"first")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o604)
    with whole_file(link) as file:
        file.write(b"second")
    assert (link.is_symlink(), target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (True, b"second", 0o604)
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    """The name that the file has meanwhile is no longer than its own."""
    with whole_file(tmp_path / ("n" * 255)) as file:
        file.write(b"whole")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"whole"


def test_what_is_no_file_is_written_in_place(tmp_path: Path, root: Path) -> None:
    """A pipe gets the document, and so does whoever has standard output, wherever that leads."""
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with whole_file(tmp_path / "pipe") as file:
        file.write(b"document")
    reader.join(HANG_SECS)
    assert read == [b"document"]
    with (tmp_path / "stdout").open("wb") as file:
        command = [sys.executable, "-m", "esper_analyzer", "check", str(root / "finished"), "-o", "/dev/stdout"]
        done = subprocess.run(command, stdout=file, timeout=HANG_SECS, check=False)
        assert os.fstat(file.fileno()).st_nlink == 1  # it is the file that has the name
    assert done.returncode == 0
    assert "passed" in (tmp_path / "stdout").read_text()


@pytest.mark.parametrize("name", ["absent/document", "folder", "circle"])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    """The error of the disk has the name that the user gave."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OSError, match=name) as raised, whole_file(tmp_path / name):
        raise AssertionError("it is open")
    assert raised.value.filename == str(tmp_path / name)
