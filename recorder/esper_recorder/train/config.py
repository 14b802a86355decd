"""The hyper-parameters of the built-in PPO trainer: default, bounds and help text, in one frozen dataclass.

The options of `esper-rec train` and the configuration in a run's header are both derived from `PPOConfig`.
This module does not import torch, so `esper-rec --help` is fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self, get_args, get_type_hints

from esper_schemas.errors import UsageError

DEFAULT_ENV = "CartPole-v1"

DEFAULT_TOTAL_STEPS = 450_560
"""Length of a run in environment steps, if neither its preset nor the caller sets one."""

MAX_ENV_ID = 200
MAX_ROLLOUT_SAMPLES = 2**26
MAX_WEIGHTS = 2**23
"""Upper bounds on an id, a rollout and each network; they also protect against a checkpoint from somebody else."""


def _parameter(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    exclusive: bool = False,
) -> Any:
    """Declare a hyper-parameter; with `exclusive`, `low` itself is not allowed."""
    bounds = {"low": low, "high": high, "exclusive": exclusive}
    return field(default=default, metadata={"description": description, **bounds})


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig:
    """Hyper-parameters of one training run; the defaults train CartPole-v1.

    Give either `total_steps` or `updates` to set the length of the run; see `num_updates`. Use `for_env` to start
    from the preset of an environment.

    Raises:
        UsageError: a value is out of range, or two values contradict each other.
    """

    env: str = _parameter(
        DEFAULT_ENV,
        "Environment id. CartPole-v1 is built in and runs on the training device; Gymnasium makes every other"
        " one, and the prefix gym: forces Gymnasium (gym:CartPole-v1).",
    )
    num_envs: int = _parameter(64, "Number of environments, stepped in parallel.", low=1, high=2**20)
    total_steps: int | None = _parameter(
        None,
        f"Length of the run in environment steps, rounded up to whole updates.  [default: {DEFAULT_TOTAL_STEPS}]",
        low=1,
        high=10**11,
    )
    updates: int | None = _parameter(
        None, "Length of the run in PPO updates, instead of --total-steps.", low=1, high=10**9
    )
    seed: int = _parameter(
        0, "Seed of all random generators; a CPU run is reproducible bit for bit.", low=0, high=2**31 - 1
    )
    checkpoint_updates: int = _parameter(
        10,
        "Number of updates between checkpoints for --resume; one is also written at the start, at the end and on"
        " Ctrl-C. 0 writes none.",
        low=0,
        high=10**9,
    )

    rollout_steps: int = _parameter(64, "Steps of each environment per update.", low=1, high=2**20)
    epochs: int = _parameter(4, "Passes over the rollout per update.", low=1, high=10_000)
    minibatches: int = _parameter(4, "Minibatches per epoch.", low=1, high=2**20)
    gamma: float = _parameter(0.995, "Discount factor.", low=0, high=1)
    gae_lambda: float = _parameter(0.95, "λ of generalised advantage estimation.", low=0, high=1)
    learning_rate: float = _parameter(4e-4, "Learning rate of Adam.", low=0, high=1000, exclusive=True)
    anneal_lr: bool = _parameter(True, "Lower the learning rate linearly to zero over the run.")
    clip_range: float = _parameter(
        0.2, "Policy clip: the ratio is clipped to 1 ± this.", low=0, high=1000, exclusive=True
    )
    value_clip: float | None = _parameter(
        10.0,
        "Value clip, on the scale of the value targets; --no-value-clip turns it off (½·MSE).",
        low=0,
        high=1e12,
        exclusive=True,
    )
    vf_coef: float = _parameter(0.5, "Weight of the value loss.", low=0, high=1e6)
    entropy_coef: float = _parameter(0.03, "Weight of the entropy bonus.", low=0, high=1e6)
    max_grad_norm: float = _parameter(0.5, "Global L2 norm to clip the gradient to.", low=0, high=1e12, exclusive=True)
    target_kl: float | None = _parameter(
        None,
        "Stop an update after the first epoch whose mean KL divergence exceeds this. Off by default, because"
        " it waits for the device once per epoch.",
        low=0,
        high=1e6,
        exclusive=True,
    )
    normalize_advantage: bool = _parameter(
        True, "Normalise the advantages of each rollout to mean 0 and standard deviation 1."
    )
    scale_value_targets: bool = _parameter(
        True, "Divide value targets by the running standard deviation of the returns."
    )
    value_scale_decay: float = _parameter(
        0.8, "Decay per update of the running standard deviation of the returns.", low=0, high=0.999
    )
    normalize_observations: bool = _parameter(
        False, "Normalise observations to mean 0 and standard deviation 1, by running statistics."
    )
    hidden_size: int = _parameter(64, "Units in each hidden layer of policy and value network.", low=1, high=4096)
    hidden_layers: int = _parameter(2, "Hidden layers of policy and value network.", low=1, high=64)
    log_std_init: float = _parameter(0.0, "Initial log standard deviation of continuous actions.", low=-20, high=2)
    adam_eps: float = _parameter(1e-5, "ε of Adam.", low=0, high=1, exclusive=True)
    threads: int = _parameter(1, "CPU threads of torch; one is fastest for such small networks.", low=1, high=1024)

    def __post_init__(self) -> None:
        for parameter in fields(self):
            _check_bounds(parameter.name, getattr(self, parameter.name), parameter.metadata)
        if len(self.env) > MAX_ENV_ID:
            raise UsageError(f"--env must be at most {MAX_ENV_ID} characters long, found {len(self.env):,}")
        if self.total_steps is not None and self.updates is not None:
            raise UsageError("give either --total-steps or --updates, not both")
        if self.samples_per_rollout > MAX_ROLLOUT_SAMPLES:
            raise UsageError(
                f"--num-envs × --rollout-steps must be at most {MAX_ROLLOUT_SAMPLES:,},"
                f" found {self.samples_per_rollout:,}"
            )
        if self.hidden_layers * self.hidden_size**2 > MAX_WEIGHTS:
            raise UsageError(
                f"--hidden-layers × --hidden-size² must be at most {MAX_WEIGHTS:,},"
                f" found {self.hidden_layers * self.hidden_size**2:,}"
            )
        if self.minibatches > self.samples_per_rollout:
            raise UsageError(
                f"--minibatches must be at most num_envs × rollout_steps = {self.samples_per_rollout},"
                f" found {self.minibatches}"
            )

    @classmethod
    def for_env(cls, env: str, **overrides: Any) -> PPOConfig:
        """Make the configuration for `env`: the defaults, then its preset, then `overrides`.

        Raises:
            UsageError: as the constructor.
        """
        preset = dict(preset_of(env))
        if "updates" in overrides:
            preset.pop("total_steps", None)
        return cls(**{**preset, **overrides, "env": env})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the configuration from what `dataclasses.asdict` returned for it.

        Raises:
            UsageError: a name is missing or unknown, a value has the wrong type, or as the constructor.
        """
        kinds = get_type_hints(cls)
        if values.keys() != kinds.keys():
            differing = ", ".join(ascii(name[:40]) for name in sorted(map(str, values.keys() ^ kinds.keys())))
            raise UsageError(f"its hyper-parameters differ from those of this version of Esper: {differing[:200]}")
        for name, value in values.items():
            kind = get_args(kinds[name]) or (kinds[name],)
            if type(value) not in kind and not (type(value) is int and float in kind):
                given = ascii(value[:60]) if isinstance(value, str) else f"a {type(value).__name__}"
                raise UsageError(f"{option_name(name)} has a value of the wrong type, {given}")
        return cls(**values)

    def resumed_with(self, given: Mapping[str, Any]) -> Self:
        """Return this configuration with the fields from `given` that a resume may change: `CHANGED_BY_RESUME`.

        Raises:
            UsageError: `given` contradicts another field; the message names every such option.
        """
        contradicting = {
            name: value
            for name, value in given.items()
            if name not in CHANGED_BY_RESUME and value != getattr(self, name)
        }
        if contradicting:
            wanted = ", ".join(spell_option(name, value) for name, value in contradicting.items())
            own = ", ".join(spell_option(name, getattr(self, name)) for name in contradicting)
            raise UsageError(
                f"{wanted}: the run was started with {own}, and a resumed run keeps its options;"
                " only --updates or --total-steps, and --checkpoint-updates, can change"
            )
        changes = {name: given[name] for name in CHANGED_BY_RESUME if name in given}
        if "updates" in changes or "total_steps" in changes:
            changes = {"updates": None, "total_steps": None} | changes
        return replace(self, **changes)

    @property
    def samples_per_rollout(self) -> int:
        """Number of rows in one rollout, including rows that only reset an environment."""
        return self.num_envs * self.rollout_steps

    @property
    def num_updates(self) -> int:
        """Length of the run in PPO updates."""
        if self.updates is not None:
            return self.updates
        return math.ceil((self.total_steps or DEFAULT_TOTAL_STEPS) / self.samples_per_rollout)

    def to_dict(self) -> dict[str, Any]:
        """Return every hyper-parameter by name, and `num_updates`, for the run's header."""
        return asdict(self) | {"num_updates": self.num_updates}


