"""The black box: the last minibatches in memory, and when they are written to the disk; see FORMAT.md.

`BlackBox` belongs to the callers of `minibatch` and `record`, who fill it and pull its triggers. The background thread
writes what is due with `write_due`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from time import monotonic, perf_counter
from typing import Any

from esper_recorder.keeping import durable
from esper_recorder.writing import log
from esper_recorder.writing.breakage import Breakage, broken_by, not_finite
from esper_recorder.writing.device_capture import OnDevice, fetch_together, keep_on_device, take_device_tensors
from esper_recorder.writing.foreign import describe
from esper_recorder.writing.opening import OpenedRank
from esper_recorder.writing.row_plan import EXACT_AS_FLOAT, tensor_types
from esper_recorder.writing.tally import MAX_REASON, Tally
from esper_schemas.errors import PayloadError
from esper_schemas.metric.coercion import check_extra_name, coerce
from esper_schemas.run.names import BLACK_BOXES, black_box_name, black_box_record_name, new_black_box
from esper_schemas.run.records import now
from esper_schemas.segment import black_box

KEPT_MINIBATCHES = 512
"""So many minibatches are kept unless the caller wants another number."""

FIRST_PAUSE_SECS = 10.0
"""Pause after the first black box of a kind; each further one of that kind doubles it."""

MAX_ASKED = 100
"""So many black boxes of an attempt may be written because somebody asked for them."""

WAIT_SECS = 0.25
"""How long a caller whose numbers broke waits for the black box to be on the disk."""

_Minibatch = tuple[int, int, float, Mapping[str, float], OnDevice | None]
"""Sequence number of its update's row, its number in that update, when it came, its numbers, those on a device."""

_ALL_WELL: tuple[None, Mapping[str, str]] = (None, {})


@dataclass(slots=True)
class Snapshot:
    """What a trigger saw: the minibatches at that moment, and why it was pulled.

    Attributes:
        seq: number of the row of the update in which it was pulled.
        not_written: in how many later updates the same trigger was pulled before this was written.
        last_seq: number of the row of the last of them.
        name: name of its files, once they were begun; a second try writes the same ones.
        written: set when it is on the disk, or given up.
    """

    broken: Breakage
    seq: int
    minibatches: Sequence[_Minibatch]
    not_written: int = 0
    last_seq: int = -1
    name: str = ""
    written: threading.Event = field(default_factory=threading.Event)

    @property
    def reason(self) -> str:
        """Why, in one line."""
        return " ".join(self.broken.reason.split())[:MAX_REASON]


