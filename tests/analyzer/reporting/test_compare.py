from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from tests.waiting import HANG_SECS

from esper_analyzer import open_run
from esper_analyzer.cli import main
from esper_analyzer.reporting.comparison.axis import Axis, Extent, MeasuredRows, mean_over
from esper_analyzer.reporting.comparison.bootstrap import (
    RANDOM_SEED,
    RESAMPLES,
    Floats,
    Statistic,
    interquartile_mean,
    interval,
    share_of_pairs,
)
from esper_analyzer.reporting.comparison.compare import compare
from esper_analyzer.reporting.comparison.comparison import Comparison
from esper_analyzer.reporting.comparison.groups import chance, estimate, seed_groups
from esper_analyzer.reporting.comparison.scores import best_first, score
from esper_analyzer.reporting.comparison.text import PIPED_HEIGHT, compare_lines
from esper_recorder import Recorder
from esper_schemas import ValueLossDefinition
from esper_schemas.errors import UsageError

Record = Callable[..., Path]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
NAN, INF = math.nan, math.inf
DECLARED = ValueLossDefinition(clipping="none", reduction="all minibatches", targets_normalised=True)


def analyze(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `esper-analyze compare` with its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "esper_analyzer", "compare", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=HANG_SECS,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
    )


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The same in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as left:
        main(["compare", *arguments])
    return int(left.value.code or 0), *capsys.readouterr()


def losses(values: Sequence[float], *, steps: int = 100) -> list[dict[str, Any]]:
    """One update for each value loss, so many environment steps each."""
    return [{"update": i, "value_loss": value, "env_steps": (i + 1) * steps} for i, value in enumerate(values)]


def text_of(comparison: Comparison, width: int = 80) -> str:
    """The text, every line of which must fit."""
    lines = [line.plain for line in compare_lines(comparison, width)]
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)
    return "\n".join(lines)


def seeds(record: Record, name: str, config: dict[str, Any], finals: Sequence[float], **options: Any) -> list[Path]:
    """One run of constant value loss for each number, equal but for the seed."""
    return [
        record(losses([value] * 12), f"{name}-{seed}", config={**config, "seed": seed}, **options)
        for seed, value in enumerate(finals)
    ]


def test_scores_by_hand(record: Record) -> None:
    """Final is the median of the last ten, best the smallest with its place, area the trapezoidal mean."""
    values = [float(value) for value in (9, 8, 7, 2, 6, 5, 4, 4, 3, 3, 5, 6)]
    path = record(losses(values), "a")
    made = compare([path, record(losses([1.0] * 12), "b")])
    assert (made.axis.by, made.axis.start, made.axis.end) == ("steps", 100.0, 1200.0)
    assert made.better == "lower"
    scores = made.runs[0].scores
    assert scores.final == median(values[-10:])
    assert (scores.best, scores.best_update, scores.best_at) == (2.0, 3, 400.0)
    assert scores.area == pytest.approx((sum(values) - (values[0] + values[-1]) / 2) / 11)
    assert (scores.measured, scores.nonfinite, scores.area_covered) == (12, 0, 1.0)
    assert made.runs[1].scores.area == 1.0
    assert [run.status for run in made.runs] == ["finished", "finished"]
    verdict = open_run(path).report().verdict
    assert (made.runs[0].verdict, made.runs[0].reason) == (verdict.level, verdict.reasons[0])
    assert made.runs[0].findings == verdict.findings


