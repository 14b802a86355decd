"""The recorder as people use a process: folders that move, loops that are tight, objects that go out of scope."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.waiting import PATIENT, set_slow_write_secs, wait_until

from esper_recorder import PPOUpdatePayload, Recorder
from esper_recorder.writing import config_values
from esper_recorder.writing.journal import Journal
from esper_schemas import RunDirectory, RunLockedError, UsageError
from esper_schemas.examining.run import verify_run

ReadRows = Callable[..., list[dict[str, Any]]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def put(recorder: Recorder, update: int, **more: Any) -> bool:
    """Record one update."""
    return recorder.record(update=update, policy_loss=0.1, value_loss=0.2, **more)


def updates(read_rows: ReadRows, run: Path) -> list[int]:
    """The updates that were recorded into a run."""
    return [row["update"] for row in read_rows(run, columns=["update"])]


def faults(run: Path) -> list[str]:
    """Damage of a run, at the depth of every row."""
    return [fault.message for fault in verify_run(RunDirectory(run)).faults if fault.is_damage]


def last_attempt(run: Path) -> Any:
    """The record of the last attempt."""
    return RunDirectory(run).rank(0).attempts()[-1]


# ---------------------------------------------------------------------- the run is taken away


OPEN_AND_RECORD = """
import sys
from esper_recorder import Recorder
with Recorder.open(sys.argv[1], run_id="r", resume=sys.argv[2]) as recorder:
    for i in range(60):
        recorder.record(update=i, policy_loss=0.1, value_loss=0.9)
    print(recorder.dropped_rows)
"""


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_second_recording_under_the_same_name_loses_nothing(
    tmp_path: Path, read_rows: ReadRows, run_python: RunPython, how: str
) -> None:
    """The first writer touches nothing of it, and goes on where its own rows are: elsewhere, or where they moved to."""
    first = Recorder.open(tmp_path, run_id="r", segment_rows=15)
    assert all(put(first, i) for i in range(20))
    wait_until(lambda: (tmp_path / "r/rank-0000/segments/00000000.parquet").exists())
    if how == "removed":
        shutil.rmtree(tmp_path / "r")
    else:
        (tmp_path / "r").rename(tmp_path / "kept")
    done = run_python(OPEN_AND_RECORD, tmp_path, "never")
    assert done.stdout.strip() == "0", done.stderr
    for i in range(20, 40):
        put(first, i)
    first.close()
    assert updates(read_rows, tmp_path / "r") == list(range(60))
    assert faults(tmp_path / "r") == []
    own = tmp_path / "kept" if how == "renamed" else first.path
    assert own != tmp_path / "r"
    assert updates(read_rows, own) == list(range(0 if how == "renamed" else 15, 40))  # a sealed file that is deleted is
    assert how == "renamed" or own.name.startswith("r.taken-")
    assert [said for said in faults(own) if "expected" not in said or how == "removed"] == []
    assert last_attempt(own).status == "finished"


def test_a_lock_that_is_deleted_costs_no_row(
    tmp_path: Path, read_rows: ReadRows, run_python: RunPython, caplog: pytest.LogCaptureFixture
) -> None:
    """A second writer that gets in by that resumes the run; the first one says so once, and goes on beside it."""
    first = Recorder.open(tmp_path, run_id="r")
    assert all(put(first, i) for i in range(20))
    (tmp_path / "r/rank-0000/LOCK").unlink()
    done = run_python(OPEN_AND_RECORD, tmp_path, "allow")
    assert done.stdout.strip() == "0", done.stderr
    wait_until(lambda: first.path.name != "r")
    for i in range(20, 30):
        put(first, i)
    first.close()
    assert caplog.text.count("recording goes on in") == 1
    assert faults(tmp_path / "r") == []
    resumed = read_rows(tmp_path / "r", columns=["update", "value_loss"])
    assert [row["update"] for row in resumed if row["value_loss"] == 0.9] == list(range(60))
    assert updates(read_rows, first.path) == list(range(30))
    assert faults(first.path) == []


def test_a_run_may_be_taken_away_twice(tmp_path: Path, read_rows: ReadRows) -> None:
    """Each time recording goes on beside it with all rows that are still at hand."""
    recorder = Recorder.open(tmp_path, run_id="r")
    for turn in range(3):
        path = recorder.path
        assert all(put(recorder, 10 * turn + i) is not None for i in range(10))
        if turn < 2:
            shutil.rmtree(path)
            wait_until(partial(_has_left, recorder, path))
    recorder.close()
    assert updates(read_rows, recorder.path) == list(range(30))
    assert faults(recorder.path) == []


def _has_left(recorder: Recorder, path: Path) -> bool:
    return recorder.path != path or path.exists()


def test_changing_the_folder_changes_nothing(tmp_path: Path, read_rows: ReadRows, monkeypatch: Any) -> None:
    """A root that is relative is meant as it was when the recorder was opened."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with Recorder.open(run_id="c", segment_rows=50) as recorder:
        for i in range(200):
            if i == 100:
                monkeypatch.chdir(tmp_path / "there")
            assert put(recorder, i)
    assert updates(read_rows, tmp_path / "here/runs/c") == list(range(200))
    assert last_attempt(tmp_path / "here/runs/c").status == "finished"


