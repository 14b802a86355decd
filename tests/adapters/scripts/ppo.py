"""A PPO in one file, in the shape of CleanRL's `ppo.py`: its tags and its habits, in lines of our own."""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

GAMMA, LAMBDA = 0.99, 0.95


def parse_args(env_id: str) -> argparse.Namespace:
    """The options; all of them are logged as hyper-parameters."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--exp-name", default="ppo")
    parser.add_argument("--env-id", default=env_id)
    parser.add_argument("--writer", default="torch.utils.tensorboard")
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2.5e-4)
    parser.add_argument("--clip-coef", type=float, default=0.2)
    parser.add_argument("--clip-vloss", type=bool, default=True)
    parser.add_argument("--ent-coef", type=float, default=0.01)
    parser.add_argument("--fail-at", type=int, default=-1)
    parser.add_argument("--exit-code", type=int, default=0)
    parser.add_argument("--target-kl", type=float, default=None)
    return parser.parse_args()


class Agent(nn.Module):
    """Actor and critic."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, 1))
        self.actor = nn.Sequential(nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, actions))

    def policy(self, seen: Tensor) -> Any:
        """The distribution over actions."""
        return Categorical(logits=self.actor(seen))

    def to_env(self, action: Tensor) -> Any:
        """An action as the environment takes it."""
        return int(action)


def log_prob(policy: Any, actions: Tensor) -> Tensor:
    """Logarithm of the probability of actions; of several dimensions, their sum."""
    found: Tensor = policy.log_prob(actions)
    return found if isinstance(policy, Categorical) else found.sum(-1)


def train(args: argparse.Namespace, make_agent: Any = Agent) -> None:
    """Train, and log as CleanRL logs."""
    run_name = f"{args.env_id}__{args.exp_name}__1__{int(time.time())}"
    writer = __import__(args.writer, fromlist=["SummaryWriter"]).SummaryWriter(f"runs/{run_name}")
    table = "\n".join(f"|{key}|{value}|" for key, value in vars(args).items())
    writer.add_text("hyperparameters", f"|param|value|\n|-|-|\n{table}")
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    env = gym.make(args.env_id)
    size, space = int(np.prod(env.observation_space.shape or ())), env.action_space
    agent = make_agent(size, int(getattr(space, "n", 0)) or int(np.prod(space.shape or ())))
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    started, global_step, length, gain = time.time(), 0, 0, 0.0
    observation = torch.tensor(env.reset(seed=1)[0], dtype=torch.float32)
    for update in range(args.updates):
        rows: list[tuple[Tensor, Tensor, Tensor, Tensor, float, bool]] = []
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1.0 - update / args.updates)
        for _ in range(args.num_steps):
            global_step += 1
            with torch.no_grad():
                policy = agent.policy(observation)
                action = policy.sample()
                kept = (observation, action, log_prob(policy, action), agent.critic(observation)[0])
            following, reward, terminated, truncated, _ = env.step(agent.to_env(action))
            length, gain, is_end = length + 1, gain + float(reward), terminated or truncated
            rows.append((*kept, float(reward), is_end))
            if is_end:
                writer.add_scalar("charts/episodic_return", np.array([gain], dtype=np.float32), global_step)
                writer.add_scalar("charts/episodic_length", length, global_step)
                following, length, gain = env.reset()[0], 0, 0.0
            observation = torch.tensor(following, dtype=torch.float32)
        numbers = learn(args, agent, optimizer, rows, observation)
        if update == args.fail_at:
            raise RuntimeError("the trainer broke")
        writer.add_scalar("charts/learning_rate", optimizer.param_groups[0]["lr"], global_step)
        for name, value in numbers.items():
            writer.add_scalar(f"losses/{name}", value, global_step)
        writer.add_scalar("charts/SPS", int(global_step / (time.time() - started)), global_step)
    env.close()
    writer.close()
    if args.exit_code:
        raise SystemExit(args.exit_code)


def learn(args: argparse.Namespace, agent: Any, optimizer: Any, rows: list[Any], observation: Tensor) -> dict[str, Any]:
    """Two epochs of two minibatches; the numbers of the last minibatch, as CleanRL logs them."""
    seen, actions, old, values = (torch.stack([row[part] for row in rows]) for part in range(4))
    advantages, running = torch.zeros(len(rows)), torch.tensor(0.0)
    with torch.no_grad():
        after = agent.critic(observation)[0]
    for t in reversed(range(len(rows))):
        alive = 1.0 - float(rows[t][5])
        running = rows[t][4] + GAMMA * after * alive - values[t] + GAMMA * LAMBDA * alive * running
        advantages[t], after = running, values[t]
    returns, clipped_share = advantages + values, []
    for _ in range(2):
        for part in torch.randperm(len(rows)).chunk(2):
            policy = agent.policy(seen[part])
            log_ratio = log_prob(policy, actions[part]) - old[part]
            ratio = log_ratio.exp()
            with torch.no_grad():
                old_approx_kl, approx_kl = (-log_ratio).mean(), ((ratio - 1) - log_ratio).mean()
                clipped_share.append(((ratio - 1.0).abs() > args.clip_coef).float().mean().item())
            normal = (advantages[part] - advantages[part].mean()) / (advantages[part].std() + 1e-8)
            near = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
            policy_loss = torch.max(-normal * ratio, -normal * near).mean()
            value = agent.critic(seen[part])[:, 0]
            moved = values[part] + (value - values[part]).clamp(-args.clip_coef, args.clip_coef)
            value_loss = 0.5 * torch.max((value - returns[part]) ** 2, (moved - returns[part]) ** 2).mean()
            entropy = policy.entropy().mean()
            optimizer.zero_grad()
            (policy_loss - args.ent_coef * entropy + 0.5 * value_loss).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    spread = np.var(returns.numpy())
    return {
        "value_loss": value_loss.item(),
        "policy_loss": policy_loss,  # a tensor with a gradient, as some write it
        "entropy": entropy.item(),
        "old_approx_kl": old_approx_kl.item(),
        "approx_kl": approx_kl.item(),
        "clipfrac": np.mean(clipped_share),
        "explained_variance": np.nan if spread == 0 else 1 - np.var((returns - values).numpy()) / spread,
    }


if __name__ == "__main__":
    train(parse_args("CartPole-v1"))
