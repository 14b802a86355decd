"""The benchmark's ways of breaking a run: each does what it says, to each of its trainers."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks"))

from benchmark import cleanrl_style, ours, sb3_runs, tampering
from benchmark.faults import KINDS, STRENGTHS, TRAINERS, Fault
from benchmark.fresh_environments import EVERY_TASK
from benchmark.fresh_faults import EVERY_KIND
from benchmark.hyper import Hyper
from benchmark.running import Clock, Learner, Ledger, Rollout, Training

from esper_analyzer import open_run

pytestmark = pytest.mark.notebooks  # a minute of the suite that only the benchmark needs

Rows = list[dict[str, Any]]
Check = Callable[[Rows, Rows], bool]

TINY = Hyper(num_envs=3, rollout_steps=30, epochs=2, minibatches=1, learning_rate=1e-2, hidden=8, anneal=False)


@pytest.fixture(autouse=True)
def _no_warning_of_numpy() -> Any:
    with np.errstate(all="ignore"):
        yield


def trained(trainer: str, fault: Fault, env: str) -> Rows:
    """The rows of two updates, all of which are broken; those before a crash."""
    clock = Clock(0, 2)
    hyper = fault.change_hyper(replace(TINY, scale_rewards=trainer == "ours"))
    with tempfile.TemporaryDirectory() as root:
        training = Training(EVERY_TASK[env], hyper, fault, clock, Ledger(clock), 3, Path(root), "x")
        try:
            {"ours": ours, "sb3": sb3_runs, "cleanrl": cleanrl_style}[trainer].train(training)
        except (ValueError, RuntimeError):
            assert fault.name in ("observations-nan", "nan-in-returns")  # torch draws no actions from NaN
        run = open_run(Path(root) / "x")
        return run.updates().collect().to_dicts()


@functools.cache
def sound(trainer: str, env: str) -> Rows:
    """The rows of two updates of a sound run."""
    return trained(trainer, Fault(), env)


def differs(name: str, row: int = 1) -> Check:
    """Whether a metric of one row is another one than in the sound run."""
    return lambda broken, sound: bool(broken[row][name] != sound[row][name])


def only(changed: str, same: str) -> Check:
    """Whether one metric of the first row changed and another did not."""

    def check(broken: Rows, sound: Rows) -> bool:
        return bool(broken[0][changed] != sound[0][changed] and broken[0][same] == sound[0][same])

    return check


def equals(name: str, value: float, within: float = 0.0) -> Check:
    """Whether a metric has this value in both rows."""
    return lambda broken, _: all(row[name] is not None and abs(row[name] - value) <= within for row in broken)


def times(name: str, factor: float) -> Check:
    """Whether a metric of the first row is that of the sound run times `factor`."""
    return lambda broken, sound: bool(broken[0][name] == pytest.approx(factor * sound[0][name], rel=1e-4))


def both(*checks: Check) -> Check:
    """Whether all checks pass."""
    return lambda broken, sound: all(check(broken, sound) for check in checks)


CHECKS: dict[str, Check] = {
    "critic-constant": equals("value_std", 0, within=1e-6),
    "critic-explodes": times("value_std", 3.0),
    "critic-frozen": both(differs("value_mean"), lambda broken, sound: broken[0]["kl_divergence"] > 0),
    "critic-rate-high": differs("value_mean"),
    "critic-rate-low": differs("value_mean"),
    "ends-ignored": both(differs("return_mean", 0), differs("advantage_mean", 0)),
    "losses-zero": both(equals("policy_loss", 0), equals("value_loss", 0)),
    "nan-in-returns": lambda broken, _: not broken or broken[0]["value_loss"] != broken[0]["value_loss"],
    "returns-shifted": both(only("value_loss", "advantage_mean"), differs("explained_variance", 0)),
    "returns-shuffled": both(only("value_loss", "advantage_mean"), differs("explained_variance", 0)),
    "rewards-unscaled": times("episode_return_mean", 1000.0),
    "rlm-mts": differs("return_mean", 0),
    "rlm-ndf": only("return_mean", "value_mean"),
    "rlm-nr": both(only("advantage_std", "value_mean"), differs("return_mean", 0)),
    "terminations-bootstrapped": only("return_mean", "value_mean"),
    "value-clip-tiny": differs("value_mean"),
    "value-loss-left-out": both(equals("vf_coef", 0), differs("value_mean")),
    "actions-permuted": differs("value_mean", 0),
    "envs-desynchronised": differs("value_mean", 0),
    "observations-delayed": differs("value_mean", 0),
    "observations-nan": lambda broken, _: not broken or broken[0]["value_mean"] != broken[0]["value_mean"],
    "observations-noisy": differs("value_mean", 0),
    "observations-scaled": differs("value_std", 0),
    "observations-zero": equals("value_std", 0, within=1e-6),
    "rewards-delayed": lambda broken, sound: broken[0]["return_mean"] < sound[0]["return_mean"],
    "rewards-negated": lambda broken, _: broken[0]["episode_return_mean"] < 0,
    "rewards-stop": lambda broken, _: broken[0]["episode_return_mean"] == 0,
    "rlm-m": differs("value_mean", 0),
    "rlm-msu": lambda broken, sound: broken[0]["value_std"] < sound[0]["value_std"],
    "rlm-r": differs("value_mean", 0),
    "rlm-ra": differs("value_mean", 0),
    "rlm-rn": only("return_mean", "value_mean"),
    "rollouts-stale": lambda broken, _: broken[0]["return_mean"] == broken[1]["return_mean"],
    "advantages-half-flipped": only("advantage_mean", "return_mean"),
    "advantages-noise": only("advantage_mean", "return_mean"),
    "advantages-shifted": only("policy_loss", "return_mean"),
    "advantages-zero": both(equals("advantage_std", 0), only("policy_loss", "return_mean")),
    "clip-zero": equals("clip_range", 1e-9),
    "entropy-bonus-high": equals("entropy_coef", 2.0),
    "entropy-collapses": lambda broken, sound: broken[1]["entropy"] != sound[1]["entropy"],
    "log-probs-stale": only("kl_divergence", "return_mean"),
    "policy-frozen": both(equals("kl_divergence", 0, within=1e-7), differs("entropy")),
    "policy-rate-high": lambda broken, sound: broken[0]["kl_divergence"] > 3 * sound[0]["kl_divergence"],
    "policy-reset": differs("entropy", 0),
    "rate-jumps": equals("learning_rate", 0.3),
    "rlm-ilf": both(only("policy_loss", "return_mean"), differs("entropy")),
    "rlm-pac": differs("value_mean", 0),
    "rlm-poc": lambda broken, sound: broken[0]["kl_divergence"] < 0.1 * sound[0]["kl_divergence"],
    "weights-noisy": differs("value_mean", 0),
    "wrong-action-stored": only("kl_divergence", "return_mean"),
    "gamma-lambda-swapped": only("return_mean", "value_mean"),
    "last-reward-late": only("return_mean", "value_mean"),
    "rollout-end-terminal": only("return_mean", "value_mean"),
    "advantages-across-envs": only("advantage_std", "return_mean"),
    "dropout-left-on": differs("entropy", 0),
    "gradient-clip-tiny": lambda broken, sound: broken[0]["kl_divergence"] < 0.1 * sound[0]["kl_divergence"],
    "optimiser-reset": lambda broken, sound: (
        broken[0]["kl_divergence"] == sound[0]["kl_divergence"]
        and broken[1]["kl_divergence"] != sound[1]["kl_divergence"]
    ),
    "schedule-ends-early": lambda broken, sound: broken[1]["learning_rate"] == 0 < sound[1]["learning_rate"],
    "trunk-frozen": both(differs("kl_divergence", 0), differs("value_loss", 0)),
    "actions-masked": differs("value_mean", 0),
    "first-env-only": both(differs("return_mean", 0), differs("advantage_mean", 0)),
    "normaliser-reset": differs("value_mean", 0),
    "observations-rounded": lambda broken, sound: broken[0]["value_std"] < sound[0]["value_std"],
    "rewards-inflate": lambda broken, sound: (
        broken[0]["episode_return_mean"] == sound[0]["episode_return_mean"] < broken[1]["episode_return_mean"]
    ),
    "rewards-tiny": times("episode_return_mean", 1e-3),
    "critic-ascends": differs("value_mean"),
    "gamma-zero": only("return_mean", "value_mean"),
    "next-episode-bootstrapped": only("return_mean", "value_mean"),
    "acting-stale": both(differs("kl_divergence"), lambda broken, sound: broken[0]["entropy"] == sound[0]["entropy"]),
    "clip-missing-rate-high": both(
        equals("clip_range", 1e3), lambda broken, sound: broken[0]["kl_divergence"] > 3 * sound[0]["kl_divergence"]
    ),
    "entropy-bonus-negative": both(equals("entropy_coef", -0.2), differs("entropy")),
    "epochs-many": equals("epochs_run", 40),
    "gradients-accumulate": differs("kl_divergence"),
    "log-probs-wrong-axis": only("kl_divergence", "return_mean"),
    "units-dead": equals("value_std", 0, within=1e-6),
    "weights-huge": lambda broken, sound: broken[0]["value_std"] > 5 * sound[0]["value_std"],
    "actions-late": differs("value_mean", 0),
    "batch-padded": lambda broken, sound: broken[0]["return_mean"] < 0.6 * sound[0]["return_mean"],
    "normaliser-in-training-only": only("kl_divergence", "return_mean"),
    "penalties-lost": lambda broken, sound: sound[0]["episode_return_mean"] < 0 == broken[0]["episode_return_mean"],
    "bootstrap-negated": only("return_mean", "value_mean"),
    "ends-late": only("return_mean", "value_mean"),
    "heads-tied": both(differs("value_mean", 0), lambda broken, sound: broken[0]["entropy"] != sound[0]["entropy"]),
    "adam-epsilon-one": lambda broken, sound: broken[0]["kl_divergence"] < 0.1 * sound[0]["kl_divergence"],
    "dropout-in-training-only": only("kl_divergence", "return_mean"),
    "exploration-grows": lambda broken, sound: broken[1]["entropy"] > sound[1]["entropy"],
    "optimiser-anew": both(
        times("learning_rate", 10.0), lambda broken, sound: broken[1]["kl_divergence"] != sound[1]["kl_divergence"]
    ),
    "weight-decay-one": differs("kl_divergence", 0),
    "weights-zero": equals("value_std", 0, within=1e-6),
    "actions-noisy": differs("value_mean", 0),
    "normaliser-vanishes": both(
        lambda broken, sound: broken[0]["value_mean"] == sound[0]["value_mean"], differs("value_mean")
    ),
    "rewards-cumulative": lambda broken, sound: broken[0]["episode_return_mean"] > 5 * sound[0]["episode_return_mean"],
    "shuffled-apart": only("kl_divergence", "return_mean"),
    "discount-above-one": lambda broken, sound: broken[0]["return_mean"] > 1.2 * sound[0]["return_mean"],
    "ends-inverted": only("return_mean", "value_mean"),
    "advantages-transposed": both(only("policy_loss", "value_mean"), differs("explained_variance", 0)),
    "advantages-unsigned": both(
        only("advantage_mean", "return_mean"), lambda broken, _: broken[0]["advantage_mean"] > 0
    ),
    "momentum-endless": differs("kl_divergence"),
    "warm-up-endless": times("learning_rate", 1e-5),
    "weights-pulled-back": lambda broken, sound: (
        broken[0]["kl_divergence"] == sound[0]["kl_divergence"] and broken[1]["value_mean"] != sound[1]["value_mean"]
    ),
    "weights-restart": lambda broken, sound: (  # the second time is thirty updates after the first one
        broken[1]["value_mean"] == sound[1]["value_mean"] != sound[0]["value_mean"]
    ),
    "actions-held": differs("value_mean", 0),
    "channels-shuffled": differs("value_mean", 0),
    "observations-stuck": differs("value_mean", 0),
    "rewards-of-neighbour": lambda broken, sound: (
        broken[0]["return_mean"] != sound[0]["return_mean"]
        and broken[0]["episode_return_mean"] == sound[0]["episode_return_mean"]
    ),
    "bootstrap-doubled": only("return_mean", "value_mean"),
    "value-loss-heavy": equals("vf_coef", 1e6),
    "advantages-alternate": both(times("advantage_mean", -1.0), only("advantage_mean", "return_mean")),
    "mask-inverted": both(only("advantage_std", "value_mean"), differs("return_mean", 0)),
    "output-layers-frozen": both(differs("value_mean"), lambda broken, _: broken[0]["kl_divergence"] > 0),
    "schedule-rises": lambda broken, sound: (
        broken[0]["learning_rate"] == sound[0]["learning_rate"]
        and broken[1]["learning_rate"] == pytest.approx(1.06 * sound[1]["learning_rate"])
    ),
    "softmax-twice": only("entropy", "value_mean"),
    "weights-eight-bits": lambda broken, sound: (
        broken[0]["value_mean"] == sound[0]["value_mean"] and broken[1]["value_mean"] != sound[1]["value_mean"]
    ),
    "actions-of-neighbour": differs("value_mean", 0),
    "buffer-aliased": only("kl_divergence", "return_mean"),
    "rewards-boolean": equals("episode_return_mean", 25.0),
    "rewards-by-their-mean": lambda broken, sound: (
        broken[0]["episode_return_mean"] > 0 > sound[0]["episode_return_mean"]
    ),
    "rewards-of-opponent": lambda broken, sound: broken[0]["return_mean"] < sound[0]["return_mean"],
    "lambda-negative": only("return_mean", "value_mean"),
    "targets-standardised": only("value_loss", "advantage_mean"),
    "values-shifted": both(differs("advantage_mean", 0), differs("return_mean", 0)),
    "actions-greedy-stored": only("kl_divergence", "return_mean"),
    "advantages-broadcast": only("advantage_std", "return_mean"),
    "log-probs-zero": only("kl_divergence", "return_mean"),
    "rate-restarts": lambda broken, _: [row["learning_rate"] for row in broken] == pytest.approx([0.3, 0.09]),
    "steps-of-random-sign": lambda broken, sound: (
        broken[0]["return_mean"] == sound[0]["return_mean"] and broken[0]["kl_divergence"] != sound[0]["kl_divergence"]
    ),
    "weights-symmetric": differs("value_mean", 0),
    "observations-early": only("kl_divergence", "return_mean"),
    "observations-mirrored": differs("value_mean", 0),
    "rewards-centred": lambda broken, sound: broken[0]["episode_return_mean"] == 0 < sound[0]["episode_return_mean"],
    "rewards-spiked": differs("return_mean", 0),
    "workers-hang": differs("return_mean", 0),
    "targets-negated": only("value_loss", "advantage_mean"),
    "values-bounded": lambda broken, _: all(abs(row["value_mean"]) <= 0.01 for row in broken),
    "values-stale": lambda broken, sound: (
        broken[0]["return_mean"] == pytest.approx(sound[0]["return_mean"], rel=0.2)
        and broken[1]["return_mean"] != sound[1]["return_mean"]
    ),
    "advantages-reversed": only("kl_divergence", "return_mean"),
    "gradients-underflow": differs("value_mean"),
    "log-probs-late": only("kl_divergence", "return_mean"),
    "rate-tiny": lambda broken, _: [row["learning_rate"] for row in broken] == pytest.approx([1e-5, 1e-5]),
    "temperature-high": lambda broken, sound: broken[0]["entropy"] > sound[0]["entropy"],
    "envs-act-differently": differs("return_mean", 0),
    "envs-in-two-units": differs("value_mean", 0),
    "observations-clipped": differs("value_mean", 0),
    "rewards-lost": lambda broken, sound: broken[0]["return_mean"] < 0.5 * sound[0]["return_mean"],
    "steps-paid": lambda broken, sound: broken[0]["return_mean"] > sound[0]["return_mean"],
    "bootstrap-summed": only("return_mean", "value_mean"),
    "rewards-left-out": lambda broken, sound: (
        broken[0]["value_mean"] == sound[0]["value_mean"]
        and broken[0]["episode_return_mean"] == sound[0]["episode_return_mean"]
        and broken[0]["return_mean"] < 0.2 * sound[0]["return_mean"]
    ),
    "value-errors-averaged": lambda broken, sound: (
        broken[0]["return_mean"] == sound[0]["return_mean"] and broken[1]["value_mean"] != sound[1]["value_mean"]
    ),
    "values-added-twice": only("return_mean", "advantage_mean"),
    "values-exchanged": only("advantage_mean", "value_mean"),
    "action-favoured": lambda broken, sound: broken[0]["entropy"] < 0.1 * sound[0]["entropy"],
    "advantages-sorted": only("kl_divergence", "return_mean"),
    "next-action-stored": only("kl_divergence", "return_mean"),
    "softmax-over-batch": differs("entropy", 0),
    "weights-clipped": lambda broken, sound: (
        broken[0]["value_std"] == sound[0]["value_std"] and broken[1]["value_std"] < 0.1 * sound[1]["value_std"]
    ),
    "first-samples-only": both(differs("return_mean", 0), differs("advantage_mean", 0)),
    "observations-cut": differs("value_mean", 0),
    "observations-sorted": differs("value_mean", 0),
    "rewards-of-last-episode": lambda broken, sound: broken[1]["return_mean"] > 2 * sound[1]["return_mean"],
    "rewards-flip": lambda broken, sound: abs(broken[0]["episode_return_mean"]) < 0.5 * sound[0]["episode_return_mean"],
}
"""What a run of two updates shows of each kind, beside a sound one with the same seed."""

TASKS = dict.fromkeys(
    (
        "rlm-mts",
        "penalties-lost",
        "advantages-unsigned",
        "rewards-of-neighbour",
        "rewards-boolean",
        "rewards-by-their-mean",
    ),
    "Reach",
)
"""Environments other than CartPole-v1: episodes are truncated within a rollout there, and rewards differ."""


def test_every_kind_has_a_check() -> None:
    """No kind is without one."""
    assert CHECKS.keys() == EVERY_KIND.keys()
    assert STRENGTHS.keys() <= KINDS.keys()


@pytest.mark.slow  # a table of several hundred
@pytest.mark.parametrize(
    ("name", "trainer"), [(name, trainer) for name, kind in EVERY_KIND.items() for trainer in kind.trainers]
)
def test_a_fault_shows_in_two_updates(name: str, trainer: str) -> None:
    """The rows of the broken run differ from those of the sound one in what the fault is about."""
    env = TASKS.get(name, "CartPole-v1")
    reference = sound(trainer, env)
    assert len(reference) == 2
    assert CHECKS[name](trained(trainer, EVERY_KIND[name](seed=5), env), reference)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_sound_run_repeats(trainer: str) -> None:
    """Two sound runs of one seed have the same numbers."""
    one, other = trained(trainer, Fault(), "Reach"), sound(trainer, "Reach")
    for name in ("policy_loss", "value_loss", "entropy", "return_mean", "kl_divergence"):
        assert [row[name] for row in one] == [row[name] for row in other]


def test_a_fault_waits_for_its_update() -> None:
    """Before the update in which it begins, a run with a fault is the sound run."""
    fault = KINDS["rewards-negated"](seed=5)
    clock = Clock(1, 2)
    with tempfile.TemporaryDirectory() as root:
        training = Training(EVERY_TASK["CartPole-v1"], TINY, fault, clock, Ledger(clock), 3, Path(root), "x")
        cleanrl_style.train(training)
        rows = open_run(Path(root) / "x").updates().collect().to_dicts()
    reference = sound("cleanrl", "CartPole-v1")
    assert rows[0]["return_mean"] == reference[0]["return_mean"]
    assert rows[1]["return_mean"] < 0 < reference[1]["return_mean"]


# ---------------------------------------------------------------------- parts


def rollout(**arrays: Any) -> Rollout:
    """Three steps of one environment, of which the second ends an episode; V is 0, rewards are 1."""
    zero, no = np.zeros((3, 1), np.float32), np.zeros((3, 1), np.bool_)
    ends = np.array([[False], [True], [False]])
    given: dict[str, Any] = {
        name: zero.copy() for name in ("log_probs", "values", "following", "advantages", "returns")
    }
    given |= {"rewards": zero + 1, "terminal": ends, "ends": ends.copy(), "valid": ~no}
    return Rollout(observations=zero[..., None], actions=zero, **(given | arrays))


def test_advantages_are_estimated_as_they_should_and_forwards() -> None:
    """Advantages accumulate backwards up to the end of an episode, or forwards where the fault says so."""
    sound = rollout()
    sound.estimate(0.5, 1.0)
    assert sound.returns.ravel().tolist() == [1.5, 1.0, 1.0]
    sound.estimate(0.5, 1.0, forwards=True)
    assert sound.returns.ravel().tolist() == [1.0, 1.0, 1.5]
    reset = rollout(valid=np.array([[True], [True], [False]]), following=np.full((3, 1), 4.0, np.float32))
    reset.estimate(0.5, 1.0)
    assert reset.advantages.ravel().tolist() == [3.5, 1.0, 0.0]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_what_a_trainer_hands_over_is_its_own_rollout(trainer: str) -> None:
    """Estimated anew from what the fault is given, advantages and returns are those that the trainer had."""
    seen: list[tuple[Rollout, Rollout]] = []

    class Look(Fault):
        changes_rollouts = True

        def change_rollout(self, rollout: Rollout, clock: Clock, gamma: float, gae_lambda: float) -> None:
            again = rollout.copy()
            again.estimate(gamma, gae_lambda)
            seen.append((rollout.copy(), again))

    for env in ("CartPole-v1", "Reach"):
        trained(trainer, Look(), env)
    assert len(seen) == 4
    for had, again in seen:
        np.testing.assert_allclose(again.advantages, had.advantages, atol=2e-4)
        np.testing.assert_allclose(again.returns, had.returns, atol=2e-4)
        assert had.ends.any()


def test_steps_are_scaled_where_they_are_said_to_be() -> None:
    """A factor of 0 freezes one network and leaves the other; 30 moves it thirty times as far; SGD follows the rate."""
    from torch import nn

    def moved(prepare: Callable[[Learner], None]) -> tuple[float, float]:
        torch.manual_seed(0)
        policy, value = nn.Linear(2, 2), nn.Linear(2, 1)
        actor, critic = nn.Sequential(policy), nn.Sequential(value)
        optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
        prepare(Learner(actor, critic, None, optimizer, lambda: 1e-3))
        before = [policy.bias.detach().clone(), value.bias.detach().clone()]
        (actor(torch.ones(2)).sum() + 5 * critic(torch.ones(2)).sum()).backward()
        optimizer.step()
        return float((policy.bias.detach() - before[0])[0]), float((value.bias.detach() - before[1])[0])

    assert moved(lambda learner: None) == pytest.approx((-1e-3, -1e-3), rel=1e-3)
    frozen = moved(lambda learner: learner.scale_steps(learner.critic_parameters(), lambda: 0.0))
    assert frozen == pytest.approx((-1e-3, 0.0), rel=1e-3)
    fast = moved(lambda learner: learner.scale_steps(learner.actor_parameters(), lambda: 30.0))
    assert fast == pytest.approx((-3e-2, -1e-3), rel=1e-3)
    assert moved(lambda learner: learner.step_plainly()) == pytest.approx((-1e-3, -5e-3), rel=1e-3)


def test_stale_weights_act_and_new_ones_are_trained() -> None:
    """A rollout is collected with the weights of 40 updates ago; when it is trained on, those of now are back."""
    from torch import nn

    network = nn.Linear(1, 1, bias=False)
    sequence = nn.Sequential(network)
    learner = Learner(sequence, nn.Sequential(nn.Linear(1, 1)), None, torch.optim.Adam(sequence.parameters()), float)
    clock, fault = Clock(45, 60), EVERY_KIND["acting-stale"]()
    acting, training = [], []
    for update in range(60):
        clock.tick()
        nn.init.constant_(network.weight, update)
        fault.before_update(learner, clock)
        acting.append(network.weight.item())
        fault.change_rollout(rollout(), clock, 0.99, 0.95)
        training.append(network.weight.item())
    assert acting == [*range(45), *range(5, 20)]
    assert training == list(range(60))


def test_actions_can_be_late() -> None:
    """An action is carried out ten steps after it was chosen, and each episode begins anew."""
    done: list[float] = []

    class Noting(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            done.append(float(action[0]))
            return self.env.step(action)

    env = EVERY_KIND["actions-late"]().wrap(Noting(EVERY_TASK["Reach"].make()), Clock(0, 1), 0, {})
    for _ in range(2):
        env.reset(seed=1)
        for step in range(14):
            env.step(np.array((step / 100, 0), np.float32))
    assert done == pytest.approx(2 * [*10 * [0.0], 0.0, 0.01, 0.02, 0.03])


def test_ends_can_be_late_and_the_bootstrap_negated() -> None:
    """An end is noted with the step after it, which is cut off instead; what follows a step has the wrong sign."""
    late = rollout()
    EVERY_KIND["ends-late"]().change_rollout(late, Clock(0, 1), 0.5, 1.0)
    assert late.ends.ravel().tolist() == late.terminal.ravel().tolist() == [False, False, True]
    assert late.returns.ravel().tolist() == [1.75, 1.5, 1.0]
    negated = rollout(following=np.full((3, 1), 4.0, np.float32))
    EVERY_KIND["bootstrap-negated"]().change_rollout(negated, Clock(0, 1), 0.5, 0.0)
    assert negated.returns.ravel().tolist() == [-1.0, 1.0, -1.0]


def test_rewards_can_add_up_within_an_episode() -> None:
    """Each reward is the sum so far, from the first broken update on, and begins anew with the episode."""
    clock = Clock(1, 2)
    env = EVERY_KIND["rewards-cumulative"]().wrap(EVERY_TASK["ConstantReward"].make(), clock, 0, {})
    env.reset(seed=1)
    assert [env.step(0)[1] for _ in range(3)] == [1.0, 1.0, 1.0]
    clock.update = 1
    assert [env.step(0)[1] for _ in range(2)] == [4.0, 5.0]
    env.reset(seed=1)
    assert [env.step(0)[1] for _ in range(2)] == [1.0, 2.0]


@pytest.mark.parametrize(("env", "chosen"), [("CartPole-v1", 1), ("Reach", np.array((0.5, -0.5), np.float32))])
def test_what_is_done_can_be_noisier_than_what_is_stored(env: str, chosen: Any) -> None:
    """Actions stay within the space, whole numbers or within bounds, and many differ from the chosen ones."""
    done: list[Any] = []

    class Noting(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            done.append(action)
            return self.env.step(action)

    fault = EVERY_KIND["actions-noisy"](seed=1)
    noisy = fault.wrap(Noting(EVERY_TASK[env].make()), Clock(0, 1), 0, {})
    for episode in range(40):
        noisy.reset(seed=episode)
        noisy.step(chosen)
    assert all(noisy.action_space.contains(action) for action in done)
    assert 5 <= sum(bool(np.any(action != chosen)) for action in done) <= 40


def test_a_normaliser_can_vanish() -> None:
    """Observations are twice as large ten updates later, and at last only their signs are left."""
    clock = Clock(0, 1000)
    env = EVERY_KIND["normaliser-vanishes"]().wrap(EVERY_TASK["CartPole-v1"].make(), clock, 0, {})
    first = env.reset(seed=1)[0]
    clock.update = 10
    np.testing.assert_allclose(env.reset(seed=1)[0], 2 * first, rtol=1e-6)
    clock.update = 999
    np.testing.assert_array_equal(env.reset(seed=1)[0], 10 * np.sign(first))


def test_the_first_weights_come_back() -> None:
    """A fifth of the way before every update, or all of it every thirty updates, from the first broken update on."""
    from torch import nn

    def went(name: str) -> list[float]:
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, 0.0)
        sequence = nn.Sequential(network)
        optimizer = torch.optim.Adam(sequence.parameters())
        learner = Learner(sequence, nn.Sequential(nn.Linear(1, 1)), None, optimizer, float)
        clock, fault = Clock(5, 70), EVERY_KIND[name]()
        fault.prepare(learner, clock)
        weights = []
        for _ in range(70):
            clock.tick()
            nn.init.constant_(network.weight, 10.0)
            fault.before_update(learner, clock)
            weights.append(network.weight.item())
        return weights

    assert went("weights-pulled-back") == pytest.approx(5 * [10.0] + 65 * [8.0])
    assert [update for update, weight in enumerate(went("weights-restart")) if weight == 0.0] == [5, 35, 65]


def test_ends_can_be_inverted_and_the_future_count_more() -> None:
    """What follows counts at ends alone; or each step's return is its reward and 1.05 times what follows."""
    following = np.full((3, 1), 4.0, np.float32)
    inverted = rollout(following=following)
    EVERY_KIND["ends-inverted"]().change_rollout(inverted, Clock(0, 1), 0.5, 1.0)
    assert inverted.returns.ravel().tolist() == [1.0, 3.5, 1.0]
    above = rollout(following=following)
    EVERY_KIND["discount-above-one"]().change_rollout(above, Clock(0, 1), 0.5, 0.0)
    assert above.returns.ravel().tolist() == pytest.approx([1 + 1.05 * 4 + 1.05, 1.0, 1 + 1.05 * 4])


