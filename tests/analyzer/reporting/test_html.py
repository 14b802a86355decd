from __future__ import annotations

import base64
import itertools
import json
import math
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from tests.analyzer.black_box_runs import blown_up, plant

from esper_analyzer import open_run
from esper_analyzer.measuring.series import MAX_RANKS, axes_of, course_of, nonfinite_ranges
from esper_analyzer.reporting.html import MAX_REASONS, SCRIPTS, report_html
from esper_analyzer.reporting.html_charts import coded, coded_ranges, pack, rounded
from esper_recorder import Recorder

Record = Callable[..., Path]
NAN, INF = math.nan, math.inf


def page_of(path: Path, rank: int | None = 0) -> str:
    """The page on a run."""
    run = open_run(path)
    return report_html(run, run.report(rank), rank)


def unpacked(html: str) -> Any:
    """The data that the page draws from."""
    found = re.search(r'id="data">([^<]*)</script>', html)
    assert found is not None
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


def undone(differences: Iterable[int]) -> list[int]:
    """Numbers again from what `coded` made of them."""
    return list(itertools.accumulate(differences))


def ranges_undone(numbers: list[int], size: int) -> list[tuple[int, ...]]:
    """Ranges again from what `coded_ranges` made of them."""
    found, end = [], 0
    for at in range(0, len(numbers), size):
        first, length, *rest = numbers[at : at + size]
        found.append((end + first, end + first + length, *rest))
        end += first + length
    return found


decimals = st.builds(lambda digits, power: digits / 2 * 10.0**power, st.integers(-(10**7), 10**7), st.integers(-30, 30))


@given(
    values=st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False) | decimals), digits=st.integers(3, 9)
)
def test_numbers_are_rounded_as_their_texts(values: list[float | None], digits: int) -> None:
    """Also in the middle of two, at powers of ten, at zero and at the ends of the range; None is NaN."""
    expected = [NAN if value is None else float(f"{value:.{digits}g}") for value in values]
    assert list(map(repr, rounded(values, digits).tolist())) == list(map(repr, expected))


# ---------------------------------------------------------------------- what is drawn


def test_every_value_of_a_short_run_is_kept(record: Record) -> None:
    """Each finite value stands in the file, bit for bit, at its update; lines break at gaps and at NaN."""
    values = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, NAN, 1.0, -0.0, 2.0]
    updates = [0, 1, 2, 3, 4, 7, 8]
    data = unpacked(page_of(record({"update": u, "policy_loss": v} for u, v in zip(updates, values, strict=True))))
    (line,) = next(chart for chart in data["charts"] if chart["title"] == "Policy loss")["lines"]
    assert undone(line["updates"]) == [0, 1, 2, 3, 4, 5, 7, 8]
    assert list(map(str, line["values"])) == [
        *map(str, values[:3]), "None", "1.0", "None", "-0.0", "2.0",
    ]  # fmt: skip
    assert ranges_undone(line["nonfinite"], 3) == [(3, 3, 0)]
    assert ranges_undone(data["missing"], 2) == [(5, 6)]


def test_extremes_and_values_that_are_not_finite_survive_any_length() -> None:
    """Of each stretch of a long run the extremes are kept at their updates, and every NaN and infinity is."""
    rng = np.random.default_rng(1)
    rows = 300_000
    values = rng.lognormal(size=rows)
    values[123_456], values[222_222] = 9e9, -3.0
    bad = {5: NAN, 6: NAN, 7: INF, 8: -INF, 150_000: NAN, 299_999: INF}
    for update, value in bad.items():
        values[update] = value
    frame = pl.DataFrame({"update": np.arange(rows), "rank": 0, "value": values})
    course = course_of(frame.lazy(), ["value"])
    (line,) = course.lines["value"]
    assert len(line.updates) <= 4000 + len(bad)
    assert line.nonfinite == [(5, 6, 0), (7, 7, 1), (8, 8, 2), (150_000, 150_000, 0), (299_999, 299_999, 1)]
    kept = dict(zip(line.updates, line.values, strict=True))
    assert kept[123_456] == 9e9
    assert kept[222_222] == -3.0
    for start in range(0, rows, course.width):
        part = values[start : start + course.width]
        part = part[np.isfinite(part)]
        drawn = [
            value for update, value in kept.items() if value is not None and start <= update < start + course.width
        ]
        assert (min(drawn), max(drawn)) == (part.min(), part.max())
    assert all(values[update] == value for update, value in kept.items() if value is not None)


