"""The live monitor in a real recorder: it says during the run what the report says afterwards, and does no harm."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tests.waiting import set_slow_write_secs

from esper_analyzer import Report, live_monitor, open_run, read_settings
from esper_analyzer.judging.alerts import Alert
from esper_analyzer.judging.course import LEARNING_UPDATES
from esper_analyzer.judging.monitor import LiveMonitor
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_recorder import Recorder
from esper_schemas import METRICS, ValueLossDefinition

OURS = ValueLossDefinition(source="0.5 * mean((V - G)^2)", factor=1.0, clipping="none", reduction="all minibatches")
FLOATS = [name for name, metric in METRICS.items() if metric.dtype == "float64" and name != "elapsed_secs"]
COUNTS = ("nan_grad_count", "inf_grad_count")
SOUND: dict[str, Any] = {"policy_loss": -0.01, "value_loss": 0.5, "explained_variance": 0.9}


def messy_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Updates in which a good deal goes wrong: gaps, skips, holes, NaN, infinities, spikes, extra metrics."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    update = 5
    for i in range(count):
        values: dict[str, Any] = dict(zip(FLOATS, rng.lognormal(-1.0, 1.5, len(FLOATS)).tolist(), strict=True))
        if 60 < i < 100:  # a sound stretch
            values |= {"value_loss": 0.1, "return_std": 1.0, "explained_variance": 0.9, "value_std": 0.9}
        odd = rng.random(len(FLOATS))
        values |= {"value_loss": math.inf} if i == 40 else {}
        values |= {name: None for name, hole in zip(FLOATS, odd, strict=True) if hole < 0.1}
        values |= {name: math.nan for name, hole in zip(FLOATS, odd, strict=True) if 0.1 <= hole < 0.11}
        values |= {name: int(rng.integers(0, 3)) for name in COUNTS}
        values |= {"policy_loss": -0.01 if values["policy_loss"] is None else values["policy_loss"]}
        values |= {"value_loss": 0.3 if values["value_loss"] is None else values["value_loss"]}
        if rng.random() < 0.05:
            values |= {"skipped": True, "skip_reason": 1, "value_loss": math.nan}
        rows.append({"update": update, **values})
        update += 1 if rng.random() < 0.97 else 3
    return rows


def record(root: Path, rows: Iterable[dict[str, Any]], monitor: LiveMonitor, **options: Any) -> Report:
    """Record rows under the eyes of a monitor; the report on the run afterwards."""
    with Recorder.open(root, run_id="r", value_loss_definition=OURS, on_update=monitor, **options) as recorder:
        for row in rows:
            recorder.record(**row)
    return open_run(root / "r").report()


def said(alerts: Iterable[Alert]) -> list[dict[str, Any]]:
    """All that alerts say, in their order, but for the rank; NaN equals NaN."""
    return [{name: str(value) for name, value in asdict(alert).items() if name != "rank"} for alert in alerts]


def test_what_is_said_live_is_what_the_report_says(tmp_path: Path) -> None:
    """The same alerts, the same verdict; and `level` is that of the verdict after every update."""
    raised: list[Alert] = []
    levels: list[str] = []
    monitor = live_monitor(raised.append)

    def watch(row: Any) -> None:
        monitor(row)
        assert monitor.level == monitor.verdict().level
        levels.append(monitor.level)

    rows = messy_rows(170)
    with Recorder.open(
        tmp_path, run_id="r", value_loss_definition=OURS, on_update=watch, strict=True, segment_rows=50
    ) as recorder:
        for row in rows:
            recorder.record(**row, extras={"mine": 1.0})
    report = open_run(tmp_path / "r").report()
    assert said(report.alerts) == said(monitor.alerts)
    assert len(raised) == sum(alert.count for alert in report.alerts) > 50
    for alert in report.alerts:
        times = [one for one in raised if one.rule == alert.rule]
        worst = next(one for one in times if one.level == alert.level)
        assert (worst.update, worst.since, worst.level) == (alert.update, alert.since, alert.level)
        assert (times[0].update, times[-1].update, len(times)) == (alert.first, alert.last, alert.count)
        assert [one.count for one in times] == list(range(1, len(times) + 1))
        assert {one.first for one in times} == {alert.first}
    assert report.verdict == monitor.verdict()
    assert {"critical", "warning"} <= set(levels)
    assert levels[0] != "healthy"


def test_a_sound_run_is_healthy_after_the_warm_up(tmp_path: Path) -> None:
    """Unknown until the critic is judged, then healthy, and no alert is raised."""
    levels: list[str] = []
    monitor = live_monitor()
    with Recorder.open(tmp_path, run_id="r", on_update=monitor) as recorder:
        assert monitor.level == monitor.verdict().level == "unknown"
        for update in range(40):
            recorder.record(update=update, **SOUND, return_std=2.0, value_std=1.9)
            levels.append(monitor.level)
    assert levels == ["unknown"] * (LEARNING_UPDATES - 1) + ["healthy"] * (41 - LEARNING_UPDATES)
    assert not monitor.alerts


@pytest.mark.parametrize("wrap", [np.float32, np.float64, lambda x: torch.tensor(x), lambda x: np.array(x)])
@pytest.mark.parametrize("in_background", [False, True])
def test_numbers_may_be_of_any_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Any, in_background: bool
) -> None:
    """Scalars of NumPy and 0-d tensors are judged like floats, whichever thread writes the row."""
    if in_background:
        set_slow_write_secs(monkeypatch, -1.0, of_thread=False)
    plain, wrapped = live_monitor(), live_monitor()
    rows = [{"kl_divergence": 0.5 if i % 20 > 10 else 0.001, "nan_grad_count": 2 * (i > 30)} for i in range(45)]
    for i, row in enumerate(rows):
        plain({"update": i, **SOUND, **{name: float(np.float32(value)) for name, value in row.items()}})
    report = record(
        tmp_path,
        [
            {"update": np.int64(i), **SOUND, "skipped": np.bool_(False), "kl_divergence": wrap(row["kl_divergence"])}
            | {"nan_grad_count": np.int32(row["nan_grad_count"])}
            for i, row in enumerate(rows)
        ],
        wrapped,
    )
    levels = {alert.metric for alert in wrapped.alerts}
    assert levels == {"kl_divergence", "nan_grad_count"}
    assert [(a.update, a.metric, a.level, a.since) for a in wrapped.alerts] == [
        (a.update, a.metric, a.level, a.since) for a in plain.alerts
    ]
    assert said(wrapped.alerts) == said(report.alerts)
    assert wrapped.verdict() == report.verdict


def test_a_missing_update_is_an_alert_and_stays_in_the_verdict(tmp_path: Path) -> None:
    """At once, with its range; a dropped row is a gap, too. The first update need not be 0."""
    raised: list[Alert] = []
    monitor = live_monitor(raised.append)
    updates = [7, 8, 9, 13, 14, 16]
    report = record(tmp_path, [{"update": update, **SOUND} for update in updates], monitor)
    assert [(a.update, a.metric, a.value, a.since, a.count) for a in raised] == [
        (13, "update", 3.0, 10, 1),
        (16, "update", 1.0, 15, 2),
    ]
    (alert,) = monitor.alerts
    assert (alert.rule, alert.update, alert.value, alert.since, alert.until) == ("missing_updates", 13, 3.0, 10, 13)
    assert (alert.count, alert.first, alert.last, alert.worst, alert.worst_update) == (2, 13, 16, 3.0, 13)
    assert alert.message.startswith("4 updates are missing: 10 to 12, 15. ")
    assert said(monitor.alerts) == said(report.alerts)
    assert monitor.verdict() == report.verdict
    assert monitor.level == "warning"
    assert monitor.verdict().reasons[0] == "4 updates are missing: 10 to 12, 15."


def test_skipped_updates_are_alerts_with_their_reason(tmp_path: Path) -> None:
    """One warns, three in a row are critical; what they measured is not judged."""
    raised: list[Alert] = []
    monitor = live_monitor(raised.append)
    skip = {"skipped": True, "skip_reason": 2, "policy_loss": None, "value_loss": math.nan}
    rows = [{"update": i, **(skip if i in (3, 20, 21, 22) else SOUND)} for i in range(25)]
    report = record(tmp_path, rows, monitor)
    assert [(a.update, a.level) for a in raised] == [(3, "warning"), (20, "warning"), (22, "critical")]
    assert "(non-finite gradients)" in raised[0].message or "(" in raised[0].message
    (alert,) = monitor.alerts
    assert (alert.update, alert.level, alert.count, alert.first, alert.last) == (22, "critical", 3, 3, 22)
    assert (alert.worst, alert.worst_update, alert.lasts, alert.in_force) == (3.0, 22, True, "critical")
    assert monitor.verdict() == report.verdict
    assert monitor.level == "critical"


def test_a_callback_that_raises_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The recorder logs it once and goes on; rows, alerts and verdict are as if it had not raised."""

    def on_alert(alert: Alert) -> None:
        raise ZeroDivisionError(alert.metric)

    monitor, quiet = live_monitor(on_alert), live_monitor()
    rows = messy_rows(40)
    with caplog.at_level(logging.ERROR, "esper_recorder"):
        report = record(tmp_path, rows, monitor)
    for row in rows:
        quiet(row)
    assert report.updates.rows == 40
    assert sum("on_update raised ZeroDivisionError" in line.getMessage() for line in caplog.records) == 1
    assert said(monitor.alerts) == said(quiet.alerts)
    assert monitor.verdict() == report.verdict


