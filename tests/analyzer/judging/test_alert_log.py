"""The list of alerts: one for each rule, the first never lost, the worst found, the same live as afterwards."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper_analyzer import Alert, live_monitor, open_run
from esper_analyzer.drawing.panels import alert_lines
from esper_analyzer.judging.alert_log import AlertLog, in_order
from esper_analyzer.judging.alerts import MAX_TITLE, Episode, badness, ends_a_run
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.rules import RULES
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.live.recorded import RecordedFeed
from esper_schemas.metric.metrics import Bands, above, below
from esper_schemas.metric.severity import badness as badness_of_column
from esper_schemas.metric.severity import severities

Record = Callable[..., Path]
Command = Callable[..., Any]

KL_TIMES = [*range(21, 1990, 36)]
"""The first update of each of 55 short stretches of a KL divergence that is critical for three updates."""

WORST = 21 + 7 * 36 + 2


def flooded(rng: np.random.Generator) -> list[dict[str, Any]]:
    """2,000 updates of a run whose KL divergence is high 55 times, a NaN among the first, and three gaps."""
    high = {start + at for start in KL_TIMES for at in range(3)}
    rows = []
    for update in range(2000):
        kl = 0.5 if update in high else 0.001
        values = {
            "value_loss": math.nan if update == 30 else 0.4 + 0.1 * float(rng.random()),
            "policy_loss": -0.01 - 0.001 * float(rng.random()),
            "kl_divergence": 7.0 if update == WORST else kl,
        }
        rows.append({"update": update, **values})
    return [row for row in rows if row["update"] not in (100, 101, 700, 1500)]


def judged(rows: list[dict[str, Any]], portions: random.Random | None = None) -> list[Alert]:
    """The alerts of rows that are judged in portions of any size, or all at once."""
    judge, log = Judge(), AlertLog()
    frame = pl.from_dicts(rows, schema={name: READ_TYPES[name] for name in judge.columns})
    start = 0
    while start < frame.height:
        size = frame.height if portions is None else portions.choice([1, 1, 2, 7, 300])
        log.add(judge.advance(frame[start : start + size]))
        start += size
    return log.alerts(judge.in_force.values())


def said(alerts: list[Alert]) -> list[dict[str, str]]:
    """All that alerts say, but for the rank, such that NaN equals NaN."""
    return [{name: str(value) for name, value in asdict(alert).items() if name != "rank"} for alert in alerts]


# ---------------------------------------------------------------------- one for each rule


def test_fifty_five_alerts_of_one_rule_are_one(record: Record, command: Command) -> None:
    """Each format has one line for them, with how often, the first and the last; what ends a run is first."""
    run = open_run(record(flooded(np.random.default_rng(0))))
    report = run.report()
    first, *others = report.alerts
    assert (first.rule, first.first, first.count) == ("impossible_value_loss", 30, 1)
    kl = next(alert for alert in others if alert.rule == "kl_divergence")
    assert (kl.count, kl.first, kl.last) == (55, 23, 23 + 54 * 36)
    assert (kl.worst, kl.worst_update, kl.level, kl.lasts, kl.in_force) == (7.0, WORST, "critical", False, None)
    assert (kl.update, kl.since, kl.until, kl.value) == (23, 21, 28, 0.5)
    gaps = next(alert for alert in others if alert.rule == "missing_updates")
    assert (gaps.count, gaps.first, gaps.last, gaps.worst, gaps.worst_update) == (3, 102, 1501, 2.0, 102)
    assert gaps.message.startswith("4 updates are missing: 100 to 101, 700, 1500. ")
    assert len({(alert.rule, alert.rank) for alert in report.alerts}) == len(report.alerts)

    phrase = f"55 times, first at update 23, last at {23 + 54 * 36}"
    assert kl.times == phrase
    for form in ("text", "markdown", "html"):
        done = command("report", "--run", run.path, "--format", form)
        assert " ".join(done.stdout.split()).count(phrase) == 1, form
    document = json.loads(command("report", "--run", run.path, "--format", "json").stdout)
    assert [one["rule"] for one in document["alerts"]].count("kl_divergence") == 1
    frame = run.alerts()
    assert frame.filter(pl.col("rule") == "kl_divergence").select("count", "first", "worst").rows() == [(55, 23, 7.0)]


def test_a_list_of_sixty_columns_says_how_often_and_when(record: Record, command: Command) -> None:
    """The first update, the short name and the number of times fit into each line of a narrow screen."""
    assert all(len(alert_of(rule).title) <= MAX_TITLE for rule in RULES)
    run = open_run(record(flooded(np.random.default_rng(0))))
    feed = LiveFeed(run, 0)
    events = feed.finish().events
    feed.close()
    lines = [line.plain.strip() for line in alert_lines(events, None, 60, len(events))]
    assert f"23 ▲ KL divergence 55 times, last at {23 + 54 * 36}" in lines
    assert "102 ▲ Missing updates 3 times, last at 1501" in lines
    assert "30 ▲ Impossible value loss NaN" in lines
    wide = [line.plain.strip() for line in alert_lines(events, None, 80, len(events))]
    assert f"23 ▲ KL divergence: 55 times, first at update 23, last at {23 + 54 * 36}" in wide
    done = command("tail", "--run", run.path)
    kl = [line for line in done.stderr.splitlines() if "KL divergence" in line]
    assert len(kl) == 1
    assert "critical first at update 23: KL divergence, 55 times, first at update 23, last at" in kl[0]


def alert_of(rule: str) -> Alert:
    """An alert of this rule."""
    return Alert(1, rule, "warning", 1.0, "", 1, None, rule, 1, 1, 1, 1.0, 1, True, "warning")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_live_alerts_are_those_of_the_whole_run(seed: int) -> None:
    """In whatever portions the rows come, the list is the same in the end; times, worst and what lasts included."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    noise = np.cumsum(rng.normal(0.0, 1.0, 900))
    for update in range(900):
        odd = rng.random()
        rows.append(
            {
                "update": update,
                "skipped": bool(odd < 0.02),
                "skip_reason": 1 if odd < 0.02 else None,
                "value_loss": math.inf if odd > 0.995 else float(rng.lognormal(0.0, 1.5)),
                "policy_loss": math.nan if 0.99 < odd < 0.995 else -0.01,
                "kl_divergence": None if 0.5 < odd < 0.6 else float(0.01 * math.exp(0.5 * noise[update] % 6)),
                "clip_fraction": float(0.3 + 0.3 * math.sin(update / 5)),
                "entropy": float(abs(noise[update]) / 10),
                "explained_variance": float(math.sin(update / 40)),
                "return_std": 1.0,
            }
        )
    whole = judged(rows)
    assert len(whole) > 5
    assert max(alert.count for alert in whole) > 5
    portions = random.Random(seed)
    for _ in range(3):
        assert said(judged(rows, portions)) == said(whole)
    monitor = live_monitor()
    for row in rows[:300]:
        monitor({name: value for name, value in row.items() if value is not None})
    assert said(monitor.alerts) == said(judged(rows[:300]))


