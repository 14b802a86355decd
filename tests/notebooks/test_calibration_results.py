"""The file of the calibration study holds what the README says of it, and still is what trainer and rules give.

That trainer and rules still give it is seen by training anew, with `make notebooks`; all else needs the file alone.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from esper_analyzer.judging.rules import LEARNING_UPDATES

STUDY = Path(__file__).parents[2] / "notebooks" / "calibration"
sys.path.insert(0, str(STUDY))
detections, figure, make_runs, outcomes, scenarios = map(
    importlib.import_module, ("detections", "figure", "make_runs", "outcomes", "scenarios")
)

RESULTS = pl.read_parquet(STUDY / "results.parquet")
SCENARIOS = {scenario.name: scenario for scenario in scenarios.SCENARIOS}

CLEAR_CUT = (
    ("default", 7),
    ("nan-from", 5),
    ("constant-critic", 5),
    ("dead-critic", 7),
    ("ends-ignored", 5),
    ("stale-25", 4),
)
"""Runs far from every bound, so that another CPU's rounding decides nothing: a sound one,
and one for each rule by which runs are decided here."""

MAX_SHIFT = 8
"""A critical verdict may come so many updates earlier or later elsewhere; seeds of one scenario differ as much."""


def held_back(*, broken: bool) -> pl.DataFrame:
    """The healthy or the broken runs of the half that is reported on."""
    return RESULTS.filter(half="held-back", broken=broken)


# ---------------------------------------------------------------------- the claims


def test_the_file_holds_every_run_of_the_study_once() -> None:
    """There is a row for each seed of each scenario, in the half that its seed belongs to, with a column per rule."""
    expected = {(scenario.name, seed) for scenario in scenarios.SCENARIOS for seed in range(scenario.seeds)}
    assert len(RESULTS) == len(expected)
    assert set(RESULTS.select("scenario", "seed").rows()) == expected
    assert RESULTS["half"].to_list() == [outcomes.half_of(seed) for seed in RESULTS["seed"]]
    rules = {f"bare {name}" for name in detections.BARE_RULES} | {"warning", "critical", "by"}
    assert set(RESULTS.columns) == {*outcomes.TABLE_SCHEMA, *rules}
    assert RESULTS["by"].is_null().equals(RESULTS["critical"].is_null())


def test_the_held_back_half_is_large_enough() -> None:
    """At least 100 healthy and 50 broken runs are held back."""
    assert len(held_back(broken=False)) >= 100
    assert len(held_back(broken=True)) >= 50


def test_the_verdict_seldom_cries_wolf() -> None:
    """At most 2 % of the healthy runs that were held back had a critical verdict at any update."""
    assert figure.alarms(held_back(broken=False), "critical")["share"] <= 0.02


def test_the_verdict_finds_broken_runs() -> None:
    """At least 95 % of the broken runs that were held back had a critical verdict, none before it was broken."""
    found = figure.alarms(held_back(broken=True), "critical")
    assert found["share"] >= 0.95
    assert found["too_soon"] == 0


def test_other_waits_are_of_the_same_runs() -> None:
    """With the wait that the rules have, each run of the other file is critical at the update of the first file."""
    waits = pl.read_parquet(STUDY / "waits.parquet")
    assert set(waits["wait"]) == set(detections.OTHER_WAITS)
    same = waits.filter(wait=LEARNING_UPDATES).drop("wait").sort("scenario", "seed")
    assert same.equals(RESULTS.select("scenario", "seed", "critical").sort("scenario", "seed"))


def test_the_figure_is_of_these_results() -> None:
    """The figure of the README was drawn from the file beside it."""
    assert figure.describe(RESULTS) in (STUDY / "figure.svg").read_text()


README_ROWS = {
    "value loss > 20, negative or not finite": "bare value loss",
    "Lv/Lp < 0.1 or > 10": "bare Lv/Lp",
    "value loss 20 % up in ten updates": "bare trend",
    "Esper: verdict critical": "critical",
}


@pytest.mark.parametrize("name", README_ROWS)
def test_the_table_of_the_readme_is_of_these_results(name: str) -> None:
    """Counts, intervals and median delays of the project's README are those of the held-back half."""
    lines = (STUDY.parents[1] / "README.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.replace("*", "").startswith(f"| {name} |")]
    *shares, delay = [cell.strip() for cell in row.replace("*", "").split("|")[2:-1]]
    found = [figure.alarms(held_back(broken=broken), README_ROWS[name]) for broken in (False, True)]
    for said, held in zip(shares, found, strict=True):
        parts = re.fullmatch(r"(\d+) of (\d+) \(([\d.]+)–([\d.]+) %\)", said)
        assert parts is not None, said
        assert (int(parts[1]), int(parts[2])) == (held["alarms"], held["runs"])
        for bound, exactly in ((parts[3], held["low"]), (parts[4], held["high"])):
            assert f"{100 * exactly:.{len(bound.partition('.')[2])}f}" == bound
    assert float(delay) == found[1]["median"]


def test_the_readme_counts_these_runs() -> None:
    """How many runs there are, and how many of them sound, stands in the project's README."""
    sound = len(RESULTS.filter("sound"))
    said = f"{len(RESULTS)} short PPO runs, {sound} sound and {len(RESULTS) - sound} broken"
    assert said in " ".join((STUDY.parents[1] / "README.md").read_text(encoding="utf-8").split())


# ---------------------------------------------------------------------- how they are counted


@pytest.mark.parametrize(
    ("hits", "runs", "low", "high"), [(0, 170, 0.0, 0.021466), (60, 62, 0.888281, 0.996069), (5, 5, 0.478176, 1.0)]
)
def test_intervals_are_exact(hits: int, runs: int, low: float, high: float) -> None:
    """The bounds are those at which so many hits, or so few, have a chance of 2.5 %."""
    found = figure.interval(hits, runs)
    assert found == pytest.approx((low, high), abs=1e-6)
    if hits == 0:
        assert (1 - found[1]) ** runs == pytest.approx(0.025)
    if hits == runs:
        assert found[0] ** runs == pytest.approx(0.025)


def test_an_alarm_before_the_break_has_no_delay() -> None:
    """It is counted as an alarm and as too soon; the delays are those of the others."""
    runs = pl.DataFrame({"critical": [3, 10, 14, None], "break_update": [5, 5, 5, 5]})
    found = figure.alarms(runs, "critical")
    assert (found["runs"], found["alarms"], found["too_soon"], found["median"]) == (4, 3, 1, 7.0)


# ---------------------------------------------------------------------- anew


@pytest.mark.notebooks
def test_runs_made_anew_come_out_as_in_the_file(tmp_path: Path) -> None:
    """Trained, recorded and judged again, clear-cut runs are as broken, and as critical by the same rule, as before."""
    for name, seed in CLEAR_CUT:
        make_runs.make_run((SCENARIOS[name], seed, tmp_path))
    anew = detections.detect(tmp_path)
    before = RESULTS.join(anew, on=("scenario", "seed"), how="semi").sort("scenario", "seed")
    same = ("scenario", "seed", "half", "env", "sound", "break_update", "updates", "broken", "reasons", "by")
    hint = "results.parquet is stale: `make study` makes it again"
    assert anew.select(same).to_dicts() == before.select(same).to_dicts(), hint
    late = (anew["critical"] - before["critical"]).drop_nulls().abs()
    assert len(late) == len(CLEAR_CUT) - 1
    assert late.max() <= MAX_SHIFT, hint


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize("kind", ["nothing", "no folder", "no runs"])
def test_a_wrong_folder_is_named_in_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without all runs of the study the command says so in one line, exits 2, and writes nothing."""
    monkeypatch.setattr(detections, "RESULTS", tmp_path / "results.parquet")
    arguments: dict[str, list[str]] = {"nothing": [], "no folder": [str(tmp_path / "x")], "no runs": [str(tmp_path)]}
    done = CliRunner().invoke(detections.main, arguments[kind])
    assert done.exit_code == 2
    assert done.stderr.startswith("detections: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
