"""Column states on disk: written at sealing, noticed when they are wrong, and never in anybody's way."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from esper_analyzer import open_run
from esper_analyzer.caching.folder import CACHE_DIR
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_recorder import Recorder
from esper_recorder.keeping.repair import repair_run
from esper_schemas import RunDirectory
from esper_schemas.examining.run import verify_run

RANK = "rank-0000"


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No report is taken from the cache folder, as these tests change what it would not see."""
    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three segments, closed."""
    root = tmp_path_factory.mktemp("states")
    _record(root)
    return root / "run"


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(recorded, tmp_path / "run")


def _record(root: Path, rows: int = 25, run_id: str = "run") -> None:
    with Recorder.open(root, run_id=run_id, segment_rows=10) as recorder:
        for i in range(rows):
            loss = float("nan") if i == 7 else 1.0 / (1 + i)
            recorder.record(update=i, policy_loss=-0.01 * i, value_loss=loss, extras={"mine": float(i % 3)})


def _states(run: Path, number: int = 1) -> Path:
    return run / RANK / "states" / f"{number:08d}.json"


def _seal(run: Path, number: int = 1) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / RANK / "seals" / f"{number:08d}.json").read_text())
    return found


def _notes(run: Path) -> list[str]:
    found = verify_run(RunDirectory(run))
    assert not found.is_damaged
    return [fault.message for fault in found.faults]


def test_every_sealed_segment_has_states_whose_sha256_is_in_its_seal(run: Path) -> None:
    """Every sealed segment has states whose SHA-256 is in its seal."""
    assert len(list((run / RANK / "states").iterdir())) == 3
    for number in range(3):
        data = _states(run, number).read_bytes()
        assert _seal(run, number)["states_sha256"] == hashlib.sha256(data).hexdigest()
    assert json.loads(data)["columns"]["value_loss"]["measured"] == 5
    assert _notes(run) == []


def _falsify(path: Path) -> None:
    path.write_text(path.read_text().replace('"measured":10', '"measured":9', 1))


def _falsify_with_seal(path: Path) -> None:
    """Falsify the states, and the checksum in the seal too: only the rows can tell."""
    record = json.loads(path.read_text())
    record["columns"]["value_loss"]["mean"] = 123.0
    path.write_text(json.dumps(record))
    seal = path.parents[1] / "seals" / path.name
    sealed = json.loads(seal.read_text()) | {"states_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    seal.write_text(json.dumps(sealed))


def _replace_by_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def _replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _remove(path: Path) -> None:
    path.unlink()


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "falsified": (_falsify, "sha256"),
    "missing": (_remove, "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "sha256"),
    "that of another segment": (lambda path: shutil.copy(path.with_name("00000000.json"), path), "sha256"),
    "a link": (_replace_by_a_link, "00000001.json"),
    "a folder": (_replace_by_a_folder, "00000001.json"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_states_are_noted_are_no_damage_and_change_no_number(run: Path, what: str) -> None:
    """Wrong states are noted are no damage and change no number."""
    expected = open_run(run).report().to_json()
    spoil, said = WRONG[what]
    spoil(_states(run))
    assert open_run(run).report().to_json() == expected
    notes = _notes(run)
    assert any(said in note and "readers use the rows" in note for note in notes), notes


def test_states_that_were_forged_with_their_seal_are_noted(run: Path) -> None:
    """States that were forged with their seal are noted."""
    _falsify_with_seal(_states(run))
    assert [note for note in _notes(run) if "the rows say otherwise of value_loss" in note]


def test_reports_from_states_and_from_rows_are_the_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports from states and from rows are the same."""
    from_states = open_run(run).report().to_json()
    monkeypatch.setenv(NO_CACHE, "1")
    assert open_run(run).report().to_json() == from_states


def test_states_that_cannot_be_written_stop_no_sealing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """States that cannot be written stop no sealing."""
    with Recorder.open(tmp_path, run_id="run", segment_rows=10) as recorder:
        states = tmp_path / "run" / RANK / "states"
        states.rmdir()
        states.write_text("in the way")
        for i in range(25):
            recorder.record(update=i, policy_loss=0.1, value_loss=0.5)
    assert [_seal(tmp_path / "run", number)["states_sha256"] for number in range(3)] == [None, None, None]
    assert "readers use the rows" in caplog.text
    assert open_run(tmp_path / "run").report().metrics["value_loss"].mean == 0.5


def test_a_run_of_an_older_version_gets_states_when_it_is_resumed(tmp_path: Path) -> None:
    """A run of an older version gets states when it is resumed."""
    _record(tmp_path)
    run = tmp_path / "run"
    shutil.rmtree(run / RANK / "states")
    for seal in (run / RANK / "seals").iterdir():
        record = json.loads(seal.read_text())
        del record["states_sha256"]
        seal.write_text(json.dumps(record))
    with Recorder.open(tmp_path, run_id="run", resume="allow") as recorder:
        recorder.record(update=25, policy_loss=0.1, value_loss=0.5)
    assert [path.name for path in (run / RANK / "states").iterdir()] == ["00000003.json"]
    assert _notes(run) == []
    assert open_run(run).report().updates.rows == 26


def test_repair_writes_the_states_of_a_seal_that_it_rebuilds(run: Path) -> None:
    """Repair writes the states of a seal that it rebuilds."""
    (run / RANK / "seals" / "00000001.json").unlink()
    _states(run).unlink()
    repair_run(RunDirectory(run))
    assert _seal(run)["states_sha256"] == hashlib.sha256(_states(run).read_bytes()).hexdigest()
    assert _notes(run) == []
