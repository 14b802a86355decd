"""Records the updates of any source, such as the log of another trainer, as a new run."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from esper_recorder.importing.account import Account
from esper_recorder.importing.fingerprint import Fingerprint, earlier_import
from esper_recorder.importing.following import READ_ONCE, Following
from esper_recorder.importing.rows import ANEW, Row, SoFar
from esper_recorder.recorder import Recorder
from esper_recorder.train.signals import Signals
from esper_schemas.errors import EsperError, RunExistsError, UsageError
from esper_schemas.run.records import EndStatus, ValueLossDefinition

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
        config: Hyper-parameters and the origin of the run. Like all the above, it is complete once `updates` has
            yielded its first update.
        what: What the source consists of, in the plural, such as "events".
        account: What became of everything that has been read so far.
    """

    @property
    def trainer(self) -> str: ...  # noqa: D102 (above, as all of these)
    @property
    def env(self) -> str | None: ...  # noqa: D102
    @property
    def device(self) -> str | None: ...  # noqa: D102
    @property
    def value_loss_definition(self) -> ValueLossDefinition: ...  # noqa: D102
    @property
    def config(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def what(self) -> str: ...  # noqa: D102
    @property
    def account(self) -> Account: ...  # noqa: D102

    def updates(self, on_read: OnRead) -> Iterator[Row]:
        """Yield the updates in the source's order as column -> number, each with what is known of its times.

        A source that is followed may yield an update as `SoFar` first, and `ANEW` before it begins from its beginning.

        Raises:
            UsageError: the source is of another kind, or has no update.
            OSError: the source cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    Attributes:
        path: Folder of the run; None if the import was interrupted before its first update.
        is_interrupted: Whether a signal ended it.
        new: Number of updates that it recorded.
        earlier: Number of updates that an earlier import had recorded.
    """

    path: Path | None
    is_interrupted: bool
    new: int = 0
    earlier: int = 0


def import_run(
    source: UpdateSource,
    root: Path,
    run_id: str,
    *,
    signals: Signals,
    on_read: OnRead,
    following: Following = READ_ONCE,
) -> Imported:
    """Record every update of `source` as a run; a source without updates leaves no run behind.

    If the run was imported from a shorter version of the same log, only the updates that are new are recorded, as
    another attempt. A signal ends the run properly: it is sealed with the status `interrupted`. A log that is followed
    is read to the end of what is there first.

    Raises:
        UsageError: as `UpdateSource.updates`, or the run cannot be created, or `following` ended with a problem.
        RunExistsError: the run exists already, and is no shorter version of the log.
        EsperError: not all rows could be written to disk.
        OSError: the source cannot be read; the updates read so far are sealed with the status `failed`.
    """
    path = root / run_id  # as the user named it: relative paths stay relative
    intake = Intake(source, root, run_id, Earlier(path, earlier_import(root, run_id)), following)

    def on_read_or_signal(read: int) -> None:
        if not following.has_caught_up:
            signals.check()
        if read:
            following.grew()
        on_read(read)

    try:
        with signals.deferred():
            for row in source.updates(on_read_or_signal):
                intake.take(row)
    except KeyboardInterrupt:
        return _interrupted(intake, signals)
    except BaseException as error:
        if following.has_caught_up and signals.signum is not None and isinstance(error, UsageError):
            return _interrupted(intake, signals)  # it has no update so far
        intake.close("failed", f"import failed: {error}")
        raise
    if following.has_caught_up and signals.signum is not None:
        return _interrupted(intake, signals)
    signals.ignore()
    if following.problem:
        intake.close("interrupted", following.problem)
        kept = f"; the updates so far are sealed in {path}" if intake.path is not None else ""
        raise UsageError(f"{following.problem}{kept}")
    intake.check_length()
    intake.close("finished")
    if intake.dropped_rows:
        raise EsperError(f"could not write {intake.dropped_rows:,} updates to {path}; is the disk full?")
    return Imported(path, is_interrupted=False, new=intake.new, earlier=intake.earlier.updates)


def _interrupted(intake: Intake, signals: Signals) -> Imported:
    signals.ignore()
    intake.close("interrupted", signals.name)
    return Imported(intake.path, is_interrupted=True, new=intake.new, earlier=intake.earlier.updates)


class Intake:
    """Takes the rows of a source one after another, and records those that the run does not have yet.

    A log that is followed may be rewritten, and is then read from its beginning again. Rows that it had before are
    passed over. From the first one that differs on, the log is recorded as another attempt, which supersedes the rest.

    Attributes:
        earlier: What an earlier import has recorded.
        new: Number of updates that were recorded.
        dropped_rows: Number of rows that the disk did not take.
    """

    def __init__(self, source: UpdateSource, root: Path, run_id: str, earlier: Earlier, following: Following) -> None:
        self.earlier = earlier
        self.new = self.dropped_rows = 0
        self._source, self._root, self._run_id = source, root, run_id
        self._recorder: Recorder | None = None
        self._has_run = earlier.updates > 0
        self._is_followed = following is not READ_ONCE
        self._fingerprint = Fingerprint()
        self._before_anew: Fingerprint | None = None
        self._known = array("q")  # of a log that is followed: a hash of each of its rows
        self._told: int | None = None  # that of the row that was recorded while its update went on
        self._has_parted = False  # from what was read before
        self._opened_as: tuple[str, ValueLossDefinition] | None = None
        self._waited = 0.0

    @property
    def path(self) -> Path | None:
        """The folder of the run; None if there is none."""
        return self._root / self._run_id if self._has_run else None

    def take(self, row: Row) -> None:
        """Take the next row.

        Raises:
            RunExistsError: the log is not the one that was imported earlier.
            UsageError: the run cannot be created, or a log of another trainer has taken the place of this one.
            EsperError: the disk takes no more rows.
        """
        if row is ANEW:
            self._before_anew = self._fingerprint if self._fingerprint.updates else self._before_anew
            self._fingerprint = Fingerprint()
            return
        place = self._fingerprint.updates
        hashed = hash(self._fingerprint.bytes_of(row)) if self._is_followed else 0
        if isinstance(row, SoFar):
            is_known = place < len(self._known) or (place < self.earlier.updates and not self._has_parted)
            if not is_known and hashed != self._told:
                self._told = hashed
                self._record(row)
            return
        self._fingerprint.add(row)
        if place < len(self._known):
            if self._known[place] == hashed:
                return
            self._part(place)
        if self._is_followed:
            self._known.append(hashed)
        if self._recorder is None and not self._has_parted and self.earlier.has(self._fingerprint):
            return
        self.new += 1
        if hashed != self._told or not self._is_followed:
            self._record(row)
        self._told = None

    def _part(self, place: int) -> None:
        """Begin another attempt with the next row, because the log has another row in this place now."""
        del self._known[place:]
        self._has_parted, self._told = True, None
        if self._recorder is not None:
            self._close("interrupted", f"the log was rewritten, and differs from its row {place:,} on")

    def _record(self, row: Row) -> None:
        if self._recorder is None:
            self._recorder = self._open()
        if self._recorder.record(**row):
            self._waited = 0.0
            return
        time.sleep(BUFFERED_PAUSE_SECS)
        self._waited += BUFFERED_PAUSE_SECS
        if self._waited > PATIENCE_SECS:
            raise EsperError(f"the disk takes no more updates of {self.path}; is it full?")

    def _open(self) -> Recorder:
        source = self._source
        described = source.trainer, source.value_loss_definition
        if self._opened_as not in (None, described):
            raise UsageError(
                f"another log has taken the place of the one that was followed: of {source.trainer}, or with another"
                f" value loss; the updates before are sealed in {self.path}, import this log with --run-id"
            )
        recorder = _open(source, self._root, self._run_id, is_new=not self._has_run)
        self._has_run, self._opened_as = True, described
        return recorder

    def check_length(self) -> None:
        """Check that the log is not shorter than the one that was imported earlier; raises as `Earlier`."""
        if self._before_anew is None:
            self.earlier.check_length(self._fingerprint)

    def close(self, status: EndStatus, reason: str | None = None) -> None:
        """Seal what was recorded."""
        if self._recorder is not None:
            self._close(status, reason)

    def _close(self, status: EndStatus, reason: str | None) -> None:
        recorder, self._recorder = self._recorder, None
        assert recorder is not None
        read = self._fingerprint if self._fingerprint.updates or self._before_anew is None else self._before_anew
        recorder.note_import(read.to_dict())
        recorder.close(status, reason)
        self.dropped_rows += recorder.dropped_rows


class Earlier:
    """What an earlier import has recorded under the same name, against which a longer log is compared.

    Attributes:
        updates: Number of updates that were imported; 0 if there is no such run.
    """

    def __init__(self, path: Path, imported: Mapping[str, Any] | None) -> None:
        self.updates: int = 0 if imported is None else imported["updates"]
        self._path = path
        self._imported = imported or {}

    def has(self, fingerprint: Fingerprint) -> bool:
        """Whether the latest row of a fingerprint is recorded already.

        Raises:
            RunExistsError: the log differs from the one that was imported.
        """
        if fingerprint.updates != self.updates:
            return fingerprint.updates < self.updates
        found = fingerprint.to_dict()
        if found["sha256"] != self._imported.get("sha256"):
            raise self._differs()
        return bool(found["last_sha256"] == self._imported.get("last_sha256"))

    def check_length(self, fingerprint: Fingerprint) -> None:
        """Check that a log is not shorter than the one that was imported.

        Raises:
            RunExistsError: it is.
        """
        if fingerprint.updates < self.updates:
            raise self._differs()

    def _differs(self) -> RunExistsError:
        return RunExistsError(
            f"run {self._path} exists already, and its {self.updates:,} updates are not those that this log begins"
            " with: choose another name with --run-id, or another folder with --out"
        )


def _open(source: UpdateSource, root: Path, run_id: str, *, is_new: bool) -> Recorder:
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
            resume="never" if is_new else "must",
            fill_in_times=False,
        )
    except OSError as error:
        raise UsageError(f"--out {root}: cannot create a run there: {error.strerror or error}") from None
