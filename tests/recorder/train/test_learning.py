"""The trainer learns: Pendulum and Acrobot to a clear improvement, CartPole to the end.

The run of CartPole with no option is that of `make demo`, so that `tests/test_demo.py` checks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.colors import red_parts

from esper_analyzer import Run, open_run
from esper_analyzer.drawing.style import Style
from esper_analyzer.live.recorded import RecordedFeed
from esper_analyzer.terminal.frame import draw_frame
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.gym_envs import make_env
from esper_recorder.train.trainer import Progress, Trainer

Rec = Callable[..., Any]  # the fixtures of conftest.py that run esper-rec

CPU = torch.device("cpu")


class Rows:
    """Keeps the rows in memory; what is under test here is the learning."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def record(self, **values: Any) -> bool:
        """Keep one row."""
        self.rows.append(values)
        return True

    def minibatch(self, **numbers: Any) -> None:
        """Keep nothing."""


def train(env: str, **overrides: Any) -> tuple[list[dict[str, Any]], list[float]]:
    """The rows of a whole run, and its running 100-episode mean return."""
    config = PPOConfig.for_env(env, **overrides)
    made = make_env(env, config.num_envs, seed=config.seed, device=CPU)
    kept, returns = Rows(), list[float]()

    def keep_return(progress: Progress) -> None:
        if progress.mean_return is not None:
            returns.append(progress.mean_return)

    Trainer(config, made, CPU).train(kept, on_progress=keep_return)
    made.close()
    return kept.rows, returns


def check_calm(run: Run) -> None:
    """At every fourth update, what `tail` would have shown has no word critical, and nothing red beside Lv/Lp."""
    feed = RecordedFeed(run, 0, speed=0)
    while feed.work():
        pass
    for position in range(1, feed.total + 1, 4):
        feed.seek(position)
        lines = draw_frame(run, 0, feed.picture(), width=100, height=30, style=Style(color=True, unicode=True))
        assert "critical" not in "\n".join(lines)
        assert [line for line in lines if "Lv/Lp" not in line and any(red_parts(line))] == []


def check_learned(said: str, path: Path) -> None:
    """A run with no option but the seed, which printed `said`, learned, was never critical, and ended healthy."""
    last_100 = re.search(r"^return +(\S+) \(mean of the last 100 episodes\)$", said, re.MULTILINE)
    assert last_100 is not None, said
    assert float(last_100[1]) >= 475
    run = open_run(path)
    report = run.report()
    assert report.verdict.level == "healthy", report.verdict.reasons
    assert {answer.level for answer in report.verdict.questions.values()} == {"healthy"}
    assert not [alert for alert in report.alerts if alert.level == "critical"]
    rows = run.updates().collect().to_dicts()
    assert len(rows) >= 60
    assert 0.001 <= rows[-1]["value_loss"] <= 5.0
    assert rows[-1]["entropy"] > 0.3
    assert max(row["kl_divergence"] for row in rows) <= 0.03
    assert max(row["clip_fraction"] for row in rows) < 0.25
    assert not any(row["skipped"] for row in rows)
    check_calm(run)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(1, 10))
def test_the_other_seeds_balance_the_pole_too(rec: Rec, runs: Path, seed: int) -> None:
    """Seeds 1 to 9 reach what seed 0 reaches in `tests/test_demo.py`."""
    done = rec("train", "--seed", str(seed), "--stop-on", "critical", "--run-id", "r")
    assert done.code == 0, done.err
    check_learned(done.out, runs / "r")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "updates", "gain"), [("Pendulum-v1", 18, 200.0), ("Acrobot-v1", 18, 150.0), ("gym:CartPole-v1", 20, 100.0)]
)
def test_other_environments_improve(env: str, updates: int, gain: float) -> None:
    """A short run with the environment's preset ends well above the return it began with."""
    _, returns = train(env, updates=updates)
    assert returns[-1] - returns[0] > gain
