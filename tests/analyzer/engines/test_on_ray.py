"""A Ray cluster that calls a function: the same results, deaths and errors; and clusters that are not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.analyzer.deadly import deadly_environment, make_deadly, ray_cluster
from tests.conftest import Command
from tests.waiting import HANG_SECS, wait_until

from esper_recorder import Recorder

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[3]

SCRIPT = """
import json, sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from esper_analyzer.engines.engine import Lost
from esper_analyzer.engines.on_ray import RayEngine
from tests.analyzer.engines.work import Piece, double, each, polars_threads
log = Path(sys.argv[2])
with RayEngine(sys.argv[1]) as engine:
    workers, threads = engine.workers, list(engine.map(partial(each, polars_threads), [0]))
    print("of no use to anybody")
    pieces = [Piece(number, log, dies={5: 1, 7: 99}.get(number, 0)) for number in range(40)]
    results = list(engine.map(partial(each, double), pieces))
    try:
        list(engine.map(partial(each, double), [Piece(1, log, raises=True)]))
        raised = None
    except ValueError as error:
        raised = str(error)
lost = results.pop(7)
assert isinstance(lost, Lost)
print(json.dumps([workers, threads, results, lost.deaths, lost.cause, raised]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of the cluster and of the commands: workers die of the run `deadly`, and find the modules of the tests."""
    made = deadly_environment(tmp_path_factory.mktemp("hook"))
    return {**made, "PYTHONPATH": f"{made['PYTHONPATH']}{os.pathsep}{PROJECT}"}


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A cluster of two nodes, whose start takes longer than most tests of it: its address, its group of processes."""
    with ray_cluster(environment) as found:
        yield found


@pytest.fixture
def address(cluster: tuple[str, int]) -> str:
    """The address of the cluster."""
    return cluster[0]


def fleet(*arguments: object, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run `esper-analyze fleet` in a process of its own."""
    command = [sys.executable, "-m", "esper_analyzer", "fleet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=HANG_SECS, check=False, env=environment)


def test_results_are_those_of_local_processes(address: str, environment: dict[str, str], tmp_path: Path) -> None:
    """In order, whatever died; what raises raises; and Ray writes nothing on standard output."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, address, str(tmp_path / "log")],
        capture_output=True, text=True, timeout=HANG_SECS, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    doubled = [2 * number for number in range(40) if number != 7]
    assert done.stdout == f'[2, [1], {doubled}, 3, "WorkerCrashedError", "1 cannot be doubled"]\n'


def test_a_fleet_is_the_same_to_the_byte(
    command: Command, address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Local and on the cluster, where a worker is killed."""
    for name in range(12):
        with Recorder.open(tmp_path / "runs", run_id=f"run-{name}", config={"lr": 1e-3, "seed": name}) as recorder:
            for update in range(30):
                recorder.record(update=update, policy_loss=-0.01, value_loss=0.5, episode_return_mean=float(name))
    told = make_deadly(tmp_path / "runs" / "run-3", 0)
    given = (tmp_path / "runs", "--no-cache", "--format", "json")
    local = command("fleet", *given, "--workers", "1")
    assert local.returncode == 0, local.stderr
    told.write_text("2")
    ray = fleet(*given, "--engine", "ray", "--address", address, environment=environment)
    assert (ray.returncode, ray.stdout.decode()) == (0, local.stdout), ray.stderr
    assert int(told.read_text()) < 0  # both deaths took place


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster answers at 127.0.0.1:1 (Connection refused)"),
        (
            ["--engine", "ray", "--address", "here"],
            "--address must be HOST:PORT of a Ray cluster, or auto; found 'here'",
        ),
        (["--engine", "ray", "--address", "ray://a:1"], "--address must be HOST:PORT"),
        (["--address", "127.0.0.1:1"], "--address is that of a Ray cluster, and needs --engine ray"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_clear_line(
    command: Command, tmp_path: Path, options: list[str], said: str
) -> None:
    """Exit code 2, at once: Ray itself would go on trying."""
    Recorder.open(tmp_path, run_id="run").close()
    done = command("fleet", tmp_path, *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_without_ray_the_error_says_how_to_install_it(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    """Only this engine needs it."""
    Recorder.open(tmp_path, run_id="run").close()
    script = "import sys; sys.modules['ray'] = None\nfrom esper_analyzer.cli import main\nmain(sys.argv[1:])"
    done = run_python(script, "fleet", tmp_path, "--no-cache", "--engine", "ray")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "esper-analyze: --engine ray needs Ray, which is not installed: pip install 'ray>=2.50'\n"


def test_workers_with_other_code_are_refused(address: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Their rows might differ from those of this machine."""
    Recorder.open(tmp_path / "runs", run_id="run").close()
    copy = tmp_path / "other"
    copy.mkdir()
    for name in ("esper_analyzer", "esper_schemas"):
        source = PROJECT / ("analyzer" if name == "esper_analyzer" else "schemas") / name
        subprocess.run(["cp", "-r", str(source), str(copy / name)], check=True)
    with (copy / "esper_analyzer" / "options.py").open("a") as file:
        file.write("# changed\n")
    paths = f"{copy}{os.pathsep}{environment['PYTHONPATH']}"
    arguments = (tmp_path / "runs", "--no-cache", "--engine", "ray", "--address", address)
    done = fleet(*arguments, environment={**environment, "PYTHONPATH": paths})
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"the nodes of the Ray cluster have other code than this machine" in done.stderr


def test_a_cluster_that_goes_away_is_one_clear_line(
    cluster: tuple[str, int], environment: dict[str, str], tmp_path: Path
) -> None:
    """Exit code 2: Ray itself would end the command with 1, a verdict. No other test of the cluster may follow."""
    address, group = cluster
    Recorder.open(tmp_path, run_id="run").close()
    told = make_deadly(tmp_path / "run", "wait")
    impatient = (
        "import sys\nfrom esper_analyzer.engines import on_ray\nfrom esper_analyzer.cli import main\n"
        "on_ray._LOOK_SECS = 0.5\nmain(sys.argv[1:])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", impatient, "fleet", tmp_path, "--engine", "ray", "--address", address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    wait_until(lambda: told.read_text() == "idle")
    os.killpg(group, signal.SIGKILL)
    out, talk = process.communicate(timeout=HANG_SECS)
    assert (process.returncode, out) == (2, b"")
    assert f"the Ray cluster at {address} answers no longer (Connection refused)" in talk.decode()