def test_a_longer_run_is_cut_off_and_said_to_be(record: Record) -> None:
    """Only the span that both have counts, also between two updates of one of them."""
    short = record(losses([4.0, 2.0, 4.0], steps=100), "short")
    long = record(losses([8.0, 4.0, 0.0, 1.0], steps=120), "long")
    made = compare([short, long])
    assert (made.axis.start, made.axis.end) == (120.0, 300.0)
    cut = made.runs[1]
    assert cut.is_cut_off
    assert not made.runs[0].is_cut_off
    assert (cut.last, cut.scores.measured) == (480.0, 2)
    assert (cut.scores.final, cut.scores.best, cut.scores.best_at) == (6.0, 4.0, 240.0)
    # 8 at 120, 4 at 240, and half-way to 0 at 300
    assert cut.scores.area == pytest.approx((120 * 6.0 + 60 * 3.0) / 180)
    # 3.6 at 120, 2 at 200, 4 at 300
    assert made.runs[0].scores.area == pytest.approx((80 * 2.8 + 100 * 3.0) / 180)
    assert "cut off: short begins at 100, long goes on to 480" in text_of(made)
    assert "cut off" not in text_of(compare([short, record(losses([1.0] * 3), "same")]))


def test_axes(record: Record) -> None:
    """Steps where every run has them, else updates; an axis that a run lacks is an error that names the run."""
    with_steps = record(losses([1.0] * 4), "steps")
    without = record([{"update": update} for update in range(2, 9)], "plain")
    made = compare([with_steps, without])
    assert (made.axis.by, made.axis.start, made.axis.end) == ("updates", 2.0, 3.0)
    assert made.runs[1].is_cut_off
    with pytest.raises(UsageError, match="plain has recorded no environment steps; use --by updates"):
        compare([with_steps, without], by="steps")
    late = record([{"update": update} for update in range(50, 60)], "late")
    with pytest.raises(UsageError, match="no updates in common: plain ends at 8, late begins at 50"):
        compare([without, late])


def test_time_is_training_time_over_all_attempts(record: Record, tmp_path: Path) -> None:
    """A resumed run goes on where its clock stopped, the time of superseded rows included, that in between not."""
    first = [{"update": i, "value_loss": 4.0, "elapsed_secs": 10.0 * (i + 1)} for i in range(4)]
    record(first, "resumed")
    with Recorder.open(tmp_path / "runs", run_id="resumed", resume="must", strict=True) as recorder:
        for update, secs in ((2, 5.0), (3, 15.0)):
            recorder.record(update=update, policy_loss=0.0, value_loss=2.0, elapsed_secs=secs)
    steady = record([{"update": i, "value_loss": 1.0, "elapsed_secs": 10.0 + 50.0 * i} for i in range(2)], "steady")
    made = compare([tmp_path / "runs" / "resumed", steady], by="time")
    resumed = made.runs[0]
    assert (resumed.first, resumed.last) == (10.0, 55.0)
    assert (made.axis.start, made.axis.end) == (10.0, 55.0)
    # 4 until 20, falling to 2 at 45, 2 until 55
    assert resumed.scores.area == pytest.approx((10 * 4 + 25 * 3 + 10 * 2) / 45)
    assert made.runs[1].is_cut_off
    assert "steady goes on to 60.0 s" in text_of(made)


