"""Points to rows: where an update ends, what becomes of every point, and how updates are numbered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.logs import unpacked

from esper_recorder.importing.account import Account
from esper_recorder.importing.csv_table import CsvTable
from esper_recorder.importing.finding import find_source
from esper_recorder.importing.point_log import Given, PointLog
from esper_recorder.importing.points import Points, of_record
from esper_recorder.importing.rows import Row
from esper_recorder.importing.targets import MAX_FURTHER_KEYS
from esper_recorder.importing.updates import Updates
from esper_schemas.errors import UsageError

LOSSES = ("losses/policy_loss", "losses/value_loss", "losses/approx_kl", "losses/clipfrac")  # the signature of CleanRL

Point = tuple[str, int | None, float | None, float]


def points(*found: Point, begins_anew: bool = False) -> Points:
    """Points in this order."""
    keys, steps, times, values = zip(*found, strict=True)
    return Points(keys, steps, times, values, begins_anew)


def an_update(step: int, value_loss: float = 1.0, **others: float) -> list[Point]:
    """The points of an update of CleanRL, `losses/` left out of the names of further ones."""
    numbers = {**dict.fromkeys(LOSSES, 0.5), "losses/value_loss": value_loss}
    numbers |= {name.replace("__", "/"): value for name, value in others.items()}
    return [(key, step, float(step), value) for key, value in numbers.items()]


def rows_of(
    *batches: Points, mapping: Mapping[str, str] | None = None, given: Mapping[str, Any] | None = None
) -> tuple[list[Row], Account, Updates]:
    """All rows of these points, the account, and who made them."""
    account = Account()
    updates = Updates(account, {}, mapping or {}, given or {})
    rows = [row for batch in batches for row in updates.feed(batch)]
    rows += updates.finish()
    return rows, account, updates


def test_the_dialect_is_known_before_the_first_row_however_points_come() -> None:
    """One point at a time gives the same rows as all at once."""
    found = [point for step in (10, 20, 30) for point in an_update(step, value_loss=step)]
    at_once, _, updates = rows_of(points(*found))
    one_by_one, _, _ = rows_of(*(points(point) for point in found))
    assert at_once == one_by_one
    assert [row["env_steps"] for row in at_once] == [10, 20, 30]
    assert [row["elapsed_secs"] for row in at_once] == [0.0, 10.0, 20.0]
    assert updates.dialect is not None
    assert updates.dialect.name == "CleanRL"


def test_a_step_that_comes_again_is_a_further_update() -> None:
    """Nothing is replaced, in one file and across files; the account says that the step falls."""
    found = [*an_update(10), *an_update(20), *an_update(20, value_loss=2.0), *an_update(10, value_loss=3.0)]
    rows, account, _ = rows_of(points(*found))
    assert [(row["update"], row["env_steps"], row["value_loss"]) for row in rows] == [
        (0, 10, 1.0),
        (1, 20, 1.0),
        (2, 20, 2.0),
        (3, 10, 3.0),
    ]
    assert any("the step falls (20 to 10)" in note for note in account.notes)
    again = points(*an_update(20, value_loss=2.0), begins_anew=True)
    rows, _, _ = rows_of(points(*an_update(10), *an_update(20)), again)
    assert [row["value_loss"] for row in rows] == [1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("steps", "seems"),
    [
        (range(9, 0, -1), "8 times, first 9 to 8): the rows seem to be in reversed order"),
        (
            [step for pair in zip(range(10, 17), range(20, 27), strict=True) for step in pair],
            "6 times, first 20 to 11): the rows of several runs seem to be mixed",
        ),
        ([*range(11, 18)] * 8, "7 times, first 17 to 11): a training that was begun anew"),
    ],
    ids=["reversed", "mixed", "begun anew"],
)
def test_a_step_that_falls_often_is_one_short_note(steps: Sequence[int], seems: str) -> None:
    """It has the count, the first fall, and what the log looks like."""
    _, account, _ = rows_of(points(*(point for step in steps for point in an_update(step))))
    assert any(f"the step falls ({seems}" in note for note in account.notes), account.notes


def test_a_new_file_ends_the_update_before_it() -> None:
    """The next file begins with the same step and a key that the update lacks: it is not added to it."""
    rows, _, _ = rows_of(
        points(*an_update(10), *an_update(20)), points(("grad", 20, 0.0, 7.0), *an_update(20), begins_anew=True)
    )
    assert [row.get("grad") for row in rows] == [None, None, 7.0]


def test_episodes_of_a_rollout_become_their_mean_and_count() -> None:
    """Also where their steps repeat, and where an episode ends with the very step of the update."""

    def episode(step: int, value: float) -> Point:
        return "charts/episodic_return", step, 0.0, value

    rows, _, _ = rows_of(
        points(episode(4, 1.0), episode(4, 2.0), episode(10, 6.0), *an_update(10), *an_update(20), episode(20, 5.0))
    )
    assert [(row.get("episode_return_mean"), row.get("episodes")) for row in rows] == [(3.0, 3), (None, None)]


def test_points_behind_the_last_update_are_named() -> None:
    """They belong to an update that was not logged, and are no row."""
    rows, account, _ = rows_of(points(*an_update(10), ("charts/episodic_return", 15, 0.0, 1.0), ("grad", 15, 0.0, 1.0)))
    assert len(rows) == 1
    (note,) = [note for note in account.notes if note.startswith("behind the last update")]
    assert "charts/episodic_return 1, grad 1" in note


def test_unknown_keys_become_extras_and_several_points_their_mean() -> None:
    """With their count; a known key keeps the last of several, and the account says how many were not imported."""
    before = [("reward/height", step, 0.0, float(step)) for step in (1, 2, 6)]
    before += [("charts/learning_rate", step, 0.0, float(step)) for step in (1, 2)]
    rows, account, _ = rows_of(points(*before, *an_update(10), *an_update(20, reward__height=4.0)))
    assert [(row["reward/height"], row.get("reward/height_points")) for row in rows] == [(3.0, 3.0), (4.0, None)]
    assert rows[0]["learning_rate"] == 2.0
    assert any("charts/learning_rate 1" in note for note in account.notes)
    assert {entry.key: entry.remark for entry in account.mapped}["reward/height"] == "extra: its definition is unknown"


def test_a_key_with_the_name_of_a_metric_is_not_taken_for_it() -> None:
    """It gets the trainer's name in front; names that cannot be columns are left out with the reason."""
    bad = {"entropy": 9.0, "seq": 1.0, "extras": 2.0, "": 3.0, "a\nb": 4.0, "x" * 300: 5.0, "env_steps": 6.0}
    rows, account, _ = rows_of(points(*an_update(10), *((key, 10, 0.0, value) for key, value in bad.items())))
    (row,) = rows
    assert {name: row[f"cleanrl_{name}"] for name in ("entropy", "seq", "extras", "env_steps")} == {
        "entropy": 9.0,
        "seq": 1.0,
        "extras": 2.0,
        "env_steps": 6.0,
    }
    assert row["env_steps"] == 10
    assert account.left_out.keys() == {"", "a\nb", "x" * 300}


