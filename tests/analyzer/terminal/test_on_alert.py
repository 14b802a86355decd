from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.waiting import HANG_SECS, wait_until

from esper_analyzer import open_run
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.terminal.frame import MIN_WIDTH
from esper_analyzer.terminal.on_alert import MAX_WAITING, AlertCommand
from esper_recorder import Recorder


def alert_at(update: int, message: str, value: float = 9.0) -> Alert:
    """An alert as it is told, raised for the first time."""
    return Alert(
        update, "value_loss", "critical", value, message, update, None, "nan", 1, update, update, value, update, True,
        "critical", 0,
    )  # fmt: skip


ALERT = alert_at(7, "`touch pwned`; $(touch pwned)\n\x1b[31m ½", math.nan)

RECORDER = """
    import json, sys
    from esper_recorder import Recorder
    recorder = Recorder.open(sys.argv[1], run_id="run", resume="allow")
    for line in sys.stdin:
        recorder.record(**{"policy_loss": -0.01, "value_loss": 0.5, **json.loads(line)})
        print("kept", flush=True)
    recorder.close()
"""

Child = subprocess.Popen[str]


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    """Start a process, its ends in pipes, that does not outlive the test."""
    started: list[Child] = []

    def _start(*command: str | Path) -> Child:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def recorder(start: Callable[..., Child], tmp_path: Path) -> Callable[..., None]:
    """Have a process of its own record one update after another."""
    process = start("-c", textwrap.dedent(RECORDER), tmp_path / "runs")
    assert process.stdin is not None
    assert process.stdout is not None

    def record(**row: Any) -> None:
        if row:
            print(json.dumps(row), file=process.stdin, flush=True)
            assert process.stdout.readline() == "kept\n"  # type: ignore[union-attr]
        else:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(HANG_SECS)
            process.stdin = None

    return record


def lines_of(path: Path, count: int = 1) -> list[dict[str, Any]]:
    """The JSON lines of a file, as soon as there are so many."""
    wait_until(lambda: path.exists() and path.read_text(encoding="utf-8").count("\n") >= count)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def command(record: Callable[..., Path], tmp_path: Path) -> Callable[..., AlertCommand]:
    """A command for the alerts of a run, which is run in `tmp_path`."""
    run = open_run(record([{"update": 0}]))
    os.chdir(tmp_path)
    return lambda text, **options: AlertCommand(text, run, **{"close_secs": HANG_SECS, **options})


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[], bool]]:
    """Whether a process that has opened the pipe `held` for writing, or a child of one, is still there."""
    os.mkfifo(tmp_path / "held")
    pipe = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)

    def is_held() -> bool:
        try:
            return os.read(pipe, 1) != b""
        except BlockingIOError:
            return True

    yield is_held
    os.close(pipe)


@pytest.fixture(autouse=True)
def _same_folder() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


# ---------------------------------------------------------------------- the command


def test_the_alert_is_one_line_of_json(command: Callable[..., AlertCommand], tmp_path: Path) -> None:
    """The keys of the report's alert and run_id, path, the rank that is followed; in ASCII; none of it is code."""
    with command("cat >> got") as alerts:
        alerts.put([ALERT])
    assert alerts.notices() == []
    text = (tmp_path / "got").read_text()
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "run_id": "run", "path": str(tmp_path / "runs" / "run"), "rank": 0,
        "update": 7, "metric": "value_loss", "level": "critical", "value": "NaN",
        "message": ALERT.message, "since": 7, "until": None, "rule": "nan", "count": 1, "first": 7, "last": 7,
        "worst": "NaN", "worst_update": 7, "lasts": True, "in_force": "critical",
    }  # fmt: skip
    assert not (tmp_path / "pwned").exists()


def test_the_command_gets_the_environment_of_the_user(command: Callable[..., AlertCommand], tmp_path: Path) -> None:
    """What a process has set for its own libraries, past `os.environ`, is not handed on."""
    os.putenv("ESPER_OF_A_LIBRARY", "1")
    try:
        with command('echo "$HOME-$ESPER_OF_A_LIBRARY" > got') as alerts:
            alerts.put([ALERT])
    finally:
        os.unsetenv("ESPER_OF_A_LIBRARY")
    assert (tmp_path / "got").read_text() == f"{os.environ.get('HOME', '')}-\n"


