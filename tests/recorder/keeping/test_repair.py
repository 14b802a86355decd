from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from tests.live_runs import copy_live_run
from tests.tables import shortened

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.cli import main
from esper_recorder.keeping.repair import repair_run
from esper_schemas import RunDirectory, RunLockedError, UsageError
from esper_schemas.examining.faults import KnownLosses
from esper_schemas.examining.run import find_run, verify_run
from esper_schemas.segment.active import RowLayout

RANK = "rank-0000"


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose second attempt was killed: rows 0–24 of attempt 0 and 25–45 of attempt 1 sealed, 46–54 active.

    Segments of 10 rows. Row 30 was dropped, so that row 31 says so; the update of each row is its sequence number.
    """
    root = tmp_path_factory.mktemp("crashed")
    with Recorder.open(root / "live", run_id="run", segment_rows=10) as recorder:
        for i in range(25):
            recorder.record(update=i, policy_loss=0.1, value_loss=i / 4)
    recorder = Recorder.open(root / "live", run_id="run", resume="must", segment_rows=10)
    for i in range(25, 55):
        recorder.record(update=i, policy_loss=0.1, value_loss="bad" if i == 30 else i / 4)
    run = copy_live_run(recorder.path, root / "run", sealed=5)
    recorder.close()
    _edit(_attempt(run, 1), rows=0, dropped_rows=0, last_seq=None)  # as it was written first
    return run


def _active(run: Path) -> Path:
    (path,) = (run / RANK / "active").glob("*.arrows")
    return path


def _sealed(run: Path, number: int) -> Path:
    return run / RANK / "segments" / f"{number:08d}.parquet"


def _seal(run: Path, number: int) -> Path:
    return run / RANK / "seals" / f"{number:08d}.json"


def _attempt(run: Path, number: int) -> Path:
    return run / RANK / "attempts" / f"{number:04d}.json"


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def _in_row(run: Path, row: int) -> int:
    """An offset inside a row of the active file."""
    layout = RowLayout.read(_active(run).read_bytes())
    assert layout is not None
    return len(layout.header) + row * layout.row_bytes + layout.row_bytes // 2


def _edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _cut(path: Path, size: int) -> None:
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)


def _rewrite(run: Path, number: int, **columns: list[int]) -> None:
    """Replace columns of a sealed file, and its seal's checksum with it, as someone might who edits files."""
    path = _sealed(run, number)
    table = pq.read_table(path, partitioning=None)
    for name, values in columns.items():
        at = table.schema.names.index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    pq.write_table(table, path)
    _seal(run, number).unlink()


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _zero(run: Path) -> None:
    at = _in_row(run, 2)
    data = bytearray(_active(run).read_bytes())
    data[at : at + 4096] = bytes(4096)
    _active(run).write_bytes(data)


def _swap(run: Path) -> None:
    data = _active(run).read_bytes()
    layout = RowLayout.read(data)
    assert layout is not None
    start, size = len(layout.header), layout.row_bytes
    rows = [data[at : at + size] for at in range(start, len(data), size)]
    rows[3], rows[4] = rows[4], rows[3]
    _active(run).write_bytes(data[:start] + b"".join(rows))


def _take_segment_of_another_run(run: Path) -> None:
    with Recorder.open(run.parent, run_id="other") as other:
        other.record(update=0, policy_loss=0.1, value_loss=0.2)
    shutil.copy(other.path / RANK / "segments" / "00000000.parquet", _sealed(run, 1))
    shutil.copy(other.path / RANK / "seals" / "00000000.json", _seal(run, 1))
    _edit(_seal(run, 1), segment=1)


ALL = [i for i in range(55) if i != 30]


def _without(*lost: int) -> list[int]:
    return [i for i in ALL if i not in lost]


@dataclass(frozen=True)
class Case:
    """A way to break the run: what `verify` must find, and which rows must be left."""

    name: str
    break_it: Callable[[Path], object]
    kinds: frozenset[str]
    left: list[int]
    is_damage: bool = True


def _case(name: str, break_it: Callable[[Path], object], kinds: str, left: list[int], is_damage: bool = True) -> Case:
    return Case(name, break_it, frozenset(kinds.split()), left, is_damage)


