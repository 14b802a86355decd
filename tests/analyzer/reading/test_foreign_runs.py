"""Runs from somebody else: whatever is in them, a command reads on, says what is wrong, and shows no control."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.analyzer.garbled import garble

from esper_analyzer import open_run
from esper_analyzer.listing.listing import headers
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.reading.run_reader import RunReader
from esper_recorder import Recorder
from esper_schemas import RunDamagedError
from esper_schemas.cleaning import printable
from esper_schemas.run.files import Folder

Record = Callable[..., Path]
Command = Callable[..., "subprocess.CompletedProcess[str]"]

ROWS = [{"update": update} for update in range(30)]
HOSTILE = "\x1b[31m\x9b2J\n::error::x\r\u202e\u200b\u2028\ud800Größe"

COMMANDS = [
    ["report"],
    ["report", "--format", "json"],
    ["report", "--format", "html"],
    ["report", "--format", "markdown"],
    ["check"],
    ["check", "--format", "json"],
    ["check", "--format", "junit"],
    ["check", "--format", "github"],
    ["tail", "--once"],
    ["tail"],
    ["replay"],
]


def pipe(path: Path) -> None:
    """Put a named pipe in place of a file: whoever opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def link(path: Path, target: Path) -> None:
    """Put a link in place of a file."""
    path.unlink()
    path.symlink_to(target)


def large(path: Path) -> None:
    """Make a file of 60 GB that takes no room."""
    os.truncate(path, 60 << 30)


def bomb(path: Path) -> None:
    """Put a small Parquet file in place of a segment that unfolds into 160 MB, of as many bytes as its seal says."""
    zeros = np.zeros(20_000_000, dtype=np.int64)
    pq.write_table(pa.table({"update": zeros}), path, compression="zstd")
    seal = path.parents[1] / "seals" / path.with_suffix(".json").name
    seal.write_text(json.dumps({**json.loads(seal.read_text()), "bytes": path.stat().st_size}))


def sealed(path: Path, number: int = 1) -> Path:
    """A sealed file."""
    return path / "rank-0000" / "segments" / f"{number:08}.parquet"


