"""Both commands end alike: one table of failures, held against `esper-rec` and `esper-analyze`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from tests.forked import TRAINING, run_code
from tests.hostile.server import NOBODY
from tests.waiting import HANG_SECS

from esper_analyzer.cli import main as esper_analyze
from esper_recorder import Recorder
from esper_recorder.cli import main as esper_rec
from esper_schemas.console import Group, can_redraw
from esper_schemas.exit_codes import ExitCode

pytestmark = pytest.mark.hostile

PROJECT = Path(__file__).parent.parent
GROUPS: Mapping[str, Group] = {"esper-rec": esper_rec, "esper-analyze": esper_analyze}
MODULES = {"esper-rec": "esper_recorder", "esper-analyze": "esper_analyzer"}

ENVIRONMENT = {name: text for name, text in os.environ.items() if name not in ("PYTHONUNBUFFERED", "NO_COLOR")}
"""Commands write as they do for people: what stands in a buffer at the end counts, too."""

OF_A_RUN = {
    "esper-rec verify": "esper-rec verify {run}",
    "esper-rec repair": "esper-rec repair {run}",
    "esper-rec train": "esper-rec train --resume --run-id {run} --updates 9",
    "esper-analyze report": "esper-analyze report --run {run}",
    "esper-analyze check": "esper-analyze check --run {run}",
    "esper-analyze tail": "esper-analyze tail --once --run {run}",
    "esper-analyze replay": "esper-analyze replay --run {run}",
    "esper-analyze compare": "esper-analyze compare --by updates good {run}",
    "esper-analyze runs": "esper-analyze runs",
}
"""Every command that takes runs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def command(words: str) -> list[str]:
    """The words of a process that runs a command as its entry point does."""
    name, *arguments = words.split()
    return [sys.executable, "-m", MODULES[name], *arguments]


def run(words: str, cwd: Path, **streams: int) -> Ended:
    """Run a command to its end in a process of its own."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT, **streams}
    done = subprocess.run(command(words), cwd=cwd, text=True, timeout=HANG_SECS, check=False, **given)  # type: ignore[call-overload]
    return Ended(done.returncode, done.stdout or "", done.stderr or "")


def run_here(words: str, cwd: Path) -> Ended:
    """The same in this process."""
    name, *arguments = words.split()
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(GROUPS[name], arguments)
    return Ended(done.exit_code, done.stdout, done.stderr)


SEVERAL = """
import contextlib, io, json, os, sys
from esper_analyzer.cli import main as esper_analyze
from esper_recorder.cli import main as esper_rec

GROUPS = {"esper-rec": esper_rec, "esper-analyze": esper_analyze}

def perform(folder, words):
    name, *arguments = words.split()
    out, err, code = io.StringIO(), io.StringIO(), None
    os.chdir(folder)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            GROUPS[name](arguments)
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()

job = json.loads(sys.argv[1])
if job["user"] is not None:
    for call in job["rehearsal"]:
        perform(*call)  # imports what another user may not read
    os.setgroups([])
    os.setgid(job["user"])
    os.setuid(job["user"])
print(json.dumps([perform(*call) for call in job["calls"]]))
"""

Calls = list[tuple[str, str]]
"""Folders, and what is called in them."""


def run_as_stranger(calls: Calls, rehearsal: Calls) -> list[Ended]:
    """Make calls one after the other in a process that becomes another user if it may: root can read everything."""
    job = {"calls": calls, "rehearsal": rehearsal, "user": NOBODY if os.getuid() == 0 else None}
    done = run_code(SEVERAL, json.dumps(job), imports=TRAINING)
    assert done.returncode == 0, done.stderr
    return [Ended(*ended) for ended in json.loads(done.stdout)]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may look into, to work in, with two sound runs in `runs`."""
    folder = Path(tempfile.mkdtemp(prefix="esper-console-"))  # pytest's own folders are closed to others
    folder.chmod(0o755)
    for name in ("good", "bad"):
        with Recorder.open(folder / "runs", run_id=name, segment_rows=10) as recorder:
            for update in range(30):
                recorder.record(update=update, policy_loss=0.5, value_loss=1.0)
    yield folder
    for path in folder.rglob("bad"):
        path.chmod(0o755)  # so that it can be removed, not only by root
    shutil.rmtree(folder)


