"""The judging half of the benchmark: what is said of each run, how it is counted, and on which runs."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import math
import re
import shutil
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import corpus, judge, outcomes, public, rates, rivals, tables, telemetry
from benchmark.fresh_plan import LOTS, USED_UP
from benchmark.judged import LEVELS, Judged, completed, judged, summed_up

from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.verdict import RunFacts, level_in_force
from esper_schemas.metric.payload import METRICS

pytestmark = pytest.mark.notebooks  # a minute of the suite that only the benchmark needs

FOLDER = Path(corpus.__file__).parent
SAMPLES = FOLDER / "samples"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
PUBLIC = public.read()
UNOPENED = next((lot for lot in LOTS if lot not in USED_UP), "fresh_next")
"""The fresh runs that judge the rules of today, or will."""


def first_batches(count: int, out: Path, folder: str = "batches") -> Path:
    """Copy some finished batches to `out`."""
    (out / folder).mkdir(parents=True)
    for number in range(count):
        for name in (f"{number:04d}.parquet", f"{number:04d}.runs.jsonl"):
            shutil.copy(SAMPLES / "batches" / name, out / folder / name)
    return out


def first_runs(count: int, batch: int, folder: Path, **changed: object) -> list[dict[str, Any]]:
    """Write the first runs of a finished batch as the only batch of a folder, and return what is said of them."""
    folder.mkdir()
    lines = (SAMPLES / "batches" / f"{batch:04d}.runs.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [json.loads(line) | changed for line in lines[:count]]
    rows = pl.read_parquet(SAMPLES / "batches" / f"{batch:04d}.parquet")
    rows.filter(pl.col("run").is_in([run["run"] for run in runs])).write_parquet(folder / "0000.parquet")
    text = "".join(json.dumps(run) + "\n" for run in runs)
    (folder / "0000.runs.jsonl").write_text(text, encoding="utf-8")
    return runs


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two batches, and garbage where the fresh runs are that judge the rules of today."""
    out = first_batches(2, tmp_path_factory.mktemp("samples"))
    (out / UNOPENED).mkdir()
    (out / UNOPENED / "0000.parquet").write_bytes(b"not to be opened")
    return out


@pytest.fixture(scope="module")
def sampled(samples: Path) -> corpus.Corpus:
    """The runs of these batches."""
    return corpus.sampled(samples)


# ---------------------------------------------------------------------- one run judged


def stepped(rows: pl.DataFrame) -> tuple[list[int], str, tuple[str, ...]]:
    """Severity after each row, last level, and the rules at the first critical one, row by row."""
    judge = Judge()
    rows = completed(rows, judge.columns)
    severities: list[int] = []
    rules: tuple[str, ...] = ()
    level = level_in_force(judge, RunFacts())
    for row in rows.iter_slices(1):
        judge.advance(row)
        level = level_in_force(judge, RunFacts())
        if level == "critical" and 2 not in severities:
            given = {one.rule.name for one in judge.in_force.values() if one.rule.gives[one.severity - 1] == level}
            rules = tuple(rule.name for rule in judge.rules if rule.name in given)
        severities.append(LEVELS.index(level) if level in LEVELS else 0)
    return severities, level, rules


@pytest.mark.parametrize(
    "name", ["procgen_easy_200_heist_0", "sb3_user_04", "locomotion_explosion", "rlhf_nan_value_loss"]
)
def test_a_public_run_is_judged_as_if_row_by_row(name: str) -> None:
    """The level after each row is that in force after it, and the rules are those that made it critical first."""
    compare(PUBLIC.rows[name])


@pytest.mark.parametrize("number", [15, 47, 44, 50])
def test_a_sampled_run_is_judged_as_if_row_by_row(number: int) -> None:
    """So with runs that are critical for a while, at warning for a while, and healthy again."""
    rows = pl.scan_parquet(sorted((SAMPLES / "batches").glob("*.parquet"))).filter(pl.col("run") == number)
    compare(rows.sort("update").collect())


