"""`explain` on recorded runs: what moved first, by which alert, in which minibatch, and what the command says of it."""

from __future__ import annotations

import json
import math
import random
from contextlib import suppress
from pathlib import Path

import pytest
from tests.analyzer.conftest import Record
from tests.analyzer.explaining.sound import rows
from tests.conftest import Command

from esper_analyzer import Explanation, open_run
from esper_analyzer.explaining.families import FAMILIES
from esper_analyzer.explaining.stages import stage
from esper_recorder import Recorder
from esper_schemas import METRICS
from esper_schemas.errors import NotARunError, UsageError

NAN = math.nan


def told(found: Explanation) -> list[tuple[str, int]]:
    """Each metric that moved, with its update."""
    return [(one.metric, one.update) for one in found.moved]


def test_metrics_are_in_the_order_in_which_they_moved(record: Record) -> None:
    """By update, then by what an update computes first; durations are last, whenever they moved."""
    made = list(rows(80))
    for update in range(55, 80):
        made[update]["update_secs"] = 3.0
    for update in range(60, 80):
        made[update] |= {"entropy": 0.5, "td_error_mean": 4.0, "my_reward": 9.0, "learning_rate": 1e-3}
    for update in range(62, 80):
        made[update] |= {"value_loss": 8.0, "return_mean": 30.0}
    found = open_run(record(made)).explain(70)
    assert told(found) == [
        ("learning_rate", 60),
        ("my_reward", 60),
        ("td_error_mean", 60),
        ("entropy", 60),
        ("return_mean", 62),
        ("value_loss", 62),
        ("update_secs", 55),
    ]
    first, extra = found.moved[0], found.moved[1]
    assert (first.was_constant, first.deviations, first.usual, first.value) == (True, math.inf, 3e-4, 1e-3)
    assert (extra.is_extra, extra.source, extra.direction, extra.lasts) == (True, "updates", "up", True)
    assert extra.usual == pytest.approx(1.0, abs=0.1)
    assert found.steady == ["policy_loss", "kl_divergence"]
    assert (found.update, found.since, found.rank, found.alert) == (70, 31, 0, None)


def test_a_constant_is_left_by_settings_at_once_and_by_measurements_that_moved(record: Record) -> None:
    """Of both, a thousandth is a change of the clip range alone, and the sentence shows its digits."""
    made = list(rows(80))
    for update, row in enumerate(made):
        row |= {
            "advantage_positive_ratio": 0.9998 if update == 60 else 1.0,
            "clip_range": 1.0 if update < 62 else 0.9998,
        }
    found = open_run(record(made)).explain(70)
    assert ("clip_range", 62) in told(found)
    assert "advantage_positive_ratio" not in dict(told(found))
    assert any("had been 1.000 in every update before, and is 0.9998" in one for one in found.sentences)


def test_metrics_that_say_the_same_take_one_place(record: Record, command: Command) -> None:
    """The first of a family is listed with the others beside it; one that left much later has its own place."""
    rng = random.Random(2)
    made = list(rows(80, change=60, value_loss=8.0))
    for update, row in enumerate(made):
        row["value_loss_unclipped"] = rng.gauss(0.5, 0.02) if update < 61 else 8.0
        row["value_mean"] = rng.gauss(5.0, 0.1) if update < 60 else 9.0
        row["value_max"] = rng.gauss(9.0, 0.1) if update < 66 else 1.0
    path = record(made)
    found = open_run(path).explain(70)
    assert told(found) == [("value_mean", 60), ("value_loss", 60), ("value_max", 66)]
    assert [[one.metric for one in lead.beside] for lead in found.moved] == [[], ["value_loss_unclipped"], []]
    assert found.moved[1].beside[0].update == 61
    assert "value_loss_unclipped" not in [*found.steady, *found.not_judged]
    shown = command("explain", path, "--update", "70").stdout
    assert "and value_loss_unclipped ▲" in shown or "and value_loss_unclipped ^" in shown
    alone = list(rows(80, change=60, td_error_std=8.0, bellman_error=9.0))
    for row in alone[:60]:
        row |= {"td_error_std": rng.gauss(1.0, 0.02), "bellman_error": rng.gauss(1.0, 0.02)}
    said = open_run(record(alone, "alone")).explain(70).sentences
    assert said[1] in (
        "With it went what says the same: TD error std up.",
        "With it went what says the same: Bellman error up.",
    )