CASES = [
    _case("nothing", lambda run: None, "note", ALL, False),
    _case("active torn", lambda run: _cut(_active(run), -100), "torn note", _without(54), False),
    _case("active without header", lambda run: _cut(_active(run), 100), "torn note", ALL[:45], False),
    _case("active empty", lambda run: _cut(_active(run), 0), "note", ALL[:45], False),
    _case("active row flipped", lambda run: _flip(_active(run), _in_row(run, 3)), "corrupt lost note", _without(49)),
    _case("first row flipped", lambda run: _flip(_active(run), _in_row(run, 0)), "corrupt lost note", _without(46)),
    _case("last row flipped", lambda run: _flip(_active(run), _in_row(run, 8)), "corrupt lost note", _without(54)),
    _case("sector zeroed", _zero, "corrupt lost note", _without(48, 49)),
    _case("rows swapped", _swap, "corrupt lost note", _without(49)),
    _case(
        "garbage behind",
        lambda run: _active(run).write_bytes(_active(run).read_bytes() + b"x" * 50_000),
        "corrupt lost note",
        ALL,
    ),
    _case("header flipped", lambda run: _flip(_active(run), 2000), "corrupt note", ALL),
    _case(
        "active of another segment",
        lambda run: _active(run).rename(run / RANK / "active/00000009.arrows"),
        "corrupt missing note",
        ALL[:45],
    ),
    _case("active gone", lambda run: _active(run).unlink(), "", ALL[:45], False),
    _case("sealed flipped", lambda run: _flip(_sealed(run, 1), 500), "corrupt lost note", _without(*range(10, 20))),
    _case("sealed cut", lambda run: _cut(_sealed(run, 0), 500), "corrupt lost note", _without(*range(10))),
    _case("sealed empty", lambda run: _cut(_sealed(run, 2), 0), "corrupt lost note", _without(*range(20, 25))),
    _case("sealed gone", lambda run: _sealed(run, 1).unlink(), "missing lost note", _without(*range(10, 20))),
    _case(
        "sealed and seal gone",
        lambda run: _unlink(_sealed(run, 3), _seal(run, 3)),
        "missing lost note",
        _without(*range(25, 36)),
    ),
    _case("last gone", lambda run: _unlink(_active(run), _sealed(run, 4)), "missing", ALL[:35]),
    _case("sealed of another run", _take_segment_of_another_run, "corrupt lost note", _without(*range(10, 20))),
    _case("sealed twice", lambda run: shutil.copy(_sealed(run, 4), _sealed(run, 9)), "missing corrupt note", ALL),
    _case(
        "rows go back",
        lambda run: _rewrite(run, 1, seq=[10, 11, 12, 12, 14, 15, 16, 17, 18, 19]),
        "missing corrupt lost note",
        _without(*range(10, 20)),
    ),
    _case(
        "rank differs",
        lambda run: _rewrite(run, 1, rank=[0] * 9 + [1]),
        "missing corrupt lost note",
        _without(*range(10, 20)),
    ),
    _case(
        "a folder for a file",
        lambda run: _make_folder(_sealed(run, 1)),
        "corrupt lost note",
        _without(*range(10, 20)),
    ),
    _case("seal gone", lambda run: _seal(run, 1).unlink(), "missing note", ALL),
    _case("seal empty", lambda run: _cut(_seal(run, 1), 0), "unreadable note", ALL),
    _case("seal says too much", lambda run: _edit(_seal(run, 1), rows=11, last_seq=20), "corrupt note", ALL),
    _case("seal of another", lambda run: shutil.copy(_seal(run, 0), _seal(run, 1)), "unreadable note", ALL),
    _case("foreign file", lambda run: (run / RANK / "segments" / "x.parquet").write_bytes(b"x"), "foreign note", ALL),
    _case("attempt gone", lambda run: _attempt(run, 0).unlink(), "missing note", ALL),
    _case("attempt cut", lambda run: _cut(_attempt(run, 1), 20), "unreadable note", ALL),
    _case("attempts gone", lambda run: shutil.rmtree(run / RANK / "attempts"), "missing note", ALL),
    _case("attempt miscounts", lambda run: _edit(_attempt(run, 0), rows=26), "corrupt note", ALL),
    _case("attempt forgets", lambda run: _edit(_attempt(run, 0), rows=24), "corrupt note", ALL),
    _case("attempt knows more", lambda run: _edit(_attempt(run, 1), last_seq=59), "lost note", ALL),
    _case("header gone", lambda run: (run / "run.json").unlink(), "missing note", ALL),
    _case("run.json cut", lambda run: _cut(run / "run.json", 50), "unreadable note", ALL),
    _case("run.json of another", lambda run: _edit(run / "run.json", run_id="x"), "corrupt note", ALL),
    _case("tmp", lambda run: (run / RANK / "active" / "00000009.parquet.tmp").write_bytes(b"x"), "note", ALL, False),
]


