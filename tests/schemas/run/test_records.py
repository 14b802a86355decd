from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esper_schemas import Attempt, FormatVersionError, RunDamagedError, RunHeader, Seal, UsageError
from esper_schemas.run.files import Folder
from esper_schemas.run.records import MAX_JSON_BYTES, check_run_id, read_json

HEADER: dict[str, Any] = {"run_uuid": "u", "run_id": "r", "created": "2026-01-01T00:00:00+00:00"}
ATTEMPT: dict[str, Any] = {"attempt": 0, "started": "2026-01-01T00:00:00+00:00"}

Record = RunHeader | Attempt | Seal


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """The test's own folder, held."""
    with Folder.at(tmp_path) as held:
        yield held


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"run_id": "r", "creat',
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe{}",
        b"\x00" * 400,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"x": ' + b"9" * 10_000 + b"}",
        b" " * (MAX_JSON_BYTES + 1) + b"{}",
    ],
    ids=lambda data: f"{data[:12]!r}*{len(data)}",
)
def test_bad_json_is_damage(folder: Folder, tmp_path: Path, data: bytes) -> None:
    """Whatever stands in a JSON file, the error is one line that names the file, and never a traceback."""
    path = tmp_path / "run.json"
    path.write_bytes(data)
    with pytest.raises(RunDamagedError) as caught:
        read_json(folder, "run.json")
    assert str(path) in str(caught.value)
    expected = "a JSON object" if len(data) <= MAX_JSON_BYTES else "at most 16,777,216 bytes"
    assert f"expected {expected}, found" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_in_place_of_a_json_file_is_damage(folder: Folder, tmp_path: Path) -> None:
    """What cannot be read as a file is damage; what is not there is FileNotFoundError."""
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunDamagedError):
        read_json(folder, "run.json")
    with pytest.raises(FileNotFoundError):
        read_json(folder, "none.json")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RunHeader, {**HEADER, "run_id": 5}),
        (RunHeader, {**HEADER, "created": 5}),
        (RunHeader, {**HEADER, "created": None}),
        (RunHeader, {**HEADER, "format": "1"}),
        (RunHeader, {**HEADER, "format": True}),
        (RunHeader, {**HEADER, "format": 1.0}),
        (RunHeader, {**HEADER, "config": []}),
        (RunHeader, {**HEADER, "versions": "torch"}),
        (RunHeader, {**HEADER, "value_loss_definition": 0.5}),
        (RunHeader, {**HEADER, "world_size": "two"}),
        (RunHeader, {**HEADER, "trainer": {}}),
        (RunHeader, {"run_id": "r"}),
        (RunHeader, {}),
        (Attempt, {**ATTEMPT, "rows": "many"}),
        (Attempt, {**ATTEMPT, "rows": None}),
        (Attempt, {**ATTEMPT, "first_seq": 1.5}),
        (Attempt, {**ATTEMPT, "dropped_rows": [1]}),
        (Attempt, {**ATTEMPT, "status": 3}),
        (Attempt, {**ATTEMPT, "last_seq": "x"}),
        (Seal, {"segment": 0}),
    ],
)
def test_wrong_type_or_missing_field_is_damage(
    folder: Folder, tmp_path: Path, kind: type[Record], values: dict[str, Any]
) -> None:
    """A field that is missing or of another type is damage, so that no reader trips over it later."""
    (tmp_path / "x.json").write_text(json.dumps(values))
    with pytest.raises(RunDamagedError, match=r"x\.json"):
        kind.read(folder, "x.json")


def test_unknown_keys_are_ignored(folder: Folder, tmp_path: Path) -> None:
    """A file of a later version, which has more keys, is read as what is known of it."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**HEADER, "colour": "blue", "nested": {"deep": [1]}}))
    assert RunHeader.read(folder, "x.json") == RunHeader(**HEADER)
    path.write_text(json.dumps({**ATTEMPT, "status": "paused", "mood": 1}))
    assert Attempt.read(folder, "x.json").status == "paused"  # type: ignore[comparison-overlap]


def test_newer_format_is_refused(folder: Folder, tmp_path: Path) -> None:
    """A run of a newer format says so, whatever else stands in its header."""
    (tmp_path / "run.json").write_text(json.dumps({**HEADER, "format": 2}))
    with pytest.raises(FormatVersionError, match="format 2, newer than the 1"):
        RunHeader.read(folder, "run.json")


def test_records_come_back_as_written(folder: Folder, tmp_path: Path) -> None:
    """Each record reads what it wrote; text that is no UTF-8 is escaped, and the file is valid JSON nevertheless."""
    path = tmp_path / "x.json"
    records: list[Record] = [
        RunHeader(**HEADER, config={"lr": 1e-3, "path": "/tmp/\udcff"}, versions={"torch": "2"}, env="Ünïcode\n"),
        Attempt(**ATTEMPT, status="failed", reason="broken \ud800 text", rows=3, last_seq=2, pid=1),
        Seal(
            segment=1,
            attempt=0,
            sha256="0" * 64,
            bytes=1,
            rows=0,
            first_seq=4,
            last_seq=3,
            first_update=None,
            last_update=None,
            updates_rise=True,
        ),
    ]
    for record in records:
        path.write_bytes(record.to_bytes())
        assert json.loads(path.read_bytes())
        assert type(record).read(folder, "x.json") == record


@pytest.mark.parametrize("run_id", ["a", "0", "A-b_c.1", "x" * 128])
def test_run_id_may_be(run_id: str) -> None:
    """Letters, digits, dot, underscore and hyphen, up to 128 of them."""
    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id", ["", ".", "..", "-x", ".x", "_x", "a/b", "a b", "a\n", "é", "x" * 129, None, 5, b"a"]
)
def test_run_id_may_not_be(run_id: Any) -> None:
    """Anything that could leave the folder of runs, or not be typed, is refused."""
    with pytest.raises(UsageError, match="a run id is 1 to 128 letters"):
        check_run_id(run_id)
