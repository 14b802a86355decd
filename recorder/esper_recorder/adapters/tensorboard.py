"""Records what a program writes to a TensorBoard `SummaryWriter`: `install()`, once, before it trains."""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from esper_recorder.adapters.import_hook import AfterImport
from esper_recorder.adapters.written_log import WrittenLog
from esper_recorder.importing.point_log import Given
from esper_recorder.importing.targets import with_mapping
from esper_recorder.writing import log
from esper_recorder.writing.ending import ending_of
from esper_recorder.writing.foreign import describe, is_of_signal_handler
from esper_schemas.run.records import EndStatus

MODULES = ("torch.utils.tensorboard.writer", "tensorboardX.writer")
"""Modules that define a `SummaryWriter`, which is patched when a program imports them."""

_installed: Recordings | None = None


def install(
    *,
    root: str | os.PathLike[str] | None = None,
    mapping: Mapping[str, str] | None = None,
    definition: Mapping[str, Any] | None = None,
    upload: str | None = None,
    redact: Sequence[str] = (),
) -> Recordings:
    """Record every `SummaryWriter` of this process from now on, torch's and tensorboardX's.

    What is written is still written. Each folder that gets the losses of a PPO becomes a run. A run is sealed when its
    last writer is closed, and at the latest when the program ends. Recording raises nothing and changes nothing in the
    training. recorder/ways_in/tensorboard_script.md says what is recorded. A second call returns what the first did.

    Args:
        root: Folder of runs. By default a run is recorded into the folder that the writer writes to.
        mapping: Tag -> column, as with `--map`; it comes before what is known of the trainer.
        definition: Fields of `ValueLossDefinition` that you know, such as `{"factor": 0.5}`.
        upload, redact: As for `Recorder.open`, for each run.

    Returns:
        All recordings. Used as a context manager, they end with the block, as `Recorder` does.

    Raises:
        UsageError: a column of `mapping` is one that the recorder fills in, or `upload` or `redact` is wrong.
    """
    global _installed
    if _installed is not None:
        if (root, mapping, definition, upload) != (None, None, None, None):
            log.warning("install() was called before: its options are ignored this time")
        return _installed
    with_mapping(None, mapping or {})
    if upload is not None or redact:
        from esper_recorder.uploading.beside import check_upload  # not imported without need

        check_upload(upload, redact)
    _installed = Recordings(root, Given(mapping or {}, definition or {}), {"upload": upload, "redact": redact})
    return _installed