def test_one_odd_value_takes_nothing_else_with_it() -> None:
    """What is no number was not measured; counts may come as floats; unknown names do not matter."""
    odd: list[dict[str, Any]] = [
        {"nan_grad_count": 0.0, "inf_grad_count": math.nan, "skip_reason": 2**40, "skipped": 0.0},
        {"kl_divergence": "0.5 nats", "entropy": [1.0], "ratio_max": torch.zeros(2), "skip_reason": 1.0},
        {"kl_divergence": 10**400, "nan_grad_count": 2**70, "mine": object()},
    ]
    monitor = live_monitor()
    for update in range(60):
        monitor({"update": float(update), **SOUND, "value_loss": 0.5 + 0.01 * (update % 7), **odd[update % 3]})
    before = monitor.level
    monitor({"update": 60, "policy_loss": -0.01, "value_loss": math.nan, "entropy": "low"})
    assert [(a.update, a.metric) for a in monitor.alerts] == [(60, "value_loss")]
    assert (before, monitor.level) == ("healthy", "critical")


def test_level_and_verdict_may_be_asked_for_in_another_thread() -> None:
    """As a training loop does whose rows are written in the background."""
    monitor, rows, seen, ended = live_monitor(), messy_rows(150), set[str](), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            seen.add(monitor.level)
            seen.add(monitor.verdict().level)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            for row in rows:
                monitor(row)
            ended.set()
            asking.result()
    finally:
        sys.setswitchinterval(interval)
    assert seen


