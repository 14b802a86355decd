"""Records the updates of any source, such as the log of another trainer, as a new run."""

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
"""How long an import waits after a row that is not on disk yet: it can read a log faster than a slow disk writes."""

PATIENCE_SECS = 20.0
"""An import gives up after this much waiting in which the disk did not catch up."""

OnRead = Callable[[int], None]
"""Called with the number of bytes read since the previous call; may raise KeyboardInterrupt."""


class UpdateSource(Protocol):
    """A log of another trainer.

    Attributes:
        trainer, env, device: For the run's header.
        value_loss_definition: What the source's value loss is, and the factor that `updates` has applied to it.
        config: Hyper-parameters and the origin of the run. Like `env` and `device`, it is complete once `updates` has
            yielded its first update.
        account: What became of everything that has been read so far.
    """

    trainer: str
    env: str | None
    device: str | None
    value_loss_definition: ValueLossDefinition
    config: Mapping[str, Any]
    account: Account

    def updates(self, on_read: OnRead) -> Iterator[PPOUpdatePayload]:
        """Yield the updates in the source's order and numbering, each with its own `wall_time` and `elapsed_secs`.

        Raises:
            UsageError: the source is of another kind, or has no update.
            OSError: the source cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import; `path` is None if it was interrupted before the first update."""

    path: Path | None
    is_interrupted: bool


def check_is_free(root: Path, run_id: str) -> None:
    """Check that a run can be created.

    Raises:
        UsageError: the run id is not valid.
        RunExistsError: a run of that id exists.
    """
    path = root / check_run_id(run_id)
    if path.exists():
        raise RunExistsError(
            f"run {path} exists already: choose another name with --run-id, or another folder with --out"
        )


def import_run(source: UpdateSource, root: Path, run_id: str, *, signals: Signals, on_read: OnRead) -> Imported:
    """Record every update of `source` as a new run; a source without updates leaves no run behind.

    A signal ends the run properly: it is sealed with the status `interrupted`.

    Raises:
        UsageError: as `UpdateSource.updates`, or the run cannot be created.
        RunExistsError: the run exists already.
        EsperError: not all rows could be written to disk.
        OSError: the source cannot be read; the updates read so far are sealed with the status `failed`.
    """
    check_is_free(root, run_id)
    path = root / run_id  # as the user named it: relative paths stay relative

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
                    raise EsperError(f"the disk takes no more updates of {path}; is it full?")
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
        raise EsperError(f"could not write {recorder.dropped_rows:,} updates to {path}; is the disk full?")
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
        raise UsageError(f"--out {root}: cannot create a run there: {error.strerror or error}") from None
