"""The rsl_rl adapter: `cfg["logger"] = {"class_name": "esper_recorder.adapters.rsl_rl:Writer", "run_id": "mine"}`."""

from __future__ import annotations

import os
import pathlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from esper_recorder.dialects.gym import RSL_RL
from esper_recorder.recorder import Recorder
from esper_recorder.rollout import rollout_statistics
from esper_recorder.writing import log
from esper_recorder.writing.background import UpdateHook
from esper_recorder.writing.ending import LEFT_OPEN
from esper_recorder.writing.foreign import describe
from esper_recorder.writing.opening import Resume
from esper_schemas.metric.payload import METRICS
from esper_schemas.run.records import EndStatus

try:
    from rsl_rl.utils import resolve_class
    from rsl_rl.utils.log_writer import LogWriter
    from rsl_rl.utils.wandb_log_writer import WandbLogWriter
    from torch.utils.tensorboard import SummaryWriter

    from esper_recorder.adapters.planned_exit import PlannedExit
    from esper_recorder.adapters.replacement import Replacement
    from esper_recorder.adapters.rsl_rl_minibatches import Minibatches
    from esper_recorder.adapters.rsl_rl_runner import (
        Episodes,
        check_runner,
        config_of,
        env_name,
        find_runner,
        trainer_of,
        value_loss_definition,
    )
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] != "rsl_rl":
        raise
    raise ModuleNotFoundError(
        "the adapter needs rsl_rl, in a version with LogWriter: pip install 'rsl-rl-lib>=5.5'", name=error.name
    ) from None

_KEYS = {key.name: key for key in RSL_RL.keys}
_SECONDS = "/time"
"""How tags end whose step is seconds; rsl_rl leaves them out for Weights & Biases."""


@dataclass
class _Past:
    """What is known of a runner from one `learn` to the next; it holds neither runner nor writer.

    Attributes:
        on_update: From `attach`.
        writer: The last one.
        asked: Folder of runs and name of the run, as the writer was asked for them.
        run_id: Name of the run.
        iteration: rsl_rl's number of the last update.
    """

    on_update: UpdateHook | None = None
    writer: weakref.ref[Writer] | None = None
    asked: tuple[str, str | None] | None = None
    run_id: str | None = None
    iteration: int | None = None


_PASTS: weakref.WeakKeyDictionary[Any, _Past] = weakref.WeakKeyDictionary()
"""By runner: each that was attached, or recorded."""


def attach(runner: Any, *, on_update: UpdateHook | None = None) -> Attachment:
    """Tell the Writer which runner uses it, before `learn` is called; `cfg["logger"]` must name the Writer too.

    The Writer finds an `OnPolicyRunner` by itself, so this is needed for three things only: a runner of your own that
    is no subclass of it, an `on_update`, and `with attach(runner): runner.learn(...)`, which closes the run as
    interrupted or failed when an exception leaves the block. Without that, such a run has failed when the program ends.

    Args:
        runner: has `alg`, `env`, `cfg`, `logger`, `device` and `current_learning_iteration`, as `OnPolicyRunner`.
        on_update: as for `Recorder.open`. It cannot be part of `cfg["logger"]`, of which rsl_rl makes a deep copy.
    """
    past = _PASTS.setdefault(runner, _Past())
    past.on_update = on_update
    return Attachment(past)


class Attachment:
    """What `attach` returns: a context manager that closes the run as what ends the block."""

    def __init__(self, past: _Past) -> None:
        self._past = past

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer = None if self._past.writer is None else self._past.writer()
        if writer is not None:
            writer.end(kind, error, trace)


