"""Lists from the cache folder are those that the runs give, and what changes a run changes its line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.analyzer.app_driver import screen, show, until
from tests.waiting import wait_until
from textual.pilot import Pilot

from esper_analyzer.caching.folder import store
from esper_analyzer.cli import main
from esper_analyzer.terminal.app.app import EsperApp
from esper_analyzer.wording import count
from esper_recorder import Recorder
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.storage import SETTLED_NS
from esper_schemas.testing.golden import copy_run


def listed(root: Path, *options: str) -> str:
    """What `runs` prints."""
    result = CliRunner().invoke(main, ["runs", "--root", str(root), *options])
    assert result.exit_code in (0, 3), result.output
    return result.stdout


def entry(root: Path, name: str) -> dict[str, Any]:
    """One run of the list."""
    runs = json.loads(listed(root, "--format", "json"))["runs"]
    found: dict[str, Any] = next(run for run in runs if run["name"] == name)
    return found


def settle(root: Path) -> None:
    """Wait until the next change of any run has another time than the last one."""

    def is_settled() -> bool:
        for run in root.iterdir():
            with RunDirectory(run).open() as folder:
                found = folder.fingerprint()
            if found is None or time.time_ns() - found.changed_ns < 2 * SETTLED_NS:
                return False
        return True

    wait_until(is_settled)


def mark(cache: Path) -> None:
    """Change what is kept of every run, so that a list shows where it comes from."""
    for path in cache.glob("runs-*.json"):
        body = json.loads(path.read_bytes().partition(b"\n")[2])
        for run in body["runs"].values():
            run["updates"] = 987654
        store("runs", path.stem.removeprefix("runs-"), json.dumps(body).encode())


NAMES = ("crashed", "failed", "finished", "resumed", "two_ranks")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of golden runs."""
    for name in NAMES:
        copy_run(name, tmp_path / "runs")
    settle(tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("options", [[], ["--sort", "value_loss", "--filter", "updates > 3"]])
def test_a_list_from_the_cache_is_the_same(runs: Path, cache: Path, options: list[str]) -> None:
    """The first list, the second, and the one without a cache are the same, byte for byte."""
    expected = listed(runs, "--no-cache", *options)
    assert not cache.exists()
    assert [listed(runs, *options), listed(runs, *options)] == [expected, expected]
    mark(cache)
    assert listed(runs, *options) != expected
    assert listed(runs, "--no-cache", *options) == expected
    assert listed(runs, "--verify", *options) == expected


def change_seal(run: Path) -> None:
    """Change a seal in its place, with size and time as before."""
    path = run / "rank-0000" / "seals" / "00000000.json"
    before = path.stat()
    content = path.read_bytes().replace(b'"sha256"', b'"sha265"')
    path.write_bytes(content)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def resume(run: Path) -> None:
    """Record another update."""
    with Recorder.open(run.parent, run_id=run.name, resume="must") as recorder:
        recorder.record(update=500, policy_loss=-0.01, value_loss=0.5)


def lose_segment(run: Path) -> None:
    """Remove a sealed segment."""
    (run / "rank-0000" / "segments" / "00000000.parquet").unlink()


@pytest.mark.parametrize("change", [change_seal, resume, lose_segment])
def test_a_run_that_was_changed_is_read_anew(runs: Path, cache: Path, change: Callable[[Path], object]) -> None:
    """Whatever was changed in a run, its line is that of the run as it is now; the others are as kept."""
    before = entry(runs, "finished")
    mark(cache)
    assert entry(runs, "finished")["updates"] == 987654
    change(runs / "finished")
    after = entry(runs, "finished")
    assert after["updates"] != 987654
    assert {**after, "age_secs": None} != {**before, "age_secs": None}
    assert entry(runs, "resumed")["updates"] == 987654


def test_a_run_that_goes_on_is_not_kept(tmp_path: Path, cache: Path) -> None:
    """While somebody writes a run, it is read each time, even if nothing was written in between."""
    with Recorder.open(tmp_path / "runs", run_id="mine") as recorder:
        recorder.record(update=0, policy_loss=-0.01, value_loss=0.5)
        settle(tmp_path / "runs")
        assert entry(tmp_path / "runs", "mine")["status"] == "live"
        assert not list(cache.glob("runs-*"))
    settle(tmp_path / "runs")
    assert entry(tmp_path / "runs", "mine")["status"] == "finished"
    assert len(list(cache.glob("runs-*"))) == 1


def test_a_run_that_was_resumed_is_live_at_once(runs: Path, cache: Path) -> None:
    """A writer that has recorded nothing yet changes the line of a run that was kept."""
    assert entry(runs, "finished")["status"] == "finished"
    with Recorder.open(runs, run_id="finished", resume="must"):
        assert entry(runs, "finished")["status"] in ("live", "stale")  # its rows are old


def test_a_change_that_was_just_made_is_not_kept(runs: Path, cache: Path) -> None:
    """A run that was changed within a tick of the clock is read again the next time."""
    (runs / "finished" / "note").touch()
    listed(runs)
    mark(cache)
    found = {run["name"]: run["updates"] for run in json.loads(listed(runs, "--format", "json"))["runs"]}
    assert [name for name, updates in found.items() if updates != 987654] in (["finished"], [])
    assert found["resumed"] == 987654


def test_runs_that_are_gone_are_not_kept(runs: Path, cache: Path) -> None:
    """What is kept of a run that is not there any more is left out of the file."""
    listed(runs)
    (runs / "finished").rename(runs / "renamed")
    settle(runs)
    listed(runs)
    (path,) = cache.glob("runs-*.json")
    assert json.loads(path.read_bytes().partition(b"\n")[2])["runs"].keys() == {*NAMES, "renamed"} - {"finished"}


def test_the_chooser_of_a_screen_keeps_what_it_read(runs: Path, cache: Path) -> None:
    """It takes what `runs` kept, and `runs` takes what it kept."""

    def chosen_from() -> str:
        seen: list[str] = []

        async def steps(app: EsperApp, pilot: Pilot[None]) -> None:
            await pilot.press("o")
            await until(pilot, lambda: "resumed" in "\n".join(screen(app)) and "…" not in "\n".join(screen(app)))
            seen.extend(screen(app))
            await pilot.press("escape")

        show(runs / "finished", steps, (140, 40), root=runs)
        return "\n".join(seen)

    assert count(987654) not in chosen_from()
    wait_until(lambda: bool(list(cache.glob("runs-*"))))
    mark(cache)
    assert count(987654) in listed(runs)
    assert count(987654) in chosen_from()