# ------------------------------------------------------------------ runs


def remove(run: Path) -> None:
    """Take the run away."""
    shutil.rmtree(run)


def break_header(run: Path) -> None:
    """Make `run.json` no JSON."""
    (run / "run.json").write_text("{")


def raise_format(run: Path) -> None:
    """Make the run one of a newer Esper."""
    header = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**header, "format": 99}))


def cut_segment(run: Path) -> None:
    """Cut the end off a sealed file."""
    segment = run / "rank-0000" / "segments" / "00000000.parquet"
    segment.write_bytes(segment.read_bytes()[:-50])


def close_folder(run: Path) -> None:
    """Make the folder one that nobody may open."""
    run.chmod(0)


LIST = "esper-analyze runs"


@dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with a run, how each command on it ends, and what it says.

    Attributes:
        do: makes the run wrong.
        code: exit code of every command but `others`.
        said: a pattern; what every command says in its one line.
        others: commands that end otherwise.
        show_the_rest: commands with that exit code that still have something to show, and so say it elsewhere.
    """

    do: Callable[[Path], None]
    code: ExitCode
    said: str
    others: Mapping[str, ExitCode]
    show_the_rest: tuple[str, ...] = ()


FAILURES = {
    "missing run": Failure(
        remove, ExitCode.USAGE, r"no run bad under runs|runs/bad is not an Esper run", {LIST: ExitCode.FINE}
    ),
    "broken run.json": Failure(
        break_header,
        ExitCode.DAMAGED,
        r"run\.json: expected a JSON object, found none",
        {"esper-rec repair": ExitCode.FINE},  # it makes a new one from the segments
        ("esper-rec verify", LIST),
    ),
    "newer format": Failure(
        raise_format, ExitCode.USAGE, r"run\.json has format 99, newer than the 1", {LIST: ExitCode.FINE}
    ),
    "damaged segment": Failure(
        cut_segment,
        ExitCode.DAMAGED,
        "",
        {"esper-rec repair": ExitCode.FINE, "esper-rec train": ExitCode.USAGE},  # there is no checkpoint to resume from
        tuple(OF_A_RUN),
    ),
    "unreadable folder": Failure(
        close_folder,
        ExitCode.USAGE,
        r"runs/bad: cannot open the folder \(Permission denied\)",
        {LIST: ExitCode.FINE},
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_of_a_run_ends_every_command_alike(place: Path, name: str) -> None:
    """The same failure has the same exit code and the same words in every command of both programs."""
    failure, folders = FAILURES[name], {target: place / target.replace(" ", "-") for target in OF_A_RUN}
    for folder in folders.values():  # repair changes a run: each command gets its own
        shutil.copytree(place / "runs", folder / "runs")
        failure.do(folder / "runs" / "bad")
    for path in place.rglob("*"):
        if os.getuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    calls = [(str(folders[target]), words.format(run="bad")) for target, words in OF_A_RUN.items()]
    rehearsal = [(str(place), words.format(run=run)) for words in OF_A_RUN.values() for run in ("good", "absent")]
    wrong, words = [], set()
    for target, ended in zip(OF_A_RUN, run_as_stranger(calls, rehearsal), strict=True):
        if ended.code != failure.others.get(target, failure.code):
            wrong.append(f"{target}: {ended}")
        elif target not in failure.others and target not in failure.show_the_rest:
            is_one_line = ended.out == "" and ended.err.count("\n") == 1
            found = re.search(failure.said, ended.err)
            if found is None or not is_one_line or not ended.err.startswith(f"{target.split()[0]}: "):
                wrong.append(f"{target}: {ended}")
            else:
                words.add(found[0])
    assert not wrong, "\n".join(wrong)
    assert len(words) <= 1 + failure.said.count("|")


# ------------------------------------------------------------------ usage


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("esper-rec verify good --loud", "No such option '--loud'"),
        ("esper-analyze report --loud", "No such option '--loud'"),
        ("esper-rec dance", "No such command 'dance'"),
        ("esper-analyze dance", "No such command 'dance'"),
        ("esper-rec verify", "Missing argument 'RUN'"),
        ("esper-rec import", "Missing argument 'PATH...'"),
        ("esper-rec verify --root", "Option '--root' requires an argument"),
        ("esper-analyze report --root", "Option '--root' requires an argument"),
        ("esper-analyze compare", "compare needs at least two runs, found 0"),
        ("esper-rec verify good --format xml", "'xml' is not one of"),
        ("esper-analyze check --run good --format xml", "'xml' is not one of"),
        ("esper-rec train --out a-file/runs", "Not a directory"),
        ("esper-rec import events.jsonl --out a-file/runs", "Not a directory"),
        ("esper-analyze report --run good -o nowhere/r.txt", "No such file or directory: nowhere/r.txt"),
        ("esper-analyze check --run good -o nowhere/r.txt", "No such file or directory: nowhere/r.txt"),
        ("esper-rec import absent.jsonl", "'absent.jsonl' does not exist"),
        ("esper-rec verify bad\x1b[31m", r"no run bad\x1b[31m under"),
        ("esper-analyze report --run bad\x1b[31m", r"no run bad\x1b[31m under"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(place: Path, words: str, said: str) -> None:
    """What was wrong stands behind the name of the command, in one cleaned line; nothing is on standard output."""
    (place / "a-file").touch()
    data = {"batch": 1, "policy_loss": 0.5, "value_loss": 1.0}
    event = {"event_type": "PPO_UPDATE_COMPLETED", "timestamp": "2025-12-06T00:00:30", "data": data}
    (place / "events.jsonl").write_text(json.dumps(event) + "\n")
    ended = run_here(words, place)
    assert ended.code == ExitCode.USAGE
    assert ended.out == ""
    assert ended.err.startswith(f"{words.split()[0]}: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert "\x1b" not in ended.err


@pytest.mark.parametrize("name", GROUPS)
def test_without_arguments_there_is_help(tmp_path: Path, name: str) -> None:
    """A bare command shows its help as talk, with exit code 2; `--help` and `--version` are data, with 0."""
    bare, asked, short, version = (run_here(f"{name} {word}", tmp_path) for word in ("", "--help", "-h", "--version"))
    assert (bare.code, bare.out) == (2, "")
    assert asked == short == Ended(0, bare.err, "")
    assert f"Usage: {name} [OPTIONS] COMMAND" in asked.out
    assert f"Example: {name} " in asked.out
    assert (version.code, version.err) == (0, "")
    assert re.fullmatch(rf"{name}, version \d\S*\n", version.out)


@pytest.mark.parametrize("name", GROUPS)
def test_help_says_what_a_command_does_and_shows_an_example(name: str) -> None:
    """The first line of the help is one sentence; an example stands in a paragraph of its own."""
    for command in GROUPS[name].commands.values():
        assert command.help is not None
        first, *rest = [" ".join(paragraph.split()) for paragraph in command.help.split("\n\n")]
        assert first.endswith("."), first
        assert rest[-1].startswith(f"Example: {name} {command.name}"), rest


# ------------------------------------------------------------------ pipes


@pytest.fixture
def judged(place: Path) -> Path:
    """The place, with a run `damaged` and a run `failed`, whose verdict is critical."""
    shutil.copytree(place / "runs" / "bad", place / "runs" / "damaged")
    cut_segment(place / "runs" / "damaged")
    with Recorder.open(place / "runs", run_id="failed") as recorder:
        for update in range(45):
            recorder.record(update=update, policy_loss=0.5, value_loss=1.0, explained_variance=0.0)
    return place


PIPES = [
    ("esper-rec --help", 0),
    ("esper-rec --version", 0),
    ("esper-analyze report --help", 0),
    ("esper-rec verify good", 0),
    ("esper-rec verify damaged", 3),  # these exit codes are the answer, whoever reads
    ("esper-rec repair damaged", 0),
    ("esper-rec train --updates 1 --num-envs 4 --rollout-steps 8", 0),
    ("esper-analyze check --run failed", 1),
    ("esper-analyze check --run damaged", 3),
    ("esper-analyze report --run damaged", 0),  # and these are not
    ("esper-analyze report --run damaged --format html", 0),
    ("esper-analyze runs", 0),
    ("esper-analyze tail --run damaged", 0),
    ("esper-analyze replay --run damaged", 0),
    ("esper-analyze compare good failed --by updates", 0),
]


@pytest.mark.parametrize(("words", "code"), PIPES)
def test_closed_pipe_is_no_verdict(judged: Path, words: str, code: int) -> None:
    """A reader that leaves changes no answer; where the exit code is none, it is 0. Nothing is said about the pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = run(words, judged, stdout=writer)
    finally:
        os.close(writer)
    assert ended.code == code, ended.err
    assert not re.search("Broken|Traceback|Exception", ended.err)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("esper-rec verify absent", 2),
        ("esper-rec verify damaged", 3),
        ("esper-rec", 2),
        ("esper-rec train --updates 1 --num-envs 4 --rollout-steps 8", 0),
        ("esper-analyze report --run absent", 2),
        ("esper-analyze check", 1),
        ("esper-analyze", 2),
    ],
)
def test_nobody_needs_to_listen_to_the_talk(judged: Path, words: str, code: int) -> None:
    """Where the reader of standard error left, a command goes on, with the exit code that it has anyway."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = run(words, judged, stderr=writer)
    finally:
        os.close(writer)
    assert ended.code == code


@pytest.mark.parametrize(("words", "code"), [("esper-rec verify damaged", 3), ("esper-analyze check --run failed", 1)])
def test_without_standard_streams_a_command_does_its_work(judged: Path, words: str, code: int) -> None:
    """Streams that were closed before the command began are no failure."""
    script = 'exec "$@" <&- >&- 2>&-'
    arguments = ["sh", "-c", script, "sh", *command(words)]
    assert subprocess.run(arguments, cwd=judged, timeout=HANG_SECS, check=False).returncode == code


ODD = """
import os, sys
from {module}.cli import main
from esper_schemas.errors import UsageError