def test_commands_run_one_at_a_time_in_order(command: Callable[..., AlertCommand], tmp_path: Path) -> None:
    """A slow command holds up the next one, and never whoever raises alerts."""
    slow = "while ! test -e go; do sleep 0.02; done"
    with command(f"echo begin >> log; {slow}; echo end >> log; cat >> got") as alerts:
        alerts.put([alert_at(update, "") for update in range(5)])
        wait_until((tmp_path / "log").exists)
        assert not (tmp_path / "got").exists()
        (tmp_path / "go").touch()
    assert (tmp_path / "log").read_text().split() == ["begin", "end"] * 5
    assert [line["update"] for line in lines_of(tmp_path / "got", 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 7", "failed with exit code 7"),
        ("echo first >&2; echo no such pager >&2; exit 3", "failed with exit code 3 (no such pager)"),
        ("esper-no-such-command", "failed with exit code 127"),
        ("kill -9 $$", "failed with exit code -9"),
        ("exec 0<&-; exit 1", "failed with exit code 1"),
    ],
)
def test_a_failing_command_is_told_of_once(command: Callable[..., AlertCommand], text: str, said: str) -> None:
    """The first failure is described, the others are counted, and all alerts have their turn."""
    with command(text) as alerts:
        alerts.put([ALERT] * 3)
    first, total = alerts.notices()
    assert said in first
    assert total == "--on-alert: the command failed 3 times in all"
    assert alerts.notices() == []


def test_a_command_that_does_not_read_is_fine(command: Callable[..., AlertCommand], tmp_path: Path) -> None:
    """Input that nobody reads, and a process left behind that holds the command's output, are no trouble."""
    with command("sleep 30 & echo x >> ran", command_secs=20.0) as alerts:
        alerts.put([alert_at(0, "x" * 1_000_000)] * 3)
    assert alerts.notices() == []  # a command that waited for the process would have been ended
    assert (tmp_path / "ran").read_text().split() == ["x"] * 3


def test_a_command_that_hangs_is_ended(
    command: Callable[..., AlertCommand], held: Callable[[], bool], tmp_path: Path
) -> None:
    """After its time a command and all that it has started are killed, and the next alert has its turn."""
    with command("exec 9> held; sleep 600 & wait", command_secs=0.3) as alerts:
        alerts.put([ALERT] * 2)
    first, total = alerts.notices()
    assert "was killed after 0.3 s" in first
    assert total == "--on-alert: the command failed 2 times in all"
    wait_until(lambda: not held(), "a process that the command has started lives on")


def test_the_end_does_not_wait_for_ever(
    command: Callable[..., AlertCommand], held: Callable[[], bool], tmp_path: Path
) -> None:
    """What still runs after the time for closing is ended, what still waits is counted."""
    with command("exec 9> held; touch ran; sleep 600 & wait", close_secs=0.5) as alerts:
        alerts.put([ALERT] * 4)
        wait_until((tmp_path / "ran").exists)
    said = alerts.notices()
    assert "still running when the tail ended" in said[0]
    assert said[-1] == "--on-alert: the command did not run for 3 alerts; they came too fast or too late"
    wait_until(lambda: not held(), "a process that the command has started lives on")


def test_too_many_alerts_are_dropped_and_counted(command: Callable[..., AlertCommand], tmp_path: Path) -> None:
    """Only so many wait; the rest is dropped, and said at the end."""
    with command("touch began; while ! test -e go; do sleep 0.02; done; cat >> got") as alerts:
        alerts.put([ALERT])
        wait_until((tmp_path / "began").exists)
        alerts.put([ALERT] * (MAX_WAITING + 10))
        (tmp_path / "go").touch()
    assert alerts.notices() == ["--on-alert: the command did not run for 10 alerts; they came too fast or too late"]
    assert len(lines_of(tmp_path / "got", MAX_WAITING + 1)) == MAX_WAITING + 1


def test_without_alerts_nothing_is_started(command: Callable[..., AlertCommand], tmp_path: Path) -> None:
    """No alert, no command, no thread, nothing to say."""
    with command("touch ran") as alerts:
        alerts.put([])
    assert alerts.notices() == []
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------- what counts as new


