"""Footers of long runs are checked once, by the checksum or the state of a file, and nothing kept hides damage."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import open_run
from esper_analyzer.caching import footers
from esper_analyzer.caching.folder import store
from esper_analyzer.caching.footers import FEWEST
from esper_analyzer.reading import segment_index
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_recorder import Recorder
from esper_schemas.run.storage import SETTLED_NS
from esper_schemas.segment import sealed

SEGMENTS = FEWEST + 2
DAMAGE = [(3, "corrupt"), (4, "lost")]
"""A segment that cannot be used, and the rows before the next one that are lost with it."""


def record(root: Path, segments: int, rank: int = 0, world_size: int = 1) -> Path:
    """A finished run of so many segments of one row, or one rank of it."""
    with Recorder.open(root, run_id="run", segment_rows=1, rank=rank, world_size=world_size) as recorder:
        for update in range(segments):
            recorder.record(update=update, policy_loss=0.1, value_loss=1.0, extras={"mine": 0.5})
    return root / "run"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of enough segments; for copying."""
    return record(tmp_path_factory.mktemp("recorded"), SEGMENTS)


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A run of enough segments."""
    return Path(shutil.copytree(recorded, tmp_path / "run"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sealed files whose footer and pages were looked at, as often as they were."""
    found: list[str] = []
    really = sealed.open_parquet

    def count(file: Any, size: int, where: str, *more: Any) -> Any:
        found.append(where)
        return really(file, size, where, *more)

    monkeypatch.setattr(sealed, "open_parquet", count)
    return found


def look(run: Path) -> RunIndex:
    """Examine a run by an object that has not seen it."""
    return open_run(run).look()


def seen(found: RunIndex) -> list[object]:
    """What an examination found."""
    pieces = [(piece.number, piece.rows, piece.extras, piece.seal) for piece in found.ranks[0].pieces]
    return [pieces, found.faults, found.schema]


def test_the_footers_of_a_long_run_are_looked_at_once(run: Path, opened: list[str]) -> None:
    """The second examination opens none of its files as Parquet, and finds the same."""
    first = seen(look(run))
    assert len(opened) == SEGMENTS
    opened.clear()
    assert seen(look(run)) == first
    assert opened == []