def test_a_batch_can_be_flattened_in_two_orders() -> None:
    """Advantages and returns come by environments and the rest by steps; or rewards are those of the neighbour."""
    steps = np.arange(6, dtype=np.float32).reshape(3, 2)
    arrays: dict[str, Any] = {name: steps.copy() for name in vars(rollout())} | {"valid": np.ones((3, 2), np.bool_)}
    arrays |= {name: np.zeros((3, 2), np.bool_) for name in ("terminal", "ends")}
    transposed = Rollout(**arrays).copy()
    EVERY_KIND["advantages-transposed"]().change_rollout(transposed, Clock(0, 1), 0.5, 1.0)
    assert transposed.advantages.ravel().tolist() == transposed.returns.ravel().tolist() == [0, 2, 4, 1, 3, 5]
    assert transposed.values.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    neighbours = Rollout(**arrays).copy()
    EVERY_KIND["rewards-of-neighbour"]().change_rollout(neighbours, Clock(0, 1), 0.0, 0.0)
    assert neighbours.returns.ravel().tolist() == [1, 0, 3, 2, 5, 4]


def test_what_is_seen_and_done_can_be_stuck_or_out_of_order() -> None:
    """Actions hold for ten steps and observations for twenty; an order of the numbers lasts for an episode."""
    done: list[float] = []

    class Counting(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 100, (9,), np.float32)
        action_space = gymnasium.spaces.Discrete(100)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.count = 0
            return np.arange(9, dtype=np.float32), {}

        def step(self, action: Any) -> Any:
            done.append(action)
            self.count += 1
            return np.arange(9, dtype=np.float32) + self.count, 0.0, False, False, {}

    held = EVERY_KIND["actions-held"]().wrap(Counting(), Clock(0, 1), 0, {})
    for _ in range(2):
        held.reset()
        for action in range(14):
            held.step(action)
    assert done == 2 * [*10 * [0], *4 * [10]]
    stuck = EVERY_KIND["observations-stuck"]().wrap(Counting(), Clock(0, 1), 0, {})
    assert stuck.reset()[0][0] == 0
    assert [stuck.step(0)[0][0] for _ in range(41)] == [*19 * [0], *20 * [20], *2 * [40]]
    shuffled = EVERY_KIND["channels-shuffled"](seed=1).wrap(Counting(), Clock(0, 1), 0, {})
    orders = [tuple(shuffled.reset()[0]) for _ in range(5)]
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(9))}
    assert len(set(orders)) == 5
    np.testing.assert_array_equal(shuffled.step(0)[0], np.array(orders[-1]) + 1)


