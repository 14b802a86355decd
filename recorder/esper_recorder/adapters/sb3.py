"""The Stable-Baselines3 adapter: `model.learn(n, callback=RecorderCallback("runs", run_id="mine"))`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np

from esper_recorder.recorder import Recorder
from esper_recorder.rollout import rollout_statistics
from esper_recorder.writing import log
from esper_recorder.writing.background import UpdateHook
from esper_recorder.writing.ending import LEFT_OPEN
from esper_recorder.writing.foreign import describe
from esper_recorder.writing.opening import Resume
from esper_schemas.errors import UsageError
from esper_schemas.run.records import EndStatus, check_return_goal

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback, CallbackList

    from esper_recorder.adapters.planned_exit import PlannedExit
    from esper_recorder.adapters.sb3_minibatches import Minibatches
    from esper_recorder.adapters.sb3_models import (
        VALUE_LOSS_FACTOR,
        check_model,
        config_of,
        env_name,
        published_goal,
        trainer_of,
        value_loss_definition,
    )
except ModuleNotFoundError as error:
    if error.name != "stable_baselines3":
        raise
    raise ModuleNotFoundError(
        "the adapter needs Stable-Baselines3: pip install stable-baselines3", name=error.name
    ) from None

_LOGGED = {
    "policy_loss": "train/policy_gradient_loss",
    "kl_divergence": "train/approx_kl",
    "clip_fraction": "train/clip_fraction",
    "explained_variance": "train/explained_variance",
    "learning_rate": "train/learning_rate",
    "clip_range": "train/clip_range",
}
"""Metrics that SB3 logs with the same meaning under another name."""


_CALLED = ("on_rollout_start", "on_step", "on_rollout_end")
_STEPS = ("step_async", "step_wait")
"""What `learn` calls of its callback, and of the environment below all wrappers, where people end a training."""


class RecorderCallback(BaseCallback):
    """Records every update of a PPO of Stable-Baselines3, including the last one, at any `log_interval`.

    The model is a `stable_baselines3.PPO`, or a `MaskablePPO` or `RecurrentPPO` of sb3-contrib.

    `learn` opens the run when it begins and closes it when it returns. Calling `learn` again with the same callback
    adds an attempt to the same run; updates and environment steps keep counting. If `learn` raises, all rows are safe.
    A callback used as a context manager (`with RecorderCallback(...) as callback:`) then closes the run as interrupted
    or failed; otherwise it is closed as failed, at the latest when the program ends. The callback never changes the
    training: it draws nothing from the random generators, and raises no error of recording unless `strict=True`.
    recorder/ADAPTERS.md lists what is recorded and what is not.

    Args:
        root: Folder of runs.
        run_id: Name of the run and of its folder; by default it is made from the time.
        config: Your own hyper-parameters, stored in the header beside those of the PPO.
        env: Name of the environment, if the name that the environment reports is not the right one.
        return_goal: As for `Recorder.open`; by default the goal that Gymnasium publishes for the environment, where all
            environments are in this process and unchanged; see `return_goal_of`.
        resume, on_update, strict, upload, redact: As for `Recorder.open`. A resumed run continues with its first
            recorded update that took more environment steps than `model.num_timesteps`, else behind its last one. A
            model loaded from a checkpoint therefore supersedes the updates after that checkpoint, and no other,
            whatever its number of environments or steps.

    Raises:
        UsageError: `return_goal` is not a finite number; or `learn` was called on another algorithm, on a different
            model than before, or with this callback inside one that calls it only now and then.
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
        return_goal: float | None = None,
        resume: Resume = "never",
        on_update: UpdateHook | None = None,
        strict: bool = False,
        upload: str | None = None,
        redact: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.path: Path | None = None
        self._root = root
        self._run_id = run_id
        self._own_config = config or {}
        self._env_name = env
        self._return_goal = check_return_goal(return_goal)
        self._resume: Resume = resume
        self._on_update = on_update
        self._strict = strict
        self._upload, self._redact = upload, redact
        self._recorder: Recorder | None = None
        self._recorded_model: PPO | None = None
        self._next_update = 0
        self._env_steps = 0  # of the whole run; the model's own count may restart
        self._steps_before = 0
        self._epochs_before = 0
        self._episodes: list[Mapping[str, Any]] = []  # finished ones, as the Monitor wrapper reports them
        self._has_done = False
        self._row: dict[str, Any] | None = None  # what is known so far of the update in progress
        self._lap = 0.0
        self._minibatches: Minibatches | None = None
        self._exit: PlannedExit | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        if self._recorder is not None:
            self._recorder.__exit__(kind, error, trace)
            self._recorder = None

    def close(self, status: EndStatus = "finished", reason: str | None = None) -> None:
        """End the run, as `Recorder.close`; `learn` calls this when it returns."""
        self._let_go()
        if self._recorder is not None:
            self._recorder.close(status, reason)
            self._recorder = None

    # ------------------------------------------------------------------ what SB3 calls

    def _init_callback(self) -> None:
        check_model(self.model)
        if self._recorded_model not in (None, self.model):
            raise UsageError(
                "this RecorderCallback records another model; make one for each run. To continue with a model"
                " that was saved and loaded, make one with the same run_id and resume='allow'"
            )

    def _on_training_start(self) -> None:
        self._check_place()
        self.close("failed", "learn() was called again after an exception had ended it")
        model = self.model
        is_first = self._recorded_model is None
        self._recorder = Recorder.open(
            self._root,
            run_id=self._run_id,
            config=config_of(model) | {"total_timesteps": self.locals.get("total_timesteps")} | dict(self._own_config),
            trainer=trainer_of(model),
            env=self._env_name or env_name(model),
            device=str(model.device),
            return_goal=published_goal(model) if self._return_goal is None else self._return_goal,
            value_loss_definition=value_loss_definition(model),
            resume=self._resume if is_first else "must",
            on_update=self._on_update,
            strict=self._strict,
            upload=self._upload,
            redact=self._redact,
        )
        if self.locals.get("self") is model:  # else a loop of the user's own calls us, and no `learn`
            self._recorder.expect_close(LEFT_OPEN)
        called = [(self.locals.get("callback"), _CALLED), (getattr(model.env, "unwrapped", None), _STEPS)]
        self._exit = PlannedExit(called, self._recorder.expect_exit)
        self.path, self._run_id, self._recorded_model = self._recorder.path, self._recorder.run_id, model
        if is_first:
            try:
                self._next_update = self._recorder.next_update(model.num_timesteps)
            except BaseException as error:
                self.close("failed", describe(type(error), error))
                raise
        # learn() sets the model's count back to 0 unless reset_num_timesteps=False.
        self._steps_before = self._env_steps if model.num_timesteps == 0 else self._steps_before
        self._row = None
        self._watch_minibatches()

    def _on_rollout_start(self) -> None:
        self._record()  # the update that followed the previous rollout
        self._episodes, self._has_done = [], False
        self._lap = perf_counter()

    def _check_place(self) -> None:
        """Refuse a place in which no rollout is heard of, such as inside `EveryNTimesteps`."""
        around = self.parent
        if around is None or _passes_all_on(self.locals.get("callback"), self):
            return
        if type(around)._on_rollout_start is BaseCallback._on_rollout_start:
            name = type(around).__name__
            raise UsageError(
                f"RecorderCallback must hear of every rollout, and is inside {name}, which calls it only now and then:"
                f" pass it to learn() beside that, as callback=[RecorderCallback(...), {name}(...)]"
            )

    def _on_step(self) -> bool:
        if self._recorded_model is None:  # as `callback_on_new_best`, of which SB3 does not say that training starts
            self._check_place()
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
            self._row |= rollout_statistics(buffer.values, buffer.returns, buffer.advantages) | self._episode_metrics()
        except Exception as error:  # from the user's own buffer or wrapper: no reason to end the training
            if self._strict:
                raise
            log.warning("%s: could not measure the rollout: %s: %s", self.path, type(error).__name__, error)
        self._lap = perf_counter()

    def _on_training_end(self) -> None:
        self._record()
        self.close()

    # ------------------------------------------------------------------ what is recorded

    def _watch_minibatches(self) -> None:
        """Fill the black box; what goes wrong with that is no reason to end the training."""
        assert self._recorder is not None
        try:
            self._minibatches = Minibatches(self.model, VALUE_LOSS_FACTOR, self._recorder.minibatch)
        except Exception as error:
            if self._strict:
                raise
            log.warning("%s: no minibatches for the black box: %s: %s", self.path, type(error).__name__, error)

    def _let_go(self) -> None:
        """Leave model, environment and callbacks as they were."""
        for watched in (self._exit, self._minibatches):
            if watched is not None:
                watched.close()
        self._exit = self._minibatches = None

    def _record(self) -> None:
        """Record the update that has just finished, if there was one since the last call."""
        row, self._row = self._row, None
        if row is None or self._recorder is None:
            return
        update, self._next_update = self._next_update, self._next_update + 1
        # .get, because indexing would add zeros to SB3's own log
        logged = self.logger.name_to_value.get
        is_explained = row.get("explained_variance", 0.0) is not None  # not measured: trust the log
        row |= {name: logged(key) for name, key in _LOGGED.items()} | self._how_far(row["samples"])
        if not is_explained:
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
        """Return epochs and minibatches of the update; with `target_kl`, SB3 does not reveal the minibatches."""
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
        """Summarise the episodes that ended in this rollout; unknown if some ended but none was reported."""
        if not self._episodes:
            return {"episodes": None if self._has_done else 0}
        return {
            "episodes": len(self._episodes),
            "episode_return_mean": float(np.mean([episode["r"] for episode in self._episodes])),
            "episode_length_mean": float(np.mean([episode["l"] for episode in self._episodes])),
        }


def _passes_all_on(callback: object, to: BaseCallback) -> bool:
    """Whether a callback is this one, or a list, at any depth, that passes every call on to it."""
    return callback is to or (
        isinstance(callback, CallbackList) and any(_passes_all_on(one, to) for one in callback.callbacks)
    )


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * float(value)