def test_more_keys_than_a_run_can_have_are_left_out() -> None:
    """A log with a key for every step does not become a run with a column for every step."""
    extra = [(f"k{number}", 10, 0.0, 1.0) for number in range(MAX_FURTHER_KEYS + 3)]
    rows, account, _ = rows_of(points(*an_update(10), *extra))
    assert sum(name.startswith("k") and name != "kl_divergence" for name in rows[0]) == MAX_FURTHER_KEYS
    assert len(account.left_out) == 3


def test_an_update_without_a_loss_is_refused_and_named() -> None:
    """It uses up no number."""
    lossless = [point for point in an_update(20) if point[0] != "losses/policy_loss"]
    rows, account, _ = rows_of(points(*an_update(10), *lossless, *an_update(30)))
    assert [(row["update"], row["env_steps"]) for row in rows] == [(0, 10), (1, 30)]
    assert str(account.refused) == "an update at step 20 has no policy_loss"
    assert {entry.column: entry.updates for entry in account.mapped}["kl_divergence"] == 2


def test_nan_and_infinity_stay_what_they_are() -> None:
    """The numbers of a run that broke are the interesting ones."""
    rows, _, _ = rows_of(points(*an_update(10, value_loss=math.inf), *an_update(20, value_loss=math.nan)))
    assert rows[0]["value_loss"] == math.inf
    assert math.isnan(rows[1]["value_loss"])