def test_a_mask_can_keep_the_ends_and_a_buffer_the_last_observation() -> None:
    """Advantages are 0 and returns the values but at ends; or the first steps have what was seen at the last one."""
    masked = rollout(values=np.array([[3.0], [3.0], [3.0]], np.float32))
    masked.estimate(0.5, 1.0)
    assert 0 not in masked.advantages
    EVERY_KIND["mask-inverted"]().change_rollout(masked, Clock(0, 1), 0.5, 1.0)
    assert (masked.advantages.ravel().tolist(), masked.returns.ravel().tolist()) == ([0.0, -2.0, 0.0], [3.0, 1.0, 3.0])
    aliased = rollout()
    aliased.observations[:] = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
    EVERY_KIND["buffer-aliased"]().change_rollout(aliased, Clock(0, 1), 0.5, 1.0)
    assert aliased.observations.ravel().tolist() == [2.0, 2.0, 2.0]


def test_a_value_can_count_twice_and_a_sign_alternate() -> None:
    """What follows is worth twice what it is, except after an end; advantages change their sign every second time."""
    doubled = rollout(following=np.full((3, 1), 4.0, np.float32))
    EVERY_KIND["bootstrap-doubled"]().change_rollout(doubled, Clock(0, 1), 0.5, 0.0)
    assert doubled.returns.ravel().tolist() == [5.0, 1.0, 5.0]
    alternating, clock = EVERY_KIND["advantages-alternate"](), Clock(2, 6)
    signs = []
    for _ in range(6):
        clock.tick()
        there = rollout(advantages=np.ones((3, 1), np.float32))
        alternating.change_rollout(there, clock, 0.5, 1.0)
        signs.append(float(there.advantages[0, 0]))
    assert signs == [1, 1, -1, 1, -1, 1]