def test_an_object_that_looks_twice_looks_at_footers_once(
    run: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing may be kept; other objects then look at all of them again."""
    monkeypatch.setenv(NO_CACHE, "1")
    one = open_run(run)
    assert seen(one.look()) == seen(one.look())
    assert len(opened) == SEGMENTS
    look(run)
    assert len(opened) == 2 * SEGMENTS


def test_an_examination_of_every_row_opens_every_file(run: Path, opened: list[str]) -> None:
    """What is kept of footers is for examinations that look no deeper than those."""
    look(run)
    opened.clear()
    open_run(run).look(depth="rows")
    assert len(opened) == SEGMENTS


def test_nothing_is_kept_of_a_short_run(tmp_path: Path, cache: Path) -> None:
    """A file of the cache folder costs more than the footers of a few segments."""
    look(record(tmp_path, 3))
    assert [*cache.glob("footers-*")] == []


def test_a_file_that_changed_is_damaged_whatever_is_kept(run: Path, opened: list[str]) -> None:
    """Its checksum is not that in the seal any more."""
    look(run)
    opened.clear()
    path = run / "rank-0000/segments/00000003.parquet"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    found = look(run)
    assert [(fault.segment, fault.kind) for fault in found.faults if fault.is_damage] == DAMAGE
    assert opened == []


def test_a_file_that_was_sealed_again_is_looked_at_again(run: Path, opened: list[str]) -> None:
    """Whoever writes a file and a seal that match has its pages checked like those of any new file."""
    look(run)
    opened.clear()
    path, seal = run / "rank-0000/segments/00000003.parquet", run / "rank-0000/seals/00000003.json"
    whole = path.read_bytes()
    whole = whole[:-8] + (2**31 - 1).to_bytes(4, "little") + whole[-4:]  # a footer that cannot be in the file
    path.write_bytes(whole)
    seal.write_text(json.dumps(json.loads(seal.read_text()) | {"sha256": hashlib.sha256(whole).hexdigest()}))
    found = look(run)
    assert len(opened) == 1
    assert [(fault.segment, fault.kind) for fault in found.faults if fault.is_damage] == DAMAGE


def _other_rows(footer: dict[str, Any]) -> None:
    footer["rows"] = 7


def _no_extras(footer: dict[str, Any]) -> None:
    footer["extras"] = []


@pytest.mark.parametrize("change", [_other_rows, _no_extras])
def test_kept_footers_that_contradict_the_seals_are_not_believed(
    run: Path, cache: Path, opened: list[str], change: Callable[[dict[str, Any]], None]
) -> None:
    """The files are looked at again, and the examination finds what it found."""
    first = seen(look(run))
    (path,) = cache.glob("footers-*.json")
    body = json.loads(path.read_bytes().partition(b"\n")[2])
    for _, footer in body["of_files"]:
        change(footer)
    store("footers", path.stem.removeprefix("footers-"), json.dumps(body).encode())
    opened.clear()
    assert seen(look(run)) == first
    assert len(opened) == SEGMENTS


# ---------------------------------------------------------------------- rows that are read without comparing checksums


@pytest.fixture
def as_new(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> Callable[[], None]:
    """A function that forgets what this process knows of files, as another process does not know it."""

    def forget() -> None:
        monkeypatch.setattr(segment_index, "_WITHIN_BOUNDS", {})
        opened.clear()

    forget()
    return forget


def settle() -> None:
    """Wait until a file that changes now has another ctime than those that were written before."""
    time.sleep(2 * SETTLED_NS / 1e9)


def rows(run: Path) -> list[tuple[object, ...]]:
    """The rows of a run, read by an object that has not seen it."""
    return open_run(run).updates().select("update", "value_loss", "mine").collect().rows()


def test_rows_are_read_without_looking_at_files_that_are_as_they_were(
    run: Path, opened: list[str], as_new: Callable[[], None]
) -> None:
    """Another process reads the same rows, and looks at the footer of no file."""
    settle()
    first = rows(run)
    assert len(opened) == SEGMENTS
    as_new()
    assert rows(run) == first
    assert opened == []


@pytest.mark.parametrize("how", ["written", "replaced", "touched"])
def test_a_file_whose_state_changed_is_looked_at_again(
    run: Path, opened: list[str], as_new: Callable[[], None], how: str
) -> None:
    """Also if its size and mtime are those that it had."""
    settle()
    first = rows(run)
    as_new()
    path = run / "rank-0000/segments/00000003.parquet"
    before, whole = path.stat(), path.read_bytes()
    if how == "written":
        path.write_bytes(whole)
    elif how == "replaced":
        path.with_suffix(".aside").write_bytes(whole)
        path.with_suffix(".aside").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rows(run) == first
    assert [Path(one).name for one in opened] == [path.name]


def test_pages_that_unpack_to_too_much_are_found_whatever_is_kept(run: Path, as_new: Callable[[], None]) -> None:
    """A file of the same size whose footer is out of bounds is left out of the rows, as on the first look."""
    settle()
    first = rows(run)
    as_new()
    path = run / "rank-0000/segments/00000003.parquet"
    before, whole = path.stat(), path.read_bytes()
    path.write_bytes(whole[:-8] + (2**31 - 1).to_bytes(4, "little") + whole[-4:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert rows(run) == [row for row in first if row[0] != 3]


def test_files_that_were_just_written_are_not_kept(
    run: Path, cache: Path, as_new: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written again within a tick of the clock has the same ctime."""
    monkeypatch.setattr(footers, "SETTLED_NS", 10**12)  # as if this process were fast
    rows(run)
    assert [*cache.glob("bounds-*")] == []


@pytest.mark.parametrize("change", [{1: 7}, {2: []}], ids=["rows", "extras"])
def test_kept_states_that_contradict_the_seals_are_not_believed(
    run: Path, cache: Path, opened: list[str], as_new: Callable[[], None], change: dict[int, Any]
) -> None:
    """The files are looked at again, and the same rows are read."""
    settle()
    first = rows(run)
    (path,) = cache.glob("bounds-*.json")
    body = json.loads(path.read_bytes().partition(b"\n")[2])
    body["of_files"] = [[change.get(at, part) for at, part in enumerate(parts)] for parts in body["of_files"]]
    store("bounds", path.stem.removeprefix("bounds-"), json.dumps(body).encode())
    as_new()
    assert rows(run) == first
    assert len(opened) == SEGMENTS


def test_no_state_of_a_file_is_used_where_nothing_is_kept(
    run: Path, cache: Path, opened: list[str], as_new: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without stored numbers, every process looks at every footer."""
    settle()
    rows(run)
    as_new()
    monkeypatch.setenv(NO_CACHE, "1")
    rows(run)
    assert len(opened) == SEGMENTS


@pytest.mark.slow
def test_each_rank_is_kept(tmp_path: Path, opened: list[str], as_new: Callable[[], None]) -> None:
    """Whoever reads one rank after another keeps what is known of the others."""
    for rank in range(2):
        run = record(tmp_path, SEGMENTS, rank, 2)
    settle()
    first = [open_run(run).updates(rank).collect().height for rank in range(2)]
    assert (first, len(opened)) == ([SEGMENTS, SEGMENTS], 2 * SEGMENTS)
    as_new()
    assert open_run(run).updates().collect().height == 2 * SEGMENTS
    assert opened == []