def test_a_million_updates_with_every_other_one_nan_stay_small() -> None:
    """Half a million ranges are kept exactly, in a fraction of a megabyte."""
    values = np.ones(1_000_000)
    values[::2] = NAN
    frame = pl.DataFrame({"update": np.arange(1_000_000), "rank": 0, "value": values})
    found = list(nonfinite_ranges(frame.lazy(), "value"))
    packed = pack({"nonfinite": coded_ranges(found)})
    assert found[:2] == [(0, 0, 0), (2, 2, 0)]
    assert len(found) == 500_000
    assert len(packed) < 200_000


def test_a_long_run_of_many_metrics_is_a_file_under_five_megabytes() -> None:
    """Sixty metrics of 17 digits each, longer than can be drawn value by value, fit."""
    rng = np.random.default_rng(2)
    names = [f"metric {number}" for number in range(60)]
    rows = 50_000
    frame = pl.DataFrame({"update": np.arange(rows), "rank": 0} | {name: rng.normal(size=rows) for name in names})
    course = course_of(frame.lazy(), names)
    lines = {
        name: [[coded(line.updates), line.values, line.stretches, [float(f"{mean:.4g}") for mean in line.means]]]
        for name, (line,) in course.lines.items()
    }
    assert len(pack(lines)) < 4_800_000


def test_means_are_of_the_finite_values_of_a_stretch() -> None:
    """Where a line is drawn through extremes, a second one has the means; a stretch without values has none."""
    values = np.tile([1.0, 3.0, NAN, 5.0], 2000)
    values[:4] = NAN
    frame = pl.DataFrame({"update": np.arange(8000), "rank": 0, "value": values})
    course = course_of(frame.lazy(), ["value"])
    (line,) = course.lines["value"]
    assert course.width == 4
    assert line.stretches == list(range(1, 2000))
    assert set(line.means) == {3.0}


def test_each_rank_has_a_line_of_its_own() -> None:
    """Ranks are drawn apart up to a number; beyond, one line goes through the extremes of all."""
    for ranks in (2, MAX_RANKS + 1):
        frame = pl.concat(
            pl.DataFrame({"update": range(5), "rank": rank, "value": [float(rank)] * 5}) for rank in range(ranks)
        )
        lines = course_of(frame.lazy(), ["value"]).lines["value"]
        if ranks <= MAX_RANKS:
            assert [(line.rank, set(line.values)) for line in lines] == [(0, {0.0}), (1, {1.0})]
        else:
            assert [(line.rank, set(line.values)) for line in lines] == [(None, {0.0, float(ranks - 1)})]


@pytest.mark.parametrize("name", ["*", "^v.*$", "low 0", "a/low"])
def test_a_name_that_means_something_to_a_query_is_taken_as_it_is(name: str) -> None:
    """A metric may be called anything."""
    frame = pl.DataFrame({"update": range(3), "rank": 0, "value": 1.0, name: [7.0, NAN, 9.0]})
    course = course_of(frame.lazy(), ["value", name])
    assert course.lines[name][0].nonfinite == [(1, 1, 0)]
    assert course.lines[name][0].values == [7.0, None, 9.0]
    assert course.lines["value"][0].values == [1.0, 1.0, 1.0]


def test_a_damaged_segment_is_drawn_nowhere(record: Record) -> None:
    """What the report leaves out because its checksum is wrong is no line of a chart, and does no harm there."""
    rows = ({"update": update, "value_loss": 1.0 + update} for update in range(90))
    path = record(rows, segment_rows=30)
    segment = path / "rank-0000" / "segments" / "00000001.parquet"
    content = bytearray(segment.read_bytes())
    content[100:-4000] = bytes(len(content) - 4100)  # the footer is as it was
    segment.write_bytes(content)
    data = unpacked(page_of(path))
    (line,) = data["charts"][0]["lines"]
    assert ranges_undone(data["missing"], 2) == [(30, 59)]
    assert undone(line["updates"]) == [*range(31), *range(60, 90)]  # at 30 it is broken
    assert line["values"].count(None) == 1


def test_environment_steps_and_time_can_stand_below_the_charts(record: Record) -> None:
    """Both are in the file at their updates, never falling, each only where it was recorded."""
    began = time.perf_counter()
    path = record({"update": update, "env_steps": 100 * (update + 1)} for update in range(20))
    spent = time.perf_counter() - began
    axes = {axis["name"]: axis for axis in unpacked(page_of(path))["axes"]}
    assert undone(axes["env_steps"]["updates"]) == list(range(20))
    assert axes["env_steps"]["values"] == [100 * (update + 1) for update in range(20)]
    seconds = axes["seconds"]["values"]
    assert seconds == sorted(seconds)
    assert 0.0 <= seconds[0] < seconds[-1] < spent
    without = page_of(record(({"update": update} for update in range(20)), name="without"))
    assert [axis["name"] for axis in unpacked(without)["axes"]] == ["seconds"]
    assert "environment steps</option>" not in without