def test_a_run_that_alternates_is_judged_as_if_row_by_row() -> None:
    """A critic that explains nothing, then hardly anything, then much, and again: warnings outlast critical alerts."""
    explained = [0.0] * 60 + [0.2] * 30 + [0.9] * 30 + [0.0] * 30 + [0.2] * 15 + [math.nan] + [0.9] * 20 + [0.0] * 40
    losses = [1.0] * 100 + [math.nan] + [1.0] * (len(explained) - 101)
    one = compare(run(explained_variance=explained, value_loss=losses, return_std=[1.0] * len(explained)))
    assert set(one.severities.tolist()) == {0, 1, 2}


def compare(rows: pl.DataFrame) -> Judged:
    """Compare `judged` with stepping through `rows`."""
    one = judged(rows)
    severities, last, rules = stepped(rows)
    assert one.severities.tolist() == severities
    assert (one.last, one.rules) == (last, rules)
    updates = rows["update"].to_list()
    for severity, found in ((1, one.first_warning), (2, one.first_critical)):
        assert found == next((u for u, s in zip(updates, severities, strict=True) if s >= severity), None)
    return one


def run(**columns: Sequence[Any]) -> pl.DataFrame:
    """A run with these columns, 64 steps an update."""
    count = len(next(iter(columns.values())))
    return pl.DataFrame(
        {"update": range(count), "env_steps": [64 * (n + 1) for n in range(count)], "policy_loss": [0.01] * count}
        | columns
    )


def test_a_run_without_rows_is_unknown() -> None:
    """A run that crashed at once was never critical, and its last level is unknown."""
    one = judged(run(value_loss=[1.0]).clear())
    assert (one.first_warning, one.first_critical, one.last, one.rules) == (None, None, "unknown", ())


def test_other_rules_can_be_tried() -> None:
    """`judged` takes the rules to judge by; without any that decides, nothing is critical."""
    rows = run(value_loss=[math.nan] * 20)
    assert judged(rows).first_critical == 0
    harmless = [rule for rule in Judge().rules if "critical" not in rule.gives]
    assert judged(rows, harmless).first_critical is None


# ---------------------------------------------------------------------- counts


def said(levels: str) -> Judged:
    """A run at these levels, a letter each: h, w, c."""
    severities = np.array(["hwc".index(level) for level in levels], np.int8)
    return summed_up(run(value_loss=[1.0] * len(levels)), severities, LEVELS[severities[-1]], ("a", "b"), ())


def labels(**runs: tuple[Any, ...]) -> pl.DataFrame:
    """Labels of runs: label, first broken update, and a deadline."""
    return pl.DataFrame(
        [
            {"name": name, "label": label, "begins": begins, "deadline": more[0] if more else None}
            for name, (label, begins, *more) in runs.items()
        ],
        schema_overrides={"deadline": pl.Int64},
    )


def counted(levels: str, label: str, begins: int = 0, *deadline: int) -> dict[str, Any]:
    """What comes of one run."""
    found = rates.cases({"x": said(levels)}, labels(x=(label, begins, *deadline)))
    return found.select("false_alarm", "found", "watched", "delay", "delay_steps").row(0, named=True)


def test_a_sound_run_is_a_false_alarm_if_it_is_ever_critical() -> None:
    """One critical row is enough; it is watched up to there, and to its end without one."""
    nothing = {"found": None, "delay": None, "delay_steps": None}
    assert counted("hhwchh", "sound") == {"false_alarm": True, "watched": 4, **nothing}
    assert counted("hhwwhh", "sound") == {"false_alarm": False, "watched": 6, **nothing}
    assert counted("hhwchh", "sound", 5) == {"false_alarm": True, "watched": 4, **nothing}  # harmless, as it turned out


def test_a_broken_run_is_found_from_its_onset_on() -> None:
    """The delay counts from the first broken update, in updates and in steps from the row before it."""
    assert counted("hhhwchh", "broken", 3) == {
        "false_alarm": False,
        "found": 4,
        "watched": 3,
        "delay": 1,
        "delay_steps": 128.0,
    }
    assert counted("hhhwwhh", "broken", 3)["found"] is None
    assert counted("chh", "broken") | {"watched": 0} == {
        "false_alarm": False,
        "found": 0,
        "watched": 0,
        "delay": 0,
        "delay_steps": 64.0,
    }