def _tree(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("case", shortened(CASES, lambda case: case.name))
def test_broken_run_is_repaired_and_recorded_on(crashed: Path, tmp_path: Path, case: Case) -> None:
    """Whatever breaks: verify finds it, repair keeps every other row, and the run can be read and recorded on."""
    path = shutil.copytree(crashed, tmp_path / "run")
    case.break_it(path)
    run = find_run("run", tmp_path)
    found = verify_run(run)
    assert {fault.kind for fault in found.faults} == case.kinds, found.faults
    assert found.is_damaged == case.is_damage
    before = _tree(path)

    repaired = repair_run(run)
    assert not repaired.verification.is_damaged, repaired.verification.faults
    assert verify_run(run).faults == repaired.verification.faults
    after = _tree(path)
    touched = {name for name, data in before.items() if after.get(name) != data} - {f"{RANK}/LOCK"}
    for name in touched:  # it was not as it should be, and it is still there under another name, as far as it was not
        assert any(name in line.replace(f"{path}/", "") for line in repaired.done) or name.endswith(".tmp")
        kept = b"".join(data for other, data in after.items() if ".broken" in other)
        assert before[name] in kept or name.endswith((".arrows", ".tmp"))
    assert repair_run(run).done == []
    assert _tree(path) == after
    assert _updates(path) == case.left

    with Recorder.open(tmp_path, run_id="run", resume="must") as recorder:
        for i in (60, 61, 62):
            assert recorder.record(update=i, policy_loss=0.1, value_loss=0.2)
    assert _updates(path) == [*case.left, 60, 61, 62]
    again = verify_run(run)
    assert not again.is_damaged, again.faults
    report = open_run(path).report()
    assert not report.is_damaged
    assert [f for f in report.integrity.faults if f.kind == "repaired"] == [
        f for f in again.faults if f.kind == "repaired"
    ]
    with run.rank(0).open() as folder:
        known = KnownLosses(folder, 0).losses
    rows_lost = set(ALL) - set(case.left)
    if case.is_damage and rows_lost:
        assert known
        assert all(_seq_of(path, 60) > loss.last_seq for loss in known if loss.last_seq is not None)


def _seq_of(path: Path, update: int) -> int:
    return next(row["seq"] for row in _rows(path) if row["update"] == update)


def _updates(path: Path) -> list[int]:
    return [row["update"] for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, int]]:
    frame = open_run(path).updates(all_attempts=True).select("seq", "update", "value_loss").collect()
    assert frame["seq"].is_unique().all()
    assert frame["seq"].is_sorted()
    return frame.to_dicts()


def test_salvaged_rows_are_bit_for_bit_those_recorded(crashed: Path, tmp_path: Path) -> None:
    """Rows behind a damaged one keep their values, and what was cut off is kept beside them."""
    path = shutil.copytree(crashed, tmp_path / "run")
    rest = _active(path)
    _flip(rest, _in_row(path, 3))
    whole = rest.read_bytes()
    repair_run(RunDirectory(path))
    assert [row["value_loss"] for row in _rows(path)] == [i / 4 for i in _without(49)]
    assert whole.endswith((path / RANK / "active" / f"{rest.name}.broken").read_bytes())


