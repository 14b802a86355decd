"""The judgement on a run that has ended is taken from the cache folder, and made again if the run goes on after all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.golden.golden import differences

from esper_analyzer import open_run
from esper_analyzer.caching.folder import CACHE_DIR
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.judge import Judge
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.picture import Picture
from esper_analyzer.live.ranks import RanksFeed
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_analyzer.strict_json import strict
from esper_recorder import Recorder
from esper_schemas.testing.golden import NAMES, copy_run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored_numbers: None) -> Path:
    """An empty cache folder of the test."""
    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "cache"))
    return tmp_path / "cache"


def catch_up(feed: LiveFeed) -> Picture:
    """The picture when nothing is left to read or to judge."""
    while feed.look() | feed.work():
        feed.picture()
    return feed.picture()


def seen(run: Path) -> dict[str, Any]:
    """What a screen shows of the judgement on a run."""
    feed = RanksFeed(open_run(run))
    picture = feed.finish()
    feed.close()
    shown = {"verdict": picture.verdict, "events": picture.events, "gaps": picture.gaps, "judged": picture.judged}
    body: dict[str, Any] = strict({name: _plain(part) for name, part in shown.items()})
    return body


def _plain(part: Any) -> Any:
    if isinstance(part, tuple):
        return [_plain(one) for one in part]
    return asdict(part) if hasattr(part, "__dataclass_fields__") else part


def write(root: Path, updates: Iterable[int], *, is_bad: bool = False, **options: Any) -> Path:
    """An attempt at a run; if it is bad, three losses of every 150 are not finite."""
    with Recorder.open(root, run_id="run", segment_rows=64, **options) as recorder:
        for update in updates:
            loss = math.inf if is_bad and update % 150 in (5, 6, 7) else 1.0
            recorder.record(update=update, policy_loss=-0.01, value_loss=loss)
    return Path(recorder.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_screen_shows_what_the_rows_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first screen, the second and one after a report show the judgement that the rows give."""
    run = copy_run(name, tmp_path)
    first, second = seen(run), seen(run)
    open_run(run).report()
    third = seen(run)
    monkeypatch.setenv(NO_CACHE, "1")
    from_rows = seen(run)
    assert not differences(from_rows, first)
    assert first == second == third


@pytest.mark.parametrize("by", ["screen", "report"])
def test_no_row_of_a_finished_run_is_judged_twice(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another screen or a report has judged is not judged by the next screen."""
    run = write(tmp_path, range(300), is_bad=True)
    shown = seen(run) if by == "screen" else None
    open_run(run).report()

    def advance(self: Judge, rows: pl.DataFrame, numbers: pl.DataFrame) -> None:
        raise AssertionError("a row is judged again")

    monkeypatch.setattr(Judge, "_judge", advance)
    assert shown in (None, seen(run))
    assert seen(run)["judged"] == 300


@pytest.mark.parametrize("start", [300, 200], ids=["further", "further back"])
@pytest.mark.parametrize("is_caught_up", [True, False])
def test_a_finished_run_that_goes_on_is_judged_again(
    start: int, is_caught_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is that on all rows, and only what the new ones raise is told."""
    run = write(tmp_path, range(300), is_bad=True)
    seen(run)
    told: list[Alert] = []
    feed = LiveFeed(open_run(run), 0, on_alert=told.append)
    if is_caught_up:
        assert catch_up(feed).verdict is not None
    assert not told
    write(tmp_path, range(start, start + 120), is_bad=True, resume="must")
    picture = catch_up(feed)
    feed.close()
    assert told
    assert min(alert.update for alert in told) >= start
    monkeypatch.setenv(NO_CACHE, "1")
    fresh = LiveFeed(open_run(run), 0).finish()
    assert (picture.verdict, picture.events, picture.judged) == (fresh.verdict, fresh.events, start + 120)


def test_a_run_that_began_after_the_screen_is_told_of(tmp_path: Path) -> None:
    """If a run has ended before the screen that waited for it looks, all its alerts are told, kept or not."""
    run = write(tmp_path, range(300), is_bad=True)
    seen(run)
    told: list[Alert] = []
    feed = LiveFeed(open_run(run), 0, on_alert=told.append, is_new=True)
    catch_up(feed)
    feed.close()
    assert min(alert.update for alert in told) == 5


def test_damage_after_the_judgement_is_in_the_verdict(tmp_path: Path) -> None:
    """A segment that is lost while a finished run is on the screen is in the verdict once the files are checked."""
    run = write(tmp_path, range(300))
    feed = LiveFeed(open_run(run), 0)
    before = catch_up(feed).verdict
    (run / "rank-0000" / "segments" / "00000001.parquet").unlink()
    feed._is_checked = False
    after = catch_up(feed)
    feed.close()
    assert before is not None
    assert after.verdict is not None
    assert after.damage > 0
    assert before.reasons != after.verdict.reasons
