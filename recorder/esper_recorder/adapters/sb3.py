"""Records a Stable-Baselines3 PPO: `model.learn(n, callback=RecorderCallback("runs", run_id="mine"))`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from esper_recorder.recorder import Recorder
from esper_recorder.writing import log
from esper_recorder.writing.background import UpdateHook
from esper_recorder.writing.opening import Resume
from esper_schemas.errors import UsageError
from esper_schemas.run.records import EndStatus, ValueLossDefinition

try:
    import stable_baselines3
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
except ModuleNotFoundError as error:
    if error.name != "stable_baselines3":
        raise
    raise ModuleNotFoundError(
        "the adapter needs Stable-Baselines3: pip install 'esper-recorder[sb3]'", name=error.name
    ) from None

VALUE_LOSS_FACTOR = 0.5
"""SB3 logs the mean squared error; the column `value_loss` is half of that."""

NEARLY_CONSTANT = 1e-8
"""A variance below this share of max(1, mean²) is rounding noise of float32: nothing can be explained in it."""

_LOGGED = {
    "policy_loss": "train/policy_gradient_loss",
    "kl_divergence": "train/approx_kl",
    "clip_fraction": "train/clip_fraction",
    "explained_variance": "train/explained_variance",
    "learning_rate": "train/learning_rate",
    "clip_range": "train/clip_range",
}
"""Metrics that SB3 logs under another name, as they are."""

_HYPER_PARAMETERS = (
    "n_steps",
    "batch_size",
    "n_epochs",
    "gamma",
    "gae_lambda",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "normalize_advantage",
    "target_kl",
    "use_sde",
    "sde_sample_freq",
    "n_envs",
    "seed",
    "policy_kwargs",
)
_SCHEDULES = {"learning_rate": "lr_schedule", "clip_range": "clip_range", "clip_range_vf": "clip_range_vf"}


class RecorderCallback(BaseCallback):
    """Records every update of a `stable_baselines3.PPO`, the last one too, whatever `log_interval` is.

    The run is opened when `learn` begins and closed when it returns. `learn` again with the same callback adds an
    attempt to the same run; updates and environment steps count on. If `learn` is left by an exception, all rows
    are safe; as a context manager (`with RecorderCallback(...) as callback:`) the callback then closes the run
    as interrupted or failed, without one that happens at the latest when the program ends. The training itself is
    never changed: nothing is drawn from its generators, and nothing that goes wrong while recording is
    raised, except with `strict=True`. What is recorded, and what is not, is in recorder/ADAPTERS.md.

    Args:
        root: Folder of runs.
        run_id: Name of the run and of its folder; made from the time if absent.
        config: Hyper-parameters of your own, stored in the header beside those of the PPO.
        env: Name of the environment, where that which the environment gives itself will not do.
        resume, on_update, strict: As of `Recorder.open`. A resumed run goes on at the update that
            `model.num_timesteps` stands for, so that a model loaded from a checkpoint supersedes what came after it.

    Raises:
        UsageError: `learn` was called on another algorithm than PPO, or on another model than before.
        UsageError, RunExistsError, RunLockedError, RunDamagedError, OSError: as `Recorder.open`, from `learn`,
            before the first step.

    Attributes:
        path: Folder of the run; None before `learn` was called.
    """

    model: PPO

    def __init__(
        self,
        root: str | os.PathLike[str] = "runs",
        *,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        env: str | None = None,
        resume: Resume = "never",
        on_update: UpdateHook | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.path: Path | None = None
        self._root = root
        self._run_id = run_id
        self._own_config = config or {}
        self._env_name = env
        self._resume: Resume = resume
        self._on_update = on_update
        self._strict = strict
        self._recorder: Recorder | None = None
        self._recorded_model: PPO | None = None
        self._next_update = 0
        self._env_steps = 0  # of the run, where the model's own count begins anew
        self._steps_before = 0
        self._epochs_before = 0
        self._episodes: list[Mapping[str, Any]] = []  # as the Monitor wrapper reports those that end
        self._has_done = False
        self._row: dict[str, Any] | None = None  # of the update that is being made, so far
        self._lap = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder is not None:
            self._recorder.__exit__(kind, error, trace)
            self._recorder = None

    def close(self, status: EndStatus = "finished", reason: str | None = None) -> None:
        """End the run, as `Recorder.close`; `learn` does so when it returns."""
        if self._recorder is not None:
            self._recorder.close(status, reason)
            self._recorder = None

    # ------------------------------------------------------------------ what SB3 calls

    def _init_callback(self) -> None:
        if not isinstance(self.model, PPO):
            raise UsageError(f"RecorderCallback records stable_baselines3.PPO, found {type(self.model).__name__}")
        if self._recorded_model not in (None, self.model):
            raise UsageError(
                "this RecorderCallback has recorded another model: make one for each run; to go on with a model"
                " that was saved and loaded, make one with the same run_id and resume='allow'"
            )

    def _on_training_start(self) -> None:
        self.close("failed", "learn() was left by an exception, and was called again")
        model = self.model
        is_first = self._recorded_model is None
        self._recorder = Recorder.open(
            self._root,
            run_id=self._run_id,
            config=self._config(),
            trainer=f"stable-baselines3 {stable_baselines3.__version__}",
            env=self._env_name or _env_name(model),
            device=str(model.device),
            value_loss_definition=_value_loss_definition(model),
            resume=self._resume if is_first else "must",
            on_update=self._on_update,
            strict=self._strict,
        )
        self.path, self._run_id, self._recorded_model = self._recorder.path, self._recorder.run_id, model
        if is_first:
            self._next_update = model.num_timesteps // (model.n_steps * model.n_envs)
        # learn() sets the model's count back to 0 unless reset_num_timesteps=False.
        self._steps_before = self._env_steps if model.num_timesteps == 0 else self._steps_before
        self._row = None

    def _on_rollout_start(self) -> None:
        self._record()  # the update that was made after the rollout before
        self._episodes, self._has_done = [], False
        self._lap = perf_counter()

    def _on_step(self) -> bool:
        self._has_done = self._has_done or bool(np.any(self.locals["dones"]))
        self._episodes += [info["episode"] for info in self.locals["infos"] if info.get("episode") is not None]
        return True

    def _on_rollout_end(self) -> None:
        model = self.model
        now = perf_counter()
        self._env_steps = self._steps_before + model.num_timesteps
        self._epochs_before = model._n_updates  # SB3 counts epochs under this name
        buffer = model.rollout_buffer
        self._row = {"env_steps": self._env_steps, "samples": buffer.returns.size, "rollout_secs": now - self._lap}
        try:
            self._row |= rollout_metrics(buffer.values, buffer.returns, buffer.advantages) | self._episode_metrics()
        except Exception as error:  # of a buffer or a wrapper of the user's own: no reason to end the training
            if self._strict:
                raise
            log.warning("%s: the rollout could not be measured: %s: %s", self.path, type(error).__name__, error)
        self._lap = perf_counter()

    def _on_training_end(self) -> None:
        self._record()
        self.close()

    # ------------------------------------------------------------------ what is recorded

    def _record(self) -> None:
        """Record the update that has just been made; nothing if none was since the last call."""
        row, self._row = self._row, None
        if row is None or self._recorder is None:
            return
        update, self._next_update = self._next_update, self._next_update + 1
        # .get, because a look-up by index would put zeros into SB3's own log
        logged = self.logger.name_to_value.get
        row |= {name: logged(key) for name, key in _LOGGED.items()} | self._how_far(row["samples"])
        if not row.pop("returns_varied", True):
            row["explained_variance"] = None
        value_loss = _times(VALUE_LOSS_FACTOR, logged("train/value_loss"))
        self._recorder.record(
            update=update,
            value_loss=value_loss,
            value_loss_unclipped=value_loss if self.model.clip_range_vf is None else None,
            entropy=_times(-1.0, logged("train/entropy_loss")),
            entropy_coef=self.model.ent_coef,
            vf_coef=self.model.vf_coef,
            value_target_scale=1.0,
            update_secs=perf_counter() - self._lap,
            **row,
        )

    def _how_far(self, samples: int) -> dict[str, int | None]:
        """Epochs and minibatches of the update, as far as SB3 lets it be known where `target_kl` may stop it."""
        model = self.model
        epochs = model._n_updates - self._epochs_before
        is_stopped = epochs < model.n_epochs
        may_stop = model.target_kl is not None
        return {
            "epochs_run": epochs,
            "minibatches": None if may_stop else epochs * math.ceil(samples / model.batch_size),
            "early_stop_epoch": epochs if may_stop and is_stopped else None,
        }

    def _episode_metrics(self) -> dict[str, Any]:
        """Of the episodes that ended in this rollout; unknown where none is reported although some ended."""
        if not self._episodes:
            return {"episodes": None if self._has_done else 0}
        return {
            "episodes": len(self._episodes),
            "episode_return_mean": float(np.mean([episode["r"] for episode in self._episodes])),
            "episode_length_mean": float(np.mean([episode["l"] for episode in self._episodes])),
        }

    def _config(self) -> dict[str, Any]:
        """The PPO's hyper-parameters for the header; schedules by their first value, and named under `scheduled`."""
        model = self.model
        schedules = {name: getattr(model, attribute) for name, attribute in _SCHEDULES.items()}
        normalizer = model.get_vec_normalize_env()
        return {
            "algorithm": type(model).__name__,
            "policy": model.policy_class.__name__,
            **{name: _plain(getattr(model, name)) for name in _HYPER_PARAMETERS},
            **{name: None if schedule is None else schedule(1.0) for name, schedule in schedules.items()},
            "scheduled": [name for name, schedule in schedules.items() if _varies(schedule)],
            "total_timesteps": self.locals.get("total_timesteps"),
            "normalize_observations": normalizer is not None and normalizer.norm_obs,
            "normalize_rewards": normalizer is not None and normalizer.norm_reward,
            **self._own_config,
        }


