"""`esper-rec run`: scripts in the shape of CleanRL's are recorded unchanged, and end as they end without it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.forked import TRAINING, run_module
from tests.recorder.importing.logs import import_log
from tests.waiting import wait_until

from esper_analyzer import Run, open_run

SCRIPTS = Path(__file__).parent / "scripts"

COLUMNS = {
    "losses/value_loss": "value_loss",
    "losses/policy_loss": "policy_loss",
    "losses/entropy": "entropy",
    "losses/approx_kl": "kl_divergence",
    "losses/old_approx_kl": "approx_kl_k1",
    "losses/clipfrac": "clip_fraction",
    "losses/explained_variance": "explained_variance",
    "charts/learning_rate": "learning_rate",
    "charts/SPS": "steps_per_sec",
}


def environment(**others: str) -> dict[str, str]:
    """The environment without the variables of a launcher."""
    return {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")} | others


def run(*arguments: object, folder: Path, **variables: str) -> tuple[int, str, str]:
    """Run `esper-rec run` to its end: exit code, standard output and standard error."""
    done = run_module("esper_recorder", "run", *arguments, environment=environment(**variables), cwd=folder)
    return done.returncode, done.stdout, done.stderr


def train(
    *arguments: object, folder: Path, meanwhile: Callable[[int], object] = lambda pid: None
) -> tuple[int, str, str]:
    """The same of a script that trains, in a process that has imported PyTorch already."""
    done = run_module(
        "esper_recorder", "run", *arguments,
        imports=TRAINING, environment=environment(), cwd=folder, meanwhile=meanwhile,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def run_plainly(*arguments: object, folder: Path) -> tuple[int, str, str]:
    """Run the same with Python alone."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(), check=False)
    return done.returncode, done.stdout, done.stderr


def only_run(folder: Path) -> Run:
    """The only run under `runs`."""
    (path,) = (folder / "runs").iterdir()
    return open_run(path)


def rows_of(found: Run) -> list[dict[str, Any]]:
    """The updates of the default view."""
    return found.updates().collect().to_dicts()


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the script's own event file has, read by TensorBoard: tag -> step and value of each point."""
    files = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    files.Reload()
    return {tag: [(point.step, point.value) for point in files.Scalars(tag)] for tag in files.Tags()["scalars"]}


def assert_as_written(rows: list[dict[str, Any]], scalars: Mapping[str, list[tuple[int, float]]]) -> None:
    """Each column of each update is the number of the event file for that update, to the precision of the file."""
    assert [row["update"] for row in rows] == list(range(len(rows)))
    for tag, column in COLUMNS.items():
        points = scalars[tag]
        assert [row["env_steps"] for row in rows] == [step for step, _ in points], tag
        np.testing.assert_array_equal(
            np.array([row[column] for row in rows], np.float32), np.array([value for _, value in points], np.float32)
        )
    begin_step = 0
    for row in rows:
        ended = [
            value for step, value in scalars.get("charts/episodic_return", []) if begin_step < step <= row["env_steps"]
        ]
        assert row["episodes"] == (len(ended) or None)
        assert row["episode_return_mean"] == (pytest.approx(np.mean(ended)) if ended else None)
        begin_step = row["env_steps"]