def test_a_broken_run_that_is_critical_before_its_onset_is_a_false_alarm() -> None:
    """It is found as well if it is critical from the onset on, too; neither gives a delay."""
    early = {"false_alarm": True, "watched": 2, "delay": None, "delay_steps": None}
    assert counted("hchhhh", "broken", 3) == {**early, "found": None}
    assert counted("hccchh", "broken", 3) == {**early, "found": 3}
    assert counted("hchhch", "broken", 3) == {**early, "found": 4}


def test_a_deadline_ends_what_counts_as_found() -> None:
    """At the deadline is in time, and after it is not."""
    assert counted("hhhwch", "broken", 2, 4)["found"] == 4
    assert counted("hhhwch", "broken", 2, 3)["found"] is None


def test_an_unclear_run_enters_no_rate() -> None:
    """It is neither found nor a false alarm, and none of its updates are watched."""
    assert counted("hchhch", "unclear", 3) == dict.fromkeys(("found", "delay", "delay_steps")) | {
        "false_alarm": False,
        "watched": 0,
    }


def test_runs_are_counted_together() -> None:
    """Each run is counted once, medians are over those found in time, and false alarms per update count both sorts."""
    levels = {"a": "hhch", "b": "hhhh", "c": "hhch", "d": "hhhh", "e": "chcc", "f": "hhhc", "g": "cccc"}
    table = labels(
        a=("sound", 0),
        b=("sound", 0),
        c=("broken", 1),
        d=("broken", 0),
        e=("broken", 2),
        f=("broken", 0),
        g=("unclear", 0),
    )
    one = rates.rates({name: said(text) for name, text in levels.items()}, table)
    assert one == rates.Rates(
        sound=2,
        critical=1,
        broken=4,
        found=3,
        later=2,
        early=1,
        unclear=1,
        watched=3 + 4 + 1 + 1,
        delay=2.0,
        delay_steps=192.0,
    )
    assert one.critical_share.value == 0.5
    assert one.found_share.value == 0.75
    assert one.alarms_per(1000).value == pytest.approx(1000 * 2 / 9)


def test_intervals_are_the_exact_ones() -> None:
    """Clopper and Pearson, and Garwood, as the published tables have them; nothing seen gives no interval."""
    assert rates.share(0, 20) == pytest.approx((0, 0, 0.168434), abs=1e-6)
    assert rates.share(5, 10) == pytest.approx((0.5, 0.187086, 0.812914), abs=1e-6)
    assert rates.share(10, 10) == pytest.approx((1, 0.691503, 1), abs=1e-6)
    assert rates.rate(0, 1) == pytest.approx((0, 0, 3.688879), abs=1e-6)
    assert rates.rate(10, 2) == pytest.approx((5, 2.397695, 9.195178), abs=1e-6)
    assert all(map(math.isnan, (*rates.share(0, 0), *rates.rate(0, 0))))


# ---------------------------------------------------------------------- folds and telemetry


def test_folds_leave_each_environment_and_each_kind_out_once() -> None:
    """No run is on both sides or on none; sound runs are left out by environment and never by kind."""
    table = PLAN_LABELS
    found = list(rates.folds(table))
    for training, left_out in found:
        assert sorted([*training["name"], *left_out["name"]]) == sorted(table["name"])
        assert len(left_out)
    names = [set(left_out["name"]) for _, left_out in found]
    by_env, by_kind = names[: table["env"].n_unique()], names[table["env"].n_unique() :]
    assert set.union(*by_env) == set(table["name"])
    assert sum(map(len, by_env)) == len(table)
    broken = table.filter(pl.col("kind") != "sound")
    assert sum(map(len, by_kind)) == len(broken)
    assert set.union(*by_kind) == set(broken["name"])
    assert len(by_kind) == broken["kind"].n_unique()
    for training, left_out in found[len(by_env) :]:
        assert not set(training["kind"]) & set(left_out["kind"])  # not even in another part
        assert "sound" in set(training["kind"])