def test_a_metric_that_falls_silent_or_is_new_is_found(record: Record, command: Command) -> None:
    """Measured until an update and then no longer, or from an update on; usual pauses and skipped updates do not."""
    made = list(rows(90, change=60, my_reward=None))
    for update, row in enumerate(made):
        row["my_bonus"] = 0.5 if update >= 62 else None
        row["rare"] = 1.0 if update % 3 == 0 and update < 83 else None
        row["policy_loss"] = None if update >= 80 else row["policy_loss"]
        row["skipped"] = update >= 80
    path = record(made)
    run = open_run(path)
    found = run.explain(79)
    assert told(found) == [("my_reward", 60), ("my_bonus", 62)]
    silent, new = found.moved
    assert (silent.direction, silent.value, silent.low, silent.lasts) == ("silent", None, None, True)
    assert silent.usual == pytest.approx(1.0, abs=0.2)
    assert (new.direction, new.value, new.usual) == ("new", 0.5, None)
    assert "no longer measured; its last value was" in found.sentences[0]
    assert told(run.explain(61)) == []
    assert [one.metric for one in run.explain(85).moved] == ["skipped", "my_reward", "my_bonus"]
    done = command("explain", path, "--update", "79", "--format", "json")
    document = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [one["direction"] for one in document["moved"]] == ["silent", "new"]
    shown = command("explain", path, "--update", "79").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "my_bonus" in shown


def test_families_are_of_metrics_of_the_table() -> None:
    """A family has metrics that exist, in one stage of an update, and no metric is in two."""
    every = [name for family in FAMILIES for name in family]
    assert set(every) <= set(METRICS)
    assert len(set(every)) == len(every)
    assert all(len({stage(name) for name in family}) == 1 for family in FAMILIES)


def test_only_rows_up_to_the_update_count(record: Record) -> None:
    """What happens later changes nothing, and before anything moved nothing has."""
    made = list(rows(80, change=60, entropy=0.5))
    long, short = record(made, "long"), record(made[:66], "short")
    assert told(open_run(long).explain(65)) == told(open_run(short).explain(65)) == [("entropy", 60)]
    assert open_run(long).explain(59).moved == []


def test_a_stray_excursion_is_told_apart(record: Record) -> None:
    """A metric that left its band alone, long before the others moved, is listed after them and marked."""
    made = list(rows(80, change=70, entropy=0.5, td_error_mean=4.0))
    for update in range(45, 80):
        made[update]["kl_divergence"] += 0.0035
    found = open_run(record(made)).explain(75)
    assert told(found) == [("td_error_mean", 70), ("entropy", 70), ("kl_divergence", 45)]
    assert [one.is_apart for one in found.moved] == [False, False, True]


def test_a_strong_change_shortly_before_the_others_may_be_their_cause(record: Record) -> None:
    """A reward that explodes five updates before everything else moves is what moved first."""
    made = list(rows(80, change=70, entropy=0.5, td_error_mean=4.0, return_mean=20.0))
    for update in range(65, 80):
        made[update]["my_reward"] = 50.0
    assert open_run(record(made)).explain(75).moved[0].metric == "my_reward"


def chosen(found: Explanation) -> tuple[str, str, str, int]:
    """Which alert is explained: whether it lasts, its rule, its level and the update."""
    assert found.alert is not None
    assert found.alert.update == found.update
    return found.chosen, found.alert.rule, found.alert.level, found.update


def test_what_lasts_is_explained_before_what_is_over(record: Record) -> None:
    """A warning in force at the end comes before a critical alert that is over; the answer is about the former."""
    made = list(rows(90, change=70, clip_fraction_negative=0.2))
    for update in range(70):
        made[update]["clip_fraction_negative"] = 0.01
    for update in range(40, 50):
        made[update]["value_loss"] = NAN
    found = open_run(record(made)).explain()
    assert chosen(found) == ("in force", "clip_fraction_negative", "warning", 72)
    assert told(found)[0] == ("clip_fraction_negative", 70)
    assert any("is only a hint" in sentence for sentence in found.sentences)


