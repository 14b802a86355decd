from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from esper_analyzer.caching import folder
from esper_analyzer.caching.folder import CACHE_DIR, MAX_BYTES, MAX_FILE_BYTES, cache_folder, load, store
from esper_analyzer.reading.segment_index import NO_CACHE

KEY, OTHER = "a" * 64, "b" * 64


def found(key: str = KEY) -> bytes | None:
    """What is kept under a key."""
    return load("test", key, bytes)


def only_file(cache: Path) -> Path:
    """The one file in the cache folder."""
    (path,) = cache.iterdir()
    return path


def test_what_is_stored_is_found_by_nobody_else(cache: Path) -> None:
    """What was stored is found under its key alone, in a file and a folder that only the user may open."""
    assert found() is None
    assert not cache.exists()
    store("test", KEY, b"body")
    assert (found(), found(OTHER), load("else", KEY, bytes)) == (b"body", None, None)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(cache).stat().st_mode) == 0o600
    store("test", KEY, b"newer")
    assert found() == b"newer"
    assert only_file(cache).exists()


def test_the_switch_keeps_and_finds_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ESPER_NO_CACHE nothing is written and nothing is found."""
    store("test", KEY, b"body")
    monkeypatch.setenv(NO_CACHE, "1")
    assert found() is None
    store("test", OTHER, b"body")
    monkeypatch.delenv(NO_CACHE)
    assert (found(), found(OTHER)) == (b"body", None)


def to_link(path: Path) -> None:
    """Put a link to the same bytes in place of a file."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def to_large(path: Path) -> None:
    """Make a file larger than any that was written, without using the disk."""
    os.truncate(path, MAX_FILE_BYTES + 1)


def to_pipe(path: Path) -> None:
    """Put a pipe in place of a file, which whoever opens it waits for."""
    path.unlink()
    os.mkfifo(path)


def to_other_key(path: Path) -> None:
    """Put the file of another key in place of a file."""
    store("test", OTHER, b"other")
    (path.parent / f"test-{OTHER}.json").rename(path)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "head only": lambda path: os.truncate(path, 20),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "changed": lambda path: path.write_bytes(path.read_bytes().replace(b"body", b"bodY")),
    "garbage": lambda path: path.write_bytes(os.urandom(4096)),
    "of a later format": lambda path: path.write_bytes(path.read_bytes().replace(b"cache/1", b"cache/2")),
    "readable by others": lambda path: path.chmod(0o644),
    "a second name": lambda path: (path.parent.parent / "second").hardlink_to(path),
    "a link": to_link,
    "too large": to_large,
    "a pipe": to_pipe,
    "of another key": to_other_key,
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_is_not_what_was_written_is_removed(cache: Path, change: Callable[[Path], object]) -> None:
    """Whatever is wrong with a file, it is not believed, it is removed, and the next one takes its place."""
    store("test", KEY, b"body")
    change(only_file(cache))
    assert found() is None
    assert not list(cache.glob(f"test-{KEY}*"))
    store("test", KEY, b"body")
    assert found() == b"body"


def test_a_folder_in_place_of_a_file_is_left_alone(cache: Path) -> None:
    """A folder with the name of a file is not believed, and nothing in it is removed."""
    inner = cache / f"test-{KEY}.json" / "mine"
    inner.mkdir(parents=True)
    cache.chmod(0o700)
    store("test", KEY, b"body")
    assert found() is None
    assert inner.exists()
    assert len(list(cache.iterdir())) == 1  # what was written aside is gone


def test_what_cannot_be_parsed_is_removed(cache: Path) -> None:
    """A file of another type than the one that is asked for is removed."""
    store("test", KEY, b"body")
    assert load("test", KEY, int) is None
    assert not list(cache.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_removed(cache: Path) -> None:
    """A file of another user is not believed."""
    store("test", KEY, b"body")
    os.chown(only_file(cache), 12345, -1)
    assert found() is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_not_used(cache: Path, mode: int) -> None:
    """Where others may put files, nothing is believed and nothing is written."""
    store("test", KEY, b"body")
    cache.chmod(mode)
    assert found() is None
    store("test", OTHER, b"body")
    assert len(list(cache.iterdir())) == 1


def test_without_a_place_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made, or is a file, is no error."""
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none/esper"), Path("/dev/null")):
        monkeypatch.setenv(CACHE_DIR, str(place))
        store("test", KEY, b"body")
        assert found() is None
    assert (tmp_path / "file").read_text() == "mine"


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the one that is named, else that of XDG, unless that is no whole path, else one below the home."""
    assert cache_folder() == Path(os.environ[CACHE_DIR])
    monkeypatch.delenv(CACHE_DIR)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "esper"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "esper"


def test_the_folder_stays_within_its_bounds(cache: Path) -> None:
    """The files that were not used for longest go first, and what nobody finished to write goes too."""
    for place in range(10):
        store("test", f"{place}", b"body")
        path = cache / f"test-{place}.json"
        os.utime(path, (time.time() - 1000 + place, time.time() - 1000 + place))
    assert found("0") == b"body"  # it is the one that was used last now
    for place in range(1, 10):
        os.truncate(cache / f"test-{place}.json", MAX_BYTES // 8)
        os.utime(cache / f"test-{place}.json", (time.time() - 1000 + place, time.time() - 1000 + place))
    (cache / ".aside-old").touch()
    os.utime(cache / ".aside-old", (1, 1))
    (cache / ".aside-new").touch()
    store("test", KEY, b"body")
    left = {path.name for path in cache.iterdir()}
    assert {"test-0.json", f"test-{KEY}.json", "test-9.json", ".aside-new"} <= left
    assert not {"test-1.json", "test-2.json", ".aside-old"} & left
    assert sum(path.stat().st_size for path in cache.iterdir()) <= MAX_BYTES


def test_there_are_not_too_many_files(cache: Path) -> None:
    """Small files are bounded by their number."""
    store("test", KEY, b"body")
    only_empty = cache.parent / "empty"
    only_empty.touch()
    os.utime(only_empty, (1, 1))
    for place in range(folder.MAX_FILES):
        os.link(only_empty, cache / f"test-{place}.json")
    store("test", OTHER, b"body")
    assert len(list(cache.iterdir())) <= folder.MAX_FILES
    assert (found(), found(OTHER)) == (b"body", b"body")


WRITER = """
import sys
from esper_analyzer.caching.folder import load, store
for turn in range(300):
    store("test", "a" * 64, sys.argv[1].encode() * 5000)
    found = load("test", "a" * 64, bytes)
    assert found in (b"1" * 5000, b"2" * 5000), (found or b"none")[:20]
"""


def test_two_processes_at_once(cache: Path) -> None:
    """Of two processes that write and read the same file, each finds what one of them wrote, whole."""
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, name]) for name in ("1", "2")]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(list(cache.iterdir())) == 1