def test_axes_of_a_long_run_are_few_points_and_exact_at_both_ends() -> None:
    """Of 300 000 updates a thousand have their steps in the file, the last of them among these."""
    rows = 300_000
    updates = np.arange(rows)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame({"update": updates, "rank": 0, "env_steps": 7 * updates, "value": 0.5}).with_columns(
        wall_time=pl.lit(begin) + pl.duration(milliseconds=1500 * pl.col("update"))
    )
    steps, seconds = axes_of(frame.lazy(), course_of(frame.lazy(), ["value"]))
    assert len(steps.updates) <= 1000
    assert (steps.updates[-1], steps.values[-1]) == (rows - 1, 7 * (rows - 1))
    assert all(value == 7 * update for update, value in zip(steps.updates, steps.values, strict=True))
    assert seconds.values[-1] == 1.5 * (rows - 1)


def test_a_resume_is_marked(record: Record) -> None:
    """Where a later attempt began is in the data, by its first update."""
    path = record({"update": update} for update in range(30))
    record(({"update": update} for update in range(20, 40)), resume="must")
    assert unpacked(page_of(path))["attempts"] == [[1, 20]]


# ---------------------------------------------------------------------- what is said


def test_what_ranks_have_in_common_is_said_once(tmp_path: Path) -> None:
    """Eight ranks with one remark make one line of it; a healthy rank's level is not shown as that of all."""
    for rank in range(8):
        with Recorder.open(tmp_path, run_id="eight", rank=rank, world_size=8) as recorder:
            for update in range(40):
                loss = NAN if rank == 3 and update > 9 else 0.5
                recorder.record(update=update, policy_loss=0.1, value_loss=loss, explained_variance=0.8)
    html = page_of(tmp_path / "eight", None)
    verdict = html[html.index('<section class="verdict') :].split("</section>")[0]
    assert "since update 10" in verdict
    assert verdict.count("did not declare its value loss") == 1
    assert "Ranks 0, 1, 2, 4, 5, 6, 7: " in verdict
    assert "Rank 3: " in verdict
    assert verdict.split("<details>")[0].count("<li>") <= MAX_REASONS
    assert "last value healthy" not in html
    assert 'class="tiles"' not in html


def test_the_page_says_since_when_and_what_to_look_at(record: Record) -> None:
    """A run whose value loss is NaN has the level as a word, since when, and a link to the chart."""
    html = page_of(record({"update": n, "value_loss": 0.5 if n < 15 else NAN} for n in range(30)))
    verdict = html[html.index('<section class="verdict critical"') :].split("</section>")[0]
    assert "Critical" in verdict
    assert "since update 15" in verdict
    assert 'href="#chart-0"' in verdict
    assert "Not finite: NaN at updates 15 to 29" in html


def test_the_minibatches_before_something_broke_are_tables(tmp_path: Path) -> None:
    """Every number of the last ten minibatches; what moved comes first, and what is not finite stands out."""
    html = page_of(blown_up(tmp_path))
    box = html[html.index('<section class="black-box"') :].split("</section>")[0]
    assert "UTC, not finite: value_loss is inf in minibatch 2</h3>" in box
    assert "UTC, asked: a look at it</h3>" in box
    assert "<strong>Moved: value_loss 11.10 → ∞, reward_forward 2.000 → NaN</strong>" in box
    first, second = re.findall(r"<table.*?</table>", box, re.DOTALL)
    assert re.findall(r"<th scope[^>]*>(.*?)</th>", first) == [
        "update", "epoch", "minibatch", "value_loss", "reward_forward", "policy_loss", "learning_rate",
    ]  # fmt: skip
    assert first.count("<tr>") == second.count("<tr>") == 11
    assert re.findall(r'<td class="n critical">(.*?)</td>', first) == ["∞", "NaN"]


def test_a_page_without_a_black_box_does_not_mention_one(record: Record) -> None:
    """And one that breaks no rule of HTML where there is one without minibatches, or with hostile names."""
    path = record([{"update": 0}])
    assert "lack box" not in page_of(path)
    plant(path, 0, {NASTY[0]: [1.0]}, reason=NASTY[1], trigger=NASTY[3])
    plant(path, 1, {}, written=NASTY[5])
    html = page_of(path)
    assert html.count("<script") == 2 + len(SCRIPTS)
    assert "<img" not in html
    assert html.count('<section class="black-box"') == 1