@pytest.mark.parametrize(
    ("steps", "expected", "jumps"),
    [
        ([0, 1, 2], [0, 1, 2], ""),
        ([1, 2, 3], [1, 2, 3], ""),
        ([0, 1, 1, 2], [0, 1, 2, 3], "1 after 1 at update 2"),
        ([1, 2, 5, 6], [1, 2, 3, 4], "5 after 2 at update 3"),
        ([100, 101], [0, 1], ""),
        ([0, 10, 20], [0, 1, 2], "10 after 0 at update 1, 20 after 10 at update 2"),
    ],
)
def test_the_number_of_the_trainer_is_kept(steps: Sequence[int], expected: Sequence[int], jumps: str) -> None:
    """As `update` while it rises by one from 0 or 1, and always as an extra; the account names where it does not."""
    found = [
        point for step in steps for point in (("critic/vf_loss", step, 0.0, 1.0), ("actor/pg_loss", step, 0.0, 1.0))
    ]
    rows, account, _ = rows_of(points(*found))
    assert [row["update"] for row in rows] == expected
    assert [row["step"] for row in rows] == steps
    assert all("env_steps" not in row for row in rows)
    assert "".join(account.notes).count("does not rise by 1") == bool(jumps)
    assert jumps in "".join(account.notes)


# ---------------------------------------------------------------------- what a person gives


def test_any_log_can_be_mapped() -> None:
    """Both losses are enough; the step becomes env_steps if a person says so, and the definition is theirs."""
    records = [of_record({"vf": 8.0, "pg": 0.1, "reward": 5.0}, step) for step in (64, 128)]
    mapping = {"vf": "value_loss", "pg": "policy_loss", "reward": "episode_return_mean", "step": "env_steps"}
    given = {"factor": 0.25, "clipping": "none"}
    rows, account, updates = rows_of(*records, mapping=mapping, given=given)
    assert [row["env_steps"] for row in rows] == [64, 128]
    assert rows[0]["value_loss"] == rows[0]["value_loss_unclipped"] == 2.0
    assert rows[0]["episode_return_mean"] == 5.0
    assert not updates.definition.assumed
    rows, account, updates = rows_of(*records, mapping=mapping)
    assert (rows[0]["value_loss"], rows[0].get("value_loss_unclipped")) == (8.0, None)
    assert updates.definition.assumed
    assert any("the value loss is an assumption" in note for note in account.notes)


def test_a_mapping_comes_before_what_is_known() -> None:
    """A person may say that a sliding mean shall count as the return; the key is no extra then."""
    found = [*an_update(10, charts__SPS=3.0), *an_update(20, charts__SPS=4.0)]
    rows, account, _ = rows_of(points(*found), mapping={"charts/SPS": "episode_return_mean", "no/such": "return_std"})
    assert [row["episode_return_mean"] for row in rows] == [3.0, 4.0]
    assert "steps_per_sec" not in rows[0]
    assert "--map no/such: the log has no such key" in account.notes


@pytest.mark.parametrize("column", ["update", "skipped", "episodes", "seq", "run_id", "", "a\nb"])
def test_a_column_that_cannot_be_mapped_is_an_error(column: str) -> None:
    """What the import counts itself, what the recorder writes, and what is no name."""
    with pytest.raises(UsageError, match="--map vf="):
        rows_of(points(*an_update(10)), mapping={"vf": column})


def test_a_log_without_losses_says_what_it_has() -> None:
    """The first keys, and how to name the losses."""
    with pytest.raises(
        UsageError, match=r"found 2 keys and neither \(a, b\); name the losses with --map KEY=value_loss"
    ):
        rows_of(points(("a", 1, 0.0, 1.0), ("b", 1, 0.0, 1.0)))
    with pytest.raises(UsageError, match="no scalars"):
        rows_of()