CHANGED_BY_RESUME = ("total_steps", "updates", "checkpoint_updates")
"""Fields that `esper-rec train --resume` takes from the command line; the run decides all others."""

GYMNASIUM_PRESET: Mapping[str, Any] = {
    "num_envs": 16,
    "rollout_steps": 128,
    "total_steps": 500_000,
    "gamma": 0.99,
    "learning_rate": 5e-4,
    "epochs": 10,
    "entropy_coef": 0.01,
    "normalize_observations": True,
}
"""Differences from the defaults for Gymnasium environments without a preset of their own."""

ENV_PRESETS: dict[str, Mapping[str, Any]] = {
    "CartPole-v1": {},
    "Acrobot-v1": {**GYMNASIUM_PRESET, "total_steps": 200_000, "epochs": 4, "learning_rate": 1e-3},
    "Pendulum-v1": {
        **GYMNASIUM_PRESET,
        "rollout_steps": 200,
        "total_steps": 200_000,
        "minibatches": 8,
        "gamma": 0.95,
        "learning_rate": 1e-3,
        "entropy_coef": 0.0,
    },
}
"""Differences from the defaults for environments that we have tried."""


def preset_of(env: str) -> Mapping[str, Any]:
    """Return the differences from the defaults for the environment id `env`, with or without the prefix gym:."""
    return ENV_PRESETS.get(env.removeprefix("gym:"), GYMNASIUM_PRESET)