def test_values_that_are_not_finite_are_counted_and_shown(record: Record) -> None:
    """One NaN is bridged and counted; a run that ends in NaN has no final value and no area, but a best one."""
    blip = record(losses([4.0, NAN, 2.0, INF, *[1.0] * 10]), "blip")
    lost = record(losses([4.0, 3.0, *[1.0] * 7, *[NAN] * 5]), "lost")
    never = record(losses([NAN] * 14), "never")
    one, two, three = (run.scores for run in compare([blip, lost, never], group=False).runs)
    assert (one.measured, one.nonfinite, one.final, one.best) == (14, 2, 1.0, 1.0)
    assert one.area == pytest.approx((2 * 3.0 + 2 * 1.5 + 9 * 1.0) / 13)
    assert (two.nonfinite, two.best) == (5, 1.0)
    assert two.final is not None
    assert math.isnan(two.final)
    assert two.area is not None
    assert math.isnan(two.area)
    assert two.area_covered == pytest.approx(8 / 13)
    assert three.best is not None
    assert math.isnan(three.best)
    assert three.area_covered == 0.0
    made = compare([blip, lost, never], group=False)
    shown = text_of(made)
    assert "2 of 14 values not finite" in shown
    assert "14 of 14 values not finite" in shown
    document = json.loads(made.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["format"] == "esper-compare/1"
    assert document["runs"][1]["scores"]["final"] == "NaN"
    assert document["groups"] == []
    assert document["bootstrap"] is None


def test_any_metric_and_its_direction(record: Record) -> None:
    """A higher return is better; a metric without direction has no best; an extra takes the direction it is given."""
    rows = [
        {"update": i, "episode_return_mean": float(i), "entropy": 1.0, "extras": {"score": float(i % 3)}}
        for i in range(12)
    ]
    paths = [record(rows, "a"), record(rows, "b"), record([{"update": i} for i in range(12)], "c")]
    returns = compare(paths, metric="episode_return_mean").runs
    assert (returns[0].scores.best, returns[0].scores.best_update) == (11.0, 11)
    assert returns[2].scores.final is None
    assert returns[2].first is None
    assert compare(paths, metric="entropy").runs[0].scores.best is None
    assert "never measured in c" in text_of(compare(paths, metric="score"))
    assert compare(paths, metric="score", better="higher").runs[0].scores.best_update == 2
    assert compare(paths, metric="loss_ratio").runs[0].scores.final == 50.0
    with pytest.raises(UsageError, match="did you mean value_loss"):
        compare(paths, metric="valueloss")
    with pytest.raises(UsageError, match="no run has measured kl_divergence"):
        compare(paths, metric="kl_divergence")
    with pytest.raises(UsageError, match="wall_time is a time"):
        compare(paths, metric="wall_time")


def test_differing_hyper_parameters_only(record: Record) -> None:
    """Equal values are left out, 1 and 1.0 are equal, nested keys are dotted, and a lacking key is no null."""
    one = {"lr": 1, "gamma": 0.9, "net": {"size": 64, "act": "relu"}, "clip": None}
    two = {"lr": 1.0, "gamma": 0.99, "net": {"size": 64, "act": "tanh"}, "clip": 0.2, "new": [1, 2]}
    made = compare(
        [
            record(losses([1.0] * 3), "a", config=one, env="E", value_loss_definition=DECLARED),
            record(losses([1.0] * 3), "b", config=two, env="F", value_loss_definition=DECLARED, trainer="t"),
        ]
    )
    assert made.differences == {
        "gamma": {"a": 0.9, "b": 0.99},
        "net.act": {"a": "relu", "b": "tanh"},
        "clip": {"a": None, "b": 0.2},
        "env": {"a": "E", "b": "F"},
        "new": {"b": [1, 2]},
        "trainer": {"b": "t"},
    }
    assert made.warnings == []
    assert "gamma: 0.9 (a), 0.99 (b)" in text_of(made)


def test_value_loss_definitions_are_warned_about_in_one_line(record: Record) -> None:
    """A definition that differs or was assumed is said, for the value loss only."""
    paths = [
        record(losses([1.0] * 3), "declared", value_loss_definition=DECLARED),
        record(losses([1.0] * 3), "assumed"),
    ]
    (warning,) = compare(paths).warnings
    assert "differs between these runs (clipping, reduction, targets_normalised, assumed)" in warning
    assert "assumed, not declared, in assumed" in warning
    assert compare(paths, metric="policy_loss").warnings == []


def test_runs_that_differ_in_the_seed_only_form_a_group(record: Record) -> None:
    """Groups are found by themselves, asked for by key, or not wanted."""
    paths = seeds(record, "slow", {"lr": 0.1, "depth": 2}, [4.0, 5.0, 6.0])
    paths += seeds(record, "fast", {"lr": 0.2, "depth": 2}, [1.0, 2.0, 3.0])
    paths += seeds(record, "deep", {"lr": 0.2, "depth": 3}, [1.0])
    made = compare(paths)
    assert [(group.name, len(group.runs)) for group in made.groups] == [("A", 3), ("B", 3), ("C", 1)]
    assert made.groups[0].settings == {"lr": 0.1, "depth": 2}
    assert made.improvement is None
    assert compare(paths, group=False).groups == []
    by_rate = compare(paths, group_by=["lr"])
    assert [(len(group.runs), group.settings) for group in by_rate.groups] == [(3, {"lr": 0.1}), (4, {"lr": 0.2})]
    assert by_rate.improvement is not None
    assert by_rate.improvement.final.probability == 0.0
    with pytest.raises(UsageError, match="no run has a hyper-parameter 'rate'"):
        compare(paths, group_by=["rate"])
    shown = text_of(made)
    assert "lr: 0.1 (A), 0.2 (B, C)" in shown
    assert "too few seeds (1)" in shown


def test_runs_without_hyper_parameters_are_not_grouped() -> None:
    """Nothing says that they repeat one experiment; with equal ones and no seed they do."""
    bare = {"env": "E", "value_loss_definition.clipping": "none"}
    assert seed_groups({"a": bare, "b": bare}, None) == [["a"], ["b"]]
    assert seed_groups({"a": {"lr": 1}, "b": {"lr": 1.0, "env_seed": 5}}, None) == [["a", "b"]]
    assert seed_groups({"a": {"lr": 1}, "b": {"lr": True}}, None) == [["a"], ["b"]]
    assert seed_groups({"a": {"lr": NAN}, "b": {"lr": NAN}}, None) == [["a", "b"]]


@pytest.mark.parametrize("n", [3, 4, 5, 8, 11])
def test_interquartile_mean_and_interval_agree_with_a_plain_computation(n: int) -> None:
    """The mean of the middle half, and percentiles of it over resamples drawn here by another generator."""
    scores = np.random.default_rng(n).lognormal(size=n)

    def middle_mean(values: np.ndarray) -> np.ndarray:
        cut = n // 4
        return np.asarray(np.sort(values, axis=-1)[..., cut : n - cut].mean(axis=-1))

    found = estimate(scores.tolist(), [None] * n, "lower")
    assert (found.n, found.missing) == (n, 0)
    assert found.iqm == pytest.approx(float(middle_mean(scores)))
    drawn = np.random.RandomState(99).randint(0, n, size=(RESAMPLES, n))
    low, high = np.percentile(middle_mean(scores[drawn]), [2.5, 97.5])
    width = high - low
    assert found.low == pytest.approx(low, abs=0.03 * width)
    assert found.high == pytest.approx(high, abs=0.03 * width)
    assert estimate(scores.tolist(), [None] * n, "lower") == found


def test_the_interval_is_stratified_by_environment() -> None:
    """Runs are resampled within their environment: scores that differ only between environments vary not at all."""
    found = estimate([1.0, 1.0, 1.0, 9.0, 9.0, 9.0], ["E", "E", "E", "F", "F", "F"], "lower")
    assert (found.iqm, found.low, found.high) == (5.0, 5.0, 5.0)
    mixed = estimate([1.0, 1.0, 1.0, 9.0, 9.0, 9.0], ["E"] * 6, "lower")
    assert mixed.low is not None
    assert mixed.low < 5.0
    assert estimate([1.0, 2.0, 3.0, 4.0], ["E", "E", "E", "F"], "lower").low is None


def test_a_seed_that_is_not_finite_is_the_worst_one() -> None:
    """It is trimmed like any extreme, never left out, and makes the bound infinite that it reaches."""
    lost = estimate([1.0, 2.0, 3.0, 4.0, NAN], [None] * 5, "lower")
    assert (lost.n, lost.iqm, lost.high) == (5, 3.0, INF)
    assert lost.low == estimate([1.0, 2.0, 3.0, 4.0, 1e9], [None] * 5, "lower").low
    assert estimate([NAN, NAN, 3.0, 4.0], [None] * 4, "higher").iqm == -INF
    unranked = estimate([NAN, 1.0, 2.0], [None] * 3, None)
    assert unranked.iqm is not None
    assert math.isnan(unranked.iqm)
    assert estimate([None, 1.0], [None] * 2, "lower").missing == 1
    assert estimate([None], [None], "lower").iqm is None


def test_probability_of_improvement() -> None:
    """The share of pairs that the first group wins, ties counting half, averaged over shared environments."""
    mannwhitneyu = import_module("scipy.stats").mannwhitneyu
    rng = np.random.default_rng(3)
    one, two = rng.normal(0.5, 1.0, 7), rng.normal(0.0, 1.0, 5)
    none = ([None] * 7, [None] * 5)
    found = chance((one.tolist(), two.tolist()), none, "higher")
    expected = mannwhitneyu(one, two, alternative="greater").statistic / 35
    assert found.probability == pytest.approx(expected)
    assert chance((one.tolist(), two.tolist()), none, "lower").probability == pytest.approx(1.0 - expected)
    draw = np.random.RandomState(5)
    wins = [(draw.choice(one, 7)[:, None] > draw.choice(two, 5)[None, :]).mean() for _ in range(5000)]
    assert found.low == pytest.approx(np.percentile(wins, 2.5), abs=0.03)
    assert found.high == pytest.approx(np.percentile(wins, 97.5), abs=0.03)
    envs = (["E", "F"], ["F", "E"])
    assert chance(([1.0, 5.0], [5.0, 2.0]), envs, "lower").probability == 0.75
    assert chance(([NAN, NAN], [NAN, 1.0]), (["E"] * 2, ["E"] * 2), "lower").probability == 0.25
    assert chance(([1.0], [2.0]), (["E"], ["F"]), "lower").probability is None


@pytest.mark.parametrize("sizes", [(3,), (4,), (20,), (3, 7), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("kind", ["distinct", "tied", "infinite"])
def test_the_statistics_of_a_group_are_those_of_scipy(sizes: tuple[int, ...], kind: str) -> None:
    """Interquartile mean, share of pairs and the bootstrap distribution are SciPy's, but for rounding."""
    stats, rng = import_module("scipy.stats"), np.random.default_rng(sum(sizes))
    samples: list[Floats] = [rng.normal(size=n).round(0 if kind == "tied" else 9) for n in sizes]
    if kind == "infinite":
        samples[0][0] = INF

    def trimmed(*each: Floats, axis: int = -1) -> Floats:
        return np.asarray(stats.trim_mean(np.concatenate(each, axis=axis), 0.25, axis=axis))

    def ranked(one: Floats, other: Floats, axis: int = -1) -> Floats:
        n, ranks = one.shape[axis], stats.rankdata(np.concatenate([one, other], axis=axis), axis=axis)
        return np.asarray((ranks[..., :n].sum(axis=axis) - n * (n + 1) / 2) / (n * other.shape[axis]))

    pairs = [*samples, rng.normal(size=4)][:2]
    both: list[tuple[Statistic, Statistic, list[Floats]]]
    both = [(interquartile_mean, trimmed, samples), (share_of_pairs, ranked, pairs)]
    for ours, theirs, given in both:
        with np.errstate(invalid="ignore"):
            made = stats.bootstrap(
                given, theirs, n_resamples=RESAMPLES, batch=2000, vectorized=True, axis=-1, method="percentile",
                rng=np.random.default_rng(RANDOM_SEED),
            )  # fmt: skip
        expected = np.quantile(made.bootstrap_distribution, [0.025, 0.975], method="closest_observation")
        assert float(ours(*given)) == pytest.approx(float(theirs(*given)), rel=1e-12, abs=1e-12)
        assert interval(given, ours) == pytest.approx(tuple(expected.tolist()), rel=1e-12, abs=1e-12)


def test_the_same_command_prints_the_same_numbers(
    record: Record, capsys: pytest.CaptureFixture[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two groups of seeds, with intervals and the number of resamples, are repeatable in a pipe and as JSON."""
    paths = seeds(record, "slow", {"lr": 0.1}, [4.0, 5.0, 6.5, 7.0], value_loss_definition=DECLARED)
    paths += seeds(record, "fast", {"lr": 0.2}, [1.0, 2.0, 3.0, 4.5], value_loss_definition=DECLARED)
    names = [str(path) for path in paths]
    first, again = analyze(*names), run_here(capsys, *names)
    assert first.returncode == 0
    assert again == (0, first.stdout, first.stderr) == (0, first.stdout, "")
    assert "50 000 bootstrap resamples" in first.stdout
    assert f"final     {mean([5.0, 6.5]):.3f}" in first.stdout
    assert "Probability that a run of A is better than one of B" in first.stdout
    assert "\x1b" not in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 80
    document = json.loads(run_here(capsys, *names, "--format", "json")[1])
    assert document["improvement"]["final"]["probability"] == 1 / 16
    assert document["groups"][1]["final"]["iqm"] == 2.5
    assert document["bootstrap"]["resamples"] == RESAMPLES
    monkeypatch.setattr("esper_analyzer.reporting.comparison.groups.RESAMPLES", 1000)  # its form is the same
    monkeypatch.setenv("COLUMNS", "60")
    ascii_only = command("compare", *names, encoding="ascii")
    assert "Probability that" in ascii_only.stdout
    assert max(map(len, ascii_only.stdout.splitlines())) <= 60


@pytest.mark.parametrize("width", [60, 72, 80])
def test_hostile_names_and_settings_fit_and_do_no_harm(record: Record, width: int) -> None:
    """Escape codes, long words, wide characters and deep nesting are shown safely within the columns."""
    config = {"\x1b[31mred": "\x1b]0;title\x07" * 9, "long": "x" * 500, "deep": "DEEP", "list": [[[]]] * 50}
    one = record(losses([1.0, NAN, 1e300]), "n" * 120, config=config, env="環境" * 40)
    two = record(losses([1e-300, -1.0, 5.0], steps=10**12), "b", config={"deep": {"k": {"k": 2}}}, trainer="\x9b2J")
    (one / "run.json").write_text((one / "run.json").read_text().replace('"DEEP"', "[" * 600 + "]" * 600))
    header = json.loads((two / "run.json").read_text())
    (two / "run.json").write_text(json.dumps(header | {"run_id": "環\x1b[2J\ud800", "env": "a\nb"}))
    made = compare([one, two], by="updates")
    assert "環\\x1b[2J\\ud800" in text_of(made, width)
    json.loads(made.to_json())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "at least two runs, found 0"),
        (["a"], "at least two runs, found 1"),
        (["a", "absent"], "no run absent under"),
        (["a", "b", "a"], "is given more than once"),
        (["a", "b", "--metric", "vloss"], "no run has a metric 'vloss'"),
        (["a", "b", "--by", "epochs"], "'epochs' is not one of"),
        (["a", "b", "--group-by", "lr"], "no run has a hyper-parameter 'lr'"),
        (["a", "b", "--group-by", "lr", "--no-group"], "either --group-by or --no-group"),
        (["a", "b", "--rank", "all"], "--rank must be the number of one rank"),
        (["a", "b", "--rank", "3"], "has no rank 3"),
        (["a", "empty"], "the runs have no"),
    ],
)
def test_wrong_input_is_one_clear_line(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Exit code 2, one line on standard error that names what is wrong, nothing on standard output."""
    record(losses([1.0] * 3), "a")
    record(losses([1.0] * 3), "b")
    record([{"update": 9}], "empty")
    code, out, talk = run_here(capsys, *arguments, "--root", str(tmp_path / "runs"))
    assert (code, out) == (2, "")
    assert said in talk
    assert len(talk.splitlines()) == 1


def test_a_damaged_run_is_compared_as_far_as_it_can_be_read(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """The unreadable segment is left out, the damage is named, and the exit code is 3."""
    good = record(losses([1.0] * 30), "good")
    bad = record(losses([float(i) for i in range(30)]), "bad", segment_rows=10)
    segment = bad / "rank-0000" / "segments" / "00000001.parquet"
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    code, out, _ = run_here(capsys, str(good), str(bad), "--format", "json")
    assert code == 3
    document = json.loads(out)
    assert [run["is_damaged"] for run in document["runs"]] == [False, True]
    assert document["runs"][1]["scores"]["measured"] == 20
    assert document["axis"] == {"by": "steps", "unit": "environment steps", "start": 100.0, "end": 3000.0}
    code, out, _ = run_here(capsys, str(good), str(bad))
    assert code == 3
    assert "finished damaged" in out
    assert "Files are damaged" in out


def test_runs_that_end_before_half_the_median_span_are_set_aside_and_named(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are compared over the span that they have in common, and a short run is no damage."""
    paths = [record(losses([float(n)] * 40, steps=100 + n), f"run-{n}") for n in range(1, 5)]
    stub = record(losses([0.0] * 10, steps=2), "stub")  # ends before the others begin
    half = record(losses([9.0] * 20, steps=101 + 2), "half")
    made = compare([stub, *paths, half])
    assert [run.label for run in made.runs] == ["run-1", "run-2", "run-3", "run-4", "half"]
    (short,) = made.short
    assert (short.label, short.updates, short.last, short.limit) == ("stub", 10, 20.0, 2.0 + 4058.0 / 2)
    assert (made.axis.start, made.axis.end) == (104.0, 2060.0)
    assert made.set_aside == {}
    assert "set aside, as too short (before 2 031, half the median span): stub ends at 20" in " ".join(
        text_of(made).split()
    )
    code, out, _ = run_here(capsys, *map(str, (stub, *paths)), "--by", "updates", "--format", "json")
    document = json.loads(out)
    assert (code, document["axis"]["end"]) == (0, 39.0)
    assert [short["label"] for short in document["short"]] == ["stub"]
    assert [run.label for run in compare([stub, paths[0]], by="updates").runs] == ["stub", "run-1"]  # of two, none is
    alone = record([{"update": n, "env_steps": n, "extras": {"score": 1.0}} for n in range(3)], "alone")
    with pytest.raises(UsageError, match="only runs that end before half the median span have measured score"):
        compare([alone, *paths], metric="score")


def test_the_return_is_compared_by_default_where_all_have_it(record: Record) -> None:
    """Higher is then better; a run without it makes the value loss the default, unless it is too short anyway."""
    rows = [{"update": n, "episode_return_mean": float(n)} for n in range(20)]
    paths = [record(rows, "a"), record(rows, "b")]
    made = compare(paths)
    assert (made.metric, made.better, made.runs[0].scores.best) == ("episode_return_mean", "higher", 19.0)
    stub = record([{"update": n} for n in range(2)], "stub")
    made = compare([*paths, stub])
    assert (made.metric, [run.label for run in made.short]) == ("episode_return_mean", ["stub"])
    other = record([{"update": n} for n in range(20)], "other")
    assert (compare([*paths, other]).metric, compare([*paths, other]).better) == ("value_loss", "lower")
    slides = [{"update": n, "episode_return_sliding_mean": float(n)} for n in range(20)]
    made = compare([record(slides, "c"), record(slides, "d")])
    assert (made.metric, made.better, made.runs[0].scores.best) == ("episode_return_sliding_mean", "higher", 19.0)
    assert compare([*paths, record(slides, "e")]).metric == "value_loss"


def test_the_best_run_comes_first(record: Record) -> None:
    """Text lists runs by their final score, then those that diverged; JSON keeps the given order and names this one."""
    finals = {"worst": 9.0, "lost": NAN, "best": 1.0, "middle": 5.0}
    made = compare([record(losses([final] * 12), name) for name, final in finals.items()])
    assert made.best_first == ["best", "middle", "worst", "lost"]
    assert [run["label"] for run in json.loads(made.to_json())["runs"]] == list(finals)
    first = [line.split()[0] for line in text_of(made).splitlines() if line.startswith("  ")]
    assert [word for word in first if word in finals] == 2 * made.best_first  # the scores, then the verdicts
    assert best_first({run.label: run.scores for run in made.runs}, "higher") == ["worst", "middle", "best", "lost"]
    assert best_first({run.label: run.scores for run in made.runs}, None) == list(finals)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Sixty runs: twenty learning rates with three seeds each, one of the runs without an end to its warnings."""
    root = tmp_path_factory.mktemp("sweep")
    for number in range(60):
        config = {"lr": number // 3, "seed": number, **{f"k{key}": number // 3 for key in range(9)}}
        with Recorder.open(root, run_id=f"run-{number:02}", config=config, strict=True) as recorder:
            for update in range(4):
                value = NAN if number % 20 == 1 else float(100 - number)
                recorder.record(update=update, policy_loss=0.01, value_loss=value)
    return compare(sorted(root.iterdir()), by="updates")


@pytest.mark.slow
@pytest.mark.parametrize("height", [20, 24, 50, 60])
def test_the_text_of_sixty_runs_fits_a_screen(sweep: Comparison, height: int) -> None:
    """The best runs and groups, the worst verdicts, and a last line that counts what is left out."""
    for width in (60, 80):
        lines = [line.plain for line in compare_lines(sweep, width, height)]
        assert max(map(cell_len, lines)) <= width
        assert 0.8 * height <= len(lines) <= height
        shown = [line for line in lines if line.startswith("  run-")]
        assert [line.split()[0] for line in shown] == sweep.best_first[: len(shown)]
        assert shown
        assert lines[-1].startswith(f"left out: {60 - len(shown)} runs, ")
        groups = [line for line in lines if "  3 runs" in line]
        assert groups[0].split()[0] == sweep.groups[-1].name
        assert f"{20 - len(groups)} groups" in lines[-1]
    assert len(list(compare_lines(sweep))) > 200


def test_a_pipe_gets_a_bounded_text_and_a_file_all_of_it(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sixty lines without a terminal; `-o` writes everything."""
    names = [str(record(losses([float(number)] * 3), f"run-{number}")) for number in range(35)]
    out = run_here(capsys, *names)[1].splitlines()
    assert len(out) <= PIPED_HEIGHT
    assert "left out" in out[-1]
    file = tmp_path / "compared.txt"
    assert run_here(capsys, *names, "-o", str(file))[:2] == (0, "")
    assert "left out" not in file.read_text()
    assert all(f"run-{number} " in file.read_text() for number in range(35))


def test_only_the_columns_that_are_needed_are_read(record: Record) -> None:
    """The plan over the sealed segments projects to the axes and the metric."""
    rows = MeasuredRows(open_run(record(losses([1.0] * 5), "a")).look(0), "value_loss")
    assert f"PROJECT 5/{len(rows.names) + 5} COLUMNS" in rows._lazy().explain()


def test_the_rows_of_a_short_run_are_read_once(record: Record) -> None:
    """Whatever is asked of a short run after its rows were read, its files are not opened again."""
    run = record(losses([3.0, 2.0, 1.0]), "a")
    rows = MeasuredRows(open_run(run).look(0), "value_loss")
    assert not rows.is_empty()
    shutil.rmtree(run)
    assert rows.rows("updates")[2].tolist() == [3.0, 2.0, 1.0]
    assert rows.extents("updates") == (Extent(0.0, 2.0, 0), Extent(0.0, 2.0, 0))


def test_a_mean_over_a_span_of_no_points_or_one() -> None:
    """Points that miss the span give NaN; a span of one point gives its value."""
    at, values = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 5.0])
    assert mean_over(at, values, 2.0, 2.0) == (3.0, 1.0)
    assert mean_over(at, values, 0.0, 4.0) == pytest.approx((10.0 / 3, 0.75))
    assert mean_over(at, values, 4.0, 5.0) == (5.0, 0.0)
    assert math.isnan(mean_over(at, values, 5.0, 6.0)[0])
    nothing = (np.array([], np.int64), np.array([]), np.array([]))
    assert score(nothing, Axis("updates", "updates", 0.0, 1.0), "lower").final is None
