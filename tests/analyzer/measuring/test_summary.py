"""Summaries from stored states and from rows are the same, and as polars says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from esper_analyzer import open_run
from esper_analyzer.caching.folder import CACHE_DIR
from esper_analyzer.measuring import levels, whole
from esper_analyzer.measuring import summary as summaries
from esper_analyzer.measuring.snapshot import metric_names, take_snapshot
from esper_analyzer.reading.run_index import dropped_rows
from esper_analyzer.reading.segment_index import NO_CACHE
from esper_analyzer.reporting.html import report_html
from esper_analyzer.reporting.markdown import report_markdown
from esper_analyzer.reporting.text import report_lines
from esper_recorder import Recorder
from esper_schemas.metric.severity import DEFAULT_THRESHOLDS, severities

ROWS = 5000


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No report is taken from the cache folder, as these tests change what it would not see."""
    monkeypatch.setenv(CACHE_DIR, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments of 1,200 rows, the last ones short; a metric in every tenth row; the second attempt supersedes rows."""
    root, rng = tmp_path_factory.mktemp("summary"), np.random.default_rng(0)
    for first, count in ((0, ROWS), (4500, 900)):
        with Recorder.open(root, run_id="run", resume="allow", segment_rows=1200) as recorder:
            for update in range(first, first + count):
                recorder.record(
                    update=update,
                    policy_loss=float(rng.normal()),
                    value_loss=float("nan") if update % 1000 == 17 else float(rng.lognormal()),
                    explained_variance=0.5,
                    entropy=float(rng.normal()) if update % 10 == 0 else None,
                    env_steps=update * 2048,
                    skipped=False,
                    extras={"mine": float(update)},
                )
    return root / "run"


@pytest.fixture(params=[None, "1"], ids=["states", "rows"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the numbers come from: stored states, or the rows."""
    if request.param is None:
        monkeypatch.delenv(NO_CACHE, raising=False)
    else:
        monkeypatch.setenv(NO_CACHE, request.param)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("is_long", [False, True])
def test_numbers_are_those_of_the_rows(run: Path, is_long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are those of the rows."""
    monkeypatch.setattr(whole, "EXACT_MEDIAN_ROWS", 1000 if is_long else 10**9)
    report = open_run(run).report()
    rows = open_run(run).updates().collect()
    assert report.updates.rows == rows.height == 5400
    for name in ("policy_loss", "value_loss", "entropy", "env_steps", "mine", "update"):
        finite = rows[name].cast(pl.Float64).drop_nulls()
        finite = finite.filter(finite.is_finite())
        metric = report.metrics[name]
        assert (metric.min, metric.max) == (finite.min(), finite.max()), name
        assert metric.mean == pytest.approx(finite.mean(), rel=1e-12, abs=1e-12)
        if name in report.approximate_medians:
            assert abs((finite < metric.median).mean() - 0.5) < 0.025  # type: ignore[operator]
        else:
            assert metric.median == finite.median()
    assert report.metrics["value_loss"].nonfinite == 6
    assert report.metrics["explained_variance"].median == 0.5
    expected = ["update", "env_steps", "elapsed_secs", "policy_loss", "value_loss", "entropy", "mine", "loss_ratio"]
    assert sorted(report.approximate_medians) == (sorted(expected) if is_long else [])


@pytest.mark.parametrize("is_long", [False, True])
def test_states_and_rows_say_the_same(run: Path, is_long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """States and rows say the same."""
    monkeypatch.setattr(whole, "EXACT_MEDIAN_ROWS", 1000 if is_long else 10**9)
    monkeypatch.delenv(NO_CACHE, raising=False)
    from_states = open_run(run).report().to_json()
    monkeypatch.setenv(NO_CACHE, "1")
    assert open_run(run).report().to_json() == from_states


def test_approximate_medians_are_marked_for_people(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Approximate medians are marked for people."""
    monkeypatch.setattr(whole, "EXACT_MEDIAN_ROWS", 1000)
    report = open_run(run).report()
    assert "median ≈" in report_markdown(report)
    lines = [line.plain for line in report_lines(report)]
    assert sum("≈" in line for line in lines) >= 2
    assert "≈" in report_html(open_run(run), report)


@pytest.mark.parametrize("name", DEFAULT_THRESHOLDS)
def test_levels_of_columns_are_those_of_the_expressions(name: str) -> None:
    """Levels of columns are those of the expressions."""
    bands = DEFAULT_THRESHOLDS[name]
    bounds = [limit.bound for limit in (*bands.warning, *bands.critical)]
    values = [value for bound in bounds for value in (bound, np.nextafter(bound, 1e9), np.nextafter(bound, -1e9))]
    values += [0.0, -0.0, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 0.5, -3.0]
    frame = pl.DataFrame({name: values, "update": range(len(values))}, schema_overrides={name: pl.Float64})
    spread = None
    if bands.only_if is not None:
        low, high = bands.only_if.low, bands.only_if.high
        frame = frame.with_columns(
            pl.Series(low, [0.0] * len(values)), pl.Series(high, [[0.0, 1e9][i % 2] for i in range(len(values))])
        )
        spread = (frame[high] - frame[low]).to_numpy()
    found = severities(bands, np.array(values), spread)
    expected = frame.select(levels.severity(name)).to_series().fill_null(-1)
    assert found.tolist() == expected.to_list()


def test_no_row_is_searched_for_values_that_none_has(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With summaries, the history of what was never measured costs no look at the rows, and all are the same."""
    index = open_run(run).look(0)
    rows = open_run(run).updates().with_columns(levels.loss_ratio())
    names = metric_names(rows.collect_schema())
    known = summaries.summarise(index.stretches([0]), rows, names)
    assert (known["kl_divergence"].measured, known["entropy"].measured, known["skipped"].total) == (0, 540, 0)
    assert known["env_steps"].total == 2048 * sum(range(5400))
    searched: list[int] = []
    collect = pl.LazyFrame.collect

    def counting(self: pl.LazyFrame, **options: Any) -> Any:
        found = collect(self, **options)
        searched.append(found.width)
        return found

    monkeypatch.setattr(pl.LazyFrame, "collect", counting)
    found = summaries.histories(rows, names, 60, known)
    monkeypatch.undo()
    assert searched == [len(names), 1]  # the last rows, and all of them for the entropy of every tenth one
    assert found == summaries.histories(rows, names, 60)
    assert take_snapshot(rows, summaries=known) == take_snapshot(rows)


def test_dropped_rows_are_read_only_where_numbers_are_without_a_row(run: Path) -> None:
    """Where every sequence number has its row, nothing was dropped, and nothing is read to find that out."""
    index = open_run(run).look(0).rank(0)
    assert dropped_rows(index, pl.LazyFrame({"no such column": []})) == 0
    index.pieces[-1] = replace(index.pieces[-1], last_seq=index.pieces[-1].last_seq + 2)
    assert dropped_rows(index, pl.LazyFrame({"dropped_before": [None, 2, None]})) == 2
