from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from esper_analyzer import Report, open_run
from esper_analyzer.judging.rules import INFORMING, RULES, SIGNALS
from esper_analyzer.judging.rules.rule import QUESTIONS
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.reporting.html import report_html
from esper_analyzer.reporting.text import report_lines
from esper_schemas import METRICS

NUMBER = {"anyOf": [{"type": ["number", "boolean", "null"]}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
VALUE = {"anyOf": [NUMBER, {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT"}]}
LEVEL = {"enum": ["healthy", "warning", "critical", "unknown"]}


def exactly(**properties: object) -> dict[str, object]:
    """Schema of an object with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


HEALTH = exactly(
    level=LEVEL,
    worst=VALUE,
    worst_update={"type": ["integer", "null"]},
    share=exactly(healthy=NUMBER, warning=NUMBER, critical=NUMBER),
)
TREND = exactly(
    label={"enum": ["improving", "stable", "declining", "shifting", "broken", "unknown"]},
    change=NUMBER,
    confidence={"type": ["number", "null"], "minimum": 0, "maximum": 1},
)
METRIC = exactly(
    last=VALUE,
    min=VALUE,
    max=VALUE,
    mean=NUMBER,
    median=NUMBER,
    nonfinite={"type": ["integer", "null"]},
    history={"type": "array", "items": VALUE, "maxItems": 10},
    trend=TREND,
    long_trend=TREND,
    health=HEALTH,
)
TEXT = {"type": "string"}
TEXT_OR_NULL = {"type": ["string", "null"]}
COUNT = {"type": "integer", "minimum": 0}
UPDATE = {"type": ["integer", "null"]}
RANGE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
SCHEMA = exactly(
    format={"const": "esper-report/1"},
    run=exactly(
        run_id=TEXT,
        path=TEXT,
        status={"enum": ["live", "stale", "finished", "failed", "interrupted", "crashed", "unknown"]},
        end_reason={"type": ["string", "null"]},
        is_imported={"type": "boolean"},
        trainer=TEXT_OR_NULL,
        env=TEXT_OR_NULL,
        device=TEXT_OR_NULL,
        value_loss_definition={"type": "object"},
        return_goal={"type": ["number", "null"]},
        goal_reached=UPDATE,
        references={"type": "array", "items": {"type": "string"}},
        world_size=COUNT,
        attempts=COUNT,
        ranks={"type": "array", "items": COUNT},
        rank=UPDATE,
    ),
    updates=exactly(
        rows=COUNT,
        first=UPDATE,
        last=UPDATE,
        missing={"type": "array", "items": RANGE},
        stride={"type": "integer", "minimum": 1},
        skipped=COUNT,
        dropped=COUNT,
        superseded=COUNT,
    ),
    metrics={
        "type": "object",
        "properties": dict.fromkeys(METRICS, METRIC),
        "required": list(METRICS),
        "additionalProperties": METRIC,
    },
    ratio=exactly(last=NUMBER, median=NUMBER, health=HEALTH),
    signals=exactly(**dict.fromkeys([*SIGNALS, *INFORMING], NUMBER)),
    alerts={
        "type": "array",
        "items": exactly(
            update={"type": "integer"},
            metric=TEXT,
            level=LEVEL,
            value=NUMBER,
            message=TEXT,
            since={"type": "integer"},
            until=UPDATE,
            rule={"enum": [*RULES, "missing_updates"]},
            count={"type": "integer", "minimum": 1},
            first={"type": "integer"},
            last={"type": "integer"},
            worst=NUMBER,
            worst_update={"type": "integer"},
            lasts={"type": "boolean"},
            in_force={"enum": ["warning", "critical", None]},
            rank={"type": "integer"},
        ),
    },
    verdict=exactly(
        level=LEVEL,
        reasons={"type": "array", "items": TEXT},
        findings={
            "type": "array",
            "items": exactly(
                level=LEVEL,
                rule={"enum": [*RULES, "state", "missing_updates", "dropped_rows", "damage", "remark"]},
                metric=TEXT_OR_NULL,
                rank=UPDATE,
                since=UPDATE,
                text=TEXT,
                meaning=TEXT,
            ),
        },
        questions=exactly(**dict.fromkeys(QUESTIONS, exactly(level=LEVEL, since=UPDATE, reason=TEXT))),
        judged={"type": "array", "items": {"enum": [*RULES]}, "uniqueItems": True},
        not_judged={
            "type": "array",
            "items": exactly(rule={"enum": [*RULES]}, needs={"type": "array", "items": {"enum": [*METRICS]}}),
        },
    ),
    integrity=exactly(
        segments_sealed=COUNT,
        segments_active=COUNT,
        bytes=COUNT,
        faults={
            "type": "array",
            "items": exactly(
                rank=UPDATE,
                segment=UPDATE,
                kind={"enum": ["torn", "corrupt", "missing", "unreadable", "lost", "foreign", "repaired"]},
                offset=UPDATE,
                message=TEXT,
            ),
        },
    ),
    black_boxes={
        "type": "array",
        "items": exactly(
            rank=COUNT,
            file=TEXT,
            seq=COUNT,
            update=UPDATE,
            after_update=UPDATE,
            attempt=COUNT,
            written=TEXT,
            trigger=TEXT,
            reason=TEXT,
            minibatches=COUNT,
            not_written=COUNT,
            last={"type": "array", "items": {"type": "object", "additionalProperties": NUMBER}, "maxItems": 10},
            last_updates={"type": "array", "items": UPDATE, "maxItems": 10},
        ),
        "maxItems": 20,
    },
    black_boxes_left_out=COUNT,
    approximate_medians={"type": "array", "items": TEXT},
    thresholds=TEXT_OR_NULL,
)


CONTRACT = Draft202012Validator(SCHEMA)


def read_strictly(report: Report) -> dict[str, Any]:
    """The report's JSON, read by a parser that knows no NaN, held against the schema of the contract."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    document: dict[str, Any] = json.loads(report.to_json(), parse_constant=refuse)
    CONTRACT.validate(document)
    assert all(len(line.plain) <= 80 for line in report_lines(report))
    return document


def test_an_empty_run_has_the_keys_of_the_contract(record: Callable[..., Path]) -> None:
    """Nothing recorded is null everywhere, unknown, and no fault."""
    document = read_strictly(open_run(record([])).report())
    assert document["updates"] == {
        "rows": 0, "first": None, "last": None, "missing": [], "stride": 1, "skipped": 0, "dropped": 0,
        "superseded": 0,
    }  # fmt: skip
    assert document["metrics"]["value_loss"]["last"] is None
    assert document["metrics"]["value_loss"]["health"]["level"] == "unknown"
    assert document["verdict"]["level"] == "unknown"
    assert document["integrity"]["faults"] == []


def test_a_run_with_one_update(record: Callable[..., Path]) -> None:
    """One value is last, smallest, largest, mean and median; it has no trend, and the verdict waits."""
    document = read_strictly(open_run(record([{"update": 7, "value_loss": 6.0, "policy_loss": -2.0}])).report())
    loss = document["metrics"]["value_loss"]
    assert [loss[key] for key in ("last", "min", "max", "mean", "median")] == [6.0] * 5
    assert (loss["nonfinite"], loss["history"], loss["trend"]["label"]) == (0, [6.0], "unknown")
    assert loss["health"] == {
        "level": "warning",
        "worst": 6.0,
        "worst_update": 7,
        "share": {"healthy": 0.0, "warning": 1.0, "critical": 0.0},
    }
    assert document["ratio"]["last"] == 3.0
    assert document["verdict"]["level"] == "unknown"
    assert document["metrics"]["wall_time"]["last"].endswith("+00:00")


def test_a_run_with_nan_hides_nothing(record: Callable[..., Path]) -> None:
    """NaN and infinities are counted, kept as strings, and critical at once; averages are over the rest."""
    values = [1.0, 2.0, math.nan, 3.0, math.inf, -math.inf, math.nan]
    rows = [{"update": update, "value_loss": value} for update, value in enumerate(values)]
    document = read_strictly(open_run(record(rows)).report())
    loss = document["metrics"]["value_loss"]
    assert loss["history"] == [1.0, 2.0, "NaN", 3.0, "Infinity", "-Infinity", "NaN"]
    assert (loss["last"], loss["nonfinite"], loss["mean"], loss["max"]) == ("NaN", 4, 2.0, 3.0)
    assert loss["trend"] == {"label": "broken", "change": None, "confidence": None}
    assert (loss["health"]["worst"], loss["health"]["worst_update"]) == ("NaN", 2)
    assert document["verdict"]["level"] == "critical"
    alerts = [(alert["update"], alert["metric"], alert["since"], alert["until"]) for alert in document["alerts"]]
    assert alerts == [(2, "value_loss", 2, None)]


def test_a_finished_run_names_the_worst_and_the_shares(record: Callable[..., Path]) -> None:
    """The worst value is found wherever it was, also in a sealed segment; levels are shares of what was measured."""
    rows = [
        {"update": update, "value_loss": 30.0 if update == 13 else 0.5, "extras": {"mine": 1.0}} for update in range(40)
    ]
    rows += [{"update": 40, "skipped": True, "skip_reason": 3, "value_loss": None, "policy_loss": None}]
    document = read_strictly(open_run(record(rows, segment_rows=16, trainer="ppo")).report())
    assert document["run"]["status"] == "finished"
    assert document["run"]["value_loss_definition"]["assumed"] is True
    health = document["metrics"]["value_loss"]["health"]
    assert (health["worst"], health["worst_update"], health["level"]) == (30.0, 13, "unknown")  # the last is skipped
    assert health["share"] == {"healthy": 39 / 40, "warning": 0.0, "critical": 1 / 40}
    assert [(alert["update"], alert["metric"]) for alert in document["alerts"]] == [(40, "skipped")]
    assert document["metrics"]["mine"]["median"] == 1.0
    assert document["updates"]["skipped"] == 1
    assert document["verdict"]["level"] == "warning"
    assert "KL" in document["verdict"]["reasons"][0]
    assert document["integrity"]["segments_sealed"] == 3


def test_a_live_run(record: Callable[..., Path], writer: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """A run that another process is writing has the same keys, status live, and every row that was kept."""
    process = writer(segment_rows=10)
    assert process.stdin is not None
    assert process.stdout is not None
    for update in range(25):
        process.stdin.write(f"{update}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{update}\n"
    document = read_strictly(open_run("run", tmp_path / "runs").report())
    assert document["run"]["status"] == "live"
    assert document["updates"]["rows"] == 25


def test_missing_superseded_and_dropped_rows_are_told_apart(record: Callable[..., Path]) -> None:
    """A gap is a range of updates, a resume retires rows, and both show as what they are."""
    record([{"update": update} for update in [*range(10), *range(12, 20), 25]])
    path = record([{"update": update, "value_loss": 0.7} for update in range(15, 22)], resume="must")
    document = read_strictly(open_run(path).report())
    assert document["updates"] == {
        "rows": 10 + 3 + 7, "first": 0, "last": 21, "missing": [[10, 11]], "stride": 1, "skipped": 0, "dropped": 0,
        "superseded": 6,
    }  # fmt: skip
    assert document["run"]["attempts"] == 2
    assert any("10 to 11" in reason for reason in document["verdict"]["reasons"])
    (alert,) = [alert for alert in document["alerts"] if alert["metric"] == "update"]
    assert alert["message"].startswith("Updates 10 to 11 are missing. ")
    assert (alert["update"], alert["value"], alert["since"], alert["until"]) == (12, 2.0, 10, 12)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_sealed_segment_is_a_fault_with_an_address(record: Callable[..., Path], damage: str) -> None:
    """The rest is reported; the segment is named, and none of its values is taken for measured."""
    path = record([{"update": update} for update in range(30)], segment_rows=10)
    segment = path / "rank-0000" / "segments" / "00000001.parquet"
    data = bytearray(segment.read_bytes())
    if damage == "flip":
        data[len(data) // 3] ^= 1
    if damage == "remove":
        segment.unlink()
    else:
        segment.write_bytes(data if damage == "flip" else data[:-100])
    report = open_run(path).report()
    document = read_strictly(report)
    assert report.is_damaged
    assert document["updates"]["rows"] == 20
    found = [(fault["segment"], fault["kind"]) for fault in document["integrity"]["faults"]]
    assert found == [(1, "missing" if damage == "remove" else "corrupt"), (2, "lost")]


def test_a_sealed_segment_of_another_size_is_left_out_also_unverified(record: Callable[..., Path]) -> None:
    """Rows are read without checksums; a file that is sound by itself, but not of its seal's size, gives none."""
    path = record([{"update": update} for update in range(30)], segment_rows=10)
    segment = path / "rank-0000" / "segments" / "00000001.parquet"
    size = segment.stat().st_size
    pq.write_table(pq.read_table(segment, partitioning=None), segment, compression="none")
    assert open_run(path).updates().collect()["update"].to_list() == [*range(10), *range(20, 30)]
    fault, lost = open_run(path).report().integrity.faults
    assert (fault.segment, fault.kind) == (1, "corrupt")
    assert (lost.segment, lost.kind) == (2, "lost")
    assert [int(number) for number in re.findall(r"\d+", fault.message.partition(segment.name)[2])] == [
        size,
        segment.stat().st_size,
    ]


def test_ranks_are_reported_apart_or_together(record: Callable[..., Path]) -> None:
    """All are judged, with the numbers of the first, unless one, or all together, is asked for."""
    record([{"update": update} for update in range(12)], rank=0, world_size=2)
    path = record(
        [{"update": update, "value_loss": math.nan} for update in range(12)], rank=1, world_size=2, resume="allow"
    )
    run = open_run(path)
    assert run.report(0).verdict.level != "critical"
    assert run.report(1).verdict.level == "critical"
    document = read_strictly(run.report())
    assert (document["run"]["ranks"], document["run"]["rank"]) == ([0, 1], 0)
    assert (document["updates"]["rows"], document["metrics"]["value_loss"]["last"]) == (12, 0.5)
    assert document["verdict"]["level"] == "critical"
    assert document["verdict"]["reasons"][0].startswith("Rank 1: ")
    document = read_strictly(run.report(None))
    assert (document["run"]["ranks"], document["run"]["rank"]) == ([0, 1], None)
    assert document["updates"]["rows"] == 24
    assert document["verdict"]["reasons"][0].startswith("Rank 1: ")


def test_names_that_look_like_patterns_are_names(record: Callable[..., Path]) -> None:
    """A user's metric may be called "*" or "^v.*$", sealed and active alike."""
    odd = {"*": 2.0, "^v.*$": 3.0}
    path = record([{"update": update, "extras": odd} for update in range(12)], segment_rows=8)
    document = read_strictly(open_run(path).report())
    assert [document["metrics"][name]["last"] for name in odd] == [2.0, 3.0]
    assert open_run(path).updates().collect()["*"].to_list() == [2.0] * 12


@pytest.mark.parametrize("last", [{"value_loss": math.nan}, {"value_loss": None, "policy_loss": None, "skipped": True}])
def test_the_last_value_is_that_of_the_last_update(record: Callable[..., Path], last: dict[str, Any]) -> None:
    """Where the last update did not measure a number, it is null and its level unknown, whatever was before."""
    rows = [{"update": n, "value_loss": 2.0, "policy_loss": -1.0, "kl_divergence": 0.01} for n in range(12)]
    run = open_run(record([*rows, {"update": 12, **last}]))
    document = read_strictly(run.report())
    ratio, kl = document["ratio"], document["metrics"]["kl_divergence"]
    assert (ratio["last"], ratio["health"]["level"], ratio["median"]) == (None, "unknown", 2.0)
    assert (kl["last"], kl["health"]["level"], kl["history"]) == (None, "unknown", [0.01] * 10)
    assert document["metrics"]["update"]["last"] == 12
    now = run.snapshot()
    assert (now["kl_divergence"].last, now["kl_divergence"].level) == (None, "unknown")
    assert (now["loss_ratio"].last, now["loss_ratio"].history[-1]) == (None, 2.0)
    feed = LiveFeed(run, 0, charted=())
    picture = feed.finish()
    feed.close()
    assert picture.last("loss_ratio") is None
    assert (picture.state("kl_divergence").last, picture.state("kl_divergence").level) == (None, "unknown")
    assert picture.state("loss_ratio").level == "unknown"


OUT_OF_MEMORY = "RuntimeError: CUDA out of memory. \x1b[31m<b>Tried</b> to allocate " + "2 GiB, " * 60


def test_the_report_says_why_the_run_ended(record: Callable[..., Path]) -> None:
    """Beside the status stands why: as one clipped line in text, whole in JSON, without power in any form."""
    path = record([{"update": 0}], close={"status": "failed", "reason": OUT_OF_MEMORY})
    report = open_run(path).report()
    first = next(iter(report_lines(report))).plain
    assert first.startswith(r"run  failed: RuntimeError: CUDA out of memory. \x1b[31m<b>Tried</b> to")
    assert first.endswith("…")
    assert len(first) == 80
    long = record([{"update": 0}], "r" * 60, close={"status": "failed", "reason": "ValueError: 1"})
    assert [line.plain for line in report_lines(open_run(long).report())][1] == "  ValueError: 1"
    assert read_strictly(report)["run"]["end_reason"] == OUT_OF_MEMORY.strip()[:500]
    page = report_html(open_run(path), report)
    assert r"failed: RuntimeError: CUDA out of memory. \x1b[31m&lt;b&gt;Tried&lt;/b&gt;" in page
    assert "<b>Tried" not in page


def test_the_rank_that_failed_says_why(record: Callable[..., Path]) -> None:
    """Of several ranks the one with the worst status says why; a rank that says nothing adds nothing."""
    record([{"update": 0}], rank=0, world_size=2)
    path = record([{"update": 0}], rank=1, world_size=2, close={"status": "failed", "reason": "ValueError: x"})
    run = open_run(path)
    assert run.report(None).run.end_reason == "ValueError: x"
    assert run.report(0).run.end_reason is None
