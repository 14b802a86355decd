"""The runs of the calibration study: what is broken on purpose is broken, and outcomes are decided at their bounds."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from click.testing import CliRunner

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.train.ppo import PPO, Minibatch
from esper_recorder.train.rollout import Rollout, RolloutCollector
from esper_recorder.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks" / "calibration"))
make_runs, outcomes, sabotage, scenarios = map(
    importlib.import_module, ("make_runs", "outcomes", "sabotage", "scenarios")
)

TINY = {"env": "CartPole-v1", "num_envs": 8, "rollout_steps": 32, "minibatches": 1, "epochs": 1, "updates": 6}


def tiny(**changes: Any) -> Any:
    """A scenario that takes no time."""
    return scenarios.Scenario(**{"name": "tiny", "does": "", "sound": False, "config": TINY} | changes)


def named(name: str) -> Any:
    """The scenario of that name."""
    return next(scenario for scenario in scenarios.SCENARIOS if scenario.name == name)


def parameters_of(trainer: Trainer, part: str) -> torch.Tensor:
    """All parameters of the policy or the value network in one tensor, copied."""
    found = [tensor.detach().flatten() for name, tensor in trainer.model.named_parameters() if name.startswith(part)]
    return torch.cat(found).clone()


def movement(trainer: Trainer, part: str) -> torch.Tensor:
    """How far one update moves the parameters of a network."""
    before = parameters_of(trainer, part)
    trainer.run_update(trainer.next_update)
    return parameters_of(trainer, part) - before


def raw_values(trainer: Trainer) -> torch.Tensor:
    """V of some fixed observations, on the raw return scale."""
    observations = torch.linspace(-1, 1, 40).view(10, 4)
    with torch.no_grad():
        return trainer.model.predict_values(observations) * trainer.model.return_scale.scale.float()


# ---------------------------------------------------------------------- what is broken


@pytest.mark.parametrize(
    ("ppo", "policy_factor", "value_factor"),
    [("ValueRateHigh", 1, 100), ("ValueRateLow", 1, 0.01), ("PolicyRateHigh", 30, 1), ("ScaledRates", 1, 1)],
)
def test_learning_rates_are_multiplied_where_they_are_said_to_be(
    ppo: str, policy_factor: float, value_factor: float
) -> None:
    """The first step of Adam moves each network by the said multiple of what the sound trainer moves it."""
    config = {**TINY, "scale_value_targets": False, "learning_rate": 1e-4}
    for part, factor in (("policy", policy_factor), ("value", value_factor)):
        sound = movement(tiny(config=config).make_trainer(1), part)
        broken = movement(tiny(config=config, ppo=getattr(sabotage, ppo)).make_trainer(1), part)
        torch.testing.assert_close(broken, factor * sound, rtol=0.02, atol=1e-7 * max(1, factor))
        assert sound.abs().max() > 1e-5


def test_scaled_rates_follow_the_annealed_rate() -> None:
    """In the last update of an annealed run both networks move less than in the first."""
    trainer = tiny(config={**TINY, "updates": 50}, ppo=sabotage.ValueRateLow).make_trainer(1)
    trainer.run_update(0)
    rates = [group["lr"] for group in trainer.ppo.optimizer.param_groups]
    trainer.run_update(40)
    assert [group["lr"] for group in trainer.ppo.optimizer.param_groups] == pytest.approx([r * 0.2 for r in rates])


def test_a_frozen_critic_stays_while_the_policy_learns() -> None:
    """Up to the break the value function changes, from then on not at all; the policy goes on."""
    trainer = tiny(ppo=sabotage.FrozenCritic, breaks_within=(0.34, 0.34)).make_trainer(1)
    values = [raw_values(trainer)]
    moved = []
    for _ in range(4):
        moved.append(movement(trainer, "policy").abs().max() > 0)
        values.append(raw_values(trainer))
    changes = [not torch.allclose(a, b, rtol=1e-4) for a, b in pairwise(values)]
    assert changes == [True, True, False, False]
    assert all(moved)


def test_a_constant_critic_gives_one_number() -> None:
    """From the break on V is the same in every state, and stays that number."""
    trainer = tiny(ppo=sabotage.ConstantCritic, breaks_within=(0.34, 0.34)).make_trainer(1)
    spreads, means = [], []
    for update in range(4):
        trainer.run_update(update)
        spreads.append(float(raw_values(trainer).std()))
        means.append(float(raw_values(trainer).mean()))
    assert min(spreads[:2]) > 1e-3
    assert spreads[2:] == pytest.approx([0, 0], abs=1e-5)
    assert means[3] == pytest.approx(means[2], rel=1e-4)


@pytest.mark.parametrize(
    ("ppo", "skipped"),
    [
        ("NanFrom", [False, False, True, True, True]),
        ("NanOnce", [False, False, True, False, False]),
        ("NanParameters", [False, False, True, True, True]),
    ],
)
def test_a_nan_is_met_by_the_trainer(ppo: str, skipped: list[bool]) -> None:
    """The value loss is NaN in exactly the said updates, and the trainer rolls these back."""
    trainer = tiny(ppo=getattr(sabotage, ppo), breaks_within=(0.34, 0.34)).make_trainer(1)
    rows = [trainer.run_update(update) for update in range(5)]
    assert [row["skipped"] for row in rows] == skipped
    assert [row["value_loss"] != row["value_loss"] for row in rows] == skipped


def test_stale_rollouts_are_as_old_as_they_say() -> None:
    """Update i trains on the log-probabilities of rollout i − 8, and on the first one before there is such."""
    trainer = tiny(ppo=sabotage.Stale8).make_trainer(1)
    collected: list[Rollout] = []
    trained: list[Minibatch] = []
    for _ in range(11):
        collected.append(trainer.collector.collect())
        trainer.ppo.update(collected[-1], learning_rate=1e-3, on_minibatch=trained.append)
    for update, minibatch in enumerate(trained):
        expected = collected[max(0, update - 8)].log_probs
        torch.testing.assert_close(minibatch.old_log_probs.sort().values, expected.sort().values)


def with_constant_value(scenario: Any, value: float) -> Trainer:
    """A trainer whose critic says `value` of every state."""
    trainer: Trainer = scenario.make_trainer(3)
    last = trainer.model.value[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(value)
    return trainer


def test_wrong_ends_of_episodes_reach_advantages_and_nothing_else() -> None:
    """A termination is bootstrapped, or advantages reach across the reset; episodes are still counted rightly."""
    sound, ignored, bootstrapped = (
        with_constant_value(tiny(collector=collector), 2.0).collector.collect()
        for collector in (RolloutCollector, sabotage.EndsIgnored, sabotage.EndsBootstrapped)
    )
    ends = sound.episode_ends
    assert 3 <= int(ends.sum()) <= 60
    for broken in (ignored, bootstrapped):
        assert torch.equal(broken.episode_ends, ends)
        assert torch.equal(broken.episode_returns, sound.episode_returns)
        torch.testing.assert_close(broken.td_errors[ends], torch.full_like(broken.td_errors[ends], 1 + 0.995 * 2 - 2))
        torch.testing.assert_close(broken.returns, broken.advantages + 2.0 * torch.ones_like(broken.values))
    assert sound.td_errors[ends].tolist() == [-1.0] * int(ends.sum())
    inside = ends & (torch.arange(len(ends)) < len(ends) - 3 * 8)  # something follows in each of the 8 environments
    assert torch.equal(bootstrapped.advantages[ends], bootstrapped.td_errors[ends])
    assert (ignored.advantages[inside] > ignored.td_errors[inside]).all()


def test_scaled_rewards_change_rewards_only() -> None:
    """The trainer sees returns of episodes 1000 times as large, of the same episodes."""
    sound, scaled = (tiny(reward_scale=scale).make_trainer(3).collector.collect() for scale in (1.0, 1000.0))
    assert torch.equal(sound.raw_observations, scaled.raw_observations)
    assert torch.equal(sound.episode_returns * 1000, scaled.episode_returns)


@pytest.mark.parametrize(
    ("name", "base", "changed", "reward_scale"),
    [
        ("raw-advantages", "cartpole", {"normalize_advantage": False}, 1),
        ("rewards-up", "cartpole", {}, 1e3),
        ("rewards-down", "cartpole", {}, 1e-3),
        ("rewards-up-unscaled", "cartpole", {"scale_value_targets": False}, 1e3),
        ("rewards-up-unscaled-steady", "steady", {"scale_value_targets": False}, 1e3),
        ("rewards-down-unscaled", "cartpole", {"scale_value_targets": False}, 1e-3),
        ("value-clip-tiny", "cartpole", {"value_clip": 0.01}, 1),
        ("no-entropy", "cartpole", {"entropy_coef": 0.0}, 1),
        ("pendulum-rewards-up", "pendulum", {"scale_value_targets": False}, 1e3),
    ],
)
def test_what_an_option_breaks_differs_in_that_option(
    name: str, base: str, changed: dict[str, Any], reward_scale: float
) -> None:
    """Against the sound scenario only the said options and the scale of the rewards differ."""
    scenario, config = named(name), named(base).ppo_config(1).to_dict()
    assert all(config[option] != value for option, value in changed.items())
    assert scenario.ppo_config(1).to_dict() == config | changed
    assert scenario.reward_scale == reward_scale


# ---------------------------------------------------------------------- the plan


def test_the_plan_has_the_runs_that_the_study_needs() -> None:
    """At least 260 sound runs and 200 that are broken on purpose, of which at least 100 each are held back."""
    runs = [(scenario.sound, outcomes.half_of(seed)) for scenario, seed, _ in make_runs.jobs_of(Path(), (), None)]
    assert runs.count((True, "held-back")) >= 100
    assert runs.count((False, "held-back")) >= 100
    assert len(runs) >= 460
    assert len({scenario.name for scenario in scenarios.SCENARIOS}) == len(scenarios.SCENARIOS)


def test_a_batch_that_is_cut_off_holds_some_of_everything() -> None:
    """The first jobs are one run of each scenario; half of the jobs hold half of the runs of each, give or take one."""
    names = [scenario.name for scenario, _, _ in make_runs.jobs_of(Path(), (), None)]
    assert len(set(names[: len(scenarios.SCENARIOS)])) == len(scenarios.SCENARIOS)
    for scenario in scenarios.SCENARIOS:
        assert abs(names[: len(names) // 2].count(scenario.name) - scenario.seeds / 2) <= 1


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS, ids=lambda scenario: str(scenario.name))
def test_a_scenario_can_be_trained_and_breaks_when_it_says(scenario: Any) -> None:
    """A trainer can be made; the break is inside its window, the same each time, and not the same for all seeds."""
    trainer: Any = scenario.make_trainer(0)
    trainer.collector.env.close()
    assert type(trainer.ppo) is (scenario.ppo or PPO)
    breaks = [scenario.break_update(seed) for seed in range(scenario.seeds)]
    assert breaks == [scenario.break_update(seed) for seed in range(scenario.seeds)]
    if scenario.breaks_within is None:
        assert set(breaks) == {0}
        return
    shares = [update / trainer.config.num_updates for update in breaks]
    assert scenario.breaks_within[0] - 0.01 <= min(shares) < max(shares) <= scenario.breaks_within[1] + 0.01
    learner: Any = trainer.ppo
    assert learner.break_update == breaks[0]


# ---------------------------------------------------------------------- outcomes


def rows(**columns: Any) -> pl.LazyFrame:
    """Fifty updates of a run well inside all bounds; what is given replaces a column, or its last values."""
    frame: dict[str, list[Any]] = {
        "update": list(range(50)),
        "episodes": [4] * 50,
        "episode_return_mean": [400.0] * 50,
        "explained_variance": [0.9] * 50,
        "return_std": [10.0] * 50,
        "return_mean": [40.0] * 50,
        "skipped": [False] * 50,
        "value_loss": [0.1] * 50,
        "policy_loss": [-0.01] * 50,
    }
    for name, values in columns.items():
        frame[name] = frame[name][: 50 - len(values)] + list(values)
    return pl.LazyFrame(frame, strict=False)


def reasons(**columns: Any) -> tuple[str, ...]:
    """Why such a run counts as broken."""
    found: tuple[str, ...] = outcomes.outcome_of(rows(**columns), env="CartPole-v1").reasons
    return found


def test_the_return_is_judged_over_the_last_fifth() -> None:
    """A mean return at the bound is healthy, below it broken; what was before the last ten of 50 does not count."""
    assert reasons() == ()
    assert reasons(episode_return_mean=[1.0] * 40 + [150.0] * 10) == ()
    assert reasons(episode_return_mean=[149.9] * 10) == ("return",)
    assert reasons(episode_return_mean=[400.0] * 40 + [20.0] * 10) == ("return",)


def test_the_return_is_weighted_by_episodes() -> None:
    """One rollout of many short episodes outweighs nine of a single long one; a rollout without any is no zero."""
    returns = [500.0] * 9 + [20.0]
    assert reasons(episode_return_mean=returns, episodes=[1] * 10) == ()
    assert reasons(episode_return_mean=returns, episodes=[1] * 9 + [40]) == ("return",)
    assert reasons(episode_return_mean=[None] * 9 + [400.0], episodes=[0] * 9 + [1]) == ()
    none_ended = outcomes.outcome_of(rows(episode_return_mean=[None] * 10, episodes=[0] * 10), env="CartPole-v1")
    assert (none_ended.final_return, none_ended.broken) == (None, False)


@pytest.mark.parametrize(("env", "bound"), [("CartPole-v1", 150.0), ("Acrobot-v1", -200.0), ("Pendulum-v1", -600.0)])
def test_each_environment_has_its_bound_on_its_own_rewards(env: str, bound: float) -> None:
    """The scale of the rewards is undone before the bound of the environment is applied."""
    for scale in (1 / 1024, 1.0, 1024.0):
        at, below = (
            outcomes.outcome_of(rows(episode_return_mean=[value * scale] * 50), env=env, reward_scale=scale)
            for value in (bound, bound - 0.5)
        )
        assert at.final_return == bound
        assert (at.reasons, below.reasons) == ((), ("return",))


def test_the_critic_is_judged_where_there_is_something_to_explain() -> None:
    """The median explained variance of the last ten updates with spread decides; a solved end is passed over."""
    assert reasons(explained_variance=[0.2] * 10) == ()
    assert reasons(explained_variance=[0.19] * 10) == ("critic",)
    assert reasons(explained_variance=[0.9] * 6 + [-3.0] * 4) == ()
    solved = {"return_std": [3.9] * 30, "explained_variance": [-1.0] * 30}
    assert reasons(**solved) == ()
    assert reasons(return_std=[3.9] * 30, explained_variance=[0.0] * 10 + [0.9] * 30) == ("critic",)
    assert reasons(return_std=[4.0] * 30, explained_variance=[-1.0] * 30) == ("critic",)
    assert reasons(return_mean=[-40.0] * 50, explained_variance=[-1.0] * 10) == ("critic",)
    assert reasons(return_mean=[-400.0] * 10, explained_variance=[-1.0] * 10) == ()


def test_too_little_to_explain_judges_no_critic() -> None:
    """Fewer than five updates with spread give no final explained variance; five do. A NaN explains nothing."""
    for counted, expected in ((4, None), (5, -1.0)):
        columns: dict[str, Any] = {
            "explained_variance": [-1.0] * 50,
            "return_std": [10.0] * counted + [0.0] * (50 - counted),
        }
        assert outcomes.outcome_of(rows(**columns), env="CartPole-v1").final_explained_variance == expected
    assert reasons(explained_variance=[float("nan")] * 4 + [0.1] * 4 + [0.9] * 2) == ("critic",)
    assert reasons(explained_variance=[float("nan")] * 4 + [0.9] * 6) == ()


def test_a_run_that_ends_without_finite_losses_is_broken() -> None:
    """A NaN or an infinity among the last five updates, or five skips; what it recovered from does not count."""
    nan, inf = float("nan"), float("inf")
    assert reasons(value_loss=[nan] + [0.1] * 4) == ("not finite",)
    assert reasons(value_loss=[nan] + [0.1] * 5) == ()
    assert reasons(policy_loss=[-inf]) == ("not finite",)
    assert reasons(skipped=[True] * 5, value_loss=[None] * 5, policy_loss=[None] * 5) == ("not finite",)
    assert reasons(skipped=[True] * 4) == ()


# ---------------------------------------------------------------------- runs


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study of two tiny scenarios with two seeds each."""
    sound = tiny(name="sound", sound=True, seeds=2)
    nan = replace(sound, name="nan", sound=False, ppo=sabotage.NanFrom, breaks_within=(0.0, 0.2))
    monkeypatch.setattr(make_runs, "SCENARIOS", (sound, nan))


