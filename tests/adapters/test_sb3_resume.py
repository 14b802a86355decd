"""A training of Stable-Baselines3 that is saved, loaded and trained on, with the same or another size of a rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from tests.adapters.sb3_runs import make_ppo, rows_of

from esper_analyzer import Run, open_run
from esper_recorder.adapters.sb3 import RecorderCallback
from esper_schemas.errors import RunDamagedError

STEPS = 16


def trained(root: Path, envs: int, updates: int, save_after: int) -> Path:
    """A recorded training with `envs` environments; returns the model as it was after `save_after` updates."""
    model = make_ppo(make_vec_env("CartPole-v1", envs, seed=0), n_steps=STEPS, batch_size=16)
    with RecorderCallback(root, run_id="run") as callback:
        model.learn(save_after * STEPS * envs, callback=callback)
        model.save(root / "model.zip")
        if updates > save_after:
            more = (updates - save_after) * STEPS * envs
            model.learn(more, callback=callback, reset_num_timesteps=False)
    return root / "model.zip"


def train_on(root: Path, saved: Path, envs: int, steps: int, total: int) -> Run:
    """Load the model with other sizes, train on for about `total` steps, and open the run."""
    env = make_vec_env("CartPole-v1", envs, seed=1)
    # SB3's own way to load a model with another n_steps and another number of environments
    model = PPO.load(saved, env=env, device="cpu", custom_objects={"n_steps": steps, "n_envs": envs})
    callback = RecorderCallback(root, run_id="run", resume="allow")
    model.learn(total, callback=callback, reset_num_timesteps=False)
    return open_run(root / "run")


def seen(run: Run) -> list[tuple[int, int, int]]:
    """Update, attempt and environment steps of the rows that count."""
    return [(row["update"], row["attempt"], row["env_steps"]) for row in rows_of(run)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("envs", "then_envs", "then_steps"),
    [(1, 4, STEPS), (4, 1, STEPS), (2, 2, 4 * STEPS), (2, 2, STEPS // 2), (2, 2, STEPS)],
    ids=["1 to 4 environments", "4 to 1", "longer rollouts", "shorter rollouts", "the same"],
)
def test_a_loaded_model_continues_behind_the_rows_of_its_past(
    tmp_path: Path, envs: int, then_envs: int, then_steps: int
) -> None:
    """A model saved at the end of its run continues with the next update: no row is superseded, and none is missing."""
    saved = trained(tmp_path, envs, updates=6, save_after=6)
    new = then_envs * then_steps
    run = train_on(tmp_path, saved, then_envs, then_steps, 2 * new)
    past = [(update, 0, (update + 1) * STEPS * envs) for update in range(6)]
    assert seen(run) == [*past, (6, 1, past[-1][2] + new), (7, 1, past[-1][2] + 2 * new)]
    report = run.report()
    assert (report.updates.superseded, report.updates.missing) == (0, [])


@pytest.mark.parametrize(("envs", "then_envs"), [(1, 4), (4, 1), (2, 2)])
def test_a_checkpoint_supersedes_exactly_the_updates_behind_it(tmp_path: Path, envs: int, then_envs: int) -> None:
    """A model saved after 4 of 6 updates continues with the fifth: the last two are superseded, and no other."""
    saved = trained(tmp_path, envs, updates=6, save_after=4)
    run = train_on(tmp_path, saved, then_envs, STEPS, STEPS * then_envs)
    steps = 4 * STEPS * envs + STEPS * then_envs
    assert [update for update, _, _ in seen(run)] == [0, 1, 2, 3, 4]
    assert seen(run)[-1] == (4, 2, steps)
    assert run.updates(all_attempts=True).select(pl.len()).collect().item() == 7
    assert run.report().updates.superseded == 2


def test_a_model_that_was_trained_before_begins_its_first_run_at_zero(tmp_path: Path) -> None:
    """A run without rows begins at update 0, however long the model was trained unrecorded; its steps count on."""
    model = make_ppo()
    model.learn(128)
    model.learn(64, callback=RecorderCallback(tmp_path, run_id="run"), reset_num_timesteps=False)
    assert seen(open_run(tmp_path / "run")) == [(0, 0, 192)]


def test_a_damaged_run_is_refused_before_the_first_step(tmp_path: Path) -> None:
    """Where a segment cannot be read, its updates are unknown: the resume is refused, and the error says what to do."""
    saved = trained(tmp_path, 1, updates=2, save_after=2)
    segment = tmp_path / "run" / "rank-0000" / "segments" / "00000000.parquet"
    segment.write_bytes(segment.read_bytes()[:-3])
    before: dict[str, Any] = {"rows": segment.read_bytes()}
    with pytest.raises(RunDamagedError, match="esper-rec repair"):
        train_on(tmp_path, saved, 1, STEPS, STEPS)
    assert segment.read_bytes() == before["rows"]
    assert open_run(tmp_path / "run").status() == "failed"