def test_damaged_run_that_is_recorded_is_left_alone(crashed: Path, tmp_path: Path) -> None:
    """While a writer holds the lock nothing is repaired."""
    path = shutil.copytree(crashed, tmp_path / "run")
    _flip(_sealed(path, 1), 500)
    with (path / RANK / "LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _tree(path)
        with pytest.raises(RunLockedError):
            repair_run(RunDirectory(path))
        assert _tree(path) == before


@pytest.mark.parametrize("where", [f"{RANK}/active", f"{RANK}/LOCK", f"{RANK}/segments/00000001.parquet", "run.json"])
def test_repair_never_writes_through_a_link(crashed: Path, tmp_path: Path, where: str) -> None:
    """A run whose parts are links to elsewhere is refused, and nothing is changed there."""
    path = shutil.copytree(crashed, tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    (path / where).rename(elsewhere)
    (path / where).symlink_to(elsewhere)
    _flip(_sealed(path, 2), 500)
    before = {**_tree(tmp_path), "file": elsewhere.read_bytes() if elsewhere.is_file() else b""}
    with pytest.raises(UsageError, match="symbolic link"):
        repair_run(RunDirectory(path))
    assert {**_tree(tmp_path), "file": elsewhere.read_bytes() if elsewhere.is_file() else b""} == before


@pytest.mark.slow
def test_repair_cut_short_can_be_done_again(crashed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair that fails at any of its file steps leaves a run that the next one brings to the same rows."""
    from esper_recorder.keeping import durable

    class CutShortError(OSError):
        pass

    steps = 0
    left_to_do = 0

    def counted(name: str) -> Callable[..., None]:
        real = getattr(durable, name)

        def step(*arguments: object) -> None:
            nonlocal steps
            if steps == left_to_do:
                raise CutShortError
            steps += 1
            real(*arguments)

        return step

    for name in ("rename", "unlink", "write_new"):
        monkeypatch.setattr(durable, name, counted(name))
    for left_to_do in range(100):
        steps = 0
        path = shutil.copytree(crashed, tmp_path / str(left_to_do) / "run")
        _flip(_sealed(path, 1), 500)
        _flip(_active(path), _in_row(path, 3))
        _attempt(path, 0).unlink()
        _cut(path / "run.json", 10)
        try:
            repair_run(RunDirectory(path))
        except CutShortError:
            steps = -10_000
            repaired = repair_run(find_run(path, tmp_path))
            assert not repaired.verification.is_damaged, repaired.verification.faults
            assert _updates(path) == _without(*range(10, 20), 49)
            continue
        break
    assert 10 < left_to_do < 99


def test_header_keeps_every_key_that_can_be_read(tmp_path: Path) -> None:
    """A single value that no reader accepts costs the header that value, and not its configuration."""
    with Recorder.open(tmp_path, run_id="run", config={"lr": 0.1}, trainer="mine", device="cpu") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    before = json.loads((recorder.path / "run.json").read_text())
    _edit(recorder.path / "run.json", device=0, colour="blue")
    done = repair_run(find_run("run", tmp_path)).done
    assert done[-1] == f"{recorder.path}/run.json is rebuilt; the values of 'device' could not be read and are lost"
    assert json.loads((recorder.path / "run.json").read_text()) == {**before, "device": None}
    del before["run_uuid"]
    (recorder.path / "run.json").write_text(json.dumps(before))
    assert repair_run(find_run("run", tmp_path)).done[-1] == f"{recorder.path}/run.json is rebuilt; nothing is lost"
    assert RunDirectory(recorder.path).header().config == {"lr": 0.1}


def test_command_repairs_and_says_what_is_lost(crashed: Path, tmp_path: Path) -> None:
    """The command prints what it did and what is lost, exits 0, and finds nothing to do the second time."""
    path = shutil.copytree(crashed, tmp_path / "run")
    _flip(_sealed(path, 1), 500)
    first = CliRunner().invoke(main, ["repair", "run", "--root", str(tmp_path)])
    assert first.exit_code == 0, first.output
    assert "rows 10 to 19 lost" in first.output
    second = CliRunner().invoke(main, ["repair", str(path)])
    assert second.exit_code == 0
    assert second.output.startswith("nothing to repair\n")