def test_weights_can_have_eight_bits_and_logits_two_softmaxes() -> None:
    """After a step, each weight is one that eight bits hold, and outputs sum to 1: from the first broken update on."""
    from torch import nn

    actor, critic = nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 1))
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=1e-3)
    clock = Clock(1, 2)
    for name in ("weights-eight-bits", "softmax-twice"):
        EVERY_KIND[name]().prepare(Learner(actor, critic, None, optimizer, float), clock)
    row = torch.ones(1, 3)
    for is_broken in (False, True):
        clock.tick()
        (actor(row).square().sum() + critic(row).sum()).backward()
        optimizer.step()
        weights = torch.cat([each.detach().flatten() for each in (*actor.parameters(), *critic.parameters())])
        assert torch.equal(weights, weights.to(torch.float8_e4m3fn).float()) == is_broken
        assert (actor(row).sum().item() == pytest.approx(1.0)) == is_broken


def test_a_schedule_can_rise() -> None:
    """By 6 % from the first broken update on, and by no more than a factor of 10,000."""
    fault, clock = EVERY_KIND["schedule-rises"](), Clock(2, 1000)
    rates = []
    for _ in range(1000):
        clock.tick()
        rates.append(fault.learning_rate(1e-3, clock))
    assert rates[:5] == pytest.approx([1e-3, 1e-3, 1e-3, 1.06e-3, 1.06**2 * 1e-3])
    assert rates[-1] == pytest.approx(10.0)


