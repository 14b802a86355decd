"""The rsl_rl adapter, on real trainings that last a fraction of a second."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from rsl_rl.runners import OnPolicyRunner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.adapters.rsl_rl_runs import ENVS, EPOCHS, LENGTH, PARTS, ROLLOUT, Kept, make_runner, rows_of

from esper_analyzer import Run, open_run
from esper_recorder.adapters.rsl_rl import attach
from esper_recorder.dialects.gym import RSL_RL

UPDATES = 5

Array = np.ndarray[Any, np.dtype[np.float64]]


class Trained(NamedTuple):
    """A recorded training, and what rsl_rl itself had of it, update by update.

    Attributes:
        reported: By tag, what rsl_rl logged.
        values, returns: The storage before the update, [samples].
        ratios: Of each minibatch, [minibatches, samples].
        errors: V − G of each minibatch, of the same shape.
    """

    run: Run
    runner: OnPolicyRunner
    reported: list[dict[str, float]]
    values: list[Array]
    returns: list[Array]
    ratios: list[Array]
    errors: list[Array]


def train(folder: Path, updates: int, **options: Any) -> Trained:
    """Train and record, beside a writer that keeps what rsl_rl logs, and look into the algorithm."""
    runner = make_runner(folder, {"also": {"class_name": Kept}}, **options)
    alg: Any = runner.alg
    update, generator, log_prob = alg.update, alg.storage.mini_batch_generator, alg.actor.get_output_log_prob
    values: list[Array] = []
    returns: list[Array] = []
    ratios: list[list[Array]] = []
    errors: list[list[Array]] = []
    current: list[Any] = []  # the minibatch in work

    def watched_update() -> Any:
        values.append(alg.storage.values.double().flatten().numpy().copy())
        returns.append(alg.storage.returns.double().flatten().numpy().copy())
        ratios.append([])
        errors.append([])
        return update()

    def watched_generator(*arguments: Any) -> Any:
        for batch in generator(*arguments):
            current[:] = [batch]
            yield batch
        current.clear()

    def watched_log_prob(actions: Any) -> Any:
        found = log_prob(actions)
        if current:
            ratios[-1].append((found.detach() - current[0].old_actions_log_prob.flatten()).exp().double().numpy())
        return found

    def watched_critic(_critic: Any, _inputs: Any, predicted: Any) -> None:
        if current:
            errors[-1].append((predicted - current[0].returns).detach().double().flatten().numpy())

    alg.critic.register_forward_hook(watched_critic)
    alg.update, alg.storage.mini_batch_generator, alg.actor.get_output_log_prob = (
        watched_update,
        watched_generator,
        watched_log_prob,
    )
    runner.learn(updates)
    reported: list[dict[str, float]] = [{} for _ in range(updates)]
    for tag, number, step in Kept.scalars:
        if not tag.endswith("/time"):  # whose step is seconds
            reported[step][tag] = number
    found = open_run(folder / "runs" / "mine")
    return Trained(
        found, runner, reported, values, returns, *([np.array(each) for each in kept] for kept in (ratios, errors))
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Five updates with rsl_rl's defaults: a clipped value loss, and a learning rate that follows the KL divergence."""
    return train(tmp_path_factory.mktemp("trained"), UPDATES)


# ---------------------------------------------------------------------- the values


def test_every_update_has_the_values_that_rsl_rl_reports(trained: Trained) -> None:
    """Each update, the last one too, has each scalar of rsl_rl in its column, times the factor of the dialect."""
    rows = rows_of(trained.run)
    assert [row["update"] for row in rows] == [row["iteration"] for row in rows] == list(range(UPDATES))
    assert [row["env_steps"] for row in rows] == [ROLLOUT * (update + 1) for update in range(UPDATES)]
    columns = {key.name: key for key in RSL_RL.keys if key.kind != "again"}
    for row, reported in zip(rows, trained.reported, strict=True):
        for tag, number in reported.items():
            key = columns.get(tag)
            assert row[tag if key is None else key.column] == (1.0 if key is None else key.factor) * number, tag
        assert row["value_loss"] == 0.5 * reported["Loss/value"]
        assert row["policy_loss"] == reported["Loss/surrogate"]
        assert {"Loss/entropy", "Loss/learning_rate", "Perf/learning_time", "/reward/near"} <= reported.keys()
    assert {"Train/mean_reward", "Train/mean_episode_length"} <= trained.reported[-1].keys()
    assert not {"Train/mean_reward/time", "Train/mean_reward"} & rows[-1].keys()