def made(root: Path, *options: str) -> list[str]:
    """What a batch says on stderr."""
    result = CliRunner().invoke(make_runs.main, ["--out", str(root), "--jobs", "1", *options])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    return result.stderr.splitlines()


@pytest.mark.usefixtures("two")
def test_a_study_is_made_judged_and_gone_on_with(tmp_path: Path) -> None:
    """Runs are recorded whole, with what the study knows of them; a second batch makes only what is not complete."""
    root = tmp_path / "study"
    assert [line.split()[1] for line in made(root)[1:]] == ["sound-000", "nan-000", "sound-001", "nan-001"]
    found = outcomes.table(root)
    assert found.select("scenario", "seed", "half", "sound", "updates").rows() == [
        ("nan", 0, "tuning", False, 6),
        ("nan", 1, "tuning", False, 6),
        ("sound", 0, "tuning", True, 6),
        ("sound", 1, "tuning", True, 6),
    ]
    assert found["break_update"].to_list() == [1, 1, 0, 0]
    assert found["reasons"].str.contains("not finite").to_list() == [True, True, False, False]
    assert outcomes.summary(found)["broken"].to_list()[1] == 2
    run = open_run(root / "nan-001")
    assert run.updates().collect()["skipped"].to_list() == [False] + [True] * 5
    assert not run.faults()

    (end,) = (root / "nan-001").glob("rank-0000/attempts/0000.json")
    with Recorder.open(root, run_id="nan-001", resume="must") as recorder:
        recorder.close("interrupted", "for the test")
    assert end.exists()
    assert len(outcomes.table(root)) == 3
    assert [line.split()[1] for line in made(root)[1:]] == ["nan-001"]
    assert made(root) == ["4 runs, 4 of them there already"]


@pytest.mark.usefixtures("two")
def test_a_batch_can_be_narrowed(tmp_path: Path) -> None:
    """`--only` and `--seeds` choose runs."""
    assert [line.split()[1] for line in made(tmp_path, "--only", "nan", "--seeds", "1-9")[1:]] == ["nan-001"]


@pytest.mark.usefixtures("two")
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    """An unknown scenario, seeds that are no range, a folder in the way: each is named, and nothing is removed."""
    with Recorder.open(tmp_path, run_id="sound-000") as recorder:
        recorder.close("failed", "somebody else's")
    for options, text in (
        (["--only", "sonud"], "no scenario is called sonud"),
        (["--seeds", "5-2"], "expected A-B"),
        ([], "is no run of this study"),
    ):
        result = CliRunner().invoke(make_runs.main, ["--out", str(tmp_path), *options])
        assert result.exit_code == 2
        assert text in result.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["sound-000"]