def jumps(at: int, updates: int = 60) -> Iterator[dict[str, Any]]:
    """A run whose reward jumps at an update; from three updates later on its value loss is NaN."""
    rng = np.random.default_rng(0)
    for update in range(updates):
        is_odd = update >= at
        reward, loss = float(rng.normal(1.0, 0.1)), float(rng.normal(0.5, 0.01))
        yield {
            "update": update,
            "value_loss": NAN if update >= at + 3 else 40.0 if is_odd else loss,
            "entropy": float(rng.normal(0.6, 0.01)),
            "extras": {NASTY[1]: 100.0 + update if is_odd else reward, "steady": reward},
        }


def explained(html: str) -> str:
    """The section on what moved first."""
    (section,) = re.findall(r'<section class="explain".*?</section>', html, re.DOTALL)
    return str(section)


def test_what_moved_first_is_said_and_drawn(record: Record) -> None:
    """The sentences of `explain`, and for each metric that moved its course around the moment, with its band."""
    path = record(jumps(40))
    html = page_of(path)
    found = open_run(path).explain()
    section = explained(html)
    assert html.index('class="explain"') < html.index('id="charts"')
    assert [escape(one) for one in found.sentences] == re.findall(r"<ul>\n(.*?)</ul>", section, re.DOTALL)[0].replace(
        "<li>", ""
    ).replace("</li>", "").strip().split("\n")
    charts = re.findall(r"<li>(?=<a).*?</svg>", section, re.DOTALL)
    assert [one.metric for one in found.moved] == [NASTY[1], "value_loss"]
    assert [escape(name) in chart for name, chart in zip((NASTY[1], "Value loss"), charts, strict=True)] == [True, True]
    assert 'data-first="20" data-last="59"' in charts[0]
    line = re.findall(r'class="line" d="([^"]*)"', charts[0])[0]
    assert line.count("M") == 1
    assert line.count("L") == 39  # from 20 rows before it moved to the end of the run
    assert charts[1].count('class="bad"') == 17
    for chart in charts:
        (top, height) = map(
            float, re.findall(r'class="usual" x="46" y="([\d.]+)" width="190" height="([\d.]+)"', chart)[0]
        )
        (at, down) = map(float, re.findall(r'class="left" cx="([\d.]+)" cy="([\d.]+)"', chart)[0])
        assert not top <= down <= top + height
        assert at == round(46 + 190 * 20 / 39, 1)
        assert f'class="moment" d="M{round(46 + 190 * (found.update - 20) / 39, 1)} ' in chart


def test_a_number_of_minibatches_alone_has_words_and_no_chart(tmp_path: Path) -> None:
    """What only a black box has moved is named with its minibatch."""
    with Recorder.open(tmp_path, run_id="boxed", black_box_minibatches=400) as recorder:
        for update in range(60):
            for number in range(4):
                grown = 50.0 if (update, number) >= (50, 2) else 0.1
                recorder.minibatch(value_loss=0.5, policy_loss=0.01, inner=grown + 0.001 * ((7 * update + number) % 5))
            recorder.record(
                update=update, policy_loss=-0.01, value_loss=NAN if update >= 50 else 0.5 + 0.01 * (update % 3)
            )
    found, section = open_run(tmp_path / "boxed").explain(), explained(page_of(tmp_path / "boxed"))
    assert [one.source for one in found.moved if one.metric == "inner"] == ["black box"]
    (item,) = re.findall(r'<li><span class="name">inner</span>(.*?)</li>', section, re.DOTALL)
    assert "in update 50, minibatch 2" in item
    assert "<svg" not in item


def test_only_an_alert_is_explained(record: Record) -> None:
    """A run without an alert, or with missing updates alone, has no such section; a rank without one neither."""
    rows = [row for row in jumps(1000) if row["update"] != 30]
    assert 'class="explain"' not in page_of(record(rows))
    for rank in range(2):
        record(jumps(40) if rank else rows, name="two", rank=rank, world_size=2)
    run = open_run(record([], name="none").parent / "two")
    assert 'class="explain"' not in report_html(run, run.report(0), 0)
    section = explained(report_html(run, run.report()))
    assert "of rank 1" in section
    assert "<a href" not in section  # the charts are those of rank 0


def test_values_at_the_end_of_the_scale_are_drawn(record: Record) -> None:
    """Largest floats and one row after the moment make coordinates that are numbers."""
    rows = [dict(row) for row in jumps(40, 44)]
    rows[40]["value_loss"], rows[41]["value_loss"] = 1.7976931348623157e308, INF
    section = explained(page_of(record(rows)))
    assert not any(
        re.search(r'(?:="|[ ML])(?:nan|-?inf)', drawn) for drawn in re.findall(r"<svg.*?</svg>", section, re.DOTALL)
    )
    assert section.count("<svg") == 2