@pytest.mark.parametrize(
    ("script", "writer", "env"),
    [
        ("ppo.py", "torch.utils.tensorboard", "CartPole-v1"),
        ("ppo_continuous_action.py", "tensorboardX", "Pendulum-v1"),
    ],
)
def test_a_script_is_recorded_as_its_own_event_file_has_it(script: str, writer: str, env: str, tmp_path: Path) -> None:
    """Every value of every update, the last one too, in the folder of the event file; the exit code is kept."""
    arguments = ("--writer", writer, "--updates", 5, "--exit-code", 7)
    code, output, errors = train(SCRIPTS / script, *arguments, folder=tmp_path)
    assert (code, output) == (7, ""), errors
    found = only_run(tmp_path)
    rows = rows_of(found)
    assert len(rows) == 5
    assert_as_written(rows, scalars_of(Path(found.path)))
    assert rows[1]["learning_rate"] == 2.5e-4 * 0.8  # with all digits, of which the event file has seven
    header = found.header
    assert (header.trainer, header.env, header.world_size) == ("CleanRL", env, 1)
    assert header.config["clip_coef"] == 0.2
    assert header.config["target_kl"] is None
    definition = header.value_loss_definition
    assert (definition["clipping"], definition["clip_range"], definition["assumed"]) == ("max", 0.2, False)
    assert (found.status(), found.faults()) == ("finished", [])
    path = Path(found.path).relative_to(tmp_path)
    assert f"esper-rec: recording to {path}\nesper-rec: {path}: 5 updates of CleanRL\n" in errors
    assert errors.endswith(f"Next: esper-analyze report --run {path}\n")

    assert import_log(Path(found.path), "--run-id", "imported", root=tmp_path / "imported").exit_code == 0
    imported = rows_of(open_run(tmp_path / "imported" / "imported"))
    ours = {"run_id", "seq", "attempt", "wall_time", "elapsed_secs", "dropped_before", "rank"}
    for row, other in zip(rows, imported, strict=True):
        for name in row.keys() - ours:
            value = row[name]
            assert value == other[name] or value == pytest.approx(other[name], rel=1e-6, nan_ok=True), name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_seals_the_run(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """In the middle of a training: all updates so far are there, and the run says what ended it."""

    def has_rows() -> bool:
        active = list(tmp_path.glob("runs/*/rank-0000/active/*.arrows"))
        return bool(active) and len(rows_of(open_run(active[0].parents[2]))) >= 5

    def interrupt(pid: int) -> None:
        wait_until(has_rows, "no update was recorded")
        os.kill(pid, number)

    arguments = ("--updates", 1_000_000, "--num-steps", 16)
    ended, _, errors = train(SCRIPTS / "ppo.py", *arguments, folder=tmp_path, meanwhile=interrupt)
    assert ended == code, errors
    found = only_run(tmp_path)
    assert (found.status(), found.faults()) == ("interrupted", [])
    assert not list(Path(found.path).glob("rank-0000/active/*"))
    (attempt,) = found.attempts()
    assert attempt.reason == {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "SIGTERM"}[number]
    rows = rows_of(found)
    written = len(scalars_of(Path(found.path))["charts/SPS"])  # the file may lack what its writer still had in memory
    assert len(rows) >= max(5, written)
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)  # as Python prints it
    assert f"{len(rows)} updates of CleanRL" in errors


def test_a_training_that_raises_is_sealed_as_failed(tmp_path: Path) -> None:
    """With exit code 1, the reason, and every update before."""
    arguments = ("--updates", 4, "--num-steps", 16, "--fail-at", 3)
    code, output, errors = train(SCRIPTS / "ppo.py", *arguments, folder=tmp_path)
    assert (code, output) == (1, "")
    assert "\nRuntimeError: the trainer broke\nesper-rec: " in errors
    found = only_run(tmp_path)
    assert (found.status(), len(rows_of(found))) == ("failed", 3)
    assert found.attempts()[0].reason == "RuntimeError: the trainer broke"


@pytest.mark.parametrize("named", [["broken.py"], ["-m", "broken"], ["-m", "breaking.inner"]])
def test_a_traceback_is_pythons(named: list[str], tmp_path: Path) -> None:
    """To the letter, with the causes of the exception; also where a package raises while it is imported."""
    lines = "def fail():\n  try:\n    1 / 0\n  except ArithmeticError as e:\n    raise KeyError(5) from e\nfail()\n"
    (tmp_path / "broken.py").write_text(lines)
    (tmp_path / "breaking").mkdir()
    (tmp_path / "breaking" / "__init__.py").write_text(lines)
    code, output, errors = run(*named, folder=tmp_path)
    plain = run_plainly(*named, folder=tmp_path)
    assert (code, output) == plain[:2] == (1, "")
    ours = [line for line in errors.splitlines() if not line.startswith("esper-rec: ")]
    theirs = plain[2].splitlines()
    frozen = [number for number, line in enumerate(theirs) if "<frozen runpy>" in line]
    assert ours == [line for number, line in enumerate(theirs) if number not in frozen]


