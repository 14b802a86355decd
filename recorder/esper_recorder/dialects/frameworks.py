"""Dialects of frameworks with many algorithms, from Sample Factory to XuanCe."""

from __future__ import annotations

from esper_recorder.dialects.gym import K1, LAST_MINIBATCH, MAX
from esper_recorder.dialects.key import ANY, Dialect, Key
from esper_schemas.metric.catalogue import SLIDING_LENGTH, SLIDING_RETURN
from esper_schemas.run.records import ValueLossDefinition

_ONE = "of one minibatch"
_SINCE = "mean of the episodes that ended since the last row"

SAMPLE_FACTORY = Dialect(
    name="Sample Factory",
    seen="2.1.1",
    keys=(
        Key("train/value_loss", "value_loss", f"{_ONE}; value_loss_coeff is included"),
        Key("train/policy_loss", "policy_loss", _ONE),
        Key("train/entropy", "entropy", _ONE),
        Key("train/kl_divergence", "kl_of_trainer", f"KL(new ‖ old), {LAST_MINIBATCH}; kl_divergence is KL(old ‖ new)"),
        Key("train/fraction_clipped", "clip_fraction", LAST_MINIBATCH),
        Key("train/ratio_mean", "ratio_deviation_mean", f"mean of |1 − ratio|, {LAST_MINIBATCH}"),
        Key("train/ratio_min", "ratio_min", LAST_MINIBATCH),
        Key("train/ratio_max", "ratio_max", LAST_MINIBATCH),
        Key("train/grad_norm", "grad_norm_clipped", f"{_ONE}, after clipping; grad_norm is the norm before"),
        Key("train/lr", "learning_rate"),
        Key("train/actual_lr", "learning_rate_of_minibatch", "lowered where samples of the minibatch are invalid"),
        Key("train/exploration_loss", "exploration_loss", "−exploration_loss_coeff·H; the log has no coefficient"),
        Key("reward/reward", SLIDING_RETURN, "mean of the last stats_avg episodes (100)"),
        Key("len/len", SLIDING_LENGTH, "mean of the last stats_avg episodes (100)"),
        Key("perf/_fps", "steps_per_sec"),
    ),
    signature=("train/value_loss", "train/policy_loss", "train/exploration_loss", "train/actual_lr"),
    value_loss=ValueLossDefinition(
        source=f"value_loss_coeff * {MAX}; V and G are normalised with normalize_returns",
        factor=1.0,
        clipping="max",
        coefficient_included=True,
    ),
    steps="env_steps",
    unclear="value_loss_coeff, which is included in the value loss, and whether normalize_returns standardises the"
    " targets (both by default); the factor is 0.5 / value_loss_coeff, so 1 with the default of 0.5",
)
"""It logs every few seconds, and not every update."""

SHEEPRL = Dialect(
    name="SheepRL",
    seen="0.8.4",
    keys=(
        Key("Loss/value_loss", "value_loss", factor=0.5),
        Key("Loss/policy_loss", "policy_loss"),
        Key("Loss/entropy_loss", "entropy", factor=-1.0),
        Key("Info/learning_rate", "learning_rate"),
        Key("Info/clip_coef", "clip_range"),
        Key("Info/ent_coef", "entropy_coef"),
        Key("Rewards/rew_avg", "episode_return_mean", _SINCE),
        Key("Game/ep_len_avg", "episode_length_mean", _SINCE),
        Key("Time/sps_env_interaction", "rollout_steps_per_sec", "of the rollouts alone"),
    ),
    signature=("Loss/value_loss", "Loss/policy_loss", "Loss/entropy_loss"),
    value_loss=ValueLossDefinition(
        source=f"mean((V - G)^2), or {MAX} with clip_vloss",
        factor=0.5,
        clipping="unknown",
        reduction="all minibatches",
    ),
    steps="env_steps",
)
"""It logs every `metric.log_every` steps; a row has the means of all updates since the last one."""

TORCHRL = Dialect(
    name="TorchRL",
    seen="0.14.1, sota-implementations/ppo",
    keys=(
        Key("train/loss_critic", "value_loss", "critic_coeff is included", factor=0.5),
        Key("train/loss_objective", "policy_loss"),
        Key("train/loss_entropy", "entropy_loss", "−entropy_coeff·H; the log does not have the coefficient"),
        Key("train/lr", "learning_rate"),
        Key("train/clip_epsilon", "clip_range"),
        Key("train/reward", "episode_return_mean"),
        Key("train/episode_length", "episode_length_mean"),
        Key("time/speed", "steps_per_sec", "since the beginning of the training"),
    ),
    signature=("train/loss_critic", "train/loss_objective"),
    value_loss=ValueLossDefinition(
        source="critic_coeff * mean((V - G)^2), or of smooth_l1 errors",
        factor=0.5,
        clipping="unknown",
        reduction="all minibatches",
        coefficient_included=True,
    ),
    steps="env_steps",
    unclear="critic_coeff, which is included in the value loss (1.0 by default, 0.25 in ppo_mujoco.py), and"
    " loss_critic_type; with l2 the factor is 0.5 / critic_coeff",
)

