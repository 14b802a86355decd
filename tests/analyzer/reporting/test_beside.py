"""The second process of a long report: the numbers are the same, and it is gone afterwards, whatever happens to it."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from esper_analyzer import Run, open_run, read_settings
from esper_analyzer.caching.folder import CACHE_DIR
from esper_analyzer.cli import main
from esper_analyzer.engines import local
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_analyzer.measuring.snapshot import metric_names
from esper_analyzer.measuring.whole import Whole, whole_of
from esper_analyzer.reading.run_index import RunIndex
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_analyzer.reporting import beside
from esper_analyzer.reporting.beside import WholeBeside
from esper_recorder import Recorder
from esper_schemas.metric.catalogue import LOSS_RATIO
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.names import states_name


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five segments, with digests in all but the last one; its second attempt supersedes rows."""
    root, rng = tmp_path_factory.mktemp("beside"), np.random.default_rng(0)
    for first, count in ((0, 3000), (2500, 1200)):
        with Recorder.open(root, run_id="run", resume="allow", segment_rows=1100) as recorder:
            for update in range(first, first + count):
                loss = float("inf") if update % 700 == 0 else float(rng.lognormal())
                recorder.record(update=update, policy_loss=float(rng.normal()), value_loss=loss, extras={"mine": loss})
    return root / "run"


@pytest.fixture(autouse=True)
def long_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is long enough for a second process, there are cores for it, and nothing is kept."""
    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "cache"))
    monkeypatch.setattr(beside, "FEWEST", 2)
    monkeypatch.setattr(local, "cores", lambda: 2)


def here(run: Run, found: RunIndex) -> Whole:
    """What this process makes of the same."""
    return whole_of(found.stretches([0]), found.schema, [*metric_names(found.schema), LOSS_RATIO])


def test_a_report_is_the_same_with_two_processes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says the same to the byte, and the numbers of the second process are used."""
    used: list[Whole | None] = []
    own = WholeBeside.whole

    def whole_beside(self: WholeBeside) -> Whole | None:
        used.append(own(self))
        return used[-1]

    monkeypatch.setattr(WholeBeside, "whole", whole_beside)
    with_two = CliRunner().invoke(main, ["report", str(path), "--format", "json"])
    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "another"))
    monkeypatch.setattr(beside, "FEWEST", 100)
    with_one = CliRunner().invoke(main, ["report", str(path), "--format", "json"])
    assert with_two.exit_code == with_one.exit_code == 0
    assert with_two.output == with_one.output
    assert [one is None for one in used] == [False, True]
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("stored_numbers")
def test_a_report_that_was_kept_starts_no_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time there is nothing left to do."""
    first = CliRunner().invoke(main, ["report", str(path)])
    monkeypatch.setattr(WholeBeside, "begin", lambda _: pytest.fail("a process was started"))
    assert CliRunner().invoke(main, ["report", str(path)]).output == first.output


@pytest.mark.parametrize("has_states", [False, True])
def test_both_processes_combine_the_same(path: Path, has_states: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, and states with one file that is broken, give the same bits there."""
    run = open_run(path)
    states = RunDirectory(path).rank(0).path / states_name(1)
    kept = states.read_bytes()
    states.write_bytes(b"{}")
    if not has_states:
        monkeypatch.setenv(NO_CACHE, "1")
    try:
        found = run.look()
        with WholeBeside(run, "first", found) as process:
            process.begin()
            there = process.whole()
    finally:
        states.write_bytes(kept)
    assert repr(there) == repr(here(run, found))


def test_a_killed_process_only_costs_time(path: Path) -> None:
    """Another one does its work; if that is killed each time, this process does."""
    run = open_run(path)
    found = run.look()
    with WholeBeside(run, "first", found) as process:
        process.begin()
        for child in multiprocessing.active_children():
            child.kill()
        assert repr(process.whole()) == repr(here(run, found))
    assert not multiprocessing.active_children()


def test_a_process_that_cannot_be_started_is_not_missed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process does all the work then, as where each process dies."""
    run = open_run(path)
    found = run.look()
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", lambda _: no_process())
    with WholeBeside(run, "first", found) as process:
        process.begin()
        assert process.whole() is None


def test_leaving_ends_the_process_at_its_work(path: Path) -> None:
    """As after Ctrl-C, nobody waits for it."""
    run = open_run(path)
    with suppress(KeyboardInterrupt), WholeBeside(run, "first", run.look()) as process:
        process.begin()
        assert len(multiprocessing.active_children()) == 1
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("why_not", ["few segments", "one core", "thresholds of the user"])
def test_no_process_is_started_where_it_does_not_pay(
    path: Path, tmp_path: Path, why_not: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run is summed up sooner than a process has started; other thresholds need the rows."""
    (tmp_path / "mine.toml").write_text("[thresholds.value_loss]\ncritical = '> 30'\n")
    settings = read_settings(tmp_path / "mine.toml") if why_not == "thresholds of the user" else DEFAULT_SETTINGS
    monkeypatch.setattr(beside, "FEWEST", 6 if why_not == "few segments" else 2)
    monkeypatch.setattr(local, "cores", lambda: 1 if why_not == "one core" else 2)
    run = open_run(path, settings=settings)
    with WholeBeside(run, "first", run.look()) as process:
        process.begin()
        assert not multiprocessing.active_children()
        assert process.whole() is None


def no_process() -> None:
    """What starting a process does where no more may be."""
    raise OSError("Resource temporarily unavailable")