def test_what_the_verdict_rests_on_is_explained_before_other_alerts(record: Record) -> None:
    """Of alerts in force that of the verdict comes first, though it came last; critical comes before warning."""
    made = list(rows(110, change=60, clip_fraction_negative=0.2))
    for update in range(75, 110):
        made[update]["ratio_max"] = 100.0
    assert chosen(open_run(record(made, "critical")).explain())[1:] == ("ratio_max", "critical", 77)
    for update in range(90, 110):
        made[update]["value_loss"] = NAN
    run = open_run(record(made, "verdict"))
    found = run.explain()
    assert chosen(found) == ("in force", "impossible_value_loss", "critical", 90)
    assert found.moved[0].metric == "value_loss"
    assert run.report().verdict.findings[0].rule == found.alert.rule  # type: ignore[union-attr]
    assert not any("is only a hint" in sentence for sentence in found.sentences)


def test_the_last_time_counts_of_what_lasts_and_the_first_of_what_is_over(record: Record) -> None:
    """An alert that comes and goes is explained where it came to stay; without one that stays, the first time is."""
    made = list(rows(120))
    for update in (*range(40, 50), *range(80, 90)):
        made[update]["clip_fraction_negative"] = 0.2
    over = open_run(record(made, "over")).explain()
    assert chosen(over) == ("over", "clip_fraction_negative", "warning", 42)
    assert over.sentences[0].startswith("This trouble is over: the warning alert (clip_fraction_negative) of update 42")
    for update in range(105, 120):
        made[update]["clip_fraction_negative"] = 0.2
    assert chosen(open_run(record(made, "lasts")).explain()) == ("in force", "clip_fraction_negative", "warning", 107)


def test_an_alert_before_any_band_is_not_explained(record: Record, command: Command) -> None:
    """An alert in the first 21 updates gives way to any other; alone it is named as too early, in force or over."""
    made = list(rows(80))
    for update in range(10, 16):
        made[update]["ratio_max"] = 100.0
    alone = open_run(record(made, "alone")).explain()
    assert (alone.chosen, alone.alert, alone.moved, alone.update) == ("nothing", None, [], 79)
    assert "began in update 10, too early to tell what moved first, and was over by update 20" in alone.sentences[0]
    lasting = open_run(record(rows(60, change=15, ratio_max=100.0), "lasting")).explain()
    assert "(ratio_max, critical) began in update 15, too early" in lasting.sentences[0]
    assert "is in force" in lasting.sentences[0]
    for update in range(70, 75):
        made[update]["clip_fraction_negative"] = 0.2
    assert chosen(open_run(record(made, "later")).explain())[1:] == ("clip_fraction_negative", "warning", 72)


