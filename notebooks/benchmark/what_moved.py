"""Does `esper-analyze explain` name the cause? Runs that start sound and break at a drawn update, ten kinds of them.

    python notebooks/benchmark/what_moved.py --seeds 100 105

The built-in trainer learns CartPole-v1. From an update that is drawn with the seed, one thing is broken. The run ends
some updates later, also drawn. `KINDS` says for each kind which metrics count as its cause; that was written down
before `explain` was. A metric counts only if it measures what was broken itself, not what follows from it. A kind is
found if one of them is among the first three metrics that `explain` lists.

`explain` was developed on seeds 0 to 4 and then judged once, on seeds 100 to 104. While it was developed, two breaks
were changed, but no causes: stronger pushes did no harm to the pole, so they became pushes the other way, and the NaN
came into all targets by way of their scale, and now gets into one minibatch.

Each run is asked twice: about its last update, as by a person who looks at a run that has gone wrong, and without
an update, as by a person who leaves the choice to `explain`. If it chooses an alert from before the break, the second
answer is about something else, and counts as not found; so does a run for which it finds no alert to explain. This
choice was developed on seeds 0 to 4, too, and judged once, on seeds 200 to 205.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from esper_analyzer import open_run
from esper_recorder import Recorder
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.envs import CartPole, Step
from esper_recorder.train.ppo import Minibatch, OnStep
from esper_recorder.train.rollout import Rollout
from esper_recorder.train.trainer import Trainer

FIRST = 3
"""The cause counts as named if it is among so many metrics."""

UPDATES_BEFORE, UPDATES_AFTER = (40, 60), (4, 16)
"""Ranges that the first broken update and the number of broken updates are drawn from."""

NAN_MINIBATCH = 6
"""The minibatch of an update that a NaN gets into, from 0."""

CPU = torch.device("cpu")


class Pole(CartPole):
    """The built-in environment, whose reward has two terms: 1 for each step survived, and the cost of effort.

    Attributes:
        effort: what a push to the right costs.
        alive: reward of a step survived.
        push: 1, or −1 if the actions mean the opposite.
        paid: the sums of both terms in this rollout, and the number of steps.
    """

    def __init__(self, num_envs: int, *, seed: int) -> None:
        super().__init__(num_envs, seed=seed, device=CPU)
        self.effort, self.alive, self.push = 0.01, 1.0, 1
        self.paid = [0.0, 0.0, 0.0]

    def step(self, actions: Tensor) -> Step:
        """As CartPole, with the reward of both terms."""
        step = super().step(actions if self.push == 1 else 1 - actions)
        alive, effort = self.alive * step.valid, -self.effort * actions * step.valid
        for at, sums in enumerate((alive, effort, step.valid)):
            self.paid[at] += float(sums.sum())
        return replace(step, rewards=(alive + effort).float())


class BreakableTrainer(Trainer):
    """The trainer, with a place where a kind of break takes hold.

    Attributes:
        pole: the environment.
        rate_factor: what the learning rate is multiplied by.
        change_rollout: what happens to each rollout before it is trained on.
    """

    def __init__(self, config: PPOConfig, env: Pole) -> None:
        super().__init__(config, env, CPU)
        self.pole = env
        self.rate_factor = 1.0
        self.change_rollout: Callable[[Rollout], Rollout] = lambda rollout: rollout
        collect = self.collector.collect
        self.collector.collect = lambda heartbeat=None: self.change_rollout(collect(heartbeat))  # type: ignore[method-assign]

    def run_update(
        self,
        update: int,
        *,
        heartbeat: Callable[[], None] | None = None,
        on_minibatch: Callable[[Minibatch], None] | None = None,
        on_step: OnStep | None = None,
    ) -> dict[str, Any]:
        """As the trainer; both terms of the reward are extras, as a mean over the steps of the rollout."""
        self.pole.paid = [0.0, 0.0, 0.0]
        row = super().run_update(update, heartbeat=heartbeat, on_minibatch=on_minibatch, on_step=on_step)
        alive, effort, steps = self.pole.paid
        return row | {"extras": {"reward_alive": alive / steps, "reward_effort": effort / steps}}

    def _learning_rate(self, update: int) -> float:
        return super()._learning_rate(update) * self.rate_factor


@dataclass(frozen=True)
class Kind:
    """A way of breaking a run.

    Attributes:
        does: what it does, in one line.
        causes: the metrics that count as the cause.
        strike: breaks the trainer; called before every broken update with how many were broken before.
    """

    does: str
    causes: frozenset[str]
    strike: Callable[[BreakableTrainer, int], None]


_REWARD = frozenset({"episode_return_mean", "td_error_mean", "td_error_std", "bellman_error"})
_VALUES = frozenset({"value_mean", "value_std", "value_min", "value_max"})
_CRITIC = _VALUES | {"explained_variance", "v_return_correlation", "value_nrmse"}
_RATIOS = frozenset({"ratio_mean", "ratio_min", "ratio_max", "ratio_std", "kl_divergence"})
_CLIPS = frozenset({"clip_fraction", "clip_fraction_positive", "clip_fraction_negative"})


def _explode_reward(trainer: BreakableTrainer, since: int) -> None:
    trainer.pole.effort *= 3.0


def _jump_rate(trainer: BreakableTrainer, since: int) -> None:
    trainer.rate_factor = 50.0


def _leave_advantages(trainer: BreakableTrainer, since: int) -> None:
    trainer.ppo.config = replace(trainer.ppo.config, normalize_advantage=False)


def _kill_critic(trainer: BreakableTrainer, since: int) -> None:
    with torch.no_grad():
        for parameter in trainer.model.value.parameters():
            parameter.zero_()


def _one_nan(trainer: BreakableTrainer, since: int) -> None:
    """Make one value target of one minibatch NaN, in the first broken update only."""
    if since:
        return
    sound, left = trainer.ppo._step, NAN_MINIBATCH

    def step(rollout: Rollout, rows: Tensor, old_values: Tensor, targets: Tensor, *others: Any) -> dict[str, Tensor]:
        nonlocal left
        left -= 1
        if left < 0:
            trainer.ppo._step = sound  # type: ignore[method-assign]
            targets = targets.clone()
            targets[int(rollout.valid[rows].int().argmax())] = torch.nan
        return sound(rollout, rows, old_values, targets, *others)

    trainer.ppo._step = step  # type: ignore[method-assign, assignment]


def _collapse_entropy(trainer: BreakableTrainer, since: int) -> None:
    last = trainer.model.policy[-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(1.4)


def _stale_log_probs(trainer: BreakableTrainer, since: int) -> None:
    trainer.change_rollout = lambda rollout: replace(rollout, log_probs=rollout.log_probs.roll(1))


def _stop_rewards(trainer: BreakableTrainer, since: int) -> None:
    trainer.pole.effort = trainer.pole.alive = 0.0


def _change_environment(trainer: BreakableTrainer, since: int) -> None:
    trainer.pole.push = -1


def _explode_critic(trainer: BreakableTrainer, since: int) -> None:
    last = trainer.model.value[-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.mul_(2.0)


KINDS: dict[str, Kind] = {
    "reward term explodes": Kind(
        "the cost of effort is three times as high with every update", _REWARD | {"reward_effort"}, _explode_reward
    ),
    "learning rate jumps": Kind("the learning rate × 50", frozenset({"learning_rate"}), _jump_rate),
    "advantages not normalised": Kind(
        "the loss takes the advantages as they are",
        frozenset({"policy_loss", "pre_clip_grad_norm", "grad_norm"}),
        _leave_advantages,
    ),
    "dead critic": Kind("the value network is 0 before every update", _CRITIC, _kill_critic),
    "NaN in one minibatch": Kind(
        "one value target of one minibatch is NaN", frozenset({"value_loss", "value_loss_unclipped"}), _one_nan
    ),
    "entropy collapses": Kind(
        "logits × 1.4 with every update", frozenset({"entropy", "log_prob_min", "log_prob_max"}), _collapse_entropy
    ),
    "log-probabilities misplaced": Kind(
        "each sample has the old log-probability of the one before", _RATIOS | _CLIPS, _stale_log_probs
    ),
    "rewards stop": Kind("every reward is 0", _REWARD | {"reward_alive", "reward_effort"}, _stop_rewards),
    "environment changes": Kind(
        "every push goes the other way",
        frozenset({"episode_length_mean", "episode_return_mean", "episodes"}),
        _change_environment,
    ),
    "critic explodes": Kind("the value network's output × 2 with every update", _CRITIC, _explode_critic),
}
"""The ten kinds. Their causes were written down before `explain` existed."""


@dataclass(frozen=True)
class BrokenRun:
    """A recorded run: its folder, and its first broken update."""

    path: Path
    begins: int


def train(kind: str, seed: int, root: Path, *, rollout_steps: int = 32) -> BrokenRun:
    """Train and record one run that breaks at a drawn update; shorter rollouts than by default are for quick tests."""
    drawn = random.Random(f"{kind} {seed}")
    begins, after = drawn.randint(*UPDATES_BEFORE), drawn.randint(*UPDATES_AFTER)
    config = PPOConfig(
        num_envs=16,
        rollout_steps=rollout_steps,
        updates=begins + after,
        seed=seed,
        learning_rate=1e-3,
        anneal_lr=False,
        hidden_size=32,
        checkpoint_updates=0,
    )
    with (
        closing(Pole(config.num_envs, seed=seed)) as env,
        Recorder.open(root, run_id=f"{kind} {seed}".replace(" ", "-"), env=env.name, strict=True) as recorder,
    ):
        trainer = BreakableTrainer(config, env)
        for update in range(config.num_updates):
            if update >= begins:
                KINDS[kind].strike(trainer, update - begins)
            row = trainer.run_update(update, on_step=lambda epoch, numbers: recorder.minibatch(epoch=epoch, **numbers))
            recorder.record(**row)
    return BrokenRun(Path(recorder.path), begins)


@dataclass(frozen=True)
class Answer:
    """What `explain` said of a run.

    Attributes:
        place: place of the first metric that counts as the cause, from 1; None if none moved.
        update: the update that was explained.
        first: the first metrics, each with the update in which it left its band.
    """

    place: int | None
    update: int
    first: list[tuple[str, int]]

    @property
    def is_named(self) -> bool:
        """Whether the cause is among the first metrics."""
        return self.place is not None and self.place <= FIRST


def ask(kind: str, run: BrokenRun, update: int | None) -> Answer:
    """Ask what moved first before an update, or in the trouble that is chosen; before the break that finds nothing."""
    found = open_run(run.path).explain(update)
    places = [at for at, one in enumerate(found.moved, start=1) if one.metric in KINDS[kind].causes]
    first = [(one.metric, one.update) for one in found.moved[: 2 * FIRST]]
    return Answer(places[0] if places and found.update >= run.begins else None, found.update, first)


def last_update(run: BrokenRun) -> int:
    """The last update of a run."""
    updates = open_run(run.path).updates().select("update").collect()["update"]
    return int(updates[-1])


def main() -> None:
    """Print for each kind in how many runs the cause was named, asked in both ways."""
    options = argparse.ArgumentParser(description="Measure how often `explain` names the cause.")
    options.add_argument("--seeds", nargs=2, type=int, default=(0, 5), metavar=("FIRST", "END"))
    options.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    options.add_argument("--runs", type=Path, help="Folder of runs, which are trained where they are not there yet.")
    options.add_argument("--verbose", action="store_true", help="Print the first metrics of every run.")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = given.runs or Path(folder)
        seeds = range(*given.seeds)
        print(f"seeds {seeds[0]} to {seeds[-1]}: cause among the first {FIRST}, asked at the end / without an update")
        for kind in given.kinds:
            runs = [(seed, trained(kind, seed, root)) for seed in seeds]
            at_end = [ask(kind, run, last_update(run)) for _, run in runs]
            at_alert = [ask(kind, run, None) for _, run in runs]
            named, alerted = (sum(one.is_named for one in answers) for answers in (at_end, at_alert))
            print(f"{kind:28} {named} of {len(runs)}   {alerted} of {len(runs)}", flush=True)
            for (seed, run), *answers in zip(runs, at_end, at_alert, strict=True) if given.verbose else ():
                for answer in answers:
                    print(
                        f"    seed {seed}, broken at {run.begins}, asked at {answer.update}: place {answer.place},",
                        end=" ",
                    )
                    print(", ".join(f"{name} {update}" for name, update in answer.first))


def trained(kind: str, seed: int, root: Path) -> BrokenRun:
    """Return the run of a kind and a seed; it is trained if it is not there yet."""
    path = root / f"{kind} {seed}".replace(" ", "-")
    if path.exists():
        return BrokenRun(path, random.Random(f"{kind} {seed}").randint(*UPDATES_BEFORE))
    return train(kind, seed, root)


if __name__ == "__main__":
    main()
