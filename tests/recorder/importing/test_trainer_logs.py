"""Logs that real trainers wrote: how many updates each has, and the trap that is in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.recorder.importing.logs import balance, import_log, unpacked

ReadRows = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize(
    ("name", "trainer", "updates", "traps"),
    [
        ("cleanrl_ppo_cartpole_gym029.tfevents", "CleanRL", 195, {"note": "the 28 hyper-parameters of"}),
        ("lightning_metrics.csv", "CleanRL", 195, {}),
        ("trackio_cleanrl.db", "CleanRL", 195, {"note": "the 1 hyper-parameters of the run"}),
        ("sb3_lunar_progress.csv", "Stable-Baselines3", 29, {"note": "the rollout at step 30,720 has no update"}),
        ("sb3_lunar_progress.json", "Stable-Baselines3", 29, {"note": "the rollout at step 30,720 has no update"}),
        ("sb3_lunar.tfevents", "Stable-Baselines3", 29, {"note": "the rollout at step 30,720 has no update"}),
        ("sb3_log_interval4_progress.csv", "Stable-Baselines3", 2, {"note": "only each n-th rollout is logged"}),
        (
            "sb3_learn_twice_progress.csv",
            "Stable-Baselines3",
            5,
            {"note": "time/total_timesteps begins anew after 768"},
        ),
        (
            "rsl_rl_two_learns",
            "rsl_rl",
            50,
            {
                "note": "iteration does not rise by 1 everywhere (39 after 39 at update 40)",
                "not imported": "Train/mean_reward/time 42, Train/mean_episode_length/time 42",
                "keys left out": "Train/mean_reward/time (Train/mean_reward again; the step is seconds)",
            },
        ),
        (
            "skrl_pendulum.tfevents",
            "skrl",
            9,
            {"note": "the value loss is an assumption. Not in the log: value_loss_scale", "step": "timestep"},
        ),
        (
            "tianshou_cartpole.tfevents",
            "Tianshou",
            35,
            {"training/returns_stat/mean": "episode_return_mean  (of the rollout before the last one"},
        ),
        (
            "sbx_cartpole_progress.csv",
            "SBX",
            39,
            {"train/value_loss": "value_loss  (of the last minibatch; vf_coef is"},
        ),
        ("pfrl_cartpole_scores.txt", "PFRL", 24, {"mean": "episode_return_mean  (of the episodes of an evaluation)"}),
        ("spinning_up_cartpole_progress.txt", "Spinning Up", 18, {"LossV": "value_loss  (× 0.5: of the whole rollout"}),
        (
            "sample_factory_cartpole.tfevents",
            "Sample Factory",
            60,
            {"train/ratio_mean": "ratio_deviation_mean  (extra: mean of |1 − ratio|"},
        ),
        (
            "sheeprl_cartpole.tfevents",
            "SheepRL",
            48,
            {"Rewards/rew_avg": "episode_return_mean  (mean of the episodes that ended since the last row"},
        ),
        (
            "torchrl_pendulum.tfevents",
            "TorchRL",
            49,
            {"note": "the value loss is an assumption. Not in the log: critic_coeff, which is included"},
        ),
        (
            "di_engine_cartpole.tfevents",
            "DI-engine",
            4,
            {"keys left out": "learner_iter/value_loss_avg (learner_step/value_loss_avg again)"},
        ),
        (
            "omnisafe_ppolag_progress.csv",
            "OmniSafe",
            20,
            {
                "Loss/Loss_cost_critic": "cost_value_loss  (× 0.5; extra: of the critic of the costs",
                "Train/Entropy": "entropy_of_dimension  (extra: mean of the dimensions",
                "note": "the value loss is an assumption. Not in the log: critic_norm_coef",
            },
        ),
        (
            "tf_agents_cartpole.tfevents",
            "TF-Agents",
            20,
            {
                "keys left out": "Metrics_vs_EnvironmentSteps/AverageReturn (Metrics/AverageReturn again",
                "Metrics/EnvironmentSteps": "env_steps",
                "note": "the value loss is an assumption. Not in the log: value_pred_loss_coef",
            },
        ),
        ("xuance_cartpole", "XuanCe", 46, {"Train-Episode-Rewards/{any}": "episode_return_mean  (mean of the points"}),
        (
            "on_policy_spread",
            "on-policy (MAPPO)",
            30,
            {
                "average_episode_rewards": "episode_return_mean",
                "agent1/individual_rewards": "agent1/individual_rewards",
            },
        ),
        (
            "on_policy_separated",
            "on-policy (MAPPO), separated",
            30,
            {"agent0/value_loss": "value_loss", "agent1/value_loss": "agent1/value_loss  (extra"},
        ),
        (
            "harl_spread",
            "HARL",
            40,
            {
                "critic/value_loss": "value_loss",
                "train_episode_rewards/aver_rewards": "episode_return_mean",
                "eval_max_episode_rewards": "eval_max_episode_rewards  (extra: its definition is unknown; in 8 of 40",
            },
        ),
        (
            "ml_agents_ball.tfevents",
            "ML-Agents",
            30,
            {"Losses/Policy Loss": "policy_loss  (of the absolute values", "not imported": "histograms 30"},
        ),
        ("rsl_rl_pendulum_console.log", "rsl_rl, as printed", 30, {"not readable": "none"}),
        ("rllib_tune_result.json", "RLlib", 5, {"learners/default_policy/vf_loss": "each squared error is at most"}),
        ("rllib_tune_progress.csv", "RLlib", 5, {"learners/default_policy/vf_loss": "each squared error is at most"}),
    ],
)
def test_each_log_has_its_updates_and_its_trap_in_the_balance(
    name: str, trainer: str, updates: int, traps: dict[str, str], tmp_path: Path, read_rows: ReadRows
) -> None:
    """Updates count 0, 1, 2 … (RLlib's from 1), the trainer is found, and the balance names what is special."""
    done = import_log(unpacked(name, tmp_path), "--run-id", "r", root=tmp_path / "runs")
    assert done.exit_code == 0, done.output
    found = balance(done)
    assert found["trainer"] == trainer
    first = 1 if trainer in ("RLlib", "Tianshou") else 0
    rows = read_rows(tmp_path / "runs" / "r")
    assert [row["update"] for row in rows] == list(range(first, first + updates))
    for title, text in traps.items():
        assert text in found[title], done.stdout


def test_a_log_without_losses_is_one_line_and_leaves_no_run(tmp_path: Path) -> None:
    """Tianshou's default logger writes no losses: the error says so and what to do, and the exit code is 2."""
    log = unpacked("tianshou_default_no_update_tags.tfevents", tmp_path)
    done = import_log(log, root=tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "a log of Tianshou: its default logger writes losses (update/…) only every 1,000 updates" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_every_value_of_sb3_arrives_with_the_rollout_that_it_is_of(tmp_path: Path, read_rows: ReadRows) -> None:
    """The update of a line belongs to the rollout of the line before it; every digit of the CSV is kept."""
    log = unpacked("sb3_lunar_progress.csv", tmp_path)
    import_log(log, "--run-id", "r", root=tmp_path)
    with log.open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = read_rows(tmp_path / "r")
    for row, rollout, line in zip(rows, lines, lines[1:], strict=False):
        assert row["value_loss"] == row["value_loss_unclipped"] == 0.5 * float(line["train/value_loss"])
        assert row["policy_loss"] == float(line["train/policy_gradient_loss"])
        assert row["entropy"] == -float(line["train/entropy_loss"])
        assert row["kl_divergence"] == float(line["train/approx_kl"])
        assert row["explained_variance"] == float(line["train/explained_variance"])
        assert row["env_steps"] == int(rollout["time/total_timesteps"])
        assert row["episode_return_sliding_mean"] == float(rollout["rollout/ep_rew_mean"])
        assert row["episode_return_mean"] is None  # a mean of the last 100 episodes is another number
        assert row["wall_time"] is row["elapsed_secs"] is None  # the log has no times, and that of the import is none


def test_the_three_logs_of_one_training_agree(tmp_path: Path, read_rows: ReadRows) -> None:
    """CSV, JSON and event file of the same training have the same rows, as far as their digits go."""
    rows = {}
    for name in ("sb3_lunar_progress.csv", "sb3_lunar_progress.json", "sb3_lunar.tfevents"):
        assert import_log(unpacked(name, tmp_path), "--run-id", name, root=tmp_path / "runs").exit_code == 0
        rows[name] = read_rows(tmp_path / "runs" / name)
    exact, *others = rows.values()
    for other in others:
        for row, same in zip(other, exact, strict=True):
            for column in ("update", "env_steps"):
                assert row[column] == same[column]
            for column in ("value_loss", "policy_loss", "entropy", "kl_divergence", "episode_return_sliding_mean"):
                assert row[column] == pytest.approx(same[column], rel=1e-6)


def test_steps_count_on_when_learn_is_called_again(tmp_path: Path, read_rows: ReadRows) -> None:
    """The third update is logged in the first line of the second call; the fourth has all steps of both calls."""
    import_log(unpacked("sb3_learn_twice_progress.csv", tmp_path), "--run-id", "r", root=tmp_path)
    rows = read_rows(tmp_path / "r")
    assert [row["env_steps"] for row in rows] == [256, 512, 768, 1024, 1280]
    assert [row["n_updates"] for row in rows] == [10, 20, 30, 40, 50]


def test_steps_between_logged_rollouts_are_not_guessed(tmp_path: Path, read_rows: ReadRows) -> None:
    """With every fourth rollout logged, two records tell how long a rollout is; before them the steps are null."""
    import_log(unpacked("sb3_log_interval4_progress.csv", tmp_path), "--run-id", "r", root=tmp_path)
    rows = read_rows(tmp_path / "r")
    assert [row["env_steps"] for row in rows] == [None, 1792]  # 2,048 steps after 8 rollouts, 1,024 after 4
    assert rows[0]["logged_at_step"] == 1024


def test_every_value_of_cleanrl_arrives(tmp_path: Path, read_rows: ReadRows) -> None:
    """Episodes become their mean and count, k1 stays apart from k3, and options make the definition exact."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    log = unpacked("cleanrl_ppo_cartpole_gym029.tfevents", tmp_path)
    import_log(log, "--run-id", "r", root=tmp_path)
    points: dict[str, list[tuple[int, float, float]]] = {}
    for event in LegacyEventFileLoader(str(log)).Load():
        for value in event.summary.value:
            if value.HasField("simple_value"):
                points.setdefault(value.tag, []).append((event.step, value.simple_value, event.wall_time))
    rows = read_rows(tmp_path / "r")
    for key, column in {
        "losses/value_loss": "value_loss",
        "losses/policy_loss": "policy_loss",
        "losses/entropy": "entropy",
        "losses/approx_kl": "kl_divergence",
        "losses/old_approx_kl": "approx_kl_k1",
        "losses/clipfrac": "clip_fraction",
        "losses/explained_variance": "explained_variance",
        "charts/learning_rate": "learning_rate",
        "charts/SPS": "steps_per_sec",
    }.items():
        assert [row[column] for row in rows] == [value for _, value, _ in points[key]], key
    assert [row["env_steps"] for row in rows] == [step for step, _, _ in points["losses/value_loss"]]
    times = [round(time * 1e6) for _, _, time in points["losses/value_loss"]]
    assert [round(row["wall_time"].timestamp() * 1e6) for row in rows] == times
    before = 0
    for row in rows:
        of_rollout = [r for step, r, _ in points["charts/episodic_return"] if before < step <= row["env_steps"]]
        before = row["env_steps"]
        assert row["episodes"] == (len(of_rollout) or None)
        mean = sum(of_rollout) / len(of_rollout) if of_rollout else None
        assert row["episode_return_mean"] == (pytest.approx(mean) if mean is not None else None)
    assert sum(row["episodes"] or 0 for row in rows) == 672
    header = json.loads((tmp_path / "r" / "run.json").read_text())
    definition = header["value_loss_definition"]
    assert (definition["clipping"], definition["clip_range"], definition["factor"]) == ("max", 0.2, 1.0)
    assert (definition["reduction"], definition["assumed"]) == ("last minibatch", False)
    assert (header["trainer"], header["env"]) == ("CleanRL", "CartPole-v1")
    assert header["config"]["clip_vloss"] is True


def test_episodes_of_all_environments_are_those_of_one_key(tmp_path: Path, read_rows: ReadRows) -> None:
    """XuanCe writes those of each environment into a series of its own; a row has the mean and the count of all."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    log = unpacked("xuance_cartpole", tmp_path)
    import_log(log, "--run-id", "r", root=tmp_path / "runs")
    returns = [
        (event.wall_time, value.simple_value)
        for path in sorted(log.glob("Train-Episode-Rewards_*/events*"))
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    rows = read_rows(tmp_path / "runs" / "r")
    before = 0.0
    for row in rows:
        of_rollout = [value for time, value in returns if before < time < row["wall_time"].timestamp()]
        before = row["wall_time"].timestamp()
        assert (row["episodes"] or 0) == len(of_rollout)
        if of_rollout:
            assert row["episode_return_mean"] == pytest.approx(sum(of_rollout) / len(of_rollout))
    assert len({path.parent for path in log.glob("Train-Episode-Rewards_*/events*")}) == 4
    assert sum(row["episodes"] or 0 for row in rows) == len(returns) - 2  # which ended after the last update


def test_returns_stay_with_their_update_where_they_are_logged_with_two_steps(
    tmp_path: Path, read_rows: ReadRows
) -> None:
    """TF-Agents logs each metric again with the episodes as step, between the numbers of one update."""
    log = unpacked("tf_agents_cartpole.tfevents", tmp_path)
    assert import_log(log, "--run-id", "r", root=tmp_path / "runs").exit_code == 0
    rows = read_rows(tmp_path / "runs" / "r")
    assert [row["train_step"] for row in rows] == [5.0 * (place + 1) for place in range(20)]
    assert [row["episodes_so_far"] for row in rows] == [5.0 * (place + 1) for place in range(20)]
    first = rows[0]  # five episodes, of which the means are known
    assert first["env_steps"] == pytest.approx(5 * first["episode_length_sliding_mean"])
    assert first["episode_return_sliding_mean"] == first["episode_length_sliding_mean"]  # 1 for each step of CartPole


def test_a_mapped_key_says_which_agent_is_read(tmp_path: Path) -> None:
    """Losses of one agent beside the entropy and the returns of another would be no row of any."""
    log = unpacked("on_policy_separated", tmp_path)
    done = import_log(log, "--map", "agent1/policy_loss=policy_loss", root=tmp_path / "runs")
    found = balance(done)
    assert found["agent1/value_loss"] == "value_loss"
    assert found["agent1/dist_entropy"].startswith("entropy")
    assert found["agent1/average_episode_rewards"].startswith("episode_return_mean")
    assert found["agent0/value_loss"].startswith("agent0/value_loss  (extra")


def test_rllib_has_the_loss_before_the_errors_are_clipped(tmp_path: Path, read_rows: ReadRows) -> None:
    """½ of vf_loss_unclipped is the value loss, config goes to the header, and time and steps are those of Tune."""
    log = unpacked("rllib_tune_result.json", tmp_path)
    import_log(log, "--run-id", "r", root=tmp_path)
    results = [json.loads(line) for line in log.read_text().splitlines()]
    for row, result in zip(read_rows(tmp_path / "r"), results, strict=True):
        learner = result["learners"]["default_policy"]
        assert row["value_loss"] == row["value_loss_unclipped"] == 0.5 * learner["vf_loss_unclipped"]
        assert row["vf_loss"] == learner["vf_loss"]
        assert row["kl_divergence"] == learner["mean_kl_loss"]
        assert row["explained_variance"] is None  # RLlib measures it after the update
        assert row["explained_variance_after_update"] == learner["vf_explained_var"]
        assert row["update"] == row["training_iteration"] == result["training_iteration"]
        assert row["env_steps"] == result["num_env_steps_sampled_lifetime"]
        assert row["episodes"] == result["env_runners"]["num_episodes"]
        assert row["wall_time"].timestamp() == result["timestamp"]
        assert row["elapsed_secs"] == result["time_total_s"]
    header = json.loads((tmp_path / "r" / "run.json").read_text())
    assert header["env"] == "CartPole-v1"
    assert header["config"]["vf_clip_param"] == 10.0


def test_a_definition_that_the_log_lacks_can_be_given(tmp_path: Path, read_rows: ReadRows) -> None:
    """With its scale the loss of skrl is exact and no longer an assumption; without, the report says that it is one."""
    from esper_analyzer import open_run

    log = unpacked("skrl_pendulum.tfevents", tmp_path)
    given = "factor=0.2,clipping=clipped,clip_range=0.2"
    done = import_log(log, "--run-id", "given", "--value-loss-definition", given, root=tmp_path)
    assert done.exit_code == 0
    assert "assumption" not in done.stdout
    import_log(log, "--run-id", "assumed", root=tmp_path)
    exact, half = read_rows(tmp_path / "given"), read_rows(tmp_path / "assumed")
    assert [row["value_loss"] for row in exact] == pytest.approx([0.4 * row["value_loss"] for row in half])
    assert {row["value_loss_unclipped"] for row in (*exact, *half)} == {None}
    definition = open_run(tmp_path / "given").report().to_dict()["run"]["value_loss_definition"]
    assert (definition["factor"], definition["clip_range"], definition["assumed"]) == (0.2, 0.2, False)
    report = open_run(tmp_path / "assumed").report().to_dict()
    assert report["run"]["value_loss_definition"]["assumed"] is True


@pytest.mark.parametrize("name", ["sb3_lunar_progress.csv", "rsl_rl_two_learns", "rllib_tune_result.json"])
def test_imported_runs_are_whole_and_can_be_reported(name: str, tmp_path: Path) -> None:
    """Verify finds no fault, and the report reads a run whose times are not known."""
    from esper_analyzer import open_run
    from esper_schemas.examining.run import find_run, verify_run

    import_log(unpacked(name, tmp_path), "--run-id", "r", root=tmp_path / "runs")
    assert not verify_run(find_run("r", tmp_path / "runs")).faults
    report = open_run(tmp_path / "runs" / "r").report().to_dict()
    assert (report["run"]["status"], report["run"]["is_imported"]) == ("finished", True)
    assert not report["integrity"]["faults"]
    assert report["updates"]["missing"] == []


def test_three_loggers_of_one_training_agree(tmp_path: Path, read_rows: ReadRows) -> None:
    """Event file, Lightning's CSV and Trackio's database have the same numbers, bit for bit, but for the episodes."""
    rows = []
    for name in ("cleanrl_ppo_cartpole_gym029.tfevents", "lightning_metrics.csv", "trackio_cleanrl.db"):
        assert import_log(unpacked(name, tmp_path), "--run-id", name, root=tmp_path / "runs").exit_code == 0
        rows.append(read_rows(tmp_path / "runs" / name))
    apart = {"episodes", "episode_return_mean", "episode_length_mean", "wall_time", "elapsed_secs", "run_id"}
    for of_event_file, *others in zip(*rows, strict=True):
        for other in others:
            assert {key: other[key] for key in other if key not in apart} == {
                key: of_event_file[key] for key in of_event_file if key not in apart
            }
