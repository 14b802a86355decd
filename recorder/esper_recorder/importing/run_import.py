"""From a source of updates to a recorded run, whatever the source is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from esper_recorder.importing.account import Account
from esper_recorder.recorder import Recorder
from esper_recorder.train.signals import Signals
from esper_schemas.errors import EsperError, RunExistsError, UsageError
from esper_schemas.metric.payload import PPOUpdatePayload
from esper_schemas.run.records import ValueLossDefinition, check_run_id

BUFFERED_PAUSE_SECS = 0.1
"""How long an import waits after a row that the disk has not taken yet; a log can be read faster than a slow disk."""

PATIENCE_SECS = 20.0
"""After so much waiting without a row that was taken at once, the disk is given up."""

OnRead = Callable[[int], None]
"""Called with the number of bytes read since the call before; may raise KeyboardInterrupt."""


class UpdateSource(Protocol):
    """A log of another trainer.

    Attributes:
        trainer, env, device: For the run's header.
        value_loss_definition: What the source's value loss is, and the factor that `updates` has applied to it.
        config: Hyper-parameters, and where the run comes from. As `env` and `device`, complete once `updates` has
            given the first.
        account: What became of everything that was read, as far as it was read.
    """

    trainer: str
    env: str | None
    device: str | None
    value_loss_definition: ValueLossDefinition
    config: Mapping[str, Any]
    account: Account

    def updates(self, on_read: OnRead) -> Iterator[PPOUpdatePayload]:
        """The updates in the source's order and numbering, each with its own `wall_time` and `elapsed_secs`.

        Raises:
            UsageError: the source is of another kind, or holds no update.
            OSError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import; `path` is None if it was interrupted before the first update."""

    path: Path | None
    is_interrupted: bool


def check_is_free(root: Path, run_id: str) -> None:
    """Check that a run can be created.

    Raises:
        UsageError: the run id cannot be one.
        RunExistsError: it is taken.
    """
    path = root / check_run_id(run_id)
    if path.exists():
        raise RunExistsError(
            f"run {path} exists already: choose another name with --run-id, or another folder with --out"
        )


def import_run(source: UpdateSource, root: Path, run_id: str, *, signals: Signals, on_read: OnRead) -> Imported:
    """Record every update of `source` as a new run; a source without any leaves none behind.

    A signal ends the run properly, sealed with the status `interrupted`.

    Raises:
        UsageError: as `UpdateSource.updates`, or the run cannot be created.
        RunExistsError: it exists already.
        EsperError: the disk did not take all rows.
        OSError: the source cannot be read; what was read until then is sealed with the status `failed`.
    """
    check_is_free(root, run_id)
    path = root / run_id  # as it was named, not as it is from anywhere

    def on_read_or_signal(read: int) -> None:
        signals.check()
        on_read(read)

    recorder: Recorder | None = None
    try:
        with signals.deferred():
            waited = 0.0
            for payload in source.updates(on_read_or_signal):
                if recorder is None:
                    recorder = _open(source, root, run_id)
                if recorder.record(payload):
                    waited = 0.0
                    continue
                time.sleep(BUFFERED_PAUSE_SECS)
                waited += BUFFERED_PAUSE_SECS
                if waited > PATIENCE_SECS:
                    raise EsperError(f"the disk does not take the updates of {path}; is it full?")
    except KeyboardInterrupt:
        signals.ignore()
        if recorder is None:
            return Imported(None, is_interrupted=True)
        recorder.close("interrupted", signals.name)
        return Imported(path, is_interrupted=True)
    except BaseException as error:
        if recorder is not None:
            recorder.close("failed", f"import failed: {error}")
        raise
    assert recorder is not None  # a source without updates has raised
    signals.ignore()
    recorder.close()
    if recorder.dropped_rows:
        raise EsperError(f"{recorder.dropped_rows:,} updates could not be written to {path}; is the disk full?")
    return Imported(path, is_interrupted=False)


def _open(source: UpdateSource, root: Path, run_id: str) -> Recorder:
    try:
        return Recorder.open(
            root,
            run_id=run_id,
            config=source.config,
            trainer=source.trainer,
            env=source.env,
            device=source.device,
            git_commit="",
            value_loss_definition=source.value_loss_definition,
            rank=0,
            world_size=1,
        )
    except OSError as error:
        raise UsageError(f"--out {root}: no run can be created there: {error.strerror or error}") from None