_MEAN = "mean of the last minibatches"

DI_ENGINE = Dialect(
    name="DI-engine",
    seen="0.5.3",
    keys=(
        Key("learner_step/value_loss_avg", "value_loss", _MEAN),
        Key("learner_step/policy_loss_avg", "policy_loss", _MEAN),
        Key("learner_step/entropy_loss_avg", "entropy", f"+H, whatever its name says; {_MEAN}"),
        Key("learner_step/approx_kl_avg", "approx_kl_k1", K1),
        Key("learner_step/clipfrac_avg", "clip_fraction", _MEAN),
        Key("learner_step/value_mean_avg", "value_mean", _MEAN),
        Key("learner_step/cur_lr_avg", "learning_rate"),
        Key("collector_step/reward_mean", "episode_return_mean", _SINCE),
        Key("collector_step/avg_envstep_per_episode", "episode_length_mean", _SINCE),
        *(
            Key(f"learner_iter/{name}_avg", "", f"learner_step/{name}_avg again", kind="again")
            for name in (
                "value_loss",
                "policy_loss",
                "entropy_loss",
                "approx_kl",
                "clipfrac",
                "value_mean",
                "value_max",
                "adv_mean",
                "adv_max",
                "cur_lr",
                "total_loss",
            )
        ),
    ),
    signature=("learner_step/value_loss_avg", "learner_step/policy_loss_avg", "learner_step/clipfrac_avg"),
    value_loss=ValueLossDefinition(
        source=f"0.5 * {MAX}; V and G are divided by the spread of G with value_norm", factor=1.0, clipping="max"
    ),
    steps="env_steps",
)
"""It logs every 100 minibatches, and not every update."""

BRAX = Dialect(
    name="Brax",
    seen="0.14.2",
    keys=(
        Key("training/v_loss", "value_loss", "the coefficient is included", factor=2.0),
        Key("training/policy_loss", "policy_loss"),
        Key("training/entropy_loss", "entropy_loss", "−entropy_cost·H; the log does not have the cost"),
        Key("training/kl_mean", "kl_of_trainer", "of Gaussians before the tanh"),
        Key("training/sps", "steps_per_sec"),
        Key("eval/episode_reward", "episode_return_mean", "of the episodes of an evaluation"),
        Key("eval/avg_episode_length", "episode_length_mean", "of the episodes of an evaluation"),
    ),
    signature=("training/v_loss", "training/policy_loss", "training/entropy_loss"),
    value_loss=ValueLossDefinition(
        source="0.5 * vf_coefficient * mean((V - G)^2)",
        factor=2.0,
        clipping="unknown",
        reduction="all minibatches",
        coefficient_included=True,
    ),
    steps="env_steps",
    unclear="vf_coefficient, which is included in the value loss; the factor is 1 / vf_coefficient, so 2 with the"
    " default of 0.5",
)
"""What its `progress_fn` is handed at each evaluation, under the names it has there."""

_LAST_50 = "mean of the last 50 episodes, not of those that ended in this rollout"

OMNISAFE = Dialect(
    name="OmniSafe",
    seen="0.5.0",
    keys=(
        Key("Loss/Loss_reward_critic", "value_loss", "critic_norm_coef times the squared weights is added", factor=0.5),
        Key(
            "Loss/Loss_cost_critic", "cost_value_loss", "of the critic of the costs, with the same addition", factor=0.5
        ),
        Key("Loss/Loss_pi", "policy_loss", "−entropy_coef·H is included (entropy_coef is 0 by default)"),
        Key("Train/Entropy", "entropy_of_dimension", "mean of the dimensions of an action; entropy is their sum"),
        Key("Train/KL", "kl_divergence", "exact KL(old ‖ new) of the whole rollout, after the last epoch"),
        Key("Train/PolicyRatio", "ratio_mean"),
        Key("Train/PolicyStd", "policy_std"),
        Key("Train/StopIter", "epochs_run"),
        Key("Train/LR", "learning_rate_of_next", "of the update after this one"),
        Key("Train/Epoch", "epoch", "the trainer's number", kind="number"),
        Key("TotalEnvSteps", "env_steps"),
        Key("Metrics/EpRet", SLIDING_RETURN, _LAST_50),
        Key("Metrics/EpLen", SLIDING_LENGTH, _LAST_50),
        Key("Metrics/EpCost", "episode_cost_sliding_mean", _LAST_50),
        Key("Value/reward", "value_mean"),
        Key("Value/cost", "cost_value_mean", "of the critic of the costs"),
        Key("Time/Total", "elapsed_secs"),
        Key("Time/Rollout", "rollout_secs"),
        Key("Time/Update", "update_secs"),
        Key("Time/Epoch", "secs_per_iteration"),
        Key("Time/FPS", "steps_per_sec"),
    ),
    signature=("Loss/Loss_reward_critic", "Loss/Loss_pi", "Train/KL", "Metrics/EpRet"),
    value_loss=ValueLossDefinition(
        source="mean((V - G)^2) + critic_norm_coef * sum of the squared weights of the critic",
        factor=0.5,
        clipping="none",
        reduction="all minibatches",
    ),
    steps="number",
    number="epoch",
    step_key="Train/Epoch",
    unclear="critic_norm_coef (0.001 by default), by which the squared weights of the critic are added to the loss",
)
"""Its other on-policy algorithms log the same keys; nothing in the log tells them from PPO and PPOLag."""

