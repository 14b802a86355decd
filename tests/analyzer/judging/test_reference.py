"""Reference runs: what the course says of the return beside them, and what the verdict makes of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analyzer.conftest import Record
from tests.analyzer.earning import RISES, STUCK, rows_earning

from esper_analyzer import live_monitor, open_run, with_references
from esper_analyzer.cli import main
from esper_analyzer.judging.course import Course
from esper_analyzer.judging.judge import Judge
from esper_analyzer.judging.plan import READ_TYPES
from esper_analyzer.judging.reference import (
    CLEAR,
    EXPLAINS,
    LESS,
    LITTLE_WAY,
    MOST_AGES,
    SLOWER,
    WAY,
    Levels,
    ReferenceCourse,
    ReferenceRun,
)
from esper_analyzer.judging.reference_runs import reference_from
from esper_analyzer.judging.returns import PROGRESS, Returns
from esper_analyzer.judging.settings import DEFAULT_SETTINGS
from esper_analyzer.judging.task import NO_TASK
from esper_analyzer.judging.verdict import RunFacts, Verdict, conclude
from esper_schemas.errors import UsageError

Value = float | None
NAN, INF = math.nan, math.inf

SLOW = [20.0 + 2.0 * i + i % 7 for i in range(160)]
FALLS = [*RISES[:60], *(40.0 + i % 7 for i in range(100))]
HOLES = [value for one in STUCK[:60] for value in (one, None, NAN)]


def frame_of(returns: Sequence[Value], steps_each: int | None = 256, /, **more: Sequence[Value]) -> pl.DataFrame:
    """Rows of a run with these returns and so many environment steps in each update, in the columns of a judge."""
    rows = len(returns)
    steps = [None if steps_each is None else steps_each * (i + 1) for i in range(rows)]
    columns = {"update": list(range(rows)), "episode_return_mean": returns, "env_steps": steps} | more
    return pl.DataFrame(
        {
            name: pl.Series(columns.get(name, [None] * rows), dtype=READ_TYPES[name], strict=False)
            for name in Judge().columns
        }
    )


def reference(
    returns: Sequence[Value],
    name: str = "sound",
    steps_each: int | None = 256,
    explained: Sequence[Value] | None = None,
) -> ReferenceRun:
    """A reference run with these returns, whose critic explains so much."""
    more = {} if explained is None else {"explained_variance": explained, "return_std": [10.0] * len(returns)}
    return reference_from(frame_of(returns, steps_each, **more), name, NO_TASK)


LEARNS = [min(0.9, 0.02 * i) for i in range(len(RISES))]
"""What a sound critic explains."""


def known_of(returns: Sequence[float], by: Callable[[int], float]) -> list[tuple[float, float]]:
    """The ages of a reference at which its smoothed return is known, each with that return."""
    course = Returns()
    smoothed = [course.step(value)[Returns.NAMES.index("return_now")] for value in returns]
    return [(by(i), now) for i, now in enumerate(smoothed) if now is not None]


def level_of(known: Sequence[tuple[float, float]], age: float) -> float:
    """The level of a reference at an age, in plain Python: its lowest smoothed return since half of that age."""
    end = min(age, known[-1][0])
    reached = [at for at, _ in known if at <= end]
    return min((now for at, now in known if reached and SLOWER * reached[-1] <= at <= reached[-1]), default=INF)


def age_in(steps_each: int | None) -> Callable[[int], float]:
    """The age after each row, in environment steps or updates."""
    return lambda i: float(i) if steps_each is None else float(steps_each * (i + 1))


def explained_of(explained: Sequence[Value], by: Callable[[int], float]) -> list[tuple[float, float]]:
    """The ages at which it is known what a critic explains, each with that."""
    known = [(i, value) for i, value in enumerate(explained) if value is not None and math.isfinite(value)]
    return [(by(known[k][0]), median(value for _, value in known[k - 8 : k + 1])) for k in range(8, len(known))]


def plain_critic(
    explained: Sequence[Value],
    of_returns: Sequence[tuple[Value, ...]],
    are_excused: Sequence[bool],
    references: Sequence[Sequence[float]],
    steps_each: int | None,
) -> list[tuple[Value, ...]]:
    """The numbers of the critic once more, in plain Python; `are_excused` are rows whose return rises or is near."""
    age_of, by = age_in(steps_each), age_in(256 if steps_each else None)
    known, now_at = [explained_of(one, by) for one in references], dict(explained_of(explained, age_of))
    below, found = 0, list[tuple[Value, ...]]()
    newest: tuple[Value, ...] = None, None, None
    for i, value in enumerate(explained):
        if value is not None and math.isfinite(value):
            levels = sorted(level_of(one, age_of(i)) for one in known)
            lowest = len(levels) // 3
            are_known = levels and math.isfinite(levels[max(lowest, (len(levels) + 1) // 2 - 1)])
            level, now = levels[lowest] if are_known else None, now_at.get(age_of(i))
            if now is not None:
                is_less = level is not None and level >= EXPLAINS and now < LESS * level
                below = below + 1 if is_less and not are_excused[i] else 0
            newest = level, now, None if now is None else float(below)
        found.append((*of_returns[i], *newest))
    return found


def plain(
    returns: Sequence[Value], references: Sequence[Sequence[float]], steps_each: int | None
) -> tuple[list[tuple[Value, ...]], list[bool]]:
    """`ReferenceCourse` once more, in plain Python, straight from its description: what it says of the return.

    Second, whether the return rises in a row, or is near its references.
    """
    are_excused, is_near = list[bool](), False
    age_of, by = age_in(steps_each), age_in(256 if steps_each else None)
    course, below, far, found = Returns(), 0, 0, list[tuple[Value, ...]]()
    newest: tuple[Value, ...] = None, None, None
    known, starts, noises = [known_of(one, by) for one in references], [], []
    for one in references:
        of_one = Returns()
        made = [dict(zip(Returns.NAMES, of_one.step(value), strict=True)) for value in one]
        starts.append(min(row["return_start"] for row in made if row["return_start"] is not None))
        noises.append(median(row["return_noise"] for row in made if row["return_noise"] is not None))
    for i, value in enumerate(returns):
        numbers = dict(zip(Returns.NAMES, course.step(value), strict=True))
        if value is not None and math.isfinite(value):
            levels = sorted(level_of(one, age_of(i)) for one in known)
            lowest = len(levels) // 3
            are_known = math.isfinite(levels[max(lowest, (len(levels) + 1) // 2 - 1)])
            level, start, now = levels[lowest] if are_known else None, numbers["return_start"], numbers["return_now"]
            newest, is_near = (level, None, None), False
            if start is not None and now is not None:
                is_below = is_far = False
                if level is not None:
                    way = level - min(start, *starts)
                    lately, noise = numbers["rise_lately"], max(numbers["return_noise"] or 0.0, median(noises))
                    is_rising = lately is not None and lately >= PROGRESS
                    is_near = way > CLEAR * noise and now >= level - WAY * way
                    is_below = way > CLEAR * noise and now < level - WAY * way and not is_rising
                    is_far = way > CLEAR * noise and now < level - (1.0 - LITTLE_WAY) * way
                below = below + 1 if is_below else 0
                far = far + 1 if is_far else 0
                newest = level, float(below), float(far)
        found.append(newest)
        are_excused.append(is_near or (numbers["rise_lately"] or 0.0) >= PROGRESS)
    return found, are_excused


def both_forms(
    returns: Sequence[Value],
    references: Sequence[ReferenceRun],
    cut: int,
    steps_each: int | None,
    explained: Sequence[Value] | None = None,
) -> list[tuple[Value, ...]]:
    """The numbers row by row, after checking that portions give the same bits."""
    more = {} if explained is None else {"explained_variance": explained, "return_std": [10.0] * len(returns)}
    rows = frame_of(returns, steps_each, **more)
    made, found = Course(None, references), list[tuple[Value, ...]]()
    for row in rows.iter_rows(named=True):
        made.step(row)
        found.append(tuple(row[name] for name in ReferenceCourse.NAMES))
    made = Course(None, references)
    portions = [made.extend(part) for part in (rows[:cut], rows[cut:]) if part.height]
    assert repr(pl.concat(portions).select(ReferenceCourse.NAMES).rows()) == repr(found)
    return found


@pytest.mark.parametrize("steps_each", [256, 100, None])
@pytest.mark.parametrize("references", [[RISES], [RISES, SLOW], [RISES, SLOW, STUCK], [RISES] * 5 + [FALLS]], ids=len)
@pytest.mark.parametrize(
    "returns", [STUCK, SLOW, RISES, FALLS, HOLES], ids=["stuck", "slow", "rises", "falls", "holes"]
)
def test_both_forms_are_what_plain_python_says(
    returns: Sequence[Value], references: Sequence[Sequence[float]], steps_each: int | None
) -> None:
    """Of runs that get stuck, are slow, rise, fall and have holes, by steps and by updates; to the bit."""
    made = [reference(one, str(i), 256 if steps_each else None) for i, one in enumerate(references)]
    expected = [(*of_return, None, None, None) for of_return in plain(returns, references, steps_each)[0]]
    assert repr(both_forms(returns, made, len(returns) // 3, steps_each)) == repr(expected)


TRAINED = [230.0 + i % 7 for i in range(160)]
"""Returns of a policy that begins trained: they do not rise, and are more than halfway to the references'."""