class BlackBox:
    """The last minibatches of one recorder, and the snapshots that wait to be written.

    Any thread may call `add` and `pull`; both take microseconds.

    Args:
        size: how many minibatches are kept; 0 keeps none.
        started: `perf_counter()` from which the seconds of the minibatches count.
    """

    def __init__(self, size: int, started: float) -> None:
        self.started = started
        self._ring: deque[_Minibatch] = deque(maxlen=size)
        self._seq = -1
        self._in_update = 0
        self._waiting: dict[str, Snapshot] = {}
        self._earliest: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._asked = 0
        self._last_seq = -1  # of the last snapshot: later triggers in the same update are the same incident
        self._newest: _Minibatch | None = None  # of the last snapshot
        self._level: object = None
        self._lock = threading.RLock()  # a signal handler may ask for a black box in the middle of a trigger

    # ------------------------------------------------------------------ filling

    @property
    def has_minibatches(self) -> bool:
        """Whether any are kept; without them no trigger has an effect."""
        return bool(self._ring)

    def add(self, seq: int, numbers: Mapping[str, Any]) -> tuple[Breakage | None, Mapping[str, str]]:
        """Keep one minibatch of the update whose row gets the number `seq`.

        Returns:
            What broke, for `pull`, and name → reason for values that are left out.
        """
        refused: Mapping[str, str] | None = None
        on_device: OnDevice | None = None
        values = numbers.values()
        kinds = list(map(type, values))
        are_floats = kinds.count(float) == len(kinds)  # from most callers; quicker than a set
        if not are_floats and not EXACT_AS_FLOAT.issuperset(kinds):
            numbers, on_device, refused = _plain(numbers)
            values = numbers.values()
        if seq != self._seq:
            self._seq, self._in_update = seq, 0
        number = self._in_update
        self._in_update = number + 1
        self._ring.append((seq, number, perf_counter(), numbers, on_device))
        if (are_floats and isfinite(sum(values))) or all(map(isfinite, values)):
            return (None, refused) if refused else _ALL_WELL
        return not_finite(numbers, f"minibatch {number}"), refused or {}

    # ------------------------------------------------------------------ triggers

    def pull(self, broken: Breakage, seq: int) -> threading.Event | None:
        """Note what broke in the update whose row has or gets the number `seq`.

        Returns:
            An event that says that the black box is on the disk; None if none is written now.
        """
        if not self.has_minibatches:
            return None
        with self._lock:
            is_end = broken.trigger in ("failed", "interrupted")
            newest = self._ring[-1]
            waiting = self._waiting.get(broken.kind)
            if broken.trigger == "asked":
                if self._asked == MAX_ASKED or waiting is not None:
                    return None
                self._asked += 1
            elif newest is self._newest or (seq == self._last_seq and not is_end):
                return None
            elif waiting is not None:
                waiting.not_written += waiting.last_seq != seq
                waiting.last_seq = seq
                return None
            snapshot = Snapshot(broken, seq, tuple(self._ring), last_seq=seq)
            self._last_seq, self._newest = seq, newest
            self._waiting[broken.kind] = snapshot
            return snapshot.written if self._earliest.get(broken.kind, 0.0) <= monotonic() else None

    def pull_for(self, row: Mapping[str, Any], seq: int) -> threading.Event | None:
        """Pull a trigger if the row of this number says that its update broke; returns what `pull` does."""
        if not self.has_minibatches:
            return None
        try:
            found = broken_by(row)
        except Exception:  # a value of somebody else's type; the row itself was looked at with care
            return None
        return None if found is None else self.pull(found, seq)

    def pull_if_critical(self, hook: object, seq: int) -> threading.Event | None:
        """Pull a trigger when the level of a hook, such as a monitor, has become critical; returns what `pull` does."""
        if not self.has_minibatches:
            return None
        try:
            level = getattr(hook, "level", None)
            before, self._level = self._level, level
            if level == "critical" != before:
                return self.pull(Breakage("critical", "critical", "the verdict turned critical"), seq)
        except Exception:  # of a hook of somebody else's
            return None
        return None

    # ------------------------------------------------------------------ for the background

    @property
    def has_due(self) -> bool:
        """Whether a snapshot waits to be written now."""
        return bool(self._waiting) and any(
            self._earliest.get(kind, 0.0) <= monotonic() for kind in tuple(self._waiting)
        )

    def due(self, *, is_end: bool) -> list[Snapshot]:
        """The snapshots to write now, oldest update first; at the end of the attempt all of them."""
        if not self._waiting:
            return []
        with self._lock:
            time = inf if is_end else monotonic()
            found = [entry for kind, entry in self._waiting.items() if self._earliest.get(kind, 0.0) <= time]
        return sorted(found, key=lambda entry: entry.seq)

    def done(self, snapshot: Snapshot) -> None:
        """A snapshot is on the disk, or will never be."""
        kind = snapshot.broken.kind
        with self._lock:
            self._waiting.pop(kind, None)
            if snapshot.broken.trigger != "asked":
                pause = self._pauses.get(kind, FIRST_PAUSE_SECS)
                self._earliest[kind], self._pauses[kind] = monotonic() + pause, 2 * pause
        snapshot.written.set()


def write_due(box: BlackBox, opened: OpenedRank, tally: Tally, *, is_end: bool = False) -> bool:
    """Write the snapshots that are due; one that the disk refuses stays due, and one that is wrong is given up.

    Args:
        box: the black box.
        opened: the rank that it belongs to.
        tally: told of what is left out, and of what goes wrong.
        is_end: whether to write all of them, since the attempt ends.

    Returns:
        False if the disk refused.
    """
    for snapshot in box.due(is_end=is_end):
        try:
            refused = _write(snapshot, opened, box.started)
        except OSError as error:
            tally.say("black box", f"a black box could not be written ({error}); it is tried again")
            return False
        except Exception as error:
            tally.say("black box", f"a black box is given up: {describe(type(error), error)}")
        else:
            for name, reason in refused.items():
                tally.say(f"minibatch: {name}"[:60], f"a number is left out of the black box: {reason}")
            log.warning("%s: a black box was written: %s", opened.run.path, snapshot.reason)
        box.done(snapshot)
    return True