@pytest.mark.parametrize("position", [1, 35, 60, 300, 703, 1996])
def test_a_replay_lists_what_had_been_raised_by_then(record: Record, position: int) -> None:
    """At any moment, forwards and backwards, the alerts are those of the rows so far."""
    rows = flooded(np.random.default_rng(0))
    feed = RecordedFeed(open_run(record(rows)), 0)
    feed.finish()
    for at in (position, 10, position):
        feed.seek(at)
        alerts = [event.alert for event in feed.picture().events if event.alert is not None]
    expected = open_run(record(rows[:position], name="part")).report().alerts
    assert said([alert for alert in alerts if alert is not None]) == said(expected)


def test_the_log_does_not_grow_with_the_run() -> None:
    """What is kept after fifty times of one rule is what was kept after three."""

    def size(times: int) -> int:
        judge, log = Judge(), AlertLog()
        rows = [
            {"update": n, "value_loss": math.nan if n % 12 == 0 else 1.0, "policy_loss": 0.1} for n in range(12 * times)
        ]
        log.add(judge.advance(pl.from_dicts(rows, schema={name: READ_TYPES[name] for name in judge.columns})))
        (raised,) = [one for name, one in log._raised.items() if name == "impossible_value_loss"]
        assert raised.count == times
        return len({id(one) for one in (raised.shown, raised.worst, *raised.newest.values())})

    assert size(50) <= size(3) <= 3