RARELY_TRAINED = [value if i < 60 or i % 8 == 0 else None for i, value in enumerate(TRAINED)]
LESS_EXPLAINED = [0.1 + 0.01 * (i % 9) for i in range(160)]
EXPLAINED_HOLES = [(None, NAN, -INF, 0.1)[i % 11 % 4] if i % 3 else 0.2 for i in range(160)]


@pytest.mark.parametrize("steps_each", [256, 100, None])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("returns", [STUCK, RARELY_TRAINED, FALLS, HOLES], ids=["stuck", "trained", "falls", "holes"])
@pytest.mark.parametrize("explained", [LESS_EXPLAINED, LEARNS, EXPLAINED_HOLES], ids=["less", "learns", "holes"])
def test_both_forms_of_the_critic_are_what_plain_python_says(
    explained: Sequence[Value], returns: Sequence[Value], count: int, steps_each: int | None
) -> None:
    """Of critics that explain less, as much, and with holes; the last of four references explains nothing.

    Another one measured no critic, and is left out.
    """
    critics: list[list[float]] = [LEARNS, [0.8 * one for one in LEARNS], LEARNS, [0.0 * one for one in LEARNS]]
    made = [reference(RISES, str(i), 256 if steps_each else None, critics[i]) for i in range(count)]
    rows = min(len(returns), len(explained))
    returns, explained = returns[:rows], explained[:rows]
    made.append(reference(RISES, "unmeasured", 256 if steps_each else None))
    of_returns, are_excused = plain(returns, [RISES] * (count + 1), steps_each)
    expected = plain_critic(explained, of_returns, are_excused, critics[:count], steps_each)
    assert repr(both_forms(returns, made, 103, steps_each, explained)) == repr(expected)


