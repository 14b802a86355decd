"""How updates are numbered, and whether new rows go on, leave a gap or supersede earlier ones."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from esper_analyzer import Alert, live_monitor, open_run
from esper_analyzer.live.live import LiveFeed
from esper_analyzer.reading.gaps import Numbering, Range, missing_count, missing_updates, numbering_of_new
from esper_analyzer.reporting.text import describe_updates


def expected(updates: list[int], last: int | None) -> tuple[int, list[Range]] | None:
    """Stride and what is missing, by plain arithmetic; None where an update goes back."""
    known = updates if last is None else [last, *updates]
    steps = [b - a for a, b in pairwise(known)]
    if any(step <= 0 for step in steps):
        return None
    usual = [step for step, count in Counter(steps).items() if count >= max(2, 0.75 * len(steps))]
    stride = usual[0] if usual else 1
    return stride, [(a + 1, b - 1) for a, b in pairwise(known) if b - a > stride]


@pytest.mark.parametrize("seed", range(200))
def test_new_rows_go_on_leave_a_gap_or_go_back(seed: int) -> None:
    """Whatever comes after whatever: every gap is found with its ends, and every step back is seen."""
    rng = random.Random(seed)
    last = rng.choice([None, 0, 7])
    update = rng.randrange(3) + (0 if last is None else last)
    updates = [update]
    for _ in range(rng.randrange(6)):
        updates.append(updates[-1] + rng.choice([1, 1, 1, 1, 2, 5, 0, -2]))
    frame = pl.DataFrame({"update": updates}, schema={"update": pl.Int64})
    wanted = expected(updates, last)
    found = numbering_of_new(frame, last)
    assert (None if found is None else (found.stride, found.missing)) == wanted
    if wanted is not None:
        whole = Numbering.of(frame.lazy(), last)
        assert (whole.stride, whole.missing) == wanted


@pytest.mark.parametrize("seed", range(50))
def test_numbering_is_the_same_in_parts(seed: int) -> None:
    """Rows that come one by one, or the earlier ones last, give what all of them give."""
    rng = random.Random(seed)
    stride = rng.choice([1, 1, 4, 2048])
    steps = [stride * rng.choice([1] * 9 + [3]) for _ in range(rng.randrange(1, 40))]
    updates = [7, *(7 + int(at) for at in np.cumsum(steps))]
    frame = pl.DataFrame({"update": updates}, schema={"update": pl.Int64})
    cut = rng.randrange(1, len(updates))
    numbering = Numbering()
    for at in range(cut, len(updates)):
        numbering.extend(Numbering.of(frame[at : at + 1].lazy(), updates[at - 1]))
    numbering.extend(Numbering.of(frame[:cut].lazy()))
    wanted = expected(updates, None)
    assert (numbering.stride, numbering.missing) == wanted


def test_gap_within_rows_of_as_many_as_expected_is_found() -> None:
    """Only rows that rise by one each leave nothing out, however many there are."""
    frame = pl.DataFrame({"update": [5, 7, 8]})
    for last, wanted in ((4, [(6, 6)]), (None, [(6, 6)]), (3, [(4, 4), (6, 6)])):
        found = numbering_of_new(frame, last)
        assert found is not None
        assert found.missing == wanted


# ---------------------------------------------------------------------- a run that is numbered otherwise


def rows_in_steps(stride: int, count: int, start: int = 0, left_out: tuple[int, ...] = ()) -> list[dict[str, float]]:
    """Rows of a sound run whose updates are `stride` apart."""
    rng = np.random.default_rng(0)
    return [
        {"update": start + stride * at, "value_loss": 0.5 + 0.01 * rng.random(), "explained_variance": 0.9}
        for at in range(count)
        if at not in left_out
    ]


@pytest.mark.parametrize(("stride", "start"), [(2048, 2048), (4, 3), (2, 0)])
def test_constant_stride_is_no_gap(record: Callable[..., Path], stride: int, start: int) -> None:
    """Updates that are numbered by environment steps, or of which every k-th is logged, are not missing."""
    rows = rows_in_steps(stride, 60, start)
    run = open_run(record(rows))
    report = run.report()
    said = [reason for reason in report.verdict.findings if f"in steps of {stride:,}" in reason.text]
    assert [reason.rule for reason in said] == ["remark"]
    assert "env_steps" in said[0].text
    assert report.updates.missing == []
    assert report.verdict.level == "healthy"
    assert [alert for alert in report.alerts if alert.rule == "missing_updates"] == []
    feed = LiveFeed(run, 0)
    while feed.work():
        pass
    live = feed.picture().verdict
    assert live is not None
    assert (live.level, live.reasons) == (report.verdict.level, report.verdict.reasons)
    raised: list[Alert] = []
    watch = live_monitor(raised.append)
    for row in rows:
        watch({"policy_loss": -0.01, **row})
        assert watch.level in ("healthy", "unknown") or row is rows[1]  # of two rows nobody knows the stride
    assert watch.alerts == raised == []


def test_row_that_a_stride_leaves_out_is_missing(record: Callable[..., Path]) -> None:
    """What is missing is told by the stride, also where the run was resumed at another number."""
    rows = rows_in_steps(2048, 30, left_out=(20, 21)) + rows_in_steps(2048, 10, start=30 * 2048 - 1000)
    report = open_run(record(rows)).report()
    assert report.updates.missing == [(19 * 2048 + 1, 22 * 2048 - 1)]
    assert report.verdict.level == "warning"
    assert report.updates.stride == 2048
    assert report.updates.missing_count == 2  # rows, and not numbers
    (alert,) = [alert for alert in report.alerts if alert.rule == "missing_updates"]
    assert (alert.value, alert.worst, alert.count) == (2.0, 2.0, 1)
    named = f"{20 * 2048} to {21 * 2048}"
    assert alert.message.startswith(f"Updates {named} are missing.")
    assert report.verdict.reasons[0] == f"2 updates are missing: {named}."
    assert f"2 missing ({named})" in describe_updates(report.updates)


def test_two_rows_have_no_stride(record: Callable[..., Path]) -> None:
    """A step that was seen once is a gap; seen twice, it is how the run is numbered."""
    two = open_run(record(rows_in_steps(100, 2))).report()
    assert (two.updates.stride, two.updates.missing, two.verdict.level) == (1, [(1, 99)], "warning")
    assert json.loads(two.to_json())["updates"]["stride"] == 1
    three = open_run(record(rows_in_steps(100, 3), name="three")).report()
    assert (three.updates.stride, three.updates.missing, three.verdict.level) == (100, [], "unknown")


@pytest.mark.parametrize(("gap", "stride", "wanted"), [
    ((3, 3), 1, (1, (3, 3))), ((3, 9), 1, (7, (3, 9))), ((2049, 6143), 2048, (1, (4096, 4096))),
    ((2049, 8191), 2048, (2, (4096, 6144))), ((1, 4), 4, (1, (4, 4))), ((1, 6), 4, (1, (4, 4))),
])  # fmt: skip
def test_what_is_missing_is_counted_in_steps(gap: Range, stride: int, wanted: tuple[int, Range]) -> None:
    """A gap leaves out one update for each whole step in it, and these are named."""
    assert (missing_count([gap], stride), missing_updates(gap, stride)) == wanted


def test_a_stride_is_kept_as_one_however_long_the_run_is() -> None:
    """Steps of one size one after another take no more memory than one of them; a gap between them takes another."""
    numbering = Numbering()
    for update in [*range(4, 4000, 4), *range(4008, 8000, 4)]:
        numbering.extend(Numbering(1, [(update - 3, update - 1)]))
    numbering.extend(Numbering(1, [(3997, 4003)]))
    assert (numbering.stride, numbering.missing) == (4, [(3997, 4003)])
    assert sum(map(len, numbering._jumps.values())) == 3
