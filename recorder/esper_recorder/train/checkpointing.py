"""Writes the checkpoint of a run during training: at intervals, atomically, and never ahead of the recorded rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from esper_recorder.keeping import durable
from esper_recorder.train.checkpoint import CHECKPOINT_NAME, Checkpoint
from esper_recorder.train.trainer import Trainer
from esper_schemas.run.directory import RunDirectory
from esper_schemas.run.names import ACTIVE, HEADER_NAME, numbers_in, rank_name
from esper_schemas.run.records import RunHeader


class CheckpointWriter:
    """Writes `checkpoint.pt` of the run that `trainer` trains; the caller holds the run's lock.

    The folders of run and rank stay open until `close`. The file is replaced atomically, once the rows before it are
    safe against power loss: rows in memory postpone the checkpoint, and all others are synced first. A write error is
    reported once, and training continues.
    """

    def __init__(self, trainer: Trainer, run: RunDirectory, rank: int, say: Callable[[str], None]) -> None:
        self.path = run.path / CHECKPOINT_NAME
        self._trainer = trainer
        self._folder = run.open()
        self._rank = self._folder.folder(rank_name(rank))
        self._run_uuid = RunHeader.read(self._folder, HEADER_NAME).run_uuid
        self._say = say
        self._interval = trainer.config.checkpoint_updates
        self._rows_are_safe = True
        self._written: int | None = None  # the update that the file continues with

    def after_row(self, is_safe: bool) -> None:
        """Write a checkpoint if one is due; `is_safe` is what `Recorder.record` returned for the last row."""
        self._rows_are_safe = is_safe
        if self._interval and self._trainer.next_update >= (self._written or 0) + self._interval:
            self.write(self._trainer.state_dict())

    def write(self, state: Mapping[str, Any]) -> None:
        """Write the trainer's `state`, unless the file is as new or rows before it could still be lost."""
        update = state["next_update"]
        is_older = self._written is not None and update <= self._written
        if not self._interval or not self._rows_are_safe or is_older:
            return
        data = Checkpoint(self._run_uuid, self._trainer.config, self._trainer.device.type, state).to_bytes()
        try:
            self._sync_rows()
            durable.replace(self._folder, CHECKPOINT_NAME, data)
        except OSError as error:
            self._complain(error)
            return
        self._written = update

    def _complain(self, error: OSError) -> None:
        self._say(f"could not write the checkpoint {self.path} ({error.strerror or error}); training continues")
        self._say = _say_nothing

    def close(self) -> None:
        """Close the folders."""
        self._rank.close()
        self._folder.close()

    def _sync_rows(self) -> None:
        for name in numbers_in(self._rank.names(ACTIVE), ".arrows").values():
            try:
                descriptor = self._rank.open_descriptor(f"{ACTIVE}/{name}")
            except FileNotFoundError:  # sealed in the meantime, and sealing syncs
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _say_nothing(_message: str) -> None:
    pass
