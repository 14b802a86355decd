"""Fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from tests.scratch import keep, make_scratch
from tests.waiting import HANG_SECS, set_slow_write_secs

from esper_analyzer.caching.folder import CACHE_DIR
from esper_analyzer.cli import main
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_schemas import RunDirectory, read_segments
from esper_schemas.segment.scan import ActiveSegment, SealedSegment

Command = Callable[..., "subprocess.CompletedProcess[str]"]
"""What the fixture `command` is."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background by a shell, as `make test &` is
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # other processes may be busy, and no test asserts times


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--every`, a short form of long tables, and `--from-rows`, against which stored numbers are held."""
    parser.addoption("--from-rows", action="store_true", help="use no stored numbers: all come from the rows")
    parser.addoption(
        "--every", type=int, default=1, metavar="K", help="run one in K cases of each hostile or slow table"
    )


_SCRATCH = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)  # before the folder of `tmp_path` is chosen
def pytest_configure(config: pytest.Config) -> None:
    """Heed `--from-rows`, use one thread for small networks, and write nothing but into a folder of this run.

    All of it counts for the processes that tests start, too. That folder has the user's cache as well.
    """
    os.environ.setdefault("MKL_NUM_THREADS", "1")  # torch: two wait for each other; Arrow keeps its own number
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy: they spin for a tenth of a second in each process
    if config.getoption("--from-rows"):
        os.environ[NO_CACHE] = "1"
    else:
        os.environ.pop(NO_CACHE, None)
    if not hasattr(config, "workerinput"):  # the workers of xdist share the folder of the process that started them
        scratch = config.stash[_SCRATCH] = make_scratch()
        config.option.basetemp = config.option.basetemp or str(scratch / "tests")
        os.environ[CACHE_DIR] = str(scratch / "cache")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the folder of this run for a day if a test failed."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED and _SCRATCH in session.config.stash:
        keep(session.config.stash[_SCRATCH])
        del session.config.stash[_SCRATCH]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder of this run."""
    if _SCRATCH in config.stash:
        shutil.rmtree(config.stash[_SCRATCH], ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while modules are imported: there is hardly any, and looking for it takes a third of the time.

    Each worker collects all tests. What they are stays until the end, and is not looked through again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `--every` leaves out, always the same; the first row of each table is always run."""
    every = config.getoption("--every")
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if hasattr(item, "callspec") and (item.get_closest_marker("hostile") or item.get_closest_marker("slow")):
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = {item for rows in tables.values() for number, item in enumerate(rows) if number % every}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def stored_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use numbers that were stored once, whatever `--from-rows` says: for a test of what is stored."""
    monkeypatch.delenv(NO_CACHE, raising=False)


@pytest.fixture
def read_rows() -> Callable[..., list[dict[str, Any]]]:
    """A function that reads every row of one rank as column → value, without looking for damage.

    It takes the run's folder, and the columns that are wanted, of which absent ones are None.
    """

    def read(run: Path, rank: int = 0, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for segment in read_segments(RunDirectory(run).rank(rank)):
            if isinstance(segment, SealedSegment):
                table = pq.read_table(segment.path, partitioning=None)
            elif isinstance(segment, ActiveSegment) and segment.rows is not None:
                table = pa.Table.from_batches([segment.rows])
            else:
                continue
            found = table if columns is None else table.select([name for name in columns if name in table.schema.names])
            rows += [{**dict.fromkeys(columns or ()), **row} for row in found.to_pylist()]
        return rows

    return read


@pytest.fixture
def command() -> Command:
    """Run `esper-analyze` with these arguments in this process, its output in pipes, in the folder `cwd`."""

    def _command(
        *arguments: str | Path, cwd: str | Path = ".", encoding: str = "utf-8"
    ) -> subprocess.CompletedProcess[str]:
        given = [str(argument) for argument in arguments]
        out, talk = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(talk):
            with pytest.raises(SystemExit) as exited:
                main(given, prog_name="esper-analyze")
            said = [stream.buffer.getvalue().decode(encoding) for stream in (out, talk)]
        return subprocess.CompletedProcess(given, int(exited.value.code or 0), *said)

    return _command


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a script in a process of its own, with further arguments as its `sys.argv[1:]`."""

    def run(script: str, *args: object, timeout: float = HANG_SECS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")},
        )

    return run


@pytest.fixture(autouse=True)
def _no_write_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is acknowledged however long the machine takes to write it; a test that wants a slow disk says so."""
    set_slow_write_secs(monkeypatch, HANG_SECS)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher's variables around the test run say nothing about the runs that tests record."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