PLAN_LABELS = pl.DataFrame(
    [
        {"name": f"{number}", "part": part, "env": env, "kind": kind, "label": label}
        for number, (part, env, kind, label) in enumerate(
            [
                ("main", "A", "sound", "sound"),
                ("main", "B", "sound", "sound"),
                ("main", "A", "rlm-nr", "broken"),
                ("rlmutation", "B", "rlm-nr", "broken"),
                ("rlmutation", "B", "sound", "sound"),
                ("main", "C", "clip-zero", "sound"),
                ("main", "B", "clip-zero", "unclear"),
            ]
        )
    ]
)


def test_telemetry_is_taken_away_step_by_step(sampled: corpus.Corpus) -> None:
    """Each set is within the one before it, has only columns of the metrics table, and is all that is judged."""
    sets = list(telemetry.SETS.values())
    assert all(less <= more for more, less in itertools.pairwise(sets))
    assert all(columns <= {*METRICS, "update"} for columns in sets)
    for columns in sets:
        kept = sampled.keeping(columns)
        assert kept.labels.equals(sampled.labels)
        assert all(set(rows.columns) <= columns for rows in kept.rows.values())
    with_returns = telemetry.SETS["losses and returns"] - telemetry.SETS["losses only"]
    assert with_returns == {"episode_return_mean"}
    assert telemetry.SETS["what SB3 logs"] - telemetry.SETS["what CleanRL logs"] == {"clip_range"}


def test_sliding_means_are_those_of_sb3() -> None:
    """Of the last 100 episodes, however many ended in each update; null before the first, and repeated without one."""
    counts, means = [0, 4, 0, 90, 8, 300, 0], [None, 1.0, None, 2.0, 4.0, 9.0, None]
    rows = run(episodes=counts, episode_return_mean=means, episode_length_mean=[None, 5.0, *[None] * 5])
    buffer: deque[float] = deque(maxlen=100)  # as `ep_info_buffer`
    expected = []
    for count, mean in zip(counts, means, strict=True):
        buffer.extend([mean] * count if mean is not None else [])
        expected.append(sum(buffer) / len(buffer) if buffer else None)
    found = telemetry.with_sliding_means(rows)
    assert found["episode_return_sliding_mean"].to_list() == pytest.approx(expected)
    assert found["episode_length_sliding_mean"].to_list() == [None, *[5.0] * 6]
    assert not {"episodes", "episode_return_mean", "episode_length_mean", "return_std"} & set(found.columns)


def test_what_is_not_recorded_is_not_seen() -> None:
    """A critic that explains nothing is seen by what is recorded of it, and an impossible loss by the losses alone."""
    rows = run(explained_variance=[-1.0] * 100, value_loss=[math.nan] * 100)
    only = corpus.Corpus(labels(x=("broken", 0)), {"x": rows}).keeping(telemetry.SETS["losses only"])
    assert only.rows["x"].columns == ["update", "env_steps", "policy_loss", "value_loss"]
    assert only.judged()["x"].first_critical == 0


def test_a_verdict_does_not_see_the_truth(sampled: corpus.Corpus) -> None:
    """The columns that labels are made from are not among the rows."""
    for rows in sampled.rows.values():
        assert not {"own_return", "own_episodes", "run"} & set(rows.columns)


# ---------------------------------------------------------------------- public runs


def test_extracts_of_public_runs_are_small_and_begin_where_the_runs_do() -> None:
    """No gap, a few hundred rows each, and all of them under 4 MB; the source is named."""
    cases = json.loads((public.FOLDER / "cases.json").read_text(encoding="utf-8"))
    assert sum(path.stat().st_size for path in public.FOLDER.iterdir()) < 4e6
    assert set(PUBLIC.rows) == set(cases) > set(public.LONGER)
    for name, rows in PUBLIC.rows.items():
        assert len(rows) == cases[name]["rows"] <= cases[name]["rows_of_the_run"]
        assert rows["update"].diff().drop_nulls().unique().to_list() in ([1], [])
        assert cases[name]["source"]
        assert len(rows) <= public.LONGER.get(name, public.FIRST_ROWS)


