"""`esper-rec train` as a person meets it: a real process, real signals, a real terminal, one line for every mistake."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner, Result
from tests.forked import TRAINING, run_on_terminal
from tests.waiting import HANG_SECS, wait_until

from esper_recorder.cli import main
from esper_recorder.train.config import PPOConfig, option_name

COMMAND = [sys.executable, "-c", "from esper_recorder.cli import main; main()"]
ESCAPE = "\x1b"

Rec = Callable[..., Any]  # the fixture of conftest.py that runs esper-rec


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `esper-rec` to its end, its output in pipes."""
    env = {**os.environ, **environment}
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=HANG_SECS)


def run_here(*arguments: str, cwd: Path) -> Result:
    """The same in this process."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, arguments)


def attempt_of(run_path: Path) -> dict[str, Any]:
    """How the run's only attempt began and ended."""
    loaded: dict[str, Any] = json.loads((run_path / "rank-0000/attempts/0000.json").read_text())
    return loaded


def test_a_short_run_records_every_update_and_says_what_to_type_next(rec: Rec, runs: Path) -> None:
    """Summary on stdout, talk on stderr, neither with escape codes; the run is finished and sealed."""
    done = rec("train", "--updates", "3", "--num-envs", "4", "--run-id", "first")
    assert done.code == 0, done.err
    assert ESCAPE not in done.out + done.err
    assert "updates     3 of 3" in done.out
    assert "esper-analyze report --run runs/first" in done.out
    assert "esper-analyze tail --run runs/first" in done.out
    assert "recording to runs/first" in done.err
    assert "update 3/3" in done.err
    rows = pl.read_parquet(runs / "first/rank-0000/segments/*.parquet")
    assert rows["update"].to_list() == [0, 1, 2]
    assert attempt_of(runs / "first")["status"] == "finished"
    header = json.loads((runs / "first/run.json").read_text())
    assert header["config"] == PPOConfig(updates=3, num_envs=4).to_dict() | {
        "env_implementation": "CartPole-v1 (built-in)",
        "episodes_on_resume": "continue",
    }
    assert header["value_loss_definition"]["clipping"] == "max"
    assert header["value_loss_definition"]["assumed"] is False

    again = run_here("train", "--updates", "3", "--run-id", "first", cwd=runs.parent)
    assert again.exit_code == 2
    assert again.stderr.count("\n") == 1
    assert "first" in again.stderr


