"""DuckLake, in an environment of its own, registers sealed files in place and answers every question of the page."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.engines.page import VIEWS, blocks, questions, run_in

from esper_recorder import Recorder
from esper_schemas import find_runs

pytestmark = pytest.mark.engines

AS_TEXT = "select columns(*)::varchar from ({})"

SHOW = f"""
import json
def show(question):
    print(json.dumps(lake.sql({AS_TEXT!r}.format(question)).fetchall()))
"""

COUNT = "select count(*), count(distinct seq) from lake.sealed"
FILES = "select data_file from ducklake_list_files('lake', 'sealed') order by 1"


def program(*further: str, views: Iterable[str] = ()) -> str:
    """The page from its top: attach, the views, register, rows from the catalogue; then `further` lines."""
    attach, register, replace = blocks("DuckLake", "python")
    run_views = [f"lake.sql({view!r})" for view in views or blocks(VIEWS)]
    return "\n".join([attach, *run_views, register, replace, SHOW, *further])


def shown(*asked: str) -> list[str]:
    """Lines that print the answers to these questions."""
    return [f"show({question!r})" for question in asked]


_NUMBER = re.compile(r"-?\d+\.\d+(e[+-]\d+)?")


def as_read(row: Iterable[str | None]) -> str:
    """A row as a text, numbers to twelve digits: in which order threads add them up decides the last ones."""
    return json.dumps([f"{float(text):.12g}" if text and _NUMBER.fullmatch(text) else text for text in row])


def digests(root: Path) -> dict[str, str]:
    """The sha256 of every sealed file."""
    files = sorted(root.rglob("segments/*.parquet"))
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_catalogue_answers_as_the_files_do(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question of the page, asked of the catalogue, has the answer that DuckDB has from the files."""
    shutil.copytree(reader, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    asked = [*questions(), 'select run, rank, seq, update, value_loss, "reward/distance" from updates']
    answers = run_in("ducklake", program(*shown(*asked, FILES)), tmp_path / "reader")
    with duckdb.connect() as connection:
        for view in blocks(VIEWS):
            connection.sql(view)
        for question, answer in zip(asked, answers, strict=False):
            found = connection.sql(AS_TEXT.format(question)).fetchall()
            assert found
            assert sorted(map(as_read, answer)) == sorted(map(as_read, found)), question
    assert [Path(file) for (file,) in answers[-1]] == sorted(Path("runs").rglob("segments/*.parquet"))


def test_what_is_new_is_registered_once(reader: Path, tmp_path: Path) -> None:
    """Again and again, with a metric that nobody had before; a file that is not there yet is left out until it is."""
    shutil.copytree(reader, tmp_path / "reader")
    runs = tmp_path / "reader/runs"
    late = runs / "resumed/rank-0000/segments/00000002.parquet"
    late.rename(late.with_suffix(".aside"))
    first = run_in("ducklake", program("register()", *shown(COUNT, FILES)), tmp_path / "reader")
    assert len(first[1]) == len(digests(runs))
    late.with_suffix(".aside").rename(late)
    with Recorder.open(runs, run_id="new") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=1.0, extras={'a "new" metric': 0.5, "filename": 1.0})
    new = 'select run, "a ""new"" metric" from all_attempts where run = \'runs/new\''
    second = run_in("ducklake", program("register()", *shown(COUNT, FILES, new)), tmp_path / "reader")
    assert len(second[1]) == len(digests(runs)) == len(first[1]) + 2
    assert second[2] == [["runs/new", "0.5"]]
    rows = sum(seal["rows"] for seal in _seals(runs))
    assert int(second[0][0][0]) == rows


def test_maintenance_leaves_the_runs_alone(reader: Path, tmp_path: Path) -> None:
    """Merging and cleaning up, as the page sets the catalogue up, delete and change no segment."""
    shutil.copytree(reader, tmp_path / "reader")
    before = digests(tmp_path / "reader/runs")
    maintenance = [
        "call ducklake_merge_adjacent_files('lake')",
        "call ducklake_merge_adjacent_files('lake', 'sealed')",
        "checkpoint lake",
        "from ducklake_expire_snapshots('lake', older_than => now() + interval 1 day)",
        "call ducklake_cleanup_old_files('lake', cleanup_all => true)",
        "call ducklake_delete_orphaned_files('lake', cleanup_all => true)",
    ]
    lines = [f"found = lake.sql({statement!r})\nfound and found.execute()" for statement in maintenance]
    answers = run_in("ducklake", program(*lines, *shown(COUNT)), tmp_path / "reader")
    assert int(answers[0][0][0]) > 0
    assert digests(tmp_path / "reader/runs") == before


def _seals(runs: Path) -> list[dict[str, Any]]:
    """Every seal of these runs."""
    found = [json.loads(path.read_text()) for run in find_runs(runs) for path in run.path.rglob("seals/*.json")]
    assert found
    return found