@pytest.mark.parametrize("name", sorted(PUBLIC.rows))
def test_public_runs_are_critical_in_time_or_never(name: str) -> None:
    """None of the sound ones at any time; the others within three rows of their onset, or else by update 40."""
    (case,) = rates.cases(PUBLIC.only([name]).judged(), PUBLIC.labels.filter(pl.col("name") == name)).to_dicts()
    first = case["first_critical"]
    if case["label"] == "broken":
        assert first is not None
        assert case["begins"] <= first <= case["deadline"]
    elif case["label"] == "sound":
        assert first is None


def test_public_runs_are_labelled_by_what_is_expected_of_them() -> None:
    """Every wording is in the table; six runs are broken, with onset and deadline, and two are judged by nobody."""
    assert public.unknown(PUBLIC.labels) == []
    broken = PUBLIC.labels.filter(pl.col("label") == "broken")
    assert dict(zip(broken["name"], zip(broken["begins"], broken["deadline"], strict=True), strict=True)) == {
        "both_losses_exactly_zero": (-3, 3),
        "critic_explains_nothing": (0, 40),
        "locomotion_explosion": (379, 385),
        "locomotion_inf_value_loss": (8388, 8394),
        "rlhf_nan_value_loss": (-2, 4),
        "sb3_user_05": (0, 40),
    }
    assert PUBLIC.labels["label"].value_counts().sort("count").rows() == [("unclear", 2), ("broken", 6), ("sound", 73)]
    assert {label for label, _ in public.LABELS.values()} == {"sound", "broken", "unclear"}


def make_corpus(folder: Path, expected: str = "critical", rows: int = 500) -> Path:
    """A corpus of one run that is named as one of the extracts."""
    folder.mkdir()
    data = run(value_loss=[1.0] * rows).with_columns(pl.lit("breakout_one_env").alias("case"))
    data.write_parquet(folder / "runs.parquet")
    case = {"source": "nobody", "trainer": "none", "expected": expected}
    (folder / "cases.json").write_text(json.dumps({"breakout_one_env": case}), encoding="utf-8")
    return folder


def test_extracts_are_taken_again_from_a_corpus(tmp_path: Path) -> None:
    """The first rows are taken from it; runs that it does not have stay as they are."""
    out = shutil.copytree(public.FOLDER, tmp_path / "public")
    public.extract(make_corpus(tmp_path / "corpus"), out)
    taken = public.read(out)
    assert taken.rows["breakout_one_env"]["value_loss"].to_list() == [1.0] * public.FIRST_ROWS
    assert json.loads((out / "cases.json").read_text(encoding="utf-8"))["breakout_one_env"]["rows_of_the_run"] == 500
    others = [name for name in PUBLIC.rows if name != "breakout_one_env"]
    assert all(taken.rows[name].equals(PUBLIC.rows[name]) for name in others)


# ---------------------------------------------------------------------- the command