def rollout_metrics(
    values: NDArray[np.floating], returns: NDArray[np.floating], advantages: NDArray[np.floating]
) -> dict[str, Any]:
    """Statistics of one rollout by the names of the metrics table, None where a number would mean nothing.

    Variances are those of the population. The entry `returns_varied` says whether anything can be explained at all.

    Args:
        values: V(s) of every step as predicted before the update, any shape.
        returns: Targets of the value function, of the same shape.
        advantages: Not yet normalised, of the same shape.
    """
    value, target, advantage = (array.astype(np.float64).ravel() for array in (values, returns, advantages))
    with np.errstate(all="ignore"):  # NaN in a rollout is something to record, whatever the user does about it
        error = target - value
        value_var, target_var, advantage_var = value.var(), target.var(), advantage.var()
        p10, p50, p90 = np.percentile(target, (10, 50, 90))
        returns_varied = not _is_nearly_constant(target_var, target.mean())
        values_varied = not _is_nearly_constant(value_var, value.mean())
        covariance = np.mean((value - value.mean()) * (target - target.mean()))
        skewness = np.mean((advantage - advantage.mean()) ** 3) / advantage_var**1.5
        measured = {
            "value_mean": value.mean(),
            "value_std": np.sqrt(value_var),
            "value_min": value.min(),
            "value_max": value.max(),
            "return_mean": target.mean(),
            "return_std": np.sqrt(target_var),
            "return_p10": p10,
            "return_p50": p50,
            "return_p90": p90,
            "advantage_mean": advantage.mean(),
            "advantage_std": np.sqrt(advantage_var),
            "advantage_skewness": None if advantage_var <= NEARLY_CONSTANT * target_var else skewness,
            "advantage_positive_ratio": np.mean(advantage > 0.0),
            "value_nrmse": np.sqrt(np.mean(error**2) / target_var) if returns_varied else None,
            "v_return_correlation": (
                covariance / np.sqrt(value_var * target_var) if returns_varied and values_varied else None
            ),
        }
    plain = {name: None if number is None else float(number) for name, number in measured.items()}
    return plain | {"returns_varied": returns_varied}


