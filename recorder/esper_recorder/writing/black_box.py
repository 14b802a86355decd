"""The black box: the last minibatches in memory, and when they are written to the disk; see FORMAT.md.

`BlackBox` belongs to the callers of `minibatch` and `record`, who fill it and pull its triggers. The background thread
asks it for what is due, and writes that with `write_black_box`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Any

from esper_recorder.keeping import durable
from esper_recorder.keeping.lock import RankLock
from esper_recorder.writing.device_capture import OnDevice, fetch_together, keep_on_device, take_device_tensors
from esper_schemas.errors import PayloadError
from esper_schemas.metric.coercion import check_extra_name, coerce
from esper_schemas.metric.metrics import SKIP_REASONS
from esper_schemas.run.directory import BLACK_BOXES, black_box_name, black_box_record_name, new_black_box
from esper_schemas.run.files import Folder
from esper_schemas.run.records import Trigger, now
from esper_schemas.segment import black_box
from esper_schemas.segment.active import SegmentIdentity

KEPT_MINIBATCHES = 512
"""So many minibatches are kept unless the caller wants another number."""

FIRST_PAUSE_SECS = 10.0
"""Pause after the first black box of a kind; each further one of that kind doubles it."""

MAX_ASKED = 100
"""So many black boxes of an attempt may be written because somebody asked for them."""

WAIT_SECS = 0.25
"""How long a caller whose numbers broke waits for the black box to be on the disk."""

MAX_REASON = 500

_FLOATS = {float}
_COUNTS = ("nan_grad_count", "inf_grad_count")

_Minibatch = tuple[int, int, float, Mapping[str, float], OnDevice | None]
"""Sequence number of its update's row, its number in that update, when it came, its numbers, those on a device."""


@dataclass(slots=True)
class Snapshot:
    """What a trigger saw: the minibatches at that moment, and why it was pulled.

    Attributes:
        seq: number of the row of the update in which it was pulled.
        not_written: in how many later updates the same trigger was pulled before this was written.
        last_seq: number of the row of the last of them.
        written: set when it is on the disk, or given up.
    """

    trigger: Trigger
    reason: str
    seq: int
    minibatches: Sequence[_Minibatch]
    not_written: int = 0
    last_seq: int = -1
    written: threading.Event = field(default_factory=threading.Event)