PROBE = """
'''What it is for.'''
import json, sys, pickle
from {relative}beside import VALUE
class Kept: pass
main = sys.modules["__main__"]
print(json.dumps([
    sys.argv, __name__, __file__, sys.path, __spec__ and (__spec__.name, __spec__.origin), __package__, __doc__,
    __cached__, VALUE, type(__loader__).__name__, sorted(vars(main)), main.__dict__ is globals(), Kept.__module__,
    type(pickle.loads(pickle.dumps(Kept()))) is Kept, str(__builtins__),
], default=str))
raise SystemExit("said by the script")
"""


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """A script and a package that print what they see of their process."""
    package = tmp_path / "package"
    package.mkdir()
    for folder, relative in ((tmp_path, ""), (package, ".")):
        (folder / "beside.py").write_text("VALUE = 5\n")
        (folder / "probe.py").write_text(PROBE.format(relative=relative))
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PROBE.format(relative="."))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.py").symlink_to(tmp_path / "probe.py")
    return tmp_path


@pytest.mark.parametrize("named", [["probe.py"], ["elsewhere/link.py"], ["-m", "package.probe"], ["-m", "package"]])
def test_a_script_sees_what_it_sees_under_python(named: list[str], probes: Path) -> None:
    """Arguments, `__main__`, paths, imports beside it and relative ones, pickling, and a text as its exit."""
    arguments = [*named, "--help", "-m", "--", "--map", "a=b"]
    code, output, errors = run(*arguments, folder=probes)
    plain = run_plainly(*arguments, folder=probes)
    assert json.loads(output) == json.loads(plain[1])
    assert (code, errors.splitlines()[0]) == (1, "said by the script") == (plain[0], plain[2].strip())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["missing.py"], "cannot read the script missing.py: No such file or directory"),
        (["folder"], "expected a script, found the folder folder; name a script in it, or -m MODULE"),
        (["bytes.py"], "expected a Python script, found other bytes in bytes.py"),
        (["-m", "no_such.module"], "there is no module no_such.module; a script is named without -m, with its .py"),
        (["-m", "folder"], "folder is a package without __main__.py"),
        (["--map", "vf", "fine.py"], "--map expects KEY=FIELD, such as losses/vf=value_loss, found 'vf'"),
        (["--map", "vf=update", "fine.py"], "an import fills in update itself; choose another column"),
        (["--unknown", "fine.py"], "No such option"),
        ([], "Missing argument 'SCRIPT'"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    """Exit code 2, and nothing was run."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes.py").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "fine.py").write_text("print('run')\n")
    code, output, errors = run(*arguments, folder=tmp_path)
    assert (code, output, errors.count("\n")) == (2, "", 1), errors
    assert errors.startswith("esper-rec: ")
    assert line in errors


def test_a_script_without_a_writer_is_one_line(tmp_path: Path) -> None:
    """Exit code and output are the script's; a rank that is not the first says nothing."""
    (tmp_path / "quiet.py").write_text("print('done')\n")
    said = "esper-rec: nothing was recorded: the program made no SummaryWriter\n"
    assert run("quiet.py", folder=tmp_path) == (0, "done\n", said)
    assert run("quiet.py", folder=tmp_path, RANK="1", WORLD_SIZE="2") == (0, "done\n", "")


def test_a_syntax_error_is_pythons(tmp_path: Path) -> None:
    """As Python alone prints it."""
    (tmp_path / "broken.py").write_text("print(1\n")
    assert run("broken.py", folder=tmp_path) == run_plainly("broken.py", folder=tmp_path)


def test_a_forked_child_ends_as_it_does_without_us(tmp_path: Path) -> None:
    """SIGTERM ends a worker at once and in silence, and a child records nothing of its parent."""
    (tmp_path / "forks.py").write_text(
        "import multiprocessing, time\n"
        "context = multiprocessing.get_context('fork')\n"
        "child = context.Process(target=time.sleep, args=(1000,))\n"
        "child.start()\n"
        "child.terminate()\n"
        "child.join()\n"
        "print(child.exitcode)\n"
    )
    code, output, errors = run("forks.py", folder=tmp_path)
    assert (code, output) == (0, "-15\n")
    assert re.fullmatch("esper-rec: nothing was recorded.*\n", errors)