class Recordings:
    """The recordings of all summary writers of this process; `install` makes it.

    Attributes:
        logs: One for each folder that was written to, in order.
        on_open: Called with each recording when its run was created; may be set.
        has_seen_writers: Whether there was any `SummaryWriter`.
    """

    def __init__(self, root: str | os.PathLike[str] | None, given: Given, options: Mapping[str, Any]) -> None:
        self.logs: dict[str, WrittenLog] = {}
        self.on_open: Callable[[WrittenLog], None] | None = None
        self.has_seen_writers = False
        self._root = None if root is None else Path(root).absolute()
        self._given, self._options = given, options
        self._lock = threading.RLock()
        self._logs_of: WeakKeyDictionary[Any, WrittenLog | None] = WeakKeyDictionary()
        self._writers_of: dict[str, WeakSet[Any]] = {}
        self._inside = threading.local()  # add_hparams, which makes a writer of its own
        self._noted: set[tuple[str, type[Exception]]] = set()
        self._is_watched = False
        self._undo: list[Callable[[], None]] = []
        self._hook = AfterImport(MODULES, lambda module: self._patch(module.SummaryWriter))
        atexit.register(self._flush)
        os.register_at_fork(after_in_child=self._forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close(*ending_of(kind, error))

    def close(self, status: EndStatus = "finished", reason: str | None = None) -> None:
        """Record the last update of each log, end all runs, and record no further writer.

        Args:
            status, reason: As for `Recorder.close`. A run whose writers were all closed has ended as finished.
        """
        global _installed
        self._hook.remove()
        while self._undo:
            self._undo.pop()()
        atexit.unregister(self._flush)
        with self._lock:
            for written in self.logs.values():
                written.end(status, reason)
            self._logs_of.clear()
        if _installed is self:
            _installed = None

    # ------------------------------------------------------------------ what the program calls

    def _patch(self, writer: type[Any]) -> None:
        """Let each method of a class of writers do what it does, and then tell us of it."""
        for name, watch in (
            ("__init__", self._made),
            ("add_scalar", self._scalar),
            ("add_text", self._text),
            ("add_hparams", self._hparams),
            ("close", self._closed),
        ):
            original = getattr(writer, name)
            patched = self._around_hparams(original, watch) if name == "add_hparams" else self._after(original, watch)
            setattr(writer, name, patched)
            self._undo.append(functools.partial(setattr, writer, name, original))

    def _after(self, original: Callable[..., Any], watch: Callable[..., None]) -> Callable[..., Any]:
        @functools.wraps(original)
        def method(writer: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(writer, *args, **kwargs)
            try:
                watch(writer, *args, **kwargs)
            except Exception as error:
                if is_of_signal_handler(error):
                    raise
                self._note(original.__name__, error)
            return result

        return method

    def _around_hparams(self, original: Callable[..., Any], watch: Callable[..., None]) -> Callable[..., Any]:
        inner = self._after(original, watch)

        @functools.wraps(original)
        def method(writer: Any, *args: Any, **kwargs: Any) -> Any:
            self._inside.hparams = True
            try:
                return inner(writer, *args, **kwargs)
            finally:
                self._inside.hparams = False

        return method

    def _note(self, what: str, error: Exception) -> None:
        """Log what could not be recorded, once for each kind."""
        if (what, type(error)) not in self._noted:
            self._noted.add((what, type(error)))
            log.warning("a call of %s was not recorded: %s", what, describe(type(error), error))

    def _made(self, writer: Any, *_: Any, **__: Any) -> None:
        with self._lock:
            self._log_of(writer)

    def _scalar(
        self,
        writer: Any,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: Any = None,
        *_: Any,
        **__: Any,
    ) -> None:
        value = scalar_value if type(scalar_value) is float else _number(scalar_value)
        step = 0 if global_step is None else int(global_step)  # as the event file has it
        with self._lock:
            written = self._log_of(writer)
            if written is not None and written.trouble is None:
                was_open = written.is_recording
                written.add(tag, step, time.time() if walltime is None else float(walltime), value)
                if written.is_recording and not was_open:
                    self._opened(written)

    def _text(self, writer: Any, tag: str, text_string: Any, *_: Any, **__: Any) -> None:
        with self._lock:
            written = self._log_of(writer)
            if written is not None and isinstance(text_string, str):
                written.add_text(tag, text_string)

    def _hparams(self, writer: Any, hparam_dict: Mapping[str, Any], *_: Any, **__: Any) -> None:
        self._inside.hparams = False
        with self._lock:
            written = self._log_of(writer)
            if written is not None:
                written.add_settings(hparam_dict)

    def _closed(self, writer: Any, *_: Any, **__: Any) -> None:
        with self._lock:
            written = self._logs_of.pop(writer, None)
            if written is not None:
                writers = self._writers_of[written.folder]
                writers.discard(writer)
                if not writers:
                    written.pause()

    # ------------------------------------------------------------------ which recording it is

    def _log_of(self, writer: Any) -> WrittenLog | None:
        """Return the recording of a writer; None for one that is not recorded."""
        try:
            return self._logs_of[writer]
        except KeyError:
            pass
        self.has_seen_writers = True
        if getattr(self._inside, "hparams", False):
            self._logs_of[writer] = None
            return None
        folder = os.fspath(getattr(writer, "log_dir", None) or writer.logdir)
        folder = folder if "://" in folder else os.path.abspath(folder)  # noqa: PTH100 (Path.absolute() keeps a/../b)
        written = self.logs.get(folder)
        if written is None:
            written = self.logs[folder] = WrittenLog(folder, self._root, self._given, self._options)
            self._writers_of[folder] = WeakSet()
        else:
            written.begin_anew()
        self._writers_of[folder].add(writer)
        self._logs_of[writer] = written
        return written

    def _opened(self, opened: WrittenLog) -> None:
        """A run begins: end those whose writers are gone without having been closed."""
        self._watch_child_process()
        for written in self.logs.values():
            if written is not opened and written.is_recording and not self._writers_of[written.folder]:
                written.pause()
        if self.on_open is not None:
            self.on_open(opened)

    # ------------------------------------------------------------------ the end of the process

    def _flush(self) -> None:
        """Record the last updates when the program ends; each recorder then ends its run by itself."""
        with self._lock:
            for written in self.logs.values():
                written.flush()

    def _watch_child_process(self) -> None:
        """Do so in a child of multiprocessing too, which skips `atexit`; before the recorders end their runs."""
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None and not self._is_watched:
            from multiprocessing.util import Finalize

            Finalize(None, self._flush, exitpriority=20)
            self._is_watched = True

    def _forget(self) -> None:
        """Let go of everything in a forked child: writers and runs belong to the parent. New writers are recorded."""
        self._lock = threading.RLock()
        for writer in list(self._logs_of):
            self._logs_of[writer] = None
        self.logs, self._writers_of, self._is_watched = {}, {}, False


def _number(value: Any) -> float:
    """Return a scalar as a summary writer takes it: a number, or an array or tensor of one element.

    Raises:
        TypeError, ValueError: it is something else.
    """
    return float(value.item() if hasattr(value, "item") else np.asarray(value, dtype=np.float64).item())
