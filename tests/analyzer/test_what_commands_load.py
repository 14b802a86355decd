"""What each command loads: those that read no run wait for no library that is slow to load."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.forked import run_code

from esper_analyzer.cli import main
from esper_recorder import Recorder

SLOW = frozenset({"asyncio", "jinja2", "matplotlib", "mcp", "numpy", "plotext", "polars", "pyarrow", "rich", "textual"})
ALWAYS = frozenset({"numpy", "polars", "pyarrow"})
"""What every command needs that reads the rows of a run."""

LISTED = """
import atexit, sys
from esper_analyzer.cli import main
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
main(prog_name="esper-analyze")
"""
"""The command, and then the names of all modules in one line."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two short runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        with Recorder.open(folder, run_id=name) as recorder:
            for update in range(60):
                recorder.record(
                    update=update, policy_loss=-0.01, value_loss=1.0, entropy=1.0, kl_divergence=0.01,
                    clip_fraction=0.1, explained_variance=0.9,
                )  # fmt: skip
    return folder


def loaded(*arguments: str, code: int = 0, environment: Mapping[str, str] = MappingProxyType({})) -> set[str]:
    """Run the command in a process; return every module that it loaded."""
    command = [sys.executable, "-X", "importtime", "-m", "esper_analyzer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == code, done.stderr[-2000:]
    return set(re.findall(r"^import time: .*\| +(\S+)$", done.stderr, re.MULTILINE))


def loaded_beside(*arguments: str) -> set[str]:
    """Run the command in a process that has loaded what every reader of rows needs; return every module it has then."""
    done = run_code(LISTED, *arguments, imports=tuple(sorted(ALWAYS)))
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [[], *([name] for name in main.commands)], ids=" ".join)
def test_help_loads_nothing_slow(arguments: list[str]) -> None:
    """`--help` of every command loads none of the slow libraries."""
    assert not loaded(*arguments, "--help") & SLOW


def test_completion_loads_nothing_slow(root: Path) -> None:
    """A shell that completes the name of a run waits for none of the slow libraries."""
    words = {"COMP_WORDS": f"esper-analyze report --root {root} o", "COMP_CWORD": "4"}
    assert not loaded(environment={"_ESPER_ANALYZE_COMPLETE": "bash_complete", **words}) & SLOW


def test_wrong_option_loads_nothing_slow() -> None:
    """A wrong option is refused without loading any of the slow libraries."""
    assert not loaded("report", "--no-such-option", code=2) & SLOW


@pytest.mark.parametrize(
    ("arguments", "further"),
    [
        (["report"], {"rich"}),
        (["report", "--format", "json"], {"rich"}),
        (["check"], {"rich"}),
        (["runs"], {"rich"}),
        (["fleet", "--workers", "1"], {"rich"}),
        (["explain", "--update", "50"], {"rich"}),
        (["export", "--force", "-o", "{root}/one.csv"], set()),
        (["compare", "one", "two"], {"rich"}),
        (["tail", "--once"], {"rich", "plotext"}),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_command_loads_what_it_uses(root: Path, arguments: list[str], further: set[str]) -> None:
    """A command that reads runs loads no screen, no page, no plot and no server."""
    given = [argument.format(root=root) for argument in arguments]
    assert loaded_beside(*given, "--root", str(root)) & SLOW <= ALWAYS | further


def test_a_short_report_loads_nothing_to_start_processes(root: Path) -> None:
    """Only a long report has a second process."""
    assert "multiprocessing.connection" not in loaded_beside("report", "--root", str(root))


def test_a_chart_loads_no_manual_no_tests_and_no_pillow(root: Path) -> None:
    """A chart loads plotext without its manual, its tests and Pillow, and leaves them to be imported by others."""
    unused = ("plotext._doc.", "plotext._tests.", "unittest", "PIL.")
    assert not [name for name in loaded("tail", "--once", "--root", str(root)) if name.startswith(unused)]
    script = (
        "from esper_analyzer.drawing.figure import cleared_figure, marker\n"
        "with cleared_figure() as figure: figure.draw(figure.signal([0, 1], [0, 1], marker=marker('*', 9)))\n"
        "from plotext._doc.doc import docs\n"
        "import plotext, PIL.Image\n"
        "assert docs is not None and callable(plotext.test)\n"
        "from plotext._tests.run import test\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_command_leaves_no_garbage_that_a_library_names(root: Path) -> None:
    """A process that has loaded sketches ends without a word on standard error, since it looks for garbage then."""
    script = (
        "import datasketches, gc\n"
        "from esper_analyzer.cli import main\n"
        "gc.disable()\n"
        "cycle = [datasketches.tdigest_double(100)]\n"
        "cycle.append(cycle)\n"
        "del cycle\n"
        f"main(['report', '--root', {str(root)!r}, '--run', 'one'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "one" in done.stdout
    assert done.stderr == ""


THREADS = """
import os
from contextlib import suppress
from esper_analyzer.cli import main
with suppress(SystemExit):
    main(["report", "--help"])
before = len(os.listdir("/proc/self/task"))
import numpy
print(len(os.listdir("/proc/self/task")) - before, os.environ.get("OPENBLAS_NUM_THREADS"))
"""
"""How many threads NumPy starts in a command, and what a process that the command starts is told."""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads of a process in /proc")
@pytest.mark.parametrize(("wanted", "threads"), [(None, 0), ("2", min(2, os.cpu_count() or 1) - 1)])
def test_linear_algebra_starts_no_threads_unless_the_user_wants_them(wanted: str | None, threads: int) -> None:
    """They spin for a tenth of a second of the processor, and no command multiplies matrices."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {} if wanted is None else {"OPENBLAS_NUM_THREADS": wanted}
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"{threads} {wanted}"