def rename_extra(path: Path, number: int, name: str) -> None:
    """Call the metric `mine` otherwise, in the file and in its seal, as no recorder would."""
    table = pq.read_table(sealed(path, number), partitioning=None)
    renamed = table.rename_columns({"mine": name}).replace_schema_metadata(table.schema.metadata)
    pq.write_table(renamed, sealed(path, number))
    content = sealed(path, number).read_bytes()
    seal = path / "rank-0000" / "seals" / f"{number:08}.json"
    said = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "extras": [name]}
    seal.write_text(json.dumps({**json.loads(seal.read_text()), **said}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "pipe as header": lambda path: pipe(path / "run.json"),
    "pipe as sealed file": lambda path: pipe(sealed(path)),
    "pipe as seal": lambda path: pipe(path / "rank-0000" / "seals" / "00000001.json"),
    "pipe as attempt": lambda path: pipe(path / "rank-0000" / "attempts" / "0000.json"),
    "link as sealed file": lambda path: link(sealed(path), Path("/dev/zero")),
    "large sealed file": lambda path: large(sealed(path)),
    "large seal": lambda path: large(path / "rank-0000" / "seals" / "00000001.json"),
    "sealed file that unfolds": lambda path: bomb(sealed(path)),
    "sealed file of zeros": lambda path: sealed(path).write_bytes(bytes(sealed(path).stat().st_size)),
    "file as folder of seals": lambda path: (
        (path / "rank-0000" / "seals").rename(path / "seals"),
        (path / "rank-0000" / "seals").write_bytes(b""),
    ),
}


@pytest.mark.hostile
@pytest.mark.parametrize("name", DAMAGES)
def test_no_file_stops_a_command(command: Command, record: Record, tmp_path: Path, name: str) -> None:
    """A pipe, a link, a file of 60 GB or one that unfolds: each command ends, and says that the run is damaged."""
    bad, good = record(ROWS, "bad", segment_rows=10), record(ROWS, "good")
    DAMAGES[name](bad)
    for arguments in COMMANDS:
        done = command(*arguments, "--run", bad)
        assert done.returncode == 3, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    listed = command("runs", "--root", tmp_path / "runs", "--verify")
    assert listed.returncode == 3
    _, *lines = listed.stdout.splitlines()
    assert len(lines) == 2
    assert any("good" in line and "finished" in line and "damaged" not in line for line in lines)
    assert command("compare", bad, good, "--by", "updates", "--no-group").returncode == 3
    assert {run.name for run in headers([tmp_path / "runs"])} == {"bad", "good"}


@pytest.mark.hostile
@pytest.mark.parametrize("hostile", [pipe, large, lambda path: link(path, Path("/dev/zero"))])
def test_no_active_file_stops_a_command(
    command: Command, record: Record, tmp_path: Path, hostile: Callable[[Path], None]
) -> None:
    """The same of the file that is being written, in a run whose writer was killed."""
    path = record(ROWS, "bad", segment_rows=10)
    with Recorder.open(tmp_path / "live", run_id="bad", segment_rows=100) as recorder:
        for update in range(30):
            recorder.record(update=update, policy_loss=0.1, value_loss=0.2)
        content = (recorder.path / "rank-0000" / "active" / "00000000.arrows").read_bytes()
    active = path / "rank-0000" / "active" / "00000003.arrows"
    active.write_bytes(content)
    hostile(active)
    for arguments in COMMANDS:
        done = command(*arguments, "--run", path)
        assert done.returncode == 3, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_looked_into(
    command: Command, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's folder within a run is a fault with its address; the rest is shown, and no other run is hidden."""
    bad, good = record(ROWS, "bad", segment_rows=10), record(ROWS, "good")
    names = Folder.names

    def _names(folder: Folder, name: str = "") -> list[str]:
        if folder.path.parent == bad and name == "segments":
            raise PermissionError(13, "Permission denied", str(folder.path / name))
        return names(folder, name)

    monkeypatch.setattr(Folder, "names", _names)
    done = command("report", "--run", bad, "--format", "json")
    assert done.returncode == 3
    faults = json.loads(done.stdout)["integrity"]["faults"]
    assert any(fault["kind"] == "unreadable" and "segments: Permission denied" in fault["message"] for fault in faults)
    listed = command("runs", "--root", tmp_path / "runs").stdout
    assert len(listed.splitlines()) == 3
    assert command("compare", bad, good, "--by", "updates", "--no-group").returncode == 3


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.ComputeError("parquet: out of\nspecification"),
        pl.exceptions.PanicException("index out of bounds"),
        pa.ArrowInvalid("no page"),
        OSError(5, "Input/output error", "a-file"),
        RunDamagedError("bytes that cannot be"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_one_run_is_a_line(
    command: Command, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Whatever is raised while a run is read stands in its line, or is one line and the exit code of damage."""
    bad, good, third = (record(ROWS, name) for name in ("bad", "good", "third"))
    look = RunReader.look

    def _look(run: RunReader, *arguments: Any) -> Any:
        if run.path == bad:
            raise error
        return look(run, *arguments)

    monkeypatch.setattr(RunReader, "look", _look)
    listed = command("runs", "--root", tmp_path / "runs")
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0 if type(error) is OSError else 3, 4)
    compared = command("compare", bad, good, third, "--by", "updates", "--no-group", "--format", "json")
    document = json.loads(compared.stdout)
    assert compared.returncode == 3
    assert [run["label"] for run in document["runs"]] == ["good", "third"]
    assert list(document["set_aside"]) == [str(bad)]
    shown = command("compare", bad, good, third, "--by", "updates", "--no-group").stdout
    assert "cannot be read" in " ".join(shown.split())  # the path before it decides where the line is broken
    assert command("compare", bad, good, "--by", "updates").returncode == (2 if type(error) is OSError else 3)
    for arguments in (["report"], ["check"], ["tail", "--once"]):
        done = command(*arguments, "--run", bad)
        assert done.returncode == (2 if type(error) is OSError else 3)
        assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


def test_a_lock_that_cannot_be_read_is_unknown_and_no_damage(command: Command, record: Record, tmp_path: Path) -> None:
    """Whether a run without an end goes on cannot be told then; one that has an end has ended."""
    path = record(ROWS)
    lock, attempt = (path / "rank-0000" / name for name in ("LOCK", "attempts/0000.json"))
    link(lock, tmp_path / "nowhere")
    assert open_run(path).status() == "finished"
    attempt.write_text(json.dumps({**json.loads(attempt.read_text()), "status": None, "ended": None}))
    run = open_run(path)
    assert (run.status(), run.status(None), run.faults()) == ("unknown", "unknown", [])
    done = command("report", "--run", path, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["run"]["status"]) == (0, "unknown")
    assert "● unknown" in command("tail", "--once", "--run", path).stdout


def test_rows_of_another_recording_are_not_followed(record: Record, tmp_path: Path) -> None:
    """A segment of another recording that turns up while a run is followed is passed over, as in a report."""
    path = record(ROWS, segment_rows=10)
    feed = LiveFeed(open_run(path), 0)
    with Recorder.open(tmp_path / "other", run_id="run", segment_rows=100) as other:
        other.record(update=30, policy_loss=0.1, value_loss=0.2)
        content = (other.path / "rank-0000" / "active" / "00000000.arrows").read_bytes()
    (path / "rank-0000" / "active" / "00000003.arrows").write_bytes(content)
    assert not feed.look()
    assert feed.new_rows.is_empty()
    assert feed.finish().rows == 30
    feed.close()


@pytest.mark.parametrize("micros", [2**58, -(2**62)])
def test_times_that_no_calendar_knows(command: Command, record: Record, micros: int) -> None:
    """A recorded time that Python has no value for is none in a report, and stops no command."""
    path = record([{**row, "wall_time": np.datetime64(micros, "us")} for row in ROWS])
    for arguments in COMMANDS:
        assert command(*arguments, "--run", path).returncode == 0
    assert open_run(path).report().metrics["wall_time"].last is None
    assert open_run(path).updates().select(pl.col("wall_time").dt.epoch("us")).collect()["wall_time"][0] == micros


def test_rows_that_cannot_be_decoded_are_left_out(command: Command, record: Record) -> None:
    """Where a file is the one that was sealed and its rows are none, the rest is reported, checked and compared."""
    path, other = record(ROWS, "bad", segment_rows=10), record(ROWS, "good")
    content = garble(sealed(path))
    seal = path / "rank-0000" / "seals" / "00000001.json"
    said = {"sha256": hashlib.sha256(content).hexdigest()}
    seal.write_text(json.dumps({**json.loads(seal.read_text()), **said}))
    for form in ("json", "html", "text", "markdown"):
        done = command("report", "--run", path, "--format", form)
        assert done.returncode == 3
        assert done.stdout
    assert open_run(path).report().updates.rows == 20
    assert command("check", "--run", path).stdout.startswith("damaged: ")
    done = command("compare", path, other, "--by", "updates", "--no-group", "--format", "json")
    assert done.returncode == 3
    assert [run["updates"] for run in json.loads(done.stdout)["runs"]] == [20, 30]
    done = command("tail", "--once", "--run", path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)


# ---------------------------------------------------------------------- texts


def test_printable_keeps_what_people_write() -> None:
    """Letters of any language, combining marks and signs stay; what acts on a terminal, a log or a page is escaped."""
    kept = "Größe Ελλ 日本語 עברית e\u0301 − ½ × — … ∞ a: b #1 \\ 🙂"
    assert printable(kept) == kept
    assert printable("a\tb\nc\rd") == r"a\tb\nc\rd"
    assert printable("\x1b\x9b\x7f\x00") == r"\x1b\x9b\x7f\x00"
    assert printable("\u202e\u2066\u200b\ufeff\u2028\ud800\ue000\uffff") == (
        r"\u202e\u2066\u200b\ufeff\u2028\ud800\ue000\uffff"
    )
    assert printable("::error file=a::b ##[group]c") == r"\x3a:error file=a\x3a:b \x23#[group]c"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [*COMMANDS, ["runs"], ["compare"], ["explain"], ["explain", "--format", "json"], ["explain", "--rank", "0"]],
    ids=" ".join,
)
def test_no_text_of_a_run_acts(command: Command, record: Record, tmp_path: Path, arguments: list[str]) -> None:
    """Names, texts and messages with escapes, line breaks and marks of direction stay in their lines."""
    root = tmp_path / "runs"
    for name in ("bad", "second"):
        extras = [{"mine": 9.0 if row["update"] > 25 and name == "bad" else 1.0} for row in ROWS]
        path = record([{**row, "extras": one} for row, one in zip(ROWS, extras, strict=True)], name, segment_rows=10)
        for number in range(3):
            rename_extra(path, number, "my\x1b]0;x\x07\u202emetric")
        header = json.loads((path / "run.json").read_text())
        told = dict.fromkeys(("trainer", "env", "device", "host", "git_commit"), HOSTILE)
        config = {HOSTILE: HOSTILE, "seed": name, "lr": f"{name}{HOSTILE}"}
        (path / "run.json").write_text(json.dumps({**header, **told, "config": config}))
        (path / "rank-0000" / "segments" / "x\x1b[2J\u202e\n::error::y").write_bytes(b"")
    chosen = {"runs": ["--root", root], "compare": [root / "bad", root / "second", "--by", "updates"]}
    chosen["explain"] = [root / "second", root / "bad"] if "--rank" in arguments else [root / "bad", "--update", "29"]
    done = command(*arguments, *chosen.get(arguments[0], ["--run", root / "bad"]))
    assert done.returncode in (0, 3)
    for text in (done.stdout, done.stderr):
        acting = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co")}
        assert acting <= {"\n"}
        commands = [line for line in text.splitlines() if line.lstrip().startswith("::error::")]
        assert not commands
    if "json" in arguments:
        assert done.stdout.isascii()


def test_json_documents_are_ascii(command: Command, record: Record, tmp_path: Path) -> None:
    """Report, check and comparison escape what is not ASCII, also where the output could hold it."""
    one, other = (record(ROWS, name, env="Größe-v1") for name in ("one", "other"))
    for arguments in (["report", "--run", one], ["check", "--run", one], ["compare", one, other, "--by", "updates"]):
        text = command(*arguments, "--format", "json").stdout
        assert text.isascii()
    written = tmp_path / "report.json"
    command("report", "--run", one, "--format", "json", "-o", written)
    assert written.read_bytes().isascii()
    assert json.loads(written.read_text())["run"]["env"] == "Größe-v1"


# ---------------------------------------------------------------------- descriptors


@pytest.mark.parametrize(("limit", "code"), [("-S -n 64", 0), ("-n 64", 2)])
def test_many_sealed_segments_and_few_descriptors(record: Record, limit: str, code: int) -> None:
    """The limit on open files is raised as far as it may be; where that is not enough, the error names it."""
    path = record(ROWS, segment_rows=1)
    command = f'ulimit {limit}; exec "$0" -m esper_analyzer report --run "$1"'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert ("ulimit -n" in done.stderr) == bool(code)


def test_descriptors_are_given_back(record: Record) -> None:
    """Files are open as long as a frame lives, and no longer; a run that was reported on holds none."""
    run = open_run(record(ROWS, segment_rows=1))

    def count() -> int:  # of this run alone: what earlier tests left is closed at any moment
        return sum(Path(run.path).resolve() in link.resolve().parents for link in Path("/proc/self/fd").iterdir())

    assert count() == 0
    frame = run.updates()
    assert count() >= len(ROWS)
    for _ in range(3):
        assert frame.select("update").collect().height == len(ROWS)
    assert count() <= len(ROWS) + 2
    del frame
    run.report()
    assert count() == 0