class BlackBox:
    """The last minibatches of one recorder, and the snapshots that wait to be written.

    Any thread may call `add` and `pull`; both take microseconds.

    Args:
        size: how many minibatches are kept; 0 keeps none.
        started: `perf_counter()` from which the seconds of the minibatches count.

    Attributes:
        has_minibatches: whether anything was ever added; without it no trigger has an effect.
    """

    def __init__(self, size: int, started: float) -> None:
        self.has_minibatches = False
        self.started = started
        self._ring: deque[_Minibatch] = deque(maxlen=size)
        self._size = size
        self._seq = -1
        self._in_update = 0
        self._waiting: dict[Trigger, Snapshot] = {}
        self._earliest: dict[Trigger, float] = {}
        self._pauses: dict[Trigger, float] = {}
        self._asked = 0
        self._last_seq = -1  # of the last snapshot: later triggers in the same update are the same incident
        self._newest: _Minibatch | None = None  # of the last snapshot
        self._level: object = None
        self._lock = threading.RLock()  # a signal handler may ask for a black box in the middle of a trigger

    # ------------------------------------------------------------------ filling

    def add(self, seq: int, numbers: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
        """Keep one minibatch of the update whose row gets the number `seq`.

        Returns:
            Why a trigger must be pulled, "" if nothing broke; and name → reason for values that are left out.
        """
        if not self._size:
            return "", {}
        refused: Mapping[str, str] = {}
        on_device: OnDevice | None = None
        if set(map(type, numbers.values())) != _FLOATS:
            numbers, on_device, refused = _plain(numbers)
        if seq != self._seq:
            self._seq, self._in_update = seq, 0
        number = self._in_update
        self._in_update = number + 1
        self._ring.append((seq, number, perf_counter(), numbers, on_device))
        self.has_minibatches = True
        if math.isfinite(sum(numbers.values())):
            return "", refused
        broken = _not_finite(numbers)
        return f"{broken} in minibatch {number}" if broken else "", refused

    # ------------------------------------------------------------------ triggers

    def pull(self, trigger: Trigger, reason: str, seq: int) -> threading.Event | None:
        """Note that something broke in the update whose row has or gets the number `seq`.

        Returns:
            An event that says that the black box is on the disk; None if none is written now.
        """
        if not self.has_minibatches:
            return None
        with self._lock:
            is_end = trigger in ("failed", "interrupted")
            newest = self._ring[-1]
            if trigger == "asked":
                if self._asked == MAX_ASKED or trigger in self._waiting:
                    return None
                self._asked += 1
            elif newest is self._newest or (seq == self._last_seq and not is_end):
                return None
            elif trigger in self._waiting:
                waiting = self._waiting[trigger]
                waiting.not_written += waiting.last_seq != seq
                waiting.last_seq = seq
                return None
            snapshot = Snapshot(trigger, " ".join(reason.split())[:MAX_REASON], seq, tuple(self._ring), last_seq=seq)
            self._last_seq, self._newest = seq, newest
            self._waiting[trigger] = snapshot
            return snapshot.written if self._earliest.get(trigger, 0.0) <= monotonic() else None

    def pull_for(self, row: Mapping[str, Any], seq: int) -> threading.Event | None:
        """Pull a trigger if the row of this number says that its update broke; returns what `pull` does."""
        if not self.has_minibatches:
            return None
        try:
            found = _broken(row)
        except Exception:  # a value of somebody else's type; the row itself was looked at with care
            return None
        return None if found is None else self.pull(*found, seq)

    def pull_if_critical(self, hook: object, seq: int) -> threading.Event | None:
        """Pull a trigger when the level of a hook, such as a monitor, has become critical; returns what `pull` does."""
        if not self.has_minibatches:
            return None
        try:
            level = getattr(hook, "level", None)
            before, self._level = self._level, level
            if level == "critical" != before:
                return self.pull("critical", "the verdict turned critical", seq)
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
            time = math.inf if is_end else monotonic()
            found = [entry for kind, entry in self._waiting.items() if self._earliest.get(kind, 0.0) <= time]
        return sorted(found, key=lambda entry: entry.seq)

    def done(self, snapshot: Snapshot) -> None:
        """A snapshot is on the disk, or will never be."""
        kind = snapshot.trigger
        with self._lock:
            self._waiting.pop(kind, None)
            if kind != "asked":
                pause = self._pauses.get(kind, FIRST_PAUSE_SECS)
                self._earliest[kind], self._pauses[kind] = monotonic() + pause, 2 * pause
        snapshot.written.set()


def write_black_box(
    folder: Folder, lock: RankLock, identity: SegmentIdentity, snapshot: Snapshot, started: float
) -> Mapping[str, str]:
    """Write a snapshot as a black box, so that it survives a power loss.

    Args:
        folder: of the rank.
        lock: of the rank; looked at before a file is made.
        identity: recording, rank and attempt.
        snapshot: what to write.
        started: `perf_counter()` from which seconds count.

    Returns:
        Name → reason for the names that are left out.

    Raises:
        OSError: it could not be written; it may be tried again.
    """
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
        {name: [numbers.get(name) for numbers in arrived] for name in kept},
        identity,
    )
    record = black_box.record_of(
        parquet,
        seq=snapshot.seq,
        attempt=identity.attempt,
        run_uuid=identity.run_uuid,
        written=now(),
        trigger=snapshot.trigger,
        reason=snapshot.reason,
        minibatches=len(arrived),
        not_written=snapshot.not_written,
    )
    lock.check()
    if not folder.exists(BLACK_BOXES):
        durable.make_folder(folder, BLACK_BOXES)
        folder.hold(BLACK_BOXES)
    name = new_black_box(folder, snapshot.seq)
    aside = f"{black_box_name(name)}.tmp"
    durable.write_new(folder, aside, parquet)
    durable.replace(folder, black_box_record_name(name), record.to_bytes())
    durable.rename(folder, aside, black_box_name(name))
    return refused


# ------------------------------------------------------------------ numbers


def _plain(numbers: Mapping[str, Any]) -> tuple[dict[str, float], OnDevice | None, dict[str, str]]:
    """Plain floats, what is on a device, and name → reason for what is neither; None means absent."""
    given = dict(numbers)
    tensors = take_device_tensors(given)
    plain: dict[str, float] = {}
    refused: dict[str, str] = {}
    for name, value in given.items():
        if value is not None:
            try:
                plain[name] = coerce(name, "float64", value)
            except PayloadError as error:
                refused[name] = str(error)
    on_device = None
    if tensors:
        try:
            on_device = keep_on_device(tensors)
        except (PayloadError, RuntimeError) as error:
            refused |= dict.fromkeys(tensors, " ".join(str(error).split()))
    return plain, on_device, refused


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


# ------------------------------------------------------------------ what counts as broken


@lru_cache(maxsize=4096)
def _is_watched(name: str) -> bool:
    """Whether a number with this name must be finite: a loss, or something of a gradient."""
    lower = name.lower()
    return "loss" in lower or "grad" in lower


def _not_finite(numbers: Mapping[str, Any]) -> str:
    """The first watched number that is not finite, as words; "" if there is none."""
    for name, value in numbers.items():
        if _is_watched(name) and value is not None and not math.isfinite(value):
            return f"{name} is {float(value)}"
    return ""


def _broken(row: Mapping[str, Any]) -> tuple[Trigger, str] | None:
    """Which trigger a row pulls, and why."""
    if row.get("skipped"):
        return "skipped", f"the update was skipped: {SKIP_REASONS.get(row.get('skip_reason') or 0, 'no reason given')}"
    if row.get("amp_overflow"):
        return "skipped", "mixed precision overflowed"
    for name in _COUNTS:
        if row.get(name):
            return "not_finite", f"{name} is {int(row[name])}"
    broken = _not_finite(row)
    return ("not_finite", f"{broken} in the row of the update") if broken else None