@main.command()
def open_file():
    sys.exit(min(3, os.open("/dev/null", os.O_RDONLY)))

@main.command()
def write_and_fail():
    sys.stdout.write("half of it")
    raise UsageError("no")

main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", GROUPS)
def test_no_file_of_a_run_takes_the_place_of_a_standard_stream(tmp_path: Path, name: str) -> None:
    """Where standard streams are closed, a file that a command opens gets no number of theirs, nor the talk."""
    script = [sys.executable, "-c", ODD.format(module=MODULES[name]), "open-file"]
    arguments = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *script]
    assert subprocess.run(arguments, cwd=tmp_path, timeout=HANG_SECS, check=False).returncode == 3


@pytest.mark.parametrize("name", GROUPS)
def test_what_is_left_to_write_to_a_closed_pipe_does_not_change_the_exit_code(name: str) -> None:
    """A command that fails with text in its buffer keeps its exit code, which Python's own end would make 120."""
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-c", ODD.format(module=MODULES[name]), "write-and-fail"]
    done = subprocess.run(
        arguments, stdout=writer, stderr=-1, env=ENVIRONMENT, text=True, timeout=HANG_SECS, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.USAGE, f"{name}: no\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["esper-rec verify good", "esper-analyze report", "esper-analyze check"])
def test_output_that_cannot_be_written_is_one_line(place: Path, words: str) -> None:
    """A full disk behind standard output has exit code 2 in both commands, and Python adds nothing at its end."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        ended = run(words, place, stdout=full)
    finally:
        os.close(full)
    assert ended.code == ExitCode.USAGE
    assert ended.err.splitlines()[-1] == f"{words.split()[0]}: No space left on device"
    assert "Exception" not in ended.err


# ------------------------------------------------------------------ signals

WAITING = """
import sys, time
from {module}.cli import main

@main.command()
def wait():
    try:
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
    finally:
        print("left in order", flush=True)

main(["wait"])
"""


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_command_in_order(name: str, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM end any command through its clean-up, without a word, with their own exit codes."""
    arguments = [sys.executable, "-c", WAITING.format(module=MODULES[name])]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=HANG_SECS)
    assert (process.returncode, out, err) == (code, "left in order\n", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_a_tail_that_waits(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A tail whose run never comes ends with the code of the signal, without a traceback."""
    words = "esper-analyze tail --wait --run later"
    with subprocess.Popen(command(words), cwd=tmp_path, stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting for run later under runs\n"
        process.send_signal(number)
        assert process.communicate(timeout=HANG_SECS) == ("", "")
    assert process.returncode == code


# ------------------------------------------------------------------ progress


def talk_on_a_terminal(words: str, cwd: Path, **environment: str) -> tuple[Ended, str]:
    """How a command ends whose standard error is a terminal, and what the terminal got."""
    terminal, stderr = os.openpty()
    with subprocess.Popen(
        command(words), cwd=cwd, stdout=subprocess.PIPE, stderr=stderr, env=ENVIRONMENT | environment, text=True
    ) as process:
        os.close(stderr)
        got = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while more := os.read(terminal, 4096):
                got += more
        out, _ = process.communicate(timeout=HANG_SECS)
    os.close(terminal)
    return Ended(process.returncode, out, ""), got.decode()


def test_progress_bar_is_for_terminals_only(tmp_path: Path) -> None:
    """Long work shows a bar on standard error where that is a terminal that can redraw, and leaves no trace of it."""
    with Recorder.open(tmp_path / "runs", run_id="long", segment_rows=1) as recorder:
        for update in range(60):
            recorder.record(update=update, policy_loss=0.5, value_loss=1.0)
    piped = run("esper-rec verify long", tmp_path)
    shown, got = talk_on_a_terminal("esper-rec verify long", tmp_path, TERM="xterm-256color")
    dumb, nothing = talk_on_a_terminal("esper-rec verify long", tmp_path, TERM="dumb")
    assert piped == shown == dumb
    assert piped.code == 0
    assert nothing == ""
    assert "verifying segments" in got
    assert got.endswith("\x1b[2K")  # the line is erased


def test_a_pipe_is_no_terminal_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORCE_COLOR, by which rich takes a pipe for a terminal, brings no progress bar into a log."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    pipe = Console(file=io.StringIO())
    assert pipe.is_terminal
    assert not can_redraw(pipe)


# ------------------------------------------------------------------ defects

DEFECT = """
from {module}.cli import main

@main.command()
def fail():
    raise RuntimeError("surprise\\x1b[31m")

main(["fail"])
"""


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("is_asked", [False, True])
def test_defect_is_no_verdict(name: str, is_asked: bool) -> None:
    """An error that nobody expected is one line with its own exit code; a traceback only comes to who asks for it."""
    environment = {**os.environ, "ESPER_TRACEBACK": "1" if is_asked else ""}
    done = subprocess.run(
        [sys.executable, "-c", DEFECT.format(module=MODULES[name])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECS,
        check=False,
    )
    assert done.returncode == ExitCode.DEFECT
    assert done.stderr.splitlines()[-1].startswith(f"{name}: a defect of Esper: RuntimeError")
    assert ("Traceback" in done.stderr) == is_asked
    assert is_asked or done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


# ------------------------------------------------------------------ the table and the imports


def test_readme_has_the_table_of_exit_codes() -> None:
    """README.md shows each exit code with its meaning, and nothing else."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = text.split("### Exit codes\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|", 1)) for line in lines]
    assert rows[2:] == [(f"{code:d}", code.meaning) for code in ExitCode]


@pytest.mark.parametrize("document", ["recorder/README.md", "analyzer/README.md"])
def test_other_documents_point_to_the_table(document: str) -> None:
    """The table stands in one place."""
    assert "(../README.md#exit-codes)" in (PROJECT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["esper_schemas", "esper_recorder"])
def test_packages_load_no_console(package: str) -> None:
    """Who imports the format or the recorder pays neither for click nor for rich."""
    code = f"import sys, {package}; print(sorted({{'click', 'rich'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECS, check=True)
    assert done.stdout == "[]\n"
