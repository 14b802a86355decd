"""One PPO update: epochs of minibatches over a rollout, without host transfers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from esper_recorder.train import losses
from esper_recorder.train.config import PPOConfig
from esper_recorder.train.networks import ActorCritic
from esper_recorder.train.rollout import Rollout
from esper_recorder.train.statistics import UpdateStatistics

OnStep = Callable[[int, Mapping[str, Tensor]], None]


@dataclass(frozen=True, slots=True)
class Minibatch:
    """The tensors from which one minibatch's losses were computed, [B] each, for checks.

    Values and targets are on the scale of the value targets; advantages are those that the loss used.
    """

    values: Tensor
    old_values: Tensor
    targets: Tensor
    log_probs: Tensor
    old_log_probs: Tensor
    advantages: Tensor
    entropy: Tensor
    valid: Tensor


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How far an update went; `early_stop_epoch` counts from 1 and is None if KL did not stop the update."""

    epochs_run: int
    minibatches: int
    early_stop_epoch: int | None


class PPO:
    """The learner: model, optimiser and the accumulators of an update.

    `statistics` has the results of the last call of `update`.
    """

    def __init__(self, model: ActorCritic, config: PPOConfig, generator: torch.Generator) -> None:
        self.model = model
        self.config = config
        self.generator = generator
        self.parameters = list(model.parameters())
        device = self.parameters[0].device
        # The fused kernel updates all parameters in one call and reads nothing back.
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.learning_rate, eps=config.adam_eps, fused=True)
        self.statistics = UpdateStatistics(device)

    def update(
        self,
        rollout: Rollout,
        *,
        learning_rate: float,
        on_minibatch: Callable[[Minibatch], None] | None = None,
        on_step: OnStep | None = None,
        heartbeat: Callable[[], None] | None = None,
    ) -> UpdateResult:
        """Train on `rollout`, then leave its statistics in `self.statistics`.

        Args:
            rollout: What to train on.
            learning_rate: Learning rate for this whole update.
            on_minibatch: Called with the tensors of each minibatch before its optimiser step.
            on_step: Called after each optimiser step with the epoch, from 1, and the numbers of its minibatch.
            heartbeat: Called before each minibatch; may raise to end the training.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.statistics.reset()
        scale = self._rescale_targets(rollout)
        old_values, targets = rollout.values / scale, rollout.returns / scale
        advantages = self._normalized_advantages(rollout)
        executed = 0
        for epoch in range(1, self.config.epochs + 1):
            kl_before, samples_before = self.statistics.kl_sum()
            order = torch.randperm(len(targets), generator=self.generator, device=targets.device)
            for rows in order.tensor_split(self.config.minibatches):
                if heartbeat is not None:
                    heartbeat()
                numbers = self._step(rollout, rows, old_values[rows], targets[rows], advantages[rows], on_minibatch)
                if on_step is not None:
                    on_step(epoch, numbers)
                executed += 1
            if self.config.target_kl is not None:
                kl, samples = self.statistics.kl_sum()
                if float((kl - kl_before) / (samples - samples_before)) > self.config.target_kl:
                    return UpdateResult(epoch, executed, epoch)
        return UpdateResult(self.config.epochs, executed, None)

    def optimizer_state(self) -> dict[str, dict[str, Tensor]]:
        """Return a copy of Adam's state of each parameter, by name; before the first step these are zeros."""
        states = {}
        for name, parameter in self.model.named_parameters():
            initial = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            current = self.optimizer.state.get(parameter, initial)
            states[name] = {key: current[key].detach().clone() for key in initial}
        return states

    def load_optimizer_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Continue from a copy of `state`."""
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter] = {
                key: value.to(parameter.device, copy=True) for key, value in state[name].items()
            }

    def _rescale_targets(self, rollout: Rollout) -> Tensor:
        """Update the target scale with the rollout's returns; return the divisor of the targets, 0-d float32."""
        if not self.config.scale_value_targets:
            return self.model.return_scale.scale.float()
        old_scale = self.model.return_scale.scale.clone()
        self.model.return_scale.update(rollout.returns, rollout.valid)
        self.model.rescale_values((old_scale / self.model.return_scale.scale).float())
        return self.model.return_scale.scale.float()

    def _normalized_advantages(self, rollout: Rollout) -> Tensor:
        if not self.config.normalize_advantage:
            return rollout.advantages
        mean = losses.masked_mean(rollout.advantages, rollout.valid)
        centred = rollout.advantages - mean
        variance = losses.masked_mean(centred**2, rollout.valid)
        return centred / (variance.sqrt() + 1e-8)

    def _step(
        self,
        rollout: Rollout,
        rows: Tensor,
        old_values: Tensor,
        targets: Tensor,
        advantages: Tensor,
        on_minibatch: Callable[[Minibatch], None] | None,
    ) -> dict[str, Tensor]:
        """Compute loss, clipped gradient, optimiser step and statistics for the minibatch of `rows` [B].

        Returns:
            Name of the metrics table → 0-d tensor, for the numbers of this minibatch alone.
        """
        config = self.config
        valid = rollout.valid[rows]
        observations, old_log_probs = rollout.observations[rows], rollout.log_probs[rows]
        log_probs, entropy = self.model.evaluate(observations, rollout.actions[rows])
        values = self.model.predict_values(observations)
        # The ratio is set to 1 on rows without a sample, so that they cannot overflow.
        log_ratio = torch.where(valid, log_probs - old_log_probs, 0.0)
        policy_loss = losses.masked_mean(losses.policy_loss_per_sample(log_ratio, advantages, config.clip_range), valid)
        value_loss = losses.masked_mean(
            losses.value_loss_per_sample(values, old_values, targets, config.value_clip), valid
        )
        mean_entropy = losses.masked_mean(entropy, valid)
        if on_minibatch is not None:
            tensors = (values, old_values, targets, log_probs, old_log_probs, advantages, entropy, valid)
            on_minibatch(Minibatch(*(tensor.detach() for tensor in tensors)))

        loss = policy_loss + config.vf_coef * value_loss - config.entropy_coef * mean_entropy
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        norm = get_total_norm(gradients)
        clip_grads_with_norm_(self.parameters, config.max_grad_norm, norm)
        self.optimizer.step()

        with torch.no_grad():
            positive, negative = losses.clip_fractions(log_ratio, config.clip_range)
            unclipped = losses.value_loss_per_sample(values, old_values, targets, None)
            deviation = torch.expm1(log_ratio)
            means = (
                policy_loss,
                value_loss,
                losses.masked_mean(unclipped, valid),
                mean_entropy,
                losses.masked_mean(losses.kl_k3(log_ratio), valid),
                losses.masked_mean(positive, valid),
                losses.masked_mean(negative, valid),
                losses.masked_mean(deviation, valid),
                losses.masked_mean(deviation**2, valid),
                norm,
                norm * (config.max_grad_norm / (norm + 1e-6)).clamp(max=1.0),
            )
            bad = torch.stack((flat.isnan().sum(), flat.isinf().sum()))
            ratio = log_ratio.exp()
            self.statistics.add(means, valid, ratio, log_probs, bad)
            return {
                "policy_loss": policy_loss,
                "value_loss": value_loss,
                "entropy": mean_entropy,
                "kl_divergence": means[4],
                "clip_fraction": means[5] + means[6],
                "grad_norm": norm,
                "ratio_max": ratio.max(),
            }