def call(*arguments: object) -> Any:
    """Run judge.py."""
    return CliRunner().invoke(judge.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def document(samples: Path) -> Any:
    """What `--json` prints of two batches and the extracts."""
    result = call(samples, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_json_has_every_run_and_its_counts_add_up(document: Any, sampled: corpus.Corpus) -> None:
    """The tables count the runs that are listed, in each group of runs once."""
    assert {one["name"] for one in document["runs"]} == {*sampled.rows, *PUBLIC.rows}
    assert document["of"] == "open"
    everything = pl.DataFrame(document["runs"], infer_schema_length=None)
    whole = {one["group"]: one for one in document["tables"]["parts"]}
    for part in ("main", "rlmutation", "public", tables.ALL):
        runs = everything if part == tables.ALL else everything.filter(pl.col("part") == part)
        sound, broken = runs.filter(pl.col("label") == "sound"), runs.filter(pl.col("label") == "broken")
        assert whole[part]["sound"] == len(sound)
        assert whole[part]["critical"] == sound["first_critical"].is_not_null().sum()
        assert (whole[part]["broken"], whole[part]["early"]) == (len(broken), broken["false_alarm"].sum())
    for key in ("environments", "trainers", "kinds"):
        for count in ("sound", "critical", "broken", "found", "watched", "unclear"):
            both = whole["main"][count] + whole["rlmutation"][count]
            assert sum(one[count] for one in document["tables"][key]) == both
    assert sum(one["sound"] + one["broken"] + one["unclear"] for one in document["tables"]["sources"]) == len(
        PUBLIC.rows
    )


def test_misses_lists_each_run_that_was_judged_wrongly(document: Any, samples: Path) -> None:
    """Both lists have the runs that the counts are of, and the text shows their names and rules."""
    missed = [one["name"] for one in document["runs"] if one["label"] == "broken" and one["found"] is None]
    wrong = [one for one in document["runs"] if one["false_alarm"]]
    assert [one["name"] for one in document["tables"]["missed"]] == missed
    assert [one["name"] for one in document["tables"]["false"]] == [one["name"] for one in wrong]
    text = call(samples, "--misses").stdout
    assert all(f"  {name}  " in text for name in missed)
    assert all(re.search(rf"  {re.escape(one['name'])} .*{one['rules']}", text) for one in wrong)


def test_markdown_has_the_numbers_of_the_text(tmp_path: Path) -> None:
    """The same cells in the same order."""
    samples = first_batches(1, tmp_path / "samples")
    text, markdown = call(samples, "--no-public").stdout, call(samples, "--no-public", "--markdown").stdout
    cells = re.findall(r"\d+ of \d+ \([^)]*\)", text)
    assert cells
    assert re.findall(r"\d+ of \d+ \([^)]*\)", markdown) == cells
    assert "public" not in text
    for line in markdown.splitlines():
        assert not line or line.startswith(("### ", "| ", "None."))


def test_less_telemetry_is_one_table(tmp_path: Path) -> None:
    """It has a row for each set of columns, on the sampled runs alone; the first is that of everything."""
    samples = first_batches(1, tmp_path / "samples")
    sampled = corpus.sampled(samples)
    out = json.loads(call(samples, "--telemetry", "--json").stdout)
    found = {one["group"]: one for one in out["tables"]["telemetry"]}
    assert list(found) == [*telemetry.SETS, telemetry.SLIDING]
    assert {one["sound"] + one["broken"] + one["unclear"] for one in found.values()} == {len(sampled.rows)}
    parts = {one["group"]: one for one in out["tables"]["parts"]}
    assert found["everything"]["critical"] == parts["main"]["critical"] + parts["rlmutation"]["critical"]
    least = rates.rates(sampled.keeping(telemetry.SETS["losses only"]).judged(), sampled.labels)
    assert found["losses only"]["critical"] == least.critical


@pytest.mark.parametrize("folder", outcomes.FOLDERS[1:])
def test_the_runs_of_one_folder_are_judged_alone(tmp_path: Path, folder: str) -> None:
    """With `--of` exactly these are judged, beside the control of the others; without it those that are open by now."""
    first_runs(6, 0, tmp_path / "batches")
    runs = first_runs(6, 1, tmp_path / folder, is_held_back=True)
    path = tmp_path / folder / "0000.runs.jsonl"
    found = json.loads(call(tmp_path, "--of", folder, "--no-public", "--json").stdout)
    assert found["of"] == folder
    names = {one["name"] for one in runs}
    assert {one["name"] for one in found["runs"]} == names
    is_open = folder in outcomes.OPEN_FOLDERS
    if not is_open:
        path.unlink()  # whoever opened the folder would miss it
    every = json.loads(call(tmp_path, "--no-public", "--json").stdout)
    assert every["of"] == "open"
    assert ({one["name"] for one in every["runs"]} > names) == is_open


def test_another_corpus_is_judged_in_place_of_the_extracts(samples: Path, tmp_path: Path) -> None:
    """A folder of the same layout; a run of which something unknown is expected is unclear, and a line says so."""
    result = call(samples, "--public", make_corpus(tmp_path / "corpus", "hard to say"), "--json")
    run = next(one for one in json.loads(result.stdout)["runs"] if one["part"] == "public")
    assert (run["name"], run["label"], run["rows"], run["env"]) == ("breakout_one_env", "unclear", 500, "unknown")
    assert result.stderr == "judge: public.LABELS does not say what 'hard to say' means; such runs are unclear\n"


def test_what_is_not_there_is_said_in_one_line(samples: Path, tmp_path: Path) -> None:
    """A folder without batches, and one without public runs."""
    result = call(tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"judge: {tmp_path / 'batches'} has no finished batch; sample.py makes them\n"
    result = call(samples, "--public", tmp_path)
    assert result.exit_code == 2
    message = f"{tmp_path} has no runs.parquet; a folder of public runs has runs.parquet and cases.json"
    assert result.stderr == f"judge: {message}\n"


# ---------------------------------------------------------------------- other tools

INSTALLED = [rival for rival in rivals.RIVALS if rival.is_installed]


def test_a_tool_is_there_to_be_tried() -> None:
    """rlprobe comes with what development needs, so the tests below try at least one."""
    assert "rlprobe" in {rival.name for rival in INSTALLED}


@pytest.mark.parametrize("rival", INSTALLED, ids=lambda rival: rival.name)
def test_a_tool_judges_a_run_for_real(rival: rivals.Rival) -> None:
    """Entropy that falls from 2 nats to nothing while the return stands is critical to each of them, late enough."""
    count = 300
    entropy = [2.0] * 100 + [2.0 * 0.93**n for n in range(200)]
    rng = np.random.default_rng(1)
    more: dict[str, Any] = {
        "value_loss": rng.uniform(0.9, 1.1, count),
        "episode_return_mean": rng.uniform(99, 101, count),
        "advantage_std": rng.uniform(0.9, 1.1, count),
        "pre_clip_grad_norm": rng.uniform(0.4, 0.6, count),
    }
    falling = rival.judged(run(entropy=entropy, **more))
    assert falling.first_critical is not None
    assert 100 < falling.first_critical < 250
    assert any("entropy" in name.lower() for name in falling.rules)
    steady = rival.judged(run(entropy=[2.0] * count, **more))
    assert not any("entropy" in name.lower() for name in steady.rules)
    assert len(steady.severities) == count
    nothing = rival.judged(run(value_loss=[1.0]).clear())
    assert (nothing.first_critical, nothing.last) == (None, "healthy")


@pytest.mark.parametrize("rival", INSTALLED, ids=lambda rival: rival.name)
def test_a_tool_knows_every_name_that_it_is_given(rival: rivals.Rival) -> None:
    """No column goes to a name that the tool would ignore."""
    if rival.name == "rlprobe":
        known = set(importlib.import_module("rlprobe.schemas").StepRecord.model_fields)
    elif rival.name == "rlwatch":
        suite = importlib.import_module("rlwatch.detectors").DetectorSuite
        known = set(inspect.signature(suite.check_step).parameters)
    else:
        record = dict.fromkeys(rival.columns, 1.0)
        read = importlib.import_module("rl_doctor").run_from_records([record, record])
        known = set() if read.unmapped_keys or len(read.series) < len(record) - 1 else set(rival.columns)
    assert set(rival.columns) <= known


def test_the_readme_says_what_each_tool_was_given() -> None:
    """Its table is that of `rivals.py`, and every column is one of the metrics table."""
    for position, rival in enumerate(rivals.RIVALS, start=1):
        rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", README, re.MULTILINE)
        assert {
            row[position].strip("`"): rivals.TOTAL_LOSS if "+" in row[0] else row[0].strip("`")
            for row in rows
            if row[position] != "–"
        } == dict(rival.columns)
        assert set(rival.columns.values()) <= {*METRICS, "update", rivals.TOTAL_LOSS}


def test_tools_side_by_side_are_judged_on_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tool that is installed has a row beside Esper's, with as many runs; one that is not has a line."""
    monkeypatch.setattr(judge, "RIVALS", [*INSTALLED, rivals.Rival("nothing", "no_such_module", {}, rivals._rlprobe)])
    out = first_batches(1, tmp_path / "samples")
    result = call(out, "--rivals", "--no-public", "--json")
    assert result.stderr == "judge: nothing is not installed; see notebooks/benchmark/rivals.txt\n"
    found = {one["group"]: one for one in json.loads(result.stdout)["tables"]["tools_all"]}
    assert list(found) == ["Esper", *(rival.name for rival in INSTALLED)]
    assert len({(one["sound"], one["broken"], one["unclear"]) for one in found.values()}) == 1
