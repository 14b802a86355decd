"""Every formula of PPO against an independent calculation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esper_recorder.train import losses

RNG = np.random.default_rng(7)
B = 257


def tensor(values: np.ndarray) -> torch.Tensor:
    """As the trainer holds numbers: float32."""
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("value_clip", [None, 0.3, 10.0])
def test_value_loss_is_half_the_larger_squared_error_of_each_sample(value_clip: float | None) -> None:
    """Each sample's value loss is ½·max(e², e_clipped²), or ½·e² without a clip."""
    values, old, targets = RNG.normal(size=(3, B))
    expected = []
    for v, v_old, g in zip(values, old, targets, strict=True):
        error = (v - g) ** 2
        if value_clip is not None:
            moved = min(max(v - v_old, -value_clip), value_clip)
            error = max(error, (v_old + moved - g) ** 2)
        expected.append(0.5 * error)
    found = losses.value_loss_per_sample(tensor(values), tensor(old), tensor(targets), value_clip)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_maximum_of_the_value_loss_is_taken_per_sample_and_not_of_the_means() -> None:
    """Two samples, each worst under another form: the loss is the mean of the two worst errors."""
    values = torch.tensor([2.0, 0.0])
    old = torch.tensor([0.0, 0.0])
    targets = torch.tensor([2.0, 3.0])
    # First: e = 0, clipped to 1 it is 1. Second: both are 9. Mean of maxima ½·(1 + 9)/2.
    loss = losses.value_loss_per_sample(values, old, targets, 1.0).mean()
    assert loss.item() == pytest.approx(2.5)
    values, targets = torch.tensor([2.0, 2.0]), torch.tensor([2.0, -1.0])
    # First: 0 against 1. Second: 9 against 4. Maximum of means is ½·4.5, mean of maxima ½·5.
    assert losses.value_loss_per_sample(values, old, targets, 1.0).mean().item() == pytest.approx(2.5)


def test_a_wide_value_clip_changes_nothing() -> None:
    """With no prediction moved further than the clip, clipped and unclipped form agree."""
    values, old, targets = (tensor(x) for x in RNG.uniform(-1, 1, size=(3, B)))
    clipped = losses.value_loss_per_sample(values, old, targets, 10.0)
    torch.testing.assert_close(clipped, losses.value_loss_per_sample(values, old, targets, None))


def test_policy_loss_is_the_negative_clipped_surrogate() -> None:
    """Each sample's policy loss is −min(r·A, clip(r)·A)."""
    log_ratio, advantages = RNG.normal(scale=0.4, size=B), RNG.normal(size=B)
    ratio = np.exp(log_ratio)
    expected = -np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
    found = losses.policy_loss_per_sample(tensor(log_ratio), tensor(advantages), 0.2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_kl_is_the_k3_estimator_and_never_negative() -> None:
    """KL of a sample is (r − 1) − log r, also where rounding would take it below zero."""
    log_ratio = np.concatenate([RNG.normal(scale=0.5, size=B), RNG.normal(scale=1e-5, size=B), [0.0]])
    found = losses.kl_k3(tensor(log_ratio)).numpy()
    exact = np.float32(log_ratio).astype(np.float64)
    np.testing.assert_allclose(found, np.expm1(exact) - exact, rtol=1e-4, atol=1e-7)
    assert (found >= 0).all()


def test_clip_fractions_count_each_side() -> None:
    """A ratio beyond 1 + clip counts as positive, one below 1 − clip as negative, the rest as neither."""
    ratio = torch.tensor([0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0])
    positive, negative = losses.clip_fractions(ratio.log(), 0.2)
    assert positive.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert negative.tolist() == [1, 1, 0, 0, 0, 0, 0]


def test_losses_are_differentiable() -> None:
    """Analytic gradients of both losses equal numerical ones."""
    generator = torch.Generator().manual_seed(1)
    a, b, c = torch.randn((3, 12), dtype=torch.float64, generator=generator)
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.value_loss_per_sample(x, b, c, 0.5), (a,))
    assert torch.autograd.gradcheck(lambda x: losses.policy_loss_per_sample(x * 0.3, c, 0.2), (a,))


def test_masked_mean_ignores_what_is_masked() -> None:
    """Only valid entries count, whatever the others hold; of nothing the mean is 0."""
    values = torch.tensor([1.0, torch.nan, 3.0, torch.inf])
    valid = torch.tensor([True, False, True, False])
    assert losses.masked_mean(values, valid).item() == 2.0
    assert losses.masked_mean(values, torch.zeros(4, dtype=torch.bool)).item() == 0.0


def test_advantages_equal_the_sum_over_every_episode() -> None:
    """GAE equals its definition, summed forward from each step to the end of its episode."""
    steps, envs, gamma, gae_lambda = 40, 5, 0.97, 0.9
    values = RNG.normal(size=(steps + 1, envs))
    rewards = RNG.normal(size=(steps, envs))
    kind = RNG.choice(3, p=[0.8, 0.1, 0.1], size=(steps, envs))
    terminated, truncated = kind == 1, kind == 2
    valid = np.ones((steps, envs), dtype=bool)
    for t in range(1, steps):  # the row after an end only resets
        ended = terminated[t - 1] | truncated[t - 1]
        valid[t] = ~ended
        terminated[t] &= valid[t]
        truncated[t] &= valid[t]

    expected, expected_td = np.zeros((steps, envs)), np.zeros((steps, envs))
    for n in range(envs):
        for t in range(steps):
            if not valid[t, n]:
                continue
            weight = 1.0
            for k in range(t, steps):
                bootstrap = 0.0 if terminated[k, n] else values[k + 1, n]
                td = rewards[k, n] + gamma * bootstrap - values[k, n]
                expected[t, n] += weight * td
                if k == t:
                    expected_td[t, n] = td
                if terminated[k, n] or truncated[k, n]:
                    break
                weight *= gamma * gae_lambda
    found, found_td = losses.generalized_advantages(
        tensor(rewards),
        tensor(values),
        torch.tensor(terminated),
        torch.tensor(truncated),
        torch.tensor(valid),
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found_td.numpy(), expected_td, rtol=1e-4, atol=1e-5)


def test_termination_and_truncation_differ_by_the_bootstrap() -> None:
    """After a termination nothing follows; after a truncation the final observation's value does."""
    arguments = (torch.tensor([[1.0]]), torch.tensor([[0.5], [8.0]]))
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    ended, _ = losses.generalized_advantages(*arguments, yes, no, yes, gamma=0.9, gae_lambda=0.95)
    cut, _ = losses.generalized_advantages(*arguments, no, yes, yes, gamma=0.9, gae_lambda=0.95)
    assert ended.item() == pytest.approx(1.0 - 0.5)
    assert cut.item() == pytest.approx(1.0 + 0.9 * 8.0 - 0.5)
