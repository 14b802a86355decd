"""Counts, in a trace of torch's profiler, the calls by which a thread waits for the device."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_MARK = "the training's thread"
_HOST_READS = ("aten::_local_scalar_dense", "aten::nonzero")


@dataclass(frozen=True, slots=True)
class Waits:
    """Calls that wait for the device: those of the thread that was asked to do the work, and those of all others."""

    caller: int
    others: int


def count_waits(work: Callable[[], object], device: torch.device) -> Waits:
    """How often `work` waits for the device.

    On CUDA these are the runtime's calls with Synchronize in their name and copies that are not asynchronous; on the
    CPU, where nothing waits, the operators that read a number back, which would wait on CUDA.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    with profile(activities=activities, acc_events=True) as trace, record_function(_MARK):
        work()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "trace.json"
        trace.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    mark = next(event for event in events if event.get("name") == _MARK and event.get("cat") == "user_annotation")
    start, end = mark["ts"], mark["ts"] + mark["dur"]
    inside = [event for event in events if event.get("ph") == "X" and start <= event["ts"] <= end]
    waiting = [event for event in inside if _is_wait(event, device)]
    own = sum(event["tid"] == mark["tid"] for event in waiting)
    return Waits(own, len(waiting) - own)


def _is_wait(event: dict[str, Any], device: torch.device) -> bool:
    name = event.get("name", "")
    if device.type != "cuda":
        return name in _HOST_READS
    is_copy = name.startswith(("cudaMemcpy", "cuMemcpy")) and "Async" not in name
    return event.get("cat") in ("cuda_runtime", "cuda_driver") and ("Synchronize" in name or is_copy)