def test_a_rollback_raises_nothing_again(tmp_path: Path) -> None:
    """A run that is judged anew after a rollback tells what its new rows raise, and nothing that was known."""
    told: list[tuple[int, str]] = []

    def rows(recorder: Recorder, updates: range, **values: float) -> None:
        for update in updates:
            row: dict[str, Any] = {"update": update, "policy_loss": -0.01, "value_loss": 0.5, **values}
            recorder.record(**row)

    def raised() -> list[tuple[int, str]]:
        told.clear()
        feed.look()
        picture = feed.finish()
        assert picture.verdict is not None
        return list(told)

    with Recorder.open(tmp_path, run_id="run") as recorder:
        feed = LiveFeed(open_run(recorder.path), 0, on_alert=lambda alert: told.append((alert.update, alert.metric)))
        rows(recorder, range(40), kl_divergence=0.5, entropy=0.69)
        assert (12, "kl_divergence") in raised()
        rows(recorder, range(40, 45), entropy=0.01)
        assert {metric for _, metric in raised()} == {"entropy", "entropy_collapse_risk", "entropy_unrisen"}
        assert raised() == []
    with Recorder.open(tmp_path, run_id="run", resume="allow") as recorder:
        rows(recorder, range(30, 32), kl_divergence=0.5)
        assert raised() == []
        assert feed.picture().last_update == 31
        assert not all(event.is_over for event in feed.picture().events)
        rows(recorder, range(32, 33), value_loss=math.nan)
        rows(recorder, range(36, 37))
        assert raised() == [(32, "value_loss"), (36, "update")]
        rows(recorder, range(35, 36), value_loss=0.5)  # goes back within the attempt: the NaN before it is known
        assert [metric for _, metric in raised()] == ["update"]
        assert feed.picture().last_update == 36
        rows(recorder, range(37, 38))
        assert raised() == []
    feed.close()


def test_an_alert_is_told_once_when_a_rollback_comes_before_it_was_judged(tmp_path: Path) -> None:
    """Rows that came in and were not judged yet are told of afterwards, those that had been told are not."""
    told: list[tuple[int, str]] = []

    def rows(recorder: Recorder, updates: range, bad: int, metric: str) -> None:
        for update in updates:
            row: dict[str, Any] = {"update": update, "policy_loss": -0.01, "value_loss": 0.5}
            recorder.record(**row | ({metric: math.nan} if update == bad else {}))

    with Recorder.open(tmp_path, run_id="run") as recorder:
        rows(recorder, range(20), 15, "value_loss")
        feed = LiveFeed(open_run(recorder.path), 0, on_alert=lambda alert: told.append((alert.update, alert.metric)))
        rows(recorder, range(20, 40), 25, "policy_loss")
        feed.look()
        assert told == []
    with Recorder.open(tmp_path, run_id="run", resume="allow") as recorder:
        rows(recorder, range(30, 36), 33, "entropy")
        feed.look()
        feed.finish()
        assert told == [(25, "policy_loss"), (33, "entropy")]
    feed.close()


# ---------------------------------------------------------------------- tail


def tail(start: Callable[..., Child], tmp_path: Path, on_alert: str, *more: str, run: str = "run") -> Child:
    """`esper-analyze tail --on-alert` of a run, with its ends in pipes."""
    root = ["--root", tmp_path / "runs", "--run", run, "--interval", "0.02"]
    return start("-m", "esper_analyzer", "tail", *root, "--on-alert", on_alert, *more)


def test_tail_runs_the_command_for_new_alerts_only(
    start: Callable[..., Child], recorder: Callable[..., None], tmp_path: Path
) -> None:
    """History raises nothing; what comes later does, while the lines go on; the end of the run ends it all."""
    got = tmp_path / "got"
    recorder(update=0, value_loss=math.nan)
    process = tail(start, tmp_path, f"cat >> '{got}'; echo noise")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("update 0 ")
    recorder(update=1, policy_loss=math.nan)
    assert process.stdout.readline().startswith("update 1 ")
    recorder(update=5)
    first, second = lines_of(got, 2)
    assert (first["update"], first["metric"], first["level"], first["value"]) == (1, "policy_loss", "critical", "NaN")
    assert (second["update"], second["metric"], second["value"]) == (5, "update", 3.0)
    assert (first["run_id"], first["rank"], first["path"]) == ("run", 0, str(tmp_path / "runs" / "run"))
    report = json.loads(open_run(tmp_path / "runs" / "run").report().to_json())
    raised = [alert for alert in report["alerts"] if alert["metric"] in ("policy_loss", "update")]
    assert [{**alert, "until": None} for alert in raised] == [
        {name: line[name] if name != "until" else None for name in raised[0]} for line in (first, second)
    ]
    recorder()
    out, talk = process.communicate(timeout=HANG_SECS)
    assert process.returncode == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == ["update 5"]
    assert "on-alert" not in talk
    assert len(lines_of(got)) == 2