# ---------------------------------------------------------------------- back-pressure


def test_a_tight_loop_drops_nothing(tmp_path: Path, read_rows: ReadRows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every write is taken to be slow, rows wait for the background, and it for none of them in vain."""
    set_slow_write_secs(monkeypatch, -1.0)
    with Recorder.open(tmp_path, run_id="r", buffer_rows=200) as recorder:
        for i in range(20_000):
            put(recorder, i)
        assert recorder.dropped_rows == 0
    assert updates(read_rows, recorder.path) == list(range(20_000))


def test_rows_that_wait_are_written_many_at_a_time(
    tmp_path: Path, read_rows: ReadRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog costs few writes, and afterwards the caller writes by itself again."""
    set_slow_write_secs(monkeypatch, -1.0, of_thread=False)
    sizes: list[int] = []
    write = os.write

    def _write(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert put(recorder, 0)  # and the background takes over
        with recorder._background.lock:  # it cannot begin before all wait
            recorder._background.direct = False
            for i in range(1, 500):
                assert not put(recorder, i)
            monkeypatch.setattr(os, "write", _write)
        wait_until(lambda: recorder._background.direct)
        rows = [size for size in sizes if size > 100]
        assert len(rows) <= 5
        monkeypatch.undo()
        wait_until(lambda: put(recorder, 500))
    assert updates(read_rows, recorder.path)[:500] == list(range(500))


@pytest.mark.slow
def test_metrics_that_are_always_new_lose_no_row(tmp_path: Path, read_rows: ReadRows) -> None:
    """Each begins a segment, which is a file to be sealed: no row waits behind that, and few files are open."""
    most = 0
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for i in range(150):
            put(recorder, i, extras={f"x{i}": float(i)})
            most = max(most, len(list(Path("/proc/self/fd").iterdir())))
        assert recorder.dropped_rows == 0
    assert most < 120
    assert updates(read_rows, recorder.path) == list(range(150))
    assert last_attempt(recorder.path).status == "finished"


@pytest.mark.slow
def test_sealing_that_takes_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_rows: ReadRows
) -> None:
    """On a busy machine it takes longer than patience lasts; it goes on all the same, and few files are open."""
    monkeypatch.setattr("esper_recorder.writing.backlog.PATIENCE_SECS", 1.0)
    for module in ("unplanned", "backlog"):
        monkeypatch.setattr(f"esper_recorder.writing.{module}.MAX_UNSEALED", 8)
    seal_oldest = Journal.seal_oldest

    def slowly(journal: Journal) -> bool:
        time.sleep(0.15)
        return seal_oldest(journal)

    monkeypatch.setattr(Journal, "seal_oldest", slowly)
    most = 0
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for i in range(30):
            put(recorder, i, extras={f"x{i}": float(i)})
            most = max(most, recorder._background.journal.unsealed)
    assert most < 16
    assert updates(read_rows, recorder.path) == list(range(30))


def test_close_waits_as_long_as_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However often a wait ends in vain: a disk that seals one segment in each of them answers."""
    turns = threading.Semaphore(0)
    seal_oldest = Journal.seal_oldest

    def in_turn(journal: Journal) -> bool:
        if journal.unsealed:
            turns.acquire()
        return seal_oldest(journal)

    class Finished(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            """Let one more segment be sealed, and give up."""
            done = background.backlog.done
            turns.release()
            wait_until(lambda: background.backlog.done > done or self.is_set())
            return self.is_set()

    monkeypatch.setattr(Journal, "seal_oldest", in_turn)
    recorder = Recorder.open(tmp_path, run_id="r")
    background = recorder._background
    background._finished = Finished()
    for i in range(20):
        put(recorder, i, extras={f"x{i}": float(i)})
    recorder.close()
    assert "does not answer" not in caplog.text
    assert background.is_finished
    assert last_attempt(recorder.path).status == "finished"


def test_a_disk_that_refuses_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are buffered at once, and beyond the buffer dropped and counted, as without any waiting."""
    with Recorder.open(tmp_path, run_id="r", buffer_rows=50) as recorder:
        assert put(recorder, 0)
        with monkeypatch.context() as broken:
            broken.setattr("esper_recorder.writing.backlog.PATIENCE_SECS", 1e9)  # waiting would never end
            broken.setattr(os, "write", _refuse)
            wait_until(lambda: not put(recorder, 1) and recorder._background._disk.is_failing)
            for i in range(200):
                put(recorder, i)
            assert recorder.dropped_rows > 0


def _refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


# ---------------------------------------------------------------------- life and death


def test_a_recorder_out_of_scope_is_sealed(tmp_path: Path, read_rows: ReadRows) -> None:
    """Nobody closes it: it is finished, with the reason, and another may open the run."""

    def work() -> None:
        recorder = Recorder.open(tmp_path, run_id="r")
        assert put(recorder, 0)

    work()
    wait_until(lambda: last_attempt(tmp_path / "r").status == "finished")
    assert "never closed" in last_attempt(tmp_path / "r").reason
    wait_until(lambda: not RunDirectory(tmp_path / "r").rank(0).has_writer())
    with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
        assert put(recorder, 1)
    assert updates(read_rows, tmp_path / "r") == [0, 1]


def test_a_run_that_this_process_has_open_says_how_to_go_on(tmp_path: Path) -> None:
    """A cell that is run again is told to close the recorder that it made before, and then works."""
    recorder = Recorder.open(tmp_path, run_id="r", resume="allow")
    with pytest.raises(RunLockedError, match=r"this process: close\(\)"):
        Recorder.open(tmp_path, run_id="r", resume="allow")
    recorder.close()
    with Recorder.open(tmp_path, run_id="r", resume="allow") as again:
        assert again.attempt == 1


SCRIPT = """
import sys
from esper_recorder import Recorder
recorder = Recorder.open(sys.argv[1], run_id="r")
recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        ("sys.exit(1)", "finished", "its exit code is not known"),
        ("sys.exit('no')", "finished", "its exit code is not known"),
        ("", "finished", "its exit code is not known"),
        ("1 / 0", "failed", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
        ("sys.excepthook = lambda *_: None\n1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("sys.excepthook = lambda *_: None\nraise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    sys.last_value = error", "finished", "not known"),
    ],
)
def test_what_ended_a_script_is_told_by_evidence_alone(
    tmp_path: Path, run_python: RunPython, end: str, status: str, reason: str
) -> None:
    """An exception that nobody caught is told whatever hook is set; an exit code is told to nobody; an old error is
    none."""
    run_python(SCRIPT + end, tmp_path)
    attempt = last_attempt(tmp_path / "r")
    assert attempt.status == status
    assert reason in attempt.reason


def test_an_error_typed_into_a_session_fails_no_run(tmp_path: Path) -> None:
    """In an interactive session the next line goes on after an exception."""
    lines = f"import sys\nsys.argv.append({str(tmp_path)!r})\nno_such_name\n{SCRIPT}no_such_name\n"
    subprocess.run([sys.executable, "-i", "-q"], input=lines, text=True, capture_output=True, check=False)
    assert last_attempt(tmp_path / "r").status == "finished"


CHILDREN = (
    PATIENT
    + """
import multiprocessing, os, sys, time
from esper_recorder import Recorder

def child(root, rank):
    recorder = Recorder.open(root, run_id="ranks", rank=rank, world_size=2)
    recorder.record(update=0, policy_loss=0.1, value_loss=0.2)

if __name__ == "__main__":
    recorder = Recorder.open(sys.argv[1], run_id="r")
    recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    pid = os.fork()
    if pid == 0:
        assert not recorder.record(update=9, policy_loss=0.1, value_loss=0.2)
        time.sleep(600)
        os._exit(0)
    for method, rank in (("fork", 0), ("spawn", 1)):
        process = multiprocessing.get_context(method).Process(target=child, args=(sys.argv[1], rank))
        process.start()
        process.join()
        assert process.exitcode == 0
    print(pid, flush=True)
    os.kill(os.getpid(), 9)
"""
)


def test_a_child_holds_no_lock_and_ends_its_own_runs(tmp_path: Path, read_rows: ReadRows) -> None:
    """A worker that outlives its killed parent keeps nobody out; what children of multiprocessing record is sealed."""
    script = tmp_path / "script.py"
    script.write_text(CHILDREN)
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:  # a pipe ends with the worker only
        done = subprocess.run([sys.executable, str(script), str(tmp_path)], stdout=out, stderr=err, check=False)
    assert done.returncode == -9, (tmp_path / "err").read_text()
    pid = int((tmp_path / "out").read_text())
    try:
        with Recorder.open(tmp_path, run_id="r", resume="must") as recorder:
            assert put(recorder, 1)
    finally:
        os.kill(pid, 9)
    assert updates(read_rows, tmp_path / "r") == [0, 1]
    for rank in (0, 1):
        attempt = RunDirectory(tmp_path / "ranks").rank(rank).attempts()[-1]
        assert (attempt.status, attempt.rows) == ("finished", 1)


ENDED_CHILDREN = (
    PATIENT
    + """
import multiprocessing, sys
from esper_recorder import Recorder

def child(root, name, how):
    recorder = Recorder.open(root, run_id=name)
    recorder.record(update=0, policy_loss=0.1, value_loss=0.2)
    if how == "raise":
        raise ValueError("child died")
    if how == "exit":
        sys.exit(3)
    if how == "wrapped":
        try:
            raise ValueError("child died")
        except ValueError:
            sys.exit(1)
    globals()["kept"] = recorder

if __name__ == "__main__":
    try:
        raise KeyError("handled in the parent")
    except KeyError:
        for method in ("fork", "spawn"):
            for how in ("raise", "exit", "wrapped", "return"):
                names = (sys.argv[1], f"{method}-{how}", how)
                process = multiprocessing.get_context(method).Process(target=child, args=names)
                process.start()
                process.join()
"""
)


def test_an_exception_that_ends_a_child_fails_its_run(tmp_path: Path) -> None:
    """A child of multiprocessing says what ended it, however it was started; what its parent handled is not that."""
    script = tmp_path / "script.py"
    script.write_text(ENDED_CHILDREN)
    subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, check=True)
    for method in ("fork", "spawn"):
        found = {how: last_attempt(tmp_path / f"{method}-{how}") for how in ("raise", "exit", "wrapped", "return")}
        assert {how: (attempt.status, attempt.reason) for how, attempt in found.items()} == {
            "raise": ("failed", "ValueError: child died"),
            "exit": ("failed", "SystemExit: 3"),
            "wrapped": ("failed", "SystemExit: 1, after ValueError: child died"),
            "return": ("finished", "the process ended without close(); its exit code is not known"),
        }


def test_a_run_that_its_trainer_would_have_closed_has_failed_if_nobody_does(tmp_path: Path) -> None:
    """What `expect_close` says stands in a run that was collected open, and in none that was closed."""
    for name in ("left", "closed"):
        recorder = Recorder.open(tmp_path, run_id=name)
        recorder.expect_close("learn() did not return")
        if name == "closed":
            recorder.close()
        del recorder
    wait_until(lambda: last_attempt(tmp_path / "left").status is not None)
    ends = [(last_attempt(tmp_path / name).status, last_attempt(tmp_path / name).reason) for name in ("left", "closed")]
    assert ends == [("failed", "learn() did not return"), ("finished", None)]


def test_several_recorders_of_one_process_do_not_meddle(tmp_path: Path, read_rows: ReadRows) -> None:
    """Each has its own run, and closing one closes no other."""
    recorders = [Recorder.open(tmp_path, run_id=f"r{number}") for number in range(5)]
    for i in range(50):
        for recorder in recorders:
            assert put(recorder, i)
        if i == 25:
            recorders.pop().close()
    for recorder in recorders:
        recorder.close()
    assert [len(updates(read_rows, tmp_path / f"r{number}")) for number in range(5)] == [50, 50, 50, 50, 26]


# ---------------------------------------------------------------------- never raises


class _Mapping(Mapping[str, float]):
    """A mapping that fails somewhere."""

    def __init__(self, fails: str) -> None:
        self._fails = fails

    def _meet(self, place: str) -> None:
        if place == self._fails:
            raise KeyError(place)

    def __getitem__(self, key: str) -> float:
        self._meet("getitem")
        return 1.0

    def __iter__(self) -> Iterator[str]:
        self._meet("iter")
        return iter(["mine"])

    def __len__(self) -> int:
        self._meet("len")
        return 1


class _Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise TypeError("of a handler")


@pytest.mark.parametrize("fails", ["getitem", "iter"])
def test_a_mapping_that_raises_costs_its_row_only(tmp_path: Path, read_rows: ReadRows, fails: str) -> None:
    """What somebody else's object raises is the reason why a row was dropped, and goes no further."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert not put(recorder, 0, extras=_Mapping(fails))
        assert put(recorder, 1, extras=_Mapping("nowhere"))
    attempt = last_attempt(recorder.path)
    assert attempt.dropped_rows == 1
    assert "KeyError" in attempt.last_drop_reason
    assert updates(read_rows, recorder.path) == [1]


def test_a_dictionary_that_another_thread_fills_is_taken_as_it_is(tmp_path: Path, read_rows: ReadRows) -> None:
    """Recording it never meets a change in the middle, between whichever instructions the other thread has its turn."""
    extras = dict.fromkeys(("x0", "x1", "x2"), 1.0)
    turns = 0

    def take_turn(frame: types.FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal turns
        if not frame.f_globals.get("__name__", "").startswith("esper_recorder."):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            turns += 1
            if extras.pop("x3", None) is None:
                extras["x3"] = 1.0
        return take_turn

    before = sys.gettrace()
    with Recorder.open(tmp_path, run_id="r") as recorder:
        sys.settrace(take_turn)
        try:
            for i in range(20):
                put(recorder, i, extras=extras)
        finally:
            sys.settrace(before)
        assert recorder.dropped_rows == 0
    assert turns > 1000
    assert updates(read_rows, recorder.path) == list(range(20))


def test_a_log_that_raises_and_a_stub_of_torch_stop_nothing(
    tmp_path: Path, read_rows: ReadRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a logging handler nor whatever stands under the name of torch raises into the training loop."""
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    handler = _Raising()
    logging.getLogger("esper_recorder").addHandler(handler)
    try:
        with Recorder.open(tmp_path, run_id="r") as recorder:
            assert not recorder.record(update=0)
            assert put(recorder, 1, entropy=np.float32(0.5))
            assert put(recorder, 2, entrpy=0.5)  # of which a warning is logged
    finally:
        logging.getLogger("esper_recorder").removeHandler(handler)
    assert updates(read_rows, recorder.path) == [1, 2]


# ---------------------------------------------------------------------- configuration, names, copies


def test_a_configuration_is_the_same_for_the_same_hyper_parameters(tmp_path: Path) -> None:
    """Numbers are numbers whatever type they have, and no text holds an address or depends on the order of a set."""
    import torch

    class Schedule:
        pass

    given: dict[Any, Any] = {
        "lr": np.float32(0.5), "n": np.int64(3), "on": np.bool_(True), "c": torch.tensor(1.5), "layers": (64, 64),
        "names": {"b", "a", "c"}, "f": lambda x: x, "activation": torch.nn.Tanh, "schedule": Schedule(),
        "inner": types.MappingProxyType({"k": np.arange(2)}), "path": Path("a/b"), "bad": float("nan"), 1: None,
    }  # fmt: skip
    with Recorder.open(tmp_path, run_id="r", config=given) as recorder:
        config = RunDirectory(recorder.path).header().config
    assert config["lr"] == 0.5
    assert config["n"] == 3
    assert config["on"] is True
    assert config["c"] == 1.5
    assert config["layers"] == [64, 64]
    assert config["names"] == ["a", "b", "c"]
    assert config["inner"] == {"k": [0, 1]}
    assert config["activation"].endswith("Tanh")
    assert config["bad"] == "NaN"
    assert config["1"] is None
    assert "0x" not in json.dumps(config)


def test_a_configuration_that_unfolds_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused once the limit is reached, here after a hundredth of its values, and nothing is created."""
    monkeypatch.setattr(config_values, "_MAX_VALUES", 10_000)
    value: tuple[object, ...] = ()
    for _ in range(60):
        value = (value, value)
    with pytest.raises(UsageError, match="at most 10,000 values"):
        Recorder.open(tmp_path / "runs", config={"x": value})
    assert not (tmp_path / "runs").exists()


def test_a_recorder_is_not_copied(tmp_path: Path) -> None:
    """Two would give two rows one number."""
    with Recorder.open(tmp_path, run_id="r") as recorder:
        for make in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="a Recorder cannot be"):
                make(recorder)


def test_a_thread_that_cannot_start_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised at open, and the run may be opened again."""
    with monkeypatch.context() as full:
        full.setattr("threading.Thread.start", _cannot_start)
        with pytest.raises(RuntimeError):
            Recorder.open(tmp_path, run_id="r")
    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert put(recorder, 0)


def _cannot_start(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_an_empty_variable_of_a_launcher_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RANK="" is as good as not set."""
    monkeypatch.setenv("RANK", "")
    with Recorder.open(tmp_path, run_id="r") as recorder:
        assert recorder.rank == 0


def test_another_world_size_at_resume_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The header keeps the first one, and the log says so."""
    Recorder.open(tmp_path, run_id="r", world_size=2, rank=0).close()
    Recorder.open(tmp_path, run_id="r", world_size=4, rank=0, resume="must").close()
    assert "world_size" in caplog.text


def test_a_folder_without_a_run_of_ours_is_joined(tmp_path: Path, read_rows: ReadRows) -> None:
    """TensorBoard may have made it an instant before."""
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "events.out.tfevents.1").write_bytes(b"x")
    with Recorder.open(tmp_path, run_id="name") as recorder:
        assert put(recorder, 0)
    assert updates(read_rows, tmp_path / "name") == [0]
    assert faults(tmp_path / "name") == []


def test_an_attempt_that_recorded_nothing_does_not_block_its_name(tmp_path: Path, read_rows: ReadRows) -> None:
    """A snippet that fails, corrected and run again, works; the header is that of the second one."""
    with pytest.raises(NameError), Recorder.open(tmp_path, run_id="mine", config={"lr": 1}):
        raise NameError("policy_loss")
    with Recorder.open(tmp_path, run_id="mine", config={"lr": 2}) as recorder:
        assert put(recorder, 0)
    assert RunDirectory(tmp_path / "mine").header().config == {"lr": 2}
    assert updates(read_rows, tmp_path / "mine") == [0]
    assert faults(tmp_path / "mine") == []


@pytest.mark.parametrize("kind", ["numpy", "extras", "payload", "payload and extras", "arrays", "tensors", "mixed"])
def test_every_kind_of_row_goes_the_same_way(tmp_path: Path, read_rows: ReadRows, kind: str) -> None:
    """From the second row on each is encoded as planned, and is bit for bit what was given."""
    import torch

    makes: dict[str, Callable[[float], Any]] = {"numpy": np.float32, "arrays": np.array, "tensors": torch.tensor}
    make = makes.get(kind, float)
    names = ["entropy", "kl_divergence", "clip_fraction"]
    with Recorder.open(tmp_path, run_id="r", strict=True) as recorder:
        for i in range(5):
            values = {"policy_loss": make(i + 0.5), "value_loss": make(i + 0.25), **{n: make(float(i)) for n in names}}
            extras = {"mine": make(i + 0.125)}
            if kind == "mixed":
                values |= {"entropy": np.float64(i), "kl_divergence": i, "clip_fraction": torch.tensor(float(i))}
            planned = _planned(recorder)
            if kind.startswith("payload"):
                payload = PPOUpdatePayload(update=i, **values, extras=None if "and" in kind else extras)
                recorder.record(payload, extras=extras if "and" in kind else None)
            elif kind == "extras":
                recorder.record(update=i, policy_loss=values.pop("policy_loss"), extras={**values, **extras})
            else:
                recorder.record(update=i, **values, extras=extras)
            assert i < 2 or _planned(recorder) == planned  # nothing had to be learned
    expected = [
        {
            "update": i,
            "policy_loss": i + 0.5,
            "value_loss": i + 0.25,
            "mine": i + 0.125,
            **dict.fromkeys(names, float(i)),
        }
        for i in range(5)
    ]
    assert read_rows(recorder.path, columns=list(expected[0])) == expected


def _planned(recorder: Recorder) -> int:
    writer = recorder._background.journal.writer
    return 0 if writer is None else len(writer.plans)
