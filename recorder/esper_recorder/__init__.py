"""A flight recorder for PPO training runs: one payload per update, appended, sealed, never lost."""

from esper_recorder.recorder import Recorder
from esper_recorder.registered_env import env_kwargs_of, return_goal_of
from esper_recorder.rollout import rollout_statistics
from esper_schemas import EsperError, PPOUpdatePayload, ValueLossDefinition

__all__ = [
    "EsperError",
    "PPOUpdatePayload",
    "Recorder",
    "ValueLossDefinition",
    "env_kwargs_of",
    "return_goal_of",
    "rollout_statistics",
]
