"""One log that a script writes while it runs: its points become rows of a run as soon as an update is whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from esper_recorder.importing.account import Account
from esper_recorder.importing.command import run_id_of
from esper_recorder.importing.point_log import Given, env_of
from esper_recorder.importing.points import Points
from esper_recorder.importing.rows import Row
from esper_recorder.importing.tfevents.reader import take_text
from esper_recorder.importing.updates import Updates
from esper_recorder.recorder import Recorder
from esper_recorder.writing import log
from esper_recorder.writing.foreign import describe, is_of_signal_handler
from esper_recorder.writing.opening import environment_number
from esper_schemas.errors import EsperError, RunExistsError, UsageError
from esper_schemas.run.records import EndStatus, check_run_id

_MAX_NAMES = 1000
"""So many runs of one name under one `root` are numbered."""


class WrittenLog:
    """Records what is written to one folder of TensorBoard as one run, in that folder or under `root`.

    The rows are those that an import of the folder would give. An update is recorded when it has every tag that both
    updates before it had, or when the next one begins. If tags came after that, it is recorded once more, and the later
    row counts. The run is created with the first row, so that a log without losses leaves no run.

    Nothing is raised. What goes wrong ends the recording of this log; it is logged, and kept in `trouble`.

    Args:
        folder: Where the script writes, as an absolute path or a URL.
        root: Folder of runs; None records into `folder` itself.
        given: What a person says about the log.
        options: Further arguments of `Recorder.open`.

    Attributes:
        folder: As above.
        account: What became of everything that was written.
        path: Folder of the run; None if there is none yet.
        trouble: Why nothing more is recorded; None while all is well.
    """

    def __init__(self, folder: str, root: Path | None, given: Given, options: Mapping[str, Any]) -> None:
        self.folder = folder
        self.account = Account()
        self.path: Path | None = None
        self.trouble: str | None = None
        self._root, self._options = root, options
        self._config: dict[str, Any] = {}
        self._updates = Updates(self.account, self._config, given.mapping, given.definition)
        self._recorder: Recorder | None = None
        self._begins_anew = False
        self._recorded: Row | None = None  # the row that was recorded last
        self._is_early = False  # whether that is the row of the update that is still being written
        self._shift = 0  # from our count to the update of the run, where an earlier attempt has rows

    @property
    def trainer(self) -> str:
        """The trainer whose dialect the log is written in; empty if it is not known."""
        return self._updates.dialect.name if self._updates.dialect is not None else ""

    @property
    def is_recording(self) -> bool:
        """Whether a recorder is open for it."""
        return self._recorder is not None

    def begin_anew(self) -> None:
        """Take down that another writer goes on with this folder: what came earlier is complete."""
        self._begins_anew = self.account.records > 0

    def add_settings(self, settings: Mapping[str, Any]) -> None:
        """Take hyper-parameters; they are kept in the header of the run if they come before its first row."""
        if self.path is None:
            self._config |= {str(name): value for name, value in settings.items()}
        else:
            self.account.notes.append(f"{len(settings):,} hyper-parameters came after the run had begun: not recorded")

    def add_text(self, tag: str, text: str) -> None:
        """Take a text, which may be a table of hyper-parameters."""
        if self.path is None:
            take_text(tag, text, self._config, self.account)
        else:
            self.account.not_imported["texts"] += 1

    def add(self, tag: str, step: int, time: float, value: float) -> None:
        """Take one point; record the rows that it completes."""
        if self.trouble is not None:
            return
        try:
            points = Points((tag,), (step,), (time,), (value,), self._begins_anew)
            self._begins_anew = False
            for row in self._updates.feed(points):
                self._record(row)
                self._is_early = False
            if not self._is_early and self._updates.is_pending_whole:
                self._record_pending()
        except Exception as error:
            if is_of_signal_handler(error):
                raise
            self._end_in_trouble(error)

    def flush(self) -> None:
        """Record the update that was written last; what follows is of another one."""
        self._guarded(self._record_last)

    def pause(self) -> None:
        """End the run as finished: nobody writes to the folder any more. It goes on if somebody does after all."""
        self._guarded(self._record_last)
        self.begin_anew()
        self._close("finished", None)

    def end(self, status: EndStatus, reason: str | None) -> None:
        """Record the last update, settle the account, and end the run."""
        self._guarded(self._finish)
        self._close(status, reason)

    # ------------------------------------------------------------------ rows

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step at the end of something; what goes wrong with it is only noted."""
        if self.trouble is None:
            try:
                step()
            except Exception as error:
                self._end_in_trouble(error)

    def _record_pending(self) -> None:
        row = self._updates.pending()
        if row is not None:
            self._record(row)
            self._is_early = True

    def _record_last(self) -> None:
        for row in self._updates.flush():
            self._record(row)
        self._is_early = False

    def _finish(self) -> None:
        for row in self._updates.finish():
            self._record(row)

    def _record(self, row: Row) -> None:
        if self._recorded is not None and is_same(row, self._recorded):
            return
        if self._recorder is None:
            self._recorder = self._open(row)
        self._recorder.record(**(row | {"update": row["update"] + self._shift}))
        self._recorded = row

    def _open(self, row: Row) -> Recorder:
        """Open the run: for the first time, or again after a pause.

        Raises:
            EsperError, OSError: as `Recorder.open`.
        """
        if self.path is not None:
            return self._open_run(self.path.parent, self.path.name)
        inside = Path(self.folder)
        is_local = "://" not in self.folder
        if self._root is None and is_local and is_run_id(inside.name):
            recorder = self._open_run(inside.parent, inside.name)
            self._shift = _shift(recorder, row)
        else:
            root = self._root or (inside.parent if is_local else Path("runs"))
            recorder = self._open_new(root, run_id_of(Path(re.sub(r"^\w+://", "", self.folder))))
        self.path = recorder.path
        return recorder

    def _open_new(self, root: Path, name: str) -> Recorder:
        """Open a run of a name that is free: `name`, or `name-2` and so on."""
        for number in range(1, _MAX_NAMES):
            try:
                return self._open_run(root, name if number == 1 else f"{name[:120]}-{number}", is_new=True)
            except RunExistsError:
                continue
        raise UsageError(f"{root} has {_MAX_NAMES:,} runs named {name}")

    def _open_run(self, root: Path, run_id: str, *, is_new: bool = False) -> Recorder:
        """Open a run as rank RANK; rank 0 expects no other, because usually it is the only one that writes."""
        rank = environment_number("RANK", 0)
        return Recorder.open(
            root,
            run_id=run_id,
            config=self._config,
            trainer=self.trainer,
            env=env_of(self._config),
            value_loss_definition=self._updates.definition,
            rank=rank,
            world_size=max(environment_number("WORLD_SIZE", 1), rank + 1) if rank else 1,
            resume="never" if is_new else "allow",
            **self._options,
        )

    # ------------------------------------------------------------------ the end

    def _close(self, status: EndStatus, reason: str | None) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.close(status, reason)

    def _end_in_trouble(self, error: Exception) -> None:
        is_expected = isinstance(error, EsperError | OSError)
        why = self.trouble = str(error) if is_expected else f"a defect of Esper: {describe(type(error), error)}"
        is_lossless = self.path is None and self._updates.dialect is None
        if not is_lossless:
            log.warning("%s: %s: %s", self.folder, "recording ends" if self.path else "not recorded", why)
        self._close("failed", why)


def _shift(recorder: Recorder, row: Row) -> int:
    """Return what is added to our count of updates so that a run that has rows goes on.

    A training that was continued goes on behind the environment steps that it was saved with, and one that was begun
    again supersedes the rows of the earlier attempt. Without environment steps it goes on behind the last row.
    """
    if recorder.next_update() == 0:
        return 0
    steps = row.get("env_steps")
    return recorder.next_update(None if steps is None else steps - 1) - int(row["update"])


def is_run_id(name: str) -> bool:
    """Whether a folder of this name can be a run."""
    try:
        return bool(check_run_id(name))
    except UsageError:
        return False


def is_same(row: Row, other: Row) -> bool:
    """Whether two rows have the same columns and numbers; a NaN is the same as another."""
    if row.keys() != other.keys():
        return False
    return all(value == (found := other[name]) or (value != value and found != found) for name, value in row.items())
