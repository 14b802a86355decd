"""Every command is told its run in the same ways, and the shells complete the names of runs."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tests.waiting import HANG_SECS

from esper_analyzer.cli import main as esper_analyze
from esper_recorder import Recorder
from esper_recorder.cli import main as esper_rec
from esper_schemas.arguments import complete_run, is_plain

GROUPS = {"esper-analyze": esper_analyze, "esper-rec": esper_rec}
WITHOUT_RUN = {"esper-analyze": {"fleet", "mcp", "runs"}, "esper-rec": {"train", "run", "import", "fields"}}
"""Commands that work on no run that exists, or on all of them."""

OF_SEVERAL = {"compare", "explain", "tail"}
"""Commands on more than one run, of which RUN and `--run` name one each."""

MORE = {"tail": ["--once"], "replay": ["--speed", "0"], "explain": ["--update", "30"]}
"""What a command needs besides a run to end, or to have something to say."""

WITH_A_STORE = {("esper-rec", "upload")}
"""Commands that need an object store; tests/object_store tests how they take RUN."""

COMMANDS = [(group, name) for group in GROUPS for name in GROUPS[group].commands if name not in WITHOUT_RUN[group]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of a sweep, and one alone, in `runs`."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("sweep/lr-low", "sweep/lr-high", "alone"):
        path = folder / "runs" / name
        with Recorder.open(path.parent, run_id=path.name) as recorder:
            for update in range(40):
                recorder.record(update=update, policy_loss=0.1, value_loss=0.2)
    return folder


@pytest.mark.parametrize(("group", "name"), [command for command in COMMANDS if command not in WITH_A_STORE])
def test_every_command_takes_run_as_an_argument_and_as_an_option(group: str, name: str, place: Path) -> None:
    """`report sweep/lr-low` and `report --run sweep/lr-low` say the same; both at once are a mistake."""
    more = MORE.get(name, [])
    others = ["alone"] if name == "compare" else []
    answers = []
    for number, given in enumerate((["sweep/lr-low"], ["--run", "sweep/lr-low"], ["-r", "sweep/lr-low"])):
        output = ["-o", f"{number}.csv"] if name == "export" else []
        with contextlib.chdir(place):
            result = CliRunner().invoke(GROUPS[group], [name, *others, *given, *more, *output])
        assert result.exit_code == 0, result.output
        answers.append(result.stdout if name != "export" else (place / f"{number}.csv").read_text())
        (place / f"{number}.csv").unlink(missing_ok=True)
    assert answers[0]
    assert answers[0] == answers[1] == answers[2]
    if name not in OF_SEVERAL:
        with contextlib.chdir(place):
            result = CliRunner().invoke(GROUPS[group], [name, "alone", "--run", "alone", *output])
        assert result.exit_code == 2
        assert "give the run once" in result.stderr


@pytest.mark.parametrize(("group", "name"), COMMANDS)
def test_every_command_says_in_its_help_what_run_is(group: str, name: str) -> None:
    """RUN stands in the usage, and `--run` among the options."""
    text = CliRunner().invoke(GROUPS[group], [name, "--help"]).stdout
    assert re.search(r"Usage: .*RUN", text)
    assert "--run RUN" in text


def completed(root: Path, incomplete: str) -> list[tuple[str, str]]:
    """What is offered for a beginning: each with its kind."""
    command = esper_analyze.commands["report"]
    context = click.Context(command)
    context.params["root"] = root
    return [(item.value, item.type) for item in complete_run(context, command.params[0], incomplete)]


def test_names_of_runs_are_completed_below_the_root(place: Path) -> None:
    """In folders of folders, too; where no run begins so, the shell completes a path."""
    assert completed(place / "runs", "sw") == [("sweep/lr-high", "plain"), ("sweep/lr-low", "plain")]
    assert completed(place / "runs", "sweep/lr-l") == [("sweep/lr-low", "plain")]
    assert completed(place / "runs", "./ru") == [("./ru", "file")]
    assert completed(place / "absent", "a") == [("a", "file")]


@pytest.mark.parametrize(
    ("words", "said"), [("report s3://bucket/ru", ""), ("report --root s3://bucket/runs sw", "file,sw")]
)
def test_completion_asks_no_object_store(words: str, said: str, place: Path) -> None:
    """A URL is not completed, and a name under one as a path is; nothing is sent to a store that would answer."""
    with socket.create_server(("127.0.0.1", 0)) as store:
        address = f"http://127.0.0.1:{store.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", "from esper_analyzer.cli import main; main(prog_name='esper-analyze')"],
            env=os.environ
            | {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
            | {"_ESPER_ANALYZE_COMPLETE": "bash_complete", "COMP_WORDS": f"esper-analyze {words}"}
            | {"COMP_CWORD": str(len(words.split()))},
            cwd=place, capture_output=True, text=True, timeout=HANG_SECS, check=False,
        )  # fmt: skip
        store.setblocking(False)
        with pytest.raises(BlockingIOError):
            store.accept()
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")


@pytest.mark.parametrize("name", ["a b", "$(reboot)", "a;b", "a\nb", "a\x1b[31m", "--help", "`a`", "a'b", "a*", "~a"])
def test_names_that_could_act_in_a_shell_are_not_offered(place: Path, tmp_path: Path, name: str) -> None:
    """Somebody else may have chosen the name of a folder."""
    root = tmp_path / "runs"
    (root / name).mkdir(parents=True)
    (root / name / "run.json").write_text("{}")
    assert not is_plain(name)
    assert completed(root, "") == [("", "file")]


SHELLS = {
    "bash": (
        "bash --norc --noprofile -i",
        "PS1='ready> '",
        'eval "$(_{name}_COMPLETE=bash_source {command})"',
    ),
    "zsh": (
        "zsh -f -i",
        "autoload -Uz compinit; compinit -u -D; unsetopt BEEP; PROMPT='ready> '",
        'eval "$(_{name}_COMPLETE=zsh_source {command})"',
    ),
    "fish": (
        "fish --no-config -i",
        "function fish_prompt; echo 'ready> '; end",
        "_{name}_COMPLETE=fish_source {command} | source",
    ),
}
"""How each shell is started, what makes its prompt, and the line of the README."""


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self.read = ""
        parent, child = pty.openpty()
        here = str(Path(sys.executable).parent)
        environment = {**os.environ, "PATH": f"{here}:{os.environ['PATH']}", "TERM": "xterm", "HOME": str(cwd)}
        self._process = subprocess.Popen(
            words, cwd=cwd, env=environment, pass_fds=(child,), preexec_fn=lambda: os.login_tty(child)
        )
        os.close(child)
        self._terminal = parent

    def type(self, text: str) -> None:
        """Type some text."""
        os.write(self._terminal, text.encode())

    def see(self, pattern: str) -> None:
        """Wait until the shell has written something new that matches."""
        end = time.monotonic() + HANG_SECS
        while not (found := re.search(pattern, self.read)):
            assert time.monotonic() < end, f"{pattern!r} is not in {self.read!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                self.read += os.read(self._terminal, 65536).decode(errors="replace")
        self.read = self.read[found.end() :]

    def end(self) -> None:
        """End the shell."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture
def terminal(request: pytest.FixtureRequest, place: Path) -> Iterator[Terminal]:
    """A terminal with the shell that the test names."""
    shell = Terminal(SHELLS[request.param][0].split(), place)
    yield shell
    shell.end()


@pytest.mark.slow
@pytest.mark.parametrize("terminal", SHELLS, indirect=True)
@pytest.mark.parametrize("command", GROUPS)
def test_a_real_shell_completes_names_of_runs(terminal: Terminal, command: str, request: pytest.FixtureRequest) -> None:
    """As the README says: after one line, Tab completes a run in bash, zsh and fish."""
    shell = request.node.callspec.params["terminal"]
    _, prepare, source = SHELLS[shell]
    terminal.type(f"{prepare}\n")
    name = command.upper().replace("-", "_")
    terminal.type(source.format(name=name, command=command) + "; echo sour''ced\n")
    terminal.see("sourced")
    word = "report" if command == "esper-analyze" else "verify"
    terminal.type(f"echo {command} {word}; {command} {word} sweep/lr-l\t")
    terminal.see(r"lr-low")
