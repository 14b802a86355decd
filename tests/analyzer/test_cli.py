from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.waiting import HANG_SECS

from esper_analyzer.cli import main
from esper_recorder import Recorder

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def analyze(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `esper-analyze` with its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "esper_analyzer", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=HANG_SECS,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "--run", "absent"], "no run absent under"),
        (["tail", "--run", "absent", "--once"], "no run absent under"),
        (["replay", "--run", "absent"], "no run absent under"),
        (["report", "--run", "."], ". is not an Esper run"),
        (["report", "--root", "nowhere"], "no run under nowhere"),
        (["runs", "--root", "nowhere"], "nowhere is not a folder of runs"),
        (["runs", "--root", "empty"], "there are no runs in empty"),
        (["report", "--format", "pdf"], "'pdf' is not one of"),
        (["report", "--run", "good", "--rank", "7"], "has no rank 7"),
        (["report", "--run", "good", "--rank", "first"], "--rank must be a number or `all`"),
        (["tail", "--run", "good", "--rank", "all"], "--rank must be the number of one rank"),
        (["tail", "--interval", "0"], "0.0 is not in the range"),
        (["replay", "--speed", "fast"], "'fast' is not a valid float"),
        (["report", "--run", "good", "-o", "nowhere/report.txt"], "No such file or directory"),
        (["check", "--run", "absent"], "no run absent under"),
        (["check", "--run", "good", "--gate", "value_los"], "did you mean 'value_loss'?"),
        (["check", "--run", "good", "--format", "xml"], "'xml' is not one of"),
        (["report", "--run", "good", "--thresholds", "absent.toml"], "absent.toml cannot be read: No such file"),
        (["runs", "--thresholds", "wrong.toml"], "did you mean 'value_loss'?"),
        (["tail", "--run", "good", "--once", "--on-alert", "true"], "leave --once out"),
        (["dance"], "No such command 'dance'"),
        (["report", "--run", "bad\x1b[31m"], "no run bad\\x1b[31m"),
    ],
)
def test_wrong_input_is_one_clear_line(
    record: Callable[..., Path], command: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Exit code 2, what was expected and found on standard error, nothing on standard output, no traceback."""
    record([{"update": 0}], "good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.toml").write_text("[thresholds.value_los]")
    if "--root" not in arguments:
        arguments += ["--root", str(tmp_path / "runs")] if arguments[0] != "dance" else []
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("header", ["", "{", "[]", '{"format": 99, "run_uuid": "", "run_id": "", "created": ""}'])
def test_a_header_that_cannot_be_read(
    record: Callable[..., Path], command: Command, tmp_path: Path, header: str
) -> None:
    """A damaged header exits 3, one of a newer format 2, both with one line; the list of runs goes on."""
    path = record([{"update": 0}])
    (path / "run.json").write_text(header)
    done = command("report", "--run", str(path))
    assert done.returncode == (2 if "99" in header else 3)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    listed = command("runs", "--root", str(tmp_path / "runs"))
    assert listed.returncode == (0 if "99" in header else 3)
    assert "run.json" in listed.stdout or "newer" in listed.stdout


def test_a_report_goes_to_stdout_and_talk_to_stderr(
    record: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    """The latest run is taken and named; JSON is JSON; a file takes the place of standard output."""
    record([{"update": update} for update in range(12)])
    root = ["--root", str(tmp_path / "runs")]
    done = analyze("report", *root, "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["updates"]["rows"] == 12
    assert done.stderr == f"latest run: {tmp_path / 'runs' / 'run'}\n"
    text = command("report", *root, "--run", "run")
    assert "\x1b" not in text.stdout
    assert text.stderr == ""
    assert max(map(len, text.stdout.splitlines())) <= 80
    written = command("report", *root, "-o", str(tmp_path / "report.txt"))
    assert written.stdout == ""
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == text.stdout


def test_an_output_that_knows_ascii_only(record: Callable[..., Path], command: Command, tmp_path: Path) -> None:
    """Report, screen and lines are readable in plain ASCII; in a process of its own, too."""
    record([{"update": update, "value_loss": 3.0} for update in range(12)], env="Größe-v1")
    root = ("--root", str(tmp_path / "runs"))
    for arguments in (["report"], ["report", "--format", "json"], ["tail", "--once"], ["tail"], ["runs"]):
        done = command(*arguments, *root, encoding="ascii")
        assert done.returncode == 0, done.stderr
        assert done.stdout
    apart = analyze("report", *root, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert apart.stdout == command("report", *root, encoding="ascii").stdout


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_one_frame_in_a_pipe(record: Callable[..., Path], tmp_path: Path, size: tuple[int, int]) -> None:
    """`tail --once` prints exactly one frame of COLUMNS × LINES, else 80 × 24, with no escape codes."""
    record([{"update": update, "value_loss": 9.0 / (update + 1)} for update in range(30)])
    columns, lines = size
    environment = {"COLUMNS": str(columns), "LINES": str(lines)} if size != (80, 24) else {"COLUMNS": "", "LINES": ""}
    done = analyze("tail", "--once", "--root", str(tmp_path / "runs"), **environment)
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert len(shown) == lines
    assert columns - 20 < max(map(len, shown)) <= columns
    assert "\x1b" not in done.stdout
    assert "● finished" in shown[0]


@pytest.mark.parametrize("flipped", [False, True])
def test_damage_prints_what_is_readable_and_exits_3(
    record: Callable[..., Path], command: Command, tmp_path: Path, flipped: bool
) -> None:
    """Report, tail, replay and list show the rest of a run of which a segment was cut short, or has other bytes."""
    path = record([{"update": update} for update in range(30)], segment_rows=10)
    segment = path / "rank-0000" / "segments" / "00000000.parquet"
    content = segment.read_bytes()
    flipped_content = content[:4] + bytes(byte ^ 0xFF for byte in content[4:400]) + content[400:]
    segment.write_bytes(flipped_content if flipped else content[:-50])
    root = ["--root", str(tmp_path / "runs")]
    report = command("report", *root)
    assert report.returncode == 3
    assert "20 updates, 10 to 29" in report.stdout
    assert "rank 0, segment 0" in report.stdout
    assert command("tail", "--once", *root).returncode == 3
    tail, replay = command("tail", *root), command("replay", *root)
    assert tail.returncode == 3
    assert tail.stdout == replay.stdout
    assert len(tail.stdout.splitlines()) == 20
    assert "damaged" in command("runs", *root).stdout


def test_a_reader_that_goes_away_is_no_error(record: Callable[..., Path], tmp_path: Path) -> None:
    """A closed pipe ends the command quietly."""
    record([{"update": update} for update in range(3000)])
    command = [sys.executable, "-m", "esper_analyzer", "tail", "--root", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    talk = process.stderr.read()
    process.stderr.close()
    assert process.wait(HANG_SECS) == 0
    assert "Traceback" not in talk
    assert "Broken" not in talk


def test_a_reader_that_goes_away_ends_a_tail_that_waits(tmp_path: Path) -> None:
    """With `| head`, the tail of a run that records nothing more for hours ends all the same."""
    command = [sys.executable, "-m", "esper_analyzer", "tail", "--root", str(tmp_path / "runs")]
    with Recorder.open(tmp_path / "runs", run_id="r") as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.5)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("update 0")
        process.stdout.close()
        assert process.wait(HANG_SECS) == 0


def test_ctrl_c_off_a_terminal_exits_130(writer: Callable[..., object], tmp_path: Path) -> None:
    """Interrupting a tail that waits is no traceback."""
    writer()
    command = [sys.executable, "-m", "esper_analyzer", "tail", "--root", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "waiting for the first update" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=HANG_SECS)
    assert process.returncode == 130
    assert "Traceback" not in talk


def test_tail_can_wait_for_a_run(record: Callable[..., Path], tmp_path: Path) -> None:
    """With --wait a tail may be started before its run."""
    command = [
        sys.executable,
        "-m",
        "esper_analyzer",
        "tail",
        "--wait",
        "--run",
        "later",
        "--root",
        str(tmp_path / "runs"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for run later")
    record([{"update": 5}], "later")
    out, _ = process.communicate(timeout=HANG_SECS)
    assert out.startswith("update 5 ")
    assert process.returncode == 0


def test_every_command_says_in_one_sentence_what_it_does_and_shows_an_example() -> None:
    """Help is a sentence and an example, and the README tells of every command."""
    readme = (Path(__file__).parents[2] / "analyzer" / "README.md").read_text(encoding="utf-8")
    for name, command in main.commands.items():
        assert command.help is not None
        assert f"Example: esper-analyze {name}" in command.help
        assert f"esper-analyze {name}" in readme
    assert "esper-analyze runs --verify" in readme
    assert "--verify" in {option for parameter in main.commands["runs"].params for option in parameter.opts}