# ---------------------------------------------------------------------- the worst


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_the_worst_is_what_the_report_of_a_metric_calls_worst(values: list[float]) -> None:
    """How bad a value is follows the same order as in the table of metrics, below and above its bounds."""
    bands = Bands(warning=(above(0.5), below(-1.0)), critical=(above(2.0), below(-8.0)))
    column, updates = np.array(values), np.arange(len(values))
    expected = badness_of_column(bands, column, severities(bands, column), updates)
    found = badness(bands, column)
    assert np.argmax(found) == np.argmax(expected)
    finite = np.isfinite(values)
    np.testing.assert_allclose(found[finite], expected[finite])


def test_a_value_that_is_not_finite_is_the_worst(record: Record) -> None:
    """It is worse than any number; the earliest counts, null is none, and what came before the alert is none either."""
    kl = [0.001] * 20 + [9.0, 0.5, 0.5, 0.6, None, 0.5, math.inf, math.nan] + [0.5] * 4
    rows = [{"update": n, "kl_divergence": value} for n, value in enumerate(kl)]
    (alert,) = [one for one in open_run(record(rows)).report().alerts if one.rule == "kl_divergence"]
    assert (alert.first, alert.worst, alert.worst_update, alert.lasts) == (22, math.inf, 26, True)
    (alert,) = [one for one in open_run(record(rows[:26], name="b")).report().alerts if one.rule == "kl_divergence"]
    assert (alert.first, alert.worst, alert.worst_update) == (22, 0.6, 23)


def test_an_alert_that_is_milder_now_says_so(record: Record, command: Command) -> None:
    """What was critical and is only a warning now lasts as a warning, and a gate is told so."""
    kl = [0.001] * 20 + [0.5] * 5 + [0.02] * 20
    path = record([{"update": n, "kl_divergence": value} for n, value in enumerate(kl)])
    (alert,) = [one for one in open_run(path).report().alerts if one.rule == "kl_divergence"]
    assert (alert.level, alert.until is None, alert.lasts, alert.in_force) == ("critical", False, True, "warning")
    done = command("check", "--run", path, "--gate", "kl_divergence", "--format", "json")
    gate = json.loads(done.stdout)["gates"]["kl_divergence"]
    assert (gate["level"], gate["outcome"], done.returncode) == ("warning", "passed", 0)
    assert gate["reasons"][1].startswith("Warning alert in force")


# ---------------------------------------------------------------------- the order


def test_what_ends_a_run_is_first_then_the_worst_then_the_earliest() -> None:
    """The mechanics first, whatever their level, then critical, then what was raised first."""

    def one(rule: str, level: Any, first: int) -> Alert:
        return Alert(first, rule, level, 1.0, "", first, None, rule, 1, first, first, 1.0, first, True, level)

    alerts = [
        one("kl_divergence", "warning", 3), one("entropy", "warning", 2), one("critic_error", "critical", 50),
        one("skipped", "warning", 80), one("policy_loss", "critical", 90), one("value_spread", "critical", 40),
    ]  # fmt: skip
    order = [alert.rule for alert in in_order(alerts)]
    assert order == ["policy_loss", "skipped", "value_spread", "critic_error", "entropy", "kl_divergence"]
    ends = {"impossible_value_loss", "policy_loss", "skipped", "losses_are_zero", "explosion", "policy_unmoved"}
    ends.add("error_beyond_returns")
    assert {rule for rule in RULES if ends_a_run(rule)} == ends


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_the_worst_row_by_row_too(value: float) -> None:
    """On whichever side the bounds are; as in the form over frames."""
    watched = [rule for rule in RULES.values() if rule.bands.nonfinite == "critical"]
    assert {comparison for rule in watched for comparison, _ in (*rule.bands.warning, *rule.bands.critical)} >= {
        ">",
        "<",
    }
    for rule in watched:
        one_by_one, of_frame = Episode(rule, 2, 5, 5, 0.0), Episode(rule, 2, 5, 5, 0.0)
        one_by_one.follow_one(6, value)
        of_frame.follow(6, value, float(badness(rule.bands, np.array([value]))[0]))
        assert (one_by_one.worst_update, of_frame.worst_update) == (6, 6), rule.name