XUANCE = Dialect(
    name="XuanCe",
    seen="1.4.4",
    keys=(
        Key("critic_loss", "value_loss", LAST_MINIBATCH, factor=0.5),
        Key("actor_loss", "policy_loss", LAST_MINIBATCH),
        Key("entropy", "entropy", LAST_MINIBATCH),
        Key("clip_ratio", "clip_fraction", LAST_MINIBATCH),
        Key("predict_value", "value_mean_after", "while the critic learns; value_mean is that from before"),
        Key("learning_rate", "learning_rate"),
        Key(f"Train-Episode-Rewards/{ANY}", "episode_return_mean", "mean of the points", kind="episode"),
        Key(f"Episode-Steps/{ANY}", "episode_length_mean", "mean of the points", kind="episode"),
    ),
    signature=("critic_loss", "actor_loss", "clip_ratio", "predict_value"),
    value_loss=ValueLossDefinition(
        source="mean((V - G)^2); rewards are divided by the spread of the returns with use_rewnorm",
        factor=0.5,
        clipping="none",
        reduction="last minibatch",
    ),
    steps="env_steps",
)
"""Each environment has a key of its own for its episodes."""

_LAST_10 = "mean of the last 10 episodes, not of those that ended in this rollout"

TF_AGENTS = Dialect(
    name="TF-Agents",
    seen="0.19.0",
    keys=(
        Key("Losses/value_estimation_loss", "value_loss", "mean of the epochs; value_pred_loss_coef is included"),
        Key("Losses/policy_gradient_loss", "policy_loss", "mean of the epochs"),
        Key("Losses/entropy", "entropy", "of the first epoch after the update, so on the next rollout"),
        Key(
            "Losses/entropy_regularization_loss",
            "entropy_loss",
            "−entropy_regularization·H; the log has no coefficient",
        ),
        Key("LearningRate/learning_rate", "learning_rate"),
        Key("Metrics/EnvironmentSteps", "env_steps"),
        Key("Metrics/NumberOfEpisodes", "episodes_so_far"),
        Key("Metrics/AverageReturn", SLIDING_RETURN, _LAST_10),
        Key("Metrics/AverageEpisodeLength", SLIDING_LENGTH, _LAST_10),
        *(
            Key(f"Metrics_vs_{steps}/{name}", "", f"Metrics/{name} again, with another step", kind="again")
            for steps in ("EnvironmentSteps", "NumberOfEpisodes")
            for name in ("EnvironmentSteps", "NumberOfEpisodes", "AverageReturn", "AverageEpisodeLength")
            if name != steps
        ),
    ),
    signature=("Losses/value_estimation_loss", "Losses/policy_gradient_loss"),
    value_loss=ValueLossDefinition(
        source="value_pred_loss_coef * mean((V - G)^2), with value_clipping of the larger of both errors",
        factor=1.0,
        clipping="unknown",
        reduction="all minibatches",
        coefficient_included=True,
    ),
    steps="other",
    number="train_step",
    unclear="value_pred_loss_coef, which is included in the value loss (the factor is 0.5 / value_pred_loss_coef, so 1"
    " with the default of 0.5), value_clipping (off by default), and whether rewards are normalised (by default)",
)
"""The step counts epochs, or minibatches."""

AGILERL = Dialect(
    name="AgileRL",
    seen="2.58.0, read",
    keys=(
        Key("train/{module}/value_loss", "value_loss", "divided by batch_size once more", factor=64.0),
        Key("train/{module}/policy_loss", "policy_loss", "divided by batch_size once more", factor=64.0),
        Key("train/{module}/entropy_loss", "entropy_over_batch_size", "divided by batch_size once more", factor=-1.0),
        Key("train/{module}/score", "episode_return_mean", _SINCE),
        Key("train/{module}/local_steps", "env_steps", "of one agent"),
        Key("train/steps_per_second", "steps_per_sec", "mean of the agents"),
        Key("train/global_step", "steps_of_all_agents"),
        Key("eval/{module}/fitness", "evaluation_return_mean", "of the evaluation behind the update"),
    ),
    signature=("train/{module}/value_loss", "train/{module}/policy_loss", "train/{module}/entropy_loss"),
    value_loss=ValueLossDefinition(
        source=f"0.5 * {MAX} / batch_size; {MAX} of a recurrent policy",
        factor=64.0,
        clipping="max",
        reduction="all minibatches",
    ),
    steps="env_steps",
    step_key="train/global_step",
    unclear="batch_size, by which the means of the minibatches are divided once more (the factor is batch_size, so 64"
    " with its default), except of a recurrent policy (the factor is 0.5)",
)
"""Of a population `agent_0` is read. A row has the means of all updates of one of its evolution steps."""