odd = st.sampled_from([None, NAN, INF, -INF, 0.0, 1e-300, 1.7e308, -1.7e308, 5e-324])
stretches = st.lists(st.floats(-3.0, 3.0) | odd, min_size=1, max_size=4).map(lambda values: values * 8)


@settings(max_examples=30, deadline=None)
@given(st.lists(stretches, min_size=1, max_size=5), st.sampled_from([256, 7, None]))
def test_any_returns_beside_any_reference(parts: list[list[Value]], steps_each: int | None) -> None:
    """Step form and frame form in two portions give the same numbers."""
    returns = [value for part in parts for value in part][:110]
    references = [reference(RISES, explained=LEARNS), reference(SLOW, "b", None)]
    both_forms(returns, references, len(returns) // 2, steps_each, returns[::-1])


def test_without_references_there_is_nothing() -> None:
    """All of the numbers are null, and no answer and no list of rules speaks of a reference."""
    assert set(both_forms(STUCK, [], 50, 256, LESS_EXPLAINED)) == {(None,) * 6}
    verdict = verdict_on(STUCK, [])
    assert "reference runs" not in " ".join([*verdict.reasons, *(one.reason for one in verdict.questions.values())])
    assert "below_reference" not in {*verdict.judged, *(one.rule for one in verdict.not_judged)}


def verdict_on(
    returns: Sequence[Value], references: Sequence[ReferenceRun], goal: float | None = None, **more: Sequence[Value]
) -> Verdict:
    """The verdict on a run whose mechanics and critic work, but for what is given."""
    rows = len(returns)
    sound = {"value_loss": 1.0, "policy_loss": 0.01, "kl_divergence": 0.01, "explained_variance": 0.9}
    judge = Judge(return_goal=goal, references=references)
    columns = {name: [value] * rows for name, value in sound.items()}
    columns["entropy"] = [0.6 + 0.01 * (i % 2) for i in range(rows)]
    judge.advance(frame_of(returns, **columns | more))
    return conclude(judge, RunFacts())


def test_a_return_that_stays_where_a_sound_run_has_left_is_critical() -> None:
    """With three sound runs beside it, it is critical long before anybody can tell from the run alone."""
    references = [reference(RISES, name) for name in "abc"]
    assert verdict_on(STUCK[:100], []).level == "warning"  # 60 updates without a rise
    verdict = verdict_on(STUCK[:100], references)
    assert (verdict.level, verdict.findings[0].rule) == ("critical", "below_reference")
    beside = "In 30 measured updates the return was less than 50 % of the way up to its references, as of update 43."
    assert verdict.findings[0].text == f"{beside} It is 22.50, and they have had 245.0 or more since half of its age."
    assert "below_reference" in verdict.judged


@pytest.mark.parametrize(
    "returns", [RISES, [20.0] * 20 + RISES, [value - 5.0 for value in SLOW], RISES + [500.0] * 200]
)
def test_a_run_that_learns_is_not_critical_beside_a_faster_one(returns: Sequence[float]) -> None:
    """It may be late, slower and longer, as long as it rises or is more than halfway there."""
    assert verdict_on(returns, [reference(RISES)]).level != "critical"


def test_a_return_that_rises_far_below_sound_runs_is_critical_in_the_end() -> None:
    """From 20 to 100 of 500 in 160 updates is a rise beyond its noise; it is a warning first."""
    crawls = [20.0 + 0.5 * i + 0.1 * (i % 7) for i in range(160)]
    references = [reference([*RISES, *[500.0] * 60], name) for name in "abc"]
    assert verdict_on(crawls, []).level == "healthy"
    assert verdict_on(crawls[:60], references).level == "warning"
    verdict = verdict_on(crawls, references)
    assert (verdict.level, verdict.findings[0].rule) == ("critical", "far_below_reference")
    assert "less than 25 % of the way up to its references" in verdict.findings[0].text
    assert [one.rule for one in verdict_on(STUCK, references).findings if one.rule in ReferenceCourse.NAMES] == [
        "below_reference"
    ]


def critic_verdict_on(
    returns: Sequence[Value],
    references: Sequence[ReferenceRun],
    explained: Sequence[Value],
    goal: float | None = None,
) -> Verdict:
    """The verdict on a run whose critic explains so much of returns that vary."""
    return verdict_on(returns, references, goal, explained_variance=explained, return_std=[10.0] * len(returns))


RARE = [20.0 + i % 6 if i % 8 == 0 else None for i in range(160)]
"""Returns that do not rise, measured in one update of eight."""


def test_a_critic_that_explains_less_than_half_of_what_sound_ones_do_is_critical() -> None:
    """By itself it is one of a hard task; beside them it is found although returns are rare."""
    references = [reference([*RISES], name, explained=LEARNS) for name in "abc"]
    assert critic_verdict_on(RARE, [], LESS_EXPLAINED).level != "critical"
    verdict = critic_verdict_on(RARE, references, LESS_EXPLAINED)
    (found,) = (one for one in verdict.findings if one.rule == "critic_below_reference")
    assert (verdict.level, verdict.questions["critic"].level, found.level) == ("critical",) * 3
    said = "In 30 updates the critic explained less than 50 % of what those of its references did, and the return did"
    assert found.text.startswith(said)
    assert found.text.endswith("Explained variance is 0.14, and they have had 0.9 or more since half of its age.")
    assert "critic_below_reference" in verdict.judged


def test_a_critic_alone_ends_no_run_whose_return_rises_or_is_halfway_there() -> None:
    """Neither where it explains more than half of theirs, nor where theirs explain little, or were not measured."""
    sound = [reference(RISES, name, explained=LEARNS) for name in "abc"]
    little = [reference(RISES, name, explained=[0.3 * one for one in LEARNS]) for name in "abc"]
    unmeasured = [reference(RISES, name) for name in "abc"]
    for returns, references, explained in (
        (SLOW, sound, LESS_EXPLAINED),
        (TRAINED, sound, LESS_EXPLAINED),
        (RARE, sound, [0.5 + 0.01 * (i % 9) for i in range(160)]),
        (RARE, little, LESS_EXPLAINED),
        (RARE, unmeasured, LESS_EXPLAINED),
    ):
        rules = [one.rule for one in critic_verdict_on(returns, references, explained).findings]
        assert "critic_below_reference" not in rules
    for goal, is_found in ((None, True), (100.0, True), (15.0, False)):  # which the return has reached
        rules = [one.rule for one in critic_verdict_on(RARE, sound, LESS_EXPLAINED, goal).findings]
        assert ("critic_below_reference" in rules) is is_found


def test_a_reference_that_learned_nothing_says_nothing() -> None:
    """Neither does one of three that did."""
    for references in ([reference(STUCK)], [reference(RISES), reference(STUCK, "b")]):
        numbers = both_forms(STUCK, references, 50, 256)
        assert max(below or 0.0 for _, *both, _, _, _ in numbers for below in both) == 0.0
    with_an_outlier = [reference(RISES), reference(RISES, "b"), reference(STUCK, "c")]
    assert max(below or 0.0 for _, below, *_ in both_forms(STUCK, with_an_outlier, 50, 256)) > 30.0


def test_a_reference_is_asked_for_only_where_there_is_none() -> None:
    """A return that has not risen asks for a goal or a sound run; beside one it says what that had."""
    alone, beside = (verdict_on(STUCK[:50], runs).questions["learning"] for runs in ([], [reference(STUCK)]))
    assert "name a sound run, or a folder of runs, to judge it beside (reference)" in alone.reason
    assert "name a sound run" not in beside.reason
    assert "its reference runs have had" in beside.reason


def test_levels_of_a_long_run_are_few_and_of_all_of_its_rows() -> None:
    """A run of 20,000 rows keeps 500 levels, of which none leaves out a low return between two ages."""
    import numpy as np

    returns = np.full(20_000, 10.0)
    returns[12_345] = 1.0
    levels = Levels.of(np.arange(1.0, 20_001.0), returns)
    assert levels is not None
    assert len(levels.ages) == MOST_AGES
    assert levels.ages[-1] == 20_000.0
    assert [levels.at(age) for age in (0.0, 1.0, 12_000.0, 12_400.0, 20_000.0, 1e9)] == [INF, 10.0, 10.0, 1.0, 1.0, 1.0]


def test_a_reference_without_returns_is_one_line() -> None:
    """It says how many there are, how many it needs, and what to name instead."""
    said = (
        r"reference run short has 3 updates with an episode return, and needs 15; name a sound run that went on for"
        r" longer, or that recorded episode_return_mean"
    )
    with pytest.raises(UsageError, match=f"^{said}$"):
        reference([1.0, 2.0, 3.0], "short")


# ---------------------------------------------------------------------- runs


def test_commands_judge_beside_references(record: Record, tmp_path: Path) -> None:
    """A run that stays where others left is critical in every command that judges; without them it is not."""
    for name in "abc":
        record(rows_earning(RISES), name)
    stuck = record(rows_earning(STUCK[:100]), "stuck")
    named = [word for name in "abc" for word in ("--reference", name)]
    root = ["--root", str(stuck.parent)]
    check = CliRunner().invoke(main, ["check", "stuck", *root])
    assert (check.exit_code, "below_reference" in check.output) == (0, False)
    beside = CliRunner().invoke(main, ["check", "stuck", *root, *named])
    assert beside.exit_code == 1
    assert "less than 50 % of the way up to its references" in " ".join(beside.output.split())
    for command in (["report", "stuck"], ["explain", "stuck"], ["runs"], ["tail", "stuck", "--once"]):
        told = CliRunner().invoke(main, [*command, *root, *named])
        assert (told.exit_code, told.exception) == (0, None), told.output
        assert "critical" in told.output, command
        assert "critical" not in CliRunner().invoke(main, [*command, *root]).output, command


def test_a_report_names_its_references(record: Record) -> None:
    """They are in its JSON, without the run itself, and one that is named twice counts once."""
    for name in "ab":
        record(rows_earning(RISES), name)
    stuck = record(rows_earning(STUCK), "stuck")
    root = stuck.parent
    beside = with_references(["a", "b", str(root / "a"), "stuck"], root)
    assert open_run("stuck", root, settings=beside).report().run.references == ["a", "b"]
    assert open_run("a", root, settings=beside).report().run.references == ["b", "stuck"]
    assert open_run("stuck", root).report().run.references == []
    explained = open_run("stuck", root, settings=beside).explain()
    assert [*explained.remarks] == ["It was judged beside a, b."]
    assert "It was judged beside a, b." in " ".join(
        CliRunner()
        .invoke(main, ["explain", "stuck", "--root", str(root), "--reference", "a", "--reference", "b"])
        .output.split()
    )
    assert [*open_run("stuck", root).explain(9).remarks] == []


def test_a_reference_of_another_environment_is_not_one(record: Record) -> None:
    """It is left out, and the verdict has a remark on which, and on those that were used."""
    other = record(rows_earning(RISES), "other", env="Hopper-v5")
    record(rows_earning(STUCK[:100]), "stuck", env="CartPole-v1")
    record(rows_earning(RISES), "sound", env="CartPole-v1")
    beside = with_references(["other", "sound"], other.parent)
    remarks = open_run("stuck", other.parent, settings=beside).report().verdict.reasons
    assert "It was judged beside sound." in remarks
    assert "It is of CartPole-v1, and was not judged beside other, which is of Hopper-v5." in remarks
    alone = open_run("sound", other.parent, settings=with_references(["sound"], other.parent)).report()
    assert "It was judged beside no other run: the only reference is this run itself." in alone.verdict.reasons
    assert [one.name for one in live_monitor(settings=beside, env="CartPole-v1")._judge.references] == ["sound"]


def test_runs_of_the_same_name_are_different_runs(record: Record, tmp_path: Path) -> None:
    """Seeds that lie in a folder each are all references, under the paths that were given; a name says nothing."""
    for folder in "xyz":
        record(rows_earning(RISES), "seed").parent.rename(tmp_path / folder)
    stuck = record(rows_earning(STUCK[:100]), "seed")
    beside = with_references([tmp_path / folder / "seed" for folder in "xyz"])
    assert [one.name for one in beside.references] == ["seed", str(tmp_path / "y/seed"), str(tmp_path / "z/seed")]
    assert open_run(stuck, settings=beside).report().verdict.level == "critical"


def test_references_that_cannot_be_read_are_one_line(record: Record) -> None:
    """A run without rows, a name that is none, and a text in the place of a list."""
    root = record([], "empty").parent
    with pytest.raises(UsageError, match=r"^reference run empty has 0 updates with an episode return, and needs 15; "):
        with_references(["empty"], root)
    with pytest.raises(UsageError, match=r"^a reference has no name; expected a path, a URL, or a name under "):
        with_references([""], root)
    with pytest.raises(UsageError, match=r"^references are a list of runs, found 'empty'; write \['empty'\]$"):
        with_references("empty", root)


def test_keys_of_a_log_are_named_for_its_references_too(record: Record, tmp_path: Path) -> None:
    """--map of a command says how a log is read, whichever it is."""
    keys = {"episode_return_mean": "score", "value_loss": "vl", "policy_loss": "pl"}
    for name, returns in (("sound.csv", RISES), ("stuck.csv", STUCK[:100])):
        pl.DataFrame(rows_earning(returns)).rename(keys).write_csv(tmp_path / name)
    named = [f"--map={key}={ours}" for ours, key in keys.items()]
    stuck, sound = str(tmp_path / "stuck.csv"), str(tmp_path / "sound.csv")
    told = CliRunner().invoke(main, ["check", stuck, *named, "--reference", sound])
    assert told.exit_code == 1, told.output
    assert "judged beside sound.csv" in " ".join(told.output.split())


def test_the_log_of_another_trainer_is_a_reference(record: Record, tmp_path: Path) -> None:
    """It is imported for the time of the command."""
    log = tmp_path / "sound.csv"
    pl.DataFrame(rows_earning(RISES)).write_csv(log)
    stuck = record(rows_earning(STUCK[:100]), "stuck")
    beside = with_references([log], stuck.parent)
    assert [one.name for one in beside.references] == ["sound.csv"]
    assert open_run("stuck", stuck.parent, settings=beside).report().verdict.level == "critical"


def test_what_is_kept_of_a_run_is_kept_for_its_references(record: Record) -> None:
    """A verdict that was kept without references, or beside others, is not taken for one beside these."""
    for name, returns in (("a", RISES), ("b", STUCK)):
        record(rows_earning(returns), name)
    root = record(rows_earning(STUCK[:100]), "stuck").parent
    levels = [
        open_run("stuck", root, settings=with_references(names, root)).report().verdict.level
        for names in ([], ["a"], ["b"], [], ["a"])
    ]
    assert levels == ["warning", "critical", "warning", "warning", "critical"]


def test_a_live_monitor_judges_beside_references() -> None:
    """It turns critical in the row in which the report does."""
    beside = replace(DEFAULT_SETTINGS, references=(reference(RISES),))
    monitor = live_monitor(settings=beside)
    for row in rows_earning(STUCK[:100]):
        monitor(row)
        assert (monitor.level == "critical") == (row["update"] >= 43), row
    assert "less than 50 % of the way up to its references" in monitor.verdict().reasons[0]


def test_settings_travel_with_their_references() -> None:
    """Another process, as of `fleet`, judges beside the same runs."""
    import pickle

    beside = replace(DEFAULT_SETTINGS, references=(reference(RISES),))
    assert pickle.loads(pickle.dumps(beside)).references == beside.references


def test_one_noisy_reference_does_not_blur_the_others() -> None:
    """The way up must be clear of the noise of the middle one, so that more references make no rule slower."""
    references = [reference(RISES, f"sound {i}") for i in range(4)]
    noisy = replace(references[0], name="noisy", noise=1e3)
    beside = Course(None, [*references, noisy]).extend(frame_of(STUCK[:60]))
    alone = Course(None, references).extend(frame_of(STUCK[:60]))
    assert beside["below_reference"].to_list() == alone["below_reference"].to_list()
    assert alone["below_reference"][-1] == 46.0