def test_a_huge_log_without_losses_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not kept in memory as a whole, in the hope of a loss at its end."""
    monkeypatch.setattr("esper_recorder.importing.updates.MAX_POINTS_BEFORE_UPDATE", 100)
    account = Account()
    updates = Updates(account, {}, {}, {})
    for step in range(100):
        assert not list(updates.feed(points(("a", step, 0.0, 1.0))))
    with pytest.raises(UsageError, match="expected the losses of a PPO"):
        list(updates.feed(points(("a", 100, 0.0, 1.0))))


# ---------------------------------------------------------------------- Stable-Baselines3: two updates in one record


def sb3(step: int, *, value_loss: float | None = None, **others: float) -> Points:
    """A record of Stable-Baselines3; without a value loss it has only a rollout."""
    record = {"rollout/ep_rew_mean": float(step), "time/fps": 1.0, "time/total_timesteps": float(step)}
    if value_loss is not None:
        record |= {"train/value_loss": value_loss, "train/policy_gradient_loss": 0.0, "train/approx_kl": 0.0}
    return of_record(record | {key.replace("__", "/"): value for key, value in others.items()})


def test_an_evaluation_between_rollouts_does_not_move_the_steps() -> None:
    """EvalCallback writes a record of its own, which takes the losses with it: the rollout before them counts."""
    evaluation = {"eval/mean_reward": 1.0, "time/total_timesteps": 150.0}
    losses = {"train/value_loss": 2.0, "train/policy_gradient_loss": 0.0, "train/approx_kl": 0.0}
    rows, _, _ = rows_of(
        of_record({"eval/mean_reward": 1.0, "time/total_timesteps": 50.0}),
        sb3(100),
        of_record({**evaluation, **losses}),
        sb3(200),
        sb3(300, value_loss=4.0),
    )
    assert [(row["env_steps"], row["value_loss"], row["episode_return_sliding_mean"]) for row in rows] == [
        (100, 1.0, 100.0),
        (200, 2.0, 200.0),
    ]


def test_learn_called_twice_for_one_rollout_each() -> None:
    """All steps are the same then; each update still has the rollout before it."""
    rows, _, _ = rows_of(
        sb3(100, time__iterations=1),
        sb3(100, value_loss=2.0, train__n_updates=10, time__iterations=1),
        sb3(100, value_loss=4.0, train__n_updates=20, time__iterations=1),
    )
    assert [(row["env_steps"], row["value_loss"]) for row in rows] == [(100, 1.0), (200, 2.0)]


def test_rollouts_of_two_runs_that_are_mixed_are_said_to_be() -> None:
    """The note is short, whoever logged the steps."""
    steps = [step for pair in zip(range(100, 900, 100), range(1100, 1900, 100), strict=True) for step in pair]
    _, account, _ = rows_of(
        sb3(50, time__iterations=1), *(sb3(step, value_loss=1.0, train__n_updates=step) for step in steps)
    )
    assert any("times, first after 1,100, and env_steps with it: the rows of several" in note for note in account.notes)


def test_a_single_record_says_nothing_of_how_often_rollouts_are_logged() -> None:
    """Two records are needed to know that only each n-th is."""
    _, account, _ = rows_of(sb3(100, value_loss=1.0, train__n_updates=10, time__iterations=2))
    assert account.notes == ["the log has one update only: its row has the rollout after it, and no env_steps"]


def test_steps_that_begin_anew_without_a_sign_of_the_same_model_are_kept_as_logged() -> None:
    """Two trainings with one logger are not added up; the account says what the log shows."""
    rows, account, _ = rows_of(
        sb3(100, time__iterations=1),
        sb3(200, value_loss=2.0, train__n_updates=10, time__iterations=2),
        sb3(100, time__iterations=1),
        sb3(200, value_loss=2.0, train__n_updates=10, time__iterations=2),
        sb3(300, value_loss=2.0, train__n_updates=20, time__iterations=3),
    )
    assert [row["env_steps"] for row in rows] == [100, 100, 200]
    assert any("begins anew after 100, and env_steps with it" in note for note in account.notes)


def test_a_clip_of_the_value_function_is_in_the_definition() -> None:
    """`train/clip_range_vf` is only there if SB3 clips the predictions, and then the unclipped loss is not known."""
    rows, _, updates = rows_of(sb3(100), sb3(200, value_loss=2.0, train__clip_range_vf=0.3))
    assert (updates.definition.clipping, updates.definition.clip_range) == ("clipped", 0.3)
    assert "value_loss_unclipped" not in rows[0]


def result(iteration: int, kl: float, episodes: float) -> Points:
    """A record of RLlib."""
    learner = {"vf_loss_unclipped": 4.0, "policy_loss": 0.1, "mean_kl_loss": kl}
    record = {f"learners/p/{key}": value for key, value in learner.items()}
    return of_record({**record, "training_iteration": iteration, "env_runners/num_episodes": episodes})


def test_a_zero_that_means_not_measured_is_null() -> None:
    """RLlib logs a KL of exactly 0.0 where it does not compute it; a count that is no whole number is left out."""
    rows, account, _ = rows_of(result(1, 0.0, 2.0), result(2, 0.01, 2.5))
    assert [row.get("kl_divergence") for row in rows] == [None, 0.01]
    assert [row.get("episodes") for row in rows] == [2, None]
    assert "must be a whole number, found 2.5" in account.left_out["env_runners/num_episodes"]
    assert {entry.key: entry.updates for entry in account.mapped}["learners/p/mean_kl_loss"] == 1
    assert not any(note.startswith("of several points") for note in account.notes)


def test_the_step_is_in_the_balance_only_where_it_is_in_the_rows() -> None:
    """A log without steps has no line for it, one whose steps are no whole numbers says what was found."""
    losses = {"vf": 1.0, "pg": 0.1}
    mapping = {"vf": "value_loss", "pg": "policy_loss"}
    _, account, _ = rows_of(of_record(losses), of_record(losses), mapping=mapping)
    assert [entry.key for entry in account.mapped] == ["vf", "pg"]
    _, account, _ = rows_of(of_record(losses, 64), of_record(losses), mapping=mapping)
    first = account.mapped[0]
    assert (first.key, first.column, first.updates) == ("step", "step", 1)
    rows, account, _ = rows_of(sb3(100), sb3(200, value_loss=2.0, time__total_timesteps=200.5))
    assert rows[0]["env_steps"] == 100
    assert account.left_out["time/total_timesteps"].endswith("a whole number of steps, found 200.5")
    assert any("the rollout has no update" in note for note in account.notes)


def test_a_mapped_key_of_a_rollout_stays_with_its_rollout() -> None:
    """A record of Stable-Baselines3 has the rollout after its update, whatever a person calls its numbers."""
    records = [sb3(100, rollout__won=1.0)]
    records += [sb3(step, value_loss=2.0, rollout__won=step / 100) for step in (200, 300)]
    mapping = {"rollout/ep_rew_mean": "episode_return_mean", "rollout/won": "won"}
    rows, _, _ = rows_of(*records, mapping=mapping)
    assert [(row["episode_return_mean"], row["won"]) for row in rows] == [(100.0, 1.0), (200.0, 2.0)]
    episodes = [("charts/episodic_return", step, 0.0, float(step)) for step in (1, 2, 3)]
    rows, _, _ = rows_of(points(*episodes, *an_update(10)), mapping={"charts/episodic_return": "my_return"})
    assert (rows[0]["my_return"], rows[0]["episodes"]) == (2.0, 3)


def test_two_keys_for_one_column_are_an_error() -> None:
    """Neither is dropped in silence."""
    with pytest.raises(UsageError, match="a and b would both become value_loss"):
        rows_of(points(*an_update(10)), mapping={"a": "value_loss", "b": "value_loss"})


def test_the_pending_row_is_the_row_that_comes_and_asking_changes_nothing(tmp_path: Path) -> None:
    """After every single point of real logs, `pending` is what `finish` would yield, and the account stays the same."""
    logs = ("sb3_learn_twice_progress.csv", "rsl_rl_two_learns", "rllib_tune_progress.csv")
    for name in logs:
        source = find_source(unpacked(name, tmp_path), Given())
        assert isinstance(source, PointLog)
        batches = list(source._reader.points(lambda _read: None, Account()))
        config = source._reader.config
        asked, account = Updates(told := Account(), config, {}, {}), Account()
        plain = Updates(account, config, {}, {})
        rows: list[Row] = []
        expected: list[Row] = []
        pending: Row | None = None
        for batch in batches:
            is_one_record = batch.steps[0] is None
            for part in [batch] if is_one_record else _one_by_one(batch):
                made = list(asked.feed(part))
                if made and pending is not None:
                    assert repr(made) == repr([pending]), name
                rows += made
                pending = asked.pending()
                assert repr(pending) == repr(asked.pending())
                expected += plain.feed(part)
        assert pending is not None
        last = list(asked.finish())
        assert repr([pending]) == repr(last), name
        assert repr(rows + last) == repr(expected + list(plain.finish()))
        assert told == account


@pytest.mark.parametrize("log", ["RLlib", "CleanRL"])
def test_nothing_is_counted_of_a_row_that_is_not_final(log: str) -> None:
    """A zero that is null, a number that is not whole, a point that is passed over, a loss that is still to come."""
    whole = [("losses/policy_loss", 1, 1.0, 0.1), *an_update(1, n=2.5), *an_update(2, n=3.0)]
    whole += [point for point in an_update(3) if point[0] != "losses/policy_loss"]
    batches = {
        "RLlib": [result(1, 0.0, 2.5), result(2, 0.0, 2.5), result(3, 0.01, 2.0)],
        "CleanRL": [points(point) for point in whole],
    }[log]
    mapping = {"n": "env_steps"} if log == "CleanRL" else {}
    expected, plain, _ = rows_of(*batches, mapping=mapping)
    asked = Updates(account := Account(), {}, mapping, {})
    rows: list[Row] = []
    for batch in batches:
        rows += asked.feed(batch)
        assert repr(asked.pending()) == repr(asked.pending())
    rows += asked.finish()
    assert repr(rows) == repr(expected)
    assert account.lines() == plain.lines()
    assert account.left_out
    assert log == "RLlib" or (account.refused.count and any("policy_loss 1" in note for note in account.notes))


def _one_by_one(batch: Points) -> list[Points]:
    return [
        Points([key], [step], [time], [value], batch.begins_anew and not place)
        for place, (key, step, time, value) in enumerate(zip(*batch[:4], strict=True))
    ]


def test_an_update_is_whole_with_the_keys_of_both_before_it() -> None:
    """A key that came in one of them only is not waited for, nor are episodes; the first update is never whole."""
    updates = Updates(Account(), {}, {}, {})
    found: list[list[str]] = []
    for step in range(1, 6):
        others = {"charts__SPS": 1.0} | ({"eval__score": 2.0} if step in (1, 4) else {})
        points_of_update = [("charts/episodic_return", step, 0.0, 9.0), *an_update(step, **others)]
        found.append([])
        for point in points_of_update:
            list(updates.feed(points(point)))
            if updates.is_pending_whole:
                found[-1].append(point[0])
    assert found == [[], [], ["charts/SPS"], ["charts/SPS", "eval/score"], ["charts/SPS"]]


def test_points_that_come_one_by_one_wait_in_little_memory() -> None:
    """Whatever has no losses is kept as columns: a hundred thousand single points are one batch."""
    updates = Updates(Account(), {}, {}, {})
    for step in range(1000):
        assert not list(updates.feed(points(("loss", step, 0.0, 1.0))))
    assert len(updates._waiting.points) == 1
    with pytest.raises(UsageError, match="found 1 key and neither"):
        list(updates.finish())


def so_far(updates: Updates, *, is_quiet: bool = False) -> list[Row]:
    """The rows that a log which is still written has to offer: those that quiet settles, and a whole one."""
    rows = list(updates.settle()) if is_quiet else []
    pending = updates.pending() if updates.is_pending_whole or (is_quiet and updates.is_pending_first) else None
    return rows if pending is None else [*rows, pending]


def test_an_update_is_told_once_it_has_every_key_that_all_before_it_have() -> None:
    """The first one once the log is quiet; a key that comes late is in the row of the end, and nothing else changes."""
    whole = [point for step in (10, 20, 30) for point in an_update(step, value_loss=step, grad=0.25)]
    expected, expected_account, _ = rows_of(points(*whole, ("late", 30, 31.0, 9.0)))
    account = Account()
    updates = Updates(account, {}, {}, {})
    assert list(updates.feed(points(*whole[:5]))) == []
    assert so_far(updates) == []
    assert so_far(updates, is_quiet=True) == expected[:1]
    rows = list(updates.feed(points(*whole[5:9])))  # all but the last key of the second update
    assert (rows, so_far(updates), so_far(updates, is_quiet=True)) == (expected[:1], [], [])
    rows += updates.feed(points(whole[9]))
    assert so_far(updates) == so_far(updates) == [expected[1]]
    rows += updates.feed(points(*whole[10:]))
    assert so_far(updates) == [
        {name: value for name, value in expected[2].items() if name not in ("late", "late_points")}
    ]
    rows += updates.feed(points(("late", 30, 31.0, 9.0)))
    assert so_far(updates) == expected[2:]
    rows += updates.finish()
    assert rows == expected
    assert account.lines() == expected_account.lines()


def test_what_is_told_of_a_trainer_that_logs_a_rollout_late_is_its_row(tmp_path: Path) -> None:
    """Rollouts of Stable-Baselines3 are found for a row that is told early too, and found again for that of the end."""
    log = unpacked("sb3_lunar_progress.csv", tmp_path)
    records = list(CsvTable(log).points(lambda _size: None, Account()))
    expected, expected_account, _ = rows_of(*records)
    account = Account()
    updates = Updates(account, {}, {}, {})
    rows: list[Row] = []
    told: list[Row] = []
    for record in records:
        rows += updates.feed(record)
        told += so_far(updates, is_quiet=True)
    rows += updates.finish()
    assert repr(rows) == repr(told) == repr(expected)
    assert account.lines() == expected_account.lines()


@pytest.mark.parametrize("first", [0, 1])
def test_a_count_of_records_is_not_taken_for_environment_steps(first: int) -> None:
    """W&B counts what it is handed, also under the names of CleanRL; a mapped key has the steps then."""
    counted = [points(*an_update(first + place, charts__frames=128.0 * (place + 1))) for place in range(3)]
    rows, account, _ = rows_of(*counted)
    assert [(row.get("env_steps"), row["step"]) for row in rows] == [(None, first + place) for place in range(3)]
    assert [note for note in account.notes if f"the step of the first update is {first}" in note]
    rows, account, _ = rows_of(*counted, mapping={"charts/frames": "env_steps"})
    assert [row["env_steps"] for row in rows] == [128, 256, 384]
    assert not [note for note in account.notes if "the step of the first update" in note]
    rows, _, _ = rows_of(*counted, mapping={"step": "env_steps"})
    assert [row["env_steps"] for row in rows] == [first, first + 1, first + 2]


def test_pufferlib_2_has_its_own_steps_and_not_the_count_of_wandb() -> None:
    """Its losses are named as those of CleanRL, and its steps are a key beside them."""
    shared = {"0verview/epoch": 7.0, "0verview/learning_rate": 0.002, "losses/explained_variance": 0.5}
    records = [
        of_record({**dict.fromkeys(LOSSES, 0.25), **shared, "0verview/agent_steps": 4096.0 * (place + 1)}, place)
        for place in range(3)
    ]
    rows, _, updates = rows_of(*records)
    assert updates.dialect is not None
    assert updates.dialect.name == "PufferLib, to 2.0"
    assert [row["env_steps"] for row in rows] == [4096, 8192, 12288]
    assert (rows[0]["value_loss"], rows[0]["learning_rate"], rows[0]["explained_variance"]) == (0.25, 0.002, 0.5)


def test_a_key_has_the_environment_steps_where_the_step_counts_records() -> None:
    """Baselines handed to W&B: `_step` comes with each record, and the key with the steps is not passed over."""
    names = ("loss/value_loss", "loss/policy_loss", "loss/policy_entropy")
    records = [
        of_record({**dict.fromkeys(names, 0.25), "misc/total_timesteps": 2048.0 * (place + 1)}, place)
        for place in range(3)
    ]
    rows, account, _ = rows_of(*records)
    assert [row["env_steps"] for row in rows] == [2048, 4096, 6144]
    assert not [note for note in account.notes if "--map KEY=env_steps" in note]
