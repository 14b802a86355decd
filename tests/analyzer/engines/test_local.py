"""Processes of this machine that call a function: order, deaths, errors, and what they leave behind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.analyzer.engines.work import Piece, attempts, double, each, ends, polars_threads, wait_for_ever
from tests.waiting import wait_until

from esper_analyzer.engines.engine import BATCH, MAX_DEATHS, Lost, WorkersFailedError
from esper_analyzer.engines.local import LocalEngine


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 3 * 4 * BATCH + 7])
def test_results_come_in_the_order_of_the_items(tmp_path: Path, workers: int, count: int) -> None:
    """Each item is worked on once, by whichever worker is free."""
    pieces = [Piece(number, tmp_path / "log") for number in range(count)]
    with LocalEngine(workers) as engine:
        assert list(engine.map(partial(each, double), pieces)) == [2 * number for number in range(count)]
    assert sorted(attempts(tmp_path / "log")) == list(range(count))


def test_work_begins_before_a_result_is_asked_for(tmp_path: Path) -> None:
    """Whoever hands it out can do something else meanwhile."""
    with LocalEngine(1) as engine:
        results = engine.map(partial(each, wait_for_ever), [tmp_path / "first"])
        wait_until((tmp_path / "first").exists)
        assert list(results) == [None]


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, MAX_DEATHS])
def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path, deaths: int) -> None:
    """Its items are worked on again by another, each alone; the first death of an item was not alone."""
    pieces = [Piece(number, tmp_path / "log", dies=deaths if number in (5, 23) else 0) for number in range(40)]
    with LocalEngine(2) as engine:
        assert list(engine.map(partial(each, double), pieces)) == [2 * number for number in range(40)]
    tried = attempts(tmp_path / "log")
    assert tried.count(5) == tried.count(23) == deaths + 1
    assert max(tried.count(number) for number in range(40) if number not in (5, 23)) <= 2


def test_an_item_that_kills_every_worker_is_lost_and_no_other(tmp_path: Path) -> None:
    """Its place has how often a worker died that had nothing else, and how the last one died."""
    pieces = [Piece(number, tmp_path / "log", dies=99 if number == 7 else 0) for number in range(40)]
    with LocalEngine(2) as engine:
        results = list(engine.map(partial(each, double), pieces))
    assert results.pop(7) == Lost(MAX_DEATHS, "SIGKILL")
    assert results == [2 * number for number in range(40) if number != 7]


@pytest.mark.slow
def test_workers_that_all_die_are_an_error(tmp_path: Path) -> None:
    """Not every item is tried on a machine on which no worker can work."""
    pieces = [Piece(number, tmp_path / "log", dies=99) for number in range(400)]
    with LocalEngine(2) as engine, pytest.raises(WorkersFailedError, match=r"20 workers died \(SIGKILL\)"):
        list(engine.map(partial(each, double), pieces))
    assert len(attempts(tmp_path / "log")) < 40


def test_a_worker_that_exits_is_dead_too() -> None:
    """Whatever ended it, the cause says so."""
    with LocalEngine(1) as engine:
        assert list(engine.map(partial(each, ends), [3])) == [Lost(MAX_DEATHS, "exit code 3")]


def test_what_the_function_raises_is_raised(tmp_path: Path) -> None:
    """An error is no death, and the workers go on."""
    with LocalEngine(2) as engine:
        pieces = [Piece(number, tmp_path / "log", raises=number == 2) for number in range(3)]
        with pytest.raises(ValueError, match="2 cannot be doubled"):
            list(engine.map(partial(each, double), pieces))
        assert list(engine.map(partial(each, double), pieces[:2])) == [0, 2]


def test_polars_has_one_thread_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a worker for each core, and this process keeps its own setting."""
    monkeypatch.setenv("POLARS_MAX_THREADS", "2")
    with LocalEngine(1) as engine:
        assert list(engine.map(partial(each, polars_threads), [0])) == [1]
    assert os.environ["POLARS_MAX_THREADS"] == "2"


def test_leaving_ends_workers_that_are_at_work(tmp_path: Path) -> None:
    """Nobody waits for what they do, as after Ctrl-C."""
    before = set(multiprocessing.active_children())
    with LocalEngine(2) as engine:
        assert next(engine.map(partial(each, wait_for_ever), [tmp_path / "first", None])) is None
        assert len(set(multiprocessing.active_children()) - before) == 2
    assert set(multiprocessing.active_children()) == before


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Also if it is killed while they work."""
    script = (
        "from pathlib import Path\nfrom esper_analyzer.engines.local import LocalEngine\n"
        "from tests.analyzer.engines.work import names_itself\n"
        f"if __name__ == '__main__':\n    list(LocalEngine(1).map(names_itself, [Path({str(tmp_path / 'pid')!r})]))\n"
    )
    (tmp_path / "script.py").write_text(script)
    paths = os.pathsep.join([str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env={**os.environ, "PYTHONPATH": paths})
    wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    worker = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{worker}").exists())