def test_options_reach_the_header(tmp_path: Path) -> None:
    """What is given on the command line, a value loss without clip included, stands in the run's header."""
    options = ["--no-value-clip", "--no-anneal-lr", "--gamma", "0.9", "--seed", "7", "--env", "gym:CartPole-v1"]
    size = ["--updates", "1", "--num-envs", "2", "--rollout-steps", "16"]
    done = run_here("train", *options, *size, "--out", "elsewhere", "--run-id", "r", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    header = json.loads((tmp_path / "elsewhere/r/run.json").read_text())
    config = header["config"]
    assert (config["value_clip"], config["anneal_lr"], config["gamma"], config["seed"]) == (None, False, 0.9, 7)
    assert header["value_loss_definition"]["clipping"] == "none"
    assert header["env"] == "gym:CartPole-v1"
    assert config["env_implementation"].startswith("CartPole-v1 (gymnasium ")


@pytest.mark.slow
def test_ctrl_c_ends_a_real_process_properly(tmp_path: Path) -> None:
    """Started and ended as people do it: nothing that comes after the command itself adds a word or another code."""
    with subprocess.Popen(
        [*COMMAND, *ENDLESS], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        signal_twice(signal.SIGINT, tmp_path, child.pid)
        out, err = child.communicate(timeout=HANG_SECS)
    assert child.returncode == 130, err
    check_interrupted(tmp_path, signal.SIGINT, out, err)


def test_sigterm_ends_the_run_properly(rec: Rec, runs: Path) -> None:
    """As Ctrl-C, but for the signal's name and the exit code."""
    done = rec(*ENDLESS, meanwhile=partial(signal_twice, signal.SIGTERM, runs.parent))
    assert done.code == 143, done.err
    check_interrupted(runs.parent, signal.SIGTERM, done.out, done.err)


ENDLESS = ["train", "--updates", "100000", "--num-envs", "4", "--run-id", "r"]


def signal_twice(number: signal.Signals, folder: Path, pid: int) -> None:
    """Once there are rows; an impatient second signal must not stop the sealing."""
    wait_for_rows(folder / "runs/r")
    os.kill(pid, number)
    os.kill(pid, number)


def check_interrupted(folder: Path, number: signal.Signals, out: str, err: str) -> None:
    """Rows sealed, status interrupted with the signal's name, a word on how to look at it."""
    assert "Traceback" not in err
    assert "interrupted" in err
    assert "esper-analyze report --run runs/r" in out
    attempt = attempt_of(folder / "runs/r")
    assert (attempt["status"], attempt["reason"]) == ("interrupted", number.name)
    rows = pl.read_parquet(folder / "runs/r/rank-0000/segments/*.parquet")
    assert rows["update"].to_list() == list(range(attempt["rows"]))
    assert len(rows) > 0
    assert not list((folder / "runs/r/rank-0000/active").iterdir())


def wait_for_rows(run_path: Path) -> None:
    """Wait until the run's active segment holds more than its schema."""
    active = run_path / "rank-0000" / "active"
    wait_until(lambda: any(file.stat().st_size > 20_000 for file in active.glob("*")), "no rows")


def test_a_signal_before_there_is_a_run_ends_without_a_traceback(tmp_path: Path) -> None:
    """Ctrl-C while torch is still being imported: exit code 130 and no folder left behind."""
    with subprocess.Popen(
        [*COMMAND, "train"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        wait_for_import_of_torch(child.pid)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=HANG_SECS)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def wait_for_import_of_torch(pid: int) -> None:
    """Wait until the process has begun to load torch's libraries."""
    maps = Path(f"/proc/{pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    wait_until(lambda: "libtorch" in maps.read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "NoSuchEnv-v0"], "NoSuchEnv"),
        (["--device", "cuda"], "--device cuda"),
        (["--device", "tpu"], "tpu"),
        (["--gamma", "2"], "--gamma must be at least 0 and at most 1, found 2"),
        (["--num-envs", "many"], "many"),
        (["--updates", "3", "--total-steps", "9"], "not both"),
        (["--value-clip", "3", "--no-value-clip"], "not both"),
        (["--no-such-option"], "--no-such-option"),
        (["--run-id", "a/b"], "a/b"),
        (["--out", "/dev/null/runs"], "--out /dev/null/runs"),
    ],
)
def test_a_mistake_gives_one_line_and_no_run(tmp_path: Path, arguments: list[str], words: str) -> None:
    """Exit code 2, one line on stderr that names the mistake, nothing on stdout, nothing on disk."""
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    done = run_here("train", *arguments, cwd=tmp_path)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.startswith("esper-rec: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_an_environment_that_fails_leaves_a_sealed_run_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of the environment ends the run as failed, with its rows, and no traceback."""
    (tmp_path / "broken_env.py").write_text(BROKEN_ENV)
    arguments = ["--env", "broken_env:Broken-v0", "--num-envs", "2", "--rollout-steps", "16", "--run-id", "r"]
    monkeypatch.syspath_prepend(tmp_path)
    done = run_here("train", *arguments, "--minibatches", "1", cwd=tmp_path)
    assert done.exit_code == 2
    assert "RuntimeError: the motor is on fire" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    attempt = attempt_of(tmp_path / "runs/r")
    assert (attempt["status"], attempt["rows"]) == ("failed", 3)


BROKEN_ENV = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Broken(CartPoleEnv):
    calls = 0
    def step(self, action):
        Broken.calls += 1
        if Broken.calls > 100:
            raise RuntimeError("the motor is on fire")
        return super().step(action)

gymnasium.register("Broken-v0", Broken)
"""


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["torch", "gymnasium"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path, missing: str) -> None:
    """Without torch or gymnasium: one line with the pip command, exit code 2."""
    code = f"import sys; sys.modules[{missing!r}] = None; from esper_recorder.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train"], cwd=tmp_path, capture_output=True, text=True, timeout=HANG_SECS
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert missing in done.stderr
    assert f"pip install {missing}" in done.stderr


def test_the_command_line_loads_torch_only_to_train(tmp_path: Path) -> None:
    """Importing the command line, and its help, load neither torch nor polars nor gymnasium."""
    code = "import sys, esper_recorder.cli; print([m for m in ('torch', 'polars', 'gymnasium') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECS)
    assert done.stdout.strip() == "[]"
    assert run("--version", cwd=tmp_path).stdout.startswith("esper-rec")


def test_help_names_every_hyperparameter() -> None:
    """Each field of the configuration is an option with its default; presets are printed."""
    text = " ".join(CliRunner().invoke(main, ["train", "--help"]).stdout.split())
    for parameter in fields(PPOConfig):
        assert option_name(parameter.name) in text
        assert parameter.metadata["description"].split(":")[0][:20] in text
    assert "Pendulum-v1: --num-envs" in text


@pytest.mark.slow
@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_a_bar_and_colour_unless_it_wants_none(tmp_path: Path, no_color: bool) -> None:
    """On a terminal a redrawn bar with speed, value loss, return and health; NO_COLOR takes the colour out."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    environment = plain | {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if no_color else {})
    words = ("train", "--updates", "8", "--num-envs", "8", "--run-id", "r")
    code, screen = run_on_terminal(
        "esper_recorder", *words, columns=120, imports=TRAINING, environment=environment, cwd=tmp_path
    )
    assert code == 0, screen
    assert "update 8/8" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen)
    assert "value loss" in screen
    assert "steps/s" in screen
    assert ESCAPE in screen
    colours = re.findall(r"\x1b\[(?:3\d|38|9\d)[0-9;]*m", screen)
    assert bool(colours) is not no_color


WITHOUT_POLARS = """
import sys
sys.modules["polars"] = None  # as where it is not installed
from esper_recorder.cli import main
size = ["train", "--num-envs", "4", "--rollout-steps", "16", "--updates", "2", "--out", sys.argv[1]]
for more in (["--run-id", "r"], ["--run-id", "s", "--stop-on", "critical"]):
    try:
        main([*size, *more])
    except SystemExit as end:
        print(more[1], end.code or 0, file=sys.stderr)
"""


@pytest.mark.slow
def test_training_needs_no_polars(tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Without polars a run is trained and recorded, its lines name no health, and --stop-on says what is missing."""
    trained, refused = run_python(WITHOUT_POLARS, tmp_path).stderr.split("r 0\n")
    assert "update 2/2" in trained
    assert not any(level in trained for level in ("healthy", "warning", "critical", "unknown"))
    assert refused == "esper-rec: --stop-on critical needs polars, which is not installed: pip install polars\ns 2\n"
    assert not (tmp_path / "s").exists()