@pytest.mark.parametrize("update", [None, "seven", math.nan, 2**63, ...])
def test_a_row_without_its_update_is_not_taken_in(update: Any) -> None:
    """It raises, which the recorder would log, and leaves the monitor as it was."""
    monitor = live_monitor()
    for i in range(40):
        monitor({"update": i, **SOUND})
    row = {"update": update, **SOUND}
    with pytest.raises((KeyError, TypeError, ValueError, OverflowError)):
        monitor({name: value for name, value in row.items() if value is not ...})
    monitor({"update": 40, **SOUND})
    assert not monitor.alerts
    assert monitor.level == "healthy"


def test_thresholds_of_the_users_own_are_judged_by(tmp_path: Path) -> None:
    """A monitor and a report with the same settings agree, against the defaults."""
    toml = tmp_path / "own.toml"
    toml.write_text('[thresholds.kl_divergence]\ncritical = "> 5"\nwarning = "> 4"\n')
    settings = read_settings(toml)
    strict, own = live_monitor(settings=DEFAULT_SETTINGS), live_monitor(settings=settings)
    for update in range(40):
        for monitor in (strict, own):
            monitor({"update": update, **SOUND, "kl_divergence": 3.0})
    assert (strict.level, own.level) == ("warning", "healthy")


def test_a_resumed_run_begins_anew(tmp_path: Path) -> None:
    """The second attempt's monitor has its warm-up, and no gap where the first attempt ended."""
    record(tmp_path, [{"update": i, **SOUND} for i in range(30)], live_monitor())
    monitor = live_monitor()
    with Recorder.open(tmp_path, run_id="r", resume="must", on_update=monitor) as recorder:
        levels = [(recorder.record(update=i, **SOUND), monitor.level)[1] for i in range(25, 55)]
    assert levels == ["unknown"] * LEARNING_UPDATES + ["healthy"] * (30 - LEARNING_UPDATES)
    assert not monitor.alerts
    assert open_run(tmp_path / "r").report().verdict.level == "healthy"


def test_the_rows_of_a_finished_run_may_be_given_to_a_monitor(tmp_path: Path) -> None:
    """Rows as dictionaries, as polars gives them, say the same."""
    live, after = live_monitor(), live_monitor()
    report = record(tmp_path, messy_rows(60, seed=4), live)
    frame = open_run(tmp_path / "r").updates().collect()
    assert isinstance(frame, pl.DataFrame)
    for row in frame.iter_rows(named=True):
        after(row)
    assert said(after.alerts) == said(live.alerts)
    assert after.verdict() == live.verdict() == report.verdict
