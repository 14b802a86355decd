"""Fetches CUDA scalars without making the caller wait: one asynchronous copy into pinned memory per row.

The caller's stream gets a small stack and a copy for each dtype, and one event; the background thread waits for the
event, which frees the GIL, and reads the numbers. Pinned memory and events are allocated once, at the first row. A row
that finds every slot of that memory in use keeps its numbers on the device until the thread comes to it.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

from esper_schemas.errors import PayloadError
from esper_schemas.metric.coercion import coerce
from esper_schemas.metric.payload import dtype_of

if TYPE_CHECKING:
    import torch

SLOTS = 64
WIDTH = 256

_FLAG = "\0is defined: "
"""Prefix of the name under which the flag of a number travels; no metric can have such a name."""

_MAX_ITEM_BYTES = 8
_CAPTURE_MODE_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED of cuda.h
_STREAM_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING

_CAPTURE_PATIENCE_SECS = 10.0
"""How long minibatches wait for the end of a capture on the stream that they are from."""

_own_streams: dict[int, torch.cuda.Stream] = {}  # by index of the device; see _own_stream


@dataclass(slots=True)
class PendingRow:
    """A validated row that waits to be written, and how to get the rest of it from the device."""

    row: dict[str, Any]
    fetch: Callable[[], dict[str, Any]] | None = None
    fault: Exception | None = None

    def fetch_now(self) -> None:
        """Wait for values that are still on their way; what goes wrong is kept for `resolve` to raise."""
        fetch, self.fetch = self.fetch, None
        if fetch is not None:
            try:
                found = _defined(fetch())
                self.row |= {name: coerce(name, dtype_of(name), value) for name, value in found.items()}
            except Exception as error:
                self.fault = error

    def resolve(self) -> dict[str, Any]:
        """The whole row; waits for values that are still on their way.

        Raises:
            PayloadError: a value that arrived does not fit its column.
            RuntimeError: the device failed.
        """
        self.fetch_now()
        if self.fault is not None:
            raise self.fault
        return self.row


def take_device_tensors(metrics: dict[str, Any]) -> dict[str, Any]:
    """Move the CUDA tensors out of `metrics`; does not import torch, which must be there if there are any."""
    tensor: Any = getattr(sys.modules.get("torch"), "Tensor", None)  # something else may be under the name of torch
    if not isinstance(tensor, type):
        return {}
    names = [name for name, value in metrics.items() if isinstance(value, tensor) and getattr(value, "is_cuda", False)]
    return {name: metrics.pop(name) for name in names}


def defined_if(number: torch.Tensor, is_defined: torch.Tensor) -> torch.Tensor:
    """Return a number that `record` stores as null if a flag turns out to be False, without a look at either.

    Args:
        number: 0-d float.
        is_defined: 0-d float on the same device, 0 for False.

    Returns:
        The number, NaN if it is not defined. What is computed from it is NaN too, and no longer null.
    """
    import torch

    found = torch.where(is_defined != 0, number, torch.nan)
    found.esper_is_defined = is_defined  # type: ignore[attr-defined]
    return found


def _with_flags(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, and the flags of those that `defined_if` made."""
    flags = {_FLAG + name: getattr(tensor, "esper_is_defined", None) for name, tensor in tensors.items()}
    return {**tensors, **{name: flag for name, flag in flags.items() if flag is not None}}