def test_returns_and_explained_variance_are_those_of_the_storage(trained: Trained) -> None:
    """What rsl_rl does not log is measured over the rollout that the update learned from, before it did."""
    for row, values, returns in zip(rows_of(trained.run), trained.values, trained.returns, strict=True):
        assert row["samples"] == len(values) == ROLLOUT
        assert row["explained_variance"] == pytest.approx(1.0 - (returns - values).var() / returns.var())
        assert row["return_mean"] == pytest.approx(returns.mean())
        assert row["return_std"] == pytest.approx(returns.std())
        assert row["value_std"] == pytest.approx(values.std())
        # The advantages in the storage are normalised; these are from before.
        assert row["advantage_std"] == pytest.approx((returns - values).std(), rel=1e-5)


def test_ratios_and_divergence_are_those_of_the_minibatches(trained: Trained) -> None:
    """KL divergence (k3), clip fractions and ratios are taken over the ratios of all minibatches of the update."""
    clip = trained.runner.alg.clip_param
    for row, ratios in zip(rows_of(trained.run), trained.ratios, strict=True):
        assert ratios.shape == (EPOCHS * PARTS, ROLLOUT // PARTS)
        assert row["kl_divergence"] == pytest.approx((ratios - 1 - np.log(ratios)).mean(), rel=1e-6, abs=1e-9)
        assert row["clip_fraction"] == pytest.approx((abs(ratios - 1) > clip).mean())
        assert row["clip_fraction_positive"] == pytest.approx((ratios > 1 + clip).mean())
        assert (row["ratio_min"], row["ratio_max"]) == (ratios.min(), ratios.max())
        assert row["ratio_mean"] == pytest.approx(ratios.mean())
        assert row["ratio_std"] == pytest.approx(ratios.std(), rel=1e-6)
    assert rows_of(trained.run)[-1]["kl_divergence"] > 0.0


def test_settings_and_counts(trained: Trained) -> None:
    """What was in force, and how much work an update is, are recorded with each update."""
    for row, reported in zip(rows_of(trained.run), trained.reported, strict=True):
        assert (row["epochs_run"], row["minibatches"]) == (EPOCHS, EPOCHS * PARTS)
        assert (row["clip_range"], row["entropy_coef"], row["vf_coef"], row["value_target_scale"]) == (0.2, 0.01, 1, 1)
        assert row["learning_rate"] == reported["Loss/learning_rate"]
        assert row["rollout_secs"] > 0.0
        assert row["update_secs"] > 0.0
        assert row["pre_clip_grad_norm"] > 0.0
    assert len({row["learning_rate"] for row in rows_of(trained.run)}) > 1


def test_episodes_are_those_of_the_rollout(trained: Trained) -> None:
    """Returns are the mean over episodes that ended in the rollout; rsl_rl's own number is over the last 100."""
    rows = rows_of(trained.run)
    assert [row["episodes"] for row in rows] == [0, ENVS, ENVS, ENVS, ENVS]  # each has 9 steps, a rollout 8
    assert rows[0]["episode_return_mean"] is None
    assert [row["episode_length_mean"] for row in rows[1:]] == [LENGTH] * 4
    means = [row["episode_return_mean"] for row in rows[1:]]
    for count in range(1, 5):
        assert np.mean(means[:count]) == pytest.approx(trained.reported[count]["Train/mean_reward"])
    assert len(set(means)) == 4
    assert type(trained.runner.logger.rewbuffer).__name__ == "deque"  # as it was before


@pytest.mark.parametrize("critic", ["MLPModel", "RNNModel"])
def test_the_training_is_not_changed(tmp_path: Path, critic: str) -> None:
    """With the Writer the weights come out bit for bit as without it; nothing of it is left in the runner."""
    plain, recorded = (
        make_runner(tmp_path, critic=critic),
        make_runner(tmp_path, {"also": "tensorboard"}, critic=critic),
    )
    before = {name: set(vars(part)) for name, part in (("logger", recorded.logger), ("storage", recorded.alg.storage))}
    torch.manual_seed(1)
    plain.learn(3)
    torch.manual_seed(1)
    recorded.learn(3)
    for model in ("actor", "critic"):
        expected = getattr(plain.alg, model).state_dict()
        for name, tensor in getattr(recorded.alg, model).state_dict().items():
            assert torch.equal(tensor, expected[name]), name
    after = {name: set(vars(part)) for name, part in (("logger", recorded.logger), ("storage", recorded.alg.storage))}
    assert after == before
    assert [row["kl_divergence"] is not None for row in rows_of(open_run(tmp_path / "runs" / "mine"))] == [True] * 3


# ---------------------------------------------------------------------- the header


def test_the_header_says_who_and_how(trained: Trained) -> None:
    """Trainer, environment, device, configuration and the definition of the value loss are in the header."""
    header = trained.run.header
    assert (header.trainer, header.env, header.device) == (f"rsl_rl {version('rsl-rl-lib')}", "Points", "cpu")
    assert header.value_loss_definition == {
        "source": "mean(max((V - G)^2, (V_old + clamp(V - V_old, -clip, clip) - G)^2))",
        "factor": 0.5,
        "clipping": "max",
        "clip_range": 0.2,
        "reduction": "all minibatches",
        "coefficient_included": False,
        "targets_normalised": False,
        "assumed": False,
    }
    config = dict(header.config)
    assert (config["num_steps_per_env"], config["num_envs"], config["seed"]) == (8, ENVS, 7)
    assert config["algorithm"] == {"class_name": "PPO", "num_learning_epochs": EPOCHS, "num_mini_batches": PARTS}
    assert config["log_dir"].endswith("logs")
    assert "logger" not in config
    assert trained.run.status() == "finished"
    assert not trained.run.faults()


def test_value_losses_with_and_without_clipping(tmp_path: Path) -> None:
    """`value_loss_unclipped` is ½·mean(e²) of the minibatches, clipped or not; `value_loss` is what rsl_rl reports."""
    plain = train(tmp_path / "plain", 2, use_clipped_value_loss=False)
    definition = plain.run.header.value_loss_definition
    assert (definition["clipping"], definition["clip_range"], definition["source"]) == ("none", None, "mean((V - G)^2)")
    clipped = train(tmp_path / "clipped", 2, clip_param=0.002, learning_rate=1e-2)
    for trained in (plain, clipped):
        for row, reported, errors in zip(rows_of(trained.run), trained.reported, trained.errors, strict=True):
            assert row["value_loss"] == 0.5 * reported["Loss/value"]
            assert row["value_loss_unclipped"] == pytest.approx(0.5 * (errors**2).mean(), rel=1e-6)
            is_equal = row["value_loss_unclipped"] == row["value_loss"]
            assert is_equal == (trained is plain)


def test_value_loss_is_half_the_squared_error_of_the_rollout(tmp_path: Path) -> None:
    """Where nothing is learned, both value losses are ½·mean((V − G)²) of the rollout, from its storage."""
    still = train(tmp_path, 2, learning_rate=1e-12, schedule="fixed")
    for row, values, returns in zip(rows_of(still.run), still.values, still.returns, strict=True):
        assert row["value_loss"] == pytest.approx(0.5 * ((values - returns) ** 2).mean(), rel=1e-4)
        assert row["value_loss_unclipped"] == pytest.approx(row["value_loss"], rel=1e-6)


# ---------------------------------------------------------------------- the other writer


def test_the_other_writer_gets_what_rsl_rl_calls(trained: Trained) -> None:
    """Checkpoints, the configuration and the end are passed on, and so are the tags with seconds as step."""
    other = train(Path(trained.run.path).parent.parent / "other", 3)
    assert Kept.calls == ["store_config", "save_model 0", "save_model 2", "save_model 2", "stop"]
    assert {"Train/mean_reward/time", "Train/mean_reward"} <= {tag for tag, _, _ in Kept.scalars}
    assert len(rows_of(other.run)) == 3


def test_event_files_are_written_as_without_the_writer(tmp_path: Path) -> None:
    """By default TensorBoard's files are in the folder of logs, with the same tags and numbers as rsl_rl's own."""
    tags: list[dict[str, list[float]]] = []
    for name, logger in (("plain", None), ("recorded", {"also": "tensorboard"})):
        runner = make_runner(tmp_path / name, logger)
        torch.manual_seed(1)
        runner.learn(3)
        if logger is None:
            runner.logger.writer.close()  # type: ignore[union-attr]
        events = EventAccumulator(str(tmp_path / name / "logs"))
        events.Reload()
        found = events.Tags()["scalars"]
        tags.append({tag: [event.value for event in events.Scalars(tag)] for tag in found})
    assert tags[0].keys() == tags[1].keys()
    assert {tag for tag in tags[0] if tags[0][tag] != tags[1][tag]} <= {
        "Perf/total_fps",
        "Perf/collection_time",
        "Perf/learning_time",
    }


# ---------------------------------------------------------------------- the black box


def test_the_black_box_has_each_minibatch_up_to_the_first_that_is_not_finite(tmp_path: Path) -> None:
    """What is NaN is written at once, with the minibatches before it: losses, ratios, norms of both networks."""
    runner = make_runner(tmp_path, {})
    alg: Any = runner.alg
    generator = alg.storage.mini_batch_generator
    seen: list[Any] = []

    def breaking(*arguments: Any) -> Any:
        for number, batch in enumerate(generator(*arguments)):
            seen.append(batch)
            if len(seen) == EPOCHS * PARTS + 2:
                batch.returns = batch.returns * torch.nan
            yield batch
            assert number < EPOCHS * PARTS

    alg.storage.mini_batch_generator = breaking
    with pytest.raises(RuntimeError, match="normal expects all elements of std"):  # what people come with
        runner.learn(3)
    (box, *_) = open_run(tmp_path / "runs" / "mine").black_boxes()
    assert (box.trigger, box.minibatches) == ("not_finite", EPOCHS * PARTS + 2)
    rows = box.rows()
    assert rows["epoch"].to_list() == [1, 1, 2, 2, 1, 1]
    assert rows["value_loss"].is_nan().to_list() == [False] * 5 + [True]
    for name in ("policy_loss", "entropy", "kl_divergence", "clip_fraction", "ratio_max"):
        assert rows[name].is_finite().to_list()[:5] == [True] * 5, name
    total = np.hypot(rows["actor_grad_norm"].to_numpy(), rows["critic_grad_norm"].to_numpy())
    assert rows["grad_norm"].to_numpy()[:5] == pytest.approx(total[:5], rel=1e-5)


def test_losses_of_the_minibatches_are_those_of_the_update(tmp_path: Path) -> None:
    """The means of the black box over an update are the losses that rsl_rl reports for it."""
    runner = make_runner(tmp_path, {})
    attach(runner, on_update=lambda row: runner.logger.writer._recorder.dump_black_box("to look at it"))  # type: ignore[union-attr]
    runner.learn(1)
    (row,) = rows_of(open_run(tmp_path / "runs" / "mine"))
    minibatches = open_run(tmp_path / "runs" / "mine").black_boxes()[0].rows()
    for name in ("value_loss", "policy_loss", "entropy", "kl_divergence", "clip_fraction"):
        assert minibatches[name].mean() == pytest.approx(row[name], rel=1e-5, abs=1e-8), name
