"""The page about loops of one's own: its snippet, as it stands there, records a real PPO."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.recorder.ways_in.hand_written_ppo import SIZE, Agent

from esper_analyzer import Run, open_run
from esper_schemas import METRICS

PAGE = Path(__file__).parents[3] / "recorder" / "ways_in" / "hand_written.md"


def run_snippet(agent: Agent, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the only block of Python of the page in a folder, with this agent."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    exec(compile(snippet, str(PAGE), "exec"), {"agent": agent})
    return open_run("runs/mine")


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The updates of the default view."""
    return run.updates().collect().to_dicts()


def test_the_snippet_records_what_the_loop_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each column is the number of the loop for that update: means of its minibatches, and its rollout."""
    agent = Agent(updates=3)
    run = run_snippet(agent, tmp_path, monkeypatch)
    rows = rows_of(run)
    assert [row["update"] for row in rows] == [0, 1, 2]
    for number, (row, rollout) in enumerate(zip(rows, agent.rollouts, strict=True)):
        numbers = agent.minibatch_numbers[4 * number : 4 * number + 4]
        mean = {name: np.mean([found[name] for found in numbers]) for name in numbers[0]}
        assert row["value_loss"] == row["value_loss_unclipped"] == pytest.approx(0.5 * mean["value_loss"])
        assert row["pre_clip_grad_norm"] == mean["grad_norm"]
        for name in ("policy_loss", "entropy", "kl_divergence", "clip_fraction"):
            assert row[name] == mean[name], name
        values, returns = rollout.values.double().numpy(), rollout.returns.double().numpy()
        assert row["explained_variance"] == pytest.approx(1.0 - (returns - values).var() / returns.var())
        assert row["advantage_std"] == pytest.approx(rollout.advantages.double().numpy().std())
        assert (row["samples"], row["env_steps"]) == (SIZE, SIZE * (number + 1))
        assert row["episode_return_mean"] == rollout.episode_return_mean
        assert row["reward_for_posture"] == rollout.reward_for_posture == 1.0
    assert not run.faults()
    assert run.status() == "finished"
    assert (run.header.trainer, run.header.env, run.header.config["updates"]) == ("my-ppo 2.1", "CartPole-v1", 3)
    assert (run.header.value_loss_definition["factor"], run.header.value_loss_definition["assumed"]) == (0.5, False)


def test_a_second_start_goes_on_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that restores its model and starts again adds what is missing, and supersedes what it trains again."""
    agent = Agent(updates=3)
    run_snippet(agent, tmp_path, monkeypatch)
    agent.config["updates"], agent.steps = 5, 2 * SIZE  # as if it was saved after two updates
    rows = rows_of(run_snippet(agent, tmp_path, monkeypatch))
    assert [(row["update"], row["attempt"]) for row in rows] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]


def test_a_loss_that_breaks_leaves_the_minibatches_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The black box is there without a further line: the minibatches up to the first that is not finite."""
    agent = Agent(updates=2, break_at=6)  # what is NaN then makes the policy of the next minibatch raise
    with pytest.raises(ValueError, match="logits"):
        run_snippet(agent, tmp_path, monkeypatch)
    boxes = open_run(tmp_path / "runs" / "mine").black_boxes()
    assert boxes[0].trigger == "not_finite"
    assert boxes[0].minibatches == 7
    assert boxes[0].rows()["kl_divergence"].to_list() == [found["kl_divergence"] for found in agent.minibatch_numbers]
    assert torch.isnan(torch.tensor(agent.minibatch_numbers[6]["policy_loss"]))


def test_the_page_names_metrics_of_the_table() -> None:
    """Each keyword that the page passes to `record` is a metric; a misspelt one would become a column of its own."""
    text = PAGE.read_text(encoding="utf-8")
    call = text[text.index("recorder.record(") : text.index("**critic")]
    named = set(re.findall(r"^ +(\w+)=", call, re.MULTILINE)) - {"extras"}
    assert len(named) > 9
    assert named <= METRICS.keys()