def test_a_run_without_trouble_gets_one_plain_sentence(record: Record, command: Command) -> None:
    """Nothing is wrong: no alert, no list of metrics, exit code 0, and how to ask about an update."""
    path = record(rows(60), "calm")
    found = open_run(path).explain()
    assert (found.chosen, found.alert, found.update, found.since) == ("nothing", None, 59, 59)
    assert (found.moved, found.steady, found.not_judged) == ([], [], [])
    assert found.sentences == [
        "No alert was raised in the 60 updates of this run, so there is nothing to explain.",
        "To see what moved before an update, name the update (--update N).",
    ]
    done = command("explain", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to explain up to update 59" in done.stdout
    assert "critical" not in done.stdout
    document = json.loads(command("explain", path, "--format", "json").stdout)
    assert (document["chosen"], document["moved"]) == ("nothing", [])


def test_a_metric_outside_its_band_is_said_though_nothing_is_alarmed(record: Record, command: Command) -> None:
    """The first of them with its update, and how many more there are; one that came back is no such metric."""
    made = list(rows(60, change=50, td_error_mean=4.0, update_secs=9.0))
    for row in made[40:44]:
        row["my_reward"] = 6.0
    path = record(made, "quiet")
    assert list(open_run(path).explain().sentences) == [
        "Nothing is alarmed, but TD error mean has been outside its band since update 50.",
        "To see what moved before an update, name the update (--update N).",
    ]
    assert "Nothing is alarmed, but TD error mean has been outside its band" in command("explain", path).stdout
    for row in made[52:]:
        row |= {"return_mean": 90.0, "my_bonus": 1.0, "my_reward": 7.0}
    (said, _) = open_run(record(made, "more")).explain().sentences
    assert said.endswith("has been outside its band since update 50, and so are 2 other metrics.")


def broken_in(path: Path, run_id: str, error: Exception | None, *, until: int = 30) -> Path:
    """A run that ends in the third minibatch of update `until`, which is never recorded, by this error or a signal."""
    rng = random.Random(1)
    with suppress(RuntimeError, KeyboardInterrupt), Recorder.open(path, run_id=run_id, strict=True) as recorder:
        for row in rows(until + 1):
            for number in range(4):
                if row["update"] == until and number == 2:
                    raise error or KeyboardInterrupt
                recorder.minibatch(
                    value_loss=NAN if row["update"] == until and error and number == 1 else rng.gauss(0.5, 0.02),
                    observation_max=1e6 if row["update"] == until else rng.gauss(3.0, 0.1),
                )
            recorder.record(**row)
    return path / run_id


def test_an_update_that_was_never_recorded_is_explained_by_its_black_box(tmp_path: Path, command: Command) -> None:
    """The run died in it: what moved in its minibatches, those of the update before being the usual; --update too."""
    path = broken_in(tmp_path, "died", RuntimeError("loss is not finite"))
    found = open_run(path).explain()
    assert (found.chosen, found.update, found.alert) == ("broke off", 30, None)
    assert [(one.metric, one.source, one.update, one.minibatch) for one in found.moved] == [
        ("observation_max", "black box", 30, 0),
        ("value_loss", "black box", 30, 1),
    ]
    assert found.sentences[0].startswith("The run broke off in the update after 29, which was never recorded: ")
    assert "never recorded: value_loss is nan in minibatch 1. Its black box" in found.sentences[0]
    assert "value_loss" not in found.steady
    assert open_run(path).explain(30).to_json() == found.to_json()
    assert open_run(path).explain(29).moved == []
    done = command("explain", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "What moved first before the run broke off in update 30" in done.stdout
    page = command("report", path, "--format", "html")
    assert "Before the run broke off in update 30" in page.stdout


def test_a_run_that_somebody_stopped_or_went_on_with_did_not_break_off(tmp_path: Path) -> None:
    """Ctrl-C is no trouble, and neither is a failure that a later attempt has gone on from."""
    assert open_run(broken_in(tmp_path, "stopped", None)).explain().chosen == "nothing"
    path = broken_in(tmp_path, "resumed", RuntimeError("out of memory"))
    with Recorder.open(tmp_path, run_id="resumed", resume="must") as recorder:
        for row in list(rows(34))[30:]:
            recorder.record(**row)
    assert open_run(path).explain().chosen == "nothing"


def test_the_rank_in_trouble_is_explained(tmp_path: Path) -> None:
    """Of two ranks, the one that broke; and one rank alone if it is asked for."""
    for rank, begins in ((0, 99), (1, 50)):
        with Recorder.open(tmp_path, run_id="two", rank=rank, world_size=2, strict=True) as recorder:
            for row in rows(60, change=begins, value_loss=NAN):
                recorder.record(**row)
    run = open_run(tmp_path / "two")
    assert (run.explain().rank, run.explain().moved[0].metric) == (1, "value_loss")
    assert run.explain(55).moved == []
    assert told(run.explain(55, rank=1))[0] == ("value_loss", 50)
    with pytest.raises(NotARunError, match="has no rank 7"):
        run.explain(rank=7)


def test_a_black_box_tells_the_minibatch(tmp_path: Path) -> None:
    """Of numbers that were NaN in one update, the one that was so first comes first; one that no row has is there."""
    with Recorder.open(tmp_path, run_id="box", strict=True) as recorder:
        rng = random.Random(1)
        for row in rows(60):
            is_broken = row["update"] == 58
            for number in range(4):
                recorder.minibatch(
                    epoch=1,
                    kl_divergence=NAN if is_broken and number > 2 else abs(rng.gauss(0.005, 0.0004)),
                    value_loss=NAN if is_broken and number > 1 else rng.gauss(0.5, 0.02),
                    observation_max=1e6 if is_broken and number > 0 else rng.gauss(3.0, 0.1),
                )
            if is_broken:
                row |= {"kl_divergence": NAN, "value_loss": NAN, "entropy": NAN}
            recorder.record(**row)
    found = open_run(tmp_path / "box").explain(58)
    first = found.moved[0]
    assert (first.metric, first.source, first.update, first.minibatch) == ("observation_max", "black box", 58, 1)
    second = found.moved[1]
    assert (second.metric, second.source, second.minibatch, second.direction) == (
        "value_loss",
        "updates",
        2,
        "not finite",
    )
    assert {one.metric for one in found.moved[2:]} == {"kl_divergence", "entropy"}
    assert "minibatch 1" in found.sentences[0]


def test_superseded_rows_do_not_count(tmp_path: Path) -> None:
    """A metric that moved only in rows that a later attempt replaced did not move."""
    with Recorder.open(tmp_path, run_id="again", strict=True) as recorder:
        for row in rows(60, change=50, entropy=0.5):
            recorder.record(**row)
    with Recorder.open(tmp_path, run_id="again", resume="must", strict=True) as recorder:
        for row in list(rows(60))[45:]:
            recorder.record(**row)
    assert open_run(tmp_path / "again").explain(55).moved == []


def test_undefined_and_missing_values_are_no_past(record: Record) -> None:
    """A metric that every third update measures has a band; explained variance of constant returns does not move."""
    made = list(rows(110, change=100, entropy=0.5))
    for update, row in enumerate(made):
        row["explained_variance"] = NAN if update >= 100 else 0.9
        row["episode_return_mean"] = None if update % 3 else (50.0 if update >= 100 else 10.0) + 0.1 * (update % 4)
        row["rare"] = None if update % 25 else 1.0
    found = open_run(record(made)).explain(108)
    assert told(found) == [("entropy", 100), ("episode_return_mean", 102)]
    assert "explained_variance" in found.steady
    assert found.not_judged == ["rare"]
    assert "1 metric could not be judged" in found.sentences[-1]


def test_sentences_say_what_a_colleague_would(record: Record) -> None:
    """What moved first and how far, what went with it, where to look, what followed, and what did not move."""
    made = list(rows(80, change=60, td_error_mean=4.0, return_mean=30.0))
    for update in range(62, 80):
        made[update]["value_loss"] = 8.0
    said = open_run(record(made)).explain(70).sentences
    assert said[0].startswith("TD error mean moved first, in update 60: it rose from about ")
    assert said[1] == "In the same update: Return G up."
    assert said[2] == "The values were as usual, and the TD errors were not: look at the rewards."
    assert said[3] == "2 updates later: Value loss up."
    assert said[4] == "6 other metrics stayed in their bands."
    own = open_run(record(rows(60, change=50, my_reward=9.0), "own")).explain(55).sentences
    assert own[0].startswith("my_reward moved first, in update 50: it rose from about ")
    assert own[1].startswith("It is one of your own metrics")
    setting = open_run(record(rows(60, change=50, learning_rate=1.0), "setting")).explain(55).sentences
    assert setting[:2] == [
        "Learning rate moved first, in update 50: it had been 3.0e-4 in every update before, and is 1.000.",
        "A setting changed while everything measured was as usual: look at its schedule.",
    ]
    calm = open_run(record(rows(60), "calm")).explain(50).sentences
    assert calm == ["No metric left its own band from update 11 to 50; what is wrong may have begun before."]
    early = open_run(record(rows(9), "early")).explain(8).sentences
    assert early == ["Update 8 comes too early to tell. A metric has a band once 21 updates have measured it."]


def test_the_document_is_strict_json(record: Record, command: Command) -> None:
    """`--format json` is valid JSON with NaN and infinities as strings; its keys are those of the object."""
    path = record(rows(70, change=60, value_loss=NAN, learning_rate=1.0), "nan")
    done = command("explain", path, "--update", "65", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (document["format"], document["question"], document["update"]) == ("esper-explain/1", "what moved first", 65)
    assert set(document) == {
        "format", "question", "run_id", "path", "status", "end_reason", "is_imported", "rank", "update", "chosen",
        "alert", "since", "sentences", "moved", "steady", "not_judged", "remarks",
        "is_damaged",
    }  # fmt: skip
    rate, loss = document["moved"]
    assert set(rate) == {
        "metric", "is_extra", "source", "update", "minibatch", "direction", "deviations", "usual", "low", "high",
        "value", "peak", "peak_update", "lasts", "is_apart", "beside",
    }  # fmt: skip
    assert (rate["metric"], rate["deviations"]) == ("learning_rate", "Infinity")
    assert (loss["metric"], loss["value"]) == ("value_loss", "NaN")


def test_the_text_shows_the_order(record: Record, command: Command) -> None:
    """The text names the alert, the sentences and the metrics in order, within 80 columns, and takes RUN or --run."""
    path = record(rows(80, change=60, value_loss=NAN, td_error_mean=4.0), "nan")
    shown = command("explain", path)
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("before the alert of update" in line and "in force" in line and "critical" in line for line in lines)
    names = [line.split()[2] for line in lines if line.startswith("  " + " " * 5) and "60" in line.split()[:1]]
    assert names == ["td_error_mean", "value_loss"]
    assert command("explain", "--run", path).stdout == shown.stdout
    assert command("explain", "nan", "--root", path.parent).stdout == shown.stdout
    latest = command("explain", "--root", path.parent)
    assert latest.stdout == shown.stdout
    assert f"latest run: {path}" in latest.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "RUN", "--update", "90"], "has no update 90 of rank 0; choose one from 0 to 79"),
        (["explain", "RUN", "--update", "45"], "has no update 45 of rank 0; the nearest are 44 and 46"),
        (["explain", "RUN", "--rank", "3"], "has no rank 3"),
        (["explain", "RUN", "--rank", "all"], "--rank must be the number of one rank"),
        (["explain", "RUN", "RUN"], "is given twice; name two runs"),
        (["explain", "RUN", "RUN", "RUN"], "give one run or two, found"),
        (["explain", "RUN", "--run", "RUN"], "is given twice; name two runs"),
        (["explain", "RUN", "RUN", "--update", "3"], "--update is for one run"),
        (["explain", "EMPTY"], "has recorded no updates yet, so there is nothing to explain"),
        (["explain", "RUN", "EMPTY"], "have no updates in common"),
        (["explain", "nowhere"], "nowhere"),
    ],
)
def test_wrong_usage_is_one_clear_line(record: Record, command: Command, arguments: list[str], said: str) -> None:
    """Whatever cannot be explained ends with exit code 2 and one line that says what to do."""
    path = record([row for row in rows(80) if row["update"] != 45], "sound")
    empty = record([], "empty")
    done = command(*({"RUN": str(path), "EMPTY": str(empty)}.get(one, one) for one in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_damaged_run_is_explained_as_far_as_it_can_be_read(record: Record, command: Command) -> None:
    """The rows that are left are used, and the exit code is 3."""
    path = record(rows(80, change=60, entropy=0.5), "hurt", segment_rows=20)
    (path / "rank-0000" / "segments" / "00000001.parquet").unlink()
    done = command("explain", path, "--update", "65", "--format", "json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert document["is_damaged"] is True
    assert [one["metric"] for one in document["moved"]] == ["entropy"]
    for segment in (path / "rank-0000" / "segments").iterdir():
        segment.unlink()
    nothing = command("explain", path)
    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert "so there is nothing to explain, as far as the damaged files can be read" in nothing.stderr
    sound = record(rows(20), "sound")
    assert command("explain", sound, path).returncode == command("explain", path, sound).returncode == 3


def test_a_python_mistake_is_told(record: Record) -> None:
    """The same errors in Python."""
    run = open_run(record(rows(30), "short"))
    with pytest.raises(UsageError, match="has no update 31 of rank 0; choose one from 0 to 29"):
        run.explain(31)
    with pytest.raises(UsageError, match="is given twice"):
        run.explain_against(run)


def test_a_run_that_died_in_its_first_update_names_what_is_there(tmp_path: Path) -> None:
    """Its black box, with the number of minibatches and the reason, and the command that shows them."""
    with suppress(KeyError), Recorder.open(tmp_path, run_id="dead") as recorder:
        for number in range(3):
            recorder.minibatch(epoch=1, policy_loss=-0.1, value_loss=1.0 + number)
        raise KeyError("observation")
    with pytest.raises(
        UsageError, match=r"no update, .* the last 3 minibatches of the first one \(.*KeyError.*\): `esp"
    ):
        open_run(tmp_path / "dead").explain()