def _write(snapshot: Snapshot, opened: OpenedRank, started: float) -> Mapping[str, str]:
    """Write a snapshot so that it survives a power loss; return name → reason for the names that are left out.

    Raises:
        OSError: it could not be written; it may be tried again.
    """
    folder, identity = opened.folder, opened.identity
    arrived, refused = _with_device_numbers(snapshot)
    names: dict[str, None] = {}
    for numbers in arrived:
        names.update(dict.fromkeys(numbers))
    refused |= _not_columns(names)
    kept = [name for name in names if name not in refused]
    parquet = black_box.to_parquet(
        {
            "seq": [entry[0] for entry in snapshot.minibatches],
            "minibatch": [entry[1] for entry in snapshot.minibatches],
            "elapsed_secs": [entry[2] - started for entry in snapshot.minibatches],
        },
        {
            name: [None if (value := numbers.get(name)) is None else float(value) for numbers in arrived]
            for name in kept
        },
        identity,
    )
    record = black_box.record_of(
        parquet,
        seq=snapshot.seq,
        attempt=identity.attempt,
        run_uuid=identity.run_uuid,
        written=now(),
        trigger=snapshot.broken.trigger,
        reason=snapshot.reason,
        minibatches=len(arrived),
        not_written=snapshot.not_written,
    )
    opened.lock.check()
    if not folder.exists(BLACK_BOXES):
        durable.make_folder(folder, BLACK_BOXES)
        folder.hold(BLACK_BOXES)
        snapshot.name = ""
    name = snapshot.name = snapshot.name or new_black_box(folder, snapshot.seq)
    aside = f"{black_box_name(name)}.tmp"
    durable.write_new(folder, aside, parquet)
    folder.sync(BLACK_BOXES)  # no record may survive a power loss that its file does not
    durable.replace(folder, black_box_record_name(name), record.to_bytes())
    durable.rename(folder, aside, black_box_name(name))
    return refused


# ------------------------------------------------------------------ numbers


def _plain(numbers: Mapping[str, Any]) -> tuple[dict[str, float], OnDevice | None, dict[str, str]]:
    """Plain floats, what is on a device, and name → reason for what is neither; None means absent."""
    plain: dict[str, float] = {}
    rest: dict[str, Any] = {}
    tensors = tensor_types()
    for name, value in numbers.items():
        kind = type(value)
        if kind in EXACT_AS_FLOAT:
            plain[name] = float(value)
        elif kind in tensors and value.is_cpu and value.dim() == 0 and value.is_floating_point():
            plain[name] = value.item()
        elif value is not None:
            rest[name] = value
    refused: dict[str, str] = {}
    if not rest:
        return plain, None, refused
    on_cuda = take_device_tensors(rest)
    for name, value in rest.items():
        try:
            plain[name] = coerce(name, "float64", value)
        except PayloadError as error:
            refused[name] = str(error)
    try:
        return plain, keep_on_device(on_cuda) if on_cuda else None, refused
    except (PayloadError, RuntimeError) as error:
        refused |= dict.fromkeys(on_cuda, " ".join(str(error).split()))
        return plain, None, refused


def _with_device_numbers(snapshot: Snapshot) -> tuple[list[Mapping[str, float]], dict[str, str]]:
    """The numbers of each minibatch with those from the device, and name → reason for what the device did not give."""
    on_device = [entry[4] for entry in snapshot.minibatches if entry[4] is not None]
    if not on_device:
        return [entry[3] for entry in snapshot.minibatches], {}
    refused: dict[str, str] = {}
    fetched: Sequence[Mapping[str, float]]
    try:
        fetched = fetch_together(on_device)
    except RuntimeError as error:
        said = f"the device failed: {' '.join(str(error).split())[:200]}"
        fetched = [{}] * len(on_device)
        refused = {name: said for entry in on_device for group in entry.names for name in group}
    following = iter(fetched)
    return [
        {**entry[3], **next(following)} if entry[4] is not None else entry[3] for entry in snapshot.minibatches
    ], refused


def _not_columns(names: Mapping[str, None]) -> dict[str, str]:
    """Name → reason for the names that cannot be columns of a black box."""
    refused = {}
    for name in names:
        if name in black_box.OWN_COLUMNS:
            refused[name] = f"{name!r} is written by the recorder itself; choose another name"
            continue
        try:
            check_extra_name(name)
        except PayloadError as error:
            refused[name] = str(error)
    good = [name for name in names if name not in refused]
    for name in good[black_box.MAX_NAMES :]:
        refused[name] = f"{name!a} is not kept: a minibatch has at most {black_box.MAX_NAMES} numbers"
    return refused