def option_name(parameter: str) -> str:
    """Return the command-line option of a hyper-parameter: rollout_steps -> --rollout-steps."""
    return "--" + parameter.replace("_", "-")


def spell_option(parameter: str, value: Any) -> str:
    """Write a hyper-parameter as it is given on the command line: --gamma 0.99, --no-anneal-lr."""
    option = option_name(parameter)
    if value is None or value is False:
        return "--no-" + option.removeprefix("--")
    return option if value is True else f"{option} {ascii(value)[1:-1] if isinstance(value, str) else value}"


def _check_bounds(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if value is None or isinstance(value, (bool, str)):
        return
    is_short = isinstance(value, float) or value.bit_length() < 64
    shown = _plain(value) if is_short else f"a number of {value.bit_length():,} bits"
    low, high, exclusive = bounds["low"], bounds["high"], bounds["exclusive"]
    too_low = low is not None and (value <= low if exclusive else value < low)
    too_high = high is not None and value > high
    if not too_low and not too_high and math.isfinite(value):
        return
    wanted = []
    if low is not None:
        wanted.append(f"{'greater than' if exclusive else 'at least'} {_plain(low)}")
    if high is not None:
        wanted.append(f"at most {_plain(high)}")
    raise UsageError(f"{option_name(name)} must be {' and '.join(wanted) or 'finite'}, found {shown}")


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
