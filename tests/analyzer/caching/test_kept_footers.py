"""Footers of long runs are checked once for each checksum, and nothing that is kept of them hides damage."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esper_analyzer import open_run
from esper_analyzer.caching.folder import store
from esper_analyzer.caching.footers import FEWEST
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_recorder import Recorder
from esper_schemas.segment import sealed

SEGMENTS = FEWEST + 2
DAMAGE = [(3, "corrupt"), (4, "lost")]
"""A segment that cannot be used, and the rows before the next one that are lost with it."""


def record(root: Path, segments: int) -> Path:
    """A finished run of so many segments of one row."""
    with Recorder.open(root, run_id="run", segment_rows=1) as recorder:
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
