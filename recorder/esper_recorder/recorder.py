"""The recorder: takes one PPO update at a time from the training loop, and makes sure that it is never lost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from esper_recorder.writing import arguments
from esper_recorder.writing.background import BackgroundWriter, UpdateHook
from esper_recorder.writing.backlog import PATIENCE_SECS
from esper_recorder.writing.black_box import KEPT_MINIBATCHES, BlackBox
from esper_recorder.writing.breakage import Breakage
from esper_recorder.writing.ending import close_when_collected, ending_of
from esper_recorder.writing.foreign import describe, is_of_signal_handler
from esper_recorder.writing.given import parts_of
from esper_recorder.writing.journal import Journal, RotationLimits
from esper_recorder.writing.opening import OpenedRank, Resume, open_rank
from esper_recorder.writing.planned import PlannedRows
from esper_recorder.writing.unplanned import UnplannedRows
from esper_schemas.errors import PayloadError, UsageError
from esper_schemas.metric.payload import PPOUpdatePayload
from esper_schemas.run.records import EndStatus, ValueLossDefinition
from esper_schemas.segment.black_box import MAX_MINIBATCHES

if TYPE_CHECKING:
    from esper_recorder.keeping.recorded import Continuation
    from esper_recorder.uploading.beside import UploadBeside


class Recorder:
    """Appends one row per PPO update to a run directory; see FORMAT.md for what is promised.

    Open it with `Recorder.open`; it is a context manager. Any thread may call `record`, which writes in the
    caller's thread, in microseconds. Rows wait in a bounded buffer, and a background thread writes them, only while
    the disk is in trouble or device tensors are on their way. The same thread syncs and seals. Nothing that goes wrong
    while recording is raised, except with `strict=True`: rows that cannot be kept are dropped, logged and counted, and
    the count is written to the run.

    A recorder is closed when it is garbage-collected, and at the latest when the program ends. It belongs to the
    process that opened it; a forked child cannot record with it. If somebody removes the folder or the LOCK of its
    run, it logs that and continues in a run beside it, `<run_id>.taken-<digits>`.

    Attributes:
        rank: This process's rank.
    """

    def __init__(
        self,
        opened: OpenedRank,
        *,
        limits: RotationLimits,
        buffer_rows: int,
        on_update: UpdateHook | None,
        strict: bool,
        black_box_minibatches: int,
        fill_in_times: bool,
    ) -> None:
        self.rank = opened.identity.rank
        self._on_update = on_update
        self._strict = strict
        started = perf_counter()
        self._upload: UploadBeside | None = None
        journal = Journal(opened.folder, opened.lock, opened.identity, limits)
        self._black_box = BlackBox(black_box_minibatches, started)
        self._background = BackgroundWriter(opened, journal, buffer_rows, on_update, self._black_box)
        self._unplanned = UnplannedRows(self._background, started, fill_in_times, strict)
        self._planned = PlannedRows(self._background, self._unplanned, started, fill_in_times)
        close_when_collected(self, self._background)

    # ------------------------------------------------------------------ opening and closing

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str] = "runs",
        *,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        trainer: str | None = None,
        env: object = None,
        device: object = None,
        git_commit: str | None = None,
        return_goal: float | None = None,
        value_loss_definition: ValueLossDefinition | None = None,
        resume: Resume = "never",
        on_update: UpdateHook | None = None,
        strict: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        segment_rows: int = RotationLimits.rows,
        segment_bytes: int = RotationLimits.bytes,
        segment_secs: float = RotationLimits.secs,
        buffer_rows: int = 10_000,
        black_box_minibatches: int = KEPT_MINIBATCHES,
        fill_in_times: bool = True,
        upload: str | None = None,
        redact: Sequence[str] = (),
    ) -> Self:
        """Open a run for recording, creating `root/run_id` unless it is resumed.

        Args:
            root: Folder of runs.
            run_id: Name of the run and of its folder; made from the time if absent.
            config: Hyper-parameters, stored in the header as JSON.
            trainer, env, device: Who trains what, where; stored in the header as text. An environment of Gymnasium, or
                its spec, is stored as its id, and a device with the number N as `cuda:N`.
            git_commit: Commit of the training code, "" if it is not known; by default that of the working directory.
            return_goal: Mean episode return from which the task counts as solved, in the environment's own rewards, as
                `episode_return_mean` must be recorded then; stored in the header. `return_goal_of(env)` takes it from
                Gymnasium. A resumed run keeps the goal that it was created with.
            value_loss_definition: The trainer's definition of value loss. Undeclared means half the mean
                squared error, and is marked as assumed.
            resume: "never" refuses a run id that exists, "allow" adds an attempt to it if it does,
                "must" insists that it does.
            on_update: Called after each row with its values by column name, from the thread that wrote it (the
                caller's or the background's), in the order of the rows if one thread records. An exception that it
                raises is logged; with `strict` it is raised again if it came in the caller's thread.
            strict: Raise what goes wrong while recording instead of going on; for tests.
            rank, world_size: Of this process; default from the environment (RANK, WORLD_SIZE), else 0 and 1.
            segment_rows, segment_bytes, segment_secs: A segment is sealed when it reaches any of these.
            buffer_rows: How many rows may wait while the disk is in trouble.
            black_box_minibatches: How many minibatches are kept in memory for the black box, 0 to 65,536.
            fill_in_times: Whether `wall_time` and `elapsed_secs` are filled in where a row has none. Otherwise they
                stay null, for rows of a past whose times are not known.
            upload: URL of an object store, such as `s3://bucket/runs`, below which the run is put while it is recorded,
                by a process of its own. What goes wrong with that is logged; `esper-rec upload` puts the rest there.
            redact: Keys that are left out of what is uploaded: `host`, `commit`, `config` or `config.KEY`.

        Raises:
            UsageError: an argument is wrong.
            RunExistsError: the run exists and `resume` is "never".
            RunLockedError: another process is writing it.
            RunDamagedError: an earlier attempt left damage that must be looked at first.
            OSError: the run's folder cannot be created.
        """
        limits = RotationLimits(
            arguments.whole("segment_rows", segment_rows),
            arguments.whole("segment_bytes", segment_bytes),
            arguments.secs("segment_secs", segment_secs),
        )
        buffer_rows = arguments.whole("buffer_rows", buffer_rows)
        if not buffer_rows > 0:
            raise UsageError(f"buffer_rows must be greater than 0, found {buffer_rows}")
        black_box_minibatches = arguments.whole("black_box_minibatches", black_box_minibatches)
        if not 0 <= black_box_minibatches <= MAX_MINIBATCHES:
            raise UsageError(f"black_box_minibatches must be 0 to {MAX_MINIBATCHES:,}, found {black_box_minibatches}")
        arguments.hook(on_update)
        strict = arguments.flag("strict", strict)
        fill_in_times = arguments.flag("fill_in_times", fill_in_times)
        if upload is not None or redact:
            from esper_recorder.uploading.beside import check_upload  # not imported without need

            check_upload(upload, redact)
        opened = open_rank(
            root,
            run_id=run_id,
            resume=resume,
            rank=rank,
            world_size=world_size,
            described={
                "config": config,
                "trainer": arguments.as_text("trainer", trainer),
                "env": arguments.name_of_env(env),
                "device": arguments.name_of_device(device),
                "git_commit": arguments.as_text("git_commit", git_commit),
                "return_goal": return_goal,
            },
            value_loss_definition=arguments.definition(value_loss_definition),
        )
        recorder = cls(
            opened,
            limits=limits,
            buffer_rows=buffer_rows,
            on_update=on_update,
            strict=strict,
            black_box_minibatches=black_box_minibatches,
            fill_in_times=fill_in_times,
        )
        if upload is not None:
            from esper_recorder.uploading.beside import UploadBeside

            recorder._upload = UploadBeside(recorder.path, recorder.rank, upload, redact)
        return recorder

    def close(self, status: EndStatus = "finished", reason: object = None) -> None:
        """Write what is buffered, seal, record how the attempt ended, and give the lock up. May be called again.

        It gives up on a disk that stays in trouble. If a signal handler that interrupts `record` calls it, it returns
        before all is done; a later call, or the end of the program, waits for the rest. With `upload` it then waits up
        to a minute for the rest of the run to be uploaded, which goes on after that.

        Args:
            status: "finished", "failed" or "interrupted".
            reason: One line on why, for a run that did not finish: text, the exception, or any object.

        Raises:
            UsageError: there is no such status; the run stays open.
        """
        if self._background.close(*arguments.ending(status, reason)) and self._upload is not None:
            self._upload.finish(self.path)

    def expect_close(self, reason: str) -> None:
        """Say that the trainer closes this run whenever a training ends well: if nobody does, the run has failed.

        Args:
            reason: One line on why it then has.
        """
        self._background.if_not_closed = ("failed", reason)

    def expect_exit(self) -> None:
        """Say that `sys.exit(0)` is ending the program, as planned: if nobody closes this run, it has finished."""
        self._background.if_not_closed = ("finished", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(*ending_of(kind, error))

    def __copy__(self) -> NoReturn:
        raise TypeError("a Recorder cannot be copied: two would give their rows the same numbers; pass it on as it is")

    def __deepcopy__(self, _memo: object) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Recorder cannot be pickled: it belongs to the process that opened it")

    def __repr__(self) -> str:
        state = "open" if self._background.closed is None else "closed"
        return f"<Recorder {self.path} rank {self.rank} attempt {self.attempt}, {state}>"

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self._background.path

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self._background.opened.identity.run_id

    @property
    def attempt(self) -> int:
        """0, then 1 more for each resume."""
        return self._background.opened.attempt.attempt

    @property
    def dropped_rows(self) -> int:
        """Rows of this attempt that were dropped so far."""
        return self._background.tally.dropped_rows

    def next_update(self, env_steps: int | None = None) -> int:
        """Return the update from which a resumed trainer continues to count, by the rows that were recorded before.

        Call it before the first row of an attempt. A model that was saved after `env_steps` steps continues with the
        first recorded update that took more steps; that update and those behind it are superseded. If none took more,
        or `env_steps` is None or was never recorded, it continues behind the last update. A run without rows gives 0.

        Raises:
            RunDamagedError: a segment is damaged, so that its rows are not known; `esper-rec repair` recovers them.
            OSError: a segment cannot be read.
        """
        return self.continuation(env_steps).update

    def continuation(self, reached: int | None, column: str = "env_steps") -> Continuation:
        """Return the update as `next_update` does, and the environment steps that the updates before it took.

        Args:
            reached: How far the trainer had come when it was saved; None continues behind the last update.
            column: What `reached` counts: a recorded column that never falls, such as the trainer's own number.

        Raises:
            RunDamagedError, OSError: as `next_update`.
        """
        from esper_recorder.keeping.recorded import find_continuation  # seldom needed, so not imported with the package

        opened = self._background.opened
        return find_continuation(opened.folder, opened.identity, reached, column)

    # ------------------------------------------------------------------ recording

    def record(
        self,
        payload: PPOUpdatePayload | None = None,
        /,
        *,
        extras: Mapping[str, Any] | None = None,
        **metrics: Any,
    ) -> bool:
        """Record one PPO update, given as a payload or by keyword (names of the metrics table).

        `update`, `policy_loss` and `value_loss` are required, the losses only unless `skipped=True`. None means not
        measured. Numbers may be Python's or NumPy's, or arrays and tensors of one number. CUDA tensors are fetched in
        the background; the caller never waits for them. `extras`, and keywords that the table does not have, become
        float64 columns of their own. A value that its column cannot store exactly is left out of the row, and counted
        by its name. A keyword that a payload already has a value for is ignored.

        If rows come faster than they can be written or sealed, the caller waits for the background: at most five
        seconds, and not while the disk refuses.

        Returns:
            True when the row is safe against SIGKILL. False when it is buffered, or was dropped, which is
            counted and logged.

        Raises:
            PayloadError, OSError: only with `strict=True`.
        """
        background = self._background
        with background.lock:
            if background.is_recording:
                return self._unplanned.refuse_in_handler()
            if background.backlog.behind:
                background.wait_until_caught_up()
            background.is_recording = True
            row: dict[str, Any] | None = None
            try:
                if payload is None and extras is None:
                    names, values = tuple(metrics), tuple(metrics.values())
                else:
                    names, values = parts_of(metrics, payload, extras)
                safe = self._planned.record(names, values)
                if safe is None:
                    row, safe = self._unplanned.record(names, values)
                seq = background.next_seq - 1  # now, since another thread may record once the lock is free
            except PayloadError as error:
                return self._unplanned.refuse(error)
            except Exception as error:
                if self._strict or is_of_signal_handler(error):
                    raise
                return self._unplanned.refuse(PayloadError(describe(type(error), error)))
            finally:
                background.is_recording = False
        if safe and self._black_box.has_minibatches:
            given = dict(zip(names, values, strict=True)) if row is None else row
            background.wait_for_black_box(self._black_box.pull_for(given, seq))
        if safe and self._on_update is not None:
            self._call_hook(self._unplanned.as_row(names, values, seq) if row is None else row)
        return safe

    def note_import(self, imported: Mapping[str, Any]) -> None:
        """Keep in the record of this attempt which log its rows are from, and how far it was read; see FORMAT.md."""
        self._background.note_import(imported)

    def minibatch(self, **numbers: Any) -> None:
        """Keep the numbers of one minibatch in memory, so that they can be read if something breaks soon.

        Call it after each optimiser step, with what you have at hand: `policy_loss`, `value_loss`, `grad_norm`,
        `ratio_max`, `epoch`, and numbers of your own such as reward terms. The last 512 are kept. They are written to
        the run, as a black box, when a number with "loss" or "grad" in its name is not finite here or in a row, when
        an update is skipped, when the `level` of `on_update` becomes "critical", and when the attempt fails or is
        interrupted; see FORMAT.md.

        Numbers are taken as `record` takes them; CUDA tensors stay on the device and nobody waits for them. A value
        that is no number is left out, and logged. Only if a black box is to be written now, this waits until it is on
        the disk, for at most a quarter of a second.

        Raises:
            PayloadError: only with `strict=True`.
        """
        broken, refused = self._black_box.add(self._background.next_seq, numbers)
        if refused:
            if self._strict:
                raise PayloadError(next(iter(refused.values())))
            for name, reason in refused.items():
                self._background.tally.say(f"minibatch: {name}", f"a number of a minibatch is left out: {reason}")
        if broken and self._background.closed is None:
            self._background.wait_for_black_box(self._black_box.pull(broken, self._background.next_seq))

    def dump_black_box(self, reason: str) -> bool:
        """Write the minibatches that are kept now to the run; at most 100 times in an attempt.

        Args:
            reason: Why, in one line.

        Returns:
            Whether they are on the disk. False if there are none, if 100 were written, and after five seconds.
        """
        if self._background.closed is not None:
            return False
        written = self._black_box.pull(Breakage("asked", "asked", str(reason)), self._background.next_seq)
        return self._background.wait_for_black_box(written, PATIENCE_SECS)

    def _call_hook(self, row: Mapping[str, Any]) -> None:
        assert self._on_update is not None
        try:
            self._on_update(row)
        except Exception as error:
            if self._strict or is_of_signal_handler(error):
                raise
            self._background.tally.say("hook", f"on_update raised {describe(type(error), error)}")
        self._background.wait_for_black_box(self._black_box.pull_if_critical(self._on_update, row["seq"]))