class Writer(LogWriter):
    """Records every update of a PPO of rsl_rl, including the last one; name it in the `cfg["logger"]` of a runner.

    rsl_rl makes a Writer each time `learn` is called, and stops it when `learn` returns, which closes the run. Calling
    `learn` again on the same runner adds an attempt to the run; updates and environment steps keep counting, although
    rsl_rl uses the number of the last update again. The Writer never changes the training, and raises no error of
    recording unless `strict=True`. recorder/ADAPTERS.md lists what is recorded and what is not.

    Args:
        log_dir: the folder of logs of the runner; rsl_rl passes it.
        root: folder of runs.
        run_id: name of the run and of its folder; by default it is made from the time.
        config: your own hyper-parameters, stored in the header beside the configuration of the runner.
        env: name of the environment, if the name that it reports is not the right one.
        resume: as for `Recorder.open`. A runner that has loaded a checkpoint continues behind the last recorded update
            with the iteration of the checkpoint, and supersedes those after it. A runner at iteration 0 begins anew.
        strict, upload, redact: as for `Recorder.open`.
        also: what else gets the scalars: "tensorboard", as without this Writer; None for nothing; or another writer, as
            `cfg["logger"]` would name it (`{"class_name": "WandbLogWriter", …}`).

    Raises:
        UsageError: the algorithm is not PPO, or no runner uses this Writer.
        UsageError, RunExistsError, RunLockedError, RunDamagedError, OSError: as `Recorder.open`. All of them are
            raised from `learn`, before the first step.

    Attributes:
        path: folder of the run; None before `learn` has opened it.
    """

    def __init__(
        self,
        log_dir: str,
        *,
        root: str | os.PathLike[str] = "runs",
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        env: str | None = None,
        resume: Resume = "never",
        strict: bool = False,
        upload: str | None = None,
        redact: Sequence[str] = (),
        also: str | Mapping[str, Any] | None = "tensorboard",
    ) -> None:
        self.path: Path | None = None
        self._log_dir = log_dir
        self._root, self._run_id, self._resume = root, run_id, resume
        self._own_config, self._env_name, self._strict = config or {}, env, strict
        self._upload, self._redact = upload, redact
        self._also = _make_other(also, log_dir)
        self._recorder: Recorder | None = None
        self._scalars: dict[str, Any] = {}  # of the update in progress
        self._next_update = self._steps_before = self._counted_before = 0
        self._log: Replacement | None = None
        self._episodes: Episodes | None = None
        self._minibatches: Minibatches | None = None
        self._exit: PlannedExit | None = None

    # ------------------------------------------------------------------ what rsl_rl calls

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None, *rest: Any, **more: Any) -> None:
        """Take one number of the update in progress."""
        self._scalars[tag] = scalar_value
        if self._also is not None and not (isinstance(self._also, WandbLogWriter) and tag.endswith(_SECONDS)):
            self._also.add_scalar(tag, scalar_value, global_step, *rest, **more)

    def store_config(self, env_cfg: dict[str, Any] | object, train_cfg: dict[str, Any]) -> None:
        """Begin to record; rsl_rl calls this once, before the first step."""
        try:
            self._begin(find_runner(self, list(_PASTS)))
        except BaseException:
            self._let_go()
            raise
        if isinstance(self._also, LogWriter):
            self._also.store_config(env_cfg, train_cfg)

    def save_model(self, model_path: str, it: int) -> None:
        """Pass a checkpoint on to the other writer."""
        if isinstance(self._also, LogWriter):
            self._also.save_model(model_path, it)

    def save_file(self, path: str) -> None:
        """Pass a file on to the other writer."""
        if isinstance(self._also, LogWriter):
            self._also.save_file(path)

    def save_video(self, video: pathlib.Path, it: int) -> None:
        """Pass a video on to the other writer."""
        if isinstance(self._also, LogWriter):
            self._also.save_video(video, it)

    def stop(self) -> None:
        """Close the run; rsl_rl calls this when `learn` has made its last update."""
        self.close()

    def close(self, status: EndStatus = "finished", reason: str | None = None) -> None:
        """End the run, as `Recorder.close`, and stop the other writer. May be called again."""
        self._let_go()
        if self._recorder is not None:
            self._recorder.close(status, reason)
            self._recorder = None

    def end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the run as an exception says, or its absence."""
        self._let_go()
        if self._recorder is not None:
            self._recorder.__exit__(kind, error, trace)
            self._recorder = None

    # ------------------------------------------------------------------ beginning and ending

    def _begin(self, runner: Any) -> None:
        check_runner(runner)
        past = _PASTS.setdefault(runner, _Past())
        before = None if past.writer is None else past.writer()
        if before is not None:
            before.close("failed", "learn() was called again after an exception had ended it")
        asked = (os.fspath(self._root), self._run_id)
        is_again = past.asked == asked
        recorder = Recorder.open(
            self._root,
            run_id=past.run_id if is_again else self._run_id,
            config=config_of(runner, self._log_dir) | dict(self._own_config),
            trainer=trainer_of(),
            env=self._env_name or env_name(runner.env),
            device=str(runner.device),
            value_loss_definition=value_loss_definition(runner.alg),
            resume="must" if is_again else self._resume,
            on_update=past.on_update,
            strict=self._strict,
            upload=self._upload,
            redact=self._redact,
        )
        recorder.expect_close(LEFT_OPEN)
        self._recorder, self.path = recorder, recorder.path
        iteration = runner.current_learning_iteration
        try:
            # rsl_rl does not know whether a runner at 0 has made an update; one of ours does.
            reached = None if is_again and past.iteration == iteration else iteration or -1
            self._next_update, self._steps_before = recorder.continuation(reached, RSL_RL.number)
        except BaseException as error:
            self.close("failed", describe(type(error), error))
            raise
        past.writer, past.asked, past.run_id, past.iteration = weakref.ref(self), asked, recorder.run_id, iteration
        self._watch(runner, past)

    def _watch(self, runner: Any, past: _Past) -> None:
        self._runner, self._past = runner, past
        self._counted_before = runner.logger.tot_timesteps
        self._episodes = Episodes(runner.logger)
        self._log = Replacement(runner.logger, "log", self._logged)
        assert self._recorder is not None
        called = [(runner.env, ("step",)), (runner.alg, ("act", "process_env_step", "update")), (runner, ("save",))]
        self._exit = PlannedExit([*called, (runner.logger, ("log",))], self._recorder.expect_exit)
        try:
            factor = RSL_RL.value_loss.factor
            self._minibatches = Minibatches(runner.alg, factor, self._recorder.minibatch, strict=self._strict)
        except Exception as error:  # from an algorithm of the user's own: no reason to end the training
            if self._strict:
                raise
            log.warning("%s: no minibatches for the black box: %s: %s", self.path, type(error).__name__, error)

    def _let_go(self) -> None:
        """Leave the runner as it was."""
        for watched in (self._exit, self._episodes, self._minibatches):  # the last function in a place goes first
            if watched is not None:
                watched.close()
        if self._log is not None:
            self._log.undo()
        self._log = self._episodes = self._minibatches = self._exit = None
        also, self._also = self._also, None
        if isinstance(also, LogWriter):
            also.stop()
        elif also is not None:
            also.close()

    # ------------------------------------------------------------------ what is recorded

    def _logged(self, *arguments: Any, **keywords: Any) -> None:
        """Stand in place of `Logger.log`, which is called after each update and hands over every scalar."""
        assert self._log is not None
        self._log.original(*arguments, **keywords)
        scalars, self._scalars = self._scalars, {}
        if self._recorder is None:  # the user has closed it
            return
        runner, alg = self._runner, self._runner.alg
        row = self._known(scalars) | self._measured()
        if not alg.use_clipped_value_loss:
            row["value_loss_unclipped"] = row.get("value_loss")
        update, self._next_update = self._next_update, self._next_update + 1
        self._past.iteration = runner.current_learning_iteration
        row |= {
            RSL_RL.number: runner.current_learning_iteration,
            "env_steps": self._steps_before + runner.logger.tot_timesteps - self._counted_before,
            "epochs_run": alg.num_learning_epochs,
            "minibatches": alg.num_learning_epochs * alg.num_mini_batches,
            "clip_range": alg.clip_param,
            "entropy_coef": alg.entropy_coef,
            "vf_coef": alg.value_loss_coef,
            "value_target_scale": 1.0,
        }
        self._recorder.record(update=update, **row)

    def _known(self, scalars: Mapping[str, Any]) -> dict[str, Any]:
        """Return the columns of the scalars; one that the table does not have keeps its name."""
        row: dict[str, Any] = {}
        for tag, number in scalars.items():
            key = _KEYS.get(tag)
            if key is None:
                row[f"rsl_rl_{tag}" if tag in METRICS else tag] = number
            elif key.kind != "again":
                row[key.column] = number if key.factor == 1.0 else key.factor * number
        return row

    def _measured(self) -> dict[str, Any]:
        """Return what rsl_rl does not log: of the rollout that is still in its storage, and of the minibatches."""
        storage = self._runner.alg.storage
        try:
            values, returns = storage.values, storage.returns
            return {
                **(self._episodes.take() if self._episodes is not None else {}),
                **rollout_statistics(values, returns, returns - values),  # storage.advantages may be normalised
                **(self._minibatches.results() if self._minibatches is not None else {}),
            }
        except Exception as error:  # from the user's own storage: no reason to end the training
            if self._strict:
                raise
            log.warning("%s: could not measure the rollout: %s: %s", self.path, type(error).__name__, error)
            return {}


def _make_other(also: str | Mapping[str, Any] | None, log_dir: str) -> Any:
    """Make the other writer as rsl_rl would."""
    if also is None:
        return None
    if also == "tensorboard":
        return SummaryWriter(log_dir=log_dir, flush_secs=10)
    made, options = resolve_class({"class_name": also} if isinstance(also, str) else dict(also))
    return made(log_dir=log_dir, **options)
