"""Fetches CUDA scalars without making the caller wait: one asynchronous copy into pinned memory per row.

The caller's stream gets one small stack, one copy and one event; the background thread waits for the event,
which frees the GIL, and reads the numbers. Pinned memory and events are allocated once, at the first row.
"""

from __future__ import annotations

import struct
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esper_schemas.coercion import coerce
from esper_schemas.errors import PayloadError
from esper_schemas.payload import dtype_of

if TYPE_CHECKING:
    import torch

SLOTS = 64
WIDTH = 256


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
                self.row |= {name: coerce(name, dtype_of(name), value) for name, value in fetch().items()}
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
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    names = [name for name, value in metrics.items() if isinstance(value, torch.Tensor) and value.is_cuda]
    return {name: metrics.pop(name) for name in names}


class DeviceCapture:
    """A ring of pinned host slots, each with an event that says when its numbers have arrived.

    Args:
        pinned: Pin the ring and use CUDA events; without, tensors must be on the CPU (for tests).
    """

    def __init__(self, *, pinned: bool = True) -> None:
        import torch

        self._torch = torch
        self._ring = torch.empty((SLOTS, WIDTH), dtype=torch.int64, pin_memory=pinned)
        self._events = [torch.cuda.Event(blocking=True) for _ in range(SLOTS)] if pinned else None  # type: ignore[no-untyped-call]
        self._free = deque(range(SLOTS))

    def begin(self, row: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> PendingRow:
        """Start to fetch zero-dimensional `tensors`, which complete `row`; returns at once.

        Raises:
            PayloadError: a tensor holds more than one number, there are too many, or all slots are in flight.
        """
        for name, tensor in tensors.items():
            if tensor.numel() != 1:
                raise PayloadError(f"{name} must be one number, found a tensor of shape {tuple(tensor.shape)}")
        if len(tensors) > WIDTH:
            raise PayloadError(f"a row can take {WIDTH} values from a device, found {len(tensors)}")
        if not self._free:
            raise PayloadError(f"the device is {SLOTS} updates behind; no slot is free for another")
        slot = self._free[0]
        first = next(iter(tensors.values()))
        bits = self._torch.stack([self._bits(tensor).to(first.device) for tensor in tensors.values()])
        self._ring[slot, : len(tensors)].copy_(bits, non_blocking=True)
        if self._events is not None:
            self._events[slot].record(self._torch.cuda.current_stream(first.device))
        self._free.popleft()  # last, so that an error of the device costs no slot
        is_float = {name: tensor.is_floating_point() for name, tensor in tensors.items()}
        return PendingRow(row, lambda: self._arrived(slot, is_float))

    def _bits(self, tensor: torch.Tensor) -> torch.Tensor:
        """The number as 64 bits, so that integers and floats travel together and stay exact."""
        scalar = tensor.detach().reshape(())
        if scalar.is_floating_point():
            return scalar.to(self._torch.float64).view(self._torch.int64)
        return scalar.to(self._torch.int64)

    def _arrived(self, slot: int, is_float: Mapping[str, bool]) -> dict[str, Any]:
        try:
            if self._events is not None:
                self._events[slot].synchronize()
            bits = self._ring[slot, : len(is_float)].tolist()
        finally:
            self._free.append(slot)
        return {
            name: struct.unpack("<d", struct.pack("<q", value))[0] if is_float[name] else value
            for name, value in zip(is_float, bits, strict=True)
        }