def test_a_tail_that_waited_counts_everything(
    start: Callable[..., Child], recorder: Callable[..., None], tmp_path: Path
) -> None:
    """With --wait a run that began after the tail has no history."""
    process = tail(start, tmp_path, f"cat >> '{tmp_path}/got'", "--wait", run="later")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for run later")
    with Recorder.open(tmp_path / "runs", run_id="later") as later:
        later.record(update=0, policy_loss=-0.01, value_loss=math.nan)
        (line,) = lines_of(tmp_path / "got")
    assert (line["run_id"], line["update"]) == ("later", 0)
    process.communicate(timeout=HANG_SECS)
    assert process.returncode == 0


def test_a_failing_command_never_ends_the_tail(
    start: Callable[..., Child], recorder: Callable[..., None], tmp_path: Path
) -> None:
    """The failure is said once, when it happens; rows and alerts go on; Ctrl-C still ends with 130."""
    recorder(update=0)
    process = tail(start, tmp_path, f"cat >> '{tmp_path}/got'; echo 'no pager\x07' >&2; exit 1")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    recorder(update=1, value_loss=math.nan)
    lines_of(tmp_path / "got", 1)
    said = process.stderr.readline()
    assert said == "--on-alert: the command failed with exit code 1 (no pager\\x07); the tail goes on\n"
    assert process.stdout.readline().startswith("update 1 ")
    recorder(update=2, policy_loss=math.nan)
    lines_of(tmp_path / "got", 2)
    assert process.stdout.readline().startswith("update 2 ")
    process.send_signal(signal.SIGINT)
    out, talk = process.communicate(timeout=HANG_SECS)
    assert (process.returncode, out) == (130, "")
    assert talk.strip() == "--on-alert: the command failed 2 times in all"


def test_on_a_terminal_the_screen_stays_whole(recorder: Callable[..., None], tmp_path: Path) -> None:
    """A command that is slow, loud and fails neither stops nor spoils the picture; the failure is said after it."""
    recorder(update=0)
    on_alert = f"cat >> '{tmp_path}/got'; echo LOUD; echo LOUD >&2; echo LOUD > /dev/tty; "
    on_alert += f"while ! test -e '{tmp_path}/go'; do sleep 0.05; done; exit 5"
    arguments = ["-m", "esper_analyzer", "tail", "--root", str(tmp_path / "runs"), "--on-alert", on_alert]
    terminal = pexpect.spawn(
        sys.executable, arguments, dimensions=(24, 2 * MIN_WIDTH), encoding="utf-8", timeout=HANG_SECS
    )
    terminal.expect("update 0")
    recorder(update=1, value_loss=math.nan)
    lines_of(tmp_path / "got", 1)
    recorder(update=2)
    terminal.expect("update 2")  # while the command waits
    (tmp_path / "go").touch()
    assert "LOUD" not in terminal.before
    recorder()
    terminal.send("q")
    terminal.expect("\x1b\\[\\?1049l")
    assert "LOUD" not in terminal.before
    terminal.expect(pexpect.EOF)
    assert "--on-alert: the command failed with exit code 5 (LOUD)" not in terminal.before
    assert "--on-alert: the command failed with exit code 5" in terminal.before
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--on-alert", " "], "--on-alert must be a command"), (["--on-alert", "true", "--once"], "leave --once out")],
)
def test_wrong_usage(start: Callable[..., Child], record: Callable[..., Path], arguments: list[str], said: str) -> None:
    """A command that is none, or a frame in which nothing new can happen, is an error."""
    process = start("-m", "esper_analyzer", "tail", "--run", record([{"update": 0}]), *arguments)
    out, talk = process.communicate(timeout=HANG_SECS)
    assert (process.returncode, out) == (2, "")
    assert said in talk