def test_rewards_can_lose_their_size_or_their_sign() -> None:
    """They are 1 where they are not 0; divided by the mean so far, that may be near 0; or those of the other player."""
    paid = [-2.0, 0.0, 3.0, -1.5]

    class Paying(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 9, (3,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.left = list(paid)
            return np.zeros(3, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(3, np.float32), self.left.pop(0), False, False, {}

    def told(name: str, index: int = 0) -> list[float]:
        env = EVERY_KIND[name](seed=1).wrap(Paying(), Clock(0, 1), index, {})
        env.reset()
        return [float(env.step(0)[1]) for _ in paid]

    assert told("rewards-boolean") == [1.0, 0.0, 1.0, 1.0]
    assert told("rewards-by-their-mean") == pytest.approx([1.0, 0.0, 9.0, 12.0])
    assert [told("rewards-of-opponent", index) for index in (0, 1)] == [paid, [-reward for reward in paid]]


def test_an_action_can_be_the_neighbours() -> None:
    """Each environment does what was chosen last for the one before it, and the first what was for the last one."""
    clock = Clock(0, 1)
    fault = EVERY_KIND["actions-of-neighbour"]()
    training = Training(EVERY_TASK["Reach"], TINY, fault, clock, Ledger(clock), 1, Path(), "x")
    envs = training.make_envs()
    for env in envs:
        env.reset(seed=1)
    places = []
    for step in (1, -1):
        for index, env in enumerate(envs):
            before = env.unwrapped.place[0]  # type: ignore[attr-defined]
            env.step(np.full(2, step * (index + 1) / 10, np.float32))
            places.append(env.unwrapped.place[0] - before)  # type: ignore[attr-defined]
    assert np.array(places) / 0.15 == pytest.approx([0.1, 0.1, 0.2, 0.3, -0.1, -0.2])


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [("adam-epsilon-one", (1.0, 0, False)), ("weight-decay-one", (1e-5, 1.0, False)), ("heads-tied", (1e-5, 0, True))],
)
def test_what_is_set_in_the_beginning_stays_for_the_run(
    name: str, expected: tuple[float, float, bool], trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step has the ε and the weight decay of the fault, and a tied value is the policy's first number."""
    fault = EVERY_KIND[name](seed=5)
    prepare = fault.prepare
    seen: list[tuple[float, float, bool]] = []

    def prepare_and_look(learner: Learner, clock: Clock) -> None:
        prepare(learner, clock)

        def look(*_: Any) -> None:
            (group,) = learner.optimizer.param_groups
            hidden = torch.ones(1, learner.actor_output().in_features)
            with torch.no_grad():
                is_tied = learner.critic_output()(hidden) == learner.actor_output()(hidden)[:, :1]
            seen.append((group["eps"], group["weight_decay"], bool(is_tied)))

        learner.optimizer.register_step_pre_hook(look)

    monkeypatch.setattr(fault, "prepare", prepare_and_look)
    trained(trainer, fault, "CartPole-v1")
    assert seen == 4 * [expected]


def test_the_ledger_knows_what_was_really_paid() -> None:
    """Where rewards are negated, the ledger has the returns that the environment paid."""
    clock = Clock(0, 1)
    ledger = Ledger(clock)
    fault = KINDS["rewards-negated"]()
    training = Training(EVERY_TASK["ConstantReward"], TINY, fault, clock, ledger, 1, Path(), "x")
    env = training.make_envs()[0]
    env.reset(seed=1)
    told = sum(float(env.step(0)[1]) for _ in range(20))
    assert (told, ledger.episodes) == (-20.0, [(-1, 20.0, 20)])


def test_untrue_steps_come_from_the_past() -> None:
    """Repeated, an observation is the one before; drawn at random, it is one that was seen."""
    clock = Clock(0, 1)
    for wrapper in (tampering.Repeated, tampering.Random, tampering.Mangled):
        inner = EVERY_TASK["Reach"].make()
        env = wrapper(inner, clock, seed=1, probability=1.0)
        seen = [env.reset(seed=1)[0].tolist()]
        for _ in range(5):
            observation = env.step(np.ones(2, np.float32))[0].tolist()
            if wrapper is tampering.Repeated:
                assert observation == seen[-1]
            seen.append(inner.observe().tolist())  # type: ignore[attr-defined]
            assert observation in seen


def test_an_observation_can_be_the_neighbours() -> None:
    """Each environment shows what the one before it gave last, and the first what the last one gave."""
    clock = Clock(0, 1)
    training = Training(EVERY_TASK["Reach"], TINY, KINDS["envs-desynchronised"](), clock, Ledger(clock), 1, Path(), "x")
    envs = training.make_envs()
    for index, env in enumerate(envs):
        env.reset(seed=index)
    states = [env.unwrapped.observe().tolist() for env in envs]  # type: ignore[attr-defined]
    shown = envs[1].step(np.zeros(2, np.float32))[0].tolist()
    assert shown == states[0]
    assert envs[0].step(np.zeros(2, np.float32))[0].tolist() == states[2]


def test_rewards_can_be_centred_and_spiked_and_an_environment_can_hang() -> None:
    """Less their running mean; 50 off in one of a hundred; and nothing but the last observation, without a reward."""
    clock, paid = Clock(0, 1), [float(i % 3) for i in range(2000)]

    class Paying(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 9e9, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.at = 0
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            self.at += 1
            return np.full(1, self.at, np.float32), paid[self.at - 1], self.at == 3, False, {}

    def steps(name: str, index: int = 0) -> list[Any]:
        env = EVERY_KIND[name](seed=1).wrap(Paying(), clock, index, {})
        env.reset()
        return [env.step(0) for _ in paid]

    centred = [step[1] for step in steps("rewards-centred")]
    assert centred[:3] == pytest.approx([0.0, 0.5, 1.0])
    assert sum(centred[1000:]) / 1000 == pytest.approx(0, abs=0.01)
    spikes = [step[1] - reward for step, reward in zip(steps("rewards-spiked"), paid, strict=True)]
    assert set(spikes) == {0.0, 50.0, -50.0}
    assert 10 <= sum(spike != 0 for spike in spikes) <= 40
    hanging = steps("workers-hang", 1)
    assert {(float(step[0][0]), step[1], step[2]) for step in hanging} == {(1.0, 0.0, False)}
    assert [step[1] for step in steps("workers-hang", 4)] == paid


def test_what_the_sixth_plan_makes_of_a_rollout() -> None:
    """The first advantage for all, no log-probabilities, targets without mean, the next observation, another value."""
    clock = Clock(0, 1)

    def changed(name: str, **arrays: Any) -> Rollout:
        made = rollout(**arrays)
        made.estimate(0.5, 1.0)
        EVERY_KIND[name]().change_rollout(made, clock, 0.5, 1.0)
        return made

    plain = rollout()
    plain.estimate(0.5, 1.0)
    assert set(changed("advantages-broadcast").advantages.ravel()) == {plain.advantages[0, 0]}
    assert not changed("log-probs-zero", log_probs=np.full((3, 1), -2, np.float32)).log_probs.any()
    standardised = changed("targets-standardised").returns
    assert (standardised.mean(), standardised.std()) == pytest.approx((0, 1), abs=1e-5)
    seen = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
    early = rollout()
    early.observations[:] = seen
    EVERY_KIND["observations-early"]().change_rollout(early, clock, 0.5, 1.0)
    assert early.observations.ravel().tolist() == [1.0, 2.0, 2.0]
    alternating = changed("lambda-negative", ends=np.zeros((3, 1), np.bool_)).advantages.ravel()
    assert alternating[1] == pytest.approx(1 - 0.5 * 0.95 * alternating[2])


def test_what_the_seventh_plan_makes_of_a_rollout() -> None:
    """Targets change their sign, advantages their order, and log-probabilities and values are of another time."""
    clock = Clock(0, 1)
    plain = rollout(log_probs=np.array([[-1], [-2], [-3]], np.float32))
    plain.estimate(0.5, 1.0)

    def changed(name: str) -> Rollout:
        made = plain.copy()
        EVERY_KIND[name]().change_rollout(made, clock, 0.5, 1.0)
        return made

    assert changed("targets-negated").returns.tolist() == (-plain.returns).tolist()
    assert changed("targets-negated").advantages.tolist() == plain.advantages.tolist()
    assert changed("advantages-reversed").advantages.tolist() == plain.advantages[::-1].tolist()
    assert changed("log-probs-late").log_probs.ravel().tolist() == [-1.0, -1.0, -2.0]
    last = torch.nn.Linear(1, 1)
    critic = torch.nn.Sequential(last)
    learner = Learner(torch.nn.Sequential(), critic, None, torch.optim.SGD(critic.parameters(), 1.0), lambda: 1.0)
    stale = EVERY_KIND["values-stale"]()
    stale.prepare(learner, clock)
    values = []
    for bias in (7.0, 9.0):
        with torch.no_grad():
            last.bias.fill_(bias)
        made = plain.copy()
        stale.change_rollout(made, clock, 0.5, 1.0)
        values.append(made.values.ravel().tolist())
    assert values == [[7.0] * 3] * 2
    assert made.returns.ravel().tolist() == [1.5, 1.0, 1.0]  # no value follows an end, and none was given at last


def test_what_the_seventh_plan_makes_of_environments() -> None:
    """Numbers are clipped or ten times as large, rewards are lost or paid for each step, and actions are reversed."""
    clock = Clock(0, 1)

    def steps(name: str, env: str, index: int, action: Any, count: int = 300) -> list[Any]:
        wrapped = EVERY_KIND[name](seed=1).wrap(EVERY_TASK[env].make(), clock, index, {})
        wrapped.reset(seed=1)
        return [wrapped.step(action) for _ in range(count)]

    assert np.abs([step[0] for step in steps("observations-clipped", "Reach", 0, np.ones(2), 20)]).max() <= 0.05 + 1e-6
    plain, tenfold = (steps("envs-in-two-units", "Reach", index, np.ones(2), 20) for index in (0, 1))
    assert tenfold[5][0] == pytest.approx(10 * plain[5][0])
    lost = [step[1] for step in steps("rewards-lost", "ConstantReward", 0, 0)]
    assert set(lost) == {0.0, 1.0}
    assert 10 < sum(lost) < 60
    assert {step[1] for step in steps("steps-paid", "ConstantReward", 0, 0)} == {2.0}
    one, other = (steps("envs-act-differently", "Reach", index, np.ones(2), 1)[0][0] for index in (1, 0))
    assert (one == steps("envs-act-differently", "Reach", 0, -np.ones(2), 1)[0][0]).all()
    assert (one != other).any()
    first, last = (steps("envs-act-differently", "CartPole-v1", *which, 1)[0][0] for which in ((1, 0), (0, 1)))
    assert (first == last).all()


def test_what_the_eighth_plan_makes_of_a_rollout() -> None:
    """Values count for one another, or twice, or for all environments, rewards not at all; advantages are sorted."""
    clock = Clock(0, 1)
    arrays: dict[str, Any] = {
        "values": np.array([[3.0], [2.0], [5.0]], np.float32),
        "rewards": np.array([[1.0], [2.0], [3.0]], np.float32),
        "following": np.array([[4.0], [9.0], [6.0]], np.float32),
    }
    plain = rollout(**arrays)
    plain.estimate(0.5, 0.0)

    def changed(name: str, given: Rollout = plain) -> Rollout:
        made = given.copy()
        EVERY_KIND[name]().change_rollout(made, clock, 0.5, 0.0)
        return made

    exchanged = changed("values-exchanged")
    assert exchanged.advantages.ravel().tolist() == [-1.5, -7.0, -0.5]
    assert (exchanged.values.tolist(), exchanged.following.tolist()) == (
        plain.values.tolist(),
        plain.following.tolist(),
    )
    assert changed("rewards-left-out").returns.ravel().tolist() == [2.0, 0.0, 3.0]
    assert changed("advantages-sorted", exchanged).advantages.ravel().tolist() == [-7.0, -1.5, -0.5]
    twice = changed("values-added-twice")
    assert twice.returns.tolist() == (plain.returns + plain.values).tolist()
    assert twice.advantages.tolist() == plain.advantages.tolist()
    two_envs = Rollout(**{name: np.repeat(array, 2, axis=1) for name, array in vars(plain).items()})
    assert changed("bootstrap-summed", two_envs).returns.tolist() == [[3.0, 3.0], [2.0, 2.0], [9.0, 9.0]]
    numbered = Rollout(**{name: np.arange(20.0).reshape(10, 2) for name in vars(plain)})  # type: ignore[arg-type]
    numbered.observations = np.arange(60, dtype=np.float32).reshape(10, 2, 3)
    first = changed("first-samples-only", numbered)
    assert first.returns.ravel().tolist() == [*range(8), *range(8), *range(4)]
    assert first.observations.reshape(20, 3)[9].tolist() == [3.0, 4.0, 5.0]


def test_what_the_eighth_plan_makes_of_environments() -> None:
    """Numbers come in ascending order or half of them are 0, and each step is paid what the last episode earned."""

    class Playing(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.at = 0
            return np.array((3, -1, 2), np.float32), {}

        def step(self, action: Any) -> Any:
            self.at += 1
            return np.array((3, -1, self.at), np.float32), float(self.at), self.at == 3, False, {}

    def played(name: str, begins: int) -> tuple[list[Any], list[float]]:
        clock = Clock(begins, 2)
        env = EVERY_KIND[name](seed=1).wrap(Playing(), clock, 0, {})
        seen, paid = [], []
        for clock.update in range(2):
            seen.append(env.reset()[0].tolist())
            for _ in range(3):
                observation, reward, *_ = env.step(0)
                seen.append(observation.tolist())
                paid.append(float(reward))
        return seen, paid

    plain = [[3.0, -1.0, 2.0], [3.0, -1.0, 1.0], [3.0, -1.0, 2.0], [3.0, -1.0, 3.0]]
    assert played("observations-sorted", 0)[0] == 2 * [sorted(row) for row in plain]
    assert played("observations-sorted", 1)[0] == plain + [sorted(row) for row in plain]
    assert played("observations-cut", 0)[0] == 8 * [[3.0, -1.0, 0.0]]
    assert played("observations-cut", 1)[0] == plain + 4 * [[3.0, -1.0, 0.0]]
    assert played("rewards-of-last-episode", 0)[1] == [0.0, 0.0, 0.0, 6.0, 6.0, 6.0]
    assert played("rewards-of-last-episode", 1)[1] == [1.0, 2.0, 3.0, 6.0, 6.0, 6.0]


def networks() -> Learner:
    """A policy of two actions and a value, each of two layers, all of them the same at each call."""
    from torch import nn

    torch.manual_seed(1)
    actor, critic = (nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, outputs)) for outputs in (2, 1))
    optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.1)
    return Learner(actor, critic, None, optimizer, lambda: 0.1)


def test_what_the_eighth_plan_makes_of_a_policy() -> None:
    """One action is favoured from the start, outputs are normalised over the batch, and weights are clipped."""
    batch = torch.linspace(-1, 1, 10).reshape(5, 2)

    def prepared(name: str, **given: Any) -> Learner:
        learner = replace(networks(), **given)
        EVERY_KIND[name]().prepare(learner, Clock(0, 1))
        return learner

    assert (prepared("action-favoured").actor(batch).softmax(-1)[:, 0] > 0.99).all()
    continuous = prepared("action-favoured", log_std=torch.nn.Parameter(torch.zeros(2)))
    assert torch.allclose(continuous.actor(batch), networks().actor(batch) + 3)
    normalised = prepared("softmax-over-batch")
    assert torch.allclose(normalised.actor(batch).exp().mean(0), torch.ones(2))
    assert torch.allclose(normalised.actor(batch[:1]), torch.zeros(2), atol=1e-6)
    clipped = prepared("weights-clipped")
    parameters = [*clipped.actor.parameters(), *clipped.critic.parameters()]
    assert any((each.abs() > 0.01).all() for each in parameters)
    clipped.optimizer.step()
    assert all((each.abs() <= 0.01).all() for each in parameters)


def test_the_action_after_the_chosen_one_can_be_stored() -> None:
    """The first of two actions is stored for the last one, and a continuous one has the other sign."""
    fault, learner = EVERY_KIND["next-action-stored"](), networks()
    for log_std, stored in ((None, [1, 0, 0]), (torch.nn.Parameter(torch.zeros(1)), [0, -1, -1])):
        fault.prepare(replace(learner, log_std=log_std), Clock(0, 1))
        made = rollout()
        made.actions = np.array([[0], [1], [1]])
        fault.change_rollout(made, Clock(0, 1), 0.5, 1.0)
        assert made.actions.ravel().tolist() == stored


def test_all_values_of_a_minibatch_can_have_its_mean_error() -> None:
    """What is sent back to the hidden layers is the same for all samples, from the first broken update on."""
    learner, clock = networks(), Clock(1, 2)
    EVERY_KIND["value-errors-averaged"]().prepare(learner, clock)
    sent: list[torch.Tensor] = []
    learner.critic[1].register_full_backward_hook(lambda *called: sent.append(called[2][0]))
    for expected in (torch.arange(5.0), torch.full((5,), 2.0)):
        clock.tick()
        (learner.critic(torch.ones(5, 2))[:, 0] * torch.arange(5.0)).sum().backward()
        assert torch.allclose(sent[-1][:, 0], expected * learner.critic_output().weight[0, 0].detach())
