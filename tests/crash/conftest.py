"""What the crash tests share: the table that they fill, their two lengths, a folder in memory, a nursery."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.ledger import Ledger
from tests.crash.nursery import Nursery

_LEDGER = pytest.StashKey[Ledger]()


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """The table that is printed at the end."""
    return request.config.stash.setdefault(_LEDGER, Ledger())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, if any test filled it, and it is wanted: at length, or with -v."""
    ledger = config.stash.get(_LEDGER, None)
    if ledger is not None and (config.option.markexpr == "torture" or config.option.verbose > 0):
        terminalreporter.section("torture")
        for line in ledger.table():
            terminalreporter.write_line(line)


@pytest.fixture(
    params=["short", pytest.param("long", marks=[pytest.mark.torture, pytest.mark.timeout(1800)])],
)
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether to go through all states (`make torture`) or a sample of them (every run of the suite)."""
    return bool(request.param == "long")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where that can be had: thousands of states are written there."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="esper-crash-", dir=shared)).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Starts recording processes within milliseconds."""
    nursery = Nursery()
    yield nursery
    nursery.close()