def _is_nearly_constant(variance: float, mean: float) -> bool:
    return bool(np.isfinite(variance) and variance <= NEARLY_CONSTANT * max(mean**2, 1.0))


def _value_loss_definition(model: PPO) -> ValueLossDefinition:
    """What SB3's value loss is, for the run's header."""
    clipped = "mean((V_old + clamp(V - V_old, -clip, clip) - G)^2)"
    normalizer = model.get_vec_normalize_env()
    return ValueLossDefinition(
        source="mean((V - G)^2)" if model.clip_range_vf is None else clipped,
        factor=VALUE_LOSS_FACTOR,
        clipping="none" if model.clip_range_vf is None else "clipped",
        clip_range=None if model.clip_range_vf is None else _at_start(model.clip_range_vf),
        reduction="all minibatches",
        coefficient_included=False,
        targets_normalised=normalizer is not None and normalizer.norm_reward,
    )


def _at_start(schedule: Any) -> float:
    return float(schedule(1.0))


def _varies(schedule: Any) -> bool:
    """Whether a hyper-parameter was given as a function of the progress rather than as a number."""
    if isinstance(schedule, FloatSchedule):
        schedule = schedule.value_schedule
    return schedule is not None and not isinstance(schedule, ConstantSchedule)


def _env_name(model: PPO) -> str | None:
    """The id of the first environment, or its class where it was not registered.

    It is taken from the text "<Monitor<TimeLimit<CartPoleEnv<CartPole-v1>>>>", which an environment in another process
    can always send; a spec may hold what cannot be.
    """
    env = model.get_env()
    if env is None:
        return None
    try:
        text = str(env.env_method("__str__", indices=[0])[0])
    except Exception as error:  # of environments of the user's own, which need not have methods that can be called
        log.warning("the environment does not say its name: %s: %s", type(error).__name__, error)
        return None
    found = re.search(r"<([^<>]+)>+$", text)
    return found[1].removesuffix(" instance") if found else None


def _plain(value: Any) -> Any:
    """`value` as JSON that is the same for each seed: objects by their class, never by their address."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "__qualname__", type(value).__qualname__)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * float(value)
