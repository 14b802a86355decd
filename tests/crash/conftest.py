"""What the crash tests share: the table that they fill, their two lengths, folders to write into, a nursery."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crash.ledger import Ledger
from tests.crash.nursery import Nursery
from tests.scratch import DISK

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
def memory() -> Iterator[Path]:
    """An empty folder that any user can reach, in memory where that can be had: thousands of states are written."""
    yield from _folder(None)


@pytest.fixture
def disk() -> Iterator[Path]:
    """An empty folder on a disk."""
    yield from _folder(DISK)


def _folder(place: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="esper-crash-", dir=place)).resolve()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Starts recording processes within milliseconds."""
    nursery = Nursery()
    yield nursery
    nursery.close()