def test_the_return_is_the_first_tile(record: Record) -> None:
    """What people look at first comes first; without it the critic is first."""
    rows = [{"update": update, "episode_return_mean": 10.0 + update, "entropy": 0.6} for update in range(30)]
    names = re.findall(r'<span class="name">(.*?)</span>', page_of(record(rows)))
    assert names == ["Episode return", "Value loss", "Entropy"]
    sliding = [{"update": update, "episode_return_sliding_mean": 10.0 + update} for update in range(30)]
    page = page_of(record(sliding, name="sliding"))
    assert re.findall(r'<span class="name">(.*?)</span>', page) == ["Episode return, sliding mean", "Value loss"]
    assert [chart["name"] for chart in unpacked(page)["charts"]].index("episode_return_sliding_mean") < 4
    without = page_of(record(({"update": update} for update in range(30)), name="without"))
    assert re.findall(r'<span class="name">(.*?)</span>', without) == ["Value loss"]


def test_an_empty_run_has_a_page_without_charts(record: Record) -> None:
    """Without rows there is a verdict, and nothing to draw."""
    html = page_of(record([]))
    assert "no updates yet" in html
    assert '<section class="chart' not in html
    assert unpacked(html)["charts"] == []


NASTY = (
    "</script><script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "<!--<script>",
    "{{ 7 * 7 }}",
    "' onfocus='window.pwned=1' autofocus='",
    "</title><svg onload=window.pwned=1>",
)


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """A run in which everything that can be named is hostile."""
    config: dict[str, Any] = dict.fromkeys(NASTY, NASTY[0]) | {"nested": {NASTY[1]: [NASTY[2], {"a": NASTY[0]}]}}
    with Recorder.open(
        tmp_path, run_id="nasty", trainer=NASTY[0], env=NASTY[5], device=NASTY[4], config=config
    ) as recorder:
        for update in range(30):
            recorder.record(update=update, policy_loss=0.1, value_loss=0.5, extras=dict.fromkeys(NASTY, float(update)))
    return tmp_path / "nasty"


def test_nothing_of_a_run_is_markup(nasty: Path) -> None:
    """Names and settings that hold tags, quotes or templates are text, and only text."""
    html = page_of(nasty)
    assert html.count("<script") == 2 + len(SCRIPTS)  # the data, the chart library and ours
    assert "<img" not in html
    assert "window.pwned=1>" not in html
    assert "&lt;/script&gt;&lt;script&gt;window.pwned=1&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html


def test_control_characters_and_lone_surrogates_can_be_written(tmp_path: Path) -> None:
    """What a page cannot hold is shown as escape, so that the file can be written as UTF-8."""
    with Recorder.open(tmp_path, run_id="odd", trainer="a\x00b\u202ec", config={"k\ud800": "v\udfff"}) as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.5)
    html = page_of(tmp_path / "odd")
    html.encode()
    assert "a\\x00b\\u202ec" in html
    assert "\x00" not in html


def test_long_settings_are_cut(tmp_path: Path) -> None:
    """A setting of a megabyte, and thousands of them, do not make the page useless."""
    config = {"long": "x" * 1_000_000} | {f"key {number}": number for number in range(5000)}
    with Recorder.open(tmp_path, run_id="much", config=config) as recorder:
        recorder.record(update=0, policy_loss=0.1, value_loss=0.5)
    html = page_of(tmp_path / "much")
    assert len(html) < 400_000
    assert "only the first 500 are shown" in html


def test_what_one_rank_lacks_is_not_missing_in_the_others(tmp_path: Path) -> None:
    """Updates 5 to 9 of rank 1 break its line only; updates 15 and 16, which nobody has, break both."""
    for rank in range(2):
        with Recorder.open(tmp_path, run_id="two", rank=rank, world_size=2) as recorder:
            for update in range(30):
                if update not in (15, 16) and not (rank == 1 and 5 <= update < 10):
                    recorder.record(update=update, policy_loss=0.1, value_loss=1.0 + rank)
    rows = open_run(tmp_path / "two").updates()
    course = course_of(rows, ["value_loss"])
    assert course.missing == [(15, 16)]
    assert course.missing_of == [[(15, 16)], [(5, 9), (15, 16)]]
    first, second = course.lines["value_loss"]
    for line, breaks in ((first, [15]), (second, [5, 15])):
        assert [at for at, value in zip(line.updates, line.values, strict=True) if value is None] == breaks