def _defined(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers without flags, and without those whose flag says that they are not defined."""
    return {
        name: number
        for name, number in numbers.items()
        if not name.startswith(_FLAG) and numbers.get(_FLAG + name, True)
    }


class DeviceCapture:
    """A ring of pinned host slots, each with an event that says when its numbers have arrived.

    Args:
        pinned: Pin the ring and use CUDA events; without, tensors must be on the CPU (for tests).
    """

    def __init__(self, *, pinned: bool = True) -> None:
        import torch

        self._torch = torch
        self._pinned = pinned
        # Twice, because a flag may travel with each value.
        ring = torch.empty((SLOTS, 2 * WIDTH * _MAX_ITEM_BYTES), dtype=torch.uint8, pin_memory=pinned)
        self._slots = ring.unbind()
        self._events = [self._new_event() for _ in range(SLOTS)]
        self._free = deque(range(SLOTS))

    def begin(self, row: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> PendingRow:
        """Start to fetch zero-dimensional `tensors`, which complete `row`; returns at once.

        The tensors may be overwritten afterwards, by work that is queued on the current stream.

        Raises:
            PayloadError: a tensor holds more than one number, there are too many, or a CUDA graph is being captured.
        """
        if len(tensors) > WIDTH:
            raise PayloadError(f"a row can take {WIDTH} values from a device, found {len(tensors)}")
        tensors = _with_flags(tensors)
        with self._torch.no_grad():
            names, packed, device = _stacked(tensors, "record()" if self._pinned else None)
            if not self._free:
                event = self._new_event()
                self._record(event, device)
                return PendingRow(row, lambda: _numbers(names, self._fetch_late(packed, event)))
            slot = self._free[0]
            places = []
            used = 0
            for stacked in packed:
                place = self._slots[slot][used : used + stacked.nbytes].view(stacked.dtype)
                place.copy_(stacked, non_blocking=True)
                places.append(place)
                used += -(-stacked.nbytes // _MAX_ITEM_BYTES) * _MAX_ITEM_BYTES  # where any dtype may begin
            self._record(self._events[slot], device)
        self._free.popleft()  # last, so that an error of the device costs no slot
        return PendingRow(row, lambda: self._fetch_slot(slot, names, places))

    def _new_event(self) -> torch.cuda.Event | None:
        return self._torch.cuda.Event(blocking=True) if self._pinned else None  # type: ignore[no-untyped-call]

    def _record(self, event: torch.cuda.Event | None, device: torch.device) -> None:
        if event is not None:
            event.record(self._torch.cuda.current_stream(device))

    def _fetch_slot(self, slot: int, names: list[tuple[str, ...]], places: list[torch.Tensor]) -> dict[str, Any]:
        event = self._events[slot]
        try:
            if event is not None:
                with _allowed_during_capture():
                    event.synchronize()
            return _numbers(names, places)
        finally:
            self._free.append(slot)

    def _fetch_late(self, packed: list[torch.Tensor], event: torch.cuda.Event | None) -> list[torch.Tensor]:
        if event is None:
            return packed
        with _allowed_during_capture():
            event.synchronize()
            stream = _own_stream(packed[0].device)
            with self._torch.cuda.stream(stream):
                arrived = [stacked.to("cpu", non_blocking=True) for stacked in packed]
                event.record(stream)
            event.synchronize()
        return arrived


class OnDevice(NamedTuple):
    """Numbers that stay on their device until somebody asks for them; see `keep_on_device`."""

    names: list[tuple[str, ...]]
    packed: list[torch.Tensor]
    stream: torch.cuda.Stream | None


def keep_on_device(tensors: Mapping[str, torch.Tensor], *, on_cuda: bool = True) -> OnDevice:
    """Copy zero-dimensional `tensors` on their device, without a wait; they may be overwritten afterwards.

    Args:
        tensors: name → tensor of one number.
        on_cuda: False where the tensors are on the CPU (for tests).

    Raises:
        PayloadError: as in `DeviceCapture.begin`.
    """
    import torch

    with torch.no_grad():
        names, packed, device = _stacked(tensors, "minibatch()" if on_cuda else None)
    return OnDevice(names, packed, torch.cuda.current_stream(device) if on_cuda else None)


def fetch_together(waiting: Sequence[OnDevice]) -> list[dict[str, float]]:
    """The numbers of each, in one copy per dtype; waits for the device, but not in the caller's stream.

    Raises:
        RuntimeError: the device failed, or a CUDA graph is captured for long on the stream of a caller.
    """
    import torch

    packed = [stacked for entry in waiting for stacked in entry.packed]
    dtypes = {stacked.dtype for stacked in packed}
    alike = {dtype: [stacked for stacked in packed if stacked.dtype == dtype] for dtype in dtypes}
    streams = {entry.stream.cuda_stream: entry.stream for entry in waiting if entry.stream is not None}
    if not streams:
        arrived = {dtype: torch.cat(group).tolist() for dtype, group in alike.items()}
    else:
        with _allowed_during_capture():
            for stream in streams.values():
                _wait_for_end_of_capture(stream)
                event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                event.record(stream)
                event.synchronize()
            with torch.cuda.stream(_own_stream(packed[0].device)):
                arrived = {
                    dtype: torch.cat([stacked.to(packed[0].device) for stacked in group]).tolist()
                    for dtype, group in alike.items()
                }
    numbers = {dtype: iter(values) for dtype, values in arrived.items()}
    return [
        {
            name: float(next(numbers[stacked.dtype]))
            for group, stacked in zip(entry.names, entry.packed, strict=True)
            for name in group
        }
        for entry in waiting
    ]


def _stacked(
    tensors: Mapping[str, torch.Tensor], caller: str | None
) -> tuple[list[tuple[str, ...]], list[torch.Tensor], torch.device]:
    """Names and numbers of the tensors of each dtype, stacked on the device of the first one.

    Raises:
        PayloadError: one holds more than one number, or a CUDA graph is being captured where `caller` is called.
    """
    import torch

    if caller is not None and torch.cuda.is_current_stream_capturing():
        raise PayloadError(f"a CUDA graph is being captured on this stream; call {caller} outside of the capture")
    device = next(iter(tensors.values())).device
    alike: dict[torch.dtype, dict[str, torch.Tensor]] = {}  # tensors of one dtype travel together, as they are
    for name, tensor in tensors.items():
        if tensor.dim():
            if tensor.numel() != 1:
                raise PayloadError(f"{name} must be one number, found a tensor of shape {tuple(tensor.shape)}")
            tensor = tensor.reshape(())
        alike.setdefault(tensor.dtype, {})[name] = tensor if tensor.device == device else tensor.to(device)
    return (
        [tuple(group) for group in alike.values()],
        [torch.stack(tuple(group.values())) for group in alike.values()],
        device,
    )


def _numbers(names: list[tuple[str, ...]], arrived: list[torch.Tensor]) -> dict[str, Any]:
    """The numbers of each group of names as plain Python numbers, exactly."""
    numbers: dict[str, Any] = {}
    for group, values in zip(names, arrived, strict=True):
        numbers.update(zip(group, values.tolist(), strict=True))
    return numbers


def _own_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream of a device that nobody else has, so that a copy neither waits for others' work nor joins a capture.

    PyTorch hands out the same 32 streams in turn: one that it gives may be capturing somebody's graph, or begin to.
    Call this where calls are allowed during a capture.
    """
    import torch

    stream = _own_streams.get(device.index)
    if stream is None:
        made = ctypes.c_void_p()
        driver = _driver()
        with torch.cuda.device(device):
            if driver is None or driver.cuStreamCreate(ctypes.byref(made), _STREAM_NON_BLOCKING):
                stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
            else:  # it lives as long as the process, since PyTorch remembers streams that it has seen
                stream = torch.cuda.ExternalStream(made.value, device)  # type: ignore[no-untyped-call]
        _own_streams[device.index] = stream
    return stream


def _wait_for_end_of_capture(stream: torch.cuda.Stream) -> None:
    """Return when no graph is captured on a stream: an event would be captured too, and break the graph.

    Raises:
        RuntimeError: the capture does not end.
    """
    import torch

    deadline = monotonic() + _CAPTURE_PATIENCE_SECS
    with torch.cuda.stream(stream):
        while torch.cuda.is_current_stream_capturing():
            if monotonic() > deadline:
                raise RuntimeError("a CUDA graph is being captured on the stream of the minibatches")
            sleep(0.005)


def _driver() -> ctypes.CDLL | None:
    """CUDA's driver; None for that of another vendor."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


@contextmanager
def _allowed_during_capture() -> Iterator[None]:
    """Let this thread call CUDA while another one captures a graph, which such a call would otherwise break.

    A capture in the default, global mode fails as soon as any thread of the process makes a call that might disturb it,
    unless that thread has declared its calls harmless (cuThreadExchangeStreamCaptureMode of the driver's API).
    """
    exchange = getattr(_driver(), "cuThreadExchangeStreamCaptureMode", None)
    if exchange is None:
        yield
        return
    mode = ctypes.c_int(_CAPTURE_MODE_RELAXED)
    exchange(ctypes.byref(mode))
    try:
        yield
    finally:
        exchange(ctypes.byref(mode))
